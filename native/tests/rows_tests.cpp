// Rows of a residual stream: sums to the bit, norms and their derivatives to rounding, in memory that
// ends where a page does.
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "../dispatch.hpp"
#include "../rows.hpp"
#include "memory.hpp"
#include "twin.hpp"

using namespace check;
using thinned::Kernel;
using thinned::kTypes;
using thinned::Rows;
using thinned::RowsBackward;
using thinned::RowsForward;
using thinned::size_of;
using thinned::Type;

namespace {

double number(Type type, const char* p) {
    if (type == Type::f64) {
        double x;
        std::memcpy(&x, p, 8);
        return x;
    }
    if (type == Type::f32) {
        float x;
        std::memcpy(&x, p, 4);
        return static_cast<double>(x);
    }
    u16 bits;
    std::memcpy(&bits, p, 2);
    return twin::number_of(type, bits);
}

// The nearest number of the type, by way of the arithmetic's.
double rounded(Type type, double x) {
    if (type == Type::f64) return x;
    const float single = static_cast<float>(x);
    if (type == Type::f32) return static_cast<double>(single);
    return twin::number_of(type, twin::nearest(type, single));
}

// n elements that end where a page does.
struct Array {
    Type type;
    Guarded memory;
    char* p;
    u64 n;

    Array(Type t, u64 count) : type(t), memory(count * size_of(t)), n(count) {
        p = memory.at(Edge::end, count * size_of(t));
    }
    double operator[](u64 i) const { return number(type, p + i * size_of(type)); }
    void fill(Random& random) {
        for (u64 i = 0; i < n; ++i) {
            const double x = (static_cast<double>(random.below(4001)) - 2000.0) / 512.0;
            if (type == Type::f64) {
                std::memcpy(p + 8 * i, &x, 8);
            } else if (type == Type::f32) {
                const float single = static_cast<float>(x);
                std::memcpy(p + 4 * i, &single, 4);
            } else {
                const u16 half = twin::nearest(type, static_cast<float>(x));
                std::memcpy(p + 2 * i, &half, 2);
            }
        }
    }
    void zero() { std::memset(p, 0, n * size_of(type)); }
};

using Some = std::unique_ptr<Array>;

Some maybe(Random& random, Type type, u64 n) {
    if (random.chance(3)) return nullptr;
    Some made = std::make_unique<Array>(type, n);
    made->fill(random);
    return made;
}

const char* at(const Some& array) { return array == nullptr ? nullptr : array->p; }

struct Setting {
    const Kernel& kernel;
    Rows rows;
    Type sums, numbers;  // the type of z, and that of the arithmetic

    u64 index(u64 row, u64 column) const {
        const u64 inner = rows.axis[1].n;
        return rows.offset + row / inner * rows.axis[0].index + row % inner * rows.axis[1].index + column;
    }
};

Setting setting(Random& random, const Kernel& kernel, Type type, bool wide) {
    const u64 lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 100, 1023, 1025, 3000, 20000};
    Setting s{kernel, Rows{}, wide ? Type::f32 : type, type == Type::f64 ? Type::f64 : Type::f32};
    Rows& rows = s.rows;
    rows.type = type;
    rows.wide = wide;
    rows.n = random.of(lengths);
    rows.axes = 2;
    rows.axis[1] = {random.between(1, rows.n > 1000 ? 2 : 5), rows.n + random.below(50)};
    rows.axis[0] = {random.between(1, 3), rows.axis[1].n * rows.axis[1].index + random.below(900)};
    rows.count = rows.axis[0].n * rows.axis[1].n;
    rows.offset = random.below(5000);
    const u64 thresholds[] = {0, 1, u64{1} << 31, 1288490189, u64{1} << 32};
    rows.stream.seed = random.next();
    rows.stream.threshold = random.of(thresholds);
    rows.stream.mirror = random.chance(2);
    rows.scale = random.chance(4) ? 1.0 : 1.0 / 0.7;
    rows.threads = static_cast<int>(random.between(1, 3));
    return s;
}

double dropped(const Setting& s, bool keep, double x) {
    const double scale = rounded(s.numbers, s.rows.scale);
    return keep ? rounded(s.rows.type, x * scale) : 0.0;
}

bool near(double a, double b, Type type) {
    const double of = type == Type::f64   ? 1e-12
                      : type == Type::f32 ? 1e-4
                      : type == Type::f16 ? 2e-3
                                          : 2e-2;
    return std::fabs(a - b) <= of * (1.0 + std::fabs(b));
}

