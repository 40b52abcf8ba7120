// Arrays larger than the cache, larger than 2^32 elements, and what a call costs beside them.
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "arrays.hpp"

using namespace check;
using thinned::Job;
using thinned::Law;
using thinned::Op;
using thinned::Type;

namespace {

constexpr u64 kWhole = u64{1} << 32;
constexpr u64 kLarge = u64{24} << 20;  // bytes of output from which on stores pass the cache by

std::unique_ptr<Array> array_of(const Layout& layout, Edge edge, std::size_t off) {
    return std::make_unique<Array>(layout, edge, off);
}

Trial large(Type type, const Shape& shape, const std::vector<u64>& index_steps) {
    Trial t;
    t.job.type = type;
    t.job.values.scale = 2.0;
    t.job.stream.seed = 99;
    t.job.stream.threshold = kWhole / 2;
    t.job.threads = 2;
    t.shape = shape;
    t.index_steps = index_steps;
    return t;
}

enum class Kernels { all, fastest };

// Millions of elements go through the twin here: one kernel has to do where the stores are those that
// apply_tests.cpp tests for all, and in instrumented builds everywhere.
void check_with(Kernels which, Random& random, Trial& t, const char* note) {
    t.prepare(random);
    const auto kernels = thinned::runnable_kernels();
    const bool all = which == Kernels::all && !kInstrumented;
    for (std::size_t k = all ? 0 : kernels.size() - 1; k < kernels.size(); ++k) {
        t.check(*kernels[k], note);
    }
}

}  // namespace

CASE(large_arrays_in_one_run) {
    Random random(31);
    const u64 n = kLarge / 4 + 1003;
    for (const std::size_t off : {std::size_t{4}, std::size_t{0}, std::size_t{1}}) {
        Trial t = large(Type::f32, {n}, {1});
        t.job.offset = kWhole - 12345;
        t.job.stream.threshold = off == 0 ? kWhole / 2 : 0x1999999A;
        t.x = array_of(c_order(t.shape, 4), Edge::end, 0);
        t.y = array_of(c_order(t.shape, 4), Edge::begin, off);
        check_with(off == 4 ? Kernels::all : Kernels::fastest, random, t, "one run");
        if (kInstrumented) return;
    }
    Trial t = large(Type::f64, {n / 2}, {1});
    t.in_place = true;
    t.x = array_of(c_order(t.shape, 8), Edge::end, 0);
    check_with(Kernels::fastest, random, t, "in place");
}

CASE(large_arrays_with_gaps_between_rows) {
    if (kRacesOnly) return;
    Random random(32);
    const u64 rows = 1450, columns = 4501;
    Trial t = large(Type::f32, {rows, columns}, {columns, 1});
    Layout padded = c_order({rows, columns + 6}, 4);
    padded.bytes -= 24;
    t.x = array_of(c_order(t.shape, 4), Edge::begin, 0);
    t.y = array_of(padded, Edge::end, 0);
    check_with(Kernels::fastest, random, t, "gaps");
}

CASE(large_arrays_with_rows_at_odd_addresses) {
    if (kRacesOnly) return;
    // The first row is aligned, the others are not: as the fields of packed records lie.
    Random random(35);
    const u64 rows = 1450, columns = 4501;
    Trial t = large(Type::f32, {rows, columns}, {columns, 1});
    Layout odd = c_order(t.shape, 4);
    odd.steps[0] += 1;
    odd.bytes += rows - 1;
    t.x = array_of(c_order(t.shape, 4), Edge::begin, 0);
    t.y = array_of(odd, Edge::begin, 0);
    check_with(Kernels::all, random, t, "odd rows");
}

CASE(large_arrays_with_shared_draws) {
    Random random(33);
    Trial rows = large(Type::f32, {630, 10001}, {0, 1});
    rows.x = array_of(c_order(rows.shape, 4), Edge::end, 0);
    rows.y = array_of(c_order(rows.shape, 4), Edge::begin, 8);
    check_with(Kernels::fastest, random, rows, "one mask for all rows");
    Trial channels = large(Type::f64, {325, 10001}, {1, 0});
    channels.x = array_of(c_order(channels.shape, 8), Edge::end, 0);
    channels.y = array_of(c_order(channels.shape, 8), Edge::end, 0);
    check_with(Kernels::fastest, random, channels, "one draw for a row");
}

#if defined(__linux__)
namespace {

// More memory than there is: the same two megabytes again and again, but for a few stretches that have
// pages of their own, so that what is written there stays.
class Endless {
  public:
    explicit Endless(u64 bytes) : bytes_((bytes + kStretch - 1) / kStretch * kStretch) {
        const int file = memfd_create("endless", 0);
        if (file < 0 || ftruncate(file, kStretch) != 0) std::abort();
        void* all = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (all == MAP_FAILED) std::abort();
        begin_ = static_cast<char*>(all);
        for (u64 at = 0; at < bytes_; at += kStretch) place(at, MAP_SHARED, file);
        close(file);
    }
    ~Endless() { munmap(begin_, bytes_); }
    Endless(const Endless&) = delete;
    Endless& operator=(const Endless&) = delete;

    void own(u64 at) { place(at / kStretch * kStretch, MAP_PRIVATE | MAP_ANONYMOUS, -1); }
    char* begin() const { return begin_; }
    static constexpr u64 kStretch = u64{2} << 20;

  private:
    void place(u64 at, int flags, int file) {
        if (mmap(begin_ + at, kStretch, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0) == MAP_FAILED) {
            std::perror("mmap");
            std::abort();
        }
    }
    u64 bytes_;
    char* begin_;
};

}  // namespace

