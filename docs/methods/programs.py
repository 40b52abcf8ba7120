"""A method in code, by NumPy, PyTorch, JAX and Keras: made from its row.

The four differ in how arrays are made, and in what stands beside the function: a gradient, `jit`, a
module, a layer. BODIES has the lines of rows whose function is called differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thinned.methods.made import keras_rows
from thinned.methods.table import Method

MOST = 88  # characters in a line: what the page shows on a laptop
LIBRARIES = ("NumPy", "PyTorch", "JAX", "Keras")


@dataclass(frozen=True)
class Arrays:
    """How a library makes arrays, and what has to be imported for that."""

    imports: str
    prepared: str
    normal: str
    integers: str
    array: str


ARRAYS = {
    "NumPy": Arrays(
        "import numpy as np",
        "rng = np.random.default_rng(0)\n",
        "rng.standard_normal({}, dtype=np.float32)",
        "rng.integers(0, 100, {})",
        "np.array",
    ),
    "PyTorch": Arrays(
        "import torch",
        "",
        "torch.randn({})",
        "torch.randint(0, 100, {})",
        "torch.tensor",
    ),
    "JAX": Arrays(
        "import jax\nimport jax.numpy as jnp",
        "key = jax.random.key(0)\n",
        "jax.random.normal(key, {})",
        "jax.random.randint(key, {}, 0, 100)",
        "jnp.array",
    ),
    "Keras": Arrays(
        "import keras",
        "",
        "keras.random.normal({})",
        "keras.random.randint({}, 0, 100)",
        "keras.ops.convert_to_tensor",
    ),
}

_RING = (
    "# A ring of four nodes, both directions of each edge.\n"
    "edges = ARRAY(\n    [[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]],\n)"
)
_TWO = "# Of two passes of one model.\nfirst = NORMAL(6, 3)\nsecond = NORMAL(6, 3)"
# What is called, where the row has no sample: NORMAL(...) and ARRAY(...) are the library's.
BODIES = {
    "drop_edge": f"{_RING}\nkept = thinned.drop_edge(edges, 0.5, at)",
    "dropout_path": f"{_RING}\nkept = thinned.dropout_path(edges, 0.3, at, length=2)",
    "layer_drop": "x = NORMAL(6, 5)\ny = thinned.layer_drop(lambda x: 10 * x, x, 0.2, at)",
    "r_drop": f"{_TWO}\nlabels = ARRAY([0, 1, 2, 0, 1, 2])\n"
    "loss = thinned.r_drop((first, second), labels, alpha=1.0)",
    "fraternal_dropout": f"{_TWO}\nloss = thinned.fraternal_dropout((first, second), kappa=0.15)",
    "multi_sample_dropout": "h = NORMAL(6, 5)  # the output of the layers below\n"
    "loss = thinned.multi_sample_dropout(\n"
    "    lambda k: thinned.dropout(h, 0.5, at.fold_in(k)),\n"
    "    lambda y: (y * y).mean(),\n    samples=4,\n)",
    "drop_bp": "dy = NORMAL(6, 5)  # the gradient that arrives\ndx = thinned.drop_bp(dy, 0.5, at)",
    "drop_grad": "dy = NORMAL(6, 5)  # the gradient that arrives\n"
    "dx = thinned.drop_grad(dy, 0.3, at)",
    "masksembles": "x = NORMAL(4, 3)  # two rows for each mask\n"
    "bank = ARRAY([[True, True, False], [False, True, True]])\n"
    "y = thinned.masksembles(x, bank)",
    "fast_dropout_moments": "x = NORMAL(6, 5)\nweight = NORMAL(3, 5)\n"
    "mean, variance = thinned.fast_dropout_moments(x, weight, p=0.5)",
}
SCHEDULES = {
    "annealed_dropout": "annealed(0.5, until=0.8)",
    "curriculum_dropout": "curriculum(0.5)",
    "early_dropout": "early(0.1, until=0.2)",
    "late_dropout": "late(0.1, after=0.5)",
    "scheduled_drop_path": "scheduled_drop_path(0.3)",
}
# Where autograd differentiates, noise on the gradient is seen in the gradient.
GRADIENTS = {
    "PyTorch": "x = torch.randn(6, 5, requires_grad=True)\n"
    "y = x + thinned.{name}(3 * x, {p}, at)\ny.sum().backward()",
    "JAX": "x = jax.random.normal(key, (6, 5))\n"
    "dx = jax.grad(lambda x: (x + thinned.{name}(3 * x, {p}, at)).sum())(x)",
}
# Modules of PyTorch that are written by hand: how one is made.
MODULES = {
    "concrete_dropout": "ConcreteDropout(p=0.1, features=5)",
    "variational_dropout": "VariationalLinear(5, 4)",
    "sparse_variational_dropout": "SparseVariationalLinear(5, 4)",
    "hard_concrete": "L0Linear(5, 4)",
    "embedding_dropout": "EmbeddingDropout(torch.nn.Embedding(8, 5), p=0.1)",
    "lora_dropout": "LoRALinear(torch.nn.Linear(5, 4), rank=2, p=0.05)",
    "layer_drop": "LayerDrop([torch.nn.Linear(5, 5), torch.nn.Linear(5, 5)], p=0.2)",
    "drop_edge": "DropEdge(p=0.5)",
    "drop_bp": "DropBP(p=0.5)",
    "drop_grad": "DropGrad(p=0.3)",
    "masksembles": "Masksembles(3, n=2)",
}
_IN = {
    "embedding_dropout": "torch.tensor([[0, 3, 5]])",
    "drop_edge": "edges",
    "drop_bp": "x",
    "drop_grad": "x",
}


def blocks(row: Method) -> Mapping[str, str]:
    """A program for each library, by the library's name."""
    return {name: program(row, name) for name in LIBRARIES}


