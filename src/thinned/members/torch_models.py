"""predict: the thinned networks of a PyTorch model, asked one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.arguments import Batches, Given, batches_of
from thinned.members.outputs import answers_of, numbers_of
from thinned.members.prediction import Gathered, Prediction, joined
from thinned.members.progress import shown
from thinned.members.request import SHARES, Asked, Members, checked, in_blocks

if TYPE_CHECKING:
    from torch import nn

    from thinned.torch.clock.members import Awake

__all__ = ["predict"]

WHO = "predict"
EXECUTIONS = ("auto", "thin", "elementwise")
_ALONE = (
    "Pass batch_size=1, by which each row is asked alone (of a DataLoader: batches of one row), or "
    "leave that dropout out: p = 0."
)


@answering
def predict(
    model: nn.Module,
    x: Any,
    *,
    members: int = 64,
    seed: int = 0,
    batch_size: int | None = None,
    share: str = "member",
    progress: bool | Callable[[int, int | None], object] | None = None,
    antithetic: bool = False,
    until: float | None = None,
    keep: bool = False,
    quantiles: Any = None,
    task: str | None = None,
    class_axis: int = -1,
    output: Callable[[Any], Any] | None = None,
    execution: str = "auto",
) -> Prediction:
    """Ask many thinned networks of a model, and say what they answer and how far they agree.

    mean = 1/M sum_k f(x; mask k),  mask k drawn at (fold_in(seed, k), site, step 0, call).

    Only dropout is in training mode; every other module is in evaluation mode. Network k is the
    same for every row, batch size, order and device. What `thinned.torch.adopt` reaches is switched
    on, in a copy that shares the model's parameters. What may be dropout and is not reached is
    listed in the result.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one. It is not touched: a twin of it is run, modules of
        their own around its parameters. Other threads may run and ask the model meanwhile, and not
        change it. Of JAX: a function of (x, address), a model of Flax NNX or Equinox, or a bound
        one of Linen (model.bind(variables)): docs/members.md.
    x : tensor or NumPy array (N, ...): the model's argument, with the N rows on its first axis. Or
        several: a tuple or list of positional ones, a Mapping of keywords (a tokenizer's
        BatchEncoding). Beside arrays there may be numbers, strings, bools and None, tuples of
        them, and tensors without axes, which every forward is given as they are. Or a
        torch.utils.data.DataLoader of such batches that keeps the order of its rows.
    members : int >= 2. Thinned networks to ask; with `until`, at most.
    seed : int in [0, 2^64). Which networks.
    batch_size : int >= 1 or None for all rows at once. The masks do not depend on it. None for a
        DataLoader, which has its own.
    share : "member": a network is one set of masks, and all rows meet it. "row": each row meets
        masks of its own, those of its number in x, so that the rows' errors are independent.
        "sequence": all rows and all of their tokens meet one set of masks, as in the networks of
        `sequence_members`; attention's weights are then not dropped.
    progress : True for a bar on stderr (by rich); or a function of (forwards done, forwards in all,
        at most: None where a DataLoader has no length); or None.
    antithetic : bool. Members come in pairs: 2 j is network j, and 2 j + 1 its mirror, which drops
        where u is large. Statistics are over pairs. `members` must be even.
    until : float > 0 or None. Stop once the standard error of the mean is below it everywhere; it
        is checked every 8 members. A DataLoader is gone through anew for each 8, and must
        give the same rows.
    keep : bool. Return every member's outputs; memory then grows with their number.
    quantiles : number or numbers in [0, 1], or None. Over members: estimated in constant memory by
        the P2 algorithm, exact with keep=True.
    task : None or "regression": outputs are numbers. "mean_variance": the model gives a pair of
        them. "classification": logits, of which each member's softmax is taken before anything is
        averaged. "binary": one logit, of the second of two classes. "probabilities": as they are.
    class_axis : int. The classes' axis in the model's output: 1 for (N, C, H, W). Last in the
        result.
    output : function from what the model returns to the tensor(s) that are predicted, or None: the
        tensor itself; of a Mapping, dataclass or named tuple "logits", or else the only floating
        tensor with N rows.
    execution : "auto", "thin" or "elementwise". Whether the networks run at their true, smaller
        size, see `thinned.torch.thin`: numbers differ by rounding. "auto" where it is possible.

    Returns
    -------
    Prediction.

    Raises
    ------
    ValueError if all members' answers are equal, so that nothing was dropped; if the model has no
    dropout; if a number is out of range; if a DataLoader shuffles, or batches or members give
    results of several shapes; or for execution="thin" where it is impossible. TypeError if model is
    no torch.nn.Module, x holds what has neither rows nor is a constant, or a result is no tensor.
    RuntimeError if a site's rows cannot be told, if dropout makes a row's answer depend on the rows
    beside it (batch_size=1 asks each alone), or if a DataLoader gives other rows the second time.
    ModuleNotFoundError if progress=True and rich is not installed.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1506.02142; Houlsby et al., 2011, arXiv:1112.5745 (mutual
    information); Hammersley and Morton, 1956 (antithetic variates).

    Examples
    --------
    >>> import torch
    >>> from thinned.members import predict
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> answer = predict(model, torch.ones(5, 8), members=16, task="classification")
    >>> answer.probabilities.shape, answer.members
    ((5, 3), 16)
    """
    checks.one_of(WHO, "execution", execution, EXECUTIONS)
    if output is not None:
        checks.function(WHO, "output", output, "what the model returns")
    if _is_of_jax(model):
        from thinned.members import jax_models

        return jax_models.predict(
            model,
            x,
            members=members,
            seed=seed,
            batch_size=batch_size,
            share=share,
            progress=progress,
            antithetic=antithetic,
            until=until,
            keep=keep,
            quantiles=quantiles,
            task=task,
            class_axis=class_axis,
            output=output,
            execution=execution,
        )
    import torch

    from thinned.torch.adoption.names import unwrapped

    if not isinstance(model, torch.nn.Module):
        remedy = "Estimators have predict_members."
        got = type(model).__name__
        requirement = "a torch.nn.Module, a model of JAX's or a function of (x, address)"
        raise TypeError(message(WHO, "model", requirement, got, remedy))
    shares = (*SHARES, "sequence")
    asked = checked(WHO, members, seed, share, antithetic, until, keep, quantiles, task, shares)
    if execution == "thin" and share != "member":
        raise ValueError(message(WHO, "share", "'member' for execution='thin'", repr(share)))
    root = unwrapped(model)
    pool = batches_of(root, x, batch_size, again=asked.until is not None)
    with shown(WHO, progress) as told:
        return _Question(root, pool, asked, told, output, class_axis, execution).answer()


def _is_of_jax(model: Any) -> bool:
    """Whether it is a function, or a model of a library of JAX's."""
    if "jax" not in sys.modules:
        return False
    from thinned.jax.asking import is_jax_model

    return is_jax_model(model)


