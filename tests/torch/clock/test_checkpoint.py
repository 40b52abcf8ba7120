"""Checkpoints recompute with the masks of their forward, or raise and say what is missing."""

import weakref

import pytest
import torch
from observed import batch, build, gradients
from own_checkpoints import ByName, Hidden, OnlyFunction, checkpointed as checkpoint
from torch import nn
from torch.utils.checkpoint import set_checkpoint_early_stop
from versions import VERSION

from thinned.torch import adopt, checkpoint_context
from thinned.torch.clock import checkpoints

REENTRANT = {"use_reentrant": True}
PLAIN = {"use_reentrant": False}
NOTED = {"use_reentrant": False, "context_fn": checkpoint_context}
# Those of other libraries; of the last one the function that it runs again is not found.
MEGATRON, OWN, HIDDEN = {"kind": ByName}, {"kind": OnlyFunction}, {"kind": Hidden}
FOUND = {"reentrant": REENTRANT, "plain": PLAIN, "noted": NOTED, "megatron": MEGATRON, "own": OWN}
TORCH = pytest.mark.parametrize(
    "how", [REENTRANT, PLAIN, NOTED], ids=["reentrant", "plain", "noted"]
)
KINDS = pytest.mark.parametrize("how", FOUND.values(), ids=list(FOUND))
EVERY = pytest.mark.parametrize("how", [*FOUND.values(), HIDDEN], ids=[*FOUND, "hidden"])

