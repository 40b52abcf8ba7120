"""The pages of the methods, made from their rows: `make docs`.

Every row gives docs/methods/NAME.md: its formula, what the row says, a picture of its mask, the
method in code, its moments measured against the formula, and its docstring. README.md beside them
lists all. Only which.md, and formulas.toml, which typesets the rows' formulas, are written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from thinned.cli.methods import lines_of
from thinned.methods.elsewhere import ELSEWHERE
from thinned.methods.shown import caption, measured, place, tiles, without_picture
from thinned.methods.table import RANKS, Method, every

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # where docs.methods lies
from docs.methods import network, programs  # noqa: E402 - after its path

FORMULAS: dict[str, list[str]] = tomllib.loads((HERE / "formulas.toml").read_text(encoding="utf-8"))
RANK_TITLES = {
    "first": "First rank: used today",
    "second": "Second rank",
    "classic": "Classic methods, for study",
}


def page(row: Method, picture: bool) -> str:
    """The page of one row, in Markdown."""
    lines = [f"# {row.title}", "", row.note, "", *formula(row)]
    if picture:
        lines += [f"![The mask of {row.name}](images/{row.name}.png)", ""]
        told = caption(row, "white = dropped", "one box for each index of the leading axes")
        lines.append(f"{told}, at `{place(row)!r}`.")
    else:
        lines += [f"No picture of a mask. {without_picture(row)}"]
    lines += ["", "## In code", ""]
    for library, program in programs.blocks(row).items():
        lines += [f"### {library}", "", "```python", program, "```", ""]
    lines += ["## Facts", ""]
    lines += ["| | |", "|---|---|"]
    lines += [
        f"| {label} | {text.replace('|', chr(92) + '|')} |"
        for label, text in lines_of(row)
        if label != "formula"
    ]
    lines.append("")
    lines += ["## Measured moments", "", *_measured(row)]
    signature = f"{row.where}{inspect.signature(row.function)}"
    doc = inspect.getdoc(row.function) or ""
    lines += ["", "## Reference", "", "```text", signature.replace("'", ""), "", doc, "```", ""]
    return "\n".join(lines)


def formula(row: Method) -> list[str]:
    """The formula as formulas.toml has it, or else as the row has it."""
    typeset = FORMULAS.get(row.name)
    if typeset is None:
        return ["```", row.formula, "```", ""]
    return [line for display in typeset for line in ("$$", display, "$$", "")]


def _measured(row: Method) -> list[str]:
    found = measured(row)
    if found is None:
        return [f"Not measured. {row.apart}"]
    p = f" at p = {found.p:g}" if row.has_p else ""
    told = (
        "Mean and variance of one output element, averaged over elements, from"
        f" {found.draws:,} addresses{p}."
    )
    if found.mean_formula is None or found.variance_formula is None:
        lines = ["| | measured |", "|---|---|"]
        lines += [f"| absolute mean | {found.mean:.3f} |"]
        return [*lines, f"| variance | {found.variance:.3f} |", "", told]
    lines = ["| | measured | formula |", "|---|---|---|"]
    lines += [f"| mean | {found.mean:.3f} | {found.mean_formula:.3f} |"]
    lines += [f"| variance | {found.variance:.3f} | {found.variance_formula:.3f} |"]
    return [*lines, "", told]


def index(rows: tuple[Method, ...]) -> str:
    """The list of all pages."""
    lines = ["# The methods", ""]
    lines += ["- [How to choose a method](which.md)", ""]
    lines += ["Every method is one row of one equation,", ""]
    lines += ["```", "y = f + s m (x - f)", "```", ""]
    lines += ["and `make docs` writes its page from its row. `thinned methods` lists them too."]
    for rank in RANKS:
        lines += ["", f"## {RANK_TITLES[rank]}", "", "| method | acts on | formula | module |"]
        lines += ["|---|---|---|---|"]
        for row in rows:
            if row.rank == rank:
                formula = row.formula.partition("\n")[0].replace("|", "\\|")
                module = f"`{row.module}`" if row.module else ""
                link = f"[{row.title}]({row.name}.md)"
                lines.append(f"| {link} | {row.target} | `{formula}` | {module} |")
    lines += ["", "## Names without a page", "", "`thinned methods NAME` says the same.", ""]
    lines += ["| name | what it is, and where to go |", "|---|---|"]
    for names, reason in ELSEWHERE:
        linked = re.sub(r"docs/([\w/-]+\.md)", lambda at: f"[{at[0]}](../{at[1]})", reason)
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {linked} |")
    return "\n".join([*lines, ""])


def draw(row: Method, path: Path) -> bool:
    """The mask as a picture, and the network that it leaves; False where the row has none."""
    found = tiles(row)
    if not found:
        return False
    height, width = found[0].shape
    across = min(len(found), max(1, 48 // (width + 2)))
    down = -(-len(found) // across)
    side = 0.16
    wide = max(across * (width + 2) * side, 3.2) + 1.1
    tall = down * (height * side + 0.5) + 0.3
    kept = units(row, found[0])
    more = 2.8 if kept else 0.0
    figure = Figure(figsize=(wide + more, max(tall, 2.6) if kept else tall), layout="constrained")
    if not kept:
        draw_tiles(figure, found, (down, across))
    else:
        parts: Any = figure.subfigures(1, 2, width_ratios=(wide, more))
        left, right = parts
        draw_tiles(left, found, (down, across))
        network.draw_network(right.subplots(), kept, "the first row" if height > 1 else "the mask")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return True


def units(row: Method, tile: Any) -> list[bool]:
    """Which units of a hidden layer the first row of a mask keeps; none where the row drops no
    units, or this row of the mask none."""
    kept = [bool(value != 0.0) for value in tile[0, : network.MOST]]
    return kept if row.target.startswith("units") and not all(kept) else []


def draw_tiles(figure: Any, found: list[Any], grid: tuple[int, int]) -> None:
    """Each 2-d part of the mask in a box, with its axes, and what the colours mean."""
    down, across = grid
    colours = matplotlib.colormaps["Blues"].with_extremes(under="white")
    top = max(float(np.abs(tile).max()) for tile in found) or 1.0
    boxes = figure.subplots(down, across, squeeze=False)
    for box in boxes.flat[len(found) :]:
        box.set_visible(False)
    for n, (box, tile) in enumerate(zip(boxes.flat, found, strict=False)):
        # What was kept is never white, however small it is.
        shown = np.where(tile == 0.0, -2.0 * top, np.abs(tile))
        drawn = box.imshow(shown, cmap=colours, vmin=-0.5 * top, vmax=1.25 * top)
        box.set(xticks=[], yticks=[])
        box.set_title(f"index {n}" if len(found) > 1 else "", fontsize=8)
        if n % across == 0:
            box.set_ylabel("last axis but one", fontsize=8)
        box.set_xlabel("last axis", fontsize=8)
    bar = figure.colorbar(drawn, ax=boxes, fraction=0.05, pad=0.02, shrink=0.9)
    bar.ax.set_ylim(0.0, 1.05 * top)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("value", fontsize=8)


def build(out: Path) -> None:
    """Write every page and picture into `out`."""
    rows = every()
    (out / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        picture = draw(row, out / "images" / f"{row.name}.png")
        (out / f"{row.name}.md").write_text(page(row, picture), encoding="utf-8")
    (out / "README.md").write_text(index(rows), encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
