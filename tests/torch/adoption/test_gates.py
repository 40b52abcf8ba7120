"""Masks that the model's own code makes of torch.rand: drawn by address where the code says so."""

import copy
from pathlib import Path as File

import gated
import numpy as np
import pytest
import torch
from gated import (
    ORDERS,
    OTHERS,
    PATHS,
    SKIPS,
    Columns,
    First,
    Iterates,
    Layers,
    OneEach,
    Path,
    Ranks,
)
from processes import needs_gloo, run_in_processes
from torch import nn
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import reference
from thinned.torch import adopt, no_dropout, release, set_p
from thinned.torch.adoption import dataflow, functional_calls, gates, uniforms

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)) + 8

by_gate = pytest.mark.parametrize("gate", PATHS, ids=lambda f: f.__name__)
by_skip = pytest.mark.parametrize("skips", SKIPS, ids=lambda f: f.__name__)


def of_step(clock, step=0):
    """The same step again, with another state of PyTorch's generator."""
    clock.step = step
    torch.manual_seed(torch.seed() % 2**31)


def forget():
    """What was found of code."""
    gates._found.cache_clear()
    gates._at.clear()


def network(*parts, **how):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 4), *parts)
    return model, adopt(model, seed=5, **how)


def replays(model, clock, run=None):
    run = model if run is None else run
    of_step(clock)
    first = [run(X) for _ in range(3)]
    assert len({y.detach().numpy().tobytes() for y in first}) == 3
    of_step(clock)
    again = [run(X) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    return first


# ---------------------------------------------------------------------------------- what is reached


@by_gate
def test_a_gate_is_drawn_at_its_address(gate):
    model, report = network(Path(gate))
    (row,) = report.rows
    assert (row.site, row.kind, row.p, row.reached) == ("1/dropout", "Path", 0.3, True)
    assert row.done.startswith("calls of ")
    clean = model.eval()(X)
    y = replays(model.train(), report.clock)[0]
    dropped = (y == 0).all(1) if gate is not gated.like else y == 0
    assert 0.15 < dropped.float().mean() < 0.45
    torch.testing.assert_close(y[~dropped], clean[~dropped] / 0.7)
    assert torch.equal(model.eval()(X), clean)
    assert len(report.rows) == 1
    release(model)
    torch.manual_seed(1)
    a = model.train()(X)
    assert not torch.equal(a, model(X))


@by_gate
def test_pieces_draw_the_rows_of_the_whole(gate):
    model = Path(gate)
    report = adopt(model, seed=5)
    whole = model(X)
    for start in (0, 16, 48):
        with report.clock.piece(start):
            assert torch.equal(model(X[start : start + 16]), whole[start : start + 16])
    with report.clock.piece(63):
        assert torch.equal(model(X[63:]), whole[63:])


@pytest.mark.parametrize("gate", ORDERS, ids=lambda f: f.__name__)
def test_orders_and_the_noise_of_gates_are_drawn_too(gate):
    model, report = network(Path(gate))
    assert report.not_reached == ()
    assert report.rows[0].p == 0.3
    replays(model, report.clock)
    alone = Path(gate)
    clock = adopt(alone, seed=5).clock
    whole = alone(X)
    with clock.piece(16):
        assert torch.equal(alone(X[16:32]), whole[16:32])


@by_skip
def test_layers_are_skipped_by_address(skips):
    model, report = network(Layers(skips))
    assert [row.done for row in report.rows] == ["calls of rand addressed"]
    first = replays(model, report.clock)
    # One draw decides for all rows: pieces of the batch skip the same layers.
    for start in (0, 32):
        of_step(report.clock)
        with report.clock.piece(start, rows=8):
            torch.testing.assert_close(model(X[start : start + 8]), first[0][start : start + 8])


@pytest.mark.parametrize("kind", [OneEach, Iterates])
def test_a_number_for_each_layer_decides_for_all_rows(kind):
    model, report = network(kind())
    assert [row.done for row in report.rows] == ["calls of uniform_ addressed"]
    first = replays(model, report.clock)
    for start in (0, 32):
        of_step(report.clock)
        with report.clock.piece(start, rows=8):
            torch.testing.assert_close(model(X[start : start + 8]), first[0][start : start + 8])
    with no_dropout(model):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))


