// The functions that put bits and noise on values: every type and operation, unaligned, and in memory
// that begins or ends where a page does.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../dispatch.hpp"
#include "memory.hpp"
#include "twin.hpp"

using namespace check;
using thinned::ApplyBits;
using thinned::kGroup;
using thinned::Kernel;
using thinned::kOps;
using thinned::kTypes;
using thinned::Op;
using thinned::size_of;
using thinned::Stream;
using thinned::Type;
using thinned::Values;

namespace {

constexpr u64 kWhole = u64{1} << 32;

// Scales and fills at which the half types round, tie, run over and run under.
const double kScales[] = {2.0, 1.0 / 0.9, 1.0, 1.0 + 1.0 / 2048, 1.5 / 4096, 0x1p-25, 1e4, 0.0, -3.7};
const double kFills[] = {0.0, -1.7580993408473766, 1e-7, 70000.0, 0.3333333333333333, -HUGE_VAL};

// Bytes that are mostly ordinary numbers, and else any bit pattern: NaN, infinities, subnormals.
void fill_values(Random& random, Type type, char* p, u64 n) {
    const std::size_t item = size_of(type);
    for (u64 i = 0; i < n; ++i) {
        const u64 any = random.next();
        const double number = (static_cast<double>(random.below(4001)) - 2000.0) / 512.0;
        char* to = p + i * item;
        if (random.chance(4)) {
            std::memcpy(to, &any, item);
        } else if (type == Type::f64) {
            std::memcpy(to, &number, item);
        } else if (type == Type::f32) {
            const float single = static_cast<float>(number);
            std::memcpy(to, &single, item);
        } else {
            const u16 half = twin::nearest(type, static_cast<float>(number));
            std::memcpy(to, &half, item);
        }
    }
}

// Mask bits that end, with the eight bytes that may be read behind them, where the page ends.
struct Mask {
    Guarded memory;
    u64* word;

    Mask(Random& random, u32 bit, u64 n)
        : memory(((bit + n + 63) / 64 + 1) * 8),
          word(reinterpret_cast<u64*>(memory.at(Edge::end, ((bit + n + 63) / 64 + 1) * 8))) {
        for (u64 i = 0; i < (bit + n + 63) / 64 + 1; ++i) word[i] = random.next();
    }
    bool keeps(u64 i) const { return (word[i / 64] >> i % 64 & 1) != 0; }
};

// Three arrays of n elements, lying against a page or `off` bytes from its beginning.
struct Arrays {
    std::size_t bytes;
    Guarded x_memory, y_memory, f_memory;
    char *x, *y, *f;

