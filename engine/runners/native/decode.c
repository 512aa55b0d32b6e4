/* One decode step of min-dalle's decoder on an x86 CPU with AVX-512 and VNNI.
 *
 * A step is one pass over the weights, so its least time is what reading them takes. Nothing is copied, the threads share the
 * work in small pieces, and between two pieces they only wait for each other. Each result is summed in an order that depends on
 * neither the other rows nor the threads: a row is the same to the bit in any batch.
 *
 * Rows, not images: an image has two, unconditional and conditional. Layouts are what layout.py packs.
 */
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES 16      /* floats in a register */
#define GROUP 128     /* inputs that share a scale when they are rounded to 8 bits, and weights of 4 bits */
#define TALL 18       /* rows that are computed together at most, */
#define WIDE 4        /* and panels: 16 output channels, a register, each */
#define STRIDE 4160   /* from one row's inputs to the next: known to the compiler, addresses cost nothing; not a power of two, for the cache */
#define GROUPS (STRIDE / GROUP)
#define AHEAD 2048    /* bytes: how far ahead weights are asked for */
#define LONGEST 256   /* positions that are attended to */
#define READ_AT_ONCE (1 << 18)
#define SPINS 2000    /* looks at a flag before the core is offered to others */
#define ALWAYS static inline __attribute__((always_inline))

enum { FLOATS, HALVES, BFLOATS, INT8, INT4 };

typedef struct {
    int32_t kind, inputs, outputs, groups; /* inputs of INT8 and INT4 are filled up to whole groups */
    const uint8_t *weights;                /* panels of LANES output channels, a multiple of WIDE */
    const float *scales;                   /* INT8: [outputs]; INT4: [panels, groups, LANES] */
    const uint8_t *zeros;                  /* INT4: [panels, groups, LANES] */
} Product;

typedef struct {
    const float *scale, *bias;
} Norm;

typedef struct {
    Norm before_self, after_self, before_text, after_text, glu_in, glu_middle;
    Product self_qkv, self_out, text_query, text_out, glu_gates, glu_out;
} Layer;

typedef struct {
    int32_t width, heads, middle, layer_count, own_length, kept; /* kept: how keys and values are */
    float epsilon;
    Norm embedding_norm, final_norm;
    Product head;
    const Layer *layers;
} Model;

/* What the rows of one step are: their state [rows, width], positions, and where their keys and values lie. */
typedef struct {
    int32_t count;
    const float *embedded;
    const int32_t *positions, *text_lengths;
    uint8_t *const *own, *const *text;
    float *logits; /* [rows, outputs of the head, filled up to whole panels] */
} Rows;

/* What lies between two products. */
typedef struct {
    int32_t capacity, widest_out;
    float *state, *inputs, *outputs, *mixed; /* [rows, width | STRIDE | widest_out | width] */
    int8_t *rounded;                         /* [rows, STRIDE]: the inputs, where they are rounded, */
    float *scales;                           /* [rows, GROUPS]: by what, */
    int32_t *sums;                           /* [rows, GROUPS]: and each group's sum */
} Space;

/* What a step's time is spent on. */
enum { ROWS, SELF_PRODUCTS, SELF_ATTENTION, TEXT_PRODUCTS, TEXT_ATTENTION, GLU_PRODUCTS, LOGITS, KINDS };

typedef struct {
    int32_t count; /* of threads, the caller's included */
    _Alignas(64) atomic_int next;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase;
    _Alignas(64) atomic_uint asked; /* steps asked for so far */
    atomic_int is_closed;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t *threads;
    const Model *model;
    const Rows *rows;        /* of the step asked for, or NULL: then memory is read */
    const uint8_t *memory;
    size_t memory_size;
    double seconds[KINDS], last; /* of all steps so far, on the caller's thread; when it last looked at the clock */
    Space space;
} Team;

static int least(int a, int b) { return a < b ? a : b; }
static int whole(int count, int unit) { return (count + unit - 1) / unit * unit; }

/* ---- threads ---- */

