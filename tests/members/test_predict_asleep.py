"""What drew nothing though it has a rate is woken, or else it is named, and nothing else."""

import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from thinned.members import predict

X = torch.randn(6, 2, 5, 8, generator=torch.Generator().manual_seed(0))


class Body(nn.Module):
    """Code of its own, beside dropout that is awake. steers: whether its flag steers more."""

    def __init__(self, forward, steers=False, drop=0.2, **held):
        super().__init__()
        self.drop, self.steers, self.own = nn.Dropout(drop), int(steers), forward
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.drop(self.own(self, x)) * (1 + self.steers * self.training)


def asleep(forward, x=X, steers=True, **held):
    """What predict names of a module whose code is `forward`, and whose flag cannot be set."""
    answer = predict(Body(forward, steers, **held), x, members=4)
    assert answer.std.max() > 0
    return answer.not_reached


def sdpa(x, p):
    return F.scaled_dot_product_attention(x, x, x, dropout_p=p)


def in_a_branch(s, x):
    if s.training:
        x = F.dropout(x, s.p)
    return x


def in_a_branch_with_p(s, x):
    if s.training and s.p > 0:
        x = F.dropout(x, p=s.p, training=s.training)
    return x


def after_a_return(s, x):
    if not s.training or s.p == 0:
        return x
    return F.dropout(x, s.p)


def set_to_zero(s, x):
    p = s.p
    if not s.training:
        p = 0.0
    return sdpa(x, p)


def eager(module, x, dropout=0.0):
    return F.dropout(x, p=dropout, training=module.training)


IDIOMS = {
    "ours": lambda s, x: F.dropout(x, p=s.p if s.training else 0.0, training=s.training),
    "not training": lambda s, x: F.dropout(x, 0.0 if not s.training else s.p, s.training),
    "attention": lambda s, x: sdpa(x, s.p if s.training else 0.0),
    "attention not training": lambda s, x: sdpa(x, 0.0 if not s.training else s.p),
    "third place": lambda s, x: F.scaled_dot_product_attention(
        x, x, x, None, s.p if s.training else 0.0
    ),
    "handed on": lambda s, x: eager(s, x, dropout=0.0 if not s.training else s.p),
    "two dimensions": lambda s, x: F.dropout2d(x, s.p if s.training else 0.0, s.training),
    "alpha": lambda s, x: F.alpha_dropout(x, s.p if s.training else 0.0, s.training),
    "times": lambda s, x: F.dropout(x, s.p * s.training, s.training),
    "branch": in_a_branch,
    "branch with p": in_a_branch_with_p,
    "return": after_a_return,
    "set to zero": set_to_zero,
}


@pytest.mark.parametrize("name", IDIOMS)
def test_a_site_with_a_rate_that_drew_nothing_is_named(name):
    (told,) = asleep(IDIOMS[name], p=0.3)
    assert told.startswith("/dropout: drew nothing")
    assert "p=0.3" in told or name in ("branch with p", "return") or "not called" in told
    assert "left alone: with it, and with p = 0, its results differ" in told
    assert asleep(IDIOMS[name], p=0.0) == ()


@pytest.mark.parametrize("name", IDIOMS)
def test_a_flag_that_steers_nothing_else_is_set(name):
    model = Body(IDIOMS[name], drop=0.0, p=0.3)
    answer = predict(model, X, members=4)
    assert answer.not_reached == ()
    assert answer.std.max() > 0
    assert not any("forward" in part.__dict__ for part in model.modules())


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_rates_of_other_names_and_places(p):
    config = types.SimpleNamespace(attn_pdrop=p)
    held = {
        "attention_dropout": lambda s, x: sdpa(x, s.attention_dropout if s.training else 0.0),
        "dropout": lambda s, x: sdpa(x, 0.0 if not s.training else s.dropout),
        "attn_drop": lambda s, x: sdpa(x, s.attn_drop.p if s.training else 0.0),
        "config": lambda s, x: sdpa(x, s.config.attn_pdrop if s.training else 0.0),
        "tensor": lambda s, x: sdpa(x, float(s.drop_p) if s.training else 0.0),
    }
    values = {"attn_drop": nn.Dropout(p), "config": config, "tensor": torch.tensor(p)}
    for name, forward in held.items():
        key = "drop_p" if name == "tensor" else name
        told = asleep(forward, **{key: values.get(name, p)})
        named = [one for one in told if one.startswith("/dropout")]
        assert len(named) == (p > 0), name
        assert all("=0.1" in one for one in named)


