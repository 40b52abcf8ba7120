"""Attention with dropout on its weights: PyTorch's masks, JAX's function, nothing kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import export
from jax.sharding import PartitionSpec

import thinned
import thinned.jax
import thinned.torch
from thinned import Address
from thinned.jax import blocks, dot_product_attention as attention

AT = Address(seed=3, site="attention", step=5)


def inputs(B=2, T=40, S=30, N=4, K=4, H=8, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.fixture(autouse=True)
def short_blocks(request, monkeypatch):
    """Blocks so short that small arrays have several."""
    if "whole_blocks" not in request.fixturenames:
        monkeypatch.setattr(blocks, "ROWS", 16)


@pytest.fixture
def whole_blocks():
    """Blocks as they are."""


def plain(q, k, v, keep, p, bias=None, seen=None):
    """The formula as it stands, with the mask given."""
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], 2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1])
    scores = scores if bias is None else scores + bias
    scores = scores if seen is None else jnp.where(seen, scores, -jnp.inf)
    weights = jnp.where(keep, jax.nn.softmax(scores, -1) / (1 - p), 0)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


@pytest.mark.parametrize(
    ("sizes", "how"),
    [
        ({"T": 7, "S": 9}, {}),
        ({"T": 40, "K": 2}, {}),
        ({"T": 33, "S": 33, "B": 1}, {"is_causal": True}),
    ],
    ids=["one block", "blocks and a rest, heads in groups", "causal"],
)
def test_masks_and_gradients_are_those_of_pytorch(sizes, how, either):
    arrays = inputs(**sizes)

    def loss(q, k, v):
        y = attention(q, k, v, p=0.3, at=AT, **how)
        return (y**2).sum(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arrays)
    theirs = [torch.tensor(np.asarray(x)).transpose(1, 2).requires_grad_() for x in arrays]
    z = thinned.torch.scaled_dot_product_attention(
        *theirs, p=0.3, at=AT, training=True, enable_gqa=True, **how
    )
    (z**2).sum().backward()
    np.testing.assert_allclose(y, z.detach().transpose(1, 2).numpy(), atol=2e-6)
    for grad, x in zip(grads, theirs, strict=True):
        np.testing.assert_allclose(grad, x.grad.transpose(1, 2).numpy(), rtol=2e-4, atol=1e-5)


ONWARD, ENDS = jnp.arange(30), jnp.array([8, 29])[:, None, None, None]
SEEN = {
    "bias": lambda q, k: {"bias": jnp.sin(jnp.arange(40.0)[:, None] + jnp.arange(30.0))},
    "bias of heads": lambda q, k: {"bias": jnp.arange(4.0)[None, :, None, None]},
    "mask": lambda q, k: {"mask": jnp.tril(jnp.ones((40, 30), bool), 5)[None, None]},
    "mask of samples": lambda q, k: {"mask": ONWARD < ENDS},
    "window": lambda q, k: {"local_window_size": (20, 6)},
    "lengths": lambda q, k: {
        "key_value_seq_lengths": jnp.array([9, 30]), "query_seq_lengths": jnp.array([40, 19]),
    },
    "scale": lambda q, k: {"scale": 0.7},
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.one_in(3)
def test_every_argument_of_jax_does_what_it_does_there(name):
    """With a p so small that all is kept, the numbers are JAX's own."""
    q, k, v = inputs(K=2)
    how = SEEN[name](q, k)
    if "bias" in how:
        how["bias"] = jnp.broadcast_to(how["bias"], (1, *how["bias"].shape)[-4:])
        how["bias"] = how["bias"].reshape(*(1,) * (4 - how["bias"].ndim), *how["bias"].shape)

    def both(function, **more):
        def loss(q, k, v):
            y, rest = function(q, k, v, **how, **more, return_residual=True)
            return (jnp.sin(y)).sum(), (y, rest)

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)

    ours, theirs = both(attention, p=1e-9, at=AT), both(jax.nn.dot_product_attention)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_the_gradient_of_a_bias():
    q, k, v = inputs(T=32)
    bias = jnp.sin(jnp.arange(32.0)[:, None] + jnp.arange(30.0))[None, None]
    keep = thinned.keep_mask((2, 4, 32, 30), 0.3, AT, like=q)
    ours = jax.grad(lambda b: (attention(q, k, v, b, p=0.3, at=AT) ** 2).sum())(bias)
    theirs = jax.grad(lambda b: (plain(q, k, v, keep, 0.3, b) ** 2).sum())(bias)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_traced_rate_a_mirror_and_shared_axes():
    q, k, v = inputs(T=20, S=10)
    y = jax.jit(lambda p: attention(q, k, v, p=p, at=AT))(0.25)
    np.testing.assert_allclose(y, attention(q, k, v, p=0.25, at=AT), atol=2e-6)
    for how in ({"mirror": True}, {"shared_axes": (0, 1)}, {"shared_axes": (2,)}):
        keep = thinned.keep_mask((2, 4, 20, 10), 0.4, AT, like=q, **how)
        y = attention(q, k, v, p=0.4, at=AT, **how)
        np.testing.assert_allclose(y, plain(q, k, v, keep, 0.4), atol=2e-6)
    assert float(jnp.abs(attention(q, k, v, p=1.0, at=AT)).max()) == 0.0
    assert bool(jnp.isnan(jax.jit(lambda p: attention(q, k, v, p=p, at=AT))(1.5)).all())


