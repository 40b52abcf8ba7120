"""predict for JAX: the thinned networks of a function or a model, several in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thinned import checks
from thinned.checks import message
from thinned.jax.asking import Asking, asking_of
from thinned.jax.given import Given
from thinned.jax.networks import program_of, words_of_seeds
from thinned.members.outputs import answers_of, in_binary64
from thinned.members.prediction import Gathered, Prediction, joined
from thinned.members.progress import shown
from thinned.members.request import SHARES, Asked, Members, checked, in_blocks

__all__ = ["predict"]

WHO = "predict"
EXECUTIONS = ("auto", "thin", "elementwise")
# Members in one run of the program.
TOGETHER = 8


def predict(
    model: Any,
    x: Any,
    *,
    members: int,
    seed: int,
    batch_size: int | None,
    share: str,
    progress: Any,
    antithetic: bool,
    until: float | None,
    keep: bool,
    quantiles: Any,
    task: str | None,
    class_axis: int,
    output: Callable[[Any], Any] | None,
    execution: str,
) -> Prediction:
    """As thinned.members.predict, which calls it."""
    asked = checked(WHO, members, seed, share, antithetic, until, keep, quantiles, task, SHARES)
    checks.one_of(WHO, "execution", execution, EXECUTIONS)
    if execution == "thin" and asked.share != "member":
        raise ValueError(message(WHO, "share", "'member' for execution='thin'", repr(share)))
    given = Given.of(WHO, x)
    if batch_size is not None:
        batch_size = checks.integer(WHO, "batch_size", batch_size, 1, 2**47)
        if asked.share == "row":
            requirement = "None for share='row' under JAX, where rows have draws of their own"
            raise ValueError(message(WHO, "batch_size", requirement, batch_size))
    whole = asked.share != "member"  # each row has units of its own
    asking = asking_of(WHO, model, "elementwise" if whole else execution, given)
    with shown(WHO, progress) as told:
        return _Question(asking, given, asked, batch_size, told, output, class_axis).answer()


class _Question:
    def __init__(
        self,
        asking: Asking,
        given: Given,
        asked: Asked,
        batch_size: int | None,
        progress: Callable[[int, int | None], object] | None,
        output: Callable[[Any], Any] | None,
        class_axis: int,
    ) -> None:
        self.asking, self.given, self.asked = asking, given, asked
        self.size = min(batch_size or given.rows, given.rows)
        self.progress, self.output, self.done = progress, output, 0
        self.starts = range(0, given.rows, self.size)
        self.batches = [
            Gathered(WHO, asked.task, asked.antithetic, asked.keep, asked.quantiles, class_axis)
            for _ in self.starts
        ]
        self.programs = {mirror: self._program(mirror) for mirror in {False, asked.antithetic}}

    def _program(self, mirror: bool) -> Any:
        def take(out: Any, rows: int) -> Any:
            out = out if self.output is None else self.output(out)
            return answers_of(out, rows, self.asked.task)

        asked = self.asked
        one = program_of(self.asking, self.given, asked.share, self.given.rows, mirror, take)
        return jax.jit(jax.vmap(one, (0, None)))

    def answer(self) -> Prediction:
        reached = in_blocks(self.asked, self.batches, self._block)
        if all(batch.equal for batch in self.batches):
            told = "; ".join(self.asking.not_reached)
            raise ValueError(
                f"predict: all {self.batches[0].all.count} members gave the same answers to the "
                "bit: nothing that matters was dropped. Is p = 0 everywhere, the address not "
                f"passed on, or dropout out of reach{f' ({told})' if told else ''}?"
            )
        return joined(
            self.batches,
            seed=self.asked.seed,
            share=self.asked.share,
            until=self.asked.until,
            reached=reached,
            execution="thin" if self.asking.is_thin else "elementwise",
            not_reached=self.asking.not_reached,
        )

    def _block(self, several: Members) -> None:
        for start, gathered in zip(self.starts, self.batches, strict=True):
            arrays = tuple(self._part(a, start) for a in self.given.arrays)
            count = min(self.size, self.given.rows - start)
            for first in range(0, len(several), TOGETHER):
                for answer in self._asked(several[first : first + TOGETHER], arrays):
                    gathered.add(jax.tree.map(lambda y, n=count: y[:n], answer))
                    self._tell()

    def _part(self, array: Any, start: int) -> Any:
        """Rows of a batch; the last one several times where there are fewer, so that all batches
        are of one program."""
        part = array[start : start + self.size]
        lacking = self.size - len(part)
        return jnp.concatenate([part, *[part[-1:]] * lacking]) if lacking else part

    def _asked(self, several: Members, arrays: tuple[Any, ...]) -> list[Any]:
        """What each of these members answers, in their order."""
        found: dict[int, Any] = {}
        for mirror, program in self.programs.items():
            places = [i for i, (_, is_mirror) in enumerate(several) if is_mirror == mirror]
            if not places:
                continue
            seeds = [several[i][0] for i in places]
            seeds += seeds[-1:] * (self._together() - len(seeds))
            out = jax.tree.map(in_binary64, program(words_of_seeds(seeds), arrays))
            found.update((i, jax.tree.map(lambda y, n=n: y[n], out)) for n, i in enumerate(places))
        return [found[i] for i in range(len(several))]

    def _together(self) -> int:
        return min(TOGETHER, self.asked.members) // (2 if self.asked.antithetic else 1)

    def _tell(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.asked.members * len(self.batches))
