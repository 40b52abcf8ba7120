"""What becomes of a dropped tensor, and what it was before: seen in the functions that are called.

A tensor is known as the object that the model holds. A tensor that is no longer held and that no
function was given is thrown away. A layer's output is followed through functions that keep the
axes.
"""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from thinned.backends.torch.internals import in_transform
from thinned.torch.auditing.batch_norm import memory_of, tensors_in
from thinned.torch.auditing.lines import Reuse, names_of, reused

__all__ = ["Call", "Uses"]

_PLAIN = frozenset({F.dropout, F.alpha_dropout, torch.dropout, torch.dropout_})
_CHANNELS = {
    F.dropout1d: (2, 3),
    F.dropout2d: (3, 4),
    F.dropout3d: (4, 5),
    F.feature_alpha_dropout: (3, 4, 5),
}
_DROPPING = _PLAIN | frozenset(_CHANNELS)
# These take training=False where nothing is said.
_ASLEEP = frozenset({F.alpha_dropout, F.feature_alpha_dropout})

_ATTENTION = {
    F.scaled_dot_product_attention: (4, "dropout_p"),
    F.multi_head_attention_forward: (10, "dropout_p"),
}

# What a layer makes has its features in the last axis, or its channels in the second one.
_LAST, _SECOND = "last", "second"
_ORIGINS: dict[Any, str] = {
    F.linear: _LAST,
    F.embedding: _LAST,
    F.layer_norm: _LAST,
    torch.layer_norm: _LAST,
    F.conv1d: _SECOND,
    F.conv2d: _SECOND,
    F.conv3d: _SECOND,
    F.batch_norm: _SECOND,
    F.group_norm: _SECOND,
    torch.conv1d: _SECOND,
    torch.conv2d: _SECOND,
    torch.conv3d: _SECOND,
}
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
# Functions that keep the axes of their first argument.
_KEEPING = frozenset(
    {
        "relu", "relu_", "gelu", "silu", "elu", "leaky_relu", "tanh", "sigmoid", "mish", "selu",
        "hardswish", "softplus", "celu", "relu6", "dropout", "dropout1d", "dropout2d",
        "dropout3d", "alpha_dropout", "layer_norm", "contiguous", "clone", "float", "half", "to",
    }
)  # fmt: skip
_LOSSES = frozenset(
    {F.cross_entropy, F.nll_loss, F.log_softmax, torch.log_softmax, Tensor.log_softmax}
    | {F.binary_cross_entropy_with_logits, F.multi_margin_loss, F.multilabel_margin_loss}
)
_LAST_LAYER = re.compile(
    r"(?:^|\.)(?:fc|fc_?out|classifier|head|out|output|output_layer|logits|lm_head|score)$"
)
_SOFTMAX = frozenset({F.softmax, torch.softmax, Tensor.softmax, F.gumbel_softmax})
_PRODUCTS = frozenset(
    {torch.matmul, torch.bmm, torch.baddbmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm}
)
# What is done to attention's scores before the softmax.
_SCALING = frozenset(
    {"div", "div_", "true_divide", "__truediv__", "mul", "mul_", "__mul__", "__rmul__"}
    | {"masked_fill", "masked_fill_", "float", "half", "to", "clone", "contiguous"}
)
# What makes probabilities, or their logarithms, of scores.
_CHANCES = _SOFTMAX | frozenset({F.log_softmax, torch.log_softmax, Tensor.log_softmax})


# A layer that gives no more than these, and a fourth of what it takes, gives no features.
_FEW = 16


class Call(NamedTuple):
    """A call that dropped elements of a tensor.

    Attributes
    ----------
    site, module, line : where it stands, as findings name it.
    p : float.
    words : names in the calling code of numbers that are p.
    """

    site: str
    module: str
    line: str
    p: float
    words: frozenset[str]


# A product of two tensors that nothing was dropped of.
_PLAIN_PRODUCT = Call("", "", "", 0.0, frozenset())


class _Layer(NamedTuple):
    """A linear layer: its module's name, and its numbers of outputs and inputs."""

    name: str
    outputs: int
    inputs: int
    is_chance: bool = False  # what it made went through a softmax

    @property
    def gives_classes(self) -> bool:
        """Whether it is a network's last layer, by its width, and by its name or its softmax."""
        narrow = self.outputs <= _FEW and 4 * self.outputs <= self.inputs
        is_last = self.is_chance or narrow or _LAST_LAYER.search(self.name) is not None
        return is_last and self.outputs < self.inputs


