"""audit: run a model of JAX's, and tell what is wrong with its dropout."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.backends.jax.backend import Drawn, noted
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.asking import kind_of
from thinned.jax.given import Given

__all__ = ["Audit", "Finding", "Runs", "audit", "in_evaluation", "runs_of"]


class Finding(NamedTuple):
    """One mistake: where it is, what it is, how it shows, and how to mend it."""

    site: str
    kind: str
    detail: str
    mend: str


class Audit(NamedTuple):
    """What `audit` found, a table when printed.

    findings : tuple of Finding. sites : of each site that drew by address outside of traced code,
    its name or number and how often it drew in a step. steps : how many training steps were run.
    """

    findings: tuple[Finding, ...]
    sites: dict[str, int]
    steps: int

    def __str__(self) -> str:
        count = len(self.findings)
        head = "No findings" if not count else f"{count} finding{'s' if count > 1 else ''}"
        lines = [f"{head}: {len(self.sites)} sites, {self.steps} training steps."]
        lines += [f"{f.site or 'the model'}  {f.kind}: {f.detail} {f.mend}" for f in self.findings]
        lines += [f"{site}  draws {n} times a step" for site, n in self.sites.items()]
        return "\n".join(lines)


class Runs(NamedTuple):
    """A model's ways to run. train : function of (x as Given, the number of the step). evaluate :
    function of (x), or None where the model has no such mode. names : of sites. missed : pairs of
    a site and why it is not reached."""

    train: Callable[[Given, int], Any]
    evaluate: Callable[[Given], Any] | None
    names: tuple[str, ...] = ()
    missed: tuple[tuple[str, str], ...] = ()


@answering
def audit(model: Any, x: Any, *, steps: int = 2) -> Audit:
    """Run a model in training and evaluation, and tell where its dropout is wrong.

    What shows by running: dropout awake in evaluation; masks that are the same in every step, for
    all rows, or for two calls of one step; dropout that never drops; what `adopt` does not reach.

    Parameters
    ----------
    model : a model of Flax NNX, or of Equinox, whose call takes a key; a bound one of Linen or a
        function of (x, address), run as they are, in training. Not touched: copies are run.
    x : array of at least two rows, a tuple of arguments or a mapping of keywords: what training
        passes, {"x": x, "train": True} of a model of Linen whose call takes `train`.
    steps : int >= 2. Training steps, without updates: a clock ticks after each, keys are fresh.

    Returns
    -------
    Audit.

    Raises
    ------
    TypeError if model is none of these. ValueError if x has no two rows. Whatever the model raises.

    Examples
    --------
    >>> import jax.numpy as jnp, thinned, thinned.jax
    >>> def twice(x, at):
    ...     return thinned.dropout(thinned.dropout(x, 0.5, at), 0.5, at)
    >>> thinned.jax.audit(twice, jnp.ones((4, 8))).findings[0].kind
    'one mask for two calls'
    """
    steps = checks.integer("audit", "steps", steps, 2, 2**16)
    given = Given.of("audit", x)
    if given.rows < 2:
        raise ValueError(message("audit", "x", "of at least two rows", f"{given.rows}"))
    runs = runs_of("audit", model)
    findings = [
        Finding(site, "not reached", done, "Adopt cannot give it an address.")
        for site, done in runs.missed
    ]
    watched = [_watched(partial(runs.train, given, n)) for n in range(steps)]
    trained, drawn = [out for out, _ in watched], [seen for _, seen in watched]
    for one, other in pairwise(trained):
        if _same(one, other):
            findings.append(_repeats(runs, given, trained[0], drawn[0]))
            break
    findings += _doubled(drawn[0], runs.names)
    findings += _over_rows(runs, given)
    if runs.evaluate is not None:
        findings += in_evaluation(runs.evaluate, given, runs.names)
    return Audit(tuple(findings), _sites(drawn[0], runs.names), steps)


def _watched(run: Callable[[], Any]) -> tuple[Any, list[Drawn]]:
    before = noted.set([])
    try:
        result = run()
        seen = noted.get()
    finally:
        noted.reset(before)
    assert seen is not None
    return result, seen


def _same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=False) for a, b in pairs)


def _repeats(runs: Runs, given: Given, trained: Any, drawn: list[Drawn]) -> Finding:
    if not drawn and runs.evaluate is not None and _same(runs.evaluate(given), trained):
        return Finding(
            "", "never drops", "Training gives what evaluation does.",
            "Is p = 0, deterministic=True or inference=True passed on, or no layer called?",
        )  # fmt: skip
    if not drawn and runs.evaluate is None:
        return Finding(
            "", "never drops", "Two steps of training give the same output, and nothing was drawn.",
            "Is p = 0, or does the call take train=True or deterministic=False? Pass it on: "
            "audit(model, {'x': x, 'train': True}), by the call's own names. Is it drawn by hand? "
            "Pass the step on.",
        )  # fmt: skip
    return Finding(
        "", "one mask for all steps", "Two steps of training give the same output.",
        "Pass the step on: at.replace(step=...), the clock's tick, or a key split for each step.",
    )  # fmt: skip


def _doubled(drawn: list[Drawn], names: tuple[str, ...]) -> list[Finding]:
    """Draws of one step at one address and place."""
    counts = Counter((d.words[:5], d.words[7:], d.shape) for d in drawn if d.words is not None)
    known = _known(drawn, names)
    return [
        Finding(
            _name_of(words[2], known), "one mask for two calls",
            f"{n} draws of shape {shape} in one step are at one address.",
            "Give each call its own site, at.replace(site=...), or call number.",
        )
        for (words, _, shape), n in counts.items()
        if n > 1
    ]  # fmt: skip


def _over_rows(runs: Runs, given: Given) -> list[Finding]:
    """Whether rows that are equal come out equal in training, and would not if rows differed."""
    equal = given._replace(
        values=tuple(
            jnp.broadcast_to(v[:1], v.shape) if i in given.places else v
            for i, v in enumerate(given.values)
        )
    )
    first, second = (_by_rows(runs.train(equal, n), given.rows) for n in range(2))
    if not first or _same(first, second) or not all(_all_equal(y) for y in first):
        return []
    return [
        Finding(
            "", "rows share a mask", "Equal rows come out equal in training.",
            "Drop on the whole batch, split the key for each row, or leave axis 0 out of "
            "shared_axes and broadcast_dims; as wanted, where a batch is to meet one network.",
        )
    ]  # fmt: skip


def _by_rows(out: Any, rows: int) -> list[Any]:
    return [y for y in jax.tree.leaves(out) if np.ndim(y) and len(y) == rows]


def _all_equal(y: Any) -> bool:
    return np.array_equal(np.asarray(y), np.broadcast_to(np.asarray(y[:1]), y.shape))


def in_evaluation(
    evaluate: Callable[[Given], Any], given: Given, names: tuple[str, ...]
) -> list[Finding]:
    """Sites that draw in evaluation, or that two evaluations differ."""
    first, drawn = _watched(lambda: evaluate(given))
    known = _known(drawn, names)
    found = {
        _name_of(d.words[2], known) if d.words is not None else "a site in traced code"
        for d in drawn
    }
    mend = "Let model.eval() or inference_mode reach it; pass no deterministic=False there."
    findings = [
        Finding(site, "drops in evaluation", "It draws in evaluation.", mend)
        for site in sorted(found)
    ]
    if not findings and not _same(first, evaluate(given)):
        detail = "Two evaluations give two outputs."
        findings.append(Finding("", "differs in evaluation", detail, mend))
    return findings


def _known(drawn: list[Drawn], names: tuple[str, ...]) -> dict[int, str]:
    """Names of sites by their numbers: the model's, and those that its draws were given."""
    known = {zlib.crc32(name.encode()): name for name in names}
    return known | {d.words[2]: d.name for d in drawn if d.words is not None and d.name is not None}


