#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>

namespace check {

using thinned::Job;
using thinned::Law;
using thinned::Op;
using thinned::Type;

std::size_t item_size(const Job& job) {
    if (job.law == Law::mask) return 1;
    return job.law == Law::words || job.law == Law::raw_gaussian ? 4 : thinned::size_of(job.type);
}

u64 count_of(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), u64{1}, [](u64 a, u64 b) { return a * b; });
}

bool reads_x(Law law) { return law == Law::bernoulli || law == Law::gaussian; }

namespace {

// Lays the axes out from the innermost, `order[0]`, to the outermost.
Layout lay_out(const Shape& shape, std::size_t item, const std::vector<std::size_t>& order,
               const std::vector<u64>& gaps, const std::vector<bool>& backwards) {
    Layout l;
    l.steps.resize(shape.size());
    u64 step = item;
    for (const std::size_t axis : order) {
        step *= gaps[axis];
        l.steps[axis] = static_cast<i64>(step);
        step *= std::max<u64>(shape[axis], 1);
    }
    u64 last = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const i64 length = l.steps[axis] * static_cast<i64>(std::max<u64>(shape[axis], 1) - 1);
        last += static_cast<u64>(length);
        if (backwards[axis]) {
            l.first += length;
            l.steps[axis] = -l.steps[axis];
        }
    }
    l.bytes = count_of(shape) == 0 ? 0 : last + item;
    return l;
}

}  // namespace

Layout c_order(const Shape& shape, std::size_t item) {
    std::vector<std::size_t> order(shape.size());
    std::iota(order.rbegin(), order.rend(), std::size_t{0});
    return lay_out(shape, item, order, std::vector<u64>(shape.size(), 1),
                   std::vector<bool>(shape.size(), false));
}

Layout any_layout(Random& random, const Shape& shape, std::size_t item) {
    std::vector<std::size_t> order(shape.size());
    std::iota(order.rbegin(), order.rend(), std::size_t{0});
    if (random.chance(2)) {
        for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    }
    std::vector<u64> gaps(shape.size(), 1);
    std::vector<bool> backwards(shape.size(), false);
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (random.chance(5)) gaps[axis] = random.between(2, 3);
        backwards[axis] = random.chance(6);
    }
    return lay_out(shape, item, order, gaps, backwards);
}

Layout any_broadcast(Random& random, const Shape& shape, std::size_t item) {
    Shape small = shape;
    for (u64& n : small) {
        if (n > 1 && random.chance(3)) n = 1;
    }
    Layout l = any_layout(random, small, item);
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (small[axis] != shape[axis]) l.steps[axis] = 0;
    }
    return l;
}

Array::Array(const Layout& its_layout, Edge edge, std::size_t off)
    : layout(its_layout), memory(its_layout.bytes + off) {
    char* lowest = memory.at(edge, layout.bytes) + (edge == Edge::begin ? off : 0);
    first = lowest + layout.first;
}

char* Array::element(const Shape& at) const {
    i64 from_first = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) {
        from_first += static_cast<i64>(at[axis]) * layout.steps[axis];
    }
    return first + from_first;
}

namespace {

// The next place in C order; false behind the last.
bool advance(Shape& at, const Shape& shape) {
    for (std::size_t axis = shape.size(); axis-- > 0;) {
        if (++at[axis] < shape[axis]) return true;
        at[axis] = 0;
    }
    return false;
}

void put_number(Random& random, Type type, char* to) {
    const u64 any = random.next();
    if (random.chance(8)) {
        std::memcpy(to, &any, thinned::size_of(type));
        return;
    }
    const double number = (static_cast<double>(any % 4001) - 2000.0) / 512.0;
    const float single = static_cast<float>(number);
    const u16 half = twin::nearest(type == Type::f16 ? type : Type::bf16, single);
    if (type == Type::f64) {
        std::memcpy(to, &number, 8);
    } else if (type == Type::f32) {
        std::memcpy(to, &single, 4);
    } else {
        std::memcpy(to, &half, 2);
    }
}

void fill(Random& random, const Array& a, const Shape& shape, Type type) {
    if (count_of(shape) == 0) return;
    Shape at(shape.size(), 0);
    do put_number(random, type, a.element(at));
    while (advance(at, shape));
}

// The elements of one address that are asked for in any order.
struct Expected {
    const thinned::Kernel& kernel;
    const Job& job;
    twin::Draws draws;

