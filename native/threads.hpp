// A small thread pool: lazy, survives fork, serial where a second thread would not pay.
#pragma once

#include <cstddef>

namespace thinned {

// At most this many threads work on one call, the caller's own among them.
void set_num_threads(int n);
int num_threads();

// Calls body(context, i) for every i in [0, items), on the caller and up to `threads` - 1 others, and
// returns when all are done. A call that finds the pool at work for another thread runs alone.
// `body` does not throw.
void parallel(std::size_t items, int threads, void (*body)(void* context, std::size_t i),
              void* context);

}  // namespace thinned
