"""predict: the thinned networks of a PyTorch model, asked one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from thinned import checks
from thinned.backends import numpy
from thinned.checks import message
from thinned.members.prediction import Gathered, Prediction, joined
from thinned.members.request import Asked, checked, in_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from thinned.torch.clock.members import Awake

__all__ = ["predict"]

WHO = "predict"
EXECUTIONS = ("auto", "thin", "elementwise")


def predict(
    model: nn.Module,
    x: Any,
    *,
    members: int = 64,
    seed: int = 0,
    batch_size: int | None = None,
    share: str = "member",
    progress: Callable[[int, int], object] | None = None,
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

    Dropout is awake and nothing else: every other module is in evaluation. Network k is the same
    for every row, batch size, order and device. What is woken is what `thinned.torch.adopt`
    reaches; of a model that is not adopted the twin is. Whatever may be dropout and
    is not reached is named in the result.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one. It is not touched: a twin of it is run, modules of
        their own around its parameters. Other threads may run and ask the model meanwhile, and not
        change it.
    x : tensor or NumPy array (N, ...), or a tuple or dict of them: the model's arguments, all with
        the pool's N rows on their first axis.
    members : int >= 2. Thinned networks to ask; with `until`, at most.
    seed : int in [0, 2^64). Which networks.
    batch_size : int >= 1 or None for all rows at once. The masks do not depend on it.
    share : "member": a network is one set of masks, and all rows meet it. "row": each row meets
        masks of its own, those of its number in x, so that the rows' errors are independent.
    progress : function of (forwards done, forwards in all, at most), or None.
    antithetic : bool. Members come in pairs: 2 j is network j, and 2 j + 1 its mirror, which drops
        where u is large. Statistics are over pairs. `members` must be even.
    until : float > 0 or None. Stop once the standard error of the mean is below it everywhere; it
        is looked at after every 8 members.
    keep : bool. Return every member's outputs; memory then grows with their number.
    quantiles : number or numbers in [0, 1], or None. Over members: estimated in constant memory by
        the P2 algorithm, exact with keep=True.
    task : None or "regression": outputs are numbers. "mean_variance": the model gives a pair of
        them. "classification": logits, of which each member's softmax is taken before anything is
        averaged. "binary": one logit, of the second of two classes. "probabilities": as they are.
    class_axis : int. The classes' axis in the model's output: 1 for (N, C, H, W). Last in the
        result.
    output : function from what the model returns to the tensor(s) that are predicted, or None.
    execution : "auto", "thin" or "elementwise". Whether the networks run at their true, smaller
        size, see `thinned.torch.thin`: numbers differ by rounding. "auto" where it is possible.

    Returns
    -------
    Prediction.

    Raises
    ------
    ValueError if all members' answers are equal, so that nothing was dropped; if the model has no
    dropout; if a number is out of range; or for execution="thin" where it is impossible. TypeError
    if model is no torch.nn.Module or a result is no tensor. RuntimeError if a site's rows cannot be
    told.

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
    import torch

    from thinned.torch.adoption.names import unwrapped

    if not isinstance(model, torch.nn.Module):
        remedy = "Estimators have predict_members."
        got = type(model).__name__
        raise TypeError(message(WHO, "model", "a torch.nn.Module", got, remedy))
    asked = checked(WHO, members, seed, share, antithetic, until, keep, quantiles, task)
    checks.one_of(WHO, "execution", execution, EXECUTIONS)
    for name, function, of in (
        ("progress", progress, "(forwards done, forwards in all)"),
        ("output", output, "what the model returns"),
    ):
        if function is not None:
            checks.function(WHO, name, function, of)
    if execution == "thin" and share != "member":
        raise ValueError(message(WHO, "share", "'member' for execution='thin'", repr(share)))
    root = unwrapped(model)
    pool = _Pool(root, x, batch_size)
    return _Question(root, pool, asked, progress, output, class_axis, execution).answer()


class _Pool:
    """The rows, batch by batch, as the model's arguments."""

    def __init__(self, model: nn.Module, x: Any, batch_size: int | None) -> None:
        import torch

        self._torch = torch
        likes = [p for p in model.parameters() if p.is_floating_point()]
        self._like: Tensor | None = likes[0] if likes else None
        self.named = isinstance(x, dict)
        values = list(x.values()) if isinstance(x, dict) else x
        several = isinstance(values, (tuple, list))
        self.names = list(x) if isinstance(x, dict) else []
        self.arrays = [self._tensor(v) for v in (values if several else [values])]
        lengths = {len(a) for a in self.arrays}
        if len(lengths) != 1:
            got = [tuple(a.shape) for a in self.arrays]
            raise ValueError(message(WHO, "x", "arrays with as many rows each", got))
        self.rows = lengths.pop()
        if not self.rows:
            raise ValueError(message(WHO, "x", "of at least one row", "none"))
        self.batch_size = (
            self.rows
            if batch_size is None
            else checks.integer(WHO, "batch_size", batch_size, 1, 2**47)
        )

    def _tensor(self, value: Any) -> Tensor:
        torch = self._torch
        if isinstance(value, np.ndarray):
            value = self._of_numpy(value)
            if value.is_floating_point() and self._like is not None:
                value = value.to(self._like.dtype)
        if not isinstance(value, torch.Tensor):
            got = type(value).__name__
            remedy = "Rows lie on the first axis."
            raise TypeError(message(WHO, "x", "a tensor or a NumPy array", got, remedy))
        if value.layout != torch.strided or value.is_nested:
            got = "a nested one" if value.is_nested else f"one of layout {value.layout}"
            raise TypeError(message(WHO, "x", "a dense tensor, whose rows can be taken", got))
        if value.dim() == 0:
            raise TypeError(message(WHO, "x", "of one axis or more, with a row each", "none"))
        tensor: Tensor = value
        return tensor

    def _of_numpy(self, array: NDArray[Any]) -> Tensor:
        numpy.backend.require_dense(WHO, array, "x")
        plain = np.ascontiguousarray(numpy.backend.plain(array)).reshape(array.shape)
        if plain.dtype.name == "bfloat16":  # ml_dtypes' own, which PyTorch does not read
            plain = plain.astype(np.float32)
        try:
            return self._torch.from_numpy(plain)
        except TypeError as error:
            got = plain.dtype.name
            remedy = "Convert it first: x.astype(numpy.float32)."
            wanted = "of a type that PyTorch has"
            raise TypeError(message(WHO, "x", wanted, got, remedy)) from error

    def __iter__(self) -> Iterator[tuple[int, list[Tensor]]]:
        for first in range(0, self.rows, self.batch_size):
            yield first, self._ready([a[first : first + self.batch_size] for a in self.arrays])

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def few(self, n: int) -> list[Tensor]:
        """n rows, the last one several times where there are fewer."""
        index = self._torch.arange(n).clamp(max=self.rows - 1)
        return self._ready([a[index.to(a.device)] for a in self.arrays])

    def _ready(self, arrays: list[Tensor]) -> list[Tensor]:
        device = None if self._like is None else self._like.device
        # The model's own device, for rows that lie with the host.
        return [a if device is None or a.device.type != "cpu" else a.to(device) for a in arrays]

    def call(self, model: nn.Module, arrays: list[Tensor]) -> Any:
        if self.named:
            return model(**dict(zip(self.names, arrays, strict=True)))
        return model(*arrays)