def _name_of(number: int, known: dict[int, str]) -> str:
    return known.get(number, f"site {number}")


def _sites(drawn: list[Drawn], names: tuple[str, ...]) -> dict[str, int]:
    known = _known(drawn, names)
    return dict(Counter(_name_of(d.words[2], known) for d in drawn if d.words is not None))


# ----------------------------------------------------------------------------------- ways to run


def runs_of(who: str, model: Any) -> Runs:
    """How a model is run. TypeError if it is none that this can be told of."""
    kind = kind_of(model)
    if kind == "nnx":
        return _of_nnx(model)
    if kind == "equinox":
        return _of_equinox(model)
    if kind == "linen":
        return _of_linen(who, model)
    if kind == "function":
        return Runs(lambda given, n: _called(model, given, Address(0, step=n)), None)
    requirement = "a function of (x, address), or a model of Flax or Equinox"
    raise TypeError(message(who, "model", requirement, type(model).__name__))


def _called(function: Any, given: Given, at: Address) -> Any:
    args, kwargs = given.called_with(given.arrays)
    return function(**kwargs, at=at) if kwargs else function(*args, at)


def _of_nnx(model: Any) -> Runs:
    from flax import nnx

    from thinned.jax.nnx.adoption import rows_missed
    from thinned.jax.nnx.clock import clocks_in, tick
    from thinned.jax.nnx.layers import Drawn as Layer

    def run(given: Given, training: bool, n: int) -> Any:
        copy = nnx.clone(model)
        (copy.train if training else copy.eval)()
        for _ in range(n):
            if clocks_in(copy):
                tick(copy)
            else:
                _stepped(copy)
        args, kwargs = given.called_with(given.arrays)
        return copy(*args, **kwargs)

    layers = [m for _, m in nnx.iter_modules(model) if isinstance(m, Layer)]
    names = tuple(str(m.site) for m in layers)
    missed = tuple((row.site, row.done) for row in rows_missed(model)) if names else ()
    # Of one copy, so that streams that count go on from one evaluation to the next.
    still = nnx.clone(model)
    still.eval()

    def evaluate(given: Given) -> Any:
        args, kwargs = given.called_with(given.arrays)
        return still(*args, **kwargs)

    return Runs(lambda given, n: run(given, True, n), evaluate, names, missed)


