"""Checkpoints recompute with the masks of their forward, or raise and say what is missing."""

import pytest
import torch
from observed import batch, build, gradients
from torch import nn
from torch.utils.checkpoint import checkpoint

from thinned.torch import Clock, adopt, checkpoint_context, checkpointing

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


@pytest.mark.parametrize("before", [0, 1])
def test_a_backward_pass_after_the_piece_is_refused(before):
    model = build(how=PLAIN)
    clock = adopt(model).clock
    x = batch().requires_grad_()
    for _ in range(before):
        model(x)
    with clock.piece(0):
        loss = model(x)[0].square().sum()
    with pytest.raises(RuntimeError, match=f"called {before} times since"):
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


def test_a_recompute_that_runs_other_code_is_refused():
    site = nn.Sequential(nn.Dropout(0.5))
    adopt(site)
    runs = []

    def more_each_time(x):
        runs.append(x)
        for _ in runs:
            x = site(x)
        return x.exp()

    y = checkpoint(more_each_time, torch.ones(4, requires_grad=True), early_stop=False, **NOTED)
    with pytest.raises(RuntimeError, match="more often than its forward did"):
        y.sum().backward()


# ----------------------------------------------------------------------------------- planted faults


def test_fault_the_recompute_counts_on(monkeypatch):
    monkeypatch.setattr(Clock, "again", Clock._next)
    with pytest.raises(AssertionError):
        test_a_site_called_once_needs_nothing(PLAIN)


def test_fault_the_notes_are_read_from_the_end(monkeypatch):
    note = checkpointing.note

    def reversed_notes(clock, index, drawn):
        note(clock, index, drawn)
        for notes in checkpointing._here.noting:
            notes.drawn[clock.number, index].sort(reverse=True, key=lambda drawn: drawn[1])

    monkeypatch.setattr(checkpointing, "note", reversed_notes)
    with pytest.raises(AssertionError):
        test_a_whole_model_checkpointed_twice()
