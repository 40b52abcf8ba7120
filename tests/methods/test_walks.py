"""Walks over a graph, against a walk of one step after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import torch

import thinned
from thinned import reference

AT = thinned.Address(seed=8, site="graph")


def a_graph(nodes=30, edges=60, seed=0):
    rng = np.random.default_rng(seed)
    pairs = {tuple(sorted(p)) for p in rng.integers(0, nodes, (edges, 2)).tolist() if p[0] != p[1]}
    one_way = np.array(sorted(pairs)).T
    both = np.concatenate([one_way, one_way[::-1]], axis=1)
    return both[:, rng.permutation(both.shape[1])]


def word(at, index):
    return int(reference.words_at(at, np.array([index], np.uint64))[0])


def pair(i, j):
    return j * j + i if i < j else i * i + i + j


def slowly(edges, p, at, walks, length, start, directed):
    """Root by root, step by step, with Python's integers."""
    after = {}
    for i, j in sorted(edges.T.tolist()):
        after.setdefault(i, []).append(j)
    roots = [(i, i) for i in sorted(after)]
    if start == "edge":
        roots = [(i, pair(i, j)) for i, j in sorted({tuple(e) for e in edges.T.tolist()})]
    gone = set()
    for node, name in roots:
        if word(at, name) >= reference.threshold(p):
            continue
        for walk in range(walks):
            here = node
            for step in range(length):
                if here not in after:
                    break
                w = word(at.fold_in(1 + walk * length + step), name)
                u = np.float32((2 * (w >> 9) + 1) / 2**24)
                n = len(after[here])
                there = after[here][min(int(u * np.float32(n)), n - 1)]
                gone.add((here, there))
                if not directed:
                    gone.add((there, here))
                here = there
    return np.array([(i, j) not in gone for i, j in edges.T.tolist()])


@pytest.mark.parametrize("start", ["node", "edge"])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("walks", "length"), [(1, 1), (1, 3), (3, 4)])
@pytest.mark.one_in(4)
def test_walks_are_those_of_one_step_after_another(start, directed, walks, length):
    edges = a_graph()
    how = {"walks": walks, "length": length, "start": start, "directed": directed}
    p = 0.2 if start == "node" else 0.05
    found = thinned.dropout_path(edges, p, AT, return_mask=True, **how)
    expected = slowly(edges, p, AT, walks, length, start, directed)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(found, expected)
    for library in (torch.asarray, jnp.asarray):
        other = thinned.dropout_path(library(edges), p, AT, return_mask=True, **how)
        np.testing.assert_array_equal(np.asarray(other), expected)
        left = thinned.dropout_path(library(edges), p, AT, **how)
        np.testing.assert_array_equal(np.asarray(left), edges[:, expected])


def test_a_walk_ends_where_no_edge_leads_on():
    """A directed path: from node 2 of 0 -> 1 -> 2 -> 3 a walk of five takes one edge."""
    path = np.array([[0, 1, 2], [1, 2, 3]])
    for step in range(20):
        at = AT.replace(step=step)
        keep = thinned.dropout_path(path, 0.5, at, length=5, directed=True, return_mask=True)
        roots = [word(at, i) < 2**31 for i in range(3)]
        first = roots.index(True) if any(roots) else 3
        assert keep.tolist() == [i < first for i in range(3)]


def test_the_order_of_edges_and_copies_do_not_matter():
    edges = a_graph()
    keep = thinned.dropout_path(edges, 0.3, AT, return_mask=True)
    order = np.random.default_rng(1).permutation(edges.shape[1])
    again = thinned.dropout_path(edges[:, order], 0.3, AT, return_mask=True)
    np.testing.assert_array_equal(again, keep[order])
    # Both directions of an edge share its fate.
    fate = {}
    for (i, j), k in zip(edges.T.tolist(), keep.tolist(), strict=True):
        assert fate.setdefault((min(i, j), max(i, j)), k) == k


def test_sparse_matrices_and_the_ends():
    edges = a_graph()
    keep = thinned.dropout_path(edges, 0.3, AT, return_mask=True)
    ones = np.ones(edges.shape[1])
    matrix = scipy.sparse.csr_array((ones, tuple(edges)), shape=(30, 30))
    left = thinned.dropout_path(matrix, 0.3, AT)
    assert left.format == "csr"
    expected = np.zeros((30, 30))
    expected[tuple(edges[:, keep])] = 1.0
    np.testing.assert_array_equal(left.toarray(), expected)
    assert thinned.dropout_path(edges, 0.3, AT, training=False) is edges
    assert thinned.dropout_path(edges, 0.3, AT, training=False, return_mask=True).all()
    np.testing.assert_array_equal(thinned.dropout_path(edges, 0.0, AT), edges)
    all_roots = thinned.dropout_path(edges, 1.0, AT, walks=60)
    assert all_roots.shape[1] < edges.shape[1] // 4
    nothing = np.zeros((2, 0), np.int32)
    assert thinned.dropout_path(nothing, 0.5, AT).shape == (2, 0)
    assert thinned.dropout_path(edges.astype(np.int16), 0.3, AT).dtype == np.int16


def test_the_mask_under_jit():
    edges = a_graph()
    keep = thinned.dropout_path(edges, 0.3, AT.replace(step=3), return_mask=True)
    jitted = jax.jit(
        lambda e, step: thinned.dropout_path(e, 0.3, AT.replace(step=step), return_mask=True)
    )
    np.testing.assert_array_equal(jitted(jnp.asarray(edges), 3), keep)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"walks": 0}, "walks must be an integer"),
        ({"length": 1.5}, "length must be an integer"),
        ({"start": "walk"}, "start must be"),
        ({"nodes": 3}, r"an index in edges must be in \[0, 3\)"),
        ({"directed": 1}, "directed must be True or False"),
        ({"return_mask": 1}, "return_mask must be True or False"),
    ],
)
def test_walks_that_do_not_fit(options, sentence):
    with pytest.raises((TypeError, ValueError), match=rf"^dropout_path: {sentence}"):
        thinned.dropout_path(a_graph(), 0.5, AT, **options)
