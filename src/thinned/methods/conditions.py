"""Inputs beside the main one: conditions that are replaced by none, and modalities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.backends import backend_of
from thinned.backends.base import device_of
from thinned.checks import message, shown, written
from thinned.laws import PLAIN_BERNOULLI
from thinned.methods.arguments import require_broadcast, require_unit_axis
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["condition_dropout", "modality_dropout"]

HO = Paper("Ho, Salimans", 2022, "Classifier-free diffusion guidance", "arXiv:2207.12598")
PEEBLES = Paper(
    "Peebles, Xie", 2022, "Scalable diffusion models with transformers", "arXiv:2212.09748"
)
NEVEROVA = Paper(
    "Neverova, Wolf, Taylor, Nebout", 2016, "ModDrop: adaptive multi-modal gesture recognition",
    "arXiv:1501.00102",
)  # fmt: skip
SHI = Paper(
    "Shi, Hsu, Lakhotia, Mohamed", 2022,
    "Learning audio-visual speech representation by masked multimodal cluster prediction",
    "arXiv:2201.02184",
)  # fmt: skip


# ----------------------------------------------------------------------------- condition dropout


def _conditions(rng: np.random.Generator) -> tuple[Any, ...]:
    # Away from each other, so that a replaced element can be told from a kept one.
    return 0.5 + np.abs(rng.standard_normal((8, 5))), np.full((1, 5), -0.75)


def _replaced(
    x: NDArray[np.float64], null: NDArray[np.float64], p: float, **_: Any
) -> tuple[Any, Any]:
    return (1.0 - p) * x + p * null, p * (1.0 - p) * (x - null) ** 2


@method(
    title="Condition dropout",
    rank="first",
    target="conditions",
    formula="y = x where m, else null,  m ~ Bernoulli(1 - p), one draw per sample",
    law=PLAIN_BERNOULLI,
    shared="all axes but the first: a sample keeps its whole condition, or has none",
    scale="1",
    fill="null, the condition that says nothing",
    inference="identity; guidance asks for null itself, by p = 1",
    moments=Moments("(1 - p) x + p null", "p (1 - p) (x - null)^2", _replaced),
    papers=(HO, PEEBLES),
    aliases={
        "DiT": ("LabelEmbedder(dropout_prob)", "class_dropout_prob"),
        "diffusers": ("LabelEmbedding(dropout_prob)",),
        "imagen-pytorch": ("cond_drop_prob",),
        "the field": ("classifier-free guidance", "caption dropout", "cfg dropout", "p_uncond"),
    },
    module="ConditionDropout",
    sample=Sample(
        arrays=_conditions,
        independent=(0,),
        splits=(0, 1),
        p_one="finite",
        linear=False,
        dropped=None,
        dropped_as=lambda x, null, p: null,
    ),
    takes=("rates",),
    note="For diffusion and flow models that are guided without a classifier, p = .1 to .2. Give "
    "the embedding of a caption, its pooled form and its mask the same address: they then go "
    "together.",
)
def condition_dropout(
    x: Any,
    null: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Replace the condition of some samples by the null condition (classifier-free guidance).

    y = x where m, else null,  m ~ Bernoulli(1 - p), one draw per sample.

    Parameters
    ----------
    x : array, shape (N, ...), floating, of integers or booleans: class labels, token ids,
        embeddings, masks. Never modified.
    null : array that broadcasts to x's shape, of x's library and kind; for integers also an int,
        for booleans a bool: the label of "no class", the id of an empty caption's token. A learned
        embedding gets its gradient from the samples in which it stands.
    p : float in [0, 1]. Probability of dropping a sample's condition; p = 1 gives null everywhere,
        as sampling with guidance needs it beside the condition.
    at : Address. Which samples are dropped depends on the address and the sample's place alone, not
        on the shape of a condition: what belongs together goes together at one address.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype; what is kept is x bit for bit. E[y] = (1 - p) x + p null;
    Var[y] = p (1 - p) (x - null)^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has no axis, null does not broadcast to x's shape,
    or an int does not fit x's type. TypeError if x is neither floating nor of integers, or null is
    of another library or kind.

    References
    ----------
    Ho and Salimans, 2022, arXiv:2207.12598, algorithm 1; for labels Peebles and Xie, 2022,
    arXiv:2212.09748.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> labels = np.array([3, 1, 4, 1, 5])
    >>> thinned.condition_dropout(labels, 10, 0.5, thinned.Address(seed=4))
    array([ 3, 10, 10,  1, 10])
    """
    who = "condition_dropout"
    backend = backend_of(who, x)
    xp = backend.namespace
    if x.dtype == xp.bool:  # what a mask of tokens is of
        if isinstance(null, bool):
            null = int(null)
        elif getattr(null, "dtype", None) == xp.bool:
            null = xp.astype(null, xp.uint8)
        else:
            requirement = "True, False or an array of booleans, as x is"
            raise TypeError(message(who, "null", requirement, shown(null)))
        y = condition_dropout(
            xp.astype(backend.plain(x), xp.uint8), null, p, at, training, window=window,
            mirror=mirror,
        )  # fmt: skip
        return xp.astype(y, xp.bool)
    whole = backend.of_integers(x)
    draws = Draws(who, x, p, at, training, window, mirror, integers=whole)
    shape = draws.shape
    if not shape:
        raise ValueError(message(who, "x", "of shape (N, ...)", "an array without axes"))
    if whole and not hasattr(null, "dtype"):
        limits = xp.iinfo(draws.x.dtype)
        number = checks.integer(who, "null", null, int(limits.min), int(limits.max) + 1)
        null = xp.full((), number, dtype=draws.x.dtype, device=device_of(draws.x))
    else:
        null = draws.alike("null", null)
        if backend.of_integers(null) != whole:
            requirement = f"of type {'floating' if whole else 'integer'}, as null is"
            raise TypeError(message(who, "x", requirement, x.dtype))
        require_broadcast(who, "null", null, "x", x)
    if not draws.training:
        return x
    keep = draws.keep(shared_axes=tuple(range(1, len(shape))))
    return draws.typed(xp.where(keep, draws.x, xp.astype(null, draws.x.dtype)), x.dtype)


