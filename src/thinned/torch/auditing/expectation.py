"""Whether what is kept in training has the mean of evaluation, where dropout is written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.observer import Observer, is_by_hand, is_dropout
from thinned.torch.auditing.scale import Multiplied

__all__ = ["scales"]

_MEND = (
    "Scale what is kept by 1 / (1 - p) in training, once, and nothing in evaluation: "
    "x * mask / (1 - p)."
)
_CLOSE = 1e-3
# A law that is read off a module's output alone, and not off its draws: how far the mean must lie
# off, and of how many elements.
_FAR, _MANY = 0.3, 256


def scales(seen: Observed) -> Iterator[Finding]:
    """Masks by hand whose expectation in training is not what evaluation gives."""
    # Where evaluation draws as well, it has the mean of training.
    told = {draw.site for run in seen.evaluations for draw in run.seen}
    modules = {names[0]: module for module, names in seen.names.items()}
    for run in seen.trainings:
        for one in _judged(run):
            module = modules.get(one.module)
            if one.site in told or module is None or not _is_by_user(module):
                continue
            finding = _finding(seen, module, one)
            if finding is not None:
                told.add(one.site)
                yield finding
    traced = {one.module for run in seen.trainings for one in run.scales.found}
    for name in (name for name, module in modules.items() if is_by_hand(module)):
        if name not in traced and _is_by_user(modules[name]):
            yield from _by_output(seen, name)


def _judged(run: Observer) -> Iterator[Multiplied]:
    """Gates that served for nothing else: a mask with its complement mixes, and one that is counted
    may well be divided by its count."""
    sides: dict[int, set[bool]] = {}
    for one in run.scales.found:
        sides.setdefault(one.group, set()).add(one.turned)
    for one in run.scales.found:
        if one.group not in run.scales.others and len(sides[one.group]) == 1:
            yield one


def _is_by_user(module: nn.Module) -> bool:
    """Whether a module is no dropout of a library's, and does not say that it never scales."""
    if getattr(module, "scale_by_keep", True) is False:
        return False
    return is_by_hand(module) or not is_dropout(module)


def _finding(seen: Observed, module: nn.Module, one: Multiplied) -> Finding | None:
    own = is_by_hand(module)
    allowed = _in_evaluation(seen, one.module, own)
    mean = one.keep * one.scale
    if any(math.isclose(mean, c, rel_tol=_CLOSE) for c in allowed):
        return None
    plain = any(math.isclose(one.scale, c, rel_tol=_CLOSE) for c in allowed)
    if plain and _on_purpose(one, own):
        return None
    line = f" ({one.line})" if one.line else ""
    return _said(one.site, one.scale, one.keep, allowed[0], line)


def _said(site: str, factor: float, keep: float, still: float, line: str) -> Finding:
    detail = (
        f"Kept elements are multiplied by {factor:.4g} in training and by {still:.4g} in "
        f"evaluation, and {keep:.4g} of them are kept: the mean in training is "
        f"{factor * keep / still:.4g} times that in evaluation{line}."
    )
    return Finding(site, "wrong scale", detail, _MEND)


def _in_evaluation(seen: Observed, name: str, own: bool) -> list[float]:
    """What evaluation may multiply by: known of a module of dropout; of others each number that the
    module, or one above it, multiplied by there, and their product."""
    drawing = {draw.module for run in seen.evaluations for draw in run.seen}
    if own and name not in drawing:
        known = [r.factor for run in seen.evaluations for r in run.ratios.get(name, ())]
        if known and known[0] != 0.0:
            return known[:1]
    found = [1.0]
    for run in seen.evaluations[:1]:
        for module, numbers in run.scales.numbers.items():
            if module in ("", name) or name.startswith(f"{module}."):
                found += [*numbers, math.prod(numbers)]
    return [one for one in found if one]


def _on_purpose(one: Multiplied, own: bool) -> bool:
    """Whether a mask that is not scaled may be meant so: on words or positions, on the model's own
    input (denoising), on a condition that is left out for whole rows, on terms of a sum."""
    shape = one.shape
    gate = (1,) * (len(shape) - len(one.gate)) + one.gate
    varies = {axis for axis, n in enumerate(gate) if n > 1}
    whole = {axis for axis, n in enumerate(shape) if n > 1}
    if varies == whole:
        return (one.raw or one.summed) and not own
    if varies <= {0}:
        return not own and not one.residual
    channels = len(shape) > 3 and varies == whole & {0, 1}
    locked = len(shape) == 3 and len(shape) - 1 in varies
    return not (channels or locked) or (one.raw and not own)


def _by_output(seen: Observed, name: str) -> Iterator[Finding]:
    """Of a module whose draws are not followed (NumPy's, say): by what came out of it."""
    runs = [ratio for run in seen.trainings for ratio in run.ratios.get(name, ())]
    still = _in_evaluation(seen, name, own=True)[0]
    dropping = [one for one in runs if one.parts]
    if not dropping or any(r.parts for run in seen.evaluations for r in run.ratios.get(name, ())):
        return
    factor, share = dropping[0].factor, dropping[0].share
    if any(not math.isclose(one.factor, factor, rel_tol=_CLOSE) for one in dropping):
        return  # divided by what was drawn
    plain = factor <= still * (1.0 + _CLOSE)
    far = abs(share * factor / still - 1.0) > _FAR and dropping[0].elements >= _MANY
    if plain or far:
        yield _said(name, factor, share, still, "")
