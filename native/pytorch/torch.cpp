// The module thinned._torch_MAJOR_MINOR: noise on PyTorch's plain CPU tensors, as a node of its autograd.
//
// It does in C++ what backends/torch/eager.py does with a torch.autograd.Function in Python, which costs a
// small tensor more than its dropout and PyTorch's own graph together. Whatever is not a dense tensor of
// plain memory, or has someone who wants to see the call (a dispatch mode, a transform of torch.func,
// forward mode, a tracer), is left to Python: the functions here return None, and the node calls back.
//
// PyTorch's C++ interface changes with every minor version, and so this is built for one of them.
#include <Python.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>
#include <torch/library.h>

#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "entry.hpp"
#include "released.hpp"

namespace {

using at::Tensor;
using thinned::Entry;
using thinned::Job;
using thinned::Law;
using thinned::Op;
using thinned::Type;

const Entry* entry = nullptr;
PyObject* noise_elsewhere = nullptr;    // (gradient, numbers of How): the noise by way of Python
PyObject* dropout_elsewhere = nullptr;  // the registered operator's body in Python

// ------------------------------------------------------------------------------------------ noise

// All that is done to a tensor, but for the tensor: what a backward pass keeps instead of a mask.
struct How {
    thinned::Stream stream;
    double scale = 1.0, fill = 0.0;
    std::uint64_t offset = 0;
    bool gaussian = false;
    // The step of the logical index along each axis; none where it runs through x in C order.
    std::vector<std::int64_t> strides;

