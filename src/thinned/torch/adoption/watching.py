"""The first training forward, watched: draws that are not reached and the code did not show.

Functions of PyTorch are seen by their names. All else shows in the generators: of PyTorch, of NumPy
and of Python, whose states are compared and never changed. It is done once for each module, in
eager code; later forwards, and compiled ones, do none of it.
"""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from thinned.torch.compat.without_modes import aside

__all__ = ["MISSED", "TORCH", "Noticed", "generators", "innermost", "saw", "watched"]

# Names of functions whose draws may serve dropout, and that are not reached; some are, if
# their result becomes a gate, see `adoption.gates`.
MISSED = frozenset({
    "bernoulli", "binomial", "cauchy_", "exponential_", "flash_attn_func",
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices", "fused_dropout", "geometric_", "gumbel_softmax",
    "log_normal_", "multinomial", "normal", "normal_", "poisson", "rand",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "random_", "randperm", "rrelu",
    "rrelu_", "rrelu_with_noise", "rsample", "uniform_",
})  # fmt: skip

TORCH, _NUMPY, _PYTHON = "PyTorch's generator", "NumPy's global generator", "Python's random"

_WHY = "not reached: {} draws from a generator, and may be dropout: seen when it ran"

States = dict[str, Any]


class Noticed:
    """What an adopted model's code and its first forwards have shown.

    kinds : the class's name of the module of each site.
    known : the names of draws that adoption does not reach, read in the code, by site.
    drew : those that were seen since, by site.
    moved : of each site the generators that moved in it for an unknown reason.
    called : the functions that draw and that were called, by site.
    ran, stirred : the sites whose first forward is over, and those where a generator moved in it
        and no function of PyTorch's was seen.
    """

    def __init__(self, kinds: dict[str, str], known: dict[str, list[str]]) -> None:
        self.kinds, self.known = kinds, known
        self.drew: dict[str, dict[str, None]] = {}
        self.moved: dict[str, list[str]] = {}
        self.called: dict[str, set[str]] = {}
        self.ran: set[str] = set()
        self.stirred: set[str] = set()

    def saw(self, site: str, name: str) -> None:
        """A function that draws was called."""
        self.called.setdefault(site, set()).add(_plain(name))
        if not any(_plain(name) in told for told in self._known(site)):
            self.drew.setdefault(site, {})[name] = None

    def settle(self, site: str, source: str) -> None:
        """A generator moved, and no function was seen: who is known to draw explains it."""
        self.stirred.add(site)
        if not (self._known(site) or _below(site, self.drew) or _below(site, self.moved)):
            self.moved.setdefault(site, []).append(source)

    def _known(self, site: str) -> list[list[str]]:
        """The names that the report has at a site and in the modules below."""
        return [[_plain(name) for name in self.known[key]] for key in _below(site, self.known)]

    def idle(self, site: str) -> bool:
        """Whether a site's code may draw by functions of PyTorch, as was read, and its first
        forward called none of them: a table may hold them for other models."""
        names = self.known.get(site, ())
        if site not in self.ran or not names or not MISSED.issuperset(names):
            return False
        called = {name for below in _below(site, self.called) for name in self.called[below]}
        return called.isdisjoint(map(_plain, names)) and not _below(site, self.stirred)

    def told(self) -> Iterator[tuple[str, str]]:
        """Each site where something was seen, and the words of the report for it."""
        for site, names in self.drew.items():
            which = ", ".join(names)
            yield site, _WHY.format(which)
        for site, sources in self.moved.items():
            which = " and ".join(sources)
            yield site, f"not reached: {which} moved when this ran first: it may be dropout"


def _below(site: str, sites: Iterable[str]) -> list[str]:
    """Those that are the site itself, or in modules below the site's."""
    module = site.removesuffix("/dropout")
    prefix = f"{module}." if module else ""
    return [name for name in sites if name == site or name.startswith(prefix)]


def _plain(name: str) -> str:
    """A function's name and a module's: rrelu and RReLU."""
    return name.replace("_", "").lower()


class _Here(threading.local):
    """Of each thread: the sites whose forwards are watched, the innermost last; what ran in them;
    the states of the generators when they were last looked at; whether a draw was seen since; and
    whether a function is running that a mode has seen."""

    def __init__(self) -> None:
        self.sites: list[str] = []
        self.ran: list[Any] = []
        self.states: States = {}
        self.seen = False
        self.inside = False


_here = _Here()


@contextmanager
def watched(forward: Any, noticed: Noticed, site: str) -> Iterator[None]:
    """A module's forward runs for the first time, and in it perhaps those of others.

    forward : whose `watched` is set once the outermost of them has ended without an error.
    """
    _look(noticed)
    _here.sites.append(site)
    _here.ran.append(forward)
    try:
        yield
        _look(noticed)
        if len(_here.sites) == 1:
            for ran in _here.ran:
                ran.watched = True
                noticed.ran.add(ran.site.name)
    finally:
        _here.sites.pop()
        if not _here.sites:
            _here.ran, _here.states = [], {}


def _look(noticed: Noticed) -> None:
    """Between two forwards: what moved since, moved in the innermost of those that run."""
    before, seen = _here.states, _here.seen
    _here.states, _here.seen = generators(), False
    if not _here.sites:
        return
    for source, state in _here.states.items():
        if before.get(source, state) != state and not (seen and source == TORCH):
            noticed.settle(_here.sites[-1], source)


def generators() -> States:
    """The states of the generators that a model may draw from unseen, by their names."""
    with aside():
        torchs = [torch.default_generator.get_state().numpy().tobytes()]
        if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
            torchs += [g.get_state().numpy().tobytes() for g in torch.cuda.default_generators]
    return {
        TORCH: torchs,
        _NUMPY: pickle.dumps(np.random.get_state(legacy=False)),  # noqa: NPY002
        _PYTHON: random.getstate(),
    }


@contextmanager
def innermost() -> Iterator[bool]:
    """Whether a function is seen first: what a mode hands on, those around it see again."""
    first, _here.inside = not _here.inside, True
    try:
        yield first
    finally:
        _here.inside = not first


def saw(noticed: Noticed, site: str, func: Any, kwargs: Any, caller: Any) -> None:
    """A function of PyTorch is called in a module's first forward.

    caller : the frame of the code that calls it.
    """
    name = str(getattr(func, "__name__", "")).partition(".")[0]
    own = kwargs.get("generator") is not None
    if name not in MISSED and not (name == "bernoulli_" and own):
        return
    _here.seen = _here.seen or not own
    home = caller.f_globals.get("__name__", "")
    if home.startswith("torch.distributions"):
        while "self" not in caller.f_locals:  # a function of theirs that a method calls
            caller = caller.f_back
        name = f"torch.distributions.{type(caller.f_locals['self']).__name__}"
    # The initial values of a lazy module are not dropout.
    if not home.startswith(("torch.nn.init", "torch.nn.modules.lazy")):
        noticed.saw(site, name)
