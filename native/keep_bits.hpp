// The keep bits of a run of elements, drawn group by group.
#pragma once

#include <cassert>
#include <cstdint>
#include <cstring>

#include "job.hpp"

namespace thinned {

// At the ends of the threshold every fate is known, and nothing is drawn.
inline bool settled(const Stream& s) {
    return s.threshold == 0 || s.threshold == std::uint64_t{1} << 32;
}

struct KeepBits {
    static constexpr std::uint64_t kMost = 16384;  // elements at a time: 2 KB of bits

    std::uint64_t word[kMost / 64 + kGroup / 64 + 2];

    KeepBits(const Kernel& k, const Stream& s) : kernel_(k), stream_(s), settled_(settled(s)) {
        if (settled_) std::memset(word, s.threshold == 0 ? 0xFF : 0, sizeof word);
    }
    // Where in `word` the bits of n elements from `index` on begin.
    std::uint32_t draw(std::uint64_t index, std::uint64_t n) {
        if (settled_) return 0;
        const std::uint64_t a = index / kGroup, b = (index + n - 1) / kGroup;
        assert(b - a <= kMost / kGroup);
        if (a < g0_ || b > g1_) {
            std::uint64_t g = a;
            if (a >= g0_ && a <= g1_) {  // those that the last run ended with stay
                std::memmove(word, word + 16 * (a - g0_), 128 * (g1_ + 1 - a));
                g = g1_ + 1;
            }
            if (g <= b) kernel_.bits(stream_, g, b + 1 - g, word + 16 * (g - a));
            g0_ = a;
            g1_ = b;
        }
        return static_cast<std::uint32_t>(index - g0_ * kGroup);
    }

  private:
    const Kernel& kernel_;
    const Stream& stream_;
    bool settled_;
    std::uint64_t g0_ = 1, g1_ = 0;  // those at hand, both included: neighbouring runs meet there
};

}  // namespace thinned
