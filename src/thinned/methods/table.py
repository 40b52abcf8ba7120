"""The catalogue: one row for each published method, put here by the file that defines it.

A row says in data what a method is. Module classes, the pages of the documentation, `thinned
methods` and the battery of tests are made from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thinned.laws import Law

__all__ = [
    "INVERTED",
    "PLAIN",
    "RANKS",
    "Method",
    "Moments",
    "Paper",
    "Sample",
    "every",
    "find",
    "method",
]

F = TypeVar("F", bound=Callable[..., Any])
RANKS = ("first", "second", "classic")


@dataclass(frozen=True)
class Paper:
    """authors as in "Huang et al."; where: arXiv number as "arXiv:1603.09382", or journal."""

    authors: str
    year: int
    title: str
    where: str

    def __str__(self) -> str:
        return f"{self.authors}, {self.year}, {self.title}. {self.where}"


@dataclass(frozen=True)
class Moments:
    """Mean and variance of one output element in training, given the input.

    Attributes
    ----------
    mean, variance : str. The formulas, for people.
    of : callable (*arrays, p, **options) -> (mean, variance), binary64 arrays that broadcast to y's
        shape: the same formulas for machines.
    """

    mean: str
    variance: str
    of: Callable[..., tuple[Any, Any]]


def _inverted(x: NDArray[np.float64], p: float, **_: Any) -> tuple[Any, Any]:
    return (x, x**2 * (p / (1.0 - p))) if p < 1.0 else (0.0 * x, 0.0 * x)


def _plain(x: NDArray[np.float64], p: float, **_: Any) -> tuple[Any, Any]:
    return (1.0 - p) * x, p * (1.0 - p) * x**2


INVERTED = Moments("x", "x^2 p / (1 - p)", _inverted)
PLAIN = Moments("(1 - p) x", "x^2 p (1 - p)", _plain)


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def arrays(rng: np.random.Generator) -> tuple[Any, ...]:
        # Away from zero, so that dropped elements can be told from kept ones.
        return tuple(
            np.sign(z) * (0.5 + np.abs(z)) for z in (rng.standard_normal(s) for s in shapes)
        )

    return arrays


@dataclass(frozen=True)
class Sample:
    """What a method is tried with: by the battery of tests, and for the picture of its mask.

    Attributes
    ----------
    shape : tuple of ints. Of x; or of each array where `arrays` is given.
    arrays : callable (NumPy generator) -> the arrays that stand before p, or None: one array of
        `shape`, standard normal and away from zero.
    options : mapping. Further arguments by name.
    p : float. Where the law is tried.
    independent : tuple of ints, or None. Axes of y along which draws are independent; along all
        others they are shared. None where neither is so (blocks), and the question is not asked.
    coupled : tuple of ints. Those of `independent` along which the draws are so, but the scale is
        of a count over all of them, which ties the values to each other.
    splits : tuple of ints. Axes along which a window may split x.
    p_one : "zeros", "finite" or "refused". What p = 1 does in training.
    evaluation : "identity", or a callable (*arrays, p, **options) -> y.
    linear : bool. Whether y is linear in x at given draws, so that the backward pass is the same
        call on the gradient.
    dropped_as : float. What a dropped element becomes.
    dropped : "binomial", "exact" or None. How the share of dropped elements is spread about p.
    draws : int. Addresses over which moments are averaged.
    grad : bool. Whether y can be differentiated in x.
    own_gradient : bool. Whether the backward pass is the method's own, by its paper, and not the
        derivative of the forward pass: tests of its own say what it is.
    dtypes : names of the types it takes.
    keeps_shape : bool. Whether y has x's shape.
    fixed_p : bool. Whether p decides something that a compiler must know (a shape, a count), so
        that another p is another program.
    """

    shape: tuple[int, ...] = (6, 5)
    arrays: Callable[[np.random.Generator], tuple[Any, ...]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    p: float = 0.3
    independent: tuple[int, ...] | None = None
    coupled: tuple[int, ...] = ()
    splits: tuple[int, ...] = (0,)
    p_one: str = "zeros"
    evaluation: str | Callable[..., Any] = "identity"
    linear: bool = True
    dropped_as: float = 0.0
    dropped: str | None = "binomial"
    draws: int = 3000
    grad: bool = True
    own_gradient: bool = False
    dtypes: tuple[str, ...] = ("float16", "bfloat16", "float32", "float64")
    keeps_shape: bool = True
    fixed_p: bool = False

    def inputs(self, seed: int = 0) -> tuple[Any, ...]:
        """The arrays before p, NumPy, binary64 or integers."""
        return (self.arrays or _normal(self.shape))(np.random.default_rng(seed))


@dataclass(frozen=True)
class Method:
    """One row of the catalogue: a published method.

    Attributes
    ----------
    name : str. The function's name; also the method's in `thinned methods NAME`.
    title : str. As its paper names it.
    rank : "first" (used today), "second" or "classic" (history, for study).
    target : str. What is hit: "units", "channels", "samples", "weights", "tokens", "edges", ...
    formula : str. y in training, one line or a few.
    law : Law or None where the noise is no multiplier.
    shared : str. Who shares a draw.
    scale, fill, inference : str. s, f, and what evaluation does.
    moments : Moments or None where there is no closed form.
    papers : tuple of Paper. The first rules.
    aliases : mapping from a library (PyTorch, Keras, timm, torchvision, ...) to its names.
    module : str or None. The class in thinned.torch; made from the row unless one is written there.
    sample : Sample or None. None where the function has another form than (x, p, at, ...): losses,
        schedules, parametrisations, moments; their tests are their own.
    batch_axis : callable (options) -> axis along which the rows of a batch lie, for modules.
    note : str. When to use it, in a sentence or two; honest about what is only history.
    function : the function.
    """

    name: str
    title: str
    rank: str
    target: str
    formula: str
    law: Law | None
    shared: str
    scale: str
    fill: str
    inference: str
    moments: Moments | None
    papers: tuple[Paper, ...]
    aliases: Mapping[str, tuple[str, ...]]
    module: str | None
    sample: Sample | None
    note: str
    function: Callable[..., Any]
    batch_axis: Callable[[Mapping[str, Any]], int] = lambda options: 0

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters, in order."""
        return inspect.signature(self.function).parameters

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that stand before p."""
        names = tuple(self.parameters)
        return names[: names.index("p")] if "p" in names else names[:1]

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of what is particular to the method."""
        general = {"p", "at", "training", "window", "mirror", "out", *self.arrays}
        return {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if name not in general
        }


