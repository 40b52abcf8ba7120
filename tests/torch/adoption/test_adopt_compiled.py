"""Compiled: eager's masks, one program for every step, p, call and piece, recomputed or not."""

import copy

import pytest
import torch
import torch._functorch.config as partitioning
from observed import batch, build, gradients
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import thinned
from thinned.torch import adopt, checkpoint_context

pytestmark = [
    # Its tracer looks at .grad of a compiled layer's input, which another layer made.
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
    ),
]

PLAIN = {"use_reentrant": False}
NOTED = {"use_reentrant": False, "context_fn": checkpoint_context}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counting(backend="aot_eager_decomp_partition"):
    """A compiler that counts its programs. This one partitions as Inductor does, and is quicker."""
    return CompileCounterWithBackend(backend)


def two_steps(model, clock, run=None):
    """Masks and gradients: two micro-batches, a step, two pieces, another p."""
    run, found = model if run is None else run, []

    def forward(x):
        y, masks = run(x)
        y.square().sum().backward()
        found.extend(masks)

    forward(batch())
    forward(batch())
    clock.tick()
    for start in (0, 4):
        with clock.piece(start):
            forward(batch()[start : start + 4])
    model.drop.p, model.attention.dropout = 0.2, 0.6
    for start in (0, 4):
        with clock.piece(start):
            forward(batch()[start : start + 4])
    return found, gradients(model), clock.counts.clone()


def compare(found, expected):
    for a, b in zip(found[0], expected[0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert torch.equal(found[2], expected[2])


def eager(**options):
    model = build(**options)
    return two_steps(model, adopt(model, seed=6).clock)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("budget", [1.0, 0.0])
@pytest.mark.parametrize("how", [None, PLAIN, NOTED], ids=["none", "checkpoint", "noted"])
def test_compiled_is_eager_bit_for_bit(how, budget):
    model = build(how=how, twice=True)
    clock = adopt(model, seed=6).clock
    compiler = counting()
    with partitioning.patch(activation_memory_budget=budget):
        compiled = torch.compile(model, fullgraph=True, backend=compiler)
        compare(two_steps(model, clock, compiled), eager(twice=True))
    # One for 8 rows, one for any number of rows.
    assert compiler.frame_count <= 2


def test_inductor_with_little():
    x = torch.randn(4, 6)
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.AlphaDropout(0.1))
        clock = adopt(model, seed=6).clock
        run = torch.compile(model, fullgraph=True) if compiled else model
        for _ in range(2):
            y = run(x)
            y.square().sum().backward()
            results.append((y.detach(), gradients(model)))
            clock.tick()
    for eager_one, compiled_one in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(compiled_one, eager_one)


@pytest.mark.long
def test_inductor():
    model = build(how=PLAIN)
    clock = adopt(model, seed=6).clock
    with partitioning.patch(activation_memory_budget=0.5):
        compare(two_steps(model, clock, torch.compile(model, fullgraph=True)), eager())


def test_a_new_step_p_call_or_piece_is_no_new_program():
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.AlphaDropout(0.1))
    clock, compiler = adopt(model).clock, counting()
    compiled = torch.compile(model, fullgraph=True, backend=compiler)
    for step in range(6):
        model[1].p = step / 6
        model[2].p = step / 12
        for _ in range(step):
            compiled(torch.ones(4, 6)).sum().backward()
        with clock.piece(step):
            compiled(torch.ones(4, 6)).sum().backward()
        clock.tick()
    assert compiler.frame_count == 1


def test_two_forwards_then_one_backward():
    results = []
    for budget, compiled in [(1.0, False), (1.0, True), (0.0, True)]:
        model = build()
        adopt(model)
        run = torch.compile(model, fullgraph=True, backend=counting()) if compiled else model
        with partitioning.patch(activation_memory_budget=budget):
            (run(batch())[0] * run(batch())[0]).sum().backward()
        results.append(gradients(model))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.3)

    def forward(self, x):
        return torch.tanh(nn.functional.dropout(self.drop(self.linear(x)), 0.2, self.training))


