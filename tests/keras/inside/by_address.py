"""The layers by address, on the backend that this process has: what they draw is NumPy's."""

import inspect

import keras
import ml_dtypes
import numpy as np
import pytest

import thinned
import thinned.keras as tk
from thinned.keras import layers
from thinned.methods import find

BACKEND = keras.config.backend()
MADE = layers.made()
# The row of each layer that Keras has a form of its own for.
KERAS = {
    "Dropout": "dropout", "GaussianDropout": "gaussian_dropout", "GaussianNoise": "gaussian_noise",
    "AlphaDropout": "alpha_dropout", "SpatialDropout1D": "spatial_dropout",
    "SpatialDropout2D": "spatial_dropout", "SpatialDropout3D": "spatial_dropout",
}  # fmt: skip
RANKS = {"SpatialDropout1D": 3, "SpatialDropout2D": 4, "SpatialDropout3D": 5, "DropBlock2D": 4}
MORE = {"Cutout": {"size": 3}, "DropBlock": {"block_size": 3}, "DropBlock2D": {"block_size": 3}}


def read(x):
    return np.asarray(keras.ops.convert_to_numpy(x), np.float64)


def row_of(name):
    return getattr(MADE[name], "row", None) or find(KERAS[name])


def made(kind, seed=7, **how):
    first = {"stddev": 0.3} if kind == "GaussianNoise" else {"rate": 0.3}
    return MADE[kind](**first, seed=seed, **{**MORE.get(kind, {}), **how})


def data(name, dtype="float32"):
    """An array that the layer takes, its channels last."""
    sample = row_of(name).sample
    if sample.arrays is not None:
        x = sample.inputs()[0]
    else:
        rank = RANKS.get(name, len(sample.shape))
        x = np.random.default_rng(0).standard_normal((4, 8, 6, 5, 3)[:rank] if rank > 2 else (4, 6))
    return np.asarray(x, np.float32).astype(getattr(ml_dtypes, dtype, dtype))


def expected(name, x, step=0, seed=7):
    """What NumPy has at the address of a layer's call."""
    row, how = row_of(name), dict(MORE.get(name, {}))
    if "channel_axis" in row.options:
        how["channel_axis"] = -1
    p = {"std": 0.3, **how} if name == "GaussianNoise" else how
    rate = () if name == "GaussianNoise" else (0.3,)
    return row.function(x, *rate, thinned.Address(seed, step=step), **p)


over_layers = pytest.mark.parametrize("name", sorted(MADE))


@over_layers
def test_draws_are_numpys_at_the_address(name):
    layer, x = made(name), data(name)
    drawn = [read(layer(x, training=True)) for _ in range(6)]
    for step, y in enumerate(drawn):
        np.testing.assert_allclose(y, expected(name, x, step), rtol=3e-6, atol=3e-6)
    assert any((y != drawn[0]).any() for y in drawn)


@over_layers
def test_evaluation_is_the_rows_and_draws_nothing(name):
    layer, x = made(name), data(name)
    before = read(layer.seed_generator.state)
    row, options = row_of(name), getattr(layer, "options", {})
    quiet = x
    if row.has_p:
        quiet = row.function(x, 0.3, thinned.Address(), training=False, **options)
    np.testing.assert_allclose(read(layer(x, training=False)), quiet, rtol=1e-6)
    np.testing.assert_allclose(read(layer(x)), quiet, rtol=1e-6)
    assert (read(layer.seed_generator.state) == before).all()


@over_layers
def test_the_contract_of_keras(name):
    layer = made(name, name="mine")
    assert layer.built
    assert layer.supports_masking
    assert len(layer.variables) == 1
    assert layer.weights == []
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    assert twin.name == "mine"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == config
    x = data(name)
    for other in (twin, again):
        layer = made(name)
        assert (read(other(x, training=True)) == read(layer(x, training=True))).all()
    assert isinstance(layer, keras.layers.Layer)


@over_layers
def test_a_symbolic_input_of_unknown_lengths(name):
    x = data(name)
    inputs = keras.Input((*(None,) * (x.ndim - 2), x.shape[-1]))
    outputs = made(name)(inputs, training=True)
    assert outputs.shape == inputs.shape
    model = keras.Model(inputs, outputs)
    for rows in (len(x), 2):
        y = read(model(x[:rows], training=True))
        assert y.shape == x[:rows].shape
        assert np.isfinite(y).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@over_layers
def test_mixed_precision(name, dtype):
    layer, x = made(name, dtype=f"mixed_{dtype}"), data(name, dtype)
    assert layer.variable_dtype == "float32"
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    tolerance = 2.0**-10 if dtype == "float16" else 2.0**-7
    wanted = np.asarray(expected(name, x), np.float64)
    np.testing.assert_allclose(
        read(keras.ops.cast(y, "float32")), wanted, rtol=tolerance, atol=1e-6
    )


@over_layers
def test_several_inputs_are_refused_in_words(name):
    layer = MADE[name](0.5)
    for wrong in ([np.ones((2, 4, 4, 3))] * 2, {"x": np.ones(3)}, [1.0, 2.0]):
        with pytest.raises(TypeError, match=r"inputs must be one tensor, got a .* Call a layer on"):
            layer(wrong, training=True)


