"""Thin under compilers, checkpoints, derivatives of functions, and mixed precision."""

import copy

import pytest
import torch
from thin_networks import NETWORKS, assert_equal, chain, pair, step
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from versions import VERSION

from thinned.torch import checkpoint_context, thin

pytestmark = [
    # Its tracer looks at .grad of an array that it takes up where it left off.
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
    ),
    # torch's own remark on a network that is given one signal instead of a batch of them.
    pytest.mark.filterwarnings("ignore:dropout1d. Received a 2-D input:UserWarning"),
]

KINDS = [{"use_reentrant": True}, {"use_reentrant": False}]
NOTED = {"use_reentrant": False, "context_fn": checkpoint_context}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    # How many units are kept is known when a program runs: 2.11 allows that by fullgraph=True, 2.9
    # does not.
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=VERSION < (2, 11)):
        yield
    torch._dynamo.reset()


# ---------------------------------------------------------------------------------------- compiled


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "unbatched signal"])
def test_compiled_as_one_graph(name):
    """One program for every mask, however many units it keeps."""
    fast, whole, x = pair(name)
    compiler = CompileCounterWithBackend("aot_eager_decomp_partition")
    compiled = torch.compile(fast, fullgraph=True, backend=compiler)
    for drawn in range(3):
        assert_equal(step(fast, x, compiled), step(whole, x))
        fast.thinned_adoption.clock.step = whole.thinned_adoption.clock.step = drawn
    assert compiler.frame_count == 1


@pytest.mark.long
@pytest.mark.skipif(VERSION < (2, 9), reason="Inductor before 2.9 wants sizes in advance")
def test_inductor():
    fast, whole, x = pair("chain", torch.float32)
    compiled = torch.compile(fast, fullgraph=True)
    for _ in range(2):
        assert_equal(step(fast, x, compiled), step(whole, x), rtol=1e-4, atol=1e-4)


