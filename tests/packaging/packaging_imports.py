"""What each file of the package imports, read from its source: late and for types alone too."""

import ast
from pathlib import Path

import thinned

ROOT = Path(thinned.__file__).parent
# No files of Python's, and so no arrow to the folder that they lie in.
COMPILED = {"thinned._native"}


def files():
    """Every file of the package by its dotted name; a folder's __init__.py has the folder's."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports():
    """Dotted name -> the files of the package that it imports, in functions and type blocks too."""
    names = files()
    return {name: set(_imported(path, name, names)) - {name} for name, path in names.items()}


def _imported(path, own, names):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield from _file(one.name, names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{own}: imports of the package are absolute"
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                if inner not in COMPILED:
                    yield from _file(inner if inner in names else node.module, names)


def _file(name, names):
    if name in names:
        yield name


def circles(arrows):
    """The strongly connected parts of more than one file (Tarjan, 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(name):
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            part = []
            while not part or part[-1] != name:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for name in sorted(arrows):
        if name not in number:
            visit(name)
    return found
