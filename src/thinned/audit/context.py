"""What surrounds a call: guards by the mode, the kind of function, the kind of class."""

from __future__ import annotations

import ast
import re

from thinned.audit.binding import default_of
from thinned.audit.layers import MODULES
from thinned.audit.modes import Says, guard
from thinned.audit.nodes import walk
from thinned.audit.source import ClassInfo, Source, is_self
from thinned.audit.words import draws_by_name, mode_by_name

__all__ = [
    "is_evaluation",
    "is_guarded",
    "is_in_model",
    "is_mode",
    "is_model_class",
    "is_module",
    "is_module_base",
    "is_monte_carlo",
    "is_test_code",
    "mentions",
]

# The mode itself, by its usual names; after a dot only those that are no name of anything else
# (`rates.train` may well be a number).
_IS_MODE = re.compile(
    r"(?i)^_?(?:(?:is|in|do|use)_?)?(?:train(?:ing)?(?:_?(?:mode|phase|flag))?|is_?eval(?:uating)?"
    r"|eval_?mode|mode|inference|deterministic|phase_train|test_?mode)$"
)
_IS_MODE_OF = re.compile(
    r"(?i)^_?(?:(?:is|in)_?train(?:ing)?|training|train(?:ing)?_?(?:mode|phase|flag)|inference"
    r"|deterministic|is_?eval)$"
)
_BOOLEAN = frozenset({"bool", "isinstance", "hasattr", "callable"})
_NUMBER = frozenset({"float", "int"})
_EVALUATION = re.compile(
    r"(?i)^_*(?:do_|run_|compute_|get_|check_|make_|model_|epoch_)?"
    r"(?:eval|evaluate|accuracy|estimate_loss|evaluation|validate|validation|valid|val|test|predict|prediction|infer"
    r"|inference|score)"
    r"(?:_(?:step|epoch|loop|model|net|network|one_epoch|fn|func|function|batch|loss|acc|accuracy"
    r"|proba|on\w*|dataset|loader|set|split|metrics|logits|classes|all|once|for_\w+))?_*$"
)
_ON_PURPOSE = re.compile(
    r"(?i)monte[ -]?carlo|mc[ -]dropout|(?:at|during|in|for) (?:inference|test)|test[ -]time drop"
    r"|dropout (?:is )?always|always (?:apply|applies|applied|on|active)|bayesian"
)
_KERAS = ("keras.layers.Layer", "keras.Model", "keras.Layer")
_TEST_FILE = re.compile(r"(?:^|[/\\])(?:test_[^/\\]*|[^/\\]*_test|conftest)\.py$")


def mentions(node: ast.AST | None, pattern: re.Pattern[str]) -> bool:
    """Say whether a name, attribute, keyword or string inside an expression matches."""
    if node is None:
        return False
    for inner in walk(node):
        word: object = None
        if isinstance(inner, ast.Name):
            word = inner.id
        elif isinstance(inner, ast.Attribute):
            word = inner.attr
        elif isinstance(inner, ast.keyword):
            word = inner.arg
        elif isinstance(inner, ast.Constant):
            word = inner.value
        if isinstance(word, str) and pattern.search(word):
            return True
    return False


def is_mode(source: Source, node: ast.expr | None, depth: int = 4) -> bool:
    """Say whether an expression is the mode itself, or another truth value, and so no number.

    `p * training`, `p if training else 0.0` and `training and p` are numbers. So may False be: the
    usual default of a rate that callers pass.
    """
    if node is None or depth == 0:
        return False
    if source.value(node) is True:
        return True
    if isinstance(node, ast.Compare) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return True
    if isinstance(node, (ast.Name, ast.Attribute)):
        return _is_named_mode(source, node, depth)
    inner: list[ast.expr] = []
    if isinstance(node, ast.BoolOp):
        inner = node.values
    elif isinstance(node, ast.IfExp):
        inner = [node.body, node.orelse]
        if all(isinstance(source.value(one), bool) for one in inner):
            return True
    elif isinstance(node, ast.NamedExpr):
        inner = [node.value]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        inner = [node.right] if source.value(node.left) == 1 else []
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in _BOOLEAN:
            return True
        inner = node.args[:1] if node.func.id in _NUMBER else []
    return bool(inner) and all(is_mode(source, one, depth - 1) for one in inner)


