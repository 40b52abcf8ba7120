"""Launches as PyTorch code makes them, up to the device: a driver that says which one it would be,
and kernels that are compiled and not run."""

import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)

import thinned
from thinned import Window, reference
from thinned.backends.base import Draw
from thinned.backends.torch.triton import drawing, dropping, launch, packing, words
from thinned.window import place

KERNELS = (dropping.flat, dropping.tiles, packing.rows_of_words, drawing.draws)


def drop(shape, p, at, memory=lambda x: x, dtype=torch.float32, **how):
    x = memory(torch.empty(shape, dtype=dtype))
    where = place("test", tuple(x.shape), how.get("shared", ()), how.get("window"))
    draw = Draw(at, reference.threshold(p), where, how.get("mirror", False))
    told = words.told(draw, reference.scale_for(p))
    launch.drop(x, torch.empty_like(x), where, told)


def test_a_new_address_p_or_length_compiles_nothing(compiled):
    for seed in (0, 1, 16, 2**31, 2**32, 2**63, 2**64 - 1):
        for p in (1e-9, 0.1, 0.5, 0.999999):
            at = thinned.Address(seed=seed, site=seed % 2**32, step=seed % 2**31)
            drop((4096,), p, at, mirror=bool(seed % 2))
    for n in (16, 64, 4096, 2**20, 1600):
        drop((n,), 0.5, thinned.Address())
    assert compiled() == 1
    drop((33,), 0.5, thinned.Address())  # a length that is no multiple of 16
    drop((33,), 0.5, thinned.Address(), window=Window(5))  # a start that is none of 128
    assert compiled() == 3


def test_tiles_of_many_layouts_compile(compiled):
    at = thinned.Address(seed=3)
    for memory in (
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(1, 3),
        lambda x: x[..., ::2],
        lambda x: x[:, :1].expand(-1, 3, -1, -1),
    ):
        drop((2, 3, 20, 32), 0.3, at, memory)
    drop((2, 3, 20, 32), 0.3, at, shared=(2, 3))
    drop((2, 3, 20, 32), 0.3, at, shared=(0, 2), dtype=torch.bfloat16)
    drop((2, 3, 20, 32), 0.3, at, shared=(0, 1, 2, 3))
    drop((64,), 0.3, at, lambda x: x[::2], window=Window(7))
    drop((), 0.3, at)
    before = compiled()
    assert before <= 9
    drop((2, 3, 20, 32), 0.7, at.replace(step=5), shared=(2, 3))
    assert compiled() == before


def test_words_and_draws_compile(compiled):
    at = thinned.Address(seed=3)
    for shape in ((1000,), (4, 256), (2, 3, 130)):
        where = place("test", shape)
        told = words.told(Draw(at, 2**30, where))
        launch.mask_words(where, told, torch.device("cpu"))
        launch.draws_of(where, told, torch.device("cpu"))
        launch.draws_of(where, told, torch.device("cpu"), gaussian=True)
    launch.draws_at(torch.arange(10), told)
    held = torch.tensor(told)
    launch.mask_words(where, held, torch.device("cpu"), live=held[:1])
    assert compiled() <= 8


def test_a_step_on_the_device_compiles_once(compiled):
    x, live = torch.empty(4096), torch.zeros(4, dtype=torch.int64)
    where = place("test", (4096,))
    told = words.told(Draw(thinned.Address(), 2**30, where))
    for _ in range(2):
        launch.drop(x, torch.empty_like(x), where, told, live=live[2])
        launch.drop(x, torch.empty_like(x), where, torch.tensor(told))
    assert compiled() == 2
