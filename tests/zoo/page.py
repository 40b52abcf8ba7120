"""docs/zoo.md, made of the results."""

import importlib
import os
import re
from collections import Counter

from .results import LIBRARIES, Results, is_built, is_whole, versions

CHECKPOINTS = ("checkpoint default", "checkpoint reentrant", "checkpoint not reentrant")
CHECKS = (
    *("replayed", "next step differs", "pieces", "evaluation", "released"),
    *CHECKPOINTS,
    *("compiled", "predict", "audit", "thin"),
)
PART = "no model of its own, only a part of another's"


class IncompleteError(RuntimeError):
    """Something has not been tried yet."""


# ------------------------------------------------------------------------------ what a value means


def passed(value):
    return value in ("yes", "bits") or value.startswith("yes, ")


def excused(value):
    """Nothing to check, or the library's own sentence where it may say no."""
    return value == "-" or value.startswith("- (")


def is_fault(check, value):
    if passed(value) or excused(value):
        return False
    if check == "pieces":
        return value.startswith("RAISED")
    if check in ("predict", "audit", "thin"):
        return not value.startswith("no: ")
    return value != "with generators reseeded"


def faults_of(row):
    """What went wrong with a model that drops."""
    if row["adopted"] != "yes":
        return [("adopted", row["adopted"])] if _drops(row) else []
    found = [
        (check, row[check]) for check in CHECKS if check in row and is_fault(check, row[check])
    ]
    if not _drops(row):
        found = [(c, v) for c, v in found if c != "next step differs"]
    return found


def _drops(row):
    return row["drops"] == "yes"


def without_paths(text):
    """An error's text, in which a module's file is named from its package on."""
    return re.sub(r"(?:[A-Za-z]:)?[/\\\\][^'\" ]*site-packages[/\\\\]", "", text)


def summary(answer):
    """One line of the run."""
    head = f"{answer['name']}, {answer['seconds']} s: "
    if "not built" in answer:
        return head + f"not built: {answer['not built']}"
    if "died" in answer:
        return head + answer["died"]
    found = [f"{row['variant']}: {c}: {v}" for row in answer["rows"] for c, v in faults_of(row)]
    return head + ("; ".join(found) or f"good, {answer['rows'][0].get('sites', 0)} sites")


# --------------------------------------------------------------------------------------- the page


def write(target, folder, libraries=LIBRARIES, every=1, earlier=False):
    """The whole page in one step, or nothing: IncompleteError says what is missing.

    earlier : what this code has not tried is taken from earlier runs, and counted at the top.
    """
    answers, ours = {}, 0
    for library, file in libraries.items():
        results = Results(library, folder)
        known = results.read(earlier)
        names = importlib.import_module(f"{__package__}.{file}").names()[::every]
        missing = [name for name in names if name not in known]
        if missing:
            raise IncompleteError(
                f"{library}: {len(missing)} models not tried yet, first {missing[0]}"
            )
        answers[library] = [known[name] for name in names]
        ours += sum(is_built(a) and results.is_ours(a) for a in answers[library])
    text = without_paths(page(answers, versions(), every, ours if earlier else None))
    beside = target.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, target)


def page(answers, of, every=1, ours=None):
    """ours : how many of the models that were built this code has tried, unless all."""
    parts = [_head(of, every, _how(answers, ours)), _by_library(answers), _faults(answers)]
    for library, found in answers.items():
        parts.append(_rows(library, found))
    for library, found in answers.items():
        parts.append(_not_built(library, found))
    return "\n".join(part for part in parts if part)


def _how(answers, ours):
    """How many of the models that were built were tried whole, and of which code, unless all."""
    built = [a for found in answers.values() for a in found if is_built(a)]
    whole, all_of_them = sum(map(is_whole, built)), f"{len(built)} models that were built"
    text = ""
    if whole < len(built):
        quickly = "quickly: one kind of attention each, and no torch.compile (*not tried*)"
        text = f" Of the {all_of_them} {whole} were tried whole, the others {quickly}."
    if ours is not None and ours < len(built):
        text += f" {ours} of the {all_of_them} were tried by this code, the others by earlier code."
    return text


def _head(of, every, how):
    text = ", ".join(f"{name} {number}" for name, number in of.items())
    part = "" if every == 1 else f" Tried was one model in {every}, by the order of their names."
    part += how
    return f"""# The zoo: adoption tried on the models of other libraries

Made by `make zoo`; not to be edited. Models have random weights and small sizes, and
their rates are .1 to .3. {text}.{part}

- **drop**: two training steps under different seeds of PyTorch differ.
- **adopted**: `thinned.torch.adopt` takes the model.
- **replay**: a step that is set twice, under other seeds of PyTorch, NumPy and Python, gives the
  same outputs, loss and gradients bit for bit, and the next step gives others. *reseeded*: only
  with these seeds equal, since the model draws what adoption does not reach; the report names it
  (last column).
- **pieces**: two rows one by one, each in `clock.piece(row, rows=1, of=2)`, give what both together
  give. *no*: they draw masks of their own, since a site's array does not hold the rows along its
  first axis (tokens first, tokens sent to experts).
- **eval**, **release**: the evaluation of the adopted model is that of the original, bit for bit;
  after `release` classes, attributes and keys of the state are the original's, and so is a training
  step.
- **checkpoint**: gradients with checkpointing on equal those with it off, in each of the library's
  own ways to switch it on, and without any argument of Thinned's. *rounding*: to rounding only.
- **compile**: `torch.compile(backend="eager")` gives the numbers of the eager model. Tried under
  the first kind of attention.
- **members**: `predict` gives members that differ, leaves the model unchanged, and does not depend
  on the batch size. *no*: `predict` refuses, and its message says why.
- **-**: nothing to check: the original does not do it either.
"""


