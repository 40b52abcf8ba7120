"""The clock: steps, calls, pieces, state_dict, threads; a run resumed draws the run's masks."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

import thinned
from thinned.torch import Clock, adopt, release
from thinned.torch.clock.clock import BUFFER
from thinned.torch.clock.stamp import stamp

ONES = torch.ones(64, 10)


def expected(site, p=0.5, shape=ONES.shape, window=None, **coordinates):
    at = thinned.Address(site=site, **coordinates)
    return thinned.keep_mask(tuple(shape), p, at, window=window, like=ONES)


def model_and_clock(seed=0, optimizer=None):
    model = nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5))
    return model, adopt(model, seed=seed, optimizer=optimizer).clock


def mask(model):
    return model[1](ONES) != 0


def test_step_and_call_are_the_address():
    model, clock = model_and_clock(seed=2**63 + 5)
    for step in range(3):
        for call in range(3):
            assert torch.equal(mask(model), expected("1", seed=2**63 + 5, step=step, call=call))
        clock.tick()
    assert (clock.seed, clock.step) == (2**63 + 5, 3)
    assert repr(clock) == f"Clock(seed={2**63 + 5}, step=3)"


def test_calls_are_counted_whatever_p_is_and_in_training_only():
    model, clock = model_and_clock()
    model[1].p = 0.0
    assert model[1](ONES) is ONES
    model.eval()
    assert model[1](ONES) is ONES
    model.train()
    model[1].p = 0.5
    assert torch.equal(mask(model), expected("1", call=1))
    assert clock.drawn(0) == 2


def test_a_step_follows_each_step_of_the_optimizer():
    model = nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clock = adopt(model, optimizer=optimizer).clock
    for step in range(3):
        assert clock.step == step
        model(ONES).sum().backward()
        optimizer.step()
    release(model)
    optimizer.step()
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_does_not_count(fused):
    model = nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    clock = adopt(model, optimizer=optimizer).clock
    scaler = torch.amp.GradScaler("cpu")
    before = [p.clone() for p in model.parameters()]
    for poison, steps in [(float("inf"), 0), (1.0, 1), (float("nan"), 1), (1.0, 2)]:
        optimizer.zero_grad()
        scaler.scale(model(ONES).sum() * poison).backward()
        scaler.step(optimizer)
        scaler.update()
        assert clock.step == steps
        if steps == 0:
            assert all(map(torch.equal, before, model.parameters()))


def test_pieces_of_a_batch_draw_the_mask_of_the_batch():
    model, clock = model_and_clock()
    model[1](ONES)  # a call outside is none of the piece
    for start, end in [(0, 10), (10, 11), (11, 64)]:
        with clock.piece(start):
            y = model[1](ONES[start:end])
            assert torch.equal(y != 0, expected("1")[start:end])
            assert torch.equal(model[1](ONES[start:end]) != 0, expected("1", call=1)[start:end])
    assert torch.equal(mask(model), expected("1", call=1))  # and the piece's are none of the step's


def test_pieces_with_several_entries_to_a_row():
    model, clock = model_and_clock()
    with clock.piece(3, rows=2):
        assert torch.equal(model[1](ONES[:8]) != 0, expected("1")[12:20])
        with pytest.raises(RuntimeError, match=r"site '1' has 7 entries .* no multiple"):
            model[1](ONES[:7])


class Windows(nn.Module):
    """Two windows to a row, and then the rows."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Dropout(0.5), nn.Dropout(0.5)

    def forward(self, x):
        return self.outer(self.inner(x.reshape(-1, 5)).reshape(x.shape))


