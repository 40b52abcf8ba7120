"""The modules with code of their own: alone, adopted, compiled, checkpointed, saved."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import Address
from thinned.torch import (
    DropEdge,
    DropGrad,
    EmbeddingDropout,
    LayerDrop,
    LoRALinear,
    adopt,
    checkpoint_context,
    release,
)

# PyTorch deprecates a part of itself that its compiler imports.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning")

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 12, (4, 5), generator=torch.Generator().manual_seed(1))
EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])


class Step(nn.Module):
    """A layer that counts its calls, with a dropout of its own."""

    def __init__(self, width=6):
        super().__init__()
        self.linear, self.drop = nn.Linear(width, width), nn.Dropout(0.2)
        self.calls = 0

    def forward(self, x, shift=0.0):
        if not torch.compiler.is_compiling():
            self.calls += 1
        return torch.tanh(self.drop(self.linear(x))) + shift


def stack(layers=4, p=0.5):
    torch.manual_seed(0)
    return LayerDrop([Step() for _ in range(layers)], p)


class Model(nn.Module):
    """All that draw and keep tensors' shapes, one after another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = EmbeddingDropout(nn.Embedding(12, 6), 0.3)
        self.blocks = LayerDrop([nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)], 0.5)
        self.lora = LoRALinear(nn.Linear(6, 5), 2, alpha=4.0, p=0.4)
        nn.init.normal_(self.lora.up)
        self.gradient = DropGrad(0.5)

    def forward(self, tokens):
        return self.lora(self.gradient(self.blocks(self.words(tokens))))


def by_hand(model, tokens, at_of):
    """Model's output, from functions at the addresses of its sites."""
    x = thinned.embedding_dropout(
        model.words.embedding.weight, model.words.p, at_of("words"), tokens=tokens
    )
    for number, layer in enumerate(model.blocks):
        at = at_of("blocks")
        x = thinned.layer_drop(layer, x, model.blocks.p, at.fold_in(number) if number else at)
    x = thinned.drop_grad(x, model.gradient.p, at_of("gradient"))
    lora = model.lora
    return thinned.lora_dropout(
        x, lora.linear.weight, lora.down, lora.up, lora.p, at_of("lora"),
        alpha=lora.alpha, bias=lora.linear.bias,
    )  # fmt: skip


def grads(model, y):
    """By name; a layer that was skipped has none, and one computed and discarded has zeros."""
    model.zero_grad()
    (y * torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)).sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def begin(clock, step):
    """The beginning of a step, before any call: that of another one, and then the buffer's word."""
    clock.tick()
    clock.buffer[2] = step


def close(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)


# -------------------------------------------------------------------------------------- LayerDrop


def test_skipped_layers_are_not_computed():
    model = stack()
    clock = adopt(model, seed=9).clock
    for step in range(20):
        before = [layer.calls for layer in model]
        x = model(X, shift=0.5)
        at = Address(9, "", step)
        gates = [bool(thinned.keep_mask(1, 0.5, at.fold_in(i) if i else at)[0]) for i in range(4)]
        assert [layer.calls - n for layer, n in zip(model, before, strict=True)] == gates
        if not any(gates):
            assert x is X
        clock.tick()
    assert len({layer.calls for layer in model} - {0, 20}) > 1


def test_all_layers_run_in_evaluation():
    model = stack(p=1.0).eval()
    state = torch.get_rng_state()
    y = X
    for layer in model.layers:
        y = layer(y)
    assert torch.equal(model(X), y)
    assert [layer.calls for layer in model] == [2] * 4
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.train()(X), X)


def test_a_share_of_layers_is_skipped():
    model = LayerDrop([Step() for _ in range(3)], 0.3)
    torch.manual_seed(5)
    for _ in range(600):
        model(X)
    for layer in model:
        assert abs(layer.calls / 600 - 0.7) < 6 * np.sqrt(0.21 / 600)


def test_a_stack_is_a_list_of_layers():
    layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
    model = LayerDrop(layers, 0.2)
    assert model.layers is layers
    assert len(model) == 2
    assert model[1] is layers[1]
    assert list(model) == list(layers)
    assert repr(model).startswith("LayerDrop(\n  p=0.2\n")
    assert set(model.state_dict()) == {
        f"layers.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")
    }
    with pytest.raises(TypeError, match=r"^LayerDrop: a layer must be a torch.nn.Module, got int"):
        LayerDrop([3])
    with pytest.raises(ValueError, match=r"^layer_drop: layer must be one that keeps x's shape"):
        LayerDrop([nn.Linear(6, 2)], 0.0)(X)


