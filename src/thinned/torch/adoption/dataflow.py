"""What becomes of one value in a function: its way over the stack and the local variables, in
bytecode.

Python's instructions differ from version to version. One that is not known here ends the way, and
whoever asks learns that nothing is known.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, NamedTuple

__all__ = ["CALLS", "NUMBERS", "Flow", "Use", "flow_of"]

# How many values each instruction takes from the stack; of those whose argument is a number of
# values, what it takes besides.
_TAKES = {
    **dict.fromkeys(
        ("LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK", "LOAD_FAST_LOAD_FAST",
         "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_CONST", "LOAD_CONST_IMMORTAL", "LOAD_SMALL_INT",
         "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_CLOSURE", "LOAD_NAME", "PUSH_NULL",
         "NOP", "EXTENDED_ARG", "KW_NAMES", "PRECALL", "NOT_TAKEN", "RESUME",
         "LOAD_ASSERTION_ERROR", "LOAD_COMMON_CONSTANT"), 0),
    **dict.fromkeys(
        ("LOAD_ATTR", "LOAD_METHOD", "STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_GLOBAL",
         "STORE_DEREF", "STORE_NAME", "POP_TOP", "TO_BOOL", "UNARY_NOT", "UNARY_NEGATIVE",
         "UNARY_INVERT", "UNARY_POSITIVE", "RETURN_VALUE", "GET_ITER", "LIST_TO_TUPLE",
         "CALL_INTRINSIC_1", "UNPACK_SEQUENCE", "FORMAT_SIMPLE", "CONVERT_VALUE"), 1),
    **dict.fromkeys(
        ("BINARY_OP", "BINARY_SUBSCR", "COMPARE_OP", "IS_OP", "CONTAINS_OP", "STORE_ATTR",
         "STORE_FAST_STORE_FAST", "CALL_INTRINSIC_2", "FORMAT_WITH_SPEC"), 2),
    **dict.fromkeys(("STORE_SUBSCR", "BINARY_SLICE", "LOAD_SUPER_ATTR"), 3),
}  # fmt: skip
_TAKES_MANY = {"BUILD_TUPLE": 0, "BUILD_LIST": 0, "BUILD_SET": 0, "BUILD_STRING": 0,
               "BUILD_SLICE": 0, "BUILD_CONST_KEY_MAP": 1, "CALL": 2, "CALL_KW": 3}  # fmt: skip
# They take one value and put it into another, which stays on the stack where the argument says.
_INTO = ("LIST_EXTEND", "LIST_APPEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE")

CALLS = ("CALL", "CALL_KW", "CALL_FUNCTION_EX")
NUMBERS = ("LOAD_CONST", "LOAD_SMALL_INT")
_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


class Use(NamedTuple):
    """An instruction that takes a value. depth: how many of those it takes lie above the value."""

    at: int
    depth: int


class Flow:
    """The instructions of a function, without caches, and what is known of values there.

    steps : the instructions. Their indices are the places that all methods speak of.
    """

    def __init__(self, code: types.CodeType) -> None:
        self.code = code
        bytecode = dis.Bytecode(code)
        self.steps = [step for step in bytecode if step.opname != "CACHE"]
        self._at = {step.offset: i for i, step in enumerate(self.steps)}
        self._handlers = [
            (entry.start, entry.end, self._at[entry.target])
            for entry in getattr(bytecode, "exception_entries", ())
            if entry.target in self._at
        ]

    def index_of(self, offset: int) -> int | None:
        """The instruction at an offset; where that prepares a call, the call itself."""
        i = self._at.get(offset)
        if i is not None and self.steps[i].opname == "PRECALL":
            i += 1
        return i

    # ------------------------------------------------------------------------------------ the stack

    def takes(self, i: int) -> int | None:
        """How many values an instruction takes from the stack; None where that is not known."""
        step = self.steps[i]
        if step.opname in _TAKES:
            return _TAKES[step.opname]
        if step.opname in _TAKES_MANY:
            return (step.arg or 0) + _TAKES_MANY[step.opname]
        if step.opname == "BUILD_MAP":
            return 2 * (step.arg or 0)
        if step.opname == "CALL_FUNCTION_EX":
            # Below the arguments lie the function and a NULL; from 3.14 on there is always a place
            # for those by name.
            return 1 - self._effect(i)
        return None

    def _effect(self, i: int) -> int:
        step = self.steps[i]
        if step.opname == "PRECALL":  # 3.11 shares the effect of a call out among the two
            return 0
        if step.opname in ("CALL", "CALL_KW"):
            return 1 - (step.arg or 0) - _TAKES_MANY[step.opname]
        arg = step.arg if step.opcode >= dis.HAVE_ARGUMENT else None
        return dis.stack_effect(step.opcode, arg)

    def use_of(self, i: int, depth: int = 0) -> Use | None:
        """What takes the value that lies under `depth` others after instruction i.

        None where a branch, or an instruction that is not known, comes first.
        """
        for j in range(i + 1, len(self.steps)):
            step = self.steps[j]
            if step.opname in _INTO:
                if depth in (0, step.arg):
                    return None
                depth -= 1
                continue
            takes = self.takes(j)
            if takes is None or "JUMP" in step.opname:
                return None
            if depth < takes:
                return Use(j, depth)
            depth += self._effect(j)
        return None

    def source_of(self, i: int, depth: int) -> Use | None:
        """What puts the value there that instruction i takes from under `depth` others, and how
        many it puts above that.

        None where a branch, or an instruction that is not known, lies in between.
        """
        for j in range(i - 1, -1, -1):
            takes = self.takes(j)
            for above in range(0 if takes is None else takes + self._effect(j)):
                if self.use_of(j, above) == (i, depth):
                    return Use(j, above)
        return None

    def attribute_at(self, i: int, depth: int) -> str:
        """The attribute of the function's first parameter that instruction i takes there, also by
        way of a local variable that has no other value; "config.p" for self.config.p, "" where it
        is none."""
        source, code = self.source_of(i, depth), self.code
        if source is None:
            return ""
        step = self.steps[source.at]
        if step.opname == "LOAD_ATTR":
            owner = self._variable(self.source_of(source.at, 0))
            if code.co_argcount and owner == code.co_varnames[0]:
                return str(step.argval)
            holder = self.attribute_at(source.at, 0)
            return f"{holder}.{step.argval}" if holder else ""
        name = self._variable(source)
        if name in ("", *code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]):
            return ""
        stores = [k for k in range(len(self.steps)) if self.stores(k, name)]
        one = len(stores) == 1 and self.steps[stores[0]].opname == "STORE_FAST"
        return self.attribute_at(stores[0], 0) if one else ""

    def _variable(self, source: Use | None) -> str:
        """The local variable whose value is put there, or ""."""
        step = None if source is None else self.steps[source.at]
        if source is None or step is None or not step.opname.startswith("LOAD_FAST"):
            return ""
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        return str(names[-1 - source.depth])

    def number_at(self, i: int, depth: int) -> Any:
        """The constant that instruction i takes there; None where it is none."""
        source = self.source_of(i, depth)
        step = None if source is None else self.steps[source.at]
        return step.argval if step is not None and step.opname in NUMBERS else None

    @cached_property
    def takes_from_one(self) -> bool:
        """Whether a difference from 1 is reckoned somewhere, as 1 - p is."""
        minus = [i for i, s in enumerate(self.steps) if (s.opname, s.argrepr) == ("BINARY_OP", "-")]
        return any(self.number_at(i, 1) == 1 for i in minus)

    def branches_on(self, i: int) -> bool:
        """Whether the code goes one way or the other by what instruction i leaves."""
        ways = ("TO_BOOL", "UNARY_NOT", "COPY", "NOT_TAKEN")
        after = [step.opname for step in self.steps[i + 1 : i + 4] if step.opname not in ways]
        return bool(after) and "JUMP" in after[0] and "IF" in after[0]

    def called_at(self, i: int) -> int | None:
        """The call of the function that instruction i loads."""
        use = self.use_of(i)
        if use is None:
            return None
        step = self.steps[use.at]
        count = step.arg or 0
        places = {
            "CALL": (count, count + 1),
            "CALL_KW": (count + 1, count + 2),
            "CALL_FUNCTION_EX": (1, 2, 3),
        }.get(step.opname, ())
        return use.at if use.depth in places else None

    def function_of(self, i: int) -> int | None:
        """The instruction that loads the function which call i calls."""
        for j in range(i - 1, -1, -1):
            step = self.steps[j]
            loads = step.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_DEREF")
            if (loads or step.opname.startswith("LOAD_FAST")) and self.called_at(j) == i:
                return j
        return None

    def positional(self, call: int) -> int:
        """How many arguments a CALL or CALL_KW is given by their places."""
        return (self.steps[call].arg or 0) - len(self.keywords(call))

    def keywords(self, call: int) -> tuple[str, ...]:
        """The names of the arguments that a CALL or CALL_KW is given by name."""
        before = self.steps[max(call - 2, 0) : call]
        if self.steps[call].opname == "CALL_KW":
            return tuple(before[-1].argval)
        for one in before:
            if one.opname == "KW_NAMES":
                return tuple(self.code.co_consts[one.arg or 0])
        return ()

    # -------------------------------------------------------------------------------- the variables

    def loaded(self, i: int, name: str) -> Iterator[int]:
        """How deep instruction i puts the value of a local variable, if it reads it."""
        step = self.steps[i]
        if step.opname in ("LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK"):
            if step.argval == name:
                yield 0
        elif step.opname in ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW"):
            yield from (1 - k for k, one in enumerate(step.argval) if one == name)
        elif step.opname == "STORE_FAST_LOAD_FAST" and step.argval[1] == name:
            yield 0

    def stored(self, i: int, depth: int) -> str | None:
        """The local variable into which instruction i puts the value at this depth."""
        step = self.steps[i]
        if step.opname == "STORE_FAST":
            return str(step.argval)
        if step.opname in ("STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST"):
            return str(step.argval[depth])
        return None

    def stores(self, i: int, name: str) -> bool:
        """Whether a local variable has another value, or none, after instruction i."""
        step = self.steps[i]
        if step.opname in ("STORE_FAST", "DELETE_FAST", "LOAD_FAST_AND_CLEAR"):
            return bool(step.argval == name)
        if step.opname == "STORE_FAST_LOAD_FAST":
            return bool(step.argval[0] == name)
        return step.opname == "STORE_FAST_STORE_FAST" and name in step.argval

    def after(self, i: int) -> list[int]:
        """The instructions that may run next."""
        step, found = self.steps[i], []
        jumps = step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
        if jumps and step.argval in self._at:
            found.append(self._at[step.argval])
        # A jump without a condition; FOR_ITER and SEND go on as well.
        always = step.opname.startswith("JUMP_") and "IF" not in step.opname
        if not always and step.opname not in _ENDS and i + 1 < len(self.steps):
            found.append(i + 1)
        found += [to for start, end, to in self._handlers if start <= step.offset < end]
        return found


@cache
def flow_of(code: types.CodeType) -> Flow:
    """The flow of a function, read once."""
    return Flow(code)
