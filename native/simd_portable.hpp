// What needs no instruction set: the bits of a mask in memory by selection, and hints that compilers know.
// Included by the files of simd.hpp that have nothing better.
#pragma once

#include "simd.hpp"

namespace thinned {
namespace {

using ScaledBF16 = Singles;
THINNED_INLINE Singles load_bf16_to_scale(const u16* p) { return load_bf16(p); }

// Which of 64 elements are kept, by bits in memory that begin somewhere in a byte.
class Sieve {
  public:
    // shift: the position of the first bit in its byte.
    explicit Sieve(u32 shift) : shift_(shift) {}
    // Reads nine bytes.
    THINNED_INLINE u64 at(const unsigned char* bits) const {
        u64 word;
        std::memcpy(&word, bits, 8);
        return word >> shift_ | static_cast<u64>(bits[8]) << 1 << (63 - shift_);
    }
    // a * s, and zeros for what is dropped, of the sixteen from 16 * i on.
    THINNED_INLINE static Singles product(u64 kept, int i, const Singles& a, const Singles& s) {
        return select(static_cast<u32>(kept >> 16 * i) & 0xFFFFu, a * s, all_of(0.0f));
    }
    THINNED_INLINE static Doubles product(u64 kept, int i, const Doubles& a, const Doubles& s) {
        return select(static_cast<u32>(kept >> 16 * i) & 0xFFFFu, a * s, all_of(0.0));
    }

  private:
    u32 shift_;
};

THINNED_INLINE void fence() {}
THINNED_INLINE void prefetch(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}
THINNED_INLINE void prefetch_to_write(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 1);
#else
    (void)p;
#endif
}

}  // namespace
}  // namespace thinned
