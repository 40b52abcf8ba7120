#include "xla.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

#include "geometry.hpp"
#include "threads.hpp"

#if defined(THINNED_HAS_X86)
#include <xmmintrin.h>
#endif

namespace thinned::xla {
namespace {

using u64 = std::uint64_t;
using i64 = std::int64_t;

constexpr i64 kWords = 9;  // to an address: see backends/jax/primitives.py

template <class T>
void require_size(const T& s, const char* name) {
    if (s.struct_size < sizeof(T)) {
        throw std::invalid_argument(std::string("XLA's ") + name + " is of an older interface");
    }
}

void require(bool fits, const char* what) {
    if (!fits) throw std::invalid_argument(what);
}

const Buffer& buffer(const Buffers& all, i64 i) {
    require(i < all.size && all.types[i] == kBuffer, "a buffer is missing");
    const Buffer& b = *static_cast<const Buffer*>(all.items[i]);
    require_size(b, "buffer");
    return b;
}

const Array& attribute(const Attributes& all, const char* name, int dtype) {
    for (i64 i = 0; i < all.size; ++i) {
        const Name& n = *all.names[i];
        if (all.types[i] == kArray && n.length == std::strlen(name) &&
            std::memcmp(n.text, name, n.length) == 0) {
            const Array& a = *static_cast<const Array*>(all.items[i]);
            require(a.dtype == dtype, "an attribute is of another type");
            return a;
        }
    }
    throw std::invalid_argument("an attribute is missing");
}

Type type_of(int dtype) {
    switch (dtype) {
        case kF16: return Type::f16;
        case kBf16: return Type::bf16;
        case kF32: return Type::f32;
        case kF64: return Type::f64;
    }
    throw std::invalid_argument("x is of no floating type");
}

std::size_t bytes_of(int dtype) {
    switch (dtype) {
        case kPred: return 1;
        case kF16:
        case kBf16: return 2;
        case kU32:
        case kF32: return 4;
        default: return 8;
    }
}

bool same_shape(const Buffer& a, const Buffer& b) {
    return a.dtype == b.dtype && a.rank == b.rank &&
           std::memcmp(a.dims, b.dims, static_cast<std::size_t>(a.rank) * sizeof(i64)) == 0;
}

// The attribute `how`: law, mirror, number of axes of a batch of addresses, index strides.
struct How {
    const i64* values;
    int batch, axes;

