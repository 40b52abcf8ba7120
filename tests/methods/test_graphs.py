"""Edges go in pairs, by their nodes alone, in edge lists and sparse matrices alike."""

import numpy as np
import pytest
import scipy.sparse
from contract.kinds import using
from libraries import library

import thinned
from thinned import Address
from thinned.backends import backend_of
from thinned.methods import graphs

jnp = library("jax.numpy")
torch = library("torch")
BCOO = library("jax.experimental.sparse").BCOO

AT = Address(seed=4, site="graph")
N = 40


def undirected(rng, nodes=N, edges=150):
    """Both directions of distinct edges, no loops, shuffled."""
    i, j = np.triu_indices(nodes, 1)
    chosen = rng.choice(len(i), edges, replace=False)
    both = np.stack([np.r_[i[chosen], j[chosen]], np.r_[j[chosen], i[chosen]]])
    return both[:, rng.permutation(2 * edges)]


EDGES = undirected(np.random.default_rng(0))


def as_set(edges):
    return {(int(i), int(j)) for i, j in np.asarray(edges).T}


@pytest.mark.parametrize("exact", [False, True])
def test_both_directions_go_together(exact):
    kept = as_set(thinned.drop_edge(EDGES, 0.4, AT, nodes=N, exact=exact))
    assert 0 < len(kept) < EDGES.shape[1]
    assert kept == {(j, i) for i, j in kept}


def test_directed_edges_draw_apart():
    keep = thinned.keep_edges(EDGES, 0.5, AT, directed=True)
    kept = as_set(EDGES[:, keep])
    together = sum((j, i) in kept for i, j in kept) / len(kept)
    assert abs(together - 0.5) < 6 * np.sqrt(0.25 / len(kept))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_the_order_of_the_edges_does_not_matter(directed, exact):
    how = {"directed": directed, "exact": exact}
    order = np.random.default_rng(1).permutation(EDGES.shape[1])
    kept = as_set(thinned.drop_edge(EDGES, 0.4, AT, **how))
    assert as_set(thinned.drop_edge(EDGES[:, order], 0.4, AT, **how)) == kept
    if not exact:  # a part of the graph, and an edge listed twice, have the whole's draws
        part = EDGES[:, :60]
        assert as_set(thinned.drop_edge(part, 0.4, AT, **how)) == kept & as_set(part)
    twice = np.concatenate([EDGES, EDGES[:, ::-1]], axis=1)
    assert as_set(thinned.drop_edge(twice, 0.4, AT, **how)) == kept


def test_edges_stay_in_their_order():
    keep = thinned.keep_edges(EDGES, 0.4, AT)
    np.testing.assert_array_equal(thinned.drop_edge(EDGES, 0.4, AT), EDGES[:, keep])


