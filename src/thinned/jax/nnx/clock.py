"""The clocks of an adopted NNX model: of each site the seed, the step, and how often it was called.

Each site has its own: in tree mode (nnx.jit(..., graph=False)) no two layers may hold one variable.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError

from thinned.address import Address
from thinned.backends.jax.address import Halves, words_of
from thinned.backends.jax.internals import outermost_program
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.keys import address
from thinned.jax.nnx.lanes import folded_words

__all__ = ["LOT", "Calls", "Clock", "Clocks", "clocks_in", "tick"]


# The step of the seed's upper word from one lot of calls to the next: Knuth's odd number by the
# golden ratio. Its first multiples lie far apart, so that models with neighbouring seeds do not
# meet. With fold_in a program with many sites would take a third longer to compile, for calls that
# hardly any program makes.
LOT = np.uint32(2654435761)


def _key_of(words: Any) -> Any:
    """A key of two words, the upper one first."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


class Held(nnx.RngStream):
    """A stream that makes no keys: what Flax would do by one leaves its numbers as they are."""

    def broadcast(self, k: int | tuple[int, ...]) -> Self:
        """The same, with leading axes of these lengths."""
        axes = (k,) if isinstance(k, int) else tuple(k)
        key, count = self.key.get_value(), self.count.get_value()
        made = type(self)(jnp.broadcast_to(key, axes + key.shape), tag=self.tag)
        made.count.set_value(jnp.broadcast_to(count, axes + count.shape))
        return made

    def split(self, k: int | tuple[int, ...]) -> Self:
        """The same for each of so many lanes."""
        return self.broadcast(k)

    def fork(self, *, split: int | tuple[int, ...] | None = None) -> Self:
        """A copy, or one for each of so many lanes."""
        return self.broadcast(()) if split is None else self.split(split)


class Clock(Held):
    """The clock of a site in an adopted model, a part of its state, as Flax's own streams are:
    `key` holds the seed, `count` the step. So nnx.reseed(model, dropout=...) gives it another seed,
    at step 0.

    In a stack of layers it has the stack's leading axes, and each layer a seed of its own.
    """

    @classmethod
    def of(cls, seeds: Any, tag: str, step: int) -> Self:
        """At a step. seeds : uint32, shape (..., 2), the lower words first. tag : the name of the
        stream that the layer drew from, by which Flax's filters and reseed know it."""
        made = cls(_key_of(seeds[..., ::-1]), tag=tag)
        made.count.set_value(jnp.full(made.lanes, step, jnp.uint32))
        return made

    def split(self, k: int | tuple[int, ...]) -> Self:
        """For each of so many lanes a clock at this step, with a seed of its own."""
        made = self.broadcast(k)
        axes = made.lanes[: len(made.lanes) - len(self.lanes)]
        number = np.arange(1, 1 + np.prod(axes), dtype=np.uint32).reshape(axes)
        seeds = jax.random.key_data(self.key.get_value())[..., ::-1]
        fold: Any = jnp.vectorize(folded_words, signature="(two),()->(two)")  # seeds by lanes
        wide = number.reshape(*axes, *(1,) * len(self.lanes))
        made.key.set_value(_key_of(fold(seeds, wide)[..., ::-1]))
        return made

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
        low, high, *_ = words_of(at)
        moved = (call >> np.uint32(16)) * LOT
        seed: Any = Halves(low, jnp.asarray(high, jnp.uint32) + moved)
        room: Any = call & np.uint32(2**16 - 1)
        return at.replace(seed=seed, call=room)


class Clocks(NamedTuple):
    """The clocks of a model's sites, which advance together."""

    clocks: tuple[Clock, ...]

    def tick(self, when: Any = True) -> None:
        """Begin the next step in all of them. when : as in Clock.tick."""
        for clock in self.clocks:
            clock.tick(when)

    @property
    def step(self) -> Any:
        return self.clocks[0].step.reshape(-1)[0]


@answering
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


class Calls(Held):
    """How often a site was called in the step of its last call.

    `count` holds the calls, and the words of `key` the step. No key is made of it: it is a stream
    so that nnx.reseed, which sets the clock back, sets this back, too.
    """

    @classmethod
    def of(cls, lanes: tuple[int, ...], tag: str) -> Self:
        """Of a site that was never called, in a stack with these leading axes."""
        return cls(_key_of(jnp.zeros((*lanes, 2), jnp.uint32)), tag=tag)

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
