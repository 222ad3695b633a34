/* y = x W^T, where W is stored in 4 or 8 bits and is read in place: one pass over the codes, no float weight is ever made.

   A token's activations are rounded to 8 bits, 32 at a time with a scale of their own, so that a block of 32 products is a
   sum of small whole numbers, for which processors have instructions (VNNI, maddubs, sdot). Per group of one row:

       y += scale_w · scale_x · Σ (code − zero) · q          symmetric: zero is 8 (4 bits) or 0 (8 bits)
       y += scale_w · scale_x · Σ code · q  +  minimum · scale_x · Σ q

   Eight rows lie beside each other in memory, four columns of each at a time, so that a vector register holds all eight and
   one broadcast of four activations serves them all:

       4 bits:   [rows/8][columns/32][4][8 rows][4]   low half of a byte: column 4c+k, high half: column 16+4c+k
       8 bits:   [rows/8][columns/32][8][8 rows][4]
       scales, minima: [rows/8][columns/group][8] float16

   Compiled by native.py with -fopenmp for the loop over rows; the threads are those of torch's own OpenMP. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(_OPENMP)
int omp_get_max_threads(void), omp_get_thread_num(void); /* not omp.h, which not every compiler has */
#else
static int omp_get_max_threads(void) { return 1; }
static int omp_get_thread_num(void) { return 0; }
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum { BLOCK = 32, ROWS = 8, CACHE = 1 << 18 };

typedef struct {
    const uint8_t *codes;
    const uint16_t *scales, *minima; /* minima: NULL where the codes are symmetric */
    int64_t outputs, inputs, group, bits;
} Matrix;

enum { FLOAT32, BFLOAT16, INT8 }; /* a bfloat16 is the upper half of a float32 */

static inline float get(const void *x, int type, int64_t i) {
    uint32_t word;
    float f;
    if (type == FLOAT32) return ((const float *)x)[i];
    if (type == INT8) return ((const int8_t *)x)[i];
    word = (uint32_t)((const uint16_t *)x)[i] << 16;
    memcpy(&f, &word, 4);
    return f;
}
static inline void put(void *y, int type, int64_t i, float f) {
    uint32_t word;
    if (type == FLOAT32) { ((float *)y)[i] = f; return; }
    memcpy(&word, &f, 4);
    ((uint16_t *)y)[i] = (uint16_t)(f != f ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16); /* to nearest, ties to even */
}

typedef struct { /* activations, rounded: (tokens columns) and (tokens columns/32) */
    int8_t *q;
    float *scale, *sum; /* sum: scale · Σ q */
    int32_t *count;     /* Σ q */
} Rounded;

/* ---- Vectors. LANES rows at once; a block is 8 vectors (in 4 bits 4, two numbers a byte), four columns of every row in each. ---- */

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

enum { LANES = 16 }; /* two tiles, or two blocks of one tile: `next` is how far away the upper half of a register is */
typedef __m512i bytes;
typedef __m512i ints;
typedef __m512 floats;
#define UNSIGNED_ZERO 128 /* the instruction wants unsigned weights, so 8-bit codes are shifted by this */

static inline bytes load(const uint8_t *p, int64_t next) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)p)),
                              _mm256_loadu_si256((const void *)(p + next)), 1);
}
static inline bytes low(bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
static inline bytes high(bytes b) { return _mm512_and_si512(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(15)); }
static inline bytes shifted(bytes b) { return _mm512_xor_si512(b, _mm512_set1_epi8(-128)); }
static inline floats halves(const uint16_t *p, int64_t next) {
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)p)),
                                                   _mm_loadu_si128((const void *)(p + next)), 1));
}
static inline ints all_ints(const void *n, int64_t next) { /* n[0] in the lower half, n[next] in the upper one */
    int32_t a, b;
    memcpy(&a, n, 4), memcpy(&b, (const int32_t *)n + next, 4);
    return next ? _mm512_inserti64x4(_mm512_set1_epi32(a), _mm256_set1_epi32(b), 1) : _mm512_set1_epi32(a);
}
static inline ints block_dot(const bytes w[8], const int8_t *x, int64_t next, int bits) {
    (void)bits;
    ints even = _mm512_setzero_si512(), odd = even;
    for (int c = 0; c < 8; c += 2) {
        even = _mm512_dpbusd_epi32(even, w[c], all_ints(x + 4 * c, next / 4));
        odd = _mm512_dpbusd_epi32(odd, w[c + 1], all_ints(x + 4 * c + 4, next / 4));
    }
    return _mm512_add_epi32(even, odd);
}
static inline floats as_floats(ints i) { return _mm512_cvtepi32_ps(i); }
static inline ints minus(ints i, int zero, const int32_t *n, int64_t next) {
    return _mm512_sub_epi32(i, _mm512_mullo_epi32(_mm512_set1_epi32(zero), all_ints(n, next)));
}
static inline floats all(const float *f, int64_t next) { return _mm512_castsi512_ps(all_ints(f, next)); }
static inline floats none(void) { return _mm512_setzero_ps(); }
static inline floats times(floats a, floats b) { return _mm512_mul_ps(a, b); }
static inline floats plus_product(floats sum, floats a, floats b) { return _mm512_fmadd_ps(a, b, sum); }
static inline void store(float *y, floats f) { _mm512_storeu_ps(y, f); }

