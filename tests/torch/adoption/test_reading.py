"""A model with code of its own is read through whatever stands between, and run for the rest."""

import functools
import random

import numpy as np
import pytest
import torch
from styles import STYLES, closure, dropped, noisy, skipped
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned.torch as tt
from thinned.members import predict
from thinned.torch import adopt, release
from thinned.torch.adoption import watching

X = torch.ones(64, 8)
PARAMETRS = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)


def named(report):
    return "; ".join(row.done for row in report.not_reached)


@PARAMETRS
def test_dropout_is_found_and_addressed_in_every_style(style):
    model = style(dropped)
    report = adopt(model)
    assert [row.done for row in report.rows] == ["calls of dropout addressed"]
    first = model(X)
    assert 0 < (first != 0).float().mean() < 1
    report.clock.tick()
    report.clock.buffer[2] = 0
    assert torch.equal(model(X), first)
    assert len(report.rows) == 1
    assert report.not_reached == ()


@PARAMETRS
def test_a_gate_of_a_uniform_number_is_addressed_in_every_style(style):
    model = style(skipped)
    report = adopt(model)
    assert [row.done for row in report.rows] == ["calls of rand addressed"]
    kept = [bool(model(X).any()) for _ in range(16)]
    assert len(set(kept)) == 2
    report.clock.step = 0
    assert [bool(model(X).any()) for _ in range(16)] == kept
    assert report.not_reached == ()
    assert len(report.rows) == 1


@PARAMETRS
def test_other_draws_are_named_in_every_style(style):
    model = style(noisy)
    report = adopt(model)
    (row,) = report.not_reached
    assert row.done == "not reached: rand draws from a generator, and may be dropout"
    model(X)
    assert report.rows == (row,)


@PARAMETRS
def test_what_is_not_read_is_seen(style, monkeypatch):
    """Without reading: the run shows the same."""
    monkeypatch.setattr("thinned.torch.adoption.bytecode._Reader.look", lambda *_, **__: None)
    monkeypatch.setattr("thinned.torch.adoption.bytecode._Reader._named", lambda *_, **__: None)
    monkeypatch.setattr("thinned.torch.adoption.bytecode._Reader.listed", lambda *_, **__: None)
    model = style(dropped)
    report = adopt(model)
    assert report.rows == ()
    assert str(report).startswith("No dropout so far")
    model(X)
    (row,) = report.rows
    assert row.done == "calls addressed, seen when they ran"
    assert row.kind
    assert report.sites == (row.site,)
    assert row.site in str(report)
    other = style(noisy)
    report = adopt(other)
    other(X)
    (row,) = report.not_reached
    assert "rand draws from a generator" in row.done


def names_in(report):
    done = named(report).removeprefix("not reached: ").partition(" draws")[0]
    return done.split(", ")


class Hidden(nn.Module):
    """Calls what no code shows."""

    def __init__(self, call):
        super().__init__()
        self.name = f"_{id(self)}"
        globals()[self.name] = call

    def forward(self, x):
        return globals()[self.name](x, self.training)


def test_only_a_model_that_cannot_drop_is_refused():
    for model in (
        nn.Linear(8, 8),
        nn.Sequential(nn.Linear(8, 8), nn.LSTM(8, 8), nn.ReLU()),
        nn.MultiheadAttention(8, 2),
        nn.Sequential(nn.RReLU()),
    ):
        with pytest.raises(ValueError, match="adopt: the model has no dropout to adopt: modules"):
            adopt(model)
        assert "thinned_clock" not in model.state_dict()
    still = Hidden(lambda x, training: x)
    report = adopt(still)
    still(X)
    assert report.rows == report.sites == ()
    assert str(report).startswith("No dropout so far")
    release(still)


def test_predict_says_that_nothing_dropped():
    with pytest.raises(ValueError, match=r"^predict: all members would be equal: nothing in the"):
        predict(nn.Sequential(Hidden(lambda x, training: x)), X)
    assert predict(nn.Sequential(closure(lambda x, t: F.dropout(x, 0.5))), X).std.min() > 0


