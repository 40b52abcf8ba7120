// The pool: every item once, many callers, limits that change meanwhile, fork before, after and during.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "../dispatch.hpp"
#include "../geometry.hpp"
#include "../threads.hpp"
#include "check.hpp"

using namespace check;
using thinned::Job;
using thinned::Law;
using thinned::Op;
using thinned::Type;

namespace {

// Long enough for the pool, and of lengths that leave a rest everywhere.
constexpr u64 kRows = 16, kColumns = 50021, kChannels = 1995, kPixels = 401;
constexpr u64 kElements = 800336;
static_assert(kRows * kColumns <= kElements && kChannels * kPixels <= kElements, "");

const thinned::Kernel& fastest() { return *thinned::runnable_kernels().back(); }

// One of a few calls that are all different: contiguous, with rows shared, with channels shared, noise,
// bytes, one draw for all. Each holds its own memory.
struct Call {
    Job job;
    std::vector<float> x, y;

    Call(u64 seed, int kind) : x(kElements), y(kElements, -1.0f) {
        Random random(seed);
        for (float& value : x) value = static_cast<float>(random.below(1000)) - 500.0f;
        job.stream.seed = seed;
        job.stream.threshold = 0x40000000 + random.below(0x40000000);
        job.law = kind == 3 ? Law::gaussian : kind == 4 ? Law::mask : Law::bernoulli;
        job.values.scale = 1.25;
        job.x = kind == 4 ? nullptr : x.data();
        job.y = y.data();
        job.axes = 2;
        const i64 item = kind == 4 ? 1 : 4;
        const i64 columns = static_cast<i64>(kind == 2 ? kPixels : kColumns);
        const u64 rows = kind == 2 ? kChannels : kRows;
        job.axis[0] = {rows, kind == 4 ? 0 : columns * item, columns * item, 0, 0};
        job.axis[1] = {static_cast<u64>(columns), kind == 4 ? 0 : item, item, 0, 1};
        if (kind == 0 || kind == 3 || kind == 4) job.axis[0].index = static_cast<u64>(columns);
        if (kind == 2) job.axis[0].index = 1, job.axis[1].index = 0;
        if (kind == 5) job.axis[0].index = job.axis[1].index = 0;
    }
    const std::vector<float>& with(int threads) {
        std::fill(y.begin(), y.end(), -1.0f);
        job.threads = threads;
        thinned::run(fastest(), job);
        return y;
    }
    bool gives(const std::vector<float>& want, int threads) {
        with(threads);
        return std::memcmp(want.data(), y.data(), want.size() * sizeof(float)) == 0;
    }
};

constexpr int kKinds = 6;

// What a child finds, with a limit of time so that a child that hangs is a failure and not a wait.
template <class Body>
bool holds_in_a_child(Body body) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(body() ? 0 : 1);
    }
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

// The thread sanitizer knows no threads in the child of a process that had some: there a child works
// alone, and what is left of the test is that nothing in it waits for a thread that is gone.
constexpr bool kThreadsInChildren = !kRacesOnly;

bool several_threads_work() {
    // Who comes first waits for the other; alone on both items, it waits in vain.
    struct Meeting {
        std::atomic<int> here{0};
        std::atomic<bool> met{false};
    } meeting;
    thinned::parallel(
        2, 2,
        [](void* context, std::size_t) {
            Meeting& m = *static_cast<Meeting*>(context);
            if (++m.here == 2) return;
            const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (m.here < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
            if (m.here == 2) m.met = true;
        },
        &meeting);
    return meeting.met;
}

}  // namespace

// Cases run in the order of their names, and this one comes first: no other has used the pool yet.
CASE(a_fork_before_the_first_use_leaves_a_pool_to_make) {
    Call call(1, 0);
    const std::vector<float> want = call.with(1);  // alone: without the pool
    CHECK(holds_in_a_child([&] { return call.gives(want, 4) && several_threads_work(); }), "child");
    CHECK(call.gives(want, 4), "parent");
}

CASE(threads_call_every_item_once) {
    struct Count {
        std::vector<std::atomic<int>> times;
        explicit Count(std::size_t n) : times(n) {}
    };
    for (const std::size_t items : {0, 1, 2, 3, 7, 64, 5000}) {
        for (const int threads : {1, 2, 3, 4, 5, 6, 7, 8, 100}) {  // more than have a range of their own
            Count count(items);
            thinned::parallel(
                items, threads,
                [](void* context, std::size_t i) { ++static_cast<Count*>(context)->times[i]; }, &count);
            bool once = true;
            for (const auto& times : count.times) once = once && times == 1;
            CHECK(once, "%d items on %d threads", static_cast<int>(items), threads);
        }
    }
}

