/* core.h - what the files of core/ know of each other: storage, tensor, entry, op.
 *
 * A storage is a block of memory on a device; tensors are views of it: sizes, strides, an offset.
 * A public op checks its shapes, makes the output tensors (no memory yet) and appends an entry to
 * the tape. The entry runs at once (eager) or at the end of the step (recorded); that is when its
 * outputs get memory. If an input requires a gradient the entry is also the graph: each output
 * points to it, and it keeps those values that the op says its gradient needs, and no others.
 *
 * Surprising: liveness is reference counts. An entry that has run and been differentiated gives
 * back what it held, so a recorded step uses no more memory than its longest-lived values need. */
#ifndef CNN_CORE_H
#define CNN_CORE_H

#include "cnn.h"
#include "../kernels/device.h"

#include <stddef.h>

#define CNN_MAX_DIM 8

typedef enum { DEV_CPU, DEV_META, DEV_CUDA } cnn_dev;

/* How a storage gets its first values, when it is first used. */
typedef enum {
    FILL_NONE,
    FILL_CONST,
    FILL_UNIFORM,
    FILL_NORMAL,
    FILL_RANGE,
    FILL_IMAGES, /* gathered on the card from a data set that lies there */
    FILL_LABELS
} cnn_fill_kind;

typedef struct cnn_pictures cnn_pictures; /* an epoch's pictures on the card: pictures.c */

typedef struct cnn_storage {
    int refs;
    cnn_dev device;
    k_dtype dtype;
    int64_t count;    /* elements */
    void *data;       /* NULL until it is first used; always NULL on meta */
    uint32_t version; /* goes up with each write in place */
    int lost;         /* its op failed when a recorded step ran */
    cnn_fill_kind fill;
    double fill_a, fill_b;
    k_draw draw;          /* of a random fill */
    cnn_pictures *from;   /* of images and labels */
    int64_t first;        /* the position of theirs in it */
    uint64_t seen;        /* by which reading of a recorded step (plan.c), */
    int number;           /* and its number there */
    uint64_t touched;     /* by entries that are to join (joins.c) */
    uint64_t placed;      /* by which laying out of a list (layout.c), */
    int uses, made;       /* by how many tensors of its entries, how many of them outputs, */
    int fixed, written;   /* whether it has to stay as it is, or is written in place, */
    cnn_tensor *first_on; /* and those tensors (cnn_tensor.beside) */
} cnn_storage;

typedef struct cnn_entry cnn_entry;

struct cnn_tensor {
    int refs;
    int nd;
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM]; /* strides in elements */
    int64_t offset;
    cnn_storage *storage; /* NULL: given back; of an entry's alias: its value is not needed */
    int requires_grad;
    int narrow;       /* of an entry's alias: a bf16 activation, and so is its gradient */
    cnn_entry *entry; /* what made it, when a gradient flows through it; NULL for leaves */
    int output;       /* which output of entry */
    cnn_tensor *grad; /* of a leaf */
    const char *origin;
    cnn_tensor *beside; /* the next on its storage, while a list is laid out */
    uint64_t born;      /* the step that made it; 0: none, it stays */
};

/* An op: a static const beside its code. */
typedef struct cnn_op {
    const char *name;
    /* Runs the kernels; inputs have values, outputs have memory. 0, or -1 with an error set. */
    int (*run)(cnn_entry *e);
    /* Emits the ops of the gradient: dy[i] is the gradient of output i (NULL: none came), dx[i] is
     * to be set for each input with entry_wants(e, i). Tensors made here are given back by the
     * caller, so dx[i] may also be dy[j] itself. 0, or -1. NULL: not differentiable (0). */
    int (*gradient)(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx);
    unsigned saves_in, saves_out; /* bit i: the value of input / output i is needed by gradient */
    unsigned reuses_in; /* bit i: output 0 may lie where input i lies, once nobody else needs it */
    int strided; /* a matrix of pixels that it takes or makes may have any row stride, read when
                    it runs */
    int casts;   /* from dtype to dtype: its gradient takes any */
    int moves;   /* from device to device: it waits, so no graph can hold it */
    /* The part of attr that may change from one recorded step to the next while the step stays the
     * same: a k_draw, k_sgd, k_adam. The kernels of a card find it through k_device.live. */
    unsigned varying_at, varying_bytes;
    /* How many entries from e on, 1 .. MOST_JOINED, run as one; NULL: e alone. In a chain each one
     * takes the value of the one before, which nobody else needs: it gets no memory. */
    int (*joins)(const cnn_entry *e);
    int (*run_many)(cnn_entry *const *list, int n); /* runs them; run may be NULL then */
    int chain;
    int early;   /* a recorded step runs it before the entry that it follows, unless one of them
                    touches what the other writes, so that those around it can join */
    int gathers; /* on a card a recorded step runs it beside the first of its op, so that they join,
                    if what it takes is there by then */
} cnn_op;

