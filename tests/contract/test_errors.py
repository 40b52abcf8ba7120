"""What bad input is told: the exact sentence, for every parameter of the core."""

import re

import numpy as np
import pytest

import thinned
from thinned import Address, Window, dropout, keep_mask

AT = Address(seed=0, site="fc1", step=7)
X = np.ones((4, 6), np.float32)
REAL = "a float in [0, 1]"
TYPES = "dropout: x must be of type float16, bfloat16, float32 or float64, got"
ARRAYS = "a numpy array or a torch array or a jax array or a tensorflow array"
CONVERT = "Convert it first: x.astype(numpy.float32)."


def refused(call, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        call()


# ---------------------------------------------------------------------------------------------- p


@pytest.mark.parametrize(
    ("p", "got"),
    [
        (50, "50. Did you pass a percentage?"),
        (50.0, "50. Did you pass a percentage?"),
        (1.5, "1.5. Did you pass a percentage?"),
        (1.0000001, "1.0000001. Did you pass a percentage?"),
        (np.float32(20), "20. Did you pass a percentage?"),
        (101, "101."),
        (-0.1, "-0.1."),
        (-1e-300, "-1e-300."),
        (float("nan"), "nan."),
        (np.float32("nan"), "nan."),
        (float("inf"), "inf."),
        (-float("inf"), "-inf."),
        (10**400, "an integer too large for a float."),
    ],
)
def test_p_out_of_range(p, got):
    refused(lambda: dropout(X, p, AT), ValueError, f"dropout: p must be {REAL}, got {got}")
    refused(lambda: keep_mask(3, p, AT), ValueError, f"keep_mask: p must be {REAL}, got {got}")
    # A mistake does not wait for training to show.
    with pytest.raises(ValueError, match=r"^dropout: p must be"):
        dropout(X, p, AT, training=False)


@pytest.mark.parametrize(
    ("p", "got"),
    [
        ("0.5", "'0.5' (str)."),
        (b"0.5", "b'0.5' (bytes)."),
        (None, "None (NoneType)."),
        (True, "True (bool)."),
        (np.True_, "True (bool)."),
        ([0.5], "[0.5] (list)."),
        (0.5j, "0.5j (complex)."),
        (np.array("0.5"), "'0.5' (str)."),
    ],
)
def test_p_of_another_kind(p, got):
    refused(lambda: dropout(X, p, AT), TypeError, f"dropout: p must be {REAL}, got {got}")
    refused(lambda: keep_mask(3, p, AT), TypeError, f"keep_mask: p must be {REAL}, got {got}")


@pytest.mark.parametrize("shape", [(4,), (2, 3), (0,)])
def test_p_as_an_array_that_does_not_fit(shape):
    wanted = f"an array that broadcasts to x's shape {X.shape}"
    text = f"dropout: p must be {wanted}, got shape {shape}."
    refused(lambda: dropout(X, np.full(shape, 0.5), AT), ValueError, text)
    refused(
        lambda: thinned.drop_path(X, np.full(shape, 0.5), AT), ValueError, "drop_path" + text[7:]
    )
    text = f"stochastic_depth: p must be one number in [0, 1], got an array of shape {shape}."
    refused(lambda: thinned.stochastic_depth(X, np.full(shape, 0.5), AT), TypeError, text)


# ---------------------------------------------------------------------------------------- addresses

RANGES = {
    "seed": "[0, 18446744073709551616)",
    "site": "[0, 4294967296)",
    "step": "[0, 4294967295)",
    "call": "[0, 65536)",
}
FOLD = "For more calls in one step, use another seed: at.fold_in(n)."


@pytest.mark.parametrize("name", RANGES)
def test_a_coordinate_out_of_range(name):
    end = int(RANGES[name].split()[1].rstrip(")"))
    remedy = f" {FOLD}" if name == "call" else ""
    for bad in (-1, end, 2**70):
        text = f"Address: {name} must be an integer in {RANGES[name]}, got {bad}.{remedy}"
        refused(lambda bad=bad: Address(**{name: bad}), ValueError, text)
        refused(lambda bad=bad: AT.replace(**{name: bad}), ValueError, text)
    Address(**{name: end - 1})


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (1.0, "1.0 (float)"),
        (True, "True (bool)"),
        (None, "None (NoneType)"),
        (b"fc1", "b'fc1' (bytes)"),
        (np.array([1, 2]), "array([1, 2]) (ndarray)"),
    ],
    ids=str,
)
def test_a_coordinate_of_another_kind(name, bad, got):
    remedy = f" {FOLD}" if name == "call" else ""
    text = f"Address: {name} must be an integer in {RANGES[name]}, got {got}.{remedy}"
    refused(lambda: Address(**{name: bad}), TypeError, text)


