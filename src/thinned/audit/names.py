"""What a name in a file stands for: imports, local aliases and constants, scope by scope.

Nothing is imported: `F` is `torch.nn.functional` because the file says so.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

__all__ = ["UNKNOWN", "Binding", "Names", "Scope", "canonical"]


class _Unknown:
    def __repr__(self) -> str:
        return "unknown"

    def __bool__(self) -> bool:
        raise TypeError("an unknown value is neither true nor false")


UNKNOWN: Final = _Unknown()

# An alias of an alias of an alias is followed so far. Real code needs two or three.
_DEPTH = 8
# A name that is given more often than this stands for nothing in particular.
_MANY = 64
# Longest chain of dots that is resolved; generated files hold some of many thousands.
_DOTS = 40

# The names under which packages offer the same thing, and the one name that the rules know.
_RENAMED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^torch\.nn\.modules\.(?:[a-z]\w*\.)?(?=[A-Z])", "torch.nn."),
        (r"^thinned\.torch\.(?:modules|attending|recurrent)\.(?=[A-Z])", "thinned.torch."),
        (r"^(?:tensorflow\.(?:compat\.v2\.|python\.)?|tf_)keras\.", "keras."),
        (r"^tensorflow\.compat\.v1\.keras\.", "keras."),
        (r"^keras\.(?:src|api|_tf_keras\.keras)\.", "keras."),
        (r"^keras\.layers\.(?:[a-z]\w*\.)+(?=[A-Z])", "keras.layers."),
        (r"^keras\.(?:models|engine)\.(?:[a-z]\w*\.)*(?=Sequential$|Model$)", "keras."),
        (r"^tensorflow\.compat\.v2\.", "tensorflow."),
        (r"^tensorflow\.compat\.v1\.layers\.", "tensorflow.layers."),
        (r"^tensorflow\.(?:compat\.v1\.)?(?:contrib\.rnn|nn\.rnn_cell)\.", "tensorflow.rnn_cell."),
        (r"^flax\.linen\.\w+\.(?=[A-Z])", "flax.linen."),
        (r"^flax\.nnx\.(?:nn\.)?[a-z]\w*\.(?=[A-Z])", "flax.nnx."),
        (r"^(?:equinox|eqx)\.nn\._\w+\.", "equinox.nn."),
        (r"^timm\.(?:models\.)?layers\.(?:drop\.)?", "timm.layers."),
        (r"^torchvision\.ops\.(?:stochastic_depth|drop_block)\.(?=\w)", "torchvision.ops."),
        (r"^torch_geometric\.utils\.dropout\.", "torch_geometric.utils."),
        (r"^flash_attn\.flash_attn_interface\.", "flash_attn."),
        (r"^(?:pytorch_lightning|lightning\.pytorch|lightning)\.", "lightning."),
        (r"^lightning\.core\.(?:module|lightning)\.", "lightning."),
    )
)


@lru_cache(maxsize=2**15)
def canonical(name: str) -> str:
    """Return the one name that the rules know for `name`."""
    for pattern, known in _RENAMED:
        name = pattern.sub(known, name, count=1)
    return name


@dataclass(slots=True)
class Binding:
    """One thing that a name is given. kind: import, value, class, function, parameter, each (an
    element of `node`), other."""

    kind: str
    target: str = ""
    node: ast.AST | None = None
    at: ast.AST | None = None  # where the name is written
    annotation: ast.expr | None = None

    @property
    def line(self) -> int:
        place = self.at if self.at is not None else self.node
        return getattr(place, "lineno", 0)


@dataclass(slots=True)
class Scope:
    """The names of a module, class, function or comprehension."""

    owner: ast.AST
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)  # names that `global` or `nonlocal` lists
    stars: list[str] = field(default_factory=list)

    @property
    def is_class(self) -> bool:
        return isinstance(self.owner, ast.ClassDef)

    def bind(self, name: str, binding: Binding) -> None:
        scope: Scope | None = self
        if name in self.elsewhere:
            # A name of an outer scope: what it stands for there is no longer sure.
            while scope is not None:
                if name in scope.bindings:
                    scope.bindings[name].append(Binding("other"))
                scope = scope.parent
            return
        self.bindings.setdefault(name, []).append(binding)


class Names:
    """The scopes of a file, and what its names stand for."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.scopes: dict[ast.AST, Scope] = {}
        self.tops: set[str] = set()  # the first words of what is imported, at whatever place
        self._resolved: dict[tuple[int, str], str | None] = {}

    # -- entering ------------------------------------------------------------------------------

    def enter_import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            self.tops.add(alias.name.partition(".")[0])
            if alias.asname:
                scope.bind(alias.asname, Binding("import", alias.name))
            else:
                top = alias.name.partition(".")[0]
                scope.bind(top, Binding("import", top))

    def enter_import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = self._module(node)
        self.tops.add(module.partition(".")[0])
        for alias in node.names:
            if alias.name == "*":
                scope.stars.append(module)
            elif module:
                target = f"{module}.{alias.name}"
                scope.bind(alias.asname or alias.name, Binding("import", target))
            else:
                scope.bind(alias.asname or alias.name, Binding("other"))

    def _module(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        if node.level > len(parts):
            return ""
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, node.module] if node.module else kept)

    def enter_target(self, target: ast.expr, value: ast.expr | None, scope: Scope) -> None:
        """What an assignment binds: a value where it is plain which, else something unknown."""
        waiting: list[tuple[ast.expr, ast.expr | None]] = [(target, value)]
        while waiting:
            target, value = waiting.pop()
            if isinstance(target, ast.Name):
                kind = "other" if value is None else "value"
                scope.bind(target.id, Binding(kind, node=value, at=target))
            elif isinstance(target, ast.Starred):
                waiting.append((target.value, None))
            elif isinstance(target, (ast.Tuple, ast.List)):
                values: Iterable[ast.expr | None] = [None] * len(target.elts)
                if (
                    isinstance(value, (ast.Tuple, ast.List))
                    and len(value.elts) == len(target.elts)
                    and not any(isinstance(e, ast.Starred) for e in (*value.elts, *target.elts))
                ):
                    values = value.elts
                waiting.extend(zip(target.elts, values, strict=True))

    def enter_each(self, target: ast.expr, over: ast.expr, scope: Scope) -> None:
        """What a loop binds: an element of what it runs over, or of one of the parts that zip,
        enumerate and items() run over."""
        if isinstance(target, ast.Name):
            scope.bind(target.id, Binding("each", node=over, at=target))
            return
        parts = _parts(over) if isinstance(target, ast.Tuple) else []
        if not isinstance(target, ast.Tuple) or len(parts) != len(target.elts):
            self.enter_target(target, None, scope)
            return
        for element, part in zip(target.elts, parts, strict=True):
            if part is not None and isinstance(element, (ast.Name, ast.Tuple)):
                self.enter_each(element, part, scope)
            else:
                self.enter_target(element, None, scope)

    # -- asking --------------------------------------------------------------------------------

    def lookup(self, name: str, scope: Scope) -> tuple[Scope, list[Binding]] | None:
        """Return the scope that holds `name`, seen from `scope`, and what it is given there."""
        at: Scope | None = scope
        while at is not None:
            if name in at.bindings and (at is scope or not at.is_class):
                return at, at.bindings[name]
            at = at.parent
        return None

    def one(self, name: str, scope: Scope) -> tuple[Scope, Binding] | None:
        """Return the only thing that `name` is given, or None where there are several.

        A None beside it does not count: `try: from x import f`, `except ImportError: f = None`.
        """
        found = self.lookup(name, scope)
        if found is None:
            return None
        where, bindings = found
        if len(bindings) > _MANY:
            return None
        if len(bindings) > 1:
            bindings = [b for b in bindings if not _is_none(b.node)]
            if len({(b.kind, b.target) for b in bindings}) == 1 and bindings[0].kind == "import":
                bindings = bindings[:1]
        return (where, bindings[0]) if len(bindings) == 1 else None

    def resolve(self, node: ast.AST, scope: Scope, depth: int = _DEPTH) -> str | None:
        """Return the dotted name that an expression stands for, or None where that is not seen."""
        dots: list[str] = []
        while isinstance(node, ast.Attribute):
            dots.append(node.attr)
            node = node.value
            if len(dots) > _DOTS:
                return None
        if not isinstance(node, ast.Name):
            return None
        base = self._base(node.id, scope, depth)
        if base is None:
            return None
        return canonical(".".join([base, *reversed(dots)]))

    def imported(self, node: ast.AST, scope: Scope) -> str | None:
        """Return the dotted name of an expression that begins with a name of an import, given once
        and nowhere else; else None."""
        dots: list[str] = []
        while isinstance(node, ast.Attribute) and len(dots) < _DOTS:
            dots.append(node.attr)
            node = node.value
        found = self.one(node.id, scope) if isinstance(node, ast.Name) else None
        if found is None or found[1].kind != "import":
            return None
        return ".".join([found[1].target, *reversed(dots)])

    def _base(self, name: str, scope: Scope, depth: int) -> str | None:
        key = id(scope), name
        if key not in self._resolved:
            self._resolved[key] = None  # an alias of itself stands for nothing
            self._resolved[key] = self._base_anew(name, scope, depth)
        return self._resolved[key]

    def _base_anew(self, name: str, scope: Scope, depth: int) -> str | None:
        if depth <= 0:
            return None
        found = self.one(name, scope)
        if found is None:
            return self._starred(name, scope)
        where, binding = found
        if binding.kind == "import":
            return binding.target
        if binding.kind == "value" and isinstance(binding.node, (ast.Name, ast.Attribute)):
            return self.resolve(binding.node, where, depth - 1)
        return None

    def _starred(self, name: str, scope: Scope) -> str | None:
        if self.lookup(name, scope) is not None or hasattr(builtins, name):
            return None
        stars = {star for at in _outwards(scope) for star in at.stars if star}
        return f"{stars.pop()}.{name}" if len(stars) == 1 else None

    def value(self, node: ast.AST | None, scope: Scope, depth: int = _DEPTH) -> Any:
        """Return the number, string, bool or None that an expression is, or UNKNOWN."""
        if depth <= 0:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            found = self.one(node.id, scope)
            if found is not None and found[1].kind == "value":
                return self.value(found[1].node, found[0], depth - 1)
            return UNKNOWN
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            inner = self.value(node.operand, scope, depth - 1)
            if isinstance(inner, (int, float)) and not isinstance(inner, bool):
                return -inner if isinstance(node.op, ast.USub) else inner
            return UNKNOWN
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node, scope, depth)
        return UNKNOWN

    def _arithmetic(self, node: ast.BinOp, scope: Scope, depth: int) -> Any:
        left = self.value(node.left, scope, depth - 1)
        right = self.value(node.right, scope, depth - 1)
        for side in (left, right):
            if isinstance(side, bool) or not isinstance(side, (int, float)):
                return UNKNOWN
        # Only these, and only of moderate numbers: nothing that a file says may cost much to know.
        if max(abs(left), abs(right)) > 2**53:
            return UNKNOWN
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div) and right != 0:
            return left / right
        return UNKNOWN


def _parts(over: ast.expr) -> list[ast.expr | None]:
    """What the names of a loop run over side by side; None for one of something else."""
    if not isinstance(over, ast.Call) or any(isinstance(a, ast.Starred) for a in over.args):
        return []
    name = over.func.id if isinstance(over.func, ast.Name) else ""
    if name == "zip":
        return list(over.args)
    if name == "enumerate" and over.args:
        return [None, over.args[0]]
    if isinstance(over.func, ast.Attribute) and over.func.attr == "items" and not over.args:
        return [None, over.func.value]
    return []


def _outwards(scope: Scope) -> Iterator[Scope]:
    at: Scope | None = scope
    while at is not None:
        yield at
        at = at.parent


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