    bool right(u64 index, const char* x, const char* f, const char* y) {
        char want[8];
        switch (job.law) {
            case Law::bernoulli: {
                const bool keep = draws.keeps(index);
                twin::element(job.type, job.op, job.values, keep, x, f, want);
                // What a whole call promises, and an operation alone does not: exactly x where s is 1.
                const bool one = job.type == Type::f64 ? job.values.scale == 1.0
                                                       : static_cast<float>(job.values.scale) == 1.0f;
                if (one && keep) return std::memcmp(x, y, thinned::size_of(job.type)) == 0;
                return twin::same(job.type, want, y);
            }
            case Law::gaussian: {
                // The kernel's own draw: how near it is to the exact one is another test's matter.
                float z;
                kernel.gaussian(job.stream, index, 1, &z);
                twin::noisy(job.type, job.values, z, x, want);
                return twin::same(job.type, want, y);
            }
            case Law::mask: return *y == (draws.keeps(index) ? 1 : 0);
            case Law::words: {
                const u32 word = draws.word(index);
                return std::memcmp(&word, y, 4) == 0;
            }
            case Law::raw_gaussian: {
                float z;
                std::memcpy(&z, y, 4);
                return std::fabs(z - draws.gaussian(index)) <= 4e-6;
            }
        }
        return false;
    }
};

}  // namespace

void Trial::prepare(Random& random) {
    job.axes = static_cast<int>(shape.size());
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        job.axis[axis] = {shape[axis], x ? x->layout.steps[axis] : 0,
                          (in_place ? x : y)->layout.steps[axis], f ? f->layout.steps[axis] : 0,
                          index_steps[axis]};
    }
    job.x = x ? x->first : nullptr;
    job.y = in_place ? x->first : y->first;
    job.f = f ? f->first : nullptr;
    if (x) fill(random, *x, shape, job.type);
    if (f) fill(random, *f, shape, job.type);
    if (x) kept_.assign(x->memory.begin(), x->memory.end());
}

void Trial::check(const thinned::Kernel& kernel, const char* note) {
    const std::size_t item = item_size(job);
    Array& out = in_place ? *x : *y;
    if (in_place) {
        std::copy(kept_.begin(), kept_.end(), x->memory.begin());
    } else {
        out.memory.poison();
    }
    thinned::run(kernel, job);
    Expected expected{kernel, job, twin::Draws(job.stream)};
    const char* before = kept_.data();
    const bool any = count_of(shape) > 0;
    u64 wrong = 0, where = 0;
    Shape at(shape.size(), 0);
    if (any) {
        do {
            u64 index = job.offset;
            for (std::size_t axis = 0; axis < at.size(); ++axis) index += at[axis] * index_steps[axis];
            const char* from = x ? before + (x->element(at) - x->memory.begin()) : nullptr;
            const char* to = out.element(at);
            if (!expected.right(index, from, f ? f->element(at) : nullptr, to) && wrong++ == 0) {
                where = index;
            }
        } while (advance(at, shape));
    }
    CHECK(wrong == 0, "%s %s: %llu of %llu elements, the first at index %llu; law %d type %d op %d "
          "threshold %llu threads %d", kernel.name, note, static_cast<unsigned long long>(wrong),
          static_cast<unsigned long long>(count_of(shape)), static_cast<unsigned long long>(where),
          static_cast<int>(job.law), static_cast<int>(job.type), static_cast<int>(job.op),
          static_cast<unsigned long long>(job.stream.threshold), job.threads);
    if (x && !in_place) {
        CHECK(std::equal(kept_.begin(), kept_.end(), x->memory.begin()), "%s %s wrote into x",
              kernel.name, note);
    }
    std::fill(at.begin(), at.end(), 0);
    if (any) {
        do out.memory.poison(out.element(at), item);
        while (advance(at, shape));
    }
    CHECK(out.memory.touched() == nullptr, "%s %s wrote beside the elements", kernel.name, note);
}

}  // namespace check
