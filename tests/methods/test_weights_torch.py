"""Noise on the weights of modules: what stands in a weight's place, and what stays as it was."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import thinned
import thinned.torch
from thinned import Address
from thinned.torch import adopt, release, remove_noise
from thinned.torch.clock import rows
from thinned.torch.clock.clock import Moment
from thinned.torch.clock.ranks import CHOICES, Ranks
from thinned.torch.clock.rows import NO_ROWS, window_of
from thinned.torch.layers import weights

SEED = 5
# PyTorch deprecates a part of itself that its compiler imports.
compiled = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning")

RECURRENT = {
    "LSTM": lambda: nn.LSTM(3, 4, batch_first=True),
    "GRU": lambda: nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "RNN": lambda: nn.RNN(3, 4, batch_first=True),
    "deep LSTM": lambda: nn.LSTM(3, 4, 2, bidirectional=True, bias=False, batch_first=True),
}
over_recurrent = pytest.mark.parametrize("kind", RECURRENT)

NOISES = {
    "weight_drop": {},
    "drop_connect": {},
    "mixout": {},
    "targeted_dropout": {"gamma": 0.6},
}
over_noises = pytest.mark.parametrize("noise", NOISES)


def built(make):
    torch.manual_seed(1)
    return make()


def linear():
    return nn.Linear(5, 4)


def put(noise, module, name="weight", p=0.4):
    options = dict(NOISES[noise])
    if noise == "mixout":
        options["reference"] = torch.ones_like(getattr(module, name).detach())
    return getattr(thinned.torch, noise)(module, name, p, **options)


def batch(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def expected_weight(noise, weight, at, p=0.4, training=True):
    """What the method's function makes of the weight."""
    if noise == "drop_connect":
        if not training:
            return weight * (1 - p)
        keep = thinned.keep_mask(tuple(weight.shape), p, at, like=weight)
        return torch.where(keep, weight, 0.0)
    before = (torch.ones_like(weight),) if noise == "mixout" else ()
    function = getattr(thinned, noise)
    return function(weight, *before, p, at, training, **NOISES[noise])


# ------------------------------------------------------------------------------- recurrent networks


def sequences(packed):
    x = batch(4, 6, 3)
    return pack_padded_sequence(x, [6, 5, 3, 1], batch_first=True) if packed else x


def dense(y):
    return y.data if hasattr(y, "data") and hasattr(y, "batch_sizes") else y


def the_recurrent_weight_is_dropped_once(kind, packed=False):
    """One mask at all steps: the numbers of a plain layer that has the dropped weight."""
    layer = thinned.torch.weight_drop(built(RECURRENT[kind]), "weight_hh_l0", 0.4)
    clock = adopt(nn.ModuleDict({"rnn": layer}), seed=SEED).clock
    x = sequences(packed)
    for step in range(2):
        y, state = layer(x)
        plain = built(RECURRENT[kind])
        at = Address(SEED, "rnn.weight_hh_l0_drop", step)
        raw = plain.weight_hh_l0
        dropped = thinned.weight_drop(raw, 0.4, at)
        assert (dropped == 0).any()
        swapped = {**dict(plain.named_parameters()), "weight_hh_l0": dropped}
        wanted, wanted_state = torch.func.functional_call(plain, swapped, (x,))
        torch.testing.assert_close(dense(y), dense(wanted), rtol=0, atol=0)
        torch.testing.assert_close(state, wanted_state, rtol=0, atol=0)
        layer.zero_grad()
        dense(y).square().sum().backward()
        dense(wanted).square().sum().backward()
        for name, parameter in plain.named_parameters():
            torch.testing.assert_close(getattr(layer, name).grad, parameter.grad)
        assert ((raw.grad == 0) == (dropped == 0)).all()
        clock.tick()


@over_recurrent
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_recurrent(kind, packed):
    the_recurrent_weight_is_dropped_once(kind, packed)


