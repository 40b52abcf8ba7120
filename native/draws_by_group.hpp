// The keep bits of one group after the other, two at p = 0.5. Included by draws.hpp, where a vector holds all
// blocks of a group: the last of them needs 11.3 planes of a threshold with many bits and a block alone 8.3,
// but with two planes side by side, in registers that are many enough for the application between them,
// asking costs less than sharing.
#pragma once

#include "planes.hpp"

namespace thinned {
namespace {

constexpr u64 kBatch = 2;

// Fewer planes never decide 1,024 lanes but with a chance of about 1e-6: no need to ask before.
constexpr int kPlanesBeforeAsking = 6;

// The lanes of a group while they are compared with the threshold, from the highest plane to the lowest.
struct Comparison {
    Blocks open_low = every(~u64{0}), open_up = open_low, keep_low = open_low, keep_up = open_low;

    // Lanes with the threshold's bit stay open; of those that do not, the ones with a 0 where the threshold
    // has a 1 lie below it and are dropped. Open lanes are not dropped yet, so that leaving both is one
    // xor.
    THINNED_INLINE void with(const Words& w, const Threshold& t, int plane) {
        const Blocks low = open_low, up = open_up;
        if (t.stays_where_set(plane)) {
            open_low = open_low & w.low;
            open_up = open_up & w.up;
        } else {
            open_low = and_not(open_low, w.low);
            open_up = and_not(open_up, w.up);
        }
        if (t.one(plane)) {
            keep_low = xor3(keep_low, low, open_low);
            keep_up = xor3(keep_up, up, open_up);
        }
    }
    THINNED_INLINE bool open() const { return lanes_set(open_low | open_up) != 0; }
};

template <class Between>
THINNED_INLINE void draw_group(const Counter& counter, const RoundKeys& k, const Threshold& t, u64 g,
                               u64* out, Between between) {
    const Head head(counter, k, kBlocksOfGroup * g, lane_numbers());
    Comparison c;
    int j = 0;
    for (; j < t.last; j += 2) {
        Plane p[2] = {Plane(head, Tag(counter, k, static_cast<u32>(j)), k),
                      Plane(head, Tag(counter, k, static_cast<u32>(j + 1)), k)};
        rounds<2>(p, k, [] {});
        c.with(p[0].words(k), t, j);
        c.with(p[1].words(k), t, j + 1);
        between();
        if (j >= kPlanesBeforeAsking && !c.open()) break;
    }
    if (j == t.last) {
        Plane p(head, Tag(counter, k, static_cast<u32>(j)), k);
        rounds<1>(&p, k, [] {});
        c.with(p.words(k), t, j);
    }
    store_words(out, {c.keep_low, c.keep_up});
}

// p = 0.5 costs one plane, too short a chain to fill the processor.
template <class Between>
THINNED_INLINE void draw_two_at_half(const Counter& counter, const RoundKeys& k, const Threshold& t,
                                     u64 g, u64* out, Between between) {
    const Tag tag(counter, k, 0);
    const u64 first = kBlocksOfGroup * g;
    Plane p[2] = {Plane(Head(counter, k, first, lane_numbers()), tag, k),
                  Plane(Head(counter, k, first + kBlocksOfGroup, lane_numbers()), tag, k)};
    rounds<2>(p, k, between);
    const Blocks flip = every(t.mirror ? ~u64{0} : 0);
    for (u64 i = 0; i < 2; ++i) {
        const Words w = p[i].words(k);
        store_words(out + kWordsOfGroup * i, {w.low ^ flip, w.up ^ flip});
    }
}

// How many elements `between` is to take.
inline u64 share_of_pause(const Threshold& t) { return t.last == 0 ? 256 : 192; }

inline u64 groups_at_once(const Threshold& t, u64) { return t.last == 0 ? 2 : 1; }

// The bits of as many groups as batch_from says. `between` is called between planes: a chance to do
// something else with the memory.
template <class Between>
THINNED_INLINE void draw_batch(const Stream& s, const RoundKeys& k, const Threshold& t, u64 g,
                               u64 groups, u64* out, Between between) {
    const Counter counter(s, k, kBlocksOfGroup * g);
    if (groups == 2) {
        draw_two_at_half(counter, k, t, g, out, between);
    } else {
        draw_group(counter, k, t, g, out, between);
    }
}

}  // namespace
}  // namespace thinned
