"""Dropout of a model off, or at another rate, for a while: `no_dropout` and `set_p`.

A dropout module is switched by its `training` flag and its p. A mode intercepts F.dropout and
related functions that the model's code calls; where the model is adopted, it sees them before the
mode that gives them their addresses.
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from thinned import checks
from thinned.backends.torch.values import inlined
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.torch.adoption.by_hand import BY_HAND, held_rate
from thinned.torch.adoption.bytecode import Reading, hooked, read
from thinned.torch.adoption.functional_calls import (
    PLACES,
    AdoptedForward,
    is_awake,
    p_of_call,
    quietly,
    with_p,
)
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import has_own_code, is_script, modules_by_name, unwrapped
from thinned.torch.adoption.site import ADDRESSED, Addressed
from thinned.torch.compat.arrays_in_graphs import as_written
from thinned.torch.compat.covers import Cover, covers_of

__all__ = ["no_dropout", "set_p"]

_DROPOUT = tuple(ADDRESSED)
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
# torch.nn's modules that drop inside: their flag decides that and nothing else.
_INSIDE = (nn.MultiheadAttention, *_RECURRENT)
_LEFT = (
    "set_p: masks are made by hand at {}, and the code does not show their p to be one attribute: "
    "they keep it. Set what holds it, or switch them off by no_dropout."
)


@answering
def no_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Every dropout of a model off, as in evaluation, and nothing else: batch norm trains on.

    For a reference policy, a loss without noise, a second opinion within a training step. The model
    may be adopted or plain; an adopted one counts no calls meanwhile, so that the masks of its next
    forward are those that it would have had. Reached is what `adopt` reaches: dropout modules of
    torch.nn and thinned.torch, dropout in nn.MultiheadAttention and recurrent networks, and calls
    of F.dropout and its kin in the model's own code. `train()` within does not switch it on again;
    `eval()` within holds afterwards.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one. Other threads that run it see it without dropout.

    Raises
    ------
    TypeError if it is no module. RuntimeError at the end if another hand has wrapped the forward of
    a module since, and would run what is undone here.

    Notes
    -----
    Run the backward pass within as well where checkpoints recompute: they run the model as it is.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> x = torch.ones(2, 4)
    >>> with thinned.torch.no_dropout(model):
    ...     y = model(x)
    >>> bool((y == model[0](x)).all()), model[1].training
    (True, True)
    """
    return _off(*_modules("no_dropout", model))


@answering
def set_p(model: nn.Module, pattern: str, p: float) -> AbstractContextManager[None]:
    """Another p for dropout of a model, for a while.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one, adopted or plain.
    pattern : which dropout: a pattern (as a shell's: *, ?, [..]) of sites' names, as the table of
        `adopt` has them. A module is called by its place in the model ("layers.0.drop"), the calls
        of F.dropout and its kin in a module's own code by the module's name and "/dropout". "*" is
        all that has a p; a warning names masks made by hand whose p is not known.
    p : float in [0, 1]. What is in evaluation drops nothing, as before. Sites that follow a
        schedule have this p meanwhile.

    Raises
    ------
    ValueError if p is outside [0, 1], or a module refuses it; if the pattern matches nothing, or a
    site whose p is not one number: learned, or one of several, or with a mask drawn by hand
    (bernoulli_, torch.rand(n) < p) whose p the code does not show to be one attribute of the
    module: as of DropPath, or LayerDrop. TypeError if model is no module. The model is
    then as it was.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> with thinned.torch.set_p(model, "1", 0.1):
    ...     model[1].p
    0.1
    >>> model[1].p
    0.5
    """
    _, names = _modules("set_p", model)
    p = checks.probability("set_p", p)
    if not isinstance(pattern, str):
        raise TypeError(message("set_p", "pattern", "a string", type(pattern).__name__))
    places = _places(names)
    found = [site for site in places if fnmatch.fnmatchcase(site, pattern)]
    if not found:
        listed = ", ".join(map(repr, places)) or "none"
        raise ValueError(f"set_p: pattern {pattern!r} matches no site. The sites are {listed}.")
    parts = [places[site] for site in found]
    if pattern == "*":
        unknown = [s for s, m in places.items() if not _has_flag(m) and _by_hand(m, names)]
        if unknown:
            warnings.warn(_LEFT.format(", ".join(map(repr, unknown))), stacklevel=2)
    else:
        for site, module in zip(found, parts, strict=True):
            _require_one_p(site, module, names)
        _require_none_beside(found, places, names)
    for module in parts:
        require = getattr(module, "require_p", None)
        if require is not None:
            require(p)
    return _at(p, parts, names)


