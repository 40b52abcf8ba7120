"""torch.fx.symbolic_trace: what drops is recorded as a whole, and goes by its own mode when run."""

import copy
import pickle

import pytest
import torch
from methods.garden import MODULES, beds, module
from torch import fx, nn
from torch.nn import functional

import thinned.torch as tt
from thinned.torch import adopt, release, thin, weight_drop
from thinned.torch.compat.fx_leaf import LEAF

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
SEQUENCE = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(1))


class Calls(nn.Module):
    """Calls a module with so many arguments, one for each of torch.fx's placeholders."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


class One(Calls):
    def forward(self, a):
        return self.inner(a)


class Two(Calls):
    def forward(self, a, b):
        return self.inner(a, b)


class Three(Calls):
    def forward(self, a, b, c):
        return self.inner(a, b, c)


def operations(graph):
    return [node.op for node in graph.graph.nodes if node.op not in ("placeholder", "output")]


def run(model, arrays):
    torch.manual_seed(3)
    y = model(*arrays)
    return y if isinstance(y, torch.Tensor) else y[0]


def check_leaf(inner, arrays):
    for mode in (True, False):
        model = (One, Two, Three)[len(arrays) - 1](inner).train(mode)
        graph = fx.symbolic_trace(model)
        assert operations(graph) == ["call_module"]
        for other in (True, False):
            graph.train(other), model.train(other)
            assert torch.equal(run(graph, arrays), run(model, arrays))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_row_of_the_catalogue_is_a_leaf(name):
    check_leaf(module(MODULES[name]), beds([name])[name])


OTHERS = {
    "LSTM": (lambda: tt.LSTM(8, 4), SEQUENCE),
    "GRU": (lambda: tt.GRU(8, 4), SEQUENCE),
    "L0Linear": (lambda: tt.L0Linear(8, 3), X),
    "HardConcrete": (lambda: tt.HardConcrete(8), X),
    "LayerDrop": (lambda: tt.LayerDrop([nn.Linear(8, 8)], 0.5), X),
    "LoRALinear": (lambda: tt.LoRALinear(nn.Linear(8, 3), 2), X),
    "EmbeddingDropout": (lambda: tt.EmbeddingDropout(nn.Embedding(9, 3)), torch.arange(9)),
    "DropBP": (lambda: tt.DropBP(), X),
    "DropGrad": (lambda: tt.DropGrad(), X),
    "ConcreteDropout": (lambda: tt.ConcreteDropout(features=8), X),
    "VariationalLinear": (lambda: tt.VariationalLinear(8, 3), X),
    "SparseVariationalLinear": (lambda: tt.SparseVariationalLinear(8, 3), X),
    "SparseVariationalConv2d": (
        lambda: tt.SparseVariationalConv2d(1, 2, 3),
        SEQUENCE[:, None],
    ),
    "DropConnectLinear": (lambda: tt.DropConnectLinear(8, 3), X),
    "Masksembles": (lambda: tt.Masksembles(8), X),
    "weight_drop": (lambda: weight_drop(nn.LSTM(8, 4), "weight_hh_l0"), SEQUENCE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_so_are_the_other_modules(name):
    make, x = OTHERS[name]
    check_leaf(make(), (x,))


def test_every_module_that_is_public_was_tried():
    public = {n for n in tt.__all__ if isinstance(getattr(tt, n), type)}
    modules = {n for n in public if issubclass(getattr(tt, n), nn.Module)}
    drop_ins = {n for n in modules if hasattr(nn, n) and n not in OTHERS}
    assert modules - set(MODULES) - set(OTHERS) - drop_ins <= {"DropEdge"}
    assert tt.DropEdge().__module__ == LEAF


def test_copies_and_loaded_modules_are_leaves_and_their_classes_stay_where_they_are():
    drop = tt.DropPath(0.5)
    for one in (copy.deepcopy(drop), pickle.loads(pickle.dumps(drop))):
        check_leaf(one, (X,))
    assert type(drop).__module__.startswith("thinned.")


class WithAttention(nn.Module):
    def __init__(self, dropout=0.5):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


ADOPTED = {
    "torch.nn's": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.AlphaDropout(0.5)),
        X,
    ),
    "channels": (lambda: nn.Sequential(nn.Dropout1d(0.5), nn.FeatureAlphaDropout(0.5)), SEQUENCE),
    "thinned.torch's": (lambda: nn.Sequential(tt.Dropout(0.5), tt.DropPath(0.5)), X),
    "attention": (WithAttention, SEQUENCE),
    "an LSTM": (lambda: nn.Sequential(nn.LSTM(8, 4, 2, dropout=0.5)), SEQUENCE),
    "an encoder": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True)),
        SEQUENCE,
    ),
    "noise": (lambda: nn.Sequential(weight_drop(nn.Linear(8, 8), "weight"), nn.Dropout(0.5)), X),
}


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ADOPTED)
def test_the_graph_of_an_adopted_model_drops_by_address(name, mode):
    make, x = ADOPTED[name]
    model = make()
    clock = adopt(model, seed=3).clock
    graph = fx.symbolic_trace(model.train(mode))
    assert "call_module" in operations(graph)
    graph.eval()
    assert torch.equal(run(graph, (x,)), run(graph, (x,)))
    graph.train()
    model.train()
    first = run(graph, (x,))
    clock.tick()
    assert not torch.equal(run(graph, (x,)), first)
    clock.tick()
    clock.buffer[2] = 0
    assert torch.equal(run(model, (x,)), first)


def test_released_the_module_is_what_it_was():
    model = nn.Sequential(nn.Dropout(0.5), tt.Dropout(0.5), WithAttention())
    before = [dict(m.__dict__) for m in model.modules()]
    adopt(model)
    release(model)
    assert [dict(m.__dict__) for m in model.modules()] == before


def test_the_graph_of_a_thin_model_draws_the_same_masks_on_whole_layers():
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    clock = thin(model, seed=1).clock
    for mode in (True, False):
        graph = fx.symbolic_trace(model.train(mode)).train()
        model.train()
        found = graph(X)
        clock.tick()
        clock.buffer[2] -= 1
        torch.testing.assert_close(model(X), found)
        clock.tick()


class Functional(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5, self.training)


class Attends(nn.Module):
    def forward(self, x):
        p = 0.5 if self.training else 0.0
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=p)


class Subclass(nn.Dropout):
    pass


@pytest.mark.parametrize("make", [Functional, Attends, lambda: Subclass(0.5)])
def test_a_functional_call_is_recorded_at_rest_and_refused_awake(make):
    model = nn.Sequential(nn.Dropout(0.5), make())
    adopt(model)
    with pytest.raises(RuntimeError, match=r"torch\.fx records a functional call .* site '1"):
        fx.symbolic_trace(model)
    graph = fx.symbolic_trace(model.eval())
    assert operations(graph)[0] == "call_module"
    assert torch.equal(graph(SEQUENCE), model(SEQUENCE))