@over_layers
def test_wrong_rates_have_kerass_own_text(name):
    word = "stddev" if name == "GaussianNoise" else "rate"
    for wrong in (-0.1, 1.5, float("nan"), "0.5", [0.5], np.ones(2), {}, 1j, 10**400):
        with pytest.raises(ValueError, match=rf"Invalid value received for argument `{word}`"):
            MADE[name](wrong)
    for seed in (-1, 2**32, 10**400):
        with pytest.raises(ValueError, match="Invalid value received for argument `seed`"):
            made(name, seed=seed)


@over_layers
def test_a_saved_model_draws_the_same(name, tmp_path):
    x = data(name)
    model = keras.Sequential([keras.Input(x.shape[1:]), made(name)])
    y = read(model(x, training=True))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert (read(loaded(x, training=True)) == y).all()


def test_every_argument_of_kerass_layers_is_taken():
    for name in KERAS:
        own, ours = (
            inspect.signature(k.__init__) for k in (getattr(keras.layers, name), MADE[name])
        )
        assert set(own.parameters) <= set(ours.parameters)
        assert issubclass(MADE[name], getattr(keras.layers, name))


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"])
def test_a_noise_shape_shares_draws(name):
    x = np.ones((4, 5, 6), np.float32)
    for shape, shared in (
        ((None, 1, None), (1,)),
        ((1, 5, 6), (0,)),
        ([4, 1, 1], (1, 2)),
        ((6,), (0, 1)),
        (None, ()),
    ):
        layer = made(name, noise_shape=shape)
        wanted = expected(name, x) if not shared else None
        y = read(layer(x, training=True))
        if wanted is None:
            row = row_of(name)
            p = () if name == "GaussianNoise" else (0.3,)
            std = {} if p else {"std": 0.3}
            wanted = row.function(x, *p, thinned.Address(7), shared_axes=shared, **std)
        np.testing.assert_allclose(y, wanted, rtol=3e-6, atol=3e-6)
        assert type(layer).from_config(layer.get_config()).noise_shape == layer.noise_shape


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"])
def test_a_noise_shape_that_does_not_fit_is_told(name):
    x = np.ones((4, 5, 6), np.float32)
    for wrong in ((None, 2, None), (1, 1, 1, 1)):
        layer = made(name, noise_shape=wrong)
        with pytest.raises(ValueError, match=rf"{name}: noise_shape must be 1, None or x's length"):
            layer(x, training=True)
    with pytest.raises(ValueError, match="Invalid value received for argument `noise_shape`"):
        made(name, noise_shape="wrong")


def test_the_axis_of_the_channels_is_kerass():
    x = data("SpatialDropout2D")
    for name in ("SpatialDropout2D", "DropBlock2D", "SpatialDropout"):
        first = made(name, data_format="channels_first")
        last = made(name)
        a = read(first(np.moveaxis(x, -1, 1), training=True))
        b = read(last(x, training=True))
        np.testing.assert_allclose(np.moveaxis(a, 1, -1).shape, b.shape)
        per_channel = (np.moveaxis(a, 1, -1) == 0).reshape(4, -1, x.shape[-1])
        if name != "DropBlock2D":
            assert ((per_channel.all(1)) | (~per_channel).all(1)).all()
    with pytest.raises(ValueError, match="data_format must be"):
        made("DropBlock2D", data_format="channels")
    with pytest.raises(TypeError, match="'data_format' is no argument"):
        made("DropPath", data_format="channels_last")
    with pytest.raises(TypeError, match="data_format which axis"):
        made("DropBlock2D", channel_axis=1)


def test_a_mask_of_a_sequence_passes_through():
    mask = np.array([[True, True, False]])
    for name in MADE:
        assert made(name).compute_mask(np.ones((1, 3, 4)), mask) is mask


def test_gaussian_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match="p must be below 1"):
        tk.GaussianDropout(1.0, seed=1)(np.ones((2, 3), np.float32), training=True)


def test_no_rate_is_no_noise():
    x = np.ones((2, 3), np.float32)
    for name in MADE:
        if name not in RANKS and name not in ("DropBlock", "DropAttention"):
            layer = MADE[name](0.0)
            assert not hasattr(layer, "seed_generator")
            if row_of(name).sample.arrays is None and len(row_of(name).sample.shape) == 2:
                assert (read(layer(x, training=True)) == 1).all()


def test_layers_alone_draw_fresh_seeds_that_keras_rules():
    def draws():
        keras.utils.set_random_seed(3)
        x = np.ones((8, 64), np.float32)
        return [read(tk.Dropout(0.5)(x, training=True)) for _ in range(2)]

    (a, b), (c, d) = draws(), draws()
    assert (a == c).all()
    assert (b == d).all()
    assert (a != b).any()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"no attribute 'Droput'\. Did you mean Dropout"):
        tk.Droput  # noqa: B018
    assert {"Dropout", "DropPath", "adopt"} <= set(dir(tk))
