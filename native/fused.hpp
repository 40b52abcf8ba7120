// Draws and their application in one pass. Included by kernel.cpp, once for each instruction set.
#pragma once

#include "application.hpp"
#include "draws.hpp"

namespace thinned {
namespace {

// Any operation over a run: batch after batch.
void fused(const Stream& s, u64 start, std::size_t n, ApplyBits apply, std::size_t item,
           const void* x, void* y, const void* f, const Values& values) {
    const RoundKeys k(s.seed);
    const Threshold t(s);
    const char* from = static_cast<const char*>(x);
    const char* fill = static_cast<const char*>(f);
    char* to = static_cast<char*>(y);
    u64 keep[kWordsOfGroup * kBatch + 1];
    while (n > 0) {
        const std::size_t skip = start % kGroup;
        const u64 groups = batch_from(t, start / kGroup, (skip + n + kGroup - 1) / kGroup);
        const std::size_t rest = groups * kGroup - skip, m = n < rest ? n : rest;
        keep[kWordsOfGroup * groups] = 0;
        draw_batch(s, k, t, start / kGroup, groups, keep, [] {});
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
    Sieve sieve{0};
    std::size_t n = 0;

    Waiting(const Values& v, const void* from, void* to)
        : values(v),
          x(static_cast<const E*>(from)),
          y(static_cast<E*>(to)),
          factor(all_of(static_cast<R>(v.scale))) {}
    // m more elements, whose bits begin at `bit`, in place of those before.
    void take(const u64* from, u32 first, std::size_t m) {
        keep = from, bit = first, n = m;
        sieve = Sieve(bit % 8);
    }

    using Scaled = decltype(T::load_to_scale(nullptr));
    THINNED_INLINE static void put(E* to, const Scaled& z) {
        if (reach == Reach::streaming) {
            T::stream(to, z);
        } else {
            T::store(to, z);
        }
    }
    // At most so many, in whole 64s.
    THINNED_APART void some(std::size_t most) {
        const std::size_t whole = (n < most ? n : most) / 64 * 64;
        if (whole == 0) return;
        // In variables of their own: a vector store may change any member, as far as a compiler knows.
        const auto* bits = reinterpret_cast<const unsigned char*>(keep) + bit / 8;
        const E* from = x;
        E* to = y;
        const Sieve mine = sieve;
        const auto s = factor;
        for (const E* end = x + whole; from != end; from += 64, to += 64, bits += 8) {
            if (reach == Reach::streaming) {
                for (std::size_t i = 0; i < 64 * sizeof(E); i += 64) {
                    prefetch(reinterpret_cast<const char*>(from + kGroup) + i);
                }
            }
            if (reach == Reach::far) {
                // One group ahead, line by line: a window of instructions that holds the draws of the
                // next group has too few loads and stores in it to keep the memory busy.
                for (std::size_t i = 0; i < 64 * sizeof(E); i += 64) {
                    prefetch(reinterpret_cast<const char*>(from + kGroup) + i);
                    prefetch_to_write(reinterpret_cast<const char*>(to + kGroup) + i);
                }
            }
            // Loads before stores: where y lies a little behind x modulo 4,096 bytes, a load that follows
            // a store waits for it, and the pass takes a third longer.
            const auto kept = mine.at(bits);
            for (int i = 0; i < 4; i += kLoadsAhead) {
                Scaled a[kLoadsAhead];
                for (int l = 0; l < kLoadsAhead; ++l) a[l] = T::load_to_scale(from + 16 * (i + l));
                for (int l = 0; l < kLoadsAhead; ++l) {
                    put(to + 16 * (i + l), mine.product(kept, i + l, a[l], s));
                }
            }
        }
        n -= whole, bit += static_cast<u32>(whole), x += whole, y += whole;
    }
    // So many, whatever their number.
    void exactly(std::size_t m) {
        scale<T>(keep, bit, m, x, y, nullptr, values);
        n -= m, bit += static_cast<u32>(m), x += m, y += m;
        sieve = Sieve(bit % 8);
    }
};

// Dropout itself. The draws of the next batch are made while those of the last are applied, in turns:
// drawing only computes, applying mostly waits for memory, and a processor does both at once where it
// sees both at once.
template <class T, Reach reach>
void fused_scale(const Stream& s, u64 start, std::size_t n, const void* x, void* y,
                 const Values& values) {
    const RoundKeys k(s.seed);
    const Threshold t(s);
    Waiting<T, reach> waiting(values, x, y);
    // Word 0 takes what the last batch left over; 8 bytes behind the draws are readable.
    u64 keep[2][kWordsOfGroup * kBatch + 2];
    // Elements before the first place of y that is aligned for a whole vector, and for streaming.
    std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(y) % 64) % 64 / sizeof(*waiting.y);
    const std::size_t at_once = share_of_pause(t);
    for (int turn = 0; n > 0; turn = 1 - turn) {
        const std::size_t skip = start % kGroup;
        const u64 groups = batch_from(t, start / kGroup, (skip + n + kGroup - 1) / kGroup);
        const std::size_t rest = groups * kGroup - skip, m = n < rest ? n : rest;
        keep[turn][0] = keep[turn][kWordsOfGroup * groups + 1] = 0;
        draw_batch(s, k, t, start / kGroup, groups, keep[turn] + 1,
                   [&] { waiting.some(at_once); });
        waiting.some(waiting.n);
        const u32 left = static_cast<u32>(waiting.n);
        if (left > 0) keep[turn][0] = bits_from(waiting.keep, waiting.bit) << (64 - left);
        waiting.take(keep[turn], left > 0 ? 64 - left : 64 + static_cast<u32>(skip), left + m);
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
    static constexpr std::size_t kRun = 512;
    static const struct Ones {
        u64 word[kRun / 64 + 1];
        Ones() { std::memset(word, 0xFF, sizeof word); }
    } kept;
    Waiting<T, reach> w(values, x, y);
    const std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(y) % 64) % 64 / sizeof(*w.y);
    w.take(kept.word, 0, n);
    w.exactly(head < n ? head : n);
    while (w.n >= 64) {
        w.take(kept.word, 0, w.n);
        w.some(kRun);
    }
    w.take(kept.word, 0, w.n);
    w.exactly(w.n);
}

}  // namespace
}  // namespace thinned
