"""An audit leaves the model, and every generator, exactly as they were."""

import copy
import random

import numpy as np
import pytest
import torch
from planted import Recomputing, adopted, batch, body, cnn, mlp, transformer
from torch import nn

import thinned.torch as tt
from thinned import schedules
from thinned.torch.auditing import audit, restore
from thinned.torch.auditing.restore import clock_of


def bits(tensor):
    return None if tensor is None else (tuple(tensor.shape), tensor.detach().numpy().tobytes())


def generators():
    legacy = np.random.get_state()  # noqa: NPY002 - the state that users' code shares
    return bits(torch.get_rng_state()), legacy[1].tobytes(), legacy[2], random.getstate()


def everything(model):
    """All that can be told of a model, as values that compare."""
    found = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[name] = id(tensor), bits(tensor), id(tensor.grad), bits(tensor.grad)
    for name, module in model.named_modules():
        hooks = {key: list(value) for key, value in vars(module).items() if "hooks" in key}
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str))}
        lists = {k: list(v) for k, v in vars(module).items() if type(v) in (list, set)}
        found[name, "module"] = type(module), hooks, plain, lists, sorted(vars(module))
    clock = clock_of(model)
    if clock is not None:
        found["clock"] = repr(clock), clock.counts.tolist(), sorted(vars(clock)), clock._epoch
        found["p"] = [site.p for site in restore.sites_of(model)]
        found["words"] = [bits(site.words) for site in restore.sites_of(model)]
    return found


class Untidy(nn.Module):
    """Keeps whatever it can keep between calls."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(8))
        self.mine_too = np.random.default_rng(1)
        self.calls, self.history, self.cache = 0, [1], {"last": torch.zeros(3), "of": [0]}
        self.mine = torch.Generator().manual_seed(3)

    def forward(self, x):
        self.calls += 1
        self.history.append(self.calls)
        self.cache["last"] += 1
        self.cache["new"] = x
        self.cache["of"].append(1)
        self.seen += x.detach().mean(0)
        self.fresh = torch.rand(2, generator=self.mine)
        np.random.rand()  # noqa: NPY002
        random.random()
        self.mine_too.random()
        if not x.requires_grad:
            x.add_(0.0)
        with torch.no_grad():
            self.linear.bias += 1.0
        return self.drop(self.linear(x))


def scheduled():
    model = mlp()
    tt.adopt(model, schedule={"*": schedules.linear(0.0, 0.5)}, steps=10)
    return model


KEPT = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
    "untidy": Untidy,
    "adopted": lambda: adopted(cnn()),
    "scheduled": scheduled,
    "checkpointed": lambda: adopted(Recomputing()),
    "hooked": lambda: hooked(mlp()),
    "mixed modes": lambda: nn.Sequential(nn.Linear(8, 8).eval(), nn.Dropout(0.5)),
}


def hooked(model):
    model[0].register_forward_hook(lambda module, args, output: output + 1)
    model[0].weight.register_hook(lambda grad: grad * 2)
    return model


def begun(build):
    """A model in the middle of its training: gradients are there, the clock has moved."""
    torch.manual_seed(4)
    model = build()
    model(batch().requires_grad_()).sum().backward()
    clock = clock_of(model)
    if clock is not None:
        clock.tick()
        model(batch().requires_grad_())
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", KEPT)
def test_all_is_as_it_was(name, training):
    model = begun(KEPT[name])
    if name != "mixed modes":
        model.train(training)
    x = batch()
    before = everything(model), generators(), bits(x)
    tt.audit(model, x, measure=training)
    assert (everything(model), generators(), bits(x)) == before
    assert x.grad is None


@pytest.mark.parametrize("name", ["cnn", "adopted", "untidy"])
def test_and_goes_on_as_if_nothing_had_been(name):
    model = begun(KEPT[name])
    twin = copy.deepcopy(model)
    if name == "untidy":
        twin.mine.set_state(model.mine.get_state())
    tt.audit(model, batch(), measure=False)
    for one in (model, twin):
        torch.manual_seed(6)
        one.zero_grad()
        one(batch()).sum().backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert bits(p.grad) == bits(q.grad)


class BrokenError(RuntimeError):
    pass


class Failing(nn.Module):
    """Raises in its n-th call."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, 0
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x):
        self.calls += 1
        x = self.drop(self.norm(x))
        self.norm.eval()
        if self.calls > self.at:
            raise BrokenError
        return x


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_after_an_exception_too(at, adopt):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(8, 8), Failing(at))
    if adopt:
        adopted(model)
    before = everything(model), generators()
    with pytest.raises(BrokenError):
        tt.audit(model, batch(), measure=False)
    assert (everything(model), generators()) == before


