"""Attention on DTensors, process by process: each draws its part of the whole mask."""

import pytest
import torch
from attended import made

import thinned
from thinned.torch import scaled_dot_product_attention

distributed = pytest.importorskip("torch.distributed.tensor")
AT = thinned.Address(seed=3, site="attention", step=5)
WORLD = 2


@pytest.fixture
def mesh_of():
    """The mesh as one process of two sees it, by PyTorch's process group that sends nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def mesh(rank):
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.distributed.init_process_group("fake", rank=rank, world_size=WORLD, store=FakeStore())
        return torch.distributed.device_mesh.init_device_mesh("cpu", (WORLD,))

    yield mesh
    torch.distributed.destroy_process_group()


def arrays(heads=4, shared=2):
    shapes = (2, heads, 5, 8), (2, shared, 7, 8), (2, shared, 7, 6)
    return [made(*shape, seed=i) for i, shape in enumerate(shapes)]


def attended(*given, **options):
    options = {"training": True, "enable_gqa": True, **options}
    return scaled_dot_product_attention(*given, None, 0.5, AT, **options)


def placed(given, mesh, where):
    parts = [
        x.detach() if where.is_replicate() else x.detach().chunk(WORLD, where.dim)[mesh.get_rank()]
        for x in given
    ]
    parts = [x.clone().requires_grad_() for x in parts]
    wrapped = [
        distributed.DTensor.from_local(
            part, mesh, [where], run_check=False, shape=x.shape, stride=x.stride()
        )
        for part, x in zip(parts, given, strict=True)
    ]
    return parts, wrapped


@pytest.mark.parametrize(
    "where", [distributed.Shard(0), distributed.Shard(1), distributed.Replicate()], ids=str
)
def test_each_process_draws_its_part_of_the_mask(where, mesh_of):
    given = arrays()
    whole = attended(*given)
    gradients = torch.autograd.grad(whole.square().sum(), given)
    for rank in range(WORLD):
        mesh = mesh_of(rank)
        parts, wrapped = placed(given, mesh, where)
        y = attended(*wrapped)
        assert y.shape == whole.shape
        assert y.placements == (where,)
        local = y.to_local()
        local.square().sum().backward()
        for got, expected in zip(
            (local, *(x.grad for x in parts)), (whole, *gradients), strict=True
        ):
            if where.is_shard():
                expected = expected.chunk(WORLD, where.dim)[rank]
            torch.testing.assert_close(got, expected)


def test_what_a_process_would_have_to_be_sent_is_refused(mesh_of):
    mesh = mesh_of(0)
    shard = distributed.Shard
    _, (q, k, v) = placed(arrays(), mesh, shard(1))
    with pytest.raises(
        TypeError, match="must be DTensors placed alike, cut along samples or heads"
    ):
        attended(q, k, arrays()[2])
    _, rows = placed(arrays(), mesh, shard(2))
    with pytest.raises(TypeError, match="cut along samples or heads or not at all"):
        attended(*rows)
    with pytest.raises(ValueError, match="Leave out window"):
        attended(q, k, v, window=thinned.Window(0))
    taken = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    with pytest.raises(TypeError, match="one mask for all samples and heads"):
        scaled_dot_product_attention(q, k, v, taken, 0.5, AT, training=True, enable_gqa=True)
    _, uneven = placed(arrays(6, 3), mesh, shard(1))
    with pytest.raises(TypeError, match="where a group of query's heads ends"):
        attended(*uneven)
