"""Launches through Triton's own launcher, with the grids, types and memory that a device sees."""

import pytest
import stand_in
import torch
import triton

import thinned
import thinned.torch
from thinned.backends.torch import devices
from thinned.backends.torch.triton import summing
from thinned.torch import scaled_dot_product_attention
from thinned.torch.fused import bias_dropout_add, dropout_add_norm

AT = thinned.Address(seed=2**63 + 5, site="here", step=2**32 - 2, call=65535)


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    """Arrays on the CPU go to the stand-in, as arrays on a device go to a driver."""
    from thinned.backends.torch import compiled_node

    for name in ("dropout", "noise"):
        monkeypatch.setattr(compiled_node, name, compiled_node._nothing)
    monkeypatch.setattr(devices, "_interpreting", True)
    monkeypatch.setattr(triton.runtime.driver, "_active", stand_in.Launcher(), raising=False)


def launched(function):
    before = stand_in.launches()
    function()
    return stand_in.launches() - before


def both_ways(function, *arrays):
    function(*arrays).sum().backward()


def leaf(*shape, dtype=torch.bfloat16):
    return torch.zeros(shape, dtype=dtype, requires_grad=True)


def test_dropout_is_one_launch_each_way():
    x = leaf(3, 4, 20, 32, dtype=torch.float32)
    for how in ({}, {"shared_axes": (2, 3)}, {"window": thinned.Window(1)}, {"mirror": True}):
        assert (
            launched(lambda how=how: both_ways(lambda x: thinned.dropout(x, 0.3, AT, **how), x))
            == 2
        )
    for moved in (x.mT, x[..., ::2], x[:, :1].expand(-1, 3, -1, -1)):
        assert launched(lambda moved=moved: thinned.dropout(moved.detach(), 0.3, AT)) == 1
    # The second element is not aligned to 16 bytes, and nor is what is written there.
    assert launched(lambda: thinned.dropout(x.detach().flatten()[1:], 0.3, AT)) == 1
    for dtype in (torch.float16, torch.float64):
        assert launched(lambda dtype=dtype: thinned.dropout(x.detach().to(dtype), 0.3, AT)) == 1
    for law in (thinned.gaussian_dropout, thinned.uniform_dropout):
        assert launched(lambda law=law: law(x.detach(), 0.3, AT)) == 1


def test_a_step_and_words_on_the_device():
    from thinned.backends.torch import wire

    x, words, rate = torch.zeros(3, 40), wire.pack_place(AT, 0, (40, 1)), wire.pack_rate(2**30, 2.0)
    told = torch.ops.thinned.told.default(words, rate, 0.0, False, x.shape, (), x.device)
    assert launched(lambda: torch.ops.thinned.heard.default(x, told, (), False, None)) == 1
    assert launched(lambda: torch.ops.thinned.heard_bits.default(told, 120)) == 1


def attend(*shape, dtype=torch.bfloat16, **options):
    arrays = [leaf(*shape, dtype=dtype) for _ in range(3)]

    def run(q, k, v):
        return scaled_dot_product_attention(q, k, v, None, 0.5, AT, training=True, **options)

    return launched(lambda: both_ways(run, *arrays))


def test_attention_is_a_few_launches():
    """Words and the kernel forward, words and two kernels backward."""
    assert attend(2, 3, 100, 64) == 5
    assert attend(2, 3, 100, 128, dtype=torch.float16, is_causal=True) == 5


def test_heads_beyond_what_an_axis_of_the_grid_holds():
    """65,535 at most: of short rows more would fit into a group's words."""
    assert attend(8750, 8, 1, 64) == 2 * 5


def test_residual_streams():
    x, bias = leaf(64, 1024), leaf(1024)

    def run(x, b):
        return bias_dropout_add(x, b, x, 0.5, AT, training=True)

    def normed(x, b):
        return dropout_add_norm(x, x, b, 0.5, AT, training=True)

    assert launched(lambda: both_ways(run, x, bias)) == 2
    assert launched(lambda: both_ways(normed, x, bias)) == 2


def test_a_row_beyond_what_an_axis_of_the_grid_holds(monkeypatch):
    monkeypatch.setattr(summing, "SEGMENT", 128)
    x = torch.zeros(65_536 * 128 + 1, dtype=torch.float16)
    assert launched(lambda: bias_dropout_add(x, None, x, 0.5, AT, training=True)) == 1
    assert stand_in.last_grid() == (65_537, 1, 1)


def test_the_stand_in_refuses_what_a_device_refuses():
    from thinned.backends.torch.triton import attending

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attending, "MOST_HEADS", 2**20)
        with pytest.raises(RuntimeError, match="invalid argument"):
            attend(8750, 8, 1, 64)
