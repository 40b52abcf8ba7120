// Rows of a transformer's residual stream: bias, dropout, sum and norm. Included by kernel.cpp, once for
// each instruction set.
#pragma once

#include "job.hpp"
#include "simd.hpp"
#include "types.hpp"

namespace thinned {
namespace {

constexpr std::size_t kSixteen = 16;

// body(i, m): elements i to i + m, sixteen but for the last ones. Called with a constant, so that what is
// done for a shorter piece costs the others nothing.
template <class Body>
THINNED_INLINE void by_sixteen(std::size_t n, Body body) {
    std::size_t i = 0;
    for (; i + kSixteen <= n; i += kSixteen) body(i, kSixteen);
    if (i < n) body(i, n - i);
}

template <class T>
THINNED_INLINE auto load_some(const typename T::Element* p, std::size_t m) {
    if (m == kSixteen) return T::load(p);
    typename T::Element some[kSixteen] = {};
    std::memcpy(some, p, m * sizeof some[0]);
    return T::load(some);
}

template <class T, class Lanes>
THINNED_INLINE void store_some(typename T::Element* p, const Lanes& a, std::size_t m) {
    if (m == kSixteen) return T::store(p, a);
    typename T::Element some[kSixteen];
    T::store(some, a);
    std::memcpy(p, some, m * sizeof some[0]);
}

THINNED_INLINE void copy_out(float* p, const Singles& a) { store_f32(p, a); }
THINNED_INLINE void copy_out(double* p, const Doubles& a) { store_f64(p, a); }

// The sum of sixteen, added up in pairs.
template <class R, class Lanes>
THINNED_INLINE R total(const Lanes& a) {
    R v[kSixteen];
    copy_out(v, a);
    for (std::size_t width = kSixteen / 2; width > 0; width /= 2) {
        for (std::size_t i = 0; i < width; ++i) v[i] += v[i + width];
    }
    return v[0];
}

// The type of the arithmetic.
template <class R>
struct Arithmetic;
template <>
struct Arithmetic<float> {
    using Type = F32;
};
template <>
struct Arithmetic<double> {
    using Type = F64;
};

THINNED_INLINE u32 first(std::size_t m) { return (u32{1} << m) - 1; }

template <class T, class Z, bool has_bias, bool has_residual>
void add_as(const u64* bits, u32 bit, std::size_t n, const typename T::Element* x,
            const typename T::Element* bias, const typename Z::Element* residual,
            typename Z::Element* z, double scale) {
    using R = typename T::Real;
    const auto factor = all_of(static_cast<R>(scale)), zero = all_of(R{0});
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        const u32 keep = static_cast<u32>(bits_from(bits, bit + static_cast<u32>(i))) & 0xFFFFu;
        auto h = load_some<T>(x + i, m);
        if (has_bias) h = T::rounded(h + load_some<T>(bias + i, m));
        h = select(keep, h * factor, zero);
        if (has_residual) h = load_some<Z>(residual + i, m) + T::rounded(h);
        // Without a residual a wider z holds what T would have.
        store_some<Z>(z + i, has_residual ? h : T::rounded(h), m);
    });
}

template <class T, class Z>
void add_rows(const u64* bits, u32 bit, std::size_t n, const void* x, const void* bias,
              const void* residual, void* z, double scale) {
    using X = typename T::Element;
    using S = typename Z::Element;
    const auto* from = static_cast<const X*>(x);
    const auto* b = static_cast<const X*>(bias);
    const auto* r = static_cast<const S*>(residual);
    auto* to = static_cast<S*>(z);
    if (b != nullptr && r != nullptr) {
        add_as<T, Z, true, true>(bits, bit, n, from, b, r, to, scale);
    } else if (b != nullptr) {
        add_as<T, Z, true, false>(bits, bit, n, from, b, r, to, scale);
    } else if (r != nullptr) {
        add_as<T, Z, false, true>(bits, bit, n, from, b, r, to, scale);
    } else {
        add_as<T, Z, false, false>(bits, bit, n, from, b, r, to, scale);
    }
}

