"""Assertions on dropout for users' own tests: what is wrong, where, and how to mend it.

They raise AssertionError and need no test framework. With pytest there is a fixture besides:
`thinned_audit`, see `thinned.testing_plugin`. Importing this module loads no framework.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering

if TYPE_CHECKING:
    from torch import nn

__all__ = ["assert_deterministic_eval", "assert_expectation_kept", "assert_same_masks"]

_IN_EVALUATION = ("drops in evaluation", "differs in evaluation", "modes left changed")
_WAYS = ("checkpoint", "compile")


@answering
def assert_deterministic_eval(model: nn.Module, inputs: Any) -> None:
    """Assert that a model in evaluation draws nothing and gives equal outputs twice.

    The model may be in any mode, and is afterwards what it was before.

    Parameters
    ----------
    model : torch.nn.Module, or a model of Flax NNX or Equinox.
    inputs : tensor or array, tuple of arguments or dict of keyword arguments.

    Raises
    ------
    AssertionError that names each site, how it shows and the mend. TypeError if model is no module.

    Examples
    --------
    >>> import torch, thinned
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> thinned.testing.assert_deterministic_eval(model, torch.ones(2, 4))
    """
    if _kind_in_jax(model) not in ("", "function"):
        from thinned.jax.asserting import findings_in_evaluation

        wrong = findings_in_evaluation("assert_deterministic_eval", model, inputs)
        _require_none(wrong)
        return
    from thinned.torch.auditing.audit import checked, observed
    from thinned.torch.auditing.rules import findings_of

    model = checked("assert_deterministic_eval", model, inputs)
    found = findings_of(observed(model, inputs, None, 0))
    _require_none([one for one in found if one.kind in _IN_EVALUATION])


def _kind_in_jax(model: Any) -> str:
    """Of which library of JAX's the model is, or "function"; "" where it is of none."""
    if "jax" not in sys.modules:
        return ""
    from thinned.jax.asking import kind_of

    return kind_of(model)


def _require_none(wrong: Iterable[Any]) -> None:
    if wrong:
        raise AssertionError(
            "assert_deterministic_eval: the model is not deterministic in evaluation.\n"
            + "\n".join(_line(one) for one in wrong)
        )


def _line(finding: Any) -> str:
    return f"  {finding.site!r} {finding.kind}: {finding.detail} {finding.mend}"


@answering
def assert_expectation_kept(
    fn: Callable[[Any, Address], Any],
    x: Any,
    *,
    expected: Any = None,
    draws: int = 400,
    tolerance: float = 6.0,
    seed: int = 0,
) -> None:
    """Assert that the mean of fn(x, at) over addresses is x: that dropout is scaled as it must be.

    |mean - expected| <= tolerance * s / sqrt(draws), s the standard deviation over the addresses;
    for the sum of all elements, in the direction of `expected`, and for each element by itself. An
    element whose own s is small by chance is given the mean one.

    Parameters
    ----------
    fn : function of (x, at) to an array of x's shape; `at` is another thinned.Address at each call.
        A function that draws from a generator may ignore it.
    x : array of NumPy, PyTorch or JAX, floating. Ones tell most.
    expected : array or None for x. The mean that fn is to have.
    draws : int in [2, 2^31). How many addresses.
    tolerance : float > 0, in standard errors.
    seed : int in [0, 2^64). Of the addresses; the steps are 0, 1, ...

    Raises
    ------
    AssertionError that says by how much the mean is off and what that looks like. TypeError or
    ValueError for arguments out of range or for an output of another shape.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.testing.assert_expectation_kept(
    ...     lambda x, at: thinned.dropout(x, p=0.3, at=at), np.ones(64)
    ... )
    """
    who = "assert_expectation_kept"
    checks.function(who, "fn", fn, "(x, at)")
    draws = checks.integer(who, "draws", draws, 2, 2**31)
    requirement = "a number of standard errors > 0"
    if not checks.real(who, "tolerance", tolerance, requirement) > 0:
        raise ValueError(message(who, "tolerance", requirement, tolerance))
    mean = _array(who, "x", x) if expected is None else _array(who, "expected", expected)
    total, squares = np.zeros_like(mean), np.zeros_like(mean)
    along = []
    direction = np.sign(mean)
    for step in range(draws):
        y = _array(who, "the result of fn", fn(x, Address(seed, who, step)))
        if y.shape != mean.shape:
            raise ValueError(message(who, "fn(x, at)", f"of shape {mean.shape}", y.shape))
        off = y - mean  # deviations, so that the squares do not cancel
        total, squares = total + off, squares + off * off
        along.append(float((direction * off).sum()))
    if not (np.isfinite(total).all() and np.isfinite(squares).all()):
        raise AssertionError(f"{who}: fn gives values that are not finite.")
    whole = np.asarray(along)
    _require_whole(who, whole, mean, tolerance)
    bias = total / draws
    variance = np.maximum(squares / draws - bias**2, 0.0) * draws / (draws - 1)
    error = np.sqrt(np.maximum(variance, variance.mean()) / draws)
    beyond = np.abs(bias) > tolerance * error + 1e-12 * (1.0 + np.abs(mean))
    if beyond.any():
        worst = np.unravel_index(int(np.argmax(np.abs(bias) * beyond)), bias.shape)
        where = f"[{', '.join(map(str, worst))}]" if worst else ""
        raise AssertionError(
            f"{who}: element {where} has mean {mean[worst] + bias[worst]:.6g} over {draws} "
            f"addresses, expected {mean[worst]:.6g} ± {tolerance * error[worst]:.2g} "
            f"({int(beyond.sum())} of {beyond.size} elements are off). Is one mask used for all "
            "addresses, or an element never dropped? Pass `at` on to what draws."
        )