static void wait_for_change(atomic_uint *flag, unsigned known) {
    for (int spins = 0; atomic_load_explicit(flag, memory_order_acquire) == known; spins++) {
        _mm_pause();
        if (spins >= SPINS) sched_yield();
    }
}

static void meet(Team *team) {
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->count) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
    } else {
        wait_for_change(&team->phase, phase);
    }
}

static int take(Team *team, int count) {
    int next = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
    return next < count ? next : -1;
}

/* Do a statement for each of `count` pieces, shared among the threads; all are done when it ends. */
#define SHARE(team, piece, count)                                                       \
    for (int done_ = 0; !done_; meet(team), done_ = 1)                                  \
        for (int piece; (piece = take(team, count)) >= 0;)

/* ---- functions of a register ---- */

/* Cephes' expf: 2 units in the last place. */
ALWAYS __m512 exp_of(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
    __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    x = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693359375f), x);
    x = _mm512_fnmadd_ps(power, _mm512_set1_ps(-2.12194440e-4f), x);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_fmadd_ps(y, _mm512_mul_ps(x, x), _mm512_add_ps(x, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(y, power);
}

/* x / 2 (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
ALWAYS __m512 gelu(__m512 x) {
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678118654752f));
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    y = _mm512_mul_ps(_mm512_mul_ps(y, t), exp_of(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
    __m512 erf = _mm512_sub_ps(one, y); /* of |x| */
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    erf = _mm512_mask_sub_ps(erf, negative, _mm512_setzero_ps(), erf);
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), _mm512_add_ps(one, erf));
}

ALWAYS __mmask16 lanes(int left) { return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1); }

/* ---- rows: what lies between products ---- */

/* Normalise as torch.nn.LayerNorm; in place if `out` is `x`. */
static void normalise(const float *x, int count, Norm norm, float epsilon, float *out) {
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int i = 0; i < count; i += LANES) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes(count - i), x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lanes(count - i);
        __m512 centred = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + i), mean);
        squares = _mm512_fmadd_ps(centred, centred, squares);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / count + epsilon));
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lanes(count - i);
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), mean), factor);
        y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(mask, norm.scale + i), _mm512_maskz_loadu_ps(mask, norm.bias + i));
        _mm512_mask_storeu_ps(out + i, mask, y);
    }
}

static void add(float *state, const float *x, int count) {
    for (int i = 0; i < count; i++) state[i] += x[i];
}

static void gate(const float *gates, int count, float *out) {
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lanes(count - i);
        __m512 value = _mm512_maskz_loadu_ps(mask, gates + count + i);
        _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(gelu(_mm512_maskz_loadu_ps(mask, gates + i)), value));
    }
}

/* Round a row, each group by a scale of its own. */
static void round_row(Space *space, int row, const Product *product, int count) {
    float *x = space->inputs + (size_t)row * STRIDE;
    int8_t *rounded = space->rounded + (size_t)row * STRIDE;
    for (int i = count; i < product->inputs; i++) x[i] = 0;
    for (int group = 0; group < product->groups; group++) {
        __m512 largest = _mm512_setzero_ps();
        for (int i = 0; i < GROUP; i += LANES)
            largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + group * GROUP + i)));
        float scale = fmaxf(_mm512_reduce_max_ps(largest) / 127, 1e-30f);
        __m512 inverse = _mm512_set1_ps(1 / scale);
        __m512i sum = _mm512_setzero_si512();
        for (int i = 0; i < GROUP; i += LANES) {
            __m512i y = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + group * GROUP + i), inverse));
            sum = _mm512_add_epi32(sum, y);
            _mm_storeu_si128((__m128i *)(rounded + group * GROUP + i), _mm512_cvtsepi32_epi8(y));
        }
        space->scales[row * GROUPS + group] = scale;
        space->sums[row * GROUPS + group] = _mm512_reduce_add_epi32(sum);
    }
}

/* ---- products: some panels of output channels at once, for some rows at once ---- */

/* What rows are multiplied by: as they are or rounded, and of the rounded ones the scale and sum of each group. */
typedef struct {
    const float *x;
    const int8_t *rounded;
    const float *scales;
    const int32_t *sums;
} Inputs;