    // As whole numbers, which autograd, Python and the compiler of backward passes can hold.
    std::vector<std::int64_t> numbers() const {
        std::vector<std::int64_t> n = {
            static_cast<std::int64_t>(stream.seed), stream.site, stream.step, stream.call,
            static_cast<std::int64_t>(stream.threshold), stream.mirror, gaussian, 0,
            static_cast<std::int64_t>(offset)};
        std::memcpy(&n[7], &scale, 8);
        n.insert(n.end(), strides.begin(), strides.end());
        return n;
    }
    // Without the fill, which no derivative knows of.
    static How of(const std::vector<std::int64_t>& n) {
        How how;
        how.stream.seed = static_cast<std::uint64_t>(n[0]);
        how.stream.site = static_cast<std::uint32_t>(n[1]);
        how.stream.step = static_cast<std::uint32_t>(n[2]);
        how.stream.call = static_cast<std::uint32_t>(n[3]);
        how.stream.threshold = static_cast<std::uint64_t>(n[4]);
        how.stream.mirror = n[5] != 0;
        how.gaussian = n[6] != 0;
        std::memcpy(&how.scale, &n[7], 8);
        how.offset = static_cast<std::uint64_t>(n[8]);
        how.strides.assign(n.begin() + 9, n.end());
        return how;
    }
};

std::optional<Type> type_of(const Tensor& x) {
    switch (x.scalar_type()) {
        case at::kFloat: return Type::f32;
        case at::kDouble: return Type::f64;
        case at::kHalf: return Type::f16;
        case at::kBFloat16: return Type::bf16;
        default: return std::nullopt;
    }
}

// What plain tensors are known by, made outside of and inside of inference mode: no tensor around
// another one, no conjugate, no zero without memory, no other device.
struct Plain {
    c10::DispatchKeySet recorded, inference;
    Plain() {
        {
            c10::InferenceMode off(false);
            recorded = at::detail::empty_cpu({0}, at::kFloat).key_set();
        }
        c10::InferenceMode on(true);
        inference = at::detail::empty_cpu({0}, at::kFloat).key_set();
    }
};

// Whether no mode, transform or tracer wants to see calls.
bool nobody_looks() {
    static const c10::DispatchKeySet usual =
        c10::default_included_set | c10::autocast_dispatch_keyset;
    return (c10::impl::tls_local_dispatch_key_set().included_ - usual).empty();
}

// Whether x is plain memory of a type of ours, and nobody has to see what is done to it.
bool is_plain(const Tensor& x) {
    static const Plain plain;
    if (!x.defined() || !(x.key_set() == plain.recorded || x.key_set() == plain.inference)) {
        return false;
    }
    return nobody_looks() && type_of(x) && x.dim() <= thinned::kMaxAxes &&
           (x.const_data_ptr() != nullptr || x.numel() == 0) && entry->compiled();
}

bool has_tangent(const Tensor& x) { return torch::autograd::isFwGradDefined(x); }

// y = noise(x): into a new tensor of x's strides, or into y, which may be x.
Tensor made(const Tensor& x, const How& how, Tensor y = Tensor()) {
    if (!y.defined()) {
        y = x.is_contiguous() ? at::detail::empty_cpu(x.sizes(), x.scalar_type())
                              : at::empty_like(x);
    }
    Job job;
    job.law = how.gaussian ? Law::gaussian : Law::bernoulli;
    job.type = *type_of(x);
    // A fill is one number in the type of the arithmetic, with -0.0 as 0.
    const double fill = (job.type == Type::f64 ? how.fill : static_cast<float>(how.fill)) + 0.0;
    job.op = fill == 0.0 ? Op::scale : Op::affine;
    job.values = {how.scale, fill};
    job.stream = how.stream;
    job.offset = how.offset;
    job.x = x.const_data_ptr();
    job.y = y.mutable_data_ptr();
    const auto item = static_cast<std::int64_t>(x.element_size());
    if (how.strides.empty() && x.is_contiguous() && y.is_contiguous()) {
        job.axes = 1;
        job.axis[0] = {static_cast<std::uint64_t>(x.numel()), item, item, 0, 1};
    } else {
        job.axes = static_cast<int>(x.dim());
        std::uint64_t step = 1;
        for (int a = job.axes - 1; a >= 0; --a) {
            const auto n = static_cast<std::uint64_t>(x.size(a));
            const auto index = how.strides.empty() ? step : static_cast<std::uint64_t>(how.strides[a]);
            job.axis[a] = {n, x.stride(a) * item, y.stride(a) * item, 0, index};
            step *= n;
        }
    }
    const auto n = static_cast<std::uint64_t>(x.numel());
    entry->run(job, entry->threads_beside(n, at::get_num_threads()));
    return y;
}

// ----------------------------------------------------------------------------------------- gradients

// Who but the backward pass may still read a gradient, one bit for each kind.
enum Holder : unsigned {
    kTensors = 1,   // of C++, the lists of autograd among them
    kObjects = 2,   // of Python's: one that nobody holds may have weak references
    kBases = 4,     // the same two, of the tensor that this one is a view of
    kMemory = 8,    // tensors and objects that share its memory
    kStrangers = 16,  // memory of another maker: an array, a file, a process
};

unsigned overlooked = 0;  // none, but where a test plants a fault

unsigned holders(const Tensor& g) {
    unsigned found = 0;
    if (g.use_count() != 1) found |= kTensors;
    const auto objects = [](const Tensor& x) {
        return x.weak_use_count() != 1 ||
               x.unsafeGetTensorImpl()->pyobj_slot()->load_pyobj() != nullptr;
    };
    if (objects(g)) found |= kObjects;
    std::size_t own = 1;
    if (auto* view = torch::autograd::impl::get_view_autograd_meta(g)) {
        const Tensor& base = view->has_bw_view() ? view->get_backward_view().base_
                                                 : view->get_forward_view().base_;
        if (base.use_count() != 1 || objects(base)) found |= kBases;
        own = 2;
    }
    const c10::Storage& storage = g.storage();
    if (storage.use_count() != own ||
        storage.unsafeGetStorageImpl()->pyobj_slot()->load_pyobj() != nullptr) {
        found |= kMemory;
    }
    if (storage.data_ptr().get_deleter() != c10::GetCPUAllocator()->raw_deleter()) found |= kStrangers;
    return found & ~overlooked;
}

// Whether this gradient's memory may take the one that goes on. Fresh memory for a gradient costs more
// than the dropout of it: the system hands out its pages one by one, and they push others out of the
// cache. PyTorch asks the same where it adds gradients up.
bool nobody_else(const Tensor& g) { return holders(g) == 0 && g.is_non_overlapping_and_dense(); }

// An error of Python's as one of C++, for PyTorch to carry to whoever asked for the gradient.
PyObject* checked(PyObject* object) {
    if (object == nullptr) {
        python_error error;
        error.persist();
        throw error;
    }
    return object;
}

PyObject* object(const Tensor& x) { return checked(THPVariable_Wrap(x)); }
PyObject* object(double x) { return checked(PyFloat_FromDouble(x)); }
PyObject* object(std::int64_t n) { return checked(PyLong_FromLongLong(n)); }
PyObject* object(at::IntArrayRef numbers) {
    const auto count = static_cast<Py_ssize_t>(numbers.size());
    THPObjectPtr tuple(checked(PyTuple_New(count)));
    for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(tuple.get(), i, object(numbers[i]));
    return tuple.release();
}

// What `function` of Python makes of these.
template <class... Values>
Tensor by_python(PyObject* function, const Values&... values) {
    pybind11::gil_scoped_acquire held;
    THPObjectPtr arguments(checked(PyTuple_New(sizeof...(values))));
    Py_ssize_t i = 0;
    (PyTuple_SET_ITEM(arguments.get(), i++, object(values)), ...);
    THPObjectPtr y(checked(PyObject_CallObject(function, arguments.get())));
    if (!THPVariable_Check(y.get())) throw std::runtime_error("thinned: no tensor came back");
    return THPVariable_Unpack(y.get());
}

Tensor recorded(const Tensor& x, const How& how);

// Noise is linear in x: the gradient that goes on is the same noise of the one that came.
Tensor passed_on(Tensor& g, const How& how) {
    if (!g.defined()) return Tensor();
    if (!is_plain(g) || has_tangent(g)) return by_python(noise_elsewhere, g, at::IntArrayRef(how.numbers()));
    if (at::GradMode::is_enabled() || !nobody_else(g)) return recorded(g, how);
    at::AutoDispatchBelowADInplaceOrView below;
    made(g, how, g);
    return std::move(g);
}

// The same as the compiler of backward passes takes it, from what a node has told it.
struct Noise : torch::autograd::Function<Noise> {
    // By reference: a copy of the list would hold the gradient once more.
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                   torch::autograd::variable_list& grads) {
        return {passed_on(grads[0], How::of(ctx->saved_data["how"].toIntVector()))};
    }
};

