"""Rules of the model audit on how dropout is used: its results, its arguments, its place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from thinned.torch.auditing.arguments import (
    DROPPING,
    KEEPING,
    gives_what_it_keeps,
    told,
    unasked,
    unread,
)
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.observer import is_dropout, nominal_p
from thinned.torch.auditing.rule import rule
from thinned.torch.auditing.uses import Call

__all__: list[str] = []

_T = TypeVar("_T")


def _at(line: str) -> str:
    return f" ({line})" if line else ""


@rule(
    "result thrown away",
    observed="Dropout made a new tensor, and no operation, no output and no attribute used it.",
    why="The network trains without it: only in-place dropout changes what it is given.",
)
def _thrown(seen: Observed) -> Iterator[Finding]:
    places = [{(c.site, c.line): c for c in run.uses.thrown} for run in seen.trainings]
    for key, call in places[0].items() if places else ():
        if all(key in other for other in places[1:]):
            yield Finding(
                call.site,
                "result thrown away",
                f"What it returned, with p = {call.p:g}, was not used{_at(call.line)}.",
                "Use what it returns: x = self.drop(x).",
            )


@rule(
    "p lost after evaluation",
    observed="Trained, evaluated and trained again, a module's p, or the switch that it asks, is "
    "not what it was, and it drops nothing.",
    why="From the first evaluation on the network trains without dropout.",
)
def _lost(seen: Observed) -> Iterator[Finding]:
    if seen.first is None:
        return
    before: dict[str, list[float]] = defaultdict(list)
    for one in seen.first.seen:
        if one.p is not None:
            before[one.module].append(one.p)
    drew = {one.module for one in seen.first.seen}
    draws = {one.module for run in seen.trainings for one in run.seen}
    for module, names in seen.names.items():
        was, now = seen.numbers.get(module, {}), seen.numbers_after.get(module, {})
        if names[0] not in drew or names[0] in draws:
            continue
        for name, value in was.items():
            after = now.get(name)
            gone = isinstance(value, float) and 0.0 < value < 1.0 and after == 0.0
            switched = isinstance(value, bool) and isinstance(after, bool) and value is not after
            # PyTorch is given 1 - p, of which p is not always what it was.
            by_it = gone and any(math.isclose(p, value) for p in before[names[0]])
            if by_it or (gone and is_dropout(module)) or switched:
                yield Finding(
                    names[0],
                    "p lost after evaluation",
                    f"Its {name} was {value} in training, and is {after} in the training after an "
                    "evaluation: it drops nothing any more.",
                    "Ask self.training where it drops, and leave p as it is.",
                )
                break


@rule(
    "keep probability as p",
    observed="A call with a p that the code calls a probability to keep, or a module of a class "
    "whose constructor passes on such a one as it is.",
    why="A network that is to keep 0.9 keeps 0.1.",
)
def _kept(seen: Observed) -> Iterator[Finding]:
    mend = "Pass 1 - keep_prob."
    found: dict[str, str] = {}
    for run in seen.trainings:
        for call in run.uses.calls:
            keeping = sorted(word for word in call.words if KEEPING.search(word))
            if keeping and not any(map(DROPPING.match, call.words)) and call.p != 0.5:
                detail = f"{keeping[0]} = {call.p:g} is its p{_at(call.line)}."
                found.setdefault(call.site, f"A probability to keep, {detail}")
    for module in seen.names:
        keeping_name = gives_what_it_keeps(module)
        for child in _own_dropout(module) if keeping_name else ():
            p = nominal_p(child)
            if p and p not in (0.5, 1.0) and child in seen.names:
                site, kind = seen.names[child][0], type(module).__name__
                detail = f"{kind} passes on its {keeping_name} as p = {p:g}."
                found.setdefault(site, detail)
    for site, detail in found.items():
        yield Finding(site, "keep probability as p", detail, mend)


def _own_dropout(module: nn.Module) -> Iterator[nn.Module]:
    """The dropout modules of a module, in it or in its lists and sequences."""
    for child in module.children():
        if isinstance(child, nn.modules.dropout._DropoutNd):
            yield child
        elif isinstance(child, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
            yield from _own_dropout(child)


@rule(
    "unused argument",
    observed="A constructor's parameter named like a rate that its code never reads; or an "
    "attribute named so, above 0, that no code of the model reads, where nothing drops by it.",
    why="A user who sets it trains without dropout, or at another rate.",
)
def _unused(seen: Observed) -> Iterator[Finding]:
    mend = "Build the dropout with it and call that in forward, or take it out."
    drawn = {one.p for run in seen.trainings for one in run.seen}
    drawn |= {nominal_p(module) for module in seen.names if is_dropout(module)}
    for module, names in seen.names.items():
        kind = type(module).__name__
        for name in unasked(module):
            detail = f"{kind} takes {name}, and its constructor never reads it."
            yield Finding(names[0], "unused argument", detail, mend)
        if is_dropout(module):
            continue
        for name, value in told(module):
            if value not in drawn and unread(name, seen.names):
                detail = f"{kind} holds {name} = {value:g}, and no code of the model reads it."
                yield Finding(names[0], "unused argument", detail, mend)


@rule(
    "dropout on logits",
    observed="What a linear layer gave was dropped and then went straight into a loss, a "
    "log_softmax, the softmax that is the output, or is the output of a last layer.",
    why="A dropped logit is 0, a score like any other and often a high one.",
)
def _logits(seen: Observed) -> Iterator[Finding]:
    for call, what in _once([pair for run in seen.trainings for pair in run.uses.logits]):
        goes = "is the output" if what == "the output" else f"goes into {what}"
        yield Finding(
            call.site,
            "dropout on logits",
            f"What it dropped is scores, and {goes}{_at(call.line)}.",
            "Drop before the last layer: self.fc(self.drop(x)).",
        )


@rule(
    "channels on another axis",
    observed="Channel dropout (Dropout1d, 2d, 3d) of an input without channels, or whose features "
    "lie in the last axis.",
    why="Whole positions are dropped, or single elements, and not features.",
)
def _axes(seen: Observed) -> Iterator[Finding]:
    for call, how in _once([pair for run in seen.trainings for pair in run.uses.axes]):
        yield Finding(
            call.site,
            "channels on another axis",
            f"It drops whole channels, of the second axis, but {how}{_at(call.line)}.",
            "Use Dropout, or put the features into the second axis before it and back behind it.",
        )


@rule(
    "overwrites its input",
    observed="Dropout in place on a tensor that the code then reads by another name, or once more "
    "in the same expression; or a backward pass that fails because of it.",
    why="A residual connection adds what was dropped, not what was there.",
)
def _overwritten(seen: Observed) -> Iterator[Finding]:
    mend = "Leave out inplace=True."
    told_of = False
    for call, again in _once([pair for run in seen.trainings for pair in run.uses.overwritten]):
        told_of = True
        yield Finding(
            call.site,
            "overwrites its input",
            f"It overwrites {again.name} ({again.line}), which line {again.read_at} reads as if it "
            "were not dropped.",
            mend,
        )
    if seen.overwritten is not None and not told_of:
        reason = str(seen.overwritten).split(". ")[0]
        detail = f"The backward pass fails: {reason}."
        yield Finding("", "overwrites its input", detail, f"{mend} So for activations before it.")


def _once(pairs: list[tuple[Call, _T]]) -> list[tuple[Call, _T]]:
    return list({(call.site, call.line): (call, what) for call, what in pairs}.values())
