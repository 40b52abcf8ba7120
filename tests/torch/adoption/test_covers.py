"""What is laid over a module's forward or its class, and lifted again, in every order.

Each step either does what it says or is refused in words with the model as it was; and once all is
lifted, the model is what it was at first.
"""

import functools
import itertools
import types

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from thinned.members import predict
from thinned.torch import (
    adopt,
    drop_connect,
    mixout,
    release,
    remove_noise,
    targeted_dropout,
    thin,
    weight_drop,
)
from thinned.torch.compat.covers import Cover

X = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
REFUSALS = (
    "adopt: ", "thin: ", "release: ", "weight_drop: ", "drop_connect: ", "mixout: ",
    "targeted_dropout: ", "remove_noise: ", "by hand: ",
)  # fmt: skip


class Net(nn.Module):
    """Something of all that is covered: a region, attention, an LSTM, a functional call."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.25, batch_first=True)
        self.lstm = nn.LSTM(8, 4, 2, dropout=0.25, batch_first=True)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        x = self.second(self.drop(torch.relu(self.first(x)))) * self.scale
        x = self.attention(x, x, x, need_weights=False)[0]
        return functional.dropout(self.lstm(x)[0], 0.5, self.training)


class Doubled(nn.Module):
    def forward(self, weight):
        return weight * 2.0


class Hand:
    """What other libraries do: a forward of theirs over the one that was there."""

    def __init__(self, name):
        self.name = name

    def lay(self, model):
        module = model.get_submodule(self.name)
        self.before, inner = module.__dict__.get("forward"), module.forward
        module.forward = self.mine = self.over(module, inner)

    def over(self, module, inner):
        return lambda *args, **kwargs: inner(*args, **kwargs)

    def lift(self, model):
        module = model.get_submodule(self.name)
        if module.__dict__.get("forward") is not self.mine:
            raise ValueError("by hand: another forward lies on top.")
        self.lifted(module)
        if self.before is None:
            del module.forward
        else:
            module.forward = self.before

    def lifted(self, module):
        pass


class Hooked(Hand):
    """The same as accelerate's hooks do: a partial function, which finds the one below by name."""

    def over(self, module, inner):
        module._old_forward = inner
        partial = functools.partial(lambda m, *args, **kw: m._old_forward(*args, **kw), module)
        return functools.update_wrapper(partial, inner)

    def lifted(self, module):
        del module._old_forward


class Rebound(Hand):
    """The same as accelerate does for mixed precision: what it wraps is the method's function, and
    is bound to the module. So is what it leaves there."""

    def over(self, module, inner):
        function = inner.__func__
        wrapper = functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))
        return types.MethodType(wrapper, module)

    def lifted(self, module):
        if self.before is not None:
            self.before = types.MethodType(self.mine.__wrapped__, module)


def noise(put, module, name):
    return lambda: (
        lambda model: put(model.get_submodule(module), name),
        lambda model: remove_noise(model.get_submodule(module), name),
    )


def by_hand(name, kind=Hand):
    def made():
        hand = kind(name)
        return hand.lay, hand.lift

    return made


def parametrized(module, name):
    return lambda: (
        lambda model: parametrize.register_parametrization(
            model.get_submodule(module), name, Doubled()
        ),
        lambda model: parametrize.remove_parametrizations(
            model.get_submodule(module), name, leave_parametrized=False
        ),
    )


COVERS = {
    "adopt": lambda: (adopt, release),
    "thin": lambda: (thin, release),
    "weight_drop": noise(weight_drop, "first", "weight"),
    "drop_connect": noise(drop_connect, "first", "bias"),
    "mixout": noise(mixout, "second", "weight"),
    "targeted_dropout": noise(targeted_dropout, "lstm", "weight_hh_l0"),
    "on attention": noise(weight_drop, "attention", "in_proj_weight"),
    "on the root": noise(weight_drop, "", "scale"),
    "by hand": by_hand("first"),
    "hooked, the LSTM": by_hand("lstm", Hooked),
    "rebound, the root": by_hand("", Rebound),
    "parametrized": parametrized("attention", "in_proj_weight"),
}


