#include "geometry.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "dispatch.hpp"
#include "keep_bits.hpp"
#include "threads.hpp"

namespace thinned {
namespace {

using u64 = std::uint64_t;
using i64 = std::int64_t;

constexpr u64 kSegment = KeepBits::kMost;  // draws made before they are applied
constexpr u64 kNoiseSegment = 2048;    // the same for noise, 4 bytes a draw
constexpr u64 kThreadSegment = 16384;  // elements that one of several threads takes at a time
constexpr u64 kTurnElements = 32768;   // the like where runs are short or draws are shared
constexpr u64 kTeamAlone = 65536;      // elements that noise beside a team is not worth a second thread
constexpr u64 kPiece = 256;            // elements copied together where memory is not contiguous
constexpr u64 kFarBytes = 512u << 10;       // output of a thread that fills, with its input, its cache
constexpr u64 kStreamingBytes = 24u << 20;  // outputs above this pass the cache by

std::size_t item_size(const Job& job) {
    switch (job.law) {
        case Law::mask: return 1;
        case Law::words:
        case Law::raw_gaussian: return 4;
        default: return size_of(job.type);
    }
}

// The axes of a job in the order in which they are walked, from the outside in:
//   outer axes | the axis along which draws are consecutive | axes that share the draws of that run |
//   the innermost axis, contiguous, all of whose elements take one draw
struct Plan {
    const Kernel& kernel;
    Job job;
    std::size_t item;
    Axis outer[kMaxAxes];
    int outers = 0;
    Axis shared[kMaxAxes];
    int shareds = 0;
    Axis draws{1, 0, 0, 0, 1};
    Axis spread{1, 0, 0, 0, 0};
    // A unit is one segment of a run of draws, for one chunk of those who share it and one piece of the
    // elements that take one draw; a turn is as many units as a thread takes at a time.
    u64 shared_count = 1, segment = 1, segments = 1, chunk = 1, chunks = 1, piece = 1, pieces = 1,
        units = 0, turn = 1;
    bool contiguous = false;  // the run of draws, or where draws are spread the spread run
    bool fused = false, streams = false;
    bool clears = false;  // a dropped element is a zero of all zero bits
    bool copies = false;  // a kept one is x, to the bit
    ApplyBits apply = nullptr;
    FusedScale scale = nullptr;
    ApplyWhole whole = nullptr;

