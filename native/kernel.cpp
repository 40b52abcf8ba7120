// The kernels, in the vector operations of simd.hpp. Compiled once for each instruction set.
#include "job.hpp"
#include "row_kernels.hpp"
#include "simd.hpp"
#include "types.hpp"

#if defined(THINNED_AVX512)
#define THINNED_TABLE kernel_avx512
#define THINNED_NAME "avx512"
#define THINNED_ALONE_UP_TO (1u << 21)
#elif defined(THINNED_AVX2)
#define THINNED_TABLE kernel_avx2
#define THINNED_NAME "avx2"
#define THINNED_ALONE_UP_TO (1u << 20)
#else
#define THINNED_TABLE kernel_plain
#define THINNED_ALONE_UP_TO (1u << 17)
#if defined(__aarch64__) || defined(_M_ARM64)
#define THINNED_NAME "neon"
#else
#define THINNED_NAME "baseline"
#endif
#endif

namespace thinned {
namespace {

constexpr u64 kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
constexpr u32 kWordTag = 32;

// 64 bits to a key, so that a vector instruction can broadcast it from memory.
struct RoundKeys {
    u64 k0[10], k1[10];
    explicit RoundKeys(u64 seed) {
        u32 a = static_cast<u32>(seed), b = static_cast<u32>(seed >> 32);
        for (int r = 0; r < 10; ++r, a += 0x9E3779B9u, b += 0xBB67AE85u) k0[r] = a, k1[r] = b;
    }
};

// Philox on eight consecutive blocks. Of the counter only the block number differs between lanes and
// only the tag between planes, so two and a half of the ten rounds are the same for every plane of
// the eight blocks: Head does them once, plane() the rest.
struct Head {
    Blocks c3_after_1, c1_after_2, c0_hi_after_3, c3_after_3;
    u64 right;   // lo and hi of M1 * site: the part of round 1 that no lane and no plane changes
    u32 word1;   // counter word 1 but for the tag

    THINNED_INLINE Head(const Stream& s, const RoundKeys& k, u64 b) {
        const Blocks left = times(count_from(b & 0xFFFFFFFFu), every(kM0));
        right = kM1 * s.site;
        word1 = static_cast<u32>(b >> 32) | s.call << 8;
        const Blocks c2_after_1 = high(left) ^ every(s.step ^ k.k1[0]);
        c3_after_1 = left;
        c1_after_2 = times(c2_after_1, every(kM1));
        const Blocks c0_after_2 =
            high(c1_after_2) ^ every((right & 0xFFFFFFFFu) ^ k.k0[1]);
        c3_after_3 = times(c0_after_2, every(kM0));
        c0_hi_after_3 = high(c3_after_3);
    }
};

struct Words {
    Blocks low, up;  // words 0 and 1, words 2 and 3 of each of eight blocks
};

// What is left of one plane after the head. Planes are independent, and a round is a chain of three
// instructions that wait for each other: two planes side by side keep the processor busy.
struct Plane {
    Blocks c0, c1, c2, c3;

    THINNED_INLINE Plane(const Head& h, const RoundKeys& k, u32 tag) {
        const u32 c0_after_1 =
            static_cast<u32>(h.right >> 32) ^ (h.word1 | tag << 24) ^ static_cast<u32>(k.k0[0]);
        const u64 left = kM0 * c0_after_1;
        const Blocks c2_after_2 = h.c3_after_1 ^ every((left >> 32) ^ k.k1[1]);
        c1 = times(c2_after_2, every(kM1));
        c0 = xor3(high(c1), h.c1_after_2, every(k.k0[2]));
        c2 = h.c0_hi_after_3 ^ every((left & 0xFFFFFFFFu) ^ k.k1[2]);
        c3 = h.c3_after_3;
    }
    THINNED_INLINE void round(const RoundKeys& k, int r) {
        const Blocks left = times(c0, every(kM0)), right = times(c2, every(kM1));
        c0 = xor3(high(right), c1, every(k.k0[r]));
        c2 = xor3(high(left), c3, every(k.k1[r]));
        c1 = right;
        c3 = left;
    }
    THINNED_INLINE Words words() const { return {pair(c0, c1), pair(c2, c3)}; }
};

THINNED_INLINE Words plane(const Head& h, const RoundKeys& k, u32 tag) {
    Plane p(h, k, tag);
    for (int r = 3; r < 10; ++r) p.round(k, r);
    return p.words();
}

// Fewer planes never decide 1,024 lanes but with a chance of about 1e-6: no need to ask before.
constexpr int kPlanesBeforeAsking = 6;

// The lanes of 1,024 elements while they are compared with the threshold.
struct Comparison {
    Blocks open_low = every(~u64{0}), open_up = open_low, keep_low = open_low, keep_up = open_low;

