"""Calls that drop: the arguments of each for p and for the mode, and what is wrong with them.

A call is judged where it stands, and again from each call of the function around it, with what that
call passes: a helper's parameter is known there.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from thinned.audit.binding import bind
from thinned.audit.context import is_mode, is_monte_carlo, is_test_code
from thinned.audit.layers import FLASH, FUNCTIONAL
from thinned.audit.masks import masks_of
from thinned.audit.modes import Says, guard, says
from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.rate import rate
from thinned.audit.source import Called, Source
from thinned.audit.values import Built, Class, Frame, Function

__all__ = ["FUSED", "WITHOUT_MODE", "Drop", "Verdict", "drop_of", "is_chosen", "passed_on", "short"]
__all__ += ["by_hand", "judged", "verdict"]

FUSED = "torch.nn.functional.scaled_dot_product_attention"
# Functions that know no mode, so that the rate must: its place, and the code that tells of it.
_BY_RATE: dict[str, tuple[int, str, str]] = {
    FUSED: (4, "dropout_p", "THN004"),
    **{name: (at, word, "THN005") for name, (at, word) in FLASH.items()},
    "haiku.dropout": (1, "rate", "THN065"),
    "tensorflow.nn.dropout": (1, "rate", "THN083"),
    "keras.random.dropout": (1, "rate", "THN083"),
}
WITHOUT_MODE = frozenset(_BY_RATE)
_DROPPING = frozenset({*FUNCTIONAL, *_BY_RATE})
# Of these a rate that is no parameter is enough; attention's must be seen to be above zero.
_SEEN = frozenset({"THN065", "THN083", "THN012"})
_ASKS = frozenset({"cond", "smart_cond", "in_train_phase", "where", "smart_case", "case"})
_LONGEST = 3  # calls of calls


@dataclass(frozen=True, slots=True)
class Drop:
    """One call that drops. `mode` is what is passed for it; `default` what holds where it is not.

    A call that knows no mode, attention, has `by_rate` set.
    """

    source: Source
    called: Called
    label: str
    p: ast.expr | None
    mode: ast.expr | None
    default: bool | None
    by_rate: bool
    code: str = ""

    @property
    def node(self) -> ast.Call:
        return self.called.node


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong: forgotten, fixed, never, inverted or unguarded."""

    kind: str
    code: str


def short(name: str) -> str:
    """Return a function's name as it is usually written."""
    last = name.rpartition(".")[2]
    for room, begin in (("torch.nn.functional.", "F."), ("torch.", "torch.")):
        if name.startswith(room) and name.count(".") == room.count("."):
            return begin + last
    return last


def drop_of(source: Source, called: Called) -> Drop | None:
    """Return a call as one that drops; None for another, and where arguments are not seen."""
    name = called.name or ""
    facts = FUNCTIONAL.get(name)
    if facts is not None:
        p = called.argument(facts.p, "p", "drop_prob", "dropout_p", "rate")
        mode = called.argument(facts.training, facts.mode)
        if called.open and mode is None:
            return None
        return Drop(source, called, short(name), p, mode, facts.default, False)
    place = _BY_RATE.get(name)
    if place is not None:
        p = called.argument(*place[:2])
        if p is None or (called.open and place[1] not in called.keywords):
            return None
        return Drop(source, called, name.rpartition(".")[2], p, None, None, True, place[2])
    return None


def verdict(drop: Drop, frame: Frame | None = None) -> Verdict | None:
    """Return what is wrong with a call that drops, seen from a call of its function."""
    source, node = drop.source, drop.node
    if is_test_code(source, node) or (drop.p is not None and is_mode(source, drop.p)):
        return None  # of the mode as p THN009 tells
    if isinstance(drop.p, ast.Constant) and isinstance(drop.p.value, bool):
        return None
    if drop.by_rate:
        return _by_rate(drop, frame)
    above_zero = Says.ALWAYS if drop.p is None else rate(source, drop.p, frame)
    if above_zero in (Says.NEVER, Says.TRAINING, Says.MAYBE):
        return None
    mode = _mode(drop, frame)
    if mode is Says.EVALUATION:
        return Verdict("inverted", "THN013")
    if mode is Says.NEVER:
        return Verdict("never", "THN003")
    if mode is not Says.ALWAYS:
        return None
    if above_zero is Says.EVALUATION:
        return Verdict("inverted", "THN013")
    if above_zero is Says.NOTHING and not _is_seen(source, drop.p, frame):
        return None
    if source.value(drop.p) == 1 or is_monte_carlo(source, node):
        return None
    stands = guard(source, node, frame)
    if stands is Says.NOTHING:
        fixed = drop.mode is not None
        return Verdict("fixed" if fixed else "forgotten", "THN002" if fixed else "THN001")
    if stands is Says.EVALUATION and drop.mode is None:
        return Verdict("inverted", "THN013")
    return None


