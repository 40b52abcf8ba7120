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
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.checks import message, shown
from thinned.foreign_arguments import answering
from thinned.laws import Law

if TYPE_CHECKING:
    from thinned.methods.answers import Answer

__all__ = [
    "INVERTED",
    "LEFT_OUT",
    "PLAIN",
    "RANKS",
    "TAKES",
    "Method",
    "Moments",
    "Paper",
    "Sample",
    "every",
    "find",
    "inverted",
    "method",
    "remark",
    "taken",
]

F = TypeVar("F", bound=Callable[..., Any])
RANKS = ("first", "second", "classic")
# Complex numbers, whose two parts share a draw; the stored entries of a sparse x; p as an array
# that broadcasts to x (docs/arrays.md).
TAKES = ("complex", "sparse", "rates")

_UNCONFIRMED = "no second source that is independent of the paper confirms its formula. It is {}."
# Methods that were looked at and do not stand in the table: the name, and why.
LEFT_OUT = {
    name: _UNCONFIRMED.format(paper)
    for name, paper in {
        "Jumpout": "Wang, Zhou, Bilmes, 2019, ICML",
        "Guided dropout": "Keshari, Singh, Vatsa, 2019, arXiv:1812.03965",
        "Checkerboard dropout": "Nguyen, Choi, Yang, 2022, IEEE Access 10, 76044-76054",
        "AD-DROP": "Yang, Deng, Quan, Wang, Nie, 2022, arXiv:2210.05883",
        "AttentionDrop": "Baig, Gillani, Khan, Shah, 2025, arXiv:2504.12088",
    }.items()
}


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
    mean, variance : str. The formulas, for people; or what holds where there is no closed form.
    of : callable (*arrays, p, **options) -> (mean, variance), binary64 arrays that broadcast to y's
        shape: the same formulas for machines. None where there is no closed form, or no array.
    """

    mean: str
    variance: str
    of: Callable[..., tuple[Any, Any]] | None = None


def _inverted(x: NDArray[np.float64], p: float, **_: Any) -> tuple[Any, Any]:
    return (x, x**2 * (p / (1.0 - p))) if p < 1.0 else (0.0 * x, 0.0 * x)


def _plain(x: NDArray[np.float64], p: float, **_: Any) -> tuple[Any, Any]:
    return (1.0 - p) * x, p * (1.0 - p) * x**2


def inverted(x: str) -> Moments:
    """The moments of x m / (1 - p) by the name that a formula has for x."""
    return Moments(x, f"{x}^2 p / (1 - p)", _inverted)


INVERTED = inverted("x")
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
    arrays : callable (NumPy generator) -> the arrays that stand before p (before `at`, where there
        is no p), or None: one array of `shape`, standard normal and away from zero.
    options : mapping. Further arguments by name.
    p : float. Where the law is tried, if it has a p.
    independent : tuple of ints, or None. Axes of y along which draws are independent; along all
        others they are shared. None where neither is so (blocks), and the question is not asked.
    coupled : tuple of ints. Those of `independent` along which the draws are so, but the scale is
        of a count over all of them, which ties the values to each other.
    splits : tuple of ints. Axes along which a window may split x.
    p_one : "zeros", "finite" or "refused". What p = 1 does in training.
    evaluation : "identity", or a callable (*arrays, p, **options) -> y.
    linear : bool. Whether y is linear in x at given draws, so that the backward pass is the same
        call on the gradient.
    dropped_as : float, or callable (*arrays, p, **options) -> array that broadcasts to y's shape.
        What a dropped element becomes.
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
    dropped_as: float | Callable[..., Any] = 0.0
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
    moments : Moments. Where there is no closed form, it says what holds.
    papers : tuple of Paper. The first rules. Empty where none defines the method.
    source : str. Who defines what the papers do not: a library's code, or this one. "" where the
        first paper defines the row as it stands.
    aliases : mapping from a library (PyTorch, Keras, timm, torchvision, ...) to its names.
    module : str or None. The class in thinned.torch; made from the row unless one is written there.
    sample : Sample or None. None where the function has another form than (x, ..., p, at, ...).
    note : str. When to use it, in a sentence or two; honest about what is only history.
    function : the function.
    batch_axis : callable (options) -> axis along which the rows of a batch lie, for modules.
    check : callable (who, **options) or None. Raises for options that no array would make right; a
        module asks it when it is made, the function at each call.
    in_torch : tuple of str. What else thinned.torch has of the method, by name.
    apart : str. Why there is no sample, in a sentence; empty where there is one. The tests of such
        a row are its own.
    picture : callable (p, at) -> array of two axes or more, or None. The mask, 0 where dropped, of
        a method whose y is no picture of it.
    takes : of TAKES, what x and p may be besides a dense array of real numbers and one number.
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
    moments: Moments
    papers: tuple[Paper, ...]
    source: str
    aliases: Mapping[str, tuple[str, ...]]
    module: str | None
    sample: Sample | None
    note: str
    function: Callable[..., Any]
    batch_axis: Callable[[Mapping[str, Any]], int]
    check: Callable[..., Any] | None
    in_torch: tuple[str, ...]
    apart: str
    picture: Callable[[float, Address], Any] | None
    takes: tuple[str, ...]

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters, in order."""
        return inspect.signature(self.function).parameters

    @property
    def has_p(self) -> bool:
        """Whether the function takes a p: some learn their noise, or have a law without one."""
        return "p" in self.parameters

    @property
    def where(self) -> str:
        """The name under which users find the function."""
        room, name = self.function.__module__, self.function.__name__
        for shelf in ("thinned.methods.classic", "thinned.schedules"):
            if room.startswith(shelf):
                return f"{shelf}.{name}"
        return f"thinned.{name}"

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that stand before p, or, without one, before the address."""
        names = tuple(self.parameters)
        ends = [names.index(name) for name in ("p", "at") if name in names]
        return names[: ends[0]] if ends else names[:1]

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of what is particular to the method."""
        general = {"p", "at", "training", "window", "mirror", "out", *self.arrays}
        return {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if name not in general
        }

    def call(self, arrays: tuple[Any, ...], p: Any, at: Any, **how: Any) -> Any:
        """The function on these arrays; p is left out where it takes none."""
        return self.function(*arrays, *((p,) if self.has_p else ()), at, **how)

    def _repr_html_(self) -> str:
        """The row for a notebook."""
        from thinned.pages.fragment import paragraph, rows_of

        rows = (
            ("formula", self.formula),
            ("acts on", self.target),
            ("draws shared", self.shared),
            ("scale", self.scale),
            ("evaluation", self.inference),
            ("mean", self.moments.mean),
            ("variance", self.moments.variance),
            ("function", self.where),
            ("PyTorch", f"thinned.torch.{self.module}" if self.module else ""),
            *(("paper", str(paper)) for paper in self.papers),
        )
        head = paragraph(f"{self.title}: {self.note}")
        return head + rows_of((), [row for row in rows if row[1]])

    def require_law(self, who: str, p: float) -> None:
        """ValueError at p = 1 where the law has no member there."""
        if p == 1.0 and self.law is not None and not self.law.has_one:
            requirement = f"below 1, where there is no such noise ({self.law.formula})"
            raise ValueError(message(who, "p", requirement, "1"))


