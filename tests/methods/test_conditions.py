"""Conditions and modalities: what the battery does not ask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import thinned

AT = thinned.Address(seed=4, site="captions")


@pytest.mark.parametrize(
    "library", [np.asarray, torch.asarray, jnp.asarray], ids=["np", "pt", "jax"]
)
def test_what_belongs_to_a_sample_is_dropped_together(library):
    """Labels, a pooled embedding, the embedding of each token and their mask, at one address."""
    rng = np.random.default_rng(0)
    labels, pooled = np.arange(1, 65), 1 + rng.random((64, 3), np.float32)
    words, mask = 1 + rng.random((64, 5, 3), np.float32), np.ones((64, 5), bool)
    dropped = [
        np.asarray(thinned.condition_dropout(library(x), null, 0.4, AT)).reshape(64, -1) == end
        for x, null, end in (
            (labels, 0, 0),
            (pooled, library(np.zeros(3, np.float32)), 0.0),
            (words, library(np.zeros((5, 3), np.float32)), 0.0),
            (mask, False, False),
        )
    ]
    expected = ~thinned.keep_mask((64,), 0.4, AT)
    assert 10 < expected.sum() < 40
    for found in dropped:
        np.testing.assert_array_equal(found, np.broadcast_to(expected[:, None], found.shape))


def test_the_null_embedding_learns_from_the_samples_that_it_replaced():
    x, null = torch.ones(64, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    thinned.condition_dropout(x, null, 0.4, AT).sum().backward()
    gone = int((~thinned.keep_mask((64,), 0.4, AT)).sum())
    assert null.grad.tolist() == [float(gone)] * 3
    assert x.grad.sum() == 3 * (64 - gone)


def test_guidance_asks_for_the_null_condition_itself():
    labels = np.array([3, 1, 4])
    assert thinned.condition_dropout(labels, 10, 1.0, AT).tolist() == [10, 10, 10]
    assert thinned.condition_dropout(labels, 10, 1.0, AT, training=False) is labels


def test_labels_in_the_module_and_under_jit():
    drop = thinned.torch.ConditionDropout(0.5)
    labels = torch.arange(200) % 10
    y = drop(labels, torch.asarray(10))
    assert y.dtype == labels.dtype
    assert 60 < int((y == 10).sum()) < 140
    assert torch.equal(y[y != 10], labels[y != 10])
    assert torch.equal(drop.eval()(labels, torch.asarray(10)), labels)
    jitted = jax.jit(lambda x, step: thinned.condition_dropout(x, 10, 0.5, AT.replace(step=step)))
    eager = thinned.condition_dropout(np.arange(50, dtype=np.int32), 10, 0.5, AT.replace(step=7))
    np.testing.assert_array_equal(jitted(jnp.arange(50), 7), eager)


@pytest.mark.parametrize(
    ("x", "null", "sentence"),
    [
        (np.arange(3), 1.5, "null must be an integer"),
        (np.arange(3, dtype=np.uint8), 300, r"null must be an integer in \[0, 256\), got 300"),
        (np.arange(3), np.ones(3), "x must be of type floating, as null is, got int64"),
        (np.ones(3), np.arange(3), "x must be of type integer, as null is, got float64"),
        (np.ones(3), None, "null must be a numpy array"),
        (
            np.ones((3, 2)),
            np.ones(3),
            r"null must be an array that broadcasts to x's shape \(3, 2\)",
        ),
        (np.ones(3), torch.ones(3), "null must be an array of x's library"),
        (np.ones(3, bool), 2, "null must be True, False or an array of booleans, as x is, got 2"),
        (np.float64(1.0), np.ones(()), r"x must be of shape \(N, ...\)"),
    ],
)
def test_conditions_that_do_not_fit(x, null, sentence):
    with pytest.raises((TypeError, ValueError), match=rf"^condition_dropout: {sentence}"):
        thinned.condition_dropout(x, null, 0.5, AT)


# ---------------------------------------------------------------------------------- modalities


def test_modalities_of_any_length_share_their_draws():
    """Stacked, and one behind the other in any lengths: the same modalities are dropped."""
    stacked = thinned.modality_dropout(np.ones((40, 3, 2)), 0.5, AT, axis=1)
    gone = stacked[:, :, 0] == 0
    assert 30 < gone.sum() < 90
    for sizes in ((1, 1, 1), (4, 1, 2), (7, 30, 5)):
        y = thinned.modality_dropout(np.ones((40, sum(sizes))), 0.5, AT, sizes=sizes)
        np.testing.assert_array_equal(y == 0, np.repeat(gone, sizes, axis=1))


@pytest.mark.parametrize(
    "library", [np.asarray, torch.asarray, jnp.asarray], ids=["np", "pt", "jax"]
)
def test_one_modality_stays(library):
    x = library(np.ones((3000, 6), np.float32))
    how = {"sizes": (1, 2, 3), "keep_one": True}
    stays = np.asarray(thinned.modality_dropout(x, 1.0, AT, **how))[:, [0, 1, 3]]
    assert (stays.sum(axis=1) == 1).all()
    assert np.abs(stays.mean(axis=0) - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 3000)
    some = np.asarray(thinned.modality_dropout(x, 0.5, AT, **how))[:, [0, 1, 3]]
    assert (some.sum(axis=1) >= 1).all()
    expected = 0.5 + 0.5**3 / 3
    assert np.abs(some.mean(axis=0) - expected).max() < 4 * np.sqrt(0.25 / 3000)
    # What independent draws kept, stays.
    free = np.asarray(thinned.modality_dropout(x, 0.5, AT, sizes=(1, 2, 3)))[:, [0, 1, 3]]
    lost = free.sum(axis=1) == 0
    assert 200 < lost.sum() < 550
    np.testing.assert_array_equal(free[~lost], some[~lost])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sizes": (1, 2)}, "sizes must be lengths that make up x's 6"),
        ({"sizes": 3}, "sizes must be the modalities' lengths along the axis, or None, got 3"),
        ({"sizes": ()}, "sizes must be the modalities' lengths"),
        ({"sizes": (0, 6)}, "a length in sizes must be"),
        ({"axis": 0}, "axis must be another axis than 0"),
        ({"keep_one": 1}, "keep_one must be True or False"),
        ({"window": thinned.Window((0, 1), (4, 8))}, "axis 1 must be whole"),
    ],
)
def test_modalities_that_do_not_fit(options, sentence):
    with pytest.raises((TypeError, ValueError), match=rf"^modality_dropout: {sentence}"):
        thinned.modality_dropout(np.ones((4, 6)), 0.5, AT, **options)
