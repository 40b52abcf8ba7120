"""The thinned network that a mask of units leaves, drawn: input, hidden layer, output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

INPUTS, OUTPUTS, MOST = 4, 3, 10
KEPT, DROPPED, LINES = "#08519c", "#9a9a9a", "#5b7fa6"


def draw_network(axes: Any, kept: Sequence[bool], sample: str) -> None:
    """A fully connected network whose hidden units are dropped where `kept` is False.

    Dropped units are hollow, and have no connections: those are not computed for this sample.
    """
    columns = [_column(n) for n in (INPUTS, len(kept), OUTPUTS)]
    for left, right, ends in ((0, 1, "to"), (1, 2, "from")):
        for i, a in enumerate(columns[left]):
            for j, b in enumerate(columns[right]):
                if kept[j if ends == "to" else i]:
                    axes.plot([left, right], [a, b], color=LINES, linewidth=0.5, zorder=1)
    points: list[tuple[int, float, bool]] = [
        (x, y, x != 1 or kept[i]) for x, ys in enumerate(columns) for i, y in enumerate(ys)
    ]
    for there, face, label in ((True, KEPT, "kept"), (False, "white", "dropped")):
        chosen = [(x, y) for x, y, is_there in points if is_there is there]
        edge = KEPT if there else DROPPED
        xs, ys = zip(*chosen, strict=True) if chosen else ((), ())
        axes.scatter(xs, ys, s=38, facecolor=face, edgecolor=edge, zorder=2, label=label)
    axes.set(xlim=(-0.3, 2.3), yticks=[], xticks=[0, 1, 2])
    axes.set_xticklabels(["input", "hidden", "output"], fontsize=8)
    axes.set_title(f"the thinned network of {sample}", fontsize=8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


def _column(n: int) -> list[float]:
    return [(n - 1) / 2 - i for i in range(n)]
