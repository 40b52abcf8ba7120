"""The mode: what an expression says of it, and what a branch implies.

TRAINING stands for what holds in training alone, EVALUATION for what holds in evaluation alone;
MAYBE of what speaks of the mode in a way that is not followed: rules leave that alone.
"""

from __future__ import annotations

import ast
from enum import Enum

from thinned.audit.binding import default_of
from thinned.audit.nodes import children, walk
from thinned.audit.source import ClassInfo, Source, is_self
from thinned.audit.values import Frame
from thinned.audit.words import may_be_mode, mode_by_name, stage_by_word, words_of

__all__ = ["SETTERS", "SURE", "Says", "branch", "flipped", "guard", "implied", "mentions", "says"]

_DEPTH = 6
SETTERS = frozenset({"__init__", "reset_parameters", "setup", "build", "__post_init__"})
_TRAINS = frozenset({"train", "training", "fit", "finetune"})


class Says(Enum):
    """What is known of the mode, or of a rate."""

    TRAINING = "in training alone"
    EVALUATION = "in evaluation alone"
    ALWAYS = "in every mode"
    NEVER = "in no mode"
    MAYBE = "it speaks of the mode"
    NOTHING = "nothing is known"


_FLIPPED = {
    Says.TRAINING: Says.EVALUATION,
    Says.EVALUATION: Says.TRAINING,
    Says.ALWAYS: Says.NEVER,
    Says.NEVER: Says.ALWAYS,
}
_BY_SIGN = {1: Says.TRAINING, -1: Says.EVALUATION, 0: Says.NOTHING}
SURE = (Says.TRAINING, Says.EVALUATION)


def flipped(said: Says) -> Says:
    """Return what the contrary says."""
    return _FLIPPED.get(said, said)


def says(
    source: Source, node: ast.expr | None, frame: Frame | None = None, depth: int = _DEPTH
) -> Says:
    """Return in which mode an expression is true."""
    if node is None or depth <= 0:
        return Says.NOTHING
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            return Says.ALWAYS if node.value else Says.NEVER
        return Says.NOTHING
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return flipped(says(source, node.operand, frame, depth - 1))
    if isinstance(node, ast.Name):
        return _name(source, node, frame, depth)
    if isinstance(node, ast.Attribute):
        return _attribute(source, node, frame, depth)
    if isinstance(node, ast.Compare):
        return _comparison(source, node, frame, depth)
    if isinstance(node, ast.BoolOp):
        return _boolean(source, node, frame, depth)
    if isinstance(node, ast.IfExp):
        return _chosen(source, node, frame, depth)
    if (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and isinstance(node.left, ast.Constant)
        and node.left.value in (1, 1.0)
    ):
        return flipped(says(source, node.right, frame, depth - 1))
    if isinstance(node, ast.NamedExpr):
        return says(source, node.value, frame, depth - 1)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("bool", "int", "float"):
            return says(source, node.args[0], frame, depth - 1) if node.args else Says.NOTHING
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "learning_phase":
            return Says.TRAINING
    return Says.MAYBE if mentions(node) else Says.NOTHING


def mentions(node: ast.AST) -> bool:
    """Whether a word of the mode stands in an expression: as a name, a last attribute, a string."""
    waiting: list[ast.AST] = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, ast.Attribute):
            if may_be_mode(at.attr):
                return True
            if not isinstance(at.value, (ast.Name, ast.Attribute)):
                waiting.append(at.value)
            continue  # what stands before the last dot is only where it is kept
        if isinstance(at, ast.Name):
            if may_be_mode(at.id):
                return True
            continue
        if isinstance(at, ast.Constant):
            if isinstance(at.value, str) and stage_by_word(at.value):
                return True
            continue
        waiting.extend(children(at))
    return False


