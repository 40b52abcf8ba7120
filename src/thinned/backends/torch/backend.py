"""The PyTorch backend: differentiable, nothing of a mask's size saved.

Three ways lead to one result, bit for bit:

- eager (eager.py): a node of autograd over the compiled kernel, which keeps no tensor for backward.
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
from thinned.backends.torch import compiled_node, devices, spec
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
from thinned.backends.torch.eager import (
    OnGradient,
    _grad_enabled,
    _in_transform,
    _modes,
    _tracing,
    _wraps,
    filled,
    noise,
    noise_into,
)
from thinned.backends.torch.kernel import FLOATING, Noise, coordinates_of
from thinned.backends.torch.operators import (
    BERNOULLI,
    GAUSSIAN,
    GRADIENT,
    noise_registered,
)
from thinned.backends.torch.values import has_values, recorded, unread
from thinned.checks import MOST_AXES, message
from thinned.window import place, place_anew

__all__ = ["backend"]

CPU = torch.device("cpu")
QUANTIZED = (torch.qint8, torch.quint8, torch.qint32)
# Tensors of which some or all elements cannot be read.
WITHOUT_VALUES = (MaskedTensor, UninitializedParameter, UninitializedBuffer)


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
        # PyTorch gives Function.apply no types.
        y: Tensor = OnGradient.apply(x, Noise(draw, scale))  # type: ignore[no-untyped-call]
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
            return y if out is None else self.copy(y, out)
        return noise(x, None, how) if out is None else noise_into(x, how, out)


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
