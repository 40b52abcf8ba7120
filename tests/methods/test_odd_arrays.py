"""Odd arrays in every row: the values of the plain array, or one sentence. Never what NumPy,
PyTorch or Python says of it, and never another law, type or byte order."""

import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from libraries import is_there, library

import thinned
from thinned.members import calibration

from .odd import NUMPY, TORCH, plain
from .trying import AT, ROWS, as_numpy, call, chosen, name_of, told

jax = library("jax")
jnp = library("jax.numpy")
torch = library("torch")

over_rows = pytest.mark.parametrize("row", ROWS, ids=name_of)
KINDS = [("numpy", name) for name in NUMPY] + [("torch", name) for name in TORCH]


def arrays_of(row, library):
    arrays = [np.array(a) for a in row.sample.inputs()]
    return [torch.from_numpy(a) for a in arrays] if library == "torch" else arrays


def answer(who, function):
    """What it returns, or None where it refuses in a sentence of its own."""
    try:
        return function()
    except (TypeError, ValueError) as error:
        if not str(error).startswith(f"{who}: "):
            raise
        return None


def tries(row, kind):
    """The sample's arrays with one of them made odd, then all of them."""
    library, name = kind
    arrays, make = arrays_of(row, library), {"numpy": NUMPY, "torch": TORCH}[library][name]
    for i in range(len(arrays)):
        odd = make(arrays[i])
        if odd is not None:
            yield [odd if j == i else a for j, a in enumerate(arrays)]
    odd = [make(a) for a in arrays]
    if len(arrays) > 1 and all(a is not None for a in odd):
        yield odd


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the matrix subclass", PendingDeprecationWarning)
        warnings.filterwarnings("ignore", ".*(nested|MaskedTensors|Sparse|quantize).*")
        warnings.filterwarnings("ignore", "divide by zero|overflow|invalid value", RuntimeWarning)
        yield


# What some rows take as it is, and no plain array stands for: tests/methods/test_taken.py.
TAKEN = {"complex": "complex", "COO": "sparse", "CSR": "sparse"}


@over_rows
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_row_is_right_or_refuses(request, row, library):
    for kind in KINDS:
        if kind[0] == library and chosen(request, 4, row.name, *kind):
            with told(*kind):
                right_or_refused(row, kind)


def right_or_refused(row, kind):
    who = row.function.__name__
    if TAKEN.get(kind[1]) in row.takes:
        return
    for arrays in tries(row, kind):
        for training in (True, False):
            y = answer(who, lambda a=arrays, t=training: call(row, a, training=t))
            if y is None:
                continue
            wanted = call(row, [plain(a) for a in arrays], training=training)
            np.testing.assert_allclose(as_numpy(y), as_numpy(wanted), rtol=1e-12, atol=1e-12)
            if row.sample.keeps_shape:
                assert y.dtype == arrays[0].dtype
            if training and kind[0] == "numpy":
                assert type(y) is np.ndarray or isinstance(y, np.generic)


def test_what_is_refused_of_numpys_subclasses():
    assert call(ROWS[0], [np.ones((6, 5)).view(np.recarray)], p=0.5) is not None
    for name in ("masked", "own ufuncs", "own functions"):
        for row in ROWS:
            arrays = row.sample.inputs()
            with pytest.raises(TypeError, match=rf"^{row.function.__name__}: \w+ must be a plain"):
                call(row, [NUMPY[name](arrays[0]), *arrays[1:]])


# ----------------------------------------------------------------------------------- draws of words

# Rows that take the place of each of these windows: Bernoulli draws end at 2^47.
END = {"words": 2**42, "bits": 2**47}
# Their draws are not of x's own elements, or one gate serves them all.
NOWHERE = {"stochastic_depth", "module_dropout", "sparse_lora_dropout"}
WORDS = {
    "gaussian_dropout", "gaussian_noise", "uniform_dropout", "k_of_n_dropout", "patch_dropout",
    "cutout", "hidden_cut", "random_erasing", "nested_dropout", "concrete_dropout", "hard_concrete",
    "variational_dropout", "sparse_variational_dropout", "standout", "excitation_dropout",
    "information_dropout", "shake_shake", "shake_drop",
}  # fmt: skip


def kinds_of(arrays):
    yield arrays
    if is_there("torch"):
        yield [torch.from_numpy(np.array(a)) for a in arrays]
    if is_there("jax"):
        yield [jnp.asarray(a, jnp.float32 if a.dtype.kind == "f" else None) for a in arrays]


@pytest.mark.parametrize("empty", [False, True], ids=["full", "empty"])
@over_rows
def test_no_index_runs_into_another_field(row, empty):
    given = row.sample.inputs()
    rows = len(given[0])
    alike = [a[:0] if empty and len(a) == rows and a.shape == given[0].shape else a for a in given]
    first = [given[0][:0], *given[1:]] if empty else given
    for arrays in kinds_of(alike if row.sample.keeps_shape else first):
        for end in (END["bits"], 2**60, 2**63 - 1, *([END["words"]] if row.name in WORDS else ())):
            y = answer(
                row.function.__name__,
                lambda a=arrays, s=end: call(row, a, window=thinned.Window(s)),
            )
            assert y is None or row.name in NOWHERE, (type(arrays[0]), end)