// Mean and variance each by a pass of its own: the row lies in the cache, and the difference of two sums
// would lose what a mean far from zero has in common with every element.
template <class T, class Z>
void norm_row(std::size_t n, const void* z, const void* weight, const void* shift, double eps,
              bool rms, void* out, void* mean, void* rstd) {
    using R = typename Z::Real;
    using A = typename Arithmetic<R>::Type;
    const auto* from = static_cast<const typename Z::Element*>(z);
    const auto* w = static_cast<const R*>(weight);
    const auto* b = static_cast<const R*>(shift);
    auto* to = static_cast<typename T::Element*>(out);
    const auto zero = all_of(R{0});
    const R count = static_cast<R>(n);
    R middle = 0;
    if (!rms) {
        auto sum = zero;
        by_sixteen(n, [&](std::size_t i, std::size_t m) { sum = sum + load_some<Z>(from + i, m); });
        middle = total<R>(sum) / count;
    }
    const auto centre = all_of(middle);
    auto squares = zero;
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        const auto d = load_some<Z>(from + i, m) - centre;
        squares = squares + (m == kSixteen ? d * d : select(first(m), d * d, zero));
    });
    const R deviation = R{1} / std::sqrt(total<R>(squares) / count + static_cast<R>(eps));
    const auto factor = all_of(deviation);
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        auto y = (load_some<Z>(from + i, m) - centre) * factor;
        if (w != nullptr) y = y * load_some<A>(w + i, m);
        if (b != nullptr) y = y + load_some<A>(b + i, m);
        store_some<T>(to + i, y, m);
    });
    *static_cast<R*>(mean) = middle;
    *static_cast<R*>(rstd) = deviation;
}

// With h = (z - mean) rstd and v = weight g: dz = rstd (v - mean(v) - h mean(h v)), without the first
// mean where no mean was subtracted.
template <class T, class Z>
void norm_row_backward(std::size_t n, const void* g, const void* z, const void* weight, bool rms,
                       const void* mean, const void* rstd, const void* more, void* dz,
                       void* dweight, void* dshift) {
    using R = typename Z::Real;
    using A = typename Arithmetic<R>::Type;
    const auto* grad = static_cast<const typename T::Element*>(g);
    const auto* from = static_cast<const typename Z::Element*>(z);
    const auto* w = static_cast<const R*>(weight);
    const auto* also = static_cast<const typename Z::Element*>(more);
    auto* to = static_cast<typename Z::Element*>(dz);
    auto* dw = static_cast<R*>(dweight);
    auto* db = static_cast<R*>(dshift);
    const auto zero = all_of(R{0});
    const auto centre = all_of(*static_cast<const R*>(mean));
    const auto factor = all_of(*static_cast<const R*>(rstd));
    const R count = static_cast<R>(n);
    auto sum = zero, moment = zero;
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        const auto d = load_some<T>(grad + i, m);
        const auto h = (load_some<Z>(from + i, m) - centre) * factor;
        const auto v = w != nullptr ? d * load_some<A>(w + i, m) : d;
        sum = sum + v;
        moment = moment + v * h;
        if (dw != nullptr) store_some<A>(dw + i, load_some<A>(dw + i, m) + d * h, m);
        if (db != nullptr) store_some<A>(db + i, load_some<A>(db + i, m) + d, m);
    });
    const auto average = all_of(rms ? R{0} : total<R>(sum) / count);
    const auto slope = all_of(total<R>(moment) / count);
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        const auto d = load_some<T>(grad + i, m);
        const auto h = (load_some<Z>(from + i, m) - centre) * factor;
        const auto v = w != nullptr ? d * load_some<A>(w + i, m) : d;
        auto y = (v - average - h * slope) * factor;
        if (also != nullptr) y = y + load_some<Z>(also + i, m);
        store_some<Z>(to + i, y, m);
    });
}

template <class T, class Z>
void drop_row(const u64* bits, u32 bit, std::size_t n, const void* dz, void* dx, double scale) {
    using R = typename T::Real;
    const auto* from = static_cast<const typename Z::Element*>(dz);
    auto* to = static_cast<typename T::Element*>(dx);
    const auto factor = all_of(static_cast<R>(scale)), zero = all_of(R{0});
    by_sixteen(n, [&](std::size_t i, std::size_t m) {
        const u32 keep = static_cast<u32>(bits_from(bits, bit + static_cast<u32>(i))) & 0xFFFFu;
        const auto g = T::rounded(load_some<Z>(from + i, m));
        store_some<T>(to + i, select(keep, g * factor, zero), m);
    });
}

template <class T, class Z>
RowKernels rows_of() {
    return {add_rows<T, Z>, norm_row<T, Z>, norm_row_backward<T, Z>, drop_row<T, Z>};
}

}  // namespace
}  // namespace thinned
