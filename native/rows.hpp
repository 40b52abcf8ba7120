// Dropout inside a transformer's residual stream, one pass over rows: z = residual + noise(x + bias), and
// the layer or root-mean-square norm of z.
#pragma once

#include <cstdint>

#include "geometry.hpp"

namespace thinned {

// Which rows: contiguous ones of n elements, one behind the other, whose draws are consecutive. The
// index of a row's first element is `offset` plus, for each axis, its place along it times `index`.
struct Rows {
    Type type = Type::f32;
    bool wide = false;  // sums are of binary32, and x of a half type
    Stream stream;
    double scale = 1.0;
    std::uint64_t offset = 0;
    std::uint64_t count = 0, n = 0;
    int axes = 0;
    struct {
        std::uint64_t n, index;
    } axis[kMaxAxes];
    int threads = 1;
    Whose whose = Whose::ours;
};

// Where there is no `out` nothing is normed. mean and rstd take one number a row.
struct RowsForward {
    const void *x = nullptr, *bias = nullptr, *residual = nullptr;
    void* z = nullptr;
    bool rms = false;
    double eps = 0.0;
    const void *weight = nullptr, *shift = nullptr;
    void *out = nullptr, *mean = nullptr, *rstd = nullptr;
};

// dz takes the residual's gradient, dx that of x. dweight and dshift are (parts, n) numbers of the
// arithmetic, zeros before: each part adds up its own share of the rows, whichever thread takes it, so that
// sums do not depend on the number of threads.
struct RowsBackward {
    const void *grad = nullptr, *z = nullptr, *more = nullptr;
    bool rms = false;
    const void *weight = nullptr, *mean = nullptr, *rstd = nullptr;
    void *dz = nullptr, *dx = nullptr, *dweight = nullptr, *dshift = nullptr;
    std::uint64_t parts = 1;
};

void run(const Kernel& kernel, const Rows& rows, const RowsForward& forward);
void run(const Kernel& kernel, const Rows& rows, const RowsBackward& backward);

}  // namespace thinned
