// Philox on as many blocks side by side as a vector has lanes: planes of mask bits, and blocks of words. Included by kernel.cpp,
// once for each instruction set.
#pragma once

#include "job.hpp"
#include "simd.hpp"

namespace thinned {
namespace {

constexpr u64 kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
constexpr u32 kWordTag = 32;
constexpr u64 kLowWord = 0xFFFFFFFFu;

// A key in every lane, so that an instruction can take it from memory. Where keys come by twos, a product
// is made to differ by the key of the round that takes its upper half and that of the next one, which
// takes its lower half: one operation for both. It is done in every even round from the fourth on.
struct RoundKeys {
    KeyInMemory k0[10], k1[10];
    u32 seed0, seed1;
    explicit RoundKeys(u64 seed)
        : seed0(static_cast<u32>(seed)), seed1(static_cast<u32>(seed >> 32)) {
        for (int r = 0; r < 10; ++r) {
            k0[r] = in_memory(in_place(r, low(r), low(r + 1)));
            k1[r] = in_memory(in_place(r, up(r), up(r + 1)));
        }
    }
    u32 low(int r) const { return seed0 + static_cast<u32>(r) * 0x9E3779B9u; }
    u32 up(int r) const { return seed1 + static_cast<u32>(r) * 0xBB67AE85u; }

  private:
    static u64 in_place(int r, u32 key, u32 next) {
        if (!kKeysByTwo) return r == 9 ? u64{key} << 32 : key;
        return r < 4 ? key : u64{key} << 32 | next;
    }
};

// What the blocks of a stream whose numbers have one high word share.
struct Counter {
    u64 right;  // lo and hi of M1 * site: the part of round 1 that no lane and no plane changes
    u32 c0_after_1;  // but for the tag, which comes in its uppermost byte
    u64 c2_after_1, c0_after_2;

    THINNED_INLINE Counter(const Stream& s, const RoundKeys& k, u64 b) {
        right = kM1 * s.site;
        const u32 word1 = static_cast<u32>(b >> 32) | s.call << 8;
        c0_after_1 = static_cast<u32>(right >> 32) ^ word1 ^ k.low(0);
        c2_after_1 = s.step ^ k.up(0);
        c0_after_2 = (right & kLowWord) ^ k.low(1);
    }
};

// Of the counter only the block number differs between lanes and only the tag between planes, so two and a
// half of the ten rounds are the same for every plane of some blocks: Head does them once, Plane the rest.
struct Head {
    Blocks c3_after_1, c1_after_2_keyed, c0_hi_after_3, c3_after_3;  // the last keyed by twos

    // after: what is to be added to b for each lane, with which it keeps its high word.
    THINNED_INLINE Head(const Counter& c, const RoundKeys& k, u64 b, const Blocks& after) {
        const Blocks m0 = every(kM0), m1 = every(kM1);
        const Blocks left = times(sum(every(b & kLowWord), after), m0);
        const Blocks c1_after_2 = times(high(left) ^ every(c.c2_after_1), m1);
        c3_after_1 = left;
        c1_after_2_keyed = c1_after_2 ^ every(k.k0[2]);
        c3_after_3 = times(high(c1_after_2) ^ every(c.c0_after_2), m0);
        c0_hi_after_3 = high(c3_after_3);
        if (kKeysByTwo) c3_after_3 = c3_after_3 ^ every(k.k1[3]);
    }
};

// What the tag of a plane changes in rounds 2 and 3: the same for all blocks of a Counter.
struct Tag {
    u64 second, third;

    Tag() = default;
    THINNED_INLINE Tag(const Counter& c, const RoundKeys& k, u32 tag) {
        const u64 left = kM0 * (c.c0_after_1 ^ tag << 24);
        second = (left >> 32) ^ k.up(1);
        third = (left & kLowWord) ^ k.up(2);
    }
};

// Words 0 and 1, words 2 and 3 of each of the blocks, the first of two in the upper half: turned over by
// store_words, once for all planes that are compared.
struct Words {
    Blocks low, up;
};
THINNED_INLINE void store_words(u64* out, const Words& w) {
    store_interleaved(out, halves_swapped(w.low), halves_swapped(w.up));
}

// What is left of one plane after the head. Planes are independent, and a round is a chain of
// instructions that wait for each other: planes side by side keep the processor busy.
struct Plane {
    Blocks c0, c1, c2, c3;

    Plane() = default;
    THINNED_INLINE Plane(const Head& h, const Tag& t, const RoundKeys& k) {
        c1 = times(h.c3_after_1 ^ every(t.second), every(kM1));
        c0 = high(c1) ^ h.c1_after_2_keyed;
        if (kKeysByTwo) c1 = c1 ^ every(k.k0[3]);
        c2 = h.c0_hi_after_3 ^ every(t.third);
        c3 = h.c3_after_3;
    }
    template <int r>
    THINNED_INLINE void round(const RoundKeys& k) {
        philox_round<r % 2 == 0>(c0, c1, c2, c3, every(kM0), every(kM1), every(k.k0[r]), every(k.k1[r]));
    }
    // The last round.
    THINNED_INLINE Words words(const RoundKeys& k) const {
        return {last_xor(times(c2, every(kM1)), c1, every(k.k0[9])),
                last_xor(times(c0, every(kM0)), c3, every(k.k1[9]))};
    }
};

constexpr u64 kRoundsOfPlane = 6;  // between its first and the last one
// These, and `beside` after each. By recursion: a compiler that makes a loop of it keeps no plane in
// registers.
template <int count, int r = 3, class Beside>
THINNED_INLINE void rounds(Plane* p, const RoundKeys& k, const Beside& beside) {
    if constexpr (r < 9) {
        for (int i = 0; i < count; ++i) p[i].template round<r>(k);
        beside();
        rounds<count, r + 1>(p, k, beside);
    }
}

}  // namespace
}  // namespace thinned
