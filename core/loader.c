/* loader.c - batches made a batch ahead of the step, by one thread.
 *
 * Contract: cnn.h. cnn_loader_next hands out the batch that the thread has made, makes tensors for
 * the following one and sends the thread off to fill them. Only the caller's thread touches the
 * engine: the other one sees bytes, a plan and two plain arrays.
 *
 * Surprising: a batch that could not be begun ahead (no memory while the step holds so much) is no
 * error yet: the next call begins it again, and says so if it still cannot. */
#include "data.h"
#include "resize.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum job { NOTHING, MAKE, END };

struct cnn_loader {
    cnn_dataset *data;
    int32_t *order;             /* NULL: as stored */
    int64_t count, batch, next; /* next: the first image of the batch to begin */
    resize_plan plan;
    float *scratch;
    float values[256]; /* of the bytes */
    double waited;

    cnn_tensor *x, *y; /* the batch ahead, NULL: none was begun */
    int64_t first, rows;
    float *images; /* where the thread writes: x's and y's memory */
    int32_t *labels;

    pthread_t thread;
    int running;
    pthread_mutex_t lock; /* guards job */
    pthread_cond_t change;
    enum job job;
};

/* --------------------------------------------------------------------------------- the thread */

typedef struct {
    const cnn_loader *l;
    const uint8_t *pixels;
} picture;

static void row_of_bytes(const void *image, int64_t y, float *row) {
    const picture *m = image;
    int64_t n = m->l->data->width * m->l->data->channels;
    const uint8_t *from = m->pixels + y * n;
    for (int64_t i = 0; i < n; i++) row[i] = m->l->values[from[i]];
}

/* At its own size a picture is its bytes: resizing would copy them with the weights 1 and 0. */
static void picture_make(const cnn_loader *l, const uint8_t *pixels, float *to) {
    const picture image = {l, pixels};
    const resize_axis *x = &l->plan.x, *y = &l->plan.y;
    if (x->from != x->to || y->from != y->to) {
        resize_image(&l->plan, row_of_bytes, &image, to, l->scratch);
        return;
    }
    for (int64_t i = 0; i < y->to; i++) row_of_bytes(&image, i, to + i * x->to * l->data->channels);
}

static void batch_make(cnn_loader *l) {
    const cnn_dataset *d = l->data;
    int64_t bytes = d->channels * d->height * d->width;
    int64_t floats = d->channels * l->plan.y.to * l->plan.x.to;
    for (int64_t i = 0; i < l->rows; i++) {
        int64_t at = l->order ? l->order[l->first + i] : l->first + i;
        picture_make(l, d->pixels + at * bytes, l->images + i * floats);
        l->labels[i] = d->labels[at] + 1;
    }
}

