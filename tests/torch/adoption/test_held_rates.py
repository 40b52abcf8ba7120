"""The attribute that holds the p of a mask made by hand: told, set for a while, and scheduled."""

import copy
import functools
import pickle
from types import SimpleNamespace

import gated
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from thinned.schedules import late, linear
from thinned.torch import adopt, no_dropout, release, set_p
from thinned.torch.adoption import by_hand, site

X = torch.ones(512, 4)


class Gate(nn.Module):
    """Drops rows by the attributes that it is made with, as `forward` of a subclass says."""

    def __init__(self, **rates):
        super().__init__()
        self.__dict__.update(rates)


def rows_kept(x, keep):
    return x / keep * torch.floor(keep + torch.rand(len(x), 1))


class ByDrop(Gate):
    def forward(self, x):
        return rows_kept(x, 1 - self.drop_prob) if self.training else x


class ByKeep(Gate):
    def forward(self, x):
        return rows_kept(x, self.keep_prob) if self.training else x


class ByP(Gate):
    def forward(self, x):
        return rows_kept(x, 1.0 - self.p) if self.training else x


class BySurvival(Gate):
    """Its p is what survives, which its name does not say."""

    def forward(self, x):
        return rows_kept(x, self.p) if self.training else x


class ByTwo(Gate):
    """One of the rates was reckoned from the other."""

    def forward(self, x):
        return x if self.drop_prob == 0 or not self.training else rows_kept(x, self.keep_prob)


def decorated(forward):
    @functools.wraps(forward)
    def run(self, *args, **kwargs):
        return forward(self, *args, **kwargs)

    return run


class Stack(nn.Module):
    """LayerDrop and dropout of embeddings, as the encoders of transformers have them."""

    def __init__(self, layerdrop=0.5, p=0.1, layers=6):
        super().__init__()
        self.layerdrop, self.dropout = layerdrop, p
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))

    @decorated
    def forward(self, x):
        x = functional.dropout(x, p=self.dropout, training=self.training)
        for layer in self.layers:
            to_drop = False
            if self.training:
                chance = torch.rand([])
                if chance < self.layerdrop:
                    to_drop = True
            x = x if to_drop else x + layer(x)
        return x


class Skips(Stack):
    """The same without other dropout, and its p in a variable."""

    def forward(self, x):
        p = self.layerdrop
        for layer in self.layers:
            if not (self.training and torch.rand(1).item() < p):
                x = x + layer(x)
        return x


def dropped(model):
    return float((model(X) == 0).all(1).float().mean())


GATES = {
    "drop": (lambda: ByDrop(drop_prob=0.4), 0.4, "drop_prob"),
    "keep": (lambda: ByKeep(keep_prob=0.6), 0.4, "keep_prob"),
    "p": (lambda: ByP(p=0.4), 0.4, "p"),
    "layers": (Skips, 0.5, "layerdrop"),
}
by_gate = pytest.mark.parametrize("made", GATES)


@by_gate
def test_the_table_has_p(made):
    built, p, name = GATES[made]
    (row,) = adopt(built()).rows
    assert row.p == pytest.approx(p)
    assert row.held == name


@pytest.mark.parametrize(
    "built", [lambda: BySurvival(p=0.6), lambda: ByTwo(drop_prob=0.4, keep_prob=0.6)]
)
def test_what_is_not_known_to_be_p_is_none(built):
    model = built()
    (row,) = adopt(model).rows
    assert (row.p, row.reached) == (None, True)
    with pytest.raises(ValueError, match="does not show to be one attribute"):
        set_p(model, "/dropout", 0.1)
    with pytest.warns(UserWarning, match="made by hand at '/dropout'"), set_p(model, "*", 0.1):
        assert dropped(model) > 0.2
    release(model)
    with pytest.raises(ValueError, match="whose p no schedule can move"):
        adopt(model, schedule={"/dropout": 0.1})


@pytest.mark.parametrize("adopted", [True, False])
@by_gate
def test_another_p_for_a_while(made, adopted):
    built, _, name = GATES[made]
    model = built()
    before = getattr(model, name)
    if adopted:
        adopt(model)
    with set_p(model, "/dropout", 0.0):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    with set_p(model, "*", 0.9):
        assert getattr(model, name) == pytest.approx(0.1 if made == "keep" else 0.9)
        if made != "layers":
            assert dropped(model) > 0.8
    assert getattr(model, name) == before


@pytest.mark.parametrize("adopted", [True, False])
def test_layer_drop_among_other_dropout(adopted):
    model = Stack()
    if adopted:
        adopt(model)
    with set_p(model, "/dropout", 0.0):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    assert model.layerdrop == 0.5
    with no_dropout(model):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    off = Stack(layerdrop=0.0)
    if adopted:
        adopt(off)
    with set_p(off, "*", 0.5):
        assert off.layerdrop == 0.0  # what is off stays off
        assert not torch.equal(off(X), copy.deepcopy(off).eval()(X))


RULE = linear(0.1, 0.9, until=4)


