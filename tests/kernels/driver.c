/* Runs the kernel on the numbers of a file, for processors and compilers other than those of the tests' own process.

   usage: driver INPUT OUTPUT
   INPUT: seven int64 (outputs inputs group bits tokens has_minima code_bytes), then codes, scales, minima, x (float32)
   OUTPUT: y (float32) */

#include "../../tinyphi/kernels/native.c"
#include <stdio.h>

static void *numbers(FILE *file, size_t bytes) {
    void *memory = malloc(bytes + !bytes);
    if (!memory || fread(memory, 1, bytes, file) != bytes) exit(2);
    return memory;
}

int main(int count, char **arguments) {
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (!file) return 2;
    int64_t *n = numbers(file, 7 * sizeof(int64_t));
    const size_t tiles = (size_t)((n[0] + 15) / 16 * 16), scale_bytes = tiles * (size_t)(n[1] / n[2]) * 2;
    Matrix w = {.outputs = n[0], .inputs = n[1], .group = n[2], .bits = n[3]};
    void *codes = numbers(file, (size_t)n[6]), *scales = numbers(file, scale_bytes);
    void *minima = n[5] ? numbers(file, scale_bytes) : NULL;
    float *x = numbers(file, (size_t)(n[4] * n[1]) * sizeof(float)), *y = malloc((size_t)(n[4] * n[0]) * sizeof(float));
    w.codes = codes, w.scales = scales, w.minima = minima;
    fclose(file);
    if (!y || tinyphi_linear(&w, x, y, FLOAT32, n[4])) return 3;
    file = fopen(arguments[2], "wb");
    if (!file || fwrite(y, sizeof(float), (size_t)(n[4] * n[0]), file) != (size_t)(n[4] * n[0]) || fclose(file)) return 4;
    free(n), free(codes), free(scales), free(minima), free(x), free(y);
    return 0;
}
