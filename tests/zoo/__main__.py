"""Models of other libraries under adoption: python -m tests.zoo [--only PATTERN] [--page FILE].

What was found of each is kept in files of JSON lines, so that a run that was stopped goes on where
it stood. A quick run leaves what was tried whole as it is, and a whole one tries anew what a quick
run has tried. Two processes share the models; each model is tried in a process of its own. The page
is written where everything has been tried, whole or not at all.
"""

import argparse
import fnmatch
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from . import page
from .children import in_child
from .results import LIBRARIES, Results

JOBS = 2


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--only", default="*", help="a pattern of names, or LIBRARY:PATTERN")
    parser.add_argument("--results", type=Path, default=Path("build/zoo-results"))
    parser.add_argument("--page", type=Path, help="where the tables go")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="one model in N, by the order of names"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one kind of attention, and without torch.compile"
    )
    parser.add_argument("--again", action="store_true", help="also what has results")
    parser.add_argument(
        "--earlier",
        action="store_true",
        help="try nothing: the page is made of what was tried, by earlier codes too",
    )
    parser.add_argument("--share", help="K/N: this process alone, the K-th of N parts")
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    if asked.earlier:
        page.write(asked.page, asked.results, every=asked.every, earlier=True)
        return 0
    if asked.share:
        k, n = map(int, asked.share.split("/"))
        return alone(asked, k - 1, n)
    shares = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.zoo", *sys.argv[1:], f"--share={k}/{JOBS}"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        for k in range(1, JOBS + 1)
    ]
    codes = [share.wait() for share in shares]
    if any(codes):
        return 1
    if asked.page and asked.only == "*":
        page.write(asked.page, asked.results, every=asked.every)
    return 0


def alone(asked, k, n):
    import torch
    import torch._dynamo.eval_frame  # before the forks: it takes seconds

    torch.set_num_threads(1)
    library, _, pattern = asked.only.rpartition(":")
    for name in LIBRARIES:
        if library in ("", name):
            one_library(name, pattern, asked, k, n)
    return 0


def one_library(library, pattern, asked, k, n):
    models = importlib.import_module(f"{__package__}.{LIBRARIES[library]}")
    results = Results(library, asked.results)
    done = set() if asked.again else results.done(asked.quick)
    wanted = [n for n in models.names()[:: asked.every] if fnmatch.fnmatch(n, pattern)]
    for name in wanted[k::n]:
        if name in done:
            continue
        begun = time.monotonic()
        answer = in_child(lambda said, name=name: one_model(models, name, asked, said))
        seconds = round(time.monotonic() - begun, 1)
        answer = {"name": name, "quick": asked.quick, **answer, "seconds": seconds}
        results.add(answer)
        print(f"{library}: {page.summary(answer)}", flush=True)


def one_model(models, name, asked, said):
    from .arguments import NotBuiltError
    from .trial import tried

    said(stage="building")
    try:
        subjects = models.subjects(name)
    except NotBuiltError as error:
        return {"not built": str(error)}
    rows = []
    for place, subject in enumerate(subjects[:1] if asked.quick else subjects):
        row = tried(
            subject,
            compiled=place == 0 and not asked.quick,
            said=lambda stage, subject=subject: said(stage=f"{subject.variant}, {stage}"),
        )
        rows.append(row)
        said(row=row)
    return {"rows": rows}


if __name__ == "__main__":
    sys.exit(main())
