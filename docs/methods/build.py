"""The pages of the methods, made from their rows: `make docs`.

Every row gives docs/methods/NAME.md: what the row says, its docstring, its moments measured against
the formula, and a picture of its mask. README.md beside them lists all. Only which.md is written
by hand.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from thinned.cli.methods import lines_of
from thinned.methods.shown import AT, caption, measured, tiles, without_picture
from thinned.methods.table import RANKS, Method, every

HERE = Path(__file__).parent
RANK_TITLES = {
    "first": "First rank: used today",
    "second": "Second rank",
    "classic": "Classic methods, for study",
}


def page(row: Method, picture: bool) -> str:
    """The page of one row, in Markdown."""
    lines = [f"# {row.title}", "", row.note, "", "```", row.formula, "```", ""]
    lines += ["| | |", "|---|---|"]
    lines += [
        f"| {label} | {text.replace('|', chr(92) + '|')} |"
        for label, text in lines_of(row)
        if label != "formula"
    ]
    if picture:
        lines += ["", f"![The mask of {row.name}](images/{row.name}.png)", ""]
        told = caption(row, "white = dropped; grey bars separate slices along the leading axes")
        lines.append(f"{told}, at `{AT!r}`.")
    else:
        lines += ["", f"No picture of a mask. {without_picture(row)}"]
    lines += ["", "## Measured moments", "", *_measured(row)]
    signature = f"{row.where}{inspect.signature(row.function)}"
    doc = inspect.getdoc(row.function) or ""
    lines += ["", "## Reference", "", "```text", signature.replace("'", ""), "", doc, "```", ""]
    return "\n".join(lines)


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
    return "\n".join([*lines, ""])


def draw(row: Method, path: Path) -> bool:
    """The mask as a picture; False where the row has none."""
    found = tiles(row)
    if not found:
        return False
    gap = np.full((found[0].shape[0], 1), np.nan)
    strip = np.concatenate([part for tile in found for part in (np.abs(tile), gap)][:-1], axis=1)
    height, width = strip.shape
    side = min(0.16, 8.0 / width)
    figure = Figure(figsize=(width * side, height * side))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#888888", under="white")
    top = np.nanmax(strip) or 1.0
    # What was kept is never white, however small it is.
    shown = np.where(strip == 0.0, -2.0 * top, strip)
    axes.imshow(shown, cmap=colours, vmin=-0.5 * top, vmax=1.25 * top, aspect="auto")
    axes.set_axis_off()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return True


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
