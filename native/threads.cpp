#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace thinned {
namespace {

std::atomic<int> limit{1};
std::atomic<Team> team{nullptr};
std::atomic<TeamNumber> team_number{nullptr};

// The items of one call, a range of them to each thread, which then helps with the others' ranges.
// A thread begins where it began the last time: what it wrote then, and what PyTorch's thread of that
// number wrote, is in the cache of its processor. Taken in turns by all, a training step's activations
// came half of them out of another processor's cache.
class Ranges {
  public:
    Ranges(std::size_t items, std::size_t threads, void (*body)(void*, std::size_t), void* context)
        : count_(threads < kMost ? threads : kMost), body_(body), context_(context) {
        for (std::size_t r = 0; r < count_; ++r) {
            range_[r].next.store(items * r / count_, std::memory_order_relaxed);
            range_[r].end = items * (r + 1) / count_;
        }
    }
    void take(std::size_t number) {
        for (std::size_t k = 0; k < count_; ++k) {
            Range& range = range_[(number + k) % count_];
            for (;;) {
                const std::size_t i = range.next.fetch_add(1, std::memory_order_relaxed);
                if (i >= range.end) break;
                body_(context_, i);
            }
        }
    }

  private:
    static constexpr std::size_t kMost = 64;
    struct alignas(64) Range {
        std::atomic<std::size_t> next{0};
        std::size_t end = 0;
    };
    Range range_[kMost];
    std::size_t count_;
    void (*body_)(void*, std::size_t);
    void* context_;
};

// What a processor is told in a loop that waits for another one.
inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    asm volatile("yield");
#endif
}

std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

constexpr std::int64_t kLinger = 100'000;  // nanoseconds a worker waits awake for the next call
constexpr std::int64_t kAtOnce = 4'000;    // work for which a thread that is awake is worth calling
constexpr std::int64_t kCall = 20'000;     // the least that is worth calling one that sleeps
constexpr int kLastItem = 1000;  // turns of a loop in which the others' last items come to an end
constexpr std::int64_t kLatest = 1'000'000;  // what takes longer to come was held up by other programs

