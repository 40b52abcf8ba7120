"""What the parameters of a function are given, by a call or by default."""

from __future__ import annotations

import ast

from thinned.audit.values import Called, Frame

__all__ = ["bind", "default_of"]


def bind(function: ast.AST, called: Called, skip: int, outer: Frame | None) -> Frame | None:
    """Return the frame of a call: which parameter is given what. None where that is not seen."""
    if called.open or not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return None
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)][skip:]
    given: dict[str, ast.expr] = dict(zip(names, called.args, strict=False))
    given.update(called.keywords)
    return Frame(function, given, outer)


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