def program(row: Method, library: str) -> str:
    arrays = ARRAYS[library]
    body = _library_body(row, library)
    body = re.sub(r"NORMAL\(([\d, ]+)\)", lambda m: _made(arrays.normal, m[1], library), body)
    body = re.sub(r"INTEGERS\(([\d, ]+)\)", lambda m: _made(arrays.integers, m[1], library), body)
    body = body.replace("ARRAY(", f"{arrays.array}(")
    name = arrays.prepared.partition(" ")[0]
    prepared = arrays.prepared if name and re.search(rf"\b{name}[.,]", body) else ""
    lines = []
    if prepared:
        lines.append(prepared.rstrip())
    if re.search(r"\bat\b", body):
        lines.append(f'at = thinned.Address(seed=0, site="{row.name}", step=7)')
    imports = [line for line in arrays.imports.split("\n") if _used(line, prepared + body)]
    own = sorted({"import thinned", *(f"import {room}" for room in _rooms(body))})
    return "\n".join([*imports, *own, "", *lines, body])


def _made(form: str, shape: str, library: str) -> str:
    lengths = shape.strip()
    if library == "PyTorch" and form.startswith("torch.randn"):
        return form.format(lengths)
    return form.format(f"({lengths})" if "," in lengths else f"({lengths},)")


def _used(line: str, text: str) -> bool:
    name = line.rpartition(" ")[2]
    return re.search(rf"\b{name}\.", text) is not None


def _rooms(body: str) -> set[str]:
    """thinned.torch and thinned.keras where the program names them."""
    return set(re.findall(r"\bthinned\.(?:torch|keras|schedules)\b", body))


