// Philox, and what the kernels draw with it, against the twin.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../dispatch.hpp"
#include "../geometry.hpp"
#include "../philox.hpp"
#include "memory.hpp"
#include "twin.hpp"

using namespace check;
using thinned::kGroup;
using thinned::Kernel;
using thinned::Stream;

namespace {

constexpr u64 kWhole = u64{1} << 32;

// Groups at the beginning, around 2^32 and 2^40 elements, on both sides of the 2^32nd block, and the
// last that the spec has.
const u64 kGroups[] = {0,
                       1,
                       2,
                       (u64{1} << 22) - 1,
                       u64{1} << 22,
                       (u64{1} << 29) - 2,
                       (u64{1} << 29) - 1,
                       u64{1} << 29,
                       (u64{1} << 29) + 1,
                       (u64{1} << 30) - 1,
                       u64{1} << 30,
                       (u64{1} << 37) - 2,
                       (u64{1} << 37) - 1};

Stream any_stream(Random& random) {
    Stream s;
    s.seed = random.next();
    s.site = static_cast<u32>(random.next());
    s.step = static_cast<u32>(random.next());
    s.call = static_cast<u32>(random.below(1u << 16));
    s.mirror = random.chance(2);
    return s;
}

bool kept(const u64* word, u64 bit) { return (word[bit / 64] >> bit % 64 & 1) != 0; }

void compare_group(const Kernel& k, const Stream& s, u64 group, const u32* uniform) {
    u64 word[18];
    std::memset(word, kPoison, sizeof word);
    k.bits(s, group, 1, word + 1);
    u64 poison;
    std::memset(&poison, kPoison, sizeof poison);
    CHECK(word[0] == poison && word[17] == poison, "%s wrote beside 16 words", k.name);
    for (u64 i = 0; i < kGroup; ++i) {
        const bool keep = !(uniform[i] < s.threshold);
        if (kept(word + 1, i) == keep) continue;
        CHECK(false, "%s group %llu element %llu threshold %llu mirror %d", k.name,
              static_cast<unsigned long long>(group), static_cast<unsigned long long>(i),
              static_cast<unsigned long long>(s.threshold), s.mirror);
        return;
    }
}

}  // namespace

CASE(kernels_are_named_after_what_they_need) {
#if defined(__aarch64__)
    const std::vector<std::string> all = {"neon"};
#elif defined(__x86_64__)
    const std::vector<std::string> all = {"baseline", "avx2", "avx512"};
#else
    const std::vector<std::string> all = {"baseline"};
#endif
    const auto built = thinned::built_kernels();
    CHECK(std::equal(all.begin(), all.end(), built.begin(), built.end()), "%d names",
          static_cast<int>(built.size()));
    // A processor that runs one of them runs all before it.
    const auto kernels = thinned::runnable_kernels();
    CHECK(!kernels.empty() && kernels.size() <= all.size(), "%d can run",
          static_cast<int>(kernels.size()));
    for (std::size_t k = 0; k < kernels.size() && k < all.size(); ++k) {
        CHECK(kernels[k]->name == all[k], "kernel %s", kernels[k]->name);
    }
}