#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)

enum { LANES = 8 };
typedef __m256i bytes;
typedef __m256i ints;
typedef __m256 floats;
#define UNSIGNED_ZERO 0

static inline bytes load(const uint8_t *p, int64_t next) { (void)next; return _mm256_loadu_si256((const void *)p); }
static inline bytes low(bytes b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
static inline bytes high(bytes b) { return _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(15)); }
static inline bytes shifted(bytes b) { return b; }
static inline floats halves(const uint16_t *p, int64_t next) {
    (void)next;
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
static inline __m256i four(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, 4);
    return _mm256_set1_epi32(word);
}
static inline ints block_dot(const bytes w[8], const int8_t *x, int64_t next, int bits) {
    (void)next;
    const __m256i ones = _mm256_set1_epi16(1);
    if (bits == 4) { /* 8 · 2 · 15 · 127 = 30480 still fits 16 bits, so the eight are added before they are widened */
        __m256i sum = _mm256_maddubs_epi16(w[0], four(x));
        for (int c = 1; c < 8; c++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[c], four(x + 4 * c)));
        return _mm256_madd_epi16(sum, ones);
    }
    __m256i sum = _mm256_setzero_si256(); /* maddubs wants unsigned weights: |w| · (x with the sign of w) */
    for (int c = 0; c < 8; c++) {
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[c]), _mm256_sign_epi8(four(x + 4 * c), w[c]));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
}
static inline floats as_floats(ints i) { return _mm256_cvtepi32_ps(i); }
static inline ints minus(ints i, int zero, const int32_t *n, int64_t next) {
    (void)next;
    return _mm256_sub_epi32(i, _mm256_set1_epi32(zero * *n));
}
static inline floats all(const float *f, int64_t next) { (void)next; return _mm256_set1_ps(*f); }
static inline floats none(void) { return _mm256_setzero_ps(); }
static inline floats times(floats a, floats b) { return _mm256_mul_ps(a, b); }
static inline floats plus_product(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
static inline void store(float *y, floats f) { _mm256_storeu_ps(y, f); }

#elif defined(__ARM_FEATURE_DOTPROD)

enum { LANES = 8 };
typedef int8x16x2_t bytes;
typedef int32x4x2_t ints;
typedef float32x4x2_t floats;
#define UNSIGNED_ZERO 0

static inline bytes load(const uint8_t *p, int64_t next) {
    (void)next;
    return (bytes){{vld1q_s8((const int8_t *)p), vld1q_s8((const int8_t *)p + 16)}};
}
static inline bytes low(bytes b) {
    const int8x16_t mask = vdupq_n_s8(15);
    return (bytes){{vandq_s8(b.val[0], mask), vandq_s8(b.val[1], mask)}};
}
static inline bytes high(bytes b) {
    for (int i = 0; i < 2; i++) b.val[i] = vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(b.val[i]), 4));
    return b;
}
static inline bytes shifted(bytes b) { return b; }
static inline floats halves(const uint16_t *p, int64_t next) {
    (void)next;
    return (floats){{vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))), vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4)))}};
}
static inline ints block_dot(const bytes w[8], const int8_t *x, int64_t next, int bits) {
    (void)next, (void)bits;
    ints sum = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
    for (int c = 0; c < 8; c++) {
        int32_t word;
        memcpy(&word, x + 4 * c, 4);
        const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(word));
        for (int i = 0; i < 2; i++) sum.val[i] = vdotq_s32(sum.val[i], w[c].val[i], four);
    }
    return sum;
}
static inline floats as_floats(ints i) { return (floats){{vcvtq_f32_s32(i.val[0]), vcvtq_f32_s32(i.val[1])}}; }
static inline ints minus(ints i, int zero, const int32_t *n, int64_t next) {
    const int32x4_t product = vdupq_n_s32(zero * *n);
    (void)next;
    return (ints){{vsubq_s32(i.val[0], product), vsubq_s32(i.val[1], product)}};
}
static inline floats all(const float *f, int64_t next) { (void)next; return (floats){{vdupq_n_f32(*f), vdupq_n_f32(*f)}}; }
static inline floats none(void) { return (floats){{vdupq_n_f32(0), vdupq_n_f32(0)}}; }
static inline floats times(floats a, floats b) {
    return (floats){{vmulq_f32(a.val[0], b.val[0]), vmulq_f32(a.val[1], b.val[1])}};
}
static inline floats plus_product(floats sum, floats a, floats b) {
    return (floats){{vfmaq_f32(sum.val[0], a.val[0], b.val[0]), vfmaq_f32(sum.val[1], a.val[1], b.val[1])}};
}
static inline void store(float *y, floats f) { vst1q_f32(y, f.val[0]), vst1q_f32(y + 4, f.val[1]); }

