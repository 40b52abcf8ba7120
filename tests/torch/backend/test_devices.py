"""Which way draws go on which device. No device is needed here, and no Triton."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import thinned
import thinned.torch
from thinned.backends.torch import compiled_node, devices, wire
from thinned.backends.torch.in_cuda_graph import TOLD
from thinned.backends.torch.triton import words
from thinned.torch.fused import bias_dropout_add, dropout_add_norm
from thinned.window import Window, place

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda:0", "mps"))
AT = thinned.Address(seed=2**64 - 1, site=2**32 - 1, step=2**32 - 2, call=2**16 - 1)


@pytest.fixture(autouse=True)
def asked_anew():
    kept = (devices._has_triton, devices._has_room)
    for answers in kept:
        answers.cache_clear()
    yield
    for answers in kept:
        answers.cache_clear()


def with_cuda(monkeypatch, capability=(9, 0), triton=(3, 7), hip=None, there=True):
    monkeypatch.setattr(devices, "_triton", lambda: triton)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.version, "hip", hip)


def test_devices_and_their_paths(monkeypatch):
    assert devices.path_of(CPU) == ("reference" if devices.kernel.uses_reference() else "compiled")
    assert devices.path_of(MPS) == "operations"
    for how, path in (
        ({}, "triton"),
        ({"capability": (7, 5)}, "operations"),
        ({"triton": ()}, "operations"),
        ({"triton": (3, 5)}, "operations"),
        ({"there": False}, "operations"),
        ({"capability": (7, 5), "hip": "6.2"}, "triton"),
    ):
        devices._has_triton.cache_clear()
        with monkeypatch.context() as patch:
            with_cuda(patch, **how)
            assert devices.path_of(CUDA) == path


def test_which_of_amds_devices_hold_the_tiles_of_attention(monkeypatch):
    with_cuda(monkeypatch)
    assert devices.holds_tiles(CUDA)
    assert not devices.holds_tiles(MPS)
    for name, holds in (("gfx942:sramecc+:xnack-", True), ("gfx950", True), ("gfx1100", False)):
        devices._has_room.cache_clear()
        with monkeypatch.context() as patch:
            with_cuda(patch, hip="6.4")
            said = SimpleNamespace(gcnArchName=name)
            patch.setattr(torch.cuda, "get_device_properties", lambda index, said=said: said)
            assert devices.holds_tiles(CUDA) is holds, name


def test_the_reference_draws_by_operations(monkeypatch):
    with_cuda(monkeypatch)
    monkeypatch.setattr(devices.kernel, "uses_reference", lambda: True)
    assert devices.path_of(CUDA) == "operations"
    assert devices.path_of(CPU) == "reference"


def raises():
    raise RuntimeError("Cannot access accelerator device when none is available.")


def test_kernel_info_names_what_pytorch_sees(monkeypatch):
    seen = SimpleNamespace(
        current_accelerator=lambda: torch.device("cuda"),
        is_available=lambda: True,
        device_count=lambda: 2,
    )
    with_cuda(monkeypatch)
    monkeypatch.setattr(torch, "accelerator", seen, raising=False)
    assert thinned.kernel_info().devices == {"cuda:0": "triton", "cuda:1": "triton"}
    seen.is_available, seen.current_accelerator = lambda: False, raises
    assert thinned.kernel_info().devices == {}


def test_fake_tensors_lie_on_devices_that_are_not_there(monkeypatch):
    """On a machine with Triton and no device, whose capability nobody can say."""
    monkeypatch.setattr(devices, "_triton", lambda: (3, 7))
    model = torch.nn.Sequential(torch.nn.Dropout(0.5))
    thinned.torch.adopt(model, seed=1)
    options = {"p": 0.5, "at": AT, "training": True}
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(1, 2, 8, 16, device="cuda", dtype=torch.float16)
        for y in (
            thinned.dropout(x, 0.5, AT),
            model(x),
            thinned.torch.scaled_dot_product_attention(x, x, x, **options),
            bias_dropout_add(x, None, x, **options),
            dropout_add_norm(x, x, None, **options),
        ):
            assert (y.shape, y.device.type, y.dtype) == (x.shape, "cuda", x.dtype)


def test_kernels_are_interpreted_only_where_they_are_met(monkeypatch):
    monkeypatch.setattr(compiled_node, "is_compiled", lambda: True)
    with pytest.raises(RuntimeError, match="THINNED_TORCH=python"), devices.interpreted():
        pass
    assert not devices.uses_triton(CPU)


def test_planes_end_at_the_lowest_set_bit():
    planes = {2**31: 1, 2**30: 2, 3 * 2**29: 3, 1: 32, 2**32 - 1: 32, 0: 0, 2**32: 0}
    for threshold, n in planes.items():
        law = words.law(threshold, False, 0)
        assert law >> 32 & 63 == n
        assert law >> 39 & 1 == (threshold == 2**32)


def test_words_are_told_as_an_operator_was():
    where = place("test", (3, 4, 5), (1,), Window((2, 0, 0), (9, 4, 5)))
    told = TOLD(
        wire.words_of(AT, where), wire.pack_rate(2**30, 4 / 3), 0.5, True, (3, 4, 5), (1,), CPU
    )
    draw = wire.read(wire.words_of(AT, where), 2**30, (3, 4, 5), True)
    assert told.tolist() == list(words.told(draw, 4 / 3, 0.5))
    seed, spot, law, *_, first = told.tolist()
    assert seed == -1
    assert spot & 0xFFFFFFFF == AT.site
    assert spot >> 32 & 0xFFFFFFFF == AT.step
    assert law >> 48 & 0xFFFF == AT.call
    assert law >> 38 & 1
    assert first == where.offset


def test_a_piece_of_another_axis_is_refused():
    where = place("test", (3, 4), (), Window((0, 1), (3, 9)))
    with pytest.raises(RuntimeError, match="a piece of its leading axis only"):
        TOLD(wire.words_of(AT, where), wire.pack_rate(2**30, 4 / 3), 0.0, False, (3, 4), (), CPU)
