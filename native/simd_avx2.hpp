// The vector operations in AVX2. Included by simd.hpp.
#pragma once

#include "simd.hpp"

namespace thinned {
namespace {

// ------------------------------------------------------------------------------------------ Blocks

constexpr int kLoadsAhead = 1;  // of sixteen elements each
constexpr int kLanes = 4;
constexpr int kPlanesAtOnce = 3;

struct Blocks {
    __m256i r;
};
THINNED_INLINE Blocks every(u64 a) { return {_mm256_set1_epi64x(static_cast<long long>(a))}; }
// A number that is wanted in every lane, as it lies in memory: in all of them, where an instruction takes
// only a whole vector from there.
using KeyInMemory = Blocks;
THINNED_INLINE Blocks in_memory(u64 a) { return every(a); }
THINNED_INLINE const Blocks& every(const Blocks& a) { return a; }
THINNED_INLINE Blocks lane_numbers() { return {_mm256_setr_epi64x(0, 1, 2, 3)}; }
THINNED_INLINE Blocks load(const u64* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
THINNED_INLINE void store(u64* p, Blocks a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.r);
}
THINNED_INLINE Blocks sum(Blocks a, Blocks b) { return {_mm256_add_epi64(a.r, b.r)}; }
THINNED_INLINE Blocks times(Blocks a, Blocks m) { return {_mm256_mul_epu32(a.r, m.r)}; }
THINNED_INLINE Blocks high(Blocks a) { return {_mm256_srli_epi64(a.r, 32)}; }
THINNED_INLINE Blocks operator^(Blocks a, Blocks b) { return {_mm256_xor_si256(a.r, b.r)}; }
constexpr bool kKeysByTwo = true;
// One round of Philox, in which every result takes the register of what it replaces, so that three planes
// fit into sixteen. Left to a compiler they do not: draws take a fifth longer.
template <bool keyed>
THINNED_INLINE void philox_round(Blocks& c0, Blocks& c1, Blocks& c2, Blocks& c3, const Blocks& m0,
                                 const Blocks& m1, const Blocks& k0, const Blocks& k1) {
#if defined(__GNUC__)
    __m256i high_of;
    if (keyed) {
        __asm__("vpmuludq %[m1], %[c2], %[c2]\n\t"
                "vpmuludq %[m0], %[c0], %[c0]\n\t"
                "vpxor %[k0], %[c2], %[c2]\n\t"
                "vpxor %[k1], %[c0], %[c0]\n\t"
                "vpsrlq $32, %[c2], %[h]\n\t"
                "vpxor %[h], %[c1], %[c1]\n\t"
                "vpsrlq $32, %[c0], %[h]\n\t"
                "vpxor %[h], %[c3], %[c3]"
                : [c0] "+x"(c0.r), [c1] "+x"(c1.r), [c2] "+x"(c2.r), [c3] "+x"(c3.r), [h] "=&x"(high_of)
                : [m0] "x"(m0.r), [m1] "xm"(m1.r), [k0] "m"(k0.r), [k1] "m"(k1.r));
    } else {
        __asm__("vpmuludq %[m1], %[c2], %[c2]\n\t"
                "vpmuludq %[m0], %[c0], %[c0]\n\t"
                "vpsrlq $32, %[c2], %[h]\n\t"
                "vpxor %[h], %[c1], %[c1]\n\t"
                "vpsrlq $32, %[c0], %[h]\n\t"
                "vpxor %[h], %[c3], %[c3]"
                : [c0] "+x"(c0.r), [c1] "+x"(c1.r), [c2] "+x"(c2.r), [c3] "+x"(c3.r), [h] "=&x"(high_of)
                : [m0] "x"(m0.r), [m1] "xm"(m1.r));
    }
    const Blocks left = c0, right = c2;
    c0 = c1, c1 = right, c2 = c3, c3 = left;
#else
    Blocks left = times(c0, m0), right = times(c2, m1);
    if (keyed) left = left ^ k1, right = right ^ k0;
    c0 = high(right) ^ c1;
    c2 = high(left) ^ c3;
    c1 = right;
    c3 = left;
#endif
}
THINNED_INLINE Blocks and_not(Blocks a, Blocks b) { return {_mm256_andnot_si256(b.r, a.r)}; }
THINNED_INLINE Blocks operator&(Blocks a, Blocks b) { return {_mm256_and_si256(a.r, b.r)}; }
THINNED_INLINE Blocks operator|(Blocks a, Blocks b) { return {_mm256_or_si256(a.r, b.r)}; }
THINNED_INLINE Blocks halves_swapped(Blocks a) { return {_mm256_shuffle_epi32(a.r, 0xB1)}; }
// product ^ c << 32, where k is in both of them already.
THINNED_INLINE Blocks last_xor(Blocks product, Blocks c, Blocks) {
    return {_mm256_xor_si256(product.r, _mm256_slli_epi64(c.r, 32))};
}
// One bit to a lane: whether any of the lane's is set.
THINNED_INLINE u32 lanes_set(Blocks a) {
    const __m256i none = _mm256_cmpeq_epi64(a.r, _mm256_setzero_si256());
    return static_cast<u32>(_mm256_movemask_pd(_mm256_castsi256_pd(none))) ^ 0xFu;
}
// For the lanes of a mask, which halves of a vector come first when those lanes are brought together, and
// how many lanes they are.
struct HalvesOfLanes {
    u32 half[16][8], count[16];
    constexpr HalvesOfLanes() : half(), count() {
        for (u32 lanes = 0; lanes < 16; ++lanes) {
            u32 n = 0;
            for (u32 l = 0; l < 4; ++l) {
                if ((lanes >> l & 1u) == 0) continue;
                half[lanes][n++] = 2 * l;
                half[lanes][n++] = 2 * l + 1;
            }
            count[lanes] = n / 2;
        }
    }
};
constexpr HalvesOfLanes kHalvesOfLanes;

// Brings some of the lanes together at the lower end.
class Packing {
  public:
    THINNED_INLINE explicit Packing(u32 lanes)
        : count_(kHalvesOfLanes.count[lanes]),
          from_(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(kHalvesOfLanes.half[lanes]))) {}
    THINNED_INLINE Blocks operator()(Blocks a) const {
        return {_mm256_permutevar8x32_epi32(a.r, from_)};
    }
    THINNED_INLINE u32 count() const { return count_; }

