"""Uniform numbers that code turns into gates, recognised in its bytecode without running it.

A gate is what a uniform number is compared with a rate for, `torch.rand(n) < p`, the floor of its
sum with one, `torch.floor(keep + torch.rand(shape))`, and an order, of which some are kept:
`torch.argsort(torch.randn(rows, tokens))`, `torch.rand(rows, tokens).topk(k).indices`. Where a
function makes gates, the Gaussian noise that it reckons with belongs to them. Nothing else may
become of the number: where it is also returned, multiplied or handed on, it may be no dropout at
all, and it is not recognised.
"""

from __future__ import annotations

import dis
import re
import types
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.torch.adoption.dataflow import CALLS, NUMBERS, Flow, flow_of

__all__ = [
    "BERNOULLI",
    "GATES",
    "GAUSSIAN",
    "Gate",
    "function_read",
    "gate_at",
    "gate_of_load",
    "rates_of_load",
]

# The functions that are reached if their result becomes a gate, with their names.
UNIFORM: dict[Any, str] = {
    torch.rand: "rand",
    torch.rand_like: "rand_like",
    Tensor.uniform_: "uniform_",
}
GAUSSIAN: dict[Any, str] = {
    torch.randn: "randn",
    torch.randn_like: "randn_like",
    Tensor.normal_: "normal_",
}
# Those that draw gates by themselves.
BERNOULLI: dict[Any, str] = {torch.bernoulli: "bernoulli", Tensor.bernoulli: "bernoulli"}
GATES = UNIFORM | GAUSSIAN | BERNOULLI

_COMPARES = ("<", "<=", ">", ">=")
_COMPARING = (
    "lt", "le", "gt", "ge", "less", "less_equal", "greater", "greater_equal", "lt_", "le_", "gt_",
    "ge_", "less_", "less_equal_", "greater_", "greater_equal_",
)  # fmt: skip
_FLOORS = ("floor", "floor_")
_ORDERS = ("argsort",)
_SORTS = ("sort", "topk")  # values, which must not be used, and their places
_RECKONS = ("add", "add_", "div", "div_", "mul", "mul_", "sub", "sub_")
_SUMS = ("add", "add_")
# Methods that pass the numbers on unchanged, or draw them again, and attributes that do not depend
# on them.
_SAME = (
    "bfloat16", "clone", "contiguous", "cpu", "cuda", "detach", "double", "expand", "expand_as",
    "float", "half", "item", "repeat", "reshape", "squeeze", "to", "type", "type_as", "uniform_",
    "unsqueeze", "view", "view_as",
)  # fmt: skip
_ABOUT = ("device", "dim", "dtype", "ndim", "numel", "shape", "size")
# Annotations of parameters that cannot hold rows of a batch.
_ROWLESS = ("str", "bool", "float", "dtype", "device", "Generator", "None", "Optional", "Union")
_WORDS = re.compile(r"[A-Za-z_][\w.]*")

_NUMBER, _SUM, _SORTED, _GATE = "number", "sum", "sorted", "gate"


class Gate(NamedTuple):
    """How code makes a gate of what a call draws.

    rows : whether the rows of the batch lie along axis 0 of what is drawn. They do not where its
        first length is a number in the code or that of another axis, nor where the function is
        given nothing that could have rows.
    one : whether the code asks for a single number, for all of the batch.
    """

    rows: bool
    one: bool


class _DoubtError(Exception):
    """Something else may become of a number than a gate."""


# Findings about calls, by the code that makes them and the place: the code itself is kept too, so
# that no other code gets its number. A look-up by equality would compare the whole code.
_at: dict[tuple[int, int, str], tuple[types.CodeType, Gate | None]] = {}


def gate_at(code: types.CodeType, offset: int, name: str) -> Gate | None:
    """The gate that code makes of what its call at this offset returns; None where it is none.

    name : of the function that is called, as in GATES.
    """
    key = id(code), offset, name
    known = _at.get(key)
    if known is None:
        found = _gate(code, flow_of(code).index_of(offset), name)
        known = _at[key] = code, found
    return known[1]


