// run() over arrays of any shape and layout, against a loop over their elements.
#include <algorithm>
#include <memory>

#include "arrays.hpp"

using namespace check;
using thinned::Job;
using thinned::kOps;
using thinned::Law;
using thinned::Op;
using thinned::Type;

namespace {

constexpr u64 kWhole = u64{1} << 32;

void any_stream(Random& random, Job& job) {
    const u64 thresholds[] = {0, 1, kWhole / 2, kWhole / 2, 0x1999999A, 0xE0000000, kWhole - 1, kWhole};
    job.stream.seed = random.next();
    job.stream.site = static_cast<u32>(random.next());
    job.stream.step = static_cast<u32>(random.next());
    job.stream.call = static_cast<u32>(random.below(1u << 16));
    job.stream.mirror = random.chance(2);
    job.stream.threshold = random.chance(4) ? random.between(1, kWhole - 1) : random.of(thresholds);
}

void any_values(Random& random, Job& job) {
    const double scales[] = {1.0, 2.0, 1.0 / 0.9, 1.0 + 1e-12, -0.5};
    const double fills[] = {0.0, -1.7580993408473766, 3.0};
    job.type = static_cast<Type>(random.below(thinned::kTypes));
    job.op = static_cast<Op>(random.below(kOps));
    job.values = {random.of(scales), random.of(fills)};
}

// Up to five axes, a few of them long, with about `most` elements at the utmost.
Shape any_shape(Random& random, u64 most) {
    Shape shape(random.below(6));
    u64 left = most;
    for (u64& n : shape) {
        n = random.chance(6) ? 1 : random.chance(4) ? random.between(1, left) : random.between(1, 9);
        n = std::min(n, left);
        left /= n;
    }
    if (!shape.empty() && random.chance(12)) shape[random.below(shape.size())] = 0;
    for (std::size_t i = shape.size(); i > 1; --i) std::swap(shape[i - 1], shape[random.below(i)]);
    return shape;
}

// Steps of the index: those of C order in a logical array that holds this one and more, 0 on axes that
// share; or now and then any numbers at all.
void any_place(Random& random, Trial& t) {
    const bool word_law = t.job.law != Law::bernoulli && t.job.law != Law::mask;
    const u64 room = word_law ? u64{1} << 42 : u64{1} << 47;
    t.index_steps.assign(t.shape.size(), 0);
    const bool window = random.chance(2), wild = random.chance(10);
    u64 step = 1, last = 0;
    for (std::size_t axis = t.shape.size(); axis-- > 0;) {
        if (random.chance(3)) continue;  // shared
        const u64 n = t.shape[axis];
        const u64 whole = n + (window ? random.below(random.chance(3) ? 100000 : 9) : 0);
        t.index_steps[axis] = wild ? random.below(u64{1} << random.below(30)) : step;
        last += t.index_steps[axis] * (std::max<u64>(n, 1) - 1);
        if (step <= u64{1} << 27) step *= std::max<u64>(whole, 1);
    }
    const u64 offsets[] = {0, random.below(5000), kWhole - 500, (u64{1} << 39) - 500, room - last - 1,
                           u64{1} << 40};
    t.job.offset = std::min(random.of(offsets), room - last - 1);
}

Edge any_edge(Random& random) { return random.of({Edge::begin, Edge::end}); }

std::unique_ptr<Array> any_array(Random& random, const Layout& layout) {
    const Edge edge = any_edge(random);
    return std::make_unique<Array>(layout, edge, random.chance(4) ? random.below(16) : 0);
}

void any_arrays(Random& random, Trial& t) {
    const std::size_t item = item_size(t.job);
    const auto layout = [&] {
        return random.chance(3) ? any_layout(random, t.shape, item) : c_order(t.shape, item);
    };
    t.in_place = reads_x(t.job.law) && random.chance(4);
    // Often x and y lie alike, as where one was made for the other; that is when axes merge.
    const Layout mine = layout();
    if (reads_x(t.job.law)) {
        const bool alike = t.in_place || random.chance(2);
        const Layout other = random.chance(4) ? any_broadcast(random, t.shape, item) : layout();
        t.x = any_array(random, alike ? mine : other);
    }
    if (!t.in_place) t.y = any_array(random, mine);
    if (t.job.law == Law::bernoulli && thinned::reads_fill(t.job.op)) {
        const Layout other = random.chance(2) ? any_broadcast(random, t.shape, item) : layout();
        t.f = any_array(random, random.chance(2) ? mine : other);
    }
}

Trial any_trial(Random& random, u64 most) {
    Trial t;
    const Law laws[] = {Law::bernoulli, Law::bernoulli, Law::bernoulli, Law::mask,
                        Law::gaussian,  Law::words,     Law::raw_gaussian};
    t.job.law = random.of(laws);
    any_stream(random, t.job);
    any_values(random, t.job);
    t.job.threads = static_cast<int>(random.between(1, 4));
    t.shape = any_shape(random, most);
    any_place(random, t);
    any_arrays(random, t);
    t.prepare(random);
    return t;
}

}  // namespace

CASE(geometry_of_any_kind_is_the_loop_over_elements) {
    Random random(21);
    const int rounds = kInstrumented ? 400 : 2000;
    for (int round = 0; round < rounds; ++round) {
        Trial t = any_trial(random, random.chance(4) ? 20000 : 2500);
        char note[32];
        std::snprintf(note, sizeof note, "round %d", round);
        for (const thinned::Kernel* k : thinned::runnable_kernels()) t.check(*k, note);
    }
}

