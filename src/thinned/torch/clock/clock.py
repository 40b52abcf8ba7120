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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.backends.torch.devices import uses_triton
from thinned.backends.torch.internals import FakeTensor, graph_task, is_traced, modes
from thinned.backends.torch.values import eager
from thinned.checks import message
from thinned.torch.clock import agreement, attempts, checkpoints, optimizers
from thinned.torch.clock.checkpoints import RecomputeError, Run, _here
from thinned.torch.clock.members import Awake
from thinned.torch.clock.numbers import number_of_new
from thinned.torch.clock.ranks import ALONE, PROCESSES, Ranks
from thinned.torch.clock.reading import CALLS, HEAD, Moment, require_call, words_of
from thinned.torch.clock.stamp import BUFFER, SPEC_VERSION, STEP, advance, read, stamp
from thinned.torch.compat.recording import (
    capturing,
    require_no_capture,
    require_no_export,
    require_no_trace,
)
from thinned.torch.compat.without_modes import aside, bare

__all__ = ["BUFFER", "HEAD", "SPEC_VERSION", "Clock", "Moment", "was_skipped", "words_of"]

_STEPS = 2**32 - 1

# Used at every call: looked up once.
_backward_pass, _is_traced, _modes = graph_task, is_traced, modes
_grad_enabled = torch.is_grad_enabled


def _memory_of(counts: Tensor) -> memoryview[int]:
    array: Any = counts.numpy()
    return memoryview(array)


class FollowsSteps(Protocol):
    """A site whose p changes from step to step."""

    def follow(self, step: int) -> None: ...