#else /* Any processor: the same steps, one number at a time. */

enum { LANES = 8 };
typedef struct { int8_t at[32]; } bytes;
typedef struct { int32_t at[8]; } ints;
typedef struct { float at[8]; } floats;
#define UNSIGNED_ZERO 0
#define EACH(n) for (int i = 0; i < n; i++)

static inline bytes load(const uint8_t *p, int64_t next) { bytes b; (void)next; memcpy(&b, p, 32); return b; }
static inline bytes low(bytes b) { EACH(32) b.at[i] &= 15; return b; }
static inline bytes high(bytes b) { EACH(32) b.at[i] = (int8_t)((uint8_t)b.at[i] >> 4); return b; }
static inline bytes shifted(bytes b) { return b; }
static inline float half(uint16_t h) { /* shift exponent and mantissa to their places; the factor corrects the bias */
    uint32_t word = (uint32_t)(h & 0x7fff) << 13;
    float f;
    memcpy(&f, &word, 4);
    f *= 0x1p112f;
    return h & 0x8000 ? -f : f;
}
static inline floats halves(const uint16_t *p, int64_t next) { floats f; (void)next; EACH(8) f.at[i] = half(p[i]); return f; }
static inline ints block_dot(const bytes w[8], const int8_t *x, int64_t next, int bits) {
    ints sum = {{0}};
    (void)next, (void)bits;
    for (int c = 0; c < 8; c++) EACH(32) sum.at[i / 4] += w[c].at[i] * x[4 * c + i % 4];
    return sum;
}
static inline floats as_floats(ints n) { floats f; EACH(8) f.at[i] = (float)n.at[i]; return f; }
static inline ints minus(ints a, int zero, const int32_t *n, int64_t next) {
    (void)next;
    EACH(8) a.at[i] -= zero * *n;
    return a;
}
static inline floats all(const float *x, int64_t next) { floats f; (void)next; EACH(8) f.at[i] = *x; return f; }
static inline floats none(void) { return (floats){{0}}; }
static inline floats times(floats a, floats b) { EACH(8) a.at[i] *= b.at[i]; return a; }
static inline floats plus_product(floats s, floats a, floats b) { EACH(8) s.at[i] += a.at[i] * b.at[i]; return s; }
static inline void store(float *y, floats f) { memcpy(y, &f, sizeof f); }

#endif

/* ---- The product. ---- */

