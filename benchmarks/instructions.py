"""Instructions that a draw takes, counted: they are the same on every machine, and on a loaded one.

    python -m benchmarks.instructions                       this processor's kernel, by Valgrind
    python -m benchmarks.instructions --arm                 NEON's, by QEMU

`--arm` needs Debian's packages g++-aarch64-linux-gnu and qemu-user, the other one valgrind, which
knows no AVX-512: it counts AVX2's kernel there.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARM = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
)
ELEMENTS = 16384
TYPES = ("float32", "float64", "float16", "bfloat16")
COUNTED = [("bits", "0.1", 0), ("bits", "0.5", 0)]
COUNTED += [("fused", p, kind) for kind in (0, 2, 3) for p in ("0.1", "0.5")]


def built(folder: Path, *options: str) -> Path:
    """The program, for the processor that these options of CMake name."""
    beside = Path(sys.executable).parent
    made = f"-DCMAKE_MAKE_PROGRAM={beside / 'ninja'}"
    which = ["-DTHINNED_MODULE=OFF", "-DTHINNED_NATIVE_TESTS=ON", made, *options]
    cmake = str(beside / "cmake")
    for command in (
        [cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(folder), *which],
        [cmake, "--build", str(folder), "--target", "instructions"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "instructions"


def under_qemu(command: list[str], folder: Path) -> tuple[int, str]:
    """Instructions, and the kernel's name."""
    log = folder / "log"
    how = ["qemu-aarch64", "-singlestep", "-d", "nochain,exec", "-D", str(log)]
    done = subprocess.run([*how, *command], check=True, capture_output=True, text=True)
    with log.open("rb") as file:
        return sum(line.startswith(b"Trace") for line in file), done.stdout.strip()


def under_valgrind(command: list[str], folder: Path) -> tuple[int, str]:
    """The same, for a processor that Valgrind shows to the program."""
    how = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'out'}"]
    done = subprocess.run([*how, *command], check=True, capture_output=True, text=True)
    return int(re.findall(r"Collected : (\d+)", done.stderr)[0]), done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--arm", action="store_true", help="NEON's kernel, by QEMU")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    count = under_qemu if asked.arm else under_valgrind
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = str(built(folder / "build", *(ARM if asked.arm else ())))
        print(f"{'what':8}{'type':10}{'p':>5}{'instructions an element':>26}")
        for what, p, kind in COUNTED:
            # The difference of two runs: what a program does before and after is in both.
            few, _ = count([program, what, p, str(kind), "1"], folder)
            many, kernel = count([program, what, p, str(kind), "5"], folder)
            figure = (many - few) / (4 * ELEMENTS)
            figures[f"{kernel} {what} {TYPES[kind]} {p}"] = figure
            print(f"{what:8}{TYPES[kind]:10}{p:>5}{figure:26.2f}  {kernel}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
