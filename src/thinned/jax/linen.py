"""Addresses for models of Flax Linen: every nn.Dropout by its path, and no keys passed around.

A module of Linen is a description, and is not changed. While the model runs, Flax lets us answer
the calls of its modules (nn.intercept_methods): those of nn.Dropout, of Flax's attention and of
Thinned's own layers draw by address. nn.scan and nn.vmap run one module several times, as its
lanes. They give each lane another key, and the key says which lane it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError

from thinned.address import Address
from thinned.backends.jax.address import Halves, at_one_of
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.awake import awake
from thinned.jax.flax_attention import with_address
from thinned.jax.keys import address, key_of
from thinned.jax.linen_layers import Dropout, Layer, made

__all__ = ["Adopted", "Dropout", "Layer", "adopt", "made"]

# What is folded into the key of streams other than "dropout".
_OTHERS = 0x6F746873


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]


@answering
def adopt(model: nn.Module, *, separator: str = ".") -> Adopted:
    """A Linen model whose dropout draws at an address: `apply(variables, x, at=...)`.

    - Each `nn.Dropout` draws at a site named by its path, "encoder.Dropout_0". A call that is given
      a key, `drop(x, rng=key)`, draws by that key at its site.
    - The weights of Flax's attention are dropped by `thinned.jax.dot_product_attention`, at
      "<its path>/dropout".
    - All other code that asks Flax for keys, of any stream, gets keys made of the address. Among
      it are subclasses of nn.Dropout.
    - Layers that nn.scan and nn.vmap run with split_rngs={"dropout": True} draw a mask each.
      nn.remat changes no mask. nn.jit changes them, because Flax changes the keys inside of it;
      they come again as all others do.

    The model is not changed.

    Parameters
    ----------
    model : nn.Module of flax.linen.
    separator : what stands between the parts of a site's name.

    Returns
    -------
    Adopted. What it does not have, it takes from the model: init, tabulate and the like.

    Raises
    ------
    TypeError if model is no module of Linen.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, thinned, thinned.jax.linen
    >>> from flax import linen as nn
    >>> drop = nn.Dropout(0.5, deterministic=False)
    >>> model = thinned.jax.linen.adopt(nn.Sequential([nn.Dense(4), drop]))
    >>> x = jnp.ones((2, 3))
    >>> variables = model.init(jax.random.key(0), x)
    >>> at = thinned.Address(seed=0, step=7)
    >>> bool((model.apply(variables, x, at=at) == model.apply(variables, x, at=at)).all())
    True
    """
    if not isinstance(model, nn.Module):
        got = f"a {type(model).__module__.partition('.')[0]} {type(model).__name__}"
        raise TypeError(message("adopt", "model", "a module of flax.linen", got))
    return Adopted(model, separator)


class Adopted:
    """What `adopt` returns.

    Attributes
    ----------
    model : the nn.Module.
    separator : what stands between the parts of a site's name.
    """

    def __init__(self, model: nn.Module, separator: str) -> None:
        self.model = model
        self.separator = separator

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # of a copy that is only being made
            raise AttributeError(name)
        return getattr(self.model, name)

    def init(self, rngs: Any, *args: Any, **how: Any) -> Any:
        """As the model's init, which needs no key for "dropout" here."""
        if not isinstance(rngs, dict):
            rngs = {"params": rngs}
        rngs = {"dropout": jax.random.key(0), **rngs}
        return self.model.init(rngs, *args, **how)

    def apply(
        self, variables: Any, *args: Any, at: Address | None = None, rngs: Any = None, **how: Any
    ) -> Any:
        """As the model's apply, with the masks of an address in place of a key for "dropout".

        at : Address, whose site is not looked at; it may be traced, and mapped over by jax.vmap.
        Its call tells one apply in a step from the next. Where nothing draws, in evaluation, it
        is not needed.
        rngs : keys for other streams, which otherwise are made of the address, too.

        Raises
        ------
        TypeError if at is no Address, or is missing where a layer draws; or if rngs has a key for
        "dropout".
        """
        if at is not None and not isinstance(at, Address):
            raise TypeError(message("apply", "at", "a thinned.Address", type(at).__name__))
        if rngs is not None and "dropout" in rngs:
            remedy = "Masks come from `at`; thinned.jax.address makes an address of a key."
            raise TypeError(message("apply", "rngs", "without a key for 'dropout'", "one", remedy))
        streams = dict(rngs or {})
        if at is not None:
            key = key_of(at)
            # From "params" Flax takes the keys of every stream that it is not given.
            streams = {"params": jax.random.fold_in(key, _OTHERS), **streams, "dropout": key}
            at = _of_its_call(at)
        roots = {name: _data(key) for name, key in streams.items()}

        def addressed(
            call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            module: Any = context.module
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if type(module) in (nn.Dropout, Dropout) and kwargs.get("at") is None:
                kwargs.pop("at", None)
                return _dropped(module, at, roots, self.separator, call, *args, **kwargs)
            if isinstance(module, Layer) and _draws_itself(kwargs):
                return _at_its_path(module, at, roots, self.separator, call, *args, **kwargs)
            if _attends(module) and kwargs.get("dropout_rng") is None:
                return _attended(module, at, roots, self.separator, call, *args, **kwargs)
            return call(*args, **kwargs)

        try:
            with nn.intercept_methods(addressed):
                return self.model.apply(variables, *args, rngs=streams, **how)
        except InvalidRngError as error:  # of code that draws keys itself
            if at is None:
                raise _missing(str(error).partition(" (")[0]) from error
            raise


def _dropped(
    layer: nn.Dropout,
    at: Address | None,
    roots: dict[str, Any],
    separator: str,
    call: Any,
    inputs: Any,
    deterministic: bool | None = None,
    rng: Any = None,
) -> Any:
    """The call of an nn.Dropout, with the mask of its site, of its number in the step, and of its
    lane in nn.scan or nn.vmap."""
    from thinned.methods.bernoulli import dropout

    off = nn.merge_param("deterministic", layer.deterministic, deterministic)
    off = off and awake() is None
    if off or layer.rate == 0.0:
        return call(inputs, deterministic=deterministic, rng=rng)
    site = separator.join(_path(layer))
    if rng is not None and awake() is None:  # the caller's key, if no member's draws are asked for
        return dropout(
            inputs, layer.rate, address(rng, site), shared_axes=tuple(layer.broadcast_dims)
        )
    at = _given(at, site)
    layer.make_rng(layer.rng_collection)  # counts the call; an error where there is no such stream
    at = _next_call(layer, layer.rng_collection, at, roots, site)
    return dropout(inputs, layer.rate, at, shared_axes=tuple(layer.broadcast_dims))


def _draws_itself(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("at") is None and kwargs.get("rng") is None


def _at_its_path(
    layer: Layer,
    at: Address | None,
    roots: dict[str, Any],
    separator: str,
    call: Any,
    x: Any,
    deterministic: bool | None = None,
    rng: Any = None,
    **_: Any,
) -> Any:
    """The call of one of Thinned's own layers."""
    off = nn.merge_param("deterministic", layer.deterministic, deterministic)
    if (off and awake() is None) or rng is not None:
        return call(x, deterministic=deterministic, rng=rng)
    site = separator.join(_path(layer))
    at = _given(at, site)
    layer.make_rng(layer.rng_collection)
    here = _next_call(layer, layer.rng_collection, at, roots, site)
    return call(x, deterministic=deterministic, at=here)


def _attends(module: Any) -> bool:
    """Whether it is attention whose weights are dropped by Flax's own function."""
    return (
        isinstance(module, nn.MultiHeadDotProductAttention)
        and module.attention_fn is nn.dot_product_attention
        and module.dropout_rate > 0.0
    )


def _attended(
    module: Any,
    at: Address | None,
    roots: dict[str, Any],
    separator: str,
    call: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The call of attention, whose weights are dropped at "<its site>/dropout", as in PyTorch."""
    path = separator.join(_path(module))
    site = f"{path}/dropout" if path else "dropout"

    # Flax passes what the function's signature names.
    def attention_fn(
        query: Any,
        key: Any,
        value: Any,
        bias: Any = None,
        mask: Any = None,
        broadcast_dropout: bool = True,
        dropout_rng: Any = None,
        dropout_rate: Any = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        force_fp32_for_softmax: bool = False,
        qk_attn_weights_einsum: Any = None,
        attn_weights_value_einsum: Any = None,
    ) -> Any:
        own = qk_attn_weights_einsum, attn_weights_value_einsum
        if deterministic or any(own):
            return nn.dot_product_attention(
                query, key, value, bias, mask, broadcast_dropout, dropout_rng, dropout_rate,
                deterministic, dtype, precision, module, force_fp32_for_softmax, None, *own,
            )  # fmt: skip
        here = _next_call(layer, "dropout", _given(at, site), roots, site)
        weights_of, how = None, dict[str, Any]()
        if module is not None or force_fp32_for_softmax:
            weights_of = nn.attention.dot_product_attention_weights
            how = {"force_fp32_for_softmax": force_fp32_for_softmax}
        return with_address(
            query, key, value, bias, mask, here, dropout_rate, broadcast_dropout, dtype, precision,
            module, weights_of, **how,
        )  # fmt: skip

    layer = module
    put = {"attention_fn": attention_fn}
    if awake() is not None:
        put["deterministic"] = False  # type: ignore[assignment]
        kwargs.pop("deterministic", None)
    before = {name: getattr(module, name) for name in put}
    # The module is this call's own copy of the user's, and is frozen but for this moment.
    for name, value in put.items():
        object.__setattr__(module, name, value)
    try:
        return call(*args, **kwargs)
    finally:
        for name, value in before.items():
            object.__setattr__(module, name, value)


def _given(at: Address | None, site: str) -> Address:
    """The address, where a layer draws."""
    if at is None:
        raise _missing(f"The layer {site!r} draws")
    return at


def _missing(what: str) -> TypeError:
    return TypeError(
        f"apply: at is missing. {what}. "
        "Pass at=thinned.Address(seed, step=step), or in evaluation deterministic=True."
    )


def _path(module: Any) -> tuple[str, ...]:
    path: tuple[str, ...] = module.scope.path
    return path


def _next_call(module: Any, stream: str, at: Address, roots: dict[str, Any], site: str) -> Address:
    """The address of a draw at a site. Its call is the number of keys that Flax has made of the
    stream in this module, the one just made left out."""
    scope: Any = module.scope
    if stream not in scope.rngs:  # Flax takes the parameters' stream then
        stream = "params"
    at = at.replace(site=site, call=scope.rng_counters[stream] - 1)
    return _in_lane(at, _data(scope.rngs[stream].rng), roots[stream]) if stream in roots else at


def _in_lane(at: Address, key: Any, root: Any) -> Address:
    """The address for one lane of nn.scan or nn.vmap. `root` is the key that the model was given,
    and `key` the one that Flax made of it for the lane: they differ only within such a transform,
    and what differs is folded into the seed."""
    if key is root:
        return at
    lane = key.reshape(-1) ^ root.reshape(-1)
    folded = at
    for i in range(0, lane.size, 2):
        number: Any = Halves(lane[i + 1], lane[i])
        folded = folded.fold_in(number)
    return at_one_of(jnp.all(lane == 0), at, folded)


def _of_its_call(at: Address) -> Address:
    """The address with its call folded into the seed. Sites count their own calls from 0, and two
    calls of the whole model in one step must not draw alike."""
    if isinstance(at.call, int):
        return at if at.call == 0 else at.fold_in(at.call)
    word: Any = Halves(jnp.asarray(at.call, jnp.uint32), jnp.zeros((), jnp.uint32))
    return at_one_of(word.low == 0, at, at.fold_in(word))


def _data(key: Any) -> Any:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key
