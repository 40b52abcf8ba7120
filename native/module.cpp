// The compiled module thinned._native: kernels for arrays, taken by pointer.
//
// Everything was checked in Python before it comes here; what is checked again is only what would
// otherwise touch memory that it must not.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "entry.hpp"
#include "geometry.hpp"
#include "philox.hpp"
#include "released.hpp"
#include "rows.hpp"
#include "threads.hpp"
#include "xla.hpp"

namespace nb = nanobind;
using namespace thinned;

namespace {

std::atomic<const Kernel*> current{nullptr};
std::atomic<bool> reference{false};  // said by Python: whether masks are drawn there instead

// One array through the buffer protocol: its memory, shape and strides, held while in use.
class Buffer {
  public:
    Buffer(nb::handle array, bool writable) {
        const int flags = PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(array.ptr(), &view_, flags) != 0) throw nb::python_error();
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    const Py_buffer& operator*() const { return view_; }

  private:
    Py_buffer view_;
};

std::uint64_t elements(const Job& job) {
    std::uint64_t n = 1;
    for (int a = 0; a < job.axes; ++a) n *= job.axis[a].n;
    return n;
}

// threads: 0 for this module's limit; so many of its own beside another runtime's; below 0, so many of
// the team that was lent.
Whose whose(int threads) {
    if (threads < 0 && has_team()) return Whose::team;
    return threads == 0 ? Whose::ours : Whose::ours_beside_others;
}

void run_on(Job& job, int threads) {
    job.whose = whose(threads);
    job.threads = threads == 0 ? num_threads() : threads < 0 ? -threads : threads;
    run(*current.load(std::memory_order_relaxed), job);
}

void go(Job& job, int threads) {
    if (elements(job) < kReleaseAbove) {
        run_on(job, threads);
    } else {
        released([&] { run_on(job, threads); });
    }
}

int threads_beside_another(std::uint64_t n, int allowed) {
    return thinned::threads_beside(*current.load(std::memory_order_relaxed), n, allowed);
}

const Entry the_entry{sizeof(Entry), [] { return !reference.load(std::memory_order_relaxed); }, &run_on,
                      &threads_beside_another};

// The step of the logical index along each axis; None stands for C order over the array itself.
void set_index(Job& job, nb::handle strides) {
    if (strides.is_none()) {
        std::uint64_t step = 1;
        for (int a = job.axes - 1; a >= 0; --a) {
            job.axis[a].index = step;
            step *= job.axis[a].n;
        }
        return;
    }
    const nb::tuple steps = nb::cast<nb::tuple>(strides);
    if (steps.size() != static_cast<std::size_t>(job.axes)) {
        throw std::invalid_argument("one index stride for each axis is needed");
    }
    for (int a = 0; a < job.axes; ++a) job.axis[a].index = nb::cast<std::uint64_t>(steps[a]);
}

// Bytes of an element of y: the draws themselves have types of their own.
std::size_t item_size(const Job& job) {
    if (job.law == Law::mask) return 1;
    return job.law == Law::words || job.law == Law::raw_gaussian ? 4 : size_of(job.type);
}

void require_item(const Py_buffer& array, std::size_t size) {
    if (static_cast<std::size_t>(array.itemsize) != size) {
        throw std::invalid_argument("an array's elements must have the size that its type says");
    }
}

void set_axes(Job& job, const Py_buffer& y) {
    if (y.ndim > kMaxAxes) throw std::invalid_argument("at most 64 axes");
    require_item(y, item_size(job));
    job.axes = y.ndim;
    job.y = y.buf;
    for (int a = 0; a < y.ndim; ++a) {
        job.axis[a] = {static_cast<std::uint64_t>(y.shape[a]), 0, y.strides[a], 0, 0};
    }
}

void set_input(Job& job, const Py_buffer& in, const void*& where, std::int64_t Axis::*step) {
    if (in.ndim != job.axes) throw std::invalid_argument("arrays of one shape are needed");
    require_item(in, size_of(job.type));
    where = in.buf;
    for (int a = 0; a < in.ndim; ++a) {
        if (static_cast<std::uint64_t>(in.shape[a]) != job.axis[a].n) {
            throw std::invalid_argument("arrays of one shape are needed");
        }
        job.axis[a].*step = in.strides[a];
    }
}

Stream stream_of(std::uint64_t seed, std::uint32_t site, std::uint32_t step, std::uint32_t call,
                 std::uint64_t threshold, bool mirror) {
    Stream s;
    s.seed = seed;
    s.site = site;
    s.step = step;
    s.call = call;
    s.threshold = threshold;
    s.mirror = mirror;
    return s;
}

void apply(nb::handle x, nb::handle y, nb::handle f, Law law, Type type, Op op, double scale,
           double fill, std::uint64_t seed, std::uint32_t site, std::uint32_t step,
           std::uint32_t call, std::uint64_t threshold, bool mirror, std::uint64_t offset,
           nb::handle strides, int threads) {
    const Buffer out(y, true);
    std::optional<Buffer> in, array;
    Job job;
    job.law = law;
    job.type = type;
    job.op = op;
    job.values = {scale, fill};
    job.stream = stream_of(seed, site, step, call, threshold, mirror);
    job.offset = offset;
    set_axes(job, *out);
    if (!x.is_none()) {
        in.emplace(x, false);
        set_input(job, **in, job.x, &Axis::x);
    }
    if (!f.is_none()) {
        array.emplace(f, false);
        set_input(job, **array, job.f, &Axis::f);
    }
    set_index(job, strides);
    go(job, threads);
}

// The same for memory that is no Python buffer: pointers as integers, shape and strides (bytes) as
// tuples. This is where other array libraries stand.
void apply_at(std::uintptr_t x, std::uintptr_t y, std::uintptr_t f, nb::tuple shape,
              nb::tuple x_strides, nb::tuple y_strides, nb::tuple f_strides, Law law, Type type,
              Op op, double scale, double fill, std::uint64_t seed, std::uint32_t site,
              std::uint32_t step, std::uint32_t call, std::uint64_t threshold, bool mirror,
              std::uint64_t offset, nb::handle strides, int threads) {
    Job job;
    job.law = law;
    job.type = type;
    job.op = op;
    job.values = {scale, fill};
    job.stream = stream_of(seed, site, step, call, threshold, mirror);
    job.offset = offset;
    job.x = reinterpret_cast<const void*>(x);
    job.y = reinterpret_cast<void*>(y);
    job.f = reinterpret_cast<const void*>(f);
    const std::size_t n = shape.size();
    if (n > kMaxAxes || y_strides.size() != n || (x != 0 && x_strides.size() != n) ||
        (f != 0 && f_strides.size() != n)) {
        throw std::invalid_argument("one stride for each of at most 64 axes is needed");
    }
    job.axes = static_cast<int>(n);
    for (std::size_t a = 0; a < n; ++a) {
        job.axis[a] = {nb::cast<std::uint64_t>(shape[a]),
                       x != 0 ? nb::cast<std::int64_t>(x_strides[a]) : 0,
                       nb::cast<std::int64_t>(y_strides[a]),
                       f != 0 ? nb::cast<std::int64_t>(f_strides[a]) : 0, 0};
    }
    set_index(job, strides);
    go(job, threads);
}

void packed(nb::handle out, std::uint64_t n, std::uint64_t seed, std::uint32_t site,
            std::uint32_t step, std::uint32_t call, std::uint64_t threshold, bool mirror,
            std::uint64_t offset, int threads) {
    const Buffer buffer(out, true);
    if (static_cast<std::uint64_t>((*buffer).len) < n / 8 + (n % 8 != 0)) {
        throw std::invalid_argument("out is too short for n bits");
    }
    const Stream stream = stream_of(seed, site, step, call, threshold, mirror);
    auto* bytes = static_cast<unsigned char*>((*buffer).buf);
    released([&] {
        pack(*current.load(std::memory_order_relaxed), stream, offset, n, bytes,
             threads > 0 ? threads : num_threads());
    });
}

const void* pointer(nb::handle number) {
    return reinterpret_cast<const void*>(nb::cast<std::uintptr_t>(number));
}
void* place(nb::handle number) {
    return reinterpret_cast<void*>(nb::cast<std::uintptr_t>(number));
}

// Rows of n elements; shape and strides are those of the axes in front of them.
Rows rows_of(std::uint64_t n, nb::tuple shape, nb::tuple strides, Type type, bool wide, double scale,
             const Stream& stream, std::uint64_t offset, int threads) {
    if (shape.size() > kMaxAxes || strides.size() != shape.size()) {
        throw std::invalid_argument("one index stride for each of at most 64 axes is needed");
    }
    if (wide && type != Type::f16 && type != Type::bf16) {
        throw std::invalid_argument("only sums of half types may be wide");
    }
    Rows rows;
    rows.type = type;
    rows.wide = wide;
    rows.stream = stream;
    rows.scale = scale;
    rows.offset = offset;
    rows.n = n;
    rows.count = 1;
    rows.axes = static_cast<int>(shape.size());
    for (int a = 0; a < rows.axes; ++a) {
        rows.axis[a] = {nb::cast<std::uint64_t>(shape[a]), nb::cast<std::uint64_t>(strides[a])};
        rows.count *= rows.axis[a].n;
    }
    rows.whose = whose(threads);
    rows.threads = threads == 0 ? num_threads() : threads < 0 ? -threads : threads;
    return rows;
}

template <class Arrays>
void go(const Rows& rows, const Arrays& arrays) {
    const auto work = [&] { run(*current.load(std::memory_order_relaxed), rows, arrays); };
    if (rows.count * rows.n < kReleaseAbove) {
        work();
    } else {
        released(work);
    }
}

void rows_forward(nb::tuple p, bool rms, double eps, std::uint64_t n, nb::tuple shape,
                  nb::tuple strides, Type type, bool wide, double scale, std::uint64_t seed,
                  std::uint32_t site, std::uint32_t step, std::uint32_t call,
                  std::uint64_t threshold, bool mirror, std::uint64_t offset, int threads) {
    if (p.size() != 9) throw std::invalid_argument("nine pointers are needed");
    RowsForward arrays;
    arrays.x = pointer(p[0]), arrays.bias = pointer(p[1]), arrays.residual = pointer(p[2]);
    arrays.z = place(p[3]);
    arrays.weight = pointer(p[4]), arrays.shift = pointer(p[5]);
    arrays.out = place(p[6]), arrays.mean = place(p[7]), arrays.rstd = place(p[8]);
    arrays.rms = rms;
    arrays.eps = eps;
    const Stream stream = stream_of(seed, site, step, call, threshold, mirror);
    go(rows_of(n, shape, strides, type, wide, scale, stream, offset, threads), arrays);
}

void rows_backward(nb::tuple p, bool rms, std::uint64_t parts, std::uint64_t n, nb::tuple shape,
                   nb::tuple strides, Type type, bool wide, double scale, std::uint64_t seed,
                   std::uint32_t site, std::uint32_t step, std::uint32_t call,
                   std::uint64_t threshold, bool mirror, std::uint64_t offset, int threads) {
    if (p.size() != 10) throw std::invalid_argument("ten pointers are needed");
    RowsBackward arrays;
    arrays.grad = pointer(p[0]), arrays.z = pointer(p[1]), arrays.more = pointer(p[2]);
    arrays.weight = pointer(p[3]), arrays.mean = pointer(p[4]), arrays.rstd = pointer(p[5]);
    arrays.dz = place(p[6]), arrays.dx = place(p[7]);
    arrays.dweight = place(p[8]), arrays.dshift = place(p[9]);
    arrays.rms = rms;
    arrays.parts = parts;
    const Stream stream = stream_of(seed, site, step, call, threshold, mirror);
    go(rows_of(n, shape, strides, type, wide, scale, stream, offset, threads), arrays);
}

std::vector<std::string> names_of(const std::vector<const Kernel*>& kernels) {
    std::vector<std::string> names;
    for (const Kernel* k : kernels) names.emplace_back(k->name);
    return names;
}

bool use(const std::string& name) {
    for (const Kernel* k : runnable_kernels()) {
        if (name == k->name) {
            current.store(k, std::memory_order_relaxed);
            return true;
        }
    }
    return false;
}

}  // namespace

