"""A PyTorch model's twin whose dropout is awake and nothing else: what a question is put to."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from thinned.members.twins import twin_of
from thinned.members.waking import Flags, compare, wake
from thinned.torch.adoption.adopt import adopt, release
from thinned.torch.adoption.by_hand import drops_alone
from thinned.torch.adoption.bytecode import Rate, Reading, read
from thinned.torch.adoption.changes import MARK
from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import modules_by_name
from thinned.torch.adoption.report import Row
from thinned.torch.adoption.site import ADDRESSED, Addressed
from thinned.torch.adoption.watching import TORCH
from thinned.torch.clock.members import Awake
from thinned.torch.compat.covers import covers_of
from thinned.torch.compat.generators import OwnDraws
from thinned.torch.thinning.thin import regions_of, thin

__all__ = [
    "Flags",
    "Readings",
    "adopted_twin",
    "asleep",
    "compared",
    "member_of",
    "missed",
    "thin_twin",
    "wake",
    "woken",
]

_DROPS = (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN)


def adopted_twin(model: nn.Module) -> nn.Module:
    """A twin of an unwrapped model, adopted: as the model is, or else for the question."""
    if len(_holders(model)) > 1:
        raise ValueError(
            "predict: two parts of the model were adopted apart, and sites of one name in both "
            "would draw the same masks. Call release on them, and adopt the whole."
        )
    twin = twin_of(model)
    if not _holders(twin):
        adopt(twin)
    return twin


def _holders(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if MARK in module.__dict__]


@contextmanager
def woken(twin: nn.Module, awake: Awake) -> Iterator[tuple[Row, ...]]:
    """A twin in evaluation, its dropout drawing as `awake` says; what was adopted.

    Nothing is put back, and nothing need be: the twin is the question's own.
    """
    (holder,) = _holders(twin)
    adoption = holder.__dict__[MARK]
    adoption.clock.awake = awake
    for module in twin.modules():
        module.training = _drops(module)
        _forgo_fused_forms(module)
    with torch.no_grad():
        yield adoption.rows + _outside(twin, holder)


def member_of(twin: nn.Module, awake: Awake) -> nn.Module:
    """A twin of a twin, for good: a separate network, whose flags stay as they are."""
    network = twin_of(twin)
    with woken(network, awake):
        (holder,) = _holders(network)
        holder.__dict__[MARK].clock.keep_apart()  # its state is that of the plain model
    network.__dict__["train"] = lambda mode=True: network
    return network


def compared(twin: nn.Module, names: Iterable[str], run: Callable[[], object]) -> Flags:
    """For which of these modules the flag steers nothing but dropout: see `compare`."""
    (holder,) = _holders(twin)
    clock = holder.__dict__[MARK].clock
    awake, clock.awake = clock.awake, None
    try:
        return compare(twin, names, run)
    finally:
        clock.awake = awake


def _forgo_fused_forms(module: nn.Module) -> None:
    """PyTorch's fused forms of encoder layers in evaluation know no dropout. Its switch for them is
    everybody's; that a layer cannot be fused it also sees by these."""
    known: Any = module
    if isinstance(module, nn.TransformerEncoderLayer):
        known.activation_relu_or_gelu = 0
    elif isinstance(module, nn.TransformerEncoder):
        known.use_nested_tensor = False


def _drops(module: nn.Module) -> bool:
    """Whether a module's training flag says nothing but that it drops."""
    if isinstance(module, (Addressed, Sited, *_DROPS)):
        return True
    # A subclass with torch.nn's own forward, whose call an adopted model sees.
    plain = any(isinstance(module, k) and type(module).forward is k.forward for k in ADDRESSED)
    if not any(isinstance(cover, AdoptedForward) for cover in covers_of(module)):
        return False
    return plain or _drops_by_hand(module)


def _drops_by_hand(module: nn.Module) -> bool:
    """Whether a module is stochastic depth or the like, which holds a p and nothing else."""
    holds = (module._parameters, module._buffers, module._modules)
    return not any(holds) and drops_alone(module, read(module))


