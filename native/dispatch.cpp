#include "dispatch.hpp"

#include <cstdint>

#if defined(THINNED_HAS_X86) && defined(_MSC_VER)
#include <intrin.h>
#endif

namespace thinned {
namespace {

#if defined(THINNED_HAS_X86) && defined(_MSC_VER)
struct Features {
    bool avx2 = false, avx512 = false, intel = false;
    Features() {
        int r[4];
        __cpuid(r, 0);
        intel = r[1] == 0x756E6547;  // "Genu", of "GenuineIntel"
        __cpuid(r, 1);
        const bool saves = (r[2] & 1 << 27) != 0, f16c = (r[2] & 1 << 29) != 0;
        const std::uint64_t state = saves ? _xgetbv(0) : 0;
        __cpuidex(r, 7, 0);
        const int wanted = 1 << 16 | 1 << 17 | 1 << 30 | static_cast<int>(1u << 31);  // F DQ BW VL
        avx2 = f16c && (r[1] & 1 << 5) != 0 && (state & 0x6) == 0x6;
        avx512 = avx2 && (r[1] & wanted) == wanted && (state & 0xE6) == 0xE6;
    }
};
#elif defined(THINNED_HAS_X86)
struct Features {
    bool avx2 = false, avx512 = false, intel = false;
    Features() {
        __builtin_cpu_init();
        intel = __builtin_cpu_is("intel") != 0;
        avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
        avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    }
};
#endif

}  // namespace

std::vector<const Kernel*> runnable_kernels() {
    std::vector<const Kernel*> found{&kernel_plain()};
#if defined(THINNED_HAS_X86)
    const Features has;
    if (has.avx2) found.push_back(&kernel_avx2());
    if (has.avx512) found.push_back(&kernel_avx512());
#endif
    return found;
}

std::vector<const char*> built_kernels() {
    std::vector<const char*> names{kernel_plain().name};
#if defined(THINNED_HAS_X86)
    names.push_back("avx2");
    names.push_back("avx512");
#endif
    return names;
}

bool gains_by_prefetching() {
#if defined(THINNED_HAS_X86)
    static const bool intel = Features().intel;
    return intel;
#else
    return false;
#endif
}

}  // namespace thinned
