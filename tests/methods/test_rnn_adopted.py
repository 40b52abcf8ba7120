"""thinned.torch's LSTM and GRU in an adopted model; what they refuse."""

import pytest
import torch
from processes import needs_gloo
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import thinned.torch
from thinned.torch import adopt, checkpoint_context, release

from .test_rnn import FORMS, KINDS, F, H, N, T, layer_of, over_cases, over_kinds

compiled = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is :DeprecationWarning"),
]
ALL = {
    "p": 0.4, "input_p": True, "between_p": 0.3, "output_p": 0.2, "recurrent_p": True,
    "weight_p": 0.3, "zoneout_hidden_p": 0.2, "num_layers": 2, "bidirectional": True,
}  # fmt: skip


class Net(nn.Module):
    """how : keyword arguments of torch's checkpoint."""

    def __init__(self, kind, options, how=None):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.how = getattr(thinned.torch, kind)(F, H, **options), how

    def forward(self, x):
        if self.how is None:
            return self.rnn(x)[0]
        return checkpoint(self.rnn, x, **self.how)[0]


def gradients(net, x, run=None):
    net.zero_grad()
    y = (net if run is None else run)(x)
    y.square().sum().backward()
    return [y.detach(), *(w.grad.clone() for w in net.parameters())]


def same(found, expected, tolerance=1e-6):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


HOWS = [
    {"use_reentrant": False},
    {"use_reentrant": True},
    {"use_reentrant": False, "context_fn": checkpoint_context},
]


@over_kinds
@pytest.mark.parametrize("how", HOWS, ids=["plain", "reentrant", "noted"])
@pytest.mark.parametrize("recurrent", ["candidate", "gal"])
def test_a_recompute_draws_the_forwards_masks(kind, how, recurrent):
    x = torch.randn(T, N, F, requires_grad=True)
    wanted = []
    for option in (None, how):
        net = Net(kind, {**ALL, "recurrent": recurrent}, option)
        adopt(net, seed=7)
        wanted.append(gradients(net, x))
    same(wanted[1], wanted[0])


def steps(net, clock, x, run=None):
    found = []
    for p in (0.4, 0.15, 0.0):
        net.rnn.p = p
        found += gradients(net, x, run)
        with clock.piece(1):
            found += gradients(net, x[:, 1:], run)
        clock.tick()
    return found


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("recurrent", ["candidate", "gal"])
def test_compiled_is_eager_and_a_new_p_or_step_is_no_new_program(kind, recurrent):
    torch._dynamo.reset()
    options = {**ALL, "num_layers": 2, "bidirectional": False, "recurrent": recurrent}
    x, counter = torch.randn(3, N, F), CompileCounterWithBackend("aot_eager")
    found = []
    for compiling in (False, True):
        net = Net(kind, options)
        clock = adopt(net, seed=7).clock
        run = torch.compile(net, backend=counter, fullgraph=True) if compiling else None
        found.append(steps(net, clock, x, run))
    same(found[1], found[0], 1e-5)
    # One for the batch, one for any number of rows.
    assert counter.frame_count <= 2


test_compiled_is_eager_and_a_new_p_or_step_is_no_new_program.pytestmark += compiled


@pytest.mark.long
@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "alone"])
def test_the_real_compiler(adopted):
    torch._dynamo.reset()
    options = {"p": 0.4, "recurrent_p": True, "weight_p": 0.3, "zoneout_hidden_p": 0.2}
    net, twin = Net("LSTM", options), Net("LSTM", options)
    x = torch.randn(2, N, F)
    run = torch.compile(net, fullgraph=True)
    if adopted:
        adopt(net, seed=7), adopt(twin, seed=7)
        same(gradients(net, x, run), gradients(twin, x), 1e-5)
    first, second = gradients(net, x, run), gradients(net, x, run)
    assert not torch.equal(first[0], second[0])
    net.eval(), twin.eval()
    same([run(x)], [twin(x)], 1e-5)


test_the_real_compiler.pytestmark += compiled


@pytest.mark.one_in(4)
@over_kinds
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_compiled_with_all_off(kind, form):
    torch._dynamo.reset()
    layer = getattr(thinned.torch, kind)(F, H, **form)
    x = torch.randn(3, N, F)
    run = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(x), layer(x), rtol=1e-5, atol=1e-6)