CASE(geometry_of_many_elements_on_several_threads) {
    Random random(22);
    const int rounds = kInstrumented ? 12 : 60;
    for (int round = 0; round < rounds; ++round) {
        Trial t = any_trial(random, 400000);
        char note[32];
        std::snprintf(note, sizeof note, "round %d", round);
        const auto kernels = thinned::runnable_kernels();
        t.check(*kernels[static_cast<std::size_t>(round) % kernels.size()], note);
    }
}

CASE(geometry_of_nothing_and_of_one_element) {
    Random random(23);
    for (const thinned::Kernel* k : thinned::runnable_kernels()) {
        for (int law = 0; law < 5; ++law) {
            Job job;
            job.law = static_cast<Law>(law);
            job.stream.threshold = kWhole / 2;
            job.threads = 4;
            job.axes = 2;
            job.axis[0] = {5, 0, 0, 0, 1};
            job.axis[1] = {0, 0, 0, 0, 1};
            thinned::run(*k, job);  // with null pointers: there is nothing to touch
            for (u64 index : {u64{0}, u64{127}, kWhole, (u64{1} << 42) - 1}) {
                Trial t;
                t.job.law = static_cast<Law>(law);
                any_stream(random, t.job);
                any_values(random, t.job);
                t.job.offset = index;
                any_arrays(random, t);
                t.prepare(random);
                t.check(*k, "without axes");
            }
        }
    }
}

CASE(geometry_of_every_shared_set_in_every_order) {
    // Four axes of different lengths: all 16 sets of shared ones, x and y in C order and channels last.
    Random random(24);
    const Shape shape = {3, 17, 5, 40};
    for (u64 set = 0; set < 16; ++set) {
        for (const bool channels_last : {false, true}) {
            for (const Law law : {Law::bernoulli, Law::gaussian, Law::mask}) {
                Trial t;
                t.job.law = law;
                t.shape = shape;
                any_stream(random, t.job);
                any_values(random, t.job);
                t.job.op = Op::scale;
                u64 step = 1;
                t.index_steps.assign(4, 0);
                for (std::size_t axis = 4; axis-- > 0;) {
                    if ((set >> axis & 1) != 0) continue;
                    t.index_steps[axis] = step;
                    step *= shape[axis];
                }
                const std::size_t item = item_size(t.job);
                Layout layout = c_order(shape, item);
                if (channels_last) {
                    const Layout moved = c_order({3, 5, 40, 17}, item);
                    layout.steps = {moved.steps[0], moved.steps[3], moved.steps[1], moved.steps[2]};
                }
                if (reads_x(law)) t.x = std::make_unique<Array>(layout, Edge::end, 0);
                t.y = std::make_unique<Array>(layout, Edge::end, 0);
                t.prepare(random);
                char note[48];
                std::snprintf(note, sizeof note, "shared set %d, channels %s", static_cast<int>(set),
                              channels_last ? "last" : "second");
                const auto kernels = thinned::runnable_kernels();
                // Which kernel it is does not decide how the axes are walked.
                if (kInstrumented) t.check(*kernels[set % kernels.size()], note);
                for (const thinned::Kernel* k : kernels) {
                    if (!kInstrumented) t.check(*k, note);
                }
            }
        }
    }
}

CASE(geometry_in_place_touches_each_element_once) {
    // In lengths that no unit of work divides: an element taken twice would be scaled twice.
    Random random(26);
    const Shape shapes[] = {{1001, 50}, {1001, 3, 50}, {90001, 2}, {7, 20011}, {3, 100003}};
    for (const Shape& shape : shapes) {
        for (u64 set = 0; set < u64{1} << shape.size(); ++set) {
            Trial t;
            t.shape = Shape(shape);
            t.in_place = true;
            t.job.values.scale = 2.0;
            t.job.stream.threshold = kWhole / 2;
            t.job.threads = static_cast<int>(random.between(1, 3));
            u64 step = 1;
            t.index_steps.assign(shape.size(), 0);
            for (std::size_t axis = shape.size(); axis-- > 0;) {
                if ((set >> axis & 1) != 0) continue;
                t.index_steps[axis] = step;
                step *= shape[axis];
            }
            t.x = std::make_unique<Array>(c_order(shape, 4), Edge::end, 0);
            t.prepare(random);
            t.check(*thinned::runnable_kernels().back(), "in place");
        }
    }
}

CASE(geometry_without_fill_has_fill_zero) {
    // Op::scale promises fill 0, whatever number stands beside it; also where the scale is 1.
    Random random(25);
    for (const double scale : {1.0, 2.0}) {
        Trial t;
        t.shape = {3000};
        t.index_steps = {1};
        t.job.op = Op::scale;
        t.job.values = {scale, 0.0};
        t.job.stream.threshold = kWhole / 2;
        t.x = std::make_unique<Array>(c_order(t.shape, 4), Edge::end, 0);
        t.y = std::make_unique<Array>(c_order(t.shape, 4), Edge::end, 0);
        t.prepare(random);
        t.job.values.fill = 3.0;
        for (const thinned::Kernel* k : thinned::runnable_kernels()) t.check(*k, "fill beside scale");
    }
}
