"""Channel dropout of what has other axes."""

from __future__ import annotations

from collections.abc import Iterator

from thinned.audit.flow import before, chains, operation
from thinned.audit.layers import PASSING, ranks
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source

__all__ = ["wrong_axes"]

_RANKS = ranks()
_CHANNELS = {"1d": 3, "2d": 4, "3d": 5}


@rule(
    "THN024",
    "channel-dropout-on-other-axes",
    severity="warning",
    sentence="Channel dropout (Dropout1d, 2d, 3d) is given another number of axes.",
    why="Dropout2d on (N, C, L) or (N, L, C) takes the axes for others than they are: it drops "
    "whole steps or samples, and what it does has changed between versions of PyTorch.",
    mend="Use the one that fits: Dropout1d after Conv1d, Dropout2d after Conv2d; for (N, L, C) "
    "move the channels first, or use thinned's shared_axes.",
    wrong="nn.Sequential(nn.Conv1d(8, 8, 3), nn.Dropout2d(0.2))",
    right="nn.Sequential(nn.Conv1d(8, 8, 3), nn.Dropout1d(0.2))",
)
def wrong_axes(source: Source) -> Iterator[Hit]:
    for _, steps in chains(source):
        axes: int | None = None
        for step in steps:
            wanted = _wanted(step.name)
            if wanted and axes and wanted != axes:
                yield step.node, _about_axes(step.name, wanted, axes)
            elif not (wanted or step.name in PASSING):
                axes = _RANKS.get(step.name)
    for call in source.calls:
        found = operation(source, call)
        wanted = _wanted(found.name) if found is not None else None
        if found is None or not wanted:
            continue
        for earlier in before(source, found.input):
            if earlier.name in PASSING:
                continue
            axes = _RANKS.get(earlier.name)
            if axes is not None and axes != wanted:
                yield call, _about_axes(found.name, wanted, axes)
            break


def _wanted(name: str) -> int | None:
    room, _, last = name.rpartition(".")
    rooms = ("torch.nn", "thinned.torch", "torch.nn.functional", "thinned.torch.functional")
    is_ours = room in rooms and last[:-2].lower() == "dropout"
    return _CHANNELS.get(last[-2:]) if is_ours else None


def _about_axes(name: str, wanted: int, axes: int) -> str:
    last = name.rpartition(".")[2]
    return f"{last} is for inputs of {wanted} axes, and what it is given here has {axes}."
