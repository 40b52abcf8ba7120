"""adopt: a model's dropout becomes addressed dropout; release: it becomes what it was."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from thinned import checks
from thinned.checks import message
from thinned.pages.fragment import paragraph, rows_of
from thinned.schedules.sites import EVERYWHERE, SiteRule, require_allowed, rules_of
from thinned.torch.adoption import site as addressed
from thinned.torch.adoption.by_hand import BY_HAND, Held, Moved, held_rate
from thinned.torch.adoption.bytecode import NOISY, Reading, hooked, read, read_hooks
from thinned.torch.adoption.functional_calls import (
    AdoptedForward,
    EncoderForward,
    taken,
)
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import has_own_code, is_script, modules_by_name, unwrapped
from thinned.torch.adoption.site import ADDRESSED, Addressed, Site
from thinned.torch.adoption.watching import Noticed
from thinned.torch.clock.clock import BUFFER, Clock
from thinned.torch.clock.optimizers import optimizers_of
from thinned.torch.clock.ranks import require_choice
from thinned.torch.compat.covers import covers_of
from thinned.torch.compat.fx_leaf import leaf, no_leaf
from thinned.torch.dropin import modules

__all__ = ["NothingToAdoptError", "Report", "Row", "adopt", "release"]

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
_ENCODERS = (nn.TransformerEncoderLayer, nn.TransformerEncoder)
_TIME_FIRST = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_MARK = "thinned_adoption"
_ATTENTION = "scaled_dot_product_attention"

_OURS = {
    getattr(modules, kind.__name__): at_a_site
    for kind, at_a_site in ADDRESSED.items()
    if hasattr(modules, kind.__name__)
}


# What modules are after adoption.
_AFTER = tuple(ADDRESSED.values())


class NothingToAdoptError(ValueError):
    """A model in which nothing drops."""


class Row(NamedTuple):
    """A line of a report. p is None where a call in the model's code brings its own, where it is
    learned, and where a module has several of its own.

    Where a site follows a schedule, p is that of step 0. attention: whether all that it is known
    to call is attention. held: the attribute that has p, or the probability to keep, of a module
    which draws by code of its own. by_call: whether p is brought by calls, in which a schedule may
    take its place.
    """

    site: str
    kind: str
    p: float | None
    done: str
    reached: bool = True
    learned: bool = False
    several: bool = False
    attention: bool = False
    held: str = ""
    by_call: bool = False

    @property
    def may_follow(self) -> bool:
        """Whether a schedule can move p. It leaves alone what a configuration holds, which may be
        saved while the training goes on."""
        return self.by_call or (self.p is not None and "." not in self.held)


@dataclass(frozen=True)
class Report:
    """What `adopt` did, as a table when printed.

    The rows are those of now. Dropout that the model's code does not show (a function that is
    looked up while it runs) is addressed too, and has a row from its first call on; so do draws
    that are not reached and that only the first forward in training shows.

    clock : Clock. The model's clock: `tick()` and `piece(start)`.
    read : tuple of Row. What was known before the model ran.
    """

    clock: Clock
    read: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """A Row for each site and for what could not be reached: site, kind, p, done, reached."""
        noticed: Noticed = self.clock.noticed
        known = {row.site for row in self.read if row.reached}
        seen = [name for name in self.clock.drawing() if name not in known]
        done = "calls addressed, seen when they ran"
        rows = [Row(name, noticed.kinds.get(name, ""), None, done) for name in seen]
        for site, why in noticed.told():
            rows.append(Row(site, noticed.kinds.get(site, ""), None, why, reached=False))
        return (*map(self._as_ran, self.read), *rows)

    def _as_ran(self, row: Row) -> Row:
        """A row that was read, with what the first forward in training showed of it."""
        if row.reached or not self.clock.noticed.idle(row.site):
            return row
        return row._replace(done=f"{row.done}: not called in the first training forward")

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites that were adopted."""
        return tuple(row.site for row in self.rows if row.reached)

    @property
    def not_reached(self) -> tuple[Row, ...]:
        """What may be dropout and was left alone."""
        return tuple(row for row in self.rows if not row.reached)

    def __str__(self) -> str:
        if not self.rows:
            return (
                "No dropout so far: no module of it, and no call that the code shows. One that "
                "only a run shows has its row after the first forward in training."
            )
        lines = [_HEAD, *map(_cells, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        return "\n".join(
            "  ".join((*(text.ljust(n) for text, n in zip(line, widths, strict=False)), line[3]))
            for line in lines
        )

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        rows = self.rows
        return rows_of(_HEAD, map(_cells, rows)) if rows else paragraph(str(self))


_HEAD = ("site", "kind", "p", "what was done")


def _cells(row: Row) -> tuple[str, str, str, str]:
    unknown = "learned" if row.learned else "its own" if row.several else "the call's"
    p = unknown if row.p is None else f"{row.p:g}"
    return row.site or '""', row.kind, p if row.reached else "", row.done


@dataclass
class _Plan:
    """One module to be changed. The site's name is None where only calls in a graph are counted."""

    module: nn.Module
    change: Callable[[_Adoption, _Plan], None]
    site: str | None = None
    p: float | None = None
    axis: int = 0
    code: bool = False  # whether it is somebody's own code, which may drop as only a run shows
    gates: dict[str, Any] = field(default_factory=dict)  # what it makes of numbers that it draws
    held: Held | None = None  # the attribute that has its p, where code of its own draws


@dataclass
class _Adoption:
    clock: Clock
    changed: list[nn.Module] = field(default_factory=list)
    rows: tuple[Row, ...] = ()


def adopt(
    model: nn.Module,
    *,
    seed: int = 0,
    optimizer: Any = None,
    ranks: str | None = None,
    group: Any = None,
    schedule: Any = None,
    steps: int | None = None,
) -> Report:
    """Give every dropout of a model an address: seed, site, step and call decide its masks.

    In place. Reached are torch.nn's dropout modules and thinned.torch's, dropout inside
    nn.MultiheadAttention, nn.Transformer*, nn.LSTM, nn.GRU and nn.RNN, and calls in the model's own
    code of F.dropout and its kin, F.scaled_dot_product_attention and Tensor.bernoulli_ (functional
    drop_path), all while the module that makes them is in training mode.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one (DistributedDataParallel, torch.compile's, ...).
    seed : int in [0, 2^64). The random field of the model's masks.
    optimizer : torch.optim.Optimizer, a wrapper that holds one, or None. The clock's step advances
        after each step of it that is really taken; without one, call report.clock.tick().
    ranks : "split", "independent", "replicated" or None. What the processes of a group hold: equal
        parts of one batch in the order of their ranks, batches with masks of their own, the same.
        Needed with more than one process, unless the data are DTensors, or clock.piece says it. A
        tensor-parallel layer says it only with use_local_output=False.
    group : process group or None for all processes. The one over which `ranks` is meant.
    schedule : dict from patterns of sites' names (as a shell's: *, ?, [..]) to what
        `thinned.schedules` has, to a p, or to a function of (step, steps). From then on the clock's
        step alone says what p these sites have, and setting it is an error; `release` gives back
        the p from before. "*" is all sites whose p a schedule can move; the others are named in the
        report. A rule of depth spreads over the layers that match: docs/schedules.md.
    steps : int or None. All steps of the training; needed where a schedule is relative to it.

    Returns
    -------
    Report, a table of what was done and what could not be reached. Its `clock` lives in the model,
    in the buffer "thinned_clock" of its state_dict.

    Raises
    ------
    ValueError if the model cannot drop (modules of torch.nn alone, and no dropout in them; one with
    code of its own may), two sites' names have the same 32-bit number, the model or a part of it
    was adopted before, a pattern matches no site, or one that another pattern matches, or, but for
    "*", one whose p no schedule can move, or a schedule comes to a p that a module refuses. The
    model is then left as it was. TypeError if it is no module or optimizer no optimizer.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> print(thinned.torch.adopt(model, seed=0))
    site  kind     p    what was done
    1     Dropout  0.5  addressed
    """
    model, names = _checked(model, seed, optimizer, ranks)
    plans, rows = _plans(model, names)
    _require_sites(plans, rows)
    rules = rules_of(schedule, steps, {row.site: row.may_follow for row in rows if row.reached})
    for plan in plans:
        require_p, name = getattr(plan.module, "require_p", None), plan.site or ""
        if require_p is not None and name in rules:
            require_allowed(name, rules[name], require_p)
    rows = [_scheduled(row, rules.get(row.site), schedule) for row in rows]
    adoption = _Adoption(Clock(model, seed, ranks, group))
    adoption.clock.rules.update(rules)
    adoption.clock.noticed = _noticed(plans, rows)
    try:
        for plan in plans:
            adoption.changed.append(plan.module)
            plan.change(adoption, plan)
        hooked: Any = model  # PyTorch gives this method no types
        hooked.register_load_state_dict_pre_hook(adoption.clock.before_load)
        if optimizer is not None:
            adoption.clock.follow(optimizer)
        adoption.rows = tuple(rows)
        model.__dict__[_MARK] = adoption
    except BaseException:
        _undo(model, adoption)
        raise
    return Report(adoption.clock, adoption.rows)


def release(model: nn.Module) -> None:
    """Undo `adopt`: the modules are what they were, with the p that they have now.

    Those that followed a schedule have the p from before it.
    The clock leaves the model and its state_dict, which torch.nn's twin then loads strictly.

    Parameters
    ----------
    model : the model that was adopted, or a wrapper of it.

    Raises
    ------
    ValueError if the model is not adopted, or another hand has changed the forward or the class of
    a module since, and would have what is undone here run again: the model is then as it was.
    """
    model = unwrapped(model) if isinstance(model, nn.Module) else model
    adoption = getattr(model, "__dict__", {}).get(_MARK)
    if adoption is None:
        raise ValueError(
            message(
                "release", "model", "an adopted model", f"a {type(model).__name__} that is none"
            )
        )
    _require_on_top(adoption, modules_by_name(model))
    _undo(model, adoption)


# ---------------------------------------------------------------------------------- before adoption


def _checked(
    model: Any, seed: Any, optimizer: Any, ranks: Any
) -> tuple[nn.Module, dict[nn.Module, list[str]]]:
    if not isinstance(model, nn.Module):
        raise TypeError(message("adopt", "model", "a torch.nn.Module", type(model).__name__))
    checks.integer("adopt", "seed", seed, 0, 2**64)
    require_choice("adopt", ranks)
    if optimizer is not None:
        optimizers_of(optimizer)
    model = unwrapped(model)
    names = modules_by_name(model)
    for module, called in names.items():
        drawing = isinstance(module, Sited) and module.site is not None
        if _MARK in module.__dict__ or drawing or isinstance(module, Addressed):
            kind = getattr(module, "was", type(module)).__name__
            where = f"its part {called[0]!r}" if called[0] else "the model"
            raise ValueError(f"adopt: {where}, a {kind}, is adopted already. Call release first.")
    if BUFFER in dict(model.named_buffers(recurse=False)):
        raise ValueError(f"adopt: the model has a buffer {BUFFER!r} of its own. Rename it.")
    return model, names


def _plans(model: nn.Module, names: dict[nn.Module, list[str]]) -> tuple[list[_Plan], list[Row]]:
    plans: list[_Plan] = []
    rows: list[Row] = []
    lent: dict[str, str] = {}
    time_first = _children_with_rows_second(names)
    for module, (name, *others) in names.items():
        kind, axis = type(module), 1 if module in time_first else 0
        shared = f", shared with {', '.join(others)}" if others else ""
        functional = f"{name}/dropout"
        if is_script(module):
            why = "not reached: TorchScript, whose calls are not Python's; adopt before scripting"
            rows.append(Row(name, kind.__name__, None, why, reached=False))
        elif kind in ADDRESSED or kind in _OURS:
            p = taken("adopt", module.p, f"p of {name!r}")
            plans.append(_Plan(module, _addressed, name, p, axis))
            rows.append(Row(name, kind.__name__, p, f"addressed{shared}"))
        elif isinstance(module, Sited):
            own = module.own_p
            plans.append(_Plan(module, _sited, name, own, module.batch_axis))
            learned, several = (own is None and module.several is v for v in (False, True))
            done = "addressed, its noise is learned" if learned else "addressed"
            done += shared
            rows.append(Row(name, kind.__name__, own, done, learned=learned, several=several))
        elif isinstance(module, nn.MultiheadAttention):
            p = taken("adopt", module.dropout, f"dropout of {name!r}")
            plans.append(_Plan(module, _attention, functional, p))
            if p:
                rows.append(Row(functional, kind.__name__, p, f"weights addressed{shared}"))
        elif isinstance(module, _RECURRENT):
            p = taken("adopt", module.dropout, f"dropout of {name!r}")
            plans.append(_Plan(module, _forward, functional))
            if p and module.num_layers > 1:
                done = f"addressed between layers, which run one by one{shared}"
                rows.append(Row(functional, kind.__name__, p, done))
        elif _is_dropout(module):
            # A subclass with the forward of torch.nn's: its class stays, its call is seen.
            plans.append(_Plan(module, _forward, name, axis=axis))
            done = f"its call addressed{shared}"
            rows.append(Row(name, kind.__name__, None, done, by_call=True))
        elif isinstance(module, tuple(_OURS)):
            why = f"not reached: a subclass of thinned.torch.{_ours(module)}"
            rows.append(Row(name, kind.__name__, None, why, reached=False))
        elif has_own_code(module) or hooked(module):
            found = read(module, names)
            held = held_rate(module, found)
            plan = _Plan(module, _forward, functional, code=True, gates=found.gates, held=held)
            plans.append(plan)
            rows.extend(_rows_of_code(module, found, held, functional, shared))
            if _ATTENTION in found.reached:
                lent |= {names[one][0]: functional for one in found.lent if one in names}
        elif isinstance(module, NOISY):
            rows.append(_not_reached(name, kind.__name__, [kind.__name__]))
        elif isinstance(module, _ENCODERS):
            plans.append(_Plan(module, _encoder))
        elif module is model or _begins_checkpoint(module):
            plans.append(_Plan(module, _forward))
    hooks = read_hooks(model)
    if drawing := hooks.reached | hooks.missed:
        where = [f"{name} in a forward hook of the model itself" for name in sorted(drawing)]
        rows.append(_not_reached("", type(model).__name__, where))
    return plans, [_lending(row, lent.get(row.site)) for row in rows]


def _lending(row: Row, site: str | None) -> Row:
    """A row of a module whose p the code hands to fused attention: which site draws, then."""
    if site is None or not row.reached:
        return row
    return row._replace(done=f"{row.done}; {site!r} draws with its p where attention is fused")


def _scheduled(row: Row, rule: SiteRule | None, schedule: Any) -> Row:
    if not row.reached:
        return row
    if rule is None:
        left = EVERYWHERE in (schedule or ())
        return row._replace(done=f"{row.done}, p follows no schedule") if left else row
    return row._replace(p=rule(0), done=f"{row.done}, p by {rule}")


def _begins_checkpoint(module: nn.Module) -> bool:
    """Whether a module checkpoints its child: a graph must begin to count before that."""
    return "_checkpoint_wrapped_module" in module._modules


def _ours(module: nn.Module) -> str:
    return next(str(kind.__name__) for kind in _OURS if isinstance(module, kind))


def _is_dropout(m: nn.Module) -> bool:
    return any(isinstance(m, kind) and type(m).forward is kind.forward for kind in ADDRESSED)


def _rows_of_code(
    module: nn.Module, found: Reading, held: Held | None, site: str, shared: str
) -> list[Row]:
    kind, rows = type(module).__name__, []
    if found.reached:
        done = f"calls of {', '.join(sorted(found.reached))} addressed{shared}"
        alone, by_hand = found.reached <= BY_HAND, found.reached & BY_HAND
        p = held.p if held is not None and alone else None
        name = "" if held is None else held.name
        attention = found.reached == {_ATTENTION}
        by_call = not by_hand or (held is not None and held.is_own and not alone)
        rows.append(Row(site, kind, p, done, attention=attention, held=name, by_call=by_call))
    if found.missed:
        rows.append(_not_reached(site, kind, sorted(found.missed)))
    return rows


def _not_reached(site: str, kind: str, names: list[str]) -> Row:
    why = f"not reached: {', '.join(names)} draws from a generator, and may be dropout"
    return Row(site, kind, None, why, reached=False)


def _noticed(plans: list[_Plan], rows: list[Row]) -> Noticed:
    """What the first forwards are compared with."""
    kinds = {plan.site: type(plan.module).__name__ for plan in plans if plan.site is not None}
    known: dict[str, list[str]] = {}
    for row in rows:
        if not row.reached:
            names = row.done.removeprefix("not reached: ").partition(" draws")[0]
            known.setdefault(row.site, []).extend(names.split(", "))
    return Noticed(kinds, known)


def _children_with_rows_second(names: dict[nn.Module, list[str]]) -> set[nn.Module]:
    """The dropout modules of transformer layers with batch_first=False."""
    layers = (m for m in names if isinstance(m, _TIME_FIRST) and not m.self_attn.batch_first)
    return {child for layer in layers for child in layer.children()}


def _require_sites(plans: list[_Plan], rows: list[Row]) -> None:
    if not any(row.reached for row in rows) and not any(plan.code for plan in plans):
        missed = "; ".join(row.done for row in rows)
        raise NothingToAdoptError(
            "adopt: the model has no dropout to adopt: modules of torch.nn alone, and none of them "
            "drops." + (f" {missed}." if missed else "")
        )
    numbers: dict[int, str] = {}
    for plan in plans:
        if plan.site is None:
            continue
        number = zlib.crc32(plan.site.encode())
        if number in numbers:
            raise ValueError(
                f"adopt: sites {numbers[number]!r} and {plan.site!r} have the same 32-bit number "
                f"{number}, and would draw the same masks. Rename one of the two modules."
            )
        numbers[number] = plan.site


# -------------------------------------------------------------------------------- adoption and back


def _addressed(adoption: _Adoption, plan: _Plan) -> None:
    module: Any = plan.module
    assert plan.site is not None
    module.__dict__["was"] = type(module)
    module.__dict__["site"] = Site(adoption.clock, plan.site, plan.p, plan.axis)
    module.__class__ = (ADDRESSED | _OURS)[type(module)]
    leaf(module)


def _sited(adoption: _Adoption, plan: _Plan) -> None:
    assert plan.site is not None
    plan.module.__dict__["site"] = Site(adoption.clock, plan.site, plan.p, plan.axis)


def _attention(adoption: _Adoption, plan: _Plan) -> None:
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


def _forward(adoption: _Adoption, plan: _Plan) -> None:
    clock = adoption.clock
    site = None if plan.site is None else Site(clock, plan.site, axis=plan.axis)
    if site is not None:
        site.gates = dict(plan.gates)
        if plan.held is not None and plan.held.moves and site.rule is not None:
            site.moved = Moved(plan.module, plan.held)
            site.follow(clock.step)
    AdoptedForward(plan.module, clock, site).lay()


def _require_on_top(adoption: _Adoption, names: dict[nn.Module, list[str]]) -> None:
    """ValueError where another hand has changed since what would be undone: the last one to change
    a module is the first one to undo it."""
    for module in adoption.changed:
        what = "" if all(cover.loose for cover in _laid_by(adoption, module)) else "forward"
        if "was" in module.__dict__ and type(module) not in (*_AFTER, addressed.MultiheadAttention):
            what = "class"
        if what:
            name = names.get(module, ["?"])[0]
            raise ValueError(
                f"release: the {what} of {name or 'the model'!r}, a {type(module).__name__}, was "
                "changed since the model was adopted. Undo that first, then release the model."
            )


def _laid_by(adoption: _Adoption, module: nn.Module) -> list[AdoptedForward]:
    """What an adoption laid over a module's forward, the uppermost first."""
    ours = (cover for cover in covers_of(module) if isinstance(cover, AdoptedForward))
    return [cover for cover in ours if cover.clock is adoption.clock][::-1]


def _encoder(adoption: _Adoption, plan: _Plan) -> None:
    EncoderForward(plan.module, adoption.clock, None).lay()


def _undo(model: nn.Module, adoption: _Adoption) -> None:
    for module in adoption.changed:
        state = module.__dict__
        if "was" in state or isinstance(module, Sited):
            state.pop("site", None)
        if "was" in state:
            module.__class__ = state.pop("was")
            if type(module) not in _OURS:
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
    model.__dict__.pop(_MARK, None)
