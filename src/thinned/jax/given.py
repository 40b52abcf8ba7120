"""What a model is asked with: its arguments, and which of them have the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from thinned.checks import message

__all__ = ["Given"]


class Given(NamedTuple):
    """A model's arguments: arrays of as many rows each, by their places, and what has none.

    names : the keywords, or None where the arguments are positional.
    """

    names: tuple[str, ...] | None
    values: tuple[Any, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, who: str, x: Any) -> Given:
        """TypeError or ValueError unless x is an array, a tuple of arguments or a Mapping of
        keywords, with arrays of equally many rows."""
        names = tuple(x) if isinstance(x, Mapping) else None
        values = list(x.values() if isinstance(x, Mapping) else x if _is_several(x) else [x])
        places = tuple(i for i, v in enumerate(values) if np.ndim(v) and hasattr(v, "dtype"))
        if not places:
            requirement = "an array of JAX's or NumPy's, a tuple or a mapping of some"
            raise TypeError(message(who, "x", requirement, type(x).__name__))
        for i in places:
            values[i] = jnp.asarray(values[i])
        shapes = [tuple(values[i].shape) for i in places]
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(message(who, "x", "arrays with as many rows each", shapes))
        if not shapes[0][0]:
            raise ValueError(message(who, "x", "of at least one row", "none"))
        return cls(names, tuple(values), places)

    @property
    def arrays(self) -> tuple[Any, ...]:
        return tuple(self.values[i] for i in self.places)

    @property
    def rows(self) -> int:
        return len(self.arrays[0])

    def called_with(self, arrays: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional arguments and keywords with these arrays."""
        values = list(self.values)
        for place, array in zip(self.places, arrays, strict=True):
            values[place] = array
        if self.names is None:
            return tuple(values), {}
        return (), dict(zip(self.names, values, strict=True))


def _is_several(x: Any) -> bool:
    return isinstance(x, (tuple, list))
