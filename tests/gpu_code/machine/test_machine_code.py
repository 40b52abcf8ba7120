"""What kernels are compiled to: registers, memory accesses, instructions an element and a plane.

The budgets are a little above what was counted, and bound what a change may cost.
"""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from machine_code import draws, flat, read, tiles, words

from thinned.backends.torch import triton as kernels

# Lanes that a thread draws, and elements that it writes: of double's, half of them.
LANES = 128
REGISTERS = {"fp32": 200, "bf16": 128, "fp16": 128, "fp64": 200}
# Instructions of a thread for a plane, by element: Philox, and a dozen for the comparison.
A_PLANE = {"sm_80": 0.62, "sm_90": 0.6, "sm_100": 0.6}
# And all else: reading, testing, scaling, rounding, writing.
ELSE = {"fp32": 7.0, "bf16": 9.0, "fp16": 9.0}
WIDE = {"fp32": 32, "bf16": 16, "fp16": 16, "fp64": 32}


def holds(code, dtype, target):
    """What is asked of `flat`, of whole blocks and of whole accesses."""
    assert code.stack == 0
    assert code.count("LDL") == code.count("STL") == 0
    assert code.registers <= REGISTERS[dtype]
    for access in ("LDG.E", "STG.E"):
        assert code.count(f"{access}.128") == WIDE[dtype]
        assert code.count(access) == WIDE[dtype]
    assert code.count("BAR") == 0
    (loop, *_) = code.plane_loops()
    assert code.count("IMAD.HI", loop) == 0
    assert code.count("IMAD.WIDE.U32", loop) >= 16
    if dtype == "fp64":  # 16 blocks to a warp of 32 threads: each is drawn twice
        return
    assert code.count("REDUX") + code.count("CREDUX") == 1
    plane = loop.stop - loop.start
    assert plane / LANES <= A_PLANE[target]
    assert (len(code) - plane) / LANES <= ELSE[dtype]


@pytest.mark.parametrize("dtype", REGISTERS)
def test_dropout_on_hopper(dtype):
    holds(read(flat(dtype, "sm_90")), dtype, "sm_90")