const Kernel& thinned::kernel_in_use() { return *current.load(std::memory_order_relaxed); }

NB_MODULE(_native, m) {
    m.doc() = "Masks and their application, compiled: see thinned.kernel and native/.";
    current.store(runnable_kernels().back(), std::memory_order_relaxed);

    nb::enum_<Law>(m, "Law")
        .value("bernoulli", Law::bernoulli)
        .value("gaussian", Law::gaussian)
        .value("mask", Law::mask)
        .value("words", Law::words)
        .value("raw_gaussian", Law::raw_gaussian);
    nb::enum_<Type>(m, "Type")
        .value("float32", Type::f32)
        .value("float64", Type::f64)
        .value("float16", Type::f16)
        .value("bfloat16", Type::bf16);
    nb::enum_<Op>(m, "Op")
        .value("scale", Op::scale)
        .value("select", Op::select)
        .value("affine", Op::affine)
        .value("select_array", Op::select_array)
        .value("affine_array", Op::affine_array);

    m.def("apply", &apply, nb::arg("x").none(), nb::arg("y"), nb::arg("f").none(), nb::arg("law"),
          nb::arg("type"), nb::arg("op"), nb::arg("scale"), nb::arg("fill"), nb::arg("seed"),
          nb::arg("site"), nb::arg("step"), nb::arg("call"), nb::arg("threshold"),
          nb::arg("mirror"), nb::arg("offset"), nb::arg("strides").none(), nb::arg("threads"));
    m.def("apply_at", &apply_at, nb::arg("x"), nb::arg("y"), nb::arg("f"), nb::arg("shape"),
          nb::arg("x_strides"), nb::arg("y_strides"), nb::arg("f_strides"), nb::arg("law"),
          nb::arg("type"), nb::arg("op"), nb::arg("scale"), nb::arg("fill"), nb::arg("seed"),
          nb::arg("site"), nb::arg("step"), nb::arg("call"), nb::arg("threshold"),
          nb::arg("mirror"), nb::arg("offset"), nb::arg("strides").none(), nb::arg("threads"));
    m.def("rows_forward", &rows_forward, nb::arg("pointers"), nb::arg("rms"), nb::arg("eps"),
          nb::arg("n"), nb::arg("shape"), nb::arg("strides"), nb::arg("type"), nb::arg("wide"),
          nb::arg("scale"), nb::arg("seed"), nb::arg("site"), nb::arg("step"), nb::arg("call"),
          nb::arg("threshold"), nb::arg("mirror"), nb::arg("offset"), nb::arg("threads"),
          "Pointers, 0 for none: x, bias, residual, z, weight, shift, out, mean, rstd.");
    m.def("rows_backward", &rows_backward, nb::arg("pointers"), nb::arg("rms"), nb::arg("parts"),
          nb::arg("n"), nb::arg("shape"), nb::arg("strides"), nb::arg("type"), nb::arg("wide"),
          nb::arg("scale"), nb::arg("seed"), nb::arg("site"), nb::arg("step"), nb::arg("call"),
          nb::arg("threshold"), nb::arg("mirror"), nb::arg("offset"), nb::arg("threads"),
          "Pointers, 0 for none: grad, z, more, weight, mean, rstd, dz, dx, dweight, dshift.");
    m.def("packed", &packed, nb::arg("out"), nb::arg("n"), nb::arg("seed"), nb::arg("site"),
          nb::arg("step"), nb::arg("call"), nb::arg("threshold"), nb::arg("mirror"),
          nb::arg("offset"), nb::arg("threads"));

    m.def("philox4x32_10", &philox4x32_10, nb::arg("counter"), nb::arg("key"),
          "The four words of the block at `counter` (four words) under `key` (two words).");
    m.def("runnable", [] { return names_of(runnable_kernels()); },
          "The kernels that this processor can run, the fastest last.");
    m.def("built", [] {
        std::vector<std::string> names;
        for (const char* name : built_kernels()) names.emplace_back(name);
        return names;
    }, "The kernels that this build holds.");
    m.def("use", &use, nb::arg("name"), "Run this kernel from now on; False if it cannot run.");
    m.def("use_reference", [](bool wanted) { reference.store(wanted, std::memory_order_relaxed); },
          nb::arg("wanted"), "Say to other compiled modules that Python draws the masks.");
    m.def("used", [] { return current.load(std::memory_order_relaxed)->name; });
    // For jax.ffi.register_ffi_target.
    m.attr("xla_noise") = nb::capsule(reinterpret_cast<void*>(&xla::noise));
    m.attr("xla_draw") = nb::capsule(reinterpret_cast<void*>(&xla::draw));
    m.def("set_num_threads", &set_num_threads, nb::arg("n"));
    m.def("set_team", [](std::uintptr_t parallel, std::uintptr_t number) {
              set_team(reinterpret_cast<Team>(parallel), reinterpret_cast<TeamNumber>(number));
          }, nb::arg("parallel"), nb::arg("number"),
          "Lend the threads of another runtime: the addresses of its GOMP_parallel and "
          "omp_get_thread_num, 0 for none.");
    m.def("num_threads", &num_threads);
    m.def("threads_beside", &threads_beside_another, nb::arg("n"), nb::arg("allowed"),
          "How many threads noise on n elements is worth where another runtime uses `allowed`: lent "
          "ones negative.");
    // For the compiled module of PyTorch.
    m.attr("entry") = nb::capsule(&the_entry, kEntryName);
}