def _library_body(row: Method, library: str) -> str:
    if row.name in SCHEDULES:
        return _schedule(row, library)
    if library in GRADIENTS and row.name in ("drop_bp", "drop_grad"):
        body = GRADIENTS[library].format(name=row.name, p=0.5 if row.name == "drop_bp" else 0.3)
    elif row.sample is None:
        body = BODIES[row.name]
    elif library == "Keras" and (layer := _keras_layer(row)):
        shape = ", ".join(map(str, row.sample.shape))
        return f"x = NORMAL({shape})\nlayer = {layer}\ny = layer(x, training=True)"
    else:
        body = _of_sample(row, library)
    if library == "PyTorch" and (module := _module(row)):
        fixed = row.name == "masksembles"
        draws = "whose masks are fixed" if fixed else "by PyTorch's generator; adopted, by address"
        body += f"\n\n# As a module, {draws}.\nmodule = thinned.torch.{module}"
        body += f"\ny = module({_inputs(row)})"
    return body


def _inputs(row: Method) -> str:
    if row.name in _IN:
        return _IN[row.name]
    return "x" if row.name in MODULES or row.sample is None else ", ".join(row.arrays)


def _of_sample(row: Method, library: str) -> str:
    """The arrays of the row's sample, and the call; under jit in JAX, differentiated in PyTorch."""
    sample = row.sample
    assert sample is not None
    made = []
    for name, array in zip(row.arrays, sample.inputs(), strict=False):
        kind = "INTEGERS" if array.dtype.kind in "iu" else "NORMAL"
        made.append(f"{name} = {kind}({', '.join(map(str, array.shape))})")
    where = row.where
    arguments = [*row.arrays[: len(made)], *([f"{sample.p:g}"] if row.has_p else []), "at"]
    arguments += [f"{name}={value!r}" for name, value in sample.options.items()]
    call = f"{where}({', '.join(arguments)})"
    if library == "JAX" and not sample.fixed_p:
        whole = f"f = jax.jit(lambda {row.arrays[0]}, at: {call})"
        broken = f"\n\n@jax.jit\ndef f({row.arrays[0]}, at):\n    return {call}\n\n"
        made.append(whole if len(whole) <= MOST else broken)
        call = f"f({row.arrays[0]}, at)"
    made.append(f"y = {call}")
    return "\n".join(made)


def _module(row: Method) -> str:
    """The module of PyTorch, as it is made; "" where there is none."""
    if row.name in MODULES:
        return MODULES[row.name]
    if row.module is None or row.sample is None:
        return ""
    options = [f"p={row.sample.p:g}"] if row.has_p else []
    options += [f"{name}={value!r}" for name, value in row.sample.options.items()]
    return f"{row.module}({', '.join(options)})"


def _keras_layer(row: Method) -> str:
    if row.module not in keras_rows() or row.sample is None:
        return ""
    options = [f"{row.sample.p:g}", "seed=0"]
    options += [f"{n}={v!r}" for n, v in row.sample.options.items() if n != "channel_axis"]
    return f"thinned.keras.{row.module}({', '.join(options)})"


def _schedule(row: Method, library: str) -> str:
    schedule = f"thinned.schedules.{SCHEDULES[row.name]}"
    over_depth = row.name == "scheduled_drop_path"
    if library == "PyTorch":
        block = "torch.nn.Sequential(torch.nn.Linear(5, 5), "
        drop = "thinned.torch.DropPath(0.3))" if over_depth else "torch.nn.Dropout(0.1))"
        return (
            f"\ndef block():\n    return {block}{drop}\n\n\n"
            "blocks = [block() for _ in range(4)]\n"
            "model = torch.nn.Sequential(*blocks)\n"
            f"schedule = {schedule}\n"
            'thinned.torch.adopt(model, seed=0, schedule={"*.1": schedule}, steps=1000)\n'
            "y = model(torch.randn(6, 5))  # with the p of this step"
        )
    layers = ", 3, 12" if over_depth else ""
    name = "drop_path" if layers else "dropout"
    return (
        f"schedule = {schedule}\nx = NORMAL(6, 5)\n"
        f"p = schedule(500, 1000{layers})  # step 500 of 1,000"
        f"{', layer 3 of 12' if layers else ''}\n"
        f"y = thinned.{name}(x, p, at.replace(step=500))"
    )
