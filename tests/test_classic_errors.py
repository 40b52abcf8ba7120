"""What the textbook interfaces tell bad input: the exact sentence."""

import re

import numpy as np
import pytest

from thinned.classic import (
    dropout_backward,
    dropout_forward,
    stochastic_deactivation,
    vanilla_dropout,
)

TRAIN = {"p": 0.5, "mode": "train"}
RNG = np.random.default_rng(0)


def refused(call, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        call()


def deactivate(x, p=0.5, training=True, seed=0, grad=None):
    return stochastic_deactivation(x, x if grad is None else grad, p, training, seed)


TAKES_X = [
    ("stochastic_deactivation", "x", deactivate),
    ("stochastic_deactivation", "grad", lambda x: deactivate([1.0], grad=x)),
    ("dropout_forward", "x", lambda x: dropout_forward(x, TRAIN)),
    ("dropout_forward", "x", lambda x: dropout_forward(x, {"p": 0.5, "mode": "test"})),
    ("dropout_backward", "dout", lambda x: dropout_backward(x, (TRAIN, [2.0]))),
    ("vanilla_dropout", "x", lambda x: vanilla_dropout(x, 0.5, True, RNG)),
    ("vanilla_dropout", "x", lambda x: vanilla_dropout(x, 0.5, False, None)),
]
AGAIN = "Pass the second value that dropout_forward returned."
NUMBERS = "an array or a nested list of real numbers"


@pytest.mark.parametrize(("who", "name", "call"), TAKES_X)
@pytest.mark.parametrize(
    ("bad", "got"),
    [
        ("abc", "str"),
        (None, "None"),
        (True, "bool"),
        (1j, "complex"),
        ({1: 2}, "dict"),
        (["1", "2"], "list of type str32"),
        ([True, False], "list of type bool"),
        ([1.0, None], "list of type object"),
        ([1j], "list of type complex128"),
        (np.array([b"a"]), "ndarray of type bytes8"),
    ],
)
def test_no_numbers(who, name, call, bad, got):
    if bad is None and name == "grad":
        return  # stands for an argument that was not given, in the function above
    refused(lambda: call(bad), TypeError, f"{who}: {name} must be {NUMBERS}, got {got}.")


@pytest.mark.parametrize(("who", "name", "call"), TAKES_X)
@pytest.mark.parametrize("bad", [[[1, 2], [3]], [1, [2, 3]], [[[1], [2]], [[3]]]])
def test_ragged_lists(who, name, call, bad):
    text = f"{who}: {name} must be {NUMBERS}, got a ragged list. Give all rows the same length."
    refused(lambda: call(bad), ValueError, text)


@pytest.mark.parametrize(("who", "name", "call"), TAKES_X)
def test_masked_arrays(who, name, call):
    text = f"{who}: {name} must be a plain array, got a masked one. "
    text += f"Fill it first: {name}.filled(0.0)."
    refused(lambda: call(np.ma.masked_array([1.0], [True])), TypeError, text)


TAKES_P = [
    ("stochastic_deactivation", "p", lambda p: deactivate([1.0], p)),
    ("stochastic_deactivation", "p", lambda p: deactivate([1.0], p, training=False)),
    ("dropout_forward", "p", lambda p: dropout_forward([1.0], {"p": p, "mode": "train"})),
    ("dropout_forward", "p", lambda p: dropout_forward([1.0], {"p": p, "mode": "test"})),
    ("vanilla_dropout", "keep", lambda p: vanilla_dropout([1.0], p, True, RNG)),
    ("vanilla_dropout", "keep", lambda p: vanilla_dropout([1.0], p, False, RNG)),
]


@pytest.mark.parametrize(("who", "name", "call"), TAKES_P)
@pytest.mark.parametrize(
    ("bad", "kind", "got"),
    [
        (50, ValueError, "50. Did you pass a percentage?"),
        (-0.1, ValueError, "-0.1."),
        (float("nan"), ValueError, "nan."),
        ("0.5", TypeError, "'0.5' (str)."),
        (None, TypeError, "None (NoneType)."),
        (True, TypeError, "True (bool)."),
    ],
)
def test_bad_probabilities(who, name, call, bad, kind, got):
    refused(lambda: call(bad), kind, f"{who}: {name} must be a float in [0, 1], got {got}")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float32(0)])
def test_nothing_to_keep_is_no_parameter_of_the_assignment(zero, mode):
    text = "dropout_forward: p must be a float in (0, 1], got 0. "
    text += "Here p is the probability to keep; p = 1 drops nothing."
    refused(lambda: dropout_forward([1.0], {"p": zero, "mode": mode}), ValueError, text)


