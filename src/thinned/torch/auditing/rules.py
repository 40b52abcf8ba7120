"""The rules of the model audit: what the observed runs of a model say, each with its mend."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator

from torch import nn

from thinned.torch.adoption.bytecode import read
from thinned.torch.auditing.draws import LIKELY, Seen, SeenLaw
from thinned.torch.auditing.expectation import scales
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.observer import DROPPING, is_by_hand, is_dropout, nominal_p
from thinned.torch.auditing.rule import KINDS, rule
from thinned.torch.auditing.sites import by_site, in_forward, sites_of_runs
from thinned.torch.layers.around import LayerDrop

__all__ = ["KINDS", "Finding", "Observed", "findings_of"]

# The chance of a false "wrong rate", for each site.
_FALSE_ALARM = 1e-9


def findings_of(seen: Observed) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order of KINDS."""
    return tuple(finding for kind in KINDS.values() for finding in kind.check(seen))


def _p(draws: list[Seen]) -> str:
    found = sorted({one.p for one in draws if one.p is not None})
    return f"p = {', '.join(f'{p:g}' for p in found)}" if found else "noise"


def _at(draws: list[Seen]) -> str:
    lines = list(dict.fromkeys(one.line for one in draws if one.line))
    return f" ({', '.join(lines[:3])})" if lines else ""


# ----------------------------------------------------------------------------------- in evaluation

_NOISE_BY_MODE = (
    "Draw it where self.training is True alone. A model that samples by design (a VAE, diffusion) "
    "may go on: seed its generator to repeat an evaluation."
)
_PASS_MODE = (
    "Pass training=self.training (to attention dropout_p=p if self.training else 0.0); build "
    "dropout modules in __init__, not in forward."
)


def _differing(seen: Observed) -> dict[str, int]:
    """Modules that gave different outputs for equal inputs, and in how many of their calls."""
    if len(seen.evaluations) < 2:
        return {}
    first, second = (run.outputs for run in seen.evaluations[:2])
    found: dict[str, int] = defaultdict(int)
    for key, (given, made) in first.items():
        other = second.get(key)
        if other is not None and other[0] == given and other[1] != made:
            found[key[0]] += 1
    return found


@rule(
    "drops in evaluation",
    observed="A draw after `model.eval()`.",
    why="Every figure measured there is noisy, and worse than the model really is.",
)
def _evaluation(seen: Observed) -> Iterator[Finding]:
    differing = _differing(seen)
    modules = {names[0]: module for module, names in seen.names.items()}
    for site, draws in by_site(one for run in seen.evaluations for one in run.seen).items():
        module = modules.get(draws[0].module)
        dropping = [one for one in draws if one.law != SeenLaw.noise or one.p is not None]
        if not dropping and draws[0].module not in differing:
            continue  # numbers that change nothing
        times = len([one for one in seen.evaluations[0].seen if one.site == site])
        how = f"{times} draw{'s' if times != 1 else ''} in one evaluation, {_p(draws)}{_at(draws)}"
        mend = _PASS_MODE
        if draws[0].module in seen.awake:
            how += "; in training mode after model.eval()"
            mend = "Let train(mode) of this module, and of those above it, pass the mode on."
        elif module is not None and is_dropout(module) and site == draws[0].module:
            mend = "Let its forward return its input where self.training is False."
        elif not dropping:
            mend = _NOISE_BY_MODE
        yield Finding(site, "drops in evaluation", how + ".", mend)


@rule(
    "differs in evaluation",
    observed="Two evaluations of equal inputs differ at a module, and PyTorch's generators did not "
    "draw.",
    why="The cause is NumPy's or Python's generator, or state kept between calls.",
)
def _unsteady(seen: Observed) -> Iterator[Finding]:
    differing = _differing(seen)
    drawing = {one.module for run in seen.evaluations for one in run.seen}
    for name in differing:
        under = f"{name}." if name else ""
        if any(other != name and other.startswith(under) for other in differing):
            continue  # said of the part
        if any(module == name or module.startswith(under) for module in drawing):
            continue  # said already, with the draw
        yield Finding(
            name,
            "differs in evaluation",
            "Two evaluations of equal inputs differ, and no draw of PyTorch was seen.",
            "Look for NumPy's or Python's random numbers, or for state that is kept between calls.",
        )


