"""Scheduled models: p is a function of the clock's step alone, and the masks are of that p."""

import copy
import doctest
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.utils.checkpoint import checkpoint

import thinned
from thinned.schedules import (
    annealed,
    curriculum,
    early,
    late,
    linear,
)
from thinned.torch import adopt, checkpoint_context, release
from thinned.torch.adoption.site import Site
from thinned.torch.clock.clock import BUFFER, Clock
from thinned.torch.clock.stamp import stamp


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def keep(site, p, shape, step, seed=0, call=0, shared=()):
    at = thinned.Address(seed=seed, site=site, step=step, call=call)
    mask = thinned.keep_mask(shape, p, at, shared_axes=shared, like=torch.zeros(1))
    return mask.expand(shape)


def mlp(p=0.25):
    """Identities, so that what comes out shows the masks."""
    model = nn.Sequential(nn.Linear(32, 32), nn.Dropout(p), nn.Linear(32, 32), nn.Dropout(p))
    for layer in (model[0], model[2]):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def masks(model):
    """The masks of both sites, of one forward."""
    seen = []
    hooks = [
        model[i].register_forward_hook(lambda _, __, y: seen.append(y.detach() != 0))
        for i in (1, 3)
    ]
    model[3](torch.ones(8, 32) + 0 * model[1](torch.ones(8, 32)))
    for hook in hooks:
        hook.remove()
    return seen


def assert_masks(model, ps, step, call=0, seed=0):
    for found, site, p in zip(masks(model), ("1", "3"), ps, strict=True):
        assert torch.equal(found, keep(site, p, (8, 32), step, seed, call)), (site, step)


SCHEDULE = {"1": early(0.4, until=0.5), "3": curriculum(0.6)}


def ps_of(step, steps=6):
    return [SCHEDULE[site](step, steps) for site in ("1", "3")]


# -------------------------------------------------------------------------------------- p and masks


def test_p_follows_the_step_and_so_do_the_masks():
    model = mlp()
    report = adopt(model, seed=5, schedule=SCHEDULE, steps=6)
    for step in range(9):
        assert [model[1].p, model[3].p] == ps_of(step)
        assert f"p={model[1].p}" in repr(model[1])
        assert_masks(model, ps_of(step), step, seed=5)
        assert_masks(model, ps_of(step), step, call=1, seed=5)
        report.clock.tick()


def test_the_report_says_the_schedule():
    report = adopt(mlp(), schedule={"3": linear(0.5, 0.1, until=9), "1": 0.125})
    one, three = report.rows
    assert (one.p, one.done) == (0.125, "addressed, p by constant(p=0.125)")
    assert three.done == "addressed, p by linear(start=0.5, end=0.1, until=9)"
    assert "3     Dropout  0.5    addressed, p by linear(" in str(report)


def test_evaluation_drops_nothing():
    model = mlp().eval()
    adopt(model, schedule={"*": late(0.5, after=0)})
    x = torch.ones(2, 32)
    assert torch.equal(model(x), x)


def check_any_way_of_moving_the_clock(forward=lambda model, x: model(x)):
    """Loading, assigning, and writing into the buffer, as DDP does, with no tick at all."""
    model = nn.Sequential(nn.Dropout(0.25), nn.Identity())
    schedule = linear(0.1, 0.9, until=10)
    clock = adopt(model, schedule={"0": schedule}).clock
    x = torch.ones(8, 32)

    def check(step):
        assert torch.equal(forward(model, x) != 0, keep("0", schedule(step), x.shape, step))
        assert model[0].p == schedule(step)

    check(0)
    clock.tick()
    check(1)
    state = copy.deepcopy(model.state_dict())
    for step, assign in [(7, False), (4, True), (9, False), (0, True)]:
        state[BUFFER] = torch.tensor(stamp(0, step))
        model.load_state_dict(copy.deepcopy(state), assign=assign)
        check(step)
    for step in (3, 8, 2):
        clock.buffer.copy_(torch.tensor(stamp(0, step)))
        check(step)
    clock.tick()
    check(3)


def test_any_way_of_moving_the_clock():
    check_any_way_of_moving_the_clock()


