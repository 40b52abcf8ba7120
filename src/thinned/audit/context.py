"""What surrounds a call: guards by the mode, the kind of function, the kind of class."""

from __future__ import annotations

import ast
import re

from thinned.audit.layers import MODULES
from thinned.audit.source import ClassInfo, Source, is_self

__all__ = [
    "default_of",
    "is_evaluation",
    "is_guarded",
    "is_mode",
    "is_module",
    "is_monte_carlo",
    "is_test_code",
    "mentions",
    "mentions_mode",
]

# Words by which code asks for the mode. Broad: a guard that is one in name is left alone.
_MODE = re.compile(r"(?i)train|infer|determin|eval|is_test|_mode$|^mode$|^stage$|^phase$")
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
_MONTE_CARLO = re.compile(
    r"(?i)(?:^|_)mc(?:_|$|[A-Z])|mcd|monte|carlo|bayes|uncertain|stochastic|sampl|ensembl|always"
    r"|perturb|augment|nois|epistemic|simcse|rdrop|r_drop|MC"
)
_EVALUATION = re.compile(
    r"(?i)^_*(?:do_|run_|compute_|get_|make_|model_|epoch_)?"
    r"(?:eval|evaluate|evaluation|validate|validation|valid|val|test|predict|prediction|infer"
    r"|inference|score)"
    r"(?:_(?:step|epoch|loop|model|net|network|one_epoch|fn|func|function|batch|loss|acc|accuracy"
    r"|proba|on\w*|dataset|loader|set|split|metrics|logits|classes|all|once|for_\w+))?_*$"
)
_TRAINING = re.compile(r"(?i)^_*(?:train|training|fit)(?:_|$)")
_TEST_FILE = re.compile(r"(?:^|[/\\])(?:test_[^/\\]*|[^/\\]*_test|conftest)\.py$")


def mentions(node: ast.AST | None, pattern: re.Pattern[str]) -> bool:
    """Say whether a name, attribute, keyword or string inside an expression matches."""
    if node is None:
        return False
    for inner in ast.walk(node):
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


def mentions_mode(source: Source, node: ast.AST | None, depth: int = 4) -> bool:
    """Say whether an expression depends on the mode, seen through what local names are given."""
    if node is None:
        return False
    if mentions(node, _MODE):
        return True
    if depth == 0:
        return False
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            found = source.names.lookup(inner.id, source.scope(inner))
            for binding in found[1] if found is not None else ():
                made = binding.node if binding.kind == "value" else None
                if made is None or made is node:
                    continue
                if mentions_mode(source, made, depth - 1) or _branches_on_mode(source, made):
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


def default_of(owner: ast.AST, name: str) -> ast.expr | None:
    """Return the default of a function's parameter; None where it has none."""
    if not isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return None
    arguments = owner.args
    plain = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(reversed(plain), reversed(arguments.defaults), strict=False))
    pairs += [
        (a, d)
        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if d is not None
    ]
    return next((default for arg, default in pairs if arg.arg == name), None)


def _branches_on_mode(source: Source, node: ast.AST) -> bool:
    """Say whether a node stands in a branch that the mode chooses."""
    child = node
    for at in source.above(node):
        if isinstance(at, (ast.If, ast.IfExp, ast.While)) and child is not at.test:
            if mentions(at.test, _MODE):
                return True
        elif (
            isinstance(at, ast.BoolOp)
            and any(mentions(v, _MODE) for v in at.values if v is not child)
        ) or (isinstance(at, ast.stmt) and _left_early(source, at)):
            return True
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        child = at
    return False


def _left_early(source: Source, statement: ast.stmt) -> bool:
    """Say whether `if not self.training: return` stands before a statement."""
    block, place = source.block_of(statement)
    first = source.left_at.get(id(block))
    if first is None:
        leaving = (i for i, s in enumerate(block) if _leaves_by_mode(s))
        first = source.left_at[id(block)] = next(leaving, len(block))
    return first < place


def _leaves_by_mode(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.body[-1], (ast.Return, ast.Raise, ast.Continue))
        and mentions(statement.test, _MODE)
    )


def is_guarded(source: Source, node: ast.AST) -> bool:
    """Say whether a node runs in one mode only, as far as names tell.

    It stands in such a branch, or all calls of its function in the file do, or the function trains.
    """
    statement = source.statement_of(node)
    if statement is not None and _left_early(source, statement):
        return True
    if _branches_on_mode(source, node):
        return True
    function = source.function_of(node)
    if function is None:
        return False
    if any(_TRAINING.match(f.name) for f in source.functions_of(node)):
        return True  # training_step and the like
    uses: list[ast.AST] = [a for a in source.attributes.get(function.name, ()) if is_self(a.value)]
    if source.class_of(function) is None:
        uses = list(source.loads.get(function.name, ()))
    return bool(uses) and all(_branches_on_mode(source, use) for use in uses)


def _around(source: Source, node: ast.AST) -> list[str]:
    at = [node, *source.above(node)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [a.name for a in at if isinstance(a, kinds)]


def is_monte_carlo(source: Source, node: ast.AST) -> bool:
    """Say whether a function or class around a node says that it wants draws in evaluation."""
    return any(_MONTE_CARLO.search(name) for name in _around(source, node))


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
    return any(
        base in MODULES or (base or "").startswith(("torch.nn.", "thinned.torch."))
        for member in info.family()
        for base in member.bases
    )
