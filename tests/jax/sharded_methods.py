"""Run by test_jax_sharded.py, with four devices of the CPU: every row of the catalogue, or those
that are named, its x divided in each way over a mesh, on automatic and on explicit axes. Output and
gradient must be those of one device. Prints as JSON what devices send, in bytes: in training, in
evaluation, and for the gradient."""

import json
import re
import sys
import traceback

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import thinned
from thinned.methods import every

AT = thinned.Address(seed=20, site="mesh", step=3)
KINDS = (AxisType.Auto, AxisType.Explicit)
WAYS = {
    "rows": (0,),
    "features": (-1,),
    "both": (0, -1),
    "second": (1,),
    "both of the first": (0, 1),
}
# Options that say a length, for samples of which each length is doubled.
OPTIONS = {"modality_dropout": {"sizes": (2, 4, 6)}}
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "u64": 8, "s64": 8, "f64": 8}
SENT = re.compile(
    r"= \(?([a-z0-9]+)\[([\d,]*)\][^=]*? "
    r"(?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def inputs(row):
    """The row's arrays with each length doubled, so that two devices can share it."""
    rng = np.random.default_rng(1)
    made = []
    for a in row.sample.inputs():
        a = np.tile(a, [2 if n > 1 else 1 for n in a.shape])
        made.append((a * rng.uniform(0.9, 1.0, a.shape)).astype("f4") if a.dtype == float else a)
    return tuple(made)


def spec_of(way, ndim):
    names = [None] * ndim
    for axis in WAYS[way]:
        names[axis] = "a" if axis == 0 else "b"
    return PartitionSpec(*names)


def sent(program):
    """Bytes that a device gets from others."""
    return sum(
        int(np.prod([int(n or 1) for n in lengths.split(",")])) * BYTES.get(kind, 4)
        for kind, lengths in SENT.findall(program.as_text())
    )


def tried(row, way, kind):
    """Bytes sent in training and in evaluation. AssertionError where values differ."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind,) * 2)
    arrays = inputs(row)
    options = {**row.sample.options, **OPTIONS.get(row.name, {})}

    def put(a):
        of = spec_of(way, a.ndim) if a.shape == arrays[0].shape else PartitionSpec()
        return jax.device_put(a, NamedSharding(mesh, of))

    def method(*arrays, training=True):
        return row.call(arrays, row.sample.p, AT, training=training, **options)

    def evaluated(*arrays):
        return method(*arrays, training=False)

    def pulled(*arrays):
        y, back = jax.vjp(lambda x: method(x, *arrays[1:]), arrays[0])
        return back(y)[0]

    there = tuple(map(put, arrays))
    functions = [method, evaluated] + [pulled] * row.sample.grad
    found = []
    for function in functions:
        program = jax.jit(function).lower(*there).compile()
        wanted = jax.jit(function)(*map(jax.numpy.asarray, arrays))
        pairs = zip(jax.tree.leaves(program(*there)), jax.tree.leaves(wanted), strict=True)
        for y, e in pairs:
            name = function.__name__
            np.testing.assert_allclose(np.asarray(y), e, rtol=2e-5, atol=2e-5, err_msg=name)
        found.append(sent(program))
    return found


if __name__ == "__main__":
    assert jax.device_count() == 4
    chosen = sys.argv[1:]
    told, wrong = {}, []
    for row in every():
        if row.sample is None or (chosen and row.name not in chosen):
            continue
        for kind in KINDS:
            for way in WAYS if inputs(row)[0].ndim > 2 else ("rows", "features", "both"):
                try:
                    sent_there = tried(row, way, kind)
                    told.setdefault(row.name, {})[f"{kind.name} {way}"] = sent_there
                except Exception:  # of any kind: all are told at the end, and fail the process
                    wrong.append(f"{row.name} {kind} {way}: {traceback.format_exc(limit=-3)}")
    for one in wrong:
        print(one, file=sys.stderr)
    print(json.dumps(told))
    sys.exit(bool(wrong))