/* Round 32 activations to −127 … 127. A NaN or an infinity makes the scale NaN, and so every output: nothing is hidden. */
static inline void round_block(const void *from, int type, Rounded r, int64_t block) {
    float x[BLOCK], largest = 0, probe = 0, scale, inverse;
    int32_t count = 0;
    int8_t *q = r.q + block * BLOCK;
    for (int i = 0; i < BLOCK; i++) x[i] = get(from, type, block * BLOCK + i);
#pragma omp simd reduction(max : largest) reduction(+ : probe)
    for (int i = 0; i < BLOCK; i++) {
        float size = x[i] < 0 ? -x[i] : x[i];
        largest = size > largest ? size : largest;
        probe += x[i] * 0;
    }
    scale = largest / 127;
    inverse = largest > 0x1p-120f ? 127 / largest : 0;
#pragma omp simd reduction(+ : count)
    for (int i = 0; i < BLOCK; i++) {
        float nearest = x[i] * inverse + 0x1.8p23f; /* adding 1.5 · 2^23 leaves no room for a fraction: it rounds */
        int32_t whole;
        memcpy(&whole, &nearest, 4);
        whole -= 0x4b400000;
        q[i] = (int8_t)whole;
        count += (int8_t)whole;
    }
    r.scale[block] = scale + probe;
    r.sum[block] = r.scale[block] * (float)count;
    r.count[block] = count;
}

/* A single token waits for the memory only: ask for what comes soon. Beyond the end of a matrix that does nothing. */
static inline void ask_for(const uint8_t *codes, int64_t nbytes) {
    enum { AHEAD = 1024, LINE = 64 };
    for (int64_t i = 0; i < nbytes; i += LINE) __builtin_prefetch(codes + AHEAD + i);
}

/* A tile of rows times TOKENS tokens, of which the first is `first`. TOKENS is a constant: the sums stay in registers.
   A register with room for two tiles takes two, which suits many tokens. For a single one memory is the limit, and it is
   read fastest from one end to the other: so then, ACROSS, it takes two blocks of the same tile. */
static inline __attribute__((always_inline)) void rows_times_tokens(
    const int TOKENS, const int ACROSS, const int BITS, const int MINIMA, const Matrix *w, Rounded r, void *y, int type, int add,
    int64_t row, int64_t first) {
    const int64_t blocks = w->inputs / BLOCK, groups = w->inputs / w->group, per_group = w->group / BLOCK;
    const int64_t block_bytes = ROWS * BLOCK * BITS / 8, tile = row / ROWS, step = ACROSS ? 2 : 1;
    const int64_t span = per_group < step ? step : per_group; /* blocks until there are other scales in the register */
    const int64_t next_bytes = ACROSS ? block_bytes : blocks * block_bytes, next_block = ACROSS ? 1 : 0;
    const int64_t next_scale = !ACROSS ? groups * ROWS : per_group == 1 ? ROWS : 0;
    const uint8_t *codes = w->codes + tile * blocks * block_bytes;
    const uint16_t *scales = w->scales + tile * groups * ROWS, *minima = w->minima + (MINIMA ? tile * groups * ROWS : 0);
    const int zero = MINIMA ? 0 : BITS == 4 ? 8 : UNSIGNED_ZERO;
    floats sums[4];
    for (int t = 0; t < TOKENS; t++) sums[t] = none();
    for (int64_t b = 0; b < blocks; scales += span / per_group * ROWS, minima += MINIMA ? span / per_group * ROWS : 0) {
        const floats scale = halves(scales, next_scale);
        const floats minimum = MINIMA ? halves(minima, next_scale) : scale;
        for (const int64_t end = b + span; b < end; b += step, codes += step * block_bytes) {
            bytes numbers[8];
            if (TOKENS == 1) ask_for(codes, step * block_bytes);
            for (int c = 0; c < (BITS == 4 ? 4 : 8); c++) {
                bytes loaded = load(codes + 32 * c, next_bytes);
                if (BITS == 4) numbers[c] = low(loaded), numbers[c + 4] = high(loaded);
                else numbers[c] = shifted(loaded);
            }
            for (int t = 0; t < TOKENS; t++) {
                const int64_t block = (first + t) * blocks + b;
                ints dot = block_dot(numbers, r.q + block * BLOCK, next_block * BLOCK, BITS);
                if (zero) dot = minus(dot, zero, r.count + block, next_block);
                sums[t] = plus_product(sums[t], as_floats(dot), times(scale, all(r.scale + block, next_block)));
                if (MINIMA) sums[t] = plus_product(sums[t], minimum, all(r.sum + block, next_block));
            }
        }
    }
    for (int t = 0; t < TOKENS; t++) {
        float out[LANES];
        store(out, sums[t]);
        for (int i = 0; ACROSS && i < ROWS; i++) out[i] += out[LANES - ROWS + i];
        for (int i = 0; i < (ACROSS ? ROWS : LANES) && row + i < w->outputs; i++) {
            const int64_t at = (first + t) * w->outputs + row + i;
            put(y, type, at, add ? get(y, type, at) + out[i] : out[i]);
        }
    }
}