test_compiled_with_all_off.pytestmark += compiled


@over_cases
def test_adopted_and_released(kind, options):
    net = Net(kind, {k: v for k, v in options.items() if kind == "LSTM" or "cell" not in k})
    report = adopt(net, seed=3)
    (row,) = report.rows
    assert (row.site, row.kind, row.p) == ("rnn", kind, options.get("p"))
    assert ("its own" in str(report)) is ("p" not in options)
    first = net(torch.ones(T, N, F))
    report.clock.tick()
    report.clock.buffer[2] = 0
    assert torch.equal(net(torch.ones(T, N, F)), first)
    release(net)
    twin = getattr(nn, kind)(F, H, **{k: options[k] for k in TORCHS if k in options})
    twin.load_state_dict(net.rnn.state_dict())
    assert not torch.equal(net(torch.ones(T, N, F)), first)


TORCHS = ("num_layers", "bias", "bidirectional")


def test_a_schedule_moves_p_and_what_follows_it_alone():
    net = Net("LSTM", {"p": 0.5, "recurrent_p": True, "input_p": 0.25})
    clock = adopt(net, schedule={"rnn": lambda step, steps: 0.1 * step}, steps=10).clock
    assert net.rnn.p == 0.0
    clock.tick()
    assert (net.rnn.p, net.rnn.input_p) == (0.1, 0.25)
    x, twin = torch.randn(T, N, F), Net("LSTM", {"recurrent_p": 0.1, "input_p": 0.25})
    adopt(twin).clock.tick()
    assert torch.equal(net(x), twin(x))
    with pytest.raises(RuntimeError, match="follows"):
        net.rnn.p = 0.3
    fixed = Net("LSTM", {"recurrent_p": 0.5})
    with pytest.raises(ValueError, match=r"no schedule can move: .* or one of several"):
        adopt(fixed, schedule={"rnn": 0.1})


@over_kinds
def test_a_packed_piece_is_rows_of_the_batch(kind):
    layer, clock = layer_of(kind, ALL, batch_first=True)
    x, lengths = torch.randn(N, T, F, dtype=torch.float64), [5, 2, 4, 3]
    whole = layer(pack_padded_sequence(x, lengths, True, False))[1]
    clock.tick()
    clock.buffer[2] = 0
    parts = []
    for first, stop in ((0, 1), (1, N)):
        packed = pack_padded_sequence(x[first:stop], lengths[first:stop], True, False)
        with clock.piece(first):
            parts.append(layer(packed)[1])
    whole, parts = ([s if kind == "LSTM" else (s,) for s in found] for found in ([whole], parts))
    for i, state in enumerate(whole[0]):
        torch.testing.assert_close(torch.cat([part[i] for part in parts], 1), state)


# --------------------------------------------------------------------------------------- refusals

BAD = [
    ({"recurrent_p": 1.5}, ValueError, r"recurrent_p must be a float in \[0, 1\], got 1.5"),
    ({"input_p": "half"}, TypeError, "input_p must be a float in"),
    ({"weight_p": False}, TypeError, "weight_p must be a float in"),
    ({"zoneout_hidden_p": float("nan")}, ValueError, "zoneout_hidden_p must be a float in"),
    ({"recurrent": "moon"}, ValueError, "recurrent must be 'candidate' or 'gal', got 'moon'"),
    ({"input_p": True}, TypeError, "p must be given: input_p=True"),
    ({"p": 0.3}, ValueError, "p must be None where nothing follows it, got 0.3"),
    ({"p": 30, "input_p": True}, ValueError, "p must be a float in .*percentage"),
    ({"between_p": 0.1}, ValueError, "between_p must be 0 with num_layers=1, got 0.1.*output_p"),
    ({"dropout": 0.1}, ValueError, "dropout must be 0 with num_layers=1"),
    ({"dropout": 0.1, "between_p": 0.1, "num_layers": 2}, ValueError, "between_p and dropout both"),
    ({"num_layers": 0}, ValueError, "num_layers must be an integer"),
    ({"bias": 1}, TypeError, "bias must be True or False"),
]


@over_kinds
@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_options(kind, options, error, text):
    with pytest.raises(error, match=rf"^{kind}: {text}"):
        getattr(thinned.torch, kind)(F, H, **options)