def test_any_way_of_moving_the_clock_compiled():
    programs = {}
    compiler = CompileCounterWithBackend("aot_eager_decomp_partition")

    def forward(model, x):
        if model not in programs:
            programs[model] = torch.compile(model, fullgraph=True, backend=compiler)
        return programs[model](x)

    check_any_way_of_moving_the_clock(forward)
    assert compiler.frame_count <= 2  # assign=True makes the buffer a new one


def test_a_load_that_fails_leaves_p_as_it_was():
    model = mlp()
    clock = adopt(model, schedule={"*": linear(0.1, 0.9, until=10)}).clock
    clock.tick()
    state = model.state_dict()
    state[BUFFER] = torch.tensor(stamp(0, 7))
    state["0.weight"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state)
    assert_masks(model, [linear(0.1, 0.9, until=10)(clock.step)] * 2, clock.step)


# ----------------------------------------------------------------------------------------- compiled


class Seen(nn.Module):
    """An MLP that returns its masks beside its output."""

    def __init__(self):
        super().__init__()
        self.first, self.drop1 = nn.Linear(6, 32), nn.Dropout(0.5)
        self.second, self.drop2 = nn.Linear(32, 32), nn.Dropout(0.5)
        self.last = nn.Linear(32, 2)

    def forward(self, x):
        a = self.drop1(torch.sigmoid(self.first(x)) + 1)
        b = self.drop2(torch.sigmoid(self.second(a)) + 1)
        return self.last(b), a != 0, b != 0


def check_six_steps(compiled, schedule=None):
    schedule = schedule or {"drop1": early(0.4, until=0.5), "drop2": linear(0.0, 1.0) * 0.5}
    torch.manual_seed(0)
    model = Seen()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adopt(model, seed=3, optimizer=optimizer, schedule=schedule, steps=6)
    compiler = CompileCounterWithBackend("aot_eager_decomp_partition")
    run = torch.compile(model, fullgraph=True, backend=compiler) if compiled else model
    x = torch.randn(8, 6)
    losses = []
    for step in range(6):
        optimizer.zero_grad()
        y, *seen = run(x)
        loss = (y - 1).square().mean()
        loss.backward()
        for mask, (site, rule) in zip(seen, schedule.items(), strict=True):
            assert torch.equal(mask, keep(site, rule(step, 6), (8, 32), step, seed=3)), step
        optimizer.step()
        losses.append(loss.item())
    assert compiler.frame_count == compiled
    return losses, [p.detach().clone() for p in model.parameters()]


def test_six_steps_compiled_are_one_program_and_eagers_masks():
    losses, parameters = check_six_steps(True)
    expected_losses, expected = check_six_steps(False)
    torch.testing.assert_close(losses, expected_losses)
    for a, b in zip(parameters, expected, strict=True):
        torch.testing.assert_close(a, b)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, average_attn_weights=False)[1] != 0


@pytest.mark.parametrize("compiled", [False, True])
def test_attention(compiled):
    model, rule = Attends(), linear(0.1, 0.7, until=4)
    clock = adopt(model, schedule={"attention/*": rule}).clock
    compiler = CompileCounterWithBackend("aot_eager_decomp_partition")
    run = torch.compile(model, fullgraph=True, backend=compiler) if compiled else model
    for step in range(5):
        assert model.attention.dropout == rule(step)
        expected = keep("attention/dropout", rule(step), (2, 2, 5, 5), step)
        assert torch.equal(run(torch.randn(2, 5, 8)), expected)
        clock.tick()
    assert compiler.frame_count == compiled
    release(model)
    assert model.attention.dropout == 0.5


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_networks(kind, monkeypatch):
    seen = []
    draw = Site.draw

    def observed(self, x, *args, **options):
        y = draw(self, x, *args, **options)
        seen.append(y != 0)
        return y

    monkeypatch.setattr(Site, "draw", observed)
    model, rule = nn.Sequential(kind(4, 6, 2, dropout=0.5)), late(0.3, after=2)
    clock = adopt(model, schedule={"*": rule}).clock
    for step in range(4):
        model(torch.randn(5, 3, 4))
        assert torch.equal(seen.pop(), keep("0/dropout", rule(step), (5, 3, 6), step))
        clock.tick()


