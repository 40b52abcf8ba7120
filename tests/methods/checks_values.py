"""What holds of every row's values: backends, types, gradients, windows, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
from contract.kinds import NumpyKind
from libraries import library

import thinned

from .trying import AT, as_numpy, call, half, inputs

jax = library("jax")
jnp = library("jax.numpy")
torch = library("torch")


def every_backend_agrees(row, kind):
    """With NumPy's reference in binary32 or binary64; Gaussian draws agree to 4e-6."""
    reference = NumpyKind(kind.dtype, "reference")
    with reference.in_use():
        expected = as_numpy(call(row, inputs(row, reference)))
    y = as_numpy(call(row, inputs(row, kind)))
    np.testing.assert_allclose(y, expected, rtol=4e-6, atol=2e-5)
    np.testing.assert_array_equal(y == 0, expected == 0)


def types_are_kept(row, kind):
    for narrow in (kind, *half(row)):
        arrays = inputs(row, narrow)
        y = call(row, arrays)
        assert type(y) is type(arrays[0])
        assert y.dtype == arrays[0].dtype
        if row.sample.keeps_shape:
            assert tuple(y.shape) == tuple(arrays[0].shape)
        if narrow.epsilon < 1e-4:
            continue
        # Half types compute in binary32 and round once: within a few of their own steps.
        wide = replace(narrow, dtype="float32")
        originals = row.sample.inputs()
        widened = [_as_wide(a, b, wide) for a, b in zip(arrays, originals, strict=True)]
        exact, allowed = as_numpy(call(row, widened)), 3 * narrow.epsilon
        np.testing.assert_allclose(as_numpy(y), exact, rtol=allowed, atol=allowed)


def _as_wide(narrow, original, kind):
    return narrow if original.dtype.kind != "f" else kind.array(as_numpy(narrow))


def inputs_are_never_modified(row, kind):
    arrays, again = inputs(row, kind), inputs(row, kind)
    call(row, arrays)
    call(row, arrays, training=False)
    for array, before in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(as_numpy(array), as_numpy(before))


def windows_give_their_part_of_the_whole(row, kind):
    """Cut along every axis that the row lets be cut, drawn apart: the whole."""
    arrays = inputs(row, kind)
    whole = as_numpy(call(row, arrays))
    shape = tuple(arrays[0].shape)
    for axis in row.sample.splits:
        cut = shape[axis] // 3 + 1
        parts = []
        for first, stop in ((0, cut), (cut, shape[axis])):
            start = tuple(first if i == axis else 0 for i in range(len(shape)))
            window = thinned.Window(start, shape)
            pieces = tuple(_cut(a, axis, first, stop, shape[axis]) for a in arrays)
            parts.append(as_numpy(call(row, pieces, window=window)))
        np.testing.assert_allclose(np.concatenate(parts, axis), whole, rtol=4e-6, atol=1e-6)
    for axis in set(range(len(shape))) - set(row.sample.splits):
        _split_is_refused_or_shared(row, arrays, axis, shape)


def _split_is_refused_or_shared(row, arrays, axis, shape):
    """An axis that is not for splitting: an error that names it, or draws that do not use it."""
    if shape[axis] < 2:
        return
    start = tuple(1 if i == axis else 0 for i in range(len(shape)))
    part = tuple(_cut(a, axis, 1, shape[axis], shape[axis]) for a in arrays)
    try:
        call(row, part, window=thinned.Window(start, shape))
    except ValueError as error:
        assert f"axis {axis}" in str(error)  # noqa: PT017 - either outcome is right


def _cut(array, axis, first, stop, length):
    """Arrays that have the axis are cut with it; others (a weight, an index) are whole."""
    if array.ndim > axis and array.shape[axis] == length:
        index = (slice(None),) * axis + (slice(first, stop),)
        return array[index]
    return array


def a_mirrored_call_is_another(row, kind):
    arrays = inputs(row, kind)
    ats = [AT.replace(step=i) for i in range(12)]
    plain = [as_numpy(call(row, arrays, at)) for at in ats]
    mirrored = [as_numpy(call(row, arrays, at, mirror=True)) for at in ats]
    assert any(not np.array_equal(a, b) for a, b in zip(plain, mirrored, strict=True))


def an_empty_batch_stays_empty(row, kind):
    axis = row.batch_axis(dict(row.options) | dict(row.sample.options))
    arrays = inputs(row, kind)
    length = arrays[0].shape[axis]
    y = call(row, tuple(_cut(a, axis, 0, 0, length) for a in arrays))
    assert y.shape[axis] == 0