CASE(philox_gives_the_published_answers) {
    // The known answers that come with Random123 (Salmon et al., 2011): counter, key, block.
    const u32 known[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (const u32* a : known) {
        const std::array<u32, 4> counter = {a[0], a[1], a[2], a[3]}, want = {a[6], a[7], a[8], a[9]};
        CHECK(thinned::philox4x32_10(counter, {a[4], a[5]}) == want, "counter %08x", a[0]);
        CHECK(twin::philox(counter, {a[4], a[5]}) == want, "the twin, counter %08x", a[0]);
    }
    Random random(1);
    for (int i = 0; i < 1000; ++i) {
        std::array<u32, 4> c;
        for (u32& word : c) word = static_cast<u32>(random.next());
        const std::array<u32, 2> key = {static_cast<u32>(random.next()), static_cast<u32>(i)};
        CHECK(thinned::philox4x32_10(c, key) == twin::philox(c, key), "round %d", i);
    }
}

CASE(bits_are_the_comparison_of_whole_uniforms) {
    Random random(2);
    for (const u64 group : kGroups) {
        for (const bool mirror : {false, true}) {
            Stream s = any_stream(random);
            s.mirror = mirror;
            twin::Draws draws(s);
            u32 uniform[kGroup];
            for (u64 i = 0; i < kGroup; ++i) uniform[i] = draws.uniform(group * kGroup + i);
            std::vector<u64> thresholds = {1, 2, 3, kWhole - 1, kWhole - 2, kWhole / 2 - 1,
                                           kWhole / 2 + 1, 0x1999999A, 0xE6666666};
            for (int bit = 0; bit < 32; ++bit) thresholds.push_back(u64{1} << bit);
            for (int i = 0; i < 16; ++i) {
                // Exactly an element's uniform, and one above: kept there, dropped here.
                const u64 u = uniform[random.below(kGroup)];
                if (u > 0) thresholds.push_back(u);
                if (u + 1 < kWhole) thresholds.push_back(u + 1);
                thresholds.push_back(random.between(1, kWhole - 1));
                thresholds.push_back(std::max<u64>(1, random.next() >> random.between(33, 63)));
            }
            for (const u64 t : thresholds) {
                s.threshold = t;
                for (const Kernel* k : thinned::runnable_kernels()) {
                    compare_group(*k, s, group, uniform);
                }
            }
        }
    }
}

CASE(bits_follow_every_coordinate) {
    Random random(3);
    for (int round = 0; round < 40; ++round) {
        Stream s = any_stream(random);
        // One coordinate at its end at a time: a counter word cut short would not show elsewhere.
        if (round % 5 == 0) s.seed = round % 2 == 0 ? ~u64{0} : 0;
        if (round % 5 == 1) s.site = round % 2 == 0 ? ~u32{0} : 0;
        if (round % 5 == 2) s.step = round % 2 == 0 ? ~u32{0} - 1 : 0;
        if (round % 5 == 3) s.call = round % 2 == 0 ? 0xFFFF : 0;
        s.threshold = random.between(1, kWhole - 1);
        twin::Draws draws(s);
        const u64 group = random.below(u64{1} << random.between(1, 37));
        u32 uniform[kGroup];
        for (u64 i = 0; i < kGroup; ++i) uniform[i] = draws.uniform(group * kGroup + i);
        for (const Kernel* k : thinned::runnable_kernels()) compare_group(*k, s, group, uniform);
    }
}

// Groups are drawn in batches, in which the blocks that stay open share their last planes, and which end
// at the 2^32nd block.
CASE(bits_of_many_groups_are_those_of_each) {
    Random random(8);
    for (const Kernel* k : thinned::runnable_kernels()) {
        for (const u64 group : kGroups) {
            Stream s = any_stream(random);
            const u64 all[] = {u64{1} << 31, u64{1} << 29, 0x19000000, 0x1999999A, 0x00800001, 1, kWhole - 1};
            s.threshold = all[random.below(7)];
            for (u64 n = 1; n <= 19; n += 6) {
                std::vector<u64> together(16 * n + 2, 0xA5A5A5A5A5A5A5A5u), alone(16);
                k->bits(s, group, n, together.data() + 1);
                CHECK(together.front() == 0xA5A5A5A5A5A5A5A5u && together.back() == 0xA5A5A5A5A5A5A5A5u,
                      "%s wrote beside the words", k->name);
                for (u64 g = 0; g < n; ++g) {
                    k->bits(s, group + g, 1, alone.data());
                    CHECK(std::equal(alone.begin(), alone.end(), together.data() + 1 + 16 * g),
                          "%s group %llu of %llu from %llu, threshold %llu", k->name,
                          static_cast<unsigned long long>(g), static_cast<unsigned long long>(n),
                          static_cast<unsigned long long>(group),
                          static_cast<unsigned long long>(s.threshold));
                }
            }
        }
    }
}

CASE(words_are_those_of_tag_32) {
    Random random(4);
    // Elements 2^34 - 40 and on stand on both sides of the 2^32nd block of four.
    const u64 starts[] = {0, 1, 3, 31, 32, 33, 1000, (u64{1} << 34) - 40, (u64{1} << 42) - 260};
    for (const u64 first : starts) {
        for (u64 n = 0; n <= 200; n += n < 70 ? 1 : 13) {
            const Stream s = any_stream(random);
            const u64 start = first + random.below(33);
            twin::Draws draws(s);
            for (const Kernel* k : thinned::runnable_kernels()) {
                Guarded memory(n * 4);
                for (const Edge edge : {Edge::begin, Edge::end}) {
                    memory.poison();
                    u32* out = reinterpret_cast<u32*>(memory.at(edge, n * 4));
                    k->words(s, start, n, out);
                    for (u64 i = 0; i < n; ++i) {
                        CHECK(out[i] == draws.word(start + i), "%s element %llu of %llu from %llu",
                              k->name, static_cast<unsigned long long>(i),
                              static_cast<unsigned long long>(n),
                              static_cast<unsigned long long>(start));
                    }
                    memory.poison(out, n * 4);
                    CHECK(memory.touched() == nullptr, "%s wrote beside %llu words", k->name,
                          static_cast<unsigned long long>(n));
                }
            }
        }
    }
}

CASE(gaussian_draws_are_near_the_exact_ones) {
    Random random(5);
    double worst = 0.0;
    for (int round = 0; round < 60; ++round) {
        const Stream s = any_stream(random);
        const u64 first[] = {0, (u64{1} << 34) - 40, u64{1} << 40, (u64{1} << 42) - 5000};
        const u64 start = random.of(first) + random.below(70), n = random.below(4000);
        twin::Draws draws(s);
        std::vector<float> shared;
        for (const Kernel* k : thinned::runnable_kernels()) {
            Guarded memory(n * 4);
            float* out = reinterpret_cast<float*>(memory.at(random.of({Edge::begin, Edge::end}), n * 4));
            k->gaussian(s, start, n, out);
            for (u64 i = 0; i < n; ++i) {
                const double error = std::fabs(out[i] - draws.gaussian(start + i));
                CHECK(error <= 4e-6, "%s element %llu is off by %g", k->name,
                      static_cast<unsigned long long>(start + i), error);
                worst = std::max(worst, error);
            }
            // More than was promised, and what makes a result independent of the processor.
            if (shared.empty()) shared.assign(out, out + n);
            CHECK(std::equal(shared.begin(), shared.end(), out), "%s differs from the first kernel",
                  k->name);
            memory.poison(out, n * 4);
            CHECK(memory.touched() == nullptr, "%s wrote beside %llu numbers", k->name,
                  static_cast<unsigned long long>(n));
        }
    }
    std::printf("  the worst Gaussian draw is off by %.2g\n", worst);
}

CASE(a_mirrored_gaussian_draw_is_the_negative) {
    Random random(6);
    Stream s = any_stream(random);
    for (const Kernel* k : thinned::runnable_kernels()) {
        float z[100], mirrored[100];
        s.mirror = false;
        k->gaussian(s, 17, 100, z);
        s.mirror = true;
        k->gaussian(s, 17, 100, mirrored);
        for (int i = 0; i < 100; ++i) CHECK(mirrored[i] == -z[i], "%s element %d", k->name, i);
    }
}

CASE(packed_bits_are_the_mask) {
    Random random(7);
    for (int round = 0; round < 120; ++round) {
        Stream s = any_stream(random);
        const u64 thresholds[] = {0, 1, kWhole / 2, 0x1999999A, kWhole - 1, kWhole};
        s.threshold = random.of(thresholds);
        const u64 first[] = {0, 1000, kWhole - 300, (u64{1} << 39) - 300, (u64{1} << 47) - 200000};
        const u64 offset = random.of(first) + random.below(2100);
        // Some long enough for several threads; the others of every length around whole bytes.
        const u64 n = round % 20 == 0 ? 150000 + random.below(9) : random.below(round < 60 ? 200 : 20000);
        const std::size_t bytes = (n + 7) / 8;
        twin::Draws draws(s);
        for (const Kernel* k : thinned::runnable_kernels()) {
            Guarded memory(bytes);
            u8* out = reinterpret_cast<u8*>(memory.at(random.of({Edge::begin, Edge::end}), bytes));
            thinned::pack(*k, s, offset, n, out, static_cast<int>(random.between(1, 4)));
            bool all = true;
            for (u64 i = 0; i < bytes * 8; ++i) {
                const bool want = i < n && draws.keeps(offset + i);
                all = all && want == ((out[i / 8] >> i % 8 & 1) != 0);
            }
            CHECK(all, "%s offset %llu n %llu threshold %llu", k->name,
                  static_cast<unsigned long long>(offset), static_cast<unsigned long long>(n),
                  static_cast<unsigned long long>(s.threshold));
            memory.poison(out, bytes);
            CHECK(memory.touched() == nullptr, "%s wrote beside %llu bits", k->name,
                  static_cast<unsigned long long>(n));
        }
    }
}