DRAWS = {
    "rand": lambda x, t: x * torch.rand(8),
    "rand_like": lambda x, t: x * torch.rand_like(x),
    "randn": lambda x, t: x * torch.randn(8),
    "randint": lambda x, t: x * torch.randint(0, 2, (8,)),
    "randperm": lambda x, t: x[torch.randperm(64)],
    "normal": lambda x, t: torch.normal(x),
    "poisson": lambda x, t: torch.poisson(x),
    "multinomial": lambda x, t: x * torch.multinomial(x[0], 2).sum(),
    "uniform_": lambda x, t: x.clone().uniform_(),
    "exponential_": lambda x, t: x.clone().exponential_(),
    "rrelu": lambda x, t: F.rrelu(-x, training=True),
    "gumbel_softmax": lambda x, t: F.gumbel_softmax(x),
    "fractional_max_pool2d": lambda x, t: F.fractional_max_pool2d(
        x.view(1, 8, 8, 8), 2, output_size=3
    ),
    "torch.distributions.Bernoulli": lambda x, t: torch.distributions.Bernoulli(0.5 * x).sample(),
    "torch.distributions.Normal": lambda x, t: torch.distributions.Normal(x, x).rsample(),
    "numpy.random.rand": lambda x, t: x * (np.random.rand() < 0.5),  # noqa: NPY002
    "numpy.random.binomial": lambda x, t: x * np.random.binomial(1, 0.5),  # noqa: NPY002
    "numpy.random.default_rng": lambda x, t: x * float(np.random.default_rng(0).random()),
    "random.random": lambda x, t: x * (random.random() < 0.5),
    "random.choice": lambda x, t: x * random.choice((0, 1)),
    "random.uniform": lambda x, t: x * random.uniform(0, 1),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_named_before_the_run_and_in_it(name):
    report = adopt(model := nn.Sequential(closure(DRAWS[name]), nn.Dropout(0.5)))
    assert name in names_in(report)
    before = report.rows
    run = model if "pool" not in name else model[0]
    run(X)
    assert report.rows == before
    hidden = nn.Sequential(Hidden(DRAWS[name]))
    report = adopt(hidden)
    assert report.not_reached == ()
    hidden(X)
    told = named(report)
    if name.startswith("numpy.random.default"):
        assert told == ""  # a generator of its own, which nobody sees
    elif name.startswith("numpy"):
        assert told.startswith("not reached: NumPy's global generator moved")
    elif name.startswith("random"):
        assert told.startswith("not reached: Python's random moved")
    else:
        assert names_in(report) == [name]
    assert {row.site for row in report.not_reached} <= {"0/dropout"}


@pytest.mark.parametrize("kind", ["RReLU", "FractionalMaxPool2d", "FractionalMaxPool3d"])
def test_modules_of_torch_nn_that_draw_are_named(kind):
    layer = nn.RReLU() if kind == "RReLU" else getattr(nn, kind)(2, output_size=2)

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop = layer, nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.layer(x))

    model = Body()
    report = adopt(model)
    (row,) = report.not_reached
    assert (row.site, row.kind) == ("layer", kind)
    assert row.done.startswith(f"not reached: {kind} draws")
    model(-torch.rand((2, 2, 6, 6, 6)[: 4 if kind != "FractionalMaxPool3d" else 5]))
    assert report.not_reached == (row,)


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()
        self.numbers, self.python = np.random.default_rng(0), random.Random(0)

    def forward(self, x):
        x = x.clone().bernoulli_(0.5, generator=self.generator)
        return x * float(self.numbers.random()) * self.python.random()


def test_generators_of_its_own_are_named():
    report = adopt(model := Holder())
    assert "numpy.random.Generator.random, random.Random.random draws" in named(report)
    state = torch.get_rng_state()
    model(X)
    assert "bernoulli_ draws" in named(report)
    assert torch.equal(torch.get_rng_state(), state)


