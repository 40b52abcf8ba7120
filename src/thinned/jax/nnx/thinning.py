"""thin: an NNX model whose rows share their masks, and which computes the kept units alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.handing import Region
from thinned.jax.nnx.adoption import Before, adopt, release, stream_of
from thinned.jax.nnx.layers import Dropout, made
from thinned.jax.nnx.optimizer import make
from thinned.jax.nnx.thin_layers import Handed, ThinLinear, handed, scoped
from thinned.jax.regions import Looked, regions_of, row_of
from thinned.methods.made import Report, Row, ThinReport, nothing_thin

__all__ = ["thin", "thin_adopted"]

EXECUTIONS = ("thin", "elementwise")


@answering
def thin(
    model: nnx.Module,
    *inputs: Any,
    seed: int = 0,
    step: int = 0,
    optimizer: Any = None,
    axes: Sequence[str] | None = None,
    separator: str = ".",
    execution: str = "thin",
) -> ThinReport:
    """Let whole batches share the masks of units, and compute the kept units only.

    y = x * m / (1 - p),  m ~ Bernoulli(1 - p), one draw for each unit, shared by the whole batch.

    In place, and as `adopt`: every site has its address, and a clock. Where the code around a
    dropout allows it, the layer before it runs with the kept columns of its kernel and the layer
    behind it with the kept rows. That is: nnx.Linear; elementwise operations; nnx.Dropout, or
    KOfNDropout of `thinned.jax.nnx`; operations with f(0) = 0; nnx.Linear; and nothing else that
    reads what is between. So run multilayer perceptrons, residual blocks inside, and the
    feed-forward parts of transformers. Other sites stay as `adopt` leaves them.

    A compiled program has arrays of known lengths. KOfNDropout keeps k = n - round(p n) units; for
    nnx.Dropout, whose masks are those of thinned.torch.thin, there is room for the most that are
    kept but for a chance of at most 2^-64, in which the result is NaN: 1,236 of 2,048 units at
    p = 0.5.

    Parameters
    ----------
    model : nnx.Module. Its code is looked at once, now, as a traced program in training.
    inputs : what the model is called with, arrays or jax.ShapeDtypeStruct. Default: two rows as
        wide as one of its nnx.Linear takes them, float32.
    seed, step, optimizer, axes, separator : as in `adopt`.
    execution : "thin", or "elementwise": the same masks on whole arrays, to compare with.

    Returns
    -------
    ThinReport: which sites run thin, and of every other why it does not. `release` undoes it all.
    Output and gradients are those of execution="elementwise" to rounding; E[y] = x for p < 1. What
    is not kept gets a gradient of zero.

    Raises
    ------
    ValueError, TypeError as `adopt`, and where no site can run thin, or the model cannot be traced
    with these inputs. The model is then left as it was. RuntimeError, when run, where the model's
    code goes another way than when it was looked at, or a transformation holds a part of a region.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from thinned.jax.nnx import thin
    >>> rngs = nnx.Rngs(0)
    >>> first, last = nnx.Linear(8, 64, rngs=rngs), nnx.Linear(64, 2, rngs=rngs)
    >>> model = nnx.Sequential(first, jax.nn.relu, nnx.Dropout(0.5), last)
    >>> print(thin(model, seed=0))
    site      kind     p    what was done
    layers.2  Dropout  0.5  thin: 64 units, from 'layers.0' to 'layers.3'

    References
    ----------
    Graham, Reizenstein and Robinson, 2015, arXiv:1502.02478, who share masks over batches on GPUs.
    """
    checks.one_of("thin", "execution", execution, EXECUTIONS)
    if not isinstance(model, nnx.Module):
        raise TypeError(message("thin", "model", "an nnx.Module", type(model).__name__))
    if any(getattr(module, "before", None) is not None for _, module in nnx.iter_modules(model)):
        raise ValueError("thin: the model is adopted already. Call release first.")
    how: dict[str, Any] = {"axes": axes, "separator": separator}
    report = adopt(model, seed=seed, step=step, optimizer=optimizer, **how)
    try:
        return thin_adopted("thin", model, inputs, {}, report, separator, execution)
    except BaseException:
        release(model, optimizer=optimizer)
        raise


def thin_adopted(
    who: str,
    model: Any,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    report: Report | None = None,
    separator: str = ".",
    execution: str = "thin",
) -> ThinReport:
    """`thin` of a model that is adopted, in place. inputs, named : what it is called with.

    Raises
    ------
    ValueError if no site can run thin; the model is then as before.
    """
    modules = {separator.join(map(str, p)): m for p, m in nnx.iter_modules(model)}
    looked = _looked(who, model, inputs, named, separator)
    if not looked.regions:
        raise ValueError(nothing_thin(who, looked.reasons))
    done: dict[str, str] = {}
    for found in looked.regions:
        dropout: Any = modules[found.dropout]
        first: Any = modules[found.producer]
        exact = not isinstance(dropout, nnx.Dropout)
        region = Region(*found, first.out_features, float(dropout.rate), exact)
        kind: Any = type(dropout)
        make(dropout, handed(kind))
        dropout.region = region
        how = "thin" if execution == "thin" else "one draw for the batch, elementwise"
        done[found.dropout] = f"{how}: {region.units} units, {region}"
        if execution == "thin":
            _lay(first, dropout, region)
            last: Any = modules[found.consumer]
            _made_thin(last)
            last.takes = region
    if execution == "thin":
        whole: Any = type(model)
        make(model, scoped(whole))
    report = Report(()) if report is None else report
    rows = tuple(_told(row, done, looked.reasons) for row in report.rows)
    return ThinReport(rows, report.clock, tuple(done))


def _made_thin(layer: Any) -> None:
    kind: Any = type(layer)
    if kind is nnx.Linear:
        make(layer, ThinLinear)
        layer.before = Before(kind, None)


def _lay(layer: Any, dropout: Any, region: Region) -> None:
    """Let a layer draw for a region, at the address of the region's dropout."""
    _made_thin(layer)
    layer.gives, layer.site, layer.axes = region, dropout.site, dropout.axes
    layer.deterministic, layer.rng_collection = dropout.deterministic, stream_of(dropout)
    layer.clock, layer.calls = nnx.clone(dropout.clock), nnx.clone(dropout.calls)


