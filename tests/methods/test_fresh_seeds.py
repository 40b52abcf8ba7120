"""Modules without an address, each of the catalogue, wherever torch.nn's own dropout runs."""

import copy
import itertools
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import thinned
import thinned.torch as tt

from . import garden
from .garden import KIND, MODULES, Garden, beds, gradients, same
from .trying import ROWS, inputs

pytestmark = [
    # PyTorch deprecates a part of itself that its compiler imports.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is :DeprecationWarning"),
]
AT = thinned.Address(5, "site", 3)


def sequence(*shape):
    return torch.linspace(-2.0, 2.0, torch.Size(shape).numel()).reshape(shape)


WRITTEN = {  # by hand, and not from a row: a maker and an input
    "Dropout": (lambda: tt.Dropout(0.5), sequence(6, 8)),
    "Dropout2d": (lambda: tt.Dropout2d(0.5), sequence(4, 6, 2, 2)),
    "AlphaDropout": (lambda: tt.AlphaDropout(0.5), sequence(6, 8)),
    "FeatureAlphaDropout": (lambda: tt.FeatureAlphaDropout(0.5), sequence(4, 6, 2, 2)),
    "LSTM": (
        lambda: tt.LSTM(
            5, 6, 2, p=0.3, input_p=True, between_p=True, recurrent_p=True, weight_p=True,
            zoneout_hidden_p=True, zoneout_cell_p=True,
        ),
        sequence(3, 2, 5),
    ),
    "GRU": (lambda: tt.GRU(5, 6, recurrent_p=0.3, zoneout_hidden_p=0.2), sequence(3, 2, 5)),
    "LayerDrop": (lambda: tt.LayerDrop([nn.Linear(4, 4) for _ in range(6)], 0.5), sequence(3, 4)),
    "LoRALinear": (lambda: lora(), sequence(6, 4)),
    "ConcreteDropout": (lambda: tt.ConcreteDropout(nn.Linear(4, 4), 0.5), sequence(6, 4)),
    "VariationalLinear": (lambda: tt.VariationalLinear(4, 4), sequence(6, 4)),
    "SparseVariationalConv2d": (lambda: tt.SparseVariationalConv2d(2, 3, 3), sequence(2, 2, 6, 6)),
    "DropConnectLinear": (lambda: tt.DropConnectLinear(4, 4), sequence(6, 4)),
    "weight_drop": (lambda: tt.weight_drop(nn.Linear(4, 4), "weight", 0.5), sequence(6, 4)),
    "attention": (lambda: Attention(), sequence(2, 3, 5, 4)),
}  # fmt: skip


def lora():
    layer = tt.LoRALinear(nn.Linear(4, 4), 2, p=0.5)
    nn.init.normal_(layer.up)
    return layer


class Attention(nn.Module):
    def forward(self, q):
        return tt.scaled_dot_product_attention(q, q, q, p=0.5, training=self.training)


class Sum(nn.Module):
    """A module of all kinds, each on its own input; in a checkpoint where one is asked for."""

    def __init__(self, how=None):
        super().__init__()
        self.how = how
        for name, (make, _) in WRITTEN.items():
            torch.manual_seed(0)
            self.add_module(name, make())

    def forward(self, arrays):
        return {name: self.part(getattr(self, name), x) for name, x in arrays.items()}

    def part(self, module, x):
        def first(x):
            return leaf(module(x))

        return first(x) if self.how is None else checkpoint(first, x, **self.how)


def leaf(y):
    return tree_leaves(y)[0]


def written(grad=False):
    return {name: x.clone().requires_grad_(grad) for name, (_, x) in WRITTEN.items()}


def compiled(model, backend):
    torch._dynamo.reset()
    return torch.compile(model, backend=backend, fullgraph=True)


HOW = {"non-reentrant": {"use_reentrant": False}, "reentrant": {"use_reentrant": True}}


