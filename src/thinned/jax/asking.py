"""A function, or a model of NNX, Linen or Equinox, as a function of its arguments and of the
address of a thinned network: what members are asked of."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from thinned.address import Address
from thinned.checks import message
from thinned.jax.awake import Row, being_asked
from thinned.jax.given import Given
from thinned.methods.made import Report

__all__ = ["Asking", "asking_of", "awoken_equinox", "awoken_nnx", "is_jax_model", "kind_of"]


class Asking(NamedTuple):
    """call : function of (positional arguments, keywords, address, Row or None). alone : whether it
    takes a sample, without a batch axis. not_reached : what may be dropout and is not woken.
    is_thin : whether networks compute the units alone that they keep."""

    call: Callable[[tuple[Any, ...], dict[str, Any], Address, Row | None], Any]
    alone: bool = False
    not_reached: tuple[str, ...] = ()
    is_thin: bool = False


def kind_of(model: Any) -> str:
    """Whose the model is: "nnx", "linen", "equinox", "function", or ""."""
    if "flax" in sys.modules:
        from flax import linen, nnx

        from thinned.jax.linen import Adopted

        if isinstance(model, nnx.Module):
            return "nnx"
        if isinstance(model, (linen.Module, Adopted)):
            return "linen"
    if "equinox" in sys.modules:
        import equinox as eqx

        if isinstance(model, eqx.Module):
            return "equinox"
    if "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        return ""
    # Functions, what jax.jit and functools.partial make of them, and objects with a call.
    return "function" if callable(model) and not isinstance(model, type) else ""


def is_jax_model(model: Any) -> bool:
    """Whether it is a model of a library of JAX's, or a function."""
    return bool(kind_of(model))


def asking_of(who: str, model: Any, execution: str = "auto", given: Given | None = None) -> Asking:
    """A model, or a function of (x, address), as what a question is put to. The model is not
    touched: what needs a change is a copy around the same arrays.

    execution : "auto" as the model is; "thin", its networks compute the units alone that they keep;
        "elementwise", they compute all of them. given : its arguments, needed for "thin".

    Raises
    ------
    TypeError if it is none. ValueError if it holds nothing that can be woken, or cannot run thin.
    """
    kind = kind_of(model)
    if execution == "thin" and kind in ("linen", "function"):
        remedy = "thinned.jax.thin_mlp is a function whose networks are."
        got = "a function" if kind == "function" else f"a Linen {type(model).__name__}"
        requirement = "one of Flax NNX or Equinox for execution='thin'"
        raise ValueError(message(who, "model", requirement, got, remedy))
    if kind == "nnx":
        return _of_nnx(who, model, execution, given)
    if kind == "linen":
        return _of_linen(who, model)
    if kind == "equinox":
        return _of_equinox(who, model, execution, given)
    if kind == "function":
        return Asking(lambda args, kwargs, at, row: _of_function(model, args, kwargs, at))
    requirement = "a function of (x, address), or a model of Flax or Equinox"
    raise TypeError(message(who, "model", requirement, type(model).__name__))


def _of_function(function: Any, args: Any, kwargs: Any, at: Address) -> Any:
    return function(**kwargs, at=at) if kwargs else function(*args, at)


def _missed(report: Report) -> tuple[str, ...]:
    return tuple(f"{row.site or 'the model itself'}: {row.done}" for row in report.not_reached)


def awoken_nnx(
    who: str, model: Any, execution: str = "auto", given: Given | None = None
) -> tuple[Any, Callable[[Any, Address], None]]:
    """A copy of an NNX model around the same arrays, adopted and otherwise as in evaluation; and a
    function that sets the clocks of it, or of its merged parts, to an address.

    execution, given : as in `asking_of`. ValueError if it holds nothing that can be woken, or
    cannot run thin.
    """
    from flax import nnx

    from thinned.jax.nnx.adoption import adopt, release
    from thinned.jax.nnx.clock import Calls, Clock, clocks_in
    from thinned.jax.nnx.thin_layers import Scoped
    from thinned.jax.nnx.thinning import thin_adopted

    twin = nnx.clone(model)
    twin.eval()
    is_thin = isinstance(twin, Scoped)
    if execution == "elementwise" and is_thin:
        release(twin)
    if not clocks_in(twin):
        try:
            adopt(twin)
        except ValueError as error:
            raise _equal(who, error) from None

    if execution == "thin" and given is not None and not is_thin:
        thin_adopted(who, twin, *given.called_with(given.arrays))

    def begin(network: Any, at: Address) -> None:
        for _, node in nnx.iter_graph(network):
            if isinstance(node, Clock):
                node.begin(at)
            elif isinstance(node, Calls):
                node.begin()

    return twin, begin