AMBIGUOUS = (
    r"site '.*', which was called \d+ times since .*: which call is it to repeat\? "
    r"Use torch.utils.checkpoint.checkpoint, whose recompute knows"
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


@EVERY
def test_a_site_called_once(how):
    assert same(train(how), train())


@pytest.mark.parametrize(
    "options", [{"twice": True}, {"forwards": 2}, {"forwards": 2, "together": True}], ids=str
)
def test_a_site_called_again_raises_where_the_checkpoint_is_not_found(options):
    with pytest.raises(RuntimeError, match=AMBIGUOUS):
        train(HIDDEN, **options)


@KINDS
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_a_site_called_again(how, twice, together):
    options = {"twice": twice, "together": together, "forwards": 3}
    assert same(train(how, **options), train(**options))


@TORCH
def test_a_whole_model_checkpointed_twice(how):
    found = []
    for way in (None, how):
        model = build(twice=True)
        adopt(model)
        x = batch().requires_grad_()
        y, _ = model(x) if way is None else checkpoint(model, x, **way)
        y.square().sum().backward()
        found.append(gradients(model))
    assert same(*found)


def test_backward_twice_through_one_checkpoint():
    results = []
    for how in (None, NOTED, PLAIN):
        model = build(how=how, twice=True)
        adopt(model)
        y, _ = model(batch().requires_grad_())
        loss = y.square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        results.append(gradients(model))
    assert same(results[1], results[0])
    assert same(results[2], results[0])


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@TORCH
@pytest.mark.parametrize(
    "inner", [REENTRANT, PLAIN, NOTED, MEGATRON], ids=["reentrant", "plain", "noted", "megatron"]
)
def test_checkpoints_within_checkpoints(how, inner):
    found = []
    for outer, parts in ((None, None), (how, inner)):
        model = build(how=parts, twice=True)
        adopt(model)
        x = batch().requires_grad_()
        for _ in range(2):
            y, _ = model(x) if outer is None else checkpoint(model, x, **outer)
            y.square().sum().backward()
        found.append(gradients(model))
    assert same(*found)


@EVERY
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
    model = build(how=HIDDEN)
    clock = adopt(model).clock
    x = batch().requires_grad_()
    for _ in range(before):
        model(x)
    with clock.piece(0):
        loss = model(x)[0].square().sum()
    with pytest.raises(RuntimeError, match=said):
        loss.backward()


def test_a_forward_outside_is_not_repeated_in_a_piece():
    model = build(how=HIDDEN)
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


def test_a_backward_pass_behind_another_forward_is_refused(monkeypatch):
    with pytest.raises(RuntimeError, match=r"of an earlier step, .* before clock.tick\(\)"):
        after_the_tick(HIDDEN)
    # What it is refused for: the other step's mask, and so other gradients.
    monkeypatch.setattr(checkpoints.Place, "after_what_runs", lambda _: False)
    assert not same(after_the_tick(HIDDEN), after_the_tick(None))


@KINDS
def test_a_recompute_after_the_tick(how):
    assert same(after_the_tick(how), after_the_tick(None))


@KINDS
def test_pieces_may_end_before_their_backward_pass(how):
    found = []
    for way in (None, how):
        model = build(how=way, twice=True)
        clock = adopt(model).clock
        x, losses = batch().requires_grad_(), []
        for start in (0, 4):
            with clock.piece(start):
                losses.append(model(x[start : start + 4])[0].square().sum())
        sum(losses).backward()
        found.append(gradients(model))
    assert same(*found)


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


@pytest.mark.parametrize("how", [REENTRANT, PLAIN, NOTED], ids=["reentrant", "plain", "noted"])
@pytest.mark.parametrize("kind", [TwoCalls, lstm])
def test_a_module_that_ran_once_needs_nothing_however_often_it_draws(kind, how):
    for a, b in zip(drawn(kind, how), drawn(kind), strict=True):
        # Without gradients, as a reentrant forward runs, PyTorch has another LSTM, that rounds
        # otherwise; another mask is another gradient.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@KINDS
def test_a_module_that_draws_twice_and_runs_twice(how):
    assert same(drawn(TwoCalls, how, forwards=2), drawn(TwoCalls, forwards=2))


def test_a_run_of_a_hidden_checkpoint_needs_nothing():
    assert same(drawn(TwoCalls, HIDDEN), drawn(TwoCalls))


def test_a_second_forward_of_a_hidden_checkpoint_raises():
    with pytest.raises(RuntimeError, match=f"{AMBIGUOUS}.*one module share its site: a module for"):
        drawn(TwoCalls, HIDDEN, forwards=2)


class Within(TwoCalls):
    """A checkpoint in a checkpoint, and both in one forward."""

    def outer(self, x, how):
        y = nn.functional.dropout(x, 0.2, self.training)
        return y + checkpoint(self.inner, y, **how)

    def forward(self, x, how=None):
        if how is None:
            y = nn.functional.dropout(x, 0.2, self.training)
            return y + self.inner(y)
        return checkpoint(self.outer, x, how, use_reentrant=False)


@KINDS
@pytest.mark.parametrize("kind", [TwoCalls, Within])
def test_functional_calls_in_a_checkpoint_that_begins_within_their_forward(kind, how):
    for forwards in (1, 2):
        options = {"forwards": forwards, "inside": True}
        assert same(drawn(kind, how, **options), drawn(kind, **options))


def test_a_functional_call_that_a_recompute_would_not_see_raises(monkeypatch):
    """The recompute of a part of a forward runs outside of it, without the mode that sees calls."""
    refused = "stands in a checkpoint that begins within its module's forward"
    with pytest.raises(RuntimeError, match=refused):
        drawn(TwoCalls, HIDDEN, inside=True)
    for found in ("by_hooks", "by_frames"):  # as if PyTorch had another checkpoint
        monkeypatch.setattr(checkpoints, found, lambda _: [])
    with pytest.raises(RuntimeError, match=refused):
        drawn(TwoCalls, PLAIN, inside=True)
    assert same(drawn(TwoCalls, NOTED, inside=True), drawn(TwoCalls, inside=True))


def by_vjp(ctx, grad):
    return torch.func.vjp(ctx.held[0], *ctx.saved_tensors)[1](grad)[0]


def by_its_own_method(ctx, grad):
    return through(ctx, grad)


def through(ctx, grad):
    with torch.enable_grad():
        x = ctx.saved_tensors[0].detach().requires_grad_()
        return torch.autograd.grad(ctx.held[0](x), x, grad)[0]


def by_the_state_of_the_generator(ctx, grad):
    torch.set_rng_state(ctx.state)
    return grad * ctx.held[0](torch.ones_like(grad))


def by_the_saved_output(ctx, grad):
    (x,) = ctx.saved_tensors
    return clamped(grad * (x != 0))


def clamped(grad):
    return grad.clamp(-1, 1)


def in_a_function(run, backward):
    """run, in the forward of an autograd.Function with this backward pass."""

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.held = (run,)
            ctx.state = torch.get_rng_state()
            ctx.save_for_backward(x)
            return run(x)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return backward(ctx, grad)

    return Through.apply


@pytest.mark.parametrize(
    "backward", [by_vjp, by_its_own_method, by_the_state_of_the_generator, by_the_saved_output]
)
def test_only_a_backward_pass_that_may_run_a_forward_is_taken_for_a_recompute(backward):
    class Gated(nn.Module):
        def forward(self, x):
            return in_a_function(lambda x: nn.functional.dropout(x, 0.5), backward)(x)

    model = Gated()
    adopt(model, seed=1)
    x = batch().requires_grad_()
    if backward is by_the_saved_output:
        model(x).sum().backward()
        assert torch.equal(x.grad, (x != 0).float())
        return
    with pytest.raises(RuntimeError, match="stands in a checkpoint that begins within"):
        model(x)


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


def test_a_call_beside_the_forward_is_none_of_it():
    """The module ran once, and its site was called once more outside of that run."""
    model = TwoCalls()
    adopt(model)
    x = batch().requires_grad_()
    y = checkpoint(model, x, **HIDDEN)
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
    y = checkpoint(model, batch().requires_grad_(), **HIDDEN)
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
        y = checkpoint(more_each_time, torch.ones(4, requires_grad=True), **PLAIN)
    with pytest.raises(RuntimeError, match="more often than its forward did"):
        y.sum().backward()


@pytest.mark.parametrize("how", [PLAIN, NOTED], ids=["plain", "noted"])
def test_a_backward_pass_within_a_checkpoint(how):
    found = []
    for inner in (None, how):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh())
        adopt(model)

        def penalty(x, model=model, inner=inner):
            y = (model(x) if inner is None else checkpoint(model, x, **inner)) * 2
            (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            return model(x) * slope

        x = batch().requires_grad_()
        y = penalty(x) if inner is None else checkpoint(penalty, x, **inner)
        y.square().sum().backward()
        found.append(gradients(model))
    assert same(*found)


def test_notes_die_with_their_checkpoint():
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh())
    adopt(model)
    for how in (PLAIN, REENTRANT, MEGATRON):
        x = batch().requires_grad_()
        y = checkpoint(model, x, **how)
        y.sum().backward()
        alive = weakref.ref(x)
        del x, y
        assert alive() is None, how