static void rows_times_all(const Matrix *w, Rounded r, void *y, int type, int add, int64_t row, int64_t first, int64_t last) {
#define KIND(TOKENS, ACROSS, ROW)                                                             \
    (w->bits == 8  ? rows_times_tokens(TOKENS, ACROSS, 8, 0, w, r, y, type, add, ROW, first)  \
     : w->minima   ? rows_times_tokens(TOKENS, ACROSS, 4, 1, w, r, y, type, add, ROW, first)  \
                   : rows_times_tokens(TOKENS, ACROSS, 4, 0, w, r, y, type, add, ROW, first))
    const int in_pairs = LANES > ROWS && w->inputs / BLOCK % 2 == 0 && (w->group == BLOCK || w->group / BLOCK % 2 == 0);
    for (; first + 4 <= last; first += 4) KIND(4, 0, row);
    for (; first < last; first++) {
        if (in_pairs) KIND(1, 1, row), KIND(1, 1, row + ROWS);
        else KIND(1, 0, row);
    }
}

static Rounded room_for(int64_t blocks) { /* .scale is what to free; NULL without memory */
    Rounded r = {.scale = malloc((size_t)blocks * (BLOCK + 12) + 64)};
    if (r.scale) r.sum = r.scale + blocks, r.count = (int32_t *)(r.sum + blocks), r.q = (int8_t *)(r.count + blocks);
    return r;
}

/* Called by every thread of a team: each takes a share of the rows. `add`: y += x W^T. Ends with all waiting for all. */
static void multiply(const Matrix *w, Rounded r, void *y, int type, int add, int64_t tokens) {
    const int64_t steps = (w->outputs + LANES - 1) / LANES;
    int64_t at_once = CACHE / w->inputs / 4 * 4; /* tokens whose rounded numbers stay in the second-level cache */
    if (at_once < 4) at_once = 4;
    for (int64_t first = 0; first < tokens; first += at_once) {
        const int64_t last = first + at_once < tokens ? first + at_once : tokens;
#pragma omp for schedule(static) nowait
        for (int64_t step = 0; step < steps; step++) rows_times_all(w, r, y, type, add, step * LANES, first, last);
    }
#pragma omp barrier
}

/* x (tokens inputs) → y (tokens outputs), both of `type`. Returns 0, or 1 when there was no memory for the rounded copy. */
int tinyphi_linear(const Matrix *w, const void *x, void *y, int type, int64_t tokens) {
    const int64_t blocks = tokens * (w->inputs / BLOCK);
    Rounded r = room_for(blocks);
    if (!r.scale) return 1;
#pragma omp parallel if (w->outputs * w->inputs * tokens > 100000)
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++) round_block(x, type, r, b);
        multiply(w, r, y, type, 0, tokens);
    }
    free(r.scale);
    return 0;
}

/* ---- Tokens through all layers, in one call: what would be twenty calls a layer is four products and little else. ---- */

typedef struct {
    const float *attention_norm, *mlp_norm; /* (width) */
    Matrix qkv, out, gate_up, down;
    void *keys, *values;             /* the cache of one row: (groups room channels) of the cache's type */
    float *key_scales, *value_scales; /* (groups room) where that type is INT8 */
} Layer;

typedef struct {
    const Layer *layers;
    const float *cos, *sin; /* (tokens pairs) */
    int64_t count, width, hidden, heads, groups, channels, pairs, window; /* window: tokens seen, oneself included; 0: all */
    int64_t tokens, type, room, stored; /* the new tokens; the cache's type, its room, and how many it holds before them */
    float eps;
} Decoder;

/* The first token in the cache that new token t sees. */
static int64_t first_seen(const Decoder *d, int64_t t) {
    return d->window && d->stored + t + 1 > d->window ? d->stored + t + 1 - d->window : 0;
}

