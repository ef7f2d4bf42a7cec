/* What a layer with a softplus does to its arrays, in one pass over memory each: see kernels.py.

   Plain C, whose loops over columns compilers turn into vectors. Arrays are dense, (rows, columns), row after row, of
   single precision; those that are void here, of what the backward pass multiplies, of bfloat16 where half is 1. NaN and
   infinities come out as the formulas have them. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 64 /* rows of one sum: short sums lose few digits, and are the same for any number of threads */

typedef ptrdiff_t Index;

/* OpenMP's functions as this process has them already: a second runtime's threads would get in the way of the first's.
   GOMP_parallel is what compilers make of "omp parallel". Null where there is none. */
typedef void (*Parallel)(void (*work)(void *), void *task, unsigned threads, unsigned flags);
static Parallel parallel;
static int (*thread_number)(void);
static int (*thread_count)(void);

void use_openmp(Parallel region, int (*number)(void), int (*count)(void)) {
    parallel = region;
    thread_number = number;
    thread_count = count;
}

typedef struct Task {
    void (*work)(const struct Task *, Index from, Index to); /* on a range of rows, which begins with a block */
    Index rows, columns;
    float beta;
    const float *bias, *g, *s;
    const void *h_bar, *p, *p_bar;
    float *z, *h, *damped, *sums;
    void *kept, *bar;
} Task;

static Index first_row(const Task *t, Index share, Index shares) {
    const Index blocks = (t->rows + BLOCK - 1) / BLOCK, row = blocks * share / shares * BLOCK;
    return row < t->rows ? row : t->rows;
}

static void work_on_share(void *task) {
    const Task *t = task;
    const Index number = thread_number(), count = thread_count();
    t->work(t, first_row(t, number, count), first_row(t, number + 1, count));
}

static void run(Task *t, int threads) {
    if (parallel && threads > 1)
        parallel(work_on_share, t, (unsigned)threads, 0);
    else
        t->work(t, 0, t->rows);
}

/* exp(-a) for a >= 0, to 2e-7 of itself; 0 beyond the normal numbers (derived). With n the integer nearest to
   -a / log(2) and r = -a - n log(2) it is 2^n exp(r); log(2) is in two parts, of which n times the first is exact.
   exp(r) = 1 + r + r^2 q(r). Of q, as of the one below, the largest relative error is the smallest for its degree:
   least squares at Chebyshev points, each weighted again by its own error until these are level; here 3e-9. */
static inline float exp_of_minus(float a) {
    const float x = -(88.0f < a ? 88.0f : a);
    const float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23, beside which only n has place */
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float q = 1.38146128e-3f, power;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23; /* the exponent of 2^n; of 0 for n = -127 */
    memcpy(&power, &bits, sizeof power);
    q = q * r + 8.36871006e-3f;
    q = q * r + 4.16683890e-2f;
    q = q * r + 0.166665211f;
    q = q * r + 0.499999940f;
    return (q * (r * r) + r + 1.0f) * power;
}

/* log(1 + e) = e q(e) for 0 <= e <= 1, to 2e-7 of itself; the error of q is 5e-9. */
static inline float log_of_one_plus(float e) {
    float q = -3.24402330e-3f;
    q = q * e + 1.98514536e-2f;
    q = q * e - 5.69595173e-2f;
    q = q * e + 0.106036536f;
    q = q * e - 0.153055921f;
    q = q * e + 0.196759388f;
    q = q * e - 0.249541342f;
    q = q * e + 0.333299637f;
    q = q * e - 0.499999017f;
    q = q * e + 1.0f;
    return q * e;
}

/* bfloat16 is the upper half of a float. */
static inline float number(const void *array, Index k, int half) {
    float x;
    if (half) {
        const uint32_t bits = (uint32_t)((const uint16_t *)array)[k] << 16;
        memcpy(&x, &bits, sizeof x);
    } else
        x = ((const float *)array)[k];
    return x;
}

/* Rounded to the nearest, of two equally near ones to the even; NaN stays NaN. */
static inline void put(void *array, Index k, float x, int half) {
    if (half) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        ((uint16_t *)array)[k] = (uint16_t)(x == x ? bits : 0x7fc0u);
    } else
        ((float *)array)[k] = x;
}

