// The keep bits of whole groups, a batch of groups together. Included by draws.hpp, where a vector holds
// fewer blocks than a group has.
#pragma once

#include "planes.hpp"

namespace thinned {
namespace {

// Groups that are drawn together. More would gain two planes in a hundred.
constexpr u64 kBatch = 8;

// Planes that all blocks take before it is asked which of them have open lanes. A block needs 8.3 planes
// at a threshold with many bits, the last of the eight blocks of a group 11.3.
constexpr int kPlanesOfAll = (8 + kPlanesAtOnce - 1) / kPlanesAtOnce * kPlanesAtOnce;

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
    THINNED_INLINE Comparison(Blocks fl, Blocks fu, Blocks ol, Blocks ou)
        : fate_low(fl), fate_up(fu), open_low(ol), open_up(ou) {}
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
        store_words(out, {fate_low ^ flip, fate_up ^ flip});
    }
    // These are the open lanes of `before`, compared further: what was open there takes its fate from here.
    THINNED_INLINE void after(const Comparison& before, const Threshold& t) {
        const Blocks open_fate = every(t.mirror ? 0 : ~u64{0});
        fate_low = before.fate_low ^ (before.open_low & (fate_low ^ open_fate));
        fate_up = before.fate_up ^ (before.open_up & (fate_up ^ open_fate));
        open_low = open_low & before.open_low;
        open_up = open_up & before.open_up;
    }
};

// The blocks of a batch whose fate is open after the planes of all, side by side wherever in the batch
// they lie: as many as a vector has lanes take the next planes together.
class OpenBlocks {
  public:
    // Those of the blocks with these numbers in the batch that have open lanes. In their order.
    THINNED_INLINE void add(const Blocks& numbers, const Comparison& c, u32 lanes) {
        const Packing pack(lanes);
        store(which_ + count_, pack(numbers));
        store(fate_low_ + count_, pack(c.fate_low));
        store(fate_up_ + count_, pack(c.fate_up));
        store(open_low_ + count_, pack(c.open_low));
        store(open_up_ + count_, pack(c.open_up));
        count_ += pack.count();
    }
    // first: the number of the batch's first block.
    template <class Between>
    THINNED_INLINE void settle(const Counter& c, const RoundKeys& k, const Threshold& t, u64 first,
                               u64* keep, Between between) {
        for (int j = kPlanesOfAll; j <= t.last && count_ > 0; j += kNext) {
            Tag tag[kNext];
            for (int i = 0; i < kNext; ++i) tag[i] = Tag(c, k, static_cast<u32>(j + i));
            const u32 here = count_;
            store(which_ + here, every(0));
            count_ = 0;
            for (u32 i = 0; i < here; i += kLanes) {
                const Blocks numbers = load(which_ + i);
                const Head head(c, k, first, numbers);
                Plane p[kNext];
                for (int a = 0; a < kNext; ++a) p[a] = Plane(head, tag[a], k);
                rounds<kNext>(p, k, [] {});
                Comparison compared(t);
                for (int a = kNext - 1; a >= 0; --a) {
                    if (j + a > t.last) continue;
                    compared.with<true>(p[a].words(k), t.stays_where_set(j + a));
                }
                between();
                compared.after({load(fate_low_ + i), load(fate_up_ + i), load(open_low_ + i),
                                load(open_up_ + i)},
                               t);
                u64 fate[2 * kLanes];
                compared.store_keep(t, fate);
                const u32 m = here - i < kLanes ? here - i : kLanes;
                for (u32 l = 0; l < m; ++l) {
                    std::memcpy(keep + 2 * which_[i + l], fate + 2 * l, 2 * sizeof(u64));
                }
                add(numbers, compared, lanes_set(compared.open_low | compared.open_up) & ((1u << m) - 1));
            }
        }
    }

  private:
    static constexpr int kNext = kPlanesAtOnce > 1 ? kPlanesAtOnce : 2;
    static constexpr u32 kMost = kBlocksOfGroup * kBatch + kLanes;

    u64 which_[kMost], fate_low_[kMost], fate_up_[kMost], open_low_[kMost], open_up_[kMost];
    u32 count_ = 0;
};

// Of so many groups half come first where they are few: of a single batch nothing is drawn while another is
// applied.
inline u64 groups_at_once(const Threshold&, u64 groups) {
    const u64 half = (groups + 1) / 2;
    return half < kBatch ? half : kBatch;
}

inline int planes_of_all(const Threshold& t) {
    return t.last < kPlanesOfAll ? t.last + 1 : kPlanesOfAll;
}

// `count` planes of some blocks, the first one `j`.
template <int count, bool with_open, class Between>
THINNED_INLINE void compare_planes(Comparison& c, const Head& head, const Tag* tag,
                                   const RoundKeys& k, const Threshold& t, int j, Between between) {
    Plane p[count];
    for (int i = 0; i < count; ++i) p[i] = Plane(head, tag[j + i], k);
    rounds<count>(p, k, [] {});
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
    const u64 planes = static_cast<u64>(planes_of_all(t));
    if (planes == 1) return (kElementsOfBlock * kBlocksOfGroup / kRoundsOfPlane + 63) / 64 * 64;
    const u64 most = kElementsOfBlock * kLanes / ((planes + kPlanesAtOnce - 1) / kPlanesAtOnce);
    // Where blocks stay open, their planes have the last quarter.
    return (planes_of_all(t) > t.last ? most + 63 : most - most / 4 + 32) / 64 * 64;
}

// p = 0.5 costs one plane, too short a chain to fill the processor: all blocks of a group side by side, and
// `between` after every round.
template <class Between>
THINNED_INLINE void draw_at_half(const Counter& counter, const RoundKeys& k, const Threshold& t,
                                 u64 first, u64 groups, u64* out, Between between) {
    const Tag tag(counter, k, 0);
    const Blocks flip = every(t.mirror ? ~u64{0} : 0);
    constexpr int kRuns = kBlocksOfGroup / kLanes;
    for (u64 b = 0; b < kBlocksOfGroup * groups; b += kBlocksOfGroup) {
        Plane p[kRuns];
        for (int i = 0; i < kRuns; ++i) {
            const u64 block = first + b + static_cast<u64>(i) * kLanes;
            p[i] = Plane(Head(counter, k, block, lane_numbers()), tag, k);
        }
        rounds<kRuns>(p, k, between);
        for (int i = 0; i < kRuns; ++i) {
            const Words w = p[i].words(k);
            store_words(out + 2 * (b + static_cast<u64>(i) * kLanes), {w.low ^ flip, w.up ^ flip});
        }
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
        open.add(sum(every(b), lane_numbers()), c, lanes_set(c.open_low | c.open_up));
        c.store_keep(t, out + 2 * b);
    }
    open.settle(counter, k, t, first, out, between);
}

}  // namespace
}  // namespace thinned