@pytest.mark.parametrize("how", [None, PLAIN], ids=["none", "plain"])
def test_layers_compiled_one_by_one_share_a_program(how):
    """Compiled layers in an eager model, checkpoints around them: the recompute runs compiled."""
    found = []
    for backend in (None, counting()):
        torch.manual_seed(0)
        layers = nn.Sequential(*(Layer() for _ in range(4)))
        clock = adopt(layers).clock
        if backend is not None:
            for layer in layers:
                layer.compile(fullgraph=True, backend=backend)
        x = batch()[..., :1].expand(-1, -1, 8).clone().requires_grad_()
        for _ in range(2):
            y = x
            for layer in layers:
                y = layer(y) if how is None else checkpoint(layer, y, **how)
            y.square().sum().backward()
            clock.tick()
        found.append([x.grad, *gradients(layers)])
    # A recompute under a checkpoint may be a program of its own, but no layer is.
    assert backend.frame_count <= (1 if how is None else 2)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_compiled_layer_recomputed_from_outside():
    found = []
    for how in (None, NOTED, PLAIN, {"use_reentrant": True}):
        model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
        nn.init.eye_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        adopt(model)
        model.compile(fullgraph=True, backend=counting())
        x = batch().requires_grad_()
        y = x
        for _ in range(2):
            y = (model(y) if how is None else checkpoint(model, y, **how)).tanh()
        y.sum().backward()
        found.append(x.grad)
    assert all(torch.equal(found[0], other) for other in found[1:])


class OwnP(nn.Module):
    """A functional call, whose p is a tensor that training moves."""

    def __init__(self):
        super().__init__()
        self.p = torch.tensor(0.1)

    def forward(self, x):
        return nn.functional.dropout(x, self.p, self.training)


def test_a_p_that_the_code_brings_is_no_new_program_as_a_tensor():
    model, compiler = nn.Sequential(OwnP()), counting()
    clock = adopt(model).clock
    compiled = torch.compile(model, fullgraph=True, backend=compiler)
    for step in range(12):
        model[0].p.fill_(step / 12)
        at = thinned.Address(site="0/dropout", step=step)
        keep = thinned.keep_mask((8, 9), float(model[0].p), at, like=torch.ones(1))
        assert torch.equal(compiled(torch.ones(8, 9)) != 0, keep)
        clock.tick()
    assert compiler.frame_count == 1
    model[0].p.fill_(50)
    with pytest.raises(ValueError, match=r"dropout: p must be a float in \[0, 1\], got 50"):
        compiled(torch.ones(8, 9))


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.net = nn.LSTM(6, 8, dropout=0.5, **options)

    def forward(self, x):
        return self.net(x)[0]


LSTMS = [
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "batch_first": True},
    {"num_layers": 2, "bias": False},
    {"num_layers": 2, "proj_size": 4},
]