def test_modules_of_the_catalogue():
    from thinned.torch import DropPath

    model, rule = nn.Sequential(DropPath(0.5), nn.Identity()), linear(0.0, 1.0, until=4)
    clock = adopt(model, schedule={"*": rule}).clock
    compiler = CompileCounterWithBackend("aot_eager_decomp_partition")
    for run in (model, torch.compile(model, fullgraph=True, backend=compiler)):
        for step in range(6):
            clock.buffer.copy_(torch.tensor(stamp(0, step)))
            found = run(torch.ones(16, 3)) != 0
            assert torch.equal(found, keep("0", rule(step), (16, 3), step, shared=(1,)))
            assert model[0].p == rule(step)
    assert compiler.frame_count == 1
    with pytest.raises(RuntimeError, match="follows linear"):
        model[0].p = 0.5
    release(model)
    assert model[0].p == 0.5


# -------------------------------------------------------------------------------------- checkpoints

RECOMPUTED = pytest.mark.parametrize(
    "how",
    [
        {"use_reentrant": True},
        {"use_reentrant": False},
        {"use_reentrant": False, "context_fn": checkpoint_context},
    ],
    ids=["reentrant", "plain", "noted"],
)


@RECOMPUTED
def test_a_recompute_has_the_p_of_its_forward(how):
    grads = []
    for wrapped in (False, True):
        model = mlp()
        adopt(model, schedule={"*": linear(0.2, 0.8, until=4)}).clock.tick()
        x = torch.ones(8, 32, requires_grad=True)
        y = checkpoint(model, x, **how) if wrapped else model(x)
        y.square().sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)


@RECOMPUTED
def test_a_recompute_after_the_step_has_the_p_of_its_forward(how):
    model = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5))
    nn.init.eye_(model[0].weight)
    rule = linear(0.2, 0.8, until=4)
    clock = adopt(model, schedule={"*": rule}).clock
    x = torch.ones(8, 32, requires_grad=True)
    y = checkpoint(lambda x: model(x).exp(), x, **how)
    mask = keep("1", rule(0), (8, 32), 0)
    clock.tick()
    y.sum().backward()
    expected = torch.autograd.grad(
        ((x @ model[0].weight.T + model[0].bias) * mask / (1 - rule(0))).exp().sum(), x
    )[0]
    torch.testing.assert_close(x.grad, expected)


# ------------------------------------------------------------------------------ stopped and resumed


class Run:
    """Real training that can be stopped: weights, optimizer and clock go through one file."""

    schedule: dict = {"2": early(0.6, until=0.5, shape="linear"), "5": curriculum(0.5)}  # noqa: RUF012

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 32), nn.ReLU(),
            nn.Dropout(0.1), nn.Linear(32, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-2)
        adopt(self.model, seed=8, optimizer=self.optimizer, schedule=self.schedule, steps=20)

    def train(self, first, last):
        x = torch.randn(64, 10, generator=torch.Generator().manual_seed(4))
        y = (x[:, 0] * x[:, 1] > 0).long()
        losses = []
        for step in range(first, last):
            assert self.model[2].p == self.schedule["2"](step, 20)
            assert self.model[5].p == self.schedule["5"](step, 20)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            losses.append(loss.item())
            self.optimizer.step()
        return losses


def check_resumed(tmp_path, stop):
    whole, run = Run(), Run()
    losses = whole.train(0, 20)
    found = run.train(0, stop)
    torch.save([run.model.state_dict(), run.optimizer.state_dict()], tmp_path / "run.pt")
    again = Run()
    model, optimizer = torch.load(tmp_path / "run.pt")
    again.model.load_state_dict(model)
    again.optimizer.load_state_dict(optimizer)
    assert found + again.train(stop, 20) == losses
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stop", [1, 9, 13])
def test_a_run_stopped_and_resumed_is_the_run_bit_for_bit(tmp_path, stop):
    check_resumed(tmp_path, stop)


