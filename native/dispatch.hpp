// Which kernel runs on this machine.
#pragma once

#include <vector>

#include "job.hpp"

namespace thinned {

// The kernels that this build holds and this processor can run, the fastest last.
std::vector<const Kernel*> runnable_kernels();

// The names of all kernels that this build holds, whether the processor can run them or not.
std::vector<const char*> built_kernels();

// Whether this processor gains by being asked ahead for memory beyond its own cache. Between draws, an
// Intel Xeon's loads and stores are too few to keep its memory busy: 2M elements took a quarter less
// time when asked for. An AMD EPYC sees them coming by itself, and every request was one too many: 2M
// took a tenth to a quarter more.
bool gains_by_prefetching();

}  // namespace thinned