ALWAYS void ask_ahead(const uint8_t *weights) { _mm_prefetch((const char *)weights + AHEAD, _MM_HINT_T0); }

ALWAYS __m512 widen(int kind, const uint8_t *weights, int at) {
    if (kind == FLOATS) return _mm512_loadu_ps((const float *)weights + at);
    __m256i short_ones = _mm256_loadu_si256((const __m256i *)((const uint16_t *)weights + at));
    if (kind == HALVES) return _mm512_cvtph_ps(short_ones);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(short_ones), 16));
}

ALWAYS void multiply_floats(int kind, int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t size = kind == FLOATS ? 4 : 2, stride = size * LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int i = 0; i < product->inputs; i += 2) { /* two, because two of 16 bits fill a cache line */
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            ask_ahead(weights + p * stride + size * LANES * i);
            if (kind == FLOATS) ask_ahead(weights + p * stride + size * LANES * (i + 1));
        }
#pragma GCC unroll 2
        for (int j = i; j < i + 2; j++) {
            __m512 weight[WIDE];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) weight[p] = widen(kind, weights + p * stride, j * LANES);
#pragma GCC unroll 18
            for (int r = 0; r < rows; r++) {
                __m512 input = _mm512_set1_ps(in.x[r * STRIDE + j]);
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++) sums[r][p] = _mm512_fmadd_ps(weight[p], input, sums[r][p]);
            }
        }
    }
}

ALWAYS __m512i four_inputs(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

/* Weights 0 to 255 stand for -128 to 127: what that adds is taken away beforehand. */
ALWAYS void multiply_int8(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t stride = (size_t)LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[TALL][WIDE];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_set1_epi32(-128 * in.sums[r * GROUPS + group]);
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 4, weights += 4 * LANES) {
            __m512i weight[WIDE];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) {
                ask_ahead(weights + p * stride);
                weight[p] = _mm512_loadu_si512(weights + p * stride);
            }
#pragma GCC unroll 18
            for (int r = 0; r < rows; r++) {
                __m512i input = four_inputs(in.rounded + r * STRIDE + i);
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++) dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], weight[p], input);
            }
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * GROUPS + group]);
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) sums[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), scale, sums[r][p]);
        }
    }
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            sums[r][p] = _mm512_mul_ps(sums[r][p], _mm512_loadu_ps(product->scales + (panel + p) * LANES));
}

ALWAYS __m512 bytes_as_floats(const uint8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

ALWAYS void multiply_int4(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t stride = (size_t)LANES * product->inputs / 2;
    const uint8_t *weights = product->weights + panel * stride;
    __m512i low_bits = _mm512_set1_epi8(15);
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[TALL][WIDE];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_setzero_si512();
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 8, weights += 4 * LANES) {
            __m512i both[WIDE];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) {
                ask_ahead(weights + p * stride);
                both[p] = _mm512_loadu_si512(weights + p * stride);
            }
#pragma GCC unroll 2
            for (int high = 0; high < 2; high++) {
                __m512i weight[WIDE];
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++)
                    weight[p] = _mm512_and_si512(high ? _mm512_srli_epi16(both[p], 4) : both[p], low_bits);
#pragma GCC unroll 18
                for (int r = 0; r < rows; r++) {
                    __m512i input = four_inputs(in.rounded + r * STRIDE + i + 4 * high);
#pragma GCC unroll 4
                    for (int p = 0; p < panels; p++) dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], weight[p], input);
                }
            }
        }
        __m512 zero[WIDE], weight_scale[WIDE];
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            size_t about = ((size_t)(panel + p) * product->groups + group) * LANES;
            zero[p] = bytes_as_floats(product->zeros + about);
            weight_scale[p] = _mm512_loadu_ps(product->scales + about);
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * GROUPS + group]);
            __m512 sum = _mm512_set1_ps((float)in.sums[r * GROUPS + group]);
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) {
                __m512 dot = _mm512_fnmadd_ps(zero[p], sum, _mm512_cvtepi32_ps(dots[r][p])); /* exact */
                sums[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(dot, weight_scale[p]), scale, sums[r][p]);
            }
        }
    }
}