    // `one` is the threshold's bit in this plane. Lanes with the same bit stay open; of those that do
    // not, the ones with a 0 where the threshold has a 1 lie below it and are dropped. Open lanes are
    // not dropped yet, so that leaving both is one xor. With `mirror` every bit of w is the other one.
    THINNED_INLINE void with(const Words& w, bool mirror, bool one) {
        const Blocks low = open_low, up = open_up;
        if (one != mirror) {
            open_low = open_low & w.low;
            open_up = open_up & w.up;
        } else {
            open_low = and_not(open_low, w.low);
            open_up = and_not(open_up, w.up);
        }
        if (one) {
            keep_low = xor3(keep_low, low, open_low);
            keep_up = xor3(keep_up, up, open_up);
        }
    }
};

// `between` is called after every pair of planes: a chance to do something else with the memory.
template <class Between>
THINNED_INLINE void group_bits(const Stream& s, const RoundKeys& k, u64 g, u64* out, Between between) {
    const Head head(s, k, 8 * g);
    const u32 t = static_cast<u32>(s.threshold);
    int last = 31;  // the plane of the lowest set bit of t: who is undecided after it is kept
    while ((t >> (31 - last) & 1u) == 0) --last;
    Comparison c;
    int j = 0;
    for (; j < last; j += 2) {
        Plane a(head, k, static_cast<u32>(j)), b(head, k, static_cast<u32>(j + 1));
        for (int r = 3; r < 10; ++r) {
            a.round(k, r);
            b.round(k, r);
        }
        c.with(a.words(), s.mirror, (t >> (31 - j) & 1u) != 0);
        c.with(b.words(), s.mirror, (t >> (30 - j) & 1u) != 0);
        between();
        if (j >= kPlanesBeforeAsking && none(c.open_low, c.open_up)) break;
    }
    if (j == last) c.with(plane(head, k, static_cast<u32>(j)), s.mirror, true);
    store_interleaved(out, c.keep_low, c.keep_up);
}

// p = 0.5 costs one plane, too short a chain to fill the processor: two groups side by side.
// `between` is called after every round.
template <class Between>
THINNED_INLINE void two_groups_at_half(const Stream& s, const RoundKeys& k, u64 g, u64* out,
                               Between between) {
    const Head first(s, k, 8 * g), second(s, k, 8 * g + 8);
    const Blocks flip = every(s.mirror ? ~u64{0} : 0);
    Plane a(first, k, 0), b(second, k, 0);
    for (int r = 3; r < 10; ++r) {
        a.round(k, r);
        b.round(k, r);
        between();
    }
    const Words v = a.words(), w = b.words();
    store_interleaved(out, v.low ^ flip, v.up ^ flip);
    store_interleaved(out + 16, w.low ^ flip, w.up ^ flip);
}

void bits(const Stream& s, u64 g, u64* out) { group_bits(s, RoundKeys(s.seed), g, out, [] {}); }

// ------------------------------------------------------------------------- words and Gaussian draws

// The words of 32 elements from a multiple of 32 on: eight blocks.
inline void words32(const Stream& s, const RoundKeys& k, u64 start, u32* out) {
    const Words w = plane(Head(s, k, start / 4), k, kWordTag);
    const Blocks flip = every(s.mirror ? ~u64{0} : 0);
    u64 both[16];
    store_interleaved(both, w.low ^ flip, w.up ^ flip);
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

// --------------------------------------------------------------------------------------- application

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

// Any operation over a run: group after group.
void fused(const Stream& s, u64 start, std::size_t n, ApplyBits apply, std::size_t item,
           const void* x, void* y, const void* f, const Values& values) {
    const RoundKeys k(s.seed);
    const char* from = static_cast<const char*>(x);
    const char* fill = static_cast<const char*>(f);
    char* to = static_cast<char*>(y);
    u64 keep[17] = {};
    while (n > 0) {
        const std::size_t skip = start % kGroup, m = n < kGroup - skip ? n : kGroup - skip;
        group_bits(s, k, start / kGroup, keep, [] {});
        apply(keep, static_cast<u32>(skip), m, from, to, fill, values);
        start += m, n -= m, from += m * item, to += m * item;
        if (fill != nullptr) fill += m * item;
    }
}

// Elements whose bits are drawn and that wait to be scaled, 64 at a time, at aligned places of y.
template <class T, Reach reach>
struct Waiting {
    using E = typename T::Element;
    using R = typename T::Real;

    const Values& values;
    const E* x;
    E* y;
    decltype(all_of(R{})) factor;
    const u64* keep = nullptr;
    u32 bit = 0;
    std::size_t n = 0;

    Waiting(const Values& v, const void* from, void* to)
        : values(v),
          x(static_cast<const E*>(from)),
          y(static_cast<E*>(to)),
          factor(all_of(static_cast<R>(v.scale))) {}

    using Lanes = decltype(all_of(R{}));
    THINNED_INLINE static void put(E* to, const Lanes& z) {
        if (reach == Reach::streaming) {
            T::stream(to, z);
        } else {
            T::store(to, z);
        }
    }
    // At most so many, in whole 64s.
    THINNED_INLINE void some(std::size_t most) {
        const auto zero = all_of(R{0});
        for (std::size_t left = n < most ? n : most; left >= 64; left -= 64) {
            const u64 m = bits_from(keep, bit);
            if (reach == Reach::far) {
                // One group ahead, line by line: a window of instructions that holds the draws of the
                // next group has too few loads and stores in it to keep the memory busy.
                for (std::size_t i = 0; i < 64 * sizeof(E); i += 64) {
                    prefetch(reinterpret_cast<const char*>(x + kGroup) + i);
                    prefetch_to_write(reinterpret_cast<const char*>(y + kGroup) + i);
                }
            }
            if (kManyRegisters) {
                // All loads before the first store: where y lies a little behind x modulo 4,096 bytes,
                // a load that follows a store waits for it, and the pass takes a third longer. (With
                // 16 registers the loads spill, which costs as much.)
                const auto a = T::load(x), b = T::load(x + 16);
                const auto c = T::load(x + 32), d = T::load(x + 48);
                put(y, select(static_cast<u32>(m) & 0xFFFFu, a * factor, zero));
                put(y + 16, select(static_cast<u32>(m >> 16) & 0xFFFFu, b * factor, zero));
                put(y + 32, select(static_cast<u32>(m >> 32) & 0xFFFFu, c * factor, zero));
                put(y + 48, select(static_cast<u32>(m >> 48) & 0xFFFFu, d * factor, zero));
            } else {
                for (int i = 0; i < 64; i += 16) {
                    const u32 sixteen = static_cast<u32>(m >> i) & 0xFFFFu;
                    put(y + i, select(sixteen, T::load(x + i) * factor, zero));
                }
            }
            n -= 64, bit += 64, x += 64, y += 64;
        }
    }
    // So many, whatever their number.
    void exactly(std::size_t m) {
        scale<T>(keep, bit, m, x, y, nullptr, values);
        n -= m, bit += static_cast<u32>(m), x += m, y += m;
    }
};

// Dropout itself. The draws of the next group are made while those of the last are applied, in turns:
// drawing only computes, applying mostly waits for memory, and a processor does both at once where it
// sees both at once. One after the other took 25 % longer at p = 0.1, 8 % at p = 0.5.
template <class T, Reach reach>
void fused_scale(const Stream& s, u64 start, std::size_t n, const void* x, void* y,
                 const Values& values) {
    const RoundKeys k(s.seed);
    Waiting<T, reach> waiting(values, x, y);
    const bool half = s.threshold == u64{1} << 31;
    // Word 0 takes what the last group left over; 8 bytes behind the draws are readable.
    u64 keep[2][34] = {};
    // Elements before the first place of y that is aligned for a whole vector, and for streaming.
    std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(y) % 64) % 64 / sizeof(*waiting.y);
    for (int turn = 0; n > 0; turn = 1 - turn) {
        const std::size_t skip = start % kGroup;
        const bool two = half && skip == 0 && n >= 2 * kGroup;
        const std::size_t rest = two ? 2 * kGroup : kGroup - skip, m = n < rest ? n : rest;
        if (reach == Reach::streaming) {
            const char* ahead = reinterpret_cast<const char*>(waiting.x + waiting.n);
            for (std::size_t i = 0; i < m * sizeof(*waiting.x); i += 64) prefetch(ahead + i);
        }
        u64* draws = keep[turn] + 1;
        if (two) {
            two_groups_at_half(s, k, start / kGroup, draws, [&] { waiting.some(256); });
        } else {
            group_bits(s, k, start / kGroup, draws, [&] { waiting.some(192); });
        }
        waiting.some(waiting.n);
        const u32 left = static_cast<u32>(waiting.n);
        if (left > 0) keep[turn][0] = bits_from(waiting.keep, waiting.bit) << (64 - left);
        waiting.keep = keep[turn];
        waiting.bit = left > 0 ? 64 - left : 64 + static_cast<u32>(skip);
        waiting.n = left + m;
        const std::size_t now = head < waiting.n ? head : waiting.n;
        waiting.exactly(now);
        head -= now;
        start += m, n -= m;
    }
    waiting.some(waiting.n);
    waiting.exactly(waiting.n);
}

// As Waiting, without a draw to look at.
template <class T, Reach reach>
void whole(std::size_t n, const void* x, void* y, const Values& values) {
    static constexpr u64 kept[3] = {~u64{0}, ~u64{0}, ~u64{0}};
    Waiting<T, reach> w(values, x, y);
    w.keep = kept;
    w.n = n;
    const std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(y) % 64) % 64 / sizeof(*w.y);
    w.exactly(head < n ? head : n);
    while (w.n >= 64) {
        if (reach == Reach::streaming) {
            const char* ahead = reinterpret_cast<const char*>(w.x) + 4096;
            for (std::size_t i = 0; i < 64 * sizeof(*w.x); i += 64) prefetch(ahead + i);
        }
        w.bit = 0;
        w.some(64);
    }
    w.bit = 0;
    w.exactly(w.n);
}

template <class T>
void enter(Kernel& k, Type type) {
    ApplyBits* row = k.apply[static_cast<int>(type)];
    row[static_cast<int>(Op::scale)] = scale<T>;
    row[static_cast<int>(Op::select)] = select_op<T, false>;
    row[static_cast<int>(Op::select_array)] = select_op<T, true>;
    row[static_cast<int>(Op::affine)] = affine<T, false>;
    row[static_cast<int>(Op::affine_array)] = affine<T, true>;
    FusedScale* fused = k.fused_scale[static_cast<int>(type)];
    fused[static_cast<int>(Reach::near)] = fused_scale<T, Reach::near>;
    fused[static_cast<int>(Reach::far)] = fused_scale<T, Reach::far>;
    fused[static_cast<int>(Reach::streaming)] = fused_scale<T, Reach::streaming>;
    ApplyWhole* wholes = k.whole[static_cast<int>(type)];
    wholes[static_cast<int>(Reach::near)] = wholes[static_cast<int>(Reach::far)] =
        whole<T, Reach::near>;
    wholes[static_cast<int>(Reach::streaming)] = whole<T, Reach::streaming>;
    k.noise[static_cast<int>(type)] = noise<T>;
    k.rows[static_cast<int>(type)][0] = rows_of<T, T>();
}

Kernel make() {
    Kernel k{};
    k.name = THINNED_NAME;
    k.alone_up_to = THINNED_ALONE_UP_TO;
    k.bits = bits;
    k.words = words;
    k.gaussian = gaussian;
    k.expand = expand;
    k.fused = fused;
    k.fence = [] { fence(); };
    enter<F32>(k, Type::f32);
    enter<F64>(k, Type::f64);
    enter<F16>(k, Type::f16);
    enter<BF16>(k, Type::bf16);
    k.rows[static_cast<int>(Type::f16)][1] = rows_of<F16, F32>();
    k.rows[static_cast<int>(Type::bf16)][1] = rows_of<BF16, F32>();
    return k;
}

}  // namespace

const Kernel& THINNED_TABLE() {
    static const Kernel table = make();
    return table;
}

}  // namespace thinned