def test_without_anything_to_drop_it_is_jaxs_own():
    q, k, v = inputs()
    own = jax.nn.dot_product_attention(q, k, v)
    for how in (
        {"p": 0.0},
        {},
        {"p": 0.5, "at": AT, "training": False},
        {"p": 0.5, "training": False},
    ):
        assert bool((attention(q, k, v, **how) == own).all())
    wide = jnp.concatenate([v, v], -1)
    np.testing.assert_allclose(attention(q, k, wide)[..., 8:], own, atol=2e-6)


def test_transforms():
    q, k, v = inputs(B=1, T=20, S=10, N=2, K=2)

    def f(q, at):
        return attention(q, k, v, p=0.3, at=at)

    ats = [AT.fold_in(n) for n in range(3)]
    many = jax.jit(jax.vmap(lambda n: f(q, AT.fold_in(n))))(jnp.arange(3))
    one = jax.jit(f)
    for y, at in zip(many, ats, strict=True):
        np.testing.assert_allclose(y, one(q, at), atol=2e-6)
    dq = jnp.cos(q)
    keep = thinned.keep_mask((1, 2, 20, 10), 0.3, AT, like=q)
    _, ours = jax.jvp(lambda q: f(q, AT), (q,), (dq,))
    _, theirs = jax.jvp(lambda q: plain(q, k, v, keep, 0.3), (q,), (dq,))
    np.testing.assert_allclose(ours, theirs, atol=5e-6)

    def hessian_product(function):
        grad = jax.grad(lambda q: (function(q) ** 2).sum())
        return jax.jit(lambda q, dq: jax.jvp(grad, (q,), (dq,))[1])(q, dq)

    ours = hessian_product(lambda q: f(q, AT))
    theirs = hessian_product(lambda q: plain(q, k, v, keep, 0.3))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    again = jax.jit(jax.grad(lambda q: jax.checkpoint(lambda q: f(q, AT))(q).sum()))(q)
    theirs = jax.jit(jax.grad(lambda q: plain(q, k, v, keep, 0.3).sum()))(q)
    np.testing.assert_allclose(again, theirs, atol=5e-6)
    whole = one(q[:, :4], AT)
    with jax.disable_jit():
        np.testing.assert_allclose(f(q[:, :4], AT), whole, atol=2e-6)