def _name(source: Source, node: ast.Name, frame: Frame | None, depth: int) -> Says:
    home = source.home(node) or source
    found = home.names.lookup(node.id, home.scope(node))
    by_name = _BY_SIGN[mode_by_name(node.id)]
    if found is None:
        return by_name if by_name in SURE else _maybe(node.id)
    where, bindings = found
    if any(b.kind == "parameter" for b in bindings):
        if frame is not None and frame.function is where.owner and len(bindings) == 1:
            given = frame.given.get(node.id)
            if given is not None:
                return says(source, given, frame.outer, depth - 1)
            said = says(source, default_of(where.owner, node.id), None, depth - 1)
            return said if said is not Says.NOTHING else by_name
        return by_name if by_name in SURE else _maybe(node.id)
    reached = home.interpreter.reaching.of(node, where, bindings)
    if len(reached) == 1 and reached[0].kind == "value":
        value = reached[0].node
        inner = frame if frame is not None and frame.function is where.owner else None
        said = says(source, value if isinstance(value, ast.expr) else None, inner, depth - 1)
        if said in (Says.ALWAYS, Says.NEVER) and where.owner is home.tree:
            return Says.MAYBE if may_be_mode(node.id) else said  # IS_TRAINING: a switch of the file
        if said is not Says.NOTHING:
            return said
    elif any(_depends(source, b.node, depth - 1) for b in reached):
        return Says.MAYBE
    return by_name if by_name in SURE else _maybe(node.id)


def _depends(source: Source, node: ast.AST | None, depth: int) -> bool:
    if not isinstance(node, ast.expr) or depth <= 0:
        return False
    return says(source, node, None, depth) in (*SURE, Says.MAYBE) or (
        guard(source, node, around=False) is not Says.NOTHING
    )


def _maybe(name: str) -> Says:
    return Says.MAYBE if may_be_mode(name) else Says.NOTHING


def _attribute(source: Source, node: ast.Attribute, frame: Frame | None, depth: int) -> Says:
    if node.attr == "training":
        # `self.training`, `module.training`: the flag of a module; `cfg.training` is one by name.
        return Says.TRAINING
    by_name = _BY_SIGN[mode_by_name(node.attr)]
    if is_self(node.value):
        info = source.class_of(node)
        said = _of_self(source, info, node.attr, depth)
        if said is not None:
            return said
    if isinstance(node.value, ast.Name) and may_be_mode(node.value.id):
        # ModeKeys.TRAIN, Mode.EVAL; and rates.train may well be a number
        return Says.MAYBE
    if is_self(node.value) or by_name is not Says.TRAINING:
        return by_name if by_name in SURE else _maybe(node.attr)
    return by_name if node.attr not in ("train", "eval") else Says.MAYBE


def _of_self(source: Source, info: ClassInfo | None, name: str, depth: int) -> Says | None:
    """What an attribute that the class itself sets says; None where the class does not set it."""
    for member in info.family() if info is not None else ():
        method = member.methods.get(name)
        if method is not None:
            returns = [n for n in walk(method) if isinstance(n, ast.Return)]
            if len(returns) == 1 and method.decorator_list:
                return says(member.source, returns[0].value, None, depth - 1)
            return None
        places = member.at.get(name)
        if not places:
            continue
        given = member.given[name]
        only_built = all(
            (f := member.source.function_of(place)) is not None and f.name in SETTERS
            for place in places
        )
        written = [a for a in member.source.attributes[name] if isinstance(a.ctx, ast.Store)]
        if len(given) == 1 and only_built and len(written) == 1:
            if _is_left_true(member, given[0]):
                return Says.ALWAYS
            said = says(member.source, given[0], None, depth - 1)
            if said in (Says.ALWAYS, Says.NEVER) and not _is_switch(member, name):
                return said
            if said in SURE:
                return said
        return None
    return None


def _is_left_true(info: ClassInfo, given: ast.expr | None) -> bool:
    """Whether a flag of a module's own is an argument that is true by default, and that all who
    build the module leave so: eval() does not reach it."""
    source = info.source
    init = info.methods.get("__init__")
    if not isinstance(given, ast.Name) or init is None or not _has_eval(info):
        return False
    if source.value(default_of(init, given.id)) is not True:
        return False
    place = [a.arg for a in (*init.args.posonlyargs, *init.args.args)]
    at = place.index(given.id) - 1 if given.id in place else None
    for call in source.calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        names = {name, *(keyword.arg for keyword in call.keywords)}
        if names & {info.node.name, "__init__", given.id}:
            called = source.called(call)
            if called.open or called.argument(at, given.id) is not None:
                return False
    return True