def _modules(who: str, model: Any) -> tuple[nn.Module, dict[nn.Module, list[str]]]:
    if not isinstance(model, nn.Module):
        raise TypeError(message(who, "model", "a torch.nn.Module", type(model).__name__))
    root = unwrapped(model)
    names = modules_by_name(root)
    return root, {module: called for module, called in names.items() if not is_script(module)}


def _require_one_p(site: str, module: nn.Module, names: Iterable[nn.Module]) -> None:
    if _learns(module):
        raise ValueError(
            f"set_p: site {site!r}, a {type(module).__name__}, has no single p that could be set: "
            "its p is learned, or it has several. Use a pattern that does not match it."
        )
    by_hand = frozenset() if _has_flag(module) else _by_hand(module, names)
    if by_hand:
        raise ValueError(
            f"set_p: site {site!r} draws a mask by {', '.join(sorted(by_hand))}, whose p the code "
            "does not show to be one attribute of the module. Set what holds it."
        )


def _by_hand(module: nn.Module, names: Iterable[nn.Module]) -> frozenset[str]:
    """What a module makes masks of by hand, where nobody knows what holds their p."""
    found = read(module, names)
    by_hand = found.reached & BY_HAND
    return by_hand if by_hand and held_rate(module, found) is None else frozenset()


def _require_none_beside(
    found: list[str], places: dict[str, nn.Module], names: Iterable[nn.Module]
) -> None:
    """ValueError where what holds a site's p, a configuration, holds that of another site, too."""
    holders: dict[tuple[int, str], list[str]] = {}
    for site, module in places.items():
        held = None if _has_flag(module) else held_rate(module, read(module, names))
        if held is not None and not held.is_own:
            holder, name = held.holder(module)
            holders.setdefault((id(holder), name), []).append(site)
    for sites in holders.values():
        asked = [site for site in sites if site in found]
        beside = [site for site in sites if site not in found]
        if asked and beside:
            raise ValueError(
                f"set_p: site {asked[0]!r} has its p in a configuration that site {beside[0]!r} "
                "reads, too. Use a pattern that matches both."
            )


@contextmanager
def _off(root: nn.Module, names: dict[nn.Module, list[str]]) -> Iterator[None]:
    quiet = [module for module in names if _has_flag(module)]
    own = [module for module in names if _runs_code(module)]
    # Only the flag that the code reads stops draws that it makes by hand.
    asking = [*own, *(m for m in names if isinstance(m, (nn.ModuleList, nn.ModuleDict)))]
    quiet += [m for m in asking if not _has_flag(m) and read(m, names).reached & BY_HAND]
    before = {module: module.training for module in quiet}
    # A change of the model's mode meanwhile concerns these modules too; another module shows it.
    witness = next((module for module in root.modules() if module not in before), None)
    training = None if witness is None else witness.training
    with ExitStack() as stack:
        for module in own:
            _laid(stack, "no_dropout", _Met(module, quietly))
        _laid(stack, "no_dropout", _Asleep(root, quiet))
        try:
            _all_asleep(quiet)
            yield
        finally:
            for module, was in before.items():
                now = None if witness is None else witness.training
                module.training = was if now is None or now == training else now


@contextmanager
def _at(p: float, parts: list[nn.Module], names: Iterable[nn.Module]) -> Iterator[None]:
    with ExitStack() as stack:
        for module in parts:
            if not _has_flag(module):
                _another_p_of_code(stack, module, p, read(module, names))
            elif not _learns(module):
                _another_p(stack, module, p)
        yield


def _has_flag(module: nn.Module) -> bool:
    """Whether a module drops by itself: its flag steers that and nothing else, and it holds a p."""
    return isinstance(module, (*_DROPOUT, Sited, *_INSIDE))


def _runs_code(module: nn.Module) -> bool:
    """Whether a module runs code that may drop: of somebody's own, or of a subclass's."""
    plain = isinstance(module, (Addressed, Sited)) or type(module) in (*_DROPOUT, *_INSIDE)
    return not plain and (has_own_code(module) or hooked(module))


def _learns(module: nn.Module) -> bool:
    return isinstance(module, Sited) and module.own_p is None


def _places(names: dict[nn.Module, list[str]]) -> dict[str, nn.Module]:
    """What may be given another p, by the names that `adopt` gives sites."""
    places: dict[str, nn.Module] = {}
    for module, (name, *_) in names.items():
        if isinstance(module, _INSIDE):
            places[f"{name}/dropout"] = module
        elif _has_flag(module):
            places[name] = module
        elif _runs_code(module) and read(module, names).reached:
            places[f"{name}/dropout"] = module
    return places