def _is_named_mode(source: Source, node: ast.Name | ast.Attribute, depth: int) -> bool:
    given = source.given(node)
    if given is not None:
        if isinstance(given, ast.Constant):
            return given.value is True
        if is_mode(source, given, depth - 1):
            return True
        if isinstance(given, (ast.BinOp, ast.IfExp, ast.BoolOp, ast.Call)):
            return False  # a number, or something that is not seen
    if isinstance(node, ast.Attribute):
        pattern = _IS_MODE if is_self(node.value) else _IS_MODE_OF
        return pattern.match(node.attr) is not None
    parameter = _parameter(source, node)
    if parameter is not None:
        default, annotation = parameter
        if isinstance(annotation, ast.Name) and annotation.id == "bool":
            return True
        if annotation is not None or _is_number(source.value(default)):
            return False
    return _IS_MODE.match(node.id) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parameter(source: Source, node: ast.Name) -> tuple[ast.expr | None, ast.expr | None] | None:
    """The default and the annotation of the parameter that a name is; None for another name."""
    found = source.names.lookup(node.id, source.scope(node))
    if found is None or [b.kind for b in found[1]] != ["parameter"]:
        return None
    argument = found[1][0].node
    annotation = argument.annotation if isinstance(argument, ast.arg) else None
    return default_of(found[0].owner, node.id), annotation


def is_guarded(source: Source, node: ast.AST) -> bool:
    """Say whether a node runs in one mode only, as far as the file shows.

    It stands in such a branch, or all calls of its function in the file do, or the function trains.
    """
    return guard(source, node) is not Says.NOTHING


def is_monte_carlo(source: Source, node: ast.AST) -> bool:
    """Say whether a function, class or package around a node is meant to draw in evaluation."""
    if any(draws_by_name(part, False) for part in source.names.package.split(".")):
        return True
    for at in (node, *source.above(node)):
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if draws_by_name(at.name, not isinstance(at, ast.ClassDef)):
                return True
            if _says_so(at):
                return True
    return False


def _says_so(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether the docstring speaks of draws in evaluation."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return isinstance(first.value.value, str) and bool(_ON_PURPOSE.search(first.value.value))
    return False


def is_evaluation(name: str) -> bool:
    """Say whether a function of this name evaluates."""
    return _EVALUATION.match(name) is not None


def is_test_code(source: Source, node: ast.AST) -> bool:
    """Say whether a node belongs to a test, which may call dropout to see what it does."""
    if source.holds_tests and _TEST_FILE.search(source.path):
        return True
    for at in source.above(node):
        if isinstance(at, ast.ClassDef) and any(
            base is not None and base.rpartition(".")[2].endswith("TestCase")
            for base in source.classes[at].bases
        ):
            return True
    return False


def is_module(source: Source, info: ClassInfo | None) -> bool:
    """Say whether a class is a PyTorch module for sure."""
    if info is None:
        return False
    return any(is_module_base(base) for member in info.family() for base in member.bases)


def is_model_class(source: Source, info: ClassInfo | None) -> bool:
    """Say whether a class is a PyTorch module or a layer or model of Keras for sure."""
    if info is None:
        return False
    bases = [base for member in info.family() for base in member.bases]
    return is_module(source, info) or any(base in _KERAS for base in bases)


def is_in_model(source: Source, node: ast.AST) -> bool:
    """Say whether a node runs with a model: in a method of one, or in a function that takes the
    mode. A training step and an evaluation may both call any other function."""
    function, info = source.function_of(node), source.class_of(node)
    if function is None:
        return False
    if info is not None:
        return function.name == "forward" or is_model_class(source, info)
    return any(mode_by_name(a.arg) for a in (*function.args.args, *function.args.kwonlyargs))


def is_module_base(base: str | None) -> bool:
    """Say whether a base that is not read is a PyTorch module."""
    if base is None:
        return False
    return (
        base in MODULES
        or base.startswith(
            ("torch.nn.", "thinned.torch.", "fairseq.models.", "torch_geometric.nn.")
        )
        or (base.startswith("transformers.") and base.endswith("PreTrainedModel"))
    )
