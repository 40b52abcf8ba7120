"""The audit on means: masks with a wrong scale, and p = 1.

Beside each mistake stand laws that look like it and are none: those must be left alone.
"""

import importlib

import numpy as np
import pytest
import torch
from planted import ByHand, adopted, batch, body, kinds, ran
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned.torch as tt
from thinned.torch.adoption import functional_calls
from thinned.torch.auditing import cost


def bernoulli(x, keep):
    return torch.bernoulli(torch.full_like(x, keep))


def rows(x, keep):
    return x.new_empty((len(x), *(1,) * (x.dim() - 1))).bernoulli_(keep)


def numpy_mask(x, keep):
    drawn = np.random.rand(*x.shape) < keep  # noqa: NPY002 - as users write it
    return torch.from_numpy(drawn).to(x.dtype)


def half(x, p):
    return x * bernoulli(x, 1 - p)


# What training does, and what evaluation does where that is not the identity.
WRONG = {
    "divided by p": (lambda x, p: half(x, p) / p,),
    "the mask divided by p": (lambda x, p: x * (bernoulli(x, 1 - p) / p),),
    "not scaled": (half,),
    "multiplied by what is kept": (lambda x, p: half(x, p) * (1 - p),),
    "scaled twice": (lambda x, p: half(x, p) / (1 - p) / (1 - p),),
    "scaled before and after": (lambda x, p: x / (1 - p) * bernoulli(x, 1 - p) / (1 - p),),
    "evaluation too": (lambda x, p: half(x, p) / (1 - p), lambda x, p: x * (1 - p)),
    "evaluation too, divided": (lambda x, p: half(x, p) / (1 - p), lambda x, p: x / (1 - p)),
    "evaluation by p": (half, lambda x, p: x * p),
    "by uniforms": (lambda x, p: x * (torch.rand_like(x) > p),),
    "by uniforms, the other way": (lambda x, p: x * (p < torch.rand_like(x)).float() / p,),
    "filled": (lambda x, p: x.masked_fill(torch.rand_like(x) < p, 0.0),),
    "chosen": (lambda x, p: torch.where(torch.rand_like(x) < p, 0.0, x / p),),
    "chosen, the other way": (
        lambda x, p: torch.where(torch.rand_like(x) > p, x, torch.zeros_like(x)),
    ),
    "inverted": (lambda x, p: x * ~(torch.rand_like(x) < p),),
    "one minus": (lambda x, p: x * (1 - bernoulli(x, p)),),
    "floored": (lambda x, p: x * (1 - p + torch.rand_like(x)).floor() * (1 - p),),
    "in place": (lambda x, p: x.clone().mul_(bernoulli(x, 1 - p)).div_(p),),
    "bernoulli_": (lambda x, p: x * torch.empty_like(x).bernoulli_(1 - p).div_(p),),
    "a distribution": (lambda x, p: x * torch.distributions.Bernoulli(1 - p).sample(x.shape),),
    "by rows": (lambda x, p: x * rows(x, 1 - p),),
    "by rows, divided by p": (lambda x, p: x.div(p) * rows(x, 1 - p),),
    "NumPy's": (lambda x, p: x * numpy_mask(x, 1 - p),),
    "NumPy's, divided by p": (lambda x, p: x * numpy_mask(x, 1 - p) / p,),
    "after torch's own": (lambda x, p: F.dropout(x, p) / (1 - p),),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("p", [0.1, 0.3])
def test_a_wrong_scale_in_a_module_is_found(name, p):
    model = nn.Sequential(nn.Linear(8, 64), ByHand(*WRONG[name], p=p), nn.Linear(64, 4))
    found = kinds(model)
    assert found == [("1", "wrong scale")]


def test_the_factors_are_told():
    model = nn.Sequential(nn.Linear(8, 64), ByHand(WRONG["divided by p"][0]))
    (finding,) = ran(model).findings
    for told in ("by 3.333 in training", "by 1 in evaluation", "0.7 of them", "2.333 times"):
        assert told in finding.detail
    assert "test_audit_model_laws.py:" in finding.detail


RIGHT = {
    "scaled": (lambda x, p: half(x, p) / (1 - p),),
    "the mask scaled": (lambda x, p: x * (torch.rand_like(x) > p) * (1 / (1 - p)),),
    "scaled before": (lambda x, p: x.div(1 - p) * (1 - p + torch.rand_like(x)).floor_(),),
    "the paper's": (half, lambda x, p: x * (1 - p)),
    "by rows": (lambda x, p: x * rows(x, 1 - p) / (1 - p),),
    "filled": (lambda x, p: x.masked_fill(torch.rand_like(x) < p, 0.0) / (1 - p),),
    "chosen": (lambda x, p: torch.where(torch.rand_like(x) < p, 0.0, x / (1 - p)),),
    "NumPy's": (lambda x, p: x * numpy_mask(x, 1 - p) / (1 - p),),
    "times a number of its own": (
        lambda x, p: half(x, p) / (1 - p) * 0.25,
        lambda x, p: x * 0.25,
    ),
    "Gaussian": (lambda x, p: x * (1 + torch.randn_like(x) * (p / (1 - p)) ** 0.5),),
    "uniform": (lambda x, p: x * (1 + p * (2 * torch.rand_like(x) - 1)),),
    "added noise": (lambda x, p: x + p * torch.randn_like(x),),
    "counted": (lambda x, p: _counted(x, bernoulli(x, 1 - p)),),
    "torch's": (lambda x, p: F.dropout(x, p),),
    "alpha": (lambda x, p: F.alpha_dropout(x, p, True),),
    "p = 1/2 divided by p": (lambda x, p: x * bernoulli(x, 0.5) / 0.5,),
    "half precision": (
        lambda x, p: (x.bfloat16() * (torch.rand_like(x) > p) / (1 - p)).float(),
        lambda x, p: x.bfloat16().float(),
    ),
}


def _counted(x, mask):
    return x * mask * mask.numel() / mask.sum()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_scale_is_left_alone(name):
    p = 0.5 if name.startswith("p = 1/2") else 0.3
    model = nn.Sequential(nn.Linear(8, 64), ByHand(*RIGHT[name], p=p), nn.Linear(64, 4))
    assert "wrong scale" not in [kind for _, kind in kinds(model)]


class Depth(nn.Module):
    """Stochastic depth in a block's own code: the branch times a gate for each row."""

    def __init__(self, scaled):
        super().__init__()
        self.branch, self.scaled = nn.Linear(8, 8), scaled

    def forward(self, x):
        h = self.branch(x)
        if self.training:
            h = h * rows(h, 0.8)
            h = h / 0.8 if self.scaled else h
        return x + h


def masked_words(self, h):
    h = h.reshape(8, -1, 32)
    return h * (torch.rand(*h.shape[:2], 1) > 0.3) if self.training else h


def mixed(self, h):
    """Scheduled sampling, zoneout and their like: of two things, the one or the other."""
    if not self.training:
        return h
    mask = bernoulli(h, 0.7)
    return h * mask + h.tanh() * (1 - mask)


def condition(self, h):
    """A condition that is left out for whole rows, as guided diffusion does."""
    given = self.embed(h)
    given = given * (torch.rand(len(h), 1) > 0.1) if self.training else given
    return torch.sigmoid(h) + given


def learned(self, h):
    return h * torch.bernoulli(torch.sigmoid(h)) if self.training else h * torch.sigmoid(h)


def wide(self, h):
    """DropBlock: what a pooling makes of the draws."""
    if not self.training:
        return h
    seeds = (torch.rand(len(h), 1, 32) < 0.1).float()
    return h * (1 - F.max_pool1d(seeds, 3, 1, 1)).squeeze(1)


class Plain(nn.Module):
    """Rows that are dropped without a scale, and that say so."""

    drop_prob, scale_by_keep = 0.2, False

    def forward(self, x):
        return x * rows(x, 0.8) if self.training else x


class Corrupted(nn.Module):
    """A denoising autoencoder: its input is corrupted, and nothing is scaled."""

    def __init__(self):
        super().__init__()
        self.code = nn.Linear(8, 8)

    def forward(self, x):
        return self.code(x * (torch.rand_like(x) > 0.3) if self.training else x)


INLINE = {
    "depth": (lambda: Depth(scaled=False), True),
    "depth, scaled": (lambda: Depth(scaled=True), False),
    "weights": (
        lambda: body(
            lambda self, h: F.linear(
                h, self.w * bernoulli(self.w, 0.5) if self.training else self.w
            ),
            w=nn.Parameter(torch.ones(32, 32)),
        ),
        True,
    ),
    "units, in evaluation times q": (
        lambda: body(lambda self, h: h * bernoulli(h, 0.7) if self.training else h * 0.7),
        False,
    ),
    "words": (lambda: body(masked_words), False),
    "mixtures": (lambda: body(mixed), False),
    "conditions": (lambda: body(condition, embed=nn.Linear(32, 32)), False),
    "learned gates": (lambda: body(learned), False),
    "blocks": (lambda: body(wide), False),
    "plain, and saying so": (lambda: nn.Sequential(nn.Linear(8, 8), Plain()), False),
    "inputs": (Corrupted, False),
    "channels": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 2, 2)),
            nn.Conv2d(2, 16, 1),
            Channels(),
        ),
        True,
    ),
}