# One of each kind of draw: masks, channels, samples, words, Gaussians, several to a call.
KINDS = ["DropKey", "DropPath", "GaussianDropout", "ShakeDrop", "SpatialDropout", "UniformDropout"]


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("how", "backend", "names"),
    [
        ("reentrant", "aot_eager", KINDS),
        pytest.param("non-reentrant", "aot_eager", None, marks=pytest.mark.long),
        ("non-reentrant", "inductor", KINDS),
        ("reentrant", "inductor", KINDS),
    ],
)
def test_a_compiled_checkpoint_draws_the_forwards_masks(how, backend, names):
    """Outputs and gradients are those of eager code that kept everything, from the same seeds."""
    arrays = beds(names, grad=True)
    torch.manual_seed(3)
    expected = Garden(names)(arrays)
    torch.manual_seed(3)
    found = compiled(Garden(names, HOW[how]), backend)(arrays)
    # Inductor's own kernels for exp, log and their kin are others.
    tolerance = 1e-6 if backend == "aot_eager" else 1e-5
    same(found, expected, tolerance)
    same(gradients(found, arrays), gradients(expected, arrays), tolerance)


@pytest.mark.long
@pytest.mark.parametrize("how", HOW)
def test_a_compiled_checkpoint_of_the_modules_written_by_hand(how):
    arrays = {name: (x,) for name, x in written(grad=True).items()}
    # It puts another weight into the module while that runs, which PyTorch's compiler does not
    # allow within a checkpoint.
    del arrays["weight_drop"]
    plain = {name: x for name, (x,) in arrays.items()}
    torch.manual_seed(3)
    expected = Sum()(plain)
    torch.manual_seed(3)
    found = compiled(Sum(HOW[how]), "aot_eager")(plain)
    same(found, expected, 1e-6)
    same(gradients(found, arrays), gradients(expected, arrays), 1e-5)


def test_a_compiled_checkpoint_of_an_input_without_a_gradient():
    """The first dropout of a model, whose gradient is that of the weights behind it."""
    block = nn.Sequential(tt.Dropout(0.5), nn.Linear(4, 1, bias=False))
    run = compiled(lambda x: checkpoint(block, x, use_reentrant=False).sin(), "aot_eager")
    x = torch.ones(8, 4)
    y = run(x)
    y.sum().backward()
    torch.manual_seed(0)
    for _ in range(3):
        block[1].weight.grad = None
        state = torch.get_rng_state()
        run(x).sum().backward()
        torch.set_rng_state(state)
        wide = block[0](x)
        slope = torch.cos(nn.functional.linear(wide, block[1].weight))
        torch.testing.assert_close(block[1].weight.grad, (slope * wide).sum(0, keepdim=True))


# ------------------------------------------------------------------------- tensors without values


def fake(mode, arrays):
    return [
        mode.from_tensor(x).requires_grad_() if x.is_floating_point() else mode.from_tensor(x)
        for x in arrays
    ]


def fakes(model, mode):
    """The model with fake parameters and buffers."""
    for part in model.modules():
        for held in (part._parameters, part._buffers):
            for name, x in held.items():
                if x is not None:
                    held[name] = mode.from_tensor(x)
    return model


def wanting(x):
    """A copy that wants a gradient where it can have one."""
    return x.detach().clone().requires_grad_(x.is_floating_point())


def backward(y):
    y = leaf(y)
    if y.requires_grad:
        y.sum().backward()
    return y


EACH = {name: (lambda name=name: garden.module(MODULES[name])) for name in sorted(MODULES)}
EACH |= {name: make for name, (make, _) in WRITTEN.items()}


def arrays_of(name):
    return beds([name])[name] if name in MODULES else (WRITTEN[name][1],)


@pytest.mark.parametrize("name", EACH)
def test_under_fake_tensors_a_module_has_the_shape_it_would_have(name):
    arrays, state = arrays_of(name), None
    with FakeTensorMode() as mode:
        model = fakes(EACH[name](), mode)
        state = torch.get_rng_state()
        y = backward(model(*fake(mode, arrays)))
    assert isinstance(y, FakeTensor)
    assert torch.equal(torch.get_rng_state(), state)  # as torch.nn's: nothing is drawn
    expected = leaf(EACH[name]()(*arrays))
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "DropPath"])
def test_a_fake_tensor_need_not_be_in_its_mode(name):
    """As under torch.nn: what makes other tensors beside it wants the mode around."""
    mode = FakeTensorMode()
    y = getattr(thinned.torch, name)(0.5)(mode.from_tensor(torch.ones(4, 3)))
    assert isinstance(y, FakeTensor)


