// From arrays of any shape and strides to runs that a kernel can take.
#pragma once

#include <cstdint>

#include "job.hpp"
#include "threads.hpp"

namespace thinned {

constexpr int kMaxAxes = 64;

// Draws of a mask in a nanosecond, roughly, where other noise is one: what calling more threads is
// weighed against.
constexpr std::uint64_t kBitsInOne = 8;

// One axis of the arrays at hand: its length, the step in memory (bytes) of each array, and the step
// of the logical index, 0 where all along the axis share one draw.
struct Axis {
    std::uint64_t n;
    std::int64_t x, y, f;
    std::uint64_t index;
};

enum class Law { bernoulli, gaussian, mask, words, raw_gaussian };

// bernoulli: y = f + s m (x - f); with Op::scale f is 0, whatever values.fill. gaussian: y = x (1 + scale z). The other three write the draws
// themselves, with x unused: bytes (1 = kept), 32-bit words, binary32 numbers.
struct Job {
    Law law = Law::bernoulli;
    Type type = Type::f32;
    Op op = Op::scale;
    Values values;
    Stream stream;
    std::uint64_t offset = 0;  // logical index of the first element
    const void* x = nullptr;
    void* y = nullptr;
    const void* f = nullptr;
    int axes = 0;
    Axis axis[kMaxAxes];
    int threads = 1;
    Whose whose = Whose::ours;
};

// Elements are independent: y may be x (the same memory and strides), and otherwise does not overlap
// with x or f. Nothing outside the elements named is read or written.
void run(const Kernel& kernel, const Job& job);

// How many threads noise on n elements is worth beside another runtime that uses `allowed`: below 0, so
// many of its own, where it has lent them.
int threads_beside(const Kernel& kernel, std::uint64_t n, int allowed);

// The keep bits of elements [offset, offset + n), eight to a byte, the first in the lowest bit; bits
// behind the last element are 0.
void pack(const Kernel& kernel, const Stream& stream, std::uint64_t offset, std::uint64_t n,
          unsigned char* out, int threads);

}  // namespace thinned
