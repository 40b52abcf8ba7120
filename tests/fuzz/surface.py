"""What is public, read off the public tables: a new row or name is fuzzed by itself.

`surface()` gives every function and class by its qualified name. One that the fuzz does not call
stands in APART, with the reason; a test holds the two to each other.
"""

import inspect
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import thinned
import thinned.methods

BACKENDS = tuple(name for name in ("numpy", "torch", "jax") if find_spec(name) is not None)

_GIVEN = "thinned makes it and hands it out; nobody calls it"
_BASE = "a base class, which is no layer of its own"
_FRAMEWORK = (
    "a layer's call is the row's function, which is fuzzed; what JAX does with it: tests/jax"
)
_FLEX = "most of its arguments are PyTorch's: tests/torch/attention/test_flex.py"
APART = {
    "thinned.members.calibration.Reliability": _GIVEN,
    "thinned.members.calibration.RiskCoverage": _GIVEN,
    "thinned.members.Prediction": _GIVEN,
    "thinned.members.SequenceMembers": _GIVEN,
    "thinned.numpy.Layer": _BASE,
    "thinned.numpy.Optimizer": _BASE,
    "thinned.numpy.Parameter": _GIVEN,
    "thinned.schedules.Schedule": _BASE,
    "thinned.torch.Clock": _GIVEN,
    "thinned.torch.Finding": _GIVEN,
    "thinned.torch.ModelAudit": _GIVEN,
    "thinned.torch.Report": _GIVEN,
    "thinned.torch.drop_key_mod": _FLEX,
    "thinned.torch.flex_attention": _FLEX,
    "thinned.torch.checkpoint_context": "takes nothing: tests/torch try it under checkpointing",
    "thinned.jax.equinox.Layer": _BASE,
    "thinned.jax.equinox.MultiheadAttention": _FRAMEWORK,
    "thinned.jax.equinox.adopt": _FRAMEWORK,
    "thinned.jax.equinox.made": _FRAMEWORK,
    "thinned.jax.nnx.Calls": _GIVEN,
    "thinned.jax.nnx.Clock": _GIVEN,
    "thinned.jax.nnx.Clocks": _GIVEN,
    "thinned.jax.nnx.Dropout": _FRAMEWORK,
    "thinned.jax.nnx.Layer": _BASE,
    "thinned.jax.nnx.MultiHeadAttention": _FRAMEWORK,
    "thinned.jax.nnx.adopt": _FRAMEWORK,
    "thinned.jax.nnx.made": _FRAMEWORK,
    "thinned.jax.nnx.release": _FRAMEWORK,
    "thinned.jax.nnx.tick": _FRAMEWORK,
    "thinned.jax.nnx.thin": "traces a model: tests/jax/test_jax_thin.py",
    "thinned.jax.equinox.thin": "traces a model: tests/jax/test_jax_thin.py",
    "thinned.jax.Kept": _GIVEN,
    "thinned.jax.dot_product_attention": "jax.nn's arguments: tests/jax/test_jax_attention.py",
    "thinned.jax.audit": "runs a model: tests/jax/test_jax_audit.py",
    "thinned.jax.member": "compiles: tests/members/test_jax_models.py",
    "thinned.jax.window": "speaks inside of shard_map alone: tests/jax/test_jax_sharded.py",
    "thinned.testing.assert_same_masks": "compiles: tests/test_testing.py",
}
# Names that sentences begin with beside those of the surface: methods of the classes.
PARTS = {"find", "every", "draw", "forward", "backward", "step", "load_state_dict", "state_dict"}


def is_there(name):
    """Whether the library is installed that a public name belongs to."""
    return not {"torch", "jax"}.difference(BACKENDS).intersection(name.split(".")[1:2])


ROOMS = {
    name: import_module(name)
    for name in (
        "thinned",
        "thinned.classic",
        "thinned.jax",
        "thinned.jax.equinox",
        "thinned.jax.nnx",
        "thinned.members",
        "thinned.members.calibration",
        "thinned.numpy",
        "thinned.schedules",
        "thinned.testing",
        "thinned.torch",
        "thinned.torch.functional",
    )
    if is_there(name)
}


@cache
def rows():
    """The rows of the catalogue by the qualified name of their function."""
    return {row.where: row for row in thinned.methods.every()}


@cache
def modules():
    """The modules that are made from rows, by qualified name."""
    if "torch" not in BACKENDS:
        return {}
    from thinned.torch.layers.from_rows import made

    return {
        f"thinned.torch.{name}": row_of(name)
        for name, kind in made().items()
        if getattr(thinned.torch, name) is kind
    }


def row_of(module):
    return next(row for row in thinned.methods.every() if row.module == module)


@cache
def surface():
    found = {where: row.function for where, row in rows().items()}
    for room, module in ROOMS.items():
        for name in module.__all__:
            if not is_there(f"{room}.{name}"):
                continue
            value = getattr(module, name)
            if callable(value) and not inspect.ismodule(value):
                found.setdefault(f"{room}.{name}", value)
    found |= {name: getattr(thinned.torch, name.rpartition(".")[2]) for name in modules()}
    found["thinned.methods.find"] = thinned.methods.find
    return dict(sorted(found.items()))


def fuzzed():
    return {name: value for name, value in surface().items() if name not in APART}


@cache
def parameters(name):
    """{parameter: default}, a starred one with its star; of a module made from a row, the row's."""
    if name in modules():
        row = modules()[name]
        p = {"p": 0.3} if row.has_p else {}
        return p | dict(row.options)
    found = inspect.signature(surface()[name]).parameters.values()
    star = {inspect.Parameter.VAR_POSITIONAL: "*"}
    return {star.get(one.kind, "") + one.name: one.default for one in found}