def _require_whole(who: str, whole: NDArray[Any], mean: NDArray[Any], tolerance: float) -> None:
    error = float(whole.std(ddof=1)) / len(whole) ** 0.5
    bias = float(whole.mean())
    size = float(np.abs(mean).sum())
    if abs(bias) <= tolerance * error + 1e-6 * size:
        return
    ratio = 1.0 + bias / size if size else float("nan")
    raise AssertionError(
        f"{who}: the mean over {len(whole)} addresses is {ratio:.4g} times what is expected "
        f"(± {tolerance * error / size if size else 0.0:.2g} allowed). A ratio of 1 - p means that "
        "what is kept lacks its scale 1 / (1 - p), a ratio of 1 / (1 - p) that it was scaled twice."
    )


def _array(who: str, name: str, x: Any) -> NDArray[np.float64]:
    try:
        if hasattr(x, "detach"):
            x = x.detach().cpu().double()
        return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TypeError(message(who, name, "an array of numbers", checks.shown(x))) from None


@answering
def assert_same_masks(
    model: nn.Module,
    inputs: Any,
    under: Iterable[str] = _WAYS,
    *,
    loss: Callable[[Any], Any] | None = None,
    backend: str = "inductor",
    tolerance: float = 1e-3,
) -> None:
    """Assert that a training step has the same masks run another way: outputs and gradients agree.

    Each way begins with the same generators and, in an adopted model, at the same moment of its
    clock. Two masks that differ change a step by far more than rounding does.

    Parameters
    ----------
    model : torch.nn.Module; afterwards it is what it was before. Or of JAX: a model of NNX or
        Equinox, a bound one of Linen, or a function of (x, address).
    inputs : tensor or array, tuple of arguments or dict of keyword arguments.
    under : which ways: "compile" (torch.compile; jax.jit, which "jit" names, too), "checkpoint"
        (the whole model recomputed in the backward pass).
    loss : function of the model's output to a scalar, or None for the sum of its floating tensors'
        squares.
    backend : str. torch.compile's.
    tolerance : float > 0. The norm of a difference, relative to the norm of what it differs from.

    Raises
    ------
    AssertionError that says which way differs, where, and the mend. ValueError for another way.

    Examples
    --------
    >>> import torch, thinned
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> report = thinned.torch.adopt(model)
    >>> thinned.testing.assert_same_masks(model, torch.ones(8, 4), under=["checkpoint"])
    """
    ways = (under,) if isinstance(under, str) else tuple(under)
    known = (*_WAYS, "jit") if _kind_in_jax(model) else _WAYS
    for way in ways:
        if way not in known:
            required = "of " + ", ".join(map(repr, known))
            raise ValueError(message("assert_same_masks", "under", required, repr(way)))
    if not tolerance > 0:
        raise ValueError(message("assert_same_masks", "tolerance", "a number > 0", tolerance))
    if _kind_in_jax(model):
        from thinned.jax.asserting import differences as of_jax

        found = of_jax("assert_same_masks", model, inputs, ways, loss, tolerance)
    else:
        from thinned.torch.auditing.same_masks import differences

        found = differences(model, inputs, ways, loss, backend, tolerance)
    if found:
        raise AssertionError("\n".join(("assert_same_masks: the masks are not the same.", *found)))