static void rms_norm(const float *x, const float *weight, float *y, int64_t width, float eps) {
    float squares = 0, inverse;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += x[i] * x[i];
    inverse = 1 / sqrtf(squares / (float)width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = weight[i] * (x[i] * inverse);
}

/* e^x: 2^n · 2^f with a whole n, a fraction |f| ≤ 1/2 and a polynomial for 2^f; off by 2e-7 of the value. A NaN stays one. */
static inline float exponential(float x) {
    float z = (x < -87 ? -87 : x > 88 ? 88 : x) * 1.44269504f, n = z + 0x1.8p23f, f, p, power;
    int32_t bits;
    memcpy(&bits, &n, 4);
    f = z - (n - 0x1.8p23f);
    p = 1 + f * (0.693147181f + f * (0.240226507f + f * (0.0555041086f + f * (0.00961812911f + f * (0.00133335581f
        + f * 0.000154035304f)))));
    bits = (int32_t)((uint32_t)(bits - 0x4b400000 + 127) << 23);
    memcpy(&power, &bits, 4);
    return p * power;
}

static void rotate(float *x, const float *cos, const float *sin, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) {
        const float one = x[i], two = x[i + pairs];
        x[i] = one * cos[i] - two * sin[i];
        x[i + pairs] = two * cos[i] + one * sin[i];
    }
}

/* Put one vector into the cache, at place (in tokens). INT8: multiples of a scale, the largest being ±127. */
static void remember(void *store, float *scales, int64_t type, int64_t place, int64_t channels, const float *x) {
    float largest = 0x1p-126f * 127, probe = 0; /* NaN where there is one in x, or an infinity: see round_block */
    if (type != INT8) {
        for (int64_t i = 0; i < channels; i++) put(store, (int)type, place * channels + i, x[i]);
        return;
    }
    for (int64_t i = 0; i < channels; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest, probe += x[i] * 0;
    scales[place] = largest / 127 + probe;
    for (int64_t i = 0; i < channels; i++)
        ((int8_t *)store)[place * channels + i] = probe == 0 ? (int8_t)rintf(x[i] / scales[place]) : 0;
}

/* One query head: scores, softmax, mix. Four keys, or values, at a time: four sums that do not wait for each other. */
static inline __attribute__((always_inline)) void attend(
    const int type, const Decoder *d, const Layer *layer, int64_t group, int64_t t, const float *query, float *work,
    float *mixed) {
    const int64_t c = d->channels, first = first_seen(d, t), count = d->stored + t + 1 - first, start = group * d->room + first;
    const void *keys = layer->keys, *values = layer->values;
    const float scale = 1 / sqrtf((float)c);
    float largest = -INFINITY, total = 0;
    for (int64_t s = 0; s < count; s += 4) {
        const int64_t left = count - s, k = (start + s) * c;
        const int64_t l = k + (left > 1) * c, m = l + (left > 2) * c, n = m + (left > 3) * c; /* the last one, again */
        float at_k = 0, at_l = 0, at_m = 0, at_n = 0;
#pragma omp simd reduction(+ : at_k, at_l, at_m, at_n)
        for (int64_t i = 0; i < c; i++) {
            at_k += query[i] * get(keys, type, k + i), at_l += query[i] * get(keys, type, l + i);
            at_m += query[i] * get(keys, type, m + i), at_n += query[i] * get(keys, type, n + i);
        }
        const float sums[4] = {at_k, at_l, at_m, at_n};
        for (int64_t i = 0; i < 4 && i < left; i++) {
            work[s + i] = sums[i] * scale * (type == INT8 ? layer->key_scales[start + s + i] : 1);
            largest = work[s + i] > largest ? work[s + i] : largest;
        }
    }
#pragma omp simd reduction(+ : total)
    for (int64_t s = 0; s < count; s++) total += work[s] = exponential(work[s] - largest);
    for (int64_t i = 0; i < c; i++) mixed[i] = 0;
    for (int64_t s = 0; s < count; s += 4) {
        const int64_t left = count - s, k = (start + s) * c;
        const int64_t l = k + (left > 1) * c, m = l + (left > 2) * c, n = m + (left > 3) * c;
        float w[4] = {0};
        for (int64_t i = 0; i < 4 && i < left; i++)
            w[i] = work[s + i] / total * (type == INT8 ? layer->value_scales[start + s + i] : 1);
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            mixed[i] += w[0] * get(values, type, k + i) + w[1] * get(values, type, l + i)
                      + w[2] * get(values, type, m + i) + w[3] * get(values, type, n + i);
    }
}

/* Called by every thread of a team. qkv (tokens (heads + 2 groups) channels) → mixed (tokens heads channels). `scores`: one
   thread's room for a number for each token that is seen. */
static void attention(const Decoder *d, const Layer *layer, float *qkv, float *scores, float *mixed) {
    const int64_t c = d->channels, turned = d->heads + d->groups, row = (turned + d->groups) * c;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < d->tokens * turned; task++) {
        const int64_t t = task / turned, head = task % turned, group = head - d->heads, place = group * d->room + d->stored + t;
        float *x = qkv + t * row + head * c;
        rotate(x, d->cos + t * d->pairs, d->sin + t * d->pairs, d->pairs);
        if (group < 0) continue; /* a query */
        remember(layer->keys, layer->key_scales, d->type, place, c, x);
        remember(layer->values, layer->value_scales, d->type, place, c, x + d->groups * c);
    }
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < d->tokens * d->heads; task++) {
        const int64_t t = task / d->heads, head = task % d->heads, group = head / (d->heads / d->groups);
        const float *query = qkv + t * row + head * c;
        float *to = mixed + (t * d->heads + head) * c;
        if (d->type == FLOAT32) attend(FLOAT32, d, layer, group, t, query, scores, to);
        else if (d->type == BFLOAT16) attend(BFLOAT16, d, layer, group, t, query, scores, to);
        else attend(INT8, d, layer, group, t, query, scores, to);
    }
}

