// The few vector operations that kernel.cpp is written in, for one instruction set at a time.
//
// Blocks: eight 64-bit lanes, one Philox block in each; only the low 32 bits of a lane count until
// pair() puts two words together. Singles, Doubles: sixteen numbers, with selection by 16 bits.
// The plain versions are loops over arrays, which compilers turn into SSE2 or NEON by themselves.
//
// Everything has internal linkage: the same header is compiled for several instruction sets into one
// module, and a function shared between them by the linker could end up using the wrong one.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(THINNED_AVX512) || defined(THINNED_AVX2)
#include <immintrin.h>
#endif

// What a compiler must not weigh: as calls, these pass whole vectors through memory, and the draws of the
// AVX2 kernel take three times as long. GCC gives up inlining where a file has grown by a few uses. The
// plain version has nothing to lose by calls, and would grow by twice its size.
#if !defined(THINNED_AVX512) && !defined(THINNED_AVX2)
#define THINNED_INLINE inline
#elif defined(_MSC_VER)
#define THINNED_INLINE __forceinline
#else
#define THINNED_INLINE __attribute__((always_inline)) inline
#endif

namespace thinned {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

#if defined(THINNED_AVX512) || defined(THINNED_AVX2)
// A line that is to be written, for this processor alone. Where there is no such instruction it does
// nothing.
THINNED_INLINE void prefetch_owned(const void* p) {
#if defined(__GNUC__)
    __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));
#else
    _m_prefetchw(const_cast<void*>(p));
#endif
}
#endif

// ------------------------------------------------------------------------------------------ Blocks

#if defined(THINNED_AVX512)

constexpr bool kManyRegisters = true;  // 32 of them; elsewhere 16, or what a compiler makes of it

struct Blocks {
    __m512i r;
};
THINNED_INLINE Blocks every(u64 a) { return {_mm512_set1_epi64(static_cast<long long>(a))}; }
THINNED_INLINE Blocks count_from(u64 a) {
    return {_mm512_add_epi64(every(a).r, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7))};
}
THINNED_INLINE Blocks times(Blocks a, Blocks m) { return {_mm512_mul_epu32(a.r, m.r)}; }
// By a shuffle: shifts wait for the port that multiplies. (With AVX2 it was a twentieth slower.)
THINNED_INLINE Blocks high(Blocks a) { return {_mm512_shuffle_epi32(a.r, _MM_PERM_DDBB)}; }
THINNED_INLINE Blocks operator^(Blocks a, Blocks b) { return {_mm512_xor_si512(a.r, b.r)}; }
THINNED_INLINE Blocks xor3(Blocks a, Blocks b, Blocks c) {
    return {_mm512_ternarylogic_epi64(a.r, b.r, c.r, 0x96)};
}
THINNED_INLINE Blocks and_not(Blocks a, Blocks b) { return {_mm512_andnot_si512(b.r, a.r)}; }
THINNED_INLINE Blocks operator&(Blocks a, Blocks b) { return {_mm512_and_si512(a.r, b.r)}; }
THINNED_INLINE Blocks operator|(Blocks a, Blocks b) { return {_mm512_or_si512(a.r, b.r)}; }
THINNED_INLINE Blocks pair(Blocks low, Blocks up) {
    return {_mm512_mask_shuffle_epi32(low.r, 0xAAAA, up.r, _MM_PERM_CCAA)};
}
THINNED_INLINE bool none(Blocks a, Blocks b) {
    const __m512i both = _mm512_or_si512(a.r, b.r);
    return _mm512_test_epi64_mask(both, both) == 0;
}
THINNED_INLINE void store_interleaved(u64* out, Blocks a, Blocks b) {
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(a.r, first, b.r));
    _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi64(a.r, second, b.r));
}

#elif defined(THINNED_AVX2)

constexpr bool kManyRegisters = false;

