"""Modules around other parts of a model: LayerDrop, LoRALinear, EmbeddingDropout; DropGrad, DropBP
and DropEdge, which change a gradient and a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.address import Address
from thinned.backends.torch.internals import active_ddp
from thinned.checks import message
from thinned.foreign_arguments import told
from thinned.methods.draws import Draws
from thinned.methods.gradients import drop_bp, drop_grad
from thinned.methods.graphs import drop_edge
from thinned.methods.layers import alpha_of, layer_drop
from thinned.methods.words import embedding_dropout
from thinned.torch.adoption.module import Sited
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.dtensor import is_sharded
from thinned.torch.compat.shard import Shard

__all__ = ["DropBP", "DropEdge", "DropGrad", "EmbeddingDropout", "LayerDrop", "LoRALinear"]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


@told
class LayerDrop(Sited):
    """A stack of layers each of which is skipped with probability p: see `thinned.layer_drop`.

    x = layer_l(x) if m_l else x,  m_l ~ Bernoulli(1 - p), for l = 0, 1, ...;  in evaluation every
    layer runs.

    A skipped layer is not computed. In a compiled model, where control flow cannot depend on a
    draw, it is computed and discarded; so it is under DistributedDataParallel without
    find_unused_parameters=True, which waits for a gradient of every parameter and gets zeros.

    Parameters
    ----------
    layers : iterable of modules, or an nn.ModuleList, that keep the shape of their first argument.
    p : float in [0, 1]. Probability of skipping a layer.
    skip : bool or None. False computes and discards everywhere, True nowhere but in a compiled
        model. None is as described.

    Attributes
    ----------
    layers : nn.ModuleList.

    Raises
    ------
    ValueError if p is outside [0, 1]. TypeError if a layer is no module.

    References
    ----------
    Fan, Grave and Joulin, 2020, arXiv:1909.11556.
    """

    skip: bool | None = None

    def __init__(
        self, layers: Iterable[nn.Module], p: float = 0.2, *, skip: bool | None = None
    ) -> None:
        super().__init__(checks.probability("LayerDrop", p))
        self.skip = None if skip is None else checks.flag("LayerDrop", "skip", skip)
        found: Any = layers
        if not isinstance(layers, nn.ModuleList):
            found = checks.items("LayerDrop", "layers", layers, "several torch.nn.Modules")
        for layer in found:
            if not isinstance(layer, nn.Module):
                got = type(layer).__name__
                raise TypeError(message("LayerDrop", "a layer", "a torch.nn.Module", got))
        self.layers = found if isinstance(found, nn.ModuleList) else nn.ModuleList(found)

    @property
    def batch_axis(self) -> int:
        return NO_ROWS  # one gate for all rows

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """x through the layers; all else goes to each of them as it is."""
        at: Any = _NOWHERE
        p: Any = self.quiet_p
        if self.training:
            # A DTensor is shown whole: its gates are shared by all and divided among none.
            whole = Shard((0,) * x.dim(), tuple(x.shape), True) if is_sharded(x) else None
            at, _, p = self.located(x, whole)
        skip = not _every_gradient_is_awaited() if self.skip is None else self.skip
        for number, layer in enumerate(self.layers):

            def run(x: Tensor, layer: nn.Module = layer) -> Any:
                return layer(x, *rest, **named)

            own = at if number == 0 else at.fold_in(number)
            x = layer_drop(run, x, p, own, self.training, skip=skip)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)

    def __getitem__(self, number: int) -> nn.Module:
        return self.layers[number]

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _every_gradient_is_awaited() -> bool:
    """Whether a DistributedDataParallel runs that hangs or raises without some gradients."""
    if torch.compiler.is_compiling():  # computed anyway
        return False
    ddp = active_ddp()
    return ddp is not None and not ddp.find_unused_parameters


@told
class LoRALinear(Sited):
    """A frozen linear layer and its low-rank update, whose input is dropped.

    y = W x + b + (alpha / rank) B A (x m / (1 - p)): see `thinned.lora_dropout`. B begins at zero,
    so the model begins where it was. W and b are frozen (requires_grad is set to False) and have
    no noise.

    Parameters
    ----------
    linear : nn.Linear. Kept as it is, not copied.
    rank : int >= 1.
    alpha : float, finite, or None. None is the rank.
    p : float in [0, 1]. Probability of dropping an input of the update.

    Attributes
    ----------
    linear : nn.Linear. W and b.
    down, up : parameters, shapes (rank, inputs) and (outputs, rank). A and B.

    Raises
    ------
    ValueError if p is outside [0, 1], rank is below 1 or alpha is not finite. TypeError if linear
    is no nn.Linear, or alpha no number.

    References
    ----------
    Hu et al., 2021, arXiv:2106.09685.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float | None = None, p: float = 0.05
    ) -> None:
        super().__init__(checks.probability("LoRALinear", p))
        if not isinstance(linear, nn.Linear):
            got = type(linear).__name__
            raise TypeError(message("LoRALinear", "linear", "a torch.nn.Linear", got))
        self.rank = checks.integer("LoRALinear", "rank", rank, 1, 2**31)
        self.alpha = alpha_of("LoRALinear", alpha, self.rank)
        self.linear = linear.requires_grad_(False)
        weight = linear.weight
        self.down = nn.Parameter(weight.new_empty(self.rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], self.rank))
        nn.init.kaiming_uniform_(self.down, a=5.0**0.5)  # as nn.Linear's own weight

    def forward(self, x: Tensor) -> Tensor:
        thinned = x
        if self.training:

            def draw(x: Tensor, at: Any, window: Any, p: Any) -> Tensor:
                y: Tensor = Draws("LoRALinear", x, p, at, True, window).noise(x)
                return y

            thinned = self.on_shard(x, draw)
        update = nn.functional.linear(nn.functional.linear(thinned, self.down), self.up)
        return self.linear(x) + update * (self.alpha / self.rank)  # type: ignore[no-any-return]

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain nn.Linear that computes what this one does in evaluation."""
        old = self.linear
        weight = old.weight + (self.up @ self.down) * (self.alpha / self.rank)
        new = nn.Linear(
            old.in_features, old.out_features, old.bias is not None, weight.device, weight.dtype
        )
        new.weight.copy_(weight)
        if old.bias is not None:
            new.bias.copy_(old.bias)
        return new

    def extra_repr(self) -> str:
        return f"p={self.p}, rank={self.rank}, alpha={self.alpha:g}"


@told
class EmbeddingDropout(Sited):
    """An embedding whose words are dropped whole: see `thinned.embedding_dropout`.

    A word that is dropped is dropped wherever it occurs in the batch, and in every piece and on
    every process of it: the draws belong to the vocabulary, not to the rows of the batch.

    Parameters
    ----------
    embedding : nn.Embedding. Kept as it is, with padding_idx, max_norm and the rest.
    p : float in [0, 1]. Probability of dropping a word.

    Raises
    ------
    ValueError if p is outside [0, 1]. TypeError if embedding is no nn.Embedding.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287; Merity et al., 2018, arXiv:1708.02182.
    """

    def __init__(self, embedding: nn.Embedding, p: float = 0.1) -> None:
        super().__init__(checks.probability("EmbeddingDropout", p))
        if not isinstance(embedding, nn.Embedding):
            got = type(embedding).__name__
            raise TypeError(message("EmbeddingDropout", "embedding", "a torch.nn.Embedding", got))
        self.embedding = embedding

    @property
    def batch_axis(self) -> int:
        return NO_ROWS  # a draw belongs to a word

    def forward(self, tokens: Tensor) -> Tensor:
        rows: Tensor = self.embedding(tokens)
        if not self.training:
            return rows
        at, _, p = self.located(tokens)
        # One number a word, in the type of the arithmetic: 1 / (1 - p) or 0. So the embedding looks
        # up its own rows, and keeps its ways with gradients.
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        words = torch.ones(self.embedding.num_embeddings, 1, dtype=wide, device=rows.device)
        factors = embedding_dropout(words, p, at)[tokens]
        return torch.where(factors > 0, (rows * factors).to(rows.dtype), 0.0)

    def extra_repr(self) -> str:
        return f"p={self.p}"


@told
class _OnGradient(Sited):
    """Identity, whose gradient meets a method's noise."""

    method: ClassVar[Callable[..., Any]]

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(checks.probability(type(self).__name__, p))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x

        def draw(x: Tensor, at: Any, window: Any, p: Any) -> Tensor:
            y: Tensor = type(self).method(x, p, at, window=window)
            return y

        return self.on_shard(x, draw)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropGrad(_OnGradient):
    """Identity, whose gradient is dropped: see `thinned.drop_grad`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping an element of the gradient.

    Raises
    ------
    ValueError if p is outside [0, 1]. TypeError if it is no number.
    """

    method = staticmethod(drop_grad)


