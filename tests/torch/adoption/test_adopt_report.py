"""The table that adopt gives: what it calls addressed is drawn by address; all else is named."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
import thinned.torch
from thinned.torch import adopt

X = torch.ones(16, 8)
AT = thinned.Address(site="own")
HIDDEN = "dropout"


class Gate(nn.Module):
    def forward(self, x):
        return x * torch.empty_like(x).bernoulli_(torch.full_like(x, 0.75))


class Operator(nn.Module):
    def forward(self, x):
        return torch.ops.aten.dropout(x, 0.25, True)


class Overload(nn.Module):
    def forward(self, x):
        return torch.ops.aten.dropout.default(x, 0.25, True)


class Features(nn.Module):
    def forward(self, x):
        return torch.feature_dropout(x, 0.25, True)


class Subclass(nn.Dropout):
    def forward(self, x):
        return super().forward(x) * 1.0


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.drops = [nn.Dropout(0.25)]

    def forward(self, x):
        return self.drops[0](x)


class LookedUp(nn.Module):
    def forward(self, x):
        return getattr(F, "dropout")(x, 0.25)  # noqa: B009 - what is tried


TABLE = {"loss": torch.square, "noise": lambda x: x + torch.randn_like(x)}


class ByName(nn.Module):
    """A table of functions, of which a setting that lies elsewhere chooses one."""

    def __init__(self, which):
        super().__init__()
        self.settings = SimpleNamespace(which=which)

    def forward(self, x):
        return TABLE[self.settings.which](F.dropout(x, 0.25, self.training))


@pytest.mark.parametrize("which", TABLE)
def test_what_a_table_holds_and_the_model_does_not_call(which):
    model = nn.Sequential(ByName(which))
    report = adopt(model)
    said = "not reached: randn_like draws from a generator, and may be dropout"
    assert [row.done for row in report.not_reached] == [said]
    model.eval()(X)
    assert [row.done for row in report.not_reached] == [said]
    model.train()(X)
    not_called = ": not called in the first training forward" if which == "loss" else ""
    assert [row.done for row in report.not_reached] == [said + not_called]


class Helped(nn.Module):
    def forward(self, x):
        return self.helper(x)

    def helper(self, x):
        return F.dropout(x, 0.25, self.training)


class MadeInside(nn.Module):
    def forward(self, x):
        return nn.Dropout(0.25)(x)


class Uniform(nn.Module):
    def forward(self, x):
        return x * (torch.empty_like(x).uniform_() > 0.25)

    def reset_parameters(self):
        self.weight.normal_()


class Chance(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.75))


def traced():
    return torch.fx.symbolic_trace(Helped())


REACHED = {  # module, and the name in its row
    Gate: "bernoulli_",
    Chance: "bernoulli",
    Uniform: "uniform_",
    Operator: "dropout",
    Overload: "dropout",
    Features: "feature_dropout",
    Subclass: "dropout",
    Listed: "Dropout in a plain list",
    LookedUp: "dropout",
    Helped: "dropout",
    MadeInside: "Dropout",
    traced: "dropout",
}


def replayed(model, clock, run):
    """Twice the same call of the same step."""
    first = run(X)
    clock.tick()
    clock.buffer[2] = 0
    return first, run(X)


@pytest.mark.parametrize("kind", REACHED)
def test_what_has_a_row_is_addressed(kind):
    model = nn.Sequential(kind(), nn.Dropout(0.0))
    report = adopt(model, seed=2)
    (row,) = (row for row in report.rows if row.site == "0/dropout")
    assert row.done == f"calls of {REACHED[kind]} addressed"
    first, second = replayed(model, report.clock, model)
    assert torch.equal(first, second)
    assert 0 < (first != 0).float().mean() < 1
    assert report.clock.drawing() == ["0/dropout", "1"]


class Hidden(nn.Module):
    def forward(self, x):
        return getattr(F, HIDDEN)(x, 0.25)


def test_what_only_a_run_shows_has_a_row_then():
    report = adopt(nn.Sequential(model := Hidden(), nn.Dropout(0.5)))
    assert report.sites == ("1",)
    first, second = replayed(model, report.clock, model)
    assert torch.equal(first, second)
    assert report.sites == ("1", "0/dropout")
    assert "calls addressed, seen when they ran" in str(report)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gate_with_probabilities_of_its_own(compiled):
    """Each element has its own, and a piece of the batch draws its part."""
    torch._dynamo.reset()
    p = torch.linspace(0, 1, 4000).repeat(16, 1)
    gate = nn.Sequential(model := Chances())
    clock = adopt(gate).clock
    run = torch.compile(gate, fullgraph=True, backend="aot_eager") if compiled else gate
    whole = run(p)
    assert whole.unique().tolist() == [0.0, 1.0]
    assert whole[:, 0].sum() == 0
    assert whole[:, -1].sum() == 16
    parts = whole.view(16, 8, -1).mean((0, 2))
    assert (parts - torch.linspace(1 / 16, 15 / 16, 8)).abs().max() < 0.03
    for start in (0, 8):
        with clock.piece(start):
            assert torch.equal(run(p[start : start + 8]), whole[start : start + 8])
    assert torch.equal(model(torch.full((9,), 1.0)), torch.ones(9))


class Chances(nn.Module):
    def forward(self, p):
        return torch.empty_like(p).bernoulli_(p)


# -------------------------------------------------------------------------------------- not reached


class Normal(nn.Module):
    def forward(self, x):
        return x + torch.empty_like(x).normal_()


class NormalLike(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Integers(nn.Module):
    def forward(self, x):
        return x * torch.randint(0, 2, x.shape)


class Distribution(nn.Module):
    def forward(self, x):
        return x * torch.distributions.Bernoulli(0.5).sample(x.shape)


class OurAttention(nn.Module):
    def forward(self, x):
        return thinned.torch.scaled_dot_product_attention(x, x, x, p=0.25, training=True)


class OursListed(nn.Module):
    def __init__(self):
        super().__init__()
        self.drops = [thinned.torch.Dropout(0.25)]

    def forward(self, x):
        return self.drops[0](x)


MISSED = {
    Normal: "normal_",
    NormalLike: "randn_like",
    Integers: "randint",
    Distribution: "torch.distributions.Bernoulli",
    OurAttention: "thinned.torch.scaled_dot_product_attention (unless given at=)",
    OursListed: "thinned.torch.Dropout in a plain list, not an nn.ModuleList,",
}


@pytest.mark.parametrize("kind", MISSED)
def test_what_is_not_addressed_is_named(kind):
    model = nn.Sequential(kind(), nn.Dropout(0.0))
    report = adopt(model)
    (row,) = report.not_reached
    said = f"not reached: {MISSED[kind]} draws from a generator, and may be dropout"
    assert (row.site, row.done) == ("0/dropout", said)
    first, second = replayed(model, report.clock, model)
    assert not torch.equal(first, second)
    assert report.sites == ("1",)


class OwnAddress(nn.Module):
    def forward(self, x):
        return thinned.dropout(x, 0.5, AT)


def test_a_call_with_an_address_of_its_own_needs_no_row():
    assert len(adopt(nn.Sequential(OwnAddress(), nn.Dropout(0.5))).rows) == 1


def test_a_module_of_torchscript():
    script = torch.jit.trace(nn.Sequential(nn.Linear(8, 8)), X)
    model = nn.Sequential(script, nn.Dropout(0.5))
    report = adopt(model)
    (row,) = report.not_reached
    assert row.site == "0"
    assert row.done.startswith("not reached: TorchScript")
    assert model(X).shape == X.shape
    with pytest.raises(ValueError, match=r"no dropout to adopt.*not reached: TorchScript"):
        adopt(script)


def test_a_feature_is_a_channel_in_any_rank():
    model = Features()
    adopt(model)
    y = model(torch.ones(32, 6, 5))
    keep = thinned.keep_mask((32, 6, 5), 0.25, thinned.Address(site="/dropout"), shared_axes=(2,))
    assert torch.equal(y != 0, torch.from_numpy(keep))
    with pytest.raises(RuntimeError, match="feature_dropout: input must have rows and channels"):
        model(torch.ones(3))


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_row_for_what_is_not_addressed(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.functional_calls._KINDS", {})
    with pytest.raises(AssertionError):
        test_what_has_a_row_is_addressed(Operator)
