"""Whole channels of a map: spatial dropout."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI
from thinned.methods.arguments import MOST_AXES
from thinned.methods.draws import Draws
from thinned.methods.table import INVERTED, Paper, Sample, method
from thinned.window import Window

__all__ = ["channel_of", "require_channel", "spatial_dropout"]

TOMPSON = Paper(
    "Tompson, Goroshin, Jain, LeCun, Bregler", 2015,
    "Efficient object localization using convolutional networks", "arXiv:1411.4280",
)  # fmt: skip


def channel_of(who: str, shape: tuple[int, ...], channel_axis: Any, ranks: range) -> int:
    """The channel axis of a batch of maps, counted from 0; ValueError where there is none.

    ranks : how many axes x may have, the batch's and the channels' among them.
    """
    n = len(shape)
    if n not in ranks:
        few, many = ranks[0] - 2, ranks[-1] - 2
        spatial = f"{few} to {many}" if few < many else f"{few}"
        form = "(N, C, ...)" if few < many else f"(N, C{', H, W' if few == 2 else ', L'})"
        requirement = f"a batch of maps, {form} with {spatial} axes after the channel's"
        remedy = "A single sample needs a batch axis: x[None]."
        raise ValueError(message(who, "x", requirement, f"shape {shape}", remedy))
    return require_channel(who, channel_axis, n)


def require_channel(who: str, channel_axis: Any, axes: int = MOST_AXES) -> int:
    """The channel axis of an array with this many axes, counted from 0; not the first."""
    remedy = "1 is channels first, -1 channels last."
    axis = checks.integer(who, "channel_axis", channel_axis, -axes, axes, remedy) % axes
    if axis == 0:
        requirement = "another axis than 0, along which the samples lie"
        raise ValueError(message(who, "channel_axis", requirement, channel_axis, remedy))
    return axis


@method(
    title="Spatial dropout",
    rank="first",
    target="channels",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per (sample, channel)",
    law=BERNOULLI,
    shared="all axes but the batch's and the channels'",
    moments=INVERTED,
    papers=(TOMPSON,),
    aliases={
        "PyTorch": (
            "nn.Dropout1d", "nn.Dropout2d", "nn.Dropout3d", "functional.dropout1d",
            "functional.dropout2d", "functional.dropout3d", "torch.feature_dropout",
        ),
        "Keras": ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        "Flax": ("nnx.Dropout(broadcast_dims=(1, 2))",),
    },
    module="SpatialDropout",
    check=require_channel,
    in_torch=("Dropout1d", "Dropout2d", "Dropout3d"),
    sample=Sample(shape=(4, 3, 2, 2), independent=(0, 1), splits=(0, 1, 2, 3)),
    takes=("complex", "sparse", "rates"),
    note="Between convolutions. Neighbouring pixels are strongly correlated, so dropping single "
    "pixels removes little information.",
)  # fmt: skip
def spatial_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    channel_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop whole channels of each sample (spatial dropout).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per (sample, channel).

    Parameters
    ----------
    x : array, shape (N, C, ...), or (N, ..., C) with channel_axis=-1; floating. At least three
        axes: a batch (N, C) has no maps, and dropout does the same to it. Never modified.
    p : float in [0, 1]. Probability of dropping a channel; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend. One address drops other
        channels of the same image in another layout: indices follow the axes.
    training : bool. False gives x itself.
    channel_axis : int. 1 is channels first, -1 channels last.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than three axes, or the channel axis does
    not exist or is the batch's. TypeError if x is not floating.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.spatial_dropout(np.ones((1, 3, 2)), 0.5, thinned.Address(seed=4))
    array([[[2., 2.],
            [0., 0.],
            [0., 0.]]])
    """
    draws = Draws("spatial_dropout", x, p, at, training, window, mirror)
    channel = channel_of("spatial_dropout", draws.shape, channel_axis, range(3, 65))
    if not draws.training:
        return x
    shared = tuple(axis for axis in range(1, len(draws.shape)) if axis != channel)
    return draws.noise(x, shared_axes=shared)
