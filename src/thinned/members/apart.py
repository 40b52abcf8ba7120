"""Whether what a member answers for a row depends, by way of dropout, on the rows beside it.

Of an array that holds several entries of each row along one axis (frames, windows, heads folded
into the batch) a model's code may take a row's entries from another place than the row's own. The
same happens where rows go one after the other through a site, whose calls are counted, and where
what is left is scaled by how much of all rows was dropped. Without dropout the answers agree. With
dropout a member's answer for a row would depend on how rows are batched. No shape shows it: the
same row is asked alone and beside another.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thinned import reference
from thinned.members.arguments import Given
from thinned.members.mc_mode import moved
from thinned.members.twins import twin_of
from thinned.torch.adoption.switching import set_p
from thinned.torch.adoption.watching import generators
from thinned.torch.clock.members import Awake, Key
from thinned.torch.compat.generators import OwnDraws

__all__ = ["require_apart"]

# Of the effect of dropout on a row, and times what is left without dropout: less is rounding.
SHARE, TIMES = 0.02, 10.0
NAMED = 3


class _Answers(NamedTuple):
    """What a model answers for row 1 beside row 0, and alone."""

    beside: Tensor
    alone: Tensor

    @property
    def apart(self) -> float:
        return _largest(self.beside - self.alone)


def require_apart(
    who: str,
    model: nn.Module,
    twin: nn.Module,
    awake: Awake,
    two: Given,
    seed: int,
    take: Callable[[Any, int], Any],
    remedy: str,
) -> None:
    """RuntimeError where by dropout, and by nothing else, a row's answer depends on other rows.

    model : as it is. twin : its twin, adopted and woken by `awake`, which knows where rows lie.
    two : arguments for two rows. take : picks the result from what the model returns for n rows.
    remedy : what the caller can do.

    Nothing is said of a model that does not take a row alone, or answers with no row for each:
    there is nothing to compare with, and such a model is right as a rule (a contrastive one, or one
    that was exported for one size). docs/members.md tells the user.
    """
    asking = _Asking(twin, awake, two, reference.fold_in(seed, 0), take)
    found = asking.answers()
    if found is None or not found.apart > _rounding(twin, found.beside):
        return
    plain = _without_dropout(model, two, take)
    if plain is None or plain.beside.shape != found.beside.shape:
        return
    effect = _largest(found.beside - plain.beside)
    least = max(SHARE * effect, TIMES * plain.apart)
    if plain.apart > _rounding(model, plain.beside) or not found.apart > least:
        return
    sites = asking.sites
    cause = next((site for site in sites if asking.is_right_without(site, least)), None)
    named = ", ".join(map(repr, sites[:NAMED] if cause is None else [cause]))
    raise RuntimeError(
        f"{who}: what a member answers for a row depends on the rows beside it, and without "
        f"dropout it does not. At {named} the model's code takes what was dropped of another row, "
        "or scales by what is dropped of all, so that one number would be other networks in other "
        f"batches. {remedy}"
    )


class _Asking:
    """A twin that is asked for two rows, together and alone, as one member."""

    def __init__(
        self, twin: nn.Module, awake: Awake, two: Given, seed: int, take: Callable[[Any, int], Any]
    ) -> None:
        self.twin, self.awake, self.two, self.seed, self.take = twin, awake, two, seed, take
        self.sites: list[str] = []  # where it draws, the likeliest ones first

    def answers(self) -> _Answers | None:
        """None where the model draws what is not a member's, or does not answer."""
        before = generators()
        with OwnDraws() as own:
            beside, together = self._asked(self.two, 0)
            alone, single = self._asked(self.two.part(1, 1), 1)
        if moved(before, generators(), own):
            return None
        self.sites = self._sites(together, single)
        return _of(beside, alone)

    def _asked(self, given: Given, first: int) -> tuple[Any, dict[Key, Any]]:
        self.awake.begin(self.seed, False, first, given.rows)
        return _result(self.twin, given, self.take), self.awake.seen

    def _sites(self, together: dict[Key, Any], single: dict[Key, Any]) -> list[str]:
        """First those that hold several entries of a row along one axis, or are called for each."""
        likely = [key for key in together if self.awake.is_folded(key) or key not in single]
        return list(dict.fromkeys(site for site, _ in (*likely, *together)))

    def is_right_without(self, site: str, least: float) -> bool:
        """Whether nothing is wrong where this site alone drops nothing."""
        with suppress(ValueError):  # set_p refuses a site whose p is unknown
            with set_p(self.twin, glob.escape(site), 0.0):
                found = self.answers()
            return found is not None and found.apart <= least
        return False


def _result(model: nn.Module, given: Given, take: Callable[[Any, int], Any]) -> Tensor | None:
    try:
        answers = take(given.copied().call(model), given.rows)
        parts = answers if isinstance(answers, tuple) else (answers,)
        return torch.cat([p.reshape(given.rows, -1).to(torch.float64) for p in parts], 1)
    except RuntimeError as error:
        if str(error).startswith("thinned: site "):  # which draws are a row's cannot be said
            raise
        return None
    except Exception:  # of the model's own code, or of the caller's `output`
        return None


def _of(beside: Tensor | None, alone: Tensor | None) -> _Answers | None:
    if beside is None or alone is None or beside.shape[1:] != alone.shape[1:]:
        return None
    return _Answers(beside[1], alone[0])


def _without_dropout(
    model: nn.Module, two: Given, take: Callable[[Any, int], Any]
) -> _Answers | None:
    plain = twin_of(model)
    for module in plain.modules():
        module.training = False
    with torch.no_grad(), OwnDraws():
        return _of(_result(plain, two, take), _result(plain, two.part(1, 1), take))


def _largest(values: Tensor) -> float:
    known = values[values.isfinite()]  # the logits of what is masked are not
    return float(known.abs().max()) if known.numel() else 0.0


def _rounding(model: nn.Module, answer: Tensor) -> float:
    """More than products of other sizes differ by, at the coarsest type that the model works in."""
    floating = [p for p in model.parameters() if p.is_floating_point()]
    kinds = {torch.get_default_dtype(), *(p.dtype for p in floating)}
    kinds |= {
        torch.get_autocast_dtype(device)
        for device in {p.device.type for p in floating}
        if torch.is_autocast_enabled(device)
    }
    eps: float = max(torch.finfo(kind).eps for kind in kinds)
    return math.sqrt(eps) * _largest(answer)