# ----------------------------------------------------------------------------------- planted faults


def test_fault_the_recompute_counts_on(monkeypatch):
    monkeypatch.setattr("thinned.torch.clock.clock._backward_pass", lambda: -1)
    with pytest.raises(AssertionError):
        test_a_site_called_once(HIDDEN)


def test_fault_a_run_is_read_from_its_end(monkeypatch):
    class Backward(checkpoints.Running):
        """Begins with the second draw."""

        def __init__(self, *args):
            super().__init__(*args)
            self.read = 1

    monkeypatch.setattr("thinned.torch.adoption.functional_calls.Running", Backward)
    with pytest.raises((AssertionError, RuntimeError)):
        test_a_run_of_a_hidden_checkpoint_needs_nothing()


@pytest.mark.parametrize("how", FOUND.values(), ids=list(FOUND))
def test_fault_the_notes_are_read_from_the_end(how, monkeypatch):
    note = checkpoints.note

    def reversed_notes(clock, index, drawn):
        note(clock, index, drawn)
        for notes in checkpoints._noting():
            notes.drawn[clock.number, index].sort(reverse=True, key=lambda drawn: drawn[1])

    monkeypatch.setattr(checkpoints, "note", reversed_notes)
    with pytest.raises(AssertionError):
        test_a_module_that_draws_twice_and_runs_twice(how)


@pytest.mark.skipif(VERSION < (2, 8), reason="PyTorch before 2.8 tells no hooks, which are missed")
def test_fault_a_recompute_notes_for_the_checkpoint_around_it(monkeypatch):
    """A checkpoint whose forward runs a backward pass that recomputes another."""
    monkeypatch.setattr(checkpoints._Recompute, "__enter__", _without_a_border)
    with pytest.raises((AssertionError, RuntimeError)):
        test_a_backward_pass_within_a_checkpoint(PLAIN)


def _without_a_border(self, enter=checkpoints._Recompute.__enter__):
    enter(self)
    self.hooks = None


def test_fault_nothing_is_found(monkeypatch):
    monkeypatch.setattr(checkpoints, "by_frames", lambda _: [])
    with pytest.raises(RuntimeError, match=AMBIGUOUS):
        test_a_site_called_again(REENTRANT, twice=True, together=False)
