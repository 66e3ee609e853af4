/* parallel.c - the thread pool behind k_parallel.
 *
 * Threads claim chunks of a loop from one atomic counter. The calling thread works too, as worker
 * 0, and never waits for a thread that has not joined: a job is closed as soon as its last chunk is
 * claimed, and a thread that wakes too late finds it closed. Denormals are zero while chunks run,
 * on every thread, or nets with sigmoids slow down tenfold at random; the caller's mode is
 * restored.
 *
 * Surprising: a second thread that calls k_parallel while the pool is busy does not wait for it, it
 * runs its whole loop alone. Chunks are the same either way, and so are the bits. */
#define _GNU_SOURCE
#include "kernels.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

/* The state word: how many threads run the job, whether more may join, whether the pool ends, and
 * the number of the job, so that a thread joins each job at most once. */
#define ACTIVE ((uint64_t)0xffff)
#define OPEN   ((uint64_t)1 << 16)
#define STOP   ((uint64_t)1 << 17)
#define JOB    ((uint64_t)1 << 32)

enum {
    MAX_THREADS = 256,
    SPINS = 2000 /* some 30 us of pauses: longer than the gap between two ops of a net */
};

static struct {
    k_task *fn;
    void *ctx;
    int64_t n, grain;
    _Atomic int64_t next; /* the first index that nobody has claimed */
} job;

static struct {
    pthread_mutex_t busy;      /* held by the thread whose job runs, or that resizes the pool */
    pthread_mutex_t lock;      /* guards the two conditions */
    pthread_cond_t wake, done; /* a new job or STOP; the last thread has left a closed job */
    _Atomic uint64_t state;
    _Atomic int sleepers; /* threads at or about to be at `wake` */
    _Atomic int threads;  /* wanted, the caller included; 0: not decided */
    int started;          /* threads[0 .. started) exist */
    int spins;            /* 0 where threads outnumber the CPUs */
    pthread_t thread[MAX_THREADS];
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int worker; /* 0 on every thread that is not the pool's */
static _Thread_local int inside; /* a chunk runs on this thread */

/* ------------------------------------------------------------------------------- the processor */

static int cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

#if defined(__x86_64__)
static void pause_cpu(void) { __builtin_ia32_pause(); }
static uint64_t denormals_off(void) {
    unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | 0x8040); /* flush to zero, denormals are zero */
    return mode;
}
static void denormals_restore(uint64_t mode) { __builtin_ia32_ldmxcsr((unsigned)mode); }
#elif defined(__aarch64__)
static void pause_cpu(void) { __asm__ volatile("yield"); }
static uint64_t denormals_off(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (uint64_t)1 << 24)); /* FZ: both at once */
    return mode;
}
static void denormals_restore(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
static void pause_cpu(void) {}
static uint64_t denormals_off(void) { return 0; }
static void denormals_restore(uint64_t mode) { (void)mode; }
#endif

/* ----------------------------------------------------------------------------------- a thread */

static void run_chunk(k_task *fn, void *ctx, int64_t begin, int64_t n, int64_t grain) {
    fn(ctx, begin, n - begin < grain ? n : begin + grain);
}

static void claim_chunks(void) {
    uint64_t mode = denormals_off();
    inside = 1;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&job.next, job.grain, memory_order_relaxed);
        if (begin >= job.n) break;
        run_chunk(job.fn, job.ctx, begin, job.n, job.grain);
    }
    inside = 0;
    denormals_restore(mode);
}

/* Waits for a job other than `seen`, or the end: spins for a moment, then sleeps. */
static uint64_t wait_for_job(uint64_t seen) {
    for (int i = 0; i < pool.spins; i++) {
        uint64_t s = atomic_load(&pool.state);
        if (s / JOB != seen || s & STOP) return s;
        pause_cpu();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    uint64_t s;
    while (s = atomic_load(&pool.state), s / JOB == seen && !(s & STOP))
        pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
    return s;
}

static void *thread_main(void *id) {
    worker = (int)(intptr_t)id;
    uint64_t seen = 0, s;
    while (s = wait_for_job(seen), !(s & STOP)) {
        seen = s / JOB;
        while (s & OPEN && s / JOB == seen)
            if (atomic_compare_exchange_weak(&pool.state, &s, s + 1)) {
                claim_chunks();
                s = atomic_fetch_sub(&pool.state, 1) - 1;
                if (s & (OPEN | ACTIVE)) break;
                pthread_mutex_lock(&pool.lock);
                pthread_cond_signal(&pool.done);
                pthread_mutex_unlock(&pool.lock);
                break;
            }
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------- the pool */

static void wake_threads(void) {
    if (!atomic_load(&pool.sleepers)) return;
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

/* Starts what is missing; a thread that cannot be had is done without. Signals are the caller's. */
static void start_threads(void) {
    int want = k_threads() - 1;
    if (pool.started >= want) return;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; pool.started < want; pool.started++)
        if (pthread_create(&pool.thread[pool.started], NULL, thread_main,
                           (void *)(intptr_t)(pool.started + 1)))
            break;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void stop_threads(void) {
    atomic_fetch_or(&pool.state, STOP);
    wake_threads();
    for (; pool.started; pool.started--) pthread_join(pool.thread[pool.started - 1], NULL);
    atomic_store(&pool.state, 0);
}

static void run_alone(int64_t n, int64_t grain, k_task *fn, void *ctx) {
    uint64_t mode = denormals_off();
    int outer = inside;
    inside = 1;
    for (int64_t i = 0; i < n; i += grain) run_chunk(fn, ctx, i, n, grain);
    inside = outer;
    denormals_restore(mode);
}

void k_parallel(int64_t n, int64_t grain, k_task *fn, void *ctx) {
    if (grain < 1) grain = 1;
    if (k_threads() == 1 || inside || n <= grain || pthread_mutex_trylock(&pool.busy)) {
        run_alone(n, grain, fn, ctx);
        return;
    }
    start_threads();
    job.fn = fn, job.ctx = ctx, job.n = n, job.grain = grain;
    atomic_store_explicit(&job.next, 0, memory_order_relaxed);
    atomic_fetch_add(&pool.state, JOB + OPEN);
    wake_threads();
    claim_chunks();
    uint64_t s = atomic_fetch_and(&pool.state, ~OPEN);
    for (int i = 0; s & ACTIVE && i < pool.spins; i++) {
        pause_cpu();
        s = atomic_load(&pool.state);
    }
    if (s & ACTIVE) {
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.state) & ACTIVE) pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.busy);
}

int k_worker(void) { return worker; }

int k_threads(void) {
    int n = atomic_load_explicit(&pool.threads, memory_order_relaxed);
    if (n) return n;
    k_set_threads(0);
    return atomic_load_explicit(&pool.threads, memory_order_relaxed);
}

void k_set_threads(int n) {
    if (inside) return; /* the job that runs here would wait for itself */
    pthread_mutex_lock(&pool.busy);
    stop_threads();
    int cpus = cpu_count();
    n = n < 1 ? cpus : n > MAX_THREADS ? MAX_THREADS : n;
    pool.spins = n <= cpus ? SPINS : 0;
    atomic_store(&pool.threads, n);
    pthread_mutex_unlock(&pool.busy);
}