CASE(threads_work_side_by_side) {
    for (int round = 0; round < 300; ++round) {
        CHECK(several_threads_work(), "no second thread in 20 seconds, round %d", round);
    }
}

CASE(threads_do_not_change_results) {
    for (int kind = 0; kind < kKinds; ++kind) {
        Call call(static_cast<u64>(2 + kind), kind);
        const std::vector<float> want = call.with(1);
        for (int threads = 2; threads <= 4; ++threads) {
            CHECK(call.gives(want, threads), "kind %d on %d threads", kind, threads);
        }
    }
}

CASE(threads_of_the_caller_may_be_many) {
    std::atomic<int> wrong{0};
    std::atomic<bool> done{false};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 6; ++caller) {
        callers.emplace_back([caller, &wrong] {
            Call call(static_cast<u64>(10 + caller), caller % kKinds);
            const std::vector<float> want = call.with(1);
            for (int round = 0; round < (kInstrumented ? 5 : 40); ++round) {
                if (!call.gives(want, thinned::num_threads())) ++wrong;
            }
        });
    }
    std::thread changing([&done] {
        for (int n = 1; !done; n = n % 6 + 1) {
            thinned::set_num_threads(n);
            std::this_thread::yield();
        }
    });
    for (std::thread& caller : callers) caller.join();
    done = true;
    changing.join();
    CHECK(wrong == 0, "%d wrong results", wrong.load());
}

CASE(threads_are_at_least_one) {
    for (const int n : {-5, 0, 1, 3}) {
        thinned::set_num_threads(n);
        CHECK(thinned::num_threads() == (n < 1 ? 1 : n), "after %d", n);
    }
}

CASE(threads_after_a_fork_are_new_ones) {
    Call call(20, 1);
    const std::vector<float> want = call.with(1);
    CHECK(call.gives(want, 4), "before");
    const auto again = [&] { return call.gives(want, 4) && several_threads_work(); };
    const auto in_child = [&] { return kThreadsInChildren ? again() : call.gives(want, 1); };
    for (int round = 0; round < 10; ++round) {
        const bool held = holds_in_a_child([&] { return in_child() && holds_in_a_child(in_child); });
        CHECK(held, "round %d", round);
        CHECK(again(), "the parent after round %d", round);
    }
}

CASE(threads_at_work_do_not_hold_up_a_fork) {
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 2; ++caller) {
        callers.emplace_back([caller, &done, &wrong] {
            Call call(static_cast<u64>(30 + caller), caller);
            const std::vector<float> want = call.with(1);
            while (!done) wrong += call.gives(want, 3) ? 0 : 1;
        });
    }
    Call call(40, 2);
    const std::vector<float> want = call.with(1);
    const auto in_child = [&] {
        return kThreadsInChildren ? call.gives(want, 4) && several_threads_work() : call.gives(want, 1);
    };
    for (int round = 0; round < (kInstrumented ? 10 : 50); ++round) {
        CHECK(holds_in_a_child(in_child), "round %d", round);
    }
    done = true;
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0, "%d wrong results in the parent", wrong.load());
}

CASE(threads_are_called_where_that_pays) {
    using thinned::Whose;
    const u64 hour = u64{3600} * 1000000000;
    for (const Whose whose : {Whose::ours, Whose::ours_beside_others, Whose::team}) {
        CHECK(!thinned::worth_others(100, whose), "a tenth of a microsecond is shared");
        CHECK(thinned::worth_others(hour, whose), "an hour is not shared");
        CHECK(thinned::worth_others(~u64{0}, whose), "five centuries are not shared");
    }
}

#if defined(__linux__)
CASE(threads_of_a_caller_with_one_processor_are_none) {
    Call call(50, 1);
    const std::vector<float> want = call.with(1);
    const bool held = holds_in_a_child([&] {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
        if (sched_setaffinity(0, sizeof one, &one) != 0) return false;
        struct Who {
            std::thread::id caller;
            std::atomic<int> others{0};
        } who{std::this_thread::get_id()};
        thinned::parallel(
            1000, 4,
            [](void* context, std::size_t) {
                Who& w = *static_cast<Who*>(context);
                if (std::this_thread::get_id() != w.caller) ++w.others;
                std::this_thread::sleep_for(std::chrono::microseconds(10));
            },
            &who);
        return who.others == 0 && call.gives(want, 4);
    });
    CHECK(held, "a worker took its caller's only processor");
}
#endif
