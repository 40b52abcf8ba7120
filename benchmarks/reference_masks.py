"""How fast the reference draws masks: keep_range on one core, beside NumPy's own generator.

    python -m benchmarks.reference_masks [--json FILE] [--repeats 7] [--quickest]

Run from the root of the checkout. Prints millions of elements per second. The peer is what people
write by hand, ``rng.random(n, dtype=float32) >= p``, which does not know any element's index: it
cannot be asked for a part, and gives another mask for another order of calls.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from benchmarks.measuring.timing import (
    Figure,
    command_line,
    interleaved,
    machine,
    of_call,
    table,
    write_json,
)
from thinned import Address, reference

RATES = (0.1, 0.5)
SIZES = (16 * 1024, 1024 * 1024, 16 * 1024 * 1024)


def measure(repeats: int, figure: Figure) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    steps = count()
    for p in RATES:
        t = reference.threshold(p)
        for n in SIZES:

            def by_address(n: int = n, t: int = t) -> object:
                return reference.keep_range(Address(site="fc1", step=next(steps)), t, 0, n)

            def by_generator(n: int = n, p: float = p) -> object:
                return rng.random(n, dtype=np.float32) >= p

            timed = {"reference": of_call(by_address), "numpy_random": of_call(by_generator)}
            seconds = interleaved(timed, repeats, budget=5.0, figure=figure)
            rate = {name: n / s / 1e6 for name, s in seconds.items()}
            rows.append({"p": p, "elements": n, **rate})
    return rows


def main() -> None:
    """Print the table, and write it where --json says."""
    chosen = command_line(__doc__, repeats=7).parse_args()
    rows = measure(chosen.repeats, chosen.figure)
    table(
        "Millions of elements a second",
        ["p", "elements", "reference", "numpy.random"],
        [
            [f"{row['p']}", f"{row['elements']}"]
            + [f"{row[name]:.1f}" for name in ("reference", "numpy_random")]
            for row in rows
        ],
    )
    if chosen.json is not None:
        described = machine("thinned", "numpy")
        result = {"unit": "million elements per second", "machine": described, "rows": rows}
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
