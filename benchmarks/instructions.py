"""Instructions that a draw takes, counted: they are the same on every machine, and on a loaded one.

    python -m benchmarks.instructions                       this processor's kernel, by Valgrind
    python -m benchmarks.instructions --arm                 NEON's, by QEMU

Compiles native/tests/instructions.cpp with the kernels beside it. `--arm` needs Debian's packages
g++-aarch64-linux-gnu and qemu-user, the other one valgrind. THINNED_KERNEL chooses an older kernel
of this processor.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NATIVE = Path(__file__).parents[1] / "native"
SOURCES = [*(f"{name}.cpp" for name in ("dispatch", "geometry", "kernel", "rows", "threads"))]
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
ELEMENTS = 16384
TYPES = ("float32", "float64", "float16", "bfloat16")
COUNTED = [("bits", "0.1", 0), ("bits", "0.5", 0)]
COUNTED += [("fused", p, kind) for kind in (0, 2, 3) for p in ("0.1", "0.5")]


def built(folder, compiler):
    """The program, for the processor that the compiler compiles for."""
    program = folder / "instructions"
    files = [str(NATIVE / name) for name in [*SOURCES, "tests/instructions.cpp"]]
    subprocess.run(
        [compiler, *FLAGS, *files, "-static", "-pthread", "-o", str(program)], check=True
    )
    return program


def under_qemu(command, folder):
    log = folder / "log"
    subprocess.run(
        ["qemu-aarch64", "-singlestep", "-d", "nochain,exec", "-D", str(log), *command],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with log.open("rb") as file:
        return sum(line.startswith(b"Trace") for line in file)


def under_valgrind(command, folder):
    out = f"--callgrind-out-file={folder / 'out'}"
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", out, *command], check=True, capture_output=True, text=True
    )
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--arm", action="store_true", help="NEON's kernel, by QEMU")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    count = under_qemu if asked.arm else under_valgrind
    compiler = "aarch64-linux-gnu-g++" if asked.arm else os.environ.get("CXX", "g++")
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = str(built(folder, compiler))
        print(f"{'what':8}{'type':10}{'p':>5}{'instructions an element':>26}")
        for what, p, kind in COUNTED:
            # The difference of two runs: what a program does before and after is in both.
            few, many = (
                count([program, what, p, str(kind), str(times)], folder) for times in (1, 5)
            )
            figure = (many - few) / (4 * ELEMENTS)
            figures[f"{what} {TYPES[kind]} {p}"] = figure
            print(f"{what:8}{TYPES[kind]:10}{p:>5}{figure:26.2f}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
