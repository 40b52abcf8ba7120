"""Sites: seed generators of Keras's that give addresses, and are saved with a model's weights.

A generator becomes a site in place, so that the layers and lists that hold it stay as they are. Its
state is a variable as before, which Keras's trainers hand through compiled steps: the seed in two
words, and how often was drawn here, which is the step of the next address.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from thinned.address import Address
from thinned.keras.addresses import address_of, held, numbers_of
from thinned.keras.internals import WORD, KerasSaveable
from thinned.keras.rematerialized import drawn_once, install

__all__ = ["Site", "next_address", "put", "take_off"]

SPEC_VERSION = 1
install()


class Site(keras.random.SeedGenerator, KerasSaveable):  # type: ignore[misc]
    """A seed generator that names masks by address.

    Attributes
    ----------
    site : str. The name of the site.
    state : keras.Variable, three words: the seed's lower and upper half, and the step.
    plain : the state that the generator had before, by which `take_off` gives it back.
    """

    site: str
    state: Any
    plain: Any

    def next(self, ordered: bool = True) -> Any:
        """Two words for a draw that Keras makes itself (of whole numbers, of categories): another
        seed for each site and step."""
        words = _advance(self.state)
        mixed = keras.ops.bitwise_xor(
            words[0], keras.ops.convert_to_tensor(held([Address(site=self.site).site])[0])
        )
        return keras.ops.stack([keras.ops.cast(mixed, words.dtype), words[2]])

    @property
    def address(self) -> Address:
        """The address of the next draw."""
        low, high, step = numbers_of(self.state)
        return Address(low | high << 32, self.site, step)

    @address.setter
    def address(self, at: Address) -> None:
        self.state.assign(held([at.seed & 0xFFFFFFFF, at.seed >> 32, at.step]))

    def _obj_type(self) -> str:
        return "Operation"

    def save_own_variables(self, store: Any) -> None:
        store["0"] = np.array(numbers_of(self.state), np.uint32)
        store["1"] = np.array([SPEC_VERSION], np.uint32)

    def load_own_variables(self, store: Any) -> None:
        """The state that was saved; the present one stays where the file is of a model that had no
        addresses."""
        if "0" not in store.keys():  # noqa: SIM118 - no dictionary: it has nothing but keys
            return
        version = int(np.asarray(store["1"])[0])
        if version != SPEC_VERSION:
            raise ValueError(
                f"thinned.keras: site {self.site!r} was saved under version {version} of the mask "
                f"spec, and this is version {SPEC_VERSION}: it would draw other masks. Load it "
                "with the thinned that saved it."
            )
        self.state.assign(held(np.asarray(store["0"]).tolist()))


def put(generator: Any, site: str, seed: int) -> None:
    """Make a generator a site, at step 0."""
    generator.plain = generator.state
    generator.site = site
    with keras.name_scope(generator.name):
        generator.state = keras.Variable(
            held([seed & 0xFFFFFFFF, seed >> 32, 0]),
            dtype=WORD,
            trainable=False,
            aggregation="none",
            name="seed_generator_state",
        )
    generator.__class__ = Site


def take_off(generator: Site) -> None:
    """Make a site the generator that it was."""
    generator.__class__ = keras.random.SeedGenerator
    generator.state = generator.plain
    del generator.plain, generator.site


def _advance(state: Any) -> Any:
    """The words of this draw, a new array; the next one has another step.

    By a list of Python's, which PyTorch's compiler follows: it does not where an array of NumPy's
    becomes a tensor.
    """
    return drawn_once(lambda: _next(state))


def _next(state: Any) -> Any:
    now = state.value * 1
    one = keras.ops.convert_to_tensor([0] * (state.shape[0] - 1) + [1], state.dtype)
    state.assign(keras.ops.add(state.value, one))
    return now


def next_address(generator: Any) -> Any:
    """The address of a generator's next draw: a site's own, or, of a layer that stands alone, the
    generator's seed at the step that it counts. Or what stands for it in a compiler's program."""
    site = generator.site if isinstance(generator, Site) else 0
    return address_of(_advance(generator.state), site)
