/* plan.h - a recorded list as plan_read.c reads it and plan.c goes by it.
 *
 * Contract: `reading` holds the list read last; its storages are there as long as the list is, or
 * somebody holds them. */
#ifndef CNN_PLAN_H
#define CNN_PLAN_H

#include "core.h"

typedef struct {
    unsigned char *key; /* all that a graph of this list rests on */
    int64_t bytes, room;
    cnn_storage **storage; /* by number */
    unsigned char *external, *written;
    int *held; /* references by entries of the list */
    int n, n_room;
    uint64_t serial;
    int failed;
} plan_reading;

extern plan_reading reading;

/* Reads the list; 1, 0 when no graph can hold it, or -1. `settings`: what the key begins with. */
int plan_read(const cnn_entry *first, uint64_t settings);
uint64_t plan_key_hash(void);
int is_pictures(const cnn_storage *s); /* a batch that is not gathered yet */

#endif