def test_one_number_that_is_taken_from_an_array():
    model, report = network(*(First() for _ in range(6)))
    assert {row.done for row in report.rows} == {"calls of rand addressed"}
    first = replays(model, report.clock)
    of_step(report.clock)
    with report.clock.piece(32, rows=8):
        torch.testing.assert_close(model(X[32:40]), first[0][32:40])


def spec(at):
    words = reference.words(at, np.arange(64, dtype=np.uint64))
    return (2 * (words >> 9) + 1) / 2**24


def test_uniforms_are_those_of_the_mask_spec():
    """What lies below p is dropped."""
    model = Path(gated.floored, 0.4)
    adopt(model, seed=9)
    y = model(X)
    uniform = spec(thinned.Address(seed=9, site="/dropout"))
    assert torch.equal((y == 0).all(1), torch.from_numpy(uniform < 0.4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_type_is_below_one(dtype):
    like = torch.empty(2**16)
    site = functional_calls.Site(adopt(Path(gated.floored)).clock, "more")
    drawn = uniforms.numbers_at(site, gates.Gate(True, False), torch.rand, like, dtype)
    assert drawn.dtype == dtype
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert abs(drawn.double().mean() - 0.5) < 0.01
    model = Path(gated.floored, 0.25)
    adopt(model)
    y = model(torch.ones(4096, 1, dtype=dtype))
    assert abs((y == 0).double().mean() - 0.25) < 0.03
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.75))


@pytest.mark.parametrize("other", OTHERS, ids=lambda f: f.__name__)
def test_what_is_no_gate_is_left_alone_and_named(other):
    model, report = network(Path(other))
    (row,) = report.rows
    assert not row.reached
    assert any(f"{name} draws" in row.done for name in ("rand", "rand_like", "uniform_"))
    torch.manual_seed(2)
    y = model(X)
    assert report.rows == (row,)
    release(model)
    torch.manual_seed(2)
    assert torch.equal(model(X), y)


def test_a_generator_of_its_own_is_left_alone():
    model, _ = network(Path(gated.own_generator))
    y = model(X)
    assert torch.equal(model(X), y)


class Both(nn.Module):
    def forward(self, x):
        return x * (torch.rand(len(x), 1) > 0.5) + torch.rand(len(x), 1) if self.training else x


def test_gates_and_other_numbers_in_one_module():
    model, report = network(Both())
    assert [row.reached for row in report.rows] == [True, False]
    torch.manual_seed(1)
    first = model(torch.zeros(64, 4))
    of_step(report.clock)
    second = model(torch.zeros(64, 4))
    assert not torch.equal(first, second)
    bias = model[0].bias
    kept = [((y - bias).amin(1) >= 0).tolist() for y in (first, second)]
    assert kept[0] != kept[1]  # what is added differs; the gates do not
    gate = torch.from_numpy(spec(thinned.Address(5, "1/dropout")) > 0.5)
    for y in (first, second):
        noise = y - bias * gate[:, None]
        assert ((noise >= -1e-6) & (noise <= 1)).all()


class InOneLine(nn.Module):
    """Calls in one line, of which one is a gate; and the same line in another function, where the
    other one is. What is no gate moves PyTorch's generator."""

    def forward(self, x):
        if not self.training:
            return x
        return torch.stack([*gate_and_number(x), *number_and_gate(x)])


def gate_and_number(x):
    return (torch.rand(len(x), 1) < 0.5).float() * x, torch.rand(len(x), 1) * x


def number_and_gate(x):
    return torch.rand(len(x), 1) * x, (torch.rand(len(x), 1) < 0.5).float() * x


