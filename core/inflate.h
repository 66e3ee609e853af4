/* inflate.h - a file's bytes in order, unpacked when the file is gzip.
 *
 * Contract: inflate_open finds out by the first two bytes. inflate_read gives as many bytes as were
 * asked for, fewer only at the end, -1 with an error for a file that is cut off, damaged, or
 * followed by something else. */
#ifndef CNN_INFLATE_H
#define CNN_INFLATE_H
#include <stdint.h>

typedef struct inflate_file inflate_file;
inflate_file *inflate_open(const char *file);
int64_t inflate_read(inflate_file *s, void *data, int64_t bytes);
/* No more than this can come out, by the size of the file; deflate packs 1032 to 1 at best. */
int64_t inflate_most(const inflate_file *s);
void inflate_close(inflate_file *s);

#endif