@pytest.mark.parametrize(
    ("param", "kind", "text"),
    [
        ({"mode": "train"}, ValueError, "dropout_param has no 'p'. Add the probability to keep."),
        ({"p": 0.5}, ValueError, "dropout_param has no 'mode'. Add 'train' or 'test'."),
        ({}, ValueError, "dropout_param has no 'mode'. Add 'train' or 'test'."),
        ({"p": 0.5, "mode": "eval"}, ValueError, "mode must be 'train' or 'test', got 'eval'."),
        ({"p": 0.5, "mode": True}, ValueError, "mode must be 'train' or 'test', got True."),
        (0.5, TypeError, "dropout_param must be a dict with the keys 'p' and 'mode', got float."),
        (None, TypeError, "dropout_param must be a dict with the keys 'p' and 'mode', got None."),
    ],
)
def test_bad_parameters_of_the_assignment(param, kind, text):
    refused(lambda: dropout_forward([1.0], param), kind, f"dropout_forward: {text}")


@pytest.mark.parametrize(
    ("seed", "kind", "got"),
    [
        (-1, ValueError, "-1"),
        (2**32, ValueError, "4294967296"),
        (1.5, TypeError, "1.5 (float)"),
        ("0", TypeError, "'0' (str)"),
        (True, TypeError, "True (bool)"),
    ],
)
def test_bad_seeds(seed, kind, got):
    text = f"seed must be an integer in [0, 4294967296), got {got}."
    refused(
        lambda: dropout_forward([1.0], {**TRAIN, "seed": seed}), kind, f"dropout_forward: {text}"
    )
    refused(lambda: deactivate([1.0], seed=seed), kind, f"stochastic_deactivation: {text}")


def test_a_seed_is_needed():
    text = "stochastic_deactivation: seed must be an integer in [0, 4294967296), "
    refused(lambda: deactivate([1.0], seed=None), TypeError, f"{text}got None (NoneType).")


@pytest.mark.parametrize("bad", [0, 1, "yes", None, 0.5])
def test_bad_training_flags(bad):
    got = f"{bad!r} ({type(bad).__name__})"
    text = f"training must be True or False, got {got}."
    refused(lambda: deactivate([1.0], training=bad), TypeError, f"stochastic_deactivation: {text}")
    refused(lambda: vanilla_dropout([1.0], 0.5, bad, RNG), TypeError, f"vanilla_dropout: {text}")


def test_shapes_that_differ():
    text = "stochastic_deactivation: grad must be of x's shape (3,), got (2,)."
    refused(lambda: deactivate([1, 2, 3], grad=[1, 2]), ValueError, text)
    text = "stochastic_deactivation: grad must be of x's shape (1, 3), got (3,)."
    refused(lambda: deactivate([[1, 2, 3]], training=False, grad=[1, 2, 3]), ValueError, text)
    _, cache = dropout_forward(np.ones((2, 3)), TRAIN)
    text = "dropout_backward: dout must be of the mask's shape (2, 3), got (3,)."
    refused(lambda: dropout_backward(np.ones(3), cache), ValueError, text)


@pytest.mark.parametrize(
    ("cache", "kind", "text"),
    [
        (
            None,
            TypeError,
            f"cache must be the pair (dropout_param, mask), got None. {AGAIN}",
        ),
        (
            (TRAIN,),
            TypeError,
            f"cache must be the pair (dropout_param, mask), got tuple. {AGAIN}",
        ),
        (
            (TRAIN, None),
            ValueError,
            "the cache has mode 'train' but no mask. Run dropout_forward again.",
        ),
        (
            ({"p": 0.5}, [1.0]),
            ValueError,
            "dropout_param has no 'mode'. Add 'train' or 'test'.",
        ),
        (
            (TRAIN, "mask"),
            TypeError,
            f"the mask in cache must be {NUMBERS}, got str.",
        ),
    ],
)
def test_bad_caches(cache, kind, text):
    refused(lambda: dropout_backward([1.0], cache), kind, f"dropout_backward: {text}")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("rng", "got"), [(0, "int"), (np.random, "module"), ("rng", "str")])
def test_bad_generators(rng, got, training):
    text = "vanilla_dropout: rng must be a numpy.random.Generator or RandomState, "
    text += f"got {got}. Pass numpy.random.default_rng(seed)."
    refused(lambda: vanilla_dropout([1.0], 0.5, training, rng), TypeError, text)


def test_training_needs_a_generator():
    text = "vanilla_dropout: rng must be a numpy.random.Generator or RandomState, "
    text += "got None. Pass numpy.random.default_rng(seed)."
    refused(lambda: vanilla_dropout([1.0], 0.5, True, None), TypeError, text)
