"""Where a model can run thin: a layer, elementwise operations, dropout, such operations, a layer.

The model is traced once, with its layers and dropout marked by a primitive that does nothing; what
lies between the marks is read off the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import ad as _ad, batching

__all__ = ["Found", "Looked", "is_looking", "marked", "regions_of", "row_of"]

ad: Any = _ad  # which is typed in part


class Found(NamedTuple):
    """The names of a layer, of the dropout of its units, and of the layer that takes them."""

    producer: str
    dropout: str
    consumer: str


class Looked(NamedTuple):
    """The regions of a program, and of every other dropout that it calls why it is in none."""

    regions: tuple[Found, ...]
    reasons: dict[str, str]


_looking: ContextVar[bool] = ContextVar("looking", default=False)


def is_looking() -> bool:
    """Whether a model is being traced for its regions: layers then mark what they take and give."""
    return _looking.get()


@contextmanager
def _marks() -> Iterator[None]:
    before = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(before)


# ------------------------------------------------------------------------------------------- marks

mark_p: Any = core.Primitive("thinned_mark")


def marked(x: Any, name: str, kind: str, is_input: bool, told: tuple[str, ...] = ()) -> Any:
    """x itself. kind : "layer" or "dropout", of which it is the input or the output. told : the
    arguments by which a call of dropout said how to draw."""
    return mark_p.bind(jnp.asarray(x), name=name, kind=kind, is_input=is_input, told=told)


@mark_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(x: Any, **how: Any) -> Any:
    return x


def _batched(args: Any, axes: Any, **how: Any) -> tuple[Any, int]:
    # In front: the units stay the last axis.
    return mark_p.bind(jnp.moveaxis(args[0], axes[0], 0), **how), 0


def _jvp(primals: Any, tangents: Any, **how: Any) -> tuple[Any, Any]:
    return mark_p.bind(*primals, **how), tangents[0]


batching.primitive_batchers[mark_p] = _batched
ad.primitive_jvps[mark_p] = _jvp


# -------------------------------------------------------------------------------------- operations

# Each element of the result by the elements at its place. Without those that draw or count.
_ELEMENTWISE = {
    lax.abs_p, lax.add_p, lax.and_p, lax.atan2_p, lax.ceil_p, lax.clamp_p,
    lax.convert_element_type_p, lax.cos_p, lax.cosh_p, lax.div_p, lax.eq_p, lax.erf_p,
    lax.erf_inv_p, lax.erfc_p, lax.exp_p,
    lax.exp2_p, lax.expm1_p, lax.floor_p, lax.ge_p, lax.gt_p, lax.integer_pow_p, lax.is_finite_p,
    lax.le_p, lax.log1p_p, lax.log_p, lax.logistic_p, lax.lt_p, lax.max_p, lax.min_p, lax.mul_p,
    lax.ne_p, lax.neg_p, lax.not_p, lax.or_p, lax.pow_p, lax.round_p, lax.rsqrt_p, lax.select_n_p,
    lax.sign_p, lax.sin_p, lax.sinh_p, lax.sqrt_p, lax.square_p, lax.sub_p, lax.tan_p, lax.tanh_p,
    lax.xor_p,
}  # fmt: skip


def _programs_in(equation: Any) -> list[Any]:
    """The programs that an equation runs."""
    found = []
    for value in equation.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                found.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr):
                found.append(one)
    return found


def _is_elementwise(equation: Any) -> bool:
    """Whether it is such an operation, or a function that consists of such: jax.nn.relu, say."""
    if equation.primitive in _ELEMENTWISE:
        return True
    inner = _programs_in(equation)
    if not inner or mark_p in {e.primitive for program in inner for e in program.eqns}:
        return False
    # What is run once, on what the equation takes: a loop takes counts besides.
    program = inner[0]
    fits = len(program.invars) == len(equation.invars) and _shapes(program.invars) == _shapes(
        equation.invars
    )
    return fits and all(_is_elementwise(e) or _is_of_no_array(e) for e in program.eqns)


def _shape(value: Any) -> Any:
    return value.aval.shape


def _shapes(values: Any) -> list[Any]:
    return [_shape(value) for value in values]


def _is_of_no_array(equation: Any) -> bool:
    """Whether it makes an array of numbers alone, as jnp.zeros_like does."""
    return all(not _shape(v) for v in equation.invars) and (
        equation.primitive is lax.broadcast_in_dim_p
    )


# ----------------------------------------------------------------------------------------- looking


def regions_of(call: Callable[..., Any], *arguments: Any) -> Looked:
    """The regions of what a function computes. arguments : trees of arrays, or of their shapes and
    types. Whatever its code raises is passed on."""
    with _marks():
        program = jax.make_jaxpr(call)(*arguments)
    names = [mark for mark, _ in _marks_in(program.jaxpr)]
    looked = Looked((), {})
    for jaxpr in _every(program.jaxpr):
        found, reasons = _Search(jaxpr, names).search()
        looked = Looked((*looked.regions, *found), {**looked.reasons, **reasons})
    return looked


def row_of(*shape: int) -> Any:
    """What stands for an array of binary32 of this shape, in place of a model's own input."""
    kind: Any = jax.ShapeDtypeStruct  # JAX: no types
    return kind(shape, jnp.float32)


def _every(jaxpr: Any) -> Iterator[Any]:
    yield jaxpr
    for equation in jaxpr.eqns:
        for inner in _programs_in(equation):
            yield from _every(inner)


