"""The Pallas kernel draws the published masks, in Pallas's interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thinned
from thinned import Address
from thinned.backends.jax import pallas, primitives

from . import checks_draw, checks_values
from .kinds import JaxKind

CHECKS = (
    checks_draw.masks_are_the_published_ones,
    checks_draw.windows_are_the_published_ones,
    checks_draw.shared_masks_are_the_published_ones,
    checks_draw.the_boundary_is_strict,
    checks_values.values_are_the_published_ones,
    checks_values.p_one_gives_zeros,
)
KIND = JaxKind("float32")


@pytest.fixture(scope="module")
def interpreted():
    """Draws by the Pallas kernel on the CPU, in its interpreter; gives where it was taken."""
    taken = []

    def decided(*operands, platform):
        taken.append(platform)
        return real(*operands, platform=platform)

    real = pallas.decided
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primitives.pallas, "PLATFORMS", ("cpu",))
        patch.setattr(pallas, "decided", decided)
        patch.setenv("THINNED_PALLAS", "1")
        jax.clear_caches()
        with KIND.in_use():
            yield taken
    jax.clear_caches()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_its_bits_are_the_published_ones(check, interpreted):
    interpreted.clear()
    check(KIND)
    assert set(interpreted) <= {"cpu"}


def test_many_addresses_and_the_backward_pass(interpreted):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 40, 50)), jnp.float32)

    def dropped(x, step):
        return thinned.dropout(x, 0.3, Address(5, "a", step), shared_axes=0)

    steps = jnp.arange(3, dtype=jnp.uint32)
    y, back = jax.vjp(lambda x: jax.vmap(dropped)(x, steps), x)
    expected = np.stack(
        [
            thinned.dropout(np.asarray(part), 0.3, Address(5, "a", i), shared_axes=0)
            for i, part in enumerate(x)
        ]
    )
    np.testing.assert_array_equal(y, expected)
    scale = np.float32(1 / 0.7)
    np.testing.assert_array_equal(back(jnp.ones_like(y))[0], np.where(expected != 0, scale, 0))
