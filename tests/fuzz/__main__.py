"""Generated calls of every public function: python -m tests.fuzz --calls N --seed S.

One process for each kernel that this machine can run, two at a time. Every fault is printed, when
it is found, with its smallest input, which is kept in tests/fuzz/kept and tried by the tests from
then on. Exit 1 if there is any.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import thinned

from .calls import Call
from .hunting import FaultError, Hunt, beside, drawn, keep, report

TELL_EVERY = 10_000
SHARE_BESIDE = 5  # of a process's examples one in so many is of a slower function


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--kernel", help="this process alone, with THINNED_KERNEL as it is")
    asked = parser.parse_args()
    if asked.kernel:
        print(report(one(asked)))
        return 0
    return everything(asked)


def one(asked):
    """The calls of one process."""
    assert thinned.kernel_info().name == asked.kernel
    hunts = [
        Hunt([n for n in names if asked.only in n], asked.seed * 1_000_003 + place, tell)
        for place, names in enumerate((drawn(), beside()))
    ]
    hunts = [hunt for hunt in hunts if hunt.names]
    told = 0
    while (made := sum(hunt.made for hunt in hunts)) < asked.calls:
        if made // TELL_EVERY > told:
            told = made // TELL_EVERY
            print(f"{made} calls", file=sys.stderr, flush=True)
        for hunt in hunts:
            hunt.run(200 if hunt is hunts[0] else 200 // SHARE_BESIDE)
    first, *others = hunts
    for other in others:
        first.made += other.made
        first.faults += other.faults
        first.calls += other.calls
    return first


def tell(found):
    """On the way, since the end may be an hour off."""
    print(found, end="\n\n", file=sys.stderr, flush=True)


def everything(asked):
    begun = time.monotonic()
    kernels = thinned.kernel_info().runnable
    share = -(-asked.calls // len(kernels))

    def process(place):
        kernel = kernels[place]
        command = [sys.executable, "-m", "tests.fuzz", f"--kernel={kernel}", f"--calls={share}"]
        command += [f"--seed={asked.seed + place}", f"--only={asked.only}"]
        here = {**os.environ, "THINNED_KERNEL": kernel, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=here, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(process, range(len(kernels))))
    faults = [
        FaultError(Call.read(line), wrong) for part in found for line, wrong in part["faults"]
    ]
    keep(faults)
    made = sum(part["made"] for part in found)
    functions = max(part["functions"] for part in found)
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{made} calls of {functions} functions, kernels {', '.join(kernels)}, seed {asked.seed}: "
        f"{len(faults)} faults, {minutes:.1f} minutes."
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
