"""What thin execution gains in JAX: a perceptron that computes only the units it keeps.

    python -m benchmarks.jax_thin [--json FILE] [--repeats 15] [--quickest]

Run from the root of the checkout. Three hidden layers of 2048 units, p = 0.5 behind each, a batch
of 1024 rows, float32, on the CPU: the same network without dropout, with `thinned.dropout`, with
`jax.random.bernoulli` and `where`, with exact k-of-n dropout on whole arrays, and thin. A training
step is forward, backward and SGD, jitted, with the step traced.

Then models of Flax NNX and of Equinox, two hidden layers of 1024 units, 1024 rows: forward and
backward of the whole model without dropout and with the library's own, and after `thin`, with
Bernoulli draws and with exact k of n.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

import thinned
import thinned.jax
import thinned.jax.equinox as te
import thinned.jax.nnx as tn
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

WIDTH, BATCH, CLASSES, HIDDEN, P = 2048, 1024, 10, 3, 0.5
THIN, WITHOUT, OURS, THEIRS = "thin", "without", "thinned.dropout", "bernoulli and where"
WHOLE = "k of n on whole arrays"
# Times as fast as these, at least.
GOALS = {WITHOUT: 1.0, OURS: 1.5, THEIRS: 1.5}
wait: Any = jax.block_until_ready
Forward = Callable[[Any, Any, Any], Any]


def _dense(drop: Callable[[Any, int, Any], Any]) -> Forward:
    def forward(layers: Any, x: Any, step: Any) -> Any:
        for i, (weight, bias) in enumerate(layers):
            x = x @ weight + bias
            if i < HIDDEN:
                x = drop(jax.nn.relu(x), i, step)
        return x

    return forward


def _bernoulli(h: Any, i: int, step: Any) -> Any:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), step), i)
    return jnp.where(jax.random.bernoulli(key, 1 - P, h.shape), h / (1 - P), 0)


def _at(step: Any) -> thinned.Address:
    return thinned.Address(0, step=step)


FORWARD: dict[str, Forward] = {
    THIN: lambda layers, x, step: thinned.jax.thin_mlp(x, layers, P, _at(step)),
    WITHOUT: _dense(lambda h, i, step: h),
    OURS: _dense(lambda h, i, step: thinned.dropout(h, P, _at(step).replace(site=i))),
    THEIRS: _dense(_bernoulli),
    WHOLE: _dense(
        lambda h, i, step: thinned.k_of_n_dropout(h, P, _at(step).replace(site=i), shared_axes=(0,))
    ),
}


def step_of(kind: str) -> Callable[[], object]:
    """One training step of a network of this kind, as a function."""
    widths = [WIDTH] * (HIDDEN + 1) + [CLASSES]
    keys = jax.random.split(jax.random.key(1), len(widths) + 1)
    layers = [
        (jax.random.normal(key, pair) / pair[0] ** 0.5, jnp.zeros(pair[1]))
        for key, pair in zip(keys, itertools.pairwise(widths), strict=False)
    ]
    x = jax.random.normal(keys[-1], (BATCH, WIDTH))
    labels = jax.random.randint(keys[-2], (BATCH,), 0, CLASSES)
    forward = FORWARD[kind]

    def train(layers: Any, step: Any) -> Any:
        def loss(layers: Any) -> Any:
            chosen = jax.nn.log_softmax(forward(layers, x, step))
            return -jnp.take_along_axis(chosen, labels[:, None], 1).mean()

        gradients = jax.grad(loss)(layers)
        return jax.tree.map(lambda w, g: w - 1e-3 * g, layers, gradients)

    program = jax.jit(train).lower(layers, jnp.uint32(0)).compile()
    count = 0

    def one() -> None:
        nonlocal count
        count += 1
        wait(program(layers, jnp.uint32(count)))

    return one


def milliseconds(repeats: int, figure: Figure) -> dict[str, float]:
    timers = {kind: of_call(step_of(kind)) for kind in FORWARD}
    seconds = interleaved(timers, repeats, budget=60.0, shortest=0.1, figure=figure)
    return {kind: 1e3 * s for kind, s in seconds.items()}


# ------------------------------------------------------------------------------ models made thin

MODEL_WIDTH, MODEL_HIDDEN = 1024, 2
OWN, THIN_EXACT = "its own dropout", "thin, exact k of n"


def _nnx_model(kind: str) -> nnx.Module:
    rngs = nnx.Rngs(0)
    drop: Any = {THIN_EXACT: lambda: tn.KOfNDropout(P), WITHOUT: lambda: nnx.Dropout(0.0)}.get(
        kind, lambda: nnx.Dropout(P, rngs=rngs)
    )
    hidden: list[Any] = [
        part
        for _ in range(MODEL_HIDDEN)
        for part in (nnx.Linear(MODEL_WIDTH, MODEL_WIDTH, rngs=rngs), jax.nn.relu, drop())
    ]
    model = nnx.Sequential(*hidden, nnx.Linear(MODEL_WIDTH, CLASSES, rngs=rngs))
    if kind in (THIN, THIN_EXACT):
        tn.thin(model, seed=1)
    return model


def nnx_step(kind: str) -> Callable[[], object]:
    """Forward and backward of a model of Flax NNX."""
    parts: Any = nnx.split(_nnx_model(kind), nnx.Param, ...)
    graph, weights, rest = parts
    x = jax.random.normal(jax.random.key(1), (BATCH, MODEL_WIDTH))

    def loss(weights: Any, rest: Any) -> Any:
        return (nnx.merge(graph, weights, rest, copy=True)(x) ** 2).mean()

    program = jax.jit(jax.grad(loss)).lower(weights, rest).compile()
    return lambda: wait(program(weights, rest))


def equinox_step(kind: str) -> Callable[[], object]:
    """Forward and backward of a model of Equinox, with one key for all rows where it is thin."""
    keys = jax.random.split(jax.random.key(0), MODEL_HIDDEN + 1)
    p = 0.0 if kind == WITHOUT else P
    drop: Any = te.KOfNDropout if kind == THIN_EXACT else eqx.nn.Dropout
    hidden: list[Any] = [
        part
        for key in keys[1:]
        for part in (
            eqx.nn.Linear(MODEL_WIDTH, MODEL_WIDTH, key=key),
            eqx.nn.Lambda(jax.nn.relu),
            drop(p),
        )
    ]
    model: Any = eqx.nn.Sequential([*hidden, eqx.nn.Linear(MODEL_WIDTH, CLASSES, key=keys[0])])
    is_thin = kind in (THIN, THIN_EXACT)
    if is_thin:
        model, _ = te.thin(model)
    x = jax.random.normal(jax.random.key(1), (BATCH, MODEL_WIDTH))
    weights, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(weights: Any, key: Any) -> Any:
        model: Any = eqx.combine(weights, rest)
        if is_thin:
            y = jax.vmap(lambda row: model(row, key=key))(x)
        else:
            y = jax.vmap(lambda row, key: model(row, key=key))(x, jax.random.split(key, BATCH))
        return (y**2).mean()

    key = jax.random.key(2)
    program = jax.jit(jax.grad(loss)).lower(weights, key).compile()
    return lambda: wait(program(weights, key))


MODELS = {"Flax NNX": nnx_step, "Equinox": equinox_step}
# Times as fast as these, at least.
MODEL_GOALS = {WITHOUT: 1.0, OWN: 1.5}


def of_models(repeats: int, figure: Figure) -> dict[str, dict[str, float]]:
    """Milliseconds of forward and backward, by library and kind."""
    taken = {}
    for library, step in MODELS.items():
        timers = {kind: of_call(step(kind)) for kind in (THIN, THIN_EXACT, WITHOUT, OWN)}
        seconds = interleaved(timers, repeats, budget=30.0, shortest=0.1, figure=figure)
        taken[library] = {kind: 1e3 * s for kind, s in seconds.items()}
    return taken


def show_models(taken: dict[str, dict[str, float]]) -> None:
    title = f"JAX: forward and backward, {MODEL_HIDDEN} x {MODEL_WIDTH}, batch {BATCH}"
    rows = [
        [library, kind, f"{ms:.1f}", f"{ms / kinds[WITHOUT]:.2f}"]
        for library, kinds in taken.items()
        for kind, ms in kinds.items()
    ]
    table(title, ["", "", "milliseconds", f"of {WITHOUT}"], rows)
    judged = []
    for library, kinds in taken.items():
        for slow, bound in MODEL_GOALS.items():
            times = kinds[slow] / kinds[THIN]
            verdict = "reached" if times >= bound else "NOT REACHED"
            judged.append(
                [f"{library}: {THIN} over {slow}", f">= {bound:g}", f"{times:.2f}", verdict]
            )
    table("Times faster", ["", "meant", "measured", ""], judged)


def show(taken: dict[str, float]) -> None:
    rows = [[kind, f"{ms:.1f}", f"{ms / taken[WITHOUT]:.2f}"] for kind, ms in taken.items()]
    title = f"JAX: a training step, {HIDDEN} x {WIDTH}, batch {BATCH}"
    table(title, ["", "milliseconds", f"of {WITHOUT}"], rows)
    judged = []
    for slow, bound in GOALS.items():
        times = taken[slow] / taken[THIN]
        verdict = "reached" if times >= bound else "NOT REACHED"
        judged.append([f"{THIN} over {slow}", f">= {bound:g}", f"{times:.2f}", verdict])
    table("Times faster", ["", "meant", "measured", ""], judged)


def main() -> None:
    chosen = command_line(__doc__, repeats=15).parse_args()
    described = machine("thinned", "jax")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    taken = milliseconds(chosen.repeats, chosen.figure)
    models = of_models(chosen.repeats, chosen.figure)
    described["load at the end"] = load_average()
    show(taken)
    show_models(models)
    if chosen.json is not None:
        result = {"machine": described, "milliseconds": taken, "models": models}
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
