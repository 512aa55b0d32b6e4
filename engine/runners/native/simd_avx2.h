/* x86 with AVX2, FMA and half precision: 16 registers of 8 floats. With VNNI too if the CPU has AVX-VNNI. */
#pragma once

#include <immintrin.h>

/* A strip of rows by a panel's two registers: 12 sums, or 8 where a product of bytes needs registers too. Few rows take two panels,
 * as more sums hide the time that each addition takes. */
#ifdef __AVXVNNI__
#define STRIP_ROWS 6
#define PANELS_AT_ONCE(rows) ((rows) <= 3 ? 2 : 1)
#define STRIPS(STRIP, ...)                                                                        \
    STRIP(1, 2, __VA_ARGS__) STRIP(2, 2, __VA_ARGS__) STRIP(3, 2, __VA_ARGS__)                    \
    STRIP(3, 1, __VA_ARGS__) STRIP(4, 1, __VA_ARGS__) STRIP(5, 1, __VA_ARGS__) STRIP(6, 1, __VA_ARGS__)
#else
#define STRIP_ROWS 6
#define PANELS_AT_ONCE(rows) ((rows) <= 2 ? 2 : 1)
#define STRIPS(STRIP, ...)                                                                        \
    STRIP(1, 2, __VA_ARGS__) STRIP(2, 2, __VA_ARGS__)                                             \
    STRIP(3, 1, __VA_ARGS__) STRIP(4, 1, __VA_ARGS__) STRIP(5, 1, __VA_ARGS__) STRIP(6, 1, __VA_ARGS__)
#endif
#define FOURS 1 /* groups of four inputs that a loop takes at once */

INLINE Floats splat(float x) { return _mm256_set1_ps(x); }
INLINE Floats add_product(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, sum); }
INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return _mm256_fnmadd_ps(a, b, sum); }
INLINE Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
INLINE Floats round_floats(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Ints round_to_ints(Floats x) { return (Ints)_mm256_cvtps_epi32(x); }
/* For powers from -126 to 127. */
INLINE Floats times_power_of_two(Floats x, Floats power) { return x * (Floats)((round_to_ints(power) + 127) << 23); }

/* The first `count` of LANES numbers; the others are 0, or are not stored. */
INLINE __m256i first_lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE Floats load_first(const float *from, int count) { return _mm256_maskload_ps(from, first_lanes(count)); }
INLINE void store_first(float *to, Floats x, int count) { _mm256_maskstore_ps(to, first_lanes(count), x); }
INLINE Floats keep_first(Floats x, Floats others, int count) {
    return _mm256_blendv_ps(others, x, (__m256)first_lanes(count));
}

/* The sum or the largest of a panel's numbers. */
INLINE float sum_floats(const Floats *parts) {
    Floats eight = parts[0] + parts[1];
    __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
    four += _mm_movehl_ps(four, four);
    return four[0] + four[1];
}
INLINE float largest_float(const Floats *parts) {
    Floats eight = larger(parts[0], parts[1]);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_max_ss(four, _mm_movehdup_ps(four))[0];
}
INLINE int32_t sum_ints(Ints x) { return x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + x[6] + x[7]; }

INLINE Floats load_halves(const void *from) { return _mm256_cvtph_ps(_mm_loadu_si128(from)); }
INLINE void store_halves(void *to, Floats x) { _mm_storeu_si128(to, _mm256_cvtps_ph(x, 0)); }
INLINE Ints widen_shorts(const void *from) { return (Ints)_mm256_cvtepu16_epi32(_mm_loadu_si128(from)); }
INLINE Ints widen_bytes(const void *from) { return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(from)); }
INLINE void store_low_bytes(void *to, Ints x) {
    __m256i each = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, /* in both halves */
                                    0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    __m256i fours = _mm256_shuffle_epi8((__m256i)x, each);
    _mm_storel_epi64(to, _mm_unpacklo_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1)));
}

#ifdef __AVXVNNI__
/* Add to each lane's sum the products of four bytes 0 to 255 and four of -128 to 127. In assembler, as GCC 12 moves every sum to
 * another register and back around the intrinsic. */
INLINE Ints dot_bytes(Ints sums, Bytes bytes, Bytes others) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(bytes), "x"(others));
    return sums;
}

#include "simd_vnni.h"

INLINE Ints dot_pairs(Ints sums, Shorts pairs, Shorts others) {
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sums) : "x"(pairs), "x"(others));
    return sums;
}
#else
/* Broadcast four bytes to every lane. */
INLINE __m256i four_bytes(const void *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm256_set1_epi32(four);
}

