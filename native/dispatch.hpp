// Which kernel runs on this machine.
#pragma once

#include <vector>

#include "job.hpp"

namespace thinned {

// The kernels that this build holds and this processor can run, the fastest last.
std::vector<const Kernel*> runnable_kernels();

// The names of all kernels that this build holds, whether the processor can run them or not.
std::vector<const char*> built_kernels();

}  // namespace thinned