/* The compiler knows the numbers of rows and panels, and keeps the sums in registers. */
ALWAYS void multiply_tile(int rows, int panels, const Product *product, int panel, Inputs in, float *out, int out_stride) {
    __m512 sums[TALL][WIDE];
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) sums[r][p] = _mm512_setzero_ps();
    switch (product->kind) {
    case FLOATS: multiply_floats(FLOATS, rows, panels, product, panel, in, sums); break;
    case HALVES: multiply_floats(HALVES, rows, panels, product, panel, in, sums); break;
    case BFLOATS: multiply_floats(BFLOATS, rows, panels, product, panel, in, sums); break;
    case INT8: multiply_int8(rows, panels, product, panel, in, sums); break;
    case INT4: multiply_int4(rows, panels, product, panel, in, sums); break;
    }
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) _mm512_storeu_ps(out + (size_t)r * out_stride + p * LANES, sums[r][p]);
}

/* Few rows take many panels at once, many rows few: the sums are at most 18 of 32 registers. */
static void multiply_panels(const Product *product, int panel, const Space *space, int rows, float *out, int out_stride) {
    int most = product->kind >= INT8 ? TALL : TALL / 2; /* floats are widened for each panel: not for one alone */
    int tiles = (rows + most - 1) / most, tile = (rows + tiles - 1) / tiles;
    for (int row = 0; row < rows; row += tile) {
        int count = least(tile, rows - row), panels = count <= 4 ? 4 : count <= 9 ? 2 : 1;
        size_t at = (size_t)row * STRIDE;
        Inputs in = {space->inputs + at, space->rounded + at, space->scales + row * GROUPS, space->sums + row * GROUPS};
        for (int p = 0; p < WIDE; p += panels) {
            float *to = out + (size_t)row * out_stride + (panel + p) * LANES;
#define CASE(count, panels) case count: multiply_tile(count, panels, product, panel + p, in, to, out_stride); break;
            switch (count) {
                CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(4, 4)
                CASE(5, 2) CASE(6, 2) CASE(7, 2) CASE(8, 2) CASE(9, 2)
                CASE(10, 1) CASE(11, 1) CASE(12, 1) CASE(13, 1) CASE(14, 1) CASE(15, 1) CASE(16, 1) CASE(17, 1) CASE(18, 1)
            }
#undef CASE
        }
    }
}

static void multiply(Team *team, const Product *product, float *out, int out_stride) {
    SHARE(team, piece, whole(product->outputs, WIDE * LANES) / (WIDE * LANES)) {
        multiply_panels(product, piece * WIDE, &team->space, team->rows->count, out, out_stride);
    }
}

/* ---- keys and values, and attention: one query for a row and a head ---- */

/* How a model keeps keys and values. */
enum { AS_FLOATS, AS_HALVES, AS_INT8 };

/* A head's keys and values lie in blocks of 16 positions: keys [head width, 16], then values [16, head width], then, where they are
 * rounded, what each position's are multiplied by: 16 floats for the keys, 16 for the values. So one stream of memory serves all,
 * and 16 scores are summed side by side. */
ALWAYS size_t part_bytes(int kept, int width) { return (size_t)LANES * width * (kept == AS_FLOATS ? 4 : kept == AS_HALVES ? 2 : 1); }

ALWAYS size_t block_bytes(int kept, int width) { return 2 * part_bytes(kept, width) + (kept == AS_INT8 ? 2 * LANES * 4 : 0); }

static size_t head_at(const Model *model, int layer, int head, int length) {
    size_t bytes = block_bytes(model->kept, model->width / model->heads);
    return ((size_t)layer * model->heads + head) * (whole(length, LANES) / LANES) * bytes;
}

ALWAYS __m512 load(int kept, const uint8_t *part, int at) {
    if (kept == AS_FLOATS) return _mm512_loadu_ps((const float *)part + at);
    if (kept == AS_HALVES) return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)part + at)));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(part + at))));
}