@rule(
    "modes left changed",
    observed="A forward leaves training flags changed, always or after an exception.",
    why="The next call runs in the wrong mode.",
)
def _modes(seen: Observed) -> Iterator[Finding]:
    for names, when in seen.left:
        shown = ", ".join(repr(name) for name in names[1:4])
        others = f", with {len(names) - 1} others ({shown})" if names[1:] else ""
        yield Finding(
            names[0],
            "modes left changed",
            f"{when}, its training flag is another one than before{others}.",
            "Set the mode outside of forward, or put it back in a finally clause.",
        )


# ------------------------------------------------------------------------------------- in training


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
        kind = type(module).__name__
        if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN)) and module.num_layers == 1:
            detail = f"{kind} with p = {p:g} has one layer, and drops between layers only."
            mend = "Put a Dropout after it, use more layers, or leave dropout out."
        elif calls:
            off = "" if module.training else ": it is in evaluation mode after model.train()"
            detail = f"{kind} with p = {p:g} was called {calls} times in training, and drew nothing"
            detail += f"{off}."
            mend = "Let its forward draw where self.training is True, or take it out."
            if not module.training:
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


def _kind_around(seen: Observed, name: str) -> type | None:
    """The class of the module that holds another; None for PyTorch's own, which choose nothing."""
    above = name.rpartition(".")[0]
    around = next((m for m, names in seen.names.items() if above in names), None)
    kind = type(around)
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
    above = name.rpartition(".")[0]
    around = next((m for m, names in seen.names.items() if above in names), None)
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
        unlike = row.p is not None and row.rate is not None and row.site not in counted
        if unlike and _unlikely(round(row.rate * row.drawn), row.drawn, row.p):  # type: ignore[operator, arg-type]
            yield _rate_finding(row.site, row.rate, row.p, row.drawn)  # type: ignore[arg-type]


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


def _named(one: Seen, draws: list[Seen]) -> str:
    """The site, and which of its calls where it was called more often."""
    calls = [other for other in draws if other.site == one.site and other.law == one.law]
    if len(calls) < 2:
        return repr(one.site)
    return f"call {calls.index(one)} of {one.site!r}"


def _equal(draws: list[Seen]) -> list[list[Seen]]:
    """Groups of draws that are equal, or begin equal, and not by accident."""
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for one in draws:
        if one.identity and one.chance < LIKELY:
            groups[one.identity].append(one)
    heads: dict[tuple[bytes, float | None, str], list[Seen]] = defaultdict(list)
    for one in draws:
        if one.head and one.chance < LIKELY:
            per_draw = one.chance / max(one.drawn, 1)
            if per_draw * 256 < LIKELY:
                heads[one.head, one.p, one.law].append(one)
    found = [group for group in groups.values() if len(group) > 1]
    for group in heads.values():
        if len({one.identity for one in group}) > 1:
            found.append(group)
    return found


@rule(
    "shared mask",
    observed="Two draws of one forward are equal, or begin equally.",
    why="Their noise is fully correlated, so its sum is larger.",
)
def _shared(seen: Observed) -> Iterator[Finding]:
    told = set()
    for run in seen.trainings:
        draws = in_forward(run)
        for first, *others in _equal(draws):
            for other in others:
                pair = (first.site, other.site)
                if pair in told:
                    continue
                told.add(pair)
                whole = "the mask" if first.identity == other.identity else "the first draws"
                detail = f"{_named(other, draws)} has {whole} of {_named(first, draws)}"
                detail += f"{_at([first, other])}."
                yield Finding(
                    other.site,
                    "shared mask",
                    detail,
                    "Set no seed in forward, and give each call a generator or an address (site, "
                    "call) of its own.",
                )


@rule(
    "repeated mask",
    observed="Two training steps drew the same mask.",
    why="One thinned network is trained instead of many.",
)
def _repeated(seen: Observed) -> Iterator[Finding]:
    before: dict[str, set[bytes]] = defaultdict(set)
    told = set()
    for run in seen.trainings:
        draws = [one for one in in_forward(run) if one.identity and one.chance < LIKELY]
        for one in draws:
            if one.identity in before[one.site] and one.site not in told:
                told.add(one.site)
                yield Finding(
                    one.site,
                    "repeated mask",
                    f"Two training steps drew the same mask{_at([one])}.",
                    "Set no seed in forward, keep no mask between steps, and let an address have "
                    "the step's number.",
                )
        for one in draws:
            before[one.site].add(one.identity)


