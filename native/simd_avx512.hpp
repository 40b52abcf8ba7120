// The vector operations in AVX-512. Included by simd.hpp.
#pragma once

#include "simd.hpp"

namespace thinned {
namespace {

// ------------------------------------------------------------------------------------------ Blocks

constexpr int kLoadsAhead = 4;  // of sixteen elements each
constexpr int kLanes = 8;

struct Blocks {
    __m512i r;
};
THINNED_INLINE Blocks every(u64 a) { return {_mm512_set1_epi64(static_cast<long long>(a))}; }
using KeyInMemory = u64;
THINNED_INLINE u64 in_memory(u64 a) { return a; }
THINNED_INLINE Blocks lane_numbers() { return {_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)}; }
THINNED_INLINE Blocks sum(Blocks a, Blocks b) { return {_mm512_add_epi64(a.r, b.r)}; }
THINNED_INLINE Blocks times(Blocks a, Blocks m) { return {_mm512_mul_epu32(a.r, m.r)}; }
// By a shuffle: shifts wait for the port that multiplies. (With AVX2 it was a twentieth slower.)
THINNED_INLINE Blocks high(Blocks a) { return {_mm512_shuffle_epi32(a.r, _MM_PERM_DDBB)}; }
THINNED_INLINE Blocks operator^(Blocks a, Blocks b) { return {_mm512_xor_si512(a.r, b.r)}; }
THINNED_INLINE Blocks xor3(Blocks a, Blocks b, Blocks c) {
    return {_mm512_ternarylogic_epi64(a.r, b.r, c.r, 0x96)};
}
constexpr bool kKeysByTwo = false;  // a third operand of xor costs nothing
// One round of Philox.
template <bool>
THINNED_INLINE void philox_round(Blocks& c0, Blocks& c1, Blocks& c2, Blocks& c3, const Blocks& m0,
                                 const Blocks& m1, const Blocks& k0, const Blocks& k1) {
    const Blocks left = times(c0, m0), right = times(c2, m1);
    c0 = xor3(high(right), c1, k0);
    c2 = xor3(high(left), c3, k1);
    c1 = right;
    c3 = left;
}
THINNED_INLINE Blocks and_not(Blocks a, Blocks b) { return {_mm512_andnot_si512(b.r, a.r)}; }
THINNED_INLINE Blocks operator&(Blocks a, Blocks b) { return {_mm512_and_si512(a.r, b.r)}; }
THINNED_INLINE Blocks operator|(Blocks a, Blocks b) { return {_mm512_or_si512(a.r, b.r)}; }
THINNED_INLINE Blocks halves_swapped(Blocks a) {
    return {_mm512_shuffle_epi32(a.r, _MM_PERM_CDAB)};
}
// product ^ c << 32 ^ k.
THINNED_INLINE Blocks last_xor(Blocks product, Blocks c, Blocks k) {
    return xor3(product, {_mm512_slli_epi64(c.r, 32)}, k);
}
// One bit to a lane: whether any of the lane's is set.
THINNED_INLINE u32 lanes_set(Blocks a) { return _mm512_test_epi64_mask(a.r, a.r); }
THINNED_INLINE void store_interleaved(u64* out, Blocks a, Blocks b) {
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(a.r, first, b.r));
    _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi64(a.r, second, b.r));
}

// -------------------------------------------------------------------------------- Singles, Doubles