@pytest.mark.parametrize("made", ["drop", "keep", "p"])
def test_a_schedule_moves_it(made):
    built, _, name = GATES[made]
    model = nn.Sequential(built())
    before = getattr(model[0], name)
    report = adopt(model, schedule={"*": RULE})
    assert report.rows[0].p == pytest.approx(0.1)
    assert report.rows[0].done.endswith(f"p by {RULE!r}")
    for step in range(5):
        assert dropped(model) == pytest.approx(RULE(step), abs=0.1)
        report.clock.tick()
    saved = copy.deepcopy(model.state_dict())
    report.clock.step = 1
    assert dropped(model) == pytest.approx(0.3, abs=0.1)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.load_state_dict(saved)
        assert dropped(twin) > 0.8
    assert dropped(model) == pytest.approx(0.3, abs=0.1)
    with set_p(model, "0/dropout", 0.0):
        assert dropped(model) == 0
    report.clock.tick()
    assert dropped(model) == pytest.approx(0.5, abs=0.1)
    release(model)
    assert getattr(model[0], name) == before


def test_a_schedule_moves_layer_drop_and_the_calls_beside_it():
    model = Stack()
    report = adopt(model, schedule={"*": late(0.8, after=2)})
    assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    report.clock.step = 2
    assert model.layerdrop == 0.8
    assert not torch.equal(model(X), model(X))
    release(model)
    assert model.layerdrop == 0.5
    off = Stack(layerdrop=0.0)
    clock = adopt(off, schedule={"/dropout": RULE}).clock
    clock.tick()
    assert off.layerdrop == 0.0


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recompute_after_the_step_is_refused(reentrant):
    model = nn.Sequential(ByDrop(drop_prob=0.4))
    clock = adopt(model, schedule={"*": RULE}).clock
    for late_backward in (False, True):
        x = X.clone().requires_grad_()
        y = checkpoint(lambda x: model(x).exp(), x, use_reentrant=reentrant)
        if late_backward:
            clock.tick()
            with pytest.raises(RuntimeError, match="'0/dropout' recomputes step 0, which is over"):
                y.sum().backward()
        else:
            y.sum().backward()


def test_a_new_p_is_few_programs():
    torch._dynamo.reset()
    model = nn.Sequential(ByDrop(drop_prob=0.4), gated.Path(gated.by_chances))
    clock = adopt(model, schedule={"0/dropout": RULE}).clock
    counter = CompileCounter()
    program = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(4):
        clock.step = step
        compiled = program(X)
        clock.step = step
        assert torch.equal(model(X), compiled)
    assert counter.frame_count <= 2  # the second takes p for an input
    torch._dynamo.reset()


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_name_alone_is_believed(monkeypatch):
    monkeypatch.setattr(by_hand, "_drops", lambda name: True)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_what_is_not_known_to_be_p_is_none(lambda: BySurvival(p=0.6))


def test_fault_a_schedule_that_only_tells_the_site(monkeypatch):
    monkeypatch.setattr(by_hand.Moved, "to", lambda self, p: None)
    with pytest.raises(AssertionError):
        test_a_schedule_moves_it("drop")


def test_fault_a_recompute_with_the_p_of_now(monkeypatch):
    monkeypatch.setattr(site.Site, "_require_p_of_now", lambda self, step: None)
    with pytest.raises(pytest.fail.Exception):
        test_a_recompute_after_the_step_is_refused(False)


class Configured(nn.Module):
    """The stack of an encoder whose rates stand in a configuration, as other parts have it."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x):
        for layer in self.layers:
            chance = torch.rand([])
            skip_the_layer = bool(self.training and chance < self.config.layerdrop)
            if not skip_the_layer:
                x = x + layer(x)
        return functional.dropout(x, self.config.dropout, self.training)


class TwoConfigured(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(layerdrop=0.5, dropout=0.1, name="speech")
        self.encoder, self.decoder = Configured(self.config), Configured(self.config)

    def forward(self, x):
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize("adopted", [True, False])
def test_a_rate_in_a_configuration(adopted):
    model = TwoConfigured()
    if adopted:
        report = adopt(model)
        assert {row.held for row in report.rows} == {"config.layerdrop"}
    with set_p(model, "*", 0.0):
        assert torch.equal(model(X), copy.deepcopy(model).eval()(X))
    assert not torch.equal(model(X), copy.deepcopy(model).eval()(X))
    with set_p(model, "*coder/dropout", 1.0):
        assert model.config.layerdrop == 1.0
    assert model.config.layerdrop == 0.5
    with pytest.raises(ValueError, match="in a configuration that site 'decoder/dropout' reads"):
        set_p(model, "encoder/dropout", 0.1)
    assert vars(model.config) == {"layerdrop": 0.5, "dropout": 0.1, "name": "speech"}


def test_a_schedule_leaves_a_configuration_alone():
    model = nn.Sequential(TwoConfigured(), nn.Dropout(0.5))
    report = adopt(model, schedule={"*": RULE})
    follows = [row.done.endswith("p follows no schedule") for row in report.rows]
    assert follows == [True, True, False]
    report.clock.step = 4
    assert (model[0].config.layerdrop, model[1].p) == (0.5, 0.9)
    release(model)
    with pytest.raises(ValueError, match="whose p no schedule can move"):
        adopt(model, schedule={"0.encoder/dropout": RULE})
