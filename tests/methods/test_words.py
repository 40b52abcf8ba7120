"""Tokens, vocabulary rows, strata and gradients."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address
from thinned.methods import members

torch = library("torch")

AT = Address(seed=5, site="words")
TOKENS = np.random.default_rng(0).integers(0, 30, (8, 12))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_tokens_become_unknown_where_dropout_drops(dtype):
    x = TOKENS.astype(dtype)
    y = thinned.word_dropout(x, 0.4, AT, unk=99)
    assert y.dtype == dtype
    keep = thinned.keep_mask(x.shape, 0.4, AT)
    np.testing.assert_array_equal(y, np.where(keep, x, 99))
    same = thinned.word_dropout(torch.from_numpy(TOKENS), 0.4, AT, unk=99)
    np.testing.assert_array_equal(same.numpy(), y.astype(np.int64))


def test_spared_tokens_stay():
    y = thinned.word_dropout(TOKENS, 1.0, AT, unk=99, spare=(0, 7))
    spared = (TOKENS == 0) | (TOKENS == 7)
    assert spared.any()
    np.testing.assert_array_equal(y, np.where(spared, TOKENS, 99))


@pytest.mark.parametrize(("x", "named", "error", "words"), [
    (TOKENS * 1.0, {"unk": 1}, TypeError, "x must be of an integer type, got float64"),
    (TOKENS > 3, {"unk": 1}, TypeError, "x must be of an integer type, got bool"),
    (TOKENS, {"unk": 1.0}, TypeError, "unk must be an integer"),
    (TOKENS.astype(np.uint8), {"unk": 256}, ValueError, r"unk must be an integer in \[0, 256\)"),
    (TOKENS, {"unk": 1, "spare": 3}, TypeError, "spare must be a tuple of ids, got 3"),
    (TOKENS, {"unk": 1, "spare": ("a",)}, TypeError, "an id in spare must be an integer"),
    ([1, 2], {"unk": 1}, TypeError, "x must be a numpy array"),
])  # fmt: skip
def test_wrong_tokens_are_refused(x, named, error, words):
    for training in (True, False):
        with pytest.raises(error, match=f"^word_dropout: {words}"):
            thinned.word_dropout(x, 0.5, AT, training, **named)


def test_tensors_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="x must be of an integer type, got float32"):
        thinned.word_dropout(torch.ones(3), 0.5, AT, unk=0)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_word_shares_its_fate_everywhere(kind):
    weight = kind(np.random.default_rng(1).standard_normal((30, 4)).astype(np.float32))
    tokens = kind(TOKENS)
    rows = thinned.embedding_dropout(weight, 0.5, AT, tokens=tokens)
    whole = thinned.embedding_dropout(weight, 0.5, AT)
    np.testing.assert_array_equal(rows, whole[tokens])
    dead = {int(t) for t in TOKENS[(np.asarray(rows) == 0).all(-1)]}
    alive = {int(t) for t in TOKENS[(np.asarray(rows) != 0).all(-1)]}
    assert dead
    assert alive
    assert not dead & alive
    quiet = thinned.embedding_dropout(weight, 0.5, AT, False, tokens=tokens)
    np.testing.assert_array_equal(quiet, weight[tokens])


def test_wrong_lookups_are_refused():
    weight = np.ones((5, 2))
    with pytest.raises(TypeError, match="tokens must be an array of integers, got float64"):
        thinned.embedding_dropout(weight, 0.5, AT, tokens=np.ones(3))
    with pytest.raises(TypeError, match=r"tokens must be a numpy array .*, got list\. Wrap it in"):
        thinned.embedding_dropout(weight, 0.5, AT, tokens=[1])
    with pytest.raises(ValueError, match=r"x must be of shape \(V, D\), got shape \(5,\)"):
        thinned.embedding_dropout(weight[:, 0], 0.5, AT, tokens=np.array([0]))
    with pytest.raises(ValueError, match="axis 0 must be whole"):
        thinned.embedding_dropout(
            weight, 0.5, AT, tokens=np.array([0]), window=thinned.Window((2, 0), (9, 2))
        )


# --------------------------------------------------------------------------------------- strata


def dropped_by(p, members, mirror=False, shape=(60, 70)):
    x = np.ones(shape)
    return np.stack([
        thinned.stratified_dropout(x, p, AT, member=k, members=members, mirror=mirror) == 0
        for k in range(members)
    ])  # fmt: skip


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_members_share_the_dropping_evenly(p, count):
    for mirror in (False, True):
        dropped = dropped_by(p, count, mirror)
        assert (abs(dropped.sum(0) - round(p * count)) <= 1).all()
        spread = np.sqrt(p * (1 - p) / dropped[0].size)
        assert (abs(dropped.mean((1, 2)) - p) <= 6 * spread).all()


def test_where_the_members_fit_the_share_is_exact():
    assert (dropped_by(0.25, 4).sum(0) == 1).all()
    assert (dropped_by(0.5, 2).sum(0) == 1).all()
    assert (dropped_by(0.5, 8).sum(0) == 4).all()


def test_strata_are_the_shifted_uniforms_to_the_bit():
    """Against the uniform of every element, put together from its planes."""
    p, count, n = 0.3, 5, 64
    u = np.array([thinned.reference.uniform32(AT, i) for i in range(n)], object)
    for k in range(count):
        y = thinned.stratified_dropout(np.ones(n), p, AT, member=k, members=count)
        shift = round(k * 2**32 / count)
        expected = np.array([(int(v) + shift) % 2**32 < round(p * 2**32) for v in u])
        np.testing.assert_array_equal(y == 0, expected)


def test_the_mean_over_members_has_less_noise():
    x = np.ones((40, 50))
    independent = [thinned.dropout(x, 0.3, AT.fold_in(k)) for k in range(1, 6)]
    stratified = [thinned.stratified_dropout(x, 0.3, AT, member=k, members=5) for k in range(5)]
    assert np.var(np.mean(stratified, 0)) < 0.35 * np.var(np.mean(independent, 0))


@pytest.mark.parametrize(("member", "count", "error", "words"), [
    (3, 3, ValueError, r"member must be an integer in \[0, 3\), got 3"),
    (-1, 3, ValueError, r"member must be an integer in \[0, 3\), got -1"),
    (0, 0, ValueError, "members must be an integer"),
    (0.0, 3, TypeError, "member must be an integer"),
])  # fmt: skip
def test_wrong_members_are_refused(member, count, error, words):
    with pytest.raises(error, match=f"^stratified_dropout: {words}"):
        thinned.stratified_dropout(np.ones(3), 0.5, AT, member=member, members=count)


STRATA_FAULTS = {
    "every member is the first": lambda member, members: 1,
    "the shift goes by halves": lambda member, members: 2**31,
    "the shift is of one member more": lambda member, members: member * 2**32 // (members + 1),
}


@pytest.mark.parametrize("fault", STRATA_FAULTS)
def test_a_fault_in_the_strata_is_caught(fault, monkeypatch):
    monkeypatch.setattr(members, "_shift", STRATA_FAULTS[fault])
    with pytest.raises(AssertionError):
        test_where_the_members_fit_the_share_is_exact()


def test_a_wrap_forgotten_is_caught(monkeypatch):
    def cut_off(draws, start, length):
        keeps = [
            draws.backend.keep(draws.draw(min(t, 2**32), reduced=False), draws.x)
            for t in (start, start + length)
        ]
        return keeps[1] | ~keeps[0]

    monkeypatch.setattr(members, "_outside", cut_off)
    with pytest.raises(AssertionError):
        test_members_share_the_dropping_evenly(0.3, 4)


# ------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_drop_grad_changes_the_gradient_alone(dtype):
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    y = thinned.drop_grad(x, 0.4, AT)
    assert torch.equal(y, x)
    grad = torch.randn(7, 5, generator=torch.Generator().manual_seed(2)).to(dtype)
    (dx,) = torch.autograd.grad(y, x, grad)
    assert torch.equal(dx, thinned.dropout(grad, 0.4, AT))
    assert (dx == 0).any()


def test_drop_grad_in_numpy_is_given_the_gradient():
    grad = np.random.default_rng(0).standard_normal((7, 5))
    expected = thinned.dropout(grad, 0.4, AT)
    np.testing.assert_array_equal(thinned.drop_grad(grad, 0.4, AT), expected)
    assert thinned.drop_grad(grad, 0.4, AT, False) is grad


def test_drop_grad_passes_infinities_and_ends():
    x = torch.tensor([1.0, np.inf, -np.inf, np.nan], requires_grad=True)
    y = thinned.drop_grad(x, 0.5, AT)
    assert torch.equal(y.nan_to_num(7.0), x.nan_to_num(7.0))
    (dx,) = torch.autograd.grad(y, x, torch.ones(4))
    assert torch.isfinite(dx).all()
    for p, factor in ((0.0, 1.0), (1.0, 0.0)):
        (dx,) = torch.autograd.grad(thinned.drop_grad(x, p, AT), x, torch.ones(4))
        assert (dx == factor).all()


def test_drop_grad_takes_a_window():
    x = torch.ones(6, 4, requires_grad=True)
    (whole,) = torch.autograd.grad(thinned.drop_grad(x, 0.5, AT).sum(), x)
    part = thinned.drop_grad(x[2:], 0.5, AT, window=thinned.Window(2))
    (dx,) = torch.autograd.grad(part.sum(), x)
    assert torch.equal(dx[2:], whole[2:])


def test_a_parameters_gradient_is_dropped_in_an_inner_step():
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    x = torch.ones(5, 4)
    loss = (x @ thinned.drop_grad(weight, 0.5, AT).T).square().sum()
    (dropped,) = torch.autograd.grad(loss, weight)
    (plain,) = torch.autograd.grad((x @ weight.T).square().sum(), weight)
    torch.testing.assert_close(dropped, thinned.dropout(plain, 0.5, AT))


def test_a_dropped_gradient_is_differentiated_on():
    """Meta-learning goes through the inner step: a gradient of the gradient."""
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    (inner,) = torch.autograd.grad(
        thinned.drop_grad(weight, 0.5, AT).pow(3).sum(), weight, create_graph=True
    )
    kept = thinned.dropout(torch.ones(4, dtype=torch.float64), 0.5, AT)
    torch.testing.assert_close(inner, kept * 3 * weight**2)
    (outer,) = torch.autograd.grad(inner.sum(), weight)
    # Both passes go through drop_grad, and each drops.
    torch.testing.assert_close(outer, kept * kept * 6 * weight.detach())


def test_drop_grad_under_transforms():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(4))

    def loss(row):
        return thinned.drop_grad(row, 0.5, AT).square().sum()

    single = torch.func.grad(loss)(x[0])
    torch.testing.assert_close(single, thinned.dropout(2 * x[0], 0.5, AT))
    each = torch.func.vmap(torch.func.grad(loss), randomness="same")(x)
    torch.testing.assert_close(each, torch.stack([torch.func.grad(loss)(row) for row in x]))


def test_a_gradient_left_alone_is_caught(monkeypatch):
    from thinned.methods.draws import Draws

    monkeypatch.setattr(Draws, "gradient_noise", lambda self, x: x.view_as(x))
    with pytest.raises(AssertionError):
        test_drop_grad_changes_the_gradient_alone(torch.float32)
    monkeypatch.setattr(Draws, "gradient_noise", lambda self, x: self.noise(x))
    with pytest.raises(AssertionError):
        test_drop_grad_changes_the_gradient_alone(torch.float32)