def test_compiled_layers_are_computed_and_discarded():
    torch._dynamo.reset()
    model = stack(p=0.5)
    clock = adopt(model, seed=9).clock
    counter = CompileCounterWithBackend("aot_eager")
    program = torch.compile(model, backend=counter, fullgraph=True)
    twin = copy.deepcopy(model)
    for p in (0.5, 0.8):
        model.p = twin.p = p
        for _ in range(4):
            x, again = X.clone().requires_grad_(), X.clone().requires_grad_()
            y, expected = program(x), twin(again)
            torch.testing.assert_close(y, expected)
            close(grads(model, y), grads(twin, expected))
            clock.tick()
            twin._buffers["thinned_clock"].copy_(clock.buffer)
    assert counter.frame_count == 1


# ------------------------------------------------------------------------------------ LoRALinear


def test_lora_begins_where_the_layer_was_and_trains_its_update_alone():
    linear = nn.Linear(6, 5)
    model = LoRALinear(linear, 2, p=0.5)
    assert torch.equal(model(X), linear(X))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"down", "up"}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"down", "up"}


def test_merged_lora_is_the_module_in_evaluation():
    for bias in (True, False):
        model = LoRALinear(nn.Linear(6, 5, bias=bias), 3, alpha=7.0, p=0.5).eval()
        nn.init.normal_(model.up)
        merged = model.merged()
        assert type(merged) is nn.Linear
        torch.testing.assert_close(merged(X), model(X))
        assert merged.weight is not model.linear.weight
    assert "p=0.5, rank=3, alpha=7" in repr(model)


def test_wrong_lora_is_refused():
    with pytest.raises(
        TypeError, match=r"^LoRALinear: linear must be a torch.nn.Linear, got Conv1d"
    ):
        LoRALinear(nn.Conv1d(1, 1, 1), 2)
    with pytest.raises(ValueError, match=r"^LoRALinear: rank must be an integer in"):
        LoRALinear(nn.Linear(3, 3), 0)
    with pytest.raises(ValueError, match=r"^LoRALinear: p must be a float in"):
        LoRALinear(nn.Linear(3, 3), 1, p=5)


# ------------------------------------------------------------------------------ EmbeddingDropout


def test_words_die_everywhere_and_padding_keeps_its_way():
    embedding = nn.Embedding(12, 6, padding_idx=0)  # whose row has no gradient
    model = EmbeddingDropout(embedding, 0.5)
    adopt(model, seed=3)
    y = model(TOKENS)
    expected = thinned.embedding_dropout(embedding.weight, 0.5, Address(3, ""), tokens=TOKENS)
    assert torch.equal(y, expected)
    y.sum().backward()
    assert (embedding.weight.grad[0] == 0).all()
    with pytest.raises(
        TypeError, match=r"^EmbeddingDropout: embedding must be a torch.nn.Embeddin"
    ):
        EmbeddingDropout(nn.Linear(3, 3))


def test_pieces_of_a_batch_drop_the_same_words():
    model = EmbeddingDropout(nn.Embedding(12, 6), 0.5)
    clock = adopt(model, seed=3).clock
    whole = model(TOKENS)
    begin(clock, 0)
    parts = []
    for first, stop in ((0, 1), (1, 4)):
        with clock.piece(first):
            parts.append(model(TOKENS[first:stop]))
    assert torch.equal(torch.cat(parts), whole)


# --------------------------------------------------------------------------------------- DropEdge


@pytest.mark.parametrize("how", [{}, {"directed": True}, {"exact": True}])
def test_edges_are_dropped_at_the_site(how):
    model = DropEdge(0.5, **how)
    adopt(model, seed=3)
    for call in range(3):
        at = Address(3, "", 0, call)
        assert torch.equal(model(EDGES), thinned.drop_edge(EDGES, 0.5, at, **how))
    release(model)
    torch.manual_seed(0)
    alone = [model(EDGES) for _ in range(6)]
    assert len({tuple(e.flatten().tolist()) for e in alone}) > 1
    assert model.eval()(EDGES) is EDGES
    assert repr(model).startswith("DropEdge(p=0.5, directed=")


def test_the_mask_of_edges_is_compiled_whole():
    torch._dynamo.reset()
    at = Address(3, "edges")

    def weigh(edges, p):
        return thinned.keep_edges(edges, p, at)

    program = torch.compile(weigh, backend="aot_eager", fullgraph=True)
    for p in (0.3, 0.6):
        assert torch.equal(program(EDGES, p), weigh(EDGES, p))


