"""What dropout keeps between the passes in JAX, and what compiling a program with it takes.

    python -m benchmarks.jax_memory [--layers 24] [--rows 256] [--width 1024] [--xla]

Run from the root of the checkout. A training step of residual layers, dropout on what each adds, as
in transformers: without dropout, with `thinned.dropout`, and with `jax.random.bernoulli` and
`where`. Residuals are what the forward pass hands to the backward pass, temporaries XLA's own
memory, all as multiples of those without dropout. Memory does not depend on the load of the
machine, the time of compiling does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import thinned
from thinned.kernel import use_kernel

__all__ = ["Taken", "taken"]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("layers", 24), ("rows", 256), ("width", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--xla", action="store_true", help="XLA operations in place of the kernel")
    asked = parser.parse_args()
    if asked.xla:
        use_kernel("reference")
    found = {name: taken(d, asked.layers, asked.rows, asked.width) for name, d in WAYS.items()}
    plain = found["without"]
    print(f"{'':20} residuals  temporaries  compiling")
    for name, one in found.items():
        ratios = (a / b for a, b in zip(one, plain, strict=True))
        print(f"{name:20} {next(ratios):9.2f}  {next(ratios):11.2f}  {next(ratios):9.2f}")


if __name__ == "__main__":
    main()