CASE(large_arrays_past_the_ends_of_32_bits) {
    if (kInstrumented) return;  // nothing is left to instrument, and the time is
    Random random(34);
    const thinned::Kernel& kernel = *thinned::runnable_kernels().back();
    Job job;
    job.stream.seed = 7;
    job.stream.threshold = kWhole / 2;
    job.offset = (u64{1} << 40) + 5;
    job.threads = 2;
    job.axes = 1;
    twin::Draws draws(job.stream);

    const u64 n = kWhole + 100000;
    Endless bytes(n);
    for (const u64 at : {u64{0}, kWhole / 2, kWhole}) bytes.own(at);
    job.law = Law::mask;
    job.y = bytes.begin();
    job.axis[0] = {n, 0, 1, 0, 1};
    thinned::run(kernel, job);
    // Some 100,000 elements from each boundary on: where the rest of the array is cut to 32 bits, it is
    // too short there, and something is left out.
    for (const u64 from : {u64{0}, kWhole / 2, kWhole}) {
        for (u64 i = from; i < std::min(from + 150000, n); ++i) {
            if (draws.keeps(job.offset + i) == (bytes.begin()[i] != 0)) continue;
            CHECK(false, "element %llu of the mask", static_cast<unsigned long long>(i));
            break;
        }
    }

    // The fused pass over halves: 2^31 of them and more, out of one endless array into another.
    const u64 halves = kWhole / 2 + 100000;
    Endless x(halves * 2), y(halves * 2);
    for (const u64 at : {u64{0}, kWhole / 2, kWhole}) y.own(at);
    const u16 three = twin::nearest(Type::f16, 3.0f), six = twin::nearest(Type::f16, 6.0f);
    for (u64 at = 0; at < Endless::kStretch; at += 2) std::memcpy(x.begin() + at, &three, 2);
    job.law = Law::bernoulli;
    job.type = Type::f16;
    job.values.scale = 2.0;
    job.x = x.begin();
    job.y = y.begin();
    job.axis[0] = {halves, 2, 2, 0, 1};
    thinned::run(kernel, job);
    for (const u64 from : {u64{0}, kWhole / 4, kWhole / 2}) {
        for (u64 i = from; i < std::min(from + 150000, halves); ++i) {
            u16 got;
            std::memcpy(&got, y.begin() + 2 * i, 2);
            if (got == (draws.keeps(job.offset + i) ? six : 0)) continue;
            CHECK(false, "half %llu is %04x", static_cast<unsigned long long>(i), got);
            break;
        }
    }
}
#endif

// ------------------------------------------------------------------------------ memory beside arrays

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
namespace {
std::atomic<u64> allocations{0};
}

void* operator new(std::size_t bytes) {
    ++allocations;
    void* found = std::malloc(bytes > 0 ? bytes : 1);
    if (found == nullptr) throw std::bad_alloc();
    return found;
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

constexpr std::size_t kStack = std::size_t{1} << 20;
constexpr u64 kElements = u64{1} << 20;  // nothing of what a call uses grows with it

struct Costly {
    const thinned::Kernel& kernel = *thinned::runnable_kernels().back();
    Job job;
    std::vector<double> x, y, f;

    Costly(Law law, Op op, bool contiguous) : x(kElements * 2), y(kElements * 2), f(kElements * 2) {
        job.law = law;
        job.op = op;
        job.type = Type::f64;
        job.values.scale = 1.5;
        job.stream.threshold = 0x1999999A;
        job.x = reads_x(law) ? x.data() : nullptr;
        job.f = thinned::reads_fill(op) ? f.data() : nullptr;
        job.y = y.data();
        job.axes = 1;
        const i64 step = static_cast<i64>(item_size(job)) * (contiguous ? 1 : 2);
        job.axis[0] = {kElements, job.x != nullptr ? step : 0, step, job.f != nullptr ? step : 0, 1};
    }
};

void* run_it(void* context) {
    const Costly& call = *static_cast<const Costly*>(context);
    thinned::run(call.kernel, call.job);
    return nullptr;
}

void* do_nothing(void*) { return nullptr; }

// Bytes of a fresh stack that a thread running `body` has written to.
u64 stack_used(void* (*body)(void*), void* context) {
    Guarded stack(kStack);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack.begin(), stack.room());
    pthread_t thread;
    if (pthread_create(&thread, &attributes, body, context) != 0) std::abort();
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    return static_cast<u64>(stack.end() - stack.touched());
}

}  // namespace

CASE(large_arrays_cost_no_memory_beside_them) {
    const u64 idle = stack_used(do_nothing, nullptr);
    u64 most = 0;
    for (int law = 0; law < 5; ++law) {
        for (const Op op : {Op::scale, Op::affine_array}) {
            for (const bool contiguous : {true, false}) {
                Costly call(static_cast<Law>(law), op, contiguous);
                const u64 used = stack_used(run_it, &call) - idle;
                CHECK(used < 64 * 1024, "law %d: %llu bytes of stack", law,
                      static_cast<unsigned long long>(used));
                most = used > most ? used : most;
                call.job.threads = 3;
                run_it(&call);  // starts the pool's threads, where they are not yet there
                const u64 before = allocations;
                run_it(&call);
                CHECK(allocations == before, "law %d: %llu allocations", law,
                      static_cast<unsigned long long>(allocations - before));
            }
        }
    }
    std::printf("  a call uses at most %llu bytes of stack\n", static_cast<unsigned long long>(most));
}
#endif
