// The vector operations in NEON. Included by simd.hpp.
#pragma once

#include "simd.hpp"

namespace thinned {
namespace {

// ------------------------------------------------------------------------------------------ Blocks

constexpr int kLoadsAhead = 1;  // of sixteen elements each
constexpr int kLanes = 4;
constexpr int kPlanesAtOnce = 3;

// The lanes' lower and upper words apart, as a multiplication wants and leaves them: taking the upper
// word of a product costs nothing, and of what is never asked for, nothing is computed.
struct Blocks {
    uint32x4_t low, up;
};
THINNED_INLINE Blocks every(u64 a) {
    return {vdupq_n_u32(static_cast<u32>(a)), vdupq_n_u32(static_cast<u32>(a >> 32))};
}
using KeyInMemory = u64;
THINNED_INLINE u64 in_memory(u64 a) { return a; }
THINNED_INLINE Blocks lane_numbers() {
    constexpr u32 numbers[4] = {0, 1, 2, 3};
    return {vld1q_u32(numbers), vdupq_n_u32(0)};
}
THINNED_INLINE Blocks load(const u64* p) {
    const uint32x4x2_t both = vld2q_u32(reinterpret_cast<const u32*>(p));
    return {both.val[0], both.val[1]};
}
THINNED_INLINE void store(u64* p, Blocks a) {
    vst2q_u32(reinterpret_cast<u32*>(p), uint32x4x2_t{{a.low, a.up}});
}
// Of numbers of blocks in a group, whose sums are of one word.
THINNED_INLINE Blocks sum(Blocks a, Blocks b) { return {vaddq_u32(a.low, b.low), vdupq_n_u32(0)}; }
THINNED_INLINE Blocks times(Blocks a, Blocks m) {
    const uint32x4_t first =
        vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a.low), vget_low_u32(m.low)));
    const uint32x4_t second = vreinterpretq_u32_u64(vmull_high_u32(a.low, m.low));
    return {vuzp1q_u32(first, second), vuzp2q_u32(first, second)};
}
THINNED_INLINE Blocks high(Blocks a) { return {a.up, vdupq_n_u32(0)}; }
THINNED_INLINE Blocks operator^(Blocks a, Blocks b) {
    return {veorq_u32(a.low, b.low), veorq_u32(a.up, b.up)};
}
// Words apart are two operations for a key in both: not fewer than one for each round.
constexpr bool kKeysByTwo = false;
// One round of Philox.
template <bool>
THINNED_INLINE void philox_round(Blocks& c0, Blocks& c1, Blocks& c2, Blocks& c3, const Blocks& m0,
                                 const Blocks& m1, const Blocks& k0, const Blocks& k1) {
    const Blocks left = times(c0, m0), right = times(c2, m1);
    c0 = high(right) ^ c1 ^ k0;
    c2 = high(left) ^ c3 ^ k1;
    c1 = right;
    c3 = left;
}
THINNED_INLINE Blocks and_not(Blocks a, Blocks b) {
    return {vbicq_u32(a.low, b.low), vbicq_u32(a.up, b.up)};
}
THINNED_INLINE Blocks operator&(Blocks a, Blocks b) {
    return {vandq_u32(a.low, b.low), vandq_u32(a.up, b.up)};
}
THINNED_INLINE Blocks operator|(Blocks a, Blocks b) {
    return {vorrq_u32(a.low, b.low), vorrq_u32(a.up, b.up)};
}
THINNED_INLINE Blocks halves_swapped(Blocks a) { return {a.up, a.low}; }
// product ^ c << 32 ^ k.
THINNED_INLINE Blocks last_xor(Blocks product, Blocks c, Blocks k) {
    return {product.low, veorq_u32(veorq_u32(product.up, c.low), k.up)};
}
// One bit to a lane: whether any of the lane's is set.
THINNED_INLINE u32 lanes_set(Blocks a) {
    constexpr u32 ones[4] = {1, 2, 4, 8};
    const uint32x4_t both = vorrq_u32(a.low, a.up);
    return vaddvq_u32(vandq_u32(vtstq_u32(both, both), vld1q_u32(ones)));
}
// For the lanes of a mask, which bytes of a vector come first when those lanes are brought together, and
// how many lanes they are.
struct BytesOfLanes {
    std::uint8_t byte[16][16];
    u32 count[16];
    constexpr BytesOfLanes() : byte(), count() {
        for (u32 lanes = 0; lanes < 16; ++lanes) {
            u32 n = 0;
            for (u32 l = 0; l < 4; ++l) {
                if ((lanes >> l & 1u) == 0) continue;
                for (u32 b = 0; b < 4; ++b) byte[lanes][n++] = static_cast<std::uint8_t>(4 * l + b);
            }
            count[lanes] = n / 4;
        }
    }
};
constexpr BytesOfLanes kBytesOfLanes;

// Brings some of the lanes together at the lower end.
class Packing {
  public:
    THINNED_INLINE explicit Packing(u32 lanes)
        : count_(kBytesOfLanes.count[lanes]), from_(vld1q_u8(kBytesOfLanes.byte[lanes])) {}
    THINNED_INLINE Blocks operator()(Blocks a) const { return {packed(a.low), packed(a.up)}; }
    THINNED_INLINE u32 count() const { return count_; }

  private:
    u32 count_;
    uint8x16_t from_;