def gate_of_load(code: types.CodeType, offset: int, name: str) -> Gate | None:
    """The same for the instruction that loads the function."""
    flow = flow_of(code)
    i = flow.index_of(offset)
    return _gate(code, None if i is None else flow.called_at(i), name)


def rates_of_load(code: types.CodeType, offset: int, name: str) -> frozenset[str]:
    """What the numbers are compared with to make the gate: names of attributes of the function's
    first parameter, "" for anything else."""
    flow = flow_of(code)
    i = flow.index_of(offset)
    call = None if i is None else flow.called_at(i)
    found = None if call is None else _found(code, call, name)
    if call is None or found is None or not found.one or name in BERNOULLI.values():
        return frozenset([""])
    fate = _Fate(flow, name in GAUSSIAN.values(), False)
    fate.of_result(call)
    return frozenset(fate.against)


# Functions whose annotated parameters cannot hold rows, by their code.
_rowless: set[types.CodeType] = set()


def function_read(function: types.FunctionType) -> None:
    """Note a function that has been read: what its annotations say of its parameters."""
    code = function.__code__
    said = function.__annotations__
    names = _parameters(code)
    if names and code not in _rowless and all(_says_no_rows(said.get(name)) for name in names):
        _rowless.add(code)
        _at.clear()


def _parameters(code: types.CodeType) -> tuple[str, ...]:
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    starred = bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    names += code.co_varnames[len(names) : len(names) + starred]
    return tuple(name for i, name in enumerate(names) if i or name not in ("self", "cls"))


def _says_no_rows(annotation: Any) -> bool:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    words = [word.rpartition(".")[2] for word in _WORDS.findall(text)]
    return annotation is not None and all(word in _ROWLESS for word in words)


def _gate(code: types.CodeType, call: int | None, name: str) -> Gate | None:
    found = None if call is None else _found(code, call, name)
    if found is None and name in BERNOULLI.values():  # a gate, whatever becomes of it
        elsewhere = call is not None and _is_drawn_elsewhere(flow_of(code), call)
        found = None if elsewhere else Gate(True, False)
    if found is not None and code in _rowless:
        return found._replace(rows=False)
    return found


@cache
def _found(code: types.CodeType, call: int, name: str) -> Gate | None:
    flow = flow_of(code)
    if flow.steps[call].opname not in CALLS or _is_drawn_elsewhere(flow, call):
        return None
    function, layers = flow.function_of(call), False
    if name not in BERNOULLI.values():
        if name in ("uniform_", "normal_") and not _is_standard(flow, function, call):
            return None
        gaussian = name in GAUSSIAN.values()
        fate = _Fate(flow, gaussian, gaussian and _makes_gates(flow))
        try:
            if not fate.of_result(call):
                return None
        except _DoubtError:
            return None
        layers = fate.picked and fate.branched
    rows, one = True, False
    if function is not None and name in ("rand", "randn"):
        rows, one = _lengths(flow, function, call)
    elif function is not None and not name.endswith("_"):
        rows = not _is_one_row(flow, function)
    takes_nothing = not _parameters(code) and not code.co_freevars
    return Gate(rows and not takes_nothing and not layers, one)


def _is_drawn_elsewhere(flow: Flow, call: int) -> bool:
    """Whether a call brings a generator of its own."""
    return "generator" in flow.keywords(call)


# ------------------------------------------------------------------------------ what becomes of it


