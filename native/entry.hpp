// What the compiled module thinned._native offers to another one: its kernel in use, on its threads.
#pragma once

#include <cstdint>

#include "geometry.hpp"

namespace thinned {

// Handed over in a capsule of this name. Both modules are of one build; `size` tells where they are not.
constexpr const char* kEntryName = "thinned._native.entry";

struct Entry {
    std::size_t size;
    // Whether a compiled kernel is in use, and not the reference in NumPy.
    bool (*compiled)();
    // Runs the job. threads: so many of this module's; below 0, so many of the team that was lent.
    void (*run)(Job& job, int threads);
    // How many threads n elements are worth beside another runtime that uses `allowed`, as `run` takes
    // them.
    int (*threads_beside)(std::uint64_t n, int allowed);
};

}  // namespace thinned
