// A small thread pool: lazy, survives fork, and asked for help only where that pays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thinned {

// At most this many threads work on one call, the caller's own among them.
void set_num_threads(int n);
int num_threads();

// Another runtime's threads, which it keeps awake between its own calls: runs entry(data) on so many of
// them, the caller among them, and returns when all are done. The form is that of libgomp's
// GOMP_parallel, and of omp_get_thread_num for the number of the thread that asks. A forked child has
// none of them, and goes without.
using Team = void (*)(void (*entry)(void* data), void* data, unsigned threads, unsigned flags);
using TeamNumber = int (*)();
void set_team(Team team, TeamNumber number);
bool has_team();

// Whose threads a call is to run on. Ours stay awake for a moment after a call, so that the next one
// has them at once; beside another runtime, whose own threads want the processors, they sleep at once.
enum class Whose { ours, ours_beside_others, team };

// Whether more threads than the caller's own are worth it for so many nanoseconds of work. What it
// costs to call one that sleeps is measured whenever one is called.
bool worth_others(std::uint64_t nanoseconds, Whose whose);

// Calls body(context, i) for every i in [0, items), on the caller and up to `threads` - 1 others, and
// returns when all are done. Each begins with a range of its own, the same in every call. A call that
// finds the pool at work for another thread runs alone. `body` does not throw. Where no team was lent
// its part is done by ours.
void parallel(std::size_t items, int threads, void (*body)(void* context, std::size_t i),
              void* context, Whose whose = Whose::ours);

}  // namespace thinned
