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
from thinned.methods.made import Report

__all__ = ["Asking", "asking_of", "awoken_equinox", "awoken_nnx", "is_jax_model", "kind_of"]


class Asking(NamedTuple):
    """call : function of (positional arguments, keywords, address, Row or None). alone : whether it
    takes a sample, without a batch axis. not_reached : what may be dropout and is not woken."""

    call: Callable[[tuple[Any, ...], dict[str, Any], Address, Row | None], Any]
    alone: bool = False
    not_reached: tuple[str, ...] = ()


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


def asking_of(who: str, model: Any) -> Asking:
    """A model, or a function of (x, address), as what a question is put to. The model is not
    touched: what needs a change is a copy around the same arrays.

    Raises
    ------
    TypeError if it is none. ValueError if it holds nothing that can be woken.
    """
    kind = kind_of(model)
    if kind == "nnx":
        return _of_nnx(who, model)
    if kind == "linen":
        return _of_linen(who, model)
    if kind == "equinox":
        return _of_equinox(who, model)
    if kind == "function":
        return Asking(lambda args, kwargs, at, row: _of_function(model, args, kwargs, at))
    requirement = "a function of (x, address), or a model of Flax or Equinox"
    raise TypeError(message(who, "model", requirement, type(model).__name__))


def _of_function(function: Any, args: Any, kwargs: Any, at: Address) -> Any:
    return function(**kwargs, at=at) if kwargs else function(*args, at)


def _missed(report: Report) -> tuple[str, ...]:
    return tuple(f"{row.site or 'the model itself'}: {row.done}" for row in report.not_reached)


def awoken_nnx(who: str, model: Any) -> tuple[Any, Callable[[Any, Address], None]]:
    """A copy of an NNX model around the same arrays, adopted and otherwise as in evaluation; and a
    function that sets the clocks of it, or of its merged parts, to an address.

    ValueError if it holds nothing that can be woken.
    """
    from flax import nnx

    from thinned.jax.nnx.adoption import adopt
    from thinned.jax.nnx.clock import Calls, Clock, clocks_in

    twin = nnx.clone(model)
    twin.eval()
    if not clocks_in(twin):
        try:
            adopt(twin)
        except ValueError as error:
            raise _equal(who, error) from None

    def begin(network: Any, at: Address) -> None:
        for _, node in nnx.iter_graph(network):
            if isinstance(node, Clock):
                node.begin(at)
            elif isinstance(node, Calls):
                node.begin()

    return twin, begin


def _of_nnx(who: str, model: Any) -> Asking:
    from flax import nnx

    from thinned.jax.nnx.adoption import rows_missed
    from thinned.jax.nnx.clock import clocks_in

    twin, begin = awoken_nnx(who, model)
    step = np.asarray(clocks_in(twin)[0].step).reshape(-1)[0]  # schedules go on from there
    graph, state = nnx.split(twin)

    def call(args: Any, kwargs: Any, at: Address, row: Row | None) -> Any:
        # Variables of this program's own, which may change in it.
        network = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
        begin(network, at)
        with being_asked(at, step=step):
            return network(*args, **kwargs)

    return Asking(call, not_reached=_missed(Report(rows_missed(twin))))


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


def awoken_equinox(who: str, model: Any) -> tuple[Any, Report]:
    """An Equinox model, adopted and otherwise as in inference, and what adopting it reported.

    ValueError if it holds nothing that can be woken.
    """
    import equinox as eqx

    from thinned.jax.equinox import adopt

    try:
        twin, report = adopt(model)
    except ValueError as error:
        raise _equal(who, error) from None
    return eqx.nn.inference_mode(twin), report


def _of_equinox(who: str, model: Any) -> Asking:
    twin, report = awoken_equinox(who, model)
    try:
        takes_key = "key" in inspect.signature(type(model).__call__).parameters
    except (TypeError, ValueError):
        takes_key = False

    def call(args: Any, kwargs: Any, at: Address, row: Row | None) -> Any:
        if takes_key:
            kwargs = {"key": jax.random.key(0), **kwargs}
        with being_asked(at, row):
            return twin(*args, **kwargs)

    return Asking(call, alone=True, not_reached=_missed(report))


def _equal(who: str, error: ValueError) -> ValueError:
    told = str(error).removeprefix("adopt: ")
    return ValueError(f"{who}: all members would be equal: {told}")