/* Write LANES numbers of 16 bits. Of four numbers, the first and the third lie before the second and the fourth, as the even and
 * odd bytes of a register become numbers of 16 bits. */
INLINE void store_wide(uint8_t *numbers, int j, Ints x) {
    __m256i each = _mm256_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, /* in both halves */
                                    0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    __m256i fours = _mm256_shuffle_epi8((__m256i)x, each);
    _mm_storeu_si128((void *)(numbers + 2 * j),
                     _mm_unpacklo_epi64(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1)));
}

/* Add to sums what an instruction makes of weights and inputs. In assembler, as GCC 12 multiplies for all sums before it adds, and
 * runs out of registers. */
#define MULTIPLY_AND_ADD(multiply, add, sums, weights, inputs)                                    \
    ({                                                                                            \
        Ints sums_ = sums;                                                                        \
        __m256i products_;                                                                        \
        __asm__(multiply " %3, %2, %1\n\t" add " %1, %0, %0"                                      \
                : "+x"(sums_), "=&x"(products_) : "x"(weights), "x"(inputs));                     \
        sums_;                                                                                    \
    })

/* Weights of 8 bits, 0 to 255, times inputs, both as numbers of 16 bits: `maddubs` would have to sum two products in 16 bits. The
 * even and the odd bytes take turns. Weights of 7 bits, 0 to 128, are multiplied by `maddubs`: 2 * 128 * 127 fits. For 8 bits, the
 * sum is too large by EXCESS times the inputs' sum. */
#define EXCESS 128
#define HAS_INT7 1 /* whether products of 7 bits are others than those of 8 */
#define IS_PACKED(kind) ((kind) == AS_INT8) /* whether `load_weights` does more than load */
#define TURNS(kind) ((kind) == AS_INT8 ? 2 : 1) /* products of a register of weights */
#define INPUT_BYTES 2 /* of an input beside weights of 8 bits */
typedef __m256i Weights8;
typedef __m256i Inputs;
INLINE Weights8 load_weights(int kind, const uint8_t *from, int turn) {
    __m256i bytes = _mm256_loadu_si256((const void *)from);
    if (kind == AS_INT7) return bytes;
    return turn ? _mm256_srli_epi16(bytes, 8) : _mm256_and_si256(bytes, _mm256_set1_epi16(255));
}
INLINE void store_inputs(uint8_t *row, int i, Ints x) { store_wide(row, i, x); }
INLINE Inputs load_byte_inputs(const uint8_t *row, int i, int four) { return four_bytes(row + i + 4 * four); }
INLINE Inputs load_inputs(int kind, const uint8_t *row, int i, int four, int turn) {
    if (kind == AS_INT7) return load_byte_inputs(row, i, four);
    return four_bytes(row + 2 * (i + 4 * four + 2 * turn));
}
INLINE Ints dot_weights(int kind, Ints sums, Weights8 weights, Inputs inputs, int four) {
    (void)four;
    if (kind == AS_INT7) {
        static const __m256i_u ones = {0x0001000100010001, 0x0001000100010001, 0x0001000100010001, 0x0001000100010001};
        __m256i products;
        __asm__("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(sums), "=&x"(products) : "x"(weights), "x"(inputs), "m"(ones));
        return sums;
    }
    return MULTIPLY_AND_ADD("vpmaddwd", "vpaddd", sums, weights, inputs);
}

/* Weights of 8 bits, -127 to 127, times inputs of -127 to 127, for convolutions. `maddubs` sums two products of bytes in 16 bits,
 * and takes unsigned bytes on the left: weights are magnitudes there, and inputs get their signs. 2 * 127 * 127 fits. */
#define PIXEL_OFFSET 0
typedef struct {
    __m256i values, magnitudes;
} Kernel8;
INLINE Kernel8 load_kernel(const uint8_t *from) {
    __m256i values = _mm256_loadu_si256((const void *)from);
    return (Kernel8){values, _mm256_abs_epi8(values)};
}
INLINE Ints dot_kernel(Ints sums, Kernel8 weights, Inputs inputs, int four) {
    (void)four;
    __m256i pairs = _mm256_maddubs_epi16(weights.magnitudes, _mm256_sign_epi8(inputs, weights.values));
    return sums + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE Ints dot_pairs(Ints sums, Shorts pairs, Shorts others) {
    return MULTIPLY_AND_ADD("vpmaddwd", "vpaddd", sums, pairs, others);
}

/* Weights of 4 bits. After SMALL_FOURS calls at most, `whole_sums` turns the sums to int32: 8 * 2 * 15 * 127 fits in 16 bits. */
#define SMALL_FOURS 8
INLINE Ints dot_small(Ints sums, Bytes weights, Inputs inputs, int four) {
    (void)four;
    return MULTIPLY_AND_ADD("vpmaddubsw", "vpaddw", sums, weights, inputs);
}
INLINE Ints whole_sums(Ints sums) { return (Ints)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1)); }

