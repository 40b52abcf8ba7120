// Words of 32 bits, and the Gaussian draws made of them. Included by kernel.cpp, once for each
// instruction set.
#pragma once

#include "planes.hpp"

namespace thinned {
namespace {

// The words of 32 elements from a multiple of 32 on: eight blocks.
inline void words32(const Stream& s, const RoundKeys& k, u64 start, u32* out) {
    const Blocks flip = every(s.mirror ? ~u64{0} : 0);
    const u64 first = start / 4;
    const Counter counter(s, k, first);
    const Tag tag(counter, k, kWordTag);
    u64 both[16];
    for (u64 b = 0; b < 8; b += kLanes) {
        Plane p(Head(counter, k, first + b, lane_numbers()), tag, k);
        rounds<1>(&p, k, [] {});
        const Words w = p.words(k);
        store_words(both + 2 * b, {w.low ^ flip, w.up ^ flip});
    }
    std::memcpy(out, both, sizeof both);
}

template <class T, class F>
inline void in_pieces_of_32(u64 start, std::size_t n, T* out, F make) {
    T piece[32];
    while (n > 0) {
        const std::size_t skip = start % 32, m = n < 32 - skip ? n : 32 - skip;
        make(start - skip, piece);
        std::memcpy(out, piece + skip, m * sizeof(T));
        start += m, out += m, n -= m;
    }
}

void words(const Stream& s, u64 start, std::size_t n, u32* out) {
    const RoundKeys k(s.seed);
    in_pieces_of_32(start, n, out, [&](u64 from, u32* piece) { words32(s, k, from, piece); });
}

// ln(u) for u in (0, 1): u = m 2^e with m in [1/sqrt 2, sqrt 2), ln m = 2 artanh((m - 1) / (m + 1)),
// whose series is cut where the next term is below 3e-9.
inline float log_unit(float u) {
    const u32 b = bits_of(u);
    const int up = (b & 0x7FFFFFu) > 0x3504F3u;
    const int e = static_cast<int>(b >> 23) - 127 + up;
    const float m = float_of((b & 0x7FFFFFu) | static_cast<u32>(127 - up) << 23);
    const float z = (m - 1.0f) / (m + 1.0f), q = z * z;
    const float series = 1.0f + q * (1 / 3.0f + q * (1 / 5.0f + q * (1 / 7.0f + q * (1 / 9.0f))));
    return static_cast<float>(e) * 0.693147181f + 2.0f * z * series;
}

// Box-Muller on 16 pairs of words: element 2m takes the cosine, 2m + 1 the sine. The angle is taken
// in quarter turns, 4 v = q + t with t in [-1/2, 1/2], exactly; then two short series.
inline void box_muller(const u32* w, float sign, float* z) {
    for (int i = 0; i < 16; ++i) {
        const float u = static_cast<float>(static_cast<int>(w[2 * i] >> 9) * 2 + 1) * 0x1p-24f;
        const float v = static_cast<float>(static_cast<int>(w[2 * i + 1] >> 9) * 2 + 1) * 0x1p-24f;
        const float r = sign * std::sqrt(-2.0f * log_unit(u));
        const int q = static_cast<int>(4.0f * v + 0.5f);
        const float a = (4.0f * v - static_cast<float>(q)) * 1.57079633f, b = a * a;
        const float sine =
            a * (1.0f - b * (1 / 6.0f - b * (1 / 120.0f - b * (1 / 5040.0f - b / 362880.0f))));
        const float cosine =
            1.0f - b * (0.5f - b * (1 / 24.0f -
                                    b * (1 / 720.0f - b * (1 / 40320.0f - b / 3628800.0f))));
        const bool odd = (q & 1) != 0;
        const float c = odd ? sine : cosine, d = odd ? cosine : sine;
        z[2 * i] = r * (((q + 1) & 2) != 0 ? -c : c);
        z[2 * i + 1] = r * ((q & 2) != 0 ? -d : d);
    }
}

void gaussian(const Stream& s, u64 start, std::size_t n, float* out) {
    const RoundKeys k(s.seed);
    Stream plain = s;
    plain.mirror = false;  // the mirror of a Gaussian draw is its negative
    const float sign = s.mirror ? -1.0f : 1.0f;
    in_pieces_of_32(start, n, out, [&](u64 from, float* piece) {
        u32 w[32];
        words32(plain, k, from, w);
        box_muller(w, sign, piece);
    });
}

}  // namespace
}  // namespace thinned