def _has_eval(info: ClassInfo) -> bool:
    """Whether a class is a module of PyTorch, whose eval() sets the mode."""
    return any(base == "torch.nn.Module" for member in info.family() for base in member.bases)


def _is_switch(info: ClassInfo, name: str) -> bool:
    """Whether another file may well set the flag: `model.is_training = False`."""
    return (
        any(
            isinstance(call.func, ast.Name) and call.func.id == "setattr"
            for call in info.source.calls
        )
        or name.isupper()
    )


def _comparison(source: Source, node: ast.Compare, frame: Frame | None, depth: int) -> Says:
    if len(node.ops) != 1:
        return Says.MAYBE if mentions(node) else Says.NOTHING
    left, op, right = node.left, node.ops[0], node.comparators[0]
    equal = isinstance(op, (ast.Eq, ast.Is, ast.In))
    if not equal and not isinstance(op, (ast.NotEq, ast.IsNot, ast.NotIn)):
        return Says.NOTHING
    value = right.value if isinstance(right, ast.Constant) else None
    said = Says.NOTHING
    if isinstance(value, bool):
        said = says(source, left, frame, depth - 1)
        said = said if value else flipped(said)
    else:
        signs = {_stage(option) for option in _options(right)}
        subject = left.attr if isinstance(left, ast.Attribute) else getattr(left, "id", "")
        words = set(words_of(subject)) if isinstance(subject, str) else set()
        # task == "retrieval" is no question of the mode, mode == "train" is.
        if len(signs) == 1 and words & {"mode", "phase", "stage", "split", "subset", "state"}:
            said = _BY_SIGN[signs.pop()]
        if said is Says.NOTHING:
            return Says.MAYBE if mentions(node) else Says.NOTHING
    return said if equal else flipped(said)


def _options(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]


