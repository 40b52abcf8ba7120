"""Graphs: DropEdge, DropNode and DropMessage, on edge lists, features and SciPy's sparse arrays.

No graph library is needed: an edge list is an array of integers of shape (2, E).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.backends import Backend, backend_of
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.draws import Draws
from thinned.methods.table import INVERTED, Moments, Paper, Sample, method
from thinned.window import Window

__all__ = [
    "draws_of_edges",
    "drop_edge",
    "drop_message",
    "drop_node",
    "keep_edges",
    "left_of",
    "normalise_adjacency",
    "pairs_of",
]

RONG = Paper(
    "Rong, Huang, Xu, Huang", 2020,
    "DropEdge: towards deep graph convolutional networks on node classification",
    "arXiv:1907.10903",
)  # fmt: skip
FENG = Paper(
    "Feng, Zhang, Dong, Han, Luan, Xu, Yang, Kharlamov, Tang", 2020,
    "Graph random neural networks for semi-supervised learning on graphs", "arXiv:2005.11079",
)  # fmt: skip
FANG = Paper(
    "Fang, Xiao, Wang, Xu, Yang, Yang", 2023,
    "DropMessage: unifying random dropping for graph neural networks", "arXiv:2204.10037",
)  # fmt: skip

# Pairs of nodes are numbered below the square of this, and words of draws below 2^42.
MAX_NODES = 2**21


def _is_sparse(x: Any) -> bool:
    """Whether x is one of SciPy's, which is then loaded already."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def _has_sparse_layout(x: Any) -> bool:
    """Whether x is a sparse tensor of PyTorch's, or of JAX, whichever is loaded already."""
    torch, sparse = sys.modules.get("torch"), sys.modules.get("jax.experimental.sparse")
    if torch is not None and isinstance(x, torch.Tensor):
        kinds = ("coo", "csr", "csc", "bsr", "bsc")
        return x.layout in [getattr(torch, f"sparse_{kind}") for kind in kinds]
    return sparse is not None and isinstance(x, sparse.JAXSparse)


def _require_list(who: str, edges: Any) -> Backend:
    """The backend of an edge list; TypeError unless it is an array of integers."""
    if _is_sparse(edges) or _has_sparse_layout(edges):
        got, remedy = f"a sparse {type(edges).__name__}", "Pass the indices of its entries."
        raise TypeError(message(who, "edges", "an array of integers, shape (2, E)", got, remedy))
    backend = backend_of(who, edges, "edges")
    backend.require_integers(who, edges, "edges")
    return backend