@pytest.mark.parametrize("name", EACH)
def test_on_meta_tensors(name):
    arrays = [x.to("meta") for x in arrays_of(name)]
    assert backward(EACH[name]().to("meta")(*arrays)).is_meta


@pytest.mark.parametrize("name", EACH)
def test_adopted_under_fake_tensors(name):
    arrays = arrays_of(name)
    with FakeTensorMode() as mode:
        model = nn.ModuleDict({"part": EACH[name]()})
        if name != "attention":
            tt.adopt(model, seed=1)
        fakes(model, mode)
        assert isinstance(backward(model["part"](*fake(mode, arrays))), FakeTensor)


SAMPLED = [row for row in ROWS if row.sample is not None]


@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: row.name)
@pytest.mark.parametrize("inside", [True, False])
def test_rows_at_an_address_under_fake_tensors(row, inside):
    arrays = inputs(row, KIND)
    how = {"p": row.sample.p, "at": AT, **row.sample.options}
    expected = row.call(arrays, **how)
    mode = FakeTensorMode(allow_non_fake_inputs=not inside)
    if inside:
        with mode:
            y = row.call(fake(mode, arrays), **how)
    else:
        y = row.call(fake(mode, arrays), **how)
    assert isinstance(y, FakeTensor)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)


def test_masks_like_a_fake_tensor_are_fake():
    mode = FakeTensorMode()
    x = mode.from_tensor(torch.ones(4, 6))
    for context in (mode, warnings.catch_warnings()):
        with context:
            mask = thinned.keep_mask((4, 6), 0.5, AT, like=x)
        assert isinstance(mask, FakeTensor)
        assert (mask.dtype, mask.shape) == (torch.bool, (4, 6))


def test_an_array_is_dropped_under_fake_tensors():
    x = torch.ones(4, 6).numpy()
    with FakeTensorMode():
        y = thinned.dropout(x, 0.5, AT)
    assert (y == thinned.dropout(x, 0.5, AT)).all()


# --------------------------------------------------------------------------------------- recordings


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: row.name)
def test_a_recording_by_make_fx_holds_the_mask_of_its_address(row, kind):
    def call(*arrays):
        return row.call(arrays, row.sample.p, AT, **row.sample.options)

    arrays = inputs(row, KIND)
    recorded = make_fx(call, tracing_mode=kind)(*arrays)
    torch.testing.assert_close(recorded(*arrays), call(*arrays), equal_nan=True)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_recording_by_make_fx_draws_anew_at_each_run(name):
    module, arrays = garden.module(MODULES[name]), beds([name])[name]
    recorded = make_fx(module)(*arrays)
    torch.manual_seed(1)
    first = [leaf(recorded(*arrays)) for _ in range(8)]
    torch.manual_seed(1)
    again = [leaf(recorded(*arrays)) for _ in range(8)]
    for a, b in zip(first, again, strict=True):
        assert torch.allclose(a, b, equal_nan=True)
    if name != "DropGrad":  # which leaves y as it is
        assert any(not torch.equal(a, b) for a, b in itertools.pairwise(first))


@pytest.mark.parametrize("name", EACH)
def test_a_module_under_a_dispatch_mode_draws_what_it_draws_alone(name):
    torch.manual_seed(0)
    module, arrays = EACH[name](), arrays_of(name)
    torch.manual_seed(1)
    expected = leaf(copy.deepcopy(module)(*arrays))
    torch.manual_seed(1)
    with FlopCounterMode(display=False):
        found = backward(module(*map(wanting, arrays)))
    torch.testing.assert_close(found.detach(), expected.detach(), equal_nan=True)
