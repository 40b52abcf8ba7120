// The mask spec and the arithmetic on values once more, one element at a time and without regard to
// speed: what the kernels are held against. Of the code under test it takes only the names of types.
#pragma once

#include <array>
#include <unordered_map>

#include "../job.hpp"
#include "check.hpp"

namespace twin {

using check::u16;
using check::u32;
using check::u64;
using thinned::Op;
using thinned::Stream;
using thinned::Type;
using thinned::Values;

std::array<u32, 4> philox(const std::array<u32, 4>& counter, const std::array<u32, 2>& key);

// The draws of one address.
class Draws {
  public:
    explicit Draws(const Stream& s) : s_(s) {}

    // u_i, put together from all of its 32 planes; mirrored where the stream is.
    u32 uniform(u64 i);
    bool keeps(u64 i, u64 threshold) { return !(uniform(i) < threshold); }
    bool keeps(u64 i) { return keeps(i, s_.threshold); }
    u32 word(u64 i) const;
    double gaussian(u64 i) const;

  private:
    std::array<u32, 4> block(u64 number, u32 tag) const;
    u32 plain_word(u64 i) const;

    Stream s_;
    std::unordered_map<u64, std::array<u32, 128>> blocks_;  // kept: most callers go on to i + 1
};

// A half type's number, exactly, and the nearest one (ties to even) of a binary32 number.
double number_of(Type half, u16 bits);
u16 nearest(Type half, float x);

// One element of y = f + s m (x - f) from the bytes of x and f into those of y.
void element(Type type, Op op, const Values& values, bool keep, const char* x, const char* f,
             char* y);
// One element of y = x (1 + s z), z as the kernel drew it.
void noisy(Type type, const Values& values, float z, const char* x, char* y);

// Equal to the bit, or both of them NaN.
bool same(Type type, const char* a, const char* b);

}  // namespace twin
