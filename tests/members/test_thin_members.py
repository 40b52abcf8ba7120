"""Members at their true, smaller size: the same answers, where it can be, and said which."""

import numpy as np
import pytest
import torch
from torch import nn

import thinned.torch
from thinned.members import predict, prefix
from thinned.torch.thinning import layers

from .models import Everything, rows


def mlp(p=0.5):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Dropout(p),
        nn.Linear(32, 24), nn.GELU(), nn.Dropout(p), nn.Linear(24, 3),
    )  # fmt: skip


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Dropout2d(0.4), nn.Conv2d(8, 6, 3), nn.Flatten(),
        nn.Linear(6 * 16, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3),
    )  # fmt: skip


MODELS = {"mlp": (mlp, (8,)), "cnn": (cnn, (2, 8, 8))}


def check_same(make, shape, **how):
    x = rows(7, *shape)
    answers = [
        predict(make(), x, members=8, keep=True, batch_size=4, execution=execution, **how)
        for execution in ("thin", "elementwise")
    ]
    assert [a.execution for a in answers] == ["thin", "elementwise"]
    np.testing.assert_allclose(answers[0].outputs, answers[1].outputs, atol=2e-6)
    return answers[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("antithetic", [False, True])
def test_thin_is_elementwise(name, antithetic):
    make, shape = MODELS[name]
    answer = check_same(make, shape, antithetic=antithetic)
    assert answer.prefix == ("0",)
    assert predict(make(), rows(7, *shape), members=2).execution == "thin"


def test_layers_run_small():
    """What is not kept is not computed: seen by what goes into the last layer."""
    seen = []

    model = mlp()
    plain = nn.functional.linear

    def linear(x, weight, bias=None):
        seen.append(tuple(weight.shape))
        return plain(x, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.functional, "linear", linear)
        predict(model, rows(), members=4, execution="thin")
    shapes = np.array(seen[-4:])  # two members, the first layer done before
    assert (shapes[0::2] < (24, 32)).all()  # rows and columns of the second layer
    assert (shapes[1::2, 0] == 3).all()
    assert (shapes[1::2, 1] < 24).all()


def test_an_adopted_model_stays_adopted():
    model = mlp()
    report = thinned.torch.adopt(model, seed=5)
    report.clock.tick()
    before = [type(m) for m in model.modules()]
    got = predict(model, rows(), members=4, keep=True)
    assert got.execution == "thin"
    np.testing.assert_array_equal(got.outputs, predict(mlp(), rows(), members=4, keep=True).outputs)
    assert [type(m) for m in model.modules()] == before
    assert (report.clock.seed, report.clock.step) == (5, 1)
    model[2].p = 0.0
    model[5].p = 0.0
    with pytest.raises(ValueError, match="gave the same answers"):
        predict(model, rows(), members=4)


def test_a_model_that_is_thin_already_is_asked_as_it_is():
    model = mlp()
    thinned.torch.thin(model, seed=5)
    got = predict(model, rows(), members=4, keep=True).outputs
    expected = predict(mlp(), rows(), members=4, keep=True).outputs
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_where_it_cannot_be_nothing_changes():
    hooked = mlp()
    hooked[0].register_forward_hook(lambda module, given, y: None)
    steps = rows(7, 5, 8)  # a member has a draw for each step and unit
    for model, x in ((hooked, rows()), (mlp(), steps), (Everything(), rows())):
        assert predict(model, x, members=2).execution == "elementwise"
        with pytest.raises(
            ValueError, match=r"^predict: the members of this model cannot run thin"
        ):
            predict(model, x, members=2, execution="thin")


def test_a_member_with_the_units_of_another_is_caught(monkeypatch):
    real, first = prefix._taken, []

    def stale(y, kept, axis):
        first.append(kept)
        return real(y, first[0], axis)

    monkeypatch.setattr(prefix, "_taken", stale)
    with pytest.raises((AssertionError, RuntimeError)):
        check_same(mlp, (8,))
