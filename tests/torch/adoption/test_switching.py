"""no_dropout and set_p: dropout off, or at another rate, for a while, and then as it was."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import thinned.torch
from thinned import schedules
from thinned.torch import adopt, no_dropout, release, set_p
from thinned.torch.adoption import switching

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


class DropPath(nn.Module):
    """As timm and torchvision write it."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.p == 0.0 or not self.training:
            return x
        return x * x.new_empty(len(x), 1).bernoulli_(1 - self.p).div_(1 - self.p)


class Halved(nn.Module):
    """Drops half of the rows, and keeps no p."""

    def forward(self, x):
        return x * x.new_empty(len(x), 1).bernoulli_(0.5).div_(0.5) if self.training else x


class Model(nn.Module):
    """Every kind of dropout that is reached, and batch norm."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.drop, self.ours = nn.Dropout(0.5), thinned.torch.DropBlock(0.2, block_size=2)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)
        self.memory = nn.LSTM(4, 4, 2, dropout=0.5, batch_first=True)
        self.path = DropPath(0.3)

    def forward(self, x):
        x = functional.dropout(self.norm(self.drop(self.first(x))), 0.4, self.training)
        x = self.path(x)
        images = self.ours(x.reshape(-1, 1, 2, 2)).reshape(x.shape)
        x = x + images
        p = 0.2 if self.training else 0.0
        x = functional.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=p)
        x, _ = self.attention(x, x, x)
        return self.memory(x)[0][0]


def made(adopted, **how):
    torch.manual_seed(3)
    model = Model()
    return (model, adopt(model, seed=1, **how)) if adopted else (model, None)


both = pytest.mark.parametrize("adopted", [False, True], ids=["plain", "adopted"])


def quiet_output(model):
    """What the model computes in evaluation, but for batch norm, which trains."""
    twin = copy.deepcopy(model).eval()
    twin.norm.train()
    return twin(X)


@both
def test_nothing_drops_and_batch_norm_goes_on(adopted):
    model, _ = made(adopted)
    expected, before = quiet_output(model), model.norm.running_mean.clone()
    with no_dropout(model):
        y = model(X)
        assert torch.equal(y, model(X))
    torch.testing.assert_close(y, expected)
    assert not torch.equal(model.norm.running_mean, before)
    assert all(part.training for part in model.modules())
    assert not torch.equal(model(X), model(X))


def test_the_masks_that_follow_are_those_that_would_have_been():
    outputs = []
    for interrupted in (False, True):
        model, report = made(True)
        if interrupted:
            with no_dropout(model):
                model(X)
        outputs.append(model(X).detach())
        report.clock.tick()
        outputs.append(model(X).detach())
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])


@both
def test_the_mode_may_change_within(adopted):
    model, _ = made(adopted)
    with no_dropout(model):
        model.train()
        assert torch.equal(model(X), model(X))
        model.eval()
    assert not any(part.training for part in model.modules())
    with no_dropout(model):
        model.train()
        assert torch.equal(model(X), model(X))
    assert all(part.training for part in model.modules())


@both
@pytest.mark.parametrize("off", [no_dropout, functools.partial(set_p, pattern="*", p=0.25)])
def test_all_is_as_it_was_after_an_exception(adopted, off):
    model, _ = made(adopted)
    state = {name: dict(part.__dict__) for name, part in model.named_modules()}

    def fails():
        with off(model):
            model(X)
            model(None)

    with pytest.raises((TypeError, AttributeError), match="NoneType"):
        fails()
    for name, part in model.named_modules():
        assert part.__dict__.keys() == state[name].keys(), name
        assert part.training == state[name]["training"]
    assert model.drop.p == 0.5
    assert model.attention.dropout == 0.3
    assert model.memory.dropout == 0.5
    assert model.ours.p == 0.2
    if adopted:
        release(model)
        assert type(model.drop) is nn.Dropout


@both
def test_one_within_the_other(adopted):
    model, _ = made(adopted)
    with set_p(model, "drop", 0.9), no_dropout(model):
        assert torch.equal(model(X), model(X))
        assert model.drop.p == 0.9
    with no_dropout(model), set_p(model, "*", 0.9):
        assert torch.equal(model(X), model(X))
    assert model.drop.p == 0.5


@both
def test_another_p_everywhere(adopted):
    model = nn.Sequential(nn.Dropout(0.5), Calls())
    if adopted:
        adopt(model)
    ones = torch.ones(40, 250)
    with set_p(model, "*", 0.1):
        kept = (model(ones) != 0).double().mean()
    assert abs(float(kept) - 0.9**2) < 0.02
    kept = (model(ones) != 0).double().mean()
    assert abs(float(kept) - 0.5**2) < 0.02


class Calls(nn.Module):
    def forward(self, x):
        return functional.dropout(x, training=self.training)


@both
def test_a_pattern_names_sites_as_the_table_does(adopted):
    model, report = made(adopted)
    with set_p(model, "memory/*", 0.0), set_p(model, "/dropout", 0.0):
        assert model.memory.dropout == 0.0
        assert model.attention.dropout == 0.3
    if adopted:
        with pytest.raises(ValueError, match="matches no site") as told, set_p(model, "x", 0.1):
            pass
        assert all(repr(site) in str(told.value) for site in report.sites)


@both
def test_what_is_in_evaluation_drops_nothing_at_another_p(adopted):
    model, _ = made(adopted)
    model.eval()
    y = model(X)
    with set_p(model, "*", 0.9):
        assert torch.equal(model(X), y)


def test_attention_is_told_by_p_alone():
    class Attends(nn.Module):
        def forward(self, x):
            p = 0.0 if not self.training else 0.5
            return functional.scaled_dot_product_attention(x, x, x, dropout_p=p)

    model = Attends()
    with set_p(model, "*", 0.0):
        assert torch.equal(model(X[None]), model(X[None]))
    with set_p(model, "*", 1.0):
        assert torch.equal(model(X[None]), torch.zeros(1, 6, 4))
        y = model.eval()(X[None])
    assert torch.equal(y, model(X[None]))


def test_a_schedule_goes_on_afterwards():
    model = nn.Sequential(nn.Dropout(0.4), thinned.torch.DropPath(0.4))
    rule = schedules.linear(0.1, 0.5, until=4)
    clock = adopt(model, schedule={"*": rule}, steps=10).clock
    clock.tick()
    assert [part.p for part in model] == pytest.approx([0.2, 0.2])
    with set_p(model, "*", 0.9):
        clock.tick()
        assert [part.p for part in model] == [0.9, 0.9]
    assert [part.p for part in model] == pytest.approx([0.3, 0.3])
    clock.tick()
    assert [part.p for part in model] == pytest.approx([0.4, 0.4])
    release(model)
    assert [part.p for part in model] == [0.4, 0.4]


def test_a_function_that_is_told_to_drop_is_told_not_to():
    """Monte Carlo dropout by hand: training=True whatever the mode."""

    class Always(nn.Module):
        def forward(self, x):
            return functional.dropout(torch.dropout(x, 0.5, True), p=0.5, training=True)

    model = Always().eval()
    with no_dropout(model):
        assert torch.equal(model(X), X)
    with set_p(model, "*", 1.0):
        assert not model(X).any()


@both
def test_compiled(adopted):
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), Calls())
    if adopted:
        adopt(model)
    compiled = torch.compile(model, backend="aot_eager")
    compiled(X)
    with no_dropout(compiled):
        torch.testing.assert_close(compiled(X), model[0](X))
    with set_p(compiled, "*", 1.0):
        assert not compiled(X).any()
    assert not torch.equal(compiled(X), compiled(X))


@pytest.mark.parametrize(
    ("pattern", "p", "error", "words"),
    [
        ("*", 1.5, ValueError, "p must be a float"),
        ("*", float("nan"), ValueError, "p must be"),
        (3, 0.5, TypeError, "pattern must be a string"),
        ("x", 0.5, ValueError, "matches no site"),
        ("0", 0.5, ValueError, "learned"),
        ("1/dropout", 0.5, ValueError, "bernoulli_"),
        ("2", 1.0, ValueError, "p"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(pattern, p, error, words):
    model = nn.Sequential(
        thinned.torch.ConcreteDropout(features=4), Halved(), thinned.torch.GaussianDropout(0.5)
    )
    before = [dict(part.__dict__) for part in model]
    with pytest.raises(error, match=words), set_p(model, pattern, p):
        pass
    assert [dict(part.__dict__) for part in model] == before


@pytest.mark.parametrize("off", [no_dropout, functools.partial(set_p, pattern="*", p=0.25)])
def test_no_module_is_refused(off):
    with (
        pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"),
        off("model"),
    ):
        pass


def test_a_forward_that_is_wrapped_within_is_told():
    model, _ = made(False)

    def wraps_within():
        with no_dropout(model):
            inner = model.forward
            model.forward = functools.wraps(inner)(lambda *args: inner(*args))

    with pytest.raises(RuntimeError, match="was wrapped within the block"):
        wraps_within()
    assert all(part.training for part in model.modules())


# --------------------------------------------------------------------------------- planted faults


def functions_are_not_met(patch):
    patch.setattr(switching, "PLACES", {})


def the_mode_is_not_asked_again(patch):
    patch.setattr(switching._Asleep, "covered", switching._Asleep.run)


def covers_lie_on_top(patch):
    patch.setattr(switching, "covers_of", lambda module: [])


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (functions_are_not_met, lambda: test_nothing_drops_and_batch_norm_goes_on(False)),
        (the_mode_is_not_asked_again, lambda: test_the_mode_may_change_within(False)),
        (covers_lie_on_top, test_the_masks_that_follow_are_those_that_would_have_been),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_caught(fault, check, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check()


class SkipsLayers(nn.Module):
    """The model itself draws by hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        skipped = torch.rand([]) < 0.5
        return x if self.training and skipped else self.layer(x)


@pytest.mark.parametrize("mode", [None, False, True])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_draws_by_hand_itself_has_its_mode_back(training, mode):
    model = SkipsLayers().train(training)
    adopt(model)
    with no_dropout(model):
        assert torch.equal(model(torch.ones(2, 4)), model.layer(torch.ones(2, 4)))
        if mode is not None:
            model.train(mode)
    assert {m.training for m in model.modules()} == {training if mode is None else mode}


class Mixed(SkipsLayers):
    def forward(self, x):
        return functional.dropout(super().forward(x), 0.5, self.training)


def test_a_named_site_that_draws_by_hand_as_well_is_refused():
    model = Mixed()
    adopt(model)
    with pytest.raises(ValueError, match="site '/dropout' draws a mask by rand, whose p"):
        set_p(model, "/dropout", 0.1)
    left = pytest.warns(UserWarning, match="masks are made by hand at '/dropout'")
    with left, set_p(model, "*", 0.0):  # all that has a p of its own
        y = model(torch.ones(2, 4))
    assert torch.equal(y, torch.ones(2, 4)) or torch.equal(y, model.layer(torch.ones(2, 4)))
