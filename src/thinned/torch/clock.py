"""The clock of an adopted model: which seed, which step, which call, which rows.

The seed and the step stand in one buffer of the model, so that a state_dict carries them. Calls are
counted beside it: they begin at 0 with every step, and so never outlive one.

Two kinds of code ask the clock. Eager code asks `take`. A compiled graph takes `snapshot`, a
tensor, and counts on in the graph; what it counts is put back as a *new* tensor, never into the old
one: a backward pass that recomputes reads the numbers of its forward, and writing over them would
change its masks.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.checks import message
from thinned.torch import checkpointing
from thinned.torch.ranks import Ranks

if TYPE_CHECKING:
    from thinned.torch.addressed import Site
    from thinned.torch.awake import Awake

__all__ = ["BUFFER", "HEAD", "SPEC_VERSION", "Clock", "Moment", "clock_by_number", "words_of"]

# The buffer's name in the model and in its state_dict: seed_low, seed_high, step, SPEC_VERSION.
BUFFER = "thinned_clock"
SPEC_VERSION = 1

_MASK32 = 0xFFFFFFFF
_STEPS = 2**32 - 1
_CALLS = 2**16


class Moment(NamedTuple):
    """What the clock says at one time: all of an address but the site and the call, and the place.

    epoch : a number that no other step or piece of this clock has.
    start, rows, of : the piece's first row, its rows, the rows of the whole batch; -1 for unknown.
        start is -1 outside any piece.
    """

    seed: int
    step: int
    clock: int
    epoch: int
    start: int
    rows: int
    of: int
    ranks: Ranks


def words_of(moment: Moment) -> list[int]:
    """A moment as HEAD integers, for a tensor."""
    seed, step, *rest, ranks = moment
    return [seed & _MASK32, seed >> 32, step, *rest, *ranks]


def moment_of(words: list[int]) -> Moment:
    """The moment that `words_of` gave these words for."""
    low, high, step, clock, epoch, start, rows, of, *ranks = words
    return Moment(low | high << 32, step, clock, epoch, start, rows, of, Ranks(*ranks))


# The length of a moment in words.
HEAD = 8 + len(Ranks._fields)

_numbers = itertools.count()
_clocks: weakref.WeakValueDictionary[int, Clock] = weakref.WeakValueDictionary()


def clock_by_number(number: int) -> Clock | None:
    """The clock that a graph names by its number; None once its model is gone."""
    return _clocks.get(number)


class Clock:
    """Seed, step and calls of an adopted model; made by `adopt`, found in its report.

    Attributes
    ----------
    seed, step : int. As in `thinned.Address`.
    """

    def __init__(self, model: nn.Module, seed: int, ranks: str | None, group: Any) -> None:
        self._model = model
        self._ranks, self._group = ranks, group
        self._lock = threading.RLock()
        self._epochs = itertools.count()
        self._place = (-1, -1, -1)
        self._outside: tuple[int, Tensor] | None = None
        self._epoch, self._counted = next(self._epochs), 0
        # While a graph is traced: the tensor it counts in. A Python number would be built into it.
        self.live: Tensor | None = None
        # While members are asked: whose draws the sites make, in place of this clock's own.
        self.awake: Awake | None = None
        self.names: list[str] = []
        # Sites that follow a schedule: their p as a function of the step, by name; and they.
        self.rules: dict[str, Callable[[int], float]] = {}
        self.followers: list[Site] = []
        self.counts = torch.zeros(0, dtype=torch.int64)
        self._last: dict[int, int] = {}
        self._unrepeated: dict[int, set[int]] = {}
        self._handle: Any = None
        self._enter_service()
        words = [seed & _MASK32, seed >> 32, 0, SPEC_VERSION]
        model.register_buffer(BUFFER, torch.tensor(words, dtype=torch.int64))

    def _enter_service(self) -> None:
        """What a copy must have for itself: a number, and nothing remembered of buffers."""
        self.number = next(_numbers)
        _clocks[self.number] = self
        self.identity = torch.tensor([self.number], dtype=torch.int64)
        self._read: tuple[Tensor, int] | None = None
        self._viewed: Tensor | None = None
        self._moment: Moment | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        # A copy keeps time for itself: neither the lock nor the hook on the optimizer is its own.
        for name in (
            "_lock",
            "_handle",
            "_read",
            "_viewed",
            "_array",
            "_moment",
            "_epochs",
            "live",
            "awake",
        ):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._epochs = itertools.count(self._epoch + 1)
        self._handle = self.live = self.awake = None
        self._enter_service()

    # --------------------------------------------------------------------------------- what it says

    @property
    def seed(self) -> int:
        return self._seed_and_step()[0]

    @property
    def step(self) -> int:
        return self._seed_and_step()[1]

    def __repr__(self) -> str:
        return f"Clock(seed={self.seed}, step={self.step})"

    @property
    def buffer(self) -> Tensor:
        """The buffer itself: int64, (4,): seed_low, seed_high, step, version of the mask spec."""
        found = self._model._buffers[BUFFER]
        assert found is not None
        return found

    def _seed_and_step(self) -> tuple[int, int]:
        now = self.moment()
        return now.seed, now.step

    def moment(self) -> Moment:
        """Now. The buffer is the truth: who writes into it (a checkpoint, DDP) sets the clock."""
        buffer, known = self.buffer, self._read
        changed = known is None or known[0] is not buffer or known[1] != buffer._version
        if changed or self._moment is None:
            with self._lock:
                low, high, step, version = buffer.tolist()
                _require_version(version)
                if step != self._counted:
                    self._begin(step)
                ranks = Ranks.now(self._ranks, self._group)
                self._moment = Moment(
                    low | high << 32, step, self.number, self._epoch, *self._place, ranks
                )
                self._read = (buffer, buffer._version)
        assert self._moment is not None
        if self._moment.ranks.stale():
            ranks = Ranks.now(self._ranks, self._group)
            self._moment = self._moment._replace(ranks=ranks)
        return self._moment

    # ------------------------------------------------------------------------------- how it goes on

    def tick(self) -> None:
        """Begin the next step: every site's calls count from 0 again.

        An optimizer given to `adopt` does so after each of its steps; call it where there is none.

        Raises
        ------
        OverflowError after 2^32 - 2 steps.
        """
        with self._lock:
            step = self.step + 1
            if step >= _STEPS:
                raise OverflowError(
                    f"Clock.tick: {step} steps are all that one seed has. "
                    "Adopt the model with another seed."
                )
            with torch.no_grad():
                self.buffer[2] = step
            self._begin(step)

    def _begin(self, step: int) -> None:
        self._counted = step
        fresh = torch.zeros(self.counts.shape, dtype=torch.int64)
        self.counts, self._moment = fresh, None
        self._epoch = next(self._epochs)
        self._unrepeated.clear()
        if self._outside is not None:
            self._outside = (next(self._epochs), torch.zeros_like(fresh))
        for site in self.followers:
            site.follow(step)

    @contextmanager
    def piece(
        self, start: int, *, rows: int | None = None, of: int | None = None
    ) -> Iterator[None]:
        """The rows at hand are rows `start`... of one logical batch.

        Inside, calls count from 0 again: the pieces of a batch are the same call, each with its own
        rows, and gradients accumulated over them are those of the whole batch, masks included. Run
        the backward pass inside too, where checkpoints recompute.

        Parameters
        ----------
        start : int >= 0. The piece's first row in the batch.
        rows : int or None. The piece's rows. Needed where a site's leading axis holds several
            entries to a row (rows times heads, say): its length divided by rows is how many.
        of : int or None. Rows of the whole batch. Needed where rows lie on the second axis (modules
            with batch_first=False): there the length of that axis enters the index.

        Raises
        ------
        RuntimeError inside another piece. ValueError, TypeError for numbers out of range.
        """
        start = checks.integer("Clock.piece", "start", start, 0, 2**47)
        rows = -1 if rows is None else checks.integer("Clock.piece", "rows", rows, 1, 2**47)
        of = -1 if of is None else checks.integer("Clock.piece", "of", of, 1, 2**47)
        if of >= 0 and start + max(rows, 1) > of:
            end = start + max(rows, 1)
            raise ValueError(message("Clock.piece", "the piece", f"inside {of} rows", f"end {end}"))
        with self._lock:
            if self._outside is not None:
                raise RuntimeError(
                    "Clock.piece: a piece within a piece. Leave the first one before."
                )
            self._outside = (self._epoch, self.counts)
            self._epoch, self.counts = next(self._epochs), torch.zeros_like(self.counts)
            self._place, self._moment = (start, rows, of), None
        try:
            yield
        finally:
            with self._lock:
                self._epoch, self.counts = self._outside
                self._place, self._moment, self._outside = (-1, -1, -1), None, None

    def follow(self, optimizer: Any) -> None:
        """Tick after each step of the optimizer that was really taken."""

        def after(taken: Any, *_: Any) -> None:
            # The gradient scaler calls a fused optimizer for a step to skip too, and tells it so.
            infinite = getattr(taken, "found_inf", None)
            if infinite is None or not float(infinite):
                self.tick()

        self._handle = optimizer.register_step_post_hook(after)

    def leave(self) -> None:
        """Take the hook from the optimizer and the buffer from the model."""
        if self._handle is not None:
            self._handle.remove()
        del self._model._buffers[BUFFER]
        self._model._non_persistent_buffers_set.discard(BUFFER)

    # --------------------------------------------------------------------------- loading and saving

    def before_load(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """A checkpoint without a clock is given this one's; one of another mask spec is refused."""
        name = prefix + BUFFER
        if name not in state:
            state[name] = self.buffer.detach().clone()
            return
        found = state[name]
        if isinstance(found, Tensor) and found.shape == (4,):
            _require_version(int(found[3]))
            self._begin(int(found[2]))

    # ------------------------------------------------------------------------------------ the calls

    def enter(self, name: str) -> int:
        """A new site's index among the model's sites."""
        self.names.append(name)
        self.counts = torch.zeros(len(self.names), dtype=torch.int64)
        return len(self.names) - 1

    def _array_of_counts(self) -> Any:
        """The counts as NumPy's, to write into. A tensor that a graph may hold is copied first."""
        if self._viewed is not self.counts:
            with torch.inference_mode(False):
                self.counts = self.counts.clone()
            self._viewed, self._array = self.counts, self.counts.numpy()
        return self._array

    def drawn(self, index: int) -> int:
        """How often a site was called since the step or piece began."""
        return int(self.counts[index])

    def take(self, index: int, name: str) -> tuple[Moment, int]:
        """The moment and the number of the call that a site makes now, in eager code."""
        drawn = checkpointing.replayed(self, index, name)
        if drawn is None:
            if torch._C._current_graph_task_id() >= 0:
                drawn = self.again(index, name)
            else:
                drawn = self._next(index, name)
        checkpointing.note(self, index, drawn)
        return drawn

    def _next(self, index: int, name: str) -> tuple[Moment, int]:
        with self._lock:
            now = self.moment()
            counts = self._array_of_counts()
            call = int(counts[index])
            require_call(call, name)
            counts[index] = call + 1
            self.drew(index, now.epoch)
        return now, call

    def drew(self, index: int, epoch: int) -> None:
        """Remember in which step or piece a site was called, and where a recompute may follow."""
        self._last[index] = epoch
        if checkpointing.likely():
            self._unrepeated.setdefault(index, set()).add(epoch)

    def again(self, index: int, name: str) -> tuple[Moment, int]:
        """The same for a checkpoint that recomputes: clear where there is one forward to repeat."""
        with self._lock:
            now = self.moment()
            calls = self.drawn(index)
            waiting = self._unrepeated.get(index, set())
            if calls != 1 or self._last.get(index, now.epoch) != now.epoch or waiting - {now.epoch}:
                raise RuntimeError(
                    f"thinned: a checkpoint recomputes site {name!r}, which was called "
                    f"{calls} times since the step or piece began{_elsewhere(calls)}: which call "
                    "is it to repeat? Pass context_fn=thinned.torch.checkpoint_context to "
                    "torch.utils.checkpoint.checkpoint, with use_reentrant=False."
                )
            waiting.discard(now.epoch)
        return now, 0

    # ------------------------------------------------------------------------------ compiled graphs

    def snapshot(self) -> Tensor:
        """Now, as a tensor in a graph: HEAD words of the moment, then every site's calls."""
        live: Tensor = torch.ops.thinned.clock(self.buffer, self.identity, self.counts)
        return live


def _elsewhere(calls: int) -> str:
    return ", and elsewhere before" if calls == 1 else ""


def require_call(call: int, name: str) -> None:
    """OverflowError beyond the calls that an address can count."""
    if call >= _CALLS:
        raise OverflowError(
            f"thinned: site {name!r} was called {_CALLS} times in one step, which is all that the "
            "mask spec counts. Is clock.tick() missing, or the optimizer not given to adopt? For "
            "more calls in one step, adopt with another seed: Address.fold_in makes one."
        )


def _require_version(version: int) -> None:
    if version != SPEC_VERSION:
        raise ValueError(
            f"thinned: the state_dict was saved under version {version} of the mask spec, and this "
            f"is version {SPEC_VERSION}: it would draw other masks. Load it with the thinned that "
            f"saved it, or remove {BUFFER!r} from it."
        )