@over_recurrent
def test_recurrent_layers_learn_save_and_evaluate_as_plain_ones(kind):
    layer = thinned.torch.weight_drop(built(RECURRENT[kind]), "weight_hh_l0", 0.4)
    plain, x = built(RECURRENT[kind]), sequences(False)
    assert list(layer.state_dict()) == list(plain.state_dict())
    assert dict(layer.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight_hh_l0.detach().clone()
    layer(x)[0].square().sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight_hh_l0, before)
    plain.load_state_dict(layer.state_dict())
    layer.eval(), plain.eval()
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    # The list that PyTorch's layer reads is its own again.
    own = zip(layer._flat_weights, layer._flat_weights_names, strict=True)
    assert all(weight is getattr(layer, name) for weight, name in own)
    layer.load_state_dict(built(RECURRENT[kind]).state_dict())
    torch.testing.assert_close(layer(x), built(RECURRENT[kind])(x), rtol=0, atol=0)


def test_dropout_between_layers_stays():
    torch.manual_seed(1)
    layer = thinned.torch.weight_drop(nn.LSTM(3, 4, 2, dropout=0.5), "weight_hh_l1", 0.4)
    report = adopt(layer, seed=SEED)
    assert set(report.sites) == {"/dropout", "weight_hh_l1_drop"}
    first = layer(batch(6, 2, 3))[0]
    report.clock.tick()
    assert not torch.equal(layer(batch(6, 2, 3))[0], first)


def test_a_layer_moved_to_another_type_keeps_its_noise():
    layer = thinned.torch.weight_drop(built(RECURRENT["LSTM"]), "weight_hh_l0", 0.4).double()
    adopt(layer, seed=SEED)
    y = layer(batch(2, 6, 3).double())[0]
    assert y.dtype == torch.float64
    y.sum().backward()
    assert (layer.weight_hh_l0.grad == 0).any()


# --------------------------------------------------------------------------------------- any module


@over_noises
def test_the_forward_reads_what_the_function_makes(noise):
    model = nn.ModuleDict({"fc": put(noise, built(linear))})
    clock, fc, x = adopt(model, seed=SEED).clock, model["fc"], batch(6, 5)
    for step in range(2):
        for call in range(2):
            at = Address(SEED, f"fc.weight_{fc_child(fc).suffix}", step, call)
            weight = expected_weight(noise, fc.weight, at)
            torch.testing.assert_close(fc(x), x @ weight.T + fc.bias)
        clock.tick()
    model.eval()
    weight = expected_weight(noise, fc.weight, Address(), training=False)
    torch.testing.assert_close(fc(x), x @ weight.T + fc.bias)


def fc_child(module):
    (child,) = (m for m in module.children() if isinstance(m, weights.WeightNoise))
    return child


