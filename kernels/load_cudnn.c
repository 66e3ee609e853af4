/* load_cudnn.c - opens cuDNN when it is first needed, and makes the one handle.
 *
 * Contract: without the library, or with another major version than the header's, k_cudnn() is
 * NULL for the rest of the process and k_cudnn_found() says in one line what was found and what
 * helps; the table keeps the kernels of our own.
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
    size_t version = calls.GetVersion();
    int major = (int)(version / 10000), minor = (int)(version / 100 % 100);
    usable = major == CUDNN_MAJOR;
    snprintf(found, sizeof found,
             usable ? "cuDNN %d.%d.%d: %s"
                    : "cuDNN %d.%d.%d (%s) is not used: "
                      "this program was built for version " TEXT(CUDNN_MAJOR) "; install that one",
             major, minor, (int)(version % 100), why);
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
