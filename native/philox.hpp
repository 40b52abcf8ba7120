// Philox4x32-10 (Salmon et al., 2011): the generator under every mask. docs/mask-spec.md says it in
// words, reference.py in NumPy.
#pragma once

#include <array>
#include <cstdint>

namespace thinned {

using Block = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

constexpr Block philox4x32_10(Block c, Key k) {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t left = std::uint64_t{0xD2511F53} * c[0];
        const std::uint64_t right = std::uint64_t{0xCD9E8D57} * c[2];
        c = {static_cast<std::uint32_t>(right >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(right),
             static_cast<std::uint32_t>(left >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(left)};
        k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
    }
    return c;
}

}  // namespace thinned