def test_watching_draws_nothing_and_ends():
    """The generators' states are compared, and the model's next forwards are not looked at."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    report = adopt(model := nn.Sequential(Hidden(noisy), closure(dropped)))
    states = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    model(X)
    assert torch.equal(torch.rand(1), expected[1:])
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert random.getstate() == states[1]
    assert [row.site for row in report.not_reached] == ["0/dropout"]

    def fail(*_):
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "generators", fail)
        patch.setattr(watching, "saw", fail)
        model(X)


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + 0.0


@pytest.mark.parametrize("name", ["rand", "rrelu", "torch.distributions.Normal", "random.random"])
def test_the_innermost_module_is_named_alone(name):
    report = adopt(model := Around(Around(Hidden(DRAWS[name]))))
    model(X)
    assert [row.site for row in report.rows] == ["inner.inner/dropout"]
    assert not report.rows[0].reached


def test_a_forward_that_raises_is_watched_again():
    class Fragile(nn.Module):
        failing = True

        def forward(self, x):
            if self.failing:
                raise KeyError
            return globals()["noisy"](x)

    report = adopt(model := nn.Sequential(Fragile()))
    with pytest.raises(KeyError):
        model(X)
    model[0].failing = False
    model(X)
    assert "rand draws" in named(report)


def test_what_only_names_dropout_has_no_row():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.rand = 0.1, None

        def forward(self, x):
            if isinstance(x, nn.Dropout) or self.dropout == self.rand:
                return None
            return x

    assert adopt(Named()).rows == ()


def test_lazy_modules_are_filled_without_a_word():
    report = adopt(model := nn.Sequential(closure(dropped), nn.LazyLinear(4)))
    model(X)
    assert report.not_reached == ()


def test_a_hook_of_the_model_itself_is_named():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    model.register_forward_hook(lambda module, given, y: F.dropout(y, 0.5))
    report = adopt(model)
    assert "dropout in a forward hook of the model itself draws" in named(report)


def test_thin_and_schedules_tell_the_same():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 8)
            )
            self.last = Hidden(dropped)

        def forward(self, x):
            return self.last(self.body(x))

    report = tt.thin(model := Body())
    assert report.sites == ("body.2",)
    model(X)
    assert report.sites == ("body.2", "last/dropout")
    assert "seen when they ran" in str(report)
    with pytest.raises(ValueError, match="matches no site"):
        adopt(Body(), schedule={"last/dropout": 0.5})


def test_partial_functions_of_torch_itself():
    model = nn.Sequential(nn.Identity())
    model[0].forward = functools.partial(F.dropout, p=0.5)
    report = adopt(model)
    assert report.sites == ("0/dropout",)
    assert 0 < (model(X) != 0).float().mean() < 1


# In one line each, which later Pythons make one instruction of two for.
LINES = {
    "a_module": "t = torch; return x * (t.rand(len(x), 1) >= 0.3)",
    "two_modules": "f, t = functional, torch; return f.relu(x) * (t.rand(len(x), 1) >= 0.3)",
    "a_number": "u = torch.rand(len(x), 1); return x * (u >= 0.3)",
    "two_numbers": "u, keep = torch.rand(len(x), 1), 0.7; return x * torch.floor(u + keep)",
    "in_a_loop": "return torch.stack([x for _ in range(9) if torch.rand([]) >= 0.3] or [x])",
}


@pytest.mark.parametrize("name", LINES)
def test_gates_in_one_line_with_a_name_for_their_function(name):
    names = {"torch": torch, "functional": nn.functional}
    exec(f"def forward(self, x): {LINES[name]}", names)
    model = type("Line", (nn.Module,), {"forward": names["forward"]})()
    report = adopt(model)
    assert [(row.reached, row.done) for row in report.rows] == [(True, "calls of rand addressed")]
    first = model(torch.ones(64, 2))
    report.clock.step = 0
    assert torch.equal(model(torch.ones(64, 2)), first)


# ---------------------------------------------------------------------------- tables of functions


def quiet(x):
    return x * 2.0


def jittered(x):
    return x + torch.rand(x.shape)


def sampled(x):
    return x + torch.randn(x.shape)


LOSSES = {"plain": quiet, "spoken": jittered, "elsewhere": sampled}


class Chosen(nn.Module):
    """Takes a function from a table by a name that it holds, as transformers' losses are taken."""

    def __init__(self, kind, also=None):
        super().__init__()
        self.drop, self.kind = nn.Dropout(0.5), kind
        if also is not None:
            self.also = also

    @property
    def loss(self):
        kind = getattr(self, "kind", None)
        return LOSSES[kind] if kind in LOSSES else LOSSES["plain"]

    def forward(self, x):
        return self.loss(self.drop(x))


class NoDefault(Chosen):
    @property
    def loss(self):
        return LOSSES[self.kind]


class AlsoSpelled(Chosen):
    def forward(self, x):
        return LOSSES["spoken"](self.loss(self.drop(x)))


class Nested(nn.Module):
    """A list that holds itself is read to its end."""

    def __init__(self):
        super().__init__()
        self.drop, self.functions = nn.Dropout(0.5), [quiet]
        self.functions.append(self.functions)

    def forward(self, x):
        return self.functions[0](self.drop(x))


@pytest.mark.parametrize(
    ("model", "missed"),
    [
        (Chosen("plain"), ""),
        (Chosen("spoken"), "rand"),
        (Chosen("plain", also="elsewhere"), "randn"),
        (AlsoSpelled("plain"), "rand"),
        (Chosen("unknown"), "rand, randn"),  # nobody knows which, so that all may be called
        (Chosen(None), ""),  # unset: the default is what the code spells out, as GPT-2's loss
        (NoDefault(None), "rand, randn"),
        (Nested(), ""),
    ],
)
def test_of_a_table_what_is_asked_for_by_name_is_read(model, missed):
    told = f"not reached: {missed} draws from a generator, and may be dropout"
    assert named(adopt(model)) == (told if missed else "")


def test_an_entry_that_is_read_by_another_name_is_named_when_it_runs():
    model = Chosen("plain")
    report = adopt(model)
    assert report.not_reached == ()
    model.kind = "spoken"
    model(X)
    assert "rand draws from a generator" in named(report)
