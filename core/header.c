/* header.c - the text of cnn.h, inside the program.
 *
 * Lua derives its declarations from this text, so a program or library and its header cannot
 * disagree. The assembler includes the file; the path is relative to the root of the sources. */
#include "cnn.h"

__asm__(".section .rodata\n"
        "header_text:\n"
        ".incbin \"core/cnn.h\"\n"
        ".byte 0\n"
        ".previous\n");

extern const char header_text[] __attribute__((visibility("hidden")));

const char *cnn_header(void) { return header_text; }