static inline void rise_rows(const Task *t, Index from, Index to, int keep) {
    const float beta = t->beta, width = 1.0f / t->beta;
    const float *restrict bias = t->bias;
    for (Index i = from; i < to; i++) {
        float *restrict z = t->z + i * t->columns, *restrict h = t->h + i * t->columns;
        void *restrict kept = (uint16_t *)t->kept + i * t->columns;
        for (Index j = 0; j < t->columns; j++) {
            const float x = z[j] + bias[j], y = beta * x;
            const float e = exp_of_minus(fabsf(y)), s = 1.0f / (1.0f + e);
            h[j] = (x > 0.0f ? x : 0.0f) + width * log_of_one_plus(e);
            z[j] = y < 0.0f ? e * s : s;
            if (keep)
                put(kept, j, h[j], 1);
        }
    }
}

static void rise_only(const Task *t, Index from, Index to) { rise_rows(t, from, to, 0); }
static void rise_and_keep(const Task *t, Index from, Index to) { rise_rows(t, from, to, 1); }

/* With x = z + bias: h = log(1 + exp(beta x)) / beta and, in the place of z, s = 1 / (1 + exp(-beta x)), both from
   e = exp(-beta |x|). bias (columns). Where kept is not null it is h in bfloat16. */
void rise(float *z, const float *bias, float *h, void *kept, Index rows, Index columns, float beta, int threads) {
    Task t = {.work = kept ? rise_and_keep : rise_only, .rows = rows, .columns = columns, .beta = beta, .bias = bias,
              .z = z, .h = h, .kept = kept};
    run(&t, threads);
}

static void damp_rows(const Task *t, Index from, Index to) {
    const Index end = to * t->columns;
    const float *restrict g = t->g, *restrict s = t->s;
    float *restrict p = t->damped;
    void *restrict kept = t->kept;
    for (Index k = from * t->columns; k < end; k++) {
        p[k] = g[k] * s[k];
        put(kept, k, p[k], 1);
    }
}

/* p = g s, and kept, p in bfloat16. */
void damp(const float *g, const float *s, float *p, void *kept, Index rows, Index columns, int threads) {
    Task t = {.work = damp_rows, .rows = rows, .columns = columns, .g = g, .s = s, .damped = p, .kept = kept};
    run(&t, threads);
}

static void damp_bar_rows(const Task *t, Index from, Index to) {
    const Index end = to * t->columns;
    const float *restrict s = t->s;
    const void *restrict p_bar = t->p_bar;
    void *restrict g_bar = t->bar;
    for (Index k = from * t->columns; k < end; k++)
        put(g_bar, k, number(p_bar, k, 1) * s[k], 1);
}

/* g_bar = p_bar s, of bfloat16 both. */
void damp_bar(const void *p_bar, const float *s, void *g_bar, Index rows, Index columns, int threads) {
    Task t = {.work = damp_bar_rows, .rows = rows, .columns = columns, .s = s, .p_bar = p_bar, .bar = g_bar};
    run(&t, threads);
}

static inline void bend_rows(const Task *t, Index from, Index to, int half, int curved) {
    const float beta = t->beta;
    const Index size = half ? sizeof(uint16_t) : sizeof(float);
    for (Index i = from; i < to; i++) {
        const Index row = i * t->columns;
        const float *restrict s = t->s + row;
        const void *restrict h_bar = (const char *)t->h_bar + row * size;
        const void *restrict p = (const char *)t->p + row * size, *restrict p_bar = (const char *)t->p_bar + row * size;
        void *restrict z_bar = (char *)t->bar + row * size;
        float *restrict sums = t->sums + i / BLOCK * t->columns;
        if (i % BLOCK == 0)
            memset(sums, 0, (size_t)t->columns * sizeof *sums);
        for (Index j = 0; j < t->columns; j++) {
            float x = number(h_bar, j, half) * s[j];
            if (curved)
                x += beta * (1.0f - s[j]) * (number(p, j, half) * number(p_bar, j, half));
            put(z_bar, j, x, half);
            sums[j] += x;
        }
    }
}

static void bend_whole(const Task *t, Index from, Index to) { bend_rows(t, from, to, 0, 1); }
static void bend_half(const Task *t, Index from, Index to) { bend_rows(t, from, to, 1, 1); }
static void bend_straight(const Task *t, Index from, Index to) { bend_rows(t, from, to, 0, 0); }

/* z_bar = h_bar s + beta (1 - s) p p_bar, in single precision without the second term where p is null, and the sums of z_bar over each
   block of rows, (ceil(rows / BLOCK), columns). */
void bend(const void *h_bar, const float *s, const void *p, const void *p_bar, void *z_bar, float *sums, Index rows,
          Index columns, float beta, int half, int threads) {
    Task t = {.work = half ? bend_half : p ? bend_whole : bend_straight, .rows = rows, .columns = columns, .beta = beta,
              .h_bar = h_bar, .s = s, .p = p, .p_bar = p_bar, .bar = z_bar, .sums = sums};
    run(&t, threads);
}