// The node of autograd. It keeps no tensor, and what a Function of PyTorch's would keep beside it is
// written down where the compiler of backward passes asks: kept at each call, it took a small tensor as
// long as its dropout.
struct NoiseNode final : torch::autograd::CppNode<Noise> {
    explicit NoiseNode(const How& done) : how(done) { how.fill = 0.0; }

    std::string name() const override { return "thinned::Noise"; }
    torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
        return {passed_on(grads[0], how)};
    }
    void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
        const_cast<NoiseNode*>(this)->tell();  // a caller that may not change the node has no other
        CppNode::compiled_args(args);
    }
    torch::autograd::variable_list apply_with_saved(
        const torch::autograd::variable_list& grads,
        torch::dynamo::autograd::SwapSavedVariables& saved) override {
        tell();
        return CppNode::apply_with_saved(grads, saved);
    }

   private:
    How how;

    void tell() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!is_variable_input_.empty()) return;
        ctx_.saved_data["how"] = how.numbers();
        ctx_.set_materialize_grads(false);
        is_variable_input_ = {true};
        const auto& y = input_metadata(0);
        torch::autograd::VariableInfo info;
        info.device = y.device();
        info.scalar_type = c10::typeMetaToScalarType(y.options().dtype());
        info.size = y.shape_as_dim_vector().vec();
        info.requires_grad = true;
        info.is_empty = false;
        output_info_ = {info};
        set_ctx_grad_fn(c10::intrusive_ptr<torch::autograd::Node>::reclaim_copy(this));
    }
};

// The noise on a plain x, differentiable.
Tensor recorded(const Tensor& x, const How& how) {
    RECORD_FUNCTION("thinned::noise", std::vector<c10::IValue>({x}));
    if (!x.requires_grad() || !at::GradMode::is_enabled()) return made(x, how);
    const auto node = c10::make_intrusive<NoiseNode>(how);
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    Tensor y;
    {
        at::AutoDispatchBelowADInplaceOrView below;
        y = made(x, how);
    }
    torch::autograd::set_history(y, node);
    return y;
}

// ---------------------------------------------------------------------------------------- from Python

// The same 64 bits as torch.empty((), dtype=torch.int64).random_(-2**63, 2**63 - 1) takes from PyTorch's
// default generator, whose range leaves out one number.
std::uint64_t drawn_seed() {
    const at::Generator& generator = at::detail::getDefaultCPUGenerator();
    auto* engine = at::check_generator<at::CPUGeneratorImpl>(generator);
    std::lock_guard<std::mutex> lock(engine->mutex_);
    return engine->random64() % ~std::uint64_t{0} + (std::uint64_t{1} << 63);
}

// A coordinate of an address by its name; none where it is no plain number, as while JAX traces it.
std::optional<std::uint64_t> coordinate(PyObject* at, PyObject* name) {
    THPObjectPtr number(checked(PyObject_GetAttr(at, name)));
    if (!PyLong_CheckExact(number.get())) return std::nullopt;
    const std::uint64_t word = PyLong_AsUnsignedLongLong(number.get());
    if (word == ~std::uint64_t{0} && PyErr_Occurred()) checked(nullptr);
    return word;
}

