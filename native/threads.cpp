#include "threads.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
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

class Pool {
  public:
    void run(Ranges& ranges, int threads) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            grow(threads - 1);
            ranges_ = &ranges;
            wanted_ = threads - 1 < workers_ ? threads - 1 : workers_;
            inside_ = 0;
            ++round_;
        }
        wake_.notify_all();
        ranges.take(0);
        // A worker that has not come by now need not come: nothing is left for it.
        std::unique_lock<std::mutex> lock(mutex_);
        wanted_ = 0;
        idle_.wait(lock, [this] { return inside_ == 0; });
    }

    std::mutex busy;

  private:
    void grow(int workers) {
        while (workers_ < workers) {
            try {
                std::thread(&Pool::work, this, static_cast<std::size_t>(workers_) + 1).detach();
            } catch (const std::system_error&) {
                return;  // the system gives no more threads: the call runs on those there are
            }
            ++workers_;
        }
    }

    void work(std::size_t number) {
        std::uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return round_ != seen && wanted_ > 0; });
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
    std::uint64_t round_ = 0;
    int workers_ = 0, wanted_ = 0, inside_ = 0;
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

void parallel(std::size_t items, int threads, void (*body)(void*, std::size_t), void* context,
              bool on_team) {
    if (threads > 1 && items > 1) {
        const std::size_t most =
            items < static_cast<std::size_t>(threads) ? items : static_cast<std::size_t>(threads);
        const Team others = on_team ? team.load(std::memory_order_acquire) : nullptr;
        if (others != nullptr) {
            Ranges ranges(items, most, body, context);
            others(take_part, &ranges, static_cast<unsigned>(most), 0);
            return;
        }
        Pool& mine = the_pool();
        std::unique_lock<std::mutex> lock(mine.busy, std::try_to_lock);
        if (lock.owns_lock()) {
            Ranges ranges(items, most, body, context);
            mine.run(ranges, static_cast<int>(most));
            return;
        }
    }
    for (std::size_t i = 0; i < items; ++i) body(context, i);
}

}  // namespace thinned
