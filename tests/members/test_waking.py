"""A module's own flag is set for its own forward where it steers nothing but dropout."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
from thinned.members import predict, waking
from thinned.torch import adopt

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Attention as libraries write it, between modules that have flags of their own."""

    def __init__(self, p=0.3, more=lambda self, y, cache: y):
        super().__init__()
        torch.manual_seed(0)
        self.project, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(5)
        self.p, self.more, self.seen = p, more, []
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x, cache=None):
        h = self.norm(self.project(x))[:, None]
        p = 0.0 if not self.training else self.p
        y = F.scaled_dot_product_attention(h, h, h, dropout_p=p)
        return self.more(self, y[:, 0], cache)


class Around(nn.Module):
    """What calls attention: with a cache that it writes into, and once more."""

    def __init__(self, attention, cache=list):
        super().__init__()
        self.attention, self.cache = attention, cache

    def forward(self, x):
        cache = self.cache()
        return self.attention(x, cache) + self.attention(x, cache=cache)


def outputs(model, x=X, **how):
    return predict(model, x, members=4, keep=True, **how).outputs


def by_hand(model, x, k):
    """Member k of Attention by itself."""
    with torch.no_grad():
        h = model.eval().norm(model.project(x))
        weights = torch.softmax(h @ h.mT / 8**0.5, -1)[:, None]
        at = thinned.Address(seed=0, site="/dropout").fold_in(k)
        kept = thinned.keep_mask(tuple(weights.shape), model.p, at, shared_axes=(0,))
        return ((weights * torch.from_numpy(kept) / (1 - model.p))[:, 0] @ h).numpy()


def check_by_hand():
    model = Attention()
    model(X)  # statistics that are not those of the batch
    got = outputs(model)
    for k in range(4):
        np.testing.assert_allclose(got[k], by_hand(model, X, k), atol=1e-6)


def test_attention_is_woken_and_its_children_are_not():
    check_by_hand()