_TABLE: dict[str, Method] = {}


def method(
    *,
    title: str,
    rank: str,
    target: str,
    formula: str,
    papers: tuple[Paper, ...],
    note: str,
    law: Law | None = None,
    shared: str = "nobody: one draw per element",
    scale: str = "1 / (1 - p)",
    fill: str = "0",
    inference: str = "identity",
    moments: Moments | None = None,
    aliases: Mapping[str, tuple[str, ...]] | None = None,
    module: str | None = None,
    sample: Sample | None = None,
    batch_axis: Callable[[Mapping[str, Any]], int] = lambda options: 0,
    name: str | None = None,
) -> Callable[[F], F]:
    """Put a function into the catalogue, with its row. Its name, unless another is given."""
    assert rank in RANKS

    def put(function: F) -> F:
        known = function.__name__ if name is None else name
        assert known not in _TABLE, known
        _TABLE[known] = Method(
            known, title, rank, target, formula, law, shared, scale, fill, inference, moments,
            papers, dict(aliases or {}), module, sample, note, function, batch_axis,
        )  # fmt: skip
        return function

    return put


def every() -> tuple[Method, ...]:
    """All rows: by rank, then by name. Loads every file of the catalogue."""
    import thinned.methods as room

    for found in walk_packages(room.__path__, "thinned.methods."):
        import_module(found.name)
    return tuple(sorted(_TABLE.values(), key=lambda row: (RANKS.index(row.rank), row.name)))


def _plainly(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find(name: str) -> Method:
    """The row of a method, by its name, its title, its module or any library's name for it.

    Upper and lower case, underscores, hyphens and blanks do not matter.

    Raises
    ------
    KeyError, with the names that come closest.

    Examples
    --------
    >>> import thinned.methods
    >>> thinned.methods.find("SpatialDropout2D").name
    'spatial_dropout'
    """
    rows = every()
    for wanted in (_plainly(name), _plainly(name.rpartition(".")[2])):
        for names_of in (_own_names, _other_names):
            for row in rows:
                if wanted in {_plainly(known) for known in names_of(row)}:
                    return row
    import difflib

    known: dict[str, str] = {}
    for row in rows:
        for n in (*_own_names(row), *_other_names(row)):
            known.setdefault(_plainly(n), row.name)
    near = sorted({known[n] for n in difflib.get_close_matches(_plainly(name), list(known), 3)})
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise KeyError(f"find: no method is known as {name!r}.{hint} `thinned methods` lists them all.")


def _own_names(row: Method) -> tuple[str, ...]:
    return (row.name, row.title, row.module or row.name)


def _other_names(row: Method) -> tuple[str, ...]:
    """Also without a module path in front and arguments behind: tf.keras.layers.Dropout(...)."""
    names = [name for group in row.aliases.values() for name in group]
    bare = [name.partition("(")[0].rpartition(".")[2] for name in names]
    return (*names, *bare)
