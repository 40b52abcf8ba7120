"""adopt: every dropout layer of an NNX model at its own site, at the step of a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flax import nnx
from flax.nnx import bridge

from thinned.address import Address
from thinned.backends.jax.address import words_of
from thinned.checks import integer, message
from thinned.foreign_arguments import answering
from thinned.jax.by_hand import drawn_by_hand
from thinned.jax.flax_attention import attention_fn
from thinned.jax.nnx.clock import Calls, Clock, Clocks, clocks_in
from thinned.jax.nnx.lanes import folded_words, lanes_of, number_of
from thinned.jax.nnx.layers import Drawn, Dropout, MultiHeadAttention
from thinned.jax.nnx.optimizer import let_tick, make, tick_no_more
from thinned.jax.nnx.thin_layers import Scoped, base_of
from thinned.methods.made import Report, Row, nothing_to_adopt
from thinned.schedules.sites import require_allowed, rules_of

__all__ = ["Before", "adopt", "release", "rows_missed", "stream_of"]


@answering
def adopt(
    model: nnx.Module,
    *,
    seed: int = 0,
    step: int = 0,
    optimizer: Any = None,
    schedule: Any = None,
    steps: int | None = None,
    axes: Sequence[str] | None = None,
    separator: str = ".",
) -> Report:
    """Give every dropout layer of a model an address: its site, at the step of a clock.

    In place. `nnx.Dropout` becomes `thinned.jax.nnx.Dropout`, which is its subclass, and so does
    `nnx.MultiHeadAttention`, whose weights are dropped at "<its site>/dropout"; layers of
    `thinned.jax.nnx` get sites and clocks. The clocks are a part of the model's state, so that a
    saved model goes on with the masks it would have had. Tick them once after each update, by
    `report.clock.tick()` or `tick(model)`, or let the optimizer.

    In a stack of layers, as `nnx.vmap` builds it and `nnx.scan` runs it, each layer draws masks of
    its own: the stack is recognised by the `rngs` of its dropout, or by the layers beside it, or,
    where adopt is called in the constructor, by what differs from one layer to the next. A model
    whose parts were adopted in their constructors may be adopted as a whole: their sites then get
    the names they have in it, and their clocks stay.

    Parameters
    ----------
    model : nnx.Module.
    seed : int in [0, 2^64).
    step : int in [0, 2^32 - 1). Where the clocks begin: 0, or where a run stood whose parameters
        alone were saved.
    optimizer : nnx.Optimizer or None. Its `update` ticks the clocks of the model that it updates,
        inside of nnx.jit too; with optax.MultiSteps where the parameters change, so that each of
        the batches before draws masks of its own. Another optimizer: call `tick`.
    schedule : dict from patterns of sites' names to what `thinned.schedules` has, to a p, or to a
        function of (step, steps) in JAX's operations, as in thinned.torch.adopt. p is that of the
        clock's step, which may be traced: no other program. "*" is all sites.
    steps : int or None. All steps of the training; needed where a schedule is relative to it.
    axes : names of mapped axes (of pmap, shard_map, or vmap with axis_name) along which each
        device, or lane, draws masks of its own. Without it a draw inside of pmap or shard_map is
        refused; () shares the masks.
    separator : what stands between the parts of a site's name: "layers.0.dropout" is the site of
        the same module in PyTorch, and draws the same masks there.

    Returns
    -------
    Report. Its `clock` ticks those of all sites. What is not reached is
    listed: attention with an attention_fn of its own, subclasses of nnx.Dropout and of
    nnx.MultiHeadAttention, whose own code runs, and modules of Linen.

    Raises
    ------
    ValueError if nothing in the model can be given an address, or it was adopted before, or a
    pattern of schedule matches no site, or a schedule comes to a p that a layer refuses. TypeError
    if it is no nnx.Module, `optimizer` no nnx.Optimizer, or `axes` is one name, not a sequence.
    """
    words = words_of(Address(seed))[:2]
    step = integer("adopt", "step", step, 0, 2**32 - 1)
    if isinstance(axes, str) or not all(isinstance(name, str) for name in axes or ()):
        raise TypeError(message("adopt", "axes", "a sequence of axis names", repr(axes)))
    if not isinstance(model, nnx.Module):
        got = f"a {type(model).__module__.partition('.')[0]} {type(model).__name__}"
        remedy = "A module of Linen draws keys: thinned.jax.address makes an address of one."
        raise TypeError(message("adopt", "model", "an nnx.Module", got, remedy))
    modules = dict(nnx.iter_modules(model))
    found: list[tuple[Any, Any]] = [(path, m) for path, m in modules.items() if _drops(m)]
    new = [module for _, module in found if getattr(module, "clock", None) is None]
    rows = list(_not_reached(modules, separator))
    if not found:
        raise ValueError(nothing_to_adopt(rows))
    if not new and any(len(path) == 1 for path, _ in found):
        raise ValueError("adopt: the model was adopted before, and has its clock.")
    sites = {_site_of(module, path, separator): module for path, module in found}
    rules = rules_of(schedule, steps, dict.fromkeys(sites, True))
    for site, rule in rules.items():
        require_allowed(site, rule, _law_of(sites[site]))
    if optimizer is not None:
        let_tick(optimizer)
    number, seeds = number_of(model), dict[tuple[int, ...], Any]()
    for path, module in found:
        site, kind = _site_of(module, path, separator), type(module).__name__
        if module in new:
            lanes = lanes_of(path, module, modules)
            if lanes not in seeds:
                seeds[lanes] = _seeds(words, number, lanes)
            _give(module, seeds[lanes], step)
        module.site = site
        module.axes = None if axes is None else tuple(axes)
        done = "weights addressed" if kind == "MultiHeadAttention" else "addressed"
        module.rule = rules.get(site)
        p = _rate_of(module)
        if module.rule is not None:
            p, done = module.rule(step), f"{done}, p follows {module.rule}"
        rows.append(Row(site, kind, p, done))
    every = clocks_in(model)
    return Report(tuple(rows), every[0] if len(every) == 1 else Clocks(every))


@answering
def release(model: nnx.Module, *, optimizer: Any = None) -> None:
    """Undo `adopt`: layers of Flax are of Flax's classes again, and clocks leave the model's state.

    Layers of `thinned.jax.nnx` draw keys of their `rngs` again, at the sites that they had.

    Parameters
    ----------
    model : nnx.Module that was adopted, as a whole or in parts.
    optimizer : nnx.Optimizer or None. The one that `adopt` was given: it ticks no more.

    Raises
    ------
    ValueError if the model is not adopted. TypeError if it is no nnx.Module, or `optimizer` no
    nnx.Optimizer.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(message("release", "model", "an nnx.Module", type(model).__name__))
    adopted = [m for _, m in nnx.iter_modules(model) if getattr(m, "before", None) is not None]
    if not adopted:
        got = f"a {type(model).__name__} that is none"
        raise ValueError(message("release", "model", "an adopted model", got))
    if optimizer is not None:
        tick_no_more(optimizer)
    if isinstance(model, Scoped):
        make(model, base_of(type(model)))
    for module in adopted:
        _undo(module)


