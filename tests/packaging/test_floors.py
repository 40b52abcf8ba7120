"""The house: who may import whom. Imports in functions and for types count as all others."""

import pytest
from packaging_imports import circles, imports

# From the ground up. A file imports files of its own floor and of those below it.
FLOORS = (
    (
        "philox",
        "checks",
        "foreign_arguments",
        "errors",
        "printable",
        "traced",
        "version",
        "pages",
        "_later",
    ),
    ("address", "window", "kernel", "laws", "reference"),
    ("backends",),
    ("schedules", "methods"),
    ("classic", "numpy", "jax", "torch", "keras"),
    ("members", "estimators"),
    ("fit", "audit", "report", "testing", "testing_plugin"),
    ("cli", "__main__"),
)
# The same within the room of PyTorch, which has rooms of its own.
TORCH = (
    ("compat",),
    ("dropin",),
    ("attention", "fused"),
    ("clock",),
    ("adoption",),
    ("layers", "rnn", "thinning"),
    ("auditing", "frameworks"),
    ("lightning", "transformers"),
)
# Files that stand for a whole room: what users import, and what loads it.
DOORS = {"thinned", "thinned.torch", "thinned.torch.functional"}


def floor(name, floors, at):
    room = name.split(".")[at]
    found = [height for height, rooms in enumerate(floors) if room in rooms]
    assert found, f"{name} stands on no floor: add its room to FLOORS in {__file__}"
    return found[0]


def upward(arrows, floors=FLOORS, prefix="thinned."):
    at = prefix.count(".")
    return sorted(
        f"{name} -> {other}"
        for name, others in arrows.items()
        for other in others
        if name.startswith(prefix) and other.startswith(prefix) and not {name, other} & DOORS
        if floor(name, floors, at) < floor(other, floors, at)
    )


def test_no_import_points_upward():
    assert upward(imports()) == []


def test_no_import_points_upward_within_the_room_of_pytorch():
    assert upward(imports(), TORCH, "thinned.torch.") == []


def test_no_circle_of_imports():
    assert circles(imports()) == []


# ---------------------------------------------------------------------------------- planted faults


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("thinned.address", "thinned.backends.jax.address"),
        ("thinned.backends.numpy", "thinned.methods.alpha"),
        ("thinned.methods.alpha", "thinned.torch.clock.clock"),
        ("thinned.fit.job", "thinned.cli.fit"),
    ],
)
def test_an_upward_arrow_is_named(name, other):
    arrows = imports()
    arrows[name] = arrows[name] | {other}
    assert upward(arrows) == [f"{name} -> {other}"]


def test_an_upward_arrow_within_the_room_of_pytorch_is_named():
    arrows = imports()
    name, other = "thinned.torch.clock.clock", "thinned.torch.adoption.site"
    arrows[name] = arrows[name] | {other}
    assert upward(arrows, TORCH, "thinned.torch.") == [f"{name} -> {other}"]


def test_a_circle_is_named():
    arrows = imports()
    arrows["thinned.checks"] = {"thinned.window"}
    assert circles(arrows) == [["thinned.checks", "thinned.window"]]


def test_a_room_without_a_floor_is_named():
    with pytest.raises(AssertionError, match=r"thinned\.attic stands on no floor"):
        upward({"thinned.attic": {"thinned.checks"}})