struct Blocks {
    __m256i r, q;
};
THINNED_INLINE Blocks every(u64 a) {
    const __m256i v = _mm256_set1_epi64x(static_cast<long long>(a));
    return {v, v};
}
THINNED_INLINE Blocks count_from(u64 a) {
    const Blocks v = every(a);
    return {_mm256_add_epi64(v.r, _mm256_setr_epi64x(0, 1, 2, 3)),
            _mm256_add_epi64(v.q, _mm256_setr_epi64x(4, 5, 6, 7))};
}
THINNED_INLINE Blocks times(Blocks a, Blocks m) {
    return {_mm256_mul_epu32(a.r, m.r), _mm256_mul_epu32(a.q, m.q)};
}
THINNED_INLINE Blocks high(Blocks a) { return {_mm256_srli_epi64(a.r, 32), _mm256_srli_epi64(a.q, 32)}; }
THINNED_INLINE Blocks operator^(Blocks a, Blocks b) {
    return {_mm256_xor_si256(a.r, b.r), _mm256_xor_si256(a.q, b.q)};
}
THINNED_INLINE Blocks xor3(Blocks a, Blocks b, Blocks c) { return a ^ b ^ c; }
THINNED_INLINE Blocks and_not(Blocks a, Blocks b) {
    return {_mm256_andnot_si256(b.r, a.r), _mm256_andnot_si256(b.q, a.q)};
}
THINNED_INLINE Blocks operator&(Blocks a, Blocks b) {
    return {_mm256_and_si256(a.r, b.r), _mm256_and_si256(a.q, b.q)};
}
THINNED_INLINE Blocks operator|(Blocks a, Blocks b) {
    return {_mm256_or_si256(a.r, b.r), _mm256_or_si256(a.q, b.q)};
}
THINNED_INLINE Blocks pair(Blocks low, Blocks up) {
    return {_mm256_blend_epi32(low.r, _mm256_slli_epi64(up.r, 32), 0xAA),
            _mm256_blend_epi32(low.q, _mm256_slli_epi64(up.q, 32), 0xAA)};
}
THINNED_INLINE bool none(Blocks a, Blocks b) {
    const __m256i all = _mm256_or_si256(_mm256_or_si256(a.r, a.q), _mm256_or_si256(b.r, b.q));
    return _mm256_testz_si256(all, all) != 0;
}
THINNED_INLINE void store_interleaved_half(u64* out, __m256i a, __m256i b) {
    const __m256i low = _mm256_unpacklo_epi64(a, b), up = _mm256_unpackhi_epi64(a, b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(low, up, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4),
                        _mm256_permute2x128_si256(low, up, 0x31));
}
THINNED_INLINE void store_interleaved(u64* out, Blocks a, Blocks b) {
    store_interleaved_half(out, a.r, b.r);
    store_interleaved_half(out + 8, a.q, b.q);
}

#else

constexpr bool kManyRegisters = false;

struct Blocks {
    u64 v[8];
};
template <class F>
THINNED_INLINE Blocks lanes_of(F f) {
    Blocks out;
    for (int i = 0; i < 8; ++i) out.v[i] = f(i);
    return out;
}
THINNED_INLINE Blocks every(u64 a) {
    return lanes_of([=](int) { return a; });
}
THINNED_INLINE Blocks count_from(u64 a) {
    return lanes_of([=](int i) { return a + static_cast<u64>(i); });
}
THINNED_INLINE Blocks times(const Blocks& a, const Blocks& m) {
    return lanes_of([&](int i) {
        return static_cast<u64>(static_cast<u32>(a.v[i])) * static_cast<u32>(m.v[i]);
    });
}
THINNED_INLINE Blocks high(const Blocks& a) {
    return lanes_of([&](int i) { return a.v[i] >> 32; });
}
THINNED_INLINE Blocks operator^(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] ^ b.v[i]; });
}
THINNED_INLINE Blocks xor3(const Blocks& a, const Blocks& b, const Blocks& c) { return a ^ b ^ c; }
THINNED_INLINE Blocks and_not(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] & ~b.v[i]; });
}
THINNED_INLINE Blocks operator&(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] & b.v[i]; });
}
THINNED_INLINE Blocks operator|(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] | b.v[i]; });
}
THINNED_INLINE Blocks pair(const Blocks& low, const Blocks& up) {
    return lanes_of([&](int i) { return (low.v[i] & 0xFFFFFFFFu) | up.v[i] << 32; });
}
THINNED_INLINE bool none(const Blocks& a, const Blocks& b) {
    u64 any = 0;
    for (int i = 0; i < 8; ++i) any |= a.v[i] | b.v[i];
    return any == 0;
}
THINNED_INLINE void store_interleaved(u64* out, const Blocks& a, const Blocks& b) {
    for (int i = 0; i < 8; ++i) {
        out[2 * i] = a.v[i];
        out[2 * i + 1] = b.v[i];
    }
}