    Plan(const Kernel& k, const Job& j);
    template <class Source>
    void turn_with(Source& source, u64 first) const;
    template <class Source>
    void share(Source& source, u64 n, u64 m, const char* x, char* y, const char* f, u64 s0,
               u64 s1) const;
};

i64 magnitude(i64 step) { return step < 0 ? -step : step; }

bool merges(const Axis& a, const Axis& b) {
    const i64 n = static_cast<i64>(b.n);
    return a.x == n * b.x && a.y == n * b.y && a.f == n * b.f && a.index == b.n * b.index;
}

// A scale that is 1 in the type of the arithmetic leaves a kept element as it is, to the bit.
Op settled_op(const Job& job) {
    const bool one = job.type == Type::f64 ? job.values.scale == 1.0
                                           : static_cast<float>(job.values.scale) == 1.0f;
    if (!one) return job.op;
    return reads_fill(job.op) ? Op::select_array : Op::select;
}

Plan::Plan(const Kernel& k, const Job& j) : kernel(k), job(j), item(item_size(j)) {
    if (job.op == Op::scale) job.values.fill = 0.0;
    job.op = settled_op(job);
    Axis all[kMaxAxes];
    int count = 0;
    u64 elements = 1;
    for (int a = 0; a < job.axes; ++a) {
        elements *= job.axis[a].n;
        if (job.axis[a].n != 1) all[count++] = job.axis[a];
    }
    if (elements == 0) return;
    // Memory order of the output, so that merging finds what lies together. By insertion: there are
    // few axes, mostly in order, and std::stable_sort asks for memory.
    for (int a = 1; a < count; ++a) {
        const Axis moving = all[a];
        int to = a;
        for (; to > 0 && magnitude(all[to - 1].y) < magnitude(moving.y); --to) all[to] = all[to - 1];
        all[to] = moving;
    }
    int merged = 0;
    for (int a = 0; a < count; ++a) {
        if (merged > 0 && merges(all[merged - 1], all[a])) {
            const u64 n = all[merged - 1].n * all[a].n;
            all[merged - 1] = all[a];
            all[merged - 1].n = n;
        } else {
            all[merged++] = all[a];
        }
    }
    const i64 size = static_cast<i64>(item);
    const auto dense = [&](const Axis& a) {
        return a.y == size && (job.x == nullptr || a.x == size) && (job.f == nullptr || a.f == size);
    };
    bool has_draws = false, has_spread = false;
    for (int a = 0; a < merged; ++a) {
        if (!has_draws && all[a].index == 1) {
            draws = all[a];
            has_draws = true;
        } else if (!has_spread && all[a].index == 0 && dense(all[a])) {
            spread = all[a];
            has_spread = true;
        } else if (all[a].index == 0) {
            shared[shareds++] = all[a];
            shared_count *= all[a].n;
        } else {
            outer[outers++] = all[a];
        }
    }
    contiguous = has_spread || dense(draws) || draws.n == 1;

    const bool alone = shared_count == 1 && !has_spread;
    fused = job.law == Law::bernoulli && alone && contiguous && draws.n >= 2 * kGroup &&
            !settled(job.stream);
    const bool is_noise = job.law != Law::bernoulli && job.law != Law::mask;
    const u64 work = is_noise ? elements : elements / kBitsInOne;
    if (job.threads > 1 && !worth_others(work, job.whose)) job.threads = 1;
    const u64 mine = job.threads > 1 ? kThreadSegment : draws.n;
    const u64 longest = is_noise ? kNoiseSegment : fused ? mine : kSegment;
    segment = std::min(draws.n, std::max<u64>(1, longest / std::min(spread.n, longest)));
    segments = (draws.n + segment - 1) / segment;
    // A single draw may be all there is: of its elements, too, each thread gets its share.
    piece = job.threads > 1 ? std::min(spread.n, kTurnElements) : spread.n;
    pieces = (spread.n + piece - 1) / piece;
    chunk = std::min(shared_count, std::max<u64>(1, kTurnElements / (segment * piece)));
    chunks = (shared_count + chunk - 1) / chunk;
    units = segments * chunks * pieces;
    for (int a = 0; a < outers; ++a) units *= outer[a].n;
    turn = std::max<u64>(1, kTurnElements / (segment * piece * chunk));

    if (job.law == Law::bernoulli) {
        clears = !reads_fill(job.op) && job.values.fill == 0.0 && !std::signbit(job.values.fill);
        copies = job.op == Op::select || job.op == Op::select_array;
        const int type = static_cast<int>(job.type);
        const bool scales = job.op == Op::scale && (fused || has_spread);
        streams = scales && job.x != job.y && elements * item >= kStreamingBytes;
        // y may lie anywhere, but a store that streams wants it aligned, in every row.
        std::uintptr_t off = reinterpret_cast<std::uintptr_t>(job.y) % item;
        for (int a = 0; a < outers; ++a) off |= static_cast<u64>(outer[a].y) % item;
        for (int a = 0; a < shareds; ++a) off |= static_cast<u64>(shared[a].y) % item;
        if (has_spread) off |= static_cast<u64>(draws.y) % item;
        streams = streams && off == 0;
        apply = kernel.apply[type][static_cast<int>(job.op)];
        const u64 near = static_cast<u64>(std::max(1, job.threads)) * kFarBytes;
        const bool far = elements * item > near && gains_by_prefetching();
        const Reach reach = streams ? Reach::streaming : far ? Reach::far : Reach::near;
        if (scales) whole = kernel.whole[type][static_cast<int>(reach)];
        scale = kernel.fused_scale[type][static_cast<int>(reach)];
    }
}

// Draws of one law, made for a run of indices and then applied to one array after the other.

alignas(64) constexpr u64 kZeros[kGroup / 64 + 1] = {};
alignas(64) const struct Ones {
    u64 word[kGroup / 64 + 1];
    Ones() { std::memset(word, 0xFF, sizeof word); }
} kOnes;

struct Bits {
    const Plan& plan;
    KeepBits keep;
    std::uint32_t first = 0;