@pytest.mark.parametrize("target", ["sm_80", "sm_100"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_dropout_elsewhere(dtype, target):
    holds(read(flat(dtype, target)), dtype, target)


@pytest.mark.parametrize(
    "how",
    [
        {"MOVED": True},
        {"MOVED": True, "told": "*i64"},
        {"live": "*i64"},
        {"UNIT": True},
        {"FILL": 1},
        {"FILL": 2},
        {"EVEN": False},
    ],
    ids=str,
)
def test_variants_use_no_stack(how):
    for dtype in ("fp32", "bf16"):
        # Of x and an array of fill values together, registers hold half as much.
        array = how.get("FILL") == 2
        blocks = 16 if array else 32
        code = read(flat(dtype, "sm_90", **how, BLOCKS=blocks))
        wide = WIDE[dtype] * blocks // 32
        assert code.stack == 0
        assert code.count("STG.E.128") == wide
        assert code.count("LDG.E.128") == wide * (2 if array else 1)
        if how.get("EVEN", True):
            assert code.count("STG.E") == wide


def test_double_and_an_array_use_no_stack():
    code = read(flat("fp64", "sm_90", FILL=2, BLOCKS=8))
    assert code.stack == 0
    assert code.count("LDG.E.128") == 2 * code.count("STG.E.128") == 32


def test_rounding():
    """bfloat16 rounds to nearest, float32 keeps its subnormals, and no product is contracted."""
    plain, filled = read(flat("bf16", "sm_90")), read(flat("fp32", "sm_90", FILL=1))
    assert "cvt.rn.bf16" in plain.ptx
    for code in (plain, filled):
        assert not re.search(r"\b(mul|add|sub|fma)\.\w*\.?ftz", code.ptx)
        assert code.count("FFMA") == 0
    assert code.count("FADD") >= LANES


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
def test_tiles_use_no_stack(dtype):
    whole = {"ROWS": 8} if dtype == "fp64" else {"ROWS": 16}
    across = read(tiles(dtype, "sm_90", (1, 2), (1, 2), MOVED=True, NEXT=True, **whole))
    along = read(tiles(dtype, "sm_90", (2, 1), (2, 1), **whole))
    shared = {"SHARED": True, "MOVED": True, "COLUMNS": 4, "ROWS": 256}
    channels = read(tiles(dtype, "sm_90", (1, 2), (1, 2), **shared))
    for code in (across, along, channels):
        assert code.stack == 0
        assert code.count("LDL") == code.count("STL") == 0


def test_packed_words():
    flat_words, rows = read(words("sm_90")), read(words("sm_90", rows=True, MOVED=True))
    (loop,) = flat_words.plane_loops()
    assert (loop.stop - loop.start) / LANES <= A_PLANE["sm_90"]
    assert (len(flat_words) - (loop.stop - loop.start)) / LANES <= 1.25
    for code in (flat_words, rows):
        assert code.stack == 0
        assert code.registers <= 64
        assert code.count("STG.E.128") == 1
        assert code.count("BAR") == code.shared == 0


@pytest.mark.parametrize("kind", [0, 1], ids=["words", "normals"])
def test_draws(kind):
    code = read(draws("sm_90", kind))
    assert code.stack == 0
    # The logarithm and the root are the library's, exact to the last digits: near 1 the short
    # instruction for a logarithm is wrong in all of them.
    assert code.count("MUFU.LG2") == 0


def test_amd():
    for dtype in ("fp32", "bf16"):
        code = flat(dtype, "gfx942", BLOCKS=64).asm["amdgcn"]
        assert re.search(r"\.private_segment_fixed_size:\s*0\b", code)
        assert re.search(r"\.vgpr_spill_count:\s*0\b", code)
        assert code.count("_store_dwordx4") == WIDE[dtype]


def test_amd_of_all_other_kernels():
    moved = {"MOVED": True, "NEXT": True}
    for made in (
        tiles("bf16", "gfx942", (1, 2), (1, 2), **moved),
        tiles("fp32", "gfx942", (2, 1), (2, 1)),
        words("gfx942", BLOCKS=64),
        words("gfx942", rows=True, MOVED=True, BLOCKS=64),
        draws("gfx942", 0),
        draws("gfx942", 1),
    ):
        code = made.asm["amdgcn"]
        assert re.search(r"\.private_segment_fixed_size:\s*0\b", code)
        assert re.search(r"\.vgpr_spill_count:\s*0\b", code)


# ---------------------------------------------------------------------------------- planted faults


def planted(folder, old, new):
    """`dropping.flat` of a copy of the kernels with one line that is another."""
    source = Path(kernels.__path__[0])
    bits = (source / "bits.py").read_text(encoding="utf-8")
    assert old in bits
    name = f"faulty_{abs(hash(new))}"
    (folder / f"{name}.py").write_text(bits.replace(old, new), encoding="utf-8")
    dropping = (source / "dropping.py").read_text(encoding="utf-8")
    file = folder / f"dropping_{name}.py"
    file.write_text(dropping.replace("thinned.backends.torch.triton.bits", name), encoding="utf-8")
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.flat


FAULTS = {
    "the halves of products apart": (
        """        a = c0.to(tl.uint64) * left
        b = c2.to(tl.uint64) * right
        c0 = (b >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (a >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = b.to(tl.uint32)
        c3 = a.to(tl.uint32)
""",
        """        a = c0
        c0 = tl.umulhi(c2, right) ^ c1 ^ k0
        c1 = c2 * right
        c2 = tl.umulhi(a, left) ^ c3 ^ k1
        c3 = a * left
""",
    ),
    "no early exit": (" & (tl.max(open0 | open1 | open2 | open3, 0) != 0)", ""),
    "nothing": ("    j = 0\n", "    j = 0  # the same\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    kernel = planted(tmp_path, *FAULTS[fault])
    code = read(flat("fp32", "sm_90", kernel))
    if fault == "nothing":
        holds(code, "fp32", "sm_90")
        return
    with pytest.raises(AssertionError):
        holds(code, "fp32", "sm_90")


def test_a_spill_is_seen():
    code = read(flat("fp32", "sm_90", BLOCKS=64))
    with pytest.raises(AssertionError):
        holds(code, "fp32", "sm_90")
    assert code.stack > 0
