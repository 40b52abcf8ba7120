"""Layers for Equinox: one class for each row of the catalogue that has one array in and out.

As all of Equinox's layers they take one sample, without a batch axis: map over a batch by
`jax.vmap`. Options that name axes count them with a batch axis in front, as the rows do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any, ClassVar

import equinox as eqx
import jax
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.attention import dot_product_attention
from thinned.jax.awake import awake, awake_row, in_lane
from thinned.jax.by_hand import drawn_by_hand
from thinned.jax.keys import address
from thinned.methods.made import (
    Report,
    Row,
    chosen_options,
    default_p,
    layer_rows,
    nothing_to_adopt,
    samples_alone,
)
from thinned.methods.table import Method

__all__ = ["Layer", "MultiheadAttention", "adopt", "made", "thin"]  # noqa: F822 - it comes when asked for

_NOWHERE = Address()  # what inference, which draws nothing, is given


class Layer(eqx.Module):
    """A method of the catalogue as a layer of Equinox's: x in, the method's y out.

    Parameters
    ----------
    p : float in [0, 1], or such an array of JAX's without axes. Probability to drop. An array is
        traced by `eqx.filter_jit`, so that another value is no other program.
    inference : bool. True leaves x as the method's evaluation does; eqx.nn.inference_mode sets it.
    site : str or int. Where in the network it stands: layers at different sites draw different
        masks of one key. `adopt` gives each its own.
    """

    row: ClassVar[Method]

    p: Any
    inference: bool
    site: int | str = eqx.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)

    def __init__(
        self,
        p: float | None = None,
        inference: bool = False,
        *,
        site: int | str = 0,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        self.p = self._checked(default_p(self.row) if p is None else p)
        self.inference = checks.flag(name, "inference", inference)
        self.site = site
        self.options = tuple(chosen_options(name, self.row, options).items())

    def _checked(self, p: Any) -> Any:
        """p, which stays an array where it is one of JAX's: filter_jit traces it, and so another
        value is no other program."""
        name = type(self).__name__
        if isinstance(p, jax.core.Tracer):  # its value is checked by the draw
            return p
        number = checks.probability(name, p)
        self.row.require_law(name, number)
        return p if isinstance(p, jax.Array) else number

    def __call__(
        self, x: Any, *, key: Any = None, at: Address | None = None, inference: bool | None = None
    ) -> Any:
        """y for x, a sample.

        key : a key of jax.random, of which the layer's site makes an address. at : an Address,
        instead; the layer's site, if it has one, takes the place of its own. inference : takes the
        place of the layer's.

        Raises
        ------
        RuntimeError if neither came, as Equinox's own layers; ValueError if both did.
        """
        how = dict(self.options)
        drawn = self.drawn_at(key, at, inference)
        if drawn is None:
            return self._called(x, _NOWHERE, training=False, **how)
        return self._called(x, drawn, **how)

    def drawn_at(self, key: Any, at: Any, inference: bool | None) -> Address | None:
        """Where a call with these arguments draws; None where it does not."""
        name = type(self).__name__
        asked = awake()
        if asked is not None and self.site != 0:  # a member's draws, whatever the code passes
            at = asked.address(self.site)
            return at if key is None else in_lane(at, key)
        if self.inference if inference is None else inference:
            return None
        if key is not None and at is not None:
            raise ValueError(f"{name}: key and at both came. Give one of them.")
        if at is None:
            if key is None:
                raise RuntimeError(
                    f"{name} requires a key, or an address (at=...), when running in "
                    "non-deterministic mode."
                )
            return address(key, site=self.site)
        if not isinstance(at, Address):
            raise TypeError(message(name, "at", "a thinned.Address", type(at).__name__))
        return at if self.site == 0 else at.replace(site=self.site)

    def _called(self, x: Any, at: Address, **how: Any) -> Any:
        row = awake_row()
        if row is not None and at is not _NOWHERE:
            wide = x[None]
            return self.row.function(wide, self.p, at, window=row.window(wide.shape), **how)[0]
        if samples_alone(self.row):
            return self.row.function(x[None], self.p, at, **how)[0]
        return self.row.function(x, self.p, at, **how)


def _made(row: Method) -> type[Layer]:
    assert row.module is not None
    options = "".join(f"\n    {n} : default {default!r}." for n, default in row.options.items())
    doc = f"""{row.title}: {row.formula}

    See `thinned.{row.name}` for errors and source, and `Layer` for the call.

    Parameters
    ----------
    p : float in [0, 1]. Probability to drop.
    inference : bool. True draws nothing.{options}
    """
    space = {"row": row, "__doc__": doc, "__module__": __name__, "__qualname__": row.module}
    return type(row.module, (Layer,), space)


class MultiheadAttention(eqx.nn.MultiheadAttention):
    """`eqx.nn.MultiheadAttention`, whose subclass it is, with its weights dropped by address.

    `adopt` makes it of one: its projections are those of Equinox, and the weights are dropped by
    `thinned.jax.dot_product_attention` at the site of its `dropout`, in blocks that are made again
    in the backward pass. A call may have `at`, an Address, in place of `key`.
    """

    def __call__(  # type: ignore[override]
        self,
        query: Any,
        key_: Any,
        value: Any,
        mask: Any = None,
        *,
        key: Any = None,
        at: Address | None = None,
        inference: bool | None = None,
        process_heads: Any = None,
    ) -> Any:
        layer: Any = self.dropout
        never = isinstance(layer.p, (int, float)) and layer.p == 0
        drawn = None if never else layer.drawn_at(key, at, inference)
        projected = zip(
            (self.query_proj, self.key_proj, self.value_proj), (query, key_, value), strict=True
        )
        project: Any = self._project  # to which Equinox gives no types
        heads: Any = [project(projection, x) for projection, x in projected]
        if process_heads is not None:
            shapes = [x.shape for x in heads]
            heads = process_heads(*heads)
            if [x.shape for x in heads] != shapes:
                raise ValueError("process_heads must not change the shape of the heads.")
        how: dict[str, Any] = {} if drawn is None else {"p": layer.p, "at": drawn}
        row = awake_row()
        if row is not None and drawn is not None:
            heads = [x[None] for x in heads]
            shape = (1, heads[0].shape[2], heads[0].shape[1], heads[1].shape[1])
            how["window"] = row.window(shape)
        q, k, v = heads
        if mask is not None:  # of any type, as in Equinox: what is not 0 takes part
            mask = mask.astype(bool)
            mask = mask[None] if mask.ndim == 2 else mask
        out = dot_product_attention(q, k, v, None, mask, **how)
        return jax.vmap(self.output_proj)(out.reshape(query.shape[0], -1))


def _attention_of(old: Any, layer: Layer) -> MultiheadAttention:
    """The same attention, its weights dropped by this layer."""
    made = object.__new__(MultiheadAttention)
    for field in fields(old):
        object.__setattr__(made, field.name, getattr(old, field.name))
    object.__setattr__(made, "dropout", layer)
    return made


_MADE: dict[str, type[Layer]] = {}


def made() -> dict[str, type[Layer]]:
    """Every class that is made from a row, by its name."""
    if not _MADE:
        _MADE.update({name: _made(row) for name, row in layer_rows().items()})
    return _MADE


def __getattr__(name: str) -> Any:
    if name in ("Thin", "thin"):  # which need what is defined here
        return getattr(import_module("thinned.jax.thin_equinox"), name)
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]


@answering
def adopt(model: Any, *, separator: str = ".") -> tuple[Any, Report]:
    """The model with every `eqx.nn.Dropout` in it replaced by an addressed one at its own site, and
    `eqx.nn.MultiheadAttention` by `thinned.jax.equinox.MultiheadAttention`.

    The model goes on threading keys as it does; its layers make addresses of them. A site is the
    layer's place in the tree, such as "layers.2.dropout". The given model stays as it was. A
    subclass of `eqx.nn.Dropout` has a call of its own, which runs on; the report names it.

    Parameters
    ----------
    model : any pytree. Addressed layers without a site get theirs, too.
    separator : what stands between the parts of a site's name: "layers.0.dropout" is the site of
        the same module in PyTorch and in Flax.

    Returns
    -------
    (model, Report).

    Raises
    ------
    ValueError if nothing in the model can be given an address.
    """

    def is_ours(node: Any) -> bool:
        return isinstance(node, (eqx.nn.Dropout, Layer, MultiheadAttention)) or _attends(node)

    leaves, form = tree_flatten_with_path(model, is_leaf=is_ours)
    rows, new = [], []
    for path, leaf in leaves:
        if is_ours(leaf):
            site = keystr(path, simple=True, separator=separator)
            leaf, row = _adopted(leaf, site)
            rows.append(row)
        new.append(leaf)
    rows += _missed(model, (), is_ours, separator)
    if not any(row.reached for row in rows):
        raise ValueError(nothing_to_adopt(rows))
    return tree_unflatten(form, new), Report(tuple(rows))


def _missed(node: Any, path: Any, is_ours: Any, separator: str) -> Iterator[Row]:
    """Modules whose own code draws masks, and those in them."""
    if is_ours(node):
        return
    if isinstance(node, eqx.Module) and (drawn := drawn_by_hand(type(node))):
        done = f"not reached: its own code draws by {drawn}; draw by thinned.dropout at "
        done += "thinned.jax.address(key), or make it a layer of thinned.jax.equinox"
        site = keystr(path, simple=True, separator=separator)
        yield Row(site, type(node).__name__, None, done, reached=False)
    inside, _ = tree_flatten_with_path(node, is_leaf=lambda part: part is not node)
    for more, part in inside:
        if more:
            yield from _missed(part, (*path, *more), is_ours, separator)


def _attends(node: Any) -> bool:
    """Whether it is Equinox's own attention, with dropout of Equinox's own."""
    return type(node) is eqx.nn.MultiheadAttention and type(node.dropout) is eqx.nn.Dropout


def _adopted(layer: Any, site: str) -> tuple[Any, Row]:
    if isinstance(layer, MultiheadAttention):
        inner: Any = layer.dropout
        return layer, Row(inner.site, "MultiheadAttention", None, f"has its site: {inner.site!r}")
    if _attends(layer):
        site = f"{site}/dropout" if site else "dropout"
        made_new, row = _adopted(layer.dropout, site)
        row = row._replace(kind="MultiheadAttention", done="weights addressed")
        return _attention_of(layer, made_new), row
    kind = type(layer).__name__
    p = layer.p if isinstance(layer.p, (int, float)) else None
    if isinstance(layer, Layer):
        if layer.site != 0:
            return layer, Row(site, kind, p, f"has its site: {layer.site!r}")
        how = dict(layer.options)
        made_new = type(layer)(layer.p, layer.inference, site=site, **how)
        return made_new, Row(site, kind, p, "given its site")
    if type(layer) is not eqx.nn.Dropout:
        done = "not reached: a subclass of eqx.nn.Dropout, whose own call runs; make it one of "
        return layer, Row(site, kind, p, f"{done}thinned.jax.equinox.Dropout", reached=False)
    fresh = made()["Dropout"](layer.p, bool(layer.inference), site=site)
    return fresh, Row(site, kind, p, "replaced")
