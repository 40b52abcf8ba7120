"""Whether the draws are random: python -m tests.randomness --bits 30.

Tests of our own run on 2^BITS bits of each stream. Where RNG_TEST names PractRand's RNG_test, and
TESTU01 the folder that TestU01 was installed in, these batteries read the streams too; one that is
not there is said. Exit 1 where a p-value, or a battery, says that the bits are not.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .battery import of
from .streams import STREAMS, taken

# Of a hundred p-values one below this comes in ten thousand runs: beyond it bits are not random.
LOWEST = 1e-6


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.randomness", description=__doc__)
    parser.add_argument("--bits", type=int, default=30, help="binary logarithm of the bits")
    parser.add_argument("--only", default="", help="streams whose name holds this text")
    parser.add_argument("--large", type=int, help="the same for PractRand; default: --bits")
    parser.add_argument("--crush", action="store_true", help="Crush in the place of SmallCrush")
    asked = parser.parse_args()
    names = [name for name in STREAMS if asked.only in name]
    bad = [own(name, asked.bits) for name in names]
    bad += batteries(names, asked)
    return int(any(bad))


def own(name, bits):
    """Whether a test of ours fails on the stream."""
    found = of(taken(name, 2**bits))
    print(f"{name}, 2^{bits} bits")
    for test, p in found.items():
        print(f"    {test:16} p = {p:.4g}{'  FAILS' if p < LOWEST else ''}", flush=True)
    return min(found.values()) < LOWEST


def batteries(names, asked):
    practrand, testu01 = os.environ.get("RNG_TEST"), os.environ.get("TESTU01")
    if practrand:
        size = f"{2 ** max(0, (asked.large or asked.bits) - 23)}MB"
        command = [practrand, "stdin32", "-tlmax", size, "-multithreaded"]
        yield from (fed(name, "PractRand", command, "FAIL") for name in names)
    else:
        print("PractRand is not asked: RNG_TEST is to name its RNG_test.")
    if testu01:
        with tempfile.TemporaryDirectory() as folder:
            command = [built(Path(testu01), Path(folder)), *(["crush"] if asked.crush else [])]
            yield from (fed(name, "TestU01", command, "p-value outside") for name in names)
    else:
        print("TestU01 is not asked: TESTU01 is to name the folder that it was installed in.")


def built(testu01, folder):
    """The program that reads words for TestU01."""
    program = folder / "smallcrush"
    source = Path(__file__).with_name("smallcrush.c")
    libraries = [f"-L{testu01}/lib", "-ltestu01", "-lprobdist", "-lmylib", "-lm"]
    command = ["cc", "-O2", source, "-o", program, f"-I{testu01}/include", *libraries]
    subprocess.run(command, check=True)
    return program


def fed(name, battery, command, bad):
    """Whether a battery that reads the stream from a pipe finds it wanting."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said)
        try:
            for piece in STREAMS[name]():
                process.stdin.write(piece.tobytes())
        except BrokenPipeError:
            pass  # it has read enough
        process.wait()
        said.seek(0)
        text = said.read()
    print(f"{name}, {battery}\n{text}", flush=True)
    return process.returncode != 0 or bad in text


if __name__ == "__main__":
    sys.exit(main())