void rows_once(Random& random, const Setting& s) {
    const Rows& rows = s.rows;
    const u64 n = rows.n, all = rows.count * n;
    Array x(rows.type, all), z(s.sums, all), out(rows.type, all), mean(s.numbers, rows.count),
        rstd(s.numbers, rows.count);
    x.fill(random);
    const Some bias = maybe(random, rows.type, n), residual = maybe(random, s.sums, all);
    const Some weight = maybe(random, s.numbers, n), shift = maybe(random, s.numbers, n);
    const bool norms = !random.chance(3), rms = random.chance(2);
    RowsForward forward;
    forward.x = x.p, forward.bias = at(bias), forward.residual = at(residual), forward.z = z.p;
    forward.rms = rms, forward.eps = 0.01;
    forward.weight = at(weight), forward.shift = at(shift);
    if (norms) forward.out = out.p, forward.mean = mean.p, forward.rstd = rstd.p;
    run(s.kernel, rows, forward);

    twin::Draws draws(rows.stream);
    std::vector<bool> keep(all);
    for (u64 i = 0; i < all; ++i) keep[i] = draws.keeps(s.index(i / n, i % n));
    for (u64 i = 0; i < all; ++i) {
        double h = x[i];
        if (bias != nullptr) h = rounded(rows.type, h + (*bias)[i % n]);
        h = dropped(s, keep[i], h);
        if (residual != nullptr) h = rounded(s.sums, (*residual)[i] + h);
        CHECK(h == z[i], "%s type %d wide %d: element %llu of rows of %llu is %g, not %g", s.kernel.name,
              static_cast<int>(rows.type), rows.wide, static_cast<unsigned long long>(i),
              static_cast<unsigned long long>(n), z[i], h);
    }
    if (!norms) return;

    Array grad(rows.type, all), dz(s.sums, all), dx(rows.type, all);
    grad.fill(random);
    const Some more = maybe(random, s.sums, all);
    const u64 parts = random.between(1, rows.count);
    Array dweight(s.numbers, parts * n), dshift(s.numbers, parts * n);
    dweight.zero(), dshift.zero();
    RowsBackward backward;
    backward.grad = grad.p, backward.z = z.p, backward.more = at(more), backward.rms = rms;
    backward.weight = at(weight), backward.mean = mean.p, backward.rstd = rstd.p;
    backward.dz = dz.p, backward.dx = dx.p, backward.parts = parts;
    backward.dweight = dweight.p, backward.dshift = dshift.p;
    run(s.kernel, rows, backward);

    std::vector<double> weights(n), shifts(n);
    const auto weighted = [&](u64 l) { return weight == nullptr ? 1.0 : (*weight)[l]; };
    for (u64 row = 0; row < rows.count; ++row) {
        const u64 first = row * n;
        double middle = 0.0, square = 0.0, sum = 0.0, moment = 0.0;
        for (u64 l = 0; l < n && !rms; ++l) middle += z[first + l] / static_cast<double>(n);
        for (u64 l = 0; l < n; ++l) square += std::pow(z[first + l] - middle, 2) / static_cast<double>(n);
        const double factor = 1.0 / std::sqrt(square + 0.01);
        for (u64 l = 0; l < n; ++l) {
            const double h = (z[first + l] - middle) * factor, g = grad[first + l];
            const double y = h * weighted(l) + (shift == nullptr ? 0.0 : (*shift)[l]);
            CHECK(near(out[first + l], y, rows.type), "%s: normed to %g, not %g", s.kernel.name,
                  out[first + l], y);
            sum += g * weighted(l) / static_cast<double>(n);
            moment += g * weighted(l) * h / static_cast<double>(n);
            weights[l] += g * h;
            shifts[l] += g;
        }
        for (u64 l = 0; l < n; ++l) {
            const u64 i = first + l;
            const double h = (z[i] - middle) * factor;
            double d = factor * (grad[i] * weighted(l) - (rms ? 0.0 : sum) - h * moment);
            if (more != nullptr) d += (*more)[i];
            CHECK(near(dz[i], d, s.sums), "%s: a gradient of %g, not %g", s.kernel.name, dz[i], d);
            const double g = dropped(s, keep[i], rounded(rows.type, dz[i]));
            CHECK(g == dx[i], "%s: dropped to %g, not %g", s.kernel.name, dx[i], g);
        }
    }
    for (u64 l = 0; l < n; ++l) {
        double w = 0.0, b = 0.0;
        for (u64 part = 0; part < parts; ++part) w += dweight[part * n + l], b += dshift[part * n + l];
        CHECK(near(w, weights[l], s.numbers), "%s: a weight's %g, not %g", s.kernel.name, w, weights[l]);
        CHECK(near(b, shifts[l], s.numbers), "%s: a shift's %g, not %g", s.kernel.name, b, shifts[l]);
    }
}

}  // namespace

CASE(rows_are_summed_normed_and_derived) {
    Random random(17);
    for (const Kernel* k : thinned::runnable_kernels()) {
        for (int t = 0; t < kTypes; ++t) {
            const Type type = static_cast<Type>(t);
            const bool half = type == Type::f16 || type == Type::bf16;
            for (int i = 0; i < (kInstrumented ? 6 : 30); ++i) {
                rows_once(random, setting(random, *k, type, half && random.chance(2)));
            }
        }
    }
}
