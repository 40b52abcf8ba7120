"""Noise on a weight of any module: the weight that its forward reads, drawn once for each forward.

torch.nn.utils.parametrize draws at each reading, moves the raw weight to another name in the
state_dict, and is not seen by recurrent layers, which read a list of weights of their own. So here
the weight stays what it is, a parameter under its own name, and another stands in its place while
the module's forward runs. A child module holds p and the site; it is what `adopt` finds.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thinned import checks, methods
from thinned.address import Address
from thinned.backends.torch.backend import backend
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.methods.draws import Draws
from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.adoption.module import Sited
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.covers import Cover, cover_behind, covers_of

__all__ = [
    "WeightNoise",
    "drop_connect",
    "mixout",
    "remove_noise",
    "targeted_dropout",
    "weight_drop",
]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


class WeightNoise(Sited):
    """Noise on one weight: the weight in, what stands in its place out.

    Put into a module by `weight_drop` and its kin, under the weight's name and `suffix`.

    Attributes
    ----------
    p : float in [0, 1]. May be set.
    """

    suffix = ""
    # Whether evaluation, too, puts another weight in place.
    in_evaluation = False

    def __init__(self, p: float) -> None:
        super().__init__(checks.probability(type(self).__name__, p))

    @property
    def batch_axis(self) -> int:
        return NO_ROWS

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training:
            return self.noisy(weight, self.quiet_p, _NOWHERE, None)
        return self.on_shard(weight, lambda w, at, window, p: self.noisy(w, p, at, window))

    def noisy(self, weight: Tensor, p: Any, at: Any, window: Any) -> Tensor:
        """The weight as the method leaves it; in evaluation, by the method's rule."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"p={self.p}"


class WeightDrop(WeightNoise):
    """thinned.weight_drop of one weight."""

    suffix = "drop"

    def noisy(self, weight: Tensor, p: Any, at: Any, window: Any) -> Tensor:
        y: Tensor = methods.weight_drop(weight, p, at, self.training, window=window)
        return y


class DropConnectWeight(WeightNoise):
    """DropConnect with one mask for all that a forward computes."""

    suffix = "drop_connect"
    in_evaluation = True

    def noisy(self, weight: Tensor, p: Any, at: Any, window: Any) -> Tensor:
        draws = Draws("drop_connect", weight, p, at, self.training, window)
        y: Tensor
        y = draws.noise(weight, scale=1.0) if self.training else draws.scaled(weight, 1.0 - draws.p)
        return y


class Mixout(WeightNoise):
    """thinned.mixout of one weight.

    Attributes
    ----------
    reference : Tensor. The pretrained weight: a buffer, so that the state_dict has it.
    """

    suffix = "mixout"
    reference: Tensor

    def __init__(self, p: float, reference: Tensor) -> None:
        super().__init__(p)
        self.register_buffer("reference", reference.detach().clone())

    def noisy(self, weight: Tensor, p: Any, at: Any, window: Any) -> Tensor:
        reference = self.reference.to(weight.dtype)
        y: Tensor = methods.mixout(weight, reference, p, at, self.training, window=window)
        return y


class TargetedDropout(WeightNoise):
    """thinned.targeted_dropout of one weight."""

    suffix = "targeted_dropout"

    def __init__(self, p: float, gamma: float, target: str, prune: bool) -> None:
        super().__init__(p)
        self.gamma, self.target, self.prune = gamma, target, prune

    @property
    def in_evaluation(self) -> bool:  # type: ignore[override]
        return self.prune

    def noisy(self, weight: Tensor, p: Any, at: Any, window: Any) -> Tensor:
        y: Tensor = methods.targeted_dropout(
            weight, p, at, self.training,
            gamma=self.gamma, target=self.target, prune=self.prune, window=window,
        )  # fmt: skip
        return y

    def extra_repr(self) -> str:
        return f"p={self.p}, gamma={self.gamma}, target={self.target!r}, prune={self.prune}"


# --------------------------------------------------------------------------------- what users call

