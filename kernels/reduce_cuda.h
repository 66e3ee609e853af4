/* reduce_cuda.h - what the reductions of reduce_cuda.cu fold, and what comes of it: sum, max, min,
 * argmax and var.
 *
 * Contract: reduce_generic.c says what NaN and ties do. Sums are folded 4 or 8 at a time in float
 * and those in double, so that their error does not grow with their length.
 *
 * Surprising: a fold does not know where its values lie; the gang of threads that calls it does. */
#ifndef CNN_REDUCE_CUDA_H
#define CNN_REDUCE_CUDA_H

#include "launch.h"

namespace {

/* ------------------------------------------------------------------------------- what is folded */

/* A fold: a state to start with, how it takes N values (at positions at, at + step, ...), how two
 * states merge, and a lane's state as another lane gets it. */

template <int N> __device__ inline float added(const float (&v)[N]) {
    float s[N];
    for (int k = 0; k < N; k++) s[k] = v[k];
    for (int h = N / 2; h; h /= 2)
        for (int k = 0; k < h; k++) s[k] += s[k + h];
    return s[0];
}

struct sum_fold {
    typedef double state;
    __device__ double none() const { return 0; }
    template <int N> __device__ void take(double &s, const float (&v)[N], int64_t, int64_t) const {
        s += (double)added(v);
    }
    __device__ double merge(double a, double b) const { return a + b; }
    __device__ double across(double s, int lanes) const {
        return __shfl_xor_sync(0xffffffffu, s, lanes);
    }
};

/* Squares of the distances from `mean`. */
struct squares_fold : sum_fold {
    float mean;
    template <int N> __device__ void take(double &s, const float (&v)[N], int64_t, int64_t) const {
        float q[N];
        for (int k = 0; k < N; k++) q[k] = (v[k] - mean) * (v[k] - mean);
        s += (double)added(q);
    }
};

/* The largest value times `sign`, 1 or -1. */
struct extreme_fold {
    typedef float state;
    float sign;
    __device__ float none() const { return -INFINITY; }
    template <int N> __device__ void take(float &s, const float (&v)[N], int64_t, int64_t) const {
        for (int k = 0; k < N; k++) s = merge(s, sign * v[k]);
    }
    __device__ float merge(float a, float b) const { return b > a || b != b ? b : a; }
    __device__ float across(float s, int lanes) const {
        return __shfl_xor_sync(0xffffffffu, s, lanes);
    }
};

struct place {
    float value;
    int64_t at;
};

struct argmax_fold {
    typedef place state;
    __device__ place none() const { return {-INFINITY, INT64_MAX}; }
    template <int N>
    __device__ void take(place &s, const float (&v)[N], int64_t at, int64_t step) const {
        for (int k = 0; k < N; k++) s = merge(s, {v[k], at + k * step});
    }
    __device__ place merge(place a, place b) const {
        bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        bool tie = a_nan ? b_nan : a.value == b.value;
        bool later = tie ? b.at < a.at : !a_nan && (b_nan || b.value > a.value);
        return later ? b : a;
    }
    __device__ place across(place s, int lanes) const {
        return {__shfl_xor_sync(0xffffffffu, s.value, lanes),
                __shfl_xor_sync(0xffffffffu, s.at, lanes)};
    }
};

/* Of a part's elements: how many, their mean, and the squares around it. Only merged. */
struct moments {
    double n, mean, squares;
};

struct moments_fold {
    typedef moments state;
    __device__ moments none() const { return {0, 0, 0}; }
    __device__ moments merge(moments a, moments b) const {
        double n = a.n + b.n, d = b.mean - a.mean;
        if (a.n == 0 || b.n == 0) return b.n == 0 ? a : b;
        return {n, a.mean + d * (b.n / n), a.squares + b.squares + d * d * (a.n * (b.n / n))};
    }
    __device__ moments across(moments s, int lanes) const {
        return {__shfl_xor_sync(0xffffffffu, s.n, lanes),
                __shfl_xor_sync(0xffffffffu, s.mean, lanes),
                __shfl_xor_sync(0xffffffffu, s.squares, lanes)};
    }
};

/* ----------------------------------------------------------------------------- what is computed */

/* An operation asks a gang of threads to fold a part of the reduced positions, once or `twice`;
 * each of its threads gets the state. States of parts are merged by `merger`. */

struct sum_op {
    typedef sum_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ double part(const G &gang) {
        return gang.fold(sum_fold());
    }
    static __device__ float answer(double s) { return (float)s; }
};

template <int SIGN> struct extreme_op {
    typedef extreme_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ float part(const G &gang) {
        extreme_fold f;
        f.sign = SIGN;
        return gang.fold(f);
    }
    static __device__ float answer(float s) { return SIGN * s; }
};
typedef extreme_op<1> max_op;
typedef extreme_op<-1> min_op;

struct argmax_op {
    typedef argmax_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ place part(const G &gang) {
        return gang.fold(argmax_fold());
    }
    static __device__ float answer(place s) { return (float)s.at; }
};

struct var_op { /* around the mean as a float; the square of what it is off is taken away again */
    typedef moments_fold merger;
    enum { twice = 1 };
    template <class G> static __device__ moments part(const G &gang) {
        double n = gang.count(), mean = gang.fold(sum_fold()) / n;
        squares_fold f;
        f.mean = (float)mean;
        double off = mean - (double)f.mean;
        return {n, mean, gang.fold(f) - n * (off * off)};
    }
    static __device__ float answer(moments m) {
        return m.squares < 0 ? 0 : (float)(m.squares / m.n);
    }
};

} // namespace

#endif