_TABLE: dict[str, Method] = {}


def method(
    *,
    title: str,
    rank: str,
    target: str,
    formula: str,
    papers: tuple[Paper, ...],
    note: str,
    moments: Moments,
    source: str = "",
    law: Law | None = None,
    shared: str = "none: one draw per element",
    scale: str = "1 / (1 - p)",
    fill: str = "0",
    inference: str = "identity",
    aliases: Mapping[str, tuple[str, ...]] | None = None,
    module: str | None = None,
    sample: Sample | None = None,
    batch_axis: Callable[[Mapping[str, Any]], int] = lambda options: 0,
    check: Callable[..., Any] | None = None,
    in_torch: tuple[str, ...] = (),
    apart: str = "",
    picture: Callable[[float, Address], Any] | None = None,
    takes: tuple[str, ...] = (),
    name: str | None = None,
) -> Callable[[F], F]:
    """Put a function into the catalogue, with its row. Its name, unless another is given.

    A row has papers, or says whose it is. It has a sample, by which the battery of tests tries it,
    or says why it has none.
    """
    assert rank in RANKS
    assert set(takes) <= set(TAKES)
    assert (sample is None) == bool(apart), title
    assert papers or source, title

    def put(function: F) -> F:
        function = answering(function)
        known = function.__name__ if name is None else name
        assert known not in _TABLE, known
        _TABLE[known] = Method(
            known, title, rank, target, formula, law, shared, scale, fill, inference, moments,
            papers, source, dict(aliases or {}), module, sample, note, function, batch_axis, check,
            in_torch, apart, picture, takes,
        )  # fmt: skip
        return function

    return put


