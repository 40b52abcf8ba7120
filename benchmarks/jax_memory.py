"""What dropout keeps between the passes in JAX, and what compiling a program with it takes.

    python -m benchmarks.jax_memory [--layers 24] [--rows 256] [--width 1024] [--xla] [--devices 8]

Run from the root of the checkout. A training step of residual layers, dropout on what each adds, as
in transformers: without dropout, with `thinned.dropout`, and with `jax.random.bernoulli` and
`where`. Residuals are what the forward pass hands to the backward pass, temporaries XLA's own
memory, all as multiples of those without dropout. Memory does not depend on the load of the
machine, the time of compiling does.

The second table is of methods that combine draws to a mask, on maps of 16 x 32 x 32 in 8 layers:
what a layer keeps between the passes, and what it adds to the temporaries of a program, as
multiples of the layer's own array; of a whole batch, and of one divided by rows among devices.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import thinned
from thinned.kernel import use_kernel

__all__ = ["Kept", "Taken", "combined", "taken"]

Drop = Callable[[Any, Any, int], Any]
P = 0.1


class Taken(NamedTuple):
    """residuals, temporaries : bytes. seconds : to trace, lower and compile a step."""

    residuals: int
    temporaries: int
    seconds: float


def nothing(x: Any, step: Any, layer: int) -> Any:
    return x


def ours(x: Any, step: Any, layer: int) -> Any:
    return thinned.dropout(x, P, thinned.Address(0, layer, step))


def theirs(x: Any, step: Any, layer: int) -> Any:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), step), layer)
    return jnp.where(jax.random.bernoulli(key, 1 - P, x.shape), x / (1 - P), 0)


WAYS: dict[str, Drop] = {"without": nothing, "thinned": ours, "bernoulli and where": theirs}


def taken(drop: Drop, layers: int, rows: int, width: int) -> Taken:
    """By a step of residual layers with this dropout on what each adds."""
    weights = jnp.zeros((layers, width, width))
    x, step = jnp.zeros((rows, width)), jnp.uint32(0)

    def loss(weights: Any, x: Any, step: Any) -> Any:
        for layer in range(layers):
            x = x + drop(jnp.tanh(x) @ weights[layer], step, layer)
        return (x**2).sum()

    kept = jax.eval_shape(lambda w: jax.vjp(lambda w: loss(w, x, step), w)[1], weights)
    residuals = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    start = time.perf_counter()
    program = jax.jit(jax.grad(loss)).lower(weights, x, step).compile()
    seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    return Taken(residuals, memory.temp_size_in_bytes, seconds)


MAPS = (16, 32, 32)
COMBINED: dict[str, Callable[[Any, thinned.Address], Any]] = {
    "drop_block": lambda x, at: thinned.drop_block(x, P, at, block_size=3),
    "drop_head": lambda x, at: thinned.drop_head(x, P, at),
    "k_of_n_dropout": lambda x, at: thinned.k_of_n_dropout(x, P, at),
    "cutout": lambda x, at: thinned.cutout(x, 0.5, at),
    "uniform_dropout": lambda x, at: thinned.uniform_dropout(x, P, at),
    "dropout": lambda x, at: thinned.dropout(x, P, at),
}


class Kept(NamedTuple):
    """By a layer, in multiples of its array: residuals, of a whole batch and of a part of it;
    temporaries that it adds, likewise."""

    residuals: float
    temporaries: float
    divided: float


def _maps(
    drop: Callable[[Any, thinned.Address], Any] | None, layers: int, rows: int
) -> list[float]:
    weights = jnp.ones((layers, MAPS[0], MAPS[0]))
    x = jnp.ones((rows, *MAPS))

    def loss(weights: Any, x: Any) -> Any:
        for layer in range(layers):
            y = jnp.einsum("nchw,cd->ndhw", jnp.tanh(x), weights[layer])
            x = x + (y if drop is None else drop(y, thinned.Address(0, layer)))
        return (x**2).sum()

    kept = jax.eval_shape(lambda w: jax.vjp(lambda w: loss(w, x), w)[1], weights)
    found = [sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)) / x.nbytes]
    partition: Any = jax.sharding.PartitionSpec
    for devices in (1, jax.device_count()):
        some, auto = jax.devices()[:devices], jax.sharding.AxisType.Auto
        mesh = jax.make_mesh((devices,), ("rows",), axis_types=(auto,), devices=some)
        spread = jax.sharding.NamedSharding(mesh, partition("rows"))
        given = jax.device_put(x, spread)
        memory: Any = jax.jit(jax.grad(loss)).lower(weights, given).compile().memory_analysis()
        found.append(memory.temp_size_in_bytes / (x.nbytes / devices))
    return found


def combined(layers: int = 8, rows: int = 16) -> dict[str, Kept]:
    """What each of these methods keeps, by its name."""
    plain = _maps(None, layers, rows)
    return {
        name: Kept(
            *((a - b) / layers for a, b in zip(_maps(drop, layers, rows), plain, strict=True))
        )
        for name, drop in COMBINED.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("layers", 24), ("rows", 256), ("width", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--xla", action="store_true", help="XLA operations in place of the kernel")
    parser.add_argument("--devices", type=int, default=8, help="of the second table")
    asked = parser.parse_args()
    flags = os.environ.get("XLA_FLAGS", "")
    count = f"--xla_force_host_platform_device_count={asked.devices}"
    os.environ["XLA_FLAGS"] = f"{flags} {count}".strip()  # read at the first use of a device
    if asked.xla:
        use_kernel("reference")
    found = {name: taken(d, asked.layers, asked.rows, asked.width) for name, d in WAYS.items()}
    plain = found["without"]
    print(f"{'':20} residuals  temporaries  compiling")
    for name, one in found.items():
        ratios = (a / b for a, b in zip(one, plain, strict=True))
        print(f"{name:20} {next(ratios):9.2f}  {next(ratios):11.2f}  {next(ratios):9.2f}")
    print(f"\n{'a layer, of its array':22} residuals  temporaries  of {asked.devices} devices")
    for name, kept in combined().items():
        print(f"{name:22} {kept.residuals:9.2f}  {kept.temporaries:11.2f}  {kept.divided:12.2f}")


if __name__ == "__main__":
    main()