# ------------------------------------------------------------------------------ modality dropout


def _sizes(who: str, sizes: Any, length: int | None) -> tuple[int, ...] | None:
    """Lengths of the modalities along their axis, or None: each index is one."""
    if sizes is None:
        return None
    if not isinstance(sizes, (tuple, list)) or not sizes:
        requirement = "the modalities' lengths along the axis, or None"
        raise TypeError(message(who, "sizes", requirement, written(sizes)))
    found = tuple(checks.integer(who, "a length in sizes", n, 1, 2**31) for n in sizes)
    if length is not None and sum(found) != length:
        requirement = f"lengths that make up x's {length}"
        raise ValueError(message(who, "sizes", requirement, f"{found}, which make {sum(found)}"))
    return found


def _check_modality(who: str, sizes: Any, axis: Any, keep_one: Any) -> None:
    _sizes(who, sizes, None)
    require_unit_axis(who, "axis", axis)
    checks.flag(who, "keep_one", keep_one)


def _present(
    x: NDArray[np.float64], p: float, sizes: Any = None, keep_one: bool = False, **_: Any
) -> tuple[Any, Any]:
    count = x.shape[-1] if sizes is None else len(sizes)
    q = 1.0 - p + (p**count / count if keep_one else 0.0)
    return q * x, q * (1.0 - q) * x**2


def _three(p: float, at: Address) -> Any:
    """Which of three modalities, 8, 12 and 20 features long, each of 8 samples has."""
    return modality_dropout(np.ones((8, 40)), p, at, sizes=(8, 12, 20))


