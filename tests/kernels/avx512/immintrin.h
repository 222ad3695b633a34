/* AVX-512 in portable C, so that its path through the kernel can be tried on a processor without it.
   SIMDe (Debian's libsimde-dev) has all instructions that the kernel uses but two. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>

static inline simde__m512 both(simde__m256 low, simde__m256 high) {
    return simde_mm512_castpd_ps(simde_mm512_insertf64x4(
        simde_mm512_castps_pd(simde_mm512_castps256_ps512(low)), simde_mm256_castps_pd(high), 1));
}
static inline simde__m512 _mm512_cvtph_ps(simde__m256i halves) {
    return both(simde_mm256_cvtph_ps(simde_mm256_extracti128_si256(halves, 0)),
                simde_mm256_cvtph_ps(simde_mm256_extracti128_si256(halves, 1)));
}
static inline simde__m512 _mm512_cvtepi32_ps(simde__m512i numbers) {
    return both(simde_mm256_cvtepi32_ps(simde_mm512_extracti64x4_epi64(numbers, 0)),
                simde_mm256_cvtepi32_ps(simde_mm512_extracti64x4_epi64(numbers, 1)));
}
