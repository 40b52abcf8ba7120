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

class Pool {
  public:
    void run(std::size_t items, int threads, void (*body)(void*, std::size_t), void* context) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            grow(threads - 1);
            body_ = body;
            context_ = context;
            items_ = items;
            next_.store(0, std::memory_order_relaxed);
            wanted_ = threads - 1 < workers_ ? threads - 1 : workers_;
            inside_ = 0;
            ++round_;
        }
        wake_.notify_all();
        take(body, context, items);
        // A worker that has not come by now need not come: nothing is left for it.
        std::unique_lock<std::mutex> lock(mutex_);
        wanted_ = 0;
        idle_.wait(lock, [this] { return inside_ == 0; });
    }

    std::mutex busy;

  private:
    void take(void (*body)(void*, std::size_t), void* context, std::size_t items) {
        for (;;) {
            const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
            if (i >= items) return;
            body(context, i);
        }
    }

    void grow(int workers) {
        while (workers_ < workers) {
            try {
                std::thread(&Pool::work, this).detach();
            } catch (const std::system_error&) {
                return;  // the system gives no more threads: the call runs on those there are
            }
            ++workers_;
        }
    }

    void work() {
        std::uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return round_ != seen && wanted_ > 0; });
            seen = round_;
            --wanted_;
            ++inside_;
            const auto body = body_;
            void* const context = context_;
            const std::size_t items = items_;
            lock.unlock();
            take(body, context, items);
            lock.lock();
            if (--inside_ == 0) idle_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    void (*body_)(void*, std::size_t) = nullptr;
    void* context_ = nullptr;
    std::size_t items_ = 0;
    std::atomic<std::size_t> next_{0};
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

// What one call gives the team to do.
struct Shared {
    std::size_t items;
    void (*body)(void*, std::size_t);
    void* context;
    std::atomic<std::size_t> next{0};
};

void take_part(void* data) {
    Shared& shared = *static_cast<Shared*>(data);
    for (;;) {
        const std::size_t i = shared.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= shared.items) return;
        shared.body(shared.context, i);
    }
}

}  // namespace

void set_team(Team t) { team.store(t, std::memory_order_release); }

bool has_team() { return team.load(std::memory_order_acquire) != nullptr; }

void set_num_threads(int n) { limit.store(n < 1 ? 1 : n, std::memory_order_relaxed); }

int num_threads() { return limit.load(std::memory_order_relaxed); }

void parallel(std::size_t items, int threads, void (*body)(void*, std::size_t), void* context,
              bool on_team) {
    if (threads > 1 && items > 1) {
        const Team others = on_team ? team.load(std::memory_order_acquire) : nullptr;
        if (others != nullptr) {
            Shared shared{items, body, context};
            const auto most = items < static_cast<std::size_t>(threads) ? items : threads;
            others(take_part, &shared, static_cast<unsigned>(most), 0);
            return;
        }
        Pool& mine = the_pool();
        std::unique_lock<std::mutex> lock(mine.busy, std::try_to_lock);
        if (lock.owns_lock()) {
            const auto most = items < static_cast<std::size_t>(threads)
                                  ? static_cast<int>(items)
                                  : threads;
            mine.run(items, most, body, context);
            return;
        }
    }
    for (std::size_t i = 0; i < items; ++i) body(context, i);
}

}  // namespace thinned