@dataclass(frozen=True)
class Before:
    """What a layer was before it was adopted: its class, and the site that it was made with."""

    kind: type[nnx.Module]
    site: int | str | None


def _drops(module: nnx.Module) -> bool:
    """Whether it can be given an address; attention, where it drops and its code is Flax's own."""
    if isinstance(module, nnx.MultiHeadAttention):
        if module.dropout_rate <= 0.0:
            return False
        own = type(module) is nnx.MultiHeadAttention
        return _is_known(module) and (own or isinstance(module, Drawn))
    return isinstance(module, Drawn) or type(module) is nnx.Dropout


def _is_known(module: nnx.MultiHeadAttention) -> bool:
    return module.attention_fn in (nnx.dot_product_attention, attention_fn)


def _site_of(module: Any, path: tuple[Any, ...], separator: str) -> str:
    """Its name; what attention does in its own code is named as in PyTorch."""
    name = separator.join(map(str, path))
    if not isinstance(module, nnx.MultiHeadAttention):
        return name
    return f"{name}/dropout" if name else "dropout"


def _law_of(module: Any) -> Callable[[float], None]:
    """What raises for a p that the layer's law has no member for."""
    row = getattr(module, "row", None)
    if row is None:
        return lambda p: None
    return partial(row.require_law, type(module).__name__)


