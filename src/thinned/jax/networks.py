"""Members: the thinned networks of a function or a model, each by its number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.jax.address import Halves
from thinned.foreign_arguments import answering
from thinned.jax.asking import Asking, asking_of
from thinned.jax.awake import Row, mirrored
from thinned.jax.cutting import smaller
from thinned.jax.given import Given

__all__ = ["member", "program_of", "words_of_seeds"]


@answering
def member(model: Any, k: int, *, seed: int = 0, execution: str = "whole") -> Callable[..., Any]:
    """One thinned network of a model, by its number: a compiled function of what the model takes.

    Its draws are those of Address(fold_in(seed, k), site, step 0, call), and all rows of a batch
    share them. It is the network that `thinned.members.predict` runs as number k, and the one that
    has this number in PyTorch.

    Parameters
    ----------
    model : function of (x, address), a model of Flax NNX or Equinox, or a bound one of Linen
        (model.bind(variables)). It is not touched.
    k : int in [0, 2^64). The member's number.
    seed : int in [0, 2^64). Which networks.
    execution : "whole", or "thin": a function of a batch that holds the weights of the kept units
        alone, equal to the whole network to rounding. Of a Sequential of Flax NNX or Equinox:
        Linear layers, elementwise functions, and dropout of units between Linear layers.

    Returns
    -------
    function of arrays with the rows on their first axis, and of constants. Dropout is awake in it
    and nothing else.

    Raises
    ------
    TypeError if model is none of these. ValueError if it holds nothing that can be woken, or
    execution="thin" does not apply, and why.

    Examples
    --------
    >>> import jax.numpy as jnp, thinned, thinned.jax
    >>> network = thinned.jax.member(lambda x, at: thinned.dropout(x, 0.5, at), 3)
    >>> network(jnp.ones((2, 6)))
    Array([[2., 0., 0., 2., 2., 2.],
           [2., 0., 0., 2., 2., 2.]], dtype=float32)
    """
    k = checks.integer("member", "k", k, 0, 2**64)
    seed = checks.integer("member", "seed", seed, 0, 2**64)
    checks.one_of("member", "execution", execution, ("whole", "thin"))
    if execution == "thin":
        return jax.jit(smaller("member", model, Address(reference.fold_in(seed, k))))
    asking = asking_of("member", model)
    (words,) = words_of_seeds([reference.fold_in(seed, k)])
    programs: dict[Any, Any] = {}

    def network(*args: Any, **kwargs: Any) -> Any:
        if kwargs and args:
            raise TypeError("member: arguments by place and by name both came. Name them all.")
        given = Given.of("member", kwargs or args)
        rest = tuple(v for i, v in enumerate(given.values) if i not in given.places)
        form = given.names, given.places, rest
        if form not in programs:
            one = program_of(asking, given, "member", given.rows)
            programs[form] = jax.jit(lambda arrays: one(words, arrays))
        return programs[form](given.arrays)

    return network


def words_of_seeds(seeds: Sequence[int]) -> Any:
    """The lower and the upper 32 bits of each seed: uint32, shape (seeds, 2)."""
    return np.array([(s & 0xFFFFFFFF, s >> 32) for s in seeds], np.uint32)


def program_of(
    asking: Asking,
    given: Given,
    share: str,
    rows: int,
    mirror: bool = False,
    take: Callable[[Any, int], Any] = lambda out, rows: out,
) -> Callable[..., Any]:
    """A function of (words, arrays), which runs one network on all rows of the arrays. The words
    are those of the network's seed, the lower one first.

    share : "row", each row has draws of its own, or "member", all rows share them. rows : how many
    there are in all batches together. take : picks the result from the model's output for n rows.
    """

    def of_rows(at: Address, arrays: tuple[Any, ...], row: Row | None) -> Any:
        args, kwargs = given.called_with(arrays)
        return asking.call(args, kwargs, at, row)

    def one(words: Any, arrays: tuple[Any, ...]) -> Any:
        seed: Any = Halves(words[0], words[1])
        at = mirrored(Address(seed)) if mirror else Address(seed)
        count = len(arrays[0])
        if share == "row" and not asking.alone:
            return take(of_rows(at, arrays, None), count)

        # Where rows share their draws, each is run by itself: its draws are then those of one row,
        # which are the same for all.
        def of_one(number: Any, *parts: Any) -> Any:
            if asking.alone:
                return of_rows(at, parts, Row(number, rows) if share == "row" else None)
            out = take(of_rows(at, tuple(part[None] for part in parts), None), 1)
            return jax.tree.map(lambda y: y[0] if jnp.ndim(y) else y, out)

        out = jax.vmap(of_one)(jnp.arange(count, dtype=jnp.uint32), *arrays)
        return take(out, count) if asking.alone else out

    return one