def _stage(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return stage_by_word(node.value)
    return stage_by_word(node.attr) if isinstance(node, ast.Attribute) else 0


def _boolean(source: Source, node: ast.BoolOp, frame: Frame | None, depth: int) -> Says:
    parts = [says(source, value, frame, depth - 1) for value in node.values]
    if isinstance(node.op, ast.And):
        if Says.NEVER in parts:
            return Says.NEVER
        found = {p for p in parts if p in SURE}
        if len(found) == 1:
            return found.pop()
    else:
        found = set(parts) - {Says.NEVER}
        if len(found) == 1 and found <= set(SURE):
            return found.pop()
    if any(p in (*SURE, Says.MAYBE) for p in parts):
        return Says.MAYBE
    if all(p is Says.ALWAYS for p in parts):
        return Says.ALWAYS
    return Says.NOTHING


def _chosen(source: Source, node: ast.IfExp, frame: Frame | None, depth: int) -> Says:
    test = says(source, node.test, frame, depth - 1)
    yes = says(source, node.body, frame, depth - 1)
    no = says(source, node.orelse, frame, depth - 1)
    if yes is Says.ALWAYS and no is Says.NEVER:
        return test
    if yes is Says.NEVER and no is Says.ALWAYS:
        return flipped(test)
    if yes is no:
        return yes
    # training if training is not None else self.training
    if {yes, no} <= {Says.TRAINING, Says.ALWAYS} or {yes, no} <= {Says.EVALUATION, Says.NEVER}:
        return yes if yes in SURE else no
    known = (test, yes, no)
    return Says.MAYBE if any(p in (*SURE, Says.MAYBE) for p in known) else Says.NOTHING


def implied(
    source: Source, test: ast.expr, truth: bool, frame: Frame | None = None, depth: int = _DEPTH
) -> Says:
    """Return the mode that is sure where a condition came out true, or false."""
    if depth <= 0:
        return Says.NOTHING
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return implied(source, test.operand, not truth, frame, depth - 1)
    if isinstance(test, ast.BoolOp):
        parts = [implied(source, v, truth, frame, depth - 1) for v in test.values]
        sure = {p for p in parts if p in SURE}
        every = isinstance(test.op, ast.And) is truth  # each part came out so
        if len(sure) == 1 and (every or len(sure | set(parts)) == 1):
            return sure.pop()
        return Says.MAYBE if sure or Says.MAYBE in parts else Says.NOTHING
    said = says(source, test, frame, depth)
    if said in SURE:
        return said if truth else flipped(said)
    return Says.MAYBE if said is Says.MAYBE else Says.NOTHING


# ------------------------------------------------------------------------------------ branches


def guard(
    source: Source, node: ast.AST, frame: Frame | None = None, *, around: bool = True
) -> Says:
    """Return the mode in which a node runs, as far as branches and its function's uses tell."""
    home = source.home(node) or source
    found = branch(home, node, frame)
    if found is not Says.NOTHING or not around:
        return found
    function = home.function_of(node)
    if function is None:
        return Says.NOTHING
    for outer in home.functions_of(node):
        words = words_of(outer.name)
        if words and words[0] in _TRAINS and outer.name != "train":
            return Says.TRAINING  # training_step and the like
    uses: list[ast.AST] = [a for a in home.attributes.get(function.name, ()) if is_self(a.value)]
    if home.class_of(function) is None:
        uses = list(home.loads.get(function.name, ()))
    modes = {branch(home, use, None) for use in uses}
    if not modes or Says.NOTHING in modes:
        return Says.NOTHING
    return modes.pop() if len(modes) == 1 else Says.MAYBE


def branch(source: Source, node: ast.AST, frame: Frame | None) -> Says:
    maybe = False
    child: ast.AST = node
    for at in [node, *source.above(node)]:
        said = Says.NOTHING
        if (
            isinstance(at, (ast.If, ast.IfExp, ast.While))
            and child is not at.test
            and at is not node
        ):
            yes = at.body
            truth = child in yes if isinstance(yes, list) else child is yes
            if not (isinstance(at, ast.While) and not truth):
                said = implied(source, at.test, truth, frame)
        elif isinstance(at, ast.BoolOp) and at is not node and child in at.values:
            # What stands behind it counts too: a draw that the other part outweighs is none.
            for other in (value for value in at.values if value is not child):
                truth = isinstance(at.op, ast.And)
                said = implied(source, other, truth, frame)
                if said is not Says.NOTHING:
                    break
        elif isinstance(at, ast.comprehension):
            pass
        if said in SURE:
            return said
        maybe |= said is Says.MAYBE
        if isinstance(at, ast.stmt) and not isinstance(
            at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ):
            said = _left_early(source, at, frame)
            if said in SURE:
                return said
            maybe |= said is Says.MAYBE
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and at is not node:
            break
        child = at
    return Says.MAYBE if maybe else Says.NOTHING


def _left_early(source: Source, statement: ast.stmt, frame: Frame | None) -> Says:
    """What is sure because `if not self.training: return` stands before a statement."""
    block, place = source.block_of(statement)
    first = source.left_at.get(id(block))
    if first is None:
        leaving = (i for i, s in enumerate(block) if _may_leave(s))
        first = source.left_at[id(block)] = next(leaving, len(block))
    maybe = False
    for at in range(first, place):
        earlier = block[at]
        if isinstance(earlier, ast.If) and _may_leave(earlier):
            said = implied(source, earlier.test, False, frame)
            if said in SURE:
                return said
            maybe |= said is Says.MAYBE
        elif isinstance(earlier, ast.Assert):
            said = implied(source, earlier.test, True, frame)
            if said in SURE:
                return said
    return Says.MAYBE if maybe else Says.NOTHING


def _may_leave(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assert):
        return True
    return isinstance(statement, ast.If) and isinstance(
        statement.body[-1], (ast.Return, ast.Raise, ast.Continue)
    )
