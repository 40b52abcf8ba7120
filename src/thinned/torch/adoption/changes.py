"""How each kind of module is changed by adopt, and changed back by release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from thinned.torch.adoption import site as addressed
from thinned.torch.adoption.by_hand import Held, Moved
from thinned.torch.adoption.functional_calls import AdoptedForward, EncoderForward
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.report import Row
from thinned.torch.adoption.site import ADDRESSED, Site
from thinned.torch.clock.clock import Clock
from thinned.torch.compat.covers import covers_of
from thinned.torch.compat.fx_leaf import leaf, no_leaf
from thinned.torch.dropin import modules

__all__ = [
    "MARK",
    "OURS",
    "Adoption",
    "Plan",
    "at_a_site",
    "by_calls",
    "in_attention",
    "in_encoder",
    "of_our_own",
    "require_on_top",
    "undo",
]

MARK = "thinned_adoption"  # the attribute of an adopted model that holds its Adoption

# The drop-ins, each with the class that it has at a site.
OURS = {
    getattr(modules, kind.__name__): at_a_site
    for kind, at_a_site in ADDRESSED.items()
    if hasattr(modules, kind.__name__)
}

# What modules are after adoption.
_AFTER = (*ADDRESSED.values(), addressed.MultiheadAttention)


@dataclass
class Plan:
    """One module to be changed. The site's name is None where only calls in a graph are counted."""

    module: nn.Module
    change: Callable[[Adoption, Plan], None]
    site: str | None = None
    p: float | None = None
    axis: int = 0
    code: bool = False  # whether it is user code, which may drop in ways that only a run shows
    gates: dict[str, Any] = field(default_factory=dict)  # what it does with numbers that it draws
    held: Held | None = None  # the attribute that has its p, where code of its own draws


@dataclass
class Adoption:
    clock: Clock
    changed: list[nn.Module] = field(default_factory=list)
    rows: tuple[Row, ...] = ()


def at_a_site(adoption: Adoption, plan: Plan) -> None:
    module: Any = plan.module
    assert plan.site is not None
    module.__dict__["was"] = type(module)
    module.__dict__["site"] = Site(adoption.clock, plan.site, plan.p, plan.axis)
    module.__class__ = (ADDRESSED | OURS)[type(module)]
    leaf(module)


def of_our_own(adoption: Adoption, plan: Plan) -> None:
    assert plan.site is not None
    plan.module.__dict__["site"] = Site(adoption.clock, plan.site, plan.p, plan.axis)


def in_attention(adoption: Adoption, plan: Plan) -> None:
    module: Any = plan.module
    assert plan.site is not None
    exact = type(module) is nn.MultiheadAttention
    site = Site(adoption.clock, plan.site, plan.p if exact else None)
    if exact:
        module.__dict__["was"] = type(module)
        module.__dict__["site"] = site
        module.__class__ = addressed.MultiheadAttention
        leaf(module)
    AdoptedForward(module, adoption.clock, site, own=exact).lay()


def by_calls(adoption: Adoption, plan: Plan) -> None:
    clock = adoption.clock
    site = None if plan.site is None else Site(clock, plan.site, axis=plan.axis)
    if site is not None:
        site.gates = {name: tuple(gates) for name, gates in plan.gates.items()}
        if plan.held is not None and plan.held.moves and site.rule is not None:
            site.moved = Moved(plan.module, plan.held)
            site.follow(clock.step)
    AdoptedForward(plan.module, clock, site).lay()


def require_on_top(adoption: Adoption, names: dict[nn.Module, list[str]]) -> None:
    """ValueError where another hand has changed since what would be undone: the last one to change
    a module is the first one to undo it."""
    for module in adoption.changed:
        what = "" if all(cover.loose for cover in _laid_by(adoption, module)) else "forward"
        if "was" in module.__dict__ and type(module) not in _AFTER:
            what = "class"
        if what:
            name = names.get(module, ["?"])[0]
            raise ValueError(
                f"release: the {what} of {name or 'the model'!r}, a {type(module).__name__}, was "
                "changed since the model was adopted. Undo that first, then release the model."
            )


def _laid_by(adoption: Adoption, module: nn.Module) -> list[AdoptedForward]:
    """What an adoption laid over a module's forward, the uppermost first."""
    ours = (cover for cover in covers_of(module) if isinstance(cover, AdoptedForward))
    return [cover for cover in ours if cover.clock is adoption.clock][::-1]


def in_encoder(adoption: Adoption, plan: Plan) -> None:
    EncoderForward(plan.module, adoption.clock, None).lay()


def undo(model: nn.Module, adoption: Adoption) -> None:
    for module in adoption.changed:
        state = module.__dict__
        if "was" in state or isinstance(module, Sited):
            state.pop("site", None)
        if "was" in state:
            module.__class__ = state.pop("was")
            if type(module) not in OURS:
                no_leaf(module)
        for cover in _laid_by(adoption, module):
            if cover.site is not None and cover.site.moved is not None:
                cover.site.moved.back()
            cover.lift()
    hooks = model._load_state_dict_pre_hooks
    for key, hook in list(hooks.items()):
        if getattr(getattr(hook, "hook", hook), "__self__", None) is adoption.clock:
            del hooks[key]
    adoption.clock.leave()
    model.__dict__.pop(MARK, None)
