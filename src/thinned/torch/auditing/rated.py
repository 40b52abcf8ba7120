"""Rules of the model audit on rates in training: none, all, another one, another scale."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from torch import nn

from thinned.torch.adoption.bytecode import read
from thinned.torch.auditing.expectation import scales
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.observer import DROPPING, is_by_hand, is_dropout, nominal_p
from thinned.torch.auditing.rule import KINDS, rule
from thinned.torch.auditing.sites import sites_of_runs
from thinned.torch.layers.around import LayerDrop

__all__: list[str] = []

# The chance of a false "wrong rate", for each site.
_FALSE_ALARM = 1e-9


@rule(
    "never drops",
    observed="A module with p > 0 was not called in training, or drew nothing.",
    why="The network trains without it.",
)
def _idle(seen: Observed) -> Iterator[Finding]:
    drawing = {one.module for run in seen.trainings for one in run.seen}
    drawing |= {one.site for run in seen.trainings for one in run.seen}
    skipping = [n for m, names in seen.names.items() if isinstance(m, LayerDrop) for n in names]
    steps = len(seen.trainings)
    chosen = _called_in_another(seen, drawing)
    lost = {one.site for one in KINDS["p lost after evaluation"].check(seen)}
    lent = {pair for run in seen.trainings for pair in run.uses.attention}
    for module, (name, *_) in seen.names.items():
        weighted = isinstance(module, (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN))
        if not (weighted or is_dropout(module)) or not steps:
            continue
        p = nominal_p(module)
        if not p or name in drawing or p == 1.0:  # nothing is drawn to drop everything
            continue
        if name in lost:
            continue  # told with its reason
        if any(name.startswith(f"{above}." if above else "") for above in skipping):
            continue  # skipped by chance, it may be
        calls = sum(run.calls.get(name, 0) for run in seen.trainings)
        if calls and is_by_hand(module) and not _returns_its_input(seen, name):
            continue  # it does something, by draws that are not PyTorch's
        asleep = calls and all(module in run.asleep for run in seen.trainings)
        if asleep and _is_frozen(seen, name):
            continue  # a teacher, or what else is kept as it is
        kind = type(module).__name__
        if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN)) and module.num_layers == 1:
            detail = f"{kind} with p = {p:g} has one layer, and drops between layers only."
            mend = "Put a Dropout after it, use more layers, or leave dropout out."
        elif calls:
            off = ": it is in evaluation mode after model.train()" if asleep else ""
            detail = f"{kind} with p = {p:g} was called {calls} times in training, and drew nothing"
            detail += f"{off}."
            mend = "Let its forward draw where self.training is True, or take it out."
            if asleep:
                mend = "Let train(mode) reach it, or take it out."
        elif (_kind_around(seen, name), name.rpartition(".")[2]) in chosen:
            continue  # the block is built without it, as others of its class are not
        elif (name.rpartition(".")[0], p) in lent:
            continue  # attention drops in its stead
        elif name.rpartition(".")[0] in drawing and _lends_its_p(seen, module, name):
            continue
        else:
            detail = f"{kind} with p = {p:g} was not called in {steps} training forwards."
            mend = "Call it in forward, or take it out."
        yield Finding(name, "never drops", detail, mend)
    for call in {c.site: c for run in seen.trainings for c in run.uses.asleep}.values():
        where = f" ({call.line})" if call.line else ""
        yield Finding(
            call.site,
            "never drops",
            f"A function with p = {call.p:g} was not told the mode, and then drops in none{where}.",
            "Pass training=self.training: alpha dropout has False as default.",
        )


def _around(seen: Observed, name: str) -> nn.Module | None:
    """The module that holds another."""
    above = name.rpartition(".")[0]
    return next((m for m, names in seen.names.items() if above in names), None)


def _is_frozen(seen: Observed, name: str) -> bool:
    """Whether a module stands in a part of the model that model.train() leaves in evaluation, and
    of which no parameter is trained."""
    run, part = seen.trainings[0], _around(seen, name)
    while part is not None and part in run.asleep:
        parameters = list(part.parameters())
        if parameters:
            return not any(p.requires_grad for p in parameters)
        name = name.rpartition(".")[0]
        part = _around(seen, name)
    return False


def _kind_around(seen: Observed, name: str) -> type | None:
    """The class of the module that holds another; None for PyTorch's own, which choose nothing."""
    kind = type(_around(seen, name))
    return None if kind.__module__.startswith("torch.") else kind


def _called_in_another(seen: Observed, drawing: set[str]) -> set[tuple[type | None, str]]:
    """Attributes of classes in whose instances a dropout drew, by class and name."""
    return {
        (kind, name.rpartition(".")[2])
        for name in drawing
        if "." in name and (kind := _kind_around(seen, name)) is not None
    }


