"""An adopted model in accelerate's hands."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.nn import functional

import thinned
from thinned.torch import adopt, release
from thinned.torch.compat import covers

pytestmark = [
    pytest.mark.filterwarnings("ignore:::accelerate"),
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
]

SEED = 3
X = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.drop, self.head = nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 1)
        self.masks = []

    def forward(self, x):
        h = self.drop(torch.tanh(self.fc(x)))
        h = functional.dropout(h, 0.2, self.training)
        if self.training:
            self.masks.append(h.detach() != 0)
        return self.head(h)


@pytest.fixture(autouse=True)
def _alone():
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def prepared(first, accelerator=None, net=Net, **settings):
    accelerator = Accelerator(cpu=True, **settings) if accelerator is None else accelerator
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    if first:
        clock = adopt(model, seed=SEED, optimizer=optimizer).clock
    model, optimizer = accelerator.prepare(model, optimizer)
    if not first:
        clock = adopt(model, seed=SEED, optimizer=optimizer).clock
    return accelerator, model, optimizer, clock


def train(accelerator, model, optimizer, batches):
    for x in batches:
        with accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()


def wanted(step, call=0, rows=4):
    like = torch.ones(rows, 16)
    both = [("drop", 0.5), ("/dropout", 0.2)]
    masks = [
        thinned.keep_mask((rows, 16), p, thinned.Address(SEED, site, step, call), like=like)
        for site, p in both
    ]
    return masks[0] & masks[1]


def follow(masks, places):
    assert len(masks) == len(places)
    return all(torch.equal(mask, wanted(*place)) for mask, place in zip(masks, places, strict=True))


orders = pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
precisions = pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])


@orders
@precisions
def test_masks_are_those_of_seed_site_and_step(first, precision):
    accelerator, model, optimizer, clock = prepared(first, mixed_precision=precision)
    train(accelerator, model, optimizer, X.split(4))
    assert clock.step == 6
    assert follow(accelerator.unwrap_model(model).masks, [(n,) for n in range(6)])


@orders
def test_accumulated_batches_are_calls_of_one_step(first):
    accelerator, model, optimizer, clock = prepared(first, gradient_accumulation_steps=3)
    train(accelerator, model, optimizer, X.split(4))
    assert clock.step == 2
    assert follow(model.masks, [divmod(n, 3) for n in range(6)])


@orders
def test_accumulated_pieces_are_one_batch(first):
    accelerator, model, optimizer, clock = prepared(first, gradient_accumulation_steps=2)
    for n, x in enumerate(X[:8].split(4)):
        with clock.piece(4 * n), accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
    assert clock.step == 1
    assert torch.equal(torch.cat(model.masks), wanted(0, rows=8))


@orders
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_does_not_count(first, fused):
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    if first:
        clock = adopt(model, seed=SEED, optimizer=optimizer).clock
    model, optimizer = accelerator.prepare(model, optimizer)
    if not first:
        clock = adopt(model, seed=SEED, optimizer=optimizer).clock
    for n, x in enumerate(X.split(4)):
        accelerator.backward(model(x).square().mean())
        if n == 1:
            model.fc.weight.grad.fill_(float("inf"))
        optimizer.step()
        optimizer.zero_grad()
    assert clock.step == 5
    assert follow(model.masks[2:], [(1, 1), *((n,) for n in range(2, 5))])


@orders
@pytest.mark.parametrize("second", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_save_state_and_load_state_resume(tmp_path, first, second, precision):
    accelerator, model, optimizer, _ = prepared(first, mixed_precision=precision)
    train(accelerator, model, optimizer, X[:12].split(4))
    accelerator.save_state(tmp_path)
    train(accelerator, model, optimizer, X[12:].split(4))
    whole = [p.detach().clone() for p in model.parameters()]
    AcceleratorState._reset_state(True)
    accelerator, other, optimizer, clock = prepared(second, mixed_precision=precision)
    torch.manual_seed(99)
    accelerator.load_state(tmp_path)
    assert clock.step == 3
    train(accelerator, other, optimizer, X[12:].split(4))
    assert all(map(torch.equal, whole, other.parameters()))


# --------------------------------------------------------------------------------------- unwrapped


@orders
@precisions
def test_unwrapped_without_its_precision_it_is_the_model_in_full(first, precision):
    accelerator, model, _, clock = prepared(first, mixed_precision=precision)
    plain = Net()
    adopt(plain, seed=SEED)
    assert torch.allclose(model(X[:4]), plain(X[:4]), atol=1e-2)
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    assert torch.equal(bare(X[:4]), plain(X[:4]))
    assert clock.drawn(0) == 2
    release(bare)
    assert "forward" not in vars(bare)
    assert torch.equal(bare.eval()(X), plain.eval()(X))


@precisions
def test_released_right_after_it_was_unwrapped(precision):
    accelerator, model, _, _ = prepared(False, mixed_precision=precision)
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    release(bare)
    assert "forward" not in vars(bare)
    assert torch.equal(bare.eval()(X), Net().eval()(X))


def test_released_above_its_precision_it_keeps_that():
    _, model, _, _ = prepared(False, mixed_precision="bf16")
    release(model)
    plain = Net().eval()(X)
    assert not torch.equal(model.eval()(X), plain)
    assert torch.allclose(model(X), plain, atol=1e-2)


def test_released_beneath_its_precision_it_says_what_to_undo():
    accelerator, model, _, _ = prepared(True, mixed_precision="bf16")
    with pytest.raises(ValueError, match="release: the forward of 'the model', a Net, was changed"):
        release(model)
    release(accelerator.unwrap_model(model, keep_fp32_wrapper=False))


def test_several_covers_are_unwrapped_together():
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    model = accelerator.prepare(Net())
    model.scale = nn.Parameter(torch.ones(8))
    thinned.torch.weight_drop(model, "scale", 0.5)
    adopt(model, seed=SEED)
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    plain = Net()
    plain.scale = nn.Parameter(torch.ones(8))
    thinned.torch.weight_drop(plain, "scale", 0.5)
    adopt(plain, seed=SEED)
    assert torch.equal(bare(X), plain(X))


@pytest.mark.long
def test_a_compiled_model():
    from accelerate.utils import TorchDynamoPlugin

    plugin = TorchDynamoPlugin(backend="eager")
    for first in (True, False):
        accelerator, model, optimizer, clock = prepared(first, dynamo_plugin=plugin, net=Quiet)
        train(accelerator, model, optimizer, X.split(4))
        assert clock.step == 6
        found = [p.detach() for p in accelerator.unwrap_model(model, True, False).parameters()]
        plain = Quiet()
        steps = torch.optim.AdamW(plain.parameters(), lr=1e-2)
        adopt(plain, seed=SEED, optimizer=steps)
        for x in X.split(4):
            plain(x).square().mean().backward()
            steps.step()
            steps.zero_grad()
        assert all(map(torch.allclose, found, plain.parameters()))


class Quiet(Net):
    def forward(self, x):
        h = self.drop(torch.tanh(self.fc(x)))
        return self.head(functional.dropout(h, 0.2, self.training))


# ----------------------------------------------------------------------------------- planted faults


def test_planted_a_cover_that_accelerate_binds_to_the_model(monkeypatch):
    monkeypatch.setattr(covers, "_ORIGINAL", "nowhere")
    accelerator, model, _, _ = prepared(False, mixed_precision="bf16")
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    with pytest.raises(TypeError, match="positional arguments"):
        bare(X[:4])


def test_planted_a_clock_of_the_wrappers_calls():
    """One that ticks whenever accelerate's optimizer is called, not when it steps."""
    accelerator, model, optimizer, clock = prepared(True, gradient_accumulation_steps=3)
    for x in X.split(4):
        with accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            clock.tick()
            optimizer.zero_grad()
    assert not follow(model.masks, [divmod(n, 3) for n in range(6)])


def test_planted_a_state_without_the_clock(tmp_path):
    accelerator, model, optimizer, clock = prepared(True)
    train(accelerator, model, optimizer, X[:12].split(4))
    accelerator.save_state(tmp_path)
    clock.step = 0
    train(accelerator, model, optimizer, X[12:16].split(4))
    assert not torch.equal(model.masks[-1], wanted(3))