def _told(row: Row, done: dict[str, str], reasons: dict[str, str]) -> Row:
    if row.site in done:
        return row._replace(done=done[row.site])
    if not row.reached:
        return row
    why = reasons.get(row.site, "it is no dropout of units")
    return row._replace(done=f"{row.done}, not thin: {why}")


def _looked(
    who: str, model: Any, inputs: tuple[Any, ...], named: dict[str, Any], separator: str
) -> Looked:
    """The regions of an adopted model, by the names of its modules. It is not touched."""
    twin: Any = nnx.clone(model)
    twin.train()
    sites = []
    reasons: dict[str, str] = {}
    for path, module in nnx.iter_modules(twin):
        name, layer = separator.join(map(str, path)), module
        if type(layer) is nnx.Linear:
            make(layer, ThinLinear)
        elif type(layer) in (Dropout, made()["KOfNDropout"]):
            why = _unfit(layer)
            if why:
                reasons[name] = why
                continue
            make(layer, handed(type(layer)))
            reasons[name] = "the model's code does not call it with this input"
            sites.append(name)
        if isinstance(layer, (ThinLinear, Handed)):
            layer.place = name
    graph, state = nnx.split(twin)

    def looked_with(given: tuple[Any, ...]) -> Looked:
        leaves, form = jax.tree.flatten((given, named))
        is_array = [hasattr(leaf, "shape") for leaf in leaves]

        def call(state: Any, arrays: Any) -> Any:
            every = iter(arrays)
            some = [
                next(every) if is_one else v for v, is_one in zip(leaves, is_array, strict=True)
            ]
            args, kwargs = jax.tree.unflatten(form, some)
            out = nnx.merge(graph, state)(*args, **kwargs)
            return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "shape")]

        arrays = [leaf for leaf, is_one in zip(leaves, is_array, strict=True) if is_one]
        return regions_of(call, state, arrays)

    looked = looked_with(inputs) if inputs or named else _with_some_rows(who, twin, looked_with)
    return looked._replace(reasons={**reasons, **looked.reasons})


def _with_some_rows(who: str, model: Any, looked_with: Callable[[Any], Looked]) -> Looked:
    """With two rows as wide as one of its nnx.Linear takes them: the first with which it runs."""
    linear = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Linear)]
    told = "it holds no nnx.Linear"
    for width in dict.fromkeys(layer.in_features for layer in linear):
        try:
            return looked_with((row_of(2, width),))
        except Exception as error:  # whatever a model's own code raises
            told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    raise ValueError(
        f"{who}: what the model takes is not known ({told}). Pass an example: thin(model, x)."
    )


def _unfit(layer: Any) -> str:
    """Why a dropout is in no region, whatever lies around it; nothing if it may be."""
    if layer.rate == 0:
        return "its rate is 0"
    if layer.rule is not None:
        return "its p follows a schedule, and lengths depend on p"
    if isinstance(layer, nnx.Dropout):
        return "its broadcast_dims share other draws" if tuple(layer.broadcast_dims) else ""
    plain = (
        dict(layer.options) == layer.row.options | {"channel_axis": -1}
        or dict(layer.options) == layer.row.options
    )
    return "" if plain else "its options choose other draws"