M = TypeVar("M", bound=nn.Module)


@answering
def weight_drop(module: M, name: str, p: float = 0.5) -> M:
    """Drop elements of a weight, anew at each forward in training (weight drop, AWD-LSTM).

    w' = w m / (1 - p) stands in the weight's place while the forward runs. The weight itself stays
    a parameter under its own name, is what the optimizer and the state_dict see, and gets the
    gradient through the mask. Evaluation uses it as it is.

    What is reached is what the module's own forward reads, nn.LSTM, nn.GRU and nn.RNN included,
    whose sequence, packed or not, sees one mask at all its steps. A weight that other code reads
    from outside (tied to another module, or of the output projection in nn.MultiheadAttention)
    is there as it is. A weight that torch.nn.utils.prune or weight_norm makes before each forward
    gets its noise behind that, on what was made. torch.compile breaks its graph at PyTorch's
    recurrent layers, with weight drop as without.

    Parameters
    ----------
    module : torch.nn.Module. Changed in place.
    name : str. The name of one of its own parameters: "weight", "weight_hh_l0".
    p : float in [0, 1]. Probability of dropping a weight. `module.<name>_drop.p` may be set later.

    Returns
    -------
    module itself. It holds a child `<name>_drop`, without parameters: the site that `adopt`
    addresses. `remove_noise(module, name)` undoes it all.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the module has no such parameter, or has noise on it
    already, or a hook makes of it the weight that is read. TypeError if it is no module. A forward
    raises RuntimeError where the weight was taken away since, by torch.nn.utils.parametrize say.

    References
    ----------
    Merity et al., 2018, arXiv:1708.02182.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> lstm = thinned.torch.weight_drop(torch.nn.LSTM(8, 16), "weight_hh_l0", p=0.5)
    >>> y, state = lstm(torch.zeros(5, 2, 8))
    >>> "weight_hh_l0" in lstm.state_dict()
    True
    """
    p = checks.probability("weight_drop", p)
    return _put("weight_drop", module, name, lambda w: WeightDrop(p))


@answering
def drop_connect(module: M, name: str, p: float = 0.5) -> M:
    """Drop elements of a weight without rescaling: DropConnect, one mask for a forward.

    w' = w m in training, (1 - p) w in evaluation. The paper draws a mask for each example:
    `thinned.drop_connect` and `DropConnectLinear` do.

    Parameters
    ----------
    module, name, p : as in `weight_drop`; the child is `<name>_drop_connect`.

    Returns
    -------
    module itself.

    Raises
    ------
    As `weight_drop`.

    References
    ----------
    Wan et al., 2013, ICML.
    """
    p = checks.probability("drop_connect", p)
    return _put("drop_connect", module, name, lambda w: DropConnectWeight(p))


@answering
def mixout(module: M, name: str, p: float = 0.5, reference: Tensor | None = None) -> M:
    """Replace elements of a weight by the pretrained ones, anew at each forward in training.

    w' = u + (w - u) m / (1 - p); evaluation uses w.

    Parameters
    ----------
    module, name, p : as in `weight_drop`; the child is `<name>_mixout`.
    reference : Tensor of the weight's shape, or None: the weight as it is now. u, copied: a buffer
        of the child, in the state_dict as `<name>_mixout.reference`.

    Returns
    -------
    module itself.

    Raises
    ------
    As `weight_drop`; ValueError if the reference has another shape.

    References
    ----------
    Lee et al., 2020, arXiv:1909.11299.
    """
    p = checks.probability("mixout", p)

    def noise(weight: Tensor) -> Mixout:
        u = weight if reference is None else reference
        if not isinstance(u, Tensor):
            got = type(u).__name__
            raise TypeError(message("mixout", "reference", "a tensor or None", got))
        backend.require_dense("mixout", u, "reference")
        if u.is_meta and not weight.is_meta:
            needed = "a tensor with values"
            raise TypeError(message("mixout", "reference", needed, "one of the meta device"))
        if u.shape != weight.shape:
            needed, got = f"of the weight's shape {tuple(weight.shape)}", str(tuple(u.shape))
            raise ValueError(message("mixout", "reference", needed, got))
        return Mixout(p, u.to(weight.device, weight.dtype))

    return _put("mixout", module, name, noise)


