// Memory that shows whoever reads or writes beside it: whole pages between two that crash when they
// are touched, filled with a poison that no test expects as a result.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "check.hpp"

namespace check {

constexpr u8 kPoison = 0xA5;

enum class Edge { begin, end };

class Guarded {
  public:
    explicit Guarded(std::size_t bytes) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        room_ = (bytes + page - 1) / page * page;
        whole_ = room_ + 2 * page;
        void* all = mmap(nullptr, whole_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) stop("mmap");
        map_ = static_cast<char*>(all);
        begin_ = map_ + page;
        if (room_ > 0 && mprotect(begin_, room_, PROT_READ | PROT_WRITE) != 0) stop("mprotect");
        poison();
    }
    ~Guarded() { munmap(map_, whole_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    char* begin() const { return begin_; }
    char* end() const { return begin_ + room_; }
    std::size_t room() const { return room_; }
    // Where `bytes` bytes begin that lie against the page on that side.
    char* at(Edge edge, std::size_t bytes) const {
        return edge == Edge::begin ? begin() : end() - bytes;
    }
    void poison() { std::memset(begin_, kPoison, room_); }
    void poison(void* where, std::size_t bytes) { std::memset(where, kPoison, bytes); }
    // The first byte that is not poison, or null.
    const char* touched() const {
        // Each byte as its neighbour, and the first one poison: that is quick where nothing was touched.
        const bool alike = room_ < 2 || std::memcmp(begin(), begin() + 1, room_ - 1) == 0;
        if (alike && (room_ == 0 || static_cast<u8>(*begin()) == kPoison)) return nullptr;
        for (const char* p = begin(); p != end(); ++p) {
            if (static_cast<u8>(*p) != kPoison) return p;
        }
        return nullptr;
    }

  private:
    [[noreturn]] static void stop(const char* what) {
        std::perror(what);
        std::abort();
    }
    char* map_;
    char* begin_;
    std::size_t room_, whole_;
};

}  // namespace check