class _Fate:
    """What becomes of a number in a function. Each method returns whether a gate was made of it,
    and raises where something else may be.

    gaussian : whether it is no uniform number. noise : whether reckoning with it is making gates.
    against : what it is compared with, see `rates_of_load`. picked, branched : whether one of many
        numbers is taken, and whether the code goes one way or the other by a comparison. By both,
        there is a number for each layer.
    """

    def __init__(self, flow: Flow, gaussian: bool, noise: bool) -> None:
        self.flow, self.gaussian, self.noise = flow, gaussian, noise
        self.followed: set[tuple[str, int, str]] = set()
        self.against: set[str] = set()
        self.picked = self.branched = False

    def of_result(self, i: int) -> bool:
        """Of what instruction i leaves on the stack."""
        return self._of_value(i, 0, _NUMBER)[0]

    def _of_value(self, i: int, depth: int, state: str) -> tuple[bool, str]:
        """Also what a variable holds after that, if the value is also held by one."""
        if state == _GATE:
            self.against.add("")
            return True, state
        flow = self.flow
        use = flow.use_of(i, depth)
        if use is None:
            raise _DoubtError
        j, depth = use
        step = flow.steps[j]
        # x[i] = 1 leaves the other numbers of x what they are.
        if step.opname == "POP_TOP" or (step.opname == "STORE_SUBSCR" and depth == 1):
            return False, state
        if state == _SORTED and flow.stored(j, depth) is None:
            return self._of_sorted(j), state
        if step.opname == "BINARY_OP" and self.noise and step.argrepr != "[]":
            return True, _GATE if step.argrepr.endswith("=") and depth == 1 else state
        if self.gaussian and step.opname in ("BINARY_OP", "COMPARE_OP"):
            raise _DoubtError
        if step.opname == "COMPARE_OP" and step.argval in _COMPARES:
            self.against.add(flow.attribute_at(j, 1 - depth))
            self.branched = self.branched or flow.branches_on(j)
            return True, state
        if step.opname in ("BINARY_SUBSCR", "BINARY_OP") and depth == 1 and _is_subscript(step):
            self.picked = True
            return self._of_value(j, 0, state)[0], state
        if step.opname == "BINARY_OP" and step.argrepr in ("+", "+=") and state == _NUMBER:
            made, _ = self._of_value(j, 0, _SUM)
            return made, _SUM if step.argrepr == "+=" and depth == 1 else state
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            return self._of_attribute(j, str(step.argval), state)
        if step.opname in ("CALL", "CALL_KW"):
            return self._of_argument(j, state)
        name = flow.stored(j, depth)
        if name is None:
            raise _DoubtError
        made = False
        if step.opname == "STORE_FAST_LOAD_FAST" and step.argval[0] == step.argval[1]:
            made, state = self._of_value(j, 0, state)
        return self._of_variable(name, j, state) or made, state

    def _of_sorted(self, i: int) -> bool:
        """Of the values and places that a sort or topk gives, which instruction i takes."""
        flow, step = self.flow, self.flow.steps[i]
        places = step.opname == "LOAD_ATTR" and step.argval == "indices"
        if _is_subscript(step):
            places = flow.number_at(i, 0) == 1
        if step.opname == "UNPACK_SEQUENCE" and step.arg == 2:
            values = flow.stored(i + 1, 0)
            loads = (flow.loaded(j, values or "") for j in range(len(flow.steps)))
            places = values is not None and not any(list(found) for found in loads)
        if not places:
            raise _DoubtError
        self.against.add("")
        return True

    def _of_attribute(self, i: int, name: str, state: str) -> tuple[bool, str]:
        if name in _ABOUT:
            return False, state
        after, call = self._after(name, state), self.flow.called_at(i)
        if after is None or call is None:
            raise _DoubtError
        made, then = self._of_value(call, 0, after)
        return made, then if name.endswith("_") else state

    def _of_argument(self, call: int, state: str) -> tuple[bool, str]:
        """torch.floor(x) and the like, and float(x)."""
        function = self.flow.function_of(call)
        name = "" if function is None else str(self.flow.steps[function].argval)
        known = (*_FLOORS, *_SUMS, *_COMPARING, *_ORDERS, *_SORTS, *_RECKONS, "float")
        after = self._after(name, state) if name in known else None
        if after is None:
            raise _DoubtError
        made, then = self._of_value(call, 0, after)
        return made, then if name.endswith("_") else state

    def _of_variable(self, name: str, i: int, state: str) -> bool:
        """Of what instruction i stored in a local variable, wherever that may be read."""
        flow, made = self.flow, False
        if (name, i, state) in self.followed:
            return False
        self.followed.add((name, i, state))
        seen, ahead = set(), [(j, state) for j in flow.after(i)]
        while ahead:
            j, now = ahead.pop()
            if (j, now) in seen:
                continue
            seen.add((j, now))
            for depth in flow.loaded(j, name):
                if not flow.stores(j, name):
                    gate, now = self._of_value(j, depth, now)
                    made = made or gate
            if now != _GATE and not flow.stores(j, name):
                ahead += [(k, now) for k in flow.after(j)]
        return made

    def _after(self, name: str, state: str) -> str | None:
        """What a number is after a function of this name; None where it is unknown."""
        if name in _SAME:
            return state
        if name in _SORTS and state == _NUMBER:
            return _SORTED
        if (name in _ORDERS and state == _NUMBER) or (name in _RECKONS and self.noise):
            return _GATE
        if self.gaussian:
            return None
        if name in _COMPARING or (name in _FLOORS and state == _SUM):
            return _GATE
        return _SUM if name in _SUMS and state == _NUMBER else None