@answering
def targeted_dropout(
    module: M,
    name: str,
    p: float = 0.5,
    *,
    gamma: float = 0.5,
    target: str = "weights",
    prune: bool = True,
) -> M:
    """Drop the smallest elements (or units) of a weight, anew at each forward in training.

    Parameters
    ----------
    module, name, p : as in `weight_drop`; the child is `<name>_targeted_dropout`.
    gamma, target, prune : as in `thinned.targeted_dropout`. With prune, evaluation runs pruned.

    Returns
    -------
    module itself.

    Raises
    ------
    As `weight_drop` and `thinned.targeted_dropout`.

    References
    ----------
    Gomez et al., 2019, arXiv:1905.13678.
    """
    p = checks.probability("targeted_dropout", p)

    def noise(weight: Tensor) -> TargetedDropout:
        made = TargetedDropout(p, gamma, target, prune)
        with torch.no_grad():  # refuses what it could not do later
            methods.targeted_dropout(
                weight.detach(), p, _NOWHERE, False, gamma=gamma, target=target, prune=prune
            )
        return made

    return _put("targeted_dropout", module, name, noise)


@answering
def remove_noise(module: M, name: str) -> M:
    """Take the noise from a weight again: the module is what it was, its weight as it is now.

    Parameters
    ----------
    module : the module that was given to `weight_drop` or one of its kin.
    name : str. The weight's name.

    Returns
    -------
    module itself.

    Raises
    ------
    ValueError if there is no noise on this weight, or it is adopted: `release` the model first.
    """
    _require_module("remove_noise", module)
    if not isinstance(name, str):
        raise TypeError(message("remove_noise", "name", "a parameter's name", repr(name)))
    child, ours = _noise_on(module, name), _noisy_forward(module, name)
    if child is None or ours is None:
        raise ValueError(
            f"remove_noise: {name!r} of {type(module).__name__} has no noise to remove."
        )
    if child.site is not None or (len(ours.children) == 1 and not ours.loose):
        raise ValueError(
            f"remove_noise: the forward of this {type(module).__name__} was changed since, by "
            "adopt or another hand. Undo that first: thinned.torch.release(model), or what the "
            "other library has for it."
        )
    del module._modules[ours.children.pop(name)]
    if not ours.children:
        ours.lift()
    return module


# ------------------------------------------------------------------------------------- how it works


def _noise_on(module: nn.Module, name: str) -> WeightNoise | None:
    for child_name, child in module._modules.items():
        if isinstance(child, WeightNoise) and child_name == f"{name}_{child.suffix}":
            return child
    return None


def _noisy_forward(module: nn.Module, name: str) -> _NoisyForward | None:
    """The cover that puts the noise on the weight of this name."""
    ours = (cover for cover in covers_of(module) if isinstance(cover, _NoisyForward))
    return next((cover for cover in ours if name in cover.children), None)


def _held(module: nn.Module, name: str) -> dict[str, Any]:
    """Where the weight that the forward reads is kept: a parameter; or a plain tensor that a hook
    makes of others before each forward (pruning, weight_norm), or that a replica of
    torch.nn.DataParallel has in a parameter's place."""
    return module._parameters if name in module._parameters else module.__dict__


def _made_before_forward(module: nn.Module, name: str) -> str | None:
    """The weight that a hook of torch.nn.utils makes of the parameter `name`, where one does."""
    for hook in module._forward_pre_hooks.values():
        made = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
        if not isinstance(made, str) or not name.startswith(f"{made}_"):
            continue
        if isinstance(module.__dict__.get(made), Tensor):
            return made
    return None


