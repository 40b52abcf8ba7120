// The keep bits of whole groups, a batch of groups together. Included by kernel.cpp, once for each
// instruction set.
#pragma once

#include "job.hpp"
#include "planes.hpp"

namespace thinned {
namespace {

// Groups that are drawn together. More would gain two planes in a hundred.
constexpr u64 kBatch = 8;
constexpr u64 kElementsOfBlock = 128, kBlocksOfGroup = 8, kWordsOfGroup = 16;

// Planes that all blocks take before it is asked which of them have open lanes. A block needs 8.3 planes
// at a threshold with many bits, the last of the eight blocks of a group 11.3.
constexpr int kPlanesOfAll = (8 + kPlanesAtOnce - 1) / kPlanesAtOnce * kPlanesAtOnce;

// The threshold of a stream, bit by bit.
struct Threshold {
    u32 t;
    bool mirror;
    int last = 31;  // the plane of the lowest set bit: who is open after it is kept

    explicit Threshold(const Stream& s) : t(static_cast<u32>(s.threshold)), mirror(s.mirror) {
        while ((t >> (31 - last) & 1u) == 0) --last;
    }
    // With `mirror` every bit of a draw is the other one.
    bool one(int plane) const { return (t >> (31 - plane) & 1u) != 0; }
    bool stays_where_set(int plane) const { return one(plane) != mirror; }
};

// The lanes of some blocks while they are compared with the threshold, from the lowest plane to the
// highest, in which one operation a plane is enough: a lane with the threshold's bit keeps the fate that
// the lower planes gave it. Open are those that have had the threshold's bit in all of them; behind the
// lowest bit that the threshold has, they are kept.
struct Comparison {
    Blocks fate_low, fate_up, open_low, open_up;

    THINNED_INLINE explicit Comparison(const Threshold& t)
        : fate_low(every(t.mirror ? 0 : ~u64{0})),
          fate_up(fate_low),
          open_low(every(~u64{0})),
          open_up(open_low) {}
    template <bool with_open>
    THINNED_INLINE void with(const Words& w, bool stays_where_set) {
        if (stays_where_set) {
            fate_low = fate_low & w.low;
            fate_up = fate_up & w.up;
            if (with_open) open_low = open_low & w.low, open_up = open_up & w.up;
        } else {
            fate_low = fate_low | w.low;
            fate_up = fate_up | w.up;
            if (with_open) open_low = and_not(open_low, w.low), open_up = and_not(open_up, w.up);
        }
    }
    THINNED_INLINE void store_keep(const Threshold& t, u64* out) const {
        const Blocks flip = every(t.mirror ? ~u64{0} : 0);
        store_interleaved(out, fate_low ^ flip, fate_up ^ flip);
    }
};

// The blocks of a batch whose fate is open after the planes of all: eight of them at a time take the next
// two planes side by side, wherever in the batch they lie.
class OpenBlocks {
  public:
    // A group's open lanes, as store_interleaved has them.
    u64* of_block(u64 b) { return open_ + 2 * b; }
    // Of the blocks from `first` on, those with a bit in `lanes` are open. In their order.
    THINNED_INLINE void found(u64 first, u32 lanes) {
        for (u32 l = 0; l < kLanes; ++l) {
            which_[count_] = static_cast<u32>(first) + l;
            count_ += lanes >> l & 1u;
        }
    }
    // first: the number of the batch's first block.
    template <class Between>
    THINNED_INLINE void settle(const Counter& c, const RoundKeys& k, const Threshold& t, u64 first,
                               u64* keep, Between between) {
        for (int j = kPlanesOfAll; j <= t.last && count_ > 0; j += kNext) {
            Tag tag[kNext];
            for (int i = 0; i < kNext; ++i) tag[i] = Tag(c, k, static_cast<u32>(j + i));
            const u32 here = count_;
            count_ = 0;
            for (u32 i = here; i < here + kLanes; ++i) which_[i] = 0;
            for (u32 i = 0; i < here; i += kLanes) {
                const Head head(c, k, first, numbers(which_ + i));
                Plane p[kNext];
                for (int a = 0; a < kNext; ++a) p[a] = Plane(head, tag[a]);
                rounds<kNext>(p, k);
                Comparison compared(t);
                for (int a = kNext - 1; a >= 0; --a) {
                    if (j + a > t.last) continue;
                    compared.with<true>(p[a].words(k), t.stays_where_set(j + a));
                }
                u64 fate[2 * kLanes], still[2 * kLanes];
                compared.store_keep(t, fate);
                store_interleaved(still, compared.open_low, compared.open_up);
                between();
                const u32 m = here - i < kLanes ? here - i : kLanes;
                for (u32 l = 0; l < m; ++l) {
                    const u32 block = which_[i + l];
                    u64 any = 0;
                    for (u32 half = 0; half < 2; ++half) {
                        u64& open = open_[2 * block + half];
                        keep[2 * block + half] &= ~open | fate[2 * l + half];
                        open &= still[2 * l + half];
                        any |= open;
                    }
                    which_[count_] = block;
                    count_ += any != 0;
                }
            }
        }
    }

  private:
    static constexpr int kNext = kPlanesAtOnce > 1 ? kPlanesAtOnce : 2;
    static constexpr u32 kMost = kBlocksOfGroup * kBatch + kLanes;

