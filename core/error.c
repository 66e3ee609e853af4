/* error.c - one line that says why the last call failed.
 *
 * The message starts with the op's or file's name. It is kept until the next outermost call into
 * the engine clears it (scope_begin), so that a failed inner op is not covered by its callers. */
#include "core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char message[1024];

const char *cnn_error(void) { return message; }

int error_is_set(void) { return message[0] != 0; }

void error_clear(void) { message[0] = 0; }

int fail(const char *format, ...) {
    char text[sizeof message]; /* an argument may be the old message */
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\r') *p = ' ';
    memcpy(message, text, sizeof message);
    return -1;
}

void *fail_null(const char *format, ...) {
    char text[sizeof message];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    fail("%s", text);
    return 0;
}

const char *sizes_text(const int64_t *size, int n) {
    static char ring[8][CNN_MAX_DIM * 21 + 8];
    static int turn;
    char *text = ring[turn++ % 8];
    size_t at = 0, room = sizeof ring[0];
    if (n == 0) return "a single number";
    text[0] = 0;
    for (int i = 0; i < n && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, i ? "x%lld" : "%lld", (long long)size[i]);
    return text;
}

const char *shape_text(const cnn_tensor *x) { return sizes_text(x->size, x->nd); }
