"""Rules of the model audit on what stands behind dropout: a BatchNorm, a checkpoint."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator

from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.rule import rule
from thinned.torch.auditing.sites import by_site, in_forward, lines_of

__all__: list[str] = []


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
                    "The backward pass recomputes with a mask that no forward "
                    f"drew{lines_of([one])}: its gradients are those of another network.",
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