// Plain tensors of PyTorch's own classes: what a subclass of a user's would make of the call is its own.
const Tensor* plain_argument(PyObject* x) {
    if (!THPVariable_CheckExact(x)) return nullptr;
    const Tensor& tensor = THPVariable_Unpack(x);
    return is_plain(tensor) && !has_tangent(tensor) ? &tensor : nullptr;
}

Tensor recorded_released(const Tensor& x, const How& how) {
    if (x.numel() < static_cast<std::int64_t>(thinned::kReleaseAbove)) return recorded(x, how);
    Tensor y;
    thinned::released([&] { y = recorded(x, how); });
    return y;
}

// fresh_seed(): 64 bits from the default generator, or None where somebody wants to see the draw.
PyObject* fresh_seed(PyObject*, PyObject*) {
    HANDLE_TH_ERRORS
    if (!nobody_looks()) Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(drawn_seed());
    END_HANDLE_TH_ERRORS
}

// dropout(x, p, at, leading, scale): dropout with nothing particular about it. at: an address, or None
// for a fresh seed. leading: one draw for each index of so many leading axes, below 0 for each element.
// scale: None for 1 / (1 - p). None where anything is particular, or wrong, for Python to say.
PyObject* dropout(PyObject*, PyObject* const* args, Py_ssize_t count) {
    HANDLE_TH_ERRORS
    static PyObject* const names[4] = {
        PyUnicode_InternFromString("seed"), PyUnicode_InternFromString("site"),
        PyUnicode_InternFromString("step"), PyUnicode_InternFromString("call")};
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "dropout takes 5 arguments");
        return nullptr;
    }
    const Tensor* x = plain_argument(args[0]);
    if (x == nullptr || !PyFloat_CheckExact(args[1])) Py_RETURN_NONE;
    const double p = PyFloat_AS_DOUBLE(args[1]);
    const long leading = PyLong_AsLong(args[3]);
    if (leading == -1 && PyErr_Occurred()) return nullptr;
    if (!(p > 0.0 && p < 1.0) || leading > x->dim()) Py_RETURN_NONE;
    How how;
    how.scale = 1.0 / (1.0 - p);
    if (args[4] != Py_None) {
        how.scale = PyFloat_AsDouble(args[4]);
        if (how.scale == -1.0 && PyErr_Occurred()) return nullptr;
    }
    how.stream.threshold = static_cast<std::uint64_t>(std::nearbyint(p * 4294967296.0));
    if (args[2] == Py_None) {
        how.stream.seed = drawn_seed();
    } else {
        std::uint64_t word[4];
        for (int i = 0; i < 4; ++i) {
            const auto number = coordinate(args[2], names[i]);
            if (!number) Py_RETURN_NONE;
            word[i] = *number;
        }
        how.stream.seed = word[0];
        how.stream.site = static_cast<std::uint32_t>(word[1]);
        how.stream.step = static_cast<std::uint32_t>(word[2]);
        how.stream.call = static_cast<std::uint32_t>(word[3]);
    }
    if (leading >= 0 && leading < x->dim()) {
        how.strides.assign(static_cast<std::size_t>(x->dim()), 0);
        std::int64_t step = 1;
        for (long a = leading - 1; a >= 0; step *= x->size(a--)) how.strides[a] = step;
    }
    return THPVariable_Wrap(recorded_released(*x, how));
    END_HANDLE_TH_ERRORS
}

// noise(x, scale, fill, gaussian, seed, site, step, call, threshold, mirror, offset, strides): any noise
// of one fill. strides: a tuple, or None for C order. None where x is nothing for us.
PyObject* noise(PyObject*, PyObject* const* args, Py_ssize_t count) {
    HANDLE_TH_ERRORS
    if (count != 12) {
        PyErr_SetString(PyExc_TypeError, "noise takes 12 arguments");
        return nullptr;
    }
    const Tensor* x = plain_argument(args[0]);
    if (x == nullptr) Py_RETURN_NONE;
    How how;
    how.scale = PyFloat_AsDouble(args[1]);
    how.fill = PyFloat_AsDouble(args[2]);
    how.gaussian = PyObject_IsTrue(args[3]) == 1;
    how.stream.seed = PyLong_AsUnsignedLongLong(args[4]);
    how.stream.site = static_cast<std::uint32_t>(PyLong_AsUnsignedLong(args[5]));
    how.stream.step = static_cast<std::uint32_t>(PyLong_AsUnsignedLong(args[6]));
    how.stream.call = static_cast<std::uint32_t>(PyLong_AsUnsignedLong(args[7]));
    how.stream.threshold = PyLong_AsUnsignedLongLong(args[8]);
    how.stream.mirror = PyObject_IsTrue(args[9]) == 1;
    how.offset = PyLong_AsUnsignedLongLong(args[10]);
    if (args[11] != Py_None) {
        if (!PyTuple_Check(args[11]) || PyTuple_GET_SIZE(args[11]) != x->dim()) {
            PyErr_SetString(PyExc_TypeError, "noise: one index stride for each axis is needed");
            return nullptr;
        }
        for (Py_ssize_t a = 0; a < PyTuple_GET_SIZE(args[11]); ++a) {
            how.strides.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(args[11], a)));
        }
    }
    if (PyErr_Occurred()) return nullptr;
    return THPVariable_Wrap(recorded_released(*x, how));
    END_HANDLE_TH_ERRORS
}