def _counted(found):
    count = Counter()
    for answer in found:
        count["tried"] += answer.get("not built") != PART
        rows = answer.get("rows", [])
        if not rows or "died" in answer:
            continue
        count["built"] += 1
        if not any(_drops(row) for row in rows):
            continue
        count["drop"] += 1
        dropping = [row for row in rows if _drops(row)]
        taken = all(row["adopted"] == "yes" for row in dropping)
        count["adopted"] += taken
        if not taken:
            continue
        count["replay"] += all(passed(row["replayed"]) for row in dropping)
        count["reseeded"] += any(row["replayed"] == "with generators reseeded" for row in dropping)
        checkpoints = [row[c] for row in dropping for c in CHECKPOINTS if c in row]
        checkpoints = [value for value in checkpoints if not excused(value)]
        count["checkpoint"] += bool(checkpoints) and all(map(passed, checkpoints))
        count["can checkpoint"] += bool(checkpoints)
        compiled = [row["compiled"] for row in dropping if not excused(row.get("compiled", "-"))]
        count["compile"] += bool(compiled) and all(map(passed, compiled))
        count["can compile"] += bool(compiled)
        count["members"] += all(passed(row["predict"]) for row in dropping)
    return count


BY_LIBRARY = ("tried", "built", "drop", "adopted", "replay", "reseeded", "checkpoint", "compile",
              "members")  # fmt: skip
COLUMNS = {
    "replay": ("replayed",), "pieces": ("pieces",), "eval": ("evaluation",),
    "release": ("released",), "checkpoint": CHECKPOINTS, "compile": ("compiled",),
    "members": ("predict",),
}  # fmt: skip


def _line(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def _by_library(answers):
    lines = [
        _line("library", *BY_LIBRARY, "faults"),
        "|---|" + "---:|" * (len(BY_LIBRARY) + 1),
    ]
    for library, found in answers.items():
        n = _counted(found)
        faults = sum(any(faults_of(row) for row in a.get("rows", [])) or "died" in a for a in found)
        checkpoint, compiled = (f"{n[c]} of {n[f'can {c}']}" for c in ("checkpoint", "compile"))
        cells = {c: n[c] for c in BY_LIBRARY} | {"checkpoint": checkpoint, "compile": compiled}
        lines.append(_line(library, *cells.values(), faults))
    return "\n".join(lines) + "\n"


def _faults(answers):
    lines = []
    for library, found in answers.items():
        for answer in found:
            if "died" in answer:
                lines.append(f"- {library}, {answer['name']}: {answer['died']}")
            for row in answer.get("rows", []):
                for check, value in faults_of(row):
                    lines.append(
                        f"- {library}, {answer['name']} ({row['variant']}), {check}: {value}"
                    )
    if not lines:
        return "No model that drops is refused, and no check failed.\n"
    return "## Faults\n\n" + "\n".join(dict.fromkeys(lines)) + "\n"


def _rows(library, found):
    lines = [
        f"## {library}\n",
        _line("model", "class", "kinds", "sites", *COLUMNS, "not reached"),
        "|---|---|---|---:|" + "---|" * (len(COLUMNS) + 1),
    ]
    still = []
    for answer in found:
        rows = answer.get("rows", [])
        if not rows or "died" in answer:
            continue
        if not any(_drops(row) for row in rows):
            still.append(answer["name"])
            continue
        lines.append(_row(answer["name"], rows, is_whole(answer)))
    text = "\n".join(lines) + "\n"
    if still:
        text += f"\nBuilt, and nothing drops in training: {', '.join(still)}.\n"
    return text


def _row(name, rows, whole):
    def cell(*checks):
        words = {_word(check, row[check]) for row in rows for check in checks if check in row}
        words = words - {"-"} if len(words) > 1 else words
        return ", ".join(sorted(words)) or "-"

    kinds = ", ".join(row["variant"] for row in rows)
    sites = max(row.get("sites", 0) for row in rows)
    missed = Counter()
    for row in rows[:1]:
        for told in row.get("not reached", []):
            missed[_source(told)] += 1
    not_reached = ", ".join(f"{n} x {source}" for source, n in missed.items())
    found = {name: cell(*checks) for name, checks in COLUMNS.items()}
    found |= {} if whole else {"compile": "not tried"}
    return _line(name, rows[0]["class"], kinds, sites, *found.values(), not_reached)


def _word(check, value):
    if passed(value):
        return "rounding" if value.endswith("rounding") else "yes"
    if excused(value):
        return "-"
    if value == "with generators reseeded":
        return "reseeded"
    return "**fault**" if is_fault(check, value) else "no"


def _source(told):
    """What draws, of "site: not reached: rand draws from a generator, ..."."""
    site, _, why = told.partition(": ")
    what = why.removeprefix("not reached: ").split(" draws from")[0]
    return f"{what[:60]} ({site.rpartition('.')[2].removesuffix('/dropout') or 'the model'})"


def _not_built(library, found):
    reasons = {}
    for answer in found:
        if "not built" in answer:
            reasons.setdefault(answer["not built"], []).append(answer["name"])
    if not reasons:
        return ""
    parts = reasons.pop(PART, [])
    lines = [f"## {library}: not built\n"]
    by_names = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[1]))
    lines += [f"- {', '.join(names)}: {_plain(reason)}" for reason, names in by_names]
    if parts:
        lines.append(f"\nParts of others, tried within them: {', '.join(parts)}.")
    return "\n".join(lines) + "\n"


def _plain(reason):
    return " ".join(reason.replace("|", "/").split())