#endif

// ------------------------------------------------------------------------- half types, one at a time

THINNED_INLINE float float_of(u32 bits) {
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}
THINNED_INLINE u32 bits_of(float x) {
    u32 out;
    std::memcpy(&out, &x, 4);
    return out;
}
THINNED_INLINE float from_bf16(u16 h) { return float_of(static_cast<u32>(h) << 16); }
THINNED_INLINE u16 to_bf16(float x) {
    const u32 u = bits_of(x);
    const u32 nan = u >> 16 | 0x40u;
    const u32 rounded = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;  // to nearest, ties to even
    return static_cast<u16>((u & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}
THINNED_INLINE float from_f16(u16 h) {
    // The exponent moves from bias 15 to 127; a multiplication by 2^-14 makes subnormals normal.
    const u32 sign = static_cast<u32>(h & 0x8000u) << 16, rest = h & 0x7FFFu;
    const float small = static_cast<float>(rest) * 0x1p-24f;
    const u32 normal = (rest << 13) + (112u << 23);
    const u32 special = rest << 13 | 0x7F800000u;
    const u32 finite = rest < 0x400u ? bits_of(small) : normal;
    return float_of(sign | (rest >= 0x7C00u ? special : finite));
}
THINNED_INLINE u16 to_f16(float x) {
    const u32 u = bits_of(x), sign = u >> 16 & 0x8000u, rest = u & 0x7FFFFFFFu;
    // Below 2^-14 the half is subnormal: adding 0.5 leaves its rounded bits at the bottom.
    const u32 small = bits_of(float_of(rest) + 0.5f) - 0x3F000000u;
    const u32 normal = (rest - (112u << 23) + 0xFFFu + (rest >> 13 & 1u)) >> 13;
    const u32 finite = rest < 0x38800000u ? small : normal;
    const u32 nan = 0x7E00u | (rest >> 13 & 0x3FFu);
    return static_cast<u16>(sign | (rest > 0x7F800000u   ? nan
                                    : rest >= 0x47800000u ? 0x7C00u
                                                          : finite));
}

// --------------------------------------------------------------------------------- Singles, Doubles

#if defined(THINNED_AVX512)

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
THINNED_INLINE void fence() { _mm_sfence(); }
THINNED_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
THINNED_INLINE void prefetch_to_write(const void* p) { prefetch_owned(p); }

#elif defined(THINNED_AVX2)

struct Singles {
    __m256 r, q;
};
THINNED_INLINE Singles all_of(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
THINNED_INLINE Singles operator*(Singles a, Singles b) {
    return {_mm256_mul_ps(a.r, b.r), _mm256_mul_ps(a.q, b.q)};
}
THINNED_INLINE Singles operator+(Singles a, Singles b) {
    return {_mm256_add_ps(a.r, b.r), _mm256_add_ps(a.q, b.q)};
}
THINNED_INLINE Singles operator-(Singles a, Singles b) {
    return {_mm256_sub_ps(a.r, b.r), _mm256_sub_ps(a.q, b.q)};
}
THINNED_INLINE __m256 lanes_where(__m256i m, __m256i bits) {
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(m, bits), bits));
}
THINNED_INLINE Singles select(u32 m, Singles a, Singles b) {
    const __m256i all = _mm256_set1_epi32(static_cast<int>(m));
    const __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return {_mm256_blendv_ps(b.r, a.r, lanes_where(all, low)),
            _mm256_blendv_ps(b.q, a.q, lanes_where(all, _mm256_slli_epi32(low, 8)))};
}
THINNED_INLINE Singles load_f32(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
THINNED_INLINE void store_f32(float* p, Singles a) {
    _mm256_storeu_ps(p, a.r);
    _mm256_storeu_ps(p + 8, a.q);
}
THINNED_INLINE void stream_f32(float* p, Singles a) {
    _mm256_stream_ps(p, a.r);
    _mm256_stream_ps(p + 8, a.q);
}
THINNED_INLINE __m128i load_half_lane(const u16* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
THINNED_INLINE Singles load_f16(const u16* p) {
    return {_mm256_cvtph_ps(load_half_lane(p)), _mm256_cvtph_ps(load_half_lane(p + 8))};
}
THINNED_INLINE __m256i halves_f16(Singles a) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return _mm256_set_m128i(_mm256_cvtps_ph(a.q, nearest), _mm256_cvtps_ph(a.r, nearest));
}
THINNED_INLINE __m256 widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
THINNED_INLINE Singles load_bf16(const u16* p) {
    return {widen_bf16(load_half_lane(p)), widen_bf16(load_half_lane(p + 8))};
}
THINNED_INLINE __m256i round_bf16(__m256 a) {
    const __m256i u = _mm256_castps_si256(a), top = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_or_si256(top, _mm256_set1_epi32(0x40)), nan);
}
THINNED_INLINE __m256i halves_bf16(Singles a) {
    const __m256i packed = _mm256_packus_epi32(round_bf16(a.r), round_bf16(a.q));
    return _mm256_permute4x64_epi64(packed, 0xD8);
}
THINNED_INLINE void store_halves(u16* p, __m256i a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a);
}
THINNED_INLINE void stream_halves(u16* p, __m256i a) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), a);
}