class Channels(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = x * self.weight
        return x * (torch.rand(*x.shape[:2], 1, 1) > 0.3) if self.training else x


@pytest.mark.parametrize("name", INLINE)
def test_masks_in_a_models_own_code(name):
    torch.manual_seed(3)
    build, wrong = INLINE[name]
    assert ("wrong scale" in [kind for _, kind in kinds(build())]) is wrong


# --------------------------------------------------------------------------------------- everything

MODES = {
    "the mode": (lambda self, h: F.dropout(h, self.training), "True", "in training"),
    "by name": (lambda self, h: F.dropout(h, p=self.training), "True", "in training"),
    "turned round": (lambda self, h: F.dropout(h, not self.training), "True", "in evaluation"),
    "as a number": (lambda self, h: F.dropout(h, float(self.training)), "1.0", "in training"),
    "an array": (
        lambda self, h: F.dropout(h, np.bool_(self.training)),
        "True",
        "in training",
    ),
    "True": (lambda self, h: F.dropout(h, True), "True", "in training and evaluation"),
    "channels": (
        lambda self, h: F.dropout1d(h.unsqueeze(-1), self.training).squeeze(-1),
        "True",
        "in training",
    ),
    "torch's function": (
        lambda self, h: torch.dropout(h, self.training, self.training),
        "True",
        "in training",
    ),
    "alpha": (
        lambda self, h: F.alpha_dropout(h, self.training, self.training),
        "True",
        "in training",
    ),
    "attention": (
        lambda self, h: F.scaled_dot_product_attention(
            h[None], h[None], h[None], dropout_p=self.training
        )[0],
        "True",
        "in training",
    ),
}


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize("name", MODES)
def test_the_mode_as_p_drops_everything_and_raises_nothing(name, adopt):
    middle, p, when = MODES[name]
    plain = body(middle)
    model = adopted(body(middle)) if adopt else plain
    report = ran(model)
    (finding,) = [f for f in report.findings if f.kind == "drops everything"]
    assert finding.site == "/dropout"
    assert finding.detail.startswith(f"p is {p}, which is 1, {when} (test_audit_model_laws.py:")
    for mode in (True, False):  # adopted, it does as torch.nn.functional does
        x = batch()
        if name != "alpha":  # of which PyTorch keeps the value of what is dropped
            assert torch.equal(model.train(mode)(x), plain.train(mode)(x))


def test_a_module_that_was_given_true():
    for module in (nn.Dropout(True), nn.AlphaDropout(True)):
        model = nn.Sequential(nn.Linear(8, 8), module)
        expected = [("1", "drops everything")]
        assert kinds(model) == expected
        assert tt.audit(model, batch()).cost.adopted is not None
        assert kinds(adopted(model)) == expected


@pytest.mark.parametrize("adopt", [False, True])
def test_a_module_with_p_of_one(adopt):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(1.0))
    (finding,) = ran(adopted(model) if adopt else model).findings
    assert (finding.site, finding.kind) == ("1", "drops everything")
    assert finding.mend.startswith("p is the probability to drop")


