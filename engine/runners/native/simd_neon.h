/* ARM with NEON and dot products (ARMv8.2): 32 registers of 4 floats. */
#pragma once

#include <arm_neon.h>

/* A strip of rows by a panel's four registers: 20 sums, beside 4 weights and 5 inputs. Few rows take two panels, as more sums hide
 * the time that each addition takes. */
#define STRIP_ROWS 5
#define PANELS_AT_ONCE(rows) ((rows) <= 2 ? 2 : 1)
#define STRIPS(STRIP, ...)                                                                        \
    STRIP(1, 2, __VA_ARGS__) STRIP(2, 2, __VA_ARGS__)                                             \
    STRIP(3, 1, __VA_ARGS__) STRIP(4, 1, __VA_ARGS__) STRIP(5, 1, __VA_ARGS__)
#define FOURS 4 /* groups of four inputs that a loop takes at once: a register of bytes */

INLINE Floats splat(float x) { return (Floats)vdupq_n_f32(x); }
INLINE Floats add_product(Floats sum, Floats a, Floats b) { return (Floats)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b); }
INLINE Floats subtract_product(Floats sum, Floats a, Floats b) {
    return (Floats)vfmsq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
}
INLINE Floats larger(Floats a, Floats b) { return (Floats)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE Floats round_floats(Floats x) { return (Floats)vrndnq_f32((float32x4_t)x); }
INLINE Ints round_to_ints(Floats x) { return (Ints)vcvtnq_s32_f32((float32x4_t)x); }
/* For powers from -126 to 127. */
INLINE Floats times_power_of_two(Floats x, Floats power) { return x * (Floats)((round_to_ints(power) + 127) << 23); }

/* The first `count` of LANES numbers; the others are 0, or are not stored. */
INLINE Floats load_first(const float *from, int count) {
    if (count >= LANES) return load_floats(from);
    Floats x = splat(0);
    for (int i = 0; i < count; i++) x[i] = from[i];
    return x;
}
INLINE void store_first(float *to, Floats x, int count) {
    if (count >= LANES) store_floats(to, x);
    else for (int i = 0; i < count; i++) to[i] = x[i];
}
INLINE Floats keep_first(Floats x, Floats others, int count) {
    Ints kept = (Ints){0, 1, 2, 3} < count;
    return (Floats)(((Ints)x & kept) | ((Ints)others & ~kept));
}

/* The sum or the largest of a panel's numbers. */
INLINE float sum_floats(const Floats *parts) {
    Floats four = (parts[0] + parts[2]) + (parts[1] + parts[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}
INLINE float largest_float(const Floats *parts) {
    return vmaxvq_f32((float32x4_t)larger(larger(parts[0], parts[1]), larger(parts[2], parts[3])));
}
INLINE int32_t sum_ints(Ints x) { return vaddvq_s32((int32x4_t)x); }

INLINE Floats load_halves(const void *from) { return (Floats)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
INLINE void store_halves(void *to, Floats x) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x))); }
INLINE Ints widen_shorts(const void *from) { return (Ints)vmovl_u16(vld1_u16(from)); }
INLINE Ints widen_bytes(const void *from) {
    uint32_t four;
    memcpy(&four, from, 4);
    return (Ints)vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
}
INLINE void store_low_bytes(void *to, Ints x) {
    uint16x4_t shorts = vmovn_u32((uint32x4_t)x);
    uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(shorts, shorts))), 0);
    memcpy(to, &four, 4);
}

/* Broadcast four bytes to every lane. */
INLINE int8x16_t four_bytes(const void *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Turn bytes 0 to 255 into -128 to 127. */
INLINE int8x16_t less_128(const void *from) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(128))); }

INLINE Ints dot_bytes(Ints sums, int8x16_t a, int8x16_t b) { return (Ints)vdotq_s32((int32x4_t)sums, a, b); }

/* Weights of 8 bits, stored as 0 to 255 for -128 to 127, or of 7, times inputs. For 8 bits, the sum is too large by EXCESS times the
 * inputs' sum. */