def _mode(drop: Drop, frame: Frame | None) -> Says:
    if drop.mode is not None:
        return says(drop.source, drop.mode, frame)
    if drop.default is None:
        return Says.NOTHING
    return Says.ALWAYS if drop.default else Says.NEVER


def _is_seen(source: Source, p: ast.expr | None, frame: Frame | None) -> bool:
    """Whether p is no parameter whose value a caller brings: an attribute, a setting, a sum."""
    if isinstance(p, ast.BinOp) and isinstance(p.op, ast.Sub):
        return _is_seen(source, p.right, frame)  # 1 - keep
    if not isinstance(p, ast.Name):
        return True
    found = source.names.lookup(p.id, source.scope(p))
    if found is None or not any(b.kind == "parameter" for b in found[1]):
        return True
    if getattr(found[0].owner, "name", "") == "__init__":
        return True  # a lambda or function in it: a setting of the module
    if frame is None or frame.function is not found[0].owner or p.id not in frame.given:
        return False
    given = frame.given[p.id]
    return _is_seen(source.home(given) or source, given, frame.outer)


def _by_rate(drop: Drop, frame: Frame | None) -> Verdict | None:
    source, node = drop.source, drop.node
    code = drop.code
    said = rate(source, drop.p, frame)
    if said is Says.NOTHING and code in _SEEN and _is_seen(source, drop.p, frame):
        said = Says.ALWAYS
    if said not in (Says.ALWAYS, Says.EVALUATION) or is_chosen(source, node):
        return None
    stands = guard(source, node, frame)
    if said is Says.EVALUATION or stands is Says.EVALUATION:
        return Verdict("inverted", "THN013")
    if stands is not Says.NOTHING or is_monte_carlo(source, node):
        return None
    return Verdict("unguarded", code)


def is_chosen(source: Source, node: ast.AST) -> bool:
    """Say whether a call is handed to one that asks for the mode: tf.cond, in_train_phase."""
    for at in source.above(node):
        if isinstance(at, ast.Call):
            name = (
                at.func.attr if isinstance(at.func, ast.Attribute) else getattr(at.func, "id", "")
            )
            if name in _ASKS:
                return True
        if isinstance(at, ast.stmt):
            function = source.function_of(node)
            uses = [] if function is None else source.loads.get(function.name, ())
            return any(
                isinstance(up, ast.Call)
                and getattr(up.func, "attr", getattr(up.func, "id", "")) in _ASKS
                for use in uses
                for up in source.above(use)
            )
    return False


# ----------------------------------------------------------------------- through calls of helpers


@once
def drops_in(source: Source) -> dict[ast.AST, list[Drop]]:
    """Return the calls that drop of a file, by the function that they stand in."""
    found: dict[ast.AST, list[Drop]] = defaultdict(list)
    for made in _named(source):
        function = next((a for a in source.above(made.node) if isinstance(a, _FUNCTIONS)), None)
        if function is not None:
            found[function].append(made)
    for made in by_hand(source):
        function = source.function_of(made.node)
        if function is not None:
            found[function].append(made)
    return found


@once
def _named(source: Source) -> list[Drop]:
    """The calls of a file that drop, of functions that are known by name."""
    drops = (drop_of(source, called) for called in source.calls_of(_DROPPING))
    return [drop for drop in drops if drop is not None]


@once
def judged(source: Source) -> list[tuple[Drop, Verdict]]:
    """Return the calls of functions known by name that drop, and are wrong in themselves."""
    verdicts = ((drop, verdict(drop)) for drop in _named(source))
    return [(drop, found) for drop, found in verdicts if found is not None]