    u64 open_[kWordsOfGroup * kBatch];
    u32 which_[kMost];
    u32 count_ = 0;
};

// Of the groups from g on, at most kBatch, how many have block numbers that differ in the low word alone.
inline u64 batch_from(u64 g, u64 groups) {
    constexpr u64 kGroupsOfLowWord = (u64{1} << 32) / kBlocksOfGroup;
    const u64 left = kGroupsOfLowWord - g % kGroupsOfLowWord, most = left < kBatch ? left : kBatch;
    return groups < most ? groups : most;
}

inline int planes_of_all(const Threshold& t) {
    return t.last < kPlanesOfAll ? t.last + 1 : kPlanesOfAll;
}

// `count` planes of some blocks, the first one `j`.
template <int count, bool with_open, class Between>
THINNED_INLINE void compare_planes(Comparison& c, const Head& head, const Tag* tag,
                                   const RoundKeys& k, const Threshold& t, int j, Between between) {
    Plane p[count];
    for (int i = 0; i < count; ++i) p[i] = Plane(head, tag[j + i]);
    rounds<count>(p, k);
    for (int i = count - 1; i >= 0; --i) {
        c.with<with_open>(p[i].words(k), t.stays_where_set(j + i));
    }
    between();
}

template <bool with_open, class Between>
THINNED_INLINE void compare_all(Comparison& c, const Head& head, const Tag* tag, const RoundKeys& k,
                                const Threshold& t, int planes, Between between) {
    int j = planes;
    for (; j >= kPlanesAtOnce; j -= kPlanesAtOnce) {
        compare_planes<kPlanesAtOnce, with_open>(c, head, tag, k, t, j - kPlanesAtOnce, between);
    }
    if (kPlanesAtOnce > 2 && j == 2) {
        compare_planes<2, with_open>(c, head, tag, k, t, 0, between);
    } else if (j == 1) {
        compare_planes<1, with_open>(c, head, tag, k, t, 0, between);
    }
}

// How many elements `between` has to take for all of a batch to be taken while the next one is drawn.
inline u64 share_of_pause(const Threshold& t) {
    constexpr u64 kOfGroup = kElementsOfBlock * kBlocksOfGroup;
    const u64 planes = static_cast<u64>(planes_of_all(t));
    if (planes == 1) return kPausesInRounds ? (kOfGroup / 6 + 63) / 64 * 64 : kOfGroup;
    const u64 most = kElementsOfBlock * kLanes / ((planes + kPlanesAtOnce - 1) / kPlanesAtOnce);
    // Where blocks stay open, their planes have the last quarter.
    return (planes_of_all(t) > t.last ? most + 63 : most - most / 4 + 32) / 64 * 64;
}

// p = 0.5 costs one plane, too short a chain to fill the processor: all blocks of a group side by side.
// `between` is called after every round where it shares the registers, else after every group.
template <class Between>
THINNED_INLINE void draw_at_half(const Counter& counter, const RoundKeys& k, const Threshold& t,
                                 u64 first, u64 groups, u64* out, Between between) {
    const Tag tag(counter, k, 0);
    const Blocks flip = every(t.mirror ? ~u64{0} : 0);
    constexpr u64 kRuns = kBlocksOfGroup / kLanes;
    for (u64 b = 0; b < kBlocksOfGroup * groups; b += kBlocksOfGroup) {
        Plane p[kRuns];
        for (u64 i = 0; i < kRuns; ++i) {
            p[i] = Plane(Head(counter, k, first + b + i * kLanes, lane_numbers()), tag);
        }
        for (int r = 3; r < 9; ++r) {
            for (u64 i = 0; i < kRuns; ++i) p[i].round(k, r);
            if (kPausesInRounds) between();
        }
        for (u64 i = 0; i < kRuns; ++i) {
            const Words w = p[i].words(k);
            store_interleaved(out + 2 * (b + i * kLanes), w.low ^ flip, w.up ^ flip);
        }
        if (!kPausesInRounds) between();
    }
}

// The bits of as many groups as batch_from says. `between` is called between planes: a chance to do
// something else with the memory.
template <class Between>
THINNED_INLINE void draw_batch(const Stream& s, const RoundKeys& k, const Threshold& t, u64 g,
                               u64 groups, u64* out, Between between) {
    const int planes = planes_of_all(t);
    const u64 first = kBlocksOfGroup * g;
    const Counter counter(s, k, first);
    Tag tag[kPlanesOfAll];
    for (int j = 0; j < planes; ++j) tag[j] = Tag(counter, k, static_cast<u32>(j));
    if (planes == 1) return draw_at_half(counter, k, t, first, groups, out, between);
    if (planes > t.last) {
        for (u64 b = 0; b < kBlocksOfGroup * groups; b += kLanes) {
            const Head head(counter, k, first + b, lane_numbers());
            Comparison c(t);
            compare_all<false>(c, head, tag, k, t, planes, between);
            c.store_keep(t, out + 2 * b);
        }
        return;
    }
    OpenBlocks open;
    for (u64 b = 0; b < kBlocksOfGroup * groups; b += kLanes) {
        const Head head(counter, k, first + b, lane_numbers());
        Comparison c(t);
        for (int j = kPlanesOfAll - kPlanesAtOnce; j >= 0; j -= kPlanesAtOnce) {
            compare_planes<kPlanesAtOnce, true>(c, head, tag, k, t, j, between);
        }
        c.store_keep(t, out + 2 * b);
        store_interleaved(open.of_block(b), c.open_low, c.open_up);
        open.found(b, lanes_set(c.open_low | c.open_up));
    }
    open.settle(counter, k, t, first, out, between);
}

void bits(const Stream& s, u64 g, u64 groups, u64* out) {
    const RoundKeys k(s.seed);
    const Threshold t(s);
    while (groups > 0) {
        const u64 n = batch_from(g, groups);
        draw_batch(s, k, t, g, n, out, [] {});
        g += n, groups -= n, out += kWordsOfGroup * n;
    }
}

}  // namespace
}  // namespace thinned