def _require_module(who: str, module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(message(who, "module", "a torch.nn.Module", type(module).__name__))


def _put(who: str, module: M, name: str, noise: Callable[[Tensor], WeightNoise]) -> M:
    _require_module(who, module)
    if not isinstance(name, str):
        raise TypeError(message(who, "name", "a parameter's name", repr(name)))
    made = _made_before_forward(module, name)
    if made is not None:
        raise ValueError(
            f"{who}: {name!r} does not reach the module's forward, which reads {made!r}: a hook "
            f"makes it of {name!r} beforehand. Name {made!r}."
        )
    weight: Any = _held(module, name).get(name)
    if not isinstance(weight, Tensor):
        own = ", ".join(repr(n) for n, w in module._parameters.items() if w is not None)
        requirement = f"one of the module's own parameters ({own or 'it has none'})"
        raise ValueError(message(who, "name", requirement, repr(name)))
    if _noise_on(module, name) is not None:
        remedy = "Call remove_noise first."
        raise ValueError(f"{who}: {name!r} of this module has noise on it already. {remedy}")
    child = noise(weight)
    child.train(module.training)
    child_name = f"{name}_{child.suffix}"
    if hasattr(module, child_name):
        raise ValueError(f"{who}: the module has a {child_name!r} of its own. Rename it.")
    if any(isinstance(cover, AdoptedForward) for cover in covers_of(module)):
        raise ValueError(f"{who}: the module is adopted already. Call release first.")
    ours = cover_behind(module.__dict__.get("forward"))
    if not isinstance(ours, _NoisyForward):
        ours = _NoisyForward(module)
        ours.lay()
    ours.children[name] = child_name
    module.add_module(child_name, child)
    return module


class _NoisyForward(Cover):
    """The forward of a module with noise on its weights: the one that was there, given others.

    children : from a weight's name to that of the child that makes the noise.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.children: dict[str, str] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def weight(self, name: str) -> Tensor:
        """The weight of this name, as it is now."""
        found: Any = _held(self.module, name).get(name)
        if isinstance(found, Tensor):
            return found
        kind = type(self.module).__name__
        who = type(self.module._modules[self.children[name]]).__name__
        raise RuntimeError(
            f"{who}: {name!r} of this {kind} is no parameter any more, so that "
            "there is nothing to put noise on: torch.nn.utils.parametrize or other code took it "
            "away. Call thinned.torch.remove_noise(module, name) before, and put noise on what "
            "the module has then."
        )

    def covered(self, args: Any, kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return self._noisily(args, kwargs)
        # Another thread must not take the stand-in for the weight.
        with self._lock:
            return self._noisily(args, kwargs)

    def _noisily(self, args: Any, kwargs: Any) -> Any:
        module, noisy = self.module, {}
        for name, child_name in self.children.items():
            child: Any = module._modules[child_name]
            if child.training or child.in_evaluation:
                noisy[name] = child(self.weight(name))
        if not noisy:
            return self.run(args, kwargs)
        if isinstance(module, nn.RNNBase):
            return self._recurrent(noisy, args, kwargs)
        raw = {name: self.weight(name) for name in noisy}
        try:
            for name, weight in noisy.items():
                _held(module, name)[name] = weight
            return self.run(args, kwargs)
        finally:
            for name, parameter in raw.items():
                _held(module, name)[name] = parameter

    def _recurrent(self, noisy: dict[str, Tensor], args: Any, kwargs: Any) -> Any:
        """A recurrent layer reads a list, and would flatten new parameters into one memory: so it
        keeps its parameters, and is given another list."""
        module: Any = self.module
        module._update_flat_weights()
        raw = module._flat_weights
        try:
            module._flat_weights = [
                noisy.get(name, weight)
                for name, weight in zip(module._flat_weights_names, raw, strict=True)
            ]
            if not raw[0].is_cuda:
                return self.run(args, kwargs)
            with warnings.catch_warnings():
                # cuDNN gathers them at each call, as it must where they are new at each call.
                warnings.filterwarnings("ignore", "RNN module weights are not part of single")
                return self.run(args, kwargs)
        finally:
            module._flat_weights = raw