@pytest.mark.parametrize("compiled", [False, True])
def test_arrays_of_several_lengths_in_a_piece_need_its_rows(compiled):
    model = Windows()
    clock = adopt(model, seed=9).clock
    runs = torch.compile(model, backend="eager") if compiled else model
    whole = runs(ONES)
    refused = (
        r"in clock.piece\(8\) site 'outer' has 8 entries along the axis of the rows, and site "
        r"'inner' has 16. Say how many rows the piece has: clock.piece\(8, rows=...\)"
    )
    with pytest.raises(RuntimeError, match=refused), clock.piece(8):
        runs(ONES[8:16])
    for start in range(0, 64, 8):
        with clock.piece(start, rows=8):
            assert torch.equal(runs(ONES[start : start + 8]), whole[start : start + 8])
    for rows in (8, 4):  # another piece, of another length
        with clock.piece(0):
            assert torch.equal(runs(ONES[:rows]), whole[:rows])
        with clock.piece(8):
            model.inner(ONES[:rows])


def test_gradients_over_pieces_are_those_of_the_batch():
    model, clock = model_and_clock()
    x = torch.randn(64, 10)
    model(x).square().sum().backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for start in range(0, 64, 16):
        with clock.piece(start):
            model(x[start : start + 16]).square().sum().backward()
    for a, b in zip(whole, model.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a, rtol=1e-4, atol=1e-4)


def test_errors_of_pieces():
    model, clock = model_and_clock()
    with pytest.raises(ValueError, match=r"Clock.piece: start must be an integer in \[0, "):
        clock.piece(-1).__enter__()
    with pytest.raises(
        ValueError, match=r"Clock.piece: the piece must be inside 4 rows, got end 5"
    ):
        clock.piece(4, of=4).__enter__()
    with clock.piece(0), pytest.raises(RuntimeError, match="a piece within a piece"):
        clock.piece(1).__enter__()
    with pytest.raises(KeyError), clock.piece(5):
        raise KeyError
    assert torch.equal(mask(model), expected("1"))


def test_more_calls_than_an_address_counts():
    model, clock = model_and_clock()
    clock._array_of_counts()[0] = 65_535
    mask(model)
    with pytest.raises(
        OverflowError, match=r"site '1' was called 65536 times in one step.*fold_in"
    ):
        mask(model)
    clock.step = 2**32 - 2
    with pytest.raises(OverflowError, match=r"Clock.tick: 4294967295 steps"):
        clock.tick()


def test_threads_draw_each_call_once():
    model, clock = model_and_clock()
    x = torch.ones(1, 10)
    seen, begin = [], threading.Barrier(8)

    def calls():
        begin.wait()
        seen.extend(tuple((model[1](x) != 0)[0].tolist()) for _ in range(200))

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drawn = [expected("1", shape=(1, 10), call=call)[0].tolist() for call in range(1600)]
    assert clock.drawn(0) == 1600
    assert sorted(seen) == sorted(map(tuple, drawn))


# ------------------------------------------------------------------------------------- saved, loade


def test_state_dict_carries_seed_step_and_version():
    model, clock = model_and_clock(seed=2**40 + 3)
    clock.tick()
    saved = copy.deepcopy(model.state_dict())
    assert saved[BUFFER].tolist() == stamp(2**40 + 3, 1)
    assert saved[BUFFER].tolist()[:3] == [3, 2**8, 1]
    assert saved[BUFFER][3] % 256 == 1
    other, _ = model_and_clock(seed=1)
    other.load_state_dict(saved)
    assert torch.equal(mask(other), expected("1", seed=2**40 + 3, step=1))
    third, _ = model_and_clock(seed=1)
    third.load_state_dict(saved, assign=True)
    assert torch.equal(mask(third), expected("1", seed=2**40 + 3, step=1))


def test_loading_begins_the_calls_anew():
    model, clock = model_and_clock()
    saved = copy.deepcopy(model.state_dict())
    for steps in (0, 1):
        mask(model)
        for _ in range(steps):
            clock.tick()
            with clock.piece(5):
                mask(model)
        model.load_state_dict(saved)
        assert torch.equal(mask(model), expected("1"))


def test_a_checkpoint_without_a_clock_loads_strictly():
    model, clock = model_and_clock(seed=3)
    clock.tick()
    plain = nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5))
    saved = plain.state_dict()
    model.load_state_dict(saved)
    assert BUFFER not in saved
    assert torch.equal(mask(model), expected("1", seed=3, step=1))


