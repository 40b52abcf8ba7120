"""Adopted models, on the backend that this process has."""

import copy
import json
import os
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import thinned
import thinned.keras as tk
from thinned.keras.site import Site

BACKEND = keras.config.backend()
TRAINS = BACKEND != "numpy"
# Where the arrays of each backend go, for the test that compares them.
OUT = os.environ.get("THINNED_KERAS_OUT")


def read(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


@keras.saving.register_keras_serializable("tests")
class OwnDraws(layers.Layer):
    """Draws from a generator of its own, by the functions of keras.random."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        if not training:
            return x
        x = keras.random.dropout(x, 0.4, seed=self.seed_generator)
        shape = keras.ops.shape(x)
        gate = keras.random.uniform((shape[0], *(1,) * (len(shape) - 1)), seed=self.seed_generator)
        x = x * keras.ops.cast(gate > 0.3, x.dtype)
        return x + keras.random.normal(shape, 0.0, 0.1, seed=self.seed_generator)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Holds its parts in a list and in attributes, and builds them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drops = [layers.Dropout(0.2), layers.GaussianDropout(0.1)]
        self.attention = layers.MultiHeadAttention(2, 3, dropout=0.3)
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.attention.build(shape, shape)
        self.norm.build(shape)
        super().build(shape)

    def call(self, x, training=False):
        h = self.drops[0](self.attention(x, x, training=training), training=training)
        return self.norm(self.drops[1](x + h, training=training), training=training)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(6)
        self.drop = layers.Dropout(0.5)
        self.last = layers.Dense(2)

    def call(self, x, training=False):
        return self.last(self.drop(keras.ops.relu(self.first(x)), training=training))


def functional():
    x = keras.Input((6,))
    h = layers.Dropout(0.3, name="input_drop")(x)
    shared = layers.Dropout(0.5)
    h = shared(layers.Dense(5)(h)) + shared(layers.Dense(5)(h))
    h = layers.AlphaDropout(0.1)(layers.BatchNormalization()(h))
    return keras.Model(x, layers.Dense(2)(layers.GaussianNoise(0.1)(h)))


def sequential():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.Dropout(0.5), OwnDraws(), layers.Dense(2)]
    )


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dropout(0.2), layers.Dense(4)])
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(2)(layers.Dropout(0.3)(inner(x))))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6), np.float32))  # Keras builds it in its first call
    return model


def recurrent():
    x = keras.Input((None, 3))
    h = layers.Bidirectional(
        layers.LSTM(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True)
    )(x)
    cells = [layers.GRUCell(4, dropout=0.2), layers.LSTMCell(3, recurrent_dropout=0.2)]
    h = layers.SpatialDropout1D(0.2)(layers.GRU(5, dropout=0.4, return_sequences=True)(h))
    return keras.Model(x, layers.Dense(2)(layers.RNN(cells)(h)))


def attention():
    x = keras.Input((None, 4))
    h = Block()(x)
    h = layers.Attention(dropout=0.2)([h, h])
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(h)))


def convolutional():
    x = keras.Input((None, None, 2))
    h = layers.SpatialDropout2D(0.3)(layers.Conv2D(4, 3)(x))
    h = tk.DropBlock2D(0.2, block_size=2)(h)
    return keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling2D()(h)))


SITES = {
    functional: ("input_drop", "dropout", "alpha_dropout", "gaussian_noise"),
    sequential: ("dropout", "own_draws"),
    nested: ("sequential/dropout", "dropout"),
    subclassed: ("drop",),
    recurrent: (
        "bidirectional/backward_layer/cell", "bidirectional/forward_layer/cell", "gru/cell",
        "spatial_dropout1d", "rnn/cell/cells/0", "rnn/cell/cells/1",
    ),
    attention: (
        "block/drops/0", "block/drops/1", "block/attention/dropout_layer", "attention",
    ),
    convolutional: ("spatial_dropout2d", "drop_block2d"),
}  # fmt: skip
over_models = pytest.mark.parametrize("build", SITES, ids=lambda build: build.__name__)


def data(build, rows=4):
    shape = {recurrent: (5, 3), attention: (5, 4), convolutional: (7, 8, 2)}.get(build, (6,))
    return np.random.default_rng(1).standard_normal((rows, *shape)).astype(np.float32)


def weighted(build):
    """The model with the same weights in every process."""
    model, rng = build(), np.random.default_rng(2)
    model.set_weights([0.4 * rng.standard_normal(w.shape) for w in model.get_weights()])
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.ones(layer.moving_variance.shape))
    return model


@over_models
def test_sites_replay_and_the_same_on_every_backend(build):
    model, x = weighted(build), data(build)
    report = tk.adopt(model, seed=2**40 + 3)
    assert sorted(report.sites) == sorted(SITES[build])
    assert report.not_reached == ()
    quiet = read(model(x, training=False))
    assert (read(model(x, training=False)) == quiet).all()
    assert {at.step for at in tk.addresses(model).values()} == {0}
    y = [read(model(x, training=True)) for _ in range(3)]
    assert (y[0] != y[1]).any()
    assert (y[0] != quiet).any()
    assert min(at.step for at in tk.addresses(model).values()) >= 3
    tk.rewind(model)
    np.testing.assert_array_equal(read(model(x, training=True)), y[0])
    here = tk.addresses(model)
    second = read(model(x, training=True))
    tk.rewind(model, here)
    np.testing.assert_array_equal(read(model(x, training=True)), second)
    if OUT is not None:
        np.save(Path(OUT) / f"{BACKEND}-{build.__name__}.npy", np.stack(y))


@over_models
def test_saved_and_loaded_it_goes_on(build, tmp_path):
    model, x = weighted(build), data(build)
    tk.adopt(model, seed=7)
    model(x, training=True)
    kept = tk.addresses(model)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    loaded, twin = keras.models.load_model(tmp_path / "m.keras"), build()
    tk.adopt(twin, seed=1)
    twin.load_weights(tmp_path / "m.weights.h5")
    y = read(model(x, training=True))
    for other in (loaded, twin):
        assert tk.addresses(other) == kept
        np.testing.assert_array_equal(read(other(x, training=True)), y)


@over_models
def test_released_it_is_keras_own_again(build, tmp_path):
    model, x = weighted(build), data(build)
    kind, variables = type(model), len(model.variables)
    tk.adopt(model)
    assert isinstance(model, kind)
    tk.release(model)
    assert type(model) is kind
    assert len(model.variables) == variables
    assert np.isfinite(read(model(x, training=True))).all()
    model.save(tmp_path / "m.keras")
    config = json.loads(zipfile.ZipFile(tmp_path / "m.keras").read("config.json"))
    assert "thinned" not in json.dumps(config) or build is convolutional
    with pytest.raises(ValueError, match="not adopted"):
        tk.addresses(model)


def test_a_mask_is_the_one_at_the_sites_address():
    model = keras.Sequential([keras.Input((64,)), layers.Dropout(0.5)])
    tk.adopt(model, seed=9)
    x = np.ones((8, 64), np.float32)
    for step in range(2):
        at = tk.addresses(model)["dropout"]
        assert at == thinned.Address(9, "dropout", step)
        assert (read(model(x, training=True)) == 2 * thinned.keep_mask((8, 64), 0.5, at)).all()


def test_batches_of_any_length_and_pieces_of_the_model():
    model = weighted(functional)
    tk.adopt(model)
    for rows in (1, 3, 8):
        assert read(model(data(functional, rows), training=True)).shape == (rows, 2)


@pytest.mark.skipif(not TRAINS, reason="Keras trains nothing on NumPy")
@pytest.mark.parametrize("build", [functional, sequential, recurrent], ids=lambda b: b.__name__)
def test_training_resumes_bit_for_bit(build, tmp_path):
    x = data(build, 12)
    y = np.zeros((12, 2), np.float32)

    def compiled(model):
        model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=BACKEND != "torch")
        return model

    def fit(model, epochs):
        model.fit(x, y, batch_size=5, epochs=epochs, shuffle=False, verbose=0)

    whole = compiled(weighted(build))
    tk.adopt(whole, seed=3)
    fit(whole, 2)
    first = compiled(weighted(build))
    tk.adopt(first, seed=3)
    fit(first, 1)
    first.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    fit(again, 1)
    assert tk.addresses(again) == tk.addresses(whole)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.predict(x, verbose=0).shape == (12, 2)
    before = tk.addresses(again)
    again.evaluate(x, y, verbose=0)
    assert tk.addresses(again) == before  # neither predict nor evaluate draws


@pytest.mark.skipif(not TRAINS, reason="Keras trains nothing on NumPy")
def test_a_compiled_step_draws_the_masks_of_an_eager_one():
    """fit with jit_compile; one batch of all rows, and the weights are those of eager steps."""
    x, y = data(subclassed, 8), np.zeros((8, 2), np.float32)
    trained = []
    for jit in (True, False):
        model = weighted(subclassed)
        tk.adopt(model, seed=5)
        model.compile("sgd", "mse", jit_compile=jit, run_eagerly=not jit)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        assert tk.addresses(model)["drop"].step == 2
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_without_their_state_resumed_masks_would_be_others(tmp_path, monkeypatch):
    """A planted fault: what the tests of resuming would see."""
    monkeypatch.setattr(Site, "save_own_variables", lambda self, store: None)
    model, x = weighted(functional), data(functional)
    tk.adopt(model, seed=7)
    model(x, training=True)
    model.save_weights(tmp_path / "m.weights.h5")
    twin = weighted(functional)
    tk.adopt(twin, seed=7)
    twin.load_weights(tmp_path / "m.weights.h5")
    assert tk.addresses(twin) != tk.addresses(model)


def test_weights_of_a_plain_model_leave_the_steps(tmp_path):
    plain = functional()
    plain.save_weights(tmp_path / "m.weights.h5")
    model, x = functional(), data(functional)
    tk.adopt(model, seed=4)
    model(x, training=True)
    kept = tk.addresses(model)
    model.load_weights(tmp_path / "m.weights.h5")
    assert tk.addresses(model) == kept


def test_another_version_of_the_spec_is_refused(tmp_path):
    model = sequential()
    tk.adopt(model)
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        found = []
        file.visit(
            lambda name: found.append(name) if name.endswith("seed_generator/vars/1") else None
        )
        for name in found:
            file[name][...] = 9
    assert found
    with pytest.raises(ValueError, match="version 9 of the mask spec, and this is version 1"):
        model.load_weights(tmp_path / "m.weights.h5")


def test_a_copy_and_a_clone():
    model, x = weighted(functional), data(functional)
    tk.adopt(model, seed=6)
    model(x, training=True)
    twin = copy.deepcopy(model)
    assert tk.addresses(twin) == tk.addresses(model)
    clone = keras.models.clone_model(model)
    assert np.isfinite(read(clone(x, training=True))).all()


def test_draws_that_keras_makes_itself_are_replayed():
    generator = keras.random.SeedGenerator(1)

    class Draws(layers.Layer):
        def __init__(self):
            super().__init__()
            self.generator = generator

        def call(self, x, training=False):
            return keras.random.randint(keras.ops.shape(x), 0, 1000, seed=self.generator)

    model = Draws()
    x = np.ones((4, 5), np.float32)
    model(x)
    tk.adopt(model, seed=3)
    a, b = (read(model(x)) for _ in range(2))
    tk.rewind(model)
    assert (read(model(x)) == a).all()
    assert (a != b).any()


def test_what_is_not_reached_is_told():
    class Unseeded(layers.Layer):
        def call(self, x, training=False):
            return keras.random.dropout(x, 0.5) if training else x

    class OfKeras2(layers.Layer):
        def call(self, x, training=False):
            return x * keras.backend.random_bernoulli((), 0.8) if training else x

    class MadeInCall(layers.Layer):
        def call(self, x, training=False):
            return layers.Dropout(0.5)(x, training=training)

    augment = layers.RandomFlip()
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            augment,
            layers.Flatten(),
            MadeInCall(),
            Unseeded(),
            OfKeras2(),
            layers.Dropout(0.1),
        ]
    )
    report = tk.adopt(model)
    told = {row.site: row.done for row in report.not_reached}
    assert "calls keras.random.dropout without a generator" in told["unseeded"]
    assert "Dropout(...) anew in `call`" in told["made_in_call"]
    assert "calls keras.backend.random_bernoulli without a generator" in told["of_keras2"]
    assert told["random_flip"] == "left alone: it augments data"
    assert report.sites == ("dropout",)
    assert "not reached" in str(report)


def test_bad_input_gets_its_sentence():
    model = functional()
    with pytest.raises(TypeError, match=r"adopt: model must be a keras.Model or keras.Layer, got"):
        tk.adopt(3)
    with pytest.raises(ValueError, match=r"adopt: seed must be an integer in \[0,"):
        tk.adopt(model, seed=-1)
    with pytest.raises(TypeError, match=r"adopt: seed must be an integer"):
        tk.adopt(model, seed=1.5)
    with pytest.raises(ValueError, match=r"is not built, and what it will hold is unknown"):
        tk.adopt(Subclassed())
    with pytest.raises(ValueError, match=r"adopt: the model holds no dropout"):
        tk.adopt(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"release: the model was not adopted"):
        tk.release(model)
    tk.adopt(model)
    with pytest.raises(ValueError, match=r"adopted before"):
        tk.adopt(model)
    with pytest.raises(ValueError, match=r"rewind: a name in to must be one of input_drop"):
        tk.rewind(model, {"nowhere": thinned.Address()})
    with pytest.raises(TypeError, match=r"rewind: to\['dropout'\] must be a thinned.Address"):
        tk.rewind(model, {"dropout": 3})
    with pytest.raises(
        TypeError, match=r"rewind: to must be what thinned.keras.addresses\(model\)"
    ):
        tk.rewind(model, 3)


def _rematerialized(mode, *more):
    """A model whose layers run again for the backward pass, or not."""
    keras.utils.set_random_seed(5)
    with keras.RematScope(mode=mode):
        inner = [layers.Dense(6, activation="tanh"), tk.Dropout(0.4, seed=3), layers.Dropout(0.3)]
        inner += [OwnDraws(), *(layer() for layer in more)]
        model = keras.Sequential([keras.Input((4, 3)), *inner, layers.Dense(1)])
    tk.adopt(model, seed=2)
    return model


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's checkpoints run layers again")
def test_what_runs_again_draws_once():
    x = np.random.default_rng(1).standard_normal((8, 4, 3)).astype(np.float32)
    found = []
    for mode in (None, "full"):
        model = _rematerialized(mode)
        for _ in range(2):
            model.zero_grad()
            y = model(x, training=True)
            y.square().sum().backward()
        grads = [v.value.grad.numpy() for v in model.trainable_variables]
        found.append((read(y), grads, tk.addresses(model)))
        model(x, training=False).sum().backward()
        assert tk.addresses(model) == found[-1][2]
    (y, grads, steps), (again, others, after) = found
    assert (y == again).all()
    assert steps == after
    for a, b in zip(grads, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    model = _rematerialized("full", lambda: layers.LSTM(5, dropout=0.3))
    with pytest.raises(RuntimeError, match="a recurrent layer with dropout cannot run again"):
        model(x, training=True)
    model(x, training=False).sum().backward()


class Holder(layers.Layer):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, x, training=False):
        return self.part(x, training=training)


class Sharing(keras.Model):
    """One block by two ways, which are written down in either order."""

    def __init__(self, near_first):
        super().__init__()
        block = Holder(layers.Dropout(0.5))
        if near_first:
            self.near = block
        self.far = Holder(Holder(block))
        self.also = block
        if not near_first:
            self.near = block

    def call(self, x, training=False):
        return self.near(x, training=training) + self.far(x, training=training)


@pytest.mark.parametrize("near_first", [False, True])
def test_a_layer_of_several_places_has_the_nearest(near_first):
    """By whatever order a backend holds the parts in."""
    model = Sharing(near_first)
    model(np.ones((2, 6), np.float32))
    assert tk.adopt(model, seed=3).sites == ("also/part",)
