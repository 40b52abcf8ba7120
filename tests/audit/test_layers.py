"""The facts about frameworks, held against those that are installed."""

import inspect

import equinox
import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import pytest
import torch

import thinned.methods
import thinned.torch
from thinned.audit import layers

TRACED = ("torch.nn.", "thinned.")
HERE = {"torch": torch, "thinned": thinned, "flax": flax}


def found(name):
    first, *rest = name.split(".")
    thing = HERE[first]
    for part in rest:
        thing = getattr(thing, part)
    return thing


def parameters(thing):
    made = thing.__init__ if inspect.isclass(thing) else thing
    names = list(inspect.signature(made).parameters.values())
    return [p for p in names if p.name != "self"]


def test_functions_of_an_address_are_those_of_thinned():
    """All that take a mode, each where the table says, with a draw as default."""
    takes = {name: parameters(getattr(thinned, name)) for name in thinned.methods.__all__}
    with_mode = {n for n, given in takes.items() if "training" in [p.name for p in given]}
    for room in ("thinned", "thinned.methods"):
        names = [n for n in layers.ADDRESSED if n.rpartition(".")[0] == room]
        assert {n.rpartition(".")[2] for n in names} == with_mode
        for name in names:
            facts, given = layers.ADDRESSED[name], takes[name.rpartition(".")[2]]
            assert given[facts.training].name == facts.mode
            assert given[facts.training].default is facts.default is True
            assert given[facts.training - 1].name == "at"


INSTALLED = [n for n in layers.FUNCTIONAL if n.startswith(("torch.nn.", "thinned."))]


@pytest.mark.parametrize("name", INSTALLED)
def test_functions_take_the_mode_where_the_table_says(name):
    facts, takes = layers.FUNCTIONAL[name], parameters(found(name))
    assert takes[facts.training].name == facts.mode
    assert takes[facts.p].name in ("p", "dropout_p")
    if facts.inplace is not None:
        assert takes[facts.inplace].name == "inplace"
    if facts.default is not None:
        assert takes[facts.training].default is facts.default


@pytest.mark.parametrize("name", ["torch.dropout", "torch.alpha_dropout", "torch.feature_dropout"])
def test_torchs_own_functions_need_the_mode(name):
    x = torch.ones(2, 2)
    facts = layers.FUNCTIONAL[name]
    assert facts.default is None
    assert torch.equal(found(name)(x, 0.5, **{facts.mode: False}), x)
    with pytest.raises(TypeError):
        found(name)(x, 0.5)


RATES = {
    name: where
    for name, where in layers.RATES.items()
    if name.split(".")[0] in HERE
    and not name.startswith(("torch.dropout", "torch.alpha", "torch.feature"))
    and name not in layers.FUNCTIONAL
    and "scaled_dot" not in name
    and not name.startswith(("torch.nn.LSTM", "torch.nn.GRU"))
}


@pytest.mark.parametrize("name", sorted(RATES))
def test_rates_stand_where_the_table_says(name):
    position, keyword = RATES[name]
    assert parameters(found(name))[position].name == keyword


def test_the_recurrent_layers_place_of_dropout():
    # Their signature is (*args, **kwargs).
    rnn = torch.nn.LSTM(2, 3, 2, True, False, 0.25)
    assert rnn.dropout == 0.25
    assert torch.nn.GRU(2, 3, 2, True, False, 0.25).dropout == 0.25


@pytest.mark.parametrize("name", sorted(layers.DROPOUT_LAYERS | layers.BATCH_NORM | layers.PASSING))
def test_names_of_torch_exist(name):
    if name.startswith(TRACED):
        assert callable(found(name))


@pytest.mark.parametrize("name", sorted(n for n in layers.SAVES_OUTPUT if "functional" not in n))
def test_what_keeps_its_output_fails_after_dropout_in_place(name):
    torch.manual_seed(0)
    made = found(name)
    if "oftm" in name or "cumprod" in name:
        act = made(dim=-1) if isinstance(made, type) else lambda x: made(x, -1)
    else:
        act = made() if isinstance(made, type) else made
    x = torch.rand(4, 8, requires_grad=True)
    y = torch.nn.functional.dropout(act(x * 2), 0.5, True, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        y.sum().backward()


@pytest.mark.parametrize("kind", ["GELU", "SiLU", "Hardswish", "LeakyReLU"])
def test_what_keeps_its_input_does_not(kind):
    torch.manual_seed(0)
    x = torch.rand(4, 8, requires_grad=True)
    y = torch.nn.functional.dropout(getattr(torch.nn, kind)()(x * 2), 0.5, True, inplace=True)
    y.sum().backward()
    assert x.grad is not None


def test_a_percentage_is_taken_in_silence_by_jax_libraries():
    """What THN006 says of them."""
    x = jnp.ones(64)
    key = jax.random.key(0)
    made = flax.linen.Dropout(50.0, deterministic=False)
    assert not made.apply({}, x, rngs={"dropout": key}).any()
    assert not equinox.nn.Dropout(50.0)(x, key=key).any()


def test_the_wrong_examples_are_silent_in_torch():
    """The reason for THN001 and THN021: what the code does without a word."""
    x = torch.ones(1000)
    torch.manual_seed(0)
    module = torch.nn.Module().eval()
    assert not module.training
    assert (torch.nn.functional.dropout(x, 0.5) == 0).any()
    with pytest.warns(UserWarning, match="num_layers"):
        torch.nn.LSTM(2, 2, dropout=0.5)
