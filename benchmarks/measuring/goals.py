"""What dropout's speed is meant to be, each goal beside what was measured. Nothing here fails."""

from __future__ import annotations

from typing import Any

__all__ = ["MULTIPLY", "Row", "judge", "ratios"]

Row = dict[str, Any]  # dtype, size, p, threads, and rate: billions of elements a second, by name

# The plain multiply, twice: whichever is faster is the limit.
MULTIPLY = ("numpy.multiply", "torch.mul")
LARGE = ("256k", "1M", "16M")
# Of float32: size, p, threads, and the part of the plain multiply's speed that is meant, by kernel:
# with AVX2 draws cost more instructions than with AVX-512, and a multiply is the same.
ANY_KERNEL = (("16M", 0.1, 2, 0.8), ("16M", 0.5, 2, 0.8))
PARTS = {
    "avx512": (
        ("256k", 0.1, 1, 0.4),
        ("256k", 0.5, 1, 0.85),
        ("1M", 0.1, 1, 0.4),
        ("1M", 0.5, 1, 0.85),
    ),
    "avx2": (
        ("256k", 0.1, 1, 0.55),
        ("1M", 0.1, 1, 0.55),
        ("1M", 0.1, 2, 0.7),
        ("256k", 0.5, 2, 0.85),
        ("1M", 0.5, 2, 0.85),
    ),
}
# Times as fast as bernoulli and where (1M float32, p = 0.1), and as PyTorch's own attention.
ELSEWHERE = {
    "avx512": {"jax, forward": 8.0, "jax, forward and backward": 5.0, "attention": 3.0},
    "avx2": {"jax, forward": 12.0, "jax, forward and backward": 6.0, "attention": 3.2},
}
TIMES = (("F.dropout", 20.0), ("compiled", 20.0), ("jax", 10.0))
MICROSECONDS = (("compiled function", 2.0), ("thinned.dropout", 6.0))
BYTES_A_THREAD = 64 * 1024


def ratios(row: Row) -> dict[str, float]:
    """thinned's speed over each peer's, and over the faster plain multiply's."""
    rate = row["rate"]
    over = {name: rate["thinned"] / rate[name] for name in rate if name != "thinned"}
    over["multiply"] = min(over[name] for name in MULTIPLY)
    return over


def _place(row: Row) -> str:
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{row['dtype']}, {row['size']}, p = {row['p']}, {threads}"


def _judged(what: str, bound: float, measured: float, where: str, below: bool = False) -> Row:
    reached = measured < bound if below else measured >= bound
    return {
        "goal": what,
        "bound": f"{'<' if below else '>='} {bound:g}",
        "measured": measured,
        "where": where,
        "verdict": "reached" if reached else "NOT REACHED",
    }


def judge(result: dict[str, Any]) -> list[Row]:
    """Each goal: its bound, the worst that was measured and where, reached or not."""
    rows: list[Row] = result["rows"]
    at = {(row["dtype"], row["size"], row["p"], row["threads"]): row for row in rows}
    judged: list[Row] = []
    for size, p, threads, part in (*ANY_KERNEL, *PARTS.get(result["kernel"], ())):
        row = at["float32", size, p, threads]
        judged.append(_judged("thinned / multiply", part, ratios(row)["multiply"], _place(row)))
    for size in ("256k", "1M"):
        for p in (0.1, 0.5):
            one, two = (at["float32", size, p, threads]["rate"]["thinned"] for threads in (1, 2))
            where = f"float32, {size}, p = {p}"
            judged.append(_judged("two threads / one", 1.0, two / one, where))
    row = at["float32", "256k", 0.1, 1]
    judged.append(_judged("thinned / F.dropout", 20.0, ratios(row)["F.dropout"], _place(row)))
    for what, times in ELSEWHERE.get(result["kernel"], {}).items():
        judged.append(_judged(f"thinned / {what}", times, result["elsewhere"][what], "p = 0.1"))
    worst, p = min((ratio, p) for p, ratio in result["more_rates"].items())
    where = f"float32, 16M, p = {p}, 2 threads"
    judged.append(_judged("thinned / multiply, every p", 0.8, worst, where))
    for peer, times in TIMES:
        worst, where = min((ratios(r)[peer], _place(r)) for r in rows if r["size"] in LARGE)
        judged.append(_judged(f"thinned / {peer}, 256k and up", times, worst, where))
    for what, most in MICROSECONDS:
        measured = result["few_elements"][what]
        judged.append(_judged(f"microseconds, {what}", most, measured, "128 elements", below=True))
    kernels = result["kernels"]
    if "avx2" in kernels and "avx512" in kernels:
        for p, rate in kernels["avx2"].items():
            where = f"float32, 256k, p = {p}, 1 thread"
            judged.append(_judged("avx2 / avx512", 0.5, rate / kernels["avx512"][p], where))
    memory = result["extra_memory"]
    if memory is not None:
        for how, grown in memory["bytes"].items():
            each = max(grown.values()) / memory["threads"]
            where = f"float32, 64M, {how}, {memory['threads']} threads"
            judged.append(_judged("bytes per thread", BYTES_A_THREAD, each, where, below=True))
    return judged