struct Doubles {
    __m256d r[4];
};
template <class F>
THINNED_INLINE Doubles quarters_of(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}
THINNED_INLINE Doubles all_of(double a) {
    return quarters_of([=](int) { return _mm256_set1_pd(a); });
}
THINNED_INLINE Doubles operator*(const Doubles& a, const Doubles& b) {
    return quarters_of([&](int i) { return _mm256_mul_pd(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles operator+(const Doubles& a, const Doubles& b) {
    return quarters_of([&](int i) { return _mm256_add_pd(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles operator-(const Doubles& a, const Doubles& b) {
    return quarters_of([&](int i) { return _mm256_sub_pd(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles select(u32 m, const Doubles& a, const Doubles& b) {
    const __m256i four = _mm256_setr_epi64x(1, 2, 4, 8);
    return quarters_of([&](int i) {
        const __m256i mine = _mm256_set1_epi64x(static_cast<long long>(m >> 4 * i));
        const __m256i on = _mm256_cmpeq_epi64(_mm256_and_si256(mine, four), four);
        return _mm256_blendv_pd(b.r[i], a.r[i], _mm256_castsi256_pd(on));
    });
}
THINNED_INLINE Doubles load_f64(const double* p) {
    return quarters_of([=](int i) { return _mm256_loadu_pd(p + 4 * i); });
}
THINNED_INLINE void store_f64(double* p, const Doubles& a) {
    for (int i = 0; i < 4; ++i) _mm256_storeu_pd(p + 4 * i, a.r[i]);
}
THINNED_INLINE void stream_f64(double* p, const Doubles& a) {
    for (int i = 0; i < 4; ++i) _mm256_stream_pd(p + 4 * i, a.r[i]);
}
THINNED_INLINE void fence() { _mm_sfence(); }
THINNED_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
THINNED_INLINE void prefetch_to_write(const void* p) { prefetch_owned(p); }

#else

template <class T>
struct Sixteen {
    T v[16];
};
using Singles = Sixteen<float>;
using Doubles = Sixteen<double>;
template <class T, class F>
THINNED_INLINE Sixteen<T> sixteen_of(F f) {
    Sixteen<T> out;
    for (int i = 0; i < 16; ++i) out.v[i] = f(i);
    return out;
}
template <class T>
THINNED_INLINE Sixteen<T> all_of(T a) {
    return sixteen_of<T>([=](int) { return a; });
}
template <class T>
THINNED_INLINE Sixteen<T> operator*(const Sixteen<T>& a, const Sixteen<T>& b) {
    return sixteen_of<T>([&](int i) { return a.v[i] * b.v[i]; });
}
template <class T>
THINNED_INLINE Sixteen<T> operator+(const Sixteen<T>& a, const Sixteen<T>& b) {
    return sixteen_of<T>([&](int i) { return a.v[i] + b.v[i]; });
}
template <class T>
THINNED_INLINE Sixteen<T> operator-(const Sixteen<T>& a, const Sixteen<T>& b) {
    return sixteen_of<T>([&](int i) { return a.v[i] - b.v[i]; });
}
// By masks of whole lanes: a conditional would become a branch, and masks are what no branch
// predictor foresees.
template <class T, class U>
THINNED_INLINE Sixteen<T> select_as(u32 m, const Sixteen<T>& a, const Sixteen<T>& b) {
    U x[16], y[16];
    std::memcpy(x, &a, sizeof x);
    std::memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; ++i) {
        const U k = U{0} - (m >> i & 1u);
        x[i] = (x[i] & k) | (y[i] & ~k);
    }
    Sixteen<T> out;
    std::memcpy(&out, x, sizeof out);
    return out;
}
THINNED_INLINE Singles select(u32 m, const Singles& a, const Singles& b) {
    return select_as<float, u32>(m, a, b);
}
THINNED_INLINE Doubles select(u32 m, const Doubles& a, const Doubles& b) {
    return select_as<double, u64>(m, a, b);
}
THINNED_INLINE Singles load_f32(const float* p) {
    Singles out;
    std::memcpy(&out, p, sizeof out);
    return out;
}
THINNED_INLINE void store_f32(float* p, const Singles& a) { std::memcpy(p, &a, sizeof a); }
THINNED_INLINE void stream_f32(float* p, const Singles& a) { store_f32(p, a); }
THINNED_INLINE Doubles load_f64(const double* p) {
    Doubles out;
    std::memcpy(&out, p, sizeof out);
    return out;
}
THINNED_INLINE void store_f64(double* p, const Doubles& a) { std::memcpy(p, &a, sizeof a); }
THINNED_INLINE void stream_f64(double* p, const Doubles& a) { store_f64(p, a); }
using Halves = Sixteen<u16>;
THINNED_INLINE Halves load_halves(const u16* p) {
    Halves out;
    std::memcpy(&out, p, sizeof out);
    return out;
}
THINNED_INLINE Singles load_f16(const u16* p) {
    const Halves h = load_halves(p);
    return sixteen_of<float>([&](int i) { return from_f16(h.v[i]); });
}
THINNED_INLINE Singles load_bf16(const u16* p) {
    const Halves h = load_halves(p);
    return sixteen_of<float>([&](int i) { return from_bf16(h.v[i]); });
}
THINNED_INLINE Halves halves_f16(const Singles& a) {
    return sixteen_of<u16>([&](int i) { return to_f16(a.v[i]); });
}
THINNED_INLINE Halves halves_bf16(const Singles& a) {
    return sixteen_of<u16>([&](int i) { return to_bf16(a.v[i]); });
}
THINNED_INLINE void store_halves(u16* p, const Halves& a) { std::memcpy(p, &a, sizeof a); }
THINNED_INLINE void stream_halves(u16* p, const Halves& a) { store_halves(p, a); }
THINNED_INLINE void fence() {}
THINNED_INLINE void prefetch(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}
THINNED_INLINE void prefetch_to_write(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 1);
#else
    (void)p;
#endif
}

#endif

}  // namespace
}  // namespace thinned
