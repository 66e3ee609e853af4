/* cards_cudnn.c - which engine cuDNN would take on a card that is not here: one line for each
 * convolution, for `cnnlua doctor` and the specs.
 *
 * The search is the one that conv_cudnn.c runs with, so what is printed is what a card of that kind
 * gets, as far as the heuristics do not look at more than its description.
 *
 * Surprising: cuDNN leaves out the engines that it compiles at run time where there is no driver,
 * even when only asked. CUDA's toolkit has an empty stand-in of the driver's library, for linking;
 * opened first, it is enough to be told about them. */
#include <cudnn.h>

#include "plans_cudnn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CARD_TEXT = 1024 };

/* What cards differ in; the rest is the same for all. */
typedef struct {
    const char *name, *title;
    int version, multiprocessors, shared, clock, memory_clock, l2;
    long long memory;
} card;

static const card cards[] = {
    {"sm_80", "NVIDIA A100-SXM4-80GB", 800, 108, 166912, 1410000, 1593000, 41943040, 85094825984},
    {"sm_90", "NVIDIA H100 80GB HBM3", 900, 132, 232448, 1980000, 2619000, 52428800, 85029158912},
    {"sm_100", "NVIDIA B200", 1000, 148, 232448, 1965000, 3996000, 132644864, 191503138816},
};
enum { CARDS = sizeof cards / sizeof *cards };

static int write_card(const char *name, char *json) {
    for (const card *c = cards; c < cards + CARDS; c++) {
        if (strcmp(c->name, name)) continue;
        snprintf(json, CARD_TEXT,
                 "{\"cudaDeviceId\":0,\"deviceVer\":%d,\"driverVer\":13000,"
                 "\"totalGlobalMem\":%lld,\"maxGridSize\":[2147483647,65535,65535],"
                 "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
                 "\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
                 "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,"
                 "\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
                 "\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,"
                 "\"supportCoopLaunch\":1,\"smClockRateKHz\":%d,\"memClockRateKHz\":%d,"
                 "\"l2CacheSize\":%d,\"deviceName\":\"%s\"}",
                 c->version, c->memory, c->multiprocessors, c->shared, c->clock, c->memory_clock,
                 c->l2, c->title);
        return 0;
    }
    return -1;
}

static int driver; /* it is there, or its stand-in */

/* Where no driver is, its stand-in, so that engines which are compiled are offered. */
static void open_driver(void) {
    const char *home = getenv("CUDA_HOME");
    char path[1024];
    snprintf(path, sizeof path, "%s/lib64/stubs/libcuda.so", home && *home ? home : "");
    driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) ||
             dlopen(path, RTLD_LAZY | RTLD_LOCAL) ||
             dlopen("/usr/local/cuda/lib64/stubs/libcuda.so", RTLD_LAZY | RTLD_LOCAL);
}

static int refuse(char *text, size_t n, const char *why) {
    snprintf(text, n, "%s", why);
    return -1;
}

int k_cudnn_plan_text(const k_conv *s, k_direction direction, int joined, k_precision precision,
                      const char *card, char *text, size_t n) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char json[CARD_TEXT], why[400];
    if (!k_cudnn()) return refuse(text, n, k_cudnn_found());
    if (joined && direction != K_FORWARD)
        return refuse(text, n, "only a forward convolution is joined with anything");
    if (card[0] != '{' && write_card(card, json))
        return refuse(text, n, "expected sm_80, sm_90, sm_100 or a card's JSON");
    pthread_once(&once, open_driver);
    k_place place = k_describe_card(card[0] == '{' ? card : json, why, sizeof why);
    if (!place.described) return refuse(text, n, why);
    k_problem p;
    k_plan plan;
    k_fill_problem(&p, s, direction, joined, precision);
    if (k_find_plans(&p, place, K_MOST_WORKSPACE, 1, &plan, why, sizeof why)) {
        k_describe_plan(&plan, text, n);
        k_free_plan(&plan);
    } else
        snprintf(text, n, "no engine: %s%s", why,
                 driver ? "" : " (without a driver, none that is compiled when it is planned)");
    k_forget_card(&place);
    return 0;
}