struct Singles {
    __m512 r;
};
THINNED_INLINE Singles all_of(float a) { return {_mm512_set1_ps(a)}; }
THINNED_INLINE Singles operator*(Singles a, Singles b) { return {_mm512_mul_ps(a.r, b.r)}; }
THINNED_INLINE Singles operator+(Singles a, Singles b) { return {_mm512_add_ps(a.r, b.r)}; }
THINNED_INLINE Singles operator-(Singles a, Singles b) { return {_mm512_sub_ps(a.r, b.r)}; }
THINNED_INLINE Singles select(u32 m, Singles a, Singles b) {
    return {_mm512_mask_blend_ps(static_cast<__mmask16>(m), b.r, a.r)};
}
THINNED_INLINE Singles load_f32(const float* p) { return {_mm512_loadu_ps(p)}; }
THINNED_INLINE void store_f32(float* p, Singles a) { _mm512_storeu_ps(p, a.r); }
THINNED_INLINE void stream_f32(float* p, Singles a) { _mm512_stream_ps(p, a.r); }
THINNED_INLINE __m256i load_halves(const u16* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
THINNED_INLINE Singles load_f16(const u16* p) { return {_mm512_cvtph_ps(load_halves(p))}; }
THINNED_INLINE __m256i halves_f16(Singles a) {
    return _mm512_cvtps_ph(a.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
THINNED_INLINE Singles load_bf16(const u16* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_halves(p)), 16))};
}
THINNED_INLINE __m256i halves_bf16(Singles a) {
    const __m512i u = _mm512_castps_si512(a.r), top = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(a.r, a.r, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_mask_or_epi32(rounded, nan, top, _mm512_set1_epi32(0x40)));
}
THINNED_INLINE void store_halves(u16* p, __m256i a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a);
}
THINNED_INLINE void stream_halves(u16* p, __m256i a) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), a);
}

struct Doubles {
    __m512d r, q;
};
THINNED_INLINE Doubles all_of(double a) { return {_mm512_set1_pd(a), _mm512_set1_pd(a)}; }
THINNED_INLINE Doubles operator*(Doubles a, Doubles b) {
    return {_mm512_mul_pd(a.r, b.r), _mm512_mul_pd(a.q, b.q)};
}
THINNED_INLINE Doubles operator+(Doubles a, Doubles b) {
    return {_mm512_add_pd(a.r, b.r), _mm512_add_pd(a.q, b.q)};
}
THINNED_INLINE Doubles operator-(Doubles a, Doubles b) {
    return {_mm512_sub_pd(a.r, b.r), _mm512_sub_pd(a.q, b.q)};
}
THINNED_INLINE Doubles select(u32 m, Doubles a, Doubles b) {
    return {_mm512_mask_blend_pd(static_cast<__mmask8>(m), b.r, a.r),
            _mm512_mask_blend_pd(static_cast<__mmask8>(m >> 8), b.q, a.q)};
}
THINNED_INLINE Doubles load_f64(const double* p) { return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
THINNED_INLINE void store_f64(double* p, Doubles a) {
    _mm512_storeu_pd(p, a.r);
    _mm512_storeu_pd(p + 8, a.q);
}
THINNED_INLINE void stream_f64(double* p, Doubles a) {
    _mm512_stream_pd(p, a.r);
    _mm512_stream_pd(p + 8, a.q);
}
using ScaledBF16 = Singles;
THINNED_INLINE Singles load_bf16_to_scale(const u16* p) { return load_bf16(p); }

// Which of 64 elements are kept, by bits in memory that begin somewhere in a byte.
class Sieve {
  public:
    // shift: the position of the first bit in its byte.
    explicit Sieve(u32 shift) : shift_(shift) {}
    // Reads nine bytes.
    THINNED_INLINE u64 at(const unsigned char* bits) const {
        u64 word;
        std::memcpy(&word, bits, 8);
        return word >> shift_ | static_cast<u64>(bits[8]) << 1 << (63 - shift_);
    }
    // a * s, and zeros for what is dropped, of the sixteen from 16 * i on.
    THINNED_INLINE static Singles product(u64 kept, int i, Singles a, Singles s) {
        return {_mm512_maskz_mul_ps(static_cast<__mmask16>(kept >> 16 * i), a.r, s.r)};
    }
    THINNED_INLINE static Doubles product(u64 kept, int i, Doubles a, Doubles s) {
        return {_mm512_maskz_mul_pd(static_cast<__mmask8>(kept >> 16 * i), a.r, s.r),
                _mm512_maskz_mul_pd(static_cast<__mmask8>(kept >> (16 * i + 8)), a.q, s.q)};
    }

  private:
    u32 shift_;
};

THINNED_INLINE void fence() { _mm_sfence(); }
THINNED_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
THINNED_INLINE void prefetch_to_write(const void* p) { prefetch_owned(p); }

}  // namespace
}  // namespace thinned
