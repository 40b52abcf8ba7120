"""The Pallas kernel by itself: the tiles of each platform, and that it is lowered for both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

import thinned
from thinned import Address
from thinned.backends.jax import pallas, spec

AT = Address(1, 2, 3)


def deciding(at, count, first, mirror):
    """Both, as functions of a threshold, for so many blocks from a number on."""

    def by(decided, *platform):
        def kept(*threshold):
            with jax.enable_x64(True):
                numbers = (jnp.arange(count, dtype=jnp.uint64) + np.uint64(first))[None]
                return decided(at, numbers, threshold, mirror, *platform)

        return jax.jit(kept)

    return by(spec.decided), by(pallas.decided, "cpu")


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_tiles_of_each_platform_give_the_same_bits(platform, monkeypatch):
    """Numbers past 2^32 and tiles that are not full, by the shapes that a device is given."""
    monkeypatch.setitem(pallas.TILES, "cpu", pallas.TILES[platform])
    at = jnp.array((0x76543210, 0xFEDCBA98, 7, 3, 2), jnp.uint32)
    for mirror in (False, True):
        of_spec, of_kernel = deciding(at, 1100, 4 * 2**32 + 2**32 - 100, mirror)
        for t in (0, 2**31, 2**29, 429496730, 2**32 - 1, 2**32):
            threshold = jnp.uint32(t % 2**32), jnp.uint32(t >> 32)
            np.testing.assert_array_equal(of_kernel(*threshold), of_spec(*threshold))


def test_a_plane_too_few_is_seen(monkeypatch):
    """The planted fault: the last plane that decides is left out."""
    of_spec, of_kernel = deciding(jnp.arange(1, 6, dtype=jnp.uint32), 64, 0, False)
    threshold = jnp.uint32(3 << 29), jnp.uint32(0)
    expected = of_spec(*threshold)
    planes = spec.planes
    monkeypatch.setattr(spec, "planes", lambda t: planes(t) - 1)
    found = of_kernel(*threshold)
    assert not np.array_equal(found, expected)


def test_rounds_written_out_are_the_same():
    counter = tuple(jnp.arange(5, dtype=jnp.uint32) * k for k in (1, 7, 77, 777))
    key = jnp.uint32(5), jnp.uint32(6)
    with jax.disable_jit():
        written = spec.philox(counter, key, unroll=True)
    np.testing.assert_array_equal(written, spec.philox(counter, key))


# From 0.12 on JAX asks for which GPU it lowers where the machine has none.
DEVICE = AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
NO_MESH = AbstractMesh((), ())
ANOTHER_MACHINE = AbstractMesh((), (), abstract_device=DEVICE)


def lowered(function, platform, *args):
    """The program for a platform, traced anew: what a jit has traced, it lowers once."""
    with jax.sharding.use_abstract_mesh(ANOTHER_MACHINE if platform == "cuda" else NO_MESH):
        return (
            jax.jit(lambda *args: function(*args))
            .trace(*args)
            .lower(lowering_platforms=(platform,))
            .as_text()
        )


CALLS = {"tpu": "@tpu_custom_call", "cuda": "triton"}


@pytest.mark.parametrize("platform", CALLS)
@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "drop_path", "alpha_dropout"])
def test_it_is_lowered_where_it_is_asked_for(name, platform, monkeypatch):
    """For TPUs by Mosaic and for GPUs by Triton; forward, backward and over many addresses."""
    method = getattr(thinned, name)
    x = jnp.ones((6, 32, 8), jnp.bfloat16)

    def loss(x, step):
        return method(x, 0.3, Address(1, 2, step)).astype(jnp.float32).sum()

    programs = [
        (jax.grad(loss), (x, jnp.uint32(3))),
        (jax.vmap(loss, (None, 0)), (x, jnp.arange(5, dtype=jnp.uint32))),
    ]
    for function, args in programs:
        for asked in ("0", "1"):
            monkeypatch.setenv("THINNED_PALLAS", asked)
            program = lowered(function, platform, *args)
            assert (CALLS[platform] in program) is (asked == "1")


def test_the_cpu_and_saved_programs_have_none(monkeypatch):
    """Whoever loads a saved program may have another JAX, whose kernels are other."""
    monkeypatch.setenv("THINNED_PALLAS", "1")

    def f(x):
        return thinned.dropout(x, 0.3, AT)

    x = jnp.ones(100)
    assert not any(call in lowered(f, "cpu", x) for call in CALLS.values())
    for platform, call in CALLS.items():
        saved = jax.export.export(jax.jit(f), platforms=[platform])(x)
        assert call not in saved.mlir_module()


def test_another_value_of_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv("THINNED_PALLAS", "yes")
    with pytest.raises(ValueError, match=r"THINNED_PALLAS must be 1, .* or 0, .* got 'yes'"):
        lowered(lambda x: thinned.dropout(x, 0.3, AT), "tpu", jnp.ones(100))
