"""Random walks over a graph whose edges are dropped: DropPath of graphs, path-wise masking."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.methods.arguments import one_of
from thinned.methods.draws import Draws
from thinned.methods.graphs import draws_of_edges, left_of, pairs_of
from thinned.methods.table import Moments, Paper, method

__all__ = ["dropout_path"]

LI = Paper(
    "Li, Wu, Sun, Chen, Tian, Zhu, Meng, Zheng, Wang", 2023,
    "What's behind the mask: understanding masked graph modeling for graph autoencoders",
    "arXiv:2205.10053",
)  # fmt: skip

STARTS = ("node", "edge")


def _check(who: str, walks: Any, length: Any, start: Any, **_: Any) -> None:
    checks.integer(who, "walks", walks, 1, 2**16)
    checks.integer(who, "length", length, 1, 2**16)
    one_of(who, "start", start, STARTS)


def _grid(p: float, at: Address) -> Any:
    """The edges that stay of a grid of 20 x 20 nodes: a node is dark where all of its edges do."""
    node = np.arange(400).reshape(20, 20)
    right = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()])
    down = np.stack([node[:-1].ravel(), node[1:].ravel()])
    one_way = np.concatenate([right, down], axis=1)
    edges = np.concatenate([one_way, one_way[::-1]], axis=1)
    keep = dropout_path(edges, p / 5, at, return_mask=True)
    whole = np.bincount(edges[0], minlength=400)
    return (np.bincount(edges[0][keep], minlength=400) / whole).reshape(20, 20)


@method(
    title="DropPath of graphs",
    rank="second",
    target="edges along random walks",
    formula="edge {i, j} goes where a walk takes it;  walks of `length` edges from each root,  "
    "roots ~ Bernoulli(p)",
    shared="the two directions of an undirected edge",
    scale="1; normalise_adjacency afterwards",
    fill="no edge",
    papers=(LI,),
    source="The paper draws its roots among the nodes; PyTorch Geometric among the edges, whose "
    "first nodes they are (start='edge'), and drops one direction only (directed=True).",
    aliases={"PyTorch Geometric": ("dropout_path",), "MaskGAE": ("mask_path", "MaskPath")},
    moments=Moments(
        "no closed form: it depends on the graph", "no closed form: edges of a walk go together"
    ),
    check=_check,
    apart="It takes a list of edges, and the number of remaining edges is random.",
    picture=_grid,
    note="For graph autoencoders that predict what was masked: whole paths are missing, so that no "
    "neighbour gives the answer away. p is the share of roots, and more edges than that go.",
)
def dropout_path(
    edges: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    walks: int = 1,
    length: int = 3,
    start: str = "node",
    nodes: int | None = None,
    directed: bool = False,
    return_mask: bool = False,
    mirror: bool = False,
) -> Any:
    """Drop the edges that random walks over a graph take.

    Roots are drawn with probability p; from each, `walks` walks go along `length` edges, every time
    to a neighbour that is as likely as the others, and end early where there is none. What they
    took is dropped. Draws belong to roots and steps, and neighbours are taken by their numbers, so
    that the order of the edges does not matter.

    Parameters
    ----------
    edges : array of integers, shape (2, E), each column an edge from row 0 to row 1; or a sparse
        array or matrix of SciPy's, shape (N, N), whose stored entries are edges. Never modified.
    p : float in [0, 1]. Probability that a node is a root (with start="edge", that an edge makes
        its first node one); p = 0 drops nothing.
    at : Address. Draw 0 is that of the roots; draw 1 + w length + t that of step t of walk w.
    training : bool. False gives edges themselves.
    walks : int >= 1. Walks from each root.
    length : int >= 1. Edges of a walk.
    start : "node" or "edge". What p is asked of.
    nodes : int in [1, 2^21], or None. N, to check indices against; of an edge list only.
    directed : bool. True: a walk along (i, j) leaves (j, i) where it is. A walk follows edges from
        row 0 to row 1 in either case: list both directions of an undirected graph.
    return_mask : bool. Return a mask instead of edges: True for an edge that stays. Its shape does
        not depend on a draw, so that compiled programs can have it.
    mirror : bool. The antithetic draw.

    Returns
    -------
    edges of the same kind, in the order of `edges`; with return_mask a boolean array of shape (E,),
    of a sparse array in the order of its `tocoo()`.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the shape is another, an index is negative or not
    below nodes or 2^21, an option is unknown, or a count is below 1. TypeError if an edge list is
    not of integers.

    References
    ----------
    Li et al., 2023, arXiv:2205.10053, section 4.2; PyTorch Geometric's dropout_path.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> ring = np.array([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
    >>> thinned.dropout_path(ring, 0.3, thinned.Address(seed=3), length=2)
    array([[0, 1, 2, 3, 3, 0],
           [1, 0, 3, 2, 0, 3]])
    """
    who = "dropout_path"
    _check(who, walks, length, start)
    directed = checks.flag(who, "directed", directed)
    return_mask = checks.flag(who, "return_mask", return_mask)
    draws = draws_of_edges(who, edges, p, at, training, nodes, mirror)
    xp, list_ = draws.xp, draws.x
    if not draws.training:
        return xp.ones_like(list_[0]) > 0 if return_mask else edges
    pairs = pairs_of(xp, list_, directed)
    if not list_.shape[1]:
        keep = pairs > -1
    else:
        taken = _taken(draws, list_, pairs_of(xp, list_, True), pairs, walks, length, start)
        place = xp.searchsorted(taken, pairs)
        last = taken.shape[0] - 1
        found = xp.take(taken, xp.where(place > last, xp.full_like(place, last), place))
        keep = found != pairs
    return keep if return_mask else left_of(who, edges, keep)


def _taken(
    draws: Draws, edges: Any, order: Any, pairs: Any, walks: int, length: int, start: str
) -> Any:
    """The numbers of the pairs that are walked along, in rising order; -1 for steps of none."""
    xp = draws.xp
    wide = xp.astype(edges, xp.int64)
    # By their first node and then by their second, which the numbers of directed pairs do not do.
    sort = xp.argsort(wide[1], stable=True)
    sort = xp.take(sort, xp.argsort(xp.take(wide[0], sort), stable=True))
    first, second = xp.take(wide[0], sort), xp.take(wide[1], sort)
    numbers = xp.take(pairs, sort)
    names = first if start == "node" else xp.take(order, sort)
    root = ~draws.kept(draws.words_at(names))
    if start == "node":  # each once, at the first of its edges
        root = root & xp.concat([xp.ones_like(first[:1]) > 0, first[1:] != first[:-1]])
    none = xp.full_like(first, -1)
    steps = []
    for walk in range(walks):
        here, on = first, root
        for step in range(length):
            left = xp.searchsorted(first, here)
            degree = xp.searchsorted(first, here, side="right") - left
            on = on & (degree > 0)
            word = draws.words_at(names, 1 + walk * length + step)
            u = xp.astype(word >> 9, xp.float32) * 2.0**-23 + 2.0**-24
            pick = xp.astype(xp.floor(u * xp.astype(degree, xp.float32)), xp.int64)
            # A product with a large degree may be rounded up to it.
            pick = left + xp.where(pick >= degree, degree - 1, pick)
            pick = xp.where(on, pick, xp.zeros_like(pick))
            steps.append(xp.where(on, xp.take(numbers, pick), none))
            here = xp.take(second, pick)
    return xp.sort(xp.concat(steps))