enum { ENTRY_ATTR = 192, MOST_JOINED = 1024 };

struct cnn_entry {
    int refs;
    const cnn_op *op;
    int64_t seq;
    int n_in, n_out;
    cnn_tensor **in;   /* aliases with history (a leaf: itself); values not needed go */
    cnn_tensor **out;  /* the same storages as the handles given out, without history */
    uint32_t *version; /* n_in + n_out, when recorded */
    cnn_tensor **grad; /* of the outputs, while backward runs */
    unsigned char ran, differentiable, consumed, writes_in_place, marked;
    unsigned char lasting; /* writes in place to a tensor that was there before the step */
    unsigned char trains;  /* writes in place to a tensor that requires a gradient */
    cnn_entry *next;       /* of those pending, or of those about to be freed */
    _Alignas(8) unsigned char attr[ENTRY_ATTR];
};

/* ------------------------------------------------------------------------------- error.c */
/* Sets the message; returns -1. `fail_null` returns NULL. An error already set is replaced. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *fail_null(const char *format, ...) __attribute__((format(printf, 1, 2)));
int error_is_set(void);
void error_clear(void);
/* "4x3x6x6" of a tensor's sizes, or of a list, in one of a few rotating buffers. */
const char *shape_text(const cnn_tensor *x);
const char *sizes_text(const int64_t *size, int n);

/* ------------------------------------------------------------------------------ memory.c */
/* 64-byte aligned blocks from the engine's arena; NULL with an error set when there is no room. */
void *memory_take(int64_t bytes);
void memory_give(void *p, int64_t bytes);

/* ------------------------------------------------------------------------------ device.c */
/* The card's services; NULL before card_open. */
const k_device *card(void);
const char *card_name(void);              /* "cuda:0" */
int card_open(const char *op, int index); /* index < 0: the one that is open, or the first */
const k_table *card_kernels(void);
const k_table *card_narrow_kernels(void);
int card_use_kernels(const char *variant);
int card_check(const char *op);         /* did what was asked of it go well, as far as is known? */
int card_waits(void);                   /* CNN_SYNC=1: it waits for each op */
int card_asked(const char *op, int rc); /* rc of a call of card(): 0, or -1 with the error set */
/* Waits, reads, and says what the kernels could not say when they ran. */
int card_read(void *to, const void *from, int64_t bytes);
void *card_take(int64_t bytes); /* NULL with the error set */
/* Memory of a device, as memory_take and memory_give. */
void *device_take(cnn_dev device, int64_t bytes);
void device_give(cnn_dev device, void *p, int64_t bytes);

/* ------------------------------------------------------------------------------- joins.c */
/* The neighbours with e's op and attr that may run at once; the next entry, if it is of that op and
 * the only one that needs e's first output, as its input `at`. */
int joins_equals(const cnn_entry *e);
const cnn_entry *joins_next(const cnn_entry *e, const cnn_op *op, int at);
/* Puts a list in the order in which most of it joins. */
void joins_order(cnn_entry **first, cnn_entry **last);

/* ------------------------------------------------------------------------------ layout.c */
/* Has the parts of what a list concatenates made where they will lie. */
void layout_list(cnn_entry *first);

/* -------------------------------------------------------------------------------- plan.c */
/* A recorded step on the card as a captured graph. 1: it ran so; 0: run the list plainly; -1. */
int plan_run(cnn_entry *first);
int plan_capturing(void);
void plan_forget(void);   /* all of them: something changed that they rest on */
int plan_make_room(void); /* gives back the memory of all graphs; 0 when there is none to give */

/* ---------------------------------------------------------------------------- pictures.c */
void pictures_fill(cnn_storage *s); /* FILL_IMAGES, FILL_LABELS */
k_images pictures_shape(const cnn_storage *s);
/* x as bf16, if it is a whole batch that nobody has used yet, and no gradient goes to it; or NULL.
 */
cnn_tensor *pictures_narrow(const cnn_tensor *x);
/* Where on the card the bytes of the data set and their order lie. */
void pictures_at(const cnn_storage *s, const void *at[2]);
void pictures_release(cnn_pictures *p);

/* ------------------------------------------------------------------------------ tensor.c */
extern const char *const dtype_names[K_DTYPES];
extern const int dtype_bytes[K_DTYPES];