static void *thread_main(void *ctx) {
    cnn_loader *l = ctx;
    pthread_mutex_lock(&l->lock);
    while (l->job != END) {
        if (l->job == NOTHING) {
            pthread_cond_wait(&l->change, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        batch_make(l);
        pthread_mutex_lock(&l->lock);
        if (l->job == MAKE) l->job = NOTHING;
        pthread_cond_broadcast(&l->change);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void give_job(cnn_loader *l, enum job job) {
    pthread_mutex_lock(&l->lock);
    l->job = job;
    pthread_cond_broadcast(&l->change);
    pthread_mutex_unlock(&l->lock);
}

/* Signals, Ctrl-C above all, are for the thread that runs the training. */
static int thread_start(cnn_loader *l) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(&l->thread, NULL, thread_main, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    l->running = code == 0;
    return code ? fail("loader: cannot start a thread: %s", strerror(code)) : 0;
}

/* -------------------------------------------------------------------------- the caller's side */

static int batch_begin(cnn_loader *l) {
    const cnn_dataset *d = l->data;
    int64_t left = l->count - l->next, rows = left < l->batch ? left : l->batch;
    int64_t size[4] = {rows, d->channels, l->plan.y.to, l->plan.x.to};
    int scope = scope_begin();
    cnn_tensor *x = tensor_new_channels_last(size, K_F32, DEV_CPU);
    cnn_tensor *y = tensor_new(size, 1, K_I32, DEV_CPU);
    int status = x && y && !storage_ready(x->storage) && !storage_ready(y->storage) ? 0 : -1;
    if (status == 0) {
        cnn_keep(x); /* they are not of the step that may be being recorded */
        cnn_keep(y);
        l->x = tensor_retain(x), l->y = tensor_retain(y);
        l->images = tensor_f32(x), l->labels = tensor_ptr(y);
        l->first = l->next, l->rows = rows;
        l->next += rows;
    }
    scope_end(scope, NULL);
    if (status == 0) give_job(l, MAKE);
    return status;
}

static void batch_wait(cnn_loader *l) {
    double from = cnn_seconds();
    pthread_mutex_lock(&l->lock);
    while (l->job == MAKE) pthread_cond_wait(&l->change, &l->lock);
    pthread_mutex_unlock(&l->lock);
    l->waited += cnn_seconds() - from;
}

int cnn_loader_next(cnn_loader *l, cnn_tensor **x, cnn_tensor **y) {
    *x = *y = NULL;
    error_clear();
    if (!l->x) {
        if (l->next == l->count) return 0;
        if (batch_begin(l) < 0) return -1;
    }
    batch_wait(l);
    *x = l->x, *y = l->y;
    l->x = l->y = NULL;
    if (l->next < l->count && batch_begin(l) < 0) error_clear();
    return 1;
}

double cnn_loader_waited(const cnn_loader *l) { return l->waited; }

void cnn_loader_release(cnn_loader *l) {
    if (!l) return;
    if (l->running) {
        give_job(l, END);
        pthread_join(l->thread, NULL);
    }
    cnn_release(l->x);
    cnn_release(l->y);
    cnn_dataset_release(l->data);
    resize_plan_free(&l->plan);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->change);
    free(l->order);
    free(l->scratch);
    free(l);
}

static int order_check(const cnn_dataset *d, const int32_t *order, int64_t count) {
    if (!order && (count < 0 || count > d->count))
        return fail("loader: expected 0 to %lld images, got %lld", (long long)d->count,
                    (long long)count);
    for (int64_t i = 0; order && i < count; i++)
        if (order[i] < 0 || order[i] >= d->count)
            return fail("loader: expected positions from 0 to %lld, got %d",
                        (long long)d->count - 1, order[i]);
    return 0;
}

static int loader_fill(cnn_loader *l, const int32_t *order, int h, int w) {
    const cnn_dataset *d = l->data;
    if (resize_plan_make(&l->plan, d->channels, d->height, d->width, h, w) < 0) return -1;
    l->scratch = malloc((size_t)resize_scratch(&l->plan) * sizeof *l->scratch);
    if (order && l->count) {
        size_t bytes = (size_t)l->count * sizeof *order;
        if ((l->order = malloc(bytes))) memcpy(l->order, order, bytes);
    }
    if (!l->scratch || (order && l->count && !l->order)) return fail("loader: out of memory");
    for (int i = 0; i < 256; i++) l->values[i] = (float)i / 255.0f;
    return thread_start(l);
}

cnn_loader *cnn_loader_new(cnn_dataset *d, const int32_t *order, int64_t count, int64_t batch,
                           int h, int w) {
    error_clear();
    if (batch < 1 || h < 1 || w < 1)
        return fail_null("loader: expected a batch and sizes from 1, got %lld of %dx%d",
                         (long long)batch, h, w);
    if (order_check(d, order, count) < 0) return NULL;
    cnn_loader *l = calloc(1, sizeof *l);
    if (!l) return fail_null("loader: out of memory");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->change, NULL);
    l->data = d;
    d->refs++;
    l->count = count;
    l->batch = batch;
    if (loader_fill(l, order, h, w) < 0) {
        cnn_loader_release(l);
        return NULL;
    }
    if (count && batch_begin(l) < 0) error_clear(); /* next tries again */
    return l;
}