class DropBP(_OnGradient):
    """Identity, behind which a residual branch is left out of the backward pass: see
    `thinned.drop_bp`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of leaving it out.

    Raises
    ------
    ValueError if p is outside [0, 1]. TypeError if it is no number.

    Examples
    --------
    >>> import thinned.torch as tt
    >>> tt.DropBP(0.5)  # x = x + self.drop(self.mlp(self.norm(x)))
    DropBP(p=0.5)
    """

    method = staticmethod(drop_bp)


@told
class DropEdge(Sited):
    """Takes edges out of an edge list of shape (2, E) in training: see `thinned.drop_edge`.

    How many are left is drawn, so a compiled program breaks off here; `thinned.keep_edges` has no
    such trouble.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping an edge.
    directed, exact : bool. As in `thinned.drop_edge`.
    """

    def __init__(self, p: float = 0.5, directed: bool = False, exact: bool = False) -> None:
        super().__init__(checks.probability("DropEdge", p))
        self.directed = checks.flag("DropEdge", "directed", directed)
        self.exact = checks.flag("DropEdge", "exact", exact)

    @property
    def batch_axis(self) -> int:
        return NO_ROWS  # a draw goes by an edge's nodes

    def forward(self, edges: Tensor) -> Tensor:
        at, p = (_NOWHERE, self.quiet_p) if not self.training else self.located(edges)[::2]
        y: Tensor = drop_edge(edges, p, at, self.training, directed=self.directed, exact=self.exact)
        return y

    def extra_repr(self) -> str:
        return f"p={self.p}, directed={self.directed}, exact={self.exact}"
