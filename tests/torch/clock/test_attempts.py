"""A forward that fails gives its calls back: tried again, it draws the masks of the first try."""

import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import members
from thinned.torch import adopt, checkpoint_context
from thinned.torch.clock import attempts

X = torch.ones(8, 6)


class Failure(BaseException):
    """As KeyboardInterrupt is, no Exception."""


class Fails(nn.Module):
    """Raises once, when it is told to."""

    error = None

    def forward(self, x):
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            # An error that its own traceback holds lives on for a while, and so would the hooks of
            # the checkpoint that it ended, around what the next test does.
            del error
        return x


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.fails = nn.Dropout(0.5), Fails()

    def forward(self, x):
        x = functional.dropout(self.drop(x), 0.5, self.training)
        return functional.dropout(self.fails(x), 0.5, self.training)


class Outer(nn.Module):
    """Draws before and after what may fail, in its own code and in modules, one of them twice."""

    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Dropout(0.2), Inner()
        self.last, self.fails = nn.Dropout(0.3), Fails()
        self.tries, self.way = 1, "plain"

    def forward(self, x):
        x = functional.dropout(self.first(x) + 1, 0.1, self.training) + 1
        x = self.inside(x) + 1
        x = self.last(self.fails(self.last(x)) + 1)
        return self.first(x)

    def inside(self, x):
        for _ in range(self.tries):
            try:
                if self.way == "plain":
                    return self.inner(x)
                context = {"context_fn": checkpoint_context} if self.way == "noted" else {}
                return checkpoint(self.inner, x, use_reentrant=False, **context)
            except Failure:
                error = True
        assert error
        raise Failure


def adopted(**more):
    model = Outer()
    return model, adopt(model, seed=5, **more).clock


def wanted():
    model, _ = adopted()
    return [model(X), model(X)]


def counts(clock):
    return clock.counts.tolist()


@pytest.mark.parametrize(
    "error", [Failure, RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError]
)
@pytest.mark.parametrize("where", ["inner", "outer"])
def test_a_forward_tried_again_draws_the_same_masks(where, error):
    model, clock = adopted()
    failing = (model.inner if where == "inner" else model).fails
    found = []
    for _ in range(2):
        before = counts(clock)
        for _ in range(2):
            failing.error = error()
            with pytest.raises(error):
                model(X)
            assert counts(clock) == before
        found.append(model(X))
    assert all(map(torch.equal, found, wanted()))


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_an_exception_in_a_hook(hook):
    model, clock = adopted()

    def fails(*_):
        handle.remove()
        raise Failure

    for module in (model.inner, model.last, model.inner.drop):
        handle = getattr(module, hook)(fails)
        with pytest.raises(Failure):
            model(X)
        assert not any(counts(clock))
    assert torch.equal(model(X), wanted()[0])


@pytest.mark.parametrize("way", ["plain", "checkpoint", "noted"])
def test_a_part_tried_again_within_the_forward(way):
    """What the outer forward drew stays drawn, and the recompute finds what the retry drew."""
    plain, _ = adopted()
    x = X.clone().requires_grad_()
    plain(x).sum().backward()
    model, _ = adopted()
    model.tries, model.way = 3, way
    model.inner.fails.error = Failure()
    twin = X.clone().requires_grad_()
    y = model(twin)
    y.sum().backward()
    assert torch.equal(twin.grad, x.grad)
    assert torch.equal(y, wanted()[0])


@pytest.mark.parametrize("way", ["checkpoint", "noted"])
def test_a_checkpointed_forward_tried_again(way):
    plain, _ = adopted()
    x = X.clone().requires_grad_()
    plain(x).sum().backward()
    model, clock = adopted()
    model.way = way
    for piece in (False, True):
        for failing in (model.fails, model.inner.fails):
            failing.error = Failure()
            with pytest.raises(Failure), clock.piece(0) if piece else nullcontext():
                model(X.clone().requires_grad_())
        twin = X.clone().requires_grad_()
        with clock.piece(0):
            model(twin).sum().backward()
        assert torch.equal(twin.grad, x.grad)


def test_an_exception_in_a_piece():
    model, clock = adopted()
    model(X)
    outside = counts(clock)
    with clock.piece(0):
        first = model(X)
        model.fails.error = Failure()
        with pytest.raises(Failure):
            model(X)
        second = model(X)
    assert torch.equal(first, wanted()[0])
    assert torch.equal(second, wanted()[1])
    assert counts(clock) == outside


