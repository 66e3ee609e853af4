/* data.h - what the loader sees of a data set. */
#ifndef CNN_DATA_H
#define CNN_DATA_H
#include "core.h"

struct cnn_dataset {
    int refs; /* the owner's and one for each loader */
    int64_t count, channels, height, width;
    uint8_t *pixels;  /* count x height x width x channels */
    uint8_t *labels;  /* from 0 */
    uint8_t *on_card; /* pixels, then labels; NULL until they are asked for there */
};

#endif
