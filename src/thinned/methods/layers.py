"""Whole layers: LayerDrop, which skips one; and the dropout of a layer's low-rank part (LoRA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import number, of_one_type
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["adapted", "alpha_of", "layer_drop", "lora_dropout"]

FAN = Paper(
    "Fan, Grave, Joulin", 2020, "Reducing transformer depth on demand with structured dropout",
    "arXiv:1909.11556",
)  # fmt: skip
HU = Paper(
    "Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen", 2021,
    "LoRA: low-rank adaptation of large language models", "arXiv:2106.09685",
)  # fmt: skip


@method(
    title="LayerDrop",
    rank="first",
    target="layers",
    formula="y = layer(x) if m else x,  m ~ Bernoulli(1 - p), one gate;  evaluation: layer(x)",
    law=PLAIN_BERNOULLI,
    shared="all: one gate for the whole batch",
    scale="1",
    fill="x, the layer's input",
    inference="every layer runs",
    moments=Moments(
        "(1 - p) layer(x) + p x",
        "p (1 - p) (layer(x) - x)^2",
        lambda layer, x, p: ((1 - p) * layer(x) + p * x, p * (1 - p) * (layer(x) - x) ** 2),
    ),
    papers=(FAN,),
    aliases={
        "fairseq": ("LayerDropModuleList", "encoder_layerdrop"),
        "transformers": ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"),
    },
    module="LayerDrop",
    apart="It takes a layer to call, and its single gate is not a mask of elements.",
    note="For deep transformers whose layers are pruned after training, p = .2. A skipped layer "
    "costs no time.",
)
def layer_drop(
    layer: Callable[[Any], Any],
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    skip: bool = True,
    mirror: bool = False,
) -> Any:
    """Run a layer, or skip it.

    y = layer(x) if m else x,  m ~ Bernoulli(1 - p), one gate;  evaluation: y = layer(x).

    A skipped layer is not called. In compiled programs, where control flow cannot depend on a draw,
    the layer is computed and its result may be discarded; its parameters then have gradients of
    zero instead of none. skip=False does the same anywhere.

    Parameters
    ----------
    layer : callable of x alone that returns an array of x's shape and type.
    x : array, any shape, floating.
    p : float in [0, 1]. Probability of skipping; p = 1 gives x.
    at : Address. Give layer number l of a network the address at.fold_in(l).
    training : bool. False gives layer(x): nothing was rescaled.
    skip : bool. False runs a layer that is skipped too, and discards its result.
    mirror : bool. As in `thinned.dropout`. The gate is element 0 of the address:
        thinned.keep_mask(1, p, at)[0] gives it in advance.

    Returns
    -------
    layer(x), or x itself. E[y] = (1 - p) layer(x) + p x; Var[y] = p (1 - p) (layer(x) - x)^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or layer changes x's shape. TypeError if x is not
    floating, or layer cannot be called or returns no array.

    References
    ----------
    Fan, Grave and Joulin, 2020, arXiv:1909.11556.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> for l in range(1, 4):
    ...     at = thinned.Address(seed=0, site="blocks").fold_in(l)
    ...     print(thinned.layer_drop(lambda x: 10 * x, np.ones(2), 0.5, at))
    [10. 10.]
    [1. 1.]
    [10. 10.]
    """
    who = "layer_drop"
    if not callable(layer):
        raise TypeError(message(who, "layer", "a callable", type(layer).__name__))
    skip = checks.flag(who, "skip", skip)
    draws = Draws(who, x, p, at, training, None, mirror)
    if not draws.training:
        return _called(layer, x)
    if draws.to_come or not skip:
        keep = draws.keep(shared_axes=tuple(range(len(draws.shape))))
        return draws.xp.where(keep, _called(layer, x), x)
    return _called(layer, x) if draws.gate() else x


def _called(layer: Callable[[Any], Any], x: Any) -> Any:
    y = layer(x)
    if not hasattr(y, "shape"):
        got = type(y).__name__
        raise TypeError(message("layer_drop", "layer", "one that returns an array", got))
    if tuple(y.shape) != tuple(x.shape):
        requirement = f"one that keeps x's shape {tuple(x.shape)}, for x takes its place"
        raise ValueError(message("layer_drop", "layer", requirement, tuple(y.shape)))
    return y


def _lora_moments(
    x: Any, weight: Any, down: Any, up: Any, p: float, alpha: Any = None, bias: Any = None
) -> tuple[Any, Any]:
    scale = 1.0 if alpha is None else alpha / len(down)
    delta = scale * (up @ down)
    base = x @ weight.T + (0.0 if bias is None else bias)
    kept, ratio = (1.0, p / (1.0 - p)) if p < 1.0 else (0.0, 0.0)
    return base + kept * (x @ delta.T), ratio * (x**2 @ (delta**2).T)


def _lora_evaluation(x: Any, weight: Any, down: Any, up: Any, p: float, alpha: float) -> Any:
    return _lora_moments(x, weight, down, up, 0.0, alpha)[0]


def _lora_sample(rng: np.random.Generator) -> tuple[Any, ...]:
    x, weight, down, up = (rng.standard_normal(s) for s in ((6, 5), (4, 5), (2, 5), (4, 2)))
    return x, weight, down, up


def _inputs(p: float, at: Address) -> Any:
    """The mask on the input of the update, 8 rows of 40."""
    return Draws("lora_dropout", np.ones((8, 40)), p, at).keep()


@method(
    title="LoRA dropout",
    rank="first",
    target="inputs of a low-rank update",
    formula="y = W x + (alpha / rank) B A (x m / (1 - p)),  m ~ Bernoulli(1 - p)",
    law=BERNOULLI,
    inference="nothing is dropped",
    moments=Moments(
        "(W + (alpha / rank) B A) x",
        "(alpha / rank)^2 sum_j (B A)_ij^2 x_j^2 p / (1 - p)",
        _lora_moments,
    ),
    papers=(HU,),
    aliases={"PEFT": ("LoraConfig(lora_dropout)",), "loralib": ("Linear(lora_dropout)",)},
    module="LoRALinear",
    check=lambda who, alpha, bias: alpha_of(who, alpha, 1),
    picture=_inputs,
    sample=Sample(
        arrays=_lora_sample,
        options={"alpha": 3.0},
        splits=(0,),
        p_one="finite",
        evaluation=_lora_evaluation,
        linear=False,
        dropped=None,
        dtypes=("float32", "float64"),
        keeps_shape=False,
    ),
    takes=("rates",),
    note="For fine-tuning with few examples, p = .05 to .1. The frozen path has no noise, so "
    "training starts from the unchanged model.",
)
def lora_dropout(
    x: Any,
    weight: Any,
    down: Any,
    up: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    alpha: float | None = None,
    bias: Any = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Apply a frozen linear layer and its low-rank update, with dropout on the update's input.

    y = W x + b + (alpha / rank) B A (x m / (1 - p)),  m ~ Bernoulli(1 - p), one draw per element
    of x.

    Parameters
    ----------
    x : array, shape (..., inputs), floating. Never modified.
    weight : array, shape (outputs, inputs). W; its path has no noise.
    down : array, shape (rank, inputs). A.
    up : array, shape (outputs, rank). B.
    p : float in [0, 1]. Probability of dropping an input of the update; p = 1 leaves W x + b.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False drops nothing.
    alpha : float, finite, or None. None is the rank: the update is then B A itself.
    bias : array, shape (outputs,), or None. b.
    window, mirror : as in `thinned.dropout`; the window is that of x.

    Returns
    -------
    array, shape (..., outputs), of x's kind; products run in the arrays' type, and where they
    have several, in binary64 if one of them is, else in binary32. E[y] = (W + (alpha / rank) B A) x
    + b for p < 1; Var[y_i] = (alpha / rank)^2 sum_j (B A)_ij^2 x_j^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the shapes do not fit, or alpha is not finite.
    TypeError if x is not floating, or another array is none of its library.

    References
    ----------
    Hu et al., 2021, arXiv:2106.09685; dropout is placed as in their code.
    """
    draws = Draws("lora_dropout", x, p, at, training, window, mirror)
    return adapted(draws, x, weight, down, up, alpha, bias, draws.noise)