def _rate_of(module: Any) -> float:
    is_attention = isinstance(module, nnx.MultiHeadAttention)
    return float(module.dropout_rate if is_attention else module.rate)


def rows_missed(model: nnx.Module, separator: str = ".") -> tuple[Row, ...]:
    """What may be dropout in a model and cannot be given an address."""
    return tuple(_not_reached(dict(nnx.iter_modules(model)), separator))


def _not_reached(modules: dict[tuple[Any, ...], nnx.Module], separator: str) -> Iterator[Row]:
    for path, module in modules.items():
        site, kind = separator.join(map(str, path)), type(module).__name__
        if _drops(module):
            continue
        if isinstance(module, nnx.MultiHeadAttention) and module.dropout_rate > 0.0:
            what = "its call" if _is_known(module) else "its attention_fn"
            done = f"not reached: {what} is not Flax's own; use thinned.jax.dot_product_attention"
            yield Row(site, kind, float(module.dropout_rate), done, reached=False)
        elif isinstance(module, nnx.Dropout):
            done = "not reached: a subclass of nnx.Dropout, whose own code runs; make it one of "
            done += "thinned.jax.nnx.Dropout"
            yield Row(site, kind, float(module.rate), done, reached=False)
        elif isinstance(module, bridge.ToNNX):
            done = "not reached: a module of Linen, which draws keys of rngs; its code may use "
            done += "thinned.dropout with thinned.jax.address(self.make_rng('dropout'))"
            kind = f"ToNNX({type(module.to_nnx__module).__name__})"
            yield Row(site, kind, None, done, reached=False)
        elif drawn := drawn_by_hand(type(module)):
            done = f"not reached: its own code draws by {drawn}; draw by thinned.dropout at "
            done += "thinned.jax.address(key), or make it a layer of thinned.jax.nnx"
            yield Row(site, kind, None, done, reached=False)


def _seeds(words: tuple[int, ...], number: Any, lanes: tuple[int, ...]) -> Any:
    """Of a finished model's part with these leading axes, or of a stack being built."""
    if lanes:
        number = np.arange(1, 1 + np.prod(lanes), dtype=np.uint32).reshape(lanes)
    return folded_words(words, number)


def _give(module: Any, seeds: Any, step: int) -> None:
    module.before = Before(type(module), vars(module).get("site"))
    if type(module) is nnx.Dropout:
        make(module, Dropout)
    elif isinstance(module, nnx.MultiHeadAttention):
        if type(module) is nnx.MultiHeadAttention:
            make(module, MultiHeadAttention)
        module.attention_fn = attention_fn
    # Of its own: in tree mode no two layers may hold one variable.
    tag = stream_of(module)
    module.clock = Clock.of(seeds, tag, step)
    module.calls = Calls.of(tuple(module.clock.lanes), tag)


def stream_of(module: Any) -> str:
    """The name of the stream that a layer draws from, by which Flax's filters and reseed know it:
    of nnx.Rngs(0) "default", whatever collection the layer asks for."""
    stream = getattr(module, "rngs", None)
    return str(getattr(stream, "tag", module.rng_collection))


def _undo(module: Any) -> None:
    before: Before = module.before
    names = ["clock", "calls", "axes", "rule", "site", "before", "region", "takes", "gives"]
    if before.kind is nnx.Linear:
        names += ["deterministic", "rng_collection"]
    for name in names:
        if name in vars(module):
            delattr(module, name)
    make(module, before.kind)
    if before.site is not None:
        module.site = before.site
    if before.kind is nnx.MultiHeadAttention:
        module.attention_fn = nnx.dot_product_attention
