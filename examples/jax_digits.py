"""Dropout in JAX on real digits: a TrainState whose step is the clock, stopped and resumed.

Nothing random is threaded through the program. A mask is drawn at (seed, site, step), and the step
stands in the state that optax updates: a run that was stopped, saved and loaded goes on with the
masks that it would have had, and ends bit for bit where a run without a stop ends.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import thinned

SITES = thinned.Address(seed=7)
UNITS, BATCH, STEPS = 256, 128, 300


class TrainState(NamedTuple):
    step: Any
    params: Any
    moments: Any


def layer(key: Any, inputs: int, outputs: int) -> dict[str, Any]:
    weight = jax.random.normal(key, (inputs, outputs)) * (2.0 / inputs) ** 0.5
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def network(params: Any, x: Any, at: Any = None) -> Any:
    """Logits; without an address nothing is dropped."""
    for i, p in enumerate((0.1, 0.5)):
        if at is not None:
            x = thinned.dropout(x, p, at.replace(site=f"hidden{i}"))
        x = jax.nn.relu(x @ params[i]["weight"] + params[i]["bias"])
    return x @ params[2]["weight"] + params[2]["bias"]


optimizer = optax.adam(1e-3)


@jax.jit
def train_step(state: TrainState, x: Any, y: Any) -> TrainState:
    def loss(params: Any) -> Any:
        logits = network(params, x, SITES.replace(step=state.step))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    grads = jax.grad(loss)(state.params)
    updates, moments = optimizer.update(grads, state.moments, state.params)
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), moments)


def train(state: TrainState, x: Any, y: Any, until: int) -> TrainState:
    for step in range(int(state.step), until):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        state = train_step(state, x[rows], y[rows])
    return state


def save(state: TrainState, file: Path) -> None:
    leaves = jax.tree.leaves(state)
    named: Any = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
    np.savez(file, **named)


def load(like: TrainState, file: Path) -> TrainState:
    with np.load(file, allow_pickle=False) as saved:
        leaves = [saved[str(i)] for i in range(len(saved.files))]
    loaded: TrainState = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return loaded


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, labels = digits.data[order].astype(np.float32) / 16.0, digits.target[order]
x, y, test_x, test_y = images[:1297], labels[:1297], images[1297:], labels[1297:]

keys = jax.random.split(jax.random.key(0), 3)
sizes = ((64, UNITS), (UNITS, UNITS), (UNITS, 10))
params = [layer(key, *size) for key, size in zip(keys, sizes, strict=True)]
start = TrainState(jnp.uint32(0), params, optimizer.init(params))

straight = train(start, x, y, STEPS)
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Path(folder) / "state.npz"
    save(train(start, x, y, STEPS // 3), checkpoint)
    resumed = train(load(start, checkpoint), x, y, STEPS)

pairs = zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True)
print(f"bit for bit the same: {all(np.array_equal(a, b) for a, b in pairs)}")
accuracy = float((network(resumed.params, test_x).argmax(1) == test_y).mean())
print(f"test accuracy: {accuracy:.3f}")