def check_calls_are_told_apart():
    model = InOneLine()
    report = adopt(model, seed=5)
    first = model(X)
    for _ in range(2):
        of_step(report.clock)
        again = model(X)
        same = [torch.equal(a, b) for a, b in zip(first, again, strict=True)]
        assert same == [True, False, False, True]


def test_calls_in_one_line_and_in_other_functions_are_told_apart():
    forget()
    check_calls_are_told_apart()


class Blurred(dict):
    """Remembers of a call all but one thing."""

    def __init__(self, left_out):
        super().__init__()
        self.left_out = left_out

    def get(self, key):
        return super().get(key[: self.left_out] + key[self.left_out + 1 :])

    def __setitem__(self, key, value):
        super().__setitem__(key[: self.left_out] + key[self.left_out + 1 :], value)


@pytest.mark.parametrize("left_out", [0, 1], ids=["code", "offset"])
def test_fault_what_was_found_is_not_this_call_s(monkeypatch, left_out):
    monkeypatch.setattr(gates, "_at", Blurred(left_out))
    with pytest.raises(AssertionError):
        check_calls_are_told_apart()


class Outer(nn.Module):
    """Code around a module whose numbers are no gates makes gates of its own."""

    def __init__(self):
        super().__init__()
        self.inner = Path(gated.multiplied)

    def forward(self, x):
        return self.inner(x) * (torch.rand(len(x), 1) > 0.0)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_a_module_leaves_alone_the_one_around_leaves_alone(compiled):
    torch._dynamo.reset()
    model, report = network(Outer())
    run = torch.compile(model, backend="aot_eager") if compiled else model
    run(X)
    of_step(report.clock)
    first = run(X)
    of_step(report.clock)
    assert not torch.equal(run(X), first)


@pytest.mark.parametrize("annotated", [True, False])
def test_ranks_of_a_weight_are_no_rows(annotated):
    """Where the function says that it is given nothing that has rows."""
    model = Ranks(annotated=annotated)
    report = adopt(model, seed=5)
    whole = model(X)
    with report.clock.piece(32, rows=32):
        if annotated:
            assert torch.equal(model(X[32:]), whole[32:])
        else:
            with pytest.raises(RuntimeError, match="4 entries along its leading axis"):
                model(X[32:])


def test_columns_are_no_rows():
    model = Columns()
    report = adopt(model, seed=5)
    whole = model(X)
    with report.clock.piece(32, rows=32):
        assert torch.equal(model(X[32:]), whole[32:])


def test_default_devices_and_other_modes_lie_in_between():
    model, report = network(Path(gated.floored))
    y = model(X)
    of_step(report.clock)
    with torch.device("cpu"):
        assert torch.equal(model(X), y)
    assert report.not_reached == ()


