"""Dropout in JAX on the CPU: thinned's kernel, its operations of XLA, and what JAX users write.

    python -m benchmarks.jax_dropout [--json FILE] [--repeats 15] [--quickest]

Run from the root of the checkout. A million elements of float32, jitted. The backward pass of
thinned draws the mask again; `jax.random.bernoulli` with `where` keeps it. Prints medians over
timings in which all take turns, and how many times as fast each of ours is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import thinned
from benchmarks.measuring.timing import (
    Figure,
    command_line,
    interleaved,
    load_average,
    machine,
    of_call,
    table,
    write_json,
)
from thinned.kernel import use_kernel

N = 2**20
wait: Any = jax.block_until_ready
RATES = (0.1, 0.3, 0.5)
KERNEL, PURE, THEIRS = "thinned, kernel", "thinned, XLA", "bernoulli and where"
PASSES = ("forward", "forward and backward")

# Times as fast as `THEIRS` that are meant: by name, rate and pass.
GOALS = {
    **{
        (KERNEL, p, which): t
        for p in (0.1, 0.3)
        for which, t in zip(PASSES, (8.0, 5.0), strict=True)
    },
    **{
        (PURE, p, which): t for p in (0.1, 0.3) for which, t in zip(PASSES, (1.5, 1.0), strict=True)
    },
    (PURE, 0.5, "forward"): 3.0,
}


def _ours(p: float) -> Callable[[Any, Any], Any]:
    return lambda x, at: thinned.dropout(x, p, at)


def _theirs(p: float) -> Callable[[Any, Any], Any]:
    def drop(x: Any, key: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    return drop


def passes(name: str, p: float) -> dict[str, Callable[[], object]]:
    """The forward pass, and the two together, compiled; each call waits for its result."""
    drop = _theirs(p) if name == THEIRS else _ours(p)
    where: Any = jax.random.key(0) if name == THEIRS else thinned.Address(seed=0, site="fc1")
    x, grad = jnp.ones(N), jnp.full(N, 2.0)

    def both(x: Any, grad: Any, where: Any) -> Any:
        y, pulled = jax.vjp(lambda x: drop(x, where), x)
        return y, pulled(grad)

    before = thinned.kernel_info().name
    use_kernel("reference" if name == PURE else before)
    try:
        alone = jax.jit(drop).lower(x, where).compile()
        together = jax.jit(both).lower(x, grad, where).compile()
    finally:
        use_kernel(before)
    return {
        "forward": lambda: wait(alone(x, where)),
        "forward and backward": lambda: wait(together(x, grad, where)),
    }


def milliseconds(repeats: int, figure: Figure) -> list[dict[str, Any]]:
    """One row for each rate and pass, with the figure by name."""
    rows = []
    for p in RATES:
        calls = {name: passes(name, p) for name in (KERNEL, PURE, THEIRS)}
        for which in PASSES:
            timers = {name: of_call(calls[name][which]) for name in calls}
            seconds = interleaved(timers, repeats, budget=10.0, settle=0.01, figure=figure)
            rows.append(
                {"p": p, "pass": which, "milliseconds": {n: 1e3 * s for n, s in seconds.items()}}
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    shown, judged = [], []
    for row in rows:
        taken = row["milliseconds"]
        times = {name: taken[THEIRS] / taken[name] for name in (KERNEL, PURE)}
        told = [f"{taken[n]:.2f}" for n in taken] + [f"{t:.1f}" for t in times.values()]
        shown.append([f"{row['p']}", row["pass"], *told])
        for name, reached in times.items():
            goal = GOALS.get((name, row["p"], row["pass"]))
            if goal is not None:
                verdict = "reached" if reached >= goal else "NOT REACHED"
                where = f"{name}, p = {row['p']}, {row['pass']}"
                judged.append([where, f">= {goal:g}", f"{reached:.2f}", verdict])
    columns = ["p", "pass, milliseconds", KERNEL, PURE, THEIRS, "times, kernel", "times, XLA"]
    table("JAX: a million elements, float32", columns, shown)
    table(f"Times as fast as {THEIRS}", ["", "meant", "measured", ""], judged)


def main() -> None:
    chosen = command_line(__doc__).parse_args()
    described = machine("thinned", "jax")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    result: dict[str, Any] = {
        "machine": described,
        "elements": N,
        "rows": milliseconds(chosen.repeats, chosen.figure),
    }
    described["load at the end"] = load_average()
    show(result["rows"])
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