def test_nothing_of_the_size_of_the_weights_is_kept_or_made(pure, whole_blocks):
    q, k, v = inputs(B=1, T=1024, S=1024, N=2, K=2)
    bias = jnp.zeros((1, 1, 1, 1024))

    def loss(q, k, v):
        return (attention(q, k, v, bias, p=0.1, at=AT) ** 2).sum()

    square = 2 * 1024 * 1024
    _, back = jax.vjp(loss, q, k, v)
    kept = [x.size for x in jax.tree.leaves(back)]
    assert max(kept) <= 2 * q.size
    program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(q, k, v)
    sizes = [v.aval.size for v in variables(program.jaxpr)]
    assert max(sizes) == 2 * blocks.ROWS * 1024
    memory = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, v).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * square


def variables(jaxpr):
    """Of a program and all programs in it."""
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from variables(inner)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_types_and_samples_alone(dtype):
    q, k, v = inputs(T=20, S=10, dtype=dtype)
    y = attention(q, k, v, p=0.3, at=AT)
    assert y.dtype == dtype
    wide = attention(*(x.astype(jnp.float32) for x in (q, k, v)), p=0.3, at=AT)
    np.testing.assert_allclose(y.astype(jnp.float32), wide, atol=0.03)
    alone = attention(q[0], k[0], v[0], p=0.3, at=AT)
    assert bool((alone == attention(q[:1], k[:1], v[:1], p=0.3, at=AT)[0]).all())


def test_a_part_of_a_batch_takes_its_part_of_the_masks():
    q, k, v = inputs(T=20, S=10)
    whole = attention(q, k, v, p=0.3, at=AT)
    part = attention(q[1:], k[1:], v[1:], p=0.3, at=AT, window=thinned.Window(1))
    np.testing.assert_allclose(part, whole[1:], atol=2e-6)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("data")

    def body(q, k, v):
        weights = jax.ShapeDtypeStruct((q.shape[0], 4, 20, 10), q.dtype)
        return attention(q, k, v, p=0.3, at=AT, window=thinned.jax.window(weights, spec))

    split = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(split(q, k, v), whole, atol=2e-6)


def test_export_with_symbols():
    lengths = export.symbolic_shape("b, t, s")
    q, k, v = inputs(T=20, S=10)
    specs = [
        jax.ShapeDtypeStruct((lengths[0], length, 4, 8), jnp.float32)
        for length in (lengths[1], lengths[2], lengths[2])
    ]
    program = export.export(jax.jit(lambda q, k, v: attention(q, k, v, p=0.3, at=AT)))(*specs)
    y = export.deserialize(program.serialize()).call(q, k, v)
    np.testing.assert_allclose(y, attention(q, k, v, p=0.3, at=AT), atol=2e-6)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"at": None}, TypeError, "at must be a thinned.Address"),
        ({"p": 1.5}, ValueError, "p must be"),
        ({"mask": jnp.ones((1, 1, 6, 5))}, TypeError, "Numbers to be added to .* are `bias`"),
        ({"bias": jnp.ones((3, 1, 6, 5))}, ValueError, r"broadcasts to \(2, 4, 6, 5\)"),
        ({"implementation": "cudnn"}, ValueError, "cuDNN drops by masks of its own"),
        ({"local_window_size": -1}, ValueError, "local_window_size"),
        ({"query_seq_lengths": jnp.ones(3, int)}, ValueError, r"integers of shape \(2,\)"),
        ({"key": jnp.ones((2, 5, 3, 8))}, ValueError, "a number of heads that divides query's 4"),
        ({"value": jnp.ones((2, 4, 4, 8))}, ValueError, "of key's 5 tokens"),
        ({"value": jnp.ones((2, 5, 4, 8), jnp.bfloat16)}, TypeError, "of query's type float32"),
        ({"query": jnp.ones((2, 6, 4, 8), int)}, TypeError, "query must be of type"),
    ],
)  # fmt: skip
def test_errors(change, error, said):
    q, k, v = inputs(T=6, S=5)
    given = {"query": q, "key": k, "value": v, "p": 0.5, "at": AT, **change}
    with pytest.raises(error, match=said):
        attention(**given)