def test_a_step_that_the_scaler_skips_keeps_its_p():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adopt(model, optimizer=optimizer, schedule={"*": annealed(0.5, until=4)})
    scaler = torch.amp.GradScaler("cpu")
    for poison, p in [(float("inf"), 0.5), (1.0, 0.375), (1.0, 0.25)]:
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(4, 32)).sum() * poison).backward()
        scaler.step(optimizer)
        scaler.update()
        assert model[1].p == p


# ------------------------------------------------------------------------------ copies, and the end


def test_a_copy_follows_for_itself():
    model = mlp()
    clock = adopt(model, schedule=SCHEDULE, steps=6).clock
    clock.tick()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        own = twin.thinned_adoption.clock
        assert_masks(twin, ps_of(1), 1)
        own.tick()
        own.tick()
        assert_masks(twin, ps_of(3), 3)
        twin.compile(backend="eager")
        twin(torch.ones(8, 32))
        assert_masks(twin, ps_of(3), 3, call=2)
        assert model[1].p == ps_of(1)[0]
        release(twin)
        assert [twin[1].p, twin[3].p] == [0.25, 0.25]
    assert_masks(model, ps_of(1), 1)


def test_release_gives_back_the_p_from_before():
    model = mlp(p=0.25)
    clock = adopt(model, schedule={"1": late(0.75, after=1)}).clock
    clock.tick()
    model[3].p = 0.5
    assert model[1].p == 0.75
    release(model)
    assert (model[1].p, model[3].p) == (0.25, 0.5)
    assert type(model[1]) is nn.Dropout
    model[1].p = 0.1
    adopt(model)
    model[1].p = 0.2
    assert model[1].p == 0.2


def test_a_scheduled_p_cannot_be_set():
    model = nn.Sequential(nn.Dropout(0.5), nn.MultiheadAttention(4, 2, dropout=0.25))
    adopt(model, schedule={"*": early(0.5, until=3)})
    says = r"p of site '0' follows early\(p=0\.5, until=3, .*\) and cannot be set\. Call release"
    with pytest.raises(RuntimeError, match=says):
        model[0].p = 0.1
    with pytest.raises(RuntimeError, match=r"p of site '1/dropout' follows early"):
        model[1].dropout = 0.1
    assert (model[0].p, model[1].dropout) == (0.5, 0.5)
    release(model)
    assert (model[0].p, model[1].dropout) == (0.5, 0.25)


def test_the_page():
    page = Path(__file__).parents[3] / "docs" / "schedules.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 15
    assert result.failed == 0


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_graph_keeps_the_first_p(monkeypatch):
    monkeypatch.setattr(Site, "follow", lambda self, step: self._tell(self.p_at(0)))
    monkeypatch.setattr(
        "thinned.torch.clock.in_graphs._own_bits", lambda words, moment: int(words[2])
    )
    with pytest.raises(AssertionError):
        check_six_steps(True)


def following_another_rule(monkeypatch, changed):
    made = Site.__init__

    def planted(self, *arguments, **options):
        made(self, *arguments, **options)
        if self.rule is not None:
            self.rule = changed(self, self.rule)

    monkeypatch.setattr(Site, "__init__", planted)


def test_fault_p_stands_still_in_eager_code(monkeypatch):
    following_another_rule(monkeypatch, lambda site, rule: lambda step: rule(0))
    with pytest.raises(AssertionError):
        check_six_steps(False)


def test_fault_a_written_buffer_is_not_seen(monkeypatch):
    """p pushed at each tick and no other time."""
    monkeypatch.setattr(
        "thinned.torch.clock.in_graphs._own_bits", lambda words, moment: int(words[2])
    )
    with pytest.raises(AssertionError):
        test_any_way_of_moving_the_clock_compiled()


def test_fault_p_counts_ticks_in_place_of_the_step(monkeypatch, tmp_path):
    monkeypatch.setattr(Clock, "tick", ticking(Clock.tick))
    following_another_rule(
        monkeypatch, lambda site, rule: lambda step: rule(getattr(site.clock, "ticks", 0))
    )
    with pytest.raises(AssertionError):
        check_resumed(tmp_path, 9)


def ticking(tick):
    def counted(self):
        self.ticks = getattr(self, "ticks", 0) + 1
        tick(self)

    return counted