RUNNING = {
    "a rate that is read and divided by": lambda: body(
        lambda self, h: self.drop(h) * (1 / self.drop.p), drop=nn.Dropout(0.5)
    ),
    "p by attribute, True": lambda: body(
        lambda self, h: self.drop(h), drop=nn.MultiheadAttention(8, 2, dropout=True)
    ),
    "a copy that raises": lambda: Uncopied(),
    "a catch-all": lambda: body(
        lambda self, h: caught(self, h), drop=nn.Dropout(0.5), inner=nn.Linear(32, 32)
    ),
}


class Uncopied(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)

    def __deepcopy__(self, memo):
        raise KeyError("no copies")

    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, self.training)


def caught(self, h):
    """An exception of one kind is made one of another; modes are changed meanwhile."""
    self.drop.eval()
    try:
        h = self.inner(h)
    except Exception as error:
        raise KeyError("inner") from error
    self.drop.train(self.training)
    return self.drop(h)


@pytest.mark.parametrize("name", ["a rate that is read and divided by", "a copy that raises"])
def test_a_cost_that_cannot_be_measured_is_said(name):
    report = tt.audit(RUNNING[name](), batch())
    assert report.cost is None
    assert "The cost was not measured: " in str(report)


def test_what_a_model_makes_of_our_exception_is_not_raised():
    assert ("drop", "modes left changed") in kinds(RUNNING["a catch-all"]())


