"""Forwards on few rows before members predict: whose flags are to be set, and where rows lie."""

from __future__ import annotations

from typing import Any

from torch import nn

from thinned.checks import message
from thinned.members.arguments import Batches
from thinned.members.mc_mode import Flags, Readings, asleep, compared, wake
from thinned.torch.adoption.report import Row
from thinned.torch.adoption.uniforms import ABOVE, BELOW
from thinned.torch.clock.members import Awake
from thinned.torch.compat.generators import OwnDraws

__all__ = ["Observed"]


class Observed:
    """What the forwards of a twin have shown. Awake knows then where rows lie in the arrays of its
    sites.

    Attributes
    ----------
    flags : whose flags are set in the twin.
    readings : of the model's code, by site.

    Raises
    ------
    TypeError if tokens share their draws and x has none. RuntimeError if the model then does not
    run on other numbers of rows and tokens.
    """

    def __init__(
        self,
        who: str,
        twin: nn.Module,
        awake: Awake,
        rows: tuple[Row, ...],
        pool: Batches,
        seed: int,
    ) -> None:
        self.twin, self.awake, self.pool, self.seed = twin, awake, pool, seed
        self.who, self.flags = who, Flags()
        self.readings: Readings = {}
        if awake.over_tokens and not pool.few(2).tokens:
            requirement = "with an array (rows, tokens) of whole numbers"
            remedy = "Without tokens pass share='member' to predict."
            got = pool.few(2).shapes
            raise TypeError(message(who, "x", requirement, got, remedy))
        if self._look() is None:
            return
        hidden = asleep(twin, rows, awake, self.readings)
        if hidden:
            self._wake(hidden)

    def _wake(self, hidden: list[str]) -> None:
        twin, awake = self.twin, self.awake
        try:
            self.flags = compared(twin, hidden, lambda: self._few(3))
        except Exception as error:  # the model's own raises again when members predict
            kind = type(error).__name__
            self.flags.left = dict.fromkeys(hidden, f"the comparison failed with a {kind}: {error}")
            return
        covers = wake(twin, self.flags.woken)
        if not covers:
            return
        awake.forget()
        untold = self._look()
        # What could be woken but cannot be asked of members sleeps on.
        late = [n for n in covers if untold is None or f"{n}/dropout" in untold]
        for name in late:
            covers[name].lift()
            del self.flags.woken[name]
            self.flags.left[name] = "which of its draws are a row's could not be told"
        if late:
            awake.forget()
            self._look()

    def _look(self) -> set[str] | None:
        """Forwards on few rows, which show where in the sites' arrays rows lie. Returned are the
        sites of which they do not; None where the model does not run on few rows."""
        several = []
        # Code that skips layers has to go either way, so that all that draws is seen.
        for number in (ABOVE, BELOW):
            self.awake.decided = number
            seen = self._seen()
            if seen is None:
                break
            several.append(seen)
            if not self.awake.decides:
                break
        self.awake.decided = None
        if seen is None:
            self.awake.entries = {}
            return None
        for seen in several:
            self.awake.observed(*seen)
        return {site for seen in several for site in self.awake.untold(seen[0])}

    def _seen(self) -> list[dict[Any, Any]] | None:
        """Who draws for which arrays; None where the model does not run on few rows."""
        seen: list[dict[Any, Any]] = []
        for n, other in self.awake.looks:
            self.awake.begin(self.seed, False, 0, n)
            try:
                self._few(n, other)
            except Exception as error:  # a model may need batches of another kind
                if self.awake.over_tokens:
                    what = f"{n} rows of x{' with another number of tokens' if other else ''}"
                    raise RuntimeError(
                        f"{self.who}: the model does not run on {what}, by which it is told where "
                        f"rows and tokens lie ({type(error).__name__}: {error}). x is what its "
                        "forward takes; models with a decoder may need decoder_input_ids."
                    ) from error
                return None
            seen.append(self.awake.seen)
        return seen

    def _few(self, n: int, other: bool = False) -> None:
        given = self.pool.few(n)
        given = given.of_other_length() if other else given
        with OwnDraws():
            given.copied().call(self.twin)