def _is_subscript(step: dis.Instruction) -> bool:
    """x[i]: an instruction of its own, and from Python 3.14 on an operator."""
    return step.opname == "BINARY_SUBSCR" or (step.opname, step.argrepr) == ("BINARY_OP", "[]")


def _makes_gates(flow: Flow) -> bool:
    """Whether a function draws numbers of which it makes gates."""
    for i, step in enumerate(flow.steps):
        name = str(step.argval)
        if step.opname.startswith("LOAD_") and (name == "bernoulli_" or name in UNIFORM.values()):
            call = flow.called_at(i)
            found = call is not None and (name == "bernoulli_" or _found(flow.code, call, name))
            if found:
                return True
    return False


# -------------------------------------------------------------------------------- how many of them


def _lengths(flow: Flow, function: int, call: int) -> tuple[bool, bool]:
    """Whether rows may lie along the first axis of what torch.rand is asked for; whether it is one
    number."""
    i = function + 1
    while flow.steps[i].opname in ("PUSH_NULL", "NOP", "EXTENDED_ARG"):
        i += 1
    step = flow.steps[i]
    if step.opname == "BUILD_LIST" and not step.arg:
        return False, True
    if step.opname not in NUMBERS:
        return not _is_another_axis(flow, i), False
    if isinstance(step.argval, tuple):
        return False, all(n == 1 for n in step.argval)
    use = flow.use_of(i)
    if use is not None and use.at == call:
        return False, step.argval == 1 and flow.positional(call) == 1
    if use is not None and flow.steps[use.at].opname in ("BUILD_TUPLE", "BUILD_LIST"):
        return False, step.argval == 1 and flow.steps[use.at].arg == 1
    return True, False  # a number that enters a computation


def _is_another_axis(flow: Flow, i: int) -> bool:
    """Whether x.size(1) or x.shape[1] begins at instruction i; any axis but the first."""
    steps = [step for step in flow.steps[i : i + 5] if step.opname != "PRECALL"]
    if len(steps) < 4 or not steps[0].opname.startswith("LOAD_"):
        return False
    if steps[2].opname not in NUMBERS:
        return False
    axis = steps[2].argval
    way = {"size": "CALL", "shape": "BINARY"}.get(str(steps[1].argval), "")
    return bool(way) and steps[3].opname.startswith(way) and isinstance(axis, int) and axis != 0


def _is_one_row(flow: Flow, function: int) -> bool:
    """Whether the argument of a function is x[0] or that of another number."""
    steps = [s for s in flow.steps[function + 1 : function + 5] if s.opname != "PUSH_NULL"]
    if len(steps) < 3 or not steps[0].opname.startswith("LOAD_FAST"):
        return False
    number = steps[1].opname in NUMBERS
    taken = steps[2].opname == "BINARY_SUBSCR" or steps[2].argrepr == "[]"
    return number and taken and isinstance(steps[1].argval, int)


def _is_standard(flow: Flow, function: int | None, call: int) -> bool:
    """Whether uniform_ or normal_ is called for standard numbers: with 0 and 1, or with nothing."""
    if function is None or flow.steps[call].opname != "CALL":
        return False
    if not flow.steps[call].arg:
        return True
    given = [s for s in flow.steps[function + 1 : call] if s.opname not in ("PRECALL", "PUSH_NULL")]
    return [s.argval if s.opname in NUMBERS else None for s in given] == [0, 1]
