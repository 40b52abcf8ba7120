"""Losses over several passes of one batch: R-Drop, fraternal dropout, multi-sample dropout.

Each takes the outputs of the passes, or a callable that makes output number k: at call k of an
address, as a member, or by a model that draws anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from thinned import checks
from thinned.backends import backend_of
from thinned.checks import message
from thinned.methods.table import Paper, method

__all__ = ["fraternal_dropout", "multi_sample_dropout", "r_drop"]

LIANG = Paper(
    "Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu", 2021,
    "R-Drop: regularized dropout for neural networks", "arXiv:2106.14448",
)  # fmt: skip
ZOLNA = Paper(
    "Zolna, Arpit, Suhubdy, Bengio", 2018, "Fraternal dropout", "arXiv:1711.00066",
)  # fmt: skip
INOUE = Paper(
    "Inoue", 2019, "Multi-sample dropout for accelerated training and better generalization",
    "arXiv:1905.09788",
)  # fmt: skip

Outputs = Sequence[Any] | Callable[[int], Any]


def _passes(who: str, outputs: Any, count: int | None) -> list[Any]:
    """The outputs, made if need be: floating arrays of one library and one shape."""
    if callable(outputs):
        assert count is not None
        outputs = [outputs(number) for number in range(count)]
    elif not isinstance(outputs, (list, tuple)):
        requirement = "a callable of the pass's number, or a list or tuple of arrays"
        raise TypeError(message(who, "outputs", requirement, type(outputs).__name__))
    elif len(outputs) != count and count is not None:
        requirement = f"{count} arrays, one for each pass"
        raise ValueError(message(who, "outputs", requirement, len(outputs)))
    made = list(outputs)
    if not made:
        raise ValueError(message(who, "outputs", "one array at least", "none"))
    for output in made:
        backend_of(who, output, "an output").require_floating(who, output)
        if tuple(output.shape) != tuple(made[0].shape):
            got = " and ".join(str(tuple(a.shape)) for a in (made[0], output))
            raise ValueError(message(who, "all outputs", "of one shape", got))
    return made


def _factor(who: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(message(who, name, "a number", repr(value)))
    if not 0.0 <= value < math.inf:
        raise ValueError(message(who, name, "a finite number, 0 or more", value))
    return float(value)


def _wide(xp: Any, x: Any) -> Any:
    return x if x.dtype == xp.float64 else xp.astype(x, xp.float32)


def _log_softmax(xp: Any, logits: Any) -> Any:
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def _divergence(xp: Any, log_p: Any, log_q: Any) -> Any:
    """KL(p || q) of each row; a class that p holds impossible adds nothing."""
    p = xp.exp(log_p)
    possible = p > 0.0
    # Chosen before the product as after it: 0 times infinity must not enter a gradient either.
    ratio = xp.where(possible, log_p, 0.0 * p) - xp.where(possible, log_q, 0.0 * p)
    return xp.sum(p * ratio, axis=-1)


@method(
    title="R-Drop",
    rank="first",
    target="predictions of two passes",
    formula="L = mean over two passes of CE(logits, labels) + alpha / 2 (KL(P1|P2) + KL(P2|P1))",
    scale="that of the passes",
    inference="one pass",
    papers=(LIANG,),
    aliases={"PaddleNLP": ("RDropLoss",)},
    note="For fine-tuning and translation, alpha 1 to 5; a step costs two passes.",
)
def r_drop(outputs: Outputs, labels: Any, alpha: float = 1.0) -> Any:
    """Cross entropy of two passes with masks of their own, and how far their predictions differ.

    L = mean over the rows of  1/2 (CE_1 + CE_2) + alpha / 2 (KL(P1 || P2) + KL(P2 || P1)).

    The paper's text adds the two cross entropies up; halved, as in its code's later form, alpha = 0
    is the loss of one pass on average. The text's loss with its alpha is 2 r_drop(..., alpha / 2).

    Parameters
    ----------
    outputs : two arrays of logits, shape (..., C), floating; or a callable that makes the logits
        of pass 0 and of pass 1: lambda k: model(x, at.replace(call=k)). A model that draws anew at
        each call may leave k alone.
    labels : array of integers in [0, C), shape (...), of the logits' kind.
    alpha : float, 0 or more. Weight of the divergence.

    Returns
    -------
    0-d array (NumPy: a scalar) in nats, binary64 for such logits, else binary32; differentiable in
    PyTorch. Labels get no smoothing.

    Raises
    ------
    ValueError if there are not two outputs, shapes disagree, there are no rows, or alpha is
    negative or not finite. TypeError if outputs are not floating, or labels not integers.

    References
    ----------
    Liang et al., 2021, arXiv:2106.14448.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> first, second = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> round(float(thinned.r_drop((first, second), np.array([0]), alpha=0.0)), 4)
    0.41
    """
    who = "r_drop"
    alpha = _factor(who, "alpha", alpha)
    first, second = _passes(who, outputs, 2)
    xp = backend_of(who, first).namespace
    shape = tuple(first.shape)
    if not shape or 0 in shape:
        raise ValueError(message(who, "outputs", "of shape (..., C) with a row at least", shape))
    if not hasattr(labels, "dtype") or not xp.isdtype(labels.dtype, "integral"):
        got = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(message(who, "labels", "an array of integers", got))
    if tuple(labels.shape) != shape[:-1]:
        raise ValueError(message(who, "labels", f"of shape {shape[:-1]}", tuple(labels.shape)))
    log_p, log_q = (_log_softmax(xp, _wide(xp, a)) for a in (first, second))
    index = xp.astype(labels, xp.int64)[..., None]
    surprise = [-xp.take_along_axis(a, index, axis=-1)[..., 0] for a in (log_p, log_q)]
    loss = (surprise[0] + surprise[1]) / 2.0
    if alpha:
        both = _divergence(xp, log_p, log_q) + _divergence(xp, log_q, log_p)
        loss = loss + both * (alpha / 2.0)
    return xp.mean(loss)


@method(
    title="Fraternal dropout",
    rank="second",
    target="outputs of two passes",
    formula="L = (loss(o1) + loss(o2)) / 2 + kappa mean (o1 - o2)^2",
    scale="that of the passes",
    inference="one pass",
    papers=(ZOLNA,),
    note="For recurrent language models. r_drop compares probabilities where this one compares "
    "the outputs before the softmax.",
)
def fraternal_dropout(
    outputs: Outputs, loss: Callable[[Any], Any] | None = None, kappa: float = 0.15
) -> Any:
    """The loss of two passes with masks of their own, and the squared distance of their outputs.

    L = (loss(o1) + loss(o2)) / 2 + kappa mean (o1 - o2)^2, the mean over all elements.

    Parameters
    ----------
    outputs : two arrays of one shape, floating: what stands before the softmax; or a callable that
        makes the output of pass 0 and of pass 1, as in `r_drop`.
    loss : callable of an output, giving its loss as a number or a 0-d array; or None, which gives
        kappa mean (o1 - o2)^2 alone.
    kappa : float, 0 or more. The paper's code has 0.15.

    Returns
    -------
    0-d array (NumPy: a scalar), differentiable in PyTorch; half types in binary32. The penalty's
    expectation is 2 kappa times the variance that the masks give an output element.

    Raises
    ------
    ValueError if there are not two outputs, shapes disagree, they are empty, or kappa is negative
    or not finite. TypeError if outputs are not floating, or loss cannot be called.

    References
    ----------
    Zolna et al., 2018, arXiv:1711.00066.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> float(thinned.fraternal_dropout((np.array([1.0, 2.0]), np.array([3.0, 2.0])), kappa=0.5))
    1.0
    """
    who = "fraternal_dropout"
    kappa = _factor(who, "kappa", kappa)
    if loss is not None:
        _require_callable(who, loss)
    first, second = _passes(who, outputs, 2)
    if 0 in first.shape:
        raise ValueError(message(who, "outputs", "not empty", f"shape {tuple(first.shape)}"))
    xp = backend_of(who, first).namespace
    apart = _wide(xp, first) - _wide(xp, second)
    penalty = xp.mean(apart * apart) * kappa
    return penalty if loss is None else (loss(first) + loss(second)) / 2.0 + penalty


@method(
    title="Multi-sample dropout",
    rank="second",
    target="outputs of the last layers",
    formula="L = mean over M masks of loss(head(drop_k(h)))",
    scale="that of the passes",
    inference="one pass",
    papers=(INOUE,),
    note="Cheap where only the last layer runs M times: fewer steps to the same loss, and a "
    "gradient with less noise.",
)
def multi_sample_dropout(outputs: Outputs, loss: Callable[[Any], Any], samples: int = 8) -> Any:
    """The mean loss over M masks of the last layers; the layers before run once.

    L = 1/M sum_k loss(o_k).

    Parameters
    ----------
    outputs : arrays of one shape, floating, one for each mask; or a callable that makes output k:
        lambda k: head(thinned.dropout(h, 0.5, at.fold_in(k))), where h was computed before.
    loss : callable of an output, giving its loss as a number or a 0-d array.
    samples : int >= 1. M, where outputs is a callable; outputs at hand say M themselves.

    Returns
    -------
    the mean of the losses, of what kind `loss` gives. Its expectation is that of one mask's loss,
    its variance over masks an M-th.

    Raises
    ------
    ValueError if there is no output, shapes disagree, or samples is below 1. TypeError if outputs
    are not floating, or loss cannot be called.

    References
    ----------
    Inoue, 2019, arXiv:1905.09788.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at, h = thinned.Address(seed=1), np.ones(8)
    >>> outputs = lambda k: thinned.dropout(h, 0.5, at.fold_in(k))
    >>> float(thinned.multi_sample_dropout(outputs, lambda o: o.mean(), samples=4))
    0.9375
    """
    who = "multi_sample_dropout"
    samples = checks.integer(who, "samples", samples, 1, 2**32)
    _require_callable(who, loss)
    made = _passes(who, outputs, samples if callable(outputs) else None)
    total = loss(made[0])
    for output in made[1:]:
        total = total + loss(output)
    return total / len(made)


def _require_callable(who: str, loss: Any) -> None:
    if not callable(loss):
        raise TypeError(message(who, "loss", "a callable of an output", type(loss).__name__))
