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

A draw is Philox in a vector unit. For each plane of four blocks, of 128 elements each, AVX2 needs
15 multiplications, 15 shifts and 28 operations of logic. A threshold with many bits takes 8.3
planes of a block, and 9.9 as the kernel shares them. So at p = 0.1 an element costs no less than
.24 cycles where one vector is multiplied in a cycle, and .28 where four vector operations are done
in one. To apply a mask takes nine instructions for sixteen elements, and two stores of 32 bytes:
.13 cycles where one is stored in a cycle.

Instructions per element with AVX2, counted by callgrind (`python -m benchmarks.instructions`
counts those of today; float32, one thread, GCC 12):

| | p = 0.1 | p = 0.5 |
| ---: | ---: | ---: |
| group by group | 3.96 | 1.70 |
| in batches | 2.95 | 1.03 |
| in batches, keys by twos | 2.61 | 1.18 |
| of these, draws | 1.59 | 0.19 |

Cycles per element on an EPYC (family 25, model 17), which does four vector operations in a cycle
and multiplies two vectors, with other work beside it, by the least of many repeats:

| AVX2 | p = 0.1 | p = 0.5 |
| ---: | ---: | ---: |
| draws alone | .45 | .06 |
| with the application, 64k elements | .65 | .32 |
| with the application, 256k elements | .67 | .36 |
| a multiplication of 256k elements | .31 | .31 |

.55 of the multiplication's speed is .56 cycles at p = 0.1: more than the bounds above, less than
what is reached. The gap is in the draws. A round of a plane is a chain of 5.5 cycles, and sixteen
registers hold three planes. Their 21 operations take 7.4 cycles of a round, measured alone, where
5.3 would do at four in a cycle; six planes side by side, if registers held them, would come to
3.9 operations in a cycle. AVX-512 has the registers, and its draws need half the instructions.

What did not pay with AVX2 (time against the kernel as it is):

- four planes side by side, with one word of each in memory: draws take 6 % longer, because the next
  round waits for the word to return from memory;
- shuffles in place of shifts: 2 % longer;
- another order of the operations of three planes, of nine tried: within 5 % of each other;
- masked loads in place of a blend: 28 % longer at 256k elements and p = 0.5;
- the application between the rounds, in the registers that are left, in place of a call between
  planes: 6 to 9 % longer;
- two halves of eight blocks in one vector, so that all lanes count in every xor: no operation fewer
  than keys by twos;
- asking ahead for the lines of x or y: 2 % less to 5 % more.

Instructions per element on ARM, counted by QEMU (`python -m benchmarks.instructions --arm`; 16,384
elements, one thread, GCC 12). The kernel keeps the upper and lower words of lanes in registers of
their own: a multiplication leaves them so, and twelve instructions are a round of 512 elements.
Before, a compiler made NEON of loops over arrays. No ARM processor was at hand to time it.

| NEON | p = 0.1 | p = 0.5 | before |
| ---: | ---: | ---: | ---: |
| draws alone | 2.86 | 0.30 | 12.65 and 1.38 |
| float32 | 4.41 | 1.85 | 17.87 and 6.45 |
| float16 | 4.85 | 2.29 | 38.87 and 27.47 |
| bfloat16 | 6.60 | 4.02 | 29.63 and 18.19 |

With AVX-512, blocks that share their last planes make draws a tenth shorter and the whole 5 %
longer, because the application has fewer draws to hide behind. It draws group by group.

A second thread that waits awake comes within 3 microseconds. One that sleeps came after 20 to 40
microseconds here, and after 70 where nothing had run for ten milliseconds; the call that wakes it
takes 5 to 20. Linux woke it on the caller's own processor in nine of ten calls, where it is no
help, so the kernel's threads keep off that. How late a thread comes is measured whenever one is
woken, and a call asks for one where it would take twice as long alone. After a call from NumPy
the threads wait awake for a tenth of a millisecond; beside PyTorch without libgomp, and in
programs of JAX, whose own threads want the processors, they sleep at once.
"""

AGAIN = """\
## To repeat the measurement

    make bench

or, without the other benchmarks,

    THINNED_KERNEL=avx2 .venv/bin/python -m benchmarks.dropout_speed --json build/avx2.json
    .venv/bin/python -m benchmarks.dropout_speed --beside build/avx2.json --page docs/speed.md

which takes some ten minutes on an otherwise idle machine. `--json FILE` writes every figure, and
`--beside FILE` puts those of another run on the page, of a kernel that `THINNED_KERNEL` chose or of
another machine.
"""


BUSY = (
    " Other programs kept every processor busy. This hardly touches the quickest timing on one"
    " thread, but two seldom ran at the same time: figures with two, and for JAX, F.dropout and"
    " attention, are no measure of an idle machine."
)
NAMES = {"avx2": "AVX2", "avx512": "AVX-512", "neon": "NEON", "baseline": "Any other processor"}


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
        f" {result['of the timings']} of many timings. Load at the start: {_load(result)}."
        f"{BUSY if (told['load'] or 0) > told['cores'] else ''}\n"
    )


def page(results: Sequence[dict[str, Any]]) -> str:
    """The whole text, in Markdown: a part for each run, which are of different kernels."""
    parts = [WHAT]
    for result in results:
        parts.append(f"## {NAMES.get(result['kernel'], result['kernel'])}\n")
        parts += _figures(result)
    return "\n".join([*parts, BOUNDS, AGAIN])


def _figures(result: dict[str, Any]) -> list[str]:
    parts = [_machine(result)]
    for dtype in ("float32", "bfloat16"):
        for threads in (1, 2):
            parts.append(f"### {dtype}, {_threads(threads)}\n\nBillions of elements per second.\n")
            parts.append(_speeds(result, dtype, threads))
    more = result["more_rates"]
    parts.append(
        "### Every p\n\n16M float32 elements, two threads: thinned's speed divided by that of the"
        " plain multiplication.\n"
    )
    parts.append(_table([f"p = {p}" for p in more], [[f"{ratio:.2f}" for ratio in more.values()]]))
    parts.append(
        "### Each kernel\n\n256k float32 elements, one thread, billions of elements per second.\n"
    )
    kernels = result["kernels"]
    columns = ["kernel", *(f"p = {p}" for p in next(iter(kernels.values())))]
    rows = [[name, *(f"{rate:.2f}" for rate in rates.values())] for name, rates in kernels.items()]
    parts.append(_table(columns, rows))
    parts.append("### A single call\n\n128 float32 elements, p = 0.1.\n")
    few = result["few_elements"]
    parts.append(_table(["", "microseconds"], [[name, f"{us:.2f}"] for name, us in few.items()]))
    memory = result["extra_memory"]
    if memory is not None:
        kilobytes = max(v for how in memory["bytes"].values() for v in how.values()) / 1024
        parts.append(
            f"### Memory\n\nDropout of 64M float32 elements took {kilobytes:.0f} KB in addition to"
            f" its arrays, with {memory['threads']} threads. This is the threads' stacks; no mask"
            " is stored.\n"
        )
    parts.append("### Goals and results\n")
    parts.append(
        _table(
            ["", "goal", "result", "worst case", ""],
            [
                [g["goal"], g["bound"], f"{g['measured']:.3g}", g["where"], g["verdict"]]
                for g in result["goals"]
            ],
        )
    )
    return parts
