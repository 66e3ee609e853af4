/* plans_cudnn.h - what the files of cuDNN know of each other: load_cudnn.c opens the library,
 * plan_cudnn.c turns a convolution into execution plans, conv_cudnn.c keeps and runs them,
 * cards_cudnn.c makes them for cards that are not here.
 *
 * Only the graph API ("backend") of cuDNN 9 is used; the old one has nothing that it lacks.
 *
 * Surprising: this header wants <cudnn.h> before it, which only *_cudnn.c may include. */
#ifndef CNN_PLANS_CUDNN_H
#define CNN_PLANS_CUDNN_H

#include "card.h"

/* What headers before 9.8 do not have; a library before it refuses these, in words. */
#if CUDNN_VERSION < 90800
#define CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE       ((cudnnBackendAttributeName_t)303)
#define CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR       ((cudnnBackendDescriptorType_t)38)
#define CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION ((cudnnBackendAttributeName_t)2702)
#define CUDNN_ATTR_ENGINEHEUR_DEVICEPROP          ((cudnnBackendAttributeName_t)204)
#define CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP      ((cudnnBackendAttributeName_t)407)
#endif

/* -------------------------------------------------------------------------------- load_cudnn.c */

/* Everything of cuDNN that is called. */
#define K_CUDNN_CALLS(X)                                                                           \
    X(GetVersion)                                                                                  \
    X(GetCudartVersion)                                                                            \
    X(Create)                                                                                      \
    X(Destroy)                                                                                     \
    X(SetStream)                                                                                   \
    X(GetErrorString)                                                                              \
    X(GetLastErrorString)                                                                          \
    X(BackendCreateDescriptor)                                                                     \
    X(BackendDestroyDescriptor)                                                                    \
    X(BackendSetAttribute)                                                                         \
    X(BackendGetAttribute)                                                                         \
    X(BackendFinalize)                                                                             \
    X(BackendExecute)

#define K_CUDNN_MEMBER(name) __typeof__(cudnn##name) *name;
typedef struct {
    K_CUDNN_CALLS(K_CUDNN_MEMBER)
} k_cudnn_calls;

/* The library, opened at the first call; NULL: not to be had. k_cudnn_found: which it is, or why
 * there is none and what helps, in one line. */
const k_cudnn_calls *k_cudnn(void);
const char *k_cudnn_found(void);
/* The handle for this process's card and stream, made at the first call; NULL: k_failed was told.
 */
cudnnHandle_t k_cudnn_handle(void);

/* -------------------------------------------------------------------------------- plan_cudnn.c */

/* One computation, and everything that its plan depends on: compared byte by byte, so start from
 * an object full of zeros. With K_MIXED_BF16 all tensors are bf16 but the sums of the statistics:
 * no engine that is ready compiled takes a bias of float32 or answers in it. */
typedef struct {
    k_conv s;
    int32_t direction, joined; /* joined: a set of K_BIAS, ... of device.h */
    int32_t precision, deterministic;
    int32_t align;    /* bytes: what the pointers are multiples of, 16 or an element's size */
    int32_t compiled; /* engines that cuDNN compiles when it plans are welcome: seconds for each */
} k_problem;

/* The tensors of a problem, as a plan's execution names them. A gradient has its tensor's name. */
typedef enum { K_X = 1, K_W, K_Y, K_BIAS_OF_Y, K_SUM, K_SQUARES, K_SCALE, K_SHIFT } k_tensor;

typedef struct {
    cudnnBackendDescriptor_t plan, config; /* plan: NULL, if only a card's driver can finish it */
    int64_t workspace;                     /* bytes */
    int64_t engine;
    unsigned numerics, behaviour; /* sets of cudnnBackend{Numerical,Behavior}Note_t */
} k_plan;

/* Where a plan is to run: the card of `handle`, or a card that is only described. */
typedef struct {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t described;
} k_place;

/* The convolution under the settings in force, for tensors of full alignment. */
void k_fill_problem(k_problem *p, const k_conv *s, k_direction direction, int joined,
                    k_precision precision);

/* Up to `most` plans with a workspace of at most `limit` bytes, the best guess first, and how many
 * there are; more than K_PREFERRED_WORKSPACE only where nothing needs less. Where there is none,
 * `why` (of n bytes) says so; it may be NULL. */
enum { K_PREFERRED_WORKSPACE = 256 << 20, K_MOST_WORKSPACE = 1 << 30 };
int k_find_plans(const k_problem *p, k_place place, int64_t limit, int most, k_plan *plans,
                 char *why, size_t n);
void k_free_plan(k_plan *plan);

/* The place of a card that is described in JSON, to be given back by k_forget_card; `described` is
 * NULL when that failed, and `why` says so. */
k_place k_describe_card(const char *json, char *why, size_t n);
void k_forget_card(k_place *place);

/* One line about a plan: "engine 42, workspace 12.6 MB, tensor core". */
void k_describe_plan(const k_plan *plan, char *text, size_t n);

/* Runs it; tensor[i] lies at pointer[i]. 0, or -1 and a line in `why`. */
int k_run_plan(const k_plan *plan, cudnnHandle_t handle, int tensors, const k_tensor *tensor,
               void *const *pointer, void *workspace, char *why, size_t n);

#endif
