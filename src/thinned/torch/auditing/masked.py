"""Rules of the model audit on masks that are equal: of two sites, two steps, all rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from thinned.torch.auditing.draws import LIKELY, Seen, SeenLaw
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.rule import KINDS, rule
from thinned.torch.auditing.scale import Multiplied
from thinned.torch.auditing.sites import by_site, in_forward, lines_of

__all__: list[str] = []


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
                detail += f"{lines_of([first, other])}."
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
                    f"Two training steps drew the same mask{lines_of([one])}.",
                    "Set no seed in forward, keep no mask between steps, and let an address have "
                    "the step's number.",
                )
        for one in draws:
            before[one.site].add(one.identity)
    for one in _kept_masks(seen):
        if one.site not in told:
            told.add(one.site)
            yield Finding(
                one.site,
                "repeated mask",
                "The second training step drew none, and has kept that of the first"
                f"{lines_of([one])}.",
                "Draw a mask in each step; where one is to serve for a whole sequence, forget it "
                "when the sequence ends.",
            )


def _kept_masks(seen: Observed) -> Iterator[Seen]:
    """Masks of the first training step whose module ran in the second without drawing, and holds a
    tensor of the mask's shape."""
    if len(seen.trainings) < 2:
        return
    first, second = seen.trainings[:2]
    drew = {one.module for one in in_forward(second)}
    modules = {names[0]: module for module, names in seen.names.items()}
    for one in in_forward(first):
        module = modules.get(one.module)
        if module is None or one.module in drew or one.law == SeenLaw.seed or not one.drawn:
            continue
        # As they were right after the first step; afterwards all is as it was before.
        held = seen.shapes.get(module, set())
        if second.calls.get(one.module, 0) and one.shape in held:
            yield one


_EACH_ROW = (
    "Draw for each row: a mask of the input's length along the batch's axis. If rows lie along "
    "another axis, say batch_axis=."
)


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
        told.add(site)
        yield Finding(
            site,
            "one mask for the batch",
            f"All {seen.rows} rows have the same draws, of shape {one.shape}{lines_of(found)}.",
            _EACH_ROW,
        )
    for put in _put_on_all_rows(seen):
        if put.site not in told:
            told.add(put.site)
            yield Finding(
                put.site,
                "one mask for the batch",
                f"A mask of shape {put.gate} is put on a tensor of shape {put.shape}: all "
                f"{seen.rows} rows have the same draws ({put.line}).",
                _EACH_ROW,
            )


def _put_on_all_rows(seen: Observed) -> Iterator[Multiplied]:
    """Masks written by hand that keep the mean, as dropout does, and have one row for all."""
    weights = {tuple(p.shape) for module in seen.names for p in module.parameters(recurse=False)}
    for run in seen.trainings:
        for put in run.scales.found:
            shape, axis = put.shape, run.axis
            gate = (1,) * (len(shape) - len(put.gate)) + put.gate
            if len(shape) <= max(axis, 1) or shape[axis] != seen.rows or seen.rows < 2:
                continue
            if gate[axis] != 1 or math.prod(gate) < 2 or shape in weights or put.raw:
                continue
            in_front = axis == 0 and len(shape) > 2 and (shape[1] in (seen.rows, *run.others))
            scaled = math.isclose(put.scale * put.keep, 1.0, rel_tol=1e-3)
            if scaled and not in_front and put.group not in run.scales.others:
                yield put
