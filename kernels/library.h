/* library.h - finds a library of NVIDIA's when it is first needed: nothing of theirs is linked, so
 * one program runs on machines with and without them.
 *
 * k_library opens e.g. "libcudnn.so.9", whose Python wheel is "cudnn". The file that $CNN_CUDNN
 * names (CNN_ and the wheel in capitals) is the only one tried where it is set. Else the first that
 * opens of: the loader's path, $CUDA_HOME/lib64, /usr/local/cuda/lib64, Debian's folder, and the
 * wheels of the active, the user's and the system's Pythons. *why: the file it was, or, with NULL,
 * in one line what was missed; it stays readable. Answers are kept: a second call looks nowhere.
 *
 * Surprising: the handle is never closed, since these libraries start threads and hold a card. */
#ifndef CNN_LIBRARY_H
#define CNN_LIBRARY_H

void *k_library(const char *name, const char *wheel, const char **why);

#endif