def evaluation_draws_nothing(noise):
    """And what stood in the weight's place is gone."""
    fc, x = put(noise, built(linear)), batch(6, 5)
    torch.manual_seed(3)
    first = fc(x)
    torch.manual_seed(3)
    assert torch.equal(fc(x), first)
    assert any(not torch.equal(fc(x), first) for _ in range(20))
    fc.eval()
    state = torch.get_rng_state()
    assert torch.equal(fc(x), fc(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert type(fc._parameters["weight"]) is nn.Parameter


@over_noises
def test_alone_it_draws_afresh_and_evaluation_draws_nothing(noise):
    evaluation_draws_nothing(noise)


@over_noises
def test_copies_have_noise_of_their_own(noise):
    fc, x = put(noise, built(linear)), batch(6, 5)
    for twin in (copy.deepcopy(fc), pickle.loads(pickle.dumps(fc))):
        with torch.no_grad():
            twin.weight.zero_()
            if noise == "mixout":
                fc_child(twin).reference.zero_()
        assert torch.equal(twin(x), twin.bias.expand(6, 4))
        assert not torch.equal(fc(x), fc.bias.expand(6, 4))
        fc_child(twin).p = 0.9
        assert fc_child(fc).p == 0.4
        remove_noise(twin, "weight")
    adopted = nn.Sequential(fc)
    clock = adopt(adopted, seed=SEED).clock
    twin = copy.deepcopy(adopted)
    assert torch.equal(twin(x), adopted(x))
    clock.tick()
    assert any(not torch.equal(twin(x), adopted(x)) for _ in range(5))


@over_noises
def test_remove_restores_the_module_exactly(noise):
    plain, fc = built(linear), put(noise, built(linear))
    fc(batch(6, 5)).sum().backward()
    weight = fc.weight
    assert remove_noise(fc, "weight") is fc
    assert fc.weight is weight
    assert fc.__dict__.keys() == plain.__dict__.keys()
    assert list(fc.state_dict()) == list(plain.state_dict())
    assert repr(fc) == repr(plain)
    assert torch.equal(fc(batch(6, 5)), plain(batch(6, 5)))
    put(noise, fc)
    remove_noise(fc, "weight")


def test_remove_gives_back_a_forward_that_was_there():
    fc = built(linear)
    fc.forward = was = lambda x: x * 2
    thinned.torch.weight_drop(fc, "weight")
    assert torch.equal(fc(torch.ones(2)), torch.full((2,), 2.0))
    remove_noise(fc, "weight")
    assert fc.forward is was


def test_two_weights_of_one_module():
    layer = built(RECURRENT["LSTM"])
    thinned.torch.weight_drop(layer, "weight_hh_l0", 0.5)
    thinned.torch.mixout(layer, "weight_ih_l0", 0.5)
    assert set(layer.state_dict()) - set(built(RECURRENT["LSTM"]).state_dict()) == {
        "weight_ih_l0_mixout.reference"
    }
    assert set(adopt(layer).sites) == {"weight_hh_l0_drop", "weight_ih_l0_mixout"}
    layer(batch(2, 6, 3))[0].sum().backward()
    assert (layer.weight_hh_l0.grad == 0).any()
    assert (layer.weight_ih_l0.grad == 0).any()
    release(layer)
    remove_noise(layer, "weight_hh_l0")
    layer.zero_grad()
    layer(batch(2, 6, 3))[0].sum().backward()
    assert not (layer.weight_hh_l0.grad == 0).any()
    assert (layer.weight_ih_l0.grad == 0).any()
    remove_noise(layer, "weight_ih_l0")
    assert "forward" not in layer.__dict__


def test_an_error_in_the_forward_leaves_the_weights_in_place():
    for module, name in ((built(linear), "weight"), (built(RECURRENT["LSTM"]), "weight_hh_l0")):
        weight = getattr(module, name)
        thinned.torch.weight_drop(module, name)
        with pytest.raises((RuntimeError, ValueError)):
            module(torch.ones(2, 2, 99))
        assert getattr(module, name) is weight
        if isinstance(module, nn.RNNBase):
            assert any(w is weight for w in module._flat_weights)


def test_mixout_keeps_the_pretrained_weight():
    fc = thinned.torch.mixout(built(linear), "weight", 1.0)
    before = fc.weight.detach().clone()
    with torch.no_grad():
        fc.weight.add_(1.0)
    x = batch(6, 5)
    torch.testing.assert_close(fc(x), x @ before.T + fc.bias)  # p = 1: all of it is the old one
    other = thinned.torch.mixout(linear(), "weight", 1.0)
    other.load_state_dict(fc.state_dict())
    torch.testing.assert_close(other(x), fc(x))
    fc.eval()
    torch.testing.assert_close(fc(x), x @ fc.weight.T + fc.bias)


def test_targeted_evaluation_is_pruned_or_not():
    x = batch(6, 5)
    for target, zeros in (("weights", [2] * 4), ("units", [0, 0, 5, 5])):
        fc = thinned.torch.targeted_dropout(built(linear), "weight", gamma=0.5, target=target)
        eye = torch.eye(5)
        pruned = fc.eval()(eye) - fc.bias
        assert sorted((pruned.T == 0).sum(1).tolist()) == zeros
        kept = thinned.torch.targeted_dropout(built(linear), "weight", target=target, prune=False)
        assert torch.equal(kept.eval()(x), built(linear)(x))


# ------------------------------------------------------------------ compiled, recomputed, in pieces


@compiled
@over_noises
def test_compiled_is_eager(noise):
    torch._dynamo.reset()
    model = nn.Sequential(put(noise, built(linear)), nn.ReLU())
    clock, x = adopt(model, seed=SEED).clock, batch(6, 5)
    run = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for forward in (model, run):
        clock.buffer[2] = 0
        clock.tick()
        model.zero_grad()
        y = forward(x)
        y.square().sum().backward()
        found.append((y.detach(), model[0].weight.grad.clone()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    fc_child(model[0]).p = 0.1
    clock.tick()
    with torch.no_grad():
        y = run(x)
        clock.buffer[2] = 1
        clock.tick()
        torch.testing.assert_close(model(x), y)


@compiled
def test_a_compiled_lstm_draws_as_eager_with_a_break_in_its_graph():
    torch._dynamo.reset()
    layer = thinned.torch.weight_drop(built(RECURRENT["LSTM"]), "weight_hh_l0", 0.4)
    clock, x = adopt(nn.ModuleList([layer]), seed=SEED).clock, sequences(False)
    y = layer(x)[0]
    clock.buffer[2] = 1
    clock.buffer[2] = 0
    clock._begin(0)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x)[0], y)
    assert all(isinstance(w, nn.Parameter) for w in layer._flat_weights)


def test_a_recompute_draws_the_forwards_weight():
    found = []
    for recompute in (False, True):
        layer = thinned.torch.weight_drop(built(RECURRENT["GRU"]), "weight_hh_l0", 0.4)
        adopt(nn.ModuleList([layer]), seed=SEED)
        x = sequences(False).requires_grad_()
        y = checkpoint(layer, x, use_reentrant=False)[0] if recompute else layer(x)[0]
        y.square().sum().backward()
        found.append([x.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def pieces_of_a_batch_share_the_weight():
    model = nn.Sequential(thinned.torch.weight_drop(built(linear), "weight", 0.5))
    clock, x = adopt(model, seed=SEED).clock, batch(6, 5)
    whole = model(x)
    parts = []
    for first in (0, 4):
        with clock.piece(first):
            parts.append(model(x[first : first + 4]))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_pieces_of_a_batch_share_the_weight():
    pieces_of_a_batch_share_the_weight()


def test_processes_that_split_a_batch_share_the_weight():
    ranks = Ranks(CHOICES.index("split"), 1, 2, 2)
    moment = Moment(0, 0, 0, 0, -1, -1, -1, ranks)
    assert window_of("fc", moment, (4, 5), NO_ROWS, None) is None
    assert window_of("fc", moment, (4, 5), 0, None) == thinned.Window((4, 0), (8, 5))


# ----------------------------------------------------------------------------------------- refusals


def test_bad_input_is_refused():
    drop = thinned.torch.weight_drop
    with pytest.raises(TypeError, match=r"^weight_drop: module must be a torch.nn.Module, got str"):
        drop("lstm", "weight")
    with pytest.raises(ValueError, match=r"name must be one of .*\('weight', 'bias'\), got 'w'"):
        drop(linear(), "w")
    with pytest.raises(ValueError, match=r"\(it has none\), got 'weight'"):
        drop(nn.ReLU(), "weight")
    with pytest.raises(ValueError, match=r"p must be a float in \[0, 1\], got 50"):
        drop(linear(), "weight", 50)
    fc = drop(linear(), "weight")
    with pytest.raises(ValueError, match="has noise on it already"):
        thinned.torch.mixout(fc, "weight")
    with pytest.raises(ValueError, match=r"of the weight's shape \(4, 5\), got \(2,\)"):
        thinned.torch.mixout(linear(), "weight", reference=torch.ones(2))
    with pytest.raises(TypeError, match=r"reference must be a tensor or None, got list"):
        thinned.torch.mixout(linear(), "weight", reference=[1.0])
    with pytest.raises(ValueError, match=r"gamma must be a float in \[0, 1\]"):
        thinned.torch.targeted_dropout(linear(), "weight", gamma=2.0)
    with pytest.raises(ValueError, match=r"w must be of shape \(out, ...\)"):
        thinned.torch.targeted_dropout(linear(), "bias")
    with pytest.raises(ValueError, match="has no noise to remove"):
        remove_noise(linear(), "weight")
    model = nn.Sequential(fc)
    adopt(model)
    with pytest.raises(ValueError, match="Undo that first"):
        remove_noise(fc, "weight")
    with pytest.raises(ValueError, match=r"adopted already\. Call release first"):
        drop(fc, "bias")
    release(model)
    remove_noise(fc, "weight")
    assert inspect.ismethod(fc.forward)


# -------------------------------------------------------------------------------- DropConnectLinear


def test_drop_connect_linear_is_the_function():
    torch.manual_seed(0)
    layer, x = thinned.torch.DropConnectLinear(5, 3, p=0.4, activation="relu"), batch(6, 5)
    layer.load_state_dict(nn.Linear(5, 3).state_dict())
    clock = adopt(nn.ModuleDict({"fc": layer}), seed=SEED).clock
    at = Address(SEED, "fc")
    how = {"activation": "relu"}
    torch.testing.assert_close(
        layer(x), thinned.drop_connect(x, layer.weight, layer.bias, 0.4, at, **how)
    )
    clock.tick()
    whole = layer(x)
    parts = []
    clock.buffer[2] = 0
    clock.tick()
    for first in (0, 4):
        with clock.piece(first):
            parts.append(layer(x[first : first + 4]))
    torch.testing.assert_close(torch.cat(parts), whole)
    layer.eval()
    wanted = thinned.drop_connect(x, layer.weight, layer.bias, 0.4, at, False, **how)
    torch.testing.assert_close(layer(x), wanted)
    assert "p=0.4, activation='relu'" in repr(layer)


# ----------------------------------------------------------------------------------- planted faults


def the_list_is_forgotten(patch):
    """As torch's parametrisations do: a recurrent layer never sees the other weight."""
    patch.setattr(
        weights._NoisyForward,
        "_recurrent",
        lambda self, noisy, args, kwargs: self.run(args, kwargs),
    )


def the_weight_is_never_put_back(patch):
    def careless(self, args, kwargs):
        module = self.module
        for name, child in self.children.items():
            module._parameters[name] = module._modules[child](module._parameters[name]).detach()
        return self.run(args, kwargs)

    patch.setattr(weights._NoisyForward, "covered", careless)


def a_weight_is_a_piece_of_a_batch(patch):
    patch.setattr(rows, "NO_ROWS", -5)
    patch.setattr(weights.WeightNoise, "batch_axis", 0)


def test_the_faults_are_caught(monkeypatch):
    for fault, check in (
        (the_list_is_forgotten, lambda: the_recurrent_weight_is_dropped_once("LSTM")),
        (the_weight_is_never_put_back, lambda: evaluation_draws_nothing("weight_drop")),
        (a_weight_is_a_piece_of_a_batch, pieces_of_a_batch_share_the_weight),
    ):  # fmt: skip
        check()
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(AssertionError):
                check()


@pytest.mark.cuda
def test_no_warning_of_scattered_weights_on_a_gpu():
    """cuDNN wants a recurrent layer's weights in one memory, and says so at each call."""
    layer = thinned.torch.weight_drop(nn.LSTM(8, 16), "weight_hh_l0").cuda()
    x = torch.randn(5, 2, 8, device="cuda")
    y = layer(x)[0]
    y.sum().backward()
    assert np.isfinite(y.detach().cpu().numpy()).all()
    assert (layer.weight_hh_l0.grad == 0).any()
