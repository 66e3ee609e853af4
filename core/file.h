/* file.h - writing a file as one piece.
 *
 * Contract: between out_open and out_close nothing of the target changes. out_close(o, 0) syncs and
 * puts the new file in its place; out_close(o, -1), or any failure, removes what was written and
 * keeps the error that is set. out_open, out_write and out_close answer 0, or -1 with an error.
 *
 * Surprising: a target that is no regular file (a pipe, /dev/stdout) is written to directly: a
 * rename would replace the device. A symbolic link stays; what it points to is replaced. */
#ifndef CNN_FILE_H
#define CNN_FILE_H
#include <stddef.h>
#include <stdio.h>

typedef struct {
    FILE *stream;
    const char *name; /* as the caller gave it, for messages */
    char *target, *temporary;
} out_file;

int out_open(out_file *o, const char *file);
int out_write(out_file *o, const void *data, size_t bytes);
int out_close(out_file *o, int status);

/* Opens for reading; a directory is refused. NULL with an error. */
FILE *in_open(const char *file);

#endif
