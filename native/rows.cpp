#include "rows.hpp"

#include <algorithm>

#include "keep_bits.hpp"
#include "threads.hpp"

namespace thinned {
namespace {

using u64 = std::uint64_t;

constexpr u64 kSegment = KeepBits::kMost;
constexpr u64 kTurnElements = 32768;  // elements that a thread takes at a time

const char* at(const void* p, u64 bytes) {
    return p == nullptr ? nullptr : static_cast<const char*>(p) + bytes;
}
char* at(void* p, u64 bytes) { return p == nullptr ? nullptr : static_cast<char*>(p) + bytes; }

// What both passes know of their rows.
struct Pass {
    const Kernel& kernel;
    const Rows& rows;
    const RowKernels& with;
    u64 x_item, z_item, number;  // bytes of an element of x, of z, and of a number of the arithmetic

    Pass(const Kernel& k, const Rows& r)
        : kernel(k),
          rows(r),
          with(k.rows[static_cast<int>(r.type)][r.wide ? 1 : 0]),
          x_item(size_of(r.type)),
          z_item(r.wide ? 4 : x_item),
          number(r.type == Type::f64 ? 8 : 4) {}

    // The index of a row's first element.
    u64 index(u64 row) const {
        u64 found = rows.offset;
        for (int a = rows.axes - 1; a >= 0; --a) {
            found += row % rows.axis[a].n * rows.axis[a].index;
            row /= rows.axis[a].n;
        }
        return found;
    }
    void in_turns(u64 turns, void (*body)(void*, std::size_t), void* context) const {
        const bool more = rows.threads > 1 && worth_others(rows.count * rows.n / kBitsInOne, rows.whose);
        parallel(static_cast<std::size_t>(turns), more ? rows.threads : 1, body, context, rows.whose);
    }
};

struct Forward : Pass {
    const RowsForward& arrays;
    // A turn is some rows or, where nothing is normed, a segment of one.
    u64 segments = 1, segment, turn;

    Forward(const Kernel& k, const Rows& r, const RowsForward& a)
        : Pass(k, r), arrays(a), segment(r.n) {
        if (a.out == nullptr) segment = std::min(r.n, kSegment);
        segments = (r.n + segment - 1) / segment;
        turn = std::max<u64>(1, kTurnElements / segment);
    }
    void add(KeepBits& bits, u64 row, u64 from, u64 to) const {
        for (u64 l = from; l < to; l += kSegment) {
            const u64 n = std::min(kSegment, to - l), first = row * rows.n + l;
            const std::uint32_t bit = bits.draw(index(row) + l, n);
            with.add(bits.word, bit, n, at(arrays.x, first * x_item), at(arrays.bias, l * x_item),
                     at(arrays.residual, first * z_item), at(arrays.z, first * z_item), rows.scale);
        }
    }
    void norm(u64 row) const {
        const u64 first = row * rows.n;
        with.norm(rows.n, at(arrays.z, first * z_item), arrays.weight, arrays.shift, arrays.eps,
                  arrays.rms, at(arrays.out, first * x_item), at(arrays.mean, row * number),
                  at(arrays.rstd, row * number));
    }
};

void forward_turn(void* context, std::size_t i) {
    const Forward& pass = *static_cast<const Forward*>(context);
    KeepBits bits(pass.kernel, pass.rows.stream);
    const u64 first = static_cast<u64>(i) * pass.turn;
    const u64 end = std::min(first + pass.turn, pass.rows.count * pass.segments);
    for (u64 unit = first; unit < end; ++unit) {
        const u64 row = unit / pass.segments, from = unit % pass.segments * pass.segment;
        pass.add(bits, row, from, std::min(from + pass.segment, pass.rows.n));
        if (pass.arrays.out != nullptr) pass.norm(row);
    }
}

struct Backward : Pass {
    const RowsBackward& arrays;

    Backward(const Kernel& k, const Rows& r, const RowsBackward& a) : Pass(k, r), arrays(a) {}
};

void backward_part(void* context, std::size_t i) {
    const Backward& pass = *static_cast<const Backward*>(context);
    const RowsBackward& a = pass.arrays;
    const Rows& rows = pass.rows;
    KeepBits bits(pass.kernel, rows.stream);
    const u64 part = static_cast<u64>(i), sums = part * rows.n * pass.number;
    const u64 end = rows.count * (part + 1) / a.parts;
    for (u64 row = rows.count * part / a.parts; row < end; ++row) {
        const u64 first = row * rows.n;
        char* dz = at(a.dz, first * pass.z_item);
        pass.with.norm_backward(rows.n, at(a.grad, first * pass.x_item), at(a.z, first * pass.z_item),
                                a.weight, a.rms, at(a.mean, row * pass.number),
                                at(a.rstd, row * pass.number), at(a.more, first * pass.z_item), dz,
                                at(a.dweight, sums), at(a.dshift, sums));
        for (u64 l = 0; l < rows.n; l += kSegment) {
            const u64 n = std::min(kSegment, rows.n - l);
            const std::uint32_t bit = bits.draw(pass.index(row) + l, n);
            pass.with.drop(bits.word, bit, n, dz + l * pass.z_item,
                           at(a.dx, (first + l) * pass.x_item), rows.scale);
        }
    }
}

}  // namespace

void run(const Kernel& kernel, const Rows& rows, const RowsForward& arrays) {
    if (rows.count == 0 || rows.n == 0) return;
    Forward pass(kernel, rows, arrays);
    pass.in_turns((rows.count * pass.segments + pass.turn - 1) / pass.turn, forward_turn, &pass);
}

void run(const Kernel& kernel, const Rows& rows, const RowsBackward& arrays) {
    if (rows.count == 0 || rows.n == 0) return;
    Backward pass(kernel, rows, arrays);
    pass.in_turns(arrays.parts, backward_part, &pass);
}

}  // namespace thinned