class Pool {
  public:
    void run(Ranges& ranges, int threads, bool lingers) {
        bool sleeping;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ranges_ = &ranges;
            lingers_ = lingers;
            wanted_ = others(threads - 1);
            sleeping = awake_ < wanted_;
            called_ = now();
            ++round_;
        }
        if (sleeping) wake_.notify_all();
        ranges.take(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            wanted_ = 0;  // who has not come by now need not come: nothing is left
        }
        // Those at work are at their last item.
        for (int k = 0; k < kLastItem && inside_ > 0; ++k) relax();
        std::unique_lock<std::mutex> lock(mutex_);
        idle_.wait(lock, [this] { return inside_ == 0; });
        if (lingers) left_ = now();
    }

    // With a worker awake little work is shared, else what takes longer than one takes to come, or
    // what follows other work so closely that it pays to have one awake from the next call on.
    bool worth(std::int64_t work, bool lingers) {
        if (work < kAtOnce) return false;
        const std::int64_t late = late_;
        if (awake_ > 0 || work > 2 * late) return true;
        if (lingers && work > kCall && now() - left_ < kLinger) return true;
        late_ = std::max(kCall, late - late / 256);  // so that it is tried, and measured, again
        if (lingers) left_ = now() + work;
        return false;
    }

    std::mutex busy;

  private:
    void grow(int workers) {
        while (workers_ < workers) {
            try {
#if defined(__linux__)
                handles_.reserve(handles_.size() + 1);
#endif
                std::thread worker(&Pool::work, this, static_cast<std::size_t>(workers_) + 1);
#if defined(__linux__)
                handles_.push_back(worker.native_handle());
#endif
                worker.detach();
            } catch (const std::exception&) {
                return;  // the system gives no more threads: the call runs on those there are
            }
            ++workers_;
        }
    }

    // So many workers as there are to call, up to `most`: none where the caller may use one processor
    // alone, which a worker would only take from it. Workers keep off the caller's processor, on which
    // Linux likes to wake them: on two processors nine of ten calls had their second thread there, and
    // waited for it.
    int others(int most) {
#if defined(__linux__)
        const int here = sched_getcpu();
        const bool known = here == beside_ || here < 0 || here >= CPU_SETSIZE;
        if (known && (!company_ || workers_ >= most)) return company_ ? most : 0;
        cpu_set_t allowed;
        if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
        beside_ = here;
        company_ = CPU_COUNT(&allowed) != 1;
        if (!company_) return 0;
        grow(most);
        if (here >= 0 && here < CPU_SETSIZE) CPU_CLR(static_cast<unsigned>(here), &allowed);
        for (const pthread_t worker : handles_) {
            if (CPU_COUNT(&allowed) > 0) pthread_setaffinity_np(worker, sizeof allowed, &allowed);
        }
#else
        grow(most);
#endif
        return std::min(most, workers_);
    }

    void work(std::size_t number) {
        std::uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        const auto called = [&] { return round_ != seen && wanted_ > 0; };
        for (;;) {
            if (lingers_ && !called()) {
                const std::uint64_t round = round_;
                ++awake_;
                lock.unlock();
                const std::int64_t end = now() + kLinger;
                for (int k = 1; round_ == round && (k % 64 != 0 || now() < end); ++k) relax();
                lock.lock();
                --awake_;
            }
            while (!called()) {
                wake_.wait(lock);
                const std::int64_t took = now() - called_;
                if (round_ != seen && took < kLatest) late_ = (3 * late_ + took) / 4;
            }
            seen = round_;
            --wanted_;
            ++inside_;
            Ranges& ranges = *ranges_;
            lock.unlock();
            ranges.take(number);
            lock.lock();
            if (--inside_ == 0) idle_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    Ranges* ranges_ = nullptr;
    std::atomic<std::uint64_t> round_{0};
    std::atomic<int> awake_{0}, inside_{0};
    std::atomic<std::int64_t> late_{kCall}, left_{0};  // nanoseconds
    std::int64_t called_ = 0;
    int workers_ = 0, wanted_ = 0;
    bool lingers_ = false;
#if defined(__linux__)
    std::vector<pthread_t> handles_;
#endif
    int beside_ = -1;  // the caller's processor, which workers keep off
    bool company_ = true;
};

// Never destroyed: its threads may outlive the statics of the module. A forked child has none of the
// threads and perhaps locked locks, so it leaves the parent's pool alone and starts its own.
std::atomic<Pool*> pool{nullptr};

#if !defined(_WIN32)
// Said when the module is loaded: said with the first pool, a fork on another thread could come between.
[[maybe_unused]] const int told =
    pthread_atfork(nullptr, nullptr, [] {
        pool.store(nullptr, std::memory_order_release);
        team.store(nullptr, std::memory_order_release);
    });
#endif

Pool& the_pool() {
    Pool* now = pool.load(std::memory_order_acquire);
    if (now != nullptr) return *now;
    Pool* mine = new Pool;
    if (pool.compare_exchange_strong(now, mine, std::memory_order_acq_rel)) return *mine;
    delete mine;
    return *now;
}

void take_part(void* data) {
    const TeamNumber number = team_number.load(std::memory_order_relaxed);
    static_cast<Ranges*>(data)->take(number == nullptr ? 0 : static_cast<std::size_t>(number()));
}

}  // namespace

void set_team(Team t, TeamNumber number) {
    team_number.store(number, std::memory_order_relaxed);
    team.store(t, std::memory_order_release);
}

bool has_team() { return team.load(std::memory_order_acquire) != nullptr; }

void set_num_threads(int n) { limit.store(n < 1 ? 1 : n, std::memory_order_relaxed); }

int num_threads() { return limit.load(std::memory_order_relaxed); }

bool worth_others(std::uint64_t nanoseconds, Whose whose) {
    if (whose == Whose::team && has_team()) return nanoseconds >= std::uint64_t{kAtOnce};
    const std::uint64_t most = std::uint64_t{1} << 62;
    const auto work = static_cast<std::int64_t>(nanoseconds < most ? nanoseconds : most);
    return the_pool().worth(work, whose == Whose::ours);
}

void parallel(std::size_t items, int threads, void (*body)(void*, std::size_t), void* context,
              Whose whose) {
    if (threads > 1 && items > 1) {
        const std::size_t most =
            items < static_cast<std::size_t>(threads) ? items : static_cast<std::size_t>(threads);
        const Team others = whose == Whose::team ? team.load(std::memory_order_acquire) : nullptr;
        if (others != nullptr) {
            Ranges ranges(items, most, body, context);
            others(take_part, &ranges, static_cast<unsigned>(most), 0);
            return;
        }
        Pool& mine = the_pool();
        std::unique_lock<std::mutex> lock(mine.busy, std::try_to_lock);
        if (lock.owns_lock()) {
            Ranges ranges(items, most, body, context);
            mine.run(ranges, static_cast<int>(most), whose == Whose::ours);
            return;
        }
    }
    for (std::size_t i = 0; i < items; ++i) body(context, i);
}

}  // namespace thinned
