// The types of elements, and the bits that say which of them are kept. Included by kernel.cpp, once for
// each instruction set.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace thinned {
namespace {

// A type says how sixteen of its elements come into the arithmetic and go back, and what a number of
// the arithmetic becomes in between. Those that a Sieve scales come in whatever order suits it.
struct F32 {
    using Element = float;
    using Real = float;
    static Singles load(const Element* p) { return load_f32(p); }
    static Singles load_to_scale(const Element* p) { return load(p); }
    static void store(Element* p, const Singles& a) { store_f32(p, a); }
    static void stream(Element* p, const Singles& a) { stream_f32(p, a); }
    static Singles rounded(const Singles& a) { return a; }
};
struct F64 {
    using Element = double;
    using Real = double;
    static Doubles load(const Element* p) { return load_f64(p); }
    static Doubles load_to_scale(const Element* p) { return load(p); }
    static void store(Element* p, const Doubles& a) { store_f64(p, a); }
    static void stream(Element* p, const Doubles& a) { stream_f64(p, a); }
    static Doubles rounded(const Doubles& a) { return a; }
};
struct F16 {
    using Element = u16;
    using Real = float;
    static Singles load(const Element* p) { return load_f16(p); }
    static Singles load_to_scale(const Element* p) { return load(p); }
    static void store(Element* p, const Singles& a) { store_halves(p, halves_f16(a)); }
    static void stream(Element* p, const Singles& a) { stream_halves(p, halves_f16(a)); }
    static Singles rounded(const Singles& a) {
        Element half[16];
        store(half, a);
        return load(half);
    }
};
struct BF16 {
    using Element = u16;
    using Real = float;
    static Singles load(const Element* p) { return load_bf16(p); }
    static ScaledBF16 load_to_scale(const Element* p) { return load_bf16_to_scale(p); }
    template <class Numbers>
    static void store(Element* p, const Numbers& a) {
        store_halves(p, halves_bf16(a));
    }
    template <class Numbers>
    static void stream(Element* p, const Numbers& a) {
        stream_halves(p, halves_bf16(a));
    }
    static Singles rounded(const Singles& a) {
        Element half[16];
        store(half, a);
        return load(half);
    }
};

// 64 mask bits from position `at` on; reads up to 9 bytes.
THINNED_INLINE u64 bits_from(const u64* bits, u32 at) {
    const unsigned char* p = reinterpret_cast<const unsigned char*>(bits) + (at >> 3);
    u64 word;
    std::memcpy(&word, p, 8);
    const u32 shift = at & 7;
    return word >> shift | static_cast<u64>(p[8]) << 1 << (63 - shift);
}

}  // namespace
}  // namespace thinned
