"""flex_attention with dropout: the plain formula, with the mask of scaled_dot_product_attention."""

import math

import pytest
import torch
from attended import AT, P, formula, inputs, made
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import create_block_mask
from versions import VERSION, through_the_compiler

import thinned
from thinned import Address, Window
from thinned.torch import drop_key_mod, flex_attention, scaled_dot_product_attention
from thinned.torch.attention import flex as ours

BY_INDUCTOR = pytest.mark.skipif(
    VERSION < (2, 9), reason="Inductor before 2.9 writes C++ for a score_mod that does not compile"
)

# PyTorch's advice to compile it, once in a process.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture
def backward_on_the_cpu(monkeypatch):
    """PyTorch refuses gradients on the CPU, where its eager formula has them."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)


def plain(q, k, v, mask=None, score_mod=None, p=P, at=AT, window=None, scale=None):
    """dropout(softmax(scores)) v, the scores as FlexAttention makes them."""
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    places = torch.meshgrid(*map(torch.arange, scores.shape), indexing="ij")
    if score_mod is not None:
        scores = score_mod(scores, *places)
    if mask is not None:
        scores = scores.masked_fill(~mask(*places), -math.inf)
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    keep = torch.from_numpy(thinned.keep_mask(tuple(scores.shape), p, at, window=window))
    return torch.where(keep, weights / (1 - p), 0.0) @ v


def causal(b, h, i, j):
    return j <= i


def nobody_in_row_3(b, h, i, j):
    return (j <= i) & (i != 3)


def alibi(score, b, h, i, j):
    return score - (i - j).abs() * 0.1 * (h + 1)


CASES = {
    "plain": {},
    "score_mod": {"score_mod": alibi},
    "causal": {"mask": causal},
    "both": {"score_mod": alibi, "mask": causal},
    "empty rows": {"mask": nobody_in_row_3},
    "scale": {"scale": 0.3},
}


def blocks(mask, q, k):
    if mask is None:
        return None
    return create_block_mask(
        mask, None, None, q.shape[-2], k.shape[-2], device="cpu", BLOCK_SIZE=16
    )


def dropped(q, k, v, mask=None, p=P, at=AT, **options):
    block_mask = blocks(mask, q, k)
    return flex_attention(q, k, v, block_mask=block_mask, p=p, at=at, training=True, **options)


def detached(*arrays):
    return [x.detach() for x in arrays]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("backward_on_the_cpu")
def test_the_formula_and_its_gradients(case):
    q, k, v = inputs(L=40, S=50, E=8, V=8)
    got, expected = dropped(q, k, v, **CASES[case]), plain(q, k, v, **CASES[case])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    upstream = made(*got.shape, seed=9).detach()
    theirs = torch.autograd.grad(expected, (q, k, v), upstream)
    for a, b in zip(torch.autograd.grad(got, (q, k, v), upstream), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_mask_is_that_of_attention():
    """Read off weights that are all alike, by values that tell keys apart."""
    for S in (1, 31, 32, 33, 128, 129) if VERSION >= (2, 7) else (128,):  # 2.6: powers of two
        q, k = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, S, 8)
        v = torch.eye(S).expand(2, 3, S, S).contiguous()
        keep = torch.from_numpy(thinned.keep_mask((2, 3, 5, S), P, AT))
        assert torch.equal(dropped(q, k, v) != 0, keep)
        theirs = scaled_dot_product_attention(q, k, v, None, P, AT, training=True)
        assert torch.equal(theirs != 0, keep)


def test_rates():
    q, k, v = detached(*inputs(L=20, S=30, E=8))
    for p in (1e-12, 1e-9, 0.1, 0.5, 0.999):
        torch.testing.assert_close(dropped(q, k, v, p=p), plain(q, k, v, p=p))
    assert torch.equal(dropped(q, k, v, p=1.0), torch.zeros(2, 3, 20, 4, dtype=q.dtype))
    theirs = flex.flex_attention(q, k, v, alibi)
    assert torch.equal(dropped(q, k, v, p=0.0, score_mod=alibi), theirs)
    assert torch.equal(flex_attention(q, k, v, alibi, p=P, at=AT, training=False), theirs)


def test_groups_of_heads():
    q, k, v = detached(*inputs(H=6, E=8))
    k, v = k[:, :2], v[:, :2]
    whole = (q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1))
    torch.testing.assert_close(dropped(q, k, v, enable_gqa=True), formula(*whole))


def test_windows_are_parts_of_the_whole():
    q, k, v = detached(*inputs(B=4, H=6, E=8))
    whole = dropped(q, k, v)
    torch.testing.assert_close(dropped(q[1:3], k[1:3], v[1:3], window=Window(1)), whole[1:3])
    window = Window((1, 2, 0, 0), (4, 6, 7, 9))
    heads = dropped(q[1:3, 2:5], k[1:3, 2:5], v[1:3, 2:5], window=window)
    torch.testing.assert_close(heads, whole[1:3, 2:5])
    rows = dropped(q[:, :, 3:], k, v, window=Window((0, 0, 3, 0), (4, 6, 7, 9)))
    torch.testing.assert_close(rows, whole[:, :, 3:])


def test_many_groups_of_heads_are_packed_alike(monkeypatch):
    q, k, v = detached(*inputs(E=8))
    expected = dropped(q, k, v)
    monkeypatch.setattr("thinned.backends.torch.packed.AT_A_TIME", 64)
    assert torch.equal(dropped(q, k, v), expected)


@pytest.mark.skipif(not hasattr(flex, "AuxRequest"), reason="PyTorch before 2.9 returns no aux")
def test_what_else_pytorch_returns():
    q, k, v = detached(*inputs(E=8))
    request = flex.AuxRequest(lse=True)
    y, aux = dropped(q, k, v, score_mod=alibi, return_aux=request)
    _, theirs = flex.flex_attention(q, k, v, alibi, return_aux=request)
    torch.testing.assert_close(y, plain(q, k, v, score_mod=alibi))
    assert torch.equal(aux.lse, theirs.lse)
    _, aux = dropped(q, k, v, return_aux=flex.AuxRequest())
    assert aux.lse is None


@pytest.mark.filterwarnings("ignore:return_lse is deprecated")
def test_the_logarithm_of_the_sum():
    q, k, v = detached(*inputs(E=8))
    y, lse = dropped(q, k, v, return_lse=True)
    torch.testing.assert_close(y, plain(q, k, v))
    torch.testing.assert_close(lse, torch.logsumexp(q @ k.mT / math.sqrt(8), -1))


def test_seeds_come_from_pytorchs_generators():
    q, k, v = detached(*inputs(L=20, S=30, E=8))
    torch.manual_seed(1)
    first, second = (dropped(q, k, v, at=None) for _ in range(2))
    torch.manual_seed(1)
    theirs = scaled_dot_product_attention(q, k, v, None, P, training=True)
    torch.testing.assert_close(first, theirs)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype):
    q, k, v = (x.detach().to(dtype) for x in inputs(L=40, S=50, E=16, V=16))
    got = dropped(q, k, v)
    assert got.dtype == dtype
    exact = plain(*(x.double() for x in (q, k, v)))
    torch.testing.assert_close(got.double(), exact, rtol=0.02, atol=0.02)


@BY_INDUCTOR
def test_compiled():
    torch._dynamo.reset()
    q, k, v = (x.detach().float() for x in inputs(L=40, S=50, E=16, V=16))
    block_mask = blocks(nobody_in_row_3, q, k)
    compiled = torch.compile(flex_attention, fullgraph=True)
    got = compiled(q, k, v, alibi, block_mask, p=P, at=AT, training=True)
    torch.testing.assert_close(got, plain(q, k, v, nobody_in_row_3, alibi))


@BY_INDUCTOR
def test_another_step_is_no_new_program():
    torch._dynamo.reset()
    q, k, v = (x.detach().float() for x in inputs(L=40, S=50, E=16, V=16))

    @torch.compile(fullgraph=True)
    def attend(q, k, v, step):
        at = Address(seed=3, site="attention", step=step)
        return flex_attention(q, k, v, p=P, at=at, training=True)

    attend(q, k, v, 2), attend(q, k, v, 3)
    with torch.compiler.set_stance("fail_on_recompile"):
        for step in (4, 5):
            at = AT.replace(step=step)
            torch.testing.assert_close(attend(q, k, v, step), plain(q, k, v, at=at))


# ------------------------------------------------------------------------------------------ DropKey


def with_dropped_keys(q, k, v, mask=None, score_mod=None, p=P):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    places = torch.meshgrid(*map(torch.arange, scores.shape), indexing="ij")
    if score_mod is not None:
        scores = score_mod(scores, *places)
    if mask is not None:
        scores = scores.masked_fill(~mask(*places), -math.inf)
    return torch.softmax(thinned.drop_key(scores, p, AT), -1) @ v


@pytest.mark.parametrize("case", ["plain", "score_mod", "causal", "both"])
@pytest.mark.usefixtures("backward_on_the_cpu")
def test_keys_are_dropped(case):
    q, k, v = inputs(L=40, S=50, E=8)
    options = dict(CASES[case])
    mask, before = options.pop("mask", None), options.pop("score_mod", None)
    mod = drop_key_mod(P, AT, (2, 3, 40, 50), score_mod=before)
    got = flex.flex_attention(q, k, v, mod, blocks(mask, q, k))
    expected = with_dropped_keys(q, k, v, mask, before)
    torch.testing.assert_close(got, expected)
    theirs = torch.autograd.grad(expected.sum(), (q, k, v))
    for a, b in zip(torch.autograd.grad(got.sum(), (q, k, v)), theirs, strict=True):
        torch.testing.assert_close(a, b)


@BY_INDUCTOR
def test_keys_are_dropped_compiled():
    torch._dynamo.reset()
    q, k, v = (x.detach().float() for x in inputs(L=40, S=50, E=16, V=16))

    @torch.compile(fullgraph=True)
    def attend(q, k, v):
        mod = drop_key_mod(P, AT, (2, 3, 40, 50), score_mod=alibi)
        return flex.flex_attention(q, k, v, mod)

    torch.testing.assert_close(attend(q, k, v), with_dropped_keys(q, k, v, score_mod=alibi))


def test_a_mod_without_a_shape_is_given_that_of_the_weights():
    q, k, v = detached(*inputs(L=40, S=50, E=8))
    mod = drop_key_mod(P, AT, score_mod=alibi)
    expected = with_dropped_keys(q, k, v, score_mod=alibi)
    torch.testing.assert_close(flex_attention(q, k, v, mod, p=0.0, training=True), expected)
    # PyTorch traces a score_mod, and says what it raised among words of its own.
    words = through_the_compiler(r"drop_key_mod: shape must be .* own flex_attention\. Give")
    with pytest.raises(Exception, match=words):
        flex.flex_attention(q, k, v, mod)


def test_all_keys_dropped_are_uniform_weights():
    q, k, v = detached(*inputs(E=8))
    got = flex.flex_attention(q, k, v, drop_key_mod(1.0, AT, (2, 3, 7, 9)))
    torch.testing.assert_close(got, v.mean(-2, keepdim=True).expand(got.shape))


def test_nothing_is_dropped_in_evaluation():
    assert drop_key_mod(P, AT, (2, 3, 7, 9), False, score_mod=alibi) is alibi
    score = torch.tensor(2.0)
    assert drop_key_mod(0.0, AT, (2, 3, 7, 9))(score, *[torch.tensor(0)] * 4) is score


# ------------------------------------------------------------------------------------------- errors


def options_of_errors():
    q, k, v = (torch.zeros(2, 3, n, 16) for n in (7, 9, 9))
    yield "p must be a float in \\[0, 1\\], got 10", ValueError, (q, k, v), {"p": 10}
    yield "training must be True or False", TypeError, (q, k, v), {"training": 1}
    yield "at must be a thinned.Address or None", TypeError, (q, k, v), {"at": 3}
    yield "at and generator both", ValueError, (q, k, v), {"generator": torch.Generator()}
    yield "query must be of 4 axes", ValueError, (q[0], k, v), {}
    yield "key must be a torch tensor, got list", TypeError, (q, [1.0], v), {}
    beyond = {"window": Window((0, 1, 0, 0), (2, 3, 7, 9))}
    yield "the window does not fit: axis 1", ValueError, (q, k, v), beyond


@pytest.mark.parametrize(("text", "kind", "arrays", "options"), [*options_of_errors()])
def test_errors(text, kind, arrays, options):
    options = {"p": 0.5, "at": AT, "training": True, **options}
    with pytest.raises(kind, match=f"^flex_attention: .*{text}"):
        flex_attention(*arrays, **options)


def test_errors_of_dropped_keys():
    with pytest.raises(ValueError, match=r"^drop_key_mod: shape must be the weights' \(samples"):
        drop_key_mod(0.5, AT, (3, 7, 9))
    with pytest.raises(TypeError, match=r"^drop_key_mod: at must be a thinned\.Address, got None"):
        drop_key_mod(0.5, None, (2, 3, 7, 9))
    with pytest.raises(ValueError, match=r"^drop_key_mod: p must be a float"):
        drop_key_mod(-1.0, AT, (2, 3, 7, 9))


def test_training_is_required():
    with pytest.raises(TypeError, match="training must be given"):
        flex_attention(*detached(*inputs()), p=0.5)


# ---------------------------------------------------------------------------------- planted faults


def without_the_share(monkeypatch):
    monkeypatch.setattr(torch, "exp", lambda x: torch.ones_like(x))


def another_bit(monkeypatch):
    real = ours._bit
    monkeypatch.setattr(ours, "_bit", lambda bits, b, h, i, j: real(bits, b, h, i, j ^ 1))


def one_mask_for_all_heads(monkeypatch):
    real = ours._bit
    monkeypatch.setattr(ours, "_bit", lambda bits, b, h, i, j: real(bits, b, h * 0, i, j))


@pytest.mark.parametrize("fault", [without_the_share, another_bit, one_mask_for_all_heads])
def test_faults_are_caught(fault, monkeypatch):
    q, k, v = detached(*inputs(L=40, S=50, E=8))
    expected = plain(q, k, v)
    torch.testing.assert_close(dropped(q, k, v), expected)
    fault(monkeypatch)
    torch._dynamo.reset()
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        torch.testing.assert_close(dropped(q, k, v), expected)


@pytest.mark.cuda
def test_a_device_trains_with_it():
    q, k, v = (x.detach().float().cuda().requires_grad_() for x in inputs(L=256, S=256, E=64, V=64))
    compiled = torch.compile(flex_attention, fullgraph=True)
    got = compiled(q, k, v, p=P, at=AT, training=True)
    away = [x.detach().cpu().requires_grad_() for x in (q, k, v)]
    expected = plain(*away)
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-3)
    theirs = torch.autograd.grad(expected.sum(), away)
    for a, b in zip(torch.autograd.grad(got.sum(), (q, k, v)), theirs, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-2, atol=1e-2)
