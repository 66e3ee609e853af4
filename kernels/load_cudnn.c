/* load_cudnn.c - opens cuDNN when it is first needed, and makes the one handle.
 *
 * Contract: without the library, or with another major version than the header's, or with one that
 * was built for another CUDA than the runtime that is linked in here, k_cudnn() is NULL for the
 * rest of the process and k_cudnn_found() says in one line what was found and what helps; the table
 * keeps the kernels of our own.
 *
 * Surprising: libcudnn.so.9 is a small shim. Its parts (graph, heuristics, engines: 400 MB) are
 * opened by itself at the first call that needs them, from its own folder. */
#include <cudnn.h>

#include "library.h"
#include "plans_cudnn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
enum { CUDA_MAJOR = CUDART_VERSION / 1000 }; /* of the runtime that is linked in */
static const char library_name[] = "libcudnn.so." TEXT(CUDNN_MAJOR);

static k_cudnn_calls calls;
static int usable;
static char found[2400];

static int take_calls(void *library) {
#define TAKE(name)                                                                                 \
    *(void **)&calls.name = dlsym(library, "cudnn" #name);                                         \
    if (!calls.name) {                                                                             \
        snprintf(found, sizeof found, "%s has no cudnn%s", library_name, #name);                   \
        return -1;                                                                                 \
    }
    K_CUDNN_CALLS(TAKE)
#undef TAKE
    return 0;
}

static void open_library(void) {
    const char *why;
    void *library = k_library(library_name, "cudnn", &why);
    if (!library) {
        snprintf(found, sizeof found, "%s", why);
        return;
    }
    if (take_calls(library)) return;
    char name[64];
    size_t version = calls.GetVersion();
    int major = (int)(version / 10000), cuda = (int)(calls.GetCudartVersion() / 1000);
    snprintf(name, sizeof name, "cuDNN %d.%d.%d", major, (int)(version / 100 % 100),
             (int)(version % 100));
    usable = major == CUDNN_MAJOR && cuda == CUDA_MAJOR;
    if (usable)
        snprintf(found, sizeof found, "%s: %s", name, why);
    else if (major != CUDNN_MAJOR)
        snprintf(found, sizeof found,
                 "%s (%s) is not used: this program was built for version %d; install that one",
                 name, why, CUDNN_MAJOR);
    else
        snprintf(found, sizeof found,
                 "%s (%s) is not used: it was built for CUDA %d, this program for CUDA %d; install "
                 "the one for CUDA %d, or build with CUDA %d (make CUDA_HOME=...)",
                 name, why, cuda, CUDA_MAJOR, CUDA_MAJOR, cuda);
}

const k_cudnn_calls *k_cudnn(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    return usable ? &calls : NULL;
}

const char *k_cudnn_found(void) {
    k_cudnn();
    return found;
}

int k_cudnn_version(void) {
    if (!k_cudnn()) return 0;
    size_t version = calls.GetVersion();
    return (int)(1000 * (version / 10000) + 10 * (version / 100 % 100));
}

cudnnHandle_t k_cudnn_handle(void) {
    static cudnnHandle_t handle;
    if (handle || !k_cudnn()) return handle;
    cudnnStatus_t status = calls.Create(&handle);
    if (status == CUDNN_STATUS_SUCCESS) status = calls.SetStream(handle, k_stream());
    if (status == CUDNN_STATUS_SUCCESS) return handle;
    k_failed("cuDNN: no handle for this card: %s", calls.GetErrorString(status));
    if (handle) calls.Destroy(handle);
    return handle = NULL;
}
