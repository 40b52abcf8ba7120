"""NumPy's own matters: strides, memory order, byte order, read-only arrays, `out`, scalars."""

import numpy as np

import thinned

from .checks_draw import PLAIN


def base(kind, shape=(6, 10)):
    return kind.array(np.arange(1.0, np.prod(shape) + 1.0).reshape(shape))


def layouts(kind):
    """Arrays of the same values and shape that lie differently in memory, by name."""
    x = base(kind)
    wide = kind.array(np.zeros((12, 30)))
    wide[1::2, 5:25:2] = x
    deep = kind.array(np.zeros((6, 2, 10)))
    deep[:, 1] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "contiguous": x,
        "strided": wide[1::2, 5:25:2],
        "sliced": deep[:, 1],
        "backwards": x[::-1, ::-1].copy()[::-1, ::-1],
        "transposed": x.T.copy().T,
        "Fortran order": np.asfortranarray(x),
        "read-only": frozen,
        "subclass": x.view(np.memmap),
    }


# ------------------------------------------------------------------------------------------- checks


def any_layout_gives_the_same_values(kind):
    expected = kind.read(thinned.dropout(base(kind), 0.4, PLAIN))
    for name, x in layouts(kind).items():
        y = thinned.dropout(x, 0.4, PLAIN)
        np.testing.assert_array_equal(kind.read(y), expected, err_msg=name)
        shared = thinned.dropout(x, 0.4, PLAIN, shared_axes=0)
        again = thinned.dropout(base(kind), 0.4, PLAIN, shared_axes=0)
        np.testing.assert_array_equal(kind.read(shared), kind.read(again), err_msg=name)


def memory_order_is_kept(kind):
    for name in ("transposed", "Fortran order"):
        y = thinned.dropout(layouts(kind)[name], 0.4, PLAIN)
        assert y.flags.f_contiguous, name
        assert not y.flags.c_contiguous, name
    cube = base(kind, (3, 4, 5)).transpose(2, 0, 1)
    order = np.argsort(cube.strides)
    y = thinned.dropout(cube, 0.4, PLAIN)
    np.testing.assert_array_equal(np.argsort(y.strides), order)


def byte_order_is_kept(kind):
    if kind.dtype == "bfloat16":
        return  # ml_dtypes has it in the machine's order only
    x = base(kind)
    swapped = x.astype(x.dtype.newbyteorder("S"))
    y = thinned.dropout(swapped, 0.4, PLAIN)
    assert y.dtype == swapped.dtype
    np.testing.assert_array_equal(y, thinned.dropout(x, 0.4, PLAIN))
    out = np.empty_like(x)
    assert thinned.dropout(swapped, 0.4, PLAIN, out=out) is out
    np.testing.assert_array_equal(out, y)


def inputs_of_any_layout_stay_as_they_were(kind):
    for name, x in layouts(kind).items():
        old, flags = x.copy(), x.flags.writeable
        y = thinned.dropout(x, 0.4, PLAIN)
        np.testing.assert_array_equal(x, old, err_msg=name)
        assert x.flags.writeable == flags
        assert not np.shares_memory(x, y)
        y[...] = kind.array(7.0)  # the result is the caller's own, also where p settles it
        np.testing.assert_array_equal(x, old, err_msg=name)
        thinned.dropout(x, 0.0, PLAIN)[...] = kind.array(7.0)
        np.testing.assert_array_equal(x, old, err_msg=name)


def out_takes_the_result(kind):
    for name, x in layouts(kind).items():
        expected = thinned.dropout(x, 0.4, PLAIN)
        for order in "CF":
            out = np.full(x.shape, np.nan, x.dtype, order=order)  # what is not written shows
            assert thinned.dropout(x, 0.4, PLAIN, out=out) is out
            np.testing.assert_array_equal(out, expected, err_msg=name)


def out_may_be_the_input(kind):
    for name, x in layouts(kind).items():
        if not x.flags.writeable:
            continue
        expected = thinned.dropout(x, 0.4, PLAIN)
        assert thinned.dropout(x, 0.4, PLAIN, out=x) is x
        np.testing.assert_array_equal(x, expected, err_msg=name)


def out_may_overlap_the_input(kind):
    for shift in (-3, 3):
        memory = base(kind, (40,))
        x = memory[5:35]
        out = memory[5 + shift : 35 + shift]
        old = x.copy()
        assert thinned.dropout(x, 0.4, PLAIN, out=out) is out
        np.testing.assert_array_equal(out, thinned.dropout(old, 0.4, PLAIN))
    memory = base(kind, (40,))
    x, out = memory[5:35], memory[3:33]
    old = x.copy()
    assert thinned.dropout(x, 0.4, PLAIN, training=False, out=out) is out
    np.testing.assert_array_equal(out, old)


def out_leaves_the_rest_alone(kind):
    memory = kind.array(np.full((8, 12), 5.0))
    thinned.dropout(base(kind), 0.4, PLAIN, out=memory[1:7, 1:11])
    frame = np.ones((8, 12), bool)
    frame[1:7, 1:11] = False
    np.testing.assert_array_equal(kind.read(memory)[frame], 5.0)


def evaluation_fills_out(kind):
    x = base(kind)
    out = np.zeros_like(x)
    assert thinned.dropout(x, 0.4, PLAIN, training=False, out=out) is out
    np.testing.assert_array_equal(out, x)


def scalars_stay_scalars(kind):
    for p, expected in ((0.0, 3.0), (1.0, 0.0)):
        y = thinned.dropout(kind.type.type(3.0), p, PLAIN)
        assert type(y) is kind.type.type
        assert float(y) == expected
    assert type(thinned.dropout(kind.array(3.0), 0.5, PLAIN)) is np.ndarray


CHECKS = [
    any_layout_gives_the_same_values,
    memory_order_is_kept,
    byte_order_is_kept,
    inputs_of_any_layout_stay_as_they_were,
    out_takes_the_result,
    out_may_be_the_input,
    out_may_overlap_the_input,
    out_leaves_the_rest_alone,
    evaluation_fills_out,
    scalars_stay_scalars,
]
