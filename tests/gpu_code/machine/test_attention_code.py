"""What attention's kernels are compiled to: no stack, tensor cores, and shared memory that fits."""

import re

import pytest
import torch
from machine_code import compiled, read

from thinned.backends.torch.triton import attending, attention

KERNELS = {
    "forward": attention.forward,
    "keys": attention.keys_backward,
    "rows": attention.rows_backward,
}
# Bytes of shared memory that a program may have; the least of sm_8x is that of consumer devices.
SHARED = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
OLDER = ("sm_80", "sm_90")
STEPS = ("_sample", "_head", "_row")
NUMBERS = dict.fromkeys(("scale", "times", "dk_times", "dq_times"), "fp32")
MASKS = {"none": attention.NO_MASK, "boolean": attention.BOOLEAN, "added": attention.ADDED}


def attended(which, dtype, width, target, mask="none", causal=False, tile=None):
    kernel = KERNELS[which]
    if tile is None:
        tile = attending.tile_of(which, width, mask != "none", amd=target.startswith("gfx"))
    constants = {
        "E": width, "V": width, "D": width, "DV": width, "ROWS": tile.rows,
        "COLUMNS": tile.columns, "MASK": MASKS[mask], "CAUSAL": causal,
        "PRECISION": attending.precision_of(torch.bfloat16),
    }  # fmt: skip
    given = {"none": dtype, "boolean": "u8", "added": "fp32"}[mask]
    types = dict.fromkeys(kernel.arg_names, "i32") | {
        name: f"*{dtype}" for name in kernel.arg_names if name.endswith("_ptr")
    }
    types |= {"lse_ptr": "*fp32", "delta_ptr": "*fp32", "words_ptr": "*i32"}
    types |= {"mask_ptr": f"*{given}"} | NUMBERS
    types = {name: kind for name, kind in types.items() if name in kernel.arg_names}
    even = [n for n in types if n.endswith(STEPS) and not n.startswith(("mask", "first"))]
    return compiled(
        kernel, target, types, constants, tile.warps, stages=tile.stages, even=even, fused=True
    )


def holds(code, target, spilled=0):
    """spilled : bytes of registers that may lie in memory for a while."""
    assert code.stack <= spilled
    assert spilled or code.count("LDL") == code.count("STL") == 0
    assert code.shared <= SHARED[target]
    assert code.count("HMMA") + code.count("HGMMA") + code.count("UTCHMMA") > 0


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("which", KERNELS)
def test_half_types_use_no_stack(which, width):
    for target in OLDER:
        holds(read(attended(which, "bf16", width, target)), target)
        holds(read(attended(which, "fp16", width, target, causal=True)), target)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("which", KERNELS)
def test_masks_use_no_stack(which, width):
    for target in OLDER:
        holds(read(attended(which, "bf16", width, target, "added")), target)


@pytest.mark.parametrize("which", KERNELS)
def test_boolean_masks_use_no_stack(which):
    for width in (64, 128):
        holds(read(attended(which, "fp16", width, "sm_80", "boolean")), "sm_80")


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("which", KERNELS)
def test_tensor_memory_of_newer_devices(which, width):
    """Blackwell's own instructions for products, and no stack with them either; four registers with
    a mask of numbers, in the forward pass at 128."""
    code = read(attended(which, "bf16", width, "sm_100"))
    holds(code, "sm_100")
    assert code.count("UTCHMMA") > 0
    spilled = 16 if (which, width) == ("forward", 128) else 0
    masked = attended(which, "fp16", width, "sm_100", "added", causal=True)
    holds(read(masked), "sm_100", spilled)


def holds_on_amd(made):
    code = made.asm["amdgcn"]
    assert re.search(r"\.private_segment_fixed_size:\s*0\b", code)
    assert re.search(r"\.vgpr_spill_count:\s*0\b", code)
    assert made.metadata.shared <= 64 * 1024
    assert "v_mfma" in code


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("which", KERNELS)
def test_amd(which, width):
    holds_on_amd(attended(which, "bf16", width, "gfx942"))
    holds_on_amd(attended(which, "fp16", width, "gfx942", causal=True))
    holds_on_amd(attended(which, "bf16", width, "gfx942", "added"))
    holds_on_amd(attended(which, "fp16", width, "gfx942", "boolean"))


@pytest.mark.parametrize(("which", "width"), [("forward", 128), ("rows", 128), ("keys", 256)])
def test_tiles_of_other_devices_do_not_fit_amd(which, width):
    made = attended(
        which, "bf16", width, "gfx942", tile=attending.tile_of(which, width, False, False)
    )
    with pytest.raises(AssertionError):
        holds_on_amd(made)


def test_a_spill_is_seen():
    tile = attending.Tile(128, 128, 4, 2)
    code = read(attended("keys", "bf16", 128, "sm_90", tile=tile))
    assert code.stack > 0
    with pytest.raises(AssertionError):
        holds(code, "sm_90")


def test_words_are_loaded_and_not_drawn():
    """Philox has twenty products of 32 by 32 bits; the loop over keys has none of them."""
    code = read(attended("forward", "bf16", 64, "sm_80"))
    longest = max(code.loops(), key=lambda loop: loop.stop - loop.start)
    assert code.count("HMMA", longest) > 0
    assert code.count("IMAD.WIDE.U32", longest) + code.count("IMAD.HI", longest) < 20