class Clock:
    """Seed, step and calls of an adopted model; made by `adopt`, found in its report.

    Attributes
    ----------
    seed, step : int. As in `thinned.Address`. The step may be set: its calls count from 0.
    """

    def __init__(self, model: nn.Module, seed: int, ranks: str | None, group: Any) -> None:
        self._model = model
        self._ranks, self._group = ranks, group
        # Whether the processes, if they split a batch, were found to hold equal parts.
        self.even = False
        self._lock = threading.RLock()
        self._epochs = itertools.count()
        self._place = (-1, -1, -1)
        self._outside: tuple[int, Tensor] | None = None
        self._epoch, self._counted = next(self._epochs), 0
        # Seed and step when the buffer was last read: used where it cannot be read.
        self._said = (seed, 0)
        # In a piece: its epoch, a site that was called in it, and its entries along the rows' axis.
        self.entries: tuple[int, str, int] | None = None
        # While a graph is traced: the tensor it counts in. A Python number would be built into it.
        self.live: Tensor | None = None
        # While members predict: whose draws the sites make, in place of this clock's own.
        self.awake: Awake | None = None
        # While a program is traced and a draw left to PyTorch: the modules around see that, too.
        self.handing = False
        # What the model's code and its first forwards showed: for the report.
        self.noticed: Any = None
        self.names: list[str] = []
        # Sites that follow a schedule: p as a function of the step, by name; then the sites.
        self.rules: dict[str, Callable[[int], float]] = {}
        self.followers: list[FollowsSteps] = []
        self.counts = _zeros(0)
        self._last: dict[int, int] = {}
        self._drew_in: dict[int, int] = {}
        self._runs: dict[int, Run] = {}
        self._unrepeated: dict[int, set[int]] = {}
        # Whether the clock advances with an optimizer, so that a copy looks for another one.
        self._led = False
        self._enter_service()
        model.register_buffer(BUFFER, _integers(stamp(seed, 0)))
        # Where the buffer lies: among the model's, or apart from them.
        self._home: dict[str, Tensor | None] = model._buffers

    def _enter_service(self) -> None:
        """What a copy must have for itself: a number, and nothing remembered of buffers."""
        self.number = number_of_new(self)
        self.identity = _integers([self.number])
        self._read: tuple[Tensor, int] | None = None
        # Whether a CUDA graph ticks: only the device knows then which step it is.
        self._in_graph = False
        # The buffer and its version when this clock wrote into it last.
        self._wrote: tuple[Tensor, int] | None = None
        self._viewed: Tensor | None = None
        self._moment: Moment | None = None
        self._turn: agreement.Turn | None = None
        # Where the step began; None where it was written into the buffer at an unknown time.
        self._begun: checkpoints.Place | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        # A copy has its own time, and needs a lock of its own.
        for name in (
            "_lock",
            "_read",
            "_wrote",
            "_viewed",
            "_array",
            "_moment",
            "_epochs",
            "_begun",
            "_turn",
            "live",
            "awake",
        ):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._epochs = itertools.count(self._epoch + 1)
        self.live = self.awake = None
        self._enter_service()
        if self._led:
            optimizers.wait(self)

    # --------------------------------------------------------------------------------- what it says

    @property
    def seed(self) -> int:
        return self._seed_and_step()[0]

    @property
    def step(self) -> int:
        return self._seed_and_step()[1]

    @step.setter
    def step(self, step: int) -> None:
        step = checks.integer("Clock", "step", step, 0, _STEPS)
        with self._lock:
            found = self._found()
            self._set(self._said[0] if found is None else found[0], step)

    def __repr__(self) -> str:
        return f"Clock(seed={self.seed}, step={self.step})"

    @property
    def buffer(self) -> Tensor:
        """The buffer itself: int64, (4,), a `stamp`."""
        found = self._home.get(BUFFER)
        if found is None:
            raise RuntimeError(
                "thinned: the clock's model was released, and has no step. Take the clock of the "
                "report that a new adopt returns."
            )
        return found

    @property
    def group(self) -> Any:
        """The processes over which `ranks` is meant; None for all."""
        return self._group

    def rows_of_all(self, seed: int, site: str, rows: int) -> list[int] | None:
        """What each process of the group says of its rows; None where they were found equal."""
        with self._lock, aside():
            if self.even:
                return None
            self._turn = self._turn or agreement.Turn.of(seed, self._group)
            try:
                said = agreement.rows_of_all(self._turn, self._group, site, rows)
            except RuntimeError:  # the others have received it: they advance to the next, too
                self._turn = self._turn.next()
                raise
            self._turn = self._turn.next()
            self.even = len(set(said)) == 1
            return said

    def _seed_and_step(self) -> tuple[int, int]:
        now = self.moment()
        return now.seed, now.step

    def moment(self) -> Moment:
        """Now. The buffer is the truth: who writes into it (a checkpoint, DDP) sets the clock."""
        buffer, known, moment = self._home.get(BUFFER), self._read, self._moment
        if (
            moment is None
            or known is None
            or known[0] is not buffer
            or known[1] != buffer._version
            or (self._in_graph and not capturing())
        ):
            moment = self._moment = self._look()
        if (moment.ranks.kind != ALONE or PROCESSES.WORLD is not None) and moment.ranks.stale():
            ranks = Ranks.now(self._ranks, self._group)
            moment = self._moment = moment._replace(ranks=ranks)
        return moment

    def _look(self) -> Moment:
        """The moment, read from the buffer."""
        with self._lock, aside():
            buffer = bare(self.buffer)
            if buffer is None:
                raise RuntimeError(
                    f"thinned: torch.func.vmap made a batch of {BUFFER!r}, the clock of an adopted "
                    "model (stack_module_state stacks buffers). One clock serves all members of an "
                    f"ensemble: take it out, buffers.pop({BUFFER!r}), and pass "
                    "randomness='different' to vmap for a mask of its own for each."
                )
            if buffer.is_inference():
                # Its versions are not counted: a write into it would go unseen.
                buffer = self._home[BUFFER] = buffer.clone()
            found = self._said if self._is_own(buffer) else self._found()
            found = found or self._step_by_hand(buffer)
            if found is None:
                remedy = (
                    f"Give the clock back the step to go on with, clock.step = {self._said[1]} "
                    f"(its seed is {self._said[0]}), and leave {BUFFER!r} out of the average."
                )
                raise ValueError(_foreign(buffer, remedy))
            self._said = seed, step = found
            if step != self._counted:
                self._begin(step)
            self._read = (buffer, buffer._version)
            ranks = Ranks.now(self._ranks, self._group)
            return Moment(seed, step, self.number, self._epoch, *self._place, ranks)

    def _is_own(self, buffer: Tensor) -> bool:
        """Whether what a device's buffer holds is what this clock wrote last: then nobody need wait
        for the device to read it. While a CUDA graph is captured nobody may, and the step that is
        drawn is that of each replay."""
        if self._in_graph:
            return capturing()
        wrote = self._wrote
        if buffer.device.type == "cpu" or wrote is None:
            return False
        return wrote[0] is self.buffer and wrote[1] == buffer._version

    def _found(self) -> tuple[int, int] | None:
        """Seed and step as the buffer says; as it last did where it has no values to read."""
        with aside():
            buffer = bare(self.buffer)
            if buffer is None or buffer.device.type == "meta" or isinstance(buffer, FakeTensor):
                return self._said
            return read(buffer) if buffer.dtype == torch.int64 else None

    def _step_by_hand(self, buffer: Tensor) -> tuple[int, int] | None:
        """Seed and step where another step was written into the buffer and nothing else, which is
        then stamped. An average would have changed the check, too."""
        if buffer.dtype != torch.int64:
            return None
        (seed, _), (low, high, step, check) = self._said, buffer.tolist()
        last = stamp(*self._said)
        if [low, high, check] != [*last[:2], last[3]] or not 0 <= step < _STEPS:
            return None
        with torch.no_grad():
            buffer.copy_(_integers(stamp(seed, step)))
        return seed, step

    def _set(self, seed: int, step: int) -> None:
        """Write the stamp, and begin the step."""
        words = _integers(stamp(seed, step))
        with aside(), torch.no_grad():
            if self.buffer.dtype == torch.int64 and not self.buffer.is_inference():
                self.buffer.copy_(words, non_blocking=self.buffer.is_cuda)
                self._wrote = self.buffer, self.buffer._version
            else:  # Module.type casts buffers, too
                self._home[BUFFER] = words.to(self.buffer.device)
        self._said = (seed, step)
        self._begin(step)
        self._begun = checkpoints.here()

    # ------------------------------------------------------------------------------- how it goes on

    def tick(self) -> None:
        """Begin the next step: every site's calls count from 0 again.

        An optimizer given to `adopt` does so after each of its steps; call it where there is none.

        A step that lies on a device is written there without waiting for the device. A CUDA graph
        that was captured of the model reads it there, and draws the masks of that step. A tick that
        is captured itself is part of the graph: each replay begins a step. Only the device knows
        from then on which one it is, and eager code waits for it to say so.

        Raises
        ------
        OverflowError after 2^32 - 2 steps. RuntimeError while a CUDA graph is captured, if the step
        lies on no device that has kernels of ours, or a p follows a schedule.
        """
        if capturing():
            self._tick_in_graph(None)
            return
        with self._lock:
            seed, step = self._seed_and_step()
            step += 1
            if step >= _STEPS:
                raise OverflowError(
                    f"Clock.tick: {step} steps are all that one seed has. "
                    "Adopt the model with another seed."
                )
            self._set(seed, step)

    def _tick_in_graph(self, skipped: Tensor | None) -> None:
        """As `tick`, for every replay. skipped : what an optimizer was told of a step to skip."""
        what, device = "Clock.tick: a CUDA graph is being captured, and ", self.buffer.device
        if self.live_step(device) is None or not uses_triton(device):
            raise RuntimeError(
                f"{what}its replays cannot begin a step that lies on {device}. Move the model's "
                "buffers to a CUDA device, install triton, or call tick after each replay."
            )
        if self.followers:
            raise RuntimeError(
                f"{what}a p follows a schedule: every replay would have the p of now. Adopt the "
                "model without a schedule, or call tick after each replay."
            )
        with self._lock, aside(), torch.no_grad():
            advance(self.buffer, skipped)
            self._in_graph = True
            self._begin(self._said[1])
            self._begun = checkpoints.here()

    def _begin(self, step: int) -> None:
        self._counted = step
        self.counts, self._moment = _zeros(len(self.names)), None
        self._epoch = next(self._epochs)
        self._begun = None
        self._unrepeated.clear()
        self._runs.clear()
        if self._outside is not None:
            self._outside = (next(self._epochs), _zeros(len(self.names)))
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
            self._epoch, self.counts = next(self._epochs), _zeros(len(self.names))
            self._place, self._moment = (start, rows, of), None
        try:
            yield
        finally:
            with self._lock:
                self._epoch, self.counts = self._outside
                self._place, self._moment, self._outside = (-1, -1, -1), None, None

    def follow(self, optimizer: Any) -> None:
        """Tick after each step of the optimizer that was really taken, and of no other from now on.

        A copy of the model follows the first optimizer that steps parameters of the copy.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer, or a wrapper of one. It is held weakly.

        Raises
        ------
        TypeError if it is no optimizer, or wraps several.
        """
        optimizers.follow(self, optimizers.optimizers_of(optimizer))
        self._led = True

    def stepped(self, optimizer: Any) -> None:
        """An optimizer that is followed has stepped."""
        if capturing():
            self._tick_in_graph(getattr(optimizer, "found_inf", None))
        elif not was_skipped(optimizer):
            self.tick()

    def has_model(self) -> bool:
        """False while a copy is being made: its clock is there before its parameters are."""
        return "_modules" in getattr(self, "_model", self).__dict__

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the model."""
        return self._model.parameters()

    def leave(self) -> None:
        """Follow no optimizer any more, and take the buffer from the model."""
        optimizers.forget(self)
        del self._home[BUFFER]
        self._model._non_persistent_buffers_set.discard(BUFFER)

    # --------------------------------------------------------------------------- loading and saving

    def keep_apart(self) -> None:
        """Keep the buffer out of the model, whose buffers and state_dict then are those of the
        unadopted one. Who calls this saves seed and step elsewhere."""
        self._home = {BUFFER: self._model._buffers.pop(BUFFER)}

    def before_load(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """A checkpoint without a clock is given this one's; one that no clock wrote is refused."""
        name, apart = prefix + BUFFER, BUFFER not in module._buffers
        if name not in state:
            if not apart:
                state[name] = _integers(stamp(*self._seed_and_step()))
            return
        found = state[name]
        if not isinstance(found, Tensor) or found.shape != (4,) or found.device.type == "meta":
            return
        said = read(found)
        if said is None:
            remedy = f"Remove {name!r} from it, and the model keeps the seed and step that it has."
            raise ValueError(_foreign(found, remedy))
        if apart:
            del state[name]
            self._set(*said)
            return
        if found.dtype != torch.int64 or found.tolist() != stamp(*said):
            state[name] = _integers(stamp(*said)).to(found.device)
        self._begin(said[1])

    # ------------------------------------------------------------------------------------ the calls

    def enter(self, name: str) -> int:
        """A new site's index among the model's sites."""
        self.names.append(name)
        self.counts = _zeros(len(self.names))
        return len(self.names) - 1

    def _array_of_counts(self) -> Any:
        """The counts' memory, to write into. A tensor that a graph may hold is copied first."""
        if self._viewed is not self.counts:
            with aside():
                self.counts = self.counts.clone()
                self._viewed, self._array = self.counts, _memory_of(self.counts)
        return self._array

    def drawn(self, index: int) -> int:
        """How often a site was called since the step or piece began."""
        with aside():
            return int(self.counts[index])

    def drawing(self) -> list[str]:
        """The names of the sites that were called in training, ever."""
        return [self.names[index] for index in sorted(self._last)]

    @eager
    def take(self, index: int, name: str, x: Tensor | None = None) -> tuple[Moment, int]:
        """The moment and the number of the call that a site makes now, in eager code.

        x : what is drawn for. On a device that has kernels, a CUDA graph that is captured now reads
        the step when it runs (`live_step`); any other capture is refused.
        """
        if _here.replaying or _backward_pass() >= 0:
            drawn = self.repeated(index, name)
            if drawn is not None:
                return drawn
        if _modes() or _is_traced() or torch.cuda.is_initialized():
            if x is None or not uses_triton(x.device):
                require_no_capture(f"site {name!r} of an adopted model", "Call it with at=")
            require_no_trace(name)
        with self._lock:
            now = self.moment()
            counts = self._array if self._viewed is self.counts else self._array_of_counts()
            call: int = counts[index]
            if call >= CALLS:
                require_call(call, name)
            self.drew(index, now, call)
            counts[index] = call + 1
            running = _here.running.get((self.number, index)) if _here.busy else None
            if running is not None:
                self._runs[index] = running.drew(now.epoch, call)
        return now, call

    def live_step(self, device: torch.device) -> Tensor | None:
        """The step as it lies on a device, int64, 0-d, in memory that every tick writes into; None
        where it lies elsewhere or as another type."""
        buffer = bare(self.buffer)
        there = buffer is not None and buffer.device == device and buffer.dtype == torch.int64
        return buffer[STEP] if there and buffer is not None else None

    def repeated(self, index: int, name: str) -> tuple[Moment, int] | None:
        """What a checkpoint that recomputes is to draw at a site; None if none does."""
        drawn = checkpoints.replayed(self, index, name)
        if drawn is not None:
            self._unrepeated.get(index, set()).discard(drawn[0].epoch)
        elif _backward_pass() >= 0:
            drawn = self.again(index, name)
        if drawn is not None:
            checkpoints.note(self, index, drawn)
        return drawn

    def give_back(self, index: int, epoch: int, call: int) -> None:
        """Uncount a call whose forward failed, if it is the site's last in this step or piece."""
        with self._lock:
            if epoch != self._epoch or self.drawn(index) != call + 1:
                return
            self._array_of_counts()[index] = call
            self._runs.pop(index, None)
            if call == 0:
                self._unrepeated.get(index, set()).discard(epoch)

    def drew(self, index: int, now: Moment, call: int) -> None:
        """Remember in which step or piece a site was called, and where a recompute may follow."""
        forwards = attempts.here.forwards
        if forwards.depth:
            forwards.calls.append((self, index, now.epoch, call))
        self._last[index] = now.epoch
        # One kind of checkpoint turns gradients off, the other lays hooks.
        if not _grad_enabled() or checkpoints.hooks() is not None:
            self._drew_in[index] = threading.get_ident()
            self._unrepeated.setdefault(index, set()).add(now.epoch)
            checkpoints.note(self, index, (now, call))

    def again(self, index: int, name: str) -> tuple[Moment, int]:
        """The same for a checkpoint that recomputes: clear where there is one forward to repeat.

        That is one draw of the site, or one forward of its module, with all that it drew.
        """
        with self._lock:
            now, running = self.moment(), checkpoints.running(self, index)
            calls, call, run = self.drawn(index), 0, None
            if running is not None:
                run, call = self._runs.get(index), running.read
            alone = calls == 1 or (run is not None and run == Run(now.epoch, 0, calls))
            waiting = self._unrepeated.get(index, set())
            if not alone or self._last.get(index, now.epoch) != now.epoch or waiting - {now.epoch}:
                raise RecomputeError(checkpoints.unclear(name, calls, self._model))
            begun = self._begun
            if begun and self._drew_in.get(index) == begun.thread and begun.after_what_runs():
                raise RecomputeError(checkpoints.late(name))
            checkpoints.require_drawn(name, call, calls)
            if running is not None:
                running.read += 1
            waiting.discard(now.epoch)
        return now, call

    # ------------------------------------------------------------------------------ compiled graphs

    def snapshot(self) -> Tensor:
        """Now, as a tensor in a graph: HEAD words of the moment, then every site's calls."""
        require_no_export()
        live: Tensor = torch.ops.thinned.clock(self.buffer, self.identity, self.counts)
        return live


def was_skipped(optimizer: Any) -> bool:
    """Whether a step did nothing: the gradient scaler calls a fused optimizer for a step to skip
    too, and tells it so."""
    infinite = getattr(optimizer, "found_inf", None)
    return infinite is not None and bool(float(infinite))


def _integers(words: Iterable[int]) -> Tensor:
    with aside():
        return torch.tensor(list(words), dtype=torch.int64)


def _zeros(n: int) -> Tensor:
    with aside():
        return torch.zeros(n, dtype=torch.int64)


def _foreign(found: Tensor, remedy: str) -> str:
    """Why a stamp is refused."""
    return (
        f"thinned: {BUFFER!r} holds {found.tolist()} ({found.dtype}), which no clock wrote: seed "
        "and step are no weights, and cannot be averaged or cast. Were buffers averaged, or "
        f"state_dicts? {remedy}"
    )