def test_a_name_for_anything_but_the_site():
    for name in ("seed", "step"):
        text = f"Address: {name} must be an integer in {RANGES[name]}, got '7' (str)."
        refused(lambda name=name: Address(**{name: "7"}), TypeError, text)


def test_a_name_that_has_no_bytes():
    text = r"Address: site must be a name that UTF-8 can encode, got '\ud800'."
    refused(lambda: Address(site="\ud800"), ValueError, text)


def test_replace_and_fold_in():
    refused(
        lambda: AT.replace(stpe=3),
        TypeError,
        "Address.replace: 'stpe' is no coordinate; the coordinates are seed, site, step and call.",
    )
    whole = "Address.fold_in: n must be an integer in [0, 18446744073709551616)"
    refused(lambda: AT.fold_in(-1), ValueError, f"{whole}, got -1.")
    refused(lambda: AT.fold_in(2**64), ValueError, f"{whole}, got {2**64}.")
    refused(lambda: AT.fold_in(0.5), TypeError, f"{whole}, got 0.5 (float).")


def test_at_of_another_kind():
    text = "at must be a thinned.Address, got int. Give a mask its address: "
    text += "thinned.Address(seed=0, site='fc1', step=7)."
    refused(lambda: dropout(X, 0.5, 7), TypeError, f"dropout: {text}")
    refused(lambda: keep_mask(3, 0.5, 7), TypeError, f"keep_mask: {text}")


# ------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "object", "datetime64[ns]"])
def test_x_of_another_type(dtype):
    x = np.zeros(3, dtype)
    refused(lambda: dropout(x, 0.5, AT), TypeError, f"{TYPES} {x.dtype.name}. {CONVERT}")


def test_a_scalar_of_another_type():
    refused(lambda: dropout(np.int64(3), 0.5, AT), TypeError, f"{TYPES} int64. {CONVERT}")
    refused(lambda: dropout(np.True_, 0.5, AT), TypeError, f"{TYPES} bool. {CONVERT}")


def test_x_of_strings():
    refused(lambda: dropout(np.array(["a"]), 0.5, AT), TypeError, f"{TYPES} str32. {CONVERT}")


@pytest.mark.parametrize("x", [[1.0, 2.0], (1.0,), 1.0, 3])
def test_x_as_a_list_or_a_number(x):
    refused(
        lambda: dropout(x, 0.5, AT),
        TypeError,
        f"dropout: x must be {ARRAYS}, got {type(x).__name__}. Wrap it in numpy.asarray(x).",
    )


@pytest.mark.parametrize("x", [None, "abc", {1.0: 2.0}])
def test_x_as_no_array_at_all(x):
    refused(
        lambda: dropout(x, 0.5, AT),
        TypeError,
        f"dropout: x must be {ARRAYS}, got {type(x).__name__}.",
    )


def test_x_masked():
    refused(
        lambda: dropout(np.ma.masked_array([1.0, 2.0], [True, False]), 0.5, AT),
        TypeError,
        "dropout: x must be a plain array, got a masked one. Fill it first: x.filled(0.0).",
    )


