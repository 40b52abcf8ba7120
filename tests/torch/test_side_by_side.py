"""Threads side by side: what one does to its model, no other one sees."""

import contextlib
import copy
import subprocess
import sys
import threading
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import thinned.torch
from thinned.members import predict
from thinned.torch import adopt, audit, drop_connect, release, thin
from thinned.torch.compat.generators import OwnDraws
from thinned.torch.thinning import graph as tracing, regions

CALLS = 1000
SEEDS = 5
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 2)).eval()


class Own(nn.Module):
    """Code of its own, with attention, a functional call and a buffer that is written into."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 4, 0.5, batch_first=True)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return functional.dropout(self.layer(x[:, None])[:, 0], 0.5, self.training)


def answers(model, seed):
    return predict(model, X, members=2, seed=seed, keep=True, execution="elementwise").outputs


def trained(model, lay, seed):
    """The output of one training step of a model that is adopted or thin, and the model again."""
    lay(model, seed=seed)
    model.train()
    y = model(X).detach().numpy()
    model.eval()
    release(model)
    return y


def findings(model):
    return np.array([len(audit(model, X, measure=False).findings)])


def workers():
    """What each thread calls, a function of the call's number. Some share a model."""
    shared, own, noisy = small(1), small(2), drop_connect(nn.Linear(4, 2), "weight").eval()
    mine, thinner, audited, plain = small(3), small(4), nn.Sequential(nn.Dropout(0.5)), small(5)
    quick = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True).eval()
    audited.append(nn.Linear(4, 1))

    def both(k):
        with torch.no_grad():
            return np.concatenate([plain(X), quick(X[None])[0], noisy(X)], axis=1)

    return {
        "predict": lambda k: answers(own, k % SEEDS),
        "predict, shared": lambda k: answers(shared, k % SEEDS),
        "predict, shared too": lambda k: answers(shared, k % SEEDS),
        "adopt": lambda k: trained(mine, adopt, k % SEEDS),
        "thin": lambda k: trained(thinner, thin, k % SEEDS),
        "audit": lambda k: findings(audited),
        "plain": both,
        "plain, noise shared": lambda k: noisy(X).detach().numpy(),
        "plain, shared": lambda k: shared(X).detach().numpy(),
    }


