/* What x86 CPUs with VNNI share, on top of `dot_bytes`. */
#pragma once

/* Broadcast four bytes to every lane. */
INLINE Bytes four_bytes(const void *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return (Bytes)((Ints){0} + four);
}

/* Weights of 7 or 8 bits, 0 to 255, times inputs. For 8 bits, the sum is too large by EXCESS times the inputs' sum. */
#define EXCESS 128
#define HAS_INT7 0 /* whether products of 7 bits are others than those of 8 */
#define IS_PACKED(kind) 0 /* whether `load_weights` does more than load */
#define TURNS(kind) 1 /* products of a register of weights */
#define INPUT_BYTES 1 /* of an input beside weights of 8 bits */
typedef Bytes Weights8;
typedef Bytes Inputs;
INLINE Weights8 load_weights(int kind, const uint8_t *from, int turn) {
    (void)kind, (void)turn;
    return load_bytes(from);
}
INLINE void store_inputs(uint8_t *row, int i, Ints x) { store_low_bytes(row + i, x); }
INLINE Inputs load_inputs(int kind, const uint8_t *row, int i, int four, int turn) {
    (void)kind, (void)turn;
    return four_bytes(row + i + 4 * four);
}
INLINE Ints dot_weights(int kind, Ints sums, Weights8 weights, Inputs inputs, int four) {
    (void)kind, (void)four;
    return dot_bytes(sums, weights, inputs);
}

/* Weights of 8 bits, -128 to 127, times inputs that are stored with an offset of PIXEL_OFFSET, for convolutions. */
#define PIXEL_OFFSET 128
typedef Bytes Kernel8;
INLINE Kernel8 load_kernel(const uint8_t *from) { return load_bytes(from); }
INLINE Ints dot_kernel(Ints sums, Kernel8 weights, Inputs inputs, int four) {
    (void)four;
    return dot_bytes(sums, inputs, weights);
}

/* Weights of 4 bits. After SMALL_FOURS calls at most, `whole_sums` turns the sums to int32. */
#define SMALL_FOURS (GROUP / 4)
INLINE Inputs load_byte_inputs(const uint8_t *row, int i, int four) { return four_bytes(row + i + 4 * four); }
INLINE Ints dot_small(Ints sums, Bytes weights, Inputs inputs, int four) {
    (void)four;
    return dot_bytes(sums, weights, inputs);
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
INLINE WideSums start_keys(int32_t query_sum) { return (WideSums){(Ints){0}, (Ints){0} - 128 * query_sum}; }

INLINE WideSums add_keys(WideSums sums, const uint8_t *keys, const uint8_t *numbers, int count, int j) {
    Bytes bytes = load_bytes(keys);
    return (WideSums){dot_bytes(sums.high, bytes, four_bytes(numbers + j)),
                      dot_bytes(sums.low, bytes, four_bytes(numbers + count + j))};
}

INLINE Ints key_sums(WideSums sums) { return (sums.high << 7) + sums.low; }

/* Write LANES of the values' weights, 0 to 65535: high * 256 + low. */
INLINE void store_value_weights(uint8_t *numbers, int count, int i, Ints x) {
    store_low_bytes(numbers + i, x >> 8);
    store_low_bytes(numbers + count + i, x);
}

typedef struct {
    Bytes high, low;
} ValueWeights;
typedef WideSums ValueSums;

INLINE ValueWeights load_value_weights(const uint8_t *numbers, int count, int i) {
    return (ValueWeights){four_bytes(numbers + i), four_bytes(numbers + count + i)};
}

INLINE ValueSums start_values(void) { return (ValueSums){(Ints){0}, (Ints){0}}; }

INLINE ValueSums add_values(ValueSums sums, const uint8_t *values, ValueWeights weights) {
    Bytes bytes = load_bytes(values);
    return (ValueSums){dot_bytes(sums.high, weights.high, bytes), dot_bytes(sums.low, weights.low, bytes)};
}

/* Below 2^31 in all, as a head has at most 256 positions. */
INLINE Ints value_sums(ValueSums sums) { return (sums.high << 8) + sums.low; }
