"""The address of a draw, made of the words that a seed generator of Keras's holds.

Words are arrays of the library that Keras runs on, and may be traced by its compiler: there they
stay arrays, which the library's backend takes in an address's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from thinned.address import Address
from thinned.keras.internals import WORD

__all__ = ["address_of", "held", "numbers_of"]

MASK32 = 0xFFFFFFFF


def held(words: Sequence[int]) -> Any:
    """32-bit words as an array of NumPy's in the type of Keras's seeds: its bits where that is
    signed, and has no more."""
    array = np.array(words, np.uint32)
    return array.view(np.int32) if WORD == "int32" else array.astype(WORD)


def numbers_of(words: Any) -> list[int]:
    """The words of a variable, as Python's numbers."""
    return [int(word) & MASK32 for word in np.asarray(keras.ops.convert_to_numpy(words))]


def address_of(words: Any, site: int | str) -> Any:
    """The address that these words name: the seed, the lower half first or alone, and the step.

    words : array of 2 or 3 words. site : name or number.

    Returns
    -------
    Address; or, while a compiler reads the program, what stands for it there.
    """
    return _OF[keras.config.backend()](words, site)


def _known(words: Any, site: int | str) -> Address:
    low, *high, step = (int(word) & MASK32 for word in words)
    return Address(low | sum(high) << 32, site, step)


def _numpy(words: Any, site: int | str) -> Address:
    return _known(words.tolist(), site)


def _jax(words: Any, site: int | str) -> Address:
    from thinned.backends.jax.address import Halves, is_traced

    if not is_traced(words):
        return _known(np.asarray(words).tolist(), site)
    low, high, step = words[0], words[1:-1].sum(dtype=words.dtype), words[-1]
    seed: Any = Halves(low, high)
    return Address(seed, site, step)


def _torch(words: Any, site: int | str) -> Any:
    import torch

    from thinned.backends.torch import wire
    from thinned.backends.torch.address import GraphAddress
    from thinned.backends.torch.spec import Coordinates
    from thinned.backends.torch.values import has_values, recorded

    if recorded():
        wide = words.to(torch.int64) & MASK32
        high = wide[1:-1].sum()  # 0 where the seed is one word
        at = Coordinates(wide[0], high, Address(site=site).site, wide[-1], 0)
        return GraphAddress(wire.pack_address(at), wire.pack(()))
    if not has_values(words):  # an output is described, and none is drawn
        return Address(site=site)
    return _known(words.tolist(), site)


def _tensorflow(words: Any, site: int | str) -> Any:
    from thinned.backends.keras import WordAddress

    words = keras.ops.cast(words, "int64")
    high = keras.ops.sum(words[1:-1])
    return WordAddress.of(words[0], high, Address(site=site).site, words[-1], 0)


_OF: dict[str, Callable[[Any, int | str], Any]] = {
    "numpy": _numpy,
    "jax": _jax,
    "torch": _torch,
    "tensorflow": _tensorflow,
}
if keras.config.backend() not in _OF:
    raise ImportError(
        f"thinned.keras: Keras's backend must be {', '.join(_OF)}, but it is "
        f"{keras.config.backend()!r}. Set KERAS_BACKEND before Keras is imported."
    )