# ---------------------------------------------------------------------------------------- one table


def _called(function):
    """A call of a function that `adopt` reaches, which draws."""
    x = torch.ones(2, 6, 8)
    if function in (F.dropout2d, F.dropout3d):
        axes = (2, 6, 8, 1) if function is F.dropout2d else (2, 6, 8, 1, 1)
        return (torch.ones(axes), 0.5, True), {}
    if function is F.scaled_dot_product_attention:
        return (x, x, x), {"dropout_p": 0.5}
    if function is torch.Tensor.bernoulli_:
        return (x, 0.5), {}
    if function is F.multi_head_attention_forward:
        m = nn.MultiheadAttention(8, 2)
        weights = (m.in_proj_weight, m.in_proj_bias, None, None, False, 0.5)
        return (x, x, x, 8, 2, *weights, m.out_proj.weight, m.out_proj.bias), {}
    if function in functional_calls.recurrent.KINDS:
        kind = {torch.lstm: nn.LSTM, torch.gru: nn.GRU}.get(function, nn.RNN)
        m = kind(8, 8, 2)
        zero = torch.zeros(2, 6, 8)
        state = [zero, zero] if kind is nn.LSTM else zero
        return (x, state, m._flat_weights, True, 2, 0.5, True, False, False), {}
    return (x, 0.5, True), {}


@pytest.mark.parametrize("function", functional_calls.PLACES, ids=lambda f: f.__name__)
def test_the_cost_switches_off_whatever_adopt_reaches(function):
    args, kwargs = _called(function)
    assert functional_calls.is_awake(function, args, kwargs)
    before = torch.get_rng_state()
    function(*args, **kwargs)
    assert not torch.equal(before, torch.get_rng_state())
    before = torch.get_rng_state()
    with cost.Off(on=False):
        function(*_called(function)[0], **kwargs)
    now = torch.get_rng_state()
    built = (
        function in functional_calls.recurrent.KINDS or function is F.multi_head_attention_forward
    )
    assert torch.equal(before, now) or built  # weights of a new layer are drawn
    with cost.Off(on=True):
        function(*args, **kwargs)
    assert not torch.equal(now, torch.get_rng_state())


def test_both_know_the_same_functions():
    assert set(functional_calls.PLACES) >= set(functional_calls._KINDS) | set(
        functional_calls.recurrent.KINDS
    )
    names = {f.__name__.partition(".")[0] for f in functional_calls.PLACES}
    assert names == functional_calls.REACHED
    assert "_PLACE" not in vars(cost)


def test_a_function_that_adopt_comes_to_reach_is_switched_off(monkeypatch):
    """By construction: what stands in the table is switched off by nothing else."""
    monkeypatch.setitem(functional_calls.PLACES, F.feature_alpha_dropout, (1, "p"))
    monkeypatch.delitem(functional_calls.PLACES, F.dropout)
    x = torch.ones(4, 4)
    with cost.Off(on=False):
        assert torch.equal(F.feature_alpha_dropout(x, 0.5, True), x)
        assert not torch.equal(F.dropout(x, 0.5), x)


# ----------------------------------------------------------------------------------- names of files

SOURCE = """
import torch
from torch import nn


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = 0.3

    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand(1, x.shape[1]) > self.p) / (1 - self.p)


class Backdrop(nn.Module):
    def forward(self, x):
        return x


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.layer(x))
"""


@pytest.mark.parametrize("name", ["thin", "something", "thinking", "thinned_net", "torchy", "net"])
def test_the_name_of_a_file_decides_nothing(name, tmp_path, monkeypatch):
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, name, raising=False)
    module = importlib.import_module(name)
    try:
        model = nn.Sequential(nn.Linear(8, 32), module.Shared(), module.Backdrop())
        assert kinds(model) == [("1", "one mask for the batch")]
    finally:
        importlib.sys.modules.pop(name)


def test_thin_layers_share_their_draws_on_purpose():
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    tt.thin(model, seed=0)
    assert kinds(model) == []


def test_the_word_in_an_error_of_the_model_decides_nothing():
    class Refusing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("thinned: a checkpoint, says the model")

    model = body(lambda self, h: F.dropout(Refusing.apply(h), 0.5, self.training))
    with pytest.warns(UserWarning, match=r"^audit: the backward pass .* says the model"):
        assert kinds(model) == []  # the sum of the outputs is no loss of the model's
    with pytest.raises(RuntimeError, match=r"^thinned: a checkpoint, says the model$"):
        ran(model, loss=lambda output: output.sum())
