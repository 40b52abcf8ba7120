// The few vector operations that kernel.cpp is written in, for one instruction set at a time.
//
// Blocks: kLanes lanes of 64 bits, one Philox block in each; only the low 32 bits of a lane count until
// pair() puts two words together. Singles, Doubles: sixteen numbers, with selection by 16 bits. Sieve:
// the bits of a mask in memory, and products of the elements that they keep.
//
// Everything has internal linkage: the same header is compiled for several instruction sets into one
// module, and a function shared between them by the linker could end up using the wrong one.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(THINNED_AVX512) || defined(THINNED_AVX2)
#include <immintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#define THINNED_NEON
#include <arm_neon.h>
#endif

// What a compiler must not weigh: as calls, these pass whole vectors through memory, and the draws of the
// AVX2 kernel take three times as long. GCC gives up inlining where a file has grown by a few uses. The
// plain version has nothing to lose by calls, and would grow by twice its size.
#if !defined(THINNED_AVX512) && !defined(THINNED_AVX2) && !defined(THINNED_NEON)
#define THINNED_INLINE inline
#elif defined(_MSC_VER)
#define THINNED_INLINE __forceinline
#else
#define THINNED_INLINE __attribute__((always_inline)) inline
#endif

// What is called between planes. Sixteen registers are too few for it and for the planes: as a call it has
// them to itself. In thirty-two both have their place, and a processor sees both at once.
#if defined(THINNED_AVX512)
#define THINNED_APART THINNED_INLINE
#elif defined(_MSC_VER)
#define THINNED_APART __declspec(noinline)
#else
#define THINNED_APART __attribute__((noinline))
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

// Half types, one number at a time.
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

}  // namespace
}  // namespace thinned

#if defined(THINNED_AVX512)
#include "simd_avx512.hpp"
#elif defined(THINNED_AVX2)
#include "simd_avx2.hpp"
#elif defined(THINNED_NEON)
#include "simd_neon.hpp"
#else
#include "simd_plain.hpp"
#endif
