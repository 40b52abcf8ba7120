// What a kernel is asked to do, and the table of functions that one instruction set offers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thinned {

// Where the draws come from. Element i of the logical array belongs to group i / 1024, which is
// eight blocks of the spec; the groups never straddle the 2^32 boundary of the block counter.
struct Stream {
    std::uint64_t seed = 0;
    std::uint32_t site = 0;
    std::uint32_t step = 0;
    std::uint32_t call = 0;
    bool mirror = false;
    std::uint64_t threshold = 0;  // of 2^32; the ends are settled before a kernel is asked
};

constexpr std::uint64_t kGroup = 1024;

enum class Type : int { f32, f64, f16, bf16 };
constexpr int kTypes = 4;
constexpr std::size_t size_of(Type t) { return t == Type::f64 ? 8 : t == Type::f32 ? 4 : 2; }

// scale:  kept x * s, dropped 0.                       select: kept x to the bit, dropped f.
// affine: kept f + s * (x - f), dropped f.             The _array forms read f from an array.
enum class Op : int { scale, select, affine, select_array, affine_array };
constexpr int kOps = 5;
constexpr bool reads_fill(Op op) { return op == Op::select_array || op == Op::affine_array; }

// Where the arrays are. near: in a processor's own cache, where it is quicker not to ask for what comes
// (by a sixth at p = 0.1). far: beyond it, on a processor that gains by being asked. streaming: far
// larger than all caches, with stores that pass them by; y is aligned to its type and is not x.
enum class Reach : int { near, far, streaming };
constexpr int kReaches = 3;

struct Values {
    double scale = 1.0;  // the multiplier of noise for Gaussian draws: its standard deviation
    double fill = 0.0;
};

// bits: keep bits, the first at position `bit` of the words; 8 bytes behind the last are readable.
// x, y and f are contiguous and may start anywhere; y may be x; nothing beyond n is touched.
using ApplyBits = void (*)(const std::uint64_t* bits, std::uint32_t bit, std::size_t n,
                           const void* x, void* y, const void* f, const Values& values);

// y = x * (1 + std * z). One noise value an element, or one for all n where `one` is true.
using ApplyNoise = void (*)(const float* z, bool one, std::size_t n, const void* x, void* y,
                            const Values& values);

using FusedScale = void (*)(const Stream&, std::uint64_t start, std::size_t n, const void* x,
                            void* y, const Values& values);

// y = x * s for all n: elements that share one draw, and are kept.
using ApplyWhole = void (*)(std::size_t n, const void* x, void* y, const Values& values);

// What is done to a run of n elements of a row, in the type T of x; sums and norms of rows are of a type
// Z, which is T or, where T is a half type, may be binary32. Arithmetic is in binary64 for that type and
// else in binary32, which weights, shifts, means and their like are numbers of.
struct RowKernels {
    // z = residual + noise(x + bias), each step rounded to its type. bias and residual may be missing.
    void (*add)(const std::uint64_t* bits, std::uint32_t bit, std::size_t n, const void* x,
                const void* bias, const void* residual, void* z, double scale);
    // out = (z - mean) rstd weight + shift, for one row; without a mean where `rms`. weight and shift
    // may be missing.
    void (*norm)(std::size_t n, const void* z, const void* weight, const void* shift, double eps,
                 bool rms, void* out, void* mean, void* rstd);
    // The derivative: dz = what the norm makes of g, + more; dweight and dshift are added to. weight,
    // more, dweight and dshift may be missing.
    void (*norm_backward)(std::size_t n, const void* g, const void* z, const void* weight, bool rms,
                          const void* mean, const void* rstd, const void* more, void* dz,
                          void* dweight, void* dshift);
    // dx = noise(dz), rounded to T before and after.
    void (*drop)(const std::uint64_t* bits, std::uint32_t bit, std::size_t n, const void* dz,
                 void* dx, double scale);
};

struct Kernel {
    const char* name;
    // Elements up to which it is quicker on one thread than on two of ours that wake up on processors
    // on which another runtime's threads spin.
    std::uint64_t alone_up_to;
    // Keep bits of the elements of so many groups from g on: 16 words to a group of 1,024, the first
    // element in the lowest bit.
    void (*bits)(const Stream&, std::uint64_t g, std::uint64_t groups, std::uint64_t* out);
    // The words (tag 32), and the Gaussian draws made of them, of elements [start, start + n).
    void (*words)(const Stream&, std::uint64_t start, std::size_t n, std::uint32_t* out);
    void (*gaussian)(const Stream&, std::uint64_t start, std::size_t n, float* out);
    ApplyBits apply[kTypes][kOps];
    // y may be x, but where it streams.
    ApplyWhole whole[kTypes][kReaches];
    ApplyNoise noise[kTypes];
    // Keep bits to bytes, 1 = kept.
    void (*expand)(const std::uint64_t* bits, std::uint32_t bit, std::size_t n, std::uint8_t* out);
    // Bits and their application in one pass over [start, start + n).
    void (*fused)(const Stream&, std::uint64_t start, std::size_t n, ApplyBits apply,
                  std::size_t item, const void* x, void* y, const void* f, const Values& values);
    // The same for Op::scale.
    FusedScale fused_scale[kTypes][kReaches];
    // By the type of x, and whether sums are of a wider one.
    RowKernels rows[kTypes][2];
    // Called by every thread that streamed, before its result is read elsewhere.
    void (*fence)();
};

// One of these per build of kernel.cpp.
#if defined(THINNED_HAS_X86)
const Kernel& kernel_avx2();
const Kernel& kernel_avx512();
#endif
const Kernel& kernel_plain();  // what every machine of the architecture runs: "baseline" or "neon"

}  // namespace thinned
