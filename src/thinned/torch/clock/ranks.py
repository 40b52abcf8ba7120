"""What the processes of a group hold: pieces of one batch, batches of their own, or the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch.distributed

from thinned import checks

__all__ = ["ALONE", "CHOICES", "PROCESSES", "UNSAID", "Ranks", "require_choice"]

CHOICES = ("split", "independent", "replicated")
ALONE, UNSAID = -1, -2
# Where PyTorch keeps the group of all processes. Every call needs it, and PyTorch's own function
# costs twice as much.
PROCESSES: Any = (
    torch.distributed.GroupMember
    if torch.distributed.is_available()
    else SimpleNamespace(WORLD=None)
)


class Ranks(NamedTuple):
    """kind: an index into CHOICES, ALONE, or UNSAID; and this process's place among `size`.

    `size` counts the processes over which plain tensors lie, `world` all of them.
    """

    kind: int
    rank: int
    size: int
    world: int

    @staticmethod
    def now(choice: str | None, group: Any) -> Ranks:
        """As the process group stands at this time."""
        if PROCESSES.WORLD is None:
            return Ranks(ALONE, 0, 1, 1)
        world = torch.distributed.get_world_size()
        rank, size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        if world == 1:
            return Ranks(ALONE, 0, 1, 1)
        return Ranks(UNSAID if choice is None else CHOICES.index(choice), rank, size, world)

    def stale(self) -> bool:
        """Whether a process group has come or gone since."""
        return self.world != (1 if PROCESSES.WORLD is None else torch.distributed.get_world_size())


def require_choice(who: str, ranks: Any) -> None:
    """ValueError unless `ranks` is None or one of CHOICES."""
    if ranks is not None:
        checks.one_of(who, "ranks", ranks, CHOICES)
