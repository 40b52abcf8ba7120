"""What programs with dropout cost in JAX on the CPU: to compile, to call, to trace anew.

    python -m benchmarks.jax_programs [--json FILE] [--repeats 15] [--quickest] [--layers 24]

Run from the root of the checkout. Four parts, each beside what JAX users have:

- compiling a step of a model of Flax NNX, residual layers with dropout on what each adds: without
  dropout, with `nnx.Dropout`, and adopted, on the XLA path.
  In seconds of processor time, of all threads, which what else runs adds little to;
- 1,000 elements on the XLA path, against `jax.random.bernoulli` and `where`;
- an address for each row by `vmap`, against Equinox's Dropout with a key for each row;
- how often a jitted function is traced for new steps, rates, sites and seeds: once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

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
from thinned.jax.nnx import adopt
from thinned.kernel import use_kernel

__all__ = ["compiling", "per_sample", "retraces", "small"]

P = 0.1
WITHOUT, THEIRS, OURS = "without dropout", "nnx.Dropout", "adopted"
ROWS = ((512, 64), (1024, 64))
wait: Any = jax.block_until_ready

# What is meant: times nnx.Dropout's seconds at most, and times as fast as the others at least.
MOST_COMPILING = 1.2
LEAST_SPEED = 1.0


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.dropout = nnx.Dropout(P, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.dropout(jnp.tanh(self.linear(x)))


class Stack(nnx.Module):
    def __init__(self, layers: int, width: int) -> None:
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(layers)])

    def __call__(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def _step(kind: str, layers: int, rows: int, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The gradient of a model of this kind as a jitted function, and what it takes."""
    model = Stack(layers, width)
    if kind == OURS:
        adopt(model, seed=1)
    if kind == WITHOUT:
        model.eval()  # type: ignore[no-untyped-call]  # Flax: no types
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, weights, rest = parts

    def loss(weights: Any, rest: Any, x: Any) -> Any:
        return (nnx.merge(graph, weights, rest, copy=True)(x) ** 2).sum()

    return jax.jit(jax.grad(loss)), (weights, rest, jnp.ones((rows, width)))


def compiling(
    layers: int, rows: int, width: int, repeats: int, figure: Figure = min
) -> dict[str, float]:
    """Processor seconds to trace, lower and compile a step, by kind; all take turns."""
    before = thinned.kernel_info().name
    taken: dict[str, list[float]] = {kind: [] for kind in (WITHOUT, THEIRS, OURS)}
    use_kernel("reference")
    try:
        for _ in range(repeats):
            for kind, seconds in taken.items():
                jax.clear_caches()  # type: ignore[no-untyped-call]  # JAX: no types
                step, operands = _step(kind, layers, rows, width)
                start = time.process_time()
                step.lower(*operands).compile()
                seconds.append(time.process_time() - start)
    finally:
        use_kernel(before)
    return {kind: figure(seconds) for kind, seconds in taken.items()}


def _microseconds(
    calls: dict[str, Callable[[], object]], repeats: int, figure: Figure
) -> dict[str, float]:
    timers = {name: of_call(call) for name, call in calls.items()}
    return {n: 1e6 * s for n, s in interleaved(timers, repeats, figure=figure).items()}


def small(repeats: int, figure: Figure, size: int = 1000) -> dict[str, float]:
    """Microseconds of a jitted call with few elements, by name."""
    x, at, key = jnp.ones(size), thinned.Address(0, "fc1"), jax.random.key(0)
    step = jnp.uint32(0)  # one operand, as the key is
    before = thinned.kernel_info().name
    use_kernel("reference")
    try:
        dropped = jax.jit(lambda x, step: thinned.dropout(x, P, at.replace(step=step)))
        ours = dropped.lower(x, step).compile()
    finally:
        use_kernel(before)
    theirs: Any = jax.jit(
        lambda x, key: jnp.where(jax.random.bernoulli(key, 1 - P, x.shape), x / (1 - P), 0)
    )
    theirs = theirs.lower(x, key).compile()  # called in the same way
    calls = {
        "thinned, XLA": lambda: wait(ours(x, step)),
        "bernoulli and where": lambda: wait(theirs(x, key)),
    }
    return _microseconds(calls, repeats, figure)


