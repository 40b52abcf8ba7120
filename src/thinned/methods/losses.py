"""Losses over several passes of one batch: R-Drop, fraternal dropout, multi-sample dropout.

Each takes the outputs of the passes, or a callable that makes output number k: at call k of an
address, as a member, or by a model that draws anew each time.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from thinned import checks
from thinned.backends import Backend, backend_of
from thinned.checks import message, shown
from thinned.methods.arguments import id_outside, number, require_alike, wide
from thinned.methods.table import Moments, Paper, method

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

# Masks that multi_sample_dropout asks a callable for.
SAMPLES = 8
_LOSS = "A loss of given passes: it draws nothing itself."

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
    made: list[Any] = []
    for output in outputs:
        backend = backend_of(who, output, "an output")
        backend.require_floating(who, output)
        made.append(backend.plain(output))
        require_alike(who, "an output", output, "the first output", made[0])
        if tuple(output.shape) != tuple(made[0].shape):
            got = " and ".join(str(tuple(a.shape)) for a in (made[0], output))
            raise ValueError(message(who, "all outputs", "of one shape", got))
    if not made:
        raise ValueError(message(who, "outputs", "one array at least", "none"))
    return made


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


def _require_classes(who: str, backend: Backend, labels: Any, classes: int) -> None:
    """ValueError unless all labels that can be read are in [0, classes)."""
    wrong = id_outside(backend, labels, classes)
    if wrong is not None:
        remedy = (
            "Rows without a label (-100, say) must be left out beforehand: "
            f"keep = labels != {wrong}, then outputs[keep] and labels[keep]."
        )
        raise ValueError(message(who, "a label", f"in [0, {classes})", wrong, remedy))


@method(
    title="R-Drop",
    rank="first",
    target="predictions of two passes",
    formula="L = mean over two passes of CE(logits, labels) + alpha / 2 (KL(P1|P2) + KL(P2|P1))",
    shared="",
    scale="that of the passes",
    fill="",
    inference="one pass",
    moments=Moments(
        "at least the mean cross entropy of one pass: a divergence is 0 or more",
        "no closed form: that of two passes",
    ),
    papers=(LIANG,),
    apart=_LOSS,
    aliases={"PaddleNLP": ("RDropLoss",)},
    note="For fine-tuning and translation, alpha 1 to 5. A step costs two passes.",
)
def r_drop(outputs: Outputs, labels: Any, alpha: float = 1.0) -> Any:
    """Cross entropy of two passes with different masks, plus the divergence of their predictions.

    L = mean over the rows of  1/2 (CE_1 + CE_2) + alpha / 2 (KL(P1 || P2) + KL(P2 || P1)).

    The paper's text sums the two cross entropies. Here they are averaged, as in the later form of
    its code, so that alpha = 0 gives the mean loss of one pass. The text's loss with its alpha is
    2 r_drop(..., alpha / 2).

    Parameters
    ----------
    outputs : two arrays of logits, shape (..., C), floating; or a callable that makes the logits
        of pass 0 and of pass 1: lambda k: model(x, at.replace(call=k)). A model that draws anew at
        each call may ignore k.
    labels : array of integers in [0, C), shape (...), of the logits' kind. There is no label for
        ignored rows, such as -100: remove them from logits and labels beforehand. A compiled
        program, torch.func.vmap and jax.jit cannot check labels, and a wrong one is not noticed
        there; on an accelerator the check waits for the labels.
    alpha : float, 0 or more. Weight of the divergence.

    Returns
    -------
    0-d array (NumPy: a scalar) in nats, binary64 for such logits, else binary32; differentiable in
    PyTorch. Labels get no smoothing.

    Raises
    ------
    ValueError if there are not two outputs, shapes disagree, there are no rows, a label is outside
    of [0, C), or alpha is negative or not finite. TypeError if outputs are not floating, labels not
    integers, or they are arrays of several libraries.

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
    alpha = number(who, "alpha", alpha, 0.0)
    first, second = _passes(who, outputs, 2)
    backend = backend_of(who, first)
    xp = backend.namespace
    shape = tuple(first.shape)
    if not shape or 0 in shape:
        raise ValueError(message(who, "outputs", "of shape (..., C) with a row at least", shape))
    if not hasattr(labels, "dtype"):
        raise TypeError(message(who, "labels", "an array of integers", type(labels).__name__))
    labels = require_alike(who, "labels", labels, "the first output", first)
    backend.require_integers(who, labels, "labels", "an array of integers")
    if tuple(labels.shape) != shape[:-1]:
        raise ValueError(message(who, "labels", f"of shape {shape[:-1]}", tuple(labels.shape)))
    _require_classes(who, backend, labels, shape[-1])
    log_p, log_q = (_log_softmax(xp, wide(backend, a)) for a in (first, second))
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
    shared="",
    scale="that of the passes",
    fill="",
    inference="one pass",
    moments=Moments(
        "E loss(o) + 2 kappa mean Var[o], variances over the masks",
        "no closed form: that of two passes",
    ),
    papers=(ZOLNA,),
    apart=_LOSS,
    note="For recurrent language models. It compares the outputs before the softmax; r_drop "
    "compares probabilities.",
)
def fraternal_dropout(
    outputs: Outputs, loss: Callable[[Any], Any] | None = None, kappa: float = 0.15
) -> Any:
    """The loss of two passes with different masks, plus the squared distance of their outputs.

    L = (loss(o1) + loss(o2)) / 2 + kappa mean (o1 - o2)^2, the mean over all elements.

    Parameters
    ----------
    outputs : two arrays of one shape, floating: the values before the softmax; or a callable that
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
    kappa = number(who, "kappa", kappa, 0.0)
    if loss is not None:
        checks.function(who, "loss", loss, "an output")
    first, second = _passes(who, outputs, 2)
    if 0 in first.shape:
        raise ValueError(message(who, "outputs", "not empty", f"shape {tuple(first.shape)}"))
    backend = backend_of(who, first)
    apart = wide(backend, first) - wide(backend, second)
    penalty = backend.namespace.mean(apart * apart) * kappa
    if loss is None:
        return penalty
    return (_loss_of(who, loss, first) + _loss_of(who, loss, second)) / 2.0 + penalty


@method(
    title="Multi-sample dropout",
    rank="second",
    target="outputs of the last layers",
    formula="L = mean over M masks of loss(head(drop_k(h)))",
    shared="",
    scale="that of the passes",
    fill="",
    inference="one pass",
    moments=Moments("that of one mask's loss", "that of one mask's loss, divided by M"),
    papers=(INOUE,),
    apart=_LOSS,
    note="Cheap if only the last layers run M times. It reaches the same loss in fewer steps, "
    "with a less noisy gradient.",
)
def multi_sample_dropout(
    outputs: Outputs, loss: Callable[[Any], Any], samples: int | None = None
) -> Any:
    """The mean loss over M masks of the last layers; the layers before run once.

    L = 1/M sum_k loss(o_k).

    Parameters
    ----------
    outputs : arrays of one shape, floating, one for each mask; or a callable that makes output k:
        lambda k: head(thinned.dropout(h, 0.5, at.fold_in(k))), where h was computed before.
    loss : callable of an output, giving its loss as a number or a 0-d array.
    samples : int >= 1, or None. M, where outputs is a callable; None is 8. Otherwise M is the
        number of outputs.

    Returns
    -------
    the mean of the losses, in the type that `loss` returns. Its expectation is that of one mask's
    loss, and its variance over masks is that of one divided by M.

    Raises
    ------
    ValueError if there is no output, shapes disagree, samples is below 1, or it is not the number
    of outputs. TypeError if outputs are not floating, or loss cannot be called.

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
    if samples is not None:
        samples = checks.integer(who, "samples", samples, 1, 2**32)
    checks.function(who, "loss", loss, "an output")
    made = _passes(who, outputs, (samples or SAMPLES) if callable(outputs) else None)
    if samples not in (None, len(made)):
        remedy = "Leave it out: the outputs at hand are as many as they are."
        raise ValueError(message(who, "samples", f"{len(made)} or None", samples, remedy))
    total = _loss_of(who, loss, made[0])
    for output in made[1:]:
        total = total + _loss_of(who, loss, output)
    return total / len(made)


def _loss_of(who: str, loss: Callable[[Any], Any], output: Any) -> Any:
    """The loss of a pass. TypeError for what is neither a number nor an array."""
    found = loss(output)
    if not (isinstance(found, numbers.Number) or hasattr(found, "dtype")):
        requirement = "a function that gives a number or a 0-d array"
        raise TypeError(message(who, "loss", requirement, f"one that gives {shown(found)}"))
    return found
