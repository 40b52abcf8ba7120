"""The inputs of a prediction: arguments with rows, in batches cut here or by a DataLoader."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.backends import numpy
from thinned.checks import message

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Batches", "Given", "batches_of"]

WHO = "predict"

# What a model may be given beside arrays, and is given unchanged in every forward.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, np.generic)
_NAMED = "a tensor, an array, a number, a string, a bool or None"
_CUT = "Rows lie on the first axis."


class Given(NamedTuple):
    """A model's arguments for some rows: arrays of as many rows each, and what has none.

    names : the keywords, or None where the arguments are positional.
    arrays : by their places among the arguments.
    """

    names: tuple[Any, ...] | None
    values: tuple[Any, ...]
    arrays: tuple[int, ...]
    rows: int

    def mapped(self, what: Callable[[Tensor], Tensor], rows: int | None = None) -> Given:
        """The same with other arrays."""
        values = list(self.values)
        for place in self.arrays:
            values[place] = what(values[place])
        return self._replace(values=tuple(values), rows=self.rows if rows is None else rows)

    def part(self, first: int, size: int) -> Given:
        rows = min(size, self.rows - first)
        return self.mapped(lambda a: a[first : first + size], rows)

    def few(self, n: int) -> Given:
        """n rows, the last one several times where there are fewer."""
        import torch

        index = torch.arange(n).clamp(max=self.rows - 1)
        return self.mapped(lambda a: a[index.to(a.device)], n)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The places of arrays (rows, tokens): numbers of tokens, masks and positions of them."""
        flat = [i for i in self.arrays if self.values[i].ndim == 2]
        whole = [i for i in flat if not self.values[i].is_floating_point()]
        lengths = {self.values[i].shape[1] for i in whole}
        return tuple(i for i in flat if i in whole or self.values[i].shape[1] in lengths)

    def of_other_length(self) -> Given:
        """The same rows with one token less of each, or one more where there is but one."""
        import torch

        values = list(self.values)
        for i in self.tokens:
            a = values[i]
            values[i] = a[:, :-1] if a.shape[1] > 1 else torch.cat([a, a[:, -1:]], 1)
        return self._replace(values=tuple(values))

    def copied(self) -> Given:
        return self.mapped(lambda a: a.clone())

    @property
    def versions(self) -> list[int]:
        """How often each array was written into."""
        return [self.values[place]._version for place in self.arrays]

    @property
    def shapes(self) -> Any:
        shapes = [tuple(self.values[place].shape) for place in self.arrays]
        if self.names is None:
            return shapes
        return {self.names[p]: s for p, s in zip(self.arrays, shapes, strict=True)}

    def call(self, model: nn.Module) -> Any:
        if self.names is not None:
            return model(**dict(zip(self.names, self.values, strict=True)))
        return model(*self.values)


class _Model(NamedTuple):
    """Of a model what its arguments ask: a parameter to be like, and what its forward takes.

    positional : how many arguments by place it takes; None where it takes any number.
    """

    like: Tensor | None
    positional: int | None

    @classmethod
    def of(cls, model: nn.Module) -> _Model:
        like = next((p for p in model.parameters() if p.is_floating_point()), None)
        try:
            taken = list(inspect.signature(model.forward).parameters.values())
        except (TypeError, ValueError):  # compiled code, and some objects, do not say
            return cls(like, None)
        if any(t.kind is t.VAR_POSITIONAL for t in taken):
            return cls(like, None)
        placed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return cls(like, sum(t.kind in placed for t in taken))

    def given(self, x: Any, what: str) -> Given:
        """Arguments from a tensor, a tuple or list of positional ones, or a Mapping of keywords."""
        names = None
        if isinstance(x, Mapping):
            names, values = tuple(x), list(x.values())
        else:
            values = list(x) if isinstance(x, (tuple, list)) else [x]
        places = [f"{what}[{name!r}]" for name in names or range(len(values))]
        if names is None and not isinstance(x, (tuple, list)):
            places = [what]
        for place, value in zip(places, values, strict=True):
            _require_known(place, value)
        arrays = tuple(i for i, value in enumerate(values) if _has_rows(value))
        if not arrays:
            got = type(x).__name__ if len(values) != 1 else type(values[0]).__name__
            raise TypeError(message(WHO, what, "a tensor or a NumPy array", got, _CUT))
        for i in arrays:
            values[i] = self._tensor(places[i], values[i])
        found = Given(names, tuple(values), arrays, len(values[arrays[0]]))
        if any(len(values[i]) != found.rows for i in arrays):
            remedy = "What is the same for all rows, expand: ids.expand(rows, -1)."
            shapes = found.shapes
            raise ValueError(message(WHO, what, "arrays with as many rows each", shapes, remedy))
        if not found.rows:
            raise ValueError(message(WHO, what, "of at least one row", "none"))
        self._require_taken(found, what)
        return found

    def _tensor(self, place: str, value: Any) -> Tensor:
        import torch

        if isinstance(value, np.ndarray):
            value = _of_numpy(place, value)
            if value.is_floating_point() and self.like is not None:
                value = value.to(self.like.dtype)
        if value.layout != torch.strided or value.is_nested:
            got = "a nested one" if value.is_nested else f"one of layout {value.layout}"
            raise TypeError(message(WHO, place, "a dense tensor, whose rows can be taken", got))
        tensor: Tensor = value
        return tensor

    def _require_taken(self, given: Given, what: str) -> None:
        most = self.positional
        if given.names is None and most is not None and len(given.values) > most:
            remedy = (
                "A tuple's parts are all given to forward. Leave labels out, of a DataLoader by "
                "collate_fn=lambda rows: default_collate(rows)[0]."
            )
            parts, taken = f"the parts of {what}", f"at most {most}, as forward takes"
            raise TypeError(message(WHO, parts, taken, len(given.values), remedy))

    def ready(self, given: Given) -> Given:
        """On the model's own device, where rows lie with the host."""
        if self.like is None:
            return given
        device = self.like.device
        return given.mapped(lambda a: a if a.device.type != "cpu" else a.to(device))