/* Return what 127 stands for 1 of. */
static float scale_of(const float *x, int count) {
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < count; i += LANES) largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    return fmaxf(_mm512_reduce_max_ps(largest) / 127, 1e-30f);
}

/* Write 16 numbers in the form that they are kept in. */
ALWAYS void shorten(int kept, const float *x, __m512 factor, uint8_t *to) {
    __m512 numbers = _mm512_loadu_ps(x);
    if (kept == AS_FLOATS) _mm512_storeu_ps(to, numbers);
    else if (kept == AS_HALVES) _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(numbers, 0));
    else _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(numbers, factor))));
}

ALWAYS void keep(int kept, int width, uint8_t *head, int position, const float *keys, const float *values) {
    int lane = position % LANES;
    size_t part = part_bytes(kept, width), size = part / LANES / width;
    uint8_t *block = head + position / LANES * block_bytes(kept, width);
    __m512 key_factor = _mm512_setzero_ps(), value_factor = key_factor;
    if (kept == AS_INT8) {
        float *scales = (float *)(block + 2 * part);
        scales[lane] = scale_of(keys, width), scales[LANES + lane] = scale_of(values, width);
        key_factor = _mm512_set1_ps(1 / scales[lane]), value_factor = _mm512_set1_ps(1 / scales[LANES + lane]);
    }
    for (int j = 0; j < width; j += LANES) {
        uint8_t column[LANES * 4];
        shorten(kept, keys + j, key_factor, column);
        for (int k = 0; k < LANES; k++) memcpy(block + ((j + k) * LANES + lane) * size, column + k * size, size);
        shorten(kept, values + j, value_factor, block + part + (lane * width + j) * size);
    }
}

/* Sum the values by their weights, in some registers from the j-th number on. */
ALWAYS void mix(int kept, int registers, int width, const uint8_t *cached, int j, const float *weights, int length, __m512 factor,
                float *out) {
    __m512 sums[2][2] = {{_mm512_setzero_ps(), _mm512_setzero_ps()}, {_mm512_setzero_ps(), _mm512_setzero_ps()}};
    for (int first = 0; first < length; first += LANES) {
        const uint8_t *values = cached + first / LANES * block_bytes(kept, width) + part_bytes(kept, width);
        for (int i = 0; i < least(LANES, length - first); i++) {
            __m512 weight = _mm512_set1_ps(weights[first + i]), *to = sums[i % 2];
#pragma GCC unroll 2
            for (int r = 0; r < registers; r++)
                to[r] = _mm512_fmadd_ps(load(kept, values, i * width + j + r * LANES), weight, to[r]);
        }
    }
    for (int r = 0; r < registers; r++)
        _mm512_storeu_ps(out + j + r * LANES, _mm512_mul_ps(_mm512_add_ps(sums[0][r], sums[1][r]), factor));
}

/* Attend to a head's first `length` positions. */
ALWAYS void attend(int kept, int width, const float *query, const uint8_t *cached, int length, float *out) {
    size_t bytes = block_bytes(kept, width), part = part_bytes(kept, width);
    float weights[LONGEST];
    __m512 scale = _mm512_set1_ps(1 / sqrtf((float)width)), largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    const uint8_t *block = cached;
    for (int i = 0; i < length; i += LANES, block += bytes) {
        __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int j = 0; j < width; j += 4) {
            const char *line = (const char *)block + j * part / width;
            for (size_t ahead = 0; ahead < 4 * part / width; ahead += 64) {
                _mm_prefetch(line + part + ahead, _MM_HINT_T0);  /* this block's values */
                _mm_prefetch(line + bytes + ahead, _MM_HINT_T0); /* the next block's keys */
            }
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                sums[k % 2] = _mm512_fmadd_ps(load(kept, block, (j + k) * LANES), _mm512_set1_ps(query[j + k]), sums[k % 2]);
        }
        __m512 score = _mm512_mul_ps(_mm512_add_ps(sums[0], sums[1]), scale);
        if (kept == AS_INT8) score = _mm512_mul_ps(score, _mm512_loadu_ps(block + 2 * part));
        score = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), lanes(length - i), score);
        largest = _mm512_max_ps(largest, score);
        _mm512_storeu_ps(weights + i, score);
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    block = cached;
    for (int i = 0; i < length; i += LANES, block += bytes) {
        __m512 weight = exp_of(_mm512_sub_ps(_mm512_loadu_ps(weights + i), largest));
        weight = _mm512_maskz_mov_ps(lanes(length - i), weight);
        sum = _mm512_add_ps(sum, weight);
        if (kept == AS_INT8) weight = _mm512_mul_ps(weight, _mm512_loadu_ps(block + 2 * part + LANES * 4));
        _mm512_storeu_ps(weights + i, weight);
    }
    __m512 factor = _mm512_set1_ps(1 / _mm512_reduce_add_ps(sum));
    int j = 0;
    for (; j + 2 * LANES <= width; j += 2 * LANES) mix(kept, 2, width, cached, j, weights, length, factor, out);
    for (; j < width; j += LANES) mix(kept, 1, width, cached, j, weights, length, factor, out);
}

