"""The PyTorch backend: differentiable, nothing of a mask's size saved.

Three ways lead to one result, bit for bit:

- eager, on the CPU: a node of autograd over the compiled kernel, keeping no tensor for backward.
  Plain tensors have it in C++ (compiled_node.py), where that was built for the PyTorch at hand;
  a torch.autograd.Function does the same, and carries forward mode and torch.func's transforms.
- compiled and exported graphs, dispatch modes and wrapper tensors: the registered operator
  (operators.py), whose address, threshold and scale are tensors. It calls the same kernel.
- devices without a kernel of ours: tensor operations (spec.py) under either of the two.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.torch
import numpy as np
import torch
from torch import Tensor
from torch.masked import MaskedTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils.checkpoint import checkpoint

from thinned import kernel, reference
from thinned.address import Address, settled
from thinned.backends.base import Backend, Draw, Located
from thinned.backends.found import known
from thinned.backends.torch import compiled_node, devices, spec, wire
from thinned.backends.torch.address import (
    GraphAddress,
    GraphPlace,
    draw_in_graph,
    draw_values,
    graph_address,
    noise_in_graph,
    uniform_of,
    words_at_on_device,
)
from thinned.backends.torch.derivative import Linear
from thinned.backends.torch.internals import (
    forward_ad,
    functorch,
    in_transform,
    modes,
    own_dispatch,
    tracing,
)
from thinned.backends.torch.kernel import FLOATING, Drawn, Noise, affine, coordinates_of, make
from thinned.backends.torch.operators import (
    BERNOULLI,
    GAUSSIAN,
    GRADIENT,
    drop_values,
    noise_compiled,
    noise_drawn,
    noise_registered,
)
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import eager, has_values, recorded, unread
from thinned.checks import MOST_AXES, message
from thinned.window import Placement, place, place_anew

__all__ = [
    "Coordinates",
    "Noise",
    "backend",
    "coordinates_of",
    "filled",
    "noise",
    "noise_",
    "noise_compiled",
    "noise_drawn",
]

CPU = torch.device("cpu")
QUANTIZED = (torch.qint8, torch.quint8, torch.qint32)
# Tensors of which some or all elements cannot be read.
WITHOUT_VALUES = (MaskedTensor, UninitializedParameter, UninitializedBuffer)

# Used at every call: looked up once.
_in_transform, _modes, _tracing = in_transform, modes, tracing
_grad_enabled = torch.is_grad_enabled


class TorchBackend(Backend):
    @property
    def namespace(self) -> Any:
        return array_api_compat.torch

    def located(
        self, who: str, at: Any, window: Any, shape: tuple[int, ...]
    ) -> Located | GraphAddress:
        if isinstance(at, GraphAddress):
            return at
        found = Located.checked(who, at, window)
        return graph_address(at, window, shape) if recorded() else found

    def holds(self, kind: Any) -> bool:
        return issubclass(kind, Tensor)

    def constant(self, value: float, x: Tensor) -> Tensor:
        if x.dtype.is_floating_point and abs(value) > torch.finfo(x.dtype).max:
            value = math.copysign(math.inf, value)  # which PyTorch refuses to round
        return torch.full((), value, dtype=x.dtype, device=x.device)

    def require_floating(self, who: str, x: Tensor, name: str = "x") -> None:
        if x.dtype not in FLOATING:
            names = [str(kind).removeprefix("torch.") for kind in FLOATING]
            listed = ", ".join(names[:-1]) + f" or {names[-1]}"
            got = str(x.dtype).removeprefix("torch.")
            remedy = "" if x.dtype.is_complex else f"Convert it: {name}.float()."
            raise TypeError(message(who, name, f"of type {listed}", got, remedy))
        self.require_dense(who, x, name)

    def of_complex(self, x: Tensor) -> bool:
        return x.dtype.is_complex

    def complex_of(self, real: Tensor, imaginary: Tensor) -> Tensor:
        return torch.complex(real, imaginary)

    def is_sparse(self, x: Tensor) -> bool:
        return x.layout is not torch.strided and not x.is_nested

    def require_integers(
        self, who: str, x: Tensor, name: str, requirement: str = "of an integer type"
    ) -> None:
        if not self.of_integers(x):
            raise TypeError(message(who, name, requirement, str(x.dtype).removeprefix("torch.")))
        self.require_dense(who, x, name)

    def require_real(self, who: str, x: Tensor, name: str) -> None:
        if x.dtype.is_complex or x.dtype in QUANTIZED:
            got = str(x.dtype).removeprefix("torch.")
            raise TypeError(message(who, name, "a tensor of real numbers", got))
        self.require_dense(who, x, name)

    def require_dense(self, who: str, x: Tensor, name: str) -> None:
        requirement = "a dense (strided) tensor"
        if type(x) is not Tensor and isinstance(x, WITHOUT_VALUES):
            got = f"a {type(x).__name__}, some of whose values are none"
            raise TypeError(message(who, name, requirement, got))
        if x.layout is not torch.strided:
            got = str(x.layout).removeprefix("torch.")
            remedy = f"Drop on its values, or pass {name}.to_dense()."
            raise TypeError(message(who, name, requirement, got, remedy))
        if x.is_nested:
            remedy = "Build it with layout=torch.jagged, for thinned.torch's functions."
            raise TypeError(message(who, name, requirement, "a nested one", remedy))
        if x.ndim > MOST_AXES:
            raise TypeError(message(who, name, f"of {MOST_AXES} axes at most", x.ndim))

    def require_beside(self, who: str, array: Tensor, name: str, x: Tensor, beside: str) -> None:
        if array.ndim and array.device != x.device:  # PyTorch takes numbers wherever they lie
            requirement = f"on the device of {beside} ({x.device})"
            raise ValueError(message(who, name, requirement, str(array.device)))

    def require_out(self, who: str, x: Tensor, out: Any) -> None:
        if not isinstance(out, Tensor):
            raise TypeError(message(who, "out", "a torch tensor", type(out).__name__))
        self.require_dense(who, out, "out")
        if out.shape != x.shape:
            raise ValueError(
                message(who, "out", f"of x's shape {tuple(x.shape)}", tuple(out.shape))
            )
        if out.dtype != x.dtype:
            raise TypeError(message(who, "out", f"of x's type {x.dtype}", str(out.dtype)))
        if out.device != x.device:
            raise ValueError(message(who, "out", f"on x's device {x.device}", str(out.device)))
        if not unread():
            _require_writable(who, out)

    def compiling(self) -> bool:
        return unread()

    def staged(self) -> bool:
        return unread()

    def traced(self, p: Any) -> bool:
        if isinstance(p, Tensor):  # a nested one has no shape, and is refused where p is checked
            return not p.is_nested and (unread() or not has_values(p))
        return hasattr(p, "shape") and unread()

    def placed(
        self, who: str, at: Any, window: Any, shape: tuple[int, ...], shared_axes: Any
    ) -> tuple[Any, Any]:
        where = place_anew if unread() else place
        return settled(who, at), where(who, shape, shared_axes, window)

    def rate(self, p: Any) -> tuple[Any, Any]:
        wide = p.to(torch.float64)
        threshold = torch.round(wide * 2.0**32).to(torch.int64)
        return threshold, torch.where(wide == 1.0, 1.0, 1.0 / (1.0 - wide))

    def keep(self, draw: Draw, like: Tensor | None = None) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            assert like is not None
            return draw_in_graph(draw, "mask", like)
        device = CPU if like is None else like.device
        if recorded() and device.type == "cpu" and not kernel.uses_reference():
            # What dropout leaves of ones: the operator needs no second form for the mask.
            ones = torch.ones(draw.place.shape, dtype=torch.float32, device=device)
            return noise_registered(ones, Noise(draw, 1.0)).to(torch.bool)
        return draw_values(draw, "mask", like)

    def packed(self, draw: Draw) -> Tensor:
        bits = self.keep(draw).reshape(-1).to(torch.uint8)
        bits = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).reshape(-1, 8)
        weights = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=CPU)
        return (bits * weights).sum(1, dtype=torch.uint8)

    def words(self, draw: Draw, like: Tensor | None = None) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            assert like is not None
            return draw_in_graph(draw, "words", like)
        return draw_values(draw, "words", like)

    def words_at(self, at: Any, index: Tensor, mirror: bool) -> Tensor:
        if isinstance(at, GraphAddress):
            return spec.words_at(at.coordinates("words_at"), index, mirror)
        watched = _modes() or _tracing() or _wraps(index)
        plain = index.is_cpu and not devices.uses_triton(index.device)
        if plain and not watched and not kernel.uses_reference():
            # Ten times as quick as tensor operations, each of which goes through the memory.
            drawn = reference.words_at(at, index.numpy().astype(np.uint64), mirror)
            return torch.from_numpy(drawn.astype(np.int64))
        if not watched and not _in_transform() and devices.uses_triton(index.device):
            return words_at_on_device(at, index, mirror)
        return spec.words_at(coordinates_of(at), index, mirror)

    def keep_each(self, at: Any, threshold: Any, index: Tensor, mirror: bool) -> Tensor:
        if isinstance(at, GraphAddress):
            return spec.keep_each(at.coordinates("keep_each"), threshold, index, mirror)
        unwatched = not (unread() or _modes() or _tracing() or _wraps(index))
        if unwatched and index.is_cpu and not _in_transform():
            limit = np.asarray(threshold).astype(np.uint64)
            drawn = reference.keep_each(at, limit, index.numpy().astype(np.uint64), mirror)
            return torch.from_numpy(drawn)
        return spec.keep_each(coordinates_of(at), threshold, index, mirror)

    def rates(self, p: Tensor) -> tuple[Tensor, Tensor]:
        threshold, scale = self.rate(p.detach())
        return threshold, scale

    def at_least(self, words: Tensor, threshold: Any) -> Any:
        return words >= threshold

    def uniform(self, draw: Draw, like: Tensor | None = None) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            return uniform_of(self.words(draw, like))
        return draw_values(draw, "uniform", like)

    def gaussian(self, draw: Draw, like: Tensor | None = None) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            assert like is not None
            return draw_in_graph(draw, "gaussian", like)
        return draw_values(draw, "gaussian", like)

    def apply_gaussian(self, x: Tensor, draw: Draw, std: Any, out: Any) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            return noise_in_graph(x, draw, std, GAUSSIAN)
        return self._into(x, Noise(draw, std, 0.0, True), out)

    def apply(self, x: Tensor, draw: Draw, scale: Any, fill: Any, out: Any) -> Tensor:
        number = isinstance(fill, (int, float))
        if isinstance(draw.place, GraphPlace):
            assert out is None
            array = None if number else torch.as_tensor(fill, dtype=x.dtype).expand(x.shape)
            one = float(fill) if number else 0.0
            return noise_in_graph(x, draw, scale, BERNOULLI, one, array)
        if number:
            return self._into(x, Noise(draw, scale, float(fill)), out)
        array = torch.as_tensor(fill, dtype=x.dtype, device=x.device).expand(x.shape)
        y = filled(x, array, Noise(draw, scale))
        return y if out is None else self.copy(y, out)

    def normal_cdf(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.ndtr(x)
        return y

    def on_gradient(self, x: Tensor, draw: Draw, scale: Any) -> Tensor:
        if isinstance(draw.place, GraphPlace):
            return noise_in_graph(x, draw, scale, GRADIENT)
        y: Tensor = _OnGradient.apply(x, Noise(draw, scale))  # type: ignore[no-untyped-call]
        return y

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x.detach()

    def plain_dropout(self, x: Any, p: Any, at: Any, out: Any) -> Any:
        return None if out is not None else self.plain_rows(x, p, at, -1, None)

    def remade(self, function: Any, *arguments: Any) -> Any:
        # The transforms of torch.func refuse the hooks that a checkpoint is made of.
        if torch.compiler.is_compiling() or not _grad_enabled() or _in_transform():
            return function(*arguments)
        # What runs again draws by address, and so the same: there is no state to preserve.
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)  # noqa: THN043

    def plain_rows(self, x: Any, p: Any, at: Any, axes: int, scale: float | None) -> Any:
        if torch.compiler.is_compiling() or type(at) is not Address:
            return None
        return compiled_node.dropout(x, p, at, axes, scale)

    def copy(self, x: Tensor, out: Tensor) -> Tensor:
        return out.copy_(x)

    def _into(self, x: Tensor, how: Noise, out: Any) -> Tensor:
        if torch.compiler.is_compiling():
            y = noise_registered(x, how)
        elif out is x:
            return noise_(x, None, how)
        else:
            y = noise(x, None, how)
        return y if out is None else self.copy(y, out)


# ------------------------------------------------------------------------------------------- eager


def _seeded(how: Noise, seed: Tensor | None) -> Noise:
    """The noise with the seed that a generator gave, a number."""
    if seed is None:
        return how
    at = how.draw.at
    named: Any = Drawn(int(seed.item()) & (2**64 - 1), at.site, at.step, at.call)
    return how._replace(draw=how.draw._replace(at=named))


def _seeded_unread(how: Noise, seed: Tensor | None) -> Noise:
    """The same with the seed as a tensor, which the operator is the first to read."""
    if seed is None:
        return how
    at = how.draw.at
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words: Any = Coordinates(low, high, at.site, at.step, at.call)
    return how._replace(draw=how.draw._replace(at=words))


def _shared_in_front(how: Noise, n: int) -> Noise:
    """The same draws for each of n arrays that lie along a new leading axis."""
    p = how.draw.place
    repeated = Placement((n, *p.shape), p.offset, (0, *p.strides), False, (0, *p.strides))
    return how._replace(draw=how.draw._replace(place=repeated))


class _Eager(Linear, torch.autograd.Function):
    """The address is kept as an attribute: no tensor is saved.

    One of the two forms that PyTorch has for a Function: this one starts in 10 microseconds, the
    other, which torch.func needs, in 55.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, array: Tensor | None, how: Noise, inplace: bool) -> Tensor:
        ctx.how = how._replace(fill=0.0) if how.fill else how
        ctx.inplace = inplace
        ctx.set_materialize_grads(False)
        if inplace:
            ctx.mark_dirty(x)
        return make(x, how, x if inplace else None, array)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        return _again(x, ctx.how)

    @classmethod
    def jvp(cls, ctx: Any, dx: Tensor | None, df: Tensor | None, *rest: Any) -> Tensor | None:
        moved = super().jvp(ctx, dx, df, *rest)
        return dx.copy_(moved) if ctx.inplace and dx is not None and moved is not None else moved