    Arrays(std::size_t item, u64 n, Edge edge, std::size_t off)
        : bytes(item * n), x_memory(bytes + off), y_memory(bytes + off), f_memory(bytes + off) {
        x = x_memory.at(edge, bytes) + (edge == Edge::begin ? off : 0);
        y = y_memory.at(edge, bytes) + (edge == Edge::begin ? off : 0);
        f = f_memory.at(edge, bytes) + (edge == Edge::begin ? off : 0);
    }
};

struct What {
    const Kernel& kernel;
    Type type;
    Op op;
    Values values;
};

void compare(const What& w, const std::vector<char>& x, const Arrays& a, u64 n,
             const std::vector<bool>& keep, const char* how) {
    const std::size_t item = size_of(w.type);
    for (u64 i = 0; i < n; ++i) {
        char want[8];
        twin::element(w.type, w.op, w.values, keep[i], x.data() + i * item, a.f + i * item, want);
        const bool equal = w.op == Op::select || w.op == Op::select_array
                               ? std::memcmp(want, a.y + i * item, item) == 0
                               : twin::same(w.type, want, a.y + i * item);
        CHECK(equal, "%s %s: type %d op %d scale %g fill %g, element %llu of %llu", w.kernel.name, how,
              static_cast<int>(w.type), static_cast<int>(w.op), w.values.scale, w.values.fill,
              static_cast<unsigned long long>(i), static_cast<unsigned long long>(n));
    }
}

void untouched(const What& w, Arrays& a, u64 n, const char* how) {
    a.y_memory.poison(a.y, a.bytes);
    CHECK(a.y_memory.touched() == nullptr, "%s %s wrote beside %llu elements of type %d", w.kernel.name,
          how, static_cast<unsigned long long>(n), static_cast<int>(w.type));
}

std::vector<bool> bits_of(const Mask& mask, u32 bit, u64 n) {
    std::vector<bool> keep(n);
    for (u64 i = 0; i < n; ++i) keep[i] = mask.keeps(bit + i);
    return keep;
}

// One call of an operation: out of place, and in place where y is x.
void apply_once(Random& random, const What& w, ApplyBits apply, u64 n, Edge edge, std::size_t off,
                const char* how) {
    const u32 bit = static_cast<u32>(random.below(random.chance(2) ? 8 : 300));
    const Mask mask(random, bit, n);
    const std::vector<bool> keep = bits_of(mask, bit, n);
    const std::size_t item = size_of(w.type);
    Arrays a(item, n, edge, off);
    fill_values(random, w.type, a.x, n);
    fill_values(random, w.type, a.f, n);
    const std::vector<char> x(a.x, a.x + a.bytes);
    const char* f = thinned::reads_fill(w.op) ? a.f : nullptr;
    apply(mask.word, bit, n, a.x, a.y, f, w.values);
    compare(w, x, a, n, keep, how);
    CHECK(n == 0 || std::memcmp(a.x, x.data(), a.bytes) == 0, "%s %s wrote into x", w.kernel.name, how);
    untouched(w, a, n, how);
    if (n > 0) std::memcpy(a.y, x.data(), a.bytes);
    apply(mask.word, bit, n, a.y, a.y, f, w.values);
    compare(w, x, a, n, keep, "in place");
    untouched(w, a, n, "in place");
}

template <class Body>
void over_kernels_and_types(Body body) {
    for (const Kernel* k : thinned::runnable_kernels()) {
        for (int t = 0; t < kTypes; ++t) body(*k, static_cast<Type>(t));
    }
}

}  // namespace

CASE(operations_are_exact_at_every_length_and_address) {
    Random random(11);
    over_kernels_and_types([&](const Kernel& k, Type type) {
        for (int op = 0; op < kOps; ++op) {
            const ApplyBits apply = k.apply[static_cast<int>(type)][op];
            for (u64 n = 0; n <= 200; n += kInstrumented && n >= 70 ? 7 : 1) {
                const What w{k, type, static_cast<Op>(op), {random.of(kScales), random.of(kFills)}};
                apply_once(random, w, apply, n, Edge::end, 0, "at a page's end");
                apply_once(random, w, apply, n, Edge::begin, 0, "at a page's beginning");
                // Not even a multiple of the element's size: arrays may lie so in a file's bytes.
                apply_once(random, w, apply, n, Edge::begin, random.between(1, 63), "unaligned");
            }
        }
    });
}

CASE(every_half_is_converted_and_rounded_right) {
    constexpr u64 n = 65536;
    const std::vector<u64> ones(n / 64 + 1, ~u64{0});
    std::vector<u16> x(n), y(n), z(n);
    for (u64 i = 0; i < n; ++i) x[i] = static_cast<u16>(i);
    for (const Kernel* k : thinned::runnable_kernels()) {
        for (const Type type : {Type::f16, Type::bf16}) {
            for (const double scale : kScales) {
                const Values values{scale, 0.0};
                const int t = static_cast<int>(type);
                k->apply[t][0](ones.data(), 0, n, x.data(), y.data(), nullptr, values);
                // The way of elements that are scaled as they are drawn.
                k->whole[t][0](n, x.data(), z.data(), values);
                for (u64 i = 0; i < n; ++i) {
                    const char* from = reinterpret_cast<const char*>(&x[i]);
                    u16 want;
                    twin::element(type, Op::scale, values, true, from, nullptr,
                                  reinterpret_cast<char*>(&want));
                    for (const u16 found : {y[i], z[i]}) {
                        CHECK(twin::same(type, reinterpret_cast<const char*>(&want),
                                         reinterpret_cast<const char*>(&found)),
                              "%s type %d scale %g: %04llx became %04x, not %04x", k->name, t, scale,
                              static_cast<unsigned long long>(i), found, want);
                    }
                }
            }
        }
    }
}

