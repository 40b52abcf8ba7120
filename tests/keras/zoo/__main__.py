"""KerasHub's models under adoption: python -m tests.keras.zoo [--only PATTERN] [--page FILE].

With --library keras-cv those of keras-cv, which runs beside TensorFlow alone.

Each backend of Keras has a process of its own, which is begun again behind a model that ended it.
What was found is kept in files of JSON lines, so that a run that was stopped goes on where it was.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time
from pathlib import Path

BACKENDS = {"keras-hub": ("torch", "jax"), "keras-cv": ("tensorflow",)}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.keras.zoo", description=__doc__)
    parser.add_argument("--library", choices=list(BACKENDS), default="keras-hub")
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--results", type=Path, default=Path("build/zoo-keras-results"))
    parser.add_argument("--page", type=Path, help="where the table goes")
    parser.add_argument(
        "--on", choices=sum(BACKENDS.values(), ()), help="this backend alone, in this process"
    )
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    if asked.on:
        return alone(asked.library, asked.on, asked.only, asked.results)
    for backend in BACKENDS[asked.library]:
        while subprocess.run(
            [sys.executable, "-m", "tests.keras.zoo", *sys.argv[1:], f"--on={backend}"],
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=False,
        ).returncode:
            begun = [a for a in lines(asked.results, backend) if "begun" in a]
            if not begun or begun[-1]["name"] in read(asked.results, backend):
                return 1
            add(asked.results, backend, {"name": begun[-1]["name"], "died": "the process ended"})
    if asked.page:
        from .page import write

        write(asked.page, asked.results, asked.library, BACKENDS[asked.library])
    return 0


def alone(library, backend, pattern, results):
    import keras

    from . import cv, small
    from .small import NotBuiltError
    from .trial import tried

    zoo = {"keras-hub": small, "keras-cv": cv}[library]

    done = read(results, backend)
    for name in zoo.names():
        if name in done or not fnmatch.fnmatch(name, pattern):
            continue
        add(results, backend, {"name": name, "begun": True})
        begun = time.monotonic()
        try:
            answer = tried(zoo.small(name), name, results)
        except NotBuiltError as error:
            answer = {"not built": str(error)}
        except Exception as error:  # a fault of the model's or of ours: the table says it
            answer = {"raised": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answer = {"name": name, **answer, "seconds": round(time.monotonic() - begun, 1)}
        add(results, backend, answer)
        print(f"{backend}: {answer}", flush=True)
        keras.backend.clear_session()
    return 0


def lines(results, backend):
    file = results / f"{backend}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read(results, backend):
    """The answers by name."""
    return {a["name"]: a for a in lines(results, backend) if "begun" not in a}


def add(results, backend, answer):
    with (results / f"{backend}.jsonl").open("a") as file:
        file.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    sys.exit(main())
