"""What comes out: the masks of NumPy bit for bit, values, strides, odd tensors, refused ones."""

import numpy as np
import pytest
import torch

import thinned
from thinned.torch import functional as F  # noqa: N812

AT = thinned.Address(seed=11, site="here", step=4, call=2)
TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


def same(actual, expected):
    """Values to the bit, NaN equal to NaN, and everything a tensor says of itself."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual.double().numpy(), expected.double().numpy())


# ----------------------------------------------------------------------------------------- the mask


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_masks_are_numpys(p):
    for how in (
        {},
        {"shared_axes": 1},
        {"shared_axes": (0, 2)},
        {"mirror": True},
        {"window": thinned.Window(3)},
        {"window": thinned.Window((1, 2, 3), (9, 9, 20))},
    ):
        x = torch.randn(5, 6, 7)
        expected = thinned.dropout(x.numpy(), p, AT, **how)
        same(thinned.dropout(x, p, AT, **how), torch.from_numpy(expected))
        same(F.dropout(x, p, True, at=AT, **how), torch.from_numpy(expected))
        mask = thinned.keep_mask((5, 6, 7), p, AT, like=x, **how)
        assert torch.equal(mask, torch.from_numpy(thinned.keep_mask((5, 6, 7), p, AT, **how)))


def test_keep_mask_is_where_like_is():
    mask = thinned.keep_mask((3, 4), 0.5, AT, like=torch.empty(0, device="meta"))
    assert mask.device.type == "meta"
    assert mask.dtype == torch.bool
    assert mask.shape == (3, 4)


def test_channel_masks_are_those_of_shared_axes():
    x = torch.randn(4, 5, 6, 7)
    expected = thinned.dropout(x, 0.5, AT, shared_axes=(2, 3))
    assert torch.equal(F.dropout2d(x, 0.5, True, at=AT), expected)
    assert torch.equal(
        F.dropout1d(x[..., 0], 0.5, True, at=AT), thinned.dropout(x[..., 0], 0.5, AT, shared_axes=2)
    )


def test_large_tensors_use_several_threads_and_give_the_same():
    x = torch.randn(1_000_003)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = F.dropout(x, 0.3, True, at=AT)
        torch.set_num_threads(4)
        assert torch.equal(F.dropout(x, 0.3, True, at=AT), alone)
    finally:
        torch.set_num_threads(before)


# --------------------------------------------------------------------------------------- the values


@every_type
def test_values_are_numpys_in_every_type(dtype):
    x = torch.randn(3000, dtype=torch.float64).mul(100).to(dtype)
    y = F.dropout(x, 0.3, True, at=AT)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.tensor(1 / 0.7, dtype=torch.float64).to(kind)
    keep = thinned.keep_mask(3000, 0.3, AT, like=x)
    same(y, torch.where(keep, (x.to(kind) * scale).to(dtype), torch.zeros_like(x)))


@every_type
def test_dropped_nan_and_infinity_are_zero(dtype):
    keep = thinned.keep_mask(64, 0.5, AT, like=torch.empty(0))
    for bad in (float("nan"), float("inf"), -float("inf")):
        y = F.dropout(torch.full((64,), bad, dtype=dtype), 0.5, True, at=AT)
        assert (y[~keep] == 0.0).all()
        same(y[keep], torch.full((int(keep.sum()),), bad, dtype=dtype))


@every_type
@pytest.mark.parametrize(
    "function",
    [F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout],
)
def test_p_one_gives_zeros_and_zero_gradients(dtype, function):
    shape = (2, 3, 4) if function is F.dropout1d else (2, 3, 4, 5)
    x = torch.full(shape, float("nan"), dtype=dtype, requires_grad=True)
    y = function(x, 1.0, True)
    assert (y == 0.0).all()
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert (dx == 0.0).all()
    inplace = torch.full(shape, float("nan"), dtype=dtype)
    assert (function(inplace, 1.0, True, True) == 0.0).all()
    assert (inplace == 0.0).all()


def test_second_derivatives_at_p_one_are_zero():
    x = torch.tensor([1.0, float("inf"), 3.0], requires_grad=True)
    g = torch.ones(3, requires_grad=True)
    (dx,) = torch.autograd.grad(F.dropout(x, 1.0, True), x, g, create_graph=True)
    (dg,) = torch.autograd.grad(dx.sum(), g)
    assert dg.tolist() == [0.0, 0.0, 0.0]


@every_type
def test_alpha_dropout_in_every_type(dtype):
    x = torch.randn(500).to(dtype)
    keep = thinned.keep_mask(500, 0.1, AT, like=x)
    y = F.alpha_dropout(x, 0.1, True, at=AT)
    a, alpha = 0.9212846, -1.7580993408473766
    expected = a * torch.where(keep, x.double(), alpha) - a * alpha * 0.1
    assert y.dtype == dtype
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-6}.get(dtype, torch.finfo(dtype).eps * 2)
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------------- shape, strides


def layouts():
    x = torch.randn(4, 6, 8, 10)
    return {
        "contiguous": x,
        "channels_last": x.to(memory_format=torch.channels_last),
        "permuted": x.permute(2, 0, 3, 1),
        "transposed": x.transpose(0, 3),
        "sliced": x[:, ::2, 1:7, ::3],
        "expanded": torch.randn(4, 1, 8, 1).expand(4, 6, 8, 10),
        "shifted": torch.randn(4 * 6 * 8 * 10 + 1)[1:].reshape(4, 6, 8, 10),
        "overlapping": torch.randn(40).as_strided((4, 6), (3, 2)),
        "negated": torch.randn(4, 6, dtype=torch.complex64).conj().imag,
        "of zeros": torch._efficientzerotensor((4, 6)),
    }


@pytest.mark.parametrize("name", layouts())
def test_any_layout_gives_the_same_values_and_torchs_strides(name):
    x = layouts()[name]
    y = F.dropout(x, 0.4, True, at=AT)
    same(y, F.dropout(x.contiguous(), 0.4, True, at=AT))
    assert y.stride() == torch.empty_like(x).stride()
    if x.dim() == 4:
        shared = F.dropout2d(x, 0.4, True, at=AT)
        same(shared, F.dropout2d(x.contiguous(), 0.4, True, at=AT))
        assert shared.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("name", ["channels_last", "permuted", "sliced", "negated"])
def test_any_layout_in_place(name):
    x = layouts()[name].clone() if name != "negated" else layouts()[name]
    expected = F.dropout(x, 0.4, True, at=AT)
    assert F.dropout(x, 0.4, True, True, at=AT) is x
    same(x, expected)


def test_gradients_keep_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    y = F.dropout(x, 0.5, True)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 1, 1)])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_small_shapes(shape, p):
    x = torch.ones(shape, requires_grad=True)
    y = F.dropout(x, p, True, at=AT)
    assert y.shape == shape
    expected = thinned.dropout(np.ones(shape, np.float32), p, AT)
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected)


# -------------------------------------------------------------------------------------- odd tensors


def test_jagged_tensors_are_dropped_by_value():
    parts = [torch.randn(3, 4), torch.randn(5, 4), torch.randn(0, 4)]
    x = torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True)
    y = thinned.torch.Dropout(0.5)(x)
    assert y.is_nested
    assert [t.shape for t in y.unbind()] == [t.shape for t in parts]
    y = F.dropout(x, 0.5, True, at=AT)
    same(y.values().detach(), F.dropout(x.values().detach(), 0.5, True, at=AT))
    y.values().sum().backward()
    same(x.grad.values(), F.dropout(torch.ones(8, 4), 0.5, True, at=AT))
    plain = torch.nested.nested_tensor(parts, layout=torch.jagged)
    assert F.dropout(plain, 0.5, True, True, at=AT) is plain
    same(plain.values(), y.values().detach())
    assert F.dropout(plain, 0.5, False) is plain


def test_meta_tensors_have_shape_and_no_values():
    x = torch.empty(3, 4, device="meta", requires_grad=True)
    for y in (thinned.torch.Dropout(0.5)(x), thinned.torch.AlphaDropout(0.5)(x)):
        assert y.device.type == "meta"
        assert y.shape == (3, 4)
    (dx,) = torch.autograd.grad(F.dropout(x, 0.5, True).sum(), x)
    assert dx.shape == (3, 4)


def test_a_default_device_does_not_touch_the_seed():
    with torch.device("meta"):
        y = thinned.torch.Dropout(0.5)(torch.ones(5, device="cpu"))
    assert y.device.type == "cpu"


def test_subclasses_stay_what_they_are():
    class Marked(torch.Tensor):
        pass

    x = torch.ones(30).as_subclass(Marked)
    y = F.dropout(x, 0.5, True, at=AT)
    assert type(y) is Marked
    assert torch.equal(y.as_subclass(torch.Tensor), F.dropout(torch.ones(30), 0.5, True, at=AT))
    parameter = torch.nn.Parameter(torch.ones(30))
    y = F.dropout(parameter, 0.5, True, at=AT)
    assert type(y) is torch.Tensor
    assert y.requires_grad


def test_fake_tensors_have_shape_and_no_values():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        y = thinned.torch.Dropout(0.5)(torch.ones(3, 4))
        assert y.shape == (3, 4)


def test_what_cannot_be_dropped():
    named = r"^dropout: x must be of type float16, bfloat16, float32 or float64, got "
    for dtype in (torch.int32, torch.bool, torch.float8_e5m2):
        with pytest.raises(TypeError, match=named):
            F.dropout(torch.ones(3, dtype=dtype), 0.5, True)
        with pytest.raises(TypeError, match=named):
            thinned.dropout(torch.ones(3, dtype=dtype), 0.5, AT)
    sparse = torch.eye(4).to_sparse_bsr((2, 2))
    with pytest.raises(TypeError, match=r"^dropout: x must be sparse as COO, or CSR or CSC"):
        F.dropout(sparse, 0.5, True)
    strided = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.strided)
    with pytest.raises(TypeError, match=r"jagged where it is nested"):
        F.dropout(strided, 0.5, True)
    with pytest.raises(TypeError, match=r"^dropout: input must be a torch tensor, got list"):
        F.dropout([1.0], 0.5, True)


test_what_cannot_be_dropped = pytest.mark.filterwarnings(
    # PyTorch's own, about layouts that it calls experimental.
    "ignore:Sparse BSR tensor support:UserWarning",
    "ignore:The PyTorch API of nested tensors:UserWarning",
)(test_what_cannot_be_dropped)


# ---------------------------------------------------------------------------------------- arguments

FUNCTIONS = [
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_training_has_no_default(function):
    x = torch.ones(2, 3, 4) if function is F.dropout1d else torch.ones(2, 3, 4, 5)
    with pytest.raises(TypeError) as caught:
        function(x, 0.5)
    assert str(caught.value) == (
        f"{function.__name__}: training must be given: training=self.training in a module. "
        "Left out, dropout would go on in evaluation."
    )
    with pytest.raises(TypeError, match="training must be True or False"):
        function(x, 0.5, training=0.5)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_p_is_checked_in_evaluation_too(function, p):
    x = torch.ones(2, 3, 4) if function is F.dropout1d else torch.ones(2, 3, 4, 5)
    for training in (True, False):
        with pytest.raises(ValueError, match=r": p must be a float in \[0, 1\], got "):
            function(x, p, training)


def test_p_may_be_a_tensor_and_is_one_number():
    x = torch.ones(500, dtype=torch.float64)
    p = torch.tensor(0.1)  # binary32: the neighbour of a tenth
    assert torch.equal(F.dropout(x, p, True, at=AT), F.dropout(x, p.item(), True, at=AT))
    with pytest.raises(TypeError, match=r"p must be one number in \[0, 1\]"):
        F.dropout1d(x.reshape(5, 10, 10), torch.full((10,), 0.5), True)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_generator_and_address(function):
    x = torch.randn(4, 5, 6) if function is F.dropout1d else torch.randn(4, 5, 6, 7)
    first, second = (torch.Generator().manual_seed(n) for n in (3, 4))
    y = function(x, 0.5, True, generator=first)
    assert not torch.equal(function(x, 0.5, True, generator=second), y)
    state = torch.get_rng_state()
    assert torch.equal(function(x, 0.5, True, generator=first.manual_seed(3)), y)
    assert torch.equal(function(x, 0.5, True, at=AT), function(x, 0.5, True, at=AT))
    assert torch.equal(torch.get_rng_state(), state)  # the default generator was not asked
    with pytest.raises(ValueError, match="at and generator both say which mask"):
        function(x, 0.5, True, at=AT, generator=first)


def test_out():
    x = torch.randn(6, 10)
    expected = thinned.dropout(x, 0.4, AT)
    for out in (torch.full((6, 10), 9.0), torch.full((10, 6), 9.0).T):
        assert thinned.dropout(x, 0.4, AT, out=out) is out
        assert torch.equal(out, expected)
    out = torch.zeros(6, 10)
    assert thinned.dropout(x, 0.4, AT, training=False, out=out) is out
    assert torch.equal(out, x)
    assert thinned.dropout(x, 0.4, AT, out=x) is x
    assert torch.equal(x, expected)
    for bad, kind, text in (
        (np.zeros((6, 10), np.float32), TypeError, "out must be a torch tensor, got ndarray"),
        (torch.zeros(6, 9), ValueError, r"out must be of x's shape \(6, 10\), got \(6, 9\)"),
        (torch.zeros(6, 10).double(), TypeError, "out must be of x's type torch.float32, got"),
        (torch.zeros(6, 10, device="meta"), ValueError, "out must be on x's device cpu, got meta"),
    ):
        with pytest.raises(kind, match=f"^dropout: {text}"):
            thinned.dropout(x, 0.4, AT, out=bad)