def _require_square(who: str, adjacency: Any) -> int:
    shape = tuple(adjacency.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        requirement = "a square adjacency matrix with a node at least"
        raise ValueError(message(who, "edges", requirement, f"shape {shape}"))
    return int(shape[0])


def _require_edges(
    who: str, backend: Backend, edges: Any, nodes: Any, most_nodes: int = MAX_NODES
) -> None:
    """ValueError unless all indices lie in [0, nodes), or in what a draw can number."""
    if len(edges.shape) != 2 or edges.shape[0] != 2:
        got = f"shape {tuple(edges.shape)}"
        raise ValueError(message(who, "edges", "of shape (2, E)", got))
    if nodes is not None:
        remedy = "A graph without a node has nothing to keep."
        nodes = checks.integer(who, "nodes", nodes, 1, most_nodes + 1, remedy)
    # A compiler cannot look at values, and on the meta device there are none; the library's own
    # checks of indices remain.
    unknown = backend.compiling() or backend.traced(edges) or getattr(edges, "is_meta", False)
    if unknown or not edges.shape[1]:
        return
    xp = backend.namespace
    wide = xp.astype(backend.plain(edges), xp.int64)  # narrow unsigned types know no minimum
    least, most = int(wide.min()), int(wide.max())
    end = most_nodes if nodes is None else nodes
    if least < 0 or most >= end:
        wrong = least if least < 0 else most
        raise ValueError(message(who, "an index in edges", f"in [0, {end})", wrong))


def pairs_of(xp: Any, edges: Any, directed: bool) -> Any:
    """A number for each edge that only its two nodes decide, not the other edges or the order.

    Undirected {i, j}: the place of (max, min) in a triangle counted by rows. Directed (i, j): the
    place in a square counted by growing shells. Nodes that come later change no number.
    """
    wide = xp.astype(edges, xp.int64)
    i, j = wide[0], wide[1]
    low, high = xp.minimum(i, j), xp.maximum(i, j)
    if not directed:
        return high * (high + 1) // 2 + low
    return high * high + xp.where(i < j, i, i + j)


def _complete(p: float, at: Address) -> Any:
    """The adjacency matrix of 24 nodes of which each is tied to each."""
    ends = np.stack(np.nonzero(~np.eye(24, dtype=bool)))
    left = drop_edge(ends, p, at)
    matrix = np.zeros((24, 24))
    matrix[left[0], left[1]] = 1.0
    return matrix


@method(
    title="DropEdge",
    rank="first",
    target="edges",
    formula="edge {i, j} stays where m,  m ~ Bernoulli(1 - p);  exact: round(p E) of E edges go",
    law=PLAIN_BERNOULLI,
    shared="the two directions of an undirected edge",
    scale="1; normalise_adjacency afterwards",
    fill="no edge",
    papers=(RONG,),
    aliases={
        "PyTorch Geometric": ("dropout_edge", "dropout_adj"),
        "DGL": ("DropEdge",),
    },
    moments=Moments(
        "(1 - p) E edges of E;  exact: E - round(p E)",
        "p (1 - p) E for a directed list, twice that where both directions share a draw;  exact: 0",
    ),
    module="DropEdge",
    apart="It takes a list of edges, and the number of remaining edges is random.",
    picture=_complete,
    note="Against over-smoothing in deep graph convolutions, with p up to .8. Normalise the "
    "adjacency again afterwards.",
)
def drop_edge(
    edges: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    nodes: int | None = None,
    directed: bool = False,
    exact: bool = False,
    mirror: bool = False,
) -> Any:
    """Drop edges of a graph, both directions of an undirected edge together.

    Edge {i, j} stays where m,  m ~ Bernoulli(1 - p); or exact: round(p E) of the E edges go.

    The draw of an edge is the word of the address at an index made of its two nodes alone:
    j (j + 1) / 2 + i for i <= j, and where directed j^2 + i for i < j, i^2 + i + j else. It is
    dropped where that word is below p 2^32. So the result for an edge is the same in any order of
    the edges, in any part of the graph, and if it is listed twice. A larger p drops more edges.

    Parameters
    ----------
    edges : array of integers, shape (2, E), each column an edge from row 0 to row 1; or a sparse
        array or matrix of SciPy's, shape (N, N), whose stored entries are edges. Never modified. A
        self-loop is an edge like any other: add loops afterwards, as normalise_adjacency does.
    p : float in [0, 1]. Probability of dropping an edge; p = 1 leaves none.
    at : Address. Equal addresses give equal graphs on every backend.
    training : bool. False gives edges themselves.
    nodes : int in [1, 2^21], or None. N, to check indices against; of an edge list only.
    directed : bool. True: (i, j) and (j, i) are two edges with independent draws.
    exact : bool. True: of the E different edges exactly E - round(p E) stay, those with the
        largest words. This is the paper's form; the other is that of the libraries.
    mirror : bool. The antithetic draw.

    Returns
    -------
    edges of the same kind: an edge list of shape (2, E') in the order of `edges`, or a sparse array
    of the same format, type and shape. `keep_edges` gives the mask, to select attributes with.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the shape is another, an index is negative or not
    below nodes or 2^21, or the graph has no node (nodes=0, a matrix of shape (0, 0)). A graph
    without edges is valid, and is returned. TypeError if an edge list is not of integers.

    References
    ----------
    Rong et al., 2020, arXiv:1907.10903.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> ring = np.array([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
    >>> thinned.drop_edge(ring, 0.5, thinned.Address(seed=0))
    array([[0, 1, 3, 0],
           [1, 0, 0, 3]])
    """
    how: Any = {"nodes": nodes, "directed": directed, "exact": exact, "mirror": mirror}
    keep = _keep("drop_edge", edges, p, at, training, **how)
    if keep is None:
        return edges
    return left_of("drop_edge", edges, keep)


def left_of(who: str, edges: Any, keep: Any) -> Any:
    """The edges that a mask keeps, in the form of `edges`."""
    if not _is_sparse(edges):
        backend = backend_of(who, edges)
        left = backend.plain(edges)[:, keep]
        given = edges.dtype  # of NumPy's byte order too
        return left if left.dtype == given else backend.namespace.astype(left, given)
    coo = edges.tocoo()
    kept = (coo.data[keep], (coo.row[keep], coo.col[keep]))
    return type(coo)(kept, shape=coo.shape, dtype=coo.dtype).asformat(edges.format)


@answering
def keep_edges(
    edges: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    nodes: int | None = None,
    directed: bool = False,
    exact: bool = False,
    mirror: bool = False,
) -> Any:
    """The mask of `drop_edge`: True for an edge that stays. Its shape does not depend on a draw.

    Parameters
    ----------
    edges, p, at, training, nodes, directed, exact, mirror : as in `drop_edge`; of a sparse array
        the entries in the order of its `tocoo()`.

    Returns
    -------
    boolean array of shape (E,), of edges' kind (NumPy's for SciPy's).

    Raises
    ------
    ValueError, TypeError as `drop_edge`.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> path = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> thinned.keep_edges(path, 0.5, thinned.Address(seed=0))
    array([ True,  True, False, False])
    """
    how: Any = {"nodes": nodes, "directed": directed, "exact": exact, "mirror": mirror}
    keep = _keep("keep_edges", edges, p, at, training, **how)
    if keep is not None:
        return keep
    if _is_sparse(edges):
        return np.ones(edges.tocoo().data.shape, np.bool_)
    backend = backend_of("keep_edges", edges)
    return backend.namespace.ones_like(backend.plain(edges)[0]) > 0


def draws_of_edges(
    who: str, edges: Any, p: Any, at: Any, training: Any, nodes: Any, mirror: Any
) -> Draws:
    """The draws of a call whose x is an edge list, also that of a sparse matrix's entries; an error
    unless it is one."""
    if _is_sparse(edges):
        nodes = _require_square(who, edges)
        coo = edges.tocoo()
        edges = np.stack([coo.row, coo.col]).astype(np.int64)
    _require_list(who, edges)
    draws = Draws(who, edges, p, at, training, None, mirror, integers=True)
    end = min(MAX_NODES, math.isqrt(int(draws.xp.iinfo(draws.xp.int64).max)))
    _require_edges(who, draws.backend, edges, nodes, end)
    return draws


def _keep(
    who: str, edges: Any, p: Any, at: Any, training: Any, nodes: Any, directed: Any, exact: Any,
    mirror: Any,
) -> Any:  # fmt: skip
    """The mask, or None in evaluation, once all is checked."""
    directed = checks.flag(who, "directed", directed)
    exact = checks.flag(who, "exact", exact)
    draws = draws_of_edges(who, edges, p, at, training, nodes, mirror)
    if not draws.training:
        return None
    xp = draws.xp
    pairs = pairs_of(xp, draws.x, directed)
    if not exact:
        return draws.kept(draws.words_at(pairs))
    found = xp.unique_inverse(pairs)
    words = draws.words_at(found.values)
    n = words.shape[0]
    rank = xp.argsort(xp.argsort(~words, stable=True), stable=True)
    keep = rank < n - round(float(draws.p) * n)
    return keep[xp.reshape(found.inverse_indices, pairs.shape)]


@method(
    title="DropNode",
    rank="first",
    target="nodes",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per node: a row of x",
    law=BERNOULLI,
    shared="a node's features",
    moments=INVERTED,
    papers=(FENG, FANG),
    aliases={"PyTorch Geometric": ("dropout_node",), "DGL": ("DropNode",)},
    module="DropNode",
    sample=Sample(shape=(8, 5), independent=(0,)),
    takes=("complex", "sparse", "rates"),
    note="For graphs with few labelled nodes. PyTorch Geometric's dropout_node removes a node's "
    "edges too, and does not scale; DGL's DropNode does the same.",
)
def drop_node(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop all features of some nodes, before they are propagated.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per node.

    Parameters
    ----------
    x : array, shape (N, ...), floating: a row of features for each node. Never modified.
    p : float in [0, 1]. Probability of dropping a node; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`: Window(start) for the nodes from start on.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has no axis. TypeError if x is not floating.

    References
    ----------
    Feng et al., 2020, arXiv:2005.11079; defined the same in Fang et al., 2023, arXiv:2204.10037.
    """
    draws = Draws("drop_node", x, p, at, training, window, mirror)
    if not draws.shape:
        raise ValueError(message("drop_node", "x", "of shape (N, ...)", "an array without axes"))
    if not draws.training:
        return x
    return draws.noise(x, shared_axes=tuple(range(1, len(draws.shape))))


@method(
    title="DropMessage",
    rank="first",
    target="messages",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per edge and feature",
    law=BERNOULLI,
    moments=INVERTED,
    papers=(FANG,),
    module="DropMessage",
    sample=Sample(shape=(7, 4), independent=(0, 1), splits=(0, 1)),
    takes=("complex", "sparse", "rates"),
    note="For graph networks whose messages are accessible. Of the graph methods it has the "
    "lowest variance of a sum over neighbours.",
)
def drop_message(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop elements of the messages along edges, before they are summed.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per edge and feature.

    Parameters
    ----------
    x : array, shape (E, ...), floating: a message for each edge, as features[edges[0]] gives them.
        Never modified. A draw depends on the position in x: unlike with `drop_edge`, another order
        of the edges gives another mask, and an edge's two directions have separate draws.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has no axis. TypeError if x is not floating.

    References
    ----------
    Fang et al., 2023, arXiv:2204.10037.
    """
    draws = Draws("drop_message", x, p, at, training, window, mirror)
    if not draws.shape:
        raise ValueError(message("drop_message", "x", "of shape (E, ...)", "an array without axes"))
    if not draws.training:
        return x
    return draws.noise(x)


@answering
def normalise_adjacency(edges: Any, nodes: int | None = None) -> Any:
    """D^-1/2 (A + I) D^-1/2, D the row sums of A + I: what `drop_edge` leaves, made ready again.

    Parameters
    ----------
    edges : array of integers, shape (2, E), every entry 1; or a sparse array or matrix of SciPy's,
        shape (N, N), without negative entries. Never modified.
    nodes : int in [1, 2^21]. N; needed of an edge list, and of it only.

    Returns
    -------
    Of an edge list: the pair of an edge list of shape (2, E + N), a loop at each node behind the
    edges, in edges' type where that can count the nodes and else in int64; and the weights of these
    edges, shape (E + N,), binary32. Of a sparse array: the sparse array, in CSR format, binary64
    (binary32 where the entries are). Rows sum to 1 only where all neighbours have equal degrees.

    Raises
    ------
    ValueError if the shape is another, an index is negative or not below nodes, the graph has no
    node, or an entry is negative or NaN. TypeError if an edge list is not of integers, or nodes is
    not given with one.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> loops, weights = thinned.normalise_adjacency(np.array([[0, 1], [1, 0]]), nodes=3)
    >>> loops
    array([[0, 1, 0, 1, 2],
           [1, 0, 0, 1, 2]])
    >>> weights
    array([0.5, 0.5, 0.5, 0.5, 1. ], dtype=float32)
    """
    who = "normalise_adjacency"
    if _is_sparse(edges):
        return _normalised_matrix(who, edges)
    backend = _require_list(who, edges)
    if nodes is None:
        raise TypeError(f"{who}: nodes must be given with an edge list: how many nodes there are.")
    _require_edges(who, backend, edges, nodes)
    from array_api_compat import device  # which an import of thinned has no use for

    xp = backend.namespace
    # A narrow type may hold the edges it has and not the last node's loop; and PyTorch takes an
    # index of bytes for a mask. So all is done in the widest.
    wide = xp.astype(backend.plain(edges), xp.int64)
    loops = xp.arange(nodes, dtype=xp.int64, device=device(edges))
    looped = xp.concat([wide, xp.stack([loops, loops])], axis=1)
    scale = xp.astype(xp.bincount(looped[0], minlength=nodes), xp.float64) ** -0.5
    weights = xp.astype(scale[looped[0]] * scale[looped[1]], xp.float32)
    fits = int(xp.iinfo(edges.dtype).max) >= nodes - 1
    return (xp.astype(looped, edges.dtype) if fits else looped), weights


def _normalised_matrix(who: str, adjacency: Any) -> Any:
    import scipy.sparse

    n = _require_square(who, adjacency)
    kind = np.float32 if adjacency.dtype == np.float32 else np.float64
    looped = (adjacency + scipy.sparse.eye_array(n, format="csr")).tocsr().astype(kind)
    if not (looped.data >= 0).all():
        raise ValueError(message(who, "edges", "free of negative entries", looped.data.min()))
    scale = scipy.sparse.diags_array(np.asarray(looped.sum(axis=1)).reshape(-1) ** -0.5)
    made = (scale @ looped @ scale).tocsr().astype(kind)
    return made if isinstance(adjacency, scipy.sparse.sparray) else scipy.sparse.csr_matrix(made)
