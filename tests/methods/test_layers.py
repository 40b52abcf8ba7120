"""LayerDrop and LoRA as functions: what is computed, and what is refused."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address
from thinned.methods import layers

torch = library("torch")

AT = Address(seed=2, site="blocks")


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x * 3.0 + 1.0


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_skipped_layer_is_not_computed(kind):
    x = kind(np.arange(6.0).reshape(2, 3))
    for step in range(40):
        at = AT.replace(step=step)
        layer = Counted()
        y = thinned.layer_drop(layer, x, 0.5, at)
        kept = bool(thinned.keep_mask(1, 0.5, at)[0])
        assert layer.calls == kept
        if kept:
            np.testing.assert_array_equal(y, x * 3.0 + 1.0)
        else:
            assert y is x


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_without_skipping_a_layer_is_computed_and_discarded(kind):
    x = kind(np.arange(6.0).reshape(2, 3))
    for step in range(40):
        at = AT.replace(step=step)
        layer = Counted()
        y = thinned.layer_drop(layer, x, 0.5, at, skip=False)
        assert layer.calls == 1
        np.testing.assert_array_equal(y, thinned.layer_drop(layer, x, 0.5, at))
    with pytest.raises(TypeError, match="layer_drop: skip must be"):
        thinned.layer_drop(Counted(), x, 0.5, AT, skip=None)


def test_a_discarded_layer_has_gradients_of_zero():
    for skip in (None, True, False):
        linear = torch.nn.Linear(3, 3)
        stack = thinned.torch.LayerDrop([linear], 1.0, skip=skip)
        x = torch.ones(2, 3, requires_grad=True)
        stack(x).sum().backward()
        assert torch.equal(x.grad, torch.ones(2, 3))
        if skip is False:
            assert not linear.weight.grad.any()
        else:
            assert linear.weight.grad is None


def test_a_layer_is_skipped_in_a_share_p_of_the_steps():
    layer = Counted()
    for step in range(2000):
        thinned.layer_drop(layer, np.ones(2), 0.3, AT.replace(step=step))
    assert abs(layer.calls / 2000 - 0.7) < 6 * np.sqrt(0.21 / 2000)


def test_every_layer_runs_in_evaluation():
    x = np.ones(3)
    for p in (0.0, 0.5, 1.0):
        layer = Counted()
        np.testing.assert_array_equal(thinned.layer_drop(layer, x, p, AT, False), 4.0)
        assert layer.calls == 1
    assert thinned.layer_drop(layer, x, 1.0, AT) is x
    assert layer.calls == 1


def test_the_mirrored_gate_is_the_other_half():
    for step in range(30):
        at, layer = AT.replace(step=step), Counted()
        for mirror in (False, True):
            thinned.layer_drop(layer, np.ones(1), 0.5, at, mirror=mirror)
        assert layer.calls == 1


@pytest.mark.parametrize(("layer", "x", "error", "words"), [
    (3, np.ones(2), TypeError, "layer must be a callable, got int"),
    (lambda x: x[:1], np.ones(2), ValueError, r"layer must be one that keeps x's shape \(2,\)"),
    (lambda x: (x,), np.ones(2), TypeError, "layer must be one that returns an array, got tuple"),
    (lambda x: x, np.ones(2, int), TypeError, "x must be of type"),
    (lambda x: x, [1.0], TypeError, "x must be a numpy array"),
])  # fmt: skip
def test_wrong_layers_are_refused(layer, x, error, words):
    with pytest.raises(error, match=f"^layer_drop: {words}"):
        thinned.layer_drop(layer, x, 0.0, AT)
    with pytest.raises(error, match=f"^layer_drop: {words}"):
        thinned.layer_drop(layer, x, 0.5, AT, False)


def test_p_and_address_of_a_layer_are_checked():
    with pytest.raises(ValueError, match=r"^layer_drop: p must be a float in"):
        thinned.layer_drop(lambda x: x, np.ones(2), 1.5, AT)
    with pytest.raises(TypeError, match=r"^layer_drop: at must be a thinned\.Address"):
        thinned.layer_drop(lambda x: x, np.ones(2), 0.5, 3)


def test_a_layer_that_is_always_computed_is_caught(monkeypatch):
    def discards(layer, x, p, at):
        y = layer(x)
        return y if thinned.keep_mask(1, p, at)[0] else x

    monkeypatch.setattr(thinned, "layer_drop", discards)
    with pytest.raises(AssertionError):
        test_a_skipped_layer_is_not_computed(np.asarray)


# ----------------------------------------------------------------------------------------- LoRA


def test_lora_is_the_formula():
    rng = np.random.default_rng(0)
    x, weight, down, up = (rng.standard_normal(s) for s in ((6, 5), (4, 5), (2, 5), (4, 2)))
    bias = rng.standard_normal(4)
    dropped = thinned.dropout(x, 0.4, AT)
    expected = x @ weight.T + bias + 7.0 / 2 * dropped @ (up @ down).T
    y = thinned.lora_dropout(x, weight, down, up, 0.4, AT, alpha=7.0, bias=bias)
    np.testing.assert_allclose(y, expected)
    plain = thinned.lora_dropout(x, weight, down, up, 0.4, AT)
    np.testing.assert_allclose(plain, x @ weight.T + dropped @ (up @ down).T)


def test_the_base_path_has_no_noise():
    rng = np.random.default_rng(0)
    x, weight, down = (rng.standard_normal(s) for s in ((6, 5), (4, 5), (2, 5)))
    y = thinned.lora_dropout(x, weight, down, np.zeros((4, 2)), 0.9, AT)
    np.testing.assert_array_equal(y, x @ weight.T)


@pytest.mark.parametrize(("named", "error", "words"), [
    ({"weight": np.ones((4, 6))}, ValueError, r"weight must be of shape \(outputs, inputs\)"),
    ({"down": np.ones((2, 4))}, ValueError, r"down must be of shape \(rank, inputs\) for 5 inputs"),
    ({"up": np.ones((4, 3))}, ValueError, r"up must be of shape \(outputs, rank\)"),
    ({"up": np.ones(4)}, ValueError, "up must be of shape"),
    ({"x": np.float64(1)}, ValueError, "x must be of shape"),
    ({"alpha": "1"}, TypeError, "alpha must be a finite number, got "),
    ({"alpha": np.inf}, ValueError, "alpha must be a finite number"),
])  # fmt: skip
def test_wrong_updates_are_refused(named, error, words):
    shapes = {"x": (3, 5), "weight": (4, 5), "down": (2, 5), "up": (4, 2)}
    given = {name: np.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(error, match=f"^lora_dropout: {words}"):
        thinned.lora_dropout(**{**given, **named}, p=0.5, at=AT)


def test_noise_on_the_base_path_is_caught(monkeypatch):
    def noisy(x, weight, down, up, p, at, **_):
        x = thinned.dropout(x, p, at)
        return x @ weight.T + x @ (up @ down).T

    monkeypatch.setattr(thinned, "lora_dropout", noisy)
    with pytest.raises(AssertionError):
        test_the_base_path_has_no_noise()
    monkeypatch.setattr(
        thinned, "lora_dropout", lambda *a, alpha=None, **k: layers.lora_dropout(*a, **k)
    )
    with pytest.raises(AssertionError):
        test_lora_is_the_formula()
