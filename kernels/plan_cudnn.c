/* plan_cudnn.c - from a convolution to cuDNN's execution plans: the graph of operations, the
 * engines that its heuristics offer for a card, those that keep our promises, and their plans.
 *
 * Tensors are logical n c h w with the strides of channels-last rows (c: 1, w: ld, h: w * ld), so a
 * channel slice is described as it lies. Graphs: a convolution or one of its gradients alone;
 * forward followed by bias, ReLU and the sums of batch norm; forward after scale, shift and ReLU.
 *
 * An engine is taken when its numbers are those of the precision asked for: float32 is float32, so
 * no tensor core (which rounds to tf32) and no narrower input; all sums are float32, and Winograd's
 * larger tiles, which lose three decimals, are never taken.
 *
 * Surprising: none of this needs a card. A card's description is enough for heuristics and plans,
 * so a machine without a GPU shows which engine an H100 will use and what workspace it takes. */
#include <cudnn.h>

#include "plans_cudnn.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { OBJECTS = 40, OFFERS = 64 };

/* ------------------------------------------------------------------------------ descriptors
 * A graph is made of many. Errors stick: after the first, every call does nothing. */

typedef struct {
    cudnnBackendDescriptor_t object[OBJECTS]; /* given back at the end, the last one first */
    int objects, failed;
    char *why; /* n bytes, or NULL */
    size_t n;
} maker;

static void fail(maker *m, cudnnStatus_t status, const char *what) {
    if (m->failed++ || !m->why) return;
    char detail[256] = "";
    k_cudnn()->GetLastErrorString(detail, sizeof detail);
    detail[strcspn(detail, "\n")] = 0;
    snprintf(m->why, m->n, "%s: %s%s%s", what, k_cudnn()->GetErrorString(status),
             detail[0] ? ": " : "", detail);
}

static void destroy(cudnnBackendDescriptor_t d) {
    if (d) k_cudnn()->BackendDestroyDescriptor(d);
}

static void destroy_all(maker *m) {
    while (m->objects) destroy(m->object[--m->objects]);
}

static cudnnBackendDescriptor_t create(maker *m, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (m->failed) return NULL;
    cudnnStatus_t status = k_cudnn()->BackendCreateDescriptor(type, &d);
    if (status == CUDNN_STATUS_SUCCESS && m->objects < OBJECTS) return m->object[m->objects++] = d;
    fail(m, status, "a descriptor");
    destroy(d);
    return NULL;
}

static void set(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (m->failed) return;
    cudnnStatus_t status = k_cudnn()->BackendSetAttribute(d, name, type, count, values);
    if (status == CUDNN_STATUS_SUCCESS) return;
    char what[40];
    snprintf(what, sizeof what, "attribute %d", (int)name);
    fail(m, status, what);
}

