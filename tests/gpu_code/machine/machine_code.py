"""Kernels compiled for devices that are not here, and what their machine code holds."""

import re
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from thinned.backends.torch.triton import drawing, dropping, packing

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)")
_LABEL = re.compile(r"^\s*(\.L\w+):")


class Code(NamedTuple):
    """registers : of a thread. stack, shared : bytes. instructions : in order, with what follows
    each; labels : where in that order each name stands. ptx : the text before."""

    registers: int
    stack: int
    shared: int
    instructions: list[tuple[str, str]]
    labels: dict[str, int]
    ptx: str

    def count(self, name: str, part: slice = slice(None)) -> int:
        return sum(found.startswith(name) for found, _ in self.instructions[part])

    def __len__(self) -> int:
        return len(self.instructions)

    def loops(self) -> list[slice]:
        """Every jump back, as the instructions from where it leads to itself."""
        found = []
        for i, (name, rest) in enumerate(self.instructions):
            target = re.search(r"(\.L\w+)", rest)
            if name.startswith("BRA") and target and self.labels[target.group(1)] < i:
                found.append(slice(self.labels[target.group(1)], i + 1))
        return found

    def plane_loops(self) -> list[slice]:
        """The innermost loops with Philox in them."""
        loops = [loop for loop in self.loops() if self.count("IMAD", loop) >= 16]
        return [a for a in loops if not any(a != b and a.start <= b.start < a.stop for b in loops)]


def _tool(name: str, *arguments: str) -> str:
    done = subprocess.run([_BIN / name, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _read(made, folder: Path) -> Code:
    file = folder / "kernel.cubin"
    file.write_bytes(made.asm["cubin"])
    used = _tool("cuobjdump", "-res-usage", str(file))
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", used).groups()
    instructions, labels = [], {}
    for line in _tool("nvdisasm", "-c", str(file)).splitlines():
        label, found = _LABEL.match(line), _INSTRUCTION.search(line)
        if label:
            labels[label.group(1)] = len(instructions)
        elif found and found.group(1) != "NOP":
            instructions.append(found.groups())
    assert instructions, "nvdisasm wrote what is not understood here"
    shared = made.metadata.shared
    return Code(int(registers), int(stack), shared, instructions, labels, made.asm["ptx"])


def compiled(
    kernel, target: str, types: dict, constants: dict, warps: int = 1, stages=None, even=(),
    fused=False,
):  # fmt: skip
    """types : of arguments that are no int64, by name. Pointers are multiples of 16 bytes, and so
    many elements the arguments named in `even`. fused : products and sums may be contracted."""
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i64") for n in names}
    multiples = [name for name, kind in types.items() if kind[0] == "*" or name in even]
    known = {(names.index(name),): [["tt.divisibility", 16]] for name in multiples}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=known)
    options = {"num_warps": warps, "enable_fp_fusion": fused}
    if stages is not None:
        options["num_stages"] = stages
    return triton.compile(source, target=TARGETS[target], options=options)


FLAT = {"told": None, "live": None, "EVEN": True, "MOVED": False, "UNIT": False, "FILL": 0,
        "CHUNK": 2}  # fmt: skip


def flat(dtype, target, kernel=None, **changed):
    blocks = 16 if dtype == "fp64" else 32
    constants = {**FLAT, "BLOCKS": blocks, "EARLY": dtype != "fp64", **changed}
    given = {name: constants.pop(name) for name in ("told", "live") if constants[name]}
    pointers = {f"{name}_ptr": f"*{dtype}" for name in "xyf"}
    return compiled(kernel or dropping.flat, target, {**pointers, **given}, constants)


def tiles(dtype, target, x_moves, y_moves, **changed):
    """Rows and columns with these moves in memory (row, column); one other axis."""
    one = {name: 1 for name, n in zip(
        ("x_row", "x_column", "y_row", "y_column"), (*x_moves, *y_moves), strict=True) if n == 1
    }  # fmt: skip
    constants = {
        "told": None, "live": None, "ROWS": 16, "COLUMNS": 128, "SHARED": False, "MOVED": False,
        "NEXT": False, "WIDE": False, "UNIT": False, "FILL": 0, "CHUNK": 2, **one, **changed,
    }  # fmt: skip
    moves = ("rows", "columns", "x_row", "x_column", "y_row", "y_column", "f_row", "f_column")
    narrow = {name: "i32" for name in moves if name not in constants}
    others = dict.fromkeys(("sizes", "steps", "x_steps", "y_steps", "f_steps"), ("i64",))
    pointers = {f"{name}_ptr": f"*{dtype}" for name in "xyf"}
    return compiled(dropping.tiles, target, {**pointers, **others, **narrow}, constants)


def words(target, rows=False, **changed):
    constants = {"told": None, "live": None, "BLOCKS": 32, "MOVED": False, "SHARED": False,
                 "CHUNK": 2, **changed}  # fmt: skip
    if not rows:
        constants |= {"sizes": (), "steps": ()}
    types = {"out": "*i32"} | ({"sizes": ("i64",), "steps": ("i64",)} if rows else {})
    return compiled(packing.rows_of_words, target, types, constants)


def draws(target, kind):
    constants = {"index_ptr": None, "told": None, "live": None, "SIZE": 1024, "KIND": kind}
    types = {"out": "*fp32" if kind else "*i64", "sizes": ("i64",), "steps": ("i64",)}
    return compiled(drawing.draws, target, types, constants, warps=4)


@cache
def _folder():
    return TemporaryDirectory()


def read(made) -> Code:
    return _read(made, Path(_folder().name))
