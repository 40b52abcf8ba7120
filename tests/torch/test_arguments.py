"""Tensors and modules in the place of a number, and tensors that no result can be written into."""

import inspect

import pytest
import torch
from torch import nn

import thinned.torch
from thinned.torch.layers.from_rows import made

RECURRENT = (thinned.torch.LSTM, thinned.torch.GRU)
RATES = ("p", "input_p", "between_p", "output_p", "recurrent_p", "weight_p", "dropout")
SIZES = {"input_size": 3, "hidden_size": 2, "num_layers": 2}


def makers():
    for kind in RECURRENT:
        yield from (pytest.param(kind, rate, id=f"{kind.__name__}-{rate}") for rate in RATES)
    for name, kind in made().items():
        if kind.has_p:
            yield pytest.param(kind, "p", id=name)


def build(kind, **how):
    if kind in RECURRENT:
        return kind(**SIZES, **how)
    options = kind.row.options.items()
    needed = [name for name, default in options if default is inspect.Parameter.empty]
    return kind(**dict.fromkeys(needed, 0), **how)


# torch.nn.Module registers these under the name that they are set to, and never asks a property.
REGISTERED = [nn.Parameter(torch.ones(2, 3)), nn.Linear(2, 2), nn.Buffer(torch.ones(2, 3))]


@pytest.mark.parametrize(("kind", "rate"), list(makers()))
def test_what_a_module_would_register_is_no_probability(kind, rate):
    for value in REGISTERED:
        with pytest.raises((TypeError, ValueError), match=rf"^\w+: .*\b{rate}\b"):
            build(kind, **{rate: value})


@pytest.mark.parametrize("kind", [thinned.torch.DropPath, thinned.torch.Zoneout])
def test_a_parameter_without_axes_is_its_number(kind):
    module = kind(nn.Parameter(torch.tensor(0.5)))
    assert module.p == 0.5
    assert not list(module.parameters())


def test_where_recurrent_dropout_stands_is_a_word():
    for value in (*REGISTERED, None, 0):
        with pytest.raises((TypeError, ValueError), match=r"^LSTM: recurrent must be 'candidate'"):
            thinned.torch.LSTM(3, 2, recurrent=value)


def outs():
    with torch.inference_mode():
        inference = torch.ones(2, 3)
    return {
        "expanded": torch.ones(1, 3).expand(2, 3),
        "inference": inference,
        "leaf": torch.ones(2, 3, requires_grad=True),
        "meta": torch.ones(2, 3, device="meta"),
        "nested": torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)]),
        "sparse": torch.ones(2, 3).to_sparse(),
    }


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["expanded", "inference", "leaf", "meta", "nested", "sparse"])
def test_an_out_that_cannot_be_written_is_refused_before(kind, p):
    out = outs()[kind]
    with pytest.raises((TypeError, ValueError), match=r"^dropout: out must be "):
        thinned.dropout(torch.ones(2, 3), p, thinned.Address(1), out=out)


def test_an_out_that_can_be_written_is():
    x, out = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
    with torch.no_grad():
        assert thinned.dropout(x, 0.5, thinned.Address(1), out=out) is out
    assert torch.equal(out, thinned.dropout(x, 0.5, thinned.Address(1)))