ALWAYS void attend_row(int kept, Team *team, int layer, int to_text, int row, int head) {
    const Model *model = team->model;
    const Rows *rows = team->rows;
    int width = model->width / model->heads;
    const float *query = team->space.outputs + (size_t)row * team->space.widest_out + head * width;
    float *out = team->space.mixed + (size_t)row * model->width + head * width;
    if (to_text) {
        int length = rows->text_lengths[row];
        attend(kept, width, query, rows->text[row] + head_at(model, layer, head, length), length, out);
    } else {
        uint8_t *own = rows->own[row] + head_at(model, layer, head, model->own_length);
        keep(kept, width, own, rows->positions[row], query + model->width, query + 2 * model->width);
        attend(kept, width, query, own, rows->positions[row] + 1, out);
    }
}

static void attend_all(Team *team, int layer, int to_text) {
    int heads = team->model->heads;
    SHARE(team, piece, team->rows->count * heads) {
        int row = piece / heads, head = piece % heads;
        switch (team->model->kept) {
        case AS_FLOATS: attend_row(AS_FLOATS, team, layer, to_text, row, head); break;
        case AS_HALVES: attend_row(AS_HALVES, team, layer, to_text, row, head); break;
        case AS_INT8: attend_row(AS_INT8, team, layer, to_text, row, head); break;
        }
    }
}

/* ---- the step ---- */

static float *row_of(float *array, int row, int stride) { return array + (size_t)row * stride; }

/* Give a row to a product: normalised if there is a norm. */
static void hand_over(Team *team, int row, const float *x, int count, const Norm *norm, const Product *product) {
    float *input = row_of(team->space.inputs, row, STRIDE);
    if (norm) normalise(x, count, *norm, team->model->epsilon, input);
    else memcpy(input, x, count * sizeof(float));
    if (product->kind >= INT8) round_row(&team->space, row, product, count);
}

