"""The page of the zoo of Keras."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from .__main__ import read

TITLES = {
    "keras-hub": ("KerasHub's models under adoption", "zoo-keras"),
    "keras-cv": ("keras-cv's models under adoption", "zoo-keras-cv"),
}
HEAD = """# {title}

Made by `make {target}`; not to be edited. Models of {library} {release} with small sizes,
random weights and rates of .2, under `thinned.keras.adopt`; Keras {keras} on {backends}.

- **on**: the backends that the model ran on.
- **drops**: calls in training under different seeds of Keras differ.
- **sites**: how many seed generators adoption made sites.
- **replay**: four calls that are rewound give the same outputs bit for bit under other seeds, and
  not all are equal.
- **eval**: evaluation gives what it gave before adoption, and moves no site; of a model that draws
  in evaluation too, whether a rewound one gives the same again.
- **resumed**: the steps of the sites come back with the weights.
- **release**: after it the layers' classes and evaluation are the original's.
- **apart**: the first call's largest difference between two backends at equal weights, relative
  to the outputs' spread. One element with another mask would make it near 1; the rest is rounding.
  In brackets the same in evaluation, without dropout, where the model itself answers otherwise.
- **-**: nothing to check: the model does not drop.

{summary}

| model | on | drops | sites | replay | eval | resumed | release | apart | not reached |
|---|---|---|---:|---|---|---|---|---:|---|
"""
# What the tables cannot say, below them.
NOTES = {
    "keras-hub": """
DFineBackbone has a site on JAX and none on PyTorch, and drops on neither. The site is a layer that
makes noisy boxes of labels while the model is built, and runs in no call. The backends differ
because KerasHub's Backbone sets attributes past Keras on PyTorch until the model is initialized: of
such layers Keras keeps those that the model's graph runs.
""",
    "keras-cv": "",
}
CLOSE = 1e-3  # what rounding may come to
CHECKS = ("replay", "eval", "resumed", "release")


def write(page, results, library, backends):
    """The table, whole: from what was found on each backend."""
    found = [read(results, backend) for backend in backends]
    names = sorted(set(found[0]).union(*found[1:]))
    tried = [name for name in names if any(_ran(of, name) for of in found)]
    rows, faults = [], 0
    for name in tried:
        ran = [(b, of[name]) for b, of in zip(backends, found, strict=True) if _ran(of, name)]
        answers = [answer for _, answer in ran]
        drops = _both(answers, "drops")
        checks = [_both(answers, check) for check in CHECKS]
        off = apart(results, name, backends) if drops == "yes" else None
        without = apart(results, name, backends, "evaluation") or 0.0
        holds = answers[0].get("adopted") == "yes" and set(checks) <= {
            "yes",
            "draws, and is replayed",
        }
        faults += drops == "yes" and not (holds and ((off or 0.0) <= CLOSE or without > CLOSE))
        left = "; ".join(sorted({line for a in answers for line in a.get("not reached", ())}))
        sites = str(answers[0].get("sites", "-"))
        cells = [
            name,
            ", ".join(backend for backend, _ in ran),
            drops,
            sites,
            *checks,
            "-" if off is None else f"{off:.0e}" + (f" ({without:.0e})" if without > CLOSE else ""),
            left,
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    dropping = sum(row.split(" | ")[2] == "yes" for row in rows)
    summary = (
        f"Of {len(names)} models {len(tried)} were built and run, {dropping} of them drop, and "
        f"{dropping - faults} of these pass every check where they ran.\n"
    )
    out = [line for name in names for line in _why(name, found, backends)]
    title, target = TITLES[library]
    head = HEAD.format(
        title=title, target=target, library=library, release=version(library),
        keras=version("keras"), backends=" and ".join(backends),
        summary=summary,
    )  # fmt: skip
    tail = "\n## What did not run, and where\n\n" + "".join(out) if out else ""
    page.write_text(head + "".join(rows) + NOTES[library] + tail)


def _ran(found, name):
    return "drops" in found.get(name, {})


def _both(answers, key):
    """What all backends say, or each apart."""
    said = list(dict.fromkeys(answer.get(key, "-") for answer in answers))
    return said[0] if len(said) == 1 else ", ".join(said)


def _why(name, found, backends):
    """A line for each backend on which the model did not run."""
    for backend, of in zip(backends, found, strict=True):
        answer = of.get(name, {"raised": "not tried in this run"})
        if "drops" not in answer:
            why = answer.get("not built") or answer.get("raised") or answer["died"]
            yield f"- {name}, on {backend}: {why.replace('|', '/')}\n"


def apart(outputs, name, backends, what="arr_"):
    """How far the outputs of backends are apart: 0 where every mask is the same, but for rounding.
    Relative to their spread; None unless all backends left some.

    what : "arr_" for the first call in training, "evaluation" for one without dropout.
    """
    files = [Path(outputs) / f"{name}-{backend}.npz" for backend in backends]
    if len(files) < 2 or not all(file.exists() for file in files):
        return None
    first, *others = (
        [found[key] for key in found if key.startswith(what)] for found in map(np.load, files)
    )
    spread = max((float(np.std(y)) for y in first), default=0.0)
    return max(
        (
            float(np.max(np.abs(x - y))) / (spread or 1.0)
            for other in others
            for x, y in zip(first, other, strict=True)
        ),
        default=0.0,
    )