def _lends_its_p(seen: Observed, module: nn.Module, name: str) -> bool:
    """Whether the code of the module around it hands on its p, and so drops in its stead."""
    around = _around(seen, name)
    return around is not None and module in read(around, seen.names).lent


def _returns_its_input(seen: Observed, name: str) -> bool:
    found = [one for run in seen.trainings for one in run.ratios.get(name, ())]
    return bool(found) and all(one.factor == one.share == 1.0 for one in found)


@rule(
    "drops everything",
    observed="A call with p = 1: usually `F.dropout(x, self.training)`, where the mode is passed "
    "as p and True means 1. Or a module with p = 1.0, which was called in training.",
    why="Every element is 0, in training or in evaluation.",
)
def _everything(seen: Observed) -> Iterator[Finding]:
    """p = 1: in a call mostly the mode, in the place of p; in a module a number for another."""
    by_name = "Pass the mode by its name: F.dropout(x, p, training=self.training)."
    smaller = "p is the probability to drop: give it a smaller one, or take the module out."
    modes: dict[str, dict[str, None]] = defaultdict(dict)
    told: dict[str, tuple[object, str]] = {}
    own: set[str] = set()
    for mode, runs in (("training", seen.trainings), ("evaluation", seen.evaluations)):
        for run in runs:
            for site, found in run.everything.items():
                modes[site][mode] = None
                told.setdefault(site, found)
    for module, (name, *_) in seen.names.items():
        given = [getattr(module, key, None) for key in ("p", "dropout")]
        said = next((p for p in given if p is True or (isinstance(p, float) and p == 1.0)), None)
        called = any(run.calls.get(name) for run in seen.trainings)
        if said is not None and isinstance(module, DROPPING) and called:
            modes[name]["training"] = None
            told[name] = said, ""
            own.add(name)
    for site, (p, line) in told.items():
        place = f" ({line})" if line else ""
        detail = f"p is {p}, which is 1, in {' and '.join(modes[site])}{place}: every element is 0."
        yield Finding(site, "drops everything", detail, smaller if site in own else by_name)


def _unlikely(dropped: int, n: int, p: float) -> bool:
    """Whether `dropped` of n is out of bounds: Chernoff's, 2 exp(-n KL(dropped / n, p))."""
    if n == 0 or not 0.0 < p < 1.0:
        return False
    rate = dropped / n
    divergence = sum(a * math.log(a / b) for a, b in ((rate, p), (1.0 - rate, 1.0 - p)) if a > 0.0)
    return n * divergence > math.log(2.0 / _FALSE_ALARM)


def _bound(n: int, p: float) -> float:
    """How far a rate may lie from p, in the normal approximation, at 6 standard errors."""
    return 6.0 * math.sqrt(p * (1.0 - p) / n)


@rule(
    "wrong rate",
    observed="The fraction dropped is outside the Chernoff bounds for p (probability 1e-9 per "
    "site).",
    why="p was used as the probability to keep, for example.",
)
def _rates(seen: Observed) -> Iterator[Finding]:
    modules = {names[0]: module for module, names in seen.names.items()}
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for run in seen.trainings:
        for name, numbers in run.rates.items():
            counted[name] = [a + b for a, b in zip(counted[name], numbers, strict=True)]
    for name, (dropped, elements, draws) in counted.items():
        p = nominal_p(modules[name])
        if p is None or not elements:
            continue
        rate = dropped / elements
        # As many independent draws as there were, not as many as elements.
        if _unlikely(round(rate * draws), draws, p):
            yield _rate_finding(name, rate, p, draws)
    for row in sites_of_runs(seen):
        if row.p is None or row.rate is None or row.site in counted:
            continue
        if _unlikely(round(row.rate * row.drawn), row.drawn, row.p):
            yield _rate_finding(row.site, row.rate, row.p, row.drawn)


@rule(
    "wrong scale",
    observed="A mask written by hand with a scale that changes the mean between training and "
    "evaluation: divided by p, not scaled, scaled twice, scaled in evaluation too.",
    why="The next layer gets one mean in training and another in evaluation.",
)
def _scale(seen: Observed) -> Iterator[Finding]:
    told = {one.site for one in _rates(seen)}  # one mistake is reported once
    yield from (one for one in scales(seen) if one.site not in told)


def _rate_finding(site: str, rate: float, p: float, draws: int) -> Finding:
    detail = (
        f"{rate:.4g} of its inputs are dropped, and p = {p:g}: {draws} draws allow "
        f"{p:g} ± {_bound(draws, p):.2g}."
    )
    kept = abs(rate - (1.0 - p)) < _bound(draws, p) and p != 0.5
    mend = "p is taken for the probability to keep: drop where u < p." if kept else (
        "Compare the draws with p: an element is dropped where u < p, and scaled by 1 / (1 - p)."
    )  # fmt: skip
    return Finding(site, "wrong rate", detail, mend)
