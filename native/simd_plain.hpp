// The vector operations as loops over arrays, which compilers turn into SSE2. Included by simd.hpp.
#pragma once

#include "simd.hpp"

namespace thinned {
namespace {

// ------------------------------------------------------------------------------------------ Blocks

constexpr int kLoadsAhead = 1;  // of sixteen elements each
constexpr int kLanes = 8;
constexpr int kPlanesAtOnce = 1;

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
using KeyInMemory = u64;
THINNED_INLINE u64 in_memory(u64 a) { return a; }
THINNED_INLINE Blocks lane_numbers() {
    return lanes_of([](int i) { return static_cast<u64>(i); });
}
THINNED_INLINE Blocks load(const u64* p) {
    Blocks out;
    std::memcpy(&out, p, sizeof out);
    return out;
}
THINNED_INLINE void store(u64* p, const Blocks& a) { std::memcpy(p, &a, sizeof a); }
THINNED_INLINE Blocks sum(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] + b.v[i]; });
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
constexpr bool kKeysByTwo = true;
// One round of Philox.
template <bool keyed>
THINNED_INLINE void philox_round(Blocks& c0, Blocks& c1, Blocks& c2, Blocks& c3, const Blocks& m0,
                                 const Blocks& m1, const Blocks& k0, const Blocks& k1) {
    Blocks left = times(c0, m0), right = times(c2, m1);
    if (keyed) left = left ^ k1, right = right ^ k0;
    c0 = high(right) ^ c1;
    c2 = high(left) ^ c3;
    c1 = right;
    c3 = left;
}
THINNED_INLINE Blocks and_not(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] & ~b.v[i]; });
}
THINNED_INLINE Blocks operator&(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] & b.v[i]; });
}
THINNED_INLINE Blocks operator|(const Blocks& a, const Blocks& b) {
    return lanes_of([&](int i) { return a.v[i] | b.v[i]; });
}
THINNED_INLINE Blocks halves_swapped(const Blocks& a) {
    return lanes_of([&](int i) { return a.v[i] >> 32 | a.v[i] << 32; });
}
// product ^ c << 32, where k is in both of them already.
THINNED_INLINE Blocks last_xor(const Blocks& product, const Blocks& c, const Blocks&) {
    return lanes_of([&](int i) { return product.v[i] ^ c.v[i] << 32; });
}
// One bit to a lane: whether any of the lane's is set.
THINNED_INLINE u32 lanes_set(const Blocks& a) {
    u32 set = 0;
    for (int i = 0; i < 8; ++i) set |= static_cast<u32>(a.v[i] != 0) << i;
    return set;
}
// Brings some of the lanes together at the lower end.
class Packing {
  public:
    explicit Packing(u32 lanes) {
        for (u32 l = 0; l < 8; ++l) {
            from_[count_] = l;
            count_ += lanes >> l & 1u;
        }
    }
    Blocks operator()(const Blocks& a) const {
        Blocks out = a;
        for (u32 i = 0; i < count_; ++i) out.v[i] = a.v[from_[i]];
        return out;
    }
    u32 count() const { return count_; }

  private:
    u32 from_[9], count_ = 0;
};
THINNED_INLINE void store_interleaved(u64* out, const Blocks& a, const Blocks& b) {
    for (int i = 0; i < 8; ++i) {
        out[2 * i] = a.v[i];
        out[2 * i + 1] = b.v[i];
    }
}

// -------------------------------------------------------------------------------- Singles, Doubles

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

}  // namespace
}  // namespace thinned

#include "simd_portable.hpp"