def _of_numpy(place: str, array: NDArray[Any]) -> Tensor:
    import torch

    numpy.backend.require_dense(WHO, array, place)
    plain = np.ascontiguousarray(numpy.backend.plain(array)).reshape(array.shape)
    if plain.dtype.name == "bfloat16":  # ml_dtypes' own, which PyTorch does not read
        plain = plain.astype(np.float32)
    if plain.dtype.kind not in "biufc":
        raise TypeError(message(WHO, place, "an array of numbers", plain.dtype))
    try:
        return torch.from_numpy(plain)
    except TypeError as error:
        remedy = "Convert it first: x.astype(numpy.float32)."
        wanted = "of a type that PyTorch has"
        raise TypeError(message(WHO, place, wanted, plain.dtype.name, remedy)) from error


def _has_rows(value: Any) -> bool:
    import torch

    return isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim > 0


def _require_known(place: str, value: Any) -> None:
    """TypeError for what cannot be cut into rows, and is no plain constant either."""
    import torch

    if isinstance(value, (torch.Tensor, np.ndarray, torch.dtype, torch.device, *_PLAIN)):
        return
    plain = isinstance(value, tuple) and all(isinstance(v, _PLAIN) for v in value)  # a size, say
    if plain:
        return
    remedy = "Make a list of rows a tensor: a tokenizer's return_tensors='pt' does."
    raise TypeError(message(WHO, place, _NAMED, type(value).__name__, remedy))


# -------------------------------------------------------------------------------------- batches


class Batches:
    """All rows, batch by batch, as often as they are asked for.

    rows : how many there are, or -1 where only going through them would tell.
    """

    rows = -1

    def __iter__(self) -> Iterator[tuple[int, Given]]:
        """The number of the first row of each batch, and the arguments."""
        raise NotImplementedError

    @property
    def count(self) -> int | None:
        """How many batches there are, if that is known."""
        raise NotImplementedError

    @property
    def alone(self) -> bool:
        """Whether no row has another one beside it."""
        raise NotImplementedError

    def few(self, n: int) -> Given:
        """Some rows to look at."""
        raise NotImplementedError


def batches_of(model: nn.Module, x: Any, batch_size: Any, again: bool) -> Batches:
    """The rows of x. again: whether they may be gone through more than once."""
    from torch.utils.data import DataLoader

    if batch_size is not None:
        batch_size = checks.integer(WHO, "batch_size", batch_size, 1, 2**47)
    taking = _Model.of(model)
    if isinstance(x, DataLoader):
        if batch_size is not None:
            raise ValueError(
                message(WHO, "batch_size", "None for a DataLoader, which has its own", batch_size)
            )
        return _Loaded(taking, x, again)
    return _Cut(taking, x, batch_size)