# ------------------------------------------------------------------------------------ all of them


def test_adopted_all_draw_at_their_sites():
    model = Model()
    clock = adopt(model, seed=7).clock
    for step in range(3):
        for call in range(2):
            y = model(TOKENS)
            expected = by_hand(model, TOKENS, lambda site, s=step, c=call: Address(7, site, s, c))
            torch.testing.assert_close(y, expected)
        close(grads(model, y), grads(model, expected))
        clock.tick()


def test_pieces_of_a_batch_are_the_batch():
    model = Model()
    clock = adopt(model, seed=7).clock
    for step in range(4):  # over which some layers are skipped, and some are not
        begin(clock, step)
        whole = model(TOKENS)
        begin(clock, step)
        parts = []
        for first, stop in ((0, 3), (3, 4)):
            with clock.piece(first):
                parts.append(model(TOKENS[first:stop]))
        torch.testing.assert_close(torch.cat(parts), whole)


def test_alone_they_obey_the_generator():
    model = Model()
    torch.manual_seed(4)
    first, second = model(TOKENS), model(TOKENS)
    torch.manual_seed(4)
    assert torch.equal(model(TOKENS), first)
    assert not torch.equal(first, second)
    model.eval()
    state = torch.get_rng_state()
    assert torch.equal(model(TOKENS), model(TOKENS))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.long
def test_compiled_by_the_real_compiler_they_draw_alike():
    torch._dynamo.reset()
    model = Model()
    clock = adopt(model, seed=7).clock
    program = torch.compile(model, fullgraph=True)
    for step in range(3):
        begin(clock, step)
        expected = model(TOKENS)
        wanted = grads(model, expected)
        begin(clock, step)
        y = program(TOKENS)
        torch.testing.assert_close(y, expected)
        close(grads(model, y), wanted)
    model.eval()
    torch.testing.assert_close(program(TOKENS), model(TOKENS))


def test_alone_they_compile_too():
    torch._dynamo.reset()
    model = Model()
    program = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.manual_seed(0)
    first = program(TOKENS)
    ys = [program(TOKENS) for _ in range(5)]
    assert not all(torch.equal(y, first) for y in ys)
    torch.manual_seed(0)
    assert torch.equal(program(TOKENS), first)


@pytest.mark.parametrize("how", [
    {"use_reentrant": False},
    {"use_reentrant": False, "context_fn": checkpoint_context},
], ids=["plain", "noted"])  # fmt: skip
def test_a_recompute_draws_the_forwards_masks(how):
    model, twin = Model(), Model()
    for one in (model, twin):
        adopt(one, seed=7)
    wanted = grads(twin, twin(TOKENS))
    close(grads(model, checkpoint(model, TOKENS, **how)), wanted)


def test_they_copy_pickle_and_load():
    model = Model()
    adopt(model, seed=7)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        fresh = copy.deepcopy(twin)
        assert torch.equal(twin(TOKENS), fresh(TOKENS))
    other = Model()
    adopt(other, seed=1)
    with torch.no_grad():
        other.lora.up.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(TOKENS), copy.deepcopy(model)(TOKENS))


class AlwaysComputed(LayerDrop):
    def forward(self, x, *rest, **named):
        for layer in self.layers:
            layer(x, *rest, **named)
        return super().forward(x, *rest, **named)


class OneGate(LayerDrop):
    def forward(self, x, *rest, **named):
        at, _, p = self.located(x)
        for layer in self.layers:
            x = thinned.layer_drop(lambda x, layer=layer: layer(x, *rest, **named), x, p, at)
        return x


@pytest.mark.parametrize("fault", [AlwaysComputed, OneGate])
def test_a_fault_in_the_stack_is_caught(fault, monkeypatch):
    monkeypatch.setitem(globals(), "LayerDrop", fault)
    with pytest.raises(AssertionError):
        test_skipped_layers_are_not_computed()


def test_words_that_die_by_position_are_caught(monkeypatch):
    def forward(self, tokens):
        at, window, p = self.located(tokens)
        keep = thinned.keep_mask(tuple(tokens.shape), p, at, like=tokens, window=window)
        return self.embedding(tokens) * keep[..., None] / (1 - p)

    monkeypatch.setattr(EmbeddingDropout, "forward", forward)
    with pytest.raises(AssertionError):
        test_words_die_everywhere_and_padding_keeps_its_way()