# Up to 2.13 Function.apply is this and two microseconds of checks for transforms of torch.func,
# which `noise` has made before.
_eager: Any = super(torch.autograd.Function, _Eager).apply


def _elsewhere(x: Tensor, numbers: tuple[int, ...]) -> Tensor:
    """The noise on a gradient that is not plain, for the compiled part: numbers as in its `How`."""
    return _again(x, wire.read_native(numbers, tuple(x.shape)))


def _again(grad: Tensor, how: Noise) -> Tensor:
    """The noise of a forward pass that is over, on its gradient. A vmap over the backward pass has
    many gradients and no say in the mask."""
    return noise(grad, seed_again(how) if _in_transform() else None, how)


def seed_again(how: Noise) -> Tensor:
    """A known seed as a tensor (int64, 0-d), which no vmap makes another one of."""
    seed = how.draw.at.seed
    signed = seed - 2**64 if seed >= 2**63 else seed
    return torch.full((), signed, dtype=torch.int64, device=CPU)


class _OnGradient(torch.autograd.Function):
    """y = x, and the gradient of y with noise for that of x. It has no forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, how: Noise) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.how = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return noise(grad, None, ctx.how), None


class _Transformed(Linear, torch.autograd.Function):
    """The same under the transforms of torch.func, where a seed may be a batch of seeds."""

    @staticmethod
    def forward(x: Tensor, array: None, seed: Tensor | None, how: Noise) -> Tensor:
        if _watched(x):
            return noise_registered(x, _seeded_unread(how, seed))
        return make(x, _seeded(how, seed))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, _, ctx.seed, how = inputs
        ctx.how = how._replace(fill=0.0)
        ctx.set_materialize_grads(False)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        return noise(x, ctx.seed, ctx.how)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, array: None, seed: Tensor | None, how: Noise
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        x = x.expand(n, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        if in_dims[2] is not None:  # a seed of its own for each, drawn under "different"
            assert seed is not None
            seeds = seed.movedim(in_dims[2], 0)
            return torch.stack([noise(x[i], seeds[i], how) for i in range(n)]), 0
        if seed is None and info.randomness == "different":
            at = how.draw.at
            each = [how._replace(draw=how.draw._replace(at=at.fold_in(i))) for i in range(n)]
            return torch.stack([noise(x[i], None, each[i]) for i in range(n)]), 0
        return noise(x, seed, _shared_in_front(how, n)), 0


def _entry_by_entry(x: Tensor) -> Tensor:
    """x as a batch, under a vmap that wants another mask for each entry of one address: an x that
    is the same for all would not show _Transformed that there are several."""
    vmap = functorch.peek_interpreter_stack()
    if vmap is None or vmap.key() != functorch.TransformType.Vmap:
        return x
    level = functorch.CVmapInterpreterPtr(vmap)
    if level.randomness() != functorch.RandomnessType.Different or (
        functorch.is_batchedtensor(x) and functorch.maybe_get_level(x) == vmap.level()
    ):
        return x
    batch = x.unsqueeze(0).expand(level.batchSize(), *x.shape)
    y: Tensor = functorch._add_batch_dim(batch, 0, vmap.level())
    return y


def _wraps(x: Tensor) -> bool:
    """Whether x is a tensor around others (a DTensor, a FakeTensor), for the dispatcher to open.

    Subclasses without a dispatch of their own have plain memory, parameters among them.
    """
    return type(x).__torch_dispatch__ is not own_dispatch


def _watched(x: Tensor) -> bool:
    """Whether somebody is to see the operator on x: a dispatch mode, a tracer, x itself."""
    return bool(_modes() or _tracing()) or (type(x) is not Tensor and _wraps(x))


@eager
def noise(x: Tensor, seed: Tensor | None, how: Noise) -> Tensor:
    """The noise on x, differentiable. A seed (0-d, int64) takes the place of the address's."""
    y: Tensor
    if _in_transform():
        x = x if seed is not None else _entry_by_entry(x)
        # PyTorch gives Function.apply no types.
        y = _Transformed.apply(x, None, seed, how)  # type: ignore[no-untyped-call]
        return y
    if seed is not None:
        if _watched(x):
            return noise_registered(x, _seeded_unread(how, seed))
        how = _seeded(how, seed)
    (at, threshold, where, mirror), scale, fill, gaussian = how
    if x.is_cpu:
        short = compiled_node.noise(
            x, scale, fill, gaussian, at.seed, at.site, at.step, at.call, threshold, mirror,
            where.offset, where.steps,
        )  # fmt: skip
        if short is not None:
            y = short
            return y
    if _watched(x):
        return noise_registered(x, how)
    if (x.requires_grad and _grad_enabled()) or forward_ad._current_level >= 0:
        y = _eager(x, None, how, False)
    else:
        y = make(x, how)
    return y


