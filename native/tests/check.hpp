// What the native tests need of a test framework: checks that say what was at hand, cases that
// register themselves, and numbers that are random but the same every time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace check {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

struct Case {
    const char* name;
    void (*body)();
    Case* next;

    Case(const char* its_name, void (*its_body)());
};

// Counts a failure and prints the first few of a case. May be called from any thread.
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void failed(const char* file, int line, const char* what, const char* format, ...);

int failures();

#define CASE(name)                                   \
    static void name();                              \
    static ::check::Case case_of_##name(#name, name); \
    static void name()

// CHECK(condition, "format", ...): the rest says which of many rounds it was.
#define CHECK(what, ...)                                                       \
    do {                                                                       \
        if (!(what)) ::check::failed(__FILE__, __LINE__, #what, __VA_ARGS__); \
    } while (false)

// splitmix64 (Steele, Lea and Flood, 2014): nothing of the code under test.
class Random {
  public:
    explicit Random(u64 seed) : state_(seed) {}
    u64 next() {
        u64 z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }
    u64 below(u64 n) { return next() % n; }
    u64 between(u64 low, u64 high) { return low + below(high - low + 1); }  // both ends included
    bool chance(u64 one_in) { return below(one_in) == 0; }
    template <class T, std::size_t n>
    T of(const T (&list)[n]) {
        return list[below(n)];
    }

  private:
    u64 state_;
};

// Instrumented builds are slower by up to twenty times: the cases that only repeat do it less there.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kInstrumented = true;
#else
constexpr bool kInstrumented = false;
#endif

// Where only races are looked for, one case of many millions of elements is enough.
#if defined(__SANITIZE_THREAD__)
constexpr bool kRacesOnly = true;
#else
constexpr bool kRacesOnly = false;
#endif

}  // namespace check