def test_no_projection():
    with pytest.raises(ValueError, match=r"^LSTM: proj_size must be 0, got 2. Put a torch.nn.Lin"):
        thinned.torch.LSTM(F, H, proj_size=2)


@over_kinds
def test_bad_p_later(kind):
    layer = getattr(thinned.torch, kind)(F, H, recurrent_p=0.2)
    with pytest.raises(ValueError, match=f"^{kind}: p must be None where nothing follows"):
        layer.p = 0.4
    with pytest.raises(ValueError, match=f"^{kind}: recurrent_p must be"):
        layer.recurrent_p = 2.0
    with pytest.raises(ValueError, match=f"^{kind}: recurrent must be"):
        layer.recurrent = "moon"
    assert (layer.p, layer.recurrent_p, layer.recurrent) == (None, 0.2, "candidate")


@over_kinds
@pytest.mark.parametrize("options", [{}, {"recurrent_p": 0.3}], ids=["off", "on"])
def test_bad_input(kind, options):
    layer = getattr(thinned.torch, kind)(F, H, **options)
    state = torch.zeros(1, N, H)
    good = (state, state) if kind == "LSTM" else state
    wrong = (state, state[:, 1:]) if kind == "LSTM" else state[:, 1:]
    odd = state if kind == "LSTM" else (state, state)
    x = torch.zeros(T, N, F)
    assert layer(x, good)[0].shape == (T, N, H)
    for input, hx, error, text in (
        ([1.0], None, TypeError, "input must be a torch tensor or a PackedSequence, got list"),
        (x[0, 0], None, ValueError, r"input must be of shape \(T, N, F\) or \(T, F\)"),
        (x[..., 1:], None, ValueError, "input must be of 3 features, its input_size, got 2"),
        (x.double(), None, TypeError, "input must be of the weights' type torch.float32"),
        (x[:0], None, ValueError, "input must be of at least one step, got none"),
        (x, odd, TypeError, "hx must be"),
        (x, wrong, ValueError, r"hx.* must be of shape \(1, 4, 4\), got \(1, 3, 4\)"),
        (x[:, 0], good, ValueError, r"hx.* must be of shape \(1, 4\), got \(1, 4, 4\)"),
    ):
        with pytest.raises(error, match=f"^{kind}: {text}"):
            layer(input, hx)


def test_a_sequence_longer_than_its_room(monkeypatch):
    monkeypatch.setattr(thinned.torch.rnn.masks, "STEPS", 4)
    with pytest.raises(ValueError, match="input must be a sequence of at most 4 steps, got 5"):
        thinned.torch.LSTM(F, H, recurrent_p=0.5)(torch.zeros(T, N, F))


def test_a_sequence_alone_is_no_piece():
    net = Net("LSTM", {"recurrent_p": 0.5})
    clock = adopt(net).clock
    with clock.piece(0), pytest.raises(RuntimeError, match="cannot be a piece"):
        net(torch.zeros(T, F))


@over_kinds
def test_an_empty_batch_stays_empty(kind):
    layer = getattr(thinned.torch, kind)(F, H, recurrent_p=0.3, input_p=0.3)
    assert layer(torch.zeros(T, 0, F))[0].shape == (T, 0, H)


@needs_gloo
def test_dtensors_are_refused():
    from torch.distributed.tensor import distribute_tensor, init_device_mesh

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        x = distribute_tensor(torch.zeros(T, N, F), init_device_mesh("cpu", (1,)))
        with pytest.raises(
            NotImplementedError, match=r"^LSTM: input must be a plain tensor .*split"
        ):
            thinned.torch.LSTM(F, H, recurrent_p=0.3)(x)
    finally:
        torch.distributed.destroy_process_group()


@over_kinds
def test_a_parametrised_weight_is_used(kind):
    """As weight decompositions and weight drops of other makes put one there."""
    layer = getattr(thinned.torch, kind)(F, H, recurrent_p=0.3)
    twin = getattr(thinned.torch, kind)(F, H, recurrent_p=0.3)
    twin.load_state_dict(layer.state_dict())
    nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Halved())
    with torch.no_grad():
        twin.weight_hh_l0 /= 2
    x = torch.randn(T, N, F)
    for mode in (True, False):
        found = []
        for one in (layer.train(mode), twin.train(mode)):
            torch.manual_seed(0)
            found.append(one(x)[0])
        torch.testing.assert_close(*found)


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2
