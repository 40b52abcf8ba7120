"""What a model returned: which tensor, or array of JAX's, is the answer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message

__all__ = ["answers_of", "in_binary64", "numbers_of"]

WHO = "predict"


def answers_of(result: Any, rows: int, task: str | None) -> Any:
    """The tensor or array that is the answer, of two of them for task="mean_variance" a pair.

    Of a result with names that is "logits", or else the only floating tensor with a row for each
    row of the batch.

    Raises
    ------
    TypeError if there is no such tensor, or several. ValueError if it has not as many rows.
    """
    if task == "mean_variance":
        return _pair(result, rows)
    return _array(_answer(result, rows), rows)


def numbers_of(answers: Any) -> Any:
    """The same in binary64."""
    return tuple(map(in_binary64, answers)) if isinstance(answers, tuple) else in_binary64(answers)


def in_binary64(array: Any) -> NDArray[np.float64]:
    """A tensor's or array's numbers: a copy, since a model may write into what it returned."""
    if hasattr(array, "detach"):
        array = array.detach().to("cpu", copy=True).double().numpy()
    return np.asarray(array, np.float64)


def _is_array(value: Any) -> bool:
    kinds = [("torch", "Tensor"), ("jax", "Array")]
    loaded = [getattr(sys.modules[room], name) for room, name in kinds if room in sys.modules]
    return isinstance(value, tuple(loaded))


def _is_floating(array: Any) -> bool:
    if hasattr(array, "is_floating_point"):
        return bool(array.is_floating_point())
    import jax.numpy as jnp

    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _pair(result: Any, rows: int) -> Any:
    """What "mean_variance" asks for; what is none is looked at where it is taken apart."""
    if isinstance(result, (tuple, list)):
        return tuple(_array(_answer(part, rows), rows) for part in result)
    named = _named(result)
    if named is not None:
        return tuple(_array(tensor, rows) for tensor in _with_rows(named, rows).values())
    return _array(result, rows)


def _answer(result: Any, rows: int) -> Any:
    named = _named(result)
    if named is None:
        return result
    found = _with_rows(named, rows)
    if _is_array(named.get("logits")):
        return named["logits"]
    if len(found) == 1:
        return next(iter(found.values()))
    kind = type(result).__name__
    if found:
        several = ", ".join(f"{name} {tuple(t.shape)}" for name, t in found.items())
        first = next(iter(found))
        got = f"several in a {kind}: {several}"
        remedy = f"Pass output=lambda y: y[{first!r}]" if isinstance(result, Mapping) else ""
        remedy = remedy or f"Pass output=lambda y: y.{first}"
    else:
        listed = ", ".join(map(str, named)) or "nothing"
        got = f"a {kind} of {listed}"
        remedy = "Pass output=, a function that takes it from there"
    requirement = "a tensor, or one floating tensor of it with a row for each row of x"
    raise TypeError(message(WHO, "the model's result", requirement, got, f"{remedy}."))


def _named(result: Any) -> Mapping[str, Any] | None:
    """The parts of a result by their names; None where it has none."""
    if isinstance(result, Mapping):
        return result
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return dict(zip(result._fields, result, strict=True))
    return None


def _with_rows(named: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The floating tensors that have a row for each: a loss has none."""
    tensors = {k: v for k, v in named.items() if _is_array(v)}
    floating = {k: v for k, v in tensors.items() if _is_floating(v) and v.ndim}
    return {k: v for k, v in floating.items() if len(v) == rows}


def _array(result: Any, rows: int) -> Any:
    if not _is_array(result):
        remedy = "Pass output=, a function that takes it from there."
        got = type(result).__name__
        raise TypeError(message(WHO, "the model's result", "a tensor", got, remedy))
    if result.ndim == 0 or len(result) != rows:
        got = f"shape {tuple(result.shape)}"
        raise ValueError(message(WHO, "the model's result", f"of {rows} rows, as x", got))
    return result