def gradients_use_the_forwards_mask(row, kind):
    if kind.backend != "torch" or not row.sample.grad:
        return
    arrays = inputs(row, kind)
    x = arrays[0].clone().requires_grad_()
    y = call(row, (x, *arrays[1:]))
    grad = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).reshape(y.shape)
    (dx,) = torch.autograd.grad(y, x, grad)
    assert torch.isfinite(dx).all()
    if row.sample.linear and row.sample.keeps_shape and not row.sample.own_gradient:
        np.testing.assert_allclose(
            as_numpy(dx), as_numpy(call(row, (grad, *arrays[1:]))), rtol=1e-5, atol=1e-6
        )
    if row.sample.p_one != "refused" and row.has_p:
        ended = arrays[0].clone().requires_grad_()
        (dx,) = torch.autograd.grad(call(row, (ended, *arrays[1:]), p=1.0).sum(), ended)
        assert torch.isfinite(dx).all()
        if row.sample.p_one == "zeros":
            assert (dx == 0).all()


def jax_gradients_use_the_forwards_mask(row, kind):
    if kind.backend != "jax" or not row.sample.grad:
        return
    x, *rest = inputs(row, kind)
    y, pulled = jax.vjp(lambda x: call(row, (x, *rest)), x)
    grad = jnp.arange(1.0, y.size + 1, dtype=y.dtype).reshape(y.shape)
    (dx,) = pulled(grad)
    assert jnp.isfinite(dx).all()
    if row.sample.linear and row.sample.keeps_shape and not row.sample.own_gradient:
        expected = as_numpy(call(row, (grad, *rest)))
        np.testing.assert_allclose(as_numpy(dx), expected, rtol=1e-5, atol=1e-6)
        moved = jax.jvp(lambda x: call(row, (x, *rest)), (x,), (grad,))[1]
        np.testing.assert_allclose(as_numpy(moved), expected, rtol=1e-5, atol=1e-6)
    if row.sample.p_one != "refused" and row.has_p:
        y, pulled = jax.vjp(lambda x: call(row, (x, *rest), p=1.0), x)
        (dx,) = pulled(jnp.ones_like(y))
        assert jnp.isfinite(dx).all()
        if row.sample.p_one == "zeros":
            assert (dx == 0).all()


def gradients_are_those_of_differences(row, kind):
    if kind.backend != "torch" or kind.dtype != "float64" or not row.sample.grad:
        return
    arrays = inputs(row, kind)
    x = arrays[0].clone().requires_grad_()
    ats = [AT] if not row.sample.own_gradient else [AT.replace(step=i) for i in range(12)]
    right = [
        torch.autograd.gradcheck(
            lambda x, at=at: call(row, (x, *arrays[1:]), at),
            (x,),
            raise_exception=not row.sample.own_gradient,
        )
        for at in ats
    ]
    # A row that claims a backward pass of its own has one: else its own tests are not needed.
    assert all(right) != row.sample.own_gradient


def bad_input_is_refused(row, kind):
    arrays = inputs(row, kind)
    for p in (-0.1, 1.5, math.nan, 50) if row.has_p else ():
        with pytest.raises(ValueError, match=rf"^{row.name}: p must be .*, got "):
            call(row, arrays, p=p)
    for p in ("half", True, None) if row.has_p else ():
        for training in (True, False):
            with pytest.raises(TypeError, match=rf"^{row.name}: p must be .*, got "):
                row.function(*arrays, p, AT, training, **row.sample.options)
    with pytest.raises(TypeError, match=rf"^{row.name}: at must be a thinned.Address, got int"):
        call(row, arrays, at=3)
    with pytest.raises(TypeError, match=rf"^{row.name}: training must be True or False, got 0.5"):
        call(row, arrays, training=0.5)
    with pytest.raises(TypeError, match=rf"^{row.name}: "):
        call(row, ([1.0, 2.0], *arrays[1:]))
    with pytest.raises(TypeError, match=rf"^{row.name}: window must be a thinned.Window"):
        call(row, arrays, window=3)
    if row.sample.inputs()[0].dtype.kind == "f":
        whole = arrays[0].long() if kind.backend == "torch" else arrays[0].astype(np.int32)
        with pytest.raises(TypeError, match=rf"^{row.name}: x must be of type"):
            call(row, (whole, *arrays[1:]))


VALUES = (
    every_backend_agrees,
    types_are_kept,
    inputs_are_never_modified,
    windows_give_their_part_of_the_whole,
    a_mirrored_call_is_another,
    an_empty_batch_stays_empty,
    gradients_use_the_forwards_mask,
    jax_gradients_use_the_forwards_mask,
    gradients_are_those_of_differences,
    bad_input_is_refused,
)
