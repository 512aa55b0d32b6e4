/* x86 with AVX-512 and VNNI: 32 registers of 16 floats. */
#pragma once

#include <immintrin.h>

/* Tiles: a strip of rows has its sums in registers, at most 24. */
#define STRIP_ROWS 18
#define FOURS 1 /* groups of four inputs that a loop takes at once */
/* Panels that are computed together: the fewer rows, the more. More than 12 rows take one panel, which reads weights at a steady
 * pace; two panels for half of the rows read them in bursts. */
#define PANELS_AT_ONCE(rows) ((rows) <= 6 ? 4 : (rows) <= 12 ? 2 : 1)
/* The rows and panels of all tiles. */
#define TILES(TILE)                                                                               \
    TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4)                             \
    TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2) TILE(11, 2) TILE(12, 2)                          \
    TILE(12, 1) TILE(13, 1) TILE(14, 1) TILE(15, 1) TILE(16, 1) TILE(17, 1) TILE(18, 1)

INLINE Floats splat(float x) { return _mm512_set1_ps(x); }
INLINE Floats add_product(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }
INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return _mm512_fnmadd_ps(a, b, sum); }
INLINE Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
INLINE Floats round_floats(Floats x) { return _mm512_roundscale_ps(x, 0); }
INLINE Floats times_power_of_two(Floats x, Floats power) { return _mm512_scalef_ps(x, power); }
INLINE Ints round_to_ints(Floats x) { return (Ints)_mm512_cvtps_epi32(x); }

/* The first `count` of LANES numbers; the others are 0, or are not stored. */
INLINE __mmask16 first_lanes(int count) { return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1); }
INLINE Floats load_first(const float *from, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), from); }
INLINE void store_first(float *to, Floats x, int count) { _mm512_mask_storeu_ps(to, first_lanes(count), x); }
INLINE Floats keep_first(Floats x, Floats others, int count) { return _mm512_mask_mov_ps(others, first_lanes(count), x); }

/* The sum or the largest of a panel's numbers. */
INLINE float sum_floats(const Floats *parts) { return _mm512_reduce_add_ps(parts[0]); }
INLINE float largest_float(const Floats *parts) { return _mm512_reduce_max_ps(parts[0]); }
INLINE int32_t sum_ints(Ints x) { return _mm512_reduce_add_epi32((__m512i)x); }

INLINE Floats load_halves(const void *from) { return _mm512_cvtph_ps(_mm256_loadu_si256(from)); }
INLINE void store_halves(void *to, Floats x) { _mm256_storeu_si256(to, _mm512_cvtps_ph(x, 0)); }
INLINE Ints widen_shorts(const void *from) { return (Ints)_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)); }
INLINE Ints widen_bytes(const void *from) { return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(from)); }
INLINE void store_low_bytes(void *to, Ints x) { _mm_storeu_si128(to, _mm512_cvtepi32_epi8((__m512i)x)); }

/* Add to each lane's sum the products of four bytes 0 to 255 and four of -128 to 127. In assembler, as GCC 12 moves every sum to
 * another register and back around the intrinsic. */
INLINE Ints dot_bytes(Ints sums, Bytes bytes, Bytes others) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(others));
    return sums;
}

#include "simd_vnni.h"

#define WINOGRAD 0 /* 3 x 3 products of bytes are as fast */
