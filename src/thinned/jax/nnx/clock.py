"""The clock of an adopted NNX model: the seed, the step, and how often each site was called."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError

from thinned.address import Address
from thinned.backends.jax.address import Halves, at_one_of, words_of
from thinned.backends.jax.internals import outermost_program
from thinned.checks import message
from thinned.jax.keys import address
from thinned.jax.nnx.lanes import folded_words

__all__ = ["Calls", "Clock", "Clocks", "clocks_in", "tick"]


def _key_of(words: Any) -> Any:
    """A key of two words, the upper one first."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


class Clock(nnx.RngStream):
    """The clock of an adopted model, a part of its state, as Flax's own streams are: `key` holds
    the seed, `count` the step. So nnx.reseed(model, dropout=...) gives it another seed, at step 0.

    In a stack of layers it has the stack's leading axes, and each layer a seed of its own.
    """

    def __init__(self, seeds: Any) -> None:
        """seeds : uint32, shape (..., 2), the lower words first."""
        super().__init__(_key_of(seeds[..., ::-1]), tag="dropout")

    def tick(self, when: Any = True) -> None:
        """Begin the next step: once after each update of the parameters. when : bool, which may be
        traced: whether there was one."""
        self.count.set_value(self.count.get_value() + jnp.asarray(when).astype(jnp.uint32))

    def begin(self, at: Address) -> None:
        """Go on as a clock that has this address's seed and step: the layers of a stack have seeds
        made of it, as at first."""
        number: Any = 0
        if self.lanes:
            number = np.arange(1, 1 + np.prod(self.lanes), dtype=np.uint32).reshape(self.lanes)
        low, high, _, step, _ = words_of(at)
        self.key.set_value(_key_of(folded_words((low, high), number)[..., ::-1]))
        self.count.set_value(jnp.broadcast_to(jnp.asarray(step, jnp.uint32), self.lanes))

    @property
    def step(self) -> Any:
        return self.count.get_value()

    @property
    def lanes(self) -> tuple[int, ...]:
        """The leading axes of the stack that it is for."""
        return tuple(self.count.get_value().shape)

    def address(self, site: int | str, call: Any) -> Address:
        """Of a site's call in this step, whatever its number.

        An address has room for 65,536 calls. Each such lot of those that follow has a seed of its
        own, so that a clock that is never ticked repeats no mask.
        """
        at = address(self.key.get_value(), site, self.step)
        call = jnp.asarray(call, jnp.uint32)
        lot = call >> np.uint32(16)
        number: Any = Halves(lot, jnp.zeros_like(lot))
        at = at_one_of(lot == 0, at, at.fold_in(number))
        return at.replace(call=call & np.uint32(2**16 - 1))


class Clocks(NamedTuple):
    """The clocks of a model that holds stacks of layers: one for each kind of stack."""

    clocks: tuple[Clock, ...]

    def tick(self, when: Any = True) -> None:
        """Begin the next step in all of them. when : as in Clock.tick."""
        for clock in self.clocks:
            clock.tick(when)

    @property
    def step(self) -> Any:
        return self.clocks[0].step.reshape(-1)[0]


def tick(model: nnx.Module, when: Any = True) -> None:
    """Begin the next step of an adopted model, inside of nnx.jit too: every clock that it holds.

    Parameters
    ----------
    model : nnx.Module, adopted as a whole or in parts.
    when : bool, which may be traced. Whether there was an update: False leaves the step.

    Raises
    ------
    ValueError if it holds no clock. TypeError if it is no module.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(message("tick", "model", "an nnx.Module", type(model).__name__))
    clocks = clocks_in(model)
    if not clocks:
        raise ValueError("tick: the model holds no clock. Adopt it first.")
    Clocks(clocks).tick(when)


def clocks_in(model: nnx.Module) -> tuple[Clock, ...]:
    return tuple(node for _, node in nnx.iter_graph(model) if isinstance(node, Clock))


class Calls(nnx.RngStream):
    """How often a site was called in the step of its last call.

    `count` holds the calls, and the words of `key` the step. No key is made of it: it is a stream
    so that nnx.reseed, which sets the clock back, sets this back, too.
    """

    def __init__(self, lanes: tuple[int, ...]) -> None:
        super().__init__(_key_of(jnp.zeros((*lanes, 2), jnp.uint32)), tag="dropout")

    def begin(self) -> None:
        """Go on as if no call had been made."""
        count = self.count.get_value()
        self.key.set_value(_key_of(jnp.zeros((*count.shape, 2), jnp.uint32)))
        self.count.set_value(jnp.zeros_like(count))

    def next(self, step: Any) -> Any:
        """The number of the next call, which is counted.

        In a program that is being traced around the model, which jax.grad, jax.vmap or jax.jit of
        a function that closes over it are, the state cannot change. The calls are counted within
        the program then, from the state's count on, and the state stays.
        """
        last = jax.random.key_data(self.key.get_value())[..., -1]
        call = jnp.where(last == step, self.count.get_value(), np.uint32(0))
        try:
            self.key.set_value(_key_of(jnp.stack([jnp.zeros_like(step), step])))
        except TraceContextError:
            program = outermost_program()
            if program is None:
                raise
            return call + np.uint32(_seen_in(program, self.count))
        self.count.set_value(call + np.uint32(1))
        return call


# How often sites were called in programs that cannot count in the model's state: by the program,
# and in it by the variable.
_IN_PROGRAMS: WeakKeyDictionary[Any, dict[int, int]] = WeakKeyDictionary()


def _seen_in(program: Any, variable: nnx.Variable[Any]) -> int:
    """How many calls of the variable's site came before in a program, this one counted."""
    counts = _IN_PROGRAMS.setdefault(program, {})
    before = counts.get(id(variable), 0)
    counts[id(variable)] = before + 1
    return before