// connect(entry, noise_elsewhere, dropout_elsewhere): once, before anything else.
PyObject* connect(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "connect takes 3 arguments");
        return nullptr;
    }
    const auto* found =
        static_cast<const Entry*>(PyCapsule_GetPointer(args[0], thinned::kEntryName));
    if (found == nullptr) return nullptr;
    if (found->size != sizeof(Entry)) {
        PyErr_SetString(PyExc_ImportError,
                        "thinned: the compiled modules are of two builds. Install thinned again.");
        return nullptr;
    }
    entry = found;
    noise_elsewhere = Py_NewRef(args[1]);
    dropout_elsewhere = Py_NewRef(args[2]);
    Py_RETURN_NONE;
}

// overlook(kinds): for tests, which see that each kind of holder counts.
PyObject* overlook(PyObject*, PyObject* kinds) {
    const unsigned long bits = PyLong_AsUnsignedLong(kinds);
    if (PyErr_Occurred()) return nullptr;
    overlooked = static_cast<unsigned>(bits);
    Py_RETURN_NONE;
}

// ------------------------------------------------------------------------------------ compiled programs

// thinned::drop, below autograd: what thinned::dropout becomes in a compiled program, which runs it
// without a step through Python. seed: int64, 0-d. No strides stand for those of x's own C order.
Tensor drop(const Tensor& x, const Tensor& seed, std::int64_t threshold, double scale,
            at::IntArrayRef strides) {
    if (has_tangent(x)) {
        // Forward mode runs through a compiled program. Its derivative is that of thinned::dropout.
        static const auto dropout =
            c10::Dispatcher::singleton()
                .findSchemaOrThrow("thinned::dropout", "")
                .typed<Tensor(const Tensor&, const Tensor&, std::int64_t, double, c10::SymIntArrayRef)>();
        return dropout.call(x, seed, threshold, scale, c10::fromIntArrayRefSlow(strides));
    }
    if (!is_plain(x) || !seed.is_cpu()) {
        return by_python(dropout_elsewhere, x, seed, threshold, scale, strides);
    }
    How how;
    how.scale = scale;
    how.stream.seed = static_cast<std::uint64_t>(*seed.const_data_ptr<std::int64_t>());
    how.stream.threshold = static_cast<std::uint64_t>(threshold);
    how.strides.assign(strides.begin(), strides.end());
    return made(x, how);
}

// thinned::seed: the place is for compilers, who merge what is equal, and so is the device, by which they
// find the generator whose state a recompute goes back to: the CPU, always.
Tensor seed(std::int64_t, std::optional<at::Device>) {
    Tensor word = at::detail::empty_cpu({}, at::kLong);
    *word.mutable_data_ptr<std::int64_t>() = static_cast<std::int64_t>(drawn_seed());
    return word;
}

TORCH_LIBRARY_IMPL(thinned, BackendSelect, m) { m.impl("seed", &seed); }
TORCH_LIBRARY_IMPL(thinned, CPU, m) { m.impl("drop", &drop); }
TORCH_LIBRARY_IMPL(thinned, AutogradCPU, m) { m.impl("drop", torch::CppFunction::makeFallthrough()); }

PyMethodDef methods[] = {
    {"connect", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&connect)),
     METH_FASTCALL, nullptr},
    {"dropout", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&dropout)),
     METH_FASTCALL, nullptr},
    {"noise", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&noise)), METH_FASTCALL,
     nullptr},
    {"fresh_seed", &fresh_seed, METH_NOARGS, nullptr},
    {"overlook", &overlook, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_torch",
                          "Noise on PyTorch's plain tensors, compiled: see native/pytorch.", 0,
                          methods, slots, nullptr, nullptr, nullptr};

}  // namespace

#define THINNED_INIT_OF(name) PyInit_##name
#define THINNED_INIT(name) THINNED_INIT_OF(name)
PyMODINIT_FUNC THINNED_INIT(THINNED_TORCH_NAME)() { return PyModuleDef_Init(&definition); }
