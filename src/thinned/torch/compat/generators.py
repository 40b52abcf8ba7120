"""What a model draws from PyTorch's generators, drawn from copies of them: they are everybody's."""

from __future__ import annotations

from typing import Any

import torch

from thinned.torch.compat.thread_mode import ThreadMode

__all__ = ["OwnDraws"]

_CPU = torch.device("cpu")


class OwnDraws(ThreadMode):
    """Operations within draw what they would, and PyTorch's generators stay where they are.

    Only this thread's operations are looked at. One that takes no generator (CUDA's fused attention
    is) is noticed, and draws as it does.

    used : whether anything was drawn.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.used = False
        self._own: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        named = _named(func, args, kwargs)
        if named.get("generator") is not None:
            return func(*args, **kwargs)
        taking = _taking_a_generator(func)
        if taking is None:
            # Its neighbours in other threads draw from the same generator: only its rate tells.
            self.used = self.used or named.get("dropout_p", named.get("p")) != 0.0
            return func(*args, **kwargs)
        own = self._generator(_device_of(args, kwargs))
        before = own.get_state()
        result = taking(*args, **{**kwargs, "generator": own})
        self.used = self.used or not torch.equal(own.get_state(), before)
        return result

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._own:
            of_all = _default(device)
            self._own[device] = torch.Generator(device).set_state(of_all.get_state())
        return self._own[device]


def _default(device: torch.device) -> torch.Generator:
    """PyTorch's own generator of a device."""
    if device.type != "cuda":
        return torch.default_generator
    return torch.cuda.default_generators[device.index]


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    given = kwargs.get("device")
    if given is None:
        given = next((a.device for a in args if isinstance(a, torch.Tensor)), _CPU)
    device = torch.device(given)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.device("cuda", index)
    return _CPU


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What an operation is called with, by name."""
    told = {argument.name: argument.default_value for argument in func._schema.arguments}
    return {**told, **dict(zip(told, args, strict=False)), **kwargs}


def _taking_a_generator(func: Any) -> Any:
    """The overload of these arguments that takes a generator, if there is one."""
    named = [argument.name for argument in func._schema.arguments]
    if "generator" in named:
        return func
    packet = func.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads()):
        names = [argument.name for argument in overload._schema.arguments]
        if "generator" in names and [n for n in names if n != "generator"] == named:
            return overload
    return None