/* Numbers of 16 bits times bytes, for attention. */
typedef struct {
    Ints even, odd;
} WideSums;

/* Write LANES of a query's numbers, -16256 to 16256. */
INLINE void store_query(uint8_t *numbers, int count, int j, Ints x) {
    (void)count;
    store_wide(numbers, j, x);
}

/* Sums for keys, which are stored with an offset of 128. */
INLINE WideSums start_keys(int32_t query_sum) { return (WideSums){(Ints){0} - 128 * query_sum, (Ints){0}}; }

INLINE WideSums add_keys(WideSums sums, const uint8_t *keys, const uint8_t *numbers, int count, int j) {
    (void)count;
    __m256i bytes = _mm256_loadu_si256((const void *)keys);
    __m256i even = _mm256_and_si256(bytes, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(bytes, 8);
    return (WideSums){sums.even + (Ints)_mm256_madd_epi16(even, four_bytes(numbers + 2 * j)),
                      sums.odd + (Ints)_mm256_madd_epi16(odd, four_bytes(numbers + 2 * j + 4))};
}

INLINE Ints key_sums(WideSums sums) { return sums.even + sums.odd; }

/* Write LANES of the values' weights, 0 to 65535, less 32768. */
INLINE void store_value_weights(uint8_t *numbers, int count, int i, Ints x) {
    (void)count;
    store_wide(numbers, i, x - 32768);
}

typedef struct {
    __m256i even, odd;
} ValueWeights;
typedef struct {
    Ints even, odd, pairs; /* `pairs` sums the values themselves, in 16 bits: 64 * 2 * 128 fits */
} ValueSums;

INLINE ValueWeights load_value_weights(const uint8_t *numbers, int count, int i) {
    (void)count;
    return (ValueWeights){four_bytes(numbers + 2 * i), four_bytes(numbers + 2 * i + 4)};
}

INLINE ValueSums start_values(void) { return (ValueSums){(Ints){0}, (Ints){0}, (Ints){0}}; }

INLINE ValueSums add_values(ValueSums sums, const uint8_t *values, ValueWeights weights) {
    __m256i bytes = _mm256_loadu_si256((const void *)values);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), odd = _mm256_srai_epi16(bytes, 8);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    return (ValueSums){sums.even + (Ints)_mm256_madd_epi16(even, weights.even),
                       sums.odd + (Ints)_mm256_madd_epi16(odd, weights.odd),
                       (Ints)_mm256_add_epi16((__m256i)sums.pairs, pairs)};
}

/* Below 2^31 in all, as a head has at most 256 positions; in parts, sums may wrap around. */
INLINE Ints value_sums(ValueSums sums) {
    Ints values = (Ints)_mm256_madd_epi16((__m256i)sums.pairs, _mm256_set1_epi16(1));
    return (Ints)_mm256_add_epi32((__m256i)sums.even, _mm256_add_epi32((__m256i)sums.odd, _mm256_slli_epi32((__m256i)values, 15)));
}
#endif

/* For winograd.h, which multiplies pairs of channels as numbers of 16 bits: `dot_pairs` above adds their products to sums. */
#define WINOGRAD 1
INLINE Shorts pair_of_shorts(const int16_t *from) { return (Shorts)four_bytes(from); }
INLINE Shorts widen_pixels(const uint8_t *from) {
    return (Shorts)_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)from) ^ _mm_set1_epi8((char)PIXEL_OFFSET));
}
/* Of LANES outputs' weights for four channels, those for the first or the last two. */
INLINE Shorts kernel_pairs(const uint8_t *fours, int half) {
    __m256i first = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, /* in both halves */
                                     -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    __m256i last = _mm256_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15,
                                    -1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
    return (Shorts)_mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_loadu_si256((const void *)fours), half ? last : first), 8);
}