def _outside(model: nn.Module, holder: nn.Module) -> tuple[Row, ...]:
    """Dropout outside of the part that was adopted."""
    inside = set(holder.modules())
    why = "not reached: outside of the part that was adopted. Adopt the whole model"
    rows = []
    for module, (name, *_) in modules_by_name(model).items():
        p = getattr(module, "dropout" if isinstance(module, _DROPS) else "p", 0.0)
        dropout = isinstance(module, (*ADDRESSED, Sited, *_DROPS))
        if module not in inside and dropout and not (isinstance(p, (int, float)) and p == 0):
            rows.append(Row(name, type(module).__name__, None, why, reached=False))
    return tuple(rows)


class Shown(Protocol):
    """Whose flags are set, and what was read of the model's code, by site."""

    flags: Flags
    readings: Readings


def missed(
    model: nn.Module,
    rows: tuple[Row, ...],
    awake: Awake,
    moved: tuple[str, ...],
    observed: Shown,
) -> tuple[str, ...]:
    """What may be dropout and drew nothing in the forward that has just ended.

    moved : the generators that it drew from. observed : what was seen of the twin before.
    """
    told = [f"{row.site}: {row.done}" for row in rows if not row.reached]
    silent = _silent(rows, observed.flags, _Asleep(model, awake, observed.readings))
    told += [f"{site}: {why}" for site, why in silent.items() if why]
    told += [f"{site}: {_SLEPT}" for site in sorted(awake.slept)]
    told += [f"something in the model draws from {source}" for source in moved]
    return tuple(told)


def asleep(model: nn.Module, rows: tuple[Row, ...], awake: Awake, readings: Readings) -> list[str]:
    """The modules whose own flag may hide what drew nothing in the forward that has just ended."""
    sleeping = _Asleep(model, awake, readings)
    found: dict[str, None] = {}
    for site, why in _silent(rows, Flags(), sleeping).items():
        if why and site in sleeping.code:
            found[site.removesuffix(_CALLS)] = None
        elif why:
            found.update(dict.fromkeys(_owner(site, sleeping.code)))
    return list(found)


def _owner(site: str, code: Iterable[str]) -> Iterator[str]:
    """The module around a site whose own code is to call it."""
    above = site
    while above:
        above = above.rpartition(".")[0]
        if f"{above}{_CALLS}" in code:
            yield above
            return


_CALLS = "/dropout"

Readings = dict[str, Reading]


def _silent(rows: tuple[Row, ...], flags: Flags, asleep: _Asleep) -> dict[str, str]:
    """Of each site that is reached why it never drew; nothing where it has nothing to draw."""
    awake = asleep.awake
    drew = awake.ever  # not in this forward alone, which may skip layers
    found = {row.site: "" for row in rows if row.reached} | dict.fromkeys(awake.quiet, "")
    for row in rows:
        if row.reached and row.site in asleep.code and row.site not in awake.quiet:
            found[row.site] = asleep.uncalled(row.site, row.site in drew, row.attention)
        elif row.reached and row.site not in drew and row.p != 0.0:
            found[row.site] = _UNCALLED
            for owner in _owner(row.site, asleep.code):
                if row.p in flags.woken.get(owner, ()):
                    found[row.site] = ""  # a module whose p is read, and which is never called
    for site, what in awake.quiet.items():
        which = "a call drew nothing" if awake.told_p.get(site) else "drew nothing"
        found[site] = asleep.quiet(site, f"{which}: {what}")
    for site, why in found.items():
        name = site.removesuffix(_CALLS)
        # A woken module's calls are those of training: what they do not drop is never dropped.
        if name in flags.woken and site in asleep.code:
            found[site] = ""
        elif why and name in flags.left and site in asleep.code:
            found[site] = f"{why}. Its training flag was left alone: {flags.left[name]}"
    return found


_SLEPT = "left out: it drops pairs of tokens, as attention does, and no unit for all of them"
_UNCALLED = "drew nothing: not called, or by code that asks self.training itself"


