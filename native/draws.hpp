// The keep bits of whole groups. Included by kernel.cpp, once for each instruction set.
#pragma once

#include "job.hpp"
#include "planes.hpp"

namespace thinned {
namespace {

constexpr u64 kElementsOfBlock = 128, kBlocksOfGroup = 8, kWordsOfGroup = 16;

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

}  // namespace
}  // namespace thinned

#if defined(THINNED_AVX512)
#include "draws_by_group.hpp"
#else
#include "draws_in_batches.hpp"
#endif

namespace thinned {
namespace {

// Of the groups from g on, how many are drawn together: their block numbers differ in the low word alone.
inline u64 batch_from(const Threshold& t, u64 g, u64 groups) {
    constexpr u64 kGroupsOfLowWord = (u64{1} << 32) / kBlocksOfGroup;
    const u64 left = kGroupsOfLowWord - g % kGroupsOfLowWord, most = groups_at_once(t, groups);
    const u64 fit = left < most ? left : most;
    return groups < fit ? groups : fit;
}

void bits(const Stream& s, u64 g, u64 groups, u64* out) {
    const RoundKeys k(s.seed);
    const Threshold t(s);
    while (groups > 0) {
        const u64 n = batch_from(t, g, groups);
        draw_batch(s, k, t, g, n, out, [] {});
        g += n, groups -= n, out += kWordsOfGroup * n;
    }
}

}  // namespace
}  // namespace thinned