def _is_used_guarded(source: Source, place: ast.AST) -> bool:
    """Whether a mask has a name, and is applied in one mode only."""
    statement = source.statement_of(place)
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return False
    name, function = statement.targets[0].id, source.function_of(statement)
    uses = [u for u in source.loads.get(name, ()) if source.function_of(u) is function]
    return bool(uses) and all(
        guard(source, use, around=False) is not Says.NOTHING
        for use in uses
        if source.statement_of(use) is not statement
    )


@once
def by_hand(source: Source) -> list[Drop]:
    """Return the masks that are drawn by hand, as calls that know no mode."""
    found: list[Drop] = []
    for mask in masks_of(source):
        if guard(source, mask.place) is Says.NOTHING and not _is_used_guarded(source, mask.place):
            called, label = source.called(mask.node), "A mask drawn by hand"
            found.append(Drop(source, called, label, mask.p, None, None, True, "THN012"))
    return found


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@once
def passed_on(source: Source) -> list[tuple[ast.AST, Drop, Verdict, bool]]:
    """Return what calls of the tree's own functions make of the calls that drop inside.

    The last says whether what is wrong was passed by the call, and is no default of the function.
    """
    return [
        hit
        for call in source.calls
        if isinstance(source.called(call).target, (Function, Built))
        for hit in _of_call(source, call, None, 1)
    ]


def _of_call(
    source: Source, call: ast.Call, outer: Frame | None, depth: int
) -> Iterator[tuple[ast.AST, Drop, Verdict, bool]]:
    called = source.called(call)
    target, skip = called.target, 0
    if isinstance(target, Function):
        skip = target.skip
    elif isinstance(target, Built) and isinstance(target.kind, Class):
        family = list(target.kind.info.family())
        method = next(
            (m.methods[n] for m in family for n in ("forward", "__call__") if n in m.methods), None
        )
        if method is None:
            return
        home = next(m.source for m in family if method in m.methods.values())
        target, skip = Function(home, method, 1), 1
    else:
        return
    frame = bind(target.node, called, skip, outer)
    if frame is None or not _holds(target):
        return
    for drop in drops_in(target.source).get(target.node, ()):
        if verdict(drop) is not None:
            continue  # told where it stands
        found = verdict(drop, frame)
        if found is None or is_monte_carlo(source, call) or is_test_code(source, call):
            continue
        if found.kind != "inverted" and guard(source, call) is not Says.NOTHING:
            continue
        yield call, drop, found, _is_passed(drop, frame)
    if depth < _LONGEST:
        for inner in _calls_in(target):
            for _, drop, found, passed in _of_call(target.source, inner, frame, depth + 1):
                stands = guard(source, call) if found.kind != "inverted" else Says.NOTHING
                if passed and drop.node is not call and stands is Says.NOTHING:
                    yield call, drop, found, passed


def _holds(target: Function) -> bool:
    """Whether a function, or one that it calls by a plain name, may drop."""
    return bool(drops_in(target.source)) or bool(target.source.met)


@once
def _handing(_: Source) -> dict[ast.AST, list[ast.Call]]:
    """What _calls_in has found of the functions of a file."""
    return {}


def _calls_in(target: Function) -> list[ast.Call]:
    """The calls of the tree's functions inside one, that hand its parameters on."""
    kept = _handing(target.source)
    found = kept.get(target.node)
    if found is None:
        parameters = {a.arg for a in (*target.node.args.args, *target.node.args.kwonlyargs)}
        found = kept[target.node] = [
            node
            for node in walk(target.node)
            if isinstance(node, ast.Call)
            and isinstance(node.func, (ast.Name, ast.Attribute))
            and any(
                isinstance(a, ast.Name) and a.id in parameters
                for a in (*node.args, *(k.value for k in node.keywords))
            )
            and isinstance(target.source.called(node).target, Function)
        ][:8]
    return found


def _is_passed(drop: Drop, frame: Frame) -> bool:
    names = {
        n.id
        for part in (drop.p, drop.mode)
        if part is not None
        for n in walk(part)
        if isinstance(n, ast.Name)
    }
    return bool(names & set(frame.given))