@rule(
    "one mask for the batch",
    observed="All rows have the same draws.",
    why="The gradient is that of one thinned network, and noisier.",
)
def _constant(seen: Observed) -> Iterator[Finding]:
    draws = [one for run in seen.trainings for one in in_forward(run) if one.constant]
    told = {one.site for one in KINDS["channels on another axis"].check(seen)}
    for site, found in by_site(draws).items():
        one = found[0]
        if site in told:
            continue  # with its reason
        yield Finding(
            site,
            "one mask for the batch",
            f"All {seen.rows} rows have the same draws, of shape {one.shape}{_at(found)}.",
            "Draw for each row: a mask of the input's length along the batch's axis. If rows lie "
            "along another axis, say batch_axis=.",
        )


@rule(
    "feeds BatchNorm",
    observed="A BatchNorm with running statistics follows dropout directly; or the noise reaches "
    "it through the layers between and changes the variance there by more than a tenth.",
    why="Its variance in training differs from that in evaluation (Li et al., 2019, "
    "arXiv:1801.05134). The shift is measured.",
)
def _normalised(seen: Observed) -> Iterator[Finding]:
    """Dropout that goes into a BatchNorm, and dropout whose noise reaches one through layers."""
    fed = {site: source for run in seen.trainings for site, source in run.variances.fed.items()}
    reached = {s: source for run in seen.trainings for s, source in run.variances.reached.items()}
    for site, source in fed.items():
        ratio, _ = _shift(seen, site)
        shift = f": {_VARIANCE} {ratio:.2f} times that in evaluation" if ratio is not None else ""
        yield _feeding(source, f"What it dropped goes into {site!r}{shift}.")
    behind: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for site, source in reached.items():
        ratio, error = _shift(seen, site)
        if ratio is None or source in fed.values():  # told, with the same mend
            continue
        if abs(ratio - 1.0) > max(_SHIFT, 6.0 * error):
            behind[source].append((ratio, site))
    for source, found in behind.items():
        ratio, site = max(found, key=lambda one: abs(math.log(one[0])))
        others = f" ({len(found) - 1} more BatchNorms are reached)" if found[1:] else ""
        yield _feeding(
            source,
            f"Its noise reaches {site!r} through the layers between: {_VARIANCE} {ratio:.2f} times "
            f"that in evaluation{others}.",
        )


# What a BatchNorm may be off by, in variance: a tenth is a twentieth of the standard deviation.
_SHIFT = 0.1
_VARIANCE = "its variance in training is"


def _feeding(source: str, what: str) -> Finding:
    return Finding(
        source,
        "feeds BatchNorm",
        f"{what} BatchNorm remembers the one and is given the other.",
        "Put dropout after the BatchNorm, best after the last one of the network.",
    )


def _shift(seen: Observed, site: str) -> tuple[float | None, float]:
    """A BatchNorm's variance in training by that without dropout, and the standard error of it."""
    still = [] if seen.still is None else seen.still.variances.of.get(site, [])
    runs = [run.variances.of.get(site, []) for run in (*seen.trainings, *seen.noisy)]
    if not still or sum(still) <= 0.0 or any(len(one) != len(still) for one in runs):
        return None, 0.0
    ratios = [sum(one) / sum(still) for one in runs]
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    return statistics.mean(ratios), error


@rule(
    "recomputes another mask",
    observed="A checkpoint's recompute draws a mask that its forward did not draw.",
    why="Gradients are silently those of another network.",
)
def _recomputed(seen: Observed) -> Iterator[Finding]:
    mend = (
        "Leave preserve_rng_state at True, or adopt the model: its masks have an address, and a "
        "recompute draws them again."
    )
    told = set()
    for run in seen.trainings:
        forward = by_site(in_forward(run))
        everything = {one.identity for one in in_forward(run)}
        for one in run.seen:
            if not one.again or not one.identity or one.site in told:
                continue
            there = {other.identity for other in forward.get(one.site, [])}
            if one.identity not in (there if one.in_module and there else everything):
                told.add(one.site)
                yield Finding(
                    one.site,
                    "recomputes another mask",
                    f"The backward pass recomputes with a mask that no forward drew{_at([one])}: "
                    "its gradients are those of another network.",
                    mend,
                )
    if seen.refused is not None:
        yield Finding(
            "",
            "recomputes another mask",
            f"The backward pass raises: {seen.refused}",
            "Use torch.utils.checkpoint.checkpoint, or give what takes a context_fn "
            "thinned.torch.checkpoint_context.",
        )


# The rules on use stand behind these in a report.
from thinned.torch.auditing import misuse  # noqa: E402, F401
