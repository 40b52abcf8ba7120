"""Instructions of a function, and which of them run only where a module is in training mode."""

from __future__ import annotations

import dis
import types
from functools import cache
from typing import Any, NamedTuple

from thinned.torch.adoption.gates import GATES, Gate, gate_of_load, rates_of_load

__all__ = ["Instruction", "asked_in", "steps_of"]


class Instruction(NamedTuple):
    """An instruction. called: whether what it loads stands where a call's function stands.
    asked: whether it runs only where a `.training` is true. gate: what is made of the numbers that
    a function of this name draws. against: what they are compared with for that, see
    `gates.rates_of_load`."""

    op: str
    name: Any
    called: bool
    asked: bool
    gate: Gate | None = None
    against: frozenset[str] = frozenset()


_DRAWING = frozenset(GATES.values())


@cache
def asked_in(code: types.CodeType) -> tuple[bool, frozenset[int]]:
    """Whether code branches on `.training`, and the offsets of what runs only where it is true."""
    return _branches([step for step in dis.get_instructions(code) if step.opname != "CACHE"])


@cache
def steps_of(code: types.CodeType) -> tuple[Instruction, ...]:
    found = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    _, asked = asked_in(code)
    steps: list[Instruction] = []
    for i, step in enumerate(found):
        beside = {found[j].opname for j in (i - 1, i + 1) if 0 <= j < len(found)}
        called = "NULL" in step.argrepr or "PUSH_NULL" in beside or "METHOD" in step.opname
        if step.opname == "LOAD_ATTR" and steps[-1].op.startswith("LOAD_"):
            called = called or steps[-1].called  # a.b.c(x): marked where it begins
        gate, against = None, frozenset([""])
        if isinstance(step.argval, str) and step.argval in _DRAWING:
            gate = gate_of_load(code, step.offset, step.argval)
            against = rates_of_load(code, step.offset, step.argval)
        here = step.offset in asked
        steps.append(Instruction(step.opname, step.argval, called, here, gate, against))
    return tuple(steps)


def _branches(steps: list[dis.Instruction]) -> tuple[bool, frozenset[int]]:
    found: set[int] = set()
    branches = False
    for i, step in enumerate(steps):
        if step.opname != "LOAD_ATTR" or step.argval != "training":
            continue
        turned, j = False, i + 1
        while j < len(steps) and steps[j].opname in ("TO_BOOL", "UNARY_NOT", "COPY", "NOT_TAKEN"):
            turned ^= steps[j].opname == "UNARY_NOT"
            j += 1
        if j == len(steps) or "JUMP" not in (jump := steps[j]).opname or "IF" not in jump.opname:
            continue
        branches = True
        near = [s for s in steps[j + 1 :] if s.offset < jump.argval]
        if not near:
            continue
        end = float("inf")
        if near[-1].opname == "JUMP_FORWARD":
            end = near[-1].argval
        elif not near[-1].opname.startswith("RETURN"):
            end = -1  # what follows runs in both cases
        far = [s for s in steps if jump.argval <= s.offset < end]
        inside = near if ("FALSE" in jump.opname) != turned else far
        found.update(s.offset for s in inside)
    return branches, frozenset(found)