/* The kernels of a device: for f32, and for bf16 activations. */
const k_table *kernels_of(cnn_dev device);
const k_table *narrow_kernels_of(cnn_dev device);
int is_mixed(void); /* activations shall be bf16, on every device */

/* The elements of a shape; -1 when a product of its sizes, the 0s left out, does not fit. */
int64_t sizes_count(const int64_t *size, int nd);
/* A new tensor with a storage of its own, dense in row-major order; refs 1. */
cnn_tensor *tensor_new(const int64_t *size, int nd, k_dtype dtype, cnn_dev device);
/* The same with N C H W sizes stored as N H W C. nd must be 4. */
cnn_tensor *tensor_new_channels_last(const int64_t *size, k_dtype dtype, cnn_dev device);
/* A new tensor of x's sizes, device and dense layout order (channels-last stays channels-last). */
cnn_tensor *tensor_new_like(const cnn_tensor *x, k_dtype dtype);
/* Another handle on x's storage, with x's sizes and strides, without history. */
cnn_tensor *tensor_alias(const cnn_tensor *x);
cnn_tensor *tensor_retain(cnn_tensor *x);
/* Memory for its storage (filled as it asks); 0 or -1. */
int storage_ready(cnn_storage *s);
/* count elements from `from` on := value; it is ready */
void storage_set(cnn_storage *s, int64_t from, int64_t count, double value);
/* value as an element of a dtype, saturated */
void element_of(k_dtype dtype, double value, void *one);
void storage_release(cnn_storage *s);
/* The address of the first element; the storage is ready. */
static inline void *tensor_ptr(const cnn_tensor *x) {
    return x->storage->data ? (char *)x->storage->data + x->offset * dtype_bytes[x->storage->dtype]
                            : 0;
}
/* The same as kernels take it; what lies there may be bf16, for those of entry_kernels. */
static inline float *tensor_f32(const cnn_tensor *x) { return tensor_ptr(x); }
/* The same, NULL for NULL. */
static inline float *tensor_values(const cnn_tensor *x) { return x ? tensor_ptr(x) : 0; }
static inline k_dtype tensor_dtype(const cnn_tensor *x) { return x->storage->dtype; }
static inline cnn_dev tensor_device(const cnn_tensor *x) { return x->storage->device; }
int64_t tensor_numel(const cnn_tensor *x);
int tensor_same_shape(const cnn_tensor *a, const cnn_tensor *b);
int tensor_is_dense(const cnn_tensor *x); /* row-major without holes */
/* N C H W (or N C) as a matrix of pixels: channel stride 1 and one row stride throughout; *ld gets
 * the row stride. Strides of axes of size 1 do not matter. */
int tensor_is_pixels(const cnn_tensor *x, int64_t *ld);
/* N C H W stored as such a matrix, and not as well row-major. */
int tensor_is_channels_last(const cnn_tensor *x);
/* x and y have equal sizes, and equal strides that fill their storage without holes. */
int tensor_same_dense_layout(const cnn_tensor *x, const cnn_tensor *y);
/* Checks: x is given (not NULL) and alive; else the error "<op>: <what> ...". 0 or -1. */
int check_tensor(const char *op, const char *what, const cnn_tensor *x);
/* The same, and x has its value, where it lies. */
int value_ready(const char *op, cnn_tensor *x);
/* x is no expanded view, so that each element can be written. */
int check_not_expanded(const char *op, const char *what, const cnn_tensor *x);
/* A dtype's or a device's code by name (NULL: f32, cpu), or -1 with an error. */
int parse_dtype(const char *op, const char *name);
int parse_device(const char *op, const char *name);
/* Brings axis (from 1; negative from the end) to 0 .. nd-1, or -1 with an error. */
int check_axis(const char *op, const cnn_tensor *x, int axis);

/* -------------------------------------------------------------------------------- tape.c */
/* Appends an entry: takes references to the inputs (NULL ones allowed) and to the outputs, whose
 * handles get their history. attr is copied (<= ENTRY_ATTR bytes). Runs it unless a step is being
 * recorded or an input is on meta. 0 or -1. */
int tape_append(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *const *out,
                int n_out, const void *attr, size_t attr_bytes);
/* The usual case of one output: appends and returns y, or NULL (y may be NULL: that is passed on).
 */
cnn_tensor *tape_append1(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *y,
                         const void *attr, size_t attr_bytes);
/* An op that writes into existing tensors (an optimizer, copy): `out` are written in place, their
 * versions go up; refused when one is an expanded view. Whether a gradient may be lost by it is the
 * caller's to check. */
int tape_append_inplace(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *const *out,
                        int n_out, const void *attr, size_t attr_bytes);