@method(
    title="Modality dropout",
    rank="second",
    target="modalities",
    formula="y = x m,  m ~ Bernoulli(1 - p), one draw per sample and modality;  keep_one: where "
    "all are dropped, one of them stays",
    law=PLAIN_BERNOULLI,
    shared="all axes but the first and the modality's",
    scale="1: a modality that is missing is missing",
    moments=Moments(
        "q x,  q = 1 - p;  keep_one: q = 1 - p + p^M / M for M modalities",
        "q (1 - q) x^2",
        _present,
    ),
    papers=(NEVEROVA, SHI),
    source="The first paper for the law, one draw for each modality; the second's is another, with "
    "one modality always kept. Neither rescales, and neither drops in evaluation. IceSuger's "
    "moddrop-pytorch draws and rescales as the first; where all are dropped it keeps all, of "
    "which keep_one keeps one.",
    aliases={"the authors'": ("ModDrop",), "AV-HuBERT": ("modality_dropout", "audio_dropout")},
    module="ModalityDropout",
    check=_check_modality,
    picture=_three,
    sample=Sample(
        shape=(8, 6),
        options={"sizes": (1, 2, 3)},
        splits=(0,),
        dropped=None,
    ),
    takes=("complex", "rates"),
    note="For models that must work when a sensor, a caption or the sound is missing. With "
    "keep_one no sample loses everything.",
)
def modality_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    sizes: tuple[int, ...] | None = None,
    axis: int = -1,
    keep_one: bool = False,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop whole modalities of each sample: the sound, the image, a sensor.

    y = x m,  m ~ Bernoulli(1 - p), one draw per sample and modality.

    Parameters
    ----------
    x : array, shape (N, ...), floating: the modalities' features one behind the other along `axis`,
        as numpy.concatenate puts them; or stacked, one index each. Never modified.
    p : float in [0, 1]. Probability of dropping a modality; p = 1 gives zeros, or with keep_one one
        modality of each sample.
    at : Address. Equal addresses drop the same modalities on every backend, whatever their lengths.
    training : bool. False gives x itself.
    sizes : tuple of ints, or None. Lengths of the modalities along `axis`, in order: sizes=(512,
        768) for 512 features of an image and 768 of a text. None: each index is a modality.
    axis : int. The axis of the modalities; not 0, which is that of the samples.
    keep_one : bool. Where all of a sample's modalities are dropped, one of them stays, each equally
        likely (draw 1).
    window : Window or None. Where x sits in a larger logical array; it must hold whole samples
        along `axis`.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = q x, Var[y] = q (1 - q) x^2, q = 1 - p, or with
    keep_one 1 - p + p^M / M for M modalities.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the axis does not exist or is 0, sizes do not make up
    its length, or the window splits it. TypeError if x is not floating, or sizes are no lengths.

    References
    ----------
    Neverova et al., 2016, arXiv:1501.00102 (ModDrop). Shi et al., 2022, arXiv:2201.02184, keep one
    of two modalities always.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.modality_dropout(np.ones((3, 5)), 0.5, thinned.Address(seed=1), sizes=(2, 3))
    array([[0., 0., 0., 0., 0.],
           [0., 0., 0., 0., 0.],
           [1., 1., 1., 1., 1.]])
    """
    who = "modality_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    if len(shape) < 2:
        raise ValueError(message(who, "x", "of two axes or more, (N, ...)", f"shape {shape}"))
    along = require_unit_axis(who, "axis", axis, len(shape))
    draws.require_whole(along)
    found = _sizes(who, sizes, shape[along])
    keep_one = checks.flag(who, "keep_one", keep_one)
    if not draws.training:
        return x
    xp, device = draws.xp, device_of(draws.x)
    count = shape[along] if found is None else len(found)
    lengths = tuple(count if a == along else n for a, n in enumerate(shape))
    shared = tuple(a for a in range(1, len(shape)) if a != along)
    keep = draws.keep(None, shared, lengths)
    if keep_one:
        u = xp.astype(draws.uniform((*shared, along), number=1), xp.float64)
        places = xp.reshape(
            xp.arange(count, dtype=xp.float64, device=device),
            tuple(count if a == along else 1 for a in range(len(shape))),
        )
        lost = ~xp.any(keep, axis=along, keepdims=True)
        keep = keep | (lost & (places == xp.floor(u * count)))
    if found is not None:
        # Which modality each index along the axis belongs to is known beforehand.
        belongs = np.repeat(np.arange(count), found)
        keep = xp.take(keep, xp.asarray(belongs, device=device), axis=along)
    return draws.select(x, keep)
