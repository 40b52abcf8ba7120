"""Addresses for Haiku: each call of hk.dropout draws by its key and by the name of its module.

hk.dropout is a function that is given a key. Haiku makes these keys, another for each call, and
for each layer in layer_stack and scan. All of them come from the one key that `apply` is given.
So we make that key of the address, and in hk.dropout an address of the key at hand. Then no mask
is kept for the backward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import haiku as hk
import jax

from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.awake import mirrored
from thinned.jax.keys import address, key_of

__all__ = ["Adopted", "adopt", "dropout"]


def dropout(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
    """`hk.dropout` by address: that of the key, at a site named by the module around.

    Parameters
    ----------
    rng : key of jax.random. rate : float in [0, 1], which may be traced. Probability to drop.
    x : array. broadcast_dims : axes that share one draw.

    Raises
    ------
    ValueError if rate is outside [0, 1]. TypeError if x is not floating.
    """
    from thinned.methods.bernoulli import dropout

    at = address(rng, site=f"{hk.experimental.current_name()}/dropout")
    given = _within.get()
    at = mirrored(at) if given is not None and given.mirrored else at
    return dropout(x, rate, at, training=True, shared_axes=tuple(broadcast_dims))


@answering
def adopt(transformed: Any) -> Any:
    """A transformed function of Haiku's whose dropout draws at an address:
    `apply(params, x, at=...)`.

    Each call of `hk.dropout` draws by the key that it is given, at a site named by its module. All
    keys are made of the address, also those of code that draws in other ways, as hk.nets.MLP does.
    hk.remat changes no mask. The layers of hk.layer_stack and hk.scan, and the lanes of hk.vmap,
    draw a mask each where Haiku gives them a key each.

    Parameters
    ----------
    transformed : what hk.transform, hk.multi_transform or either with state returned. It is not
        changed.

    Returns
    -------
    Adopted: `init` and `apply` as the function's own, with `at` in place of a key in apply. Of
    several functions the same tuple of Haiku's, whose `apply` functions take `at`.

    Raises
    ------
    TypeError if it is none of these.
    """
    if isinstance(transformed, (hk.Transformed, hk.TransformedWithState)):
        return Adopted(transformed)
    if isinstance(transformed, tuple(_ONE_OF)):
        made: Any = transformed
        several, init, one = type(made), made.init, _ONE_OF[type(made)]
        return several(init, jax.tree.map(lambda f: Adopted(one(init, f)).apply, made.apply))
    requirement = "what hk.transform, hk.multi_transform or either with state returned"
    raise TypeError(message("adopt", "transformed", requirement, type(transformed).__name__))


# The tuples that Haiku returns for several functions, and those for one.
_ONE_OF: dict[Any, Any] = {
    hk.MultiTransformed: hk.Transformed,
    hk.MultiTransformedWithState: hk.TransformedWithState,
}


class Adopted:
    """What `adopt` returns.

    Attributes
    ----------
    transformed : what it was made of. init : that one's own.
    """

    def __init__(self, transformed: Any) -> None:
        self.transformed, self.init = transformed, transformed.init

    def apply(self, params: Any, *args: Any, at: Address | None = None, **how: Any) -> Any:
        """As the function's apply, without its key: (params, x, ...), or (params, state, x, ...).

        at : Address, whose site is not looked at; it may be traced, and mapped over by jax.vmap.
        Where the function asks for no key, in evaluation, it is not needed.

        Raises
        ------
        TypeError if at is no Address, or is missing where the function asks for a key.
        """
        if at is not None and not isinstance(at, Address):
            raise TypeError(message("apply", "at", "a thinned.Address", type(at).__name__))
        states = isinstance(self.transformed, hk.TransformedWithState)
        first, rest = (args[:1], args[1:]) if states else ((), args)
        if at is None:
            return self._without_keys(params, *first, None, *rest, **how)
        with _in_place_of_hk(at):
            return self.transformed.apply(params, *first, key_of(at), *rest, **how)

    def _without_keys(self, *args: Any, **how: Any) -> Any:
        try:
            return self.transformed.apply(*args, **how)
        except ValueError as error:
            if type(error).__name__ != "MissingRNGError":  # which Haiku does not publish
                raise
            raise TypeError(
                "apply: at is missing, and the function asks for a key. Pass "
                "at=thinned.Address(seed, step=step), or have evaluation call no hk.next_rng_key."
            ) from error


_HAIKUS = hk.dropout
# The address of the adopted function that is running, in this thread.
_within: ContextVar[Address | None] = ContextVar("within", default=None)
_lock, _open = threading.Lock(), [0]


def _either(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
    """What stands in hk.dropout's place while an adopted function runs: ours for that function,
    and Haiku's own for what other threads run meanwhile."""
    return (_HAIKUS if _within.get() is None else dropout)(rng, rate, x, broadcast_dims)


@contextmanager
def _in_place_of_hk(at: Address) -> Iterator[None]:
    """While an adopted function runs, the name hk.dropout is ours. Functions may run in several
    threads and within each other: the last to end puts Haiku's back."""
    before = _within.set(at)
    with _lock:
        _open[0] += 1
        hk.dropout = _either
    try:
        yield
    finally:
        with _lock:
            _open[0] -= 1
            if not _open[0]:
                hk.dropout = _HAIKUS
        _within.reset(before)