def adapted(
    draws: Draws,
    x: Any,
    weight: Any,
    down: Any,
    up: Any,
    alpha: Any,
    bias: Any,
    inputs: Callable[[Any], Any],
    outputs: Callable[[Any], Any] | None = None,
) -> Any:
    """W x + b and its low-rank update, with noise on the update's inputs, and on its outputs where
    that is given; without noise in evaluation. An error unless the shapes fit."""
    who = draws.who
    if not draws.shape:
        raise ValueError(message(who, "x", "of shape (..., inputs)", "an array without axes"))
    given = {"weight": weight, "down": down, "up": up, **({} if bias is None else {"bias": bias})}
    arrays = {name: draws.alike(name, array) for name, array in given.items()}
    width = draws.shape[-1]
    shapes = [tuple(a.shape) for a in (weight, down, up)]
    rank = shapes[1][0] if len(shapes[1]) == 2 else 0
    height = shapes[0][0] if len(shapes[0]) == 2 else 0
    wanted = [(height, width), (rank, width), (height, rank)]
    for name, shape, want in zip(("weight", "down", "up"), shapes, wanted, strict=True):
        if shape != want:
            letters = {"weight": "outputs, inputs", "down": "rank, inputs", "up": "outputs, rank"}
            fits = f"of shape ({letters[name]}) for {width} inputs"
            raise ValueError(message(who, name, fits, f"shape {shape}"))
    if bias is not None and tuple(bias.shape) != (height,):
        raise ValueError(message(who, "bias", f"of shape ({height},)", f"{tuple(bias.shape)}"))
    alpha = alpha_of(who, alpha, rank)
    scale = alpha / rank if rank else 1.0  # an update of rank 0 is none, at any scale
    thinned = inputs(draws.x) if draws.training else draws.x
    x, thinned, weight, down, up, *rest = of_one_type(draws.xp, draws.x, thinned, *arrays.values())
    # Transposes are views; `.T` of two axes is the same in every library.
    y = x @ weight.T
    if rest:
        y = y + rest[0]
    update = (thinned @ down.T) @ up.T * scale
    if outputs is not None and draws.training:
        update = outputs(update)
    return draws.backend.typed_product(y + update, x.dtype)


def alpha_of(who: str, alpha: Any, rank: int) -> float:
    """alpha as a number; None is the rank."""
    return float(rank) if alpha is None else number(who, "alpha", alpha)
