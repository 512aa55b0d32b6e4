/* Operations on one row, between two products. */
#pragma once

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "model.h"

/* exp(x) as Cephes' expf, to 2 units in the last place. */
INLINE __m512 exp_ps(__m512 x) {
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

/* x / 2 (1 + erf(x / sqrt 2)), with erf by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
INLINE __m512 gelu(__m512 x) {
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678118654752f));
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    y = _mm512_mul_ps(_mm512_mul_ps(y, t), exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
    __m512 erf = _mm512_sub_ps(one, y); /* of |x| */
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    erf = _mm512_mask_sub_ps(erf, negative, _mm512_setzero_ps(), erf);
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), _mm512_add_ps(one, erf));
}

INLINE __mmask16 lane_mask(int left) { return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1); }

/* Normalise as torch.nn.LayerNorm does; in place if `out` is `x`. */
static void normalise(const float *x, int count, Norm norm, float epsilon, float *out) {
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int i = 0; i < count; i += LANES) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lane_mask(count - i), x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lane_mask(count - i);
        __m512 centred = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + i), mean);
        squares = _mm512_fmadd_ps(centred, centred, squares);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / count + epsilon));
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lane_mask(count - i);
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), mean), factor);
        y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(mask, norm.scale + i), _mm512_maskz_loadu_ps(mask, norm.bias + i));
        _mm512_mask_storeu_ps(out + i, mask, y);
    }
}

static void add(float *state, const float *x, int count) {
    for (int i = 0; i < count; i++) state[i] += x[i];
}

/* Multiply GELU of a row's first half by its second half, in place. */
static void gate(float *gates, int count) {
    for (int i = 0; i < count; i += LANES) {
        __mmask16 mask = lane_mask(count - i);
        __m512 value = _mm512_maskz_loadu_ps(mask, gates + count + i);
        _mm512_mask_storeu_ps(gates + i, mask, _mm512_mul_ps(gelu(_mm512_maskz_loadu_ps(mask, gates + i)), value));
    }
}

/* Prefetch memory to the nearest cache. */
INLINE void prefetch(const uint8_t *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)memory + i, _MM_HINT_T0);
}

/* Broadcast four bytes to every lane. */
INLINE __m512i four_bytes(const void *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm512_set1_epi32(four);
}

/* Add to each lane's sum the products of four weights, 0 to 255, and four inputs, -128 to 127. In assembler, as GCC 12 moves
 * every sum to another register and back around the intrinsic. */
INLINE __m512i dot(__m512i sums, __m512i weights, __m512i inputs) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(inputs));
    return sums;
}

/* Return the scale that maps the largest magnitude among `count` numbers, a multiple of LANES, to 127. */
static float int8_scale(const float *x, int count) {
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < count; i += LANES) largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    return fmaxf(_mm512_reduce_max_ps(largest) / 127, 1e-30f);
}

/* Quantize a row's inputs to int8, each group with its own scale. */
static void quantize_row(Buffers *buffers, int row, const Product *product, int count) {
    float *x = buffers->inputs + (size_t)row * INPUT_STRIDE;
    int8_t *quantized = buffers->quantized + (size_t)row * INPUT_STRIDE;
    for (int i = count; i < product->inputs; i++) x[i] = 0;
    for (int group = 0; group < product->groups; group++) {
        float scale = int8_scale(x + group * GROUP, GROUP);
        __m512 inverse = _mm512_set1_ps(1 / scale);
        __m512i sum = _mm512_setzero_si512();
        for (int i = 0; i < GROUP; i += LANES) {
            __m512i y = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + group * GROUP + i), inverse));
            sum = _mm512_add_epi32(sum, y);
            _mm_storeu_si128((__m128i *)(quantized + group * GROUP + i), _mm512_cvtsepi32_epi8(y));
        }
        buffers->scales[row * MAX_GROUPS + group] = scale;
        buffers->sums[row * MAX_GROUPS + group] = _mm512_reduce_add_epi32(sum);
    }
}
