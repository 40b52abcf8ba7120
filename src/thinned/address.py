"""Address: which mask this is."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

from thinned import reference
from thinned.checks import integer, message

__all__ = ["Address"]

_RANGES = {"seed": 2**64, "site": 2**32, "step": 2**32 - 1, "call": 2**16}
_REMEDY = {"call": "For more calls in one step, use another seed: at.fold_in(n)."}


def _coordinate(name: str, value: int) -> int:
    end = _RANGES[name]
    if type(value) is int and 0 <= value < end:
        return value
    return integer("Address", name, value, 0, end, _REMEDY.get(name, ""))


def _crc32(name: str) -> int:
    try:
        return zlib.crc32(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        requirement = "a name that UTF-8 can encode"
        raise ValueError(message("Address", "site", requirement, ascii(name))) from None


@dataclass(frozen=True, slots=True, init=False)
class Address:
    """The address of a mask: equal addresses give equal masks, everywhere and always.

    Parameters
    ----------
    seed : int in [0, 2^64). The whole random field.
    site : int in [0, 2^32), or str. Which place in the network; a name stands for the CRC-32 of its
        UTF-8 bytes, and is kept for the repr.
    step : int in [0, 2^32 - 1). Which training step.
    call : int in [0, 2^16). Which call of that site within the step.

    Raises
    ------
    ValueError if a coordinate is out of range. TypeError if it is no integer (site: or a name).

    Examples
    --------
    >>> at = Address(seed=0, site="fc1", step=7)
    >>> at.replace(step=8)
    Address(seed=0, site='fc1', step=8, call=0)
    >>> at == Address(seed=0, site=2887079646, step=7)
    True
    """

    seed: int
    site: int
    step: int
    call: int
    _name: str | None = field(repr=False, compare=False)

    def __init__(self, seed: int = 0, site: int | str = 0, step: int = 0, call: int = 0) -> None:
        put = object.__setattr__
        # As a plain string, also where a subclass came (numpy.str_): the repr is to read back.
        put(self, "_name", str.__str__(site) if isinstance(site, str) else None)
        if isinstance(site, str):
            site = _crc32(site)
        put(self, "seed", _coordinate("seed", seed))
        put(self, "site", _coordinate("site", site))
        put(self, "step", _coordinate("step", step))
        put(self, "call", _coordinate("call", call))

    def __repr__(self) -> str:
        site = self.site if self._name is None else self._name
        return f"Address(seed={self.seed}, site={site!r}, step={self.step}, call={self.call})"

    def replace(self, **coordinates: Any) -> Address:
        """The same address with other `seed`, `site`, `step` or `call`."""
        site = self.site if self._name is None else self._name
        now = {"seed": self.seed, "site": site, "step": self.step, "call": self.call}
        unknown = set(coordinates) - set(now)
        if unknown:
            raise TypeError(
                f"Address.replace: {sorted(unknown)[0]!r} is no coordinate; "
                "the coordinates are seed, site, step and call."
            )
        return Address(**{**now, **coordinates})

    def fold_in(self, n: int) -> Address:
        """Another seed, made of this one and `n`: a member, an epoch, a rank. n in [0, 2^64)."""
        n = integer("Address.fold_in", "n", n, 0, 2**64)
        return self.replace(seed=reference.fold_in(self.seed, n))
