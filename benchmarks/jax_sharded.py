"""Dropout on sharded arrays in JAX: what it takes, and what is sent between devices.

    python -m benchmarks.jax_sharded [--json FILE] [--repeats 15] [--quickest] [--xla]

Run from the root of the checkout. A million elements of float32 on two devices of the CPU, sharded
by rows, under jit; once as two devices of one process, and once as two processes of
jax.distributed, one device each, that run one program together. `thinned.dropout`, forward and
backward, beside `jax.random.bernoulli` and `where`. Seconds are those of the slower process. The
second table counts the bytes that a device gets from others, read off compiled programs for eight
devices; it does not depend on the machine.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring.timing import (
    Figure,
    command_line,
    load_average,
    machine,
    table,
    write_json,
)

ROOT = Path(__file__).resolve().parents[1]
ROWS, WIDTH, P = 1024, 1024, 0.1
OURS, THEIRS = "thinned", "bernoulli and where"
PASSES = ("forward", "forward and backward")
WAYS = {"two devices, one process": 1, "two processes": 2}
LEAST_SPEED = 1.0
SENT = re.compile(
    r"= \(?([a-z0-9]+)\[([\d,]*)\][^=]*? "
    r"(?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "u64": 8, "s64": 8, "f64": 8}


# ------------------------------------------------------------------------ in their own processes


def _time(process: int, processes: int, address: str, calls: int, repeats: int) -> None:
    """Prints a line of JSON: seconds of a call, by pass and name, of each repeat."""
    import jax

    if processes > 1:
        settings: Any = jax.config
        settings.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, processes, process)
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    import thinned

    if os.environ.get("THINNED_BENCHMARK_XLA"):
        thinned.kernel.use_kernel("reference")
    partition: Any = PartitionSpec
    rows = NamedSharding(jax.make_mesh((2,), ("a",)), partition("a"))
    x = jax.make_array_from_callback((ROWS, WIDTH), rows, lambda at: _ones((ROWS, WIDTH), at))

    def ours(x: Any, step: Any) -> Any:
        return thinned.dropout(x, P, thinned.Address(0, "fc1", step=step))

    def theirs(x: Any, step: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), step)
        return jnp.where(jax.random.bernoulli(key, 1 - P, x.shape), x / (1 - P), 0)

    def both(drop: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def run(x: Any, step: Any) -> Any:
            y, pulled = jax.vjp(lambda x: drop(x, step), x)
            return pulled(y)[0]

        return run

    programs = {}
    for name, drop in ((OURS, ours), (THEIRS, theirs)):
        for which, function in zip(PASSES, (drop, both(drop)), strict=True):
            jitted = jax.jit(function, out_shardings=rows)
            programs[which, name] = jitted.lower(x, jnp.uint32(0)).compile()
    taken: dict[str, dict[str, list[float]]] = {w: {OURS: [], THEIRS: []} for w in PASSES}
    wait: Any = jax.block_until_ready
    for _ in range(repeats):
        for (which, name), program in programs.items():
            wait(program(x, jnp.uint32(0)))
            start = time.perf_counter()
            for step in range(calls):
                wait(program(x, jnp.uint32(step)))
            taken[which][name].append((time.perf_counter() - start) / calls)
    print(json.dumps(taken), flush=True)


def _ones(shape: tuple[int, ...], at: Any) -> Any:
    import numpy as np

    return np.ones(shape, np.float32)[at]


def _sent() -> None:
    """Prints a line of JSON: bytes that a device gets, by method and sharding."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    import thinned
    import thinned.jax

    at = thinned.Address(0, "fc1", step=3)
    maps, rows = jnp.ones((64, 16, 32, 32)), jnp.ones((64, 4096))
    methods: dict[str, tuple[Any, Callable[..., Any]]] = {
        "dropout": (rows, partial(thinned.dropout, p=P, at=at)),
        "gaussian_dropout": (rows, partial(thinned.gaussian_dropout, p=P, at=at)),
        "uniform_dropout": (rows, partial(thinned.uniform_dropout, p=P, at=at)),
        "alpha_dropout": (rows, partial(thinned.alpha_dropout, p=P, at=at)),
        "keep_mask, like=x": (
            rows,
            lambda x, window=None: thinned.keep_mask(x.shape, P, at, window=window, like=x),
        ),
        "k_of_n_dropout": (rows, partial(thinned.k_of_n_dropout, p=P, at=at)),
        "drop_path": (maps, partial(thinned.drop_path, p=P, at=at)),
        "drop_head": (maps, partial(thinned.drop_head, p=P, at=at)),
        "drop_block": (maps, partial(thinned.drop_block, p=P, at=at, block_size=3)),
    }
    partition: Any = PartitionSpec
    auto: Any = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(auto, auto))
    by_rows, by_both = partition("a"), partition("a", "b")

    def within(method: Callable[..., Any]) -> Callable[[Any], Any]:
        """In a shard_map over one of the two axes, which leaves the other to the compiler."""

        def body(x: Any) -> Any:
            return method(x, window=thinned.jax.window(x, by_rows))

        made: Callable[[Any], Any] = jax.shard_map(
            body, mesh=mesh, in_specs=by_rows, out_specs=by_rows, axis_names={"a"}
        )
        return made

    found: dict[str, dict[str, int]] = {}
    for name, (x, method) in methods.items():
        found[name] = {"of x, a device": x.size * 4 // 8}
        for told, spec, function in (
            ("P('a')", by_rows, method),
            ("P('a', 'b')", by_both, method),
            ("shard_map over 'a' of P('a', 'b')", by_both, within(method)),
        ):
            sharding = NamedSharding(mesh, spec)
            given = jax.device_put(x, sharding)
            program = jax.jit(function, out_shardings=sharding).lower(given).compile()
            text = program.as_text() or ""
            found[name][told] = sum(_size(*kind) for kind in SENT.findall(text))
    print(json.dumps(found))


def _size(kind: str, lengths: str) -> int:
    count = 1
    for n in lengths.split(","):
        count *= int(n or 1)
    return count * BYTES.get(kind, 4)


# ----------------------------------------------------------------------------------- measuring


def _start(devices: int, *asked: str) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "--within", *asked],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=300)
    if process.returncode:
        raise SystemExit(f"a process of the benchmark ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def microseconds(repeats: int, figure: Figure) -> dict[str, dict[str, dict[str, float]]]:
    """By way, pass and name; of the slower process."""
    measured = {}
    for way, processes in WAYS.items():
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{found.getsockname()[1]}"
        started = [
            _start(2 // processes, "time", str(i), str(processes), address, "20", str(repeats))
            for i in range(processes)
        ]
        answers = [_answer(process) for process in started]
        measured[way] = {
            which: {
                name: 1e6 * figure(_slower([answer[which][name] for answer in answers]))
                for name in (OURS, THEIRS)
            }
            for which in PASSES
        }
    return measured


def _slower(seconds: list[list[float]]) -> list[float]:
    """Of each repeat what the slower process took."""
    return [max(repeat) for repeat in zip(*seconds, strict=True)]


def show(result: dict[str, Any]) -> None:
    rows, judged = [], []
    for way, passes in result["microseconds"].items():
        for which, taken in passes.items():
            speed = taken[THEIRS] / taken[OURS]
            rows.append([way, which, *(f"{us:.0f}" for us in taken.values()), f"{speed:.1f}"])
            verdict = "reached" if speed >= LEAST_SPEED else "NOT REACHED"
            judged.append([f"{way}, {which}", f">= {LEAST_SPEED:g}", f"{speed:.2f}", verdict])
    columns = ["a million elements in two parts", "pass, microseconds", OURS, THEIRS, "times"]
    table("JAX: sharded dropout", columns, rows)
    table(f"Times as fast as {THEIRS}", ["", "meant", "measured", ""], judged)
    sent = [[name, *(str(n) for n in counts.values())] for name, counts in result["sent"].items()]
    columns = ["bytes that a device gets, of eight", *next(iter(result["sent"].values()))]
    table("Sent between devices, mesh ('a': 4, 'b': 2)", columns, sent)


def main() -> None:
    if sys.argv[1:2] == ["--within"]:
        kind, *given = sys.argv[2:]
        if kind == "sent":
            _sent()
        else:
            process, processes, address, calls, repeats = given
            _time(int(process), int(processes), address, int(calls), int(repeats))
        return
    parser = command_line(__doc__)
    parser.add_argument("--xla", action="store_true", help="XLA operations in place of the kernel")
    chosen = parser.parse_args()
    if chosen.xla:
        os.environ["THINNED_BENCHMARK_XLA"] = "1"
    described = machine("thinned", "jax")
    result: dict[str, Any] = {
        "machine": described,
        "microseconds": microseconds(chosen.repeats, chosen.figure),
        "sent": _answer(_start(8, "sent")),
    }
    described["load at the end"] = load_average()
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