def test_a_piece_within_a_forward_that_fails():
    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.fails = nn.Dropout(0.5), Fails()

        def forward(self, x):
            x = self.drop(x)
            with clock.piece(0):
                return self.fails(self.drop(x))

    model = Pieces()
    clock = adopt(model).clock
    model.fails.error = Failure()
    with pytest.raises(Failure):
        model(X)
    assert not any(counts(clock))


def test_a_step_tried_again_as_a_piece_after_its_backward_pass_failed():
    """No forward failed here; a piece counts from 0 each time it is entered."""
    model, clock = adopted()
    found = []
    for fails in (True, False):
        x = X.clone().requires_grad_()
        with clock.piece(0):
            y = model(x)
            if fails:
                x.register_hook(lambda _: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    y.sum().backward()
            else:
                y.sum().backward()
        found.append(y)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], wanted()[0])


def test_one_adopted_model_within_the_forward_of_another():
    other, theirs = adopted()

    class Asks(Outer):
        def forward(self, x):
            return super().forward(other(x))

    model = Asks()
    clock = adopt(model).clock
    model.fails.error = Failure()
    with pytest.raises(Failure):
        model(X)
    assert not any(counts(clock))
    assert not any(counts(theirs))
    other.fails.error = Failure()
    with pytest.raises(Failure):
        model(X)
    assert not any(counts(clock))
    assert torch.equal(other(X), wanted()[0])


def test_dropout_awake_in_a_model_that_evaluates():
    model, clock = adopted()
    for module in model.eval().modules():
        module.train(isinstance(module, nn.Dropout))
    model.fails.error = Failure()
    with pytest.raises(Failure):
        model(X)
    assert not any(counts(clock))


def test_asking_members_leaves_the_calls_alone():
    model, clock = adopted()
    model(X)
    before = counts(clock)
    model.fails.error = Failure()
    with pytest.raises(Failure):
        members.predict(model, X, members=2)
    model.fails.error = None  # the twin's was taken
    assert counts(clock) == before
    assert torch.equal(model(X), wanted()[1])


def test_threads_keep_the_calls_that_others_made():
    model, clock = adopted()
    middle, after = threading.Event(), threading.Event()
    found = []

    def slow(*_):
        handle.remove()
        middle.set()
        after.wait()
        raise Failure

    def work():
        with pytest.raises(Failure):
            model(X)

    handle = model.inner.register_forward_pre_hook(slow)
    thread = threading.Thread(target=work)
    thread.start()
    middle.wait()
    found.append(model(X))  # the second call of what was drawn before, the first of the rest
    after.set()
    thread.join()
    index = clock.names.index("first")
    assert clock.drawn(index) == 3
    model(X)
    assert clock.drawn(index) == 5
    assert clock.drawn(clock.names.index("inner.drop")) == 2
    assert not attempts.here.forwards.calls


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("broken", [False, True])
def test_a_compiled_forward_that_fails(broken):
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.table = nn.Dropout(0.5), nn.Dropout(0.5), nn.Embedding(3, 6)

        def forward(self, x, i):
            x = self.one(x)
            if broken:
                torch._dynamo.graph_break()
            return self.two(x + self.table(i))

    model = Looks()
    clock = adopt(model, seed=5).clock
    compiled = torch.compile(model, backend="aot_eager", fullgraph=not broken)
    good, bad = torch.zeros(8, dtype=torch.long), torch.full((8,), 7)
    compiled(X, good)
    before = counts(clock)
    assert sum(before) == 2
    for _ in range(2):
        with pytest.raises(IndexError):
            compiled(X, bad)
        assert counts(clock) == before
    kept = thinned.keep_mask((8, 6), 0.5, thinned.Address(5, "one", 0, 1), like=X)
    seen = []
    model.one.register_forward_hook(lambda _, __, y: seen.append(y != 0))
    model(X, good)
    assert torch.equal(seen[0], kept)


# ------------------------------------------------------------------------------------ planted fault


def test_fault_calls_kept(monkeypatch):
    monkeypatch.setattr("thinned.torch.clock.clock.Clock.give_back", lambda *_: None)
    with pytest.raises(AssertionError):
        test_a_forward_tried_again_draws_the_same_masks("inner", Failure)