    explicit Bits(const Plan& p) : plan(p), keep(p.kernel, p.job.stream) {}
    void draw(u64 index, u64 n) { first = keep.draw(index, n); }
    void each(u64 at, u64 n, const char* x, char* y, const char* f) const {
        const std::uint32_t bit = first + static_cast<std::uint32_t>(at);
        if (plan.job.law == Law::mask) {
            plan.kernel.expand(keep.word, bit, n, reinterpret_cast<std::uint8_t*>(y));
        } else {
            plan.apply(keep.word, bit, n, x, y, f, plan.job.values);
        }
    }
    void one(u64 at, u64 n, const char* x, char* y, const char* f) const {
        const u64 bit = first + at;
        const bool kept = (keep.word[bit / 64] >> bit % 64 & 1) != 0;
        if (plan.job.law == Law::mask) {
            std::memset(y, kept ? 1 : 0, n);
            return;
        }
        if (!kept && plan.clears) {
            std::memset(y, 0, n * plan.item);
            return;
        }
        if (kept && plan.copies) {
            if (x != y) std::memcpy(y, x, n * plan.item);
            return;
        }
        if (kept && plan.whole != nullptr) {
            plan.whole(static_cast<std::size_t>(n), x, y, plan.job.values);
            return;
        }
        const u64* same = kept ? kOnes.word : kZeros;
        for (u64 i = 0; i < n; i += kGroup) {
            const u64 m = std::min(n - i, kGroup), b = i * plan.item;
            plan.apply(same, 0, m, x + b, y + b, f == nullptr ? f : f + b, plan.job.values);
        }
    }
};

struct Noise {
    const Plan& plan;
    float z[kNoiseSegment];

    explicit Noise(const Plan& p) : plan(p) {}
    void draw(u64 index, u64 n) {
        assert(n <= kNoiseSegment);
        plan.kernel.gaussian(plan.job.stream, index, n, z);
    }
    void each(u64 at, u64 n, const char* x, char* y, const char*) const {
        if (plan.job.law == Law::raw_gaussian) {
            std::memcpy(y, z + at, n * sizeof(float));
        } else {
            plan.kernel.noise[static_cast<int>(plan.job.type)](z + at, false, n, x, y,
                                                               plan.job.values);
        }
    }
    void one(u64 at, u64 n, const char* x, char* y, const char*) const {
        if (plan.job.law == Law::raw_gaussian) {
            for (u64 i = 0; i < n; ++i) std::memcpy(y + i * sizeof(float), z + at, sizeof(float));
        } else {
            plan.kernel.noise[static_cast<int>(plan.job.type)](z + at, true, n, x, y,
                                                               plan.job.values);
        }
    }
};

struct RawWords {
    const Plan& plan;
    std::uint32_t word[kNoiseSegment];

