"""How fast the reference draws masks: keep_range on one core, beside NumPy's own generator.

    python benchmarks/reference_masks.py [--json FILE] [--repeats 7]

Prints millions of elements per second, medians over the repeats. The peer is what people write by
hand, ``rng.random(n, dtype=float32) >= p``, which does not know any element's index: it cannot be
asked for a part, and gives another mask for another order of calls.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from thinned import Address, reference

RATES = (0.1, 0.5)
SIZES = (16 * 1024, 1024 * 1024, 16 * 1024 * 1024)
# One timing of a small array lasts too short for the clock: so many elements go into each.
ELEMENTS_PER_TIMING = 4 * 1024 * 1024

Row = dict[str, float | int | str]


def median_rate(draw: Callable[[int], object], n: int, repeats: int) -> float:
    """Millions of elements per second of draw(call), the median over `repeats` timings."""
    calls = max(1, ELEMENTS_PER_TIMING // n)
    draw(0)
    rates = []
    for repeat in range(repeats):
        start = time.perf_counter()
        for call in range(calls):
            draw(repeat * calls + call)
        rates.append(n * calls / (time.perf_counter() - start) / 1e6)
    return statistics.median(rates)


def measure(repeats: int, sizes: Sequence[int] = SIZES) -> list[Row]:
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    for p in RATES:
        t = reference.threshold(p)
        for n in sizes:

            def by_address(call: int, n: int = n, t: int = t) -> object:
                return reference.keep_range(Address(seed=0, site="fc1", step=call), t, 0, n)

            def by_generator(_: int, n: int = n, p: float = p) -> object:
                return rng.random(n, dtype=np.float32) >= p

            ours = median_rate(by_address, n, repeats)
            peer = median_rate(by_generator, n, repeats)
            rows.append({"p": p, "elements": n, "reference": ours, "numpy_random": peer})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Speed of the reference masks on one core.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    parser.add_argument("--repeats", type=int, default=7, help="timings to take medians over")
    chosen = parser.parse_args(arguments)
    rows = measure(chosen.repeats)
    print(
        f"{'p':>5} {'elements':>10} {'reference':>12} {'numpy.random':>13}   million elements / s"
    )
    for row in rows:
        print(
            f"{row['p']:>5} {row['elements']:>10} {row['reference']:>12.1f}"
            f" {row['numpy_random']:>13.1f}"
        )
    if chosen.json is not None:
        machine = {"python": platform.python_version(), "numpy": np.__version__}
        machine["processor"] = platform.machine()
        result = {"unit": "million elements per second", "machine": machine, "rows": rows}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