def test_a_number_in_the_code():
    (told,) = asleep(lambda s, x: sdpa(x, 0.25 if s.training else 0.0))
    assert "the code has 0.25" in told


def same_rates(s, x):
    x = F.dropout(x, s.dropout, s.training)
    return F.dropout(x, s.attention_dropout if s.training else 0.0, s.training)


def one_branch(s, x):
    x = F.dropout(x, 0.1, s.training)
    if s.training:
        x = F.dropout(x, 0.5)
    return x


def test_a_site_that_draws_in_one_branch_only():
    (told,) = asleep(same_rates, dropout=0.1, attention_dropout=0.1)
    assert told.startswith("/dropout: a call drew nothing: dropout was given p=0")
    assert "attention_dropout=0.1" in told
    assert asleep(same_rates, dropout=0.1, attention_dropout=0.0) == ()
    (told,) = asleep(one_branch)
    assert "calls of dropout stand where self.training is true, and the code has 0.5" in told


def test_the_innermost_module_is_named_alone():
    class Attention(nn.Module):
        def forward(self, x):
            return sdpa(x, 0.3 if self.training else 0.0) * (1 + self.training)

    (told,) = asleep(lambda s, x: s.inner(x), inner=Attention())
    assert told.startswith("inner/dropout: drew nothing")


def test_modules_that_only_training_calls_and_modules_that_nobody_calls():
    (told,) = asleep(lambda s, x: s.late(x) if s.training else x, late=nn.Dropout(0.3))
    assert told.startswith("late: drew nothing: not called")
    (told,) = asleep(lambda s, x: x, late=nn.Dropout(0.3))
    assert told.startswith("late: drew nothing: not called")
    assert asleep(lambda s, x: x, late=nn.Dropout(0.0)) == ()


@pytest.mark.parametrize(
    ("forward", "held"),
    [
        (lambda s, x: F.dropout(x, s.p, s.training), {"p": 0.3}),
        (lambda s, x: F.dropout(x, 0.0, s.training), {"dropout": 0.3}),
        (lambda s, x: F.scaled_dot_product_attention(x, x, x), {"dropout": 0.3}),
        (lambda s, x: x.pow(s.p).mean(-1, keepdim=True) + 0 * x, {"p": 1.0}),
        (lambda s, x: F.dropout(F.dropout(x, s.a_p, s.training), s.b_p, s.training),
         {"a_p": 0.2, "b_p": 0.0}),
        (lambda s, x: x if s.training else x * 1.0, {"dropout": 0.3}),
    ],
    ids=["drew", "a zero", "attention without", "another p", "a zero beside", "no call"],
)  # fmt: skip
def test_nothing_is_named_that_has_no_rate(forward, held):
    assert asleep(forward, x=X.abs(), **held) == ()


def test_draws_of_numpy_and_python_are_named():
    numbers = {"a": np.random.rand, "b": random.random}
    told = asleep(lambda s, x: x * numbers["a"]() * numbers[chr(98)](), p=0.3)
    assert told[-2:] == (
        "something in the model draws from NumPy's global generator",
        "something in the model draws from Python's random",
    )
    assert "numpy.random.rand, random.random draws" in told[0]


def test_a_model_that_only_drops_asleep_says_so():
    class Asleep(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_dropout = 0.3

        def forward(self, x):
            y = sdpa(x, self.attention_dropout if self.training else 0.0)
            return y * (1 + self.training)

    with pytest.raises(ValueError, match=r"nothing in the model drew .*attention_dropout=0.3"):
        predict(Asleep(), X, members=4)
