"""Attention of adopted models, eager and compiled: one formula, rows without anything included."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
from thinned.torch import adopt


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Attends(nn.Module):
    def forward(self, q, k, v, mask=None, **how):
        return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.3, **how)


def compiled(model):
    return torch.compile(model, fullgraph=True, backend="aot_eager_decomp_partition")


def inputs(heads=4, kv_heads=4):
    generator = torch.Generator().manual_seed(2)
    sizes = [(2, heads, 5, 8), (2, kv_heads, 6, 8), (2, kv_heads, 6, 8)]
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def masked_rows(kind):
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[1, :2], mask[2] = False, False
    if kind == "bool":
        return mask
    return torch.zeros(5, 6, dtype=torch.float64).masked_fill(~mask, -math.inf)


def results(run, q, k, v, mask=None, **how):
    """Values, and all gradients."""
    arrays = [x.clone().requires_grad_() for x in (q, k, v)]
    if mask is not None and mask.is_floating_point():
        mask = mask.clone().requires_grad_()
        arrays.append(mask)
    out = run(*arrays[:3], mask, **how)
    return [out, *torch.autograd.grad(out.square().sum(), arrays)]


HOWS = [{}, {"is_causal": True}, {"scale": 0.2}, {"enable_gqa": True}]


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_compiled_as_eager(how):
    model = Attends()
    clock = adopt(model, seed=4).clock
    arrays = inputs(kv_heads=2 if "enable_gqa" in how else 4)
    for step in range(2):
        with clock.piece(2):
            expected = results(model, *arrays, **how)
        with clock.piece(2):
            found = results(compiled(model), *arrays, **how)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
        q, k, v = arrays
        eye = torch.eye(6, dtype=q.dtype).expand(*v.shape[:-1], 6)
        weights = F.scaled_dot_product_attention(q, k, eye, **how)
        at = thinned.Address(4, "/dropout", step)
        keep = thinned.keep_mask((4, 4, 5, 6), 0.3, at, like=torch.ones(1))[2:]
        heads = v.repeat_interleave(4 // v.shape[1], 1)
        torch.testing.assert_close(found[0], (weights * keep / 0.7) @ heads)
        clock.tick()


@pytest.mark.parametrize("kind", ["bool", "floating"])
@pytest.mark.parametrize("wrap", [lambda model: model, compiled], ids=["eager", "compiled"])
def test_a_row_with_nothing_to_attend_to_gives_zeros(kind, wrap):
    model = Attends()
    adopt(model)
    found = results(wrap(model), *inputs(), masked_rows(kind))
    assert (found[0][:, :, 2] == 0).all()
    assert all(x.isfinite().all() for x in found[:4])
    model = Attends()
    adopt(model)
    for a, b in zip(found, results(model, *inputs(), masked_rows(kind)), strict=True):
        torch.testing.assert_close(a, b)


PADDING = torch.tensor([[False, False, True, True], [True, True, True, True]])


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_multihead_attention_with_a_sample_that_is_all_padding(need_weights, batched):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
    adopt(attention)
    twin = copy.deepcopy(attention)
    x, padding = torch.randn(2, 4, 8), PADDING
    if not batched:
        x, padding = x[1], padding[1]
    how = {"key_padding_mask": padding, "need_weights": need_weights}
    found, shown = compiled(attention)(x, x, x, **how)
    expected, weights = twin(x, x, x, **how)
    torch.testing.assert_close(found, expected)
    assert found.isfinite().all()
    if need_weights:
        torch.testing.assert_close(shown, weights)
        assert ((weights[1] if batched else weights) == 0).all()


def test_an_encoder_layer_with_a_sample_that_is_all_padding():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    adopt(layer)
    twin, x = copy.deepcopy(layer), torch.randn(2, 4, 8)
    found = compiled(layer)(x, src_key_padding_mask=PADDING)
    torch.testing.assert_close(found, twin(x, src_key_padding_mask=PADDING))
    assert found.isfinite().all()


def test_a_compiled_model_holds_no_weights():
    """The largest array of a transformer is in no program, forward or backward."""
    model, shapes = Attends(), []
    adopt(model)

    def backend(graph, _):
        for node in graph.graph.nodes:
            value = node.meta.get("example_value")
            shapes.append(tuple(value.shape) if isinstance(value, torch.Tensor) else None)
        return graph.forward

    torch.compile(model, fullgraph=True, backend=backend)(*inputs())
    assert (2, 4, 5, 8) in shapes
    assert (2, 4, 5, 6) not in shapes


def test_autocast_compiled_is_that_of_eager():
    model = Attends()
    adopt(model)
    twin, arrays = copy.deepcopy(model), [x.float() for x in inputs()]
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(model)(*arrays), twin(*arrays)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


EXTRAS = [{}, {"add_bias_kv": True}, {"add_zero_attn": True}]


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_a_causal_hint_means_what_it_means_to_pytorch(extra, need_weights, padded):
    """Without padding and weights it takes the mask's place, for the added keys too."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, **extra)
    q, mask = torch.randn(4, 3, 8), nn.Transformer.generate_square_subsequent_mask(4)
    how = {"attn_mask": mask, "is_causal": True, "need_weights": need_weights}
    if padded:
        how["key_padding_mask"] = torch.zeros(3, 4).index_fill(1, torch.tensor([3]), -math.inf)
    plain, _ = attention(q, q, q, **how)
    adopt(nn.Sequential(attention, nn.Dropout(0.5)))
    attention.dropout = 1e-9  # so little that nothing falls
    torch.testing.assert_close(attention(q, q, q, **how)[0], plain)
    with pytest.raises(RuntimeError, match="attn_mask must be given where is_causal is True"):
        attention(q, q, q, is_causal=True)


