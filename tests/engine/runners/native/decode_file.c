/* The decoder and the detokenizer as a program, for machines without Python.
 *
 * `decode_file IN OUT` reads a model and steps from a file, and writes all logits to another. A file has blocks: a size in 8
 * bytes, then as many bytes. The first block is `Header`; then come the model's arrays in the order of layout.py, the embedding tables
 * as floats; the lengths of the rows' prompts; each row's keys and values of the prompt; and the tokens of all steps.
 *
 * `decode_file IN OUT detokenize` reads a detokenizer and a grid, and writes pixels. The blocks are `GridHeader`, the grid, the
 * embedded tokens, `Stage`s, and for each stage with a convolution the norm's two arrays and the convolution's four. */
#include <stdio.h>

#include "decode.c"

typedef struct {
    int32_t width, heads, middle, layer_count, image_length, cache_type, rows, steps, threads;
    float epsilon;
} Header;

static void *next_block(FILE *file) {
    int64_t size;
    if (fread(&size, 8, 1, file) != 1) exit(2);
    void *block = allocate(size + 64);
    if (!block || fread(block, 1, size, file) != (size_t)size) exit(2);
    return block;
}

static Norm next_norm(FILE *file) {
    Norm norm;
    norm.scale = next_block(file), norm.bias = next_block(file);
    return norm;
}

static Product next_product(FILE *file) {
    int32_t *header = next_block(file);
    Product product = {header[0], header[1], header[2], header[3], NULL, NULL, NULL};
    product.weights = next_block(file), product.scales = next_block(file), product.zeros = next_block(file);
    return product;
}

typedef struct {
    int32_t stage_count, rows, columns, threads;
    float epsilon;
} GridHeader;

static int detokenize_file(FILE *in, FILE *out) {
    GridHeader *header = next_block(in);
    int64_t *tokens = next_block(in);
    Detokenizer detokenizer = {header->stage_count, header->epsilon, next_block(in), NULL};
    Stage *stages = next_block(in);
    for (int i = 0; i < header->stage_count; i++) {
        if (stages[i].kind == ATTEND) continue;
        Convolution *convolution = &stages[i].convolution;
        stages[i].norm = next_norm(in);
        convolution->weights = next_block(in), convolution->scales = next_block(in);
        convolution->bias = next_block(in), convolution->sums = next_block(in);
    }
    detokenizer.stages = stages;
    Model none = {0};
    Team *team = open_team(&none, header->threads);
    Picture *picture = open_picture(&detokenizer);
    size_t size = (size_t)16 * header->rows * 16 * header->columns * 3;
    uint8_t *pixels = allocate(size);
    if (detokenize(team, picture, tokens, header->rows, header->columns, pixels)) return 1;
    fwrite(pixels, 1, size, out);
    close_picture(picture);
    close_team(team);
    return fclose(out) != 0;
}

int main(int count, char **arguments) {
    FILE *in = count >= 3 ? fopen(arguments[1], "rb") : NULL, *out = in ? fopen(arguments[2], "wb") : NULL;
    if (!out) return 2;
    if (count == 4) return detokenize_file(in, out);
    Header *header = next_block(in);
    Layer *layers = allocate(header->layer_count * sizeof(Layer));
    Model model = {header->width, header->heads, header->middle, header->layer_count, header->image_length, header->cache_type,
                   header->epsilon, {0}, {0}, {0}, {0}, {0}, layers};
    model.tokens.numbers = next_block(in), model.positions.numbers = next_block(in);
    model.embedding_norm = next_norm(in), model.final_norm = next_norm(in), model.head = next_product(in);
    for (int i = 0; i < model.layer_count; i++) {
        Norm *norms[] = {&layers[i].before_self, &layers[i].after_self, &layers[i].before_text, &layers[i].after_text,
                         &layers[i].glu_in, &layers[i].glu_middle};
        Product *products[] = {&layers[i].self_qkv, &layers[i].self_out, &layers[i].text_query, &layers[i].text_out,
                               &layers[i].glu_gates, &layers[i].glu_out};
        for (int j = 0; j < 6; j++) *norms[j] = next_norm(in);
        for (int j = 0; j < 6; j++) *products[j] = next_product(in);
    }
    int rows = header->rows, stride = round_up(model.head.outputs, PIECE);
    int32_t *lengths = next_block(in), *positions = allocate(4 * rows);
    uint8_t **images = allocate(sizeof(*images) * rows), **texts = allocate(sizeof(*texts) * rows);
    for (int row = 0; row < rows; row++) {
        images[row] = allocate(cache_size(&model, model.image_length));
        texts[row] = allocate(cache_size(&model, lengths[row]));
        pack_text(&model, next_block(in), lengths[row], texts[row]);
    }
    const int32_t *tokens = next_block(in);
    float *logits = allocate((size_t)4 * rows * stride);
    Team *team = open_team(&model, header->threads);
    for (int step = 0; step < header->steps; step++) {
        for (int row = 0; row < rows; row++) positions[row] = step;
        Rows each = {rows, tokens + step * rows, positions, lengths, images, texts, logits};
        if (decode_step(team, &each)) return 1;
        for (int row = 0; row < rows; row++) fwrite(logits + (size_t)row * stride, 4, model.head.outputs, out);
    }
    close_team(team);
    return fclose(out) != 0;
}