class _Cut(Batches):
    """Rows that are here, cut into batches."""

    def __init__(self, taking: _Model, x: Any, batch_size: int | None) -> None:
        self.taking, self.all = taking, taking.given(x, "x")
        self.rows = self.all.rows
        self.size = self.rows if batch_size is None else batch_size

    def __iter__(self) -> Iterator[tuple[int, Given]]:
        for first in range(0, self.rows, self.size):
            yield first, self.taking.ready(self.all.part(first, self.size))

    @property
    def count(self) -> int:
        return -(-self.rows // self.size)

    @property
    def alone(self) -> bool:
        return min(self.rows, self.size) == 1

    def few(self, n: int) -> Given:
        return self.taking.ready(self.all.few(n))


class _Loaded(Batches):
    """Rows that a DataLoader gives. The first batch is looked at before the others are loaded."""

    def __init__(self, taking: _Model, loader: Any, again: bool) -> None:
        _require_order(loader)
        self.taking, self.loader = taking, loader
        self.rows = _rows_of(loader)
        self.sums: list[tuple[float, ...]] = []  # of each batch, where they are loaded again
        self.again, self.first_pass = again, True
        self.iterator: Any = iter(loader)
        try:
            self.head = self._given(next(self.iterator))
        except StopIteration:
            raise ValueError(message(WHO, "x", "of at least one row", "none")) from None

    def _given(self, batch: Any) -> Given:
        return self.taking.given(batch, "a batch of x")

    def __iter__(self) -> Iterator[tuple[int, Given]]:
        first = batches = 0
        for given in self._loaded():
            yield first, self.taking.ready(given)
            first, batches = first + given.rows, batches + 1
        if not self.first_pass and batches != len(self.sums):
            self._other()
        if self.first_pass and self.rows not in (-1, first):
            raise RuntimeError(
                f"predict: the DataLoader's sampler has {self.rows} rows, and its batches have "
                f"{first}. Let collate_fn keep every row, or pass the rows as tensors."
            )
        self.first_pass = False

    def _loaded(self) -> Iterator[Given]:
        if self.first_pass:
            yield self._noted(self.head)
        else:
            self.iterator = iter(self.loader)
        for n, batch in enumerate(self.iterator):
            given = self._given(batch)
            if self.first_pass:
                yield self._noted(given)
            elif n < len(self.sums) and self.sums[n] == _sums(given):
                yield given
            else:
                self._other()

    def _noted(self, given: Given) -> Given:
        if self.again:
            self.sums.append(_sums(given))
        return given

    def _other(self) -> None:
        raise RuntimeError(
            "predict: the DataLoader gave other batches when it was gone through again, as until= "
            "asks: the order changes, rows are augmented at random, or its data can be read only "
            "once. Leave until out, or pass the rows as tensors."
        )

    @property
    def count(self) -> int | None:
        try:
            return len(self.loader)
        except TypeError:  # of an iterable data set without a length
            return None

    @property
    def alone(self) -> bool:
        return getattr(self.loader, "batch_size", None) == self.head.rows == 1

    def few(self, n: int) -> Given:
        return self.taking.ready(self.head.few(n))


def _require_order(loader: Any) -> None:
    """ValueError where a loader's sampler is known to draw the order of rows."""
    from torch.utils import data

    drawn = (data.RandomSampler, data.SubsetRandomSampler, data.WeightedRandomSampler)
    samplers = [getattr(loader, "sampler", None)]
    samplers += [getattr(loader, "batch_sampler", None)]
    samplers += [getattr(sampler, "sampler", None) for sampler in samplers]
    for sampler in samplers:
        if isinstance(sampler, drawn) or getattr(sampler, "shuffle", None) is True:
            got = f"one with a {type(sampler).__name__}"
            remedy = "The result has the rows in the loader's order: pass shuffle=False."
            raise ValueError(message(WHO, "x", "a DataLoader that keeps the order", got, remedy))


def _rows_of(loader: Any) -> int:
    """How many rows a loader gives, where its sampler alone says so."""
    from torch.utils.data import BatchSampler, IterableDataset, Sampler

    sampler, by = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    if isinstance(loader.dataset, IterableDataset) or type(by) is not BatchSampler:
        return -1
    if not isinstance(sampler, Sampler) or not hasattr(sampler, "__len__"):
        return -1
    rows = len(sampler)
    return rows - rows % by.batch_size if by.drop_last else rows


def _sums(given: Given) -> tuple[float, ...]:
    """A checksum for each array of a batch, which depends on the order of its rows."""
    import torch

    found = []
    for place in given.arrays:
        array = given.values[place]
        each = array.detach().reshape(len(array), -1)
        each = (each.real if each.is_complex() else each).to(torch.float64).sum(1)
        weights = torch.arange(1, len(each) + 1, dtype=torch.float64, device=each.device)
        found.append(float((each * weights).nan_to_num().sum()))
    return tuple(found)