CASE(any_single_is_rounded_right_to_a_half) {
    // A dropped element takes the fill, which is how a binary32 number comes to the rounding alone.
    Random random(13);
    const u64 none[2] = {0, 0};
    const u16 x[16] = {};
    for (int i = 0; i < (kInstrumented ? 20000 : 200000); ++i) {
        u32 pattern = static_cast<u32>(random.next());
        if (random.chance(2)) pattern &= ~0u << random.below(24);  // ties and exact numbers
        if (random.chance(2)) pattern = (pattern & 0x807FFFFFu) | static_cast<u32>(random.between(100, 146)) << 23;
        float fill;
        std::memcpy(&fill, &pattern, 4);
        if (std::isnan(fill)) continue;
        for (const Kernel* k : thinned::runnable_kernels()) {
            for (const Type type : {Type::f16, Type::bf16}) {
                u16 affine[16], select[16];
                const Values values{2.0, static_cast<double>(fill)};
                k->apply[static_cast<int>(type)][2](none, 0, 16, x, affine, nullptr, values);
                k->apply[static_cast<int>(type)][1](none, 0, 16, x, select, nullptr, values);
                const u16 want = twin::nearest(type, fill);
                CHECK(affine[i % 16] == want && select[i % 16] == want,
                      "%s type %d: %08x became %04x and %04x, not %04x", k->name,
                      static_cast<int>(type), pattern, affine[i % 16], select[i % 16], want);
            }
        }
    }
}

CASE(noise_is_exact_given_its_draws) {
    Random random(14);
    over_kernels_and_types([&](const Kernel& k, Type type) {
        const std::size_t item = size_of(type);
        for (u64 n = 1; n <= 200; n += kInstrumented ? 7 : 1) {
            const Values values{random.of(kScales), 0.0};
            const bool one = random.chance(3);
            const Edge edge = random.of({Edge::begin, Edge::end});
            Arrays a(item, n, edge, edge == Edge::begin ? random.below(16) : 0);
            const u64 draws = one ? 1 : n;
            Guarded noise(draws * 4);
            float* z = reinterpret_cast<float*>(noise.at(edge, draws * 4));
            for (u64 i = 0; i < draws; ++i) z[i] = static_cast<float>(random.below(8000)) / 1000.0f - 4.0f;
            fill_values(random, type, a.x, n);
            k.noise[static_cast<int>(type)](z, one, n, a.x, a.y, values);
            for (u64 i = 0; i < n; ++i) {
                char want[8];
                twin::noisy(type, values, z[one ? 0 : i], a.x + i * item, want);
                CHECK(twin::same(type, want, a.y + i * item), "%s type %d element %llu of %llu", k.name,
                      static_cast<int>(type), static_cast<unsigned long long>(i),
                      static_cast<unsigned long long>(n));
            }
            untouched({k, type, Op::scale, values}, a, n, "noise");
        }
    });
}

CASE(bits_expand_to_bytes) {
    Random random(15);
    for (const Kernel* k : thinned::runnable_kernels()) {
        for (u64 n = 0; n <= 300; ++n) {
            const u32 bit = static_cast<u32>(random.below(200));
            const Mask mask(random, bit, n);
            Guarded memory(n + 3);
            for (const Edge edge : {Edge::begin, Edge::end}) {
                u8* out = reinterpret_cast<u8*>(memory.at(edge, n));
                k->expand(mask.word, bit, n, out);
                for (u64 i = 0; i < n; ++i) {
                    CHECK(out[i] == (mask.keeps(bit + i) ? 1 : 0), "%s byte %llu of %llu", k->name,
                          static_cast<unsigned long long>(i), static_cast<unsigned long long>(n));
                }
                memory.poison(out, n);
                CHECK(memory.touched() == nullptr, "%s wrote beside %llu bytes", k->name,
                      static_cast<unsigned long long>(n));
            }
        }
    }
}