    explicit How(const Attributes& attributes) {
        const Array& how = attribute(attributes, "how", kS64);
        require(how.size >= 3 && how.size - 3 <= kMaxAxes, "`how` is of another length");
        values = static_cast<const i64*>(how.data);
        batch = static_cast<int>(values[2]);
        axes = static_cast<int>(how.size) - 3;
        require(batch >= 0, "a batch has a number of axes");
    }
    Law law() const { return static_cast<Law>(values[0]); }
    bool mirror() const { return values[1] != 0; }
    u64 stride(int axis) const { return static_cast<u64>(values[3 + axis]); }
};

// Runs one job for each address of the batch. `fill_in` sets what depends on the address's number.
template <class FillIn>
void run_batch(const How& how, const Buffer& words, const Buffer& y, Job& job, FillIn fill_in) {
    require(words.dtype == kU32 && words.rank == how.batch + 1 && words.dims[how.batch] == kWords,
            "words are of another shape");
    require(y.rank == how.batch + how.axes, "y is of another shape");
    u64 count = 1, n = 1;
    for (int i = 0; i < how.batch; ++i) {
        require(words.dims[i] == y.dims[i], "words and y are of different batches");
        count *= static_cast<u64>(y.dims[i]);
    }
    for (int i = 0; i < how.axes; ++i) n *= static_cast<u64>(y.dims[how.batch + i]);
    if (count == 0 || n == 0) return;
    const auto size = static_cast<i64>(bytes_of(y.dtype));
    job.axes = how.axes;
    i64 step = size;
    for (int i = how.axes - 1; i >= 0; --i) {
        const auto length = static_cast<u64>(y.dims[how.batch + i]);
        job.axis[i] = {length, step, step, step, how.stride(i)};
        step *= static_cast<i64>(length);
    }
    job.threads = num_threads();
    job.whose = Whose::ours_beside_others;
    const Kernel& kernel = kernel_in_use();
    const auto* word = static_cast<const std::uint32_t*>(words.data);
    for (u64 b = 0; b < count; ++b, word += kWords) {
        job.stream.seed = word[0] | u64{word[1]} << 32;
        job.stream.site = word[2];
        job.stream.step = word[3];
        job.stream.call = word[4] & 0xFFFF;
        job.stream.mirror = how.mirror();
        job.stream.threshold = word[6] != 0 ? u64{1} << 32 : u64{word[5]};
        job.offset = word[7] | u64{word[8]} << 32;
        job.y = static_cast<char*>(y.data) + b * n * static_cast<u64>(size);
        fill_in(b, b * n * static_cast<u64>(size));
        run(kernel, job);
    }
}

void noise_of(const Frame& frame) {
    const How how(frame.attributes);
    const Array& fill = attribute(frame.attributes, "fill", kF64);
    require(fill.size == 1, "`fill` is of another length");
    const Buffer &x = buffer(frame.arguments, 0), &words = buffer(frame.arguments, 1);
    const Buffer &scale = buffer(frame.arguments, 2), &y = buffer(frame.results, 0);
    require(same_shape(x, y), "x and y are of different shapes");
    require(scale.rank == how.batch && (scale.dtype == kF32 || scale.dtype == kF64),
            "the scale is of another shape");
    require(how.law() == Law::bernoulli || how.law() == Law::gaussian, "no such law of noise");
    const Buffer* array = frame.arguments.size > 3 ? &buffer(frame.arguments, 3) : nullptr;
    require(array == nullptr || same_shape(x, *array), "x and the fill are of different shapes");
    Job job;
    job.law = how.law();
    job.type = type_of(x.dtype);
    job.values.fill = *static_cast<const double*>(fill.data);
    job.op = array != nullptr         ? Op::affine_array
             : job.values.fill != 0.0 ? Op::affine
                                      : Op::scale;
    run_batch(how, words, y, job, [&](u64 b, u64 first) {
        job.values.scale = scale.dtype == kF32 ? double{static_cast<const float*>(scale.data)[b]}
                                               : static_cast<const double*>(scale.data)[b];
        job.x = static_cast<const char*>(x.data) + first;
        if (array != nullptr) job.f = static_cast<const char*>(array->data) + first;
    });
}

void draw_of(const Frame& frame) {
    const How how(frame.attributes);
    const Buffer &words = buffer(frame.arguments, 0), &y = buffer(frame.results, 0);
    const Law law = how.law();
    require((law == Law::mask && y.dtype == kPred) || (law == Law::words && y.dtype == kU32) ||
                (law == Law::raw_gaussian && y.dtype == kF32),
            "no such law of draws");
    Job job;
    job.law = law;
    run_batch(how, words, y, job, [](u64, u64) {});
}

// XLA's threads take numbers below the smallest normal one for zero, ours do not: values would depend
// on which thread an element came to. Here they are numbers everywhere, as in NumPy.
class Subnormals {
  public:
#if defined(THINNED_HAS_X86)
    Subnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ & ~0x8040u); }
    ~Subnormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__) && defined(__GNUC__)
    Subnormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ & ~(u64{1} << 24 | u64{1} << 19)));
    }
    ~Subnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

  private:
    u64 before_;
#else
    Subnormals() {}
#endif
};

Error* failed(const Frame& frame, const char* why, int code) {
    const std::string message = std::string("thinned: ") + why;
    ErrorArgs args{sizeof(ErrorArgs), nullptr, message.c_str(), code};
    return frame.api->make_error(&args);
}

template <void (*work)(const Frame&)>
Error* handle(Frame* frame) {
    for (Extension* e = frame->extension; e != nullptr; e = e->next) {
        if (e->type == kMetadata) {  // XLA asks which interface this was written for
            Metadata& m = *reinterpret_cast<MetadataExtension*>(e)->metadata;
            m.version = {sizeof(Version), nullptr, kMajor, kMinor};
            m.traits = 0;
            return nullptr;
        }
    }
    try {
        require_size(*frame, "call frame");
        require_size(frame->arguments, "arguments");
        require_size(frame->attributes, "attributes");
        require(frame->stage == kExecute, "called at another stage than execution");
        const Subnormals numbers;
        work(*frame);
        return nullptr;
    } catch (const std::invalid_argument& error) {
        return failed(*frame, error.what(), kInvalidArgument);
    } catch (const std::exception& error) {
        return failed(*frame, error.what(), kInternal);
    }
}

}  // namespace

Error* noise(Frame* frame) { return handle<noise_of>(frame); }
Error* draw(Frame* frame) { return handle<draw_of>(frame); }

}  // namespace thinned::xla