@eager
def noise_(x: Tensor, seed: Tensor | None, how: Noise) -> Tensor:
    """The same into x itself."""
    if _in_transform() or _watched(x):
        return x.copy_(noise(x, seed, how))
    # Checked before anything is written; PyTorch itself checks afterwards.
    if x.requires_grad and x.is_leaf and _grad_enabled():
        raise RuntimeError(
            "thinned: a leaf tensor that requires grad cannot be written in place. "
            "Pass inplace=False."
        )
    if 0 in x.stride() and any(n > 1 and not s for n, s in zip(x.shape, x.stride(), strict=True)):
        raise RuntimeError(
            "thinned: more than one element of x lies in the same memory (it was expanded), so it "
            "cannot be written in place. Pass x.clone()."
        )
    y: Tensor = _eager(x, None, _seeded(how, seed), True)
    return y


@eager
def filled(x: Tensor, array: Tensor, how: Noise) -> Tensor:
    """The noise on x with an array of fill values, of x's shape and type; two gradients."""
    if _in_transform():
        # f + s m (x - f) in parts that carry the transforms, with the dropped elements selected.
        kept = noise(torch.ones_like(x), None, how._replace(scale=1.0)).to(torch.bool)
        return torch.where(kept, affine(x, how.scale, array), array)
    if torch.compiler.is_compiling() or _watched(x) or _wraps(array):
        return noise_registered(x, how, array)
    y: Tensor = _eager(x, array, how, False)
    return y


compiled_node.connect(_elsewhere, drop_values)


def _require_writable(who: str, out: Tensor) -> None:
    """ValueError where PyTorch would not write into `out`."""
    if out.requires_grad and out.is_leaf and torch.is_grad_enabled():
        remedy = "Pass out.detach()."
        got = "a leaf that requires one"
        raise ValueError(message(who, "out", "a tensor that requires no gradient", got, remedy))
    if any(step == 0 and n > 1 for step, n in zip(out.stride(), out.shape, strict=True)):
        requirement, got = "a tensor whose elements share no memory", "an expanded tensor"
        raise ValueError(message(who, "out", requirement, got, "Pass out.clone()."))
    if out.is_inference() and not torch.is_inference_mode_enabled():
        requirement, got = "a tensor that can be written", "one of the inference mode"
        raise ValueError(message(who, "out", requirement, got, "Pass out.clone()."))


backend = TorchBackend()
known(backend, Tensor, torch.nn.Parameter)