# ----------------------------------------------------------------------------- compiled, recomputed


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.long)])
def test_compiled_as_in_eager_code(backend):
    torch._dynamo.reset()
    parts = [*PATHS, gated.masked, gated.noise_in_gaps]
    model, report = network(*(Path(gate, 0.1) for gate in parts))
    eager = replays(model, report.clock)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for a, b in zip(replays(model, report.clock, compiled), eager, strict=True):
        assert torch.equal(a, b)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_layer_drop_compiled_as_in_eager_code():
    """The graph breaks where a branch asks for the number."""
    torch._dynamo.reset()
    model, report = network(Layers(gated.listed), Path(gated.floored))
    eager = replays(model, report.clock)
    compiled = torch.compile(model, backend="aot_eager")
    for a, b in zip(replays(model, report.clock, compiled), eager, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recompute_draws_the_same(reentrant):
    model, report = network(Layers(gated.listed), *(Path(gate, 0.1) for gate in PATHS))
    x = X.clone().requires_grad_()

    def gradients(run):
        of_step(report.clock)
        model.zero_grad()
        run(x).square().sum().backward()
        return [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    plain = gradients(model)
    kept = gradients(lambda x: checkpoint(model, x, use_reentrant=reentrant))
    for a, b in zip(plain, kept, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_resumed_and_copied():
    model, report = network(Layers(gated.listed), Path(gated.floored))
    report.clock.step = 3
    saved = copy.deepcopy(model.state_dict())
    twin = copy.deepcopy(model)
    y = model(X)
    assert torch.equal(twin(X), y)
    other, _ = network(Layers(gated.listed), Path(gated.floored))
    other.load_state_dict(saved)
    assert torch.equal(other(X), y)


@needs_gloo
@pytest.mark.long
def test_processes_draw_their_rows_and_skip_the_same_layers():
    run_in_processes(File(__file__).with_name("gates_worker.py"), 2)


# ---------------------------------------------------------------------- switched, asked for members


@pytest.mark.parametrize("adopted", [True, False])
def test_off_and_at_another_rate(adopted):
    model = nn.Sequential(Path(gated.floored, 0.3), Layers(gated.listed))
    if adopted:
        adopt(model)
    with no_dropout(model):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    with set_p(model, "0/dropout", 0.9):
        assert (model[0](X) == 0).float().mean() > 0.6
    assert model[0].drop_prob == 0.3
    with pytest.raises(ValueError, match="draws a mask by rand, whose p the code does"):
        set_p(model, "1/dropout", 0.1)


def test_predict_wakes_stochastic_depth():
    model = nn.Sequential(Path(gated.floored, 0.5), nn.BatchNorm1d(4)).eval()
    answer = thinned.members.predict(model, X, members=16)
    assert answer.std.min() > 0
    again = thinned.members.predict(model, X, members=16, batch_size=7)
    torch.testing.assert_close(torch.as_tensor(answer.mean), torch.as_tensor(again.mean))
    assert model[1].num_batches_tracked == 0


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_mode_that_answers_nothing(monkeypatch):
    monkeypatch.setattr(functional_calls, "GATES", {})
    with pytest.raises(AssertionError):
        test_a_gate_is_drawn_at_its_address(gated.floored)


def test_fault_half_types_that_are_rounded(monkeypatch):
    monkeypatch.setattr(uniforms, "_BITS", {})
    with pytest.raises(AssertionError):
        test_every_type_is_below_one(torch.bfloat16)


def test_fault_one_number_that_is_taken_for_a_row(monkeypatch):
    monkeypatch.setattr(uniforms, "_drawn", _as_rows(uniforms._drawn))
    with pytest.raises((AssertionError, RuntimeError)):
        test_layers_are_skipped_by_address(gated.of_one)


def _as_rows(drawn):
    return lambda site, gate, *rest: drawn(site, gates.Gate(True, False), *rest)


def test_fault_columns_that_are_taken_for_rows(monkeypatch):
    monkeypatch.setattr(uniforms, "_drawn", _as_rows(uniforms._drawn))
    with pytest.raises((AssertionError, RuntimeError)):
        test_columns_are_no_rows()


def test_fault_whatever_becomes_of_a_number(monkeypatch):
    monkeypatch.setattr(gates._Fate, "of_result", lambda *_: True)
    forget()
    with pytest.raises((AssertionError, ValueError)):
        test_what_is_no_gate_is_left_alone_and_named(gated.reckoned)
    forget()


def test_fault_a_variable_that_is_not_followed(monkeypatch):
    monkeypatch.setattr(gates._Fate, "_of_variable", lambda *_: True)
    forget()
    with pytest.raises((AssertionError, ValueError)):
        test_what_is_no_gate_is_left_alone_and_named(gated.sometimes)
    forget()


def test_fault_an_instruction_that_is_not_known(monkeypatch):
    """It ends the way, and nothing is claimed."""
    monkeypatch.delitem(dataflow._TAKES, "COMPARE_OP")
    forget()
    dataflow.flow_of.cache_clear()
    code = gated.compared.__code__
    offsets = [s.offset for s in dataflow.flow_of(code).steps if s.argval == "rand"]
    assert gates.gate_of_load(code, offsets[0], "rand") is None
    monkeypatch.undo()
    forget()
    dataflow.flow_of.cache_clear()
    assert gates.gate_of_load(code, offsets[0], "rand") == gates.Gate(True, False)