    THINNED_INLINE uint32x4_t packed(uint32x4_t a) const {
        return vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a), from_));
    }
};
THINNED_INLINE void store_interleaved(u64* out, Blocks a, Blocks b) {
    vst4q_u32(reinterpret_cast<u32*>(out), uint32x4x4_t{{a.low, a.up, b.low, b.up}});
}

// -------------------------------------------------------------------------------- Singles, Doubles

struct Singles {
    float32x4_t r[4];
};
struct Doubles {
    float64x2_t r[8];
};
template <class F>
THINNED_INLINE Singles fours_of(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}
template <class F>
THINNED_INLINE Doubles twos_of(F f) {
    return {{f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}};
}
THINNED_INLINE Singles all_of(float a) {
    return fours_of([=](int) { return vdupq_n_f32(a); });
}
THINNED_INLINE Singles operator*(const Singles& a, const Singles& b) {
    return fours_of([&](int i) { return vmulq_f32(a.r[i], b.r[i]); });
}
THINNED_INLINE Singles operator+(const Singles& a, const Singles& b) {
    return fours_of([&](int i) { return vaddq_f32(a.r[i], b.r[i]); });
}
THINNED_INLINE Singles operator-(const Singles& a, const Singles& b) {
    return fours_of([&](int i) { return vsubq_f32(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles all_of(double a) {
    return twos_of([=](int) { return vdupq_n_f64(a); });
}
THINNED_INLINE Doubles operator*(const Doubles& a, const Doubles& b) {
    return twos_of([&](int i) { return vmulq_f64(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles operator+(const Doubles& a, const Doubles& b) {
    return twos_of([&](int i) { return vaddq_f64(a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles operator-(const Doubles& a, const Doubles& b) {
    return twos_of([&](int i) { return vsubq_f64(a.r[i], b.r[i]); });
}
// Lanes of ones where the bits of sixteen elements are set: of the four from 4 * i on, the two from 2 * i on.
struct Lanes {
    uint32x4_t all;

    THINNED_INLINE explicit Lanes(u32 m) : all(vdupq_n_u32(m)) {}
    THINNED_INLINE uint32x4_t four(int i) const {
        constexpr u32 ones[16] = {1,      2,      4,      8,      0x10,   0x20,   0x40,   0x80,
                                  0x0100, 0x0200, 0x0400, 0x0800, 0x1000, 0x2000, 0x4000, 0x8000};
        return vtstq_u32(all, vld1q_u32(ones + 4 * i));
    }
    // A lane doubled is the two lanes that a wider one is made of.
    THINNED_INLINE uint64x2_t two(int i) const {
        const uint32x4_t half = four(i / 2);
        return vreinterpretq_u64_u32(i % 2 == 0 ? vzip1q_u32(half, half) : vzip2q_u32(half, half));
    }
};
THINNED_INLINE Singles select(u32 m, const Singles& a, const Singles& b) {
    const Lanes on(m);
    return fours_of([&](int i) { return vbslq_f32(on.four(i), a.r[i], b.r[i]); });
}
THINNED_INLINE Doubles select(u32 m, const Doubles& a, const Doubles& b) {
    const Lanes on(m);
    return twos_of([&](int i) { return vbslq_f64(on.two(i), a.r[i], b.r[i]); });
}
THINNED_INLINE Singles load_f32(const float* p) {
    return fours_of([=](int i) { return vld1q_f32(p + 4 * i); });
}
THINNED_INLINE void store_f32(float* p, const Singles& a) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.r[i]);
}
THINNED_INLINE void stream_f32(float* p, const Singles& a) { store_f32(p, a); }
THINNED_INLINE Doubles load_f64(const double* p) {
    return twos_of([=](int i) { return vld1q_f64(p + 2 * i); });
}
THINNED_INLINE void store_f64(double* p, const Doubles& a) {
    for (int i = 0; i < 8; ++i) vst1q_f64(p + 2 * i, a.r[i]);
}
THINNED_INLINE void stream_f64(double* p, const Doubles& a) { store_f64(p, a); }
struct Halves {
    uint16x8_t low, up;
};
THINNED_INLINE Singles load_f16(const u16* p) {
    return fours_of([=](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
THINNED_INLINE Halves halves_f16(const Singles& a) {
    const auto two = [&](int i) {
        return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.r[i]), a.r[i + 1]));
    };
    return {two(0), two(2)};
}
THINNED_INLINE Singles load_bf16(const u16* p) {
    return fours_of([=](int i) {
        return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    });
}
// In the upper halves of the lanes.
THINNED_INLINE uint16x8_t round_bf16(float32x4_t a) {
    const uint32x4_t u = vreinterpretq_u32_f32(a);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7FFF)), odd);
    const uint32x4_t nan = vorrq_u32(u, vdupq_n_u32(0x400000));
    return vreinterpretq_u16_u32(vbslq_u32(vceqq_f32(a, a), rounded, nan));
}
THINNED_INLINE Halves halves_bf16(const Singles& a) {
    return {vuzp2q_u16(round_bf16(a.r[0]), round_bf16(a.r[1])),
            vuzp2q_u16(round_bf16(a.r[2]), round_bf16(a.r[3]))};
}
THINNED_INLINE void store_halves(u16* p, const Halves& a) {
    vst1q_u16(p, a.low);
    vst1q_u16(p + 8, a.up);
}
THINNED_INLINE void stream_halves(u16* p, const Halves& a) { store_halves(p, a); }

}  // namespace
}  // namespace thinned

#include "simd_portable.hpp"
