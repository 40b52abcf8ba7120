"""What a backend must do: arrays of one library in, the same kind out, nothing known of methods."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from thinned.address import Address
from thinned.window import Placement

__all__ = ["Backend", "Draw"]


class Draw(NamedTuple):
    """All that decides a mask: the address, the integer threshold, the place, the mirror."""

    at: Address
    threshold: int
    place: Placement
    mirror: bool = False


class Backend(Protocol):
    """One array library: an object named `backend` in a file of its own."""

    def require_floating(self, who: str, x: Any) -> None:
        """TypeError, in one sentence, unless x has a floating type that masks can be put on."""

    def require_out(self, who: str, x: Any, out: Any) -> None:
        """An error, in one sentence, unless `out` can take the result for x."""

    def compiling(self) -> bool:
        """Whether a compiler reads the program now: lengths may be symbols, p a 0-d array."""

    def rate(self, p: Any) -> tuple[Any, Any]:
        """Threshold and nominal scale of a p that is an array, while compiling."""

    def keep(self, draw: Draw, like: Any = None) -> Any:
        """The keep mask, boolean, of the placement's whole shape, on the device of `like`. True
        means kept."""

    def packed(self, draw: Draw) -> Any:
        """The keep mask in C order, eight elements to a byte, the first in the lowest bit."""

    def words(self, draw: Draw) -> Any:
        """The 32-bit word of each element (tag 32), in the placement's whole shape."""

    def gaussian(self, draw: Draw) -> Any:
        """The standard normal draw of each element, binary32, in the placement's whole shape."""

    def apply_gaussian(self, x: Any, draw: Draw, std: float, out: Any) -> Any:
        """y = x (1 + std z), z the Gaussian draws, in x's shape and type; into `out` if given."""

    def apply(self, x: Any, draw: Draw, scale: float, fill: Any, out: Any) -> Any:
        """y = fill + scale m (x - fill), selected, in x's shape and type; into `out` if given."""

    def plain_dropout(self, x: Any, p: Any, at: Any, out: Any) -> Any:
        """Dropout with nothing particular about it, in few steps; None where anything is.

        Nothing is refused here: whatever is wrong goes the long way, which says so.
        """

    def copy(self, x: Any, out: Any) -> Any:
        """x copied into `out`, which is returned."""
