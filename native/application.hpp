// What is done to elements whose draws are there. Included by kernel.cpp, once for each instruction set.
#pragma once

#include "job.hpp"
#include "types.hpp"

namespace thinned {
namespace {

// 64 elements to one load of mask bits, then sixteen to a turn; the rest of the run goes through a
// small copy of itself, so that nothing behind its end is read or written.
template <class E, bool reads_f, class Turn>
inline void in_sixteens(const u64* bits, u32 bit, std::size_t n, const E* x, E* y, const E* f,
                        Turn turn) {
    for (; n >= 64; n -= 64, bit += 64, x += 64, y += 64) {
        const u64 m = bits_from(bits, bit);
        for (int i = 0; i < 4; ++i) {
            turn(static_cast<u32>(m >> 16 * i) & 0xFFFFu, x + 16 * i, y + 16 * i,
                 reads_f ? f + 16 * i : f);
        }
        if (reads_f) f += 64;
    }
    if (n == 0) return;
    u64 m = bits_from(bits, bit);
    for (; n >= 16; n -= 16, m >>= 16, x += 16, y += 16) {
        turn(static_cast<u32>(m) & 0xFFFFu, x, y, f);
        if (reads_f) f += 16;
    }
    if (n > 0) {
        E rest[16] = {}, fill[16] = {}, out[16];
        std::memcpy(rest, x, n * sizeof(E));
        if (reads_f) std::memcpy(fill, f, n * sizeof(E));
        turn(static_cast<u32>(m) & 0xFFFFu, rest, out, fill);
        std::memcpy(y, out, n * sizeof(E));
    }
}

template <class T>
void scale(const u64* bits, u32 bit, std::size_t n, const void* x, void* y, const void*,
           const Values& v) {
    using E = typename T::Element;
    using R = typename T::Real;
    const auto s = all_of(static_cast<R>(v.scale)), zero = all_of(R{0});
    in_sixteens<E, false>(bits, bit, n, static_cast<const E*>(x), static_cast<E*>(y),
                          static_cast<const E*>(nullptr),
                          [&](u32 m, const E* from, E* to, const E*) {
                              T::store(to, select(m, T::load(from) * s, zero));
                          });
}

// Bits are moved, not numbers: a kept element is x to the bit, NaN payloads included.
template <class U, bool array>
inline void select_bits(const u64* bits, u32 bit, std::size_t n, const void* x, void* y,
                        const void* f, U fill) {
    in_sixteens<U, array>(bits, bit, n, static_cast<const U*>(x), static_cast<U*>(y),
                          static_cast<const U*>(f), [=](u32 m, const U* from, U* to, const U* g) {
                              U in[16], others[16], out[16];  // copied: from and g lie anywhere
                              std::memcpy(in, from, sizeof in);
                              if (array) std::memcpy(others, g, sizeof others);
                              for (int i = 0; i < 16; ++i) {
                                  const U other = array ? others[i] : fill;
                                  const U k = static_cast<U>(U{0} - (m >> i & 1u));
                                  out[i] = static_cast<U>((in[i] & k) | (other & ~k));
                              }
                              std::memcpy(to, out, sizeof out);
                          });
}

inline u32 fill_bits(F32, double fill) { return bits_of(static_cast<float>(fill)); }
inline u16 fill_bits(F16, double fill) { return to_f16(static_cast<float>(fill)); }
inline u16 fill_bits(BF16, double fill) { return to_bf16(static_cast<float>(fill)); }
inline u64 fill_bits(F64, double fill) {
    u64 out;
    std::memcpy(&out, &fill, 8);
    return out;
}

template <class T, bool array>
void select_op(const u64* bits, u32 bit, std::size_t n, const void* x, void* y, const void* f,
               const Values& v) {
    select_bits<decltype(fill_bits(T{}, 0.0)), array>(bits, bit, n, x, y, f,
                                                      fill_bits(T{}, v.fill));
}

template <class T, bool array>
void affine(const u64* bits, u32 bit, std::size_t n, const void* x, void* y, const void* f,
            const Values& v) {
    using E = typename T::Element;
    using R = typename T::Real;
    const auto s = all_of(static_cast<R>(v.scale)), fill = all_of(static_cast<R>(v.fill));
    in_sixteens<E, array>(bits, bit, n, static_cast<const E*>(x), static_cast<E*>(y),
                          static_cast<const E*>(f), [&](u32 m, const E* from, E* to, const E* g) {
                              const auto other = array ? T::load(g) : fill;
                              T::store(to, select(m, other + s * (T::load(from) - other), other));
                          });
}

inline Singles widen(const float* z, float) { return load_f32(z); }
inline Doubles widen(const float* z, double) {
    double wide[16];
    for (int i = 0; i < 16; ++i) wide[i] = z[i];
    return load_f64(wide);
}

template <class T>
void noise(const float* z, bool one, std::size_t n, const void* x, void* y, const Values& v) {
    using E = typename T::Element;
    using R = typename T::Real;
    const auto std_ = all_of(static_cast<R>(v.scale)), unit = all_of(R{1});
    const E* from = static_cast<const E*>(x);
    E* to = static_cast<E*>(y);
    float same[16];
    for (int i = 0; i < 16; ++i) same[i] = *z;
    for (std::size_t i = 0; i < n; i += 16) {
        const std::size_t m = n - i < 16 ? n - i : 16;
        E rest[16] = {}, out[16];
        float mine[16] = {};
        std::memcpy(mine, one ? same : z + i, m * sizeof(float));
        std::memcpy(rest, from + i, m * sizeof(E));
        T::store(out, T::load(rest) * (unit + std_ * widen(mine, R{})));
        std::memcpy(to + i, out, m * sizeof(E));
    }
}

void expand(const u64* bits, u32 bit, std::size_t n, std::uint8_t* out) {
    for (std::size_t i = 0; i < n; i += 16, bit += 16) {
        const u64 m = bits_from(bits, bit);
        std::uint8_t bytes[16];
        for (int j = 0; j < 16; ++j) bytes[j] = static_cast<std::uint8_t>(m >> j & 1u);
        std::memcpy(out + i, bytes, n - i < 16 ? n - i : 16);
    }
}

}  // namespace
}  // namespace thinned
