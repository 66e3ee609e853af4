/* inflate.c - reading plain and gzip files alike, through zlib.
 *
 * Contract: inflate.h. Sizes and checksums of gzip members are verified as their ends are met, so a
 * reader that wants to know that the file is sound reads until it gets fewer bytes than it asked.
 *
 * Surprising: zlib's own gzread takes rubbish after the last member for the end and a cut-off file
 * for a short one; hence the calls below it. */
#include "inflate.h"
#include "core.h"
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

struct inflate_file {
    FILE *stream;
    const char *name;
    int packed, ended; /* ended: the last member is behind us */
    int64_t length;    /* of the file */
    z_stream z;
    unsigned char buffer[1 << 16];
};

/* The next piece of the file into the buffer; 0 at its end, -1. */
static int refill(inflate_file *s) {
    size_t n = fread(s->buffer, 1, sizeof s->buffer, s->stream);
    if (n == 0 && ferror(s->stream)) return fail("%s: cannot read: %s", s->name, strerror(errno));
    s->z.next_in = s->buffer;
    s->z.avail_in = (uInt)n;
    return n > 0;
}

inflate_file *inflate_open(const char *file) {
    FILE *f = in_open(file);
    if (!f) return NULL;
    inflate_file *s = calloc(1, sizeof *s);
    struct stat info;
    if (!s || fstat(fileno(f), &info) < 0) {
        free(s);
        fclose(f);
        return fail_null("%s: cannot read: %s", file, strerror(errno));
    }
    s->stream = f;
    s->name = file;
    s->length = info.st_size;
    if (refill(s) < 0) {
        inflate_close(s);
        return NULL;
    }
    s->packed = s->z.avail_in >= 2 && s->buffer[0] == 0x1f && s->buffer[1] == 0x8b;
    if (s->packed && inflateInit2(&s->z, 16 + MAX_WBITS) != Z_OK) {
        s->packed = 0;
        inflate_close(s);
        return fail_null("%s: out of memory", file);
    }
    return s;
}

void inflate_close(inflate_file *s) {
    if (!s) return;
    if (s->packed) inflateEnd(&s->z);
    fclose(s->stream);
    free(s);
}

int64_t inflate_most(const inflate_file *s) { return s->packed ? s->length * 1032 : s->length; }

static int64_t read_plain(inflate_file *s, unsigned char *data, int64_t bytes) {
    int64_t done = 0;
    while (done < bytes) {
        if (s->z.avail_in == 0) {
            int more = refill(s);
            if (more < 0) return -1;
            if (more == 0) break;
        }
        int64_t n = bytes - done < s->z.avail_in ? bytes - done : s->z.avail_in;
        memcpy(data + done, s->z.next_in, (size_t)n);
        s->z.next_in += n;
        s->z.avail_in -= (uInt)n;
        done += n;
    }
    return done;
}

/* After a member: the end of the file, or another member. */
static int next_member(inflate_file *s) {
    int more = s->z.avail_in > 0 ? 1 : refill(s);
    if (more < 0) return -1;
    s->ended = more == 0;
    if (s->ended) return 0;
    if (s->z.next_in[0] != 0x1f)
        return fail("%s: something that is not gzip follows the gzip data", s->name);
    return inflateReset(&s->z) == Z_OK ? 0 : fail("%s: zlib: cannot go on", s->name);
}

static int64_t read_packed(inflate_file *s, unsigned char *data, int64_t bytes) {
    int64_t done = 0;
    while (done < bytes && !s->ended) {
        if (s->z.avail_in == 0) {
            int more = refill(s);
            if (more < 0) return -1;
            if (more == 0)
                return fail("%s: the gzip data is cut off after %lld bytes", s->name,
                            (long long)s->length);
        }
        int64_t room = bytes - done < 1 << 30 ? bytes - done : 1 << 30;
        s->z.next_out = data + done;
        s->z.avail_out = (uInt)room;
        int code = inflate(&s->z, Z_NO_FLUSH);
        done += room - s->z.avail_out;
        if (code == Z_STREAM_END) {
            if (next_member(s) < 0) return -1;
        } else if (code != Z_OK && code != Z_BUF_ERROR) {
            return fail("%s: the gzip data is damaged (%s)", s->name,
                        s->z.msg ? s->z.msg : zError(code));
        }
    }
    return done;
}

int64_t inflate_read(inflate_file *s, void *data, int64_t bytes) {
    return s->packed ? read_packed(s, data, bytes) : read_plain(s, data, bytes);
}