static void set_int(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    int64_t value) {
    set(m, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_type(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                     cudnnDataType_t type) {
    set(m, d, name, CUDNN_TYPE_DATA_TYPE, 1, &type);
}

static void set_object(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                       cudnnBackendDescriptor_t value) {
    set(m, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

/* The card by its handle: graphs and plans of older versions ask for it, newer ones take the card
 * of the process, and may refuse. */
static void set_handle(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                       cudnnHandle_t handle) {
    if (!m->failed && handle)
        k_cudnn()->BackendSetAttribute(d, name, CUDNN_TYPE_HANDLE, 1, &handle);
}

static cudnnBackendDescriptor_t finalize(maker *m, cudnnBackendDescriptor_t d, const char *what) {
    if (m->failed) return d;
    cudnnStatus_t status = k_cudnn()->BackendFinalize(d);
    if (status != CUDNN_STATUS_SUCCESS) fail(m, status, what);
    return d;
}

/* What an attribute holds: up to `room` values, and how many it has; none where it has no such. */
static int get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
               cudnnBackendAttributeType_t type, int room, void *values) {
    int64_t count = 0;
    cudnnStatus_t status = k_cudnn()->BackendGetAttribute(d, name, type, room, &count, values);
    return status == CUDNN_STATUS_SUCCESS ? (int)(count < room ? count : room) : 0;
}

/* Descriptors come back in descriptors that are there already; objects[0 .. result) hold them and
 * are the caller's to destroy. */
static int get_objects(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                       cudnnBackendDescriptorType_t type, int room,
                       cudnnBackendDescriptor_t *objects) {
    int made = 0, count = 0;
    while (made < room && !k_cudnn()->BackendCreateDescriptor(type, &objects[made])) made++;
    if (made) count = get(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, objects);
    while (made > count) destroy(objects[--made]);
    return count;
}

/* ------------------------------------------------------------------------------------ the graph
 * Tensors that only pass from one operation to the next are virtual: they have no memory, and
 * names from VIRTUAL on. */

enum { VIRTUAL = 100, OPERATIONS = 8 };

typedef struct {
    maker *m;
    const k_problem *p;
    cudnnDataType_t stored; /* of x, w, y, bias, scale and shift */
    int64_t next;           /* name of the next virtual tensor */
    cudnnBackendDescriptor_t operation[OPERATIONS];
    int operations;
} graph;

static cudnnBackendDescriptor_t rows(maker *m, int64_t name, cudnnDataType_t type, int64_t n,
                                     int64_t h, int64_t w, int64_t c, int64_t ld, int64_t align) {
    int64_t size[4] = {n, c, h, w}, stride[4] = {h * w * ld, 1, w * ld, ld};
    bool has_no_memory = name >= VIRTUAL;
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_int(m, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, name);
    set_type(m, d, CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    set(m, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
    set(m, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set_int(m, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, align);
    set(m, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &has_no_memory);
    return finalize(m, d, "a tensor");
}

static cudnnBackendDescriptor_t input(graph *g, int64_t name, cudnnDataType_t type, int64_t ld) {
    const k_conv *s = &g->p->s;
    return rows(g->m, name, type, s->n, s->h, s->w, s->c, ld, g->p->align);
}

static cudnnBackendDescriptor_t output(graph *g, int64_t name, cudnnDataType_t type, int64_t ld) {
    const k_conv *s = &g->p->s;
    return rows(g->m, name, type, s->n, s->oh, s->ow, s->o, ld, g->p->align);
}

static cudnnBackendDescriptor_t channels(graph *g, int64_t name, cudnnDataType_t type, int64_t c) {
    return rows(g->m, name, type, 1, 1, 1, c, c, g->p->align);
}

static void add_operation(graph *g, cudnnBackendDescriptor_t d, const char *what) {
    g->operation[g->operations++] = finalize(g->m, d, what);
}

/* y = x + b, x * b or, without b, relu(x) */
static void add_pointwise(graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                          cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    maker *m = g->m;
    cudnnBackendDescriptor_t what = create(m, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(m, what, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_type(m, what, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    finalize(m, what, "a pointwise function");
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_object(m, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what);
    set_object(m, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) set_object(m, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    set_object(m, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add_operation(g, d, "a pointwise operation");
}

static cudnnBackendDescriptor_t window(graph *g) {
    maker *m = g->m;
    const k_conv *s = &g->p->s;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    int64_t stride[2] = {s->sh, s->sw}, padding[2] = {s->ph, s->pw}, dilation[2] = {s->dh, s->dw};
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_type(m, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    set(m, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_int(m, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(m, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(m, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    set(m, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    set(m, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    return finalize(m, d, "a convolution");
}

/* The three operations of a convolution have the same attributes under different names. */
static const struct {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
} directions[] = {
    [K_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [K_DATA_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [K_WEIGHT_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static void add_convolution(graph *g, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y) {
    maker *m = g->m;
    const k_conv *s = &g->p->s;
    int64_t c = s->c / s->groups;
    float alpha = 1, beta = 0;
    __typeof__(*directions) *a = &directions[g->p->direction];
    cudnnBackendDescriptor_t d = create(m, a->operation);
    set_object(m, d, a->window, window(g));
    set_object(m, d, a->x, x);
    set_object(m, d, a->w, rows(m, K_W, g->stored, s->o, s->kh, s->kw, c, c, g->p->align));
    set_object(m, d, a->y, y);
    set(m, d, a->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(m, d, a->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    add_operation(g, d, "a convolution's operation");
}

/* x * scale + shift, cut off at 0: what a batch norm and a ReLU before the convolution do. The
 * engines want it in the type of x. */
static cudnnBackendDescriptor_t add_norm(graph *g, cudnnBackendDescriptor_t x) {
    int64_t c = g->p->s.c;
    cudnnBackendDescriptor_t t[3];
    for (int i = 0; i < 3; i++) t[i] = input(g, g->next++, g->stored, c);
    add_pointwise(g, CUDNN_POINTWISE_MUL, x, channels(g, K_SCALE, g->stored, c), t[0]);
    add_pointwise(g, CUDNN_POINTWISE_ADD, t[0], channels(g, K_SHIFT, g->stored, c), t[1]);
    add_pointwise(g, CUDNN_POINTWISE_RELU_FWD, t[1], NULL, t[2]);
    return t[2];
}

/* The sums of y and of its squares over each channel, for batch norm's mean and variance. */
static void add_statistics(graph *g, cudnnBackendDescriptor_t y) {
    maker *m = g->m;
    cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    set(m, d, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
    set_type(m, d, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_DATA_FLOAT);
    set_object(m, d, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, y);
    set_object(m, d, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC,
               channels(g, K_SUM, CUDNN_DATA_FLOAT, g->p->s.o));
    set_object(m, d, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC,
               channels(g, K_SQUARES, CUDNN_DATA_FLOAT, g->p->s.o));
    add_operation(g, d, "batch norm's sums");
}

static cudnnBackendDescriptor_t make_graph(maker *m, const k_problem *p, k_place place) {
    graph g = {.m = m, .p = p, .next = VIRTUAL};
    g.stored = p->precision == K_MIXED_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    int bias = p->joined & K_BIAS, relu = p->joined & K_RELU;
    cudnnBackendDescriptor_t x = input(&g, K_X, g.stored, p->s.ldx);
    cudnnBackendDescriptor_t y = output(&g, K_Y, g.stored, p->s.ldy);
    if (p->joined & K_NORMED) x = add_norm(&g, x);
    cudnnBackendDescriptor_t sum = y, biased = y;
    if (bias && relu) biased = output(&g, g.next++, CUDNN_DATA_FLOAT, p->s.o);
    if (bias || relu) sum = output(&g, g.next++, CUDNN_DATA_FLOAT, p->s.o);
    add_convolution(&g, x, sum);
    if (bias) {
        cudnnBackendDescriptor_t b = channels(&g, K_BIAS_OF_Y, g.stored, p->s.o);
        add_pointwise(&g, CUDNN_POINTWISE_ADD, sum, b, biased);
    }
    if (relu) add_pointwise(&g, CUDNN_POINTWISE_RELU_FWD, bias ? biased : sum, NULL, y);
    if (p->joined & K_STATISTICS) add_statistics(&g, y);
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(m, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g.operations,
        g.operation);
    set_handle(m, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, place.handle);
    return finalize(m, d, "a graph");
}

/* ---------------------------------------------------------------------------------- the engines */

static int has(unsigned notes, int note) { return notes >> note & 1; }

static int acceptable(const k_problem *p, const k_plan *plan) {
    unsigned n = plan->numerics;
    if (p->deterministic && has(n, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return 0;
    if (!p->compiled && has(plan->behaviour, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)) return 0;
    if (has(n, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) ||
        has(n, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6) ||
        has(n, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13))
        return 0;
    if (p->precision == K_MIXED_BF16) return 1; /* its inputs cannot get narrower */
    if (has(n, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)) return 0;
    return p->precision != K_FP32 || !has(n, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
}

/* What the engine of a configuration is: its number and its notes. */
static void read_engine(cudnnBackendDescriptor_t config, k_plan *plan) {
    cudnnBackendDescriptor_t engine;
    cudnnBackendNumericalNote_t numeric[32];
    cudnnBackendBehaviorNote_t behaviour[32];
    plan->engine = -1;
    if (!get_objects(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1,
                     &engine))
        return;
    get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &plan->engine);
    int n = get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 32, numeric);
    for (int i = 0; i < n; i++) plan->numerics |= 1u << numeric[i];
    n = get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, 32, behaviour);
    for (int i = 0; i < n; i++) plan->behaviour |= 1u << behaviour[i];
    destroy(engine);
}

/* The plan of a configuration: 0 with plan->plan and its workspace, else -1. An engine that is
 * compiled for a card that is not here could be compiled, but not loaded by its driver, so it is
 * left at its configuration. */
static int make_plan(cudnnBackendDescriptor_t config, k_place place, k_plan *plan) {
    if (place.described && has(plan->behaviour, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION))
        return get(config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                   &plan->workspace) == 1
                   ? 0
                   : -1;
    maker m = {.why = NULL};
    cudnnBackendDescriptor_t d = create(&m, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_object(&m, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    set_handle(&m, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, place.handle);
    if (place.described) set_object(&m, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, place.described);
    finalize(&m, d, "a plan");
    if (!m.failed && get(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                         &plan->workspace) == 1) {
        plan->plan = d;
        return 0;
    }
    destroy_all(&m);
    return -1;
}

void k_free_plan(k_plan *plan) {
    destroy(plan->plan);
    destroy(plan->config);
    *plan = (k_plan){.plan = NULL};
}

typedef struct {
    const k_problem *p;
    k_place place;
    int64_t limit;
    int most, count, offered;
    k_plan *plans;
} search;

/* Takes from one mode of the heuristics what is acceptable and can be planned. */
static void search_mode(search *s, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                        maker *m) {
    cudnnBackendDescriptor_t config[OFFERS];
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_object(m, d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(m, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (s->place.described) set_object(m, d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, s->place.described);
    finalize(m, d, "heuristics");
    if (m->failed) return;
    int n = get_objects(d, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                        OFFERS, config);
    s->offered += n;
    for (int i = 0; i < n; i++) {
        k_plan plan = {.config = config[i]};
        if (s->count < s->most) {
            read_engine(config[i], &plan);
            if (acceptable(s->p, &plan) && !make_plan(config[i], s->place, &plan) &&
                plan.workspace <= s->limit) {
                s->plans[s->count++] = plan;
                continue;
            }
        }
        k_free_plan(&plan);
    }
}

/* Mode A sorts by the speed it expects, B by a slower model of it; FALLBACK is what always runs. */
static void search_modes(search *s, cudnnBackendDescriptor_t graph, maker *m) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    int kept = m->objects;
    for (int i = 0; i < 3 && !s->count; i++) {
        search_mode(s, graph, modes[i], m);
        while (m->objects > kept) destroy(m->object[--m->objects]);
        m->failed = 0; /* a mode without an answer */
    }
}

int k_find_plans(const k_problem *p, k_place place, int64_t limit, int most, k_plan *plans,
                 char *why, size_t n) {
    maker m = {.why = why, .n = n};
    search s = {.p = p, .place = place, .limit = limit, .most = most, .plans = plans};
    if (limit > K_PREFERRED_WORKSPACE) s.limit = K_PREFERRED_WORKSPACE;
    cudnnBackendDescriptor_t graph = make_graph(&m, p, place);
    int graph_failed = m.failed;
    if (!graph_failed) search_modes(&s, graph, &m);
    if (!graph_failed && !s.count && s.limit < limit) {
        s.limit = limit;
        search_modes(&s, graph, &m);
    }
    destroy_all(&m);
    if (!graph_failed && !s.count && why)
        snprintf(why, n,
                 s.offered ? "none that is offered fits the precision and the workspace"
                           : "none is offered");
    return s.count;
}

void k_fill_problem(k_problem *p, const k_conv *s, k_direction direction, int joined,
                    k_precision precision) {
    memset(p, 0, sizeof *p);
    p->s = *s;
    p->direction = direction, p->joined = joined;
    p->precision = precision == K_TF32_CONV ? K_TF32 : precision;
    p->deterministic = k_deterministic() != 0;
    p->align = 16;
    p->compiled = k_autotune() || joined & (K_STATISTICS | K_NORMED);
}

/* --------------------------------------------------------------------------- cards and words */

k_place k_describe_card(const char *json, char *why, size_t n) {
    maker m = {.why = why, .n = n};
    k_place place = {.handle = NULL};
    cudnnBackendDescriptor_t d = create(&m, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(&m, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json),
        json);
    finalize(&m, d, "the description of a card");
    if (m.failed)
        destroy_all(&m);
    else
        place.described = d;
    return place;
}

void k_forget_card(k_place *place) {
    destroy(place->described);
    place->described = NULL;
}

static void append(char *text, size_t n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t n, const char *format, ...) {
    size_t length = strlen(text);
    va_list list;
    va_start(list, format);
    vsnprintf(text + length, n - length, format, list);
    va_end(list);
}

/* The settings of an engine, as cuDNN numbers them. */
static void append_knobs(cudnnBackendDescriptor_t config, char *text, size_t n) {
    cudnnBackendDescriptor_t knob[CUDNN_KNOB_TYPE_COUNTS];
    int count = get_objects(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                            CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS, knob);
    for (int i = 0; i < count; i++) {
        cudnnBackendKnobType_t type = 0;
        int64_t value = 0;
        get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        append(text, n, "%s%d=%lld", i ? " " : " (knobs ", (int)type, (long long)value);
        destroy(knob[i]);
    }
    if (count) append(text, n, ")");
}

void k_describe_plan(const k_plan *plan, char *text, size_t n) {
    static const struct {
        int note;
        const char *words;
    } notes[] = {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, "tensor core"},
                 {CUDNN_NUMERICAL_NOTE_WINOGRAD, "Winograd"},
                 {CUDNN_NUMERICAL_NOTE_FFT, "FFT"},
                 {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, "not deterministic"}};
    snprintf(text, n, "engine %lld", (long long)plan->engine);
    append_knobs(plan->config, text, n);
    append(text, n, ", workspace %.1f MB", (double)plan->workspace / 1e6);
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (has(plan->numerics, notes[i].note)) append(text, n, ", %s", notes[i].words);
    if (has(plan->behaviour, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION))
        append(text, n, ", compiled when it is planned");
}

/* ------------------------------------------------------------------------------------- running */

int k_run_plan(const k_plan *plan, cudnnHandle_t handle, int tensors, const k_tensor *tensor,
               void *const *pointer, void *workspace, char *why, size_t n) {
    maker m = {.why = why, .n = n};
    int64_t name[16];
    for (int i = 0; i < tensors; i++) name[i] = tensor[i];
    cudnnBackendDescriptor_t d = create(&m, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&m, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, tensors, name);
    set(&m, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, tensors, pointer);
    set(&m, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&m, d, "its tensors");
    if (!m.failed) {
        cudnnStatus_t status = k_cudnn()->BackendExecute(handle, plan->plan, d);
        if (status != CUDNN_STATUS_SUCCESS) fail(&m, status, "running its plan");
    }
    destroy_all(&m);
    return m.failed ? -1 : 0;
}
