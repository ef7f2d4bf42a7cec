/* What a layer with a softplus does to arrays of single precision, in one pass over memory each: see kernels.py.

   Plain C, whose loops over columns compilers turn into vectors. Arrays are dense, (rows, columns), row after row. NaN
   and infinities come out as the formulas have them. */

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
    const float *bias, *h_bar, *s, *p, *p_bar;
    float *z, *h, *z_bar, *sums;
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

static void rise_rows(const Task *t, Index from, Index to) {
    const float beta = t->beta, width = 1.0f / t->beta;
    const float *restrict bias = t->bias;
    for (Index i = from; i < to; i++) {
        float *restrict z = t->z + i * t->columns, *restrict h = t->h + i * t->columns;
        for (Index j = 0; j < t->columns; j++) {
            const float x = z[j] + bias[j], y = beta * x;
            const float e = exp_of_minus(fabsf(y)), s = 1.0f / (1.0f + e);
            h[j] = (x > 0.0f ? x : 0.0f) + width * log_of_one_plus(e);
            z[j] = y < 0.0f ? e * s : s;
        }
    }
}

/* With x = z + bias: h = log(1 + exp(beta x)) / beta and, in the place of z, s = 1 / (1 + exp(-beta x)), both from
   e = exp(-beta |x|). bias (columns). */
void rise(float *z, const float *bias, float *h, Index rows, Index columns, float beta, int threads) {
    Task t = {.work = rise_rows, .rows = rows, .columns = columns, .beta = beta, .bias = bias, .z = z, .h = h};
    run(&t, threads);
}

static void bend_rows(const Task *t, Index from, Index to) {
    const float beta = t->beta;
    for (Index i = from; i < to; i++) {
        const Index row = i * t->columns;
        const float *restrict h_bar = t->h_bar + row, *restrict s = t->s + row;
        float *restrict z_bar = t->z_bar + row, *restrict sums = t->sums + i / BLOCK * t->columns;
        if (i % BLOCK == 0)
            memset(sums, 0, (size_t)t->columns * sizeof *sums);
        if (t->p) {
            const float *restrict p = t->p + row, *restrict p_bar = t->p_bar + row;
            for (Index j = 0; j < t->columns; j++) {
                z_bar[j] = h_bar[j] * s[j] + beta * (1.0f - s[j]) * (p[j] * p_bar[j]);
                sums[j] += z_bar[j];
            }
        } else {
            for (Index j = 0; j < t->columns; j++) {
                z_bar[j] = h_bar[j] * s[j];
                sums[j] += z_bar[j];
            }
        }
    }
}

/* z_bar = h_bar s + beta (1 - s) p p_bar, without the second term where p is null, and the sums of z_bar over each
   block of rows, (ceil(rows / BLOCK), columns). */
void bend(const float *h_bar, const float *s, const float *p, const float *p_bar, float *z_bar, float *sums, Index rows,
          Index columns, float beta, int threads) {
    Task t = {.work = bend_rows, .rows = rows, .columns = columns, .beta = beta, .h_bar = h_bar, .s = s, .p = p,
              .p_bar = p_bar, .z_bar = z_bar, .sums = sums};
    run(&t, threads);
}