def _stepped(model: Any) -> None:
    """Flax's own streams one key further, as a step of training leaves them."""
    from flax import nnx

    for _, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream):
            node()


def _of_equinox(model: Any) -> Runs:
    import equinox as eqx

    from thinned.jax.equinox import Layer, MultiheadAttention

    def run(network: Any, given: Given, key: Any) -> Any:
        def one(key: Any, *arrays: Any) -> Any:
            args, kwargs = given.called_with(arrays)
            return network(*args, key=key, **kwargs)

        return jax.vmap(one)(jax.random.split(key, given.rows), *given.arrays)

    def ours(node: Any) -> bool:
        return isinstance(node, (Layer, MultiheadAttention))

    nodes: list[Any] = jax.tree.leaves(model, is_leaf=ours)
    names = tuple(str(getattr(n, "dropout", n).site) for n in nodes if ours(n))
    still, awake = eqx.nn.inference_mode(model), eqx.nn.inference_mode(model, False)
    keys = iter(range(2**32))
    return Runs(
        lambda given, n: run(awake, given, jax.random.key(n)),
        lambda given: run(still, given, jax.random.key(next(keys))),
        names,
    )


def _of_linen(who: str, model: Any) -> Runs:
    from thinned.jax.linen import Adopted, adopt

    bound = model.model if isinstance(model, Adopted) else model
    if bound.scope is None:
        remedy = "Pass model.bind(variables)."
        raise ValueError(message(who, "model", "a Linen module with its variables", "one", remedy))
    module, variables = bound.unbind()

    def train(given: Given, n: int) -> Any:
        args, kwargs = given.called_with(given.arrays)
        return adopt(module).apply(variables, *args, at=Address(0, step=n), **kwargs)

    return Runs(train, None)