class _Made:
    """A dropped tensor, kept so that no other takes its place in memory."""

    def __init__(self, tensor: Tensor, call: Call) -> None:
        self.tensor, self.call = tensor, call
        self.memory = memory_of(tensor)
        self.is_used = False


class Uses:
    """Of one run.

    Attributes
    ----------
    calls : list of Call.
    asleep : calls, in a module in training, of a function that drops only where it is told to.
    thrown : calls whose every result was thrown away, after `finish`.
    logits : (call, what it went into): dropped scores.
    axes : (call, how): channels dropped along another axis.
    attention : modules' names that called attention, each with the p that it passed.
    overwritten : (call, Reuse): a tensor that was dropped in place and is read again by its name.
    """

    def __init__(
        self, place: Callable[[], tuple[str, str, str]], trains: Callable[[], bool]
    ) -> None:
        self.place, self.trains = place, trains
        self.calls: list[Call] = []
        self.asleep: list[Call] = []
        self.thrown: list[Call] = []
        self.logits: list[tuple[Call, str]] = []
        self.axes: list[tuple[Call, str]] = []
        self.overwritten: list[tuple[Call, Reuse]] = []
        self.attention: set[tuple[str, Any]] = set()
        self._made: list[_Made] = []
        self._origins: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self._layers: dict[int, tuple[weakref.ref[Tensor], _Layer]] = {}
        self._scores: dict[int, tuple[weakref.ref[Tensor], tuple[Call, _Layer]]] = {}
        self._products: dict[int, tuple[weakref.ref[Tensor], Call]] = {}
        self._channels: dict[int, tuple[weakref.ref[Tensor], tuple[Call, str]]] = {}
        self._softmaxes: dict[int, tuple[weakref.ref[Tensor], Call]] = {}

    def called(self, run: Callable[[], Any], func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function, and note what it makes of what."""
        name = getattr(func, "__name__", "")
        # An attribute, the shape say; or nothing whose memory can be followed.
        if name == "__get__" or in_transform():
            return run()
        given = tensors_in((args, tuple(kwargs.values())))
        if func in _DROPPING and given:
            return self._dropping(run, func, args, kwargs, given[0])
        if func in _ATTENTION:
            p = _argument(args, kwargs, *_ATTENTION[func], 0.0)
            self.attention.add((self.place()[1], p))
        out = run()
        if isinstance(out, Tensor):
            self._follow(func, name, given, out)
        elif name in _RECURRENT and isinstance(out, tuple) and isinstance(out[0], Tensor):
            self._origins[id(out[0])] = (weakref.ref(out[0]), _LAST)
            self._read_last(given)
        return out

    def watch(self, x: Tensor | None, out: Tensor, call: tuple[str, str, str, float]) -> None:
        """Note what a module of dropout made of x: site, module, line and p."""
        if x is not None and out is not x and memory_of(out) != memory_of(x):
            self._made.append(_Made(out, Call(*call, frozenset())))

    def touched(self, tensors: Iterable[Tensor]) -> None:
        """An operation was given these."""
        if self._made:
            memories = {memory_of(tensor) for tensor in tensors}
            for made in self._made:
                made.is_used = made.is_used or made.memory in memories

    def _dropping(self, run: Any, func: Any, args: Any, kwargs: Any, x: Tensor) -> Any:
        p, in_place = _argument(args, kwargs, 1, "p", 0.5), _argument(args, kwargs, 3, "inplace", 0)
        awake = bool(_argument(args, kwargs, 2, "training", func not in _ASLEEP))
        if func in _ASLEEP and not awake and self.trains() and 0.0 < p < 1.0:
            site, module, line = self.place()
            self.asleep.append(Call(site, module, line, float(p), frozenset()))
        if not awake or isinstance(p, Tensor) or not 0.0 < p < 1.0 or p is True:
            return run()
        site, module, line = self.place()
        words = names_of(float(p)) if p is not None else frozenset()
        call = Call(site, module, line, float(p), words)
        self.calls.append(call)
        origin = _known(self._origins, x)
        if func in _CHANNELS:
            how = _wrong_axes(x, origin, _CHANNELS[func])
            if how:
                self.axes.append((call, how))
        again = reused(x) if in_place or func is torch.dropout_ else None
        if again is not None:
            self.overwritten.append((call, again))
        out = run()
        if isinstance(out, Tensor):
            self._follow(func, func.__name__, [x], out)
            if out is not x and memory_of(out) != memory_of(x):
                self._made.append(_Made(out, call))
            layer = _known(self._layers, x)
            if layer is not None:
                self._scores[id(out)] = (weakref.ref(out), (call, layer))
            if _known(self._products, x) is _PLAIN_PRODUCT:
                self._products[id(out)] = (weakref.ref(out), call)
            if func in _CHANNELS and origin is None and x.dim() > 2:
                how = _features_last(x)
                self._channels[id(out)] = (weakref.ref(out), (call, how))
        return out

    def _read_last(self, given: list[Tensor]) -> None:
        """A layer takes the last axis of a tensor for its features, of which channels of the
        second one may have been dropped."""
        dropped = _known(self._channels, given[0]) if given else None
        if dropped is not None:
            self.axes.append(dropped)

    def _follow_products(self, func: Any, name: str, first: Tensor | None, out: Tensor) -> None:
        """Products of two tensors, which attention makes scores of, dropped before the softmax."""
        if func in _PRODUCTS:
            self._products[id(out)] = (weakref.ref(out), _PLAIN_PRODUCT)
            return
        made = None if first is None else _known(self._products, first)
        if made is not None and name in _SCALING:
            self._products[id(out)] = (weakref.ref(out), made)
        elif made is not None and made is not _PLAIN_PRODUCT and func in _SOFTMAX:
            self.logits.append((made, name))

    def _follow(self, func: Any, name: str, given: list[Tensor], out: Tensor) -> None:
        first = given[0] if given else None
        origin = _ORIGINS.get(func)
        if origin is None and first is not None and name in _KEEPING:
            origin = _known(self._origins, first)
        if origin is not None:
            self._origins[id(out)] = (weakref.ref(out), origin)
        if func is F.linear and len(given) > 1:
            module = self.place()[1]
            shape = tuple(given[1].shape)
            if len(shape) == 2:
                self._layers[id(out)] = (weakref.ref(out), _Layer(module, *shape))
        layer = None if first is None else _known(self._layers, first)
        if layer is not None and func in _CHANCES:
            self._layers[id(out)] = (weakref.ref(out), layer._replace(is_chance=True))
        if func is F.linear or func in (F.layer_norm, torch.layer_norm):
            self._read_last(given)
        self._follow_products(func, name, first, out)
        dropped = None if first is None else _known(self._scores, first)
        if dropped is not None and func in _LOSSES:
            self.logits.append((dropped[0], name))
        elif dropped is not None and func in _SOFTMAX:
            self._softmaxes[id(out)] = (weakref.ref(out), dropped[0])

    def finish(self, output: Any) -> None:
        """Note what is left of what was made. `output` is the model's."""
        given_out = tensors_in(output)
        memories = {memory_of(tensor) for tensor in given_out}
        for first in given_out[:1]:
            dropped, scores = _known(self._softmaxes, first), _known(self._scores, first)
            if dropped is not None:
                self.logits.append((dropped, "softmax"))
            elif scores is not None and first.dim() == 2 and scores[1].gives_classes:
                self.logits.append((scores[0], "the output"))
        lost: dict[tuple[str, str], list[bool]] = {}
        calls: dict[tuple[str, str], Call] = {}
        for made in self._made:
            # Held by `made` and by this call alone; more hold it where a module keeps it.
            kept = sys.getrefcount(made.tensor) > _OWN or made.memory in memories
            key = made.call.site, made.call.line
            calls[key] = made.call
            lost.setdefault(key, []).append(not (made.is_used or kept))
        self.thrown = [calls[key] for key, found in lost.items() if all(found)]
        self._made.clear()


# References to a tensor that only a _Made holds, as getrefcount counts.
_OWN = 2


def _known(table: dict[int, tuple[weakref.ref[Tensor], Any]], tensor: Tensor) -> Any:
    found = table.get(id(tensor))
    return found[1] if found is not None and found[0]() is tensor else None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, other: Any) -> Any:
    if len(args) > at:
        return args[at]
    return kwargs.get(name, kwargs.get("train", other) if name == "training" else other)


def _features_last(x: Tensor) -> str:
    return (
        f"its input of shape {tuple(x.shape)} has its features in the last axis, and whole slices "
        "of the second axis are dropped"
    )


def _wrong_axes(x: Tensor, origin: Any, dims: tuple[int, ...]) -> str:
    if x.dim() < 3:
        return f"its input has {x.dim()} axes, and so no channels"
    if origin == _LAST:
        return _features_last(x)
    if x.dim() not in dims:
        return f"its input has {x.dim()} axes, and {' or '.join(map(str, dims))} are meant"
    return ""
