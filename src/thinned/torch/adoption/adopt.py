"""adopt: a model's dropout becomes addressed dropout; release: it becomes what it was."""

from __future__ import annotations

import zlib
from typing import Any

from torch import nn

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.schedules.sites import EVERYWHERE, SiteRule, require_allowed, rules_of
from thinned.torch.adoption.changes import MARK, Adoption, Plan, require_on_top, undo
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import modules_by_name, unwrapped
from thinned.torch.adoption.plans import noticed_by, plans_of
from thinned.torch.adoption.report import Report, Row
from thinned.torch.adoption.site import Addressed
from thinned.torch.clock.clock import BUFFER, Clock
from thinned.torch.clock.optimizers import optimizers_of
from thinned.torch.clock.ranks import require_choice

__all__ = ["NothingToAdoptError", "adopt", "release"]


class NothingToAdoptError(ValueError):
    """A model in which nothing drops."""


@answering
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
    plans, rows = plans_of(model, names)
    _require_sites(plans, rows)
    rules = rules_of(schedule, steps, {row.site: row.may_follow for row in rows if row.reached})
    for plan in plans:
        require_p, name = getattr(plan.module, "require_p", None), plan.site or ""
        if require_p is not None and name in rules:
            require_allowed(name, rules[name], require_p)
    rows = [_scheduled(row, rules.get(row.site), schedule) for row in rows]
    adoption = Adoption(Clock(model, seed, ranks, group))
    adoption.clock.rules.update(rules)
    adoption.clock.noticed = noticed_by(plans, rows)
    try:
        for plan in plans:
            adoption.changed.append(plan.module)
            plan.change(adoption, plan)
        hooked: Any = model  # PyTorch gives this method no types
        hooked.register_load_state_dict_pre_hook(adoption.clock.before_load)
        if optimizer is not None:
            adoption.clock.follow(optimizer)
        adoption.rows = tuple(rows)
        model.__dict__[MARK] = adoption
    except BaseException:
        undo(model, adoption)
        raise
    return Report(adoption.clock, adoption.rows)


@answering
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
    adoption = getattr(model, "__dict__", {}).get(MARK)
    if adoption is None:
        raise ValueError(
            message(
                "release", "model", "an adopted model", f"a {type(model).__name__} that is none"
            )
        )
    require_on_top(adoption, modules_by_name(model))
    undo(model, adoption)


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
        if MARK in module.__dict__ or drawing or isinstance(module, Addressed):
            kind = getattr(module, "was", type(module)).__name__
            where = f"its part {called[0]!r}" if called[0] else "the model"
            raise ValueError(f"adopt: {where}, a {kind}, is adopted already. Call release first.")
    if BUFFER in dict(model.named_buffers(recurse=False)):
        raise ValueError(f"adopt: the model has a buffer {BUFFER!r} of its own. Rename it.")
    return model, names


def _scheduled(row: Row, rule: SiteRule | None, schedule: Any) -> Row:
    if not row.reached:
        return row
    if rule is None:
        left = EVERYWHERE in (schedule or ())
        return row._replace(done=f"{row.done}, p follows no schedule") if left else row
    return row._replace(p=rule(0), done=f"{row.done}, p by {rule}")


def _require_sites(plans: list[Plan], rows: list[Row]) -> None:
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