def test_another_mask_spec_is_refused_before_anything_is_loaded():
    model, _ = model_and_clock()
    saved = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    saved[BUFFER][3] = 2
    before = model[0].weight.clone()
    with pytest.raises(ValueError, match="version 2 of the mask spec, and this is version 1"):
        model.load_state_dict(saved)
    assert torch.equal(model[0].weight, before)


def test_a_copy_keeps_time_for_itself():
    model, clock = model_and_clock(seed=3)
    clock.tick()
    mask(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(mask(twin), expected("1", seed=3, step=1, call=1))
        own = twin.thinned_adoption.clock
        own.tick()
        assert (own.step, clock.step) == (2, 1)
        release(twin)
        assert type(twin[1]) is nn.Dropout
        twin.load_state_dict(nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5)).state_dict())
    assert torch.equal(mask(model), expected("1", seed=3, step=1, call=1))


# ---------------------------------------------------------------------------------- stopped, resume


def digits():
    """Two classes of points that a straight line does not part."""
    x = torch.randn(256, 10, generator=torch.Generator().manual_seed(4))
    return x, (x[:, 0] * x[:, 1] > 0).long()


class Run:
    """Real training that can be stopped: weights, optimizer and clock go through one file."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 32), nn.ReLU(),
            nn.Dropout(0.2), nn.Linear(32, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-2)
        adopt(self.model, seed=8, optimizer=self.optimizer)

    def train(self, first, last):
        x, y = digits()
        losses = []
        for step in range(first, last):
            rows = slice(step % 4 * 64, step % 4 * 64 + 64)
            self.optimizer.zero_grad()
            for half in (0, 1):  # two micro-batches to a step
                loss = nn.functional.cross_entropy(self.model(x[rows][half::2]), y[rows][half::2])
                loss.backward()
                losses.append(loss.item())
            self.optimizer.step()
        return losses

    def save(self, file):
        torch.save([self.model.state_dict(), self.optimizer.state_dict()], file)

    def load(self, file):
        model, optimizer = torch.load(file)
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)


def resumed(tmp_path, stop):
    run = Run()
    losses = run.train(0, stop)
    run.save(tmp_path / "run.pt")
    torch.manual_seed(99)
    again = Run()
    again.load(tmp_path / "run.pt")
    return losses + again.train(stop, 60), again.model


@pytest.mark.parametrize("stop", [1, 7, 30])
def test_a_run_stopped_and_resumed_is_the_run_bit_for_bit(tmp_path, stop):
    whole = Run()
    losses = whole.train(0, 60)
    found, model = resumed(tmp_path, stop)
    assert found == losses
    assert sum(losses[-20:]) < 0.85 * sum(losses[:20])
    for a, b in zip(whole.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


# ------------------------------------------------------------------------------------ planted fault


def test_fault_step_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "load", lambda self, file: forgetful(self, file))

    def forgetful(run, file):
        model, optimizer = torch.load(file)
        del model[BUFFER]
        run.model.load_state_dict(model)
        run.optimizer.load_state_dict(optimizer)

    assert resumed(tmp_path, 7)[0] != Run().train(0, 60)


def test_fault_calls_not_counted_from_0_again(monkeypatch):
    monkeypatch.setattr(Clock, "_begin", lambda self, step: setattr(self, "_moment", None))
    with pytest.raises(AssertionError):
        test_step_and_call_are_the_address()


def test_fault_skipped_step_counted(monkeypatch):
    def follow(self, optimizer):
        self._handle = optimizer.register_step_post_hook(lambda *_: self.tick())

    monkeypatch.setattr(Clock, "follow", follow)
    with pytest.raises(AssertionError):
        test_a_step_that_the_scaler_skips_does_not_count(True)


def test_fault_piece_without_its_rows(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.site.window_of", lambda *_: None)
    with pytest.raises(AssertionError):
        test_pieces_of_a_batch_draw_the_mask_of_the_batch()
