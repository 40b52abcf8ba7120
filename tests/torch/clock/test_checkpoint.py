"""Checkpoints recompute with the masks of their forward, or raise and say what is missing."""

import pytest
import torch
from observed import batch, build, gradients
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from thinned.torch import adopt, checkpoint_context
from thinned.torch.clock import checkpoints

REENTRANT = {"use_reentrant": True}
PLAIN = {"use_reentrant": False}
NOTED = {"use_reentrant": False, "context_fn": checkpoint_context}
KINDS = pytest.mark.parametrize(
    "how", [REENTRANT, PLAIN, NOTED], ids=["reentrant", "plain", "noted"]
)

AMBIGUOUS = (
    r"site '.*', which was called \d+ times since .*: which call is it to repeat\? "
    r"Pass context_fn=thinned.torch.checkpoint_context"
)


def train(how=None, forwards=1, together=False, pieces=False, **options):
    """Masks of all forwards, then gradients."""
    model = build(how=how, **options)
    clock = adopt(model, seed=3).clock
    x = batch().requires_grad_()  # a reentrant checkpoint needs an input that has a gradient
    masks, losses = [], []
    for i in range(forwards):
        y, seen = model(x * (i + 1))
        masks.extend(seen)
        losses.append(y.square().sum())
        if not together:
            losses.pop().backward()
    for loss in losses:
        loss.backward()
    return [*masks, *gradients(model), x.grad, clock.counts]


def same(found, expected):
    return all(map(torch.equal, found, expected))


@KINDS
def test_a_site_called_once_needs_nothing(how):
    assert same(train(how), train())


@pytest.mark.parametrize("how", [REENTRANT, PLAIN])
@pytest.mark.parametrize(
    "options", [{"twice": True}, {"forwards": 2}, {"forwards": 2, "together": True}], ids=str
)
def test_a_site_called_again_raises_without_the_context(how, options):
    with pytest.raises(RuntimeError, match=AMBIGUOUS):
        train(how, **options)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_a_site_called_again_is_exact_with_the_context(twice, together):
    options = {"twice": twice, "together": together, "forwards": 3}
    assert same(train(NOTED, **options), train(**options))


def test_a_whole_model_checkpointed_twice():
    found = []
    for how in (None, NOTED):
        model = build(twice=True)
        adopt(model)
        x = batch().requires_grad_()
        y, _ = model(x) if how is None else checkpoint(model, x, **how)
        y.square().sum().backward()
        found.append(gradients(model))
    assert same(*found)


def test_backward_twice_through_one_checkpoint():
    results = []
    for how in (None, NOTED, PLAIN):
        model = build(how=how)
        adopt(model)
        y, _ = model(batch().requires_grad_())
        loss = y.square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        results.append(gradients(model))
    assert same(results[1], results[0])
    assert same(results[2], results[0])


def test_checkpoints_within_checkpoints():
    found = []
    for how in (None, NOTED):
        model = build(how=how, twice=True)
        adopt(model)
        x = batch().requires_grad_()
        for _ in range(2):
            y, _ = model(x) if how is None else checkpoint(model, x, **how)
            y.square().sum().backward()
        found.append(gradients(model))
    assert same(*found)


@pytest.mark.parametrize("how", [REENTRANT, PLAIN], ids=["reentrant", "plain"])
def test_pieces_recompute_inside(how):
    model, reference = build(how=how), build()
    clock, other = adopt(model).clock, adopt(reference).clock
    x = batch().requires_grad_()
    for start in (0, 4):
        for one, time in ((model, clock), (reference, other)):
            with time.piece(start):
                one(x[start : start + 4])[0].square().sum().backward()
    assert same(gradients(model), gradients(reference))


@pytest.mark.parametrize(
    ("before", "said"),
    [(0, "not called since .* Run the backward pass before"), (1, "called 1 times since")],
)
def test_a_backward_pass_after_the_piece_is_refused(before, said):
    model = build(how=PLAIN)
    clock = adopt(model).clock
    x = batch().requires_grad_()
    for _ in range(before):
        model(x)
    with clock.piece(0):
        loss = model(x)[0].square().sum()
    with pytest.raises(RuntimeError, match=said):
        loss.backward()


def test_a_forward_outside_is_not_repeated_in_a_piece():
    model = build(how=PLAIN)
    clock = adopt(model).clock
    x = batch().requires_grad_()
    outside = model(x)[0].square().sum()
    with clock.piece(4):
        model(x)
        with pytest.raises(RuntimeError, match="and elsewhere before: which call"):
            outside.backward()


def after_the_tick(how):
    """A backward pass in the step after its forward's, where another forward ran already."""
    model = build(how=how)
    clock = adopt(model).clock
    x = batch().requires_grad_()
    late = model(x)[0].square().sum()
    clock.tick()
    model(x)
    late.backward()
    return [*gradients(model), x.grad]


@pytest.mark.parametrize("how", [REENTRANT, PLAIN], ids=["reentrant", "plain"])
def test_a_backward_pass_behind_another_forward_is_refused(how, monkeypatch):
    with pytest.raises(RuntimeError, match=r"of an earlier step, .* before clock.tick\(\)"):
        after_the_tick(how)
    # What it is refused for: the other step's mask, and so other gradients.
    monkeypatch.setattr(checkpoints.Place, "after_what_runs", lambda _: False)
    assert not same(after_the_tick(how), after_the_tick(None))


def test_a_context_recomputes_after_the_tick():
    assert same(after_the_tick(NOTED), after_the_tick(None))


# -------------------------------------------------------------------- several draws of one forward


