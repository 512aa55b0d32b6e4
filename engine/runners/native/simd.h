/* A register of numbers, whatever the CPU: LANES floats, LANES int32 or 4 * LANES bytes.
 *
 * Each instruction set has a header: what can't be written in the vector types of GCC and Clang, and the size of tiles. All give the
 * same bits: multiplications and additions are fused only where the code says so, and sums over lanes are those of 16 lanes. */
#pragma once

#include <stdint.h>
#include <string.h>

#define PANEL 16 /* output channels in a panel, and positions in a block of keys and values */

/* The kinds of a product's weights, as layout.py numbers them. */
enum { AS_FLOATS, AS_HALVES, AS_BFLOATS, AS_INT8, AS_INT7, AS_INT4 };

#define INLINE static inline __attribute__((always_inline))

/* All loops below one of these have constant bounds, and their arrays become registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 18")
#endif

#if defined(__AVX512VNNI__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#elif defined(__ARM_FEATURE_DOTPROD)
#define LANES 4
#else
#error "the decoder needs AVX-512 with VNNI, AVX2, or NEON with dot products"
#endif
#define PARTS (PANEL / LANES) /* registers of a panel */

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int16_t Shorts __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(4 * LANES)));

INLINE Floats load_floats(const void *from) {
    Floats numbers;
    memcpy(&numbers, from, sizeof(numbers));
    return numbers;
}

INLINE Bytes load_bytes(const void *from) {
    Bytes bytes;
    memcpy(&bytes, from, sizeof(bytes));
    return bytes;
}

INLINE void store_floats(void *to, Floats numbers) { memcpy(to, &numbers, sizeof(numbers)); }

INLINE void store_bytes(void *to, Bytes bytes) { memcpy(to, &bytes, sizeof(bytes)); }

INLINE Floats to_floats(Ints numbers) { return __builtin_convertvector(numbers, Floats); }

INLINE Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

/* Return `x` with the sign of `sign` flipped into it. */
INLINE Floats flip_sign(Floats x, Floats sign) { return (Floats)((Ints)x ^ ((Ints)sign & (int32_t)0x80000000)); }

#if defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#else
#include "simd_neon.h"
#endif

/* The greater or the smaller of two numbers; the second if one is NaN. In place of the C library's, whose calls cost more. */
INLINE float greater_of(float a, float b) { return a > b ? a : b; }
INLINE float smaller_of(float a, float b) { return a < b ? a : b; }

/* Prepare for calls of the C library: on x86 many of its functions take several times as long while wide registers are in use, and
 * the compiler does not see this across functions. */
INLINE void finish_wide_registers(void) {
#ifdef __AVX__
    _mm256_zeroupper();
#endif
}

/* exp(x) as Cephes' expf, to 2 units in the last place, for x up to 0. */
INLINE Floats exp_floats(Floats x) {
    x = larger(x, splat(-87.0f));
    Floats power = round_floats(x * splat(1.44269504088896341f));
    x = subtract_product(x, power, splat(0.693359375f));
    x = subtract_product(x, power, splat(-2.12194440e-4f));
    Floats y = splat(1.9875691500e-4f);
    y = add_product(splat(1.3981999507e-3f), y, x);
    y = add_product(splat(8.3334519073e-3f), y, x);
    y = add_product(splat(4.1665795894e-2f), y, x);
    y = add_product(splat(1.6666665459e-1f), y, x);
    y = add_product(splat(5.0000001201e-1f), y, x);
    y = add_product(x + splat(1.0f), y, x * x);
    return times_power_of_two(y, power);
}