class _Question:
    def __init__(
        self,
        model: nn.Module,
        pool: Batches,
        asked: Asked,
        progress: Callable[[int, int | None], object] | None,
        output: Callable[[Any], Any] | None,
        class_axis: int,
        execution: str,
    ) -> None:
        self.model, self.pool, self.asked, self.progress = model, pool, asked, progress
        self.output, self.execution, self.done = output, execution, 0
        self.class_axis, self.batches = class_axis, list[Gathered]()
        count = pool.count
        self.all = None if count is None else asked.members * count
        self.spoils = self.generator_used = self.drew = False
        # PyTorch's part of the model's own draws, where it makes some.
        self.own: AbstractContextManager[Any] = nullcontext()
        self.not_reached: tuple[str, ...] | None = None
        self.observed: Any = None  # what the first forwards showed

    def answer(self) -> Prediction:
        from thinned.members.apart import require_apart
        from thinned.members.mc_mode import adopted_twin, woken
        from thinned.members.observing import Observed
        from thinned.torch.adoption.adopt import NothingToAdoptError

        awake = self._awake()
        try:
            twin = adopted_twin(self.model)
        except NothingToAdoptError as error:
            told = str(error).removeprefix("adopt: ")
            raise ValueError(f"predict: all members would be equal: {told}") from None
        with woken(twin, awake) as rows:
            self.observed = Observed(WHO, twin, awake, rows, self.pool, self.asked.seed)
            if not self.pool.alone:
                require_apart(
                    WHO, self.model, twin, awake, self.pool.few(2), self.asked.seed, self._taken,
                    _ALONE,
                )  # fmt: skip
        model, execution = self._executed(twin, awake)
        with woken(model, awake) as rows:
            reached, prefix = self._members(model, awake, rows)
        equal = all(batch.equal for batch in self.batches)
        assert self.not_reached is not None
        if equal and not self.drew:
            raise ValueError(self._nothing_drew())
        if equal:
            told = "; ".join(self.not_reached)
            raise ValueError(
                f"predict: all {self.batches[0].all.count} members gave the same answers to the "
                f"bit: nothing that matters was dropped. Is p = 0 everywhere, or dropout out of "
                f"reach{f' ({told})' if told else ''}?"
            )
        return joined(
            self.batches,
            seed=self.asked.seed,
            share=self.asked.share,
            until=self.asked.until,
            reached=reached,
            execution=execution,
            prefix=prefix,
            not_reached=self.not_reached,
        )

    def _awake(self) -> Awake:
        from thinned.torch.clock.members import Awake
        from thinned.torch.clock.sequences import SequencesAwake

        if self.asked.share == "sequence":
            return SequencesAwake()
        return Awake(self.asked.share, self.pool.rows)

    def _nothing_drew(self) -> str:
        told = "; ".join(self.not_reached or ())
        return (
            "predict: all members would be equal: nothing in the model drew while it was run in "
            f"evaluation{f' ({told})' if told else ''}."
        )

    def _executed(self, model: nn.Module, awake: Awake) -> tuple[nn.Module, str]:
        from thinned.members.mc_mode import thin_twin

        if self.execution == "elementwise" or self.asked.share != "member":
            return model, "elementwise"
        twin = thin_twin(self.model, awake, self.observed.flags.woken)
        if isinstance(twin, str):
            if self.execution == "thin":
                raise ValueError(f"predict: the members of this model cannot run thin: {twin}.")
            return model, "elementwise"
        return twin, "thin"

    # -------------------------------------------------------------------------------- all members

    def _members(
        self, model: nn.Module, awake: Awake, rows: Any
    ) -> tuple[bool | None, tuple[str, ...]]:
        from thinned.members.prefix import Prefix

        prefix = Prefix(model, lambda: bool(awake.seen))

        def block(several: Members) -> None:
            for n, (first, given) in enumerate(self.pool):
                if n == len(self.batches):
                    self.batches.append(self._gathered())
                self._batch(model, awake, prefix, several, first, given, self.batches[n], rows)

        reached = in_blocks(self.asked, self.batches, block)
        return reached, tuple(sorted(prefix.used))

    def _gathered(self) -> Gathered:
        asked = self.asked
        return Gathered(
            WHO, asked.task, asked.antithetic, asked.keep, asked.quantiles, self.class_axis
        )

    def _batch(
        self,
        model: nn.Module,
        awake: Awake,
        prefix: Any,
        block: Members,
        first: int,
        given: Given,
        gathered: Gathered,
        rows: Any,
    ) -> None:
        n = given.rows
        if self.not_reached is None:
            # The first forward of all is looked at: what draws, and from which generator.
            seed, mirrored = block[0]
            block = block[1:]
            self._first(model, awake, seed, mirrored, first, given, gathered, rows)
        if self.generator_used:  # what it draws must not be kept
            with self.own:
                for seed, mirrored in block:
                    awake.begin(seed, mirrored, first, n)
                    self._forward(model, awake, given, gathered)
            return
        with prefix.installed():
            prefix.batch()
            for seed, mirrored in block:
                awake.begin(seed, mirrored, first, n)
                prefix.begin()
                self._forward(model, awake, given, gathered)
                prefix.end()

    def _first(
        self,
        model: nn.Module,
        awake: Awake,
        seed: int,
        mirrored: bool,
        first: int,
        given: Given,
        gathered: Gathered,
        rows: Any,
    ) -> None:
        from thinned.members.mc_mode import missed, moved
        from thinned.torch.adoption.watching import generators
        from thinned.torch.compat.generators import OwnDraws

        before = generators()
        awake.begin(seed, mirrored, first, given.rows)
        with OwnDraws() as own:
            self._forward(model, awake, given, gathered)
        if own.used:
            self.own = own
        sources = moved(before, generators(), own)
        self.generator_used = bool(sources)
        self.not_reached = missed(model, rows, awake, sources, self.observed)
        if self.pool.count == 1 and not awake.seen and not sources:
            raise ValueError(self._nothing_drew())

    def _taken(self, result: Any, rows: int) -> Any:
        result = result if self.output is None else self.output(result)
        return answers_of(result, rows, self.asked.task)

    def _forward(self, model: nn.Module, awake: Awake, given: Given, gathered: Gathered) -> None:
        copied = self.spoils or gathered.all.count == 0
        given = given.copied() if copied else given
        versions = given.versions
        result = given.call(model)
        self.drew = self.drew or bool(awake.seen) or self.generator_used
        # A model that writes into its input gets a copy each time.
        self.spoils = self.spoils or versions != given.versions
        gathered.add(numbers_of(self._taken(result, given.rows)))
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.all)