    explicit RawWords(const Plan& p) : plan(p) {}
    void draw(u64 index, u64 n) {
        assert(n <= kNoiseSegment);
        plan.kernel.words(plan.job.stream, index, n, word);
    }
    void each(u64 at, u64 n, const char*, char* y, const char*) const {
        std::memcpy(y, word + at, n * sizeof(word[0]));
    }
    void one(u64 at, u64 n, const char*, char* y, const char*) const {
        for (u64 i = 0; i < n; ++i) std::memcpy(y + i * sizeof(word[0]), word + at, sizeof(word[0]));
    }
};

template <std::size_t size>
void gather(const char* from, i64 step, u64 n, char* to) {
    for (u64 i = 0; i < n; ++i) std::memcpy(to + i * size, from + static_cast<i64>(i) * step, size);
}

void gather(std::size_t size, const char* from, i64 step, u64 n, char* to) {
    switch (size) {
        case 2: return gather<2>(from, step, n, to);
        case 4: return gather<4>(from, step, n, to);
        default: return gather<8>(from, step, n, to);
    }
}

template <std::size_t size>
void scatter(const char* from, u64 n, char* to, i64 step) {
    for (u64 i = 0; i < n; ++i) std::memcpy(to + static_cast<i64>(i) * step, from + i * size, size);
}

void scatter(std::size_t size, const char* from, u64 n, char* to, i64 step) {
    switch (size) {
        case 1: return scatter<1>(from, n, to, step);
        case 2: return scatter<2>(from, n, to, step);
        case 4: return scatter<4>(from, n, to, step);
        default: return scatter<8>(from, n, to, step);
    }
}

const char* moved(const char* p, i64 by) { return p == nullptr ? p : p + by; }

// The draws of n elements are there; apply them to the shared positions s0 to s1, each to m elements.
template <class Source>
void Plan::share(Source& source, u64 n, u64 m, const char* x, char* y, const char* f, u64 s0,
                 u64 s1) const {
    for (u64 s = s0; s < s1; ++s) {
        i64 dx = 0, dy = 0, df = 0;
        u64 rest = s;
        for (int a = shareds - 1; a >= 0; --a) {
            const i64 i = static_cast<i64>(rest % shared[a].n);
            rest /= shared[a].n;
            dx += i * shared[a].x, dy += i * shared[a].y, df += i * shared[a].f;
        }
        const char* from = moved(x, dx);
        const char* fill = moved(f, df);
        char* to = y + dy;
        if (spread.n > 1) {
            for (u64 l = 0; l < n; ++l) {
                const i64 step = static_cast<i64>(l);
                source.one(l, m, moved(from, step * draws.x), to + step * draws.y,
                           moved(fill, step * draws.f));
            }
        } else if (contiguous) {
            source.each(0, n, from, to, fill);
        } else {
            char px[kPiece * 8], py[kPiece * 8], pf[kPiece * 8];
            for (u64 l = 0; l < n; l += kPiece) {
                const u64 some = std::min(n - l, kPiece);
                const i64 step = static_cast<i64>(l);
                if (from != nullptr) gather(item, from + step * draws.x, draws.x, some, px);
                if (fill != nullptr) gather(item, fill + step * draws.f, draws.f, some, pf);
                source.each(l, some, px, py, fill == nullptr ? nullptr : pf);
                scatter(item, py, some, to + step * draws.y, draws.y);
            }
        }
    }
}

template <class Source>
void Plan::turn_with(Source& source, u64 first) const {
    const u64 end = std::min(first + turn, units);
    for (u64 unit = first; unit < end; ++unit) {
        u64 rest = unit;
        const u64 m0 = rest % pieces * piece;
        rest /= pieces;
        const u64 s0 = rest % chunks * chunk;
        rest /= chunks;
        const u64 l0 = rest % segments * segment;
        rest /= segments;
        u64 index = job.offset + l0;
        i64 step = static_cast<i64>(l0);
        i64 dx = step * draws.x, dy = step * draws.y, df = step * draws.f;
        step = static_cast<i64>(m0);
        dx += step * spread.x, dy += step * spread.y, df += step * spread.f;
        for (int a = outers - 1; a >= 0; --a) {
            const u64 at = rest % outer[a].n;
            rest /= outer[a].n;
            step = static_cast<i64>(at);
            dx += step * outer[a].x, dy += step * outer[a].y, df += step * outer[a].f;
            index += at * outer[a].index;
        }
        const char* x = moved(static_cast<const char*>(job.x), dx);
        const char* f = moved(static_cast<const char*>(job.f), df);
        char* y = static_cast<char*>(job.y) + dy;
        const u64 n = std::min(segment, draws.n - l0);
        if (fused) {
            if (job.op == Op::scale) {
                scale(job.stream, index, n, x, y, job.values);
            } else {
                kernel.fused(job.stream, index, n, apply, item, x, y, f, job.values);
            }
        } else {
            source.draw(index, n);
            share(source, n, std::min(piece, spread.n - m0), x, y, f, s0,
                  std::min(s0 + chunk, shared_count));
        }
    }
}

void take_turn(void* context, std::size_t i) {
    const Plan& plan = *static_cast<const Plan*>(context);
    const u64 first = static_cast<u64>(i) * plan.turn;
    switch (plan.job.law) {
        case Law::bernoulli:
        case Law::mask: {
            Bits source(plan);
            plan.turn_with(source, first);
            break;
        }
        case Law::words: {
            RawWords source(plan);
            plan.turn_with(source, first);
            break;
        }
        case Law::gaussian:
        case Law::raw_gaussian: {
            Noise source(plan);
            plan.turn_with(source, first);
            break;
        }
    }
    if (plan.streams) plan.kernel.fence();
}

// 64 bits from position `at` on.
u64 bits_from(const u64* word, u64 at) {
    const u64 low = word[at / 64] >> at % 64;
    return at % 64 == 0 ? low : low | word[at / 64 + 1] << (64 - at % 64);
}

struct Packing {
    const Kernel& kernel;
    Stream stream;
    u64 offset, n;
    unsigned char* out;
};

void pack_turn(void* context, std::size_t i) {
    const Packing& p = *static_cast<const Packing*>(context);
    const u64 first = static_cast<u64>(i) * kSegment, n = std::min(p.n - first, kSegment);
    u64 word[kSegment / 64 + kGroup / 64 + 2] = {};
    if (settled(p.stream)) {
        std::memset(word, p.stream.threshold == 0 ? 0xFF : 0, sizeof word);
    } else {
        const u64 a = (p.offset + first) / kGroup, b = (p.offset + first + n - 1) / kGroup;
        p.kernel.bits(p.stream, a, b + 1 - a, word);
    }
    const u64 bit = (p.offset + first) % kGroup;
    unsigned char* out = p.out + first / 8;
    for (u64 done = 0; done < n; done += 64) {
        const u64 left = n - done;
        u64 w = bits_from(word, bit + done);
        if (left < 64) w &= (u64{1} << left) - 1;
        std::memcpy(out + done / 8, &w, left < 64 ? (left + 7) / 8 : 8);
    }
}

}  // namespace

void pack(const Kernel& kernel, const Stream& stream, std::uint64_t offset, std::uint64_t n,
          unsigned char* out, int threads) {
    Packing packing{kernel, stream, offset, n, out};
    const u64 turns = (n + kSegment - 1) / kSegment;
    const bool more = worth_others(n / kBitsInOne, Whose::ours);
    parallel(static_cast<std::size_t>(turns), more ? threads : 1, pack_turn, &packing);
}

int threads_beside(const Kernel& kernel, std::uint64_t n, int allowed) {
    if (has_team()) return n <= kTeamAlone ? 1 : -allowed;
    return n <= kernel.alone_up_to ? 1 : allowed;
}

void run(const Kernel& kernel, const Job& job) {
    Plan plan(kernel, job);
    const u64 turns = (plan.units + plan.turn - 1) / plan.turn;
    parallel(static_cast<std::size_t>(turns), plan.job.threads, take_turn, &plan, plan.job.whose);
}

}  // namespace thinned