def per_sample(rows: int, width: int, repeats: int, figure: Figure) -> dict[str, float]:
    """Microseconds of dropout with an address, or a key, for each row."""
    x, at = jnp.ones((rows, width)), thinned.Address(0, "fc1")
    numbers, keys = jnp.arange(rows), jax.random.split(jax.random.key(0), rows)

    def drop(row: Any, number: Any) -> Any:
        return thinned.dropout(row, P, at.replace(step=number))

    layer = eqx.nn.Dropout(P)
    before = thinned.kernel_info().name
    compiled = {}
    for name, kernel in (("thinned, kernel", before), ("thinned, XLA", "reference")):
        use_kernel(kernel)
        try:
            compiled[name] = jax.jit(jax.vmap(drop)).lower(x, numbers).compile()
        finally:
            use_kernel(before)
    theirs: Any = jax.jit(jax.vmap(lambda row, key: layer(row, key=key)))
    theirs = theirs.lower(x, keys).compile()  # called in the same way

    def calling(program: Any, *operands: Any) -> Callable[[], object]:
        return lambda: wait(program(*operands))

    calls = {name: calling(program, x, numbers) for name, program in compiled.items()}
    calls["Equinox"] = calling(theirs, x, keys)
    return _microseconds(calls, repeats, figure)


def retraces() -> int:
    """How often a function is traced that takes other steps, calls, sites, seeds and rates."""
    traced = 0

    @jax.jit
    def drop(x: Any, p: Any, at: Any) -> Any:
        nonlocal traced
        traced += 1
        return thinned.dropout(x, p, at)

    x = jnp.ones(8)
    for i in range(5):
        for at in (
            thinned.Address(i, "fc1"),
            thinned.Address(2**40, f"fc{i}"),
            thinned.Address(0, "fc1", step=i, call=i),
        ):
            drop(x, i / 10, at)
    return traced


def show(result: dict[str, Any]) -> None:
    shown, judged = [], []

    def judge(what: str, meant: str, measured: float, reached: bool) -> None:
        judged.append([what, meant, f"{measured:.2f}", "reached" if reached else "NOT REACHED"])

    seconds = result["compiling"]
    for kind, taken in seconds.items():
        shown.append([f"compiling, {kind}", f"{taken:.2f} s"])
    times = seconds[OURS] / seconds[THEIRS]
    judge(f"compiling / {THEIRS}'s", f"<= {MOST_COMPILING}", times, times <= MOST_COMPILING)
    rows = {"1,000 elements": result["small"], **result["per sample"]}
    for where, taken in rows.items():
        *_, peer = taken
        for name, one in taken.items():
            shown.append([f"{where}, {name}", f"{one:.0f} us"])
            if name != peer:
                speed = taken[peer] / one
                reached = speed >= LEAST_SPEED
                judge(f"{where}: {name} / {peer}", f">= {LEAST_SPEED:g}", speed, reached)
    judge("traces", "1", result["traces"], result["traces"] == 1)
    table("JAX: programs with dropout", ["", "taken"], shown)
    table("Goals", ["", "meant", "measured", ""], judged)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=int, default=24)
    chosen = parser.parse_args()
    described = machine("thinned", "jax", "flax", "equinox")
    repeats, figure = chosen.repeats, chosen.figure
    result: dict[str, Any] = {
        "machine": described,
        "layers": chosen.layers,
        "compiling": compiling(chosen.layers, 256, 256, max(2, repeats // 5), figure),
        "small": small(repeats, figure),
        "per sample": {
            f"{rows} x {width}, an address a row": per_sample(rows, width, repeats, figure)
            for rows, width in ROWS
        },
        "traces": retraces(),
    }
    described["load at the end"] = load_average()
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