/* Called by every thread of a team: normalise (unless there is no weight) and round the rows of x. */
static void prepare(const Decoder *d, const float *x, const float *weight, float *narrow, Rounded r) {
    const int64_t blocks = d->width / BLOCK;
#pragma omp for schedule(static)
    for (int64_t t = 0; t < d->tokens; t++) {
        const float *from = x + t * d->width;
        if (weight) rms_norm(from, weight, narrow + t * d->width, d->width, d->eps), from = narrow + t * d->width;
        for (int64_t b = 0; b < blocks; b++) round_block(from - t * d->width, FLOAT32, r, t * blocks + b);
    }
}

/* Called by every thread of a team: gates (tokens 2 hidden), of which the first half passes through silu, → hidden, rounded. */
static void gate(const Decoder *d, const float *gates, float *hidden, Rounded r) {
#pragma omp for schedule(static)
    for (int64_t block = 0; block < d->tokens * (d->hidden / BLOCK); block++) {
        const int64_t at = block * BLOCK, t = at / d->hidden;
        const float *one = gates + at + t * d->hidden, *two = one + d->hidden;
#pragma omp simd
        for (int64_t i = 0; i < BLOCK; i++) hidden[at + i] = two[i] * one[i] / (1 + exponential(-one[i]));
        round_block(hidden, FLOAT32, r, block);
    }
}

/* x (tokens width): the embeddings of tokens that follow those in the cache, replaced by what leaves the last layer. Returns
   0, or 1 without memory. */
int tinyphi_decode(const Decoder *d, float *x) {
    const int64_t wide = d->width > d->hidden ? d->width : d->hidden, n = d->tokens, most = d->stored + n;
    const int64_t qkv_size = n * (d->heads + 2 * d->groups) * d->channels, threads = omp_get_max_threads();
    Rounded r = room_for(n * wide / BLOCK);
    float *memory = malloc((size_t)(n * d->width + qkv_size + 3 * n * d->hidden + threads * most) * sizeof(float));
    float *narrow = memory, *qkv = narrow + n * d->width, *gates = qkv + qkv_size, *hidden = gates + 2 * n * d->hidden;
    const int failed = !r.scale || !memory;
    if (!failed) {
#pragma omp parallel
        for (const Layer *layer = d->layers; layer < d->layers + d->count; layer++) {
            prepare(d, x, layer->attention_norm, narrow, r);
            multiply(&layer->qkv, r, qkv, FLOAT32, 0, n);
            attention(d, layer, qkv, hidden + n * d->hidden + omp_get_thread_num() * most, narrow);
            prepare(d, narrow, NULL, NULL, r);
            multiply(&layer->out, r, x, FLOAT32, 1, n);
            prepare(d, x, layer->mlp_norm, narrow, r);
            multiply(&layer->gate_up, r, gates, FLOAT32, 0, n);
            gate(d, gates, hidden, r);
            multiply(&layer->down, r, x, FLOAT32, 1, n);
        }
    }
    free(memory), free(r.scale);
    return failed;
}