def test_like_of_another_kind():
    refused(
        lambda: keep_mask(3, 0.5, AT, like=[1.0]),
        TypeError,
        f"keep_mask: like must be {ARRAYS}, got list. Wrap it in numpy.asarray(like).",
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("out", "kind", "text"),
    [
        ([0.0], TypeError, "out must be a numpy array, got list."),
        (np.zeros(24, "f4"), ValueError, "out must be of x's shape (4, 6), got (24,)."),
        (np.zeros((6, 4), "f4"), ValueError, "out must be of x's shape (4, 6), got (6, 4)."),
        (np.zeros((1, 6), "f4"), ValueError, "out must be of x's shape (4, 6), got (1, 6)."),
        (np.zeros((4, 6)), TypeError, "out must be of x's type float32, got float64."),
        (np.zeros((4, 6), "f2"), TypeError, "out must be of x's type float32, got float16."),
        (np.zeros((4, 6), "i4"), TypeError, "out must be of x's type float32, got int32."),
    ],
)
def test_out_that_does_not_fit(out, kind, text, training):
    refused(lambda: dropout(X, 0.5, AT, training, out=out), kind, f"dropout: {text}")


def test_out_read_only():
    out = np.zeros_like(X)
    out.flags.writeable = False
    refused(
        lambda: dropout(X, 0.5, AT, out=out),
        ValueError,
        "dropout: out is read-only. Pass an array that can be written.",
    )
    np.testing.assert_array_equal(out, np.zeros_like(X))


# ------------------------------------------------------------------------- shapes, axes and windows


@pytest.mark.parametrize(
    ("axes", "kind", "text"),
    [
        (2, ValueError, "an axis in shared_axes must be an integer in [-2, 2), got 2."),
        ((0, -3), ValueError, "an axis in shared_axes must be an integer in [-2, 2), got -3."),
        ((0, 0), ValueError, "shared_axes must be free of repetitions, got (0, 0) for 2 axes."),
        ((1, -1), ValueError, "shared_axes must be free of repetitions, got (1, -1) for 2 axes."),
        (0.0, TypeError, "shared_axes must be an axis or a tuple of axes, got 0.0."),
        ("0", TypeError, "shared_axes must be an axis or a tuple of axes, got '0'."),
        (None, TypeError, "shared_axes must be an axis or a tuple of axes, got None."),
        (
            (0.0,),
            TypeError,
            "an axis in shared_axes must be an integer in [-2, 2), got 0.0 (float).",
        ),
        (True, TypeError, "an axis in shared_axes must be an integer in [-2, 2), got True (bool)."),
    ],
)
def test_shared_axes(axes, kind, text):
    refused(lambda: dropout(X, 0.5, AT, shared_axes=axes), kind, f"dropout: {text}")
    refused(lambda: keep_mask((4, 6), 0.5, AT, axes), kind, f"keep_mask: {text}")
    refused(lambda: dropout(X, 0.5, AT, False, shared_axes=axes), kind, f"dropout: {text}")


def test_a_shared_axis_of_a_scalar():
    refused(
        lambda: dropout(np.array(1.0), 0.5, AT, shared_axes=0),
        ValueError,
        "dropout: shared_axes must be empty for a zero-dimensional array, got (0,).",
    )


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (
            Window((3, 0), (6, 6)),
            "the window does not fit: axis 0 holds [3, 7) of a logical array of length 6.",
        ),
        (
            Window((0, 1), (4, 6)),
            "the window does not fit: axis 1 holds [1, 7) of a logical array of length 6.",
        ),
        (Window(3, 8), "window.global_shape must be of 2 axes, as the array, got (8,)."),
        (Window((0, 0, 0)), "window.start must be of 2 axes, as the array, got (0, 0, 0)."),
        (
            Window(2**47),
            (
                "the logical array must be smaller than 2^47 elements, got index 844424930131991."
                " Split it, and fold_in the number of each part."
            ),
        ),
    ],
)
def test_a_window_that_does_not_fit(window, text):
    refused(lambda: dropout(X, 0.5, AT, window=window), ValueError, f"dropout: {text}")
    refused(lambda: keep_mask((4, 6), 0.5, AT, (), window), ValueError, f"keep_mask: {text}")


