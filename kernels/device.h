/* device.h - a device with memory and kernels of its own, as its shared object shows it to the
 * engine.
 *
 * Contract: one device a process, one stream: whatever is asked for happens in the order in which
 * it was asked for, and nothing waits but download, wait and trouble. Functions that answer int
 * give 0, or -1 and then why() says so in one line. A broken device (a fault of a kernel, a card
 * that went away) stays broken: every later call answers -1, none crashes.
 *
 * Surprising: memory given back may be taken again at once, since what was asked for before is
 * done before. */
#ifndef CNN_DEVICE_H
#define CNN_DEVICE_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { K_DEVICE_VERSION = 3 }; /* goes up whenever this file or kernels.h changes its layouts */

typedef struct k_graph k_graph; /* a recorded step, ready to run again */

/* K_TF32_CONV: convolutions in tf32, products in fp32, as PyTorch has it unless told otherwise.
 * K_MIXED_BF16: the engine takes the second table for convolutions, products and what follows
 * them; master weights, statistics and sums are float32. */
typedef enum { K_FP32, K_TF32_CONV, K_TF32, K_MIXED_BF16 } k_precision;

/* What cuDNN may compute together with a forward convolution, as a set. Bias and ReLU follow it;
 * the statistics are batch norm's sums of the result and its squares for each channel; a normed
 * input is scaled, shifted and cut off at 0 on its way in. */
enum { K_BIAS = 1, K_RELU = 2, K_STATISTICS = 4, K_NORMED = 8 };

typedef struct {
    int64_t in_use;      /* bytes given out */
    int64_t peak;        /* the most of them */
    int64_t held;        /* taken from the card, given out or not */
    int64_t free, total; /* of the card, all processes together */
} k_memory;

/* What the device and its libraries are; versions 1000 * major + 10 * minor as CUDA counts them,
 * 0 for what is not there. */
typedef struct {
    char name[128];
    int capability; /* 90 for 9.0; 0 for the host double */
    int driver, toolkit, cudnn, cublas;
    int multiprocessors;
    int64_t memory;
} k_card;

typedef struct {
    int version;
    size_t table_bytes; /* sizeof (k_table) where it was compiled */
    const char *(*why)(void);
    int (*count)(void);     /* cards that can be used, or -1 */
    int (*open)(int index); /* the process's card; a second call must name the same one */
    int (*card)(k_card *card);
    /* Overlays *t, and *narrow for bf16 activations, up to `variant` ("cuda": kernels of our own
     * alone; "cudnn": and the libraries that are there; NULL: the best). The convolutions of
     * *narrow are for K_MIXED_BF16 alone. */
    int (*select)(k_table *t, k_table *narrow, const char *variant);
    const char *(*variant)(void); /* the one in force */
    int (*set_precision)(k_precision p);
    int (*set_deterministic)(int on);
    int (*set_autotune)(int on);
    /* memory */
    void *(*take)(int64_t bytes); /* 256-byte aligned; NULL: no room, or broken */
    void (*give)(void *p);
    void (*trim)(void); /* gives the card back what is held and not in use */
    void (*memory)(k_memory *m);
    int64_t (*in_use)(void); /* of it in_use alone, which costs nothing to know */
    void (*reset_peak)(void);
    int (*upload)(void *to, const void *from, int64_t bytes);   /* `from` is free to change after */
    int (*download)(void *to, const void *from, int64_t bytes); /* waits */
    int (*copy)(void *to, const void *from, int64_t bytes);     /* within the device */
    int (*wait)(void);
    int (*check)(int wait); /* is it still well? with `wait`, after all that was asked for */
    /* What the kernels could not say when they ran (see k_trouble), since the last call. Waits. */
    int (*trouble)(k_trouble *t);
    k_trouble *(*trouble_at)(void); /* where kernels write it: device memory */
    /* A step as a graph: what is asked for between begin and end is kept, not done. Its memory is
     * taken from a part of the pool that only graphs use, and stays theirs. */
    int (*capture_begin)(void);
    k_graph *(*capture_end)(int keep); /* keep = 0: forget it; NULL then, or when it failed */
    /* The op asked for next finds its changing values at p, in device memory; NULL: none. */
    void (*live)(const void *p);
    int (*graph_run)(k_graph *g);
    void (*graph_free)(k_graph *g);
    /* Which engine cuDNN takes for a convolution, alone or with what is joined to it, on a card
     * named "sm_80", "sm_90" or "sm_100" (or described in cuDNN's JSON), and its workspace; needs
     * neither driver nor card. 0 and one line in text, which begins with "engine" or "no engine";
     * -1 and a line that says why it cannot be asked. */
    int (*plan_text)(const k_conv *s, k_direction direction, int joined, k_precision p,
                     const char *card, char *text, size_t n);
    const char *(*cudnn_why)(void); /* which cuDNN was found, or why none is used */
} k_device;

/* The one name that the shared object exports. */
typedef const k_device *k_device_open(void);
const k_device *cnn_cuda_device(void);

#ifdef __cplusplus
}
#endif
#endif
