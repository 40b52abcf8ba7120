"""The way of one adopted call: few steps of our own, and none that a special case takes is lost."""

import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import thinned
import thinned.torch
from benchmarks import torch_adopted
from thinned.backends.torch import compiled_node

X = torch.linspace(1.0, 2.0, 24).reshape(4, 6)


def adopted(module, seed=5):
    model = nn.Sequential(nn.Identity(), module)
    return model, thinned.torch.adopt(model, seed=seed).clock


def at(step=0, call=0, seed=5):
    return thinned.Address(seed, "1", step, call)


compiled_part = pytest.mark.skipif(
    not compiled_node.is_compiled(), reason="the short way is that of the compiled part for PyTorch"
)


@compiled_part
def test_a_call_takes_few_frames():
    """Of thinned's own code: a count, which is the same on any machine."""
    found = torch_adopted.counted()
    assert found["torch.nn"] == found["F.dropout in a module"] == 0
    assert found["drop-in"] <= 2
    assert found["adopted module"] <= 20
    assert found["adopted call"] <= 46
    assert found["adopted DropPath"] <= 33


def test_frames_are_counted():
    module = torch_adopted.adopted(nn.Dropout(0.5))
    module(X)
    assert torch_adopted.frames(lambda: module(X)) == torch_adopted.frames(lambda: module(X)) > 0
    assert torch_adopted.frames(lambda: torch.relu(X)) == 0


def test_another_p_is_seen_by_the_next_call():
    model, _ = adopted(nn.Dropout(0.5))
    for call, p in enumerate((0.5, 0.25, 0.25, 0.0, 1.0, 0.75)):
        model[1].p = p
        assert torch.equal(model(X), thinned.dropout(X, p, at(call=call)))


def test_nothing_to_drop_gives_the_input_itself_and_counts():
    model, clock = adopted(nn.Dropout(0.0))
    assert model(X) is X
    assert clock.drawn(0) == 1


def test_every_type_of_tensor_is_counted_once():
    model, clock = adopted(nn.Dropout(0.5))
    given = [X, X.half(), X.t(), nn.Parameter(X), X.to(torch.float64), X[:, ::2], X[:0]]
    for call, x in enumerate(given):
        assert clock.drawn(0) == call
        assert torch.equal(model(x), thinned.dropout(x, 0.5, at(call=call)))


def test_what_writes_the_clock_is_seen_at_once():
    model, clock = adopted(nn.Dropout(0.5))
    model(X)
    state = {name: buffer.clone() for name, buffer in model.state_dict().items()}
    clock.step = 7
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at(step=7)))
    clock.tick()
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at(step=8)))
    model.load_state_dict(state)
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at()))
    with torch.no_grad():
        clock.buffer[2] = 3
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at(step=3)))
    model._buffers["thinned_clock"] = state["thinned_clock"].clone()
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at()))
    with clock.piece(2):
        part = thinned.dropout(X, 0.5, at(), window=thinned.Window(2))
        assert torch.equal(model(X), part)
    assert torch.equal(model(X), thinned.dropout(X, 0.5, at(call=1)))


def test_a_plain_call_beside_a_checkpoint_is_recomputed_as_it_was():
    model, clock = adopted(nn.Dropout(0.5))
    x = X.clone().requires_grad_()
    y = checkpoint(model, x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(x.grad, thinned.dropout(torch.ones_like(X), 0.5, at()))
    assert clock.drawn(0) == 1


def test_threads_draw_each_call_once():
    model, clock = adopted(nn.Dropout(0.5))
    found, gate = [], threading.Barrier(8)

    def work():
        gate.wait()
        found.extend(model(X) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.drawn(0) == 400
    drawn = sorted(y.tolist() for y in found)
    assert drawn == sorted(thinned.dropout(X, 0.5, at(call=i)).tolist() for i in range(400))


# ------------------------------------------------------------------------------------ alpha dropout


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        (nn.AlphaDropout, thinned.alpha_dropout),
        (nn.FeatureAlphaDropout, thinned.feature_alpha_dropout),
    ],
)
def test_alpha_dropout_is_that_of_the_catalogue(kind, function, dtype, p):
    model, _ = adopted(kind(p))
    x = X.to(dtype).reshape(2, 3, 4).requires_grad_()
    before = torch.get_rng_state()
    y = model(x)
    assert torch.equal(torch.get_rng_state(), before)  # an address was there, and no seed is drawn
    own = x.detach().clone().requires_grad_()
    expected = function(own, p, at())
    assert torch.equal(y, expected)
    y.sum().backward()
    expected.sum().backward()
    assert torch.equal(x.grad, own.grad)


def test_the_lowest_value_of_selu_stands_in_one_place():
    package = Path(thinned.__file__).parent
    files = [file for file in package.rglob("*.py") if "1.75809934" in file.read_text("utf-8")]
    assert [file.relative_to(package).as_posix() for file in files] == ["methods/alpha.py"]


# ------------------------------------------------------------------------------------ planted fault


@compiled_part
def test_fault_the_rate_of_another_p(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.site._rate_of", lambda p: (p, 2**31, 2.0))
    with pytest.raises(AssertionError):
        test_another_p_is_seen_by_the_next_call()
