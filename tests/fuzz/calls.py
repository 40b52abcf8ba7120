"""One call: how it is made, and judged.

A call is a public name and an expression for each argument. `judge` makes it on each backend and
says what is wrong, or None: any answer but the right value or one of our sentences.
"""

import json
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

import thinned
from thinned.kernel import use_kernel

from . import expected
from .inputs import FLOATS, FREE, TAKEN, WRONG, Namespace
from .sentences import fault, raised_by_a_model, text_of
from .surface import BACKENDS, modules, parameters, rows, surface

# Arguments of PyTorch's own, handed to it as they are: it refuses in its words what is wrong there.
HANDED_ON = (
    *("batch_first", "bias", "bidirectional", "device", "dtype", "inplace"),
    *("in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride"),
    *("padding", "dilation", "groups"),
)
# Modules that are written by hand, and what they take.
FORWARD = {
    "thinned.torch.GRU": "x((5, 2, module.input_size))",
    "thinned.torch.LSTM": "x((5, 2, module.input_size))",
    "thinned.torch.AlphaDropout": "x((2, 3))",
    "thinned.torch.ConcreteDropout": "x((2, 3))",
    "thinned.torch.DropConnectLinear": "x((2, module.in_features))",
    "thinned.torch.DropEdge": "x((2, 5), 'int64')",
    "thinned.torch.DropGrad": "x((2, 3))",
    "thinned.torch.Dropout": "x((2, 3))",
    "thinned.torch.Dropout1d": "x((2, 3, 4))",
    "thinned.torch.Dropout2d": "x((2, 3, 4, 2))",
    "thinned.torch.Dropout3d": "x((2, 2, 2, 2, 2))",
    "thinned.torch.EmbeddingDropout": "x((2, 3), 'int64')",
    "thinned.torch.FeatureAlphaDropout": "x((2, 3, 4))",
    "thinned.torch.HardConcrete": "x((4, 4, 4, 4))",
    "thinned.torch.L0Linear": "x((2, module.in_features))",
    "thinned.torch.LayerDrop": "x((2, 3))",
    "thinned.torch.LoRALinear": "x((2, 3))",
    "thinned.torch.Masksembles": "x((4, 4))",
    "thinned.torch.SparseVariationalConv2d": "x((2, module.weight.shape[1], 3, 3))",
    "thinned.torch.SparseVariationalLinear": "x((2, module.in_features))",
    "thinned.torch.VariationalLinear": "x((2, module.in_features))",
}
# They run a model of the caller's on inputs of the caller's, and pass on what it raises.
RUN_A_MODEL = (
    "thinned.torch.audit",
    "thinned.members.predict",
    "thinned.members.sequence_members",
    "thinned.testing.assert_deterministic_eval",
)
# A type in the place of a caller's function raises in its own words, and has no line of its own.
CALLED = ("activation", "fn", "function", "layer", "loss", "output", "outputs", "progress")
CALLED += ("score",)
TYPES = ("float", "type")
ESTIMATORS = ("thinned.DropoutMLPClassifier", "thinned.DropoutMLPRegressor")
# Backends agree to the bit but where the spec lets libraries differ, or sums stand in their order.
_LOOSE = 3e-5
# Products of matrices, rounded one after the other.
_PRODUCTS = {"thinned.lora_dropout", "thinned.sparse_lora_dropout"}


class DiffersError(Exception):
    """Two answers that should be one."""


class UnbuildableError(Exception):
    """An argument that some library cannot make: no call was made."""


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[tuple[str, str], ...]

    def __str__(self):
        how = ", ".join(e if n[0] == "*" else f"{n}={e}" for n, e in self.arguments)
        return f"{self.function}({how})"

    def line(self):
        return json.dumps({"function": self.function, "arguments": dict(self.arguments)})

    @classmethod
    def read(cls, line):
        found = json.loads(line)
        return cls(found["function"], tuple(found["arguments"].items()))


# -------------------------------------------------------------------------------------------- made


@dataclass(frozen=True)
class Answer:
    """What a call gave: a value; or what it raised, and why that is no sentence of ours."""

    value: object = None
    error: BaseException | None = None
    fault: str | None = None

    def __str__(self):
        if self.error is None:
            return f"gives {shown(self.value)}"
        return f"{type(self.error).__name__}: {text_of(self.error)[:300]}"