def test_the_rows_of_words_are_known():
    """A row that draws words and is not listed would be tried at 2^47 alone."""
    drawing = set()
    for row in ROWS:
        try:
            call(row, row.sample.inputs(), window=thinned.Window(2**42))
        except ValueError as error:
            if "2^42" in str(error):
                drawing.add(row.name)
    assert drawing == WORDS


def test_the_last_element_of_all_is_drawn():
    x = np.ones(8)
    for make in (np.asarray, torch.from_numpy, jnp.asarray):
        y = thinned.gaussian_dropout(make(x), 0.5, AT, window=thinned.Window(2**42 - 8))
        assert tuple(y.shape) == (8,)
        with pytest.raises(
            ValueError, match=r"^gaussian_dropout: the logical array must be .* 2\^42"
        ):
            thinned.gaussian_dropout(make(x), 0.5, AT, window=thinned.Window(2**42 - 7))


def test_a_compiled_program_refuses_them_too():
    x = torch.ones(4, 3)
    gaussian = thinned.gaussian_dropout
    gaussian(x, 0.5, AT)
    for start, shape in ((2**42, (4, 3)), (2**63 - 1, (4, 3)), (2**42, (0, 3))):
        torch.compiler.reset()
        window = thinned.Window(start)
        drop = torch.compile(
            lambda t, w=window: gaussian(t, 0.5, AT, window=w), backend="aot_eager"
        )
        with pytest.raises(ValueError, match=r"smaller than 2\^42 elements"):
            drop(torch.ones(shape))


def test_an_axis_of_one_may_be_far_off():
    whole = (1, 2**62, 2**62)
    with pytest.raises(ValueError, match=r"^dropout: the logical array"):
        thinned.dropout(np.ones((1, 2, 3)), 0.5, AT, window=thinned.Window((0, 0, 0), whole))
    y = thinned.dropout(np.ones((1, 1, 3)), 0.5, AT, window=thinned.Window((0, 0, 0), whole))
    assert np.array_equal(y[0, 0], thinned.dropout(np.ones(3), 0.5, AT))


@over_rows
def test_an_empty_array_meets_the_checks(row):
    given = row.sample.inputs()
    arrays = [a[:0] if a.shape == given[0].shape else a for a in given]
    who = rf"^{row.function.__name__}: "
    for wrong in ({"at": None}, {"window": 3}, {"training": "x"}, {"mirror": 1}):
        how = {"at": AT, **wrong}
        with pytest.raises((TypeError, ValueError), match=who + next(iter(wrong))):
            call(row, arrays, how.pop("at"), **how)
    if row.has_p:
        with pytest.raises(ValueError, match=who + "p must be"):
            call(row, arrays, p=1.5)
    if "complex" not in row.takes:
        with pytest.raises(TypeError, match=who):
            call(row, [arrays[0].astype(complex), *arrays[1:]])


# ----------------------------------------------------------------------------------------- options

# None too large for these alone: what a number of 401 digits is to a float.
BAD = (
    10**400, 10**5000, -(10**400), float("nan"), "x", np.array([1.0, 2.0]), np.array(["a", "b"]),
    Fraction(10**5000), b"x", [], {}, 1j, object(),
)  # fmt: skip
if is_there("torch"):
    BAD += (torch.ones(2), torch.tensor(0.5, device="meta"))


@over_rows
def test_a_wrong_option_is_told_in_a_sentence(row):
    arrays = row.sample.inputs()
    for name in row.parameters:
        for wrong in () if name in row.arrays else BAD:
            how = {name: wrong}
            p, at = how.pop("p", row.sample.p), how.pop("at", AT)
            answer(
                row.function.__name__, lambda p=p, at=at, how=how: call(row, arrays, at, p, **how)
            )


EVEN, EDGE = np.full((4, 2), 0.5), np.array([[0], [1]])
CALLS = {
    "masksembles_bank": (thinned.masksembles_bank, {"features": 8, "at": AT, "n": 4, "scale": 2.0}),
    "keep_mask": (thinned.keep_mask, {"shape": 8, "p": 0.5, "at": AT, "shared_axes": ()}),
    "crps": (calibration.crps, {"members": np.ones((4, 3)), "y": np.ones(3)}),
    "test_log_likelihood": (
        calibration.test_log_likelihood, {"members": np.ones((4, 3)), "y": np.ones(3), "tau": 1.0}
    ),
    "reliability": (
        calibration.reliability,
        {"probabilities": EVEN, "labels": [0, 1, 0, 1], "bins": 3, "binning": "mass"},
    ),
    "conformal_sets": (
        calibration.conformal_sets,
        {
            "probabilities": EVEN, "calibration_probabilities": EVEN,
            "calibration_labels": [0, 1, 0, 1], "alpha": 0.1,
        },
    ),
    "fast_dropout_moments": (
        thinned.fast_dropout_moments,
        {"x": np.ones(3), "weight": np.ones((2, 3)), "bias": None, "p": 0.5, "variance": None},
    ),
    "drop_edge": (thinned.drop_edge, {"edges": EDGE, "p": 0.5, "at": AT, "nodes": 2}),
    "r_drop": (thinned.r_drop, {"outputs": (np.ones((2, 2)),) * 2, "labels": np.array([0, 1])}),
}  # fmt: skip