class _Asleep:
    """Functional sites that drew nothing: whether the code of their modules has a rate."""

    def __init__(self, model: nn.Module, awake: Awake, readings: Readings) -> None:
        self.model, self.awake, self.readings = model, awake, readings
        covers = (cover for module in model.modules() for cover in covers_of(module))
        # The modules whose own code makes the calls of a site.
        self.code: dict[str, nn.Module] = {
            each.site.name: each.module
            for each in covers
            if isinstance(each, AdoptedForward) and each.site
            if each.site.name.endswith(_CALLS)
        }

    def uncalled(self, site: str, drew: bool, attention: bool) -> str:
        """Why a site is named of which some call, or every one, was not made."""
        rates, asleep = self._rates(site), self.reading(site).asleep
        asked = [rate for rate in rates if rate.asked and rate.p]
        if rates and not any(rate.p for rate in asked or rates):
            return ""
        if asleep and (drew or attention):
            which = f"calls of {', '.join(sorted(asleep))} stand where self.training is true"
            return f"{which}{_with(asked)}. {_REMEDY}"
        if drew or (attention and not asked):  # attention may never drop
            return ""
        return f"{_UNCALLED}{_with(asked)}"

    def quiet(self, site: str, what: str) -> str:
        """Why a site is named that was told p = 0; nothing where its p is known to be 0."""
        if site not in self.code:
            return ""
        rates, drawn = self._rates(site), self.awake.told_p.get(site, set())
        asked = [rate for rate in rates if rate.asked]
        # A rate that some call of the site was told is no rate of those that were told 0.
        loud = [r for r in asked or rates if r.p and (r.asked or r.p not in drawn)]
        if loud:
            return f"{what}{_with(loud)}. {_REMEDY}"
        if rates or not self.reading(site).asks:
            return ""
        return f"{what}, and what it is in training only the code knows. {_REMEDY}"

    def reading(self, site: str) -> Reading:
        if site not in self.readings:
            self.readings[site] = read(self.code[site], self.model.modules())
        return self.readings[site]

    def _rates(self, site: str) -> list[Rate]:
        return sorted(self.reading(site).rates)


_REMEDY = "Write p=self.p, training=self.training (dropout_p=self.p), and adopt"


def _with(rates: list[Rate]) -> str:
    """The rates, as the code has them."""
    if not rates:
        return ""
    named = ", ".join(f"{r.name}={r.p:g}" if r.name != f"{r.p:g}" else r.name for r in rates)
    return f", and the code has {named}"


def thin_twin(model: nn.Module, awake: Awake, flags: Iterable[str] = ()) -> nn.Module | str:
    """A thin twin of the model, or why there is none. flags : whose flags are set.

    Only where its draws are those that rows share anyway: the batch's units, one draw for each.
    """
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    if hooked:
        return "a module has forward hooks, which would see thin arrays"
    if regions_of(model):
        return "the model is thin already"
    holders = _holders(model)
    if holders and holders[0] is not model:
        return "only a part of the model is adopted"
    try:
        twin, schedule = _plain_twin(model)
        thin(twin, schedule=schedule)
    except Exception as error:  # what a model's own code raises where it is looked at
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    for placed in regions_of(twin):
        # Of (N, T, F) a member has a draw for each step and unit, a thin network one for the unit.
        shape, axis = awake.seen.get((placed.region.site.name, 0), ((), 0))
        if axis != 0 or len(shape) + placed.region.axis != 1:
            return f"site {placed.region.site.name!r} draws for an array of shape {shape}"
    wake(twin, flags)
    return twin


def _plain_twin(model: nn.Module) -> tuple[nn.Module, dict[str, float] | None]:
    """A twin that is not adopted, and as a schedule the p of now of sites that follow one."""
    twin = twin_of(model)
    adoption = twin.__dict__.get(MARK)
    if adoption is None:
        return twin, None
    clock = adoption.clock
    now = {glob.escape(name): rule(clock.step) for name, rule in clock.rules.items()}
    release(twin)
    return twin, now or None


def moved(before: dict[str, Any], after: dict[str, Any], own: OwnDraws) -> tuple[str, ...]:
    """The generators that a forward drew from: a copy of PyTorch's, and everybody's others."""
    others = [s for s, state in before.items() if s != TORCH and after[s] != state]
    return (*([TORCH] if own.used else []), *others)