def shown(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "..."


def backends(function):
    """Where a function runs, of what is installed."""
    return tuple(backend for backend in _backends(function) if backend in BACKENDS)


def _backends(function):
    """Those of the catalogue on every array; a room's in its library."""
    if function.startswith("thinned.torch") or function in (
        "thinned.members.predict",
        "thinned.members.sequence_members",
        "thinned.testing.assert_deterministic_eval",
    ):
        return ("torch",)
    if function.startswith("thinned.jax"):
        return ("jax",)
    own = parameters(function)
    arrays = {"x", "w", "edges", "outputs", "log_alpha", "like", "mean"} & set(own)
    catalogue = function in rows() or function.rpartition(".")[0] == "thinned"
    return ("numpy", "torch", "jax") if arrays and catalogue else ("numpy",)


def built(call, backend):
    """The arguments' values. UnbuildableError where a library refuses its own."""
    space, found = Namespace(backend), {}
    for name, expression in call.arguments:
        try:
            found[name] = _eval(expression, space)
        except Exception as error:
            if fault(error) is None:
                raise
            raise UnbuildableError(f"{expression}: {error}") from error
    return found


@lru_cache(maxsize=4096)
def _compiled(expression):
    return compile(expression, expression, "eval")


def _eval(expression, space):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(_compiled(expression), space)


def answer(call, arguments, backend):
    """What the call gives. Exceptions that end the process are not caught."""
    positional, named = _placed(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = surface()[call.function](*positional, **named)
            return Answer(_completed(call.function, value, backend))
        except (Exception, RecursionError) as error:
            own = call.function in RUN_A_MODEL and raised_by_a_model(error)
            own |= any(n in CALLED and e in TYPES for n, e in call.arguments)
            return Answer(None, error, None if own else fault(error))


def _placed(arguments):
    """(by place, by name): what stands before `*arrays` goes by its place, as they do."""
    star = next((place for place, n in enumerate(arguments) if n[0] == "*"), None)
    if star is None:
        return (), arguments
    values = list(arguments.values())
    return (*values[:star], *values[star]), dict(list(arguments.items())[star + 1 :])


def _completed(function, value, backend):
    """Of a module what it makes of its input, of an estimator its answers, of an iterator all."""
    space = Namespace(backend)
    if function in modules():
        sample = modules()[function].sample
        count = len(sample.inputs()) if sample else 0
        arrays = (space.given(modules()[function].where, place) for place in range(count))
        return space["ran"](value, *arrays)
    if function in FORWARD:
        space["module"] = value
        return space["ran"](value, _eval(FORWARD[function], space))
    if function in ESTIMATORS:
        return space["fitted"](value)
    return list(value) if function == "thinned.numpy.batches" else value


# ------------------------------------------------------------------------------------------ judged


def as_numpy(value):
    """An array of any library as NumPy's, in binary64 where its type is floating."""
    if type(value).__module__.startswith("torch") or hasattr(value, "detach"):
        import torch

        value = value.detach()
        if value.is_floating_point():
            value = value.to(torch.float64)
        return value.cpu().numpy()
    value = np.asarray(value)
    floating = value.dtype.kind == "f" or value.dtype.name == "bfloat16"
    return value.astype(np.float64) if floating else value


def is_array(value):
    """Whether it is one whose values can be read: not on the meta device, nested or sparse."""
    try:
        there = hasattr(value, "shape") and hasattr(value, "dtype")
        dense = str(getattr(value, "layout", "torch.strided")) == "torch.strided"
        return there and dense and not getattr(value, "is_meta", False)
    except RuntimeError:
        return False


def same(first, second, tolerance=0.0, within=frozenset()):
    """Whether two answers are one: arrays element by element, NaN equal to NaN.

    within : the pairs of lists that hold these two, by their ids. A list that holds itself meets
        its own pair again, which says nothing new.
    """
    if isinstance(first, (tuple, list)) and isinstance(second, (tuple, list)):
        pair = (id(first), id(second))
        if pair in within:
            return True
        pairs, within = zip(first, second, strict=False), within | {pair}
        return len(first) == len(second) and all(same(a, b, tolerance, within) for a, b in pairs)
    if not (is_array(first) and is_array(second)):
        return is_array(first) == is_array(second)
    a, b = as_numpy(first), as_numpy(second)
    if a.shape != b.shape:
        return False
    if a.dtype.kind == b.dtype.kind == "O":
        return True  # objects that are made anew for each call
    if "float32" in {str(one.dtype).rpartition(".")[2] for one in (first, second)}:
        with np.errstate(over="ignore"):  # JAX has no wider type where x64 is off
            a, b = a.astype(np.float32), b.astype(np.float32)
    if tolerance == 0.0 or a.dtype.kind not in "fc":
        return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    with np.errstate(all="ignore"):
        return np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def tracked(arguments):
    """Copies of the arrays that were given, to see that they were not written to."""
    left = ("out", "model", "module")
    return {n: v.copy() for n, v in arguments.items() if type(v) is np.ndarray and n not in left}


def judge(call, kernel=None, on=None):
    """(what is wrong or None, how many calls were made)."""
    made, answers = 0, {}
    for backend in on or backends(call.function):
        try:
            arguments = built(call, backend)
        except UnbuildableError:
            return None, made
        except Exception:
            continue  # an Address or a Window of ours that its own sentence refuses
        before = tracked(arguments)
        found = answer(call, arguments, backend)
        made += 1
        if found.fault:
            return f"{found.fault}: {backend}: {found}", made
        changed = [n for n, v in before.items() if not _identical(v, arguments[n])]
        if changed:
            return f"input {changed[0]} was changed: {backend}", made
        answers[backend] = found
        wrong = _against(call, backend, arguments, found)
        if wrong:
            return wrong, made
        if backend == "numpy":
            wrong, more = _again(call, found, kernel)
            made += more
            if wrong:
                return wrong, made
    return _across(call, answers), made


def _without_subnormals(values, dtype):
    """XLA's own operations take them for zero, as docs/jax.md says."""
    kind = "float32" if str(dtype) == "bfloat16" else str(dtype)  # of one range
    least = float(np.finfo(kind).tiny) if kind.startswith("float") else 0.0
    return np.where(np.abs(values) < least, 0.0, values)


def _identical(first, second):
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


def _against(call, backend, arguments, found):
    """What the call says by itself: that it refuses, its identities, and the oracle's values."""
    texts = dict(call.arguments)
    usual = parameters(call.function)  # what is left out may also be said
    refused = [
        n
        for n, e in call.arguments
        if e in WRONG.get(n, ()) and e != repr(usual.get(n)) and (call.function, n, e) not in TAKEN
    ]
    if found.error is not None or call.function not in _judged():
        return None
    if refused and f"{call.function}.{refused[0]}" not in FREE and _looked_at(call, refused[0]):
        return f"{refused[0]}={texts[refused[0]]} is answered: {backend}: {found}"
    if _true(arguments.get("inplace", False)) or any("iter(" in e for e in texts.values()):
        arguments = {**arguments, **built(call, backend)}  # as they were before it
    arrays = {n: as_numpy_typed(v) if is_array(v) else v for n, v in arguments.items()}
    x = next((arguments[n] for n in ("x", "w", "input") if is_array(arguments.get(n))), None)
    row = rows().get(call.function)
    if _type_differs(x, arguments, found.value):
        return f"the type is not x's: {backend}: {found}"
    if row is not None and row.sample is not None and x is not None and row.sample.keeps_shape:
        if not is_array(found.value) or tuple(found.value.shape) != tuple(x.shape):
            if not arguments.get("return_indices") and arguments.get("tokens") is None:
                return f"the shape is not x's: {backend}: {found}"
        elif found.value.dtype != x.dtype:
            return f"the type is not x's: {backend}: {found}"
        elif _identity(row, arguments) and not same(found.value, x):
            return f"no identity: {backend}: {found}"
    if any(hasattr(value, "is_meta") for value in arrays.values()):
        return None  # a tensor whose values cannot be read
    told = expected.expected(call.function, arrays)
    if told is None:
        return None
    values, tolerance = told
    y = as_numpy(found.value).reshape(-1).astype(np.float64)
    wanted = np.array(values, np.float64)
    if backend == "jax":
        y, wanted = (_without_subnormals(v, found.value.dtype) for v in (y, wanted))
    if not same(y, wanted, tolerance):
        return f"not the oracle's values {shown(values)}: {backend}: {found}"
    return None


def _true(value):
    """Whether it stands for True, as PyTorch asks of an argument; False where it cannot say."""
    try:
        return bool(value)
    except (ValueError, RuntimeError):
        return False


def _type_differs(x, arguments, y):
    """Whether arrays of one floating type give another: in NumPy too, whose bfloat16 is a guest."""
    given = {str(a.dtype) for a in arguments.values() if is_array(a) and len(a.shape)}
    floating = x is not None and str(x.dtype).rpartition(".")[2] in FLOATS
    return floating and len(given) == 1 and is_array(y) and y.dtype != x.dtype


@lru_cache(None)
def _judged():
    return frozenset(rows()) | {
        "thinned.keep_mask",
        "thinned.packed_mask",
        "thinned.Address",
        "thinned.Window",
        "thinned.torch.functional.dropout",
    }


def _looked_at(call, name):
    """A schedule's p may be None or a number of another meaning; all else is looked at always."""
    return not call.function.startswith("thinned.schedules")


def _identity(row, arguments):
    still = row.sample.evaluation == "identity" and arguments.get("training", True) is False
    p = arguments.get("p", 1.0)
    if arguments.get("training", True) is False:
        return still
    return still or (row.name in _AT_ZERO and isinstance(p, (int, float)) and p == 0)


_AT_ZERO = {"alpha_dropout", "cutout", "drop_block", "drop_head", "feature_alpha_dropout"}
_AT_ZERO |= {"gaussian_dropout", "random_erasing", "stratified_dropout", "uniform_dropout"}
_AT_ZERO |= {"targeted_dropout", "excitation_dropout", "nested_dropout"}


def as_numpy_typed(value):
    """An array of any library as NumPy's, its type kept."""
    if hasattr(value, "detach"):
        import ml_dtypes

        name = str(value.dtype).rpartition(".")[2]
        return as_numpy(value).astype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    return np.asarray(value)


def _again(call, found, kernel):
    """Once more, and with the reference kernel: the same answer."""
    before, made = thinned.kernel_info().name, 0
    for name in dict.fromkeys((before, kernel or "reference")):
        use_kernel(name)
        try:
            second = answer(call, built(call, "numpy"), "numpy")
        finally:
            use_kernel(before)
        made += 1
        if (second.error is None) != (found.error is None):
            return f"{before} {found}; {name} {second}", made
        if found.error is not None or _by_chance(call):
            continue
        # Kernels round Gaussian draws differently, which half precision may show as a last digit.
        tolerance = 0.0 if name == before else _tolerance(call, found.value)
        if not same(found.value, second.value, tolerance):
            return f"{before} {found}; {name} {second}", made
    return None, made


def _by_chance(call):
    """Whether the caller hands over a generator, or leaves an estimator to draw its own seed."""
    seeded = call.function not in ESTIMATORS or "random_state=0" in str(call)
    return "np.random" in str(call) or not seeded


# What only one library has, so that others may answer otherwise.
_OWN = ("np.", "torch.", "jnp.", "jax.", "nn.", "masksembles_bank", "bad(")
# It draws nothing in its forward pass where a library differentiates, and NumPy is given dy.
_APART = ("thinned.drop_bp", "thinned.drop_grad")


def _across(call, answers):
    """One answer on all backends, where the arguments are everywhere the same."""
    texts = " ".join(expression for _, expression in call.arguments)
    alone = call.function in _APART or any(own in texts for own in _OWN)
    if alone or len(answers) < 2:
        return None
    (first, one), *others = answers.items()
    for backend, other in others:
        if (one.error is None) != (other.error is None):
            return f"{first}: {one}; {backend}: {other}"
        if one.error is None and not same(one.value, other.value, _tolerance(call, one.value)):
            return f"{first}: {one}; {backend}: {other}"
    return None


def _tolerance(call, value):
    dtype = getattr(value, "dtype", None)
    name = str(dtype).rpartition(".")[2]
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2}.get(name, _LOOSE)
    return 2 * tolerance if call.function in _PRODUCTS else tolerance