def forward_of(module):
    forward = module.__dict__.get("forward")
    return getattr(forward, "__self__", None), getattr(forward, "__func__", forward)


def state_of(model):
    """All that a cover may change, but for what it computes."""
    return [
        (
            name, id(module), type(module), sorted(module.__dict__), forward_of(module),
            sorted(module._parameters), sorted(module._buffers), sorted(module.state_dict()),
        )
        for name, module in model.named_modules()
    ]  # fmt: skip


def computed(model):
    model.eval()
    quiet = model(X)
    model.train()
    torch.manual_seed(5)
    return quiet, model(X)


def attempted(step, model):
    """Whether a step was done; where it was refused, it did nothing."""
    before = state_of(model)
    try:
        step(model)
    except ValueError as error:
        refusal = str(error)
    else:
        return True
    assert refusal.startswith(REFUSALS), refusal
    assert state_of(model) == before
    return False


def runs(model):
    """Between the steps it runs, or says what took the noise's weight away."""
    try:
        computed(model)
    except RuntimeError as error:
        if not str(error).startswith("WeightDrop: 'in_proj_weight' of this Parametrized"):
            raise


def check(names, order, between=runs):
    model = Net()
    bare, expected = state_of(model), computed(model)
    covers = [COVERS[name]() for name in names]
    laid = [index for index, (lay, _) in enumerate(covers) if attempted(lay, model)]
    between(model)
    waiting = [index for index in order if index in laid]
    while waiting:
        lifted = [index for index in waiting if attempted(covers[index][1], model)]
        assert lifted, f"nothing of {[names[i] for i in waiting]} can be lifted"
        waiting = [index for index in waiting if index not in lifted]
        runs(model)
    assert state_of(model) == bare
    found = computed(model)
    assert all(map(torch.equal, found, expected))


# adopt and thin lift each other: the second one is refused, and so is not there to be lifted.
PAIRS = list(itertools.permutations(COVERS, 2))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("first", COVERS)
def test_two_covers_laid_and_lifted_in_every_order(first):
    for names in (pair for pair in PAIRS if pair[0] == first):
        for order in ((0, 1), (1, 0)):
            check(names, order)


THREES = [
    ("weight_drop", "adopt", "by hand"),
    ("weight_drop", "thin", "drop_connect"),
    ("by hand", "weight_drop", "adopt"),
    ("drop_connect", "weight_drop", "thin"),
    ("parametrized", "adopt", "rebound, the root"),
    ("targeted_dropout", "hooked, the LSTM", "thin"),
    ("on the root", "rebound, the root", "adopt"),
    ("weight_drop", "by hand", "drop_connect"),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("names", THREES, ids="/".join)
def test_three_covers(names):
    for order in itertools.permutations(range(3)):
        check(names, order)


def asked(model):
    before = state_of(model)
    predict(model, X, members=2)
    assert state_of(model) == before


@pytest.mark.parametrize("name", COVERS)
def test_a_question_leaves_every_cover_where_it_lies(name):
    check((name,), (0,), between=asked)


def test_noise_on_a_layer_that_runs_thin_is_refused():
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    thin(model)
    with pytest.raises(ValueError, match=r"^weight_drop: the module is adopted already\. Call rel"):
        weight_drop(model[0], "weight", 0.5)
    release(model)
    assert "forward" not in model[0].__dict__


def test_what_was_laid_over_an_adopted_forward_is_to_be_lifted_first():
    model = Net()
    adopt(model)
    hand = Hand("lstm")
    hand.lay(model)
    with pytest.raises(ValueError, match=r"^release: the forward of 'lstm', a LSTM, was changed"):
        release(model)
    hand.lift(model)
    release(model)


def test_a_dead_forward_is_caught(monkeypatch):
    """The planted fault: noise is laid over whatever is there."""
    monkeypatch.setattr("thinned.torch.layers.weights.AdoptedForward", type(None))
    monkeypatch.setattr("thinned.torch.adoption.adopt.require_on_top", lambda *_: None)
    monkeypatch.setattr(Cover, "lift", lambda self: vars(self.module).pop("forward", None))
    with pytest.raises((AssertionError, RuntimeError)):
        check(("thin", "weight_drop"), (0, 1))
