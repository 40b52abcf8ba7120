"""Models traced or exported with their dropout on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit.contents import drops_inside
from thinned.audit.context import is_test_code
from thinned.audit.model_calls import key_of, owner_of, sets_training
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source

__all__ = ["traced"]

_OF_TRAINING = "torch.onnx.TrainingMode.TRAINING"


@rule(
    "THN045",
    "exported-in-training-mode",
    sentence="A model that was just built, and is in training mode, is traced or exported.",
    why="The trace keeps the dropout of training mode: the exported program drops for ever.",
    mend="Call model.eval() before tracing.",
    wrong="model = Net(); torch.jit.trace(model, x)",
    right="model = Net().eval(); torch.jit.trace(model, x)",
)
def traced(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(("torch.onnx.export",)):
        mode = called.argument(None, "training")
        kept = mode is not None and source.resolve(mode) == _OF_TRAINING
        if kept and not is_test_code(source, called.node):
            yield (
                called.node,
                "This export keeps training mode, so dropout stays on in the exported model.",
            )
    for called in source.calls_of(("torch.jit.trace", "torch.export.export")):
        node = called.node
        model = called.argument(0, "func", "mod")
        if model is None or is_test_code(source, node):
            continue
        moved = model.func if isinstance(model, ast.Call) else None
        if isinstance(moved, ast.Attribute) and moved.attr == "eval":
            continue
        inner = _unwrapped(source, model)
        key = key_of(inner)
        said = inner.func if isinstance(inner, ast.Call) else None
        off = isinstance(said, ast.Attribute) and said.attr == "train"
        if off and isinstance(inner, ast.Call) and not sets_training(source, inner):
            continue
        if not _put_to_training(source, node, key):
            made = source.interpreter.of(model)
            if not drops_inside(source, made) and not _is_given(source, model):
                continue
            if key is not None and (_mode_set(source, key, node) or _built_quiet(source, inner)):
                continue
        what = (called.name or "").removeprefix("torch.")
        yield node, f"{what} sees the model in training mode, and keeps its dropout."


def _unwrapped(source: Source, model: ast.expr) -> ast.expr:
    """The model itself, where quantisation is put around it: the mode stays."""
    while isinstance(model, ast.Call) and model.args:
        if not (source.called(model).name or "").endswith("quantization.quantize_dynamic"):
            break
        model = model.args[0]
    return model


def _put_to_training(source: Source, node: ast.Call, key: str | None) -> bool:
    """Whether the last that is said of the mode, in the lines before, is model.train()."""
    statement = source.statement_of(node)
    if statement is None or key is None:
        return False
    block, place = source.block_of(statement)
    for earlier in reversed(block[:place]):
        for inner in walk(earlier):
            func = inner.func if isinstance(inner, ast.Call) else None
            if not isinstance(inner, ast.Call) or not isinstance(func, ast.Attribute):
                continue
            if owner_of(inner) == key and func.attr in ("train", "eval"):
                return func.attr == "train" and sets_training(source, inner)
    return False


def _is_given(source: Source, model: ast.expr) -> bool:
    """Whether a layer that drops is put into a model of a package: model.fc = Sequential(...)."""
    key = key_of(model)
    made = source.given(model)
    if key is None or not isinstance(made, ast.Call) or not source.called(made).name:
        return False
    for attributes in source.attributes.values():
        for attribute in attributes:
            statement = source.parents[attribute]
            if (
                isinstance(attribute.ctx, ast.Store)
                and key_of(attribute.value) == key
                and isinstance(statement, ast.Assign)
                and drops_inside(source, source.interpreter.of(statement.value))
            ):
                return True
    return False


def _built_quiet(source: Source, model: ast.expr) -> bool:
    """Whether eval() stands in the expression that the name was given: Net().to(device).eval()."""
    given = source.given(model)
    return given is not None and any(
        isinstance(n, ast.Attribute) and n.attr in ("eval", "train") for n in walk(given)
    )


def _mode_set(source: Source, key: str, node: ast.Call) -> bool:
    """Whether a mode is set anywhere, but for lines that follow in the same straight function."""
    function = source.function_of(node)
    uses = [
        attribute
        for name in ("eval", "train")
        for attribute in source.attributes.get(name, ())
        if key_of(attribute.value) == key
    ]
    return any(
        source.function_of(use) is not function
        or use.lineno <= node.lineno
        or bool(source.loops_of(node))
        for use in uses
    )