# ------------------------------------------------------------------------------------------- p


class _With:
    """Calls what drops in a module's code with another p."""

    def __init__(self, module: nn.Module, p: float) -> None:
        self.module, self.p = module, p

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        awake = is_awake(func, args, kwargs)
        if func is functional.scaled_dot_product_attention:  # it has no argument `training`
            awake = self.module.training or bool(p_of_call(func, args, kwargs))
        return with_p(self.p, func, args, kwargs) if awake else func(*args, **kwargs)


def _another_p(stack: ExitStack, module: Any, p: float) -> None:
    """p for a module until the stack is unwound; what it had before, from then on."""
    name = "dropout" if isinstance(module, _INSIDE) else "p"
    site = module.__dict__.get("site")
    rule = None if site is None else site.rule
    if rule is None:
        stack.callback(setattr, module, name, getattr(module, name))
    else:
        stored = "_p" if isinstance(module, Sited) else name
        stack.callback(_scheduled_again, module, stored, module.__dict__[stored], rule)
        site.rule = None
    setattr(module, name, p)


def _another_p_of_code(stack: ExitStack, module: nn.Module, p: float, found: Reading) -> None:
    """The same for what a module's own code drops."""
    held = held_rate(module, found)
    if held is not None and held.moves:
        holder, name = held.holder(module)
        stack.callback(setattr, holder, name, getattr(holder, name))
        setattr(holder, name, held.of(p))
    if not found.reached <= BY_HAND:
        _laid(stack, "set_p", _Met(module, _With(module, p)))
    for cover in covers_of(module):
        if isinstance(cover, AdoptedForward) and cover.site and cover.site.rule:
            stack.callback(_following, cover.site, cover.site.rule)
            cover.site.rule = None


def _scheduled_again(module: Any, stored: str, p: float, rule: Any) -> None:
    module.__dict__[stored] = p
    _following(module.site, rule)


def _following(site: Any, rule: Any) -> None:
    """A site follows its schedule again."""
    site.rule = rule
    site.follow(site.clock.step)


# ------------------------------------------------------------------------------------------ covers


class _Meeting(TorchFunctionMode):
    """Hands each function that drops to `met(func, args, kwargs)`, which calls it otherwise."""

    def __init__(self, met: Callable[..., Any]) -> None:
        super().__init__()
        self.met = met

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in PLACES and func is not Tensor.bernoulli_:
            return self.met(func, args, kwargs)
        if args and isinstance(args[0], np.ndarray):
            return as_written(func, *args, **kwargs)
        return func(*args, **kwargs)


class _Met(Cover):
    """A module's forward, whose calls of what drops are met."""

    def __init__(self, module: nn.Module, met: Callable[..., Any]) -> None:
        super().__init__(module)
        self.met = met

    def covered(self, args: Any, kwargs: Any) -> Any:
        with _Meeting(self.met):
            return self.run(args, kwargs)


def _is_quiet(cover: Cover) -> bool:
    return isinstance(cover, _Met) and cover.met is quietly


class _Asleep(Cover):
    """The forward of the whole model: before it, dropout that was woken meanwhile sleeps again."""

    def __init__(self, module: nn.Module, quiet: list[nn.Module]) -> None:
        super().__init__(module)
        self.quiet = quiet

    def covered(self, args: Any, kwargs: Any) -> Any:
        _all_asleep(self.quiet)
        return self.run(args, kwargs)


def _all_asleep(modules: list[nn.Module]) -> None:
    for module in modules:
        if module.training:
            module.training = False


def _laid(stack: ExitStack, who: str, cover: Cover) -> None:
    """Lay a cover until the stack is unwound: beneath that of an adopted module, which then sees
    what this one made of a call, and beneath one of no_dropout, which has the last word."""
    laid = covers_of(cover.module)
    above = [c for c in laid if isinstance(c, AdoptedForward) or _is_quiet(c)]
    cover.lay(beneath=above[0] if above else None)
    stack.callback(_lifted, who, cover)


def _lifted(who: str, cover: Cover) -> None:
    if not cover.loose:
        kind = type(cover.module).__name__
        raise RuntimeError(
            f"{who}: the forward of a {kind} was wrapped within the block, by what would go on "
            "running without what is undone here. Wrap it before, or undo it within."
        )
    cover.lift()