@pytest.mark.parametrize("who", CALLS)
def test_a_wrong_argument_is_told_in_a_sentence(who):
    function, how = CALLS[who]
    for name in how:
        for wrong in (*BAD, None, [10**400], np.ma.MaskedArray([1.0]), np.array([1j])):
            answer(who, lambda n=name, w=wrong: function(**{**how, n: w}))


# ------------------------------------------------------------------------------------------ by name


def test_mixed_types_have_one_product():
    arrays = [a.astype(np.float32) for a in row_arrays("lora_dropout")]
    wanted = thinned.lora_dropout(*[a.astype(np.float64) for a in arrays], 0.3, AT)
    for make in (np.asarray, torch.from_numpy):
        x, *rest = (make(a) for a in arrays)
        double = make(arrays[0].astype(np.float64))
        y = thinned.lora_dropout(double, *rest, 0.3, AT)
        assert y.dtype == double.dtype
        np.testing.assert_allclose(as_numpy(y), wanted, rtol=1e-12)
        half = make(arrays[0].astype(np.float16))
        assert thinned.lora_dropout(half, *rest, 0.3, AT).dtype == x.dtype


def row_arrays(name):
    return next(row for row in ROWS if row.name == name).sample.inputs()


def test_integers_are_no_bfloat16():
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        with pytest.raises(
            TypeError, match=r"^drop_edge: edges must be of an integer type, got \w+8|6"
        ):
            thinned.drop_edge(np.zeros((2, 3), kind), 0.5, AT)
        with pytest.raises(TypeError, match=r"^word_dropout: x must be of an integer type, got"):
            thinned.word_dropout(np.zeros(3, kind), 0.5, AT, unk=0)
    tokens = np.zeros(3, ml_dtypes.bfloat16)
    with pytest.raises(TypeError, match=r"^embedding_dropout: tokens must be an array of integers"):
        thinned.embedding_dropout(np.ones((3, 2)), 0.5, AT, tokens=tokens)


def test_tokens_of_bytes_are_no_mask():
    weight, tokens = torch.ones(4, 2), torch.tensor([3, 0, 3])
    wanted = thinned.embedding_dropout(weight, 0.5, AT, tokens=tokens)
    for kind in (torch.uint8, torch.int8, torch.int16):
        assert thinned.embedding_dropout(weight, 0.5, AT, tokens=tokens.to(kind)).equal(wanted)


def test_graphs_of_foreign_byte_order():
    edges = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    for kind in (">i8", ">i4", ">u2"):
        left = thinned.drop_edge(edges.astype(kind), 0.5, AT)
        assert left.dtype == kind
        assert np.array_equal(left, thinned.drop_edge(edges, 0.5, AT))
        assert np.array_equal(
            thinned.drop_edge(edges.astype(kind), 0.5, AT, exact=True),
            thinned.drop_edge(edges, 0.5, AT, exact=True),
        )


def test_a_bank_is_bounded():
    with pytest.raises(
        ValueError, match=r"^masksembles_bank: features must be at most 131072 for 4"
    ):
        thinned.masksembles_bank(10**6, AT)
    for scale in (1e6, 1e308):
        bank = thinned.masksembles_bank(8, AT, scale=scale)
        assert bank.sum() == 8  # none shares a feature
        assert bank.shape == (4, 8)


def test_what_scores_take_is_whole_and_real():
    p, labels = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])
    score = calibration.brier_score
    with pytest.raises(
        TypeError, match=r"^brier_score: probabilities must be a plain array, got a ma"
    ):
        score(np.ma.MaskedArray(p, mask=p > 1), labels)
    with pytest.raises(TypeError, match=r"^brier_score: labels must be a plain array"):
        score(p, np.ma.MaskedArray(labels))
    for wrong in (p.astype(complex), p.astype(str), np.zeros(4, "M8[s]")):
        with pytest.raises(
            TypeError, match=r"^brier_score: probabilities must be an array of numbers"
        ):
            score(wrong, labels)
    assert score(np.asmatrix(p), labels) == score(p.astype(">f4"), labels) == 0.5


def test_keys_and_types_of_jaxs_are_no_arrays_of_numbers():
    x, weight, down, up = (jnp.asarray(a) for a in row_arrays("lora_dropout"))
    for odd in (jax.random.split(jax.random.key(0), (4, 5)), jnp.float32, weight.astype(complex)):
        with pytest.raises(TypeError, match=r"^lora_dropout: weight must be"):
            thinned.lora_dropout(x, odd, down, up, 0.3, AT)
        with pytest.raises(TypeError, match=r"^lora_dropout: x must be"):
            thinned.lora_dropout(odd, weight, down, up, 0.3, AT)