def side_by_side(calls, jobs):
    """Names of the jobs whose results are not those of a single thread, and errors."""
    expected = {name: [job(k) for k in range(SEEDS)] for name, job in jobs.items()}
    wrong = []

    def run(name):
        try:
            for k in range(calls):
                if not np.array_equal(jobs[name](k), expected[name][k % SEEDS]):
                    wrong.append(name)
                    return
        except Exception as error:
            wrong.append(f"{name}: {error}")

    threads = [threading.Thread(target=run, args=(name,)) for name in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def of_the_process():
    """What one thread could change for others. From 2.14 on torch.fx's mark is of a thread."""
    return (
        nn.Module.__call__, nn.Module.__getattr__, nn.Module.__setattr__, torch.nn.Linear.forward,
        torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype(),
        torch.get_num_threads(), torch._dynamo.eval_frame._stance,
        getattr(torch.fx._symbolic_trace, "_is_fx_tracing_flag", None),
        torch.utils._python_dispatch._is_in_torch_dispatch_mode,
        torch.utils._python_dispatch._is_in_non_infra_torch_dispatch_mode,
        tuple(map(id, warnings.filters)),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread_each():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("calls", [100, pytest.param(CALLS, marks=pytest.mark.long)])
def test_threads_side_by_side(calls):
    before = of_the_process()
    assert side_by_side(calls, workers()) == []
    assert of_the_process() == before


def with_a_tracer_that_patches():
    """The planted fault: torch.fx's own tracer, as it was."""

    def patched(module):
        module.train()
        return torch.fx.Tracer().trace(module)

    regions.traced = patched
    jobs = workers()
    jobs = {name: jobs[name] for name in ("thin", "plain", "plain, shared")}
    for name in ("thin 2", "thin 3"):
        model = small(6)
        jobs[name] = lambda k, model=model: trained(model, thin, 1)
    return side_by_side(300, jobs)


def test_what_changes_the_process_is_caught():
    """In a process of its own, which it leaves as it does."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("caught")


class Watched(nn.Module):
    """Says of the process, in the middle of a forward, what others would see."""

    seen: ClassVar[list] = []

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.seen.append(of_the_process())
        return self.drop(x)


@pytest.mark.parametrize("call", [predict, thin, audit], ids=lambda call: call.__name__)
def test_nothing_of_the_process_changes_while_a_model_runs(call):
    model, before = nn.Sequential(Watched(), small()), of_the_process()
    Watched.seen.clear()
    call(model) if call is thin else call(model, X)
    assert Watched.seen
    assert all(one == before for one in Watched.seen)


class Passing(torch.utils._python_dispatch.TorchDispatchMode):
    """The planted fault: a mode as PyTorch has it, which the whole process is told of."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def overlapping(mode):
    """Whether the process is as it was after the modes of two threads that overlapped. What is of a
    thread alone goes with it."""
    before, entered, left = of_the_process(), threading.Event(), threading.Event()

    def first():
        with mode():
            entered.set()
            left.wait(60)

    def second():
        entered.wait(60)
        with mode():
            torch.rand(3)
            left.set()
            threads[0].join()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return of_the_process() == before


def test_modes_of_two_threads_that_overlap_leave_nothing_behind(monkeypatch):
    assert overlapping(OwnDraws)
    told = "_is_in_torch_dispatch_mode", "_is_in_non_infra_torch_dispatch_mode"
    for name in (*told, "_is_in_any_mode_without_ignore_compile_internals"):
        if hasattr(torch.utils._python_dispatch, name):  # and puts them back
            monkeypatch.setattr(torch.utils._python_dispatch, name, False)
    assert not overlapping(Passing)


def test_two_threads_that_predict_leave_programs_to_the_others():
    """Where the process holds that a mode is on, Dynamo before 2.11 compiles nothing."""
    models, made = [small(k) for k in range(3)], []
    threads = [
        threading.Thread(target=lambda m=m: [answers(m, k) for k in range(8)]) for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def backend(graph, _):
        made.append(graph)
        return graph.forward

    torch.compile(nn.Linear(4, 2), backend=backend)(X)
    assert len(made) == 1


class Stops(nn.Module):
    """Raises at its call number `at`."""

    calls = 0

    def __init__(self, at):
        super().__init__()
        self.drop, self.at = nn.Dropout(0.5), at

    def forward(self, x):
        Stops.calls += 1
        if Stops.calls == self.at:
            raise KeyboardInterrupt
        return self.drop(x)


def lay(model):
    thin(model)
    release(model)


@pytest.mark.parametrize("at", range(1, 9))
def test_an_exception_at_any_call_leaves_nothing_behind(at):
    for call in (lambda m: predict(m, X, members=4), lambda m: audit(m, X, measure=False), lay):
        model, before = nn.Sequential(Stops(at), small()), of_the_process()
        held = {name: dict(m.__dict__) for name, m in model.named_modules()}
        state, Stops.calls = torch.get_rng_state(), 0
        with contextlib.suppress(KeyboardInterrupt):
            call(model)
        assert of_the_process() == before
        assert {name: dict(m.__dict__) for name, m in model.named_modules()} == held
        assert torch.equal(torch.get_rng_state(), state)


def test_no_draw_of_another_thread_is_drawn_again():
    """PyTorch's generators are everybody's: who rewinds them gives others their numbers twice."""
    model, going, drawn = small(), threading.Event(), []

    def draw():
        while not going.is_set():
            drawn.append(int(torch.randint(2**62, ())))

    thread = threading.Thread(target=draw)
    thread.start()
    for seed in range(30):
        answers(model, seed)
    going.set()
    thread.join()
    assert len(set(drawn)) == len(drawn) > 30


class Draws(nn.Module):
    """Draws from PyTorch's generators in every way there is."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = x + torch.rand(4) + torch.randn(x.shape) + torch.empty(4).uniform_()
        x = (
            x
            + torch.bernoulli(torch.full_like(x, 0.5))
            + torch.randint(5, (4,))
            + torch.randperm(4)
        )
        return self.drop(
            x + torch.normal(0.0, 1.0, (4,)) + thinned.torch.functional.dropout(x, 0.5, True)
        )


def test_what_a_model_draws_by_itself_moves_no_generator():
    state = torch.get_rng_state()
    first = predict(Draws(), X, members=4, keep=True)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(predict(Draws(), X, members=4, keep=True).outputs, first.outputs)
    assert "PyTorch's generator" in first.not_reached[-1]


def test_another_threads_draws_are_not_the_models():
    model, going = small(), threading.Event()

    def draw():
        while not going.is_set():
            torch.rand(())

    thread = threading.Thread(target=draw)
    thread.start()
    told = [predict(model, X, members=2, execution="elementwise").not_reached for _ in range(20)]
    going.set()
    thread.join()
    assert told == [()] * 20


def test_a_model_is_not_touched():
    """Its buffers neither, though its code writes into them, and its hooks go on as before."""
    model, heard = Own(), []
    model.layer.register_forward_hook(lambda module, args, y: heard.append(module))
    before = copy.deepcopy(model.state_dict())
    held = {name: dict(m.__dict__) for name, m in model.named_modules()}
    first = answers(model, 3)
    assert heard
    assert all(module is not model.layer for module in heard)
    assert {name: dict(m.__dict__) for name, m in model.named_modules()} == held
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    np.testing.assert_array_equal(answers(model, 3), first)
    np.testing.assert_array_equal(answers(copy.deepcopy(model), 3), first)


class Holds(nn.Module):
    """Its dropout is reached by a list, a closure and an object, beside what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(4, 4)
        self.listed = [self.drop]
        self.closed = lambda x, drop=None: self.drop(x)
        self.held, self.lock = _Holder(self.drop), threading.Lock()
        self.way = "listed"

    def forward(self, x):
        x = self.linear(x)
        return {
            "listed": lambda: self.listed[0](x),
            "closed": lambda: self.closed(x),
            "held": lambda: self.held.drop(x),
        }[self.way]()


class _Holder:
    def __init__(self, drop):
        self.drop = drop


@pytest.mark.parametrize("way", ["listed", "closed", "held"])
def test_whatever_leads_to_a_module_leads_to_its_twin(way):
    torch.manual_seed(0)
    model = Holds()
    model.way = way
    plain = nn.Sequential()
    plain.add_module("linear", model.linear)
    plain.add_module("drop", nn.Dropout(0.5))
    answer = predict(model, X, members=4, keep=True, execution="elementwise")
    expected = predict(plain, X, members=4, keep=True, execution="elementwise")
    np.testing.assert_array_equal(answer.outputs, expected.outputs)


def test_compiled_parts_are_asked_eagerly_and_elsewhere_stay_compiled():
    inner = small()
    model = nn.Sequential(torch.compile(copy.deepcopy(inner), backend="eager"), nn.Identity())
    called = copy.deepcopy(inner)
    called.compile(backend="eager")
    expected = answers(nn.Sequential(inner, nn.Identity()), 2)
    np.testing.assert_array_equal(answers(model, 2), expected)
    np.testing.assert_array_equal(answers(nn.Sequential(called, nn.Identity()), 2), expected)
    assert called._compiled_call_impl is not None


def test_thin_members_of_a_schedule_have_the_p_of_now():
    model = small()
    clock = adopt(model, schedule={"2": lambda step, steps: 0.1 + 0.4 * step}, steps=3).clock
    clock.tick()
    thin_ones = predict(model, X, members=4, keep=True, execution="thin").outputs
    whole = predict(model, X, members=4, keep=True, execution="elementwise").outputs
    np.testing.assert_allclose(thin_ones, whole, atol=1e-6)


def test_a_graph_is_recorded_without_a_change_to_others():
    one, other = small(), small()
    graph = tracing.traced(copy.deepcopy(one))
    assert [n.op for n in graph.nodes] == ["placeholder", *["call_module"] * 4, "output"]
    assert torch.equal(one(X), other(X))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("caught" if with_a_tracer_that_patches() else "missed")
