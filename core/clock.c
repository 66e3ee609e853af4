/* clock.c - what the system says of this process: time and memory.
 *
 * Surprising: the peak can be started anew (a 5 into clear_refs), which lets two parts of one run
 * be compared; where the system does not allow it the peak is the whole run's. */
#define _GNU_SOURCE
#include "cnn.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

double cnn_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t cnn_peak_rss(void) {
    char line[128];
    long long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lld", &kib) == 1) break;
    if (f) fclose(f);
    struct rusage use;
    if (kib < 0 && getrusage(RUSAGE_SELF, &use) == 0) kib = use.ru_maxrss;
    return kib < 0 ? 0 : kib * 1024;
}

void cnn_reset_rss(void) {
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}
