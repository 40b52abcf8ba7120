"""Addresses that a compiled program holds as tensors, and the operators that draw from them.

A method reads nothing of an address: it asks for draws. So the same method, traced by a compiler,
leaves these operators in the program, and a new step, call, p or place in the batch is no new
program. They are functions of their inputs alone: run again, they draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned import kernel, reference
from thinned.backends.base import Draw
from thinned.backends.torch import devices, spec, wire
from thinned.backends.torch.internals import in_transform, without_transforms
from thinned.backends.torch.kernel import coordinates_of, run
from thinned.backends.torch.library import defined
from thinned.backends.torch.operators import NOISED
from thinned.backends.torch.values import has_values, lengths
from thinned.kernel import _native
from thinned.window import MOST_BITS, Window, place

__all__ = [
    "GraphAddress",
    "GraphPlace",
    "draw_in_graph",
    "draw_values",
    "graph_address",
    "noise_in_graph",
    "uniform_of",
    "words_at_on_device",
]

Law = _native.Law
CPU = torch.device("cpu")
MASK32 = 0xFFFFFFFF
_in_transform = in_transform


class GraphPlace(NamedTuple):
    """Stands for a Placement in a compiled program: the words of a draw (wire.py), and its shape,
    as far as the compiler knows it; the
    axes that share a draw, where the array is the whole along all others but the leading one."""

    words: Tensor
    shape: tuple[int, ...]
    shared: tuple[int, ...] | None = None

    @property
    def offset(self) -> Tensor:
        return self.words[5]

    @property
    def strides(self) -> tuple[Tensor, ...]:
        return self.words[6:].unbind()


class GraphAddress:
    """Stands for thinned.backends.base.Located in a compiled program.

    words : int64, shape (5,): an address.
    where : int64, shape (2 n,): start and shape of the whole of an array of n axes; empty, or with
        a start of -1, where the array is the whole. -1 rows of the whole are an unknown number.
    folds : what is folded into the address where it is used.
    held, undivided : the shape of the array, and the axes that no window may split.
    """

    def __init__(
        self,
        words: Tensor,
        where: Tensor,
        folds: tuple[int, ...] = (),
        held: tuple[int, ...] = (),
        undivided: tuple[int, ...] = (),
    ) -> None:
        self.words, self.where, self.folds = words, where, folds
        self.held, self.undivided = held, undivided

    @property
    def at(self) -> GraphAddress:
        """The address, of which only draws ask the words."""
        return self

    def fold_in(self, n: int) -> GraphAddress:
        folds = (*self.folds, n)
        return GraphAddress(self.words, self.where, folds, self.held, self.undivided)

    def place(
        self,
        who: str,
        held: tuple[int, ...],
        shape: tuple[int, ...],
        shared: tuple[int, ...],
        most: int = MOST_BITS,
    ) -> GraphPlace:
        words = PLACED(
            self.words, self.where, self.folds, who, lengths(held), self.undivided,
            lengths(shape), shared, most,
        )  # fmt: skip
        whole = self.where.shape[0] == 0
        return GraphPlace(words, shape, shared if whole else None)

    def whole(self, who: str, held: tuple[int, ...], axes: tuple[int, ...]) -> GraphAddress:
        undivided = (*self.undivided, *axes)
        return GraphAddress(self.words, self.where, self.folds, held, undivided)

    def coordinates(self, who: str) -> spec.Coordinates:
        """The words, for draws that say themselves where they lie."""
        words = self.words
        if self.folds or self.undivided:
            words = self.place(who, self.held, (), ()).words[:5]
        return spec.Coordinates(*words.unbind())


def graph_address(at: Any, window: Window | None, shape: tuple[int, ...]) -> GraphAddress:
    """A known address and window, as tensors."""
    numbers: list[Any] = []
    if window is not None:
        assert isinstance(window.start, tuple)
        start = window.start + (0,) * (len(shape) - len(window.start))
        whole = window.global_shape or (-1, *shape[1:])
        # Compilers pass symbols, which the types of a window do not admit.
        numbers = [*start, *whole]  # type: ignore[misc]
    return GraphAddress(wire.pack_address(at), wire.pack(numbers))


_fold_in = lru_cache(maxsize=1024)(reference.fold_in)


def _window(where: Tensor) -> Window | None:
    numbers = where.tolist()
    n = len(numbers) // 2
    if not n or numbers[0] < 0:
        return None
    return Window(tuple(numbers[:n]), None if numbers[n] < 0 else tuple(numbers[n:]))


def _placed(
    words: Tensor,
    where: Tensor,
    folds: Sequence[int],
    who: str,
    held: Sequence[int],
    undivided: Sequence[int],
    shape: Sequence[int],
    shared: Sequence[int],
    most: int,
) -> Tensor:
    """The words of a draw of `shape` for an array of shape `held`, at a place in a window."""
    at, window = wire.address(words), _window(where)
    for n in folds:
        at = at._replace(seed=_fold_in(at.seed, n))
    array, drawn = tuple(held), tuple(shape)
    if window is not None:
        window.require_whole(who, array, tuple(undivided))
        if not drawn:
            window = None
        elif array != drawn:
            window = window.onto(who, array, drawn, tuple(shared))
    return wire.words_of(at, place(who, drawn, tuple(shared), window, most))


def _fake_words(
    words: Tensor, where: Tensor, folds: Any, who: str, held: Any, undivided: Any,
    shape: Sequence[int], *_: Any,
) -> Tensor:  # fmt: skip
    return words.new_empty(6 + len(shape))


PLACED = defined(
    "placed(Tensor words, Tensor where, int[] folds, str who, SymInt[] held, int[] undivided, "
    "SymInt[] shape, int[] shared, int most) -> Tensor",
    _placed,
    _fake_words,
)


# ------------------------------------------------------------------------------------------- draws

_TYPES = {
    "mask": torch.bool,
    "words": torch.int64,
    "uniform": torch.float32,
    "gaussian": torch.float32,
}


def draw_values(draw: Draw, law: str, like: Tensor | None = None) -> Tensor:
    """Draws at a known address: a keep mask, words in int64, uniform numbers or Gaussians, as the
    placement has it, beside `like`; on the CPU where there is none.

    PyTorch's uint32 knows few operations, and so words are int64.
    """
    if like is not None and not has_values(like):
        return like.new_empty(draw.place.shape, dtype=_TYPES[law])
    device = CPU if like is None else like.device
    if devices.uses_triton(device):
        with without_transforms() if _in_transform() else nullcontext():
            return _drawn_on_device(draw, law, device)
    if device.type != "cpu" or kernel.uses_reference():
        at, where, mirror = coordinates_of(draw.at), draw.place, draw.mirror
        if law == "mask":
            pure = spec.keep(at, draw.threshold, where, mirror, device)
        elif law == "words":
            pure = spec.words(at, where, mirror, device)
        elif law == "uniform":
            pure = uniform_of(spec.words(at, where, mirror, device))
        else:
            pure = spec.gaussian(at, where, mirror, device).to(torch.float32)
        return pure.expand(where.shape).contiguous()
    if _in_transform():
        with without_transforms():  # which would wrap the memory up
            return _drawn_on_cpu(draw, law)
    return _drawn_on_cpu(draw, law)


def _drawn_on_cpu(draw: Draw, law: str) -> Tensor:
    if law == "words":
        words = torch.empty(draw.place.shape, dtype=torch.int32, device=CPU)
        run(None, words, draw, law=Law.words)
        return words.to(torch.int64) & MASK32
    if law == "uniform":
        return _uniform_on_cpu(draw)
    out = torch.empty(draw.place.shape, dtype=_TYPES[law], device=CPU)
    run(None, out, draw, law=Law.mask if law == "mask" else Law.raw_gaussian)
    return out


def _drawn_on_device(draw: Draw, law: str, device: torch.device) -> Tensor:
    from thinned.backends.torch.triton import launch, words

    where, told, live = draw.place, words.told(draw), words.step_of(draw)
    if law == "mask":
        one = torch.ones((), dtype=torch.float16, device=device).expand(where.shape)
        kept = torch.empty(where.shape, dtype=torch.float16, device=device)
        launch.drop(one, kept, where, told, unit=True, live=live)
        return kept.to(torch.bool)
    drawn = launch.draws_of(where, told, device, law == "gaussian", live)
    drawn = uniform_of(drawn) if law == "uniform" else drawn
    return drawn.expand(where.shape).contiguous()


def words_at_on_device(at: Any, index: Tensor, mirror: bool) -> Tensor:
    """The 32-bit words of the elements with these indices, in int64, by the kernels in Triton."""
    from thinned.backends.torch.triton import launch, words

    at_index = Draw(at, 0, place("words_at", (), (), None), mirror)
    return launch.draws_at(index, words.told(at_index))


def uniform_of(words: Tensor) -> Tensor:
    """uniform24 of words in int64: binary32, exact."""
    odd = (words >> 9) * 2 + 1
    return odd.to(torch.float32) * (1.0 / 2**24)


# Kept: PyTorch takes longer to make a tensor of a number than to calculate with a small array.
_NINE, _LOWER, _ONE = torch.tensor(
    [9, 0x7FFFFF, 0x3F800000], dtype=torch.int32, device=CPU
).unbind()
_BELOW_ONE = torch.tensor(1.0 - 2.0**-24, dtype=torch.float32, device=CPU)


def _uniform_on_cpu(draw: Draw) -> Tensor:
    """The same of a draw's own words, in their own memory.

    The upper 23 bits behind the exponent of 1 are a number in [1, 2); 1 - 2^-24 less is exact.
    """
    words = torch.empty(draw.place.shape, dtype=torch.int32, device=CPU)
    run(None, words, draw, law=Law.words)
    words.bitwise_right_shift_(_NINE).bitwise_and_(_LOWER).bitwise_or_(_ONE)
    return words.view(torch.float32).sub_(_BELOW_ONE)


def _drawn(
    like: Tensor, words: Tensor, threshold: Tensor, shape: Sequence[int], mirror: bool, law: str
) -> Tensor:
    return draw_values(wire.read(words, threshold.item(), shape, mirror), law, like)


def _fake_draws(
    like: Tensor, words: Tensor, threshold: Tensor, shape: Sequence[int], mirror: bool, law: str
) -> Tensor:
    return like.new_empty(tuple(shape), dtype=_TYPES[law])


DRAWN = defined(
    "drawn(Tensor like, Tensor words, Tensor threshold, SymInt[] shape, bool mirror, str law) "
    "-> Tensor",
    _drawn,
    _fake_draws,
)


def draw_in_graph(draw: Draw, law: str, like: Tensor) -> Tensor:
    """Draws at an address of tensors."""
    place: Any = draw.place
    threshold = wire.number(draw.threshold)
    y: Tensor = DRAWN(like.detach(), place.words, threshold, lengths(place.shape), draw.mirror, law)
    return y


def noise_in_graph(
    x: Tensor, draw: Draw, scale: Any, law: str, fill: float = 0.0, array: Tensor | None = None
) -> Tensor:
    """Noise at an address of tensors, differentiable; its words and its rate are kept."""
    place: Any = draw.place
    rate = wire.pack_rate(draw.threshold, scale)
    y: Tensor = NOISED(x, place.words, rate, fill, draw.mirror, law, array, place.shared)
    return y