namespace {

// A stream, and draws of it at the beginning, across the 32-bit boundaries of elements and of blocks,
// and up to the last element; from the first of a group, so that p = 1/2 takes two groups at once, and
// from anywhere.
struct Run {
    Stream stream;
    u64 start, n;
    std::vector<bool> keep;

    Run(Random& random, u64 most) {
        const u64 first[] = {0, kGroup, kWhole - 700, (u64{1} << 39) - 2000, (u64{1} << 47) - 9216};
        const u64 thresholds[] = {1, kWhole / 2, kWhole / 2, 0x1999999A, kWhole - 1};
        stream.seed = random.next();
        stream.site = static_cast<u32>(random.next());
        stream.call = static_cast<u32>(random.below(1u << 16));
        stream.mirror = random.chance(2);
        stream.threshold = random.of(thresholds);
        start = random.of(first) / kGroup * kGroup + (random.chance(2) ? 0 : random.below(3000));
        n = random.below(most);
        twin::Draws draws(stream);
        for (u64 i = 0; i < n; ++i) keep.push_back(draws.keeps(start + i));
    }
};

}  // namespace

CASE(the_fused_pass_is_draws_and_their_application) {
    Random random(16);
    over_kernels_and_types([&](const Kernel& k, Type type) {
        for (int round = 0; round < (kInstrumented ? 24 : 60); ++round) {
            const Op op = static_cast<Op>(random.below(kOps));
            const What w{k, type, op, {random.of(kScales), random.of(kFills)}};
            const ApplyBits apply = k.apply[static_cast<int>(type)][static_cast<int>(op)];
            const Run run(random, 5000);
            const Edge edge = random.of({Edge::begin, Edge::end});
            Arrays a(size_of(type), run.n, edge, edge == Edge::begin ? random.below(64) : 0);
            fill_values(random, type, a.x, run.n);
            fill_values(random, type, a.f, run.n);
            const std::vector<char> x(a.x, a.x + a.bytes);
            k.fused(run.stream, run.start, run.n, apply, size_of(type), a.x, a.y,
                    thinned::reads_fill(op) ? a.f : nullptr, w.values);
            compare(w, x, a, run.n, run.keep, "fused");
            untouched(w, a, run.n, "fused");
        }
    });
}

CASE(fused_dropout_is_exact_at_every_length_and_address) {
    Random random(17);
    over_kernels_and_types([&](const Kernel& k, Type type) {
        const std::size_t item = size_of(type);
        for (int round = 0; round < (kInstrumented ? 80 : 600); ++round) {
            const auto reach = static_cast<thinned::Reach>(random.below(thinned::kReaches));
            const bool streaming = reach == thinned::Reach::streaming;
            const What w{k, type, Op::scale, {random.of(kScales), 0.0}};
            const auto scale = k.fused_scale[static_cast<int>(type)][static_cast<int>(reach)];
            const Run run(random, random.chance(3) ? 300 : 6000);
            // Streaming asks for y at a multiple of its size; otherwise it may lie anywhere, as x may.
            const std::size_t off = streaming ? item * random.below(64 / item) : random.below(64);
            const Edge edge = random.of({Edge::begin, Edge::end});
            Arrays a(item, run.n, edge, edge == Edge::begin ? off : 0);
            if (edge == Edge::begin) a.x = a.x_memory.begin() + random.below(off + 1);
            fill_values(random, type, a.x, run.n);
            const std::vector<char> x(a.x, a.x + a.bytes);
            scale(run.stream, run.start, run.n, a.x, a.y, w.values);
            k.fence();
            compare(w, x, a, run.n, run.keep, streaming ? "streaming" : "fused dropout");
            CHECK(std::equal(x.begin(), x.end(), a.x), "%s wrote into x", k.name);
            untouched(w, a, run.n, "fused dropout");
            if (streaming) continue;
            std::copy(x.begin(), x.end(), a.y);
            scale(run.stream, run.start, run.n, a.y, a.y, w.values);
            compare(w, x, a, run.n, run.keep, "fused dropout in place");
            untouched(w, a, run.n, "fused dropout in place");
        }
    });
}