def test_the_pairs_have_numbers_of_their_own():
    i, j = (a.reshape(-1) for a in np.indices((60, 60)))
    edges = np.stack([i, j])
    numbers = graphs.pairs_of(np, edges, True)
    np.testing.assert_array_equal(np.sort(numbers), np.arange(3600))
    half = graphs.pairs_of(np, edges[:, i <= j], False)
    np.testing.assert_array_equal(np.sort(half), np.arange(60 * 61 // 2))
    np.testing.assert_array_equal(
        graphs.pairs_of(np, edges, False), graphs.pairs_of(np, edges[::-1], False)
    )


def test_an_edge_goes_by_the_word_at_its_pair():
    words = thinned.reference.words(AT, graphs.pairs_of(np, EDGES, False).astype(np.uint64))
    keep = words.astype(np.int64) >= round(0.4 * 2**32)
    np.testing.assert_array_equal(thinned.keep_edges(EDGES, 0.4, AT), keep)


def test_the_share_of_dropped_edges():
    shares = []
    for step in range(200):
        at = AT.replace(step=step)
        keep = thinned.keep_edges(EDGES, 0.3, at)
        shares.append(1 - keep.mean())
        exact = thinned.drop_edge(EDGES, 0.3, at, exact=True)
        assert exact.shape[1] == 2 * (150 - round(0.3 * 150))
    assert abs(np.mean(shares) - 0.3) < 6 * np.sqrt(0.21 / (200 * 150))


def test_edges_draw_apart():
    one, two = EDGES[:, :1], EDGES[:, 1:2]
    kept = np.array([
        [thinned.keep_edges(e, 0.5, AT.replace(step=i))[0] for e in (one, two)] for i in range(2000)
    ])  # fmt: skip
    assert abs(np.corrcoef(kept.T)[0, 1]) < 6 / np.sqrt(2000)


def test_more_edges_go_at_a_larger_p():
    for exact in (False, True):
        before = np.zeros(EDGES.shape[1], bool)
        for p in (0.0, 0.1, 0.5, 0.9, 1.0):
            dropped = ~thinned.keep_edges(EDGES, p, AT, exact=exact)
            assert (dropped | ~before).all()
            before = dropped
        assert dropped.all()
    assert thinned.drop_edge(EDGES, 1.0, AT).shape == (2, 0)
    np.testing.assert_array_equal(thinned.drop_edge(EDGES, 0.0, AT), EDGES)


def test_the_antithetic_graph():
    keep, other = (thinned.keep_edges(EDGES, 0.5, AT, mirror=m) for m in (False, True))
    np.testing.assert_array_equal(keep, ~other)


@pytest.mark.parametrize("how", [{}, {"directed": True}, {"exact": True}, {"mirror": True}])
def test_torch_draws_the_same_graph(how):
    expected = thinned.drop_edge(EDGES, 0.4, AT, nodes=N, **how)
    y = thinned.drop_edge(torch.from_numpy(EDGES), 0.4, AT, nodes=N, **how)
    assert y.dtype == torch.int64
    np.testing.assert_array_equal(y.numpy(), expected)
    keep = thinned.keep_edges(torch.from_numpy(EDGES.astype(np.int32)), 0.4, AT, **how)
    np.testing.assert_array_equal(keep.numpy(), thinned.keep_edges(EDGES, 0.4, AT, **how))


FORMATS = ["coo", "csr", "csc", "lil", "dok"]


def matrix(form, kind=scipy.sparse.coo_array):
    weights = (EDGES[0] + EDGES[1] + 1).astype(np.float32)
    return kind((weights, tuple(EDGES)), shape=(N, N)).asformat(form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", [scipy.sparse.coo_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("exact", [False, True])
def test_sparse_matrices_lose_the_same_edges(form, kind, exact):
    adjacency = matrix(form, kind)
    before = adjacency.toarray()
    y = thinned.drop_edge(adjacency, 0.4, AT, exact=exact)
    assert type(y) is type(adjacency)
    assert (y.format, y.dtype, y.shape) == (form, np.float32, (N, N))
    expected = np.zeros((N, N), np.float32)
    i, j = thinned.drop_edge(EDGES, 0.4, AT, exact=exact)
    expected[i, j] = i + j + 1
    np.testing.assert_array_equal(y.toarray(), expected)
    assert y.nnz == len(i)
    np.testing.assert_array_equal(adjacency.toarray(), before)
    assert thinned.drop_edge(adjacency, 0.4, AT, False) is adjacency
    coo, keep = adjacency.tocoo(), thinned.keep_edges(adjacency, 0.4, AT, exact=exact)
    assert as_set(np.stack([coo.row, coo.col])[:, keep]) == set(zip(i, j, strict=True))


def test_evaluation_keeps_the_graph():
    assert thinned.drop_edge(EDGES, 0.9, AT, False) is EDGES
    assert thinned.keep_edges(EDGES, 0.9, AT, False).all()
    assert thinned.keep_edges(torch.from_numpy(EDGES), 0.9, AT, False).shape == (300,)
    assert thinned.keep_edges(matrix("csr"), 0.9, AT, False).shape == (300,)


def test_a_graph_without_edges_is_one():
    empty = np.zeros((2, 0), np.int64)
    for exact in (False, True):
        assert thinned.drop_edge(empty, 0.5, AT, nodes=3, exact=exact).shape == (2, 0)
        y = thinned.drop_edge(scipy.sparse.csr_array((3, 3)), 0.5, AT, exact=exact)
        assert (y.nnz, y.shape) == (0, (3, 3))
        assert thinned.drop_edge(torch.from_numpy(empty), 0.5, AT, exact=exact).shape == (2, 0)
    _, weights = thinned.normalise_adjacency(empty, nodes=3)
    np.testing.assert_array_equal(weights, 1.0)


@pytest.mark.parametrize(("edges", "named", "error", "words"), [
    (EDGES, {"nodes": 30}, ValueError, r"an index in edges must be in \[0, 30\), got 39"),
    (EDGES - 1, {}, ValueError, r"an index in edges must be in \[0, 2097152\), got -1"),
    (EDGES + 2**21, {}, ValueError, r"an index in edges must be in \[0, 2097152\), got 2097191"),
    (EDGES, {"nodes": 0}, ValueError, r"nodes must be an integer in \[1, 2097153\), got 0. A gra"),
    (EDGES, {"nodes": 40.0}, TypeError, "nodes must be an integer"),
    (EDGES.T, {}, ValueError, r"edges must be of shape \(2, E\), got shape \(300, 2\)"),
    (EDGES[0], {}, ValueError, r"edges must be of shape \(2, E\)"),
    (EDGES * 1.0, {}, TypeError, "edges must be of an integer type, got float64"),
    (EDGES.tolist(), {}, TypeError, "edges must be a numpy array or .*, got list"),
    (EDGES, {"directed": 1}, TypeError, "directed must be True or False"),
    (EDGES, {"exact": "no"}, TypeError, "exact must be True or False"),
    (scipy.sparse.csr_array((0, 0)), {}, ValueError, "edges must be a square adjacency matrix wit"),
    (scipy.sparse.csr_array((2, 3)), {}, ValueError, "edges must be a square adjacency matrix wit"),
])  # fmt: skip
def test_wrong_graphs_are_refused(edges, named, error, words):
    for function in (thinned.drop_edge, thinned.keep_edges):
        for training in (True, False):
            with pytest.raises(error, match=f"^{function.__name__}: {words}"):
                function(edges, 0.5, AT, training, **named)


def test_p_and_address_of_a_graph_are_checked():
    for p in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"^drop_edge: p must be a float in"):
            thinned.drop_edge(EDGES, p, AT)
    with pytest.raises(TypeError, match=r"^drop_edge: at must be a thinned\.Address"):
        thinned.drop_edge(matrix("csr"), 0.5, 3)


# --------------------------------------------------------------------------------- normalised


def dense_normalised(adjacency):
    looped = adjacency + np.eye(len(adjacency))
    scale = looped.sum(1) ** -0.5
    return scale[:, None] * looped * scale[None]


def dense(edges, weights, nodes=N):
    out = np.zeros((nodes, nodes))
    np.add.at(out, tuple(np.asarray(edges)), np.asarray(weights))
    return out


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_adjacency_is_normalised_again(kind):
    left = thinned.drop_edge(EDGES, 0.4, AT)
    left = np.concatenate([left, [[3, 5], [3, 5]]], axis=1)  # two nodes with a loop of their own
    edges, weights = thinned.normalise_adjacency(kind(left), nodes=N)
    expected = dense_normalised(dense(left, np.ones(left.shape[1])))
    np.testing.assert_allclose(dense(edges, weights), expected, rtol=1e-6)
    matrix = scipy.sparse.coo_array((np.ones(left.shape[1]), tuple(left)), shape=(N, N))
    for form in FORMATS:
        y = thinned.normalise_adjacency(matrix.asformat(form))
        assert (y.format, y.dtype) == ("csr", np.float64)
        np.testing.assert_allclose(y.toarray(), expected, rtol=1e-12)


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("kind", "dtype"), [
    *((np.asarray, t) for t in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64")),
    *((torch.from_numpy, t) for t in ("int8", "uint8", "int16", "int32", "int64")),
    *((jnp.asarray, t) for t in ("int8", "uint8", "int16", "int32", "uint32")),
])  # fmt: skip
@pytest.mark.parametrize("nodes", [100, 300, 70_000])
def test_narrow_indices_count_all_nodes(kind, dtype, nodes):
    narrow = (EDGES % 100).astype(dtype)
    expected, weights = thinned.normalise_adjacency(narrow.astype(np.int64), nodes=nodes)
    found, mine = thinned.normalise_adjacency(kind(narrow), nodes=nodes)
    np.testing.assert_array_equal(np.asarray(found), expected)
    np.testing.assert_allclose(np.asarray(mine), weights, rtol=1e-6)
    fits = np.iinfo(dtype).max >= nodes - 1
    assert (found.dtype == kind(narrow).dtype) == (fits or dtype in ("int64",))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_a_sparse_tensor_is_told_to_bring_its_indices():
    sparse = torch.eye(3).to_sparse()
    words = r"edges must be an array of integers, shape \(2, E\), got a sparse Tensor\. Pass"
    for tensor in (sparse, torch.eye(3).to_sparse_csr(), sparse.to(torch.int64)):
        with pytest.raises(TypeError, match=f"^drop_edge: {words}"):
            thinned.drop_edge(tensor, 0.5, AT)
    with pytest.raises(TypeError, match=r"^keep_edges: edges must be .* got a sparse BCOO\."):
        thinned.keep_edges(BCOO.fromdense(jnp.eye(3)), 0.5, AT)


def test_weighted_and_old_matrices_are_normalised():
    weighted = matrix("csr", scipy.sparse.coo_matrix)
    y = thinned.normalise_adjacency(weighted)
    assert type(y) is scipy.sparse.csr_matrix
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.toarray(), dense_normalised(weighted.toarray()), rtol=1e-5)


@pytest.mark.parametrize(("edges", "nodes", "error", "words"), [
    (EDGES, None, TypeError, "nodes must be given with an edge list"),
    (EDGES, 30, ValueError, r"an index in edges must be in \[0, 30\), got 39"),
    (EDGES, 0, ValueError, r"nodes must be an integer in \[1"),
    (EDGES * 1.0, N, TypeError, "edges must be of an integer type"),
    (scipy.sparse.csr_array((0, 0)), None, ValueError, "edges must be a square adjacency"),
    (-matrix("csr"), None, ValueError, "edges must be free of negative entries"),
    (matrix("csr") * np.float32(np.nan), None, ValueError, "edges must be free of negative"),
])  # fmt: skip
def test_what_cannot_be_normalised_is_refused(edges, nodes, error, words):
    with pytest.raises(error, match=f"^normalise_adjacency: {words}"):
        thinned.normalise_adjacency(edges, nodes)


def test_a_nodes_features_live_or_die_together():
    y = thinned.drop_node(np.ones((50, 6)), 0.4, AT)
    assert (y == y[:, :1]).all()
    assert 0 < (y[:, 0] == 0).sum() < 50


# ------------------------------------------------------------------------------------- faults


def by_position(xp, edges, directed):
    return xp.arange(edges.shape[1])


def always_directed(xp, edges, directed):
    return pairs(xp, edges, True)


def rows_of_the_sum(xp, edges, directed):
    return edges[0] + edges[1]


pairs = graphs.pairs_of
FAULTS = [
    (by_position, lambda: test_both_directions_go_together(False)),
    (by_position, lambda: test_the_order_of_the_edges_does_not_matter(True, False)),
    (always_directed, lambda: test_both_directions_go_together(True)),
    (rows_of_the_sum, test_the_pairs_have_numbers_of_their_own),
]


@pytest.mark.parametrize(("fault", "check"), FAULTS)
def test_a_fault_in_the_pairs_is_caught(fault, check, monkeypatch):
    monkeypatch.setattr(graphs, "pairs_of", fault)
    with pytest.raises(AssertionError):
        check()


def test_a_share_that_is_kept_is_caught(monkeypatch):
    keep = graphs._keep
    monkeypatch.setattr(
        graphs, "_keep", lambda who, edges, p, *a, **k: keep(who, edges, 1 - p, *a, **k)
    )
    with pytest.raises(AssertionError):
        test_the_share_of_dropped_edges()


@pytest.mark.parametrize("mirror", [False, True])
def test_words_anywhere_are_the_words(mirror):
    """The three ways to them: the reference's, NumPy's in chunks, tensor operations."""
    index = np.random.default_rng(3).integers(0, 2**42, (3, 7000))
    expected = thinned.reference.words(AT, index.astype(np.uint64), mirror)
    for kernel in ("reference", thinned.kernel_info().runnable[-1]):
        with using(kernel):
            for kind in (np.asarray, torch.as_tensor):
                backend = backend_of("test", kind(index))
                found = backend.words_at(AT, kind(index), mirror)
                assert type(found) is type(kind(index))
                np.testing.assert_array_equal(np.asarray(found), expected)
