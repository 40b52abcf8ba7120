"""Masksembles as a module: its bank of masks is a buffer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from thinned.address import Address
from thinned.foreign_arguments import told
from thinned.methods.arguments import require_unit_axis
from thinned.methods.banks import masksembles, masksembles_bank
from thinned.torch.compat.fx_leaf import Leaf

__all__ = ["Masksembles"]


@told
class Masksembles(Leaf, nn.Module):
    """Masksembles: chunk i of the batch takes mask i of a fixed bank, in evaluation too.

    Nothing is drawn in a call: there is no clock to follow, and `adopt` leaves it as it is. The
    bank is saved in the state_dict.

    Parameters
    ----------
    features : int >= 1. Units, or channels, along `axis`.
    n : int >= 1. How many masks; batches are multiples of it.
    scale : float >= 1. The paper's S: the larger, the less the masks overlap.
    axis : int. The axis of the features; not 0, along which the samples lie.
    at : Address or None. Of the bank, see `thinned.masksembles_bank`. None draws a seed from
        PyTorch's default generator, as other modules draw their first weights.

    Raises
    ------
    ValueError, TypeError as `thinned.masksembles_bank`.

    References
    ----------
    Durasov et al., 2020, arXiv:2012.08334.
    """

    bank: Tensor

    def __init__(
        self,
        features: int,
        n: int = 4,
        scale: float = 2.0,
        axis: int = 1,
        at: Address | None = None,
    ) -> None:
        super().__init__()
        require_unit_axis("Masksembles", "axis", axis)
        self.axis = axis
        if at is None:
            at = Address(int(torch.randint(2**63 - 1, (), device="cpu")))
        bank = masksembles_bank(features, at, n=n, scale=scale)
        self.scale = float(scale)
        self.register_buffer("bank", torch.from_numpy(bank))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = masksembles(x, self.bank, axis=self.axis)
        return y

    def members(self, x: Tensor) -> Tensor:
        """x repeated for all masks, shape (n N, ...): the batch to ask for every prediction.

        Reshape what the network makes of it to (n, N, ...); the masks lie along the first axis.
        """
        return x.repeat(self.bank.shape[0], *([1] * (x.dim() - 1)))

    def extra_repr(self) -> str:
        n, features = self.bank.shape
        told: dict[str, Any] = {"n": n, "scale": self.scale, "axis": self.axis}
        return ", ".join([str(features), *(f"{name}={value}" for name, value in told.items())])