static inline void *entry_attr(cnn_entry *e) { return e->attr; }
/* Whether the op computes anything: a view does not. */
static inline int op_runs(const cnn_op *op) { return op->run || op->run_many; }
int entry_wants(const cnn_entry *e, int input); /* the input exists and requires a gradient */
/* The kernels for what e takes: those for bf16 activations if its first input is one. */
const k_table *entry_kernels(const cnn_entry *e);
int tape_flush(void); /* runs what is pending */
/* For plan.c: runs the first of those pending and what joins it, 0 or -1; how many entries join e;
 * memory for what outlives the step; all pending ones count as run. */
int tape_run_next(void);
void tape_tidy(void);
int entry_joins(const cnn_entry *e);
extern const cnn_op *const relu_op, *const add_op, *const cat_op, *const batch_norm_op;
int cat_axis(cnn_entry *e); /* of a cat, from 0 */
int tape_lasting_ready(void);
void tape_count_as_run(void);
/* Scratch on the op's device, 64-byte aligned, gone when its run returns; NULL with an error. */
void *entry_scratch(cnn_entry *e, int64_t bytes);
/* Ownership inside core: every public op opens a scope; whatever tensor is made or returned by a
 * function below belongs to the innermost scope, so no code path releases by hand, error paths
 * included. scope_end gives all of them back except `keep` (may be NULL), which passes to the outer
 * scope or, at the outermost, to the caller, and is returned. Gradients run inside a scope:
 *     cnn_tensor *cnn_f(cnn_tensor *x) {
 *         int scope = scope_begin();
 *         ... checks: return scope_end(scope, fail_null("f: ..."))
 *         return scope_end(scope, tape_append1(&op_f, &x, 1, tensor_new_like(x, K_F32), 0, 0));
 *     }
 * Public ops take NULL for a tensor that an inner call failed to make: check_tensor then answers
 * -1 and keeps the inner error. */
int scope_begin(void);
cnn_tensor *scope_end(int mark, cnn_tensor *keep);
void entry_release(cnn_entry *e);
void entry_settle(cnn_entry *e); /* drops what an entry that has run need not keep */
void tape_made(cnn_tensor *x);   /* tensor.c tells of each new tensor */
void count_macs(int64_t n);

/* ---------------------------------------------------------------------------- backward.c */
extern const cnn_op custom_op;
void custom_drop(cnn_entry *e); /* its number is reported by cnn_custom_dropped */

/* ----------------------------------------------------------------- op_view.c, op_pointwise.c */
/* x as f32 (a cast is emitted when it is not); may be x itself. */
cnn_tensor *as_f32(cnn_tensor *x);
/* The same with any dtype. */
cnn_tensor *as_dtype(cnn_tensor *x, k_dtype dtype);
/* A bf16 tensor while activations are bf16. */
int is_activation(const cnn_tensor *x);
/* bf16 or f32: x for an op with kernels for both, which answers the same. x stays bf16 if it
 * is an activation, and becomes f32 else. */
cnn_tensor *as_activation(cnn_tensor *x);
/* n of them with one dtype, in place; a number beside activations becomes bf16. 0 or -1. */
int as_activations(cnn_tensor **x, int n);
/* x as a matrix of pixels (a channels-last copy is emitted when it is not one). */
cnn_tensor *as_channels_last(cnn_tensor *x);
/* x on the CPU, a copy if it is elsewhere. */
cnn_tensor *as_host(cnn_tensor *x);
/* x for an op with tensors on `device`: a constant without axes comes along from the CPU. */
cnn_tensor *as_beside(cnn_tensor *x, cnn_dev device);
/* The error of a position that the card met. */
int positions_fail(const k_trouble *t);
/* x dense in row-major order. */
cnn_tensor *as_dense(cnn_tensor *x);
/* dy summed over the axes that broadcasting `like` to dy's shape added. */
cnn_tensor *sum_to(cnn_tensor *dy, const cnn_tensor *like);
/* The run of an op that copies in[0], which broadcasts, to out[0]. */
int copy_run(cnn_entry *e);
/* y := x, which broadcasts to y; one dtype, both ready. */
void copy_values(const k_table *k, const cnn_tensor *y, const cnn_tensor *x);
/* Merges dims of a loop: y, a, b, c share `size`; NULL tensors get strides 0. */
void loop_make(k_loop *l, const cnn_tensor *y, const cnn_tensor *a, const cnn_tensor *b,
               const cnn_tensor *c);

/* ---------------------------------------------------------------------------------- rng.c */
uint64_t rng_next_stream(void);

#endif
