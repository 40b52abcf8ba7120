// The kernels, in the vector operations of simd.hpp. Compiled once for each instruction set.
#include "application.hpp"
#include "draws.hpp"
#include "fused.hpp"
#include "job.hpp"
#include "row_kernels.hpp"
#include "simd.hpp"
#include "types.hpp"
#include "word_draws.hpp"

#if defined(THINNED_AVX512)
#define THINNED_TABLE kernel_avx512
#define THINNED_NAME "avx512"
#define THINNED_ALONE_UP_TO (1u << 21)
#elif defined(THINNED_AVX2)
#define THINNED_TABLE kernel_avx2
#define THINNED_NAME "avx2"
#define THINNED_ALONE_UP_TO (1u << 20)
#else
#define THINNED_TABLE kernel_plain
#if defined(THINNED_NEON)
#define THINNED_NAME "neon"
#define THINNED_ALONE_UP_TO (1u << 19)  // not measured: by its instructions, half of AVX2's
#else
#define THINNED_NAME "baseline"
#define THINNED_ALONE_UP_TO (1u << 17)
#endif
#endif

namespace thinned {
namespace {

template <class T>
void enter(Kernel& k, Type type) {
    ApplyBits* row = k.apply[static_cast<int>(type)];
    row[static_cast<int>(Op::scale)] = scale<T>;
    row[static_cast<int>(Op::select)] = select_op<T, false>;
    row[static_cast<int>(Op::select_array)] = select_op<T, true>;
    row[static_cast<int>(Op::affine)] = affine<T, false>;
    row[static_cast<int>(Op::affine_array)] = affine<T, true>;
    FusedScale* fused = k.fused_scale[static_cast<int>(type)];
    fused[static_cast<int>(Reach::near)] = fused_scale<T, Reach::near>;
    fused[static_cast<int>(Reach::far)] = fused_scale<T, Reach::far>;
    fused[static_cast<int>(Reach::streaming)] = fused_scale<T, Reach::streaming>;
    ApplyWhole* wholes = k.whole[static_cast<int>(type)];
    wholes[static_cast<int>(Reach::near)] = wholes[static_cast<int>(Reach::far)] =
        whole<T, Reach::near>;
    wholes[static_cast<int>(Reach::streaming)] = whole<T, Reach::streaming>;
    k.noise[static_cast<int>(type)] = noise<T>;
    k.rows[static_cast<int>(type)][0] = rows_of<T, T>();
}

Kernel make() {
    Kernel k{};
    k.name = THINNED_NAME;
    k.alone_up_to = THINNED_ALONE_UP_TO;
    k.bits = bits;
    k.words = words;
    k.gaussian = gaussian;
    k.expand = expand;
    k.fused = fused;
    k.fence = [] { fence(); };
    enter<F32>(k, Type::f32);
    enter<F64>(k, Type::f64);
    enter<F16>(k, Type::f16);
    enter<BF16>(k, Type::bf16);
    k.rows[static_cast<int>(Type::f16)][1] = rows_of<F16, F32>();
    k.rows[static_cast<int>(Type::bf16)][1] = rows_of<BF16, F32>();
    return k;
}

}  // namespace

const Kernel& THINNED_TABLE() {
    static const Kernel table = make();
    return table;
}

}  // namespace thinned