#define EXCESS 0
#define HAS_INT7 0 /* whether products of 7 bits are others than those of 8 */
#define IS_PACKED(kind) 1 /* whether `load_weights` does more than load */
#define TURNS(kind) 1 /* products of a register of weights */
#define INPUT_BYTES 1 /* of an input beside weights of 8 bits */
typedef int8x16_t Weights8;
typedef int8x16_t Inputs;
INLINE Weights8 load_weights(int kind, const uint8_t *from, int turn) {
    (void)kind, (void)turn;
    return less_128(from);
}
INLINE void store_inputs(uint8_t *row, int i, Ints x) { store_low_bytes(row + i, x); }
INLINE Inputs load_byte_inputs(const uint8_t *row, int i, int four) {
    (void)four;
    return vld1q_s8((const int8_t *)row + i);
}
INLINE Inputs load_inputs(int kind, const uint8_t *row, int i, int four, int turn) {
    (void)kind, (void)turn;
    return load_byte_inputs(row, i, four);
}
INLINE Ints dot_fours(Ints sums, int8x16_t weights, Inputs inputs, int four) {
    switch (four) { /* a constant; the instruction takes it as such */
    case 0: return (Ints)vdotq_laneq_s32((int32x4_t)sums, weights, inputs, 0);
    case 1: return (Ints)vdotq_laneq_s32((int32x4_t)sums, weights, inputs, 1);
    case 2: return (Ints)vdotq_laneq_s32((int32x4_t)sums, weights, inputs, 2);
    default: return (Ints)vdotq_laneq_s32((int32x4_t)sums, weights, inputs, 3);
    }
}

INLINE Ints dot_weights(int kind, Ints sums, Weights8 weights, Inputs inputs, int four) {
    (void)kind;
    return dot_fours(sums, weights, inputs, four);
}

/* Weights of 8 bits, -128 to 127, times inputs, for convolutions. */
#define PIXEL_OFFSET 0
#define WINOGRAD 0
typedef int8x16_t Kernel8;
INLINE Kernel8 load_kernel(const uint8_t *from) { return vreinterpretq_s8_u8(vld1q_u8(from)); }
#define dot_kernel dot_fours

/* Weights of 4 bits. After SMALL_FOURS calls at most, `whole_sums` turns the sums to int32. */
#define SMALL_FOURS (GROUP / 4)
INLINE Ints dot_small(Ints sums, Bytes weights, Inputs inputs, int four) {
    return dot_fours(sums, vreinterpretq_s8_u8((uint8x16_t)weights), inputs, four);
}
INLINE Ints whole_sums(Ints sums) { return sums; }

/* Numbers of 16 bits times bytes, for attention. The numbers lie in two planes of bytes, COUNT apart. */
typedef struct {
    Ints high, low;
} WideSums;

/* Write LANES of a query's numbers, -16256 to 16256: high * 128 + low. */
INLINE void store_query(uint8_t *numbers, int count, int j, Ints x) {
    Ints high = (x + 64) >> 7;
    store_low_bytes(numbers + j, high);
    store_low_bytes(numbers + count + j, x - (high << 7));
}

/* Sums for keys, which are stored with an offset of 128. */
INLINE WideSums start_keys(int32_t query_sum) {
    (void)query_sum;
    return (WideSums){(Ints){0}, (Ints){0}};
}

INLINE WideSums add_keys(WideSums sums, const uint8_t *keys, const uint8_t *numbers, int count, int j) {
    int8x16_t bytes = less_128(keys);
    return (WideSums){dot_bytes(sums.high, bytes, four_bytes(numbers + j)),
                      dot_bytes(sums.low, bytes, four_bytes(numbers + count + j))};
}

INLINE Ints key_sums(WideSums sums) { return (sums.high << 7) + sums.low; }

/* Write LANES of the values' weights, 0 to 65535: high * 256 + low, each less 128. */
INLINE void store_value_weights(uint8_t *numbers, int count, int i, Ints x) {
    store_low_bytes(numbers + i, (x >> 8) ^ 128);
    store_low_bytes(numbers + count + i, x ^ 128);
}

typedef struct {
    int8x16_t high, low;
} ValueWeights;
typedef struct {
    Ints high, low, values; /* `values` sums the values themselves */
} ValueSums;

INLINE ValueWeights load_value_weights(const uint8_t *numbers, int count, int i) {
    return (ValueWeights){four_bytes(numbers + i), four_bytes(numbers + count + i)};
}

INLINE ValueSums start_values(void) { return (ValueSums){(Ints){0}, (Ints){0}, (Ints){0}}; }

INLINE ValueSums add_values(ValueSums sums, const uint8_t *values, ValueWeights weights) {
    int8x16_t bytes = vld1q_s8((const int8_t *)values);
    return (ValueSums){dot_bytes(sums.high, bytes, weights.high), dot_bytes(sums.low, bytes, weights.low),
                       dot_bytes(sums.values, bytes, vdupq_n_s8(1))};
}

/* Below 2^31 in all, as a head has at most 256 positions. */
INLINE Ints value_sums(ValueSums sums) { return (sums.high << 8) + sums.low + sums.values * (128 * 257); }
