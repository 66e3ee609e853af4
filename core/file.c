/* file.c - files as one piece: written beside the target, synced, renamed; and read at an offset.
 *
 * Contract: file.h and cnn.h. Whoever reads the target sees the old file or the new one, never a
 * part; when a disk is full the old one is still there and the error says so.
 *
 * Surprising: a full disk may show itself only at fflush, fsync or fclose, so each is asked. */
#define _GNU_SOURCE
#include "file.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------- writing */

static void out_forget(out_file *o) {
    free(o->target);
    free(o->temporary);
    *o = (out_file){0};
}

/* Where to write: beside the file that `file` leads to, unless that is a device. */
static int out_place(out_file *o, const char *file, mode_t *mode) {
    struct stat s;
    *mode = 0;
    if (stat(file, &s) < 0) {
        if (errno != ENOENT) return -1;
        o->target = strdup(file);
    } else if (S_ISDIR(s.st_mode)) {
        errno = EISDIR;
        return -1;
    } else if (!S_ISREG(s.st_mode)) {
        return 0;
    } else {
        if (access(file, W_OK) < 0) return -1;
        o->target = realpath(file, NULL);
        *mode = s.st_mode & 0777;
    }
    if (!o->target || asprintf(&o->temporary, "%s.tmp.%ld", o->target, (long)getpid()) < 0) {
        o->temporary = NULL;
        return -1;
    }
    return 0;
}

int out_open(out_file *o, const char *file) {
    *o = (out_file){.name = file};
    if (!file || !*file) return fail("expected a file's name, got none");
    mode_t mode;
    int fd = -1;
    if (out_place(o, file, &mode) == 0)
        fd = open(o->temporary ? o->temporary : file,
                  O_WRONLY | O_CLOEXEC | (o->temporary ? O_CREAT | O_TRUNC : 0), 0666);
    if (fd >= 0 && o->temporary && mode) fchmod(fd, mode); /* what it replaces; else the umask's */
    if (fd >= 0) o->stream = fdopen(fd, "w");
    if (o->stream) return 0;
    fail("%s: cannot write: %s", file, strerror(errno));
    if (fd >= 0) {
        close(fd);
        if (o->temporary) unlink(o->temporary);
    }
    out_forget(o);
    return -1;
}

int out_write(out_file *o, const void *data, size_t bytes) {
    if (fwrite(data, 1, bytes, o->stream) == bytes) return 0;
    return fail("%s: cannot write: %s", o->name, strerror(errno));
}

int out_close(out_file *o, int status) {
    int fd = fileno(o->stream), error = 0;
    if (status == 0 && (fflush(o->stream) || (o->temporary && fsync(fd)))) error = errno;
    if (fclose(o->stream) && !error) error = errno;
    if (status == 0 && !error && o->temporary && rename(o->temporary, o->target)) error = errno;
    if (status == 0 && error) status = fail("%s: cannot write: %s", o->name, strerror(error));
    if (status && o->temporary) unlink(o->temporary);
    out_forget(o);
    return status;
}

int cnn_file_write(const char *file, const char *text, int64_t length) {
    out_file o;
    if (length < 0) return fail("%s: cannot write %lld bytes", file, (long long)length);
    if (out_open(&o, file) < 0) return -1;
    return out_close(&o, out_write(&o, text, (size_t)length));
}

/* ---------------------------------------------------------------------------------- reading */

FILE *in_open(const char *file) {
    struct stat s;
    if (!file || !*file) return fail_null("expected a file's name, got none");
    FILE *f = fopen(file, "rbe");
    if (f && fstat(fileno(f), &s) == 0 && S_ISDIR(s.st_mode)) {
        fclose(f);
        f = NULL;
        errno = EISDIR;
    }
    return f ? f : fail_null("%s: cannot read: %s", file, strerror(errno));
}

/* Its length is known by going to its end, which a device cannot do. */
static int64_t in_length(FILE *f, const char *file) {
    if (fseeko(f, 0, SEEK_END) < 0) return fail("%s: cannot read: %s", file, strerror(errno));
    return ftello(f);
}

/* `bytes` at `offset`; the file was seen to be long enough. */
static int in_read(FILE *f, const char *file, int64_t offset, void *data, size_t bytes) {
    if (fseeko(f, offset, SEEK_SET) == 0 && fread(data, 1, bytes, f) == bytes) return 0;
    return fail("%s: cannot read %zu bytes at %lld: %s", file, bytes, (long long)offset,
                ferror(f) ? strerror(errno) : "the file ends there");
}

/* x := the values in logical order, by way of a tensor on the CPU. */
static int read_to_card(cnn_tensor *x, const void *values) {
    int scope = scope_begin(), was = cnn_set_grad_enabled(0);
    cnn_tensor *from = cnn_from_data(x->size, x->nd, cnn_dtype(x), values);
    int status = from ? cnn_copy(x, from) : -1;
    cnn_set_grad_enabled(was);
    scope_end(scope, NULL);
    return status;
}

int cnn_file_read(const char *file, int64_t offset, cnn_tensor *x) {
    error_clear();
    if (value_ready("file_read", x) < 0 || check_not_expanded("file_read", "x", x)) return -1;
    int width = dtype_bytes[tensor_dtype(x)];
    int64_t bytes = tensor_numel(x) * width;
    FILE *f = in_open(file);
    if (!f) return -1;
    int64_t length = in_length(f, file);
    int status = length < 0 ? -1 : 0;
    if (!status && (offset < 0 || offset > length || bytes > length - offset))
        status = fail("%s: expected %lld bytes at %lld, the file has %lld", file, (long long)bytes,
                      (long long)offset, (long long)length);
    /* Read whole before x changes. */
    char *data = NULL;
    if (!status && !(data = memory_take(bytes))) status = -1;
    if (!status) status = in_read(f, file, offset, data, (size_t)bytes);
    if (!status && tensor_device(x) == DEV_CUDA)
        status = read_to_card(x, data);
    else if (!status) {
        const char *from = data;
        x->storage->version++;
        for (row_walk w = rows_of(x); rows_next(&w); from += w.length * width)
            elements_copy(w.row, w.step, from, width, w.length, width);
    }
    memory_give(data, bytes);
    fclose(f);
    return status;
}
