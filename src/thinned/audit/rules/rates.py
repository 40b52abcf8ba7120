"""The number itself: outside [0, 1], or the probability to keep in place of that to drop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.context import is_mode, is_test_code, mentions
from thinned.audit.handed import handed_on
from thinned.audit.layers import FUNCTIONAL, RATES
from thinned.audit.names import UNKNOWN
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source, is_self

__all__ = [
    "is_tried",
    "is_version_1",
    "is_version_2",
    "keep_for_drop",
    "keep_word",
    "mode_for_rate",
    "out_of_range",
]

# There the word was right once: THN082 tells.
_RENAMED = "tensorflow.nn.dropout"
# Version 1's own, whose later argument rate is the probability to drop there too.
_FIRST = "tensorflow.compat.v1.nn.dropout"

_OF_VERSION_1 = ("placeholder", "Session", "get_variable", "variable_scope", "contrib")

_KEEP = re.compile(
    r"(?i)^(?:(?:\w*_)?keep_?(?:prob|probability|probs|rate|ratio|p|pct|proba)?|p_?keep|prob_?keep"
    r"|(?:\w*_)?survival_?(?:prob|probability|rate)|(?:\w*_)?(?:retain|retention)_?(?:prob|rate|p)"
    r"|keeprate|p_?survive|keep_(?!\w*drop)\w+)$"
)
_DROP = re.compile(
    r"(?i)^(?:(?:\w*_)?drop_?(?:out|path|connect)?_?(?:prob|probability|rate|ratio|p)?|p_?drop(?:out)?"
    r"|(?:\w*_)?pdrop)$"
)


_SWITCH = re.compile(r"(?i)^_?(?:use|enable|with|has|apply|is|do|add)_drop_?(?:out|path)?s?$")


@rule(
    "THN006",
    "probability-out-of-range",
    sentence="A probability to drop is outside [0, 1].",
    why="Flax and Equinox take it in silence and give zeros; PyTorch refuses it, attention only "
    "when it is first called. 50 is a percentage, and 0.5 was meant.",
    mend="Write the probability: 0.5, not 50.",
    wrong="drop = nn.Dropout(50)",
    right="drop = nn.Dropout(0.5)",
)
def out_of_range(source: Source) -> Iterator[Hit]:
    for full, p in _rates(source):
        value = source.value(p)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if not 0 <= value <= 1 and not is_test_code(source, p) and not is_tried(source, p):
            hint = " Is it a percentage?" if 1 < value <= 100 else ""
            name = full.rpartition(".")[2]
            yield p, f"{name}: p must be in [0, 1], and is {value:g}.{hint}"
    for full, p, value in handed_on(source):
        name = full.rpartition(".")[2]
        yield p, f"{name} is given {value:g} here, and takes [0, 1]. Is it a percentage?"


def is_tried(source: Source, node: ast.AST) -> bool:
    """Whether the error is what the code is after: `with pytest.raises(ValueError):`."""
    for at in source.above(node):
        if isinstance(at, (ast.With, ast.AsyncWith)) and any(
            isinstance(item.context_expr, ast.Call)
            and isinstance(item.context_expr.func, ast.Attribute)
            and "raises" in item.context_expr.func.attr.lower()
            for item in at.items
        ):
            return True
    return False


@rule(
    "THN007",
    "keep-probability-as-p",
    sentence="A probability to keep is passed where the probability to drop is expected, or the "
    "other way round.",
    why="keep_prob=0.9 read as p drops nine units in ten: the model trains, badly, and no error "
    "says so.",
    mend="Pass 1 - keep_prob; or, where 1 - drop_prob stands, drop_prob itself.",
    wrong="drop = nn.Dropout(keep_prob)",
    right="drop = nn.Dropout(1 - keep_prob)",
)
def keep_for_drop(source: Source) -> Iterator[Hit]:
    for called in source.calls_of((_FIRST,)):
        p = called.keywords.get("rate")
        word = _turned(source, p)
        if p is not None and word is not None:
            yield p, f"dropout takes the probability to drop as rate: for 1 - {word} pass {word}."
    for full, p in _rates(source):
        name = full.rpartition(".")[2]
        word = keep_word(p)
        if word is not None:
            if full != _RENAMED and not _is_drop_by_callers(source, p, word):
                yield p, f"{name} takes the probability to drop: for {word} pass 1 - {word}."
        elif (word := _turned(source, p)) is not None and (
            full != _RENAMED or not is_version_1(source) or _is_rate(source, p)
        ):
            yield p, f"{name} takes the probability to drop: for 1 - {word} pass {word}."


@rule(
    "THN009",
    "mode-as-probability",
    sentence="The mode is passed where the probability to drop is expected.",
    why="True is taken for p = 1 and False for p = 0: everything is dropped in training, or in "
    "evaluation, and nothing in the other mode.",
    mend="Pass the mode by its name: F.dropout(x, p, training=self.training).",
    wrong="x = F.dropout(x, self.training)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def mode_for_rate(source: Source) -> Iterator[Hit]:
    for full, p in _rates(source):
        name = full.rpartition(".")[2]
        if is_test_code(source, p) or is_tried(source, p):
            continue
        if source.value(p) is True:
            yield p, f"{name} takes p, to drop, and is given True: that is 1, and drops everything."
        elif full in FUNCTIONAL and isinstance(p, ast.Constant) and p.value is False:
            yield p, f"{name} takes p, to drop, and is given False: that is 0, and drops nothing."
        elif is_mode(source, p):
            yield p, f"{name} takes p, to drop, and is given the mode: it drops all or nothing."
        elif _is_switch(source, p):
            yield p, f"{name} takes p, to drop, and is given a switch: True is 1, and drops all."


def _turned(source: Source, p: ast.expr | None) -> str | None:
    """The name of a probability to drop that is taken from 1."""
    if not isinstance(p, ast.BinOp) or not isinstance(p.op, ast.Sub) or source.value(p.left) != 1:
        return None
    word = _word(p.right)
    return word if word is not None and _DROP.match(word) else None


def _is_rate(source: Source, p: ast.expr) -> bool:
    """Whether a probability is given as rate=, which is the one to drop in every version."""
    above = source.parents[p]
    return isinstance(above, ast.keyword) and above.arg == "rate"


def _is_switch(source: Source, p: ast.expr) -> bool:
    """Whether a name asks if there is dropout, and not how much: use_dropout."""
    word = _word(p)
    if word is None or not _SWITCH.match(word):
        return False
    given = source.value(p)
    return given is UNKNOWN or isinstance(given, bool)


def is_version_1(source: Source) -> bool:
    """Say whether a file is written for TensorFlow 1, where keep_prob was right and graphs had a
    mode of their own."""
    return any(word in source.attributes for word in _OF_VERSION_1)


def is_version_2(source: Source) -> bool:
    """Say whether a file uses what only TensorFlow 2 has, or Keras."""
    words = ("keras", "GradientTape", "function", "Module", "v2")
    return any(
        source.resolve(use.value) in ("tensorflow", "tensorflow.compat")
        for word in words
        for use in source.attributes.get(word, ())
    ) or any(
        (binding.target or "").startswith(("keras", "tensorflow.keras"))
        for bindings in source.names.scopes[source.tree].bindings.values()
        for binding in bindings
        if binding.kind == "import"
    )


def _is_drop_by_callers(source: Source, p: ast.expr, word: str) -> bool:
    """Whether a parameter that is named for keeping is given rates to drop by its callers."""
    if not isinstance(p, ast.Name) and not is_self(getattr(p, "value", p)):
        return False
    for call in source.calls:
        for keyword in call.keywords:
            if keyword.arg == word and mentions(keyword.value, re.compile(r"(?i)drop")):
                return True
    return False


def keep_word(node: ast.expr) -> str | None:
    """Return the name of an expression if that is one for a probability to keep."""
    word = _word(node)
    return word if word is not None and _KEEP.match(word) else None


def _word(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value if isinstance(node.slice.value, str) else None
    return None


def _rates(source: Source) -> Iterator[tuple[str, ast.expr]]:
    """Every probability to drop that is passed, with the whole name of what takes it."""
    for called in source.calls_of(RATES):
        position, keyword = RATES[called.name or ""]
        p = called.argument(position, keyword)
        if p is not None and not (called.open and keyword not in called.keywords):
            yield called.name or "", p
