// What a draw costs in instructions: runs one function of the newest kernel that this processor has, so
// many times over 16,384 elements. A program beside it counts (benchmarks/instructions.py).
//
//     instructions bits|fused P TYPE TIMES      TYPE: 0 to 3, as in job.hpp
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../dispatch.hpp"
#include "../job.hpp"

int main(int count, char** words) {
    constexpr std::size_t n = 16384;
    if (count != 5) return 2;
    const int type = std::atoi(words[3]), times = std::atoi(words[4]);
    const thinned::Kernel& kernel = *thinned::runnable_kernels().back();
    thinned::Stream stream;
    stream.seed = 7;
    stream.threshold = static_cast<std::uint64_t>(std::atof(words[2]) * 4294967296.0 + 0.5);
    thinned::Values values;
    values.scale = 1.25;
    alignas(64) static unsigned char x[8 * n], y[8 * n];
    static std::uint64_t bits[n / 64 + 2];
    for (int i = 0; i < times; ++i) {
        const std::uint64_t start = n * static_cast<std::uint64_t>(i);
        if (std::strcmp(words[1], "bits") == 0) {
            kernel.bits(stream, start / thinned::kGroup, n / thinned::kGroup, bits);
        } else {
            kernel.fused_scale[type][0](stream, start, n, x, y, values);
        }
    }
    std::puts(kernel.name);
}
