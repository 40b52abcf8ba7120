"""What the kernels of a residual stream are compiled to: no stack, and wide accesses."""

import re

import pytest
from machine_code import compiled, read

from thinned.backends.torch.triton import residual, summing

WIDTHS = (1024, 4096)
NUMBERS = {"scale": "i64", "columns": "i32", "eps": "i64", "rows": "i32", "each": "i32"}
POINTERS = ("x", "bias", "residual", "z", "out", "g", "more", "dz", "dx")
WIDE = ("weight", "shift", "mean", "rstd", "dweight", "dshift")


def rows(kernel, dtype, width, target, norm, moved=False, without=()):
    absent = {f"{name}_ptr": None for name in without}
    constants = {
        "told": None, "live": None, "sizes": (), "steps": (), "WIDTH": width, "NORM": norm,
        "MOVED": moved, "CHUNK": 2, **absent,
    }  # fmt: skip
    if moved or norm:
        constants.pop("sizes"), constants.pop("steps")
    types = {f"{name}_ptr": f"*{dtype}" for name in POINTERS}
    types |= {f"{name}_ptr": "*fp32" for name in WIDE} | NUMBERS
    types |= {"sizes": ("i64",), "steps": ("i64",)}
    names = [name for name in kernel.arg_names if name not in constants]
    types = {name: kind for name, kind in types.items() if name in names}
    warps = summing._warps(width)
    return compiled(kernel, target, types, constants, warps, even=("columns",))


def holds(made):
    code = read(made)
    assert code.stack == 0
    assert code.count("LDL") == code.count("STL") == 0
    assert code.count("LDG.E.128") > 0
    assert code.count("STG.E.128") > 0
    assert code.count("FFMA") == 0


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_sums(width, dtype):
    without = ("weight", "shift", "out", "mean", "rstd")
    holds(rows(residual.forward, dtype, width, "sm_90", residual.SUM, without=without))
    holds(rows(residual.forward, dtype, width, "sm_80", residual.SUM, True, without))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_norms(width, dtype):
    holds(rows(residual.forward, dtype, width, "sm_90", residual.LAYER, without=("bias",)))
    holds(rows(residual.forward, dtype, width, "sm_80", residual.RMS, True, ("bias",)))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_gradients(width, dtype):
    holds(rows(residual.backward, dtype, width, "sm_90", residual.LAYER))
    holds(rows(residual.backward, dtype, width, "sm_80", residual.RMS, True))


def test_a_spill_is_seen(monkeypatch):
    monkeypatch.setattr(summing, "_warps", lambda _: 1)
    made = rows(residual.backward, "fp32", 4096, "sm_80", residual.LAYER)
    assert read(made).stack > 0
    with pytest.raises(AssertionError):
        holds(made)


@pytest.mark.parametrize("kernel", [residual.forward, residual.backward])
def test_amd(kernel):
    without = ("bias",) if kernel is residual.forward else ()
    code = rows(kernel, "bf16", 1024, "gfx942", residual.LAYER, without=without).asm["amdgcn"]
    assert re.search(r"\.private_segment_fixed_size:\s*0\b", code)
    assert re.search(r"\.vgpr_spill_count:\s*0\b", code)