static void add_normalised(Team *team, int row, const Norm *norm) {
    int width = team->model->width;
    float *x = row_of(team->space.outputs, row, team->space.widest_out);
    normalise(x, width, *norm, team->model->epsilon, x);
    add(row_of(team->space.state, row, width), x, width);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Add the time since the last look to what was done in it. */
static void note(Team *team, int is_caller, int kind) {
    if (!is_caller) return;
    double time = now();
    if (kind < KINDS) team->seconds[kind] += time - team->last;
    team->last = time;
}

/* All threads run this, side by side. */
static void run_step(Team *team, int is_caller) {
    const Model *model = team->model;
    const Rows *rows = team->rows;
    Space *space = &team->space;
    int width = model->width, out = space->widest_out;
    note(team, is_caller, KINDS);
    for (int index = 0; index < model->layer_count; index++) {
        const Layer *layer = &model->layers[index];
        SHARE(team, row, rows->count) {
            float *state = row_of(space->state, row, width);
            if (index == 0) normalise(rows->embedded + (size_t)row * width, width, model->embedding_norm, model->epsilon, state);
            else add(state, row_of(space->outputs, row, out), width);
            hand_over(team, row, state, width, &layer->before_self, &layer->self_qkv);
        }
        note(team, is_caller, ROWS);
        multiply(team, &layer->self_qkv, space->outputs, out);
        note(team, is_caller, SELF_PRODUCTS);
        attend_all(team, index, 0);
        note(team, is_caller, SELF_ATTENTION);
        SHARE(team, row, rows->count) hand_over(team, row, row_of(space->mixed, row, width), width, NULL, &layer->self_out);
        note(team, is_caller, ROWS);
        multiply(team, &layer->self_out, space->outputs, out);
        note(team, is_caller, SELF_PRODUCTS);
        SHARE(team, row, rows->count) {
            add_normalised(team, row, &layer->after_self);
            hand_over(team, row, row_of(space->state, row, width), width, &layer->before_text, &layer->text_query);
        }
        note(team, is_caller, ROWS);
        multiply(team, &layer->text_query, space->outputs, out);
        note(team, is_caller, TEXT_PRODUCTS);
        attend_all(team, index, 1);
        note(team, is_caller, TEXT_ATTENTION);
        SHARE(team, row, rows->count) hand_over(team, row, row_of(space->mixed, row, width), width, NULL, &layer->text_out);
        note(team, is_caller, ROWS);
        multiply(team, &layer->text_out, space->outputs, out);
        note(team, is_caller, TEXT_PRODUCTS);
        SHARE(team, row, rows->count) {
            add_normalised(team, row, &layer->after_text);
            hand_over(team, row, row_of(space->state, row, width), width, &layer->glu_in, &layer->glu_gates);
        }
        note(team, is_caller, ROWS);
        multiply(team, &layer->glu_gates, space->outputs, out);
        note(team, is_caller, GLU_PRODUCTS);
        SHARE(team, row, rows->count) {
            float *middle = row_of(space->inputs, row, STRIDE);
            gate(row_of(space->outputs, row, out), model->middle, middle);
            normalise(middle, model->middle, layer->glu_middle, model->epsilon, middle);
            if (layer->glu_out.kind >= INT8) round_row(space, row, &layer->glu_out, model->middle);
        }
        note(team, is_caller, ROWS);
        multiply(team, &layer->glu_out, space->outputs, out);
        note(team, is_caller, GLU_PRODUCTS);
    }
    SHARE(team, row, rows->count) {
        float *state = row_of(space->state, row, width);
        add(state, row_of(space->outputs, row, out), width);
        hand_over(team, row, state, width, &model->final_norm, &model->head);
    }
    note(team, is_caller, ROWS);
    multiply(team, &model->head, rows->logits, whole(model->head.outputs, WIDE * LANES));
    note(team, is_caller, LOGITS);
}

/* Read memory as fast as can be: what bounds a step. */
static void read_memory(Team *team) {
    size_t pieces = team->memory_size / READ_AT_ONCE;
    SHARE(team, piece, (int)pieces) {
        const uint8_t *from = team->memory + piece * (size_t)READ_AT_ONCE;
        __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (size_t i = 0; i < READ_AT_ONCE; i += 256)
            for (int j = 0; j < 4; j++) {
                ask_ahead(from + i + 64 * j);
                sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(from + i + 64 * j));
            }
        volatile int64_t kept = _mm512_reduce_add_epi64(sums[0]) + _mm512_reduce_add_epi64(sums[1]) +
                                _mm512_reduce_add_epi64(sums[2]) + _mm512_reduce_add_epi64(sums[3]);
        (void)kept;
    }
}

static void run(Team *team, int is_caller) {
    if (team->rows) run_step(team, is_caller);
    else read_memory(team);
}

static void *work(void *argument) {
    Team *team = argument;
    for (unsigned seen = 0;; seen++) {
        for (int spins = 0; atomic_load_explicit(&team->asked, memory_order_acquire) == seen && spins < SPINS; spins++) _mm_pause();
        pthread_mutex_lock(&team->mutex);
        while (atomic_load(&team->asked) == seen) pthread_cond_wait(&team->wake, &team->mutex);
        pthread_mutex_unlock(&team->mutex);
        if (atomic_load(&team->is_closed)) return NULL;
        run(team, 0);
    }
}