# -------------------------------------------------------------------------- modules, in eager code


def kept(shape, p, site, call=0):
    at = thinned.Address(0, site, call=call)
    return thinned.keep_mask(tuple(shape), p, at, like=torch.ones(1))


def rewind(clock):
    """To the beginning of step 0."""
    clock.tick()
    clock.buffer[2] = 0


OPTIONS = [
    {},
    {"batch_first": True},
    {"bias": False},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 6, "vdim": 10},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("masked", ["no", "attention", "both", "boolean"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(options, masked, need_weights):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, dropout=0.0, **options)
    first = options.get("batch_first", False)
    q = torch.randn((3, 4, 8) if first else (4, 3, 8))
    k = torch.randn(*((3, 5) if first else (5, 3)), options.get("kdim", 8))
    v = torch.randn(*k.shape[:2], options.get("vdim", 8))
    mask = {"need_weights": need_weights, "average_attn_weights": False}
    if masked in ("attention", "both"):
        mask["attn_mask"] = torch.randn(6, 4, 5)
    if masked == "boolean":
        mask["attn_mask"] = torch.ones(4, 5, dtype=torch.bool).triu(2)
    if masked == "both":
        padding = torch.zeros(3, 5)
        padding[1, 3:] = -torch.inf
        mask["key_padding_mask"] = padding
    plain, weights = attention(q, k, v, **{**mask, "need_weights": True})
    adopt(nn.Sequential(attention, nn.Dropout(0.5)))
    attention.dropout = 1e-9  # so little that nothing falls: the numbers are torch.nn's
    found, shown = attention(q, k, v, **mask)
    torch.testing.assert_close(found, plain)
    assert (shown is None) != need_weights
    attention.dropout = 0.4
    found, shown = attention(q, k, v, **mask)
    keep = kept(weights.shape, 0.4, "0/dropout", call=1)
    if need_weights:
        torch.testing.assert_close(shown, weights * keep / 0.6)
    attention.eval()
    torch.testing.assert_close(attention(q, k, v, **mask)[0], plain)


def test_attention_draws_the_same_whether_weights_are_asked_for():
    attention = nn.MultiheadAttention(8, 2, dropout=0.4)
    clock = adopt(attention).clock
    q = torch.randn(4, 3, 8)
    one, _ = attention(q, q, q)
    rewind(clock)
    two, none = attention(q, q, q, need_weights=False)
    assert none is None
    torch.testing.assert_close(one, two)
    assert attention(q[:, 0], q[:, 0], q[:, 0])[0].shape == (4, 8)


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_softmax_of_nothing(monkeypatch):
    def unsettled(query, key, attn_mask, *_):
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return torch.softmax(scores if attn_mask is None else scores + attn_mask, -1)

    monkeypatch.setattr("thinned.torch.adoption.attention.softmax_of", unsettled)
    with pytest.raises(AssertionError):
        test_multihead_attention_with_a_sample_that_is_all_padding(True, True)


def multi_head(batch_first):
    plain = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=batch_first)
    model = nn.ModuleList([copy.deepcopy(plain)])
    adopt(model, seed=1)
    return plain, model[0]


def shown(module, shape, keys, weights, wrap):
    """Shapes and finiteness of outputs and gradients on an input that may be empty."""
    q = torch.ones(shape, requires_grad=True)
    k = q if keys is None else torch.ones(keys, requires_grad=True)
    out, attention = wrap(lambda q, k: module(q, k, k, need_weights=weights))(q, k)
    out.sum().backward()
    attended = None if attention is None else attention.shape
    return out.shape, attended, q.grad.shape, bool(out.isfinite().all())


@pytest.mark.one_in(4)
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ((0, 3, 4), None),
        ((3, 0, 4), None),
        ((0, 0, 4), None),
        ((0, 4), None),
        ((2, 3, 4), (2, 0, 4)),
        ((3, 4), (0, 4)),
    ],
)
def test_an_empty_batch_is_attended_as_by_pytorch(shape, keys, wrap, weights):
    plain, adopted = multi_head(batch_first=True)
    torch._dynamo.reset()
    found = shown(adopted, shape, keys, weights, wrap)
    assert found == shown(plain, shape, keys, weights, lambda f: f)


@pytest.mark.parametrize("weights", [True, False])
def test_a_batch_of_gradients_through_an_adopted_module(weights):
    _, module = multi_head(batch_first=True)
    x = torch.randn(2, 3, 4, requires_grad=True)
    y = module(x, x, x, need_weights=weights)[0]
    several = torch.randn(5, *y.shape)
    (found,) = torch.autograd.grad(y, x, several, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in several]
    torch.testing.assert_close(found, torch.stack(each))
