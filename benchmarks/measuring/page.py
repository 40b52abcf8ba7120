"""The page docs/speed.md, made from the figures of one run: none is copied by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.measuring.goals import MULTIPLY, ratios

__all__ = ["page"]

WHAT = """\
# Speed

Dropout reads x and writes y, and so does a plain multiplication of x by a number. The speed of this
multiplication is the reference. Dropout can exceed it only on arrays larger than the cache, by
stores that bypass the cache. The other libraries run on the same arrays in the same run, and all
alternate, so that any slowdown of the machine affects all of them.

- *thinned*: `thinned.dropout(x, p, at, out=y)`.
- *multiply*: `numpy.multiply(x, s, out=y)`, which has one thread, or `torch.mul(x, s, out=y)` with
  as many threads as thinned, whichever was faster.
- *F.dropout*: `torch.nn.functional.dropout(x, p)`. *compiled*: the same under `torch.compile`,
  fused with the copy into y.
- *JAX*: `jax.random.bernoulli` and `where` under `jax.jit`, in a process bound to as many
  processors as it may use threads.
- *NumPy*: `rng.random(out=u)`, `u >= p`, two multiplications into y; always one thread.

Libraries that accept an output array get one; F.dropout and JAX allocate theirs in every call.
"""

BOUNDS = """\
## What bounds it

A draw is Philox in a vector unit: for each plane of a block of 128 elements 15 multiplications,
15 shifts and some 42 operations of logic, four blocks to a vector of AVX2. A threshold with
many bits takes 8.3 planes of a block. So an element at p = 0.1 costs no less than .24 cycles
where one vector is multiplied in a cycle, and .29 where four vector operations are done in one.
To apply a mask takes eleven instructions for sixteen elements, and two stores of 32 bytes, .13
cycles at one a cycle.

Instructions an element with AVX2, counted by callgrind (65,536 float32 elements, one thread,
GCC 12):

| | p = 0.1 | p = 0.5 |
| ---: | ---: | ---: |
| group by group | 3.96 | 1.70 |
| in batches, as it is | 2.95 | 1.38 |
| of these, draws | 1.78 | 0.19 |

On an EPYC (family 25, model 17), which does four vector operations a cycle, with other work
beside it and by the least of many repeats, draws at p = 0.1 take .46 cycles an element, .61
before; with their application .62 inside the first cache and .72 at 256k elements, .96 before.
A multiply of 256k takes .30 cycles there, so that .55 of its speed is .55 cycles. That is above
what the draws and the application need at four operations a cycle, and below what they take: it
is not reached.

What did not pay at 256k elements with AVX2: asking ahead for the lines of x, of y, or of both,
one pause or one group before (between a fiftieth less and a twentieth more); the application in
line between planes, in place of a call (it spills, and takes a twentieth more); three planes in
the compiler's own order (105 spills).
"""

AGAIN = """\
## To repeat the measurement

    make bench

or, without the other benchmarks,

    .venv/bin/python -m benchmarks.dropout_speed --page docs/speed.md

which takes some four minutes on an otherwise idle machine. `--json FILE` writes every figure.
"""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---:"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _threads(n: int) -> str:
    return "one thread" if n == 1 else f"{n} threads"


def _speeds(result: dict[str, Any], dtype: str, threads: int) -> str:
    columns = ["elements", "p", "thinned", "multiply", "F.dropout", "compiled", "JAX", "NumPy"]
    columns += [f"thinned / {peer}" for peer in ("multiply", "F.dropout", "compiled", "JAX")]
    lines = []
    for row in result["rows"]:
        if (row["dtype"], row["threads"]) != (dtype, threads):
            continue
        rate, over = row["rate"], ratios(row)
        multiply = max(rate[name] for name in MULTIPLY)
        lines.append(
            [row["size"], f"{row['p']}", f"**{rate['thinned']:.2f}**", f"{multiply:.2f}"]
            + [f"{rate[name]:.3f}" for name in ("F.dropout", "compiled", "jax", "numpy")]
            + [f"**{over['multiply']:.2f}**"]
            + [f"{over[name]:.0f}" for name in ("F.dropout", "compiled", "jax")]
        )
    return _table(columns, lines)


def _load(result: dict[str, Any]) -> str:
    load = result["machine"]["load"]
    return "unknown" if load is None else f"{load:.1f}"


def _machine(result: dict[str, Any]) -> str:
    told = result["machine"]
    packages = ", ".join(f"{name} {told[name]}" for name in ("numpy", "torch", "jax"))
    return (
        f"Machine: {told['processor']}, {told['cores']} cores, {told['system']}; kernel"
        f" {result['kernel']}, Python {told['python']}, {packages}. Each figure is"
        f" {result['of the timings']} of many timings. Load at the start: {_load(result)}.\n"
    )


def page(result: dict[str, Any]) -> str:
    """The whole text, in Markdown."""
    parts = [WHAT, _machine(result)]
    for dtype in ("float32", "bfloat16"):
        for threads in (1, 2):
            parts.append(f"## {dtype}, {_threads(threads)}\n\nBillions of elements per second.\n")
            parts.append(_speeds(result, dtype, threads))
    more = result["more_rates"]
    parts.append(
        "## Every p\n\n16M float32 elements, two threads: thinned's speed divided by that of the"
        " plain multiplication.\n"
    )
    parts.append(_table([f"p = {p}" for p in more], [[f"{ratio:.2f}" for ratio in more.values()]]))
    parts.append(
        "## Each kernel\n\n256k float32 elements, one thread, billions of elements per second.\n"
    )
    kernels = result["kernels"]
    columns = ["kernel", *(f"p = {p}" for p in next(iter(kernels.values())))]
    rows = [[name, *(f"{rate:.2f}" for rate in rates.values())] for name, rates in kernels.items()]
    parts.append(_table(columns, rows))
    parts.append("## A single call\n\n128 float32 elements, p = 0.1.\n")
    few = result["few_elements"]
    parts.append(_table(["", "microseconds"], [[name, f"{us:.2f}"] for name, us in few.items()]))
    memory = result["extra_memory"]
    if memory is not None:
        kilobytes = max(v for how in memory["bytes"].values() for v in how.values()) / 1024
        parts.append(
            f"## Memory\n\nDropout of 64M float32 elements took {kilobytes:.0f} KB in addition to"
            f" its arrays, with {memory['threads']} threads. This is the threads' stacks; no mask"
            " is stored.\n"
        )
    parts.append(BOUNDS)
    parts.append("## Goals and results\n")
    parts.append(
        _table(
            ["", "goal", "result", "worst case", ""],
            [
                [g["goal"], g["bound"], f"{g['measured']:.3g}", g["where"], g["verdict"]]
                for g in result["goals"]
            ],
        )
    )
    parts.append(AGAIN)
    return "\n".join(parts)