def test_the_last_index_that_there_is():
    assert keep_mask(8, 0.5, AT, window=Window(2**47 - 8)).shape == (8,)
    with pytest.raises(
        ValueError, match=r"smaller than 2\^47 elements, got index 140737488355328\."
    ):
        keep_mask(8, 0.5, AT, window=Window(2**47 - 7))


def test_a_window_of_another_kind():
    text = "dropout: window must be a thinned.Window, got 3 (int)."
    refused(lambda: dropout(X, 0.5, AT, window=3), TypeError, text)


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (
            (-1,),
            ValueError,
            "a length in start must be an integer in [0, 9223372036854775808), got -1.",
        ),
        (
            (0, (4, -6)),
            ValueError,
            "a length in global_shape must be an integer in [0, 9223372036854775808), got -6.",
        ),
        ((0.5,), TypeError, "start must be an integer or a tuple of integers, got 0.5."),
        (("3",), TypeError, "start must be an integer or a tuple of integers, got '3'."),
        (
            ((0, 2),),
            ValueError,
            (
                "start (0, 2) splits more than the leading axis, so the shape of the whole array is"
                " needed. Pass global_shape."
            ),
        ),
        (
            ((1, 2), (3,)),
            ValueError,
            "start must be one number for each axis of (3,), got (1, 2).",
        ),
    ],
)
def test_windows(args, kind, text):
    refused(lambda: Window(*args), kind, f"Window: {text}")


@pytest.mark.parametrize(
    ("shape", "kind", "text"),
    [
        (
            -1,
            ValueError,
            "a length in shape must be an integer in [0, 9223372036854775808), got -1.",
        ),
        ("4", TypeError, "shape must be an integer or a tuple of integers, got '4'."),
        (4.0, TypeError, "shape must be an integer or a tuple of integers, got 4.0."),
        (None, TypeError, "shape must be an integer or a tuple of integers, got None."),
        (
            np.ones((4, 6)),
            TypeError,
            (
                "shape must be an integer or a tuple of integers, got an array of 2 axes. "
                "Pass x.shape."
            ),
        ),
        (
            (4, 6.0),
            TypeError,
            "a length in shape must be an integer in [0, 9223372036854775808), got 6.0 (float).",
        ),
    ],
)
def test_shapes(shape, kind, text):
    refused(lambda: keep_mask(shape, 0.5, AT), kind, f"keep_mask: {text}")


def test_shapes_may_be_written_in_any_way():
    expected = keep_mask((4, 6), 0.5, AT)
    for shape in ([4, 6], np.array([4, 6]), (np.int64(4), 6), X.shape):
        np.testing.assert_array_equal(keep_mask(shape, 0.5, AT), expected)
    np.testing.assert_array_equal(keep_mask(4, 0.5, AT), keep_mask((4,), 0.5, AT))


# -------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("name", ["training", "mirror"])
@pytest.mark.parametrize(
    ("bad", "got"), [(1, "1 (int)"), (0.5, "0.5 (float)"), (None, "None (NoneType)")]
)
def test_flags(name, bad, got):
    text = f"dropout: {name} must be True or False, got {got}."
    refused(lambda: dropout(X, 0.5, AT, **{name: bad}), TypeError, text)


def test_flags_of_numpy():
    assert dropout(X, 0.5, AT, training=np.False_) is X
    np.testing.assert_array_equal(
        dropout(X, 0.5, AT, mirror=np.True_), dropout(X, 0.5, AT, mirror=True)
    )


def test_nothing_is_written_before_everything_is_checked():
    out = np.full_like(X, 7.0)
    for bad in ({"p": 2.0}, {"at": None}, {"shared_axes": 5}, {"window": Window((9, 9), (1, 1))}):
        how = {"p": 0.5, "at": AT, "out": out, **bad}
        with pytest.raises((ValueError, TypeError)):
            thinned.dropout(X, **how)
    np.testing.assert_array_equal(out, np.full_like(X, 7.0))