def every() -> tuple[Method, ...]:
    """All rows: by rank, then by name. Loads every file of the catalogue."""
    from pkgutil import walk_packages

    room = Path(__file__).parent
    for found in walk_packages([str(room)], "thinned.methods."):
        import_module(found.name)
    return tuple(sorted(_TABLE.values(), key=lambda row: (RANKS.index(row.rank), row.name)))


def taken(name: str) -> tuple[str, ...]:
    """What the row of this name takes besides; nothing where there is none."""
    row = _TABLE.get(name)
    return () if row is None else row.takes


def _plainly(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find(name: str) -> Method:
    """The row of a method, by its name, its title, its module or another name that people use.

    Libraries' names for it, their arguments' (`drop_path_rate`) and those of the field
    (`mc_dropout`) are known. `thinned methods NAME` shows the row, with a remark where the name
    means more than the row says.

    Parameters
    ----------
    name : str. Upper and lower case, underscores, hyphens and blanks do not matter.

    Returns
    -------
    Method.

    Raises
    ------
    KeyError, with the names that come closest; or, for a method that is not in the catalogue, with
    the reason.
    TypeError if name is no string.

    Examples
    --------
    >>> import thinned.methods
    >>> thinned.methods.find("SpatialDropout2D").name
    'spatial_dropout'
    """
    if not isinstance(name, str):
        got = shown(name)
        raise TypeError(message("find", "name", "a string: a method's name", got))
    rows = every()
    plain = _plainly(name)
    for wanted in (plain, _plainly(name.partition("(")[0].rpartition(".")[2])):
        for names_of in (_own_names, _other_names):
            for row in rows:
                if wanted in {_plainly(known) for known in names_of(row)}:
                    return row
    answer = _answer(name)
    if answer is not None and answer.row is not None:
        return _TABLE[answer.row]
    if answer is not None:
        raise KeyError(f"find: {name} is not in the catalogue: {answer.remark}")
    # "uniform", "block" and "edge dropout" for uniform_dropout, drop_block and drop_edge.
    core = plain.removesuffix("dropout")
    for wanted in (f"{core}dropout", f"drop{core}", f"{core}drop", core):
        for row in rows:
            if core and wanted in {_plainly(known) for known in _own_names(row)}:
                return row
    from thinned.methods.answers import in_a_place, shortened

    for shorter in shortened(name):
        try:
            return find(shorter)
        except KeyError:
            continue
    if in_a_place(name) is not None:
        return _TABLE["dropout"]
    for title, reason in LEFT_OUT.items():
        if _plainly(title) in (_plainly(name), _plainly(name + "dropout")):
            raise KeyError(f"find: {title} is not in the catalogue: {reason}")
    import difflib

    known: dict[str, str] = {}
    for row in rows:
        for n in (*_own_names(row), *_other_names(row)):
            known.setdefault(_plainly(n), row.name)
    near = sorted({known[n] for n in difflib.get_close_matches(_plainly(name), list(known), 3)})
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise KeyError(
        f"find: no method is known as {name!r}.{hint} `thinned methods` lists them all, and "
        "docs/methods/which.md helps to choose."
    )


def remark(name: str) -> str:
    """The remark that `thinned methods` prints above the row for this name; or ""."""
    from thinned.methods.answers import in_a_place, shortened

    if _plainly(name) in _TABLE:
        return ""
    written = (_answer(form) for form in (name, *shortened(name)))
    answer = next(filter(None, written), None) or in_a_place(name)
    return "" if answer is None else answer.remark


def _answer(name: str) -> Answer | None:
    from thinned.methods.answers import ANSWERS

    plain = _plainly(name)
    return next((a for a in ANSWERS if plain in {_plainly(known) for known in a.names}), None)


def _own_names(row: Method) -> tuple[str, ...]:
    return (row.name, row.title, row.module or row.name, row.function.__name__)


def _other_names(row: Method) -> tuple[str, ...]:
    """Also without a module path in front and arguments behind: tf.keras.layers.Dropout(...)."""
    names = [name for group in row.aliases.values() for name in group]
    bare = [name.partition("(")[0].rpartition(".")[2] for name in names]
    # What several rows share, an LSTM say, is no name of one of them.
    shared = [name for other in _TABLE.values() for name in other.in_torch]
    return (*names, *bare, *(name for name in row.in_torch if shared.count(name) == 1))
