"""Attention and residual streams as PyTorch code launches them, up to the device."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)

import thinned
from thinned import reference
from thinned.backends.base import Draw
from thinned.backends.torch.kernel import Noise
from thinned.backends.torch.triton import attending, attention, residual, summing
from thinned.window import Window, place

KERNELS = (
    attention.forward,
    attention.keys_backward,
    attention.rows_backward,
    residual.forward,
    residual.backward,
)
AT = thinned.Address(seed=2**63 + 1, site=7, step=2**31)


def draw(shape, p=0.1, window=None):
    return Draw(AT, reference.threshold(p), place("test", shape, (), window), False)


def attend(B=2, H=4, K=2, L=100, S=140, E=64, mask=None, causal=False, p=0.1, group=None):
    q, k, v = (torch.empty(B, h, n, E, dtype=torch.bfloat16) for h, n in ((H, L), (K, S), (K, S)))
    how = (draw((B, H, L, S), p), 1 / (1 - p), 0.125, causal)
    lse = attending.attend(q, k, v, mask, torch.empty_like(q), *how)
    attending.gradients(q, q, k, v, q, lse, mask, *how)


def test_another_p_number_or_length_compiles_nothing(compiled):
    attend()
    assert compiled() == 3
    attend(p=0.5, L=1, S=1)
    attend(B=1, H=16, K=1, L=160, S=999)
    assert compiled() == 3


def test_groups_of_heads_compile_nothing(compiled, monkeypatch):
    monkeypatch.setattr(attending, "AT_A_TIME", 1)
    attend(B=3, H=20, K=20, L=64, S=64)
    assert compiled() == 3


def test_masks_compile(compiled):
    attend(causal=True)
    attend(mask=torch.ones(100, 140, dtype=torch.bool))
    attend(mask=torch.zeros(2, 1, 1, 140))
    assert compiled() == 9


@pytest.mark.parametrize("rms", [False, True])
def test_rows_compile(rms, compiled):
    def layer(*shape, p=0.1, dtype=torch.bfloat16, window=None):
        x, column = torch.empty(shape, dtype=dtype), torch.empty(shape[-1])
        how = Noise(draw(shape, p, window), 1 / (1 - p))
        summing.add(x, x[0].flatten()[: shape[-1]].contiguous(), x, x.clone(), how)
        row = torch.empty(shape[:-1])
        summing.norm(x, x, x.clone(), column, None, x.clone(), row, row.clone(), how, rms, 1e-5)
        arrays = (x, x, None, column, row, row, x.clone(), x.clone())
        summing.gradients(*arrays, how, rms)

    layer(6, 512)
    before = compiled()
    assert before == 3
    layer(6, 512, p=0.5)
    layer(70, 512)
    assert compiled() == before
    layer(6, 512, window=Window(3))
    assert compiled() == before
    layer(2, 3, 500, window=Window((0, 1, 0), (2, 9, 500)))  # rows along two axes, moved draws
    assert compiled() == 2 * before