  private:
    u32 count_;
    __m256i from_;
};
THINNED_INLINE void store_interleaved(u64* out, Blocks a, Blocks b) {
    const __m256i low = _mm256_unpacklo_epi64(a.r, b.r), up = _mm256_unpackhi_epi64(a.r, b.r);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(low, up, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4),
                        _mm256_permute2x128_si256(low, up, 0x31));
}

// -------------------------------------------------------------------------------- Singles, Doubles

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
// Sixteen numbers, those of even places and those of odd ones: as elements of 16 bits lie in the two halves
// of a lane, so that no shuffle brings them apart or together.
struct Alternate {
    __m256 even, odd;
};
using ScaledBF16 = Alternate;
THINNED_INLINE Alternate load_bf16_to_scale(const u16* p) {
    const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(h, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(h, _mm256_set1_epi32(-0x10000)))};
}
// Rounded, in the upper half of each lane. For a NaN it has to have zeros in the lower one, as products of
// bfloat16 and a number have: with others it could be carried over into another number.
THINNED_INLINE __m256i round_product_bf16(__m256 a) {
    const __m256i u = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd);
}
THINNED_INLINE __m256i halves_bf16(Alternate a) {
    return _mm256_blend_epi16(_mm256_srli_epi32(round_product_bf16(a.even), 16),
                              round_product_bf16(a.odd), 0xAA);
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
// Which of 64 elements are kept, by bits in memory that begin somewhere in a byte: a broadcast from
// memory costs no place among the vector instructions, a mask by way of a register two. A shift brings
// each element's bit to the top of its lane, where a blend looks. (A masked load looks there too and would
// spare the blend, but what it misses in the cache it waits for: a third slower at 256k elements.)
class Sieve {
  public:
    // shift: the position of the first bit in its byte.
    explicit Sieve(u32 shift)
        : low_(_mm256_sub_epi32(_mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24),
                                _mm256_set1_epi32(static_cast<int>(shift)))),
          up_(_mm256_sub_epi32(low_, _mm256_set1_epi32(8))),
          even_(_mm256_sub_epi32(_mm256_setr_epi32(31, 29, 27, 25, 23, 21, 19, 17),
                                 _mm256_set1_epi32(static_cast<int>(shift)))),
          odd_(_mm256_sub_epi32(even_, _mm256_set1_epi32(1))) {}
    THINNED_INLINE const unsigned char* at(const unsigned char* bits) const { return bits; }
    // a * s, and zeros for what is dropped, of the sixteen from 16 * i on. Reads four bytes.
    THINNED_INLINE Singles product(const unsigned char* bits, int i, Singles a, Singles s) const {
        const __m256i all = _mm256_set1_epi32(word(bits + 2 * i));
        const Singles z = a * s;
        return {kept(z.r, _mm256_sllv_epi32(all, low_)), kept(z.q, _mm256_sllv_epi32(all, up_))};
    }
    THINNED_INLINE Alternate product(const unsigned char* bits, int i, Alternate a, Singles s) const {
        const __m256i all = _mm256_set1_epi32(word(bits + 2 * i));
        return {kept(_mm256_mul_ps(a.even, s.r), _mm256_sllv_epi32(all, even_)),
                kept(_mm256_mul_ps(a.odd, s.r), _mm256_sllv_epi32(all, odd_))};
    }
    THINNED_INLINE Doubles product(const unsigned char* bits, int i, const Doubles& a,
                                   const Doubles& s) const {
        const __m256i all = _mm256_set1_epi32(word(bits + 2 * i));
        const __m256i low = _mm256_sllv_epi32(all, low_), up = _mm256_sllv_epi32(all, up_);
        const Doubles z = a * s;
        return {{kept(z.r[0], _mm256_castsi256_si128(low)), kept(z.r[1], _mm256_extracti128_si256(low, 1)),
                 kept(z.r[2], _mm256_castsi256_si128(up)), kept(z.r[3], _mm256_extracti128_si256(up, 1))}};
    }

  private:
    __m256i low_, up_, even_, odd_;

    // Zeros of which GCC does not know: what it knows to blend with zeros it turns into a comparison and an
    // "and", an instruction more.
    THINNED_INLINE static __m256 zeros() {
        __m256 none = _mm256_setzero_ps();
#if defined(__GNUC__)
        __asm__("" : "+x"(none));
#endif
        return none;
    }
    THINNED_INLINE static __m256 kept(__m256 z, __m256i tops) {
        return _mm256_blendv_ps(zeros(), z, _mm256_castsi256_ps(tops));
    }
    THINNED_INLINE static __m256d kept(__m256d z, __m128i tops) {
        return _mm256_blendv_pd(_mm256_castps_pd(zeros()), z,
                                _mm256_castsi256_pd(_mm256_cvtepi32_epi64(tops)));
    }
    THINNED_INLINE static int word(const unsigned char* bits) {
        int w;
        std::memcpy(&w, bits, 4);
        return w;
    }
};

THINNED_INLINE void fence() { _mm_sfence(); }
THINNED_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
THINNED_INLINE void prefetch_to_write(const void* p) { prefetch_owned(p); }

}  // namespace
}  // namespace thinned
