"""R-Drop, fraternal and multi-sample dropout: against the formula, of outputs and of callables."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address
from thinned.methods import losses

jax = library("jax")
jnp = library("jax.numpy")
torch = library("torch")
F = library("torch.nn.functional")

RNG = np.random.default_rng(0)
FIRST, SECOND = 2 * RNG.standard_normal((2, 9, 5))
LABELS = RNG.integers(0, 5, 9)
AT = Address(seed=1, site="loss")


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def r_drop_by_hand(first, second, labels, alpha):
    a, b = log_softmax(first), log_softmax(second)
    rows = np.arange(len(labels))
    loss = -(a[rows, labels] + b[rows, labels]) / 2
    divergence = (np.exp(a) * (a - b)).sum(1) + (np.exp(b) * (b - a)).sum(1)
    return (loss + alpha / 2 * divergence).mean()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_r_drop_is_the_formula(alpha):
    found = thinned.r_drop((FIRST, SECOND), LABELS, alpha)
    np.testing.assert_allclose(found, r_drop_by_hand(FIRST, SECOND, LABELS, alpha))


def test_r_drop_is_pytorchs_parts():
    x, y = (torch.from_numpy(a).requires_grad_() for a in (FIRST, SECOND))
    labels = torch.from_numpy(LABELS)
    loss = thinned.r_drop([x, y], labels, alpha=3.0)
    p, q = torch.log_softmax(x, -1), torch.log_softmax(y, -1)
    both = sum(F.kl_div(a, b, reduction="batchmean", log_target=True) for a, b in ((q, p), (p, q)))
    entropy = (F.cross_entropy(x, labels) + F.cross_entropy(y, labels)) / 2
    torch.testing.assert_close(loss, entropy + 1.5 * both)
    found = torch.autograd.grad(loss, (x, y))
    expected = torch.autograd.grad(entropy + 1.5 * both, (x, y))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_equal_passes_differ_by_nothing():
    single = -log_softmax(FIRST)[np.arange(9), LABELS].mean()
    np.testing.assert_allclose(thinned.r_drop((FIRST, FIRST), LABELS, 7.0), single)


def test_r_drop_over_sequences_is_the_mean_over_all_places():
    first, second = FIRST.reshape(3, 3, 5), SECOND.reshape(3, 3, 5)
    found = thinned.r_drop((first, second), LABELS.reshape(3, 3), 2.0)
    np.testing.assert_allclose(found, r_drop_by_hand(FIRST, SECOND, LABELS, 2.0))


def test_a_class_held_impossible_adds_nothing():
    first, second = FIRST.copy(), SECOND.copy()
    first[:, 4] = second[:, 4] = -np.inf
    labels = LABELS % 4
    expected = r_drop_by_hand(first[:, :4], second[:, :4], labels, 2.0)
    np.testing.assert_allclose(thinned.r_drop((first, second), labels, 2.0), expected)
    large = np.array([[1e4, -1e4]]), np.array([[1e4, -1e4]])
    assert thinned.r_drop(large, np.array([0]), 2.0) == 0.0


def test_half_types_are_counted_in_binary32():
    x, y = (torch.from_numpy(a).to(torch.float16) for a in (FIRST, SECOND))
    found = thinned.r_drop((x, y), torch.from_numpy(LABELS))
    assert found.dtype == torch.float32
    wide = thinned.r_drop((x.float(), y.float()), torch.from_numpy(LABELS))
    assert found == wide


def test_a_callable_is_asked_for_each_pass():
    h = RNG.standard_normal((9, 5))

    def output(number):
        return thinned.dropout(h, 0.5, AT.replace(call=number))

    first, second = output(0), output(1)
    assert not np.array_equal(first, second)
    square = np.square
    np.testing.assert_array_equal(
        thinned.r_drop(output, LABELS), thinned.r_drop((first, second), LABELS)
    )
    found = thinned.fraternal_dropout(output, lambda o: square(o).mean(), 0.5)
    expected = (square(first).mean() + square(second).mean()) / 2
    np.testing.assert_allclose(found, expected + 0.5 * square(first - second).mean())


def test_an_adopted_model_draws_anew_by_itself():
    model = torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.Dropout(0.5))
    thinned.torch.adopt(model, seed=3)
    x = torch.from_numpy(FIRST).float()
    loss = thinned.r_drop(lambda _: model(x), torch.from_numpy(LABELS), alpha=2.0)
    h = model[0](x)
    at = Address(3, "1")
    passes = [thinned.dropout(h, 0.5, at), thinned.dropout(h, 0.5, at.replace(call=1))]
    torch.testing.assert_close(loss, thinned.r_drop(passes, torch.from_numpy(LABELS), alpha=2.0))


def test_fraternal_dropout_alone_is_twice_the_variance():
    x, p = np.full(4000, 1.0), 0.3
    found = thinned.fraternal_dropout(
        lambda k: thinned.dropout(x, p, AT.replace(call=k)), kappa=1.0
    )
    # Of (o1 - o2)^2: mean 2 p / (1 - p), and two values, so its deviation is below its mean.
    assert abs(found - 2 * p / (1 - p)) < 6 * 2 * p / (1 - p) / np.sqrt(4000)


def test_multi_sample_dropout_is_the_mean():
    h = torch.from_numpy(FIRST).requires_grad_()
    head = torch.from_numpy(RNG.standard_normal((5, 3)))

    def output(number):
        return thinned.dropout(h, 0.5, AT.fold_in(number)) @ head

    outputs = [output(k) for k in range(4)]
    found = thinned.multi_sample_dropout(output, lambda o: o.square().mean(), samples=4)
    expected = torch.stack([o.square().mean() for o in outputs]).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        thinned.multi_sample_dropout(outputs, lambda o: o.square().mean()), expected
    )
    (a,) = torch.autograd.grad(found, h)
    (b,) = torch.autograd.grad(expected, h)
    torch.testing.assert_close(a, b)


def mean(output):
    return output.mean()


BOTH = (FIRST, SECOND)


@pytest.mark.parametrize(("given", "error", "words"), [
    (((FIRST,), LABELS), ValueError, "outputs must be 2 arrays, one for each pass, got 1"),
    ((FIRST, LABELS), TypeError, "outputs must be a callable of the pass's number, or"),
    (((FIRST, SECOND[:3]), LABELS), ValueError, "all outputs must be of one shape, got"),
    ((BOTH, LABELS[:3]), ValueError, r"labels must be of shape \(9,\), got \(3,\)"),
    ((BOTH, LABELS * 1.0), TypeError, "labels must be an array of integers, got float64"),
    ((BOTH, [0] * 9), TypeError, "labels must be an array of integers, got list"),
    (((FIRST[:0], SECOND[:0]), LABELS[:0]), ValueError, "outputs must be of shape"),
    ((BOTH, LABELS, -1.0), ValueError, "alpha must be a finite number of at least 0, got -1"),
    ((BOTH, LABELS, np.nan), ValueError, "alpha must be a finite number"),
    ((BOTH, LABELS, "1"), TypeError, "alpha must be a finite number of at least 0, got '1'"),
    (((LABELS, LABELS), LABELS), TypeError, "x must be of type"),
])  # fmt: skip
def test_what_are_no_two_passes_is_refused(given, error, words):
    with pytest.raises(error, match=rf"^r_drop: {words}"):
        thinned.r_drop(*given)


def test_labels_of_another_library_are_refused():
    labels = torch.from_numpy(LABELS)
    with pytest.raises(TypeError, match=r"^r_drop: labels must be an array of the first output's"):
        thinned.r_drop(BOTH, labels)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, jnp.asarray])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("wrong", [-100, -1, 5])
def test_a_label_of_no_class_is_refused(kind, dtype, wrong):
    labels = LABELS.astype(dtype)
    labels[[3, 7]] = wrong
    passes = tuple(kind(a.astype(np.float32)) for a in BOTH)
    words = rf"^r_drop: a label must be in \[0, 5\), got {wrong}\. .*outputs\[keep\] and labels"
    with pytest.raises(ValueError, match=words):
        thinned.r_drop(passes, kind(labels))
    keep = labels != wrong
    left = tuple(a[keep].astype(np.float32) for a in BOTH)
    found = thinned.r_drop(tuple(map(kind, left)), kind(labels[keep]))
    np.testing.assert_allclose(found, thinned.r_drop(left, labels[keep]), rtol=1e-5)


def test_more_classes_than_a_narrow_type_can_count():
    logits = np.random.default_rng(1).standard_normal((2, 4, 300))
    labels = np.array([0, 127, 255, 1], np.uint8)
    expected = thinned.r_drop(tuple(logits), labels.astype(np.int64))
    assert thinned.r_drop(tuple(logits), labels) == expected
    x, y = torch.from_numpy(logits)
    torch.testing.assert_close(thinned.r_drop((x, y), torch.from_numpy(labels)).item(), expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning")
def test_labels_that_cannot_be_read_are_left_alone():
    """By a compiler, under a transformation, and where there are none."""
    torch._dynamo.reset()
    x, y, labels = (torch.from_numpy(a) for a in (FIRST, SECOND, LABELS))
    expected = thinned.r_drop((x, y), labels)

    def loss(x, y, labels):
        return thinned.r_drop((x, y), labels)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, y, labels), expected)
    torch.testing.assert_close(torch.func.vmap(loss)(x, y, labels).mean(), expected)
    assert loss(x.to("meta"), y.to("meta"), labels.to("meta")).shape == ()
    found = jax.jit(loss)(*map(jnp.asarray, (FIRST, SECOND, LABELS)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    within = jax.jit(lambda x, y: loss(x, y, jnp.asarray(LABELS)))
    np.testing.assert_allclose(within(*map(jnp.asarray, BOTH)), expected, rtol=1e-5)


@pytest.mark.parametrize(("given", "error", "words"), [
    ((BOTH, 3), TypeError, "loss must be a function of an output, got int"),
    ((BOTH, None, -0.1), ValueError, "kappa must be a finite number of at least 0, got -0.1"),
    (((FIRST[:0],) * 2,), ValueError, "outputs must be not empty"),
])  # fmt: skip
def test_what_is_no_fraternity_is_refused(given, error, words):
    with pytest.raises(error, match=rf"^fraternal_dropout: {words}"):
        thinned.fraternal_dropout(*given)


@pytest.mark.parametrize(("given", "error", "words"), [
    (([], np.mean), ValueError, "outputs must be one array at least, got none"),
    (([FIRST], None), TypeError, "loss must be a function of an output, got NoneType"),
    ((np.mean, np.mean, 0), ValueError, "samples must be an integer in"),
    ((BOTH, np.mean, 3), ValueError, "samples must be 2 or None, got 3. Leave it out"),
])  # fmt: skip
def test_what_are_no_samples_is_refused(given, error, words):
    with pytest.raises(error, match=rf"^multi_sample_dropout: {words}"):
        thinned.multi_sample_dropout(*given)


def twice_the_divergence(xp, log_p, log_q):
    return 2.0 * divergence(xp, log_p, log_q)


def one_way_only(xp, log_p, log_q):
    return divergence(xp, log_p, log_q) if log_p[0, 0] > log_q[0, 0] else 0.0 * log_p[:, 0]


divergence = losses._divergence


@pytest.mark.parametrize("fault", [twice_the_divergence, one_way_only])
def test_a_fault_in_the_divergence_is_caught(fault, monkeypatch):
    monkeypatch.setattr(losses, "_divergence", fault)
    with pytest.raises(AssertionError):
        test_r_drop_is_the_formula(1.0)


def test_one_mask_for_all_passes_is_caught(monkeypatch):
    def of_the_first(who, outputs, count):
        return passes(who, (lambda k: outputs(0)) if callable(outputs) else outputs, count)

    passes = losses._passes
    monkeypatch.setattr(losses, "_passes", of_the_first)
    for check in (test_a_callable_is_asked_for_each_pass, test_multi_sample_dropout_is_the_mean):
        with pytest.raises(AssertionError):
            check()


def test_a_sum_in_place_of_a_mean_is_caught(monkeypatch):
    whole = thinned.multi_sample_dropout
    monkeypatch.setattr(thinned, "multi_sample_dropout", lambda *a, **k: 4 * whole(*a, **k))
    with pytest.raises(AssertionError):
        test_multi_sample_dropout_is_the_mean()