def test_after_an_exception_in_the_loss_and_in_a_measured_step():
    model = begun(KEPT["adopted"])
    before = everything(model), generators()
    with pytest.raises(ZeroDivisionError):
        tt.audit(model, batch(), loss=lambda y: y.sum() / (1 // 0))
    assert (everything(model), generators()) == before


def test_autograd_and_modes_are_as_they_were():
    with torch.no_grad():
        tt.audit(mlp(), batch(), measure=False)
        assert not torch.is_grad_enabled()
    model = mlp()
    with torch.inference_mode():
        assert tt.audit(model, torch.ones(16, 8), measure=False).clean
        assert torch.is_inference_mode_enabled()
    assert torch._C._len_torch_dispatch_stack() == 0


def test_what_is_given_is_not_written_into():
    model = nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(8, 8))
    x = batch()
    before = bits(x)
    assert tt.audit(model, {"input": x}, measure=False).clean
    assert bits(x) == before


# ----------------------------------------------------------------------------------- planted faults


@pytest.mark.parametrize("left_out", ["_Attributes.restore", "_Tensors.restore"])
def test_fault_a_part_is_not_restored(monkeypatch, left_out):
    kind, method = left_out.split(".")
    monkeypatch.setattr(getattr(restore, kind), method, lambda self: None)
    with pytest.raises(AssertionError):
        test_all_is_as_it_was("untidy", True)


def test_fault_the_generator_is_not_restored(monkeypatch):
    monkeypatch.setattr(restore.torch, "set_rng_state", lambda state: None)
    with pytest.raises(AssertionError):
        test_all_is_as_it_was("mlp", True)


def test_fault_inputs_are_not_copied(monkeypatch):
    monkeypatch.setattr(audit, "_copied", lambda held: held)
    with pytest.raises(AssertionError):
        test_what_is_given_is_not_written_into()


def test_fault_the_clock_is_forgotten(monkeypatch):
    monkeypatch.setattr(restore, "sites_of", lambda model: [])
    model = begun(KEPT["adopted"])
    counts = clock_of_module(model).counts.tolist()
    tt.audit(model, batch(), measure=False)
    assert clock_of_module(model).counts.tolist() != counts


def clock_of_module(model):
    return next(m.site.clock for m in model.modules() if hasattr(m, "site"))


def test_the_body_is_audited_with_a_tuple_and_a_dict():
    model = body(lambda self, h: h, drop=nn.Dropout(0.5))
    found = [
        tt.audit(model, given, measure=False).findings for given in ((batch(),), {"x": batch()})
    ]
    assert found[0] == found[1]
    assert [one.kind for one in found[0]] == ["never drops"]


class Freeing(torch.autograd.Function):
    """Frees its input's memory, as layers do whose backward pass computes it again."""

    @staticmethod
    def forward(ctx, x):
        y = x + 1.0
        x.untyped_storage().resize_(0)
        return y

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Inverted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x):
        return Freeing.apply(self.drop(self.linear(x)))


def test_memory_that_was_looked_at_can_still_be_freed():
    report = tt.audit(Inverted(), torch.randn(8, 8), measure=False)
    assert [row.site for row in report.sites] == ["drop"]
