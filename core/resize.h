/* resize.h - bilinear resizing of one image, rows of pixels with the channels innermost.
 *
 * Contract: a plan is made once for a pair of sizes and serves any number of images and threads;
 * each thread brings resize_scratch(p) floats. A source gives row y of the image: width x channels
 * floats. */
#ifndef CNN_RESIZE_H
#define CNN_RESIZE_H
#include <stdint.h>

typedef struct {
    int64_t from, to;
    int32_t *first, *second; /* each output position lies between these two inputs, */
    float *w1, *w2;          /* with these weights */
} resize_axis;

typedef struct {
    int64_t channels;
    resize_axis y, x; /* x: an entry for each channel of each pixel */
} resize_plan;

typedef void resize_source(const void *image, int64_t y, float *row);

int resize_plan_make(resize_plan *p, int64_t channels, int64_t h, int64_t w, int64_t oh,
                     int64_t ow);
void resize_plan_free(resize_plan *p);
int64_t resize_scratch(const resize_plan *p);
/* out: oh x ow x channels floats */
void resize_image(const resize_plan *p, resize_source *source, const void *image, float *out,
                  float *scratch);

#endif
