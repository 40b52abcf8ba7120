"""Rules of the model audit on evaluation: what draws there, what differs, what modes are left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from thinned.torch.auditing.draws import Seen, SeenLaw
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.observer import is_dropout
from thinned.torch.auditing.rule import rule
from thinned.torch.auditing.sites import by_site, lines_of

__all__: list[str] = []


def _p(draws: list[Seen]) -> str:
    found = sorted({one.p for one in draws if one.p is not None})
    return f"p = {', '.join(f'{p:g}' for p in found)}" if found else "noise"


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
        how = f"{times} draw{'s' if times != 1 else ''} in one evaluation, {_p(draws)}"
        how += lines_of(draws)
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
