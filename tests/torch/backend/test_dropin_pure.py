"""The path of tensor operations, where there is no kernel: the reference bit for bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import thinned
import thinned.torch
from thinned import reference
from thinned.backends.base import Draw
from thinned.backends.torch import compiled_node, kernel, spec
from thinned.backends.torch.backend import backend
from thinned.backends.torch.eager import filled
from thinned.backends.torch.kernel import Noise, _pure, coordinates_of, make
from thinned.backends.torch.operators import noise_registered
from thinned.backends.torch.spec import Coordinates
from thinned.kernel import use_kernel
from thinned.window import Placement, place

CPU = torch.device("cpu")
AT = thinned.Address(seed=2**63 + 12345, site="here", step=2**32 - 2, call=2**16 - 1)

# The same examples on every machine and every day.
steady = settings(derandomize=True, database=None, deadline=None, max_examples=80)

addresses = st.builds(
    thinned.Address,
    seed=st.integers(0, 2**64 - 1),
    site=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 2),
    call=st.integers(0, 2**16 - 1),
)
thresholds = st.one_of(
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32]),
)


@st.composite
def placements(draw, last=2**46):
    """Any shape, offset and strides, in order or not, shared axes and repeated draws among them."""
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    stride = st.one_of(st.integers(0, 300), st.sampled_from([1, 128, 129, 2**20, 2**32 + 1]))
    strides = tuple(draw(stride) for _ in shape)
    offset = draw(st.one_of(st.integers(0, 300), st.integers(0, last)))
    return Placement(shape, offset, strides, False, strides)


@steady
@given(addresses, thresholds, placements(), st.booleans(), st.booleans())
def test_masks_are_the_references(at, threshold, where, mirror, as_tensors):
    expected = reference.keep(at, threshold, where, mirror)
    words, t = coordinates_of(at), threshold
    if as_tensors:  # as under a compiler
        words = spec.Coordinates(*(torch.tensor(word) for word in words))
        t = torch.tensor(threshold)
    found = spec.keep(words, t, where, mirror, CPU)
    np.testing.assert_array_equal(found.numpy(), expected)


@steady
@given(addresses, placements(last=2**41), st.booleans())
def test_words_are_the_references(at, where, mirror):
    found = spec.words(coordinates_of(at), where, mirror, CPU)
    expected = reference.words(at, reference.indices(where, where.drawn), mirror)
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.int64))


@steady
@given(addresses, placements(last=2**41), st.booleans())
def test_gaussian_draws_are_the_references(at, where, mirror):
    found = spec.gaussian(coordinates_of(at), where, mirror, CPU)
    expected = reference.gaussian(at, reference.indices(where, where.drawn), mirror)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(5000,), (7, 300), (2, 3, 700)])
def test_longer_runs(shape):
    for offset in (0, 77, 2**39 - 1000):
        where = place("test", (math.prod(shape),), (), thinned.Window(offset))
        found = spec.keep(coordinates_of(AT), 2**30 + 7, where, False, CPU)
        expected = reference.keep_range(AT, 2**30 + 7, offset, math.prod(shape))
        np.testing.assert_array_equal(found.numpy(), expected)
    found = spec.keep(coordinates_of(AT), 2**30, place("test", shape), False, CPU)
    np.testing.assert_array_equal(found.numpy(), reference.keep(AT, 2**30, place("test", shape)))


@pytest.mark.parametrize("threshold", [0, 1, 2**16, 429496730, 3 * 2**29, 2**31, 2**32 - 1, 2**32])
def test_only_planes_that_tell_are_made(threshold):
    where = place("test", (3000,))
    found = spec.keep(coordinates_of(AT), threshold, where, False, CPU)
    np.testing.assert_array_equal(found.numpy(), reference.keep(AT, threshold, where))
    digits = f"{threshold:032b}"[:32].rstrip("0")  # 2^32 has a digit more, which no plane has
    assert len(digits) * (threshold < 2**32) <= spec._planes(threshold) <= 32
    assert spec._planes(2**31) == spec._planes(0) == spec._planes(2**32) == 1


def test_fault_a_plane_is_missing(monkeypatch):
    planes = spec._planes
    monkeypatch.setattr(spec, "_planes", lambda threshold: max(planes(threshold) // 2, 1))
    for threshold in (429496730, 3 * 2**29):
        with pytest.raises(AssertionError):
            test_only_planes_that_tell_are_made(threshold)


# --------------------------------------------------------------------------------------- the values


@pytest.fixture
def without_kernel():
    before = thinned.kernel_info().name
    use_kernel("reference")
    yield
    use_kernel(before)


def in_both_ways(call):
    """What `call` gives by the kernel and by tensor operations."""
    before = thinned.kernel_info().name
    by_kernel = call()
    use_kernel("reference")
    try:
        return by_kernel, call()
    finally:
        use_kernel(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("fill", [0.0, -1.7, "array"])
def test_values_are_the_kernels(dtype, p, fill):
    x = torch.randn(40, 50).mul(100).to(dtype)
    x.view(-1)[:6] = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 65504.0, 1e-40]).to(dtype)
    draw = Draw(AT, reference.threshold(p), place("test", (40, 50), (), thinned.Window(3)))
    how = Noise(draw, reference.scale_for(p), 0.0 if fill == "array" else fill)
    array = torch.randn(40, 50).to(dtype) if fill == "array" else None
    expected, found = in_both_ways(lambda: make(x, how, None, array))
    np.testing.assert_array_equal(found.double().numpy(), expected.double().numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_gaussian_noise_is_the_kernels(dtype):
    x = torch.randn(40, 50, dtype=torch.float64).to(dtype)
    draw = Draw(AT, 0, place("test", (40, 50)))
    for call in (
        lambda: backend.gaussian(draw).double(),
        lambda: backend.apply_gaussian(x, draw, 0.5, None).double(),
    ):
        expected, found = in_both_ways(call)
        tolerance = {torch.bfloat16: 0.02}.get(dtype, 2e-5)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        backend.gaussian(draw).numpy(),
        thinned.backends.backend_of("test", np.empty(0)).gaussian(draw),
        atol=4e-6,
    )


@pytest.mark.usefixtures("without_kernel")
def test_the_forced_reference_runs_the_modules():
    x = torch.ones(50, requires_grad=True)
    y = thinned.torch.Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(
        thinned.dropout(x.detach(), 0.3, AT).bool(), thinned.keep_mask(50, 0.3, AT, like=x)
    )


def test_packed_and_words_are_numpys():
    numpy = thinned.backends.backend_of("test", np.empty(0))
    for shape in ((0,), (13,), (5, 8)):
        draw = Draw(AT, 2**30, place("test", shape))
        np.testing.assert_array_equal(backend.packed(draw).numpy(), numpy.packed(draw))
        np.testing.assert_array_equal(backend.words(draw).numpy(), numpy.words(draw))


def test_on_meta_it_gives_shapes():
    where = place("test", (4, 5), (0,))
    assert spec.keep(coordinates_of(AT), 5, where, False, torch.device("meta")).shape == (
        1,
        5,
    )


def test_a_compiler_may_fuse_it():
    low, high, site, _, number = coordinates_of(AT)

    def call(x, step):
        at = Coordinates(low, high, site, step, number)
        mask = spec.keep(at, 2**31, place_of, False, x.device)
        return torch.where(mask, x * 2.0, 0.0)

    place_of = place("test", (6, 40))
    x = torch.randn(6, 40)
    found = torch.compile(call, fullgraph=True, backend="aot_eager")(x, torch.tensor(AT.step))
    assert torch.equal(found, thinned.dropout(x, 0.5, AT))
    torch._dynamo.reset()


# ------------------------------------------------------------------------------------------- fills

# -0.0 and what rounds to it, what half types and float32 have no finite value for, and what they
# have only as a subnormal number or not at all.
FILLS = [-0.0, 1e-8, -1e-320, 0.1, 65519.9, 70000.0, 1e39, math.inf, math.nan]
WAYS = {
    "eager": lambda x, how: backend.apply(x, how.draw, how.scale, how.fill, None),
    "tensor operations": lambda x, how: _pure(x, how, None),
    "operator": noise_registered,
    "compiled": lambda x, how: torch.compile(
        lambda x: backend.apply(x, how.draw, how.scale, how.fill, None),
        backend="aot_eager",
        fullgraph=True,
    )(x),
}


def bits(array):
    """Bit patterns, all NaN alike."""
    array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.view(f"u{array.itemsize}")


def follows_the_reference(way, dtype, fill, p):
    torch.compiler.reset()
    x = torch.linspace(-3.0, 3.0, 300, dtype=torch.float64).to(dtype)
    x[5:8] = torch.tensor([math.nan, math.inf, -0.0])
    draw = Draw(AT, reference.threshold(p), place("t", (300,), (), None), False)
    kept = reference.keep(draw.at, draw.threshold, draw.place)
    for scale in (reference.scale_for(p), 1.0):
        expected = reference.apply(x.numpy(), kept, scale, fill)
        y = WAYS[way](x, Noise(draw, scale, fill)).numpy()
        if not np.array_equal(bits(y), bits(expected)):
            return False
    return True


@pytest.mark.one_in(4)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_fill_is_taken_as_the_reference_takes_it(way, dtype, fill):
    assert follows_the_reference(way, dtype, fill, 0.4)


@pytest.mark.parametrize("way", ["eager", "tensor operations", "operator"])
def test_a_fill_that_is_taken_as_it_came_is_caught(way, monkeypatch):
    monkeypatch.setattr(compiled_node, "noise", compiled_node._nothing)
    monkeypatch.setattr(kernel, "_fill", lambda number, kind: number)
    assert not follows_the_reference(way, torch.float16, -1e-320, 0.4)


@pytest.mark.parametrize("fill", [[70000.0, -0.0, 1e-8], [0.1, -2.5, 3.0]])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_an_array_of_fills_is_taken_in_the_arrays_type(dtype, fill):
    x = torch.linspace(-3.0, 3.0, 300, dtype=torch.float64).to(dtype)
    array = torch.tensor(fill * 100, dtype=torch.float64).to(dtype)
    draw = Draw(AT, reference.threshold(0.4), place("t", (300,), (), None), False)
    kept = reference.keep(draw.at, draw.threshold, draw.place)
    how = Noise(draw, reference.scale_for(0.4))
    expected = bits(reference.apply(x.numpy(), kept, how.scale, array.numpy()))
    assert np.array_equal(bits(filled(x, array, how).numpy()), expected)
    assert np.array_equal(bits(_pure(x, how, array).numpy()), expected)
    assert np.array_equal(bits(noise_registered(x, how, array).numpy()), expected)
    many = torch.func.vmap(lambda x, f: filled(x, f, how))(x.unsqueeze(0), array.unsqueeze(0))
    assert np.array_equal(bits(many[0].numpy()), expected)