def test_compiled_with_breaks_and_in_parts():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.last = nn.Linear(8, 30), nn.Dropout(0.5), nn.Linear(30, 8)

        def forward(self, x):
            h = self.drop(self.first(x))
            torch._dynamo.graph_break()
            return self.last(h)

    class Loud(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x

    torch.manual_seed(0)
    fast = nn.Sequential(Broken(), Loud(), chain(0.5, width=8))
    whole = copy.deepcopy(fast)
    thin(fast), thin(whole, execution="elementwise")
    x = torch.randn(6, 8)
    compiled = torch.compile(fast, backend="aot_eager")
    assert_equal(step(fast, x, compiled), step(whole, x), rtol=1e-4, atol=1e-5)
    for part in (fast[2][0], fast[2][3]):
        part.compile(backend="aot_eager")
    assert_equal(step(fast, x), step(whole, x), rtol=1e-4, atol=1e-5)


def test_compiled_groups():
    fast, whole, x = pair("chain", groups=2)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager_decomp_partition")
    assert_equal(step(fast, x, compiled), step(whole, x))


# -------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("how", KINDS, ids=["reentrant", "hooks"])
@pytest.mark.parametrize("name", ["chain", "images", "residual", "transformer"])
def test_a_checkpoint_recomputes_the_same_thin_network(name, how):
    fast, whole, x = pair(name)
    found = step(fast, x, lambda x: checkpoint(fast, x, **how))
    assert_equal(found, step(whole, x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(16, 40), nn.Dropout(0.5), nn.Linear(40, 16)

    def forward(self, x):
        return self.fc2(self.drop(torch.relu(self.fc1(x))))


class Stack(nn.Module):
    """Blocks, each under a checkpoint of its own, the stack gone through `times`."""

    def __init__(self, how, times=1):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.how, self.times = how, times

    def forward(self, x):
        for _ in range(self.times):
            for block in self.blocks:
                x = x + (block(x) if self.how is None else checkpoint(block, x, **self.how))
        return x


def stacks(how, times=1):
    torch.manual_seed(4)
    fast = Stack(how, times).double()
    whole = Stack(None, times).double()
    whole.load_state_dict(fast.state_dict())
    thin(fast, seed=1), thin(whole, seed=1, execution="elementwise")
    return fast, whole, torch.randn(6, 16, dtype=torch.float64)


@pytest.mark.parametrize("how", KINDS, ids=["reentrant", "hooks"])
def test_a_checkpoint_for_each_block(how):
    fast, whole, x = stacks(how)
    assert_equal(step(fast, x), step(whole, x))


@pytest.mark.parametrize("how", [*KINDS, NOTED], ids=["reentrant", "hooks", "noted"])
def test_several_forwards_of_a_step(how):
    fast, whole, x = stacks(how)
    for _ in range(2):
        assert_equal(step(fast, x), step(whole, x))


def test_checkpoints_inside_a_compiled_model():
    fast, whole, x = stacks(KINDS[1])
    compiled = torch.compile(fast, backend="aot_eager_decomp_partition")
    assert_equal(step(fast, x, compiled), step(whole, x))


@pytest.mark.parametrize("how", [None, KINDS[1]], ids=["none", "hooks"])
def test_each_block_compiled_by_itself(how):
    fast, whole, x = stacks(how)
    for block in fast.blocks:
        block.compile(fullgraph=True, backend="aot_eager_decomp_partition")
    for drawn in (1, 2):
        assert_equal(step(fast, x), step(whole, x))
        fast.thinned_adoption.clock.step = whole.thinned_adoption.clock.step = drawn


def test_a_block_compiled_by_itself_runs_thin():
    torch._dynamo.reset()
    fast, _, x = stacks(None)
    widths = []

    def look(graph, inputs):
        linear = (node for node in graph.graph.nodes if node.target is functional.linear)
        widths.extend(str(node.meta["example_value"].shape[-1]) for node in linear)
        return graph.forward

    fast.blocks[0].compile(fullgraph=True, backend=look)
    fast(x)
    assert widths == ["u0", "16"]  # as many units as are kept, which the program learns when run


class Split(nn.Module):
    """A checkpoint that ends, or begins, inside a region."""

    def __init__(self, how, where):
        super().__init__()
        self.net, self.how, self.where = chain(0.5, width=8), how, where

    def first(self, x):
        return self.net[1](self.net[0](x))

    def last(self, x):
        return self.net[3](self.net[2](x))

    def forward(self, x):
        if self.where == "last":
            return checkpoint(self.last, self.first(x), **self.how)
        return checkpoint(self.last, checkpoint(self.first, x, **self.how), **self.how)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("where", ["last", "both"])
@pytest.mark.parametrize("how", KINDS, ids=["reentrant", "hooks"])
def test_a_checkpoint_of_half_a_region_is_an_error(how, where):
    model = Split(how, where)
    thin(model)
    with pytest.raises(RuntimeError, match="a checkpoint begins or ends inside the thin region"):
        model(torch.ones(3, 8, requires_grad=True))
    model.where = "last"
    with torch.no_grad():  # nothing is recomputed here
        assert model.eval()(torch.ones(3, 8)).shape == (3, 5)


# -------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", ["chain", "images", "nothing kept"])
def test_second_derivatives(name):
    found = []
    for model, x in ((m, x) for *both, x in [pair(name)] for m in both):
        x = x.clone().requires_grad_()
        parameters = list(model.parameters())
        first = torch.autograd.grad(model(x).square().sum(), [x, *parameters], create_graph=True)
        total = sum(g.square().sum() for g in first)
        found.append(torch.autograd.grad(total, [x, *parameters], materialize_grads=True))
    assert_equal(*found)


def test_forward_mode_and_functions_of_torch_func():
    fast, whole, x = pair("chain")
    weights = {name: p.detach() for name, p in fast.named_parameters()}
    tangents = {name: torch.ones_like(p) for name, p in weights.items()}
    found = {"jvp": [], "func": [], "each row": []}
    for model in (fast, whole):
        model(x)  # the clock cannot begin its counting inside a transformation

        def output(weights, x, model=model):
            return torch.func.functional_call(model, weights, (x,))

        def loss(weights, row, output=output):
            return output(weights, row[None]).square().sum()

        y, dy = torch.func.jvp(lambda w, output=output: output(w, x), (weights,), (tangents,))
        found["jvp"] += [[y, dy]]
        found["func"] += [list(torch.func.grad(loss)(weights, x[0]).values())]
        rows = torch.func.vmap(torch.func.grad(loss), (None, 0), randomness="same")(weights, x)
        found["each row"] += [list(rows.values())]
    for both in found.values():
        assert_equal(*both)


def test_forward_mode_of_autograd():
    import torch.autograd.forward_ad as forward

    found = []
    for model, x in ((m, x) for *both, x in [pair("chain")] for m in both):
        with forward.dual_level():
            duals = {
                name: forward.make_dual(p.detach(), torch.ones_like(p))
                for name, p in model.named_parameters()
            }
            y = torch.func.functional_call(model, duals, (x,))
            found.append(list(forward.unpack_dual(y)))
    assert_equal(*found)


def test_mixed_precision():
    fast, whole, x = pair("chain", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = step(fast, x), step(whole, x)
    assert found[0].dtype == torch.bfloat16
    assert found[2].dtype == torch.float32
    assert_equal(found, expected, rtol=0.1, atol=0.1)


def test_without_gradients_and_with_frozen_weights():
    fast, whole, x = pair("chain")
    with torch.no_grad():
        torch.testing.assert_close(fast(x), whole(x))
    fast[3].requires_grad_(False), whole[3].requires_grad_(False)
    for model in (fast, whole):
        model(x).square().sum().backward()
    assert fast[3].weight.grad is None
    torch.testing.assert_close(fast[0].weight.grad, whole[0].weight.grad)