# PyTorch says so where there is one layer, and for projections with a bias of its own.
@pytest.mark.one_in(6)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last:UserWarning")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")
@pytest.mark.parametrize("options", [*LSTMS, {"num_layers": 1}], ids=str)
@pytest.mark.parametrize("trained_input", [False, True])
def test_an_lstm_within_a_model(options, trained_input):
    torch.manual_seed(0)
    model = nn.Sequential(Recurrent(**options), nn.Dropout(0.3))
    clock = adopt(model).clock
    twin = copy.deepcopy(model)
    compiled, x = torch.compile(model, backend=counting()), torch.randn(5, 3, 6)
    for _ in range(2):
        results = []
        for run, parameters in ((compiled, model.parameters()), (twin, twin.parameters())):
            given = x.clone().requires_grad_(trained_input)
            y = run(given)
            wanted = [*parameters, *([given] if trained_input else [])]
            results.append([y, *torch.autograd.grad(y.square().sum(), wanted)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert torch.equal(clock.counts, twin.thinned_adoption.clock.counts)


@pytest.mark.long
def test_an_lstm_by_inductor():
    torch.manual_seed(0)
    model = nn.Sequential(Recurrent(num_layers=2))
    adopt(model)
    twin, x = copy.deepcopy(model), torch.randn(5, 3, 6)
    torch.testing.assert_close(torch.compile(model)(x), twin(x))


def test_evaluation_holds_no_operator_of_ours():
    model = build().eval()
    adopt(model)
    seen = []

    def backend(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compile(model, fullgraph=True, backend=backend)(batch())
    assert not [name for name in seen if "thinned" in name]


# ----------------------------------------------------------------------------------- planted faults


def test_fault_the_number_stands_in_the_program(monkeypatch):
    """A graph that is given step 0's reading for good."""
    from thinned.torch.clock.clock import Clock

    snapshot = Clock.snapshot
    kept = {}
    monkeypatch.setattr(
        Clock, "snapshot", lambda self: kept.setdefault(id(self), snapshot(self)).clone()
    )
    model = build()
    clock = adopt(model, seed=6).clock
    clock.snapshot()
    with pytest.raises(AssertionError):
        compare(two_steps(model, clock, torch.compile(model, backend=counting())), eager())


class Deep(nn.Module):
    """Modules within modules, each with functional dropout of its own."""

    def __init__(self, levels):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.inner = Deep(levels - 1) if levels > 1 else None

    def forward(self, x):
        x = nn.functional.dropout(self.linear(x), 0.3, self.training)
        return x if self.inner is None else self.inner(x) * 1.5


def test_modules_as_deep_as_detection_models_compile():
    """Dynamo follows calls by recursion, and Python has a limit for it."""
    torch.manual_seed(0)
    model = Deep(9)
    clock = adopt(model, seed=5).clock
    x = torch.randn(4, 16)
    eager = model(x)
    clock.step = 0
    backend = counting("eager")
    program = torch.compile(model, backend=backend, fullgraph=True)
    assert torch.equal(program(x), eager)
    clock.tick()
    ticked = program(x)
    clock.step = 1
    assert torch.equal(model(x), ticked)
    assert not torch.equal(ticked, eager)
    assert backend.frame_count == 1


class Written(nn.Module):
    """Calls that write into what they are given, and one that also returns where it kept."""

    def __init__(self, call):
        super().__init__()
        self.layer, self.call = nn.Linear(8, 8), call

    def forward(self, x):
        y = self.layer(x)[:, :, None].clone()
        return self.call(y, 0.5, self.training), y


CALLS = {
    "dropout_": torch.dropout_,
    "feature_dropout_": torch.feature_dropout_,
    "alpha_dropout_": torch.alpha_dropout_,
    "feature_alpha_dropout_": torch.feature_alpha_dropout_,
    "native_dropout": torch.native_dropout,
    "aten.dropout_": lambda x, p, training: torch.ops.aten.dropout(x, p, training),
    "aten.native_dropout": lambda x, p, training: torch.ops.aten.native_dropout(x, p, training),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_that_dynamo_shows_to_nobody(name):
    model = Written(CALLS[name])
    report = adopt(model, seed=3)
    assert report.sites == ("/dropout",)
    program = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.ones(4, 8)
    for _ in range(2):
        counts = report.clock.counts.clone()
        eager = model(x)
        report.clock.counts = counts
        compiled = program(x)
        for ours, theirs in zip(flat(eager), flat(compiled), strict=True):
            assert torch.equal(ours, theirs)
        assert any((y == 0).any() or y.dtype == torch.bool for y in flat(eager)) or "alpha" in name
        report.clock.tick()


def flat(found):
    return [y for part in found for y in (part if isinstance(part, tuple) else (part,))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_native_dropout_gives_what_dropout_gives_and_where_it_kept(dtype, p):
    class Body(nn.Module):
        def forward(self, x):
            return torch.native_dropout(x, p, self.training)

    class Plain(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, p, self.training)

    x = torch.randn(64, 33).to(dtype).requires_grad_()
    x.data[0, 0] = float("inf")
    found = []
    for kind in (Body, Plain):
        model = kind()
        adopt(model, seed=5)
        y = model(x)
        mask = None
        if kind is Body:
            y, mask = y
        found.append((y, torch.autograd.grad(y.float().nansum(), x)[0], mask))
    (y, gradient, mask), (plain, other, _) = found
    assert torch.equal(y, plain)
    assert torch.equal(gradient, other)
    assert mask.dtype == torch.bool
    at = thinned.Address(5, "/dropout")
    assert torch.equal(mask, thinned.keep_mask((64, 33), p, at, like=torch.ones(1)).bool())
    model = Body().eval()
    same, everywhere = model(x)
    assert torch.equal(same, x)
    assert everywhere.all()