def _marks_in(jaxpr: Any) -> Iterator[tuple[tuple[str, bool], Any]]:
    for program in _every(jaxpr):
        for equation in program.eqns:
            if equation.primitive is mark_p:
                yield (equation.params["name"], equation.params["is_input"]), equation


class _Search:
    """In one program, without those that it runs."""

    def __init__(self, jaxpr: Any, names: list[tuple[str, bool]]) -> None:
        self.jaxpr, self.names = jaxpr, names
        self.users: dict[Any, list[Any]] = {}
        self.maker: dict[Any, Any] = {}
        for equation in jaxpr.eqns:
            for value in equation.invars:
                if isinstance(value, core.Var):
                    self.users.setdefault(value, []).append(equation)
            self.maker.update(dict.fromkeys(equation.outvars, equation))
        self.results = {value for value in jaxpr.outvars if isinstance(value, core.Var)}

    def search(self) -> tuple[list[Found], dict[str, str]]:
        found: list[Found] = []
        reasons: dict[str, str] = {}
        drops = [e for e in self.jaxpr.eqns if _is_mark(e, "dropout", True)]
        for equation in drops:
            region = self.region(equation)
            if isinstance(region, str):
                reasons[equation.params["name"]] = region
            else:
                found.append(region)
        return found, reasons

    def region(self, drop: Any) -> Found | str:
        name, told = drop.params["name"], drop.params["told"]
        if told:
            return f"its call has {told[0]}=, which the layer before it is not told"
        producers = self.before(drop)
        if isinstance(producers, str):
            return producers
        producer = producers.params["name"]
        (passed,) = drop.outvars
        out = next(e for e in self.users[passed] if _is_mark(e, "dropout", False))
        way = self.behind(producers.outvars[0], drop)
        if isinstance(way, str):
            return way
        onward = self.behind(out.outvars[0], None)
        if isinstance(onward, str):
            return onward
        equations, consumer = onward
        if not _keeps_zero(self.jaxpr, out.outvars[0], equations, consumer.invars[0]):
            return "what lies behind it does not keep 0, or takes numbers that are not known here"
        taken = consumer.params["name"]
        for one in (producer, name, taken):
            if self.names.count((one, True)) > 1:
                return f"{one!r} is called more than once"
        return Found(producer, name, taken)

    def before(self, drop: Any) -> Any:
        """The mark of the layer that a dropout's input comes from."""
        todo, seen = list(drop.invars), set()
        layers = []
        while todo:
            value = todo.pop()
            if not isinstance(value, core.Var) or value in seen or not _shape(value):
                continue
            seen.add(value)
            equation = self.maker.get(value)
            if equation is None:
                return "its input does not come from one layer alone"
            if _is_mark(equation, "layer", False):
                layers.append(equation)
            elif _is_mark(equation, "dropout", False):
                return "another dropout lies before it"
            elif _is_elementwise(equation):
                todo.extend(equation.invars)
            elif not _is_of_no_array(equation):
                return f"{_called(equation)} lies before it, which is not elementwise"
        if len(layers) != 1:
            return "its input does not come from one layer alone"
        return layers[0]

    def behind(self, value: Any, end: Any) -> Any:
        """The equations that a thin array goes through, and the mark that it comes to: `end`, or
        else the input of a layer. Or what stands in the way."""
        thin, passed, todo, ends = {value}, [], [value], []
        while todo:
            one = todo.pop()
            if one in self.results:
                return "no layer lies between it and the result of the code that calls it"
            for equation in self.users.get(one, ()):
                if equation is end or (end is None and _is_mark(equation, "layer", True)):
                    ends.append(equation)
                elif _is_mark(equation, "dropout", True):
                    return "another dropout lies behind it"
                elif not _is_elementwise(equation):
                    return f"{_called(equation)} lies between, which is not elementwise"
                elif equation not in passed:
                    passed.append(equation)
                    thin.update(equation.outvars)
                    todo.extend(equation.outvars)
        for equation in passed:
            for other in equation.invars:
                if isinstance(other, core.Var) and other not in thin and _shape(other):
                    made = self.maker.get(other)
                    if made is None or not _is_of_no_array(made):
                        return "it meets an array that does not come from the same units"
        if len(set(map(id, ends))) != 1:
            return "it goes to several layers, or to none"
        order = {id(equation): i for i, equation in enumerate(self.jaxpr.eqns)}
        return sorted(passed, key=lambda e: order[id(e)]), ends[0]


def _called(equation: Any) -> str:
    """The operation's name, or that of the function that it runs."""
    return str(equation.params.get("name") or equation.primitive.name)


def _is_mark(equation: Any, kind: str, is_input: bool) -> bool:
    how = equation.params
    return equation.primitive is mark_p and how["kind"] == kind and how["is_input"] is is_input


def _keeps_zero(whole: Any, start: Any, equations: list[Any], end: Any) -> bool:
    """Whether these operations of a program make zeros of zeros."""
    known = {start}
    for equation in equations:
        if any(isinstance(value, core.Var) and value not in known for value in equation.invars):
            return False
        known.update(equation.outvars)
    told = whole.debug_info._replace(arg_names=("x",), result_paths=("y",))
    part = {"constvars": [], "invars": [start], "outvars": [end], "eqns": equations}
    program = whole.replace(**part, debug_info=told)
    run: Any = core.jaxpr_as_fun(core.ClosedJaxpr(program, []))
    with jax.ensure_compile_time_eval():
        (out,) = run(jnp.zeros(start.aval.shape, start.aval.dtype))
        return bool(jnp.all(out == 0))