class _Question:
    def __init__(
        self,
        model: nn.Module,
        pool: _Pool,
        asked: Asked,
        progress: Callable[[int, int], object] | None,
        output: Callable[[Any], Any] | None,
        class_axis: int,
        execution: str,
    ) -> None:
        self.model, self.pool, self.asked, self.progress = model, pool, asked, progress
        self.output, self.execution, self.done = output, execution, 0
        self.batches = [
            Gathered(WHO, asked.task, asked.antithetic, asked.keep, asked.quantiles, class_axis)
            for _ in range(len(pool))
        ]
        self.spoils = self.generator_used = self.drew = False
        # PyTorch's part of the model's own draws, where it makes some.
        self.own: AbstractContextManager[Any] = nullcontext()
        self.not_reached: tuple[str, ...] | None = None

    def answer(self) -> Prediction:
        from thinned.members.mc_mode import adopted_twin, woken
        from thinned.torch.adoption.adopt import NothingToAdoptError
        from thinned.torch.clock.members import Awake

        awake = Awake(self.asked.share, self.pool.rows)
        try:
            twin = adopted_twin(self.model)
        except NothingToAdoptError as error:
            told = str(error).removeprefix("adopt: ")
            raise ValueError(f"predict: all members would be equal: {told}") from None
        with woken(twin, awake):
            self._observe(twin, awake)
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

    def _nothing_drew(self) -> str:
        told = "; ".join(self.not_reached or ())
        return (
            "predict: all members would be equal: nothing in the model drew while it was run in "
            f"evaluation{f' ({told})' if told else ''}."
        )

    def _observe(self, model: nn.Module, awake: Awake) -> None:
        """Two forwards on few rows, which show where in the sites' arrays rows lie."""
        from thinned.torch.compat.generators import OwnDraws

        seen: list[tuple[int, dict[Any, Any]]] = []
        for n in (2, 3):
            awake.begin(self.asked.seed, False, 0, n)
            try:
                with OwnDraws():
                    self.pool.call(model, [a.clone() for a in self.pool.few(n)])
            except Exception:  # a model may want batches of its own; what is wrong is said later
                awake.entries = {}
                return
            seen.append((n, awake.seen))
        awake.observed(*seen)

    def _executed(self, model: nn.Module, awake: Awake) -> tuple[nn.Module, str]:
        from thinned.members.mc_mode import thin_twin

        if self.execution == "elementwise" or self.asked.share != "member":
            return model, "elementwise"
        twin = thin_twin(self.model, awake)
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

        def block(several: list[tuple[int, bool]]) -> None:
            for gathered, (first, arrays) in zip(self.batches, self.pool, strict=True):
                self._batch(model, awake, prefix, several, first, arrays, gathered, rows)

        reached = in_blocks(self.asked, self.batches, block)
        return reached, tuple(sorted(prefix.used))

    def _batch(
        self,
        model: nn.Module,
        awake: Awake,
        prefix: Any,
        block: list[tuple[int, bool]],
        first: int,
        arrays: list[Tensor],
        gathered: Gathered,
        rows: Any,
    ) -> None:
        n = len(arrays[0])
        if self.not_reached is None:
            # The first forward of all is looked at: what draws, and from which generator.
            (seed, mirrored), *block = block
            self._first(model, awake, seed, mirrored, first, arrays, gathered, rows)
        if self.generator_used:  # what it draws must not be kept
            with self.own:
                for seed, mirrored in block:
                    awake.begin(seed, mirrored, first, n)
                    self._forward(model, awake, arrays, gathered)
            return
        with prefix.installed():
            prefix.batch()
            for seed, mirrored in block:
                awake.begin(seed, mirrored, first, n)
                prefix.begin()
                self._forward(model, awake, arrays, gathered)
                prefix.end()

    def _first(
        self,
        model: nn.Module,
        awake: Awake,
        seed: int,
        mirrored: bool,
        first: int,
        arrays: list[Tensor],
        gathered: Gathered,
        rows: Any,
    ) -> None:
        from thinned.members.mc_mode import missed, moved
        from thinned.torch.adoption.watching import generators
        from thinned.torch.compat.generators import OwnDraws

        before = generators()
        awake.begin(seed, mirrored, first, len(arrays[0]))
        with OwnDraws() as own:
            self._forward(model, awake, arrays, gathered)
        if own.used:
            self.own = own
        sources = moved(before, generators(), own)
        self.generator_used = bool(sources)
        self.not_reached = missed(model, rows, awake, sources)
        if len(self.batches) == 1 and not awake.seen and not sources:
            raise ValueError(self._nothing_drew())

    def _forward(
        self, model: nn.Module, awake: Awake, arrays: list[Tensor], gathered: Gathered
    ) -> None:
        copied = self.spoils or gathered.all.count == 0
        given = [a.clone() for a in arrays] if copied else arrays
        versions = [a._version for a in given]
        result = self.pool.call(model, given)
        self.drew = self.drew or bool(awake.seen) or self.generator_used
        # A model that writes into its input gets a copy each time.
        self.spoils = self.spoils or versions != [a._version for a in given]
        result = result if self.output is None else self.output(result)
        gathered.add(self._numbers(result, len(arrays[0])))
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.asked.members * len(self.pool))

    def _numbers(self, result: Any, n: int) -> Any:
        import torch

        if isinstance(result, (tuple, list)) and self.asked.task == "mean_variance":
            return tuple(self._numbers(part, n) for part in result)
        if not isinstance(result, torch.Tensor):
            remedy = "Pass output=, a function that takes it from there."
            got = type(result).__name__
            raise TypeError(message(WHO, "the model's result", "a tensor", got, remedy))
        if result.dim() == 0 or len(result) != n:
            got = f"shape {tuple(result.shape)}"
            raise ValueError(message(WHO, "the model's result", f"of {n} rows, as x", got))
        return result.detach().to("cpu", torch.float64).numpy()