def _of_nnx(who: str, model: Any, execution: str, given: Given | None) -> Asking:
    from flax import nnx

    from thinned.jax.nnx.adoption import rows_missed
    from thinned.jax.nnx.clock import clocks_in
    from thinned.jax.nnx.thin_layers import Scoped

    twin, begin = awoken_nnx(who, model, execution, given)
    step = np.asarray(clocks_in(twin)[0].step).reshape(-1)[0]  # schedules go on from there
    graph, state = nnx.split(twin)

    def call(args: Any, kwargs: Any, at: Address, row: Row | None) -> Any:
        # Variables of this program's own, which may change in it.
        network = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
        begin(network, at)
        with being_asked(at, step=step):
            return network(*args, **kwargs)

    is_thin = isinstance(twin, Scoped)
    return Asking(call, not_reached=_missed(Report(rows_missed(twin))), is_thin=is_thin)


def _of_linen(who: str, model: Any) -> Asking:
    from thinned.jax.linen import Adopted, adopt

    bound = model.model if isinstance(model, Adopted) else model
    if bound.scope is None:
        remedy = "Pass model.bind(variables)."
        raise ValueError(message(who, "model", "a Linen module with its variables", "one", remedy))
    module, variables = bound.unbind()
    adopted = model if isinstance(model, Adopted) else adopt(module)

    def call(args: Any, kwargs: Any, at: Address, row: Row | None) -> Any:
        with being_asked(at):
            return Adopted(module, adopted.separator).apply(variables, *args, at=at, **kwargs)

    return Asking(call)


def awoken_equinox(
    who: str, model: Any, execution: str = "auto", given: Given | None = None
) -> tuple[Any, Report]:
    """An Equinox model, adopted and otherwise as in inference, and what adopting it reported.

    execution, given : as in `asking_of`. ValueError if it holds nothing that can be woken, or
    cannot run thin.
    """
    import equinox as eqx

    from thinned.jax.equinox import adopt
    from thinned.jax.thin_equinox import Thin, thin_adopted, whole_of

    if execution == "elementwise" and isinstance(model, Thin):
        model = whole_of(model)
    try:
        twin, report = adopt(model)
    except ValueError as error:
        raise _equal(who, error) from None
    if execution == "thin" and given is not None and not isinstance(model, Thin):
        row = tuple(array[0] for array in given.arrays)
        twin, report = thin_adopted(who, twin, *given.called_with(row), report)
    return eqx.nn.inference_mode(twin), report


def _of_equinox(who: str, model: Any, execution: str, given: Given | None) -> Asking:
    from thinned.jax.thin_equinox import Thin

    twin, report = awoken_equinox(who, model, execution, given)
    try:
        takes_key = "key" in inspect.signature(type(twin).__call__).parameters
    except (TypeError, ValueError):
        takes_key = False

    def call(args: Any, kwargs: Any, at: Address, row: Row | None) -> Any:
        if takes_key:
            kwargs = {"key": jax.random.key(0), **kwargs}
        with being_asked(at, row):
            return twin(*args, **kwargs)

    is_thin = isinstance(twin, Thin)
    return Asking(call, alone=True, not_reached=_missed(report), is_thin=is_thin)


def _equal(who: str, error: ValueError) -> ValueError:
    told = str(error).removeprefix("adopt: ")
    return ValueError(f"{who}: all members would be equal: {told}")
