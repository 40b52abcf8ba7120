"""What comes of half precision is half precision, rounded from binary32, in every library."""

import functools
import operator

import ml_dtypes
import numpy as np
import pytest
from contract.kinds import JaxKind, NumpyKind, TorchKind
from libraries import is_there, library

import thinned
from thinned.methods.classic.information import information_cost
from thinned.methods.concrete import concrete_entropy
from thinned.methods.gates import expected_l0

from .trying import FASTEST, ROWS, as_kind, as_numpy, call, name_of

torch = library("torch")

HALF = {"float16": 2e-3, "bfloat16": 1.6e-2}  # two units in the last place of 1
KINDS = [
    kind(dtype, FASTEST)
    for dtype in HALF
    for kind in (NumpyKind, TorchKind, JaxKind)
    if is_there(kind.backend)
]
EXACT = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def type_name(y):
    return str(y.dtype).rpartition(".")[2]


@pytest.mark.parametrize("kind", [k for k in KINDS if k.backend != "jax"], ids=str)
@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_each_row_answers_in_the_type_of_its_arrays(row, kind):
    given = row.sample.inputs()
    arrays = [as_kind(kind, array) for array in given]
    kept = type_name(arrays[0]) if given[0].dtype.kind != "f" else kind.dtype
    modes = [{"training": True}, {"training": False}] if "training" in row.parameters else [{}]
    for how in modes:
        assert type_name(call(row, arrays, **how)) == kept, how


# The functions beside the table: what they make of arrays that lie in (.1, .9).
BESIDE = {
    "concrete_entropy": (concrete_entropy, [(3, 4)]),
    "expected_l0": (expected_l0, [(3, 4)]),
    "expected_relu": (thinned.expected_relu, [(3, 4), (3, 4)]),
    "expected_sigmoid": (thinned.expected_sigmoid, [(3, 4), (3, 4)]),
    "fast_dropout_moments": (thinned.fast_dropout_moments, [(3, 4), (2, 4), (2,)]),
    "information_cost": (information_cost, [(3, 4)]),
    "lora_dropout": (
        functools.partial(thinned.lora_dropout, p=0.5, at=thinned.Address(1)),
        [(3, 4), (2, 4), (5, 4), (2, 5)],
    ),
    "variational_kl": (thinned.variational_kl, [(3, 4)]),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", BESIDE)
def test_values_are_those_of_binary32_rounded(name, kind):
    function, shapes = BESIDE[name]
    rng = np.random.default_rng(1)
    exact = [rng.uniform(0.1, 0.9, shape).astype(EXACT[kind.dtype]) for shape in shapes]
    wanted = function(*[array.astype(np.float64) for array in exact])
    found = function(*[as_kind(kind, array.astype(np.float64)) for array in exact])
    if not isinstance(found, tuple):
        found, wanted = (found,), (wanted,)
    for one, right in zip(found, wanted, strict=True):
        assert type_name(one) == kind.dtype
        # Products in half precision round after each step, and have a handful.
        np.testing.assert_allclose(as_numpy(one), right, rtol=3 * HALF[kind.dtype], atol=1e-3)


def test_a_sum_over_many_weights_is_not_lost():
    many = np.zeros(20_000, np.float32)
    for dtype in HALF:
        for kind in (kind for kind in KINDS if kind.dtype == dtype):
            for function in (expected_l0, thinned.variational_kl):
                found = float(as_numpy(function(as_kind(kind, many))))
                assert found == pytest.approx(float(function(many)), rel=HALF[dtype])


@pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
def test_autocast_decides_the_type_of_products():
    rng = np.random.default_rng(1)
    x, w, down, up = (
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        for shape in ((3, 4), (2, 4), (5, 4), (2, 5))
    )
    with torch.autocast("cpu", torch.bfloat16):
        lora = thinned.lora_dropout(x, w, down, up, 0.5, thinned.Address(1))
        moments = thinned.fast_dropout_moments(x, w)
        plain = operator.matmul(x, w.T)
    assert {y.dtype for y in (lora, *moments, plain)} == {torch.bfloat16}