static void wake_all(Team *team) {
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->asked, 1);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

static void *reserve(void *old, size_t bytes) {
    free(old);
    return aligned_alloc(64, whole(bytes, 64));
}

static int widest(const Model *model) {
    int gates = 2 * model->middle, projected = 3 * model->width;
    return whole(gates > projected ? gates : projected, WIDE * LANES);
}

/* Make room for rows; return 0 where memory doesn't suffice. */
static int make_room(Team *team, int rows) {
    Space *space = &team->space;
    if (rows <= space->capacity) return 1;
    size_t in = (size_t)rows * STRIDE, out = (size_t)rows * space->widest_out, state = (size_t)rows * team->model->width;
    space->capacity = 0;
    space->state = reserve(space->state, 4 * state);
    space->mixed = reserve(space->mixed, 4 * state);
    space->inputs = reserve(space->inputs, 4 * in);
    space->outputs = reserve(space->outputs, 4 * out);
    space->rounded = reserve(space->rounded, in);
    space->scales = reserve(space->scales, 4 * rows * GROUPS);
    space->sums = reserve(space->sums, 4 * rows * GROUPS);
    if (!(space->state && space->mixed && space->inputs && space->outputs && space->rounded && space->scales && space->sums))
        return 0;
    space->capacity = rows;
    return 1;
}

/* Start the threads that decode a model, which must live as long; NULL where there are none to be had. */
Team *open_team(const Model *model, int32_t threads) {
    Team *team = aligned_alloc(64, whole(sizeof(Team), 64));
    if (!team) return NULL;
    memset(team, 0, sizeof(Team));
    team->count = 1;
    team->model = model;
    team->space.widest_out = widest(model);
    team->threads = calloc(threads, sizeof(pthread_t));
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    while (team->threads && team->count < threads && !pthread_create(&team->threads[team->count], NULL, work, team)) team->count++;
    return team;
}

void close_team(Team *team) {
    atomic_store(&team->is_closed, 1);
    wake_all(team);
    for (int i = 1; i < team->count; i++) pthread_join(team->threads[i], NULL);
    void *parts[] = {team->space.state, team->space.mixed, team->space.inputs, team->space.outputs, team->space.rounded,
                     team->space.scales, team->space.sums, team->threads};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) free(parts[i]);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->wake);
    free(team);
}

/* Decode one token a row; return 0, or 1 where memory doesn't suffice. One caller at a time. */
int32_t decode_step(Team *team, const Rows *rows) {
    if (!make_room(team, rows->count)) return 1;
    team->rows = rows;
    wake_all(team);
    run(team, 1);
    return 0;
}

/* Return the seconds that all steps so far took, by what they were spent on. */
const double *seconds_spent(const Team *team) { return team->seconds; }

/* Read memory with all threads; return the seconds that it took. */
double time_reading(Team *team, const uint8_t *memory, size_t size) {
    team->rows = NULL, team->memory = memory, team->memory_size = size;
    double started = now();
    wake_all(team);
    run(team, 1);
    return now() - started;
}

/* Return what the keys and values of so many positions take, in bytes. */
size_t cache_size(const Model *model, int32_t length) { return head_at(model, model->layer_count, 0, length); }

/* Keep a prompt's keys and values, [2 layers, length, width]. */
void keep_text(const Model *model, const float *keys_values, int32_t length, uint8_t *cache) {
    size_t part = (size_t)length * model->width;
    int width = model->width / model->heads;
    for (int layer = 0; layer < model->layer_count; layer++)
        for (int head = 0; head < model->heads; head++)
            for (int i = 0; i < length; i++) {
                const float *keys = keys_values + 2 * layer * part + (size_t)i * model->width + head * width;
                uint8_t *to = cache + head_at(model, layer, head, length);
                switch (model->kept) {
                case AS_FLOATS: keep(AS_FLOATS, width, to, i, keys, keys + part); break;
                case AS_HALVES: keep(AS_HALVES, width, to, i, keys, keys + part); break;
                case AS_INT8: keep(AS_INT8, width, to, i, keys, keys + part); break;
                }
            }
}