@pytest.mark.parametrize("adopted", [False, True])
def test_the_model_is_as_it_was(adopted):
    model = Around(Attention())
    if adopted:
        adopt(model)
    model.attention.norm.eval()
    flags = [part.training for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    held = [sorted(part.__dict__) for part in model.modules()]
    state = torch.get_rng_state()
    assert predict(model, X, members=4).not_reached == ()
    assert [part.training for part in model.modules()] == flags
    assert [sorted(part.__dict__) for part in model.modules()] == held
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_batches_and_shares():
    for share in ("member", "row"):
        whole = outputs(Around(Attention()), share=share)
        assert np.ptp(whole, axis=0).max() > 0
        for size in (1, 4):
            got = outputs(Around(Attention()), share=share, batch_size=size)
            np.testing.assert_allclose(got, whole, atol=1e-6)


# ------------------------------------------------------------- flags that steer more than dropout


def only_training(act):
    """Does something in training, and gives what it was given."""

    def more(self, y, cache):
        if self.training:
            act(self, y, cache)
        return y

    return more


def counted(self, y, cache):
    self.count += 1


def rescaled(self, y, cache):
    self.project.weight.mul_(0.5)


def raised(self, y, cache):
    raise RuntimeError("not with a cache")


def shifted(self, y, cache):
    return y + self.training


def noisy(self, y, cache):
    return y + torch.rand_like(y) * 0 if self.training else y


def remembered(self, y, cache):
    self.last = 1


MORE = {
    "results": (shifted, "its results differ"),
    "layerdrop": (only_training(lambda self, y, cache: torch.rand([])), "PyTorch's generator"),
    "noise of nothing": (noisy, "PyTorch's generator"),
    "NumPy": (only_training(lambda *_: np.random.rand()), "NumPy's global"),  # noqa: NPY002
    "Python": (only_training(lambda *_: random.random()), "Python's random"),
    "own": (
        only_training(lambda self, y, _: y.clone().normal_(generator=torch.Generator())),
        "its own generator",
    ),
    "buffer": (only_training(counted), "a parameter or a buffer"),
    "parameter": (only_training(rescaled), "a parameter or a buffer"),
    "attribute": (only_training(remembered), "its attributes differ"),
    "list": (only_training(lambda self, *_: self.seen.append(1)), "its attributes differ"),
    "argument": (only_training(lambda self, y, cache: cache.append(1)), "its arguments differ"),
    "raises": (only_training(raised), "the code raises RuntimeError: not with a cache"),
}


def check_left(name):
    more, why = MORE[name]
    model = Around(Attention(more=more))
    model.drop = nn.Dropout(0.2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.register_forward_pre_hook(lambda module, args: (module.drop(args[0]),))
    begins = "attention/dropout: drew nothing: scaled_dot_product_attention was"
    not_reached = predict(model, X, members=4).not_reached
    (told,) = [one for one in not_reached if one.startswith(begins)]
    assert "Its training flag was left alone: " in told
    assert why in told
    assert model.attention.seen == []
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", MORE)
def test_a_flag_that_steers_more_is_left_alone(name):
    check_left(name)


def test_a_comparison_that_fails_leaves_the_flag_alone_and_is_said(monkeypatch):
    def fails(*_):
        raise KeyError("row 3")

    monkeypatch.setattr("thinned.members.mc_mode.compare", fails)
    with pytest.raises(ValueError, match="the comparison failed with a KeyError: 'row 3'"):
        predict(Around(Attention()), X, members=4)


def test_arguments_that_cannot_be_copied_leave_the_flag_alone():
    model = Around(Attention(), cache=lambda: [threading.Lock()])
    with pytest.raises(ValueError, match="its arguments cannot be copied"):
        predict(model, X, members=4)


def stored(self, y, cache):
    self.last = y.mean()
    self.seen = [*self.seen, float(y.mean())]
    self.count = self.count + 1
    cache.append((y, {"of": self}))
    return y


def test_what_both_modes_do_is_nothing_that_the_flag_steers():
    model = Around(Attention(more=stored))
    assert predict(model, X, members=4).not_reached == ()
    np.testing.assert_array_equal(outputs(model), outputs(Around(Attention())))


def test_a_flag_that_hides_nothing_is_not_even_compared(monkeypatch):
    def stop(*_):
        raise AssertionError

    monkeypatch.setattr("thinned.members.mc_mode.compare", stop)
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    assert predict(model, X, members=4).not_reached == ()


# ------------------------------------------------------------------------------ gates and windows


class Gate(nn.Module):
    """Stochastic depth by bernoulli_, as timm and torchvision write it."""

    def __init__(self, scaled=True):
        super().__init__()
        self.drop_prob, self.scaled = 0.5, scaled

    def forward(self, x):
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        gate = x.new_empty((len(x), *(1,) * (x.dim() - 1))).bernoulli_(keep)
        return x * (gate.div_(keep) if self.scaled else gate)


@pytest.mark.parametrize("scaled", [True, False])
def test_gates_by_bernoulli_are_woken(scaled):
    got = outputs(Gate(scaled), share="row")
    for k in range(4):
        at = thinned.Address(seed=0, site="/dropout").fold_in(k)
        kept = thinned.keep_mask((6, 1, 1), 0.5, at)
        np.testing.assert_allclose(got[k], X.numpy() * kept * (2 if scaled else 1))


class Scaled(Gate):
    """Stochastic depth as old timm, transformers and many copies of them write it: what is let
    through is divided by the rate's rest, also where the gate is open."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return self.gate(x, (len(x), *(1,) * (x.dim() - 1)), keep)


SCALED = {
    "floor": lambda x, shape, keep: x / keep * torch.floor(keep + torch.rand(shape)),
    "compared": lambda x, shape, keep: x / keep * (torch.rand(shape) < keep),
    "filled": lambda x, shape, keep: (
        x.div(keep) * (torch.zeros(shape).float().uniform_(0, 1) < keep).float()
    ),
}


@pytest.mark.parametrize("gate", SCALED)
def test_what_is_scaled_where_the_gate_is_open_is_woken(gate):
    model = nn.Sequential(Scaled(SCALED[gate]), nn.Dropout(0.0))
    got = predict(model, X, members=16, keep=True, share="row")
    assert got.not_reached == ()
    shares = np.unique(np.asarray(got.outputs) / X.numpy())
    np.testing.assert_allclose(shares, [0.0, 2.0])
    assert model[0].drop_prob == 0.5


class Shifted(Scaled):
    """Does more in training than to drop."""

    def forward(self, x):
        return super().forward(x) + self.training


def test_a_scaled_gate_that_does_more_sleeps_on():
    model = nn.Sequential(Shifted(SCALED["floor"]), nn.Dropout(0.5))
    (told,) = predict(model, X, members=4).not_reached
    assert "with it, and with p = 0, its results differ" in told


class Windows(nn.Module):
    """Attention in windows, which lie with the rows on the leading axis."""

    def __init__(self, mask=None, fused=True):
        super().__init__()
        self.p, self.mask, self.fused = 0.4, mask, fused

    def forward(self, x):
        h = x.reshape(len(x) * 4, 1, 5, 2)
        p = self.p if self.training else 0.0
        mask = self.mask
        if mask is not None and len(mask) == 4:
            mask = mask.repeat(len(x), 1, 1, 1)
        if self.fused:
            y = F.scaled_dot_product_attention(h, h, h, mask, p)
        else:
            scores = h @ h.mT / 2**0.5
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            y = F.dropout(weights, p, self.training) @ h
        return y.reshape(len(x), 4, 5, 2)


def check_windows(mask):
    expected = outputs(Windows(mask, fused=False))
    assert np.ptp(expected, axis=0).max() > 0
    for size in (None, 1, 4):
        got = outputs(Windows(mask), batch_size=size)
        np.testing.assert_allclose(got, expected, atol=1e-6)
    alike = X[:1].expand_as(X)
    one = outputs(Windows(mask), alike)
    np.testing.assert_allclose(one, np.broadcast_to(one[:, :1], one.shape), atol=1e-6)


@pytest.mark.parametrize("shape", [None, (5, 5), (1, 1, 5, 5), (4, 1, 5, 5)])
def test_rows_share_the_draws_of_their_windows(shape):
    generator = torch.Generator().manual_seed(1)
    check_windows(None if shape is None else torch.randn(shape, generator=generator))


class Turned(nn.Module):
    """Code that turns its arrays, so that rows lie behind the tokens, or several of them there."""

    def __init__(self, several=False):
        super().__init__()
        self.drop, self.several = nn.Dropout(0.4), several

    def forward(self, x):
        h = x.transpose(0, 1)
        if self.several:
            h = h.reshape(5, len(x) * 2, 4)
        h = F.dropout(self.drop(h), 0.3, self.training)
        return h.reshape(5, len(x), 8).transpose(0, 1)


def check_turned(several, share):
    whole = outputs(Turned(several), share=share)
    assert np.ptp(whole, axis=0).max() > 0
    for size in (1, 4):
        np.testing.assert_array_equal(outputs(Turned(several), share=share, batch_size=size), whole)
    if share == "member":
        kept = whole != 0
        np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1], kept.shape))


@pytest.mark.parametrize("share", ["member", "row"])
@pytest.mark.parametrize("several", [False, True])
def test_rows_are_found_behind_the_tokens(several, share):
    check_turned(several, share)


def test_rows_that_are_sought_in_front_alone_are_caught(monkeypatch):
    monkeypatch.setattr(thinned.torch.clock.members.Awake, "_axis", lambda self, site, axis: axis)
    for share in ("member", "row"):
        with pytest.raises((AssertionError, RuntimeError)):
            check_turned(False, share)


class Packed(nn.Module):
    """Rows packed with something that is none of theirs: what is a row's cannot be told."""

    def __init__(self):
        super().__init__()
        self.p, self.drop = 0.4, nn.Dropout(0.2)

    def forward(self, x):
        h = torch.cat([x, x[:1]])[:, None]
        y = F.scaled_dot_product_attention(h, h, h, dropout_p=self.p if self.training else 0.0)
        return self.drop(y[: len(x), 0])


def test_draws_whose_rows_cannot_be_told_sleep_on():
    (told,) = predict(Packed(), X, members=4).not_reached
    assert "which of its draws are a row's could not be told" in told


# --------------------------------------------------------------------------------- planted faults


def test_children_that_are_woken_too_are_caught(monkeypatch):
    def all_of_it(self, args, kwargs):
        self.module.train()
        return self.run(args, kwargs)

    monkeypatch.setattr(waking._Woken, "covered", all_of_it)
    with pytest.raises((AssertionError, RuntimeError)):
        check_by_hand()


def test_a_comparison_that_sees_no_difference_is_caught(monkeypatch):
    monkeypatch.setattr(waking, "_alike", lambda *_: True)
    for name in ("results", "attribute", "argument", "list"):
        with pytest.raises((AssertionError, ValueError)):
            check_left(name)


def test_a_comparison_that_sees_no_writing_is_caught(monkeypatch):
    monkeypatch.setattr(waking, "_place", lambda _: 0)
    for name in ("parameter", "buffer"):
        with pytest.raises((AssertionError, ValueError)):
            check_left(name)


def test_a_comparison_that_puts_nothing_back_is_caught(monkeypatch):
    monkeypatch.setattr(waking, "_put_back", lambda _: None)
    with pytest.raises((AssertionError, ValueError)):
        test_what_both_modes_do_is_nothing_that_the_flag_steers()


def test_windows_whose_rows_draw_apart_are_caught(monkeypatch):
    place = thinned.torch.clock.members.Awake._placed

    def by_entry(self, site, shape):
        return place(self, site, (shape[0] * shape[1], *shape[2:]), 0, 1, None)[0], None

    monkeypatch.setattr(thinned.torch.clock.members.Awake, "place_by_rows", by_entry)
    with pytest.raises((AssertionError, RuntimeError)):
        check_windows(None)