class TwoCalls(nn.Module):
    """Functional calls of one module share its site."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def inner(self, x):
        return nn.functional.dropout(self.linear(x), 0.3, self.training).tanh()

    def forward(self, x, how=None):
        x = nn.functional.dropout(x, 0.5, self.training)
        return self.inner(x) if how is None else checkpoint(self.inner, x, **how)


def lstm():
    return nn.Sequential(nn.LSTM(6, 6, 3, dropout=0.5))


def drawn(kind, how=None, forwards=1, inside=False):
    """Gradients of a step in which checkpoints surround the module, or stand inside of it."""
    torch.manual_seed(2)
    model = kind()
    clock = adopt(model, seed=3).clock
    x = batch().requires_grad_()
    for _ in range(forwards):
        around = how is not None and not inside
        y = checkpoint(model, x, **how) if around else model(x, *([how] if inside else []))
        (y[0] if isinstance(y, tuple) else y).square().sum().backward()
    return [*gradients(model), x.grad, clock.counts]


@KINDS
@pytest.mark.parametrize("kind", [TwoCalls, lstm])
def test_a_module_that_ran_once_needs_nothing_however_often_it_draws(kind, how):
    for a, b in zip(drawn(kind, how), drawn(kind), strict=True):
        # Without gradients, as a reentrant forward runs, PyTorch has another LSTM, that rounds
        # otherwise; another mask is another gradient.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", [REENTRANT, PLAIN], ids=["reentrant", "plain"])
def test_a_second_forward_raises(how):
    with pytest.raises(RuntimeError, match=f"{AMBIGUOUS}.*one module share its site: a module for"):
        drawn(TwoCalls, how, forwards=2)


@pytest.mark.parametrize("how", [REENTRANT, PLAIN], ids=["reentrant", "plain"])
def test_a_functional_call_that_a_recompute_would_not_see_raises(how):
    """The recompute of a part of a forward runs outside of it."""
    with pytest.raises(RuntimeError, match="begins within its module's forward"):
        drawn(TwoCalls, how, inside=True)


class Teacher(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            y = nn.functional.dropout(x, 0.5)
        with torch.autograd.graph.save_on_cpu():
            return nn.functional.dropout(x * y, 0.5)


def test_other_hooks_and_no_grad_are_no_checkpoint():
    model = Teacher()
    adopt(model)
    model(batch().requires_grad_()).sum().backward()


@pytest.mark.parametrize("options", [{"forwards": 2}, {"inside": True}], ids=str)
def test_the_context_repeats_both(options):
    assert same(drawn(TwoCalls, NOTED, **options), drawn(TwoCalls, **options))


@pytest.mark.parametrize("how", [REENTRANT, PLAIN], ids=["reentrant", "plain"])
def test_a_call_beside_the_forward_is_none_of_it(how):
    """The module ran once, and its site was called once more outside of that run."""
    model = TwoCalls()
    adopt(model)
    x = batch().requires_grad_()
    y = checkpoint(model, x, **how)
    model(x)
    with pytest.raises(RuntimeError, match=AMBIGUOUS):
        y.sum().backward()


def test_a_run_in_a_piece_is_repeated_there():
    model, twin = TwoCalls(), TwoCalls()
    twin.load_state_dict(model.state_dict())
    clock, other = adopt(model).clock, adopt(twin).clock
    x = batch().requires_grad_()
    for start in (0, 4):
        with clock.piece(start), other.piece(start):
            checkpoint(model, x[start : start + 4], **PLAIN).sum().backward()
            twin(x[start : start + 4]).sum().backward()
    assert same(gradients(model), gradients(twin))


def test_a_backward_pass_after_the_tick_is_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh())
    clock = adopt(model).clock
    y = checkpoint(model, batch().requires_grad_(), **PLAIN)
    clock.tick()
    with pytest.raises(RuntimeError, match=r"Run the backward pass before clock\.tick\(\)"):
        y.sum().backward()


def test_a_recompute_that_runs_other_code_is_refused():
    site = nn.Sequential(nn.Dropout(0.5))
    adopt(site)
    runs = []

    def more_each_time(x):
        runs.append(x)
        for _ in runs:
            x = site(x)
        return x.exp()

    with set_checkpoint_early_stop(False):
        y = checkpoint(more_each_time, torch.ones(4, requires_grad=True), **NOTED)
    with pytest.raises(RuntimeError, match="more often than its forward did"):
        y.sum().backward()


# ----------------------------------------------------------------------------------- planted faults


def test_fault_the_recompute_counts_on(monkeypatch):
    monkeypatch.setattr("thinned.torch.clock.clock._backward_pass", lambda: -1)
    with pytest.raises(AssertionError):
        test_a_site_called_once_needs_nothing(PLAIN)


def test_fault_a_run_is_read_from_its_end(monkeypatch):
    class Backward(checkpoints.Running):
        """Begins with the second draw."""

        def __init__(self, *args):
            super().__init__(*args)
            self.read = 1

    monkeypatch.setattr("thinned.torch.adoption.functional_calls.Running", Backward)
    with pytest.raises((AssertionError, RuntimeError)):
        test_a_module_that_ran_once_needs_nothing_however_often_it_draws(TwoCalls, PLAIN)


def test_fault_the_notes_are_read_from_the_end(monkeypatch):
    note = checkpoints.note

    def reversed_notes(clock, index, drawn):
        note(clock, index, drawn)
        for notes in checkpoints._here.noting:
            notes.drawn[clock.number, index].sort(reverse=True, key=lambda drawn: drawn[1])

    monkeypatch.setattr(checkpoints, "note", reversed_notes)
    with pytest.raises(AssertionError):
        test_a_whole_model_checkpointed_twice()
