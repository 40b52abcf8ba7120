"""Forwards that other libraries lay over ours, or that lie there before.

accelerate binds a wrapper of `model.forward.__func__` to the model for mixed precision, and keeps
`_original_forward`; its hooks keep `_old_forward` and lay a partial function over it. Others write
a closure. None of them knows what lies beneath.
"""

import copy
import functools
import inspect
import io
import pickle
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
import torch
from processes import needs_gloo, run_in_processes
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from versions import VERSION

from thinned.members import predict
from thinned.torch import adopt, audit, drop_connect, release, remove_noise, thin, weight_drop
from thinned.torch.compat import covers

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x, scale=2.0):
        return functional.dropout(self.fc(x), 0.5, self.training) * scale


def as_float(function):
    """A wrapper of an unbound forward: what comes out is float."""

    @functools.wraps(function)
    def forward(*args, **kwargs):
        return function(*args, **kwargs).float()

    return forward


def prepare(model):
    """accelerate's way: the method's function, wrapped, is bound to the model."""
    model._original_forward = model.forward
    in_bfloat16 = torch.autocast("cpu", torch.bfloat16)
    model.forward = MethodType(in_bfloat16(model.forward.__func__), model)
    model.forward = MethodType(as_float(model.forward.__func__), model)


def unwrap(model):
    """And back: down to the function that was there, bound to the model."""
    del model._original_forward
    model.forward = MethodType(inspect.unwrap(model.forward.__func__), model)


def add_hook(model):
    """accelerate's hooks: a partial function over the forward that was there."""

    def hooked(module, *args, **kwargs):
        module.seen = getattr(module, "seen", 0) + 1
        return module._old_forward(*args, **kwargs)

    model._old_forward = model.forward
    partial = functools.partial(hooked, model)
    model.forward = functools.update_wrapper(partial, model._old_forward)


def remove_hook(model):
    model.forward = model._old_forward
    del model._old_forward


def wrap(model):
    """By hand: a closure."""
    inner = model.forward

    @functools.wraps(inner)
    def forward(*args, **kwargs):
        return inner(*args, **kwargs)

    model.forward = forward


def rebind(model):
    """By hand: the function, bound to the model as it is."""
    model.forward = model.forward.__func__.__get__(model)


WRAPPERS = {"prepare": prepare, "add_hook": add_hook, "wrap": wrap, "rebind": rebind}
wrapped = pytest.mark.parametrize("lay", WRAPPERS.values(), ids=WRAPPERS)


def net():
    torch.manual_seed(0)
    return Net()


def expected(lay):
    """Two training forwards of an adopted model, as the wrapper's precision has them."""
    model = net()
    adopt(model, seed=7, ranks="replicated")  # which one process takes too
    with torch.autocast("cpu", torch.bfloat16, enabled=lay is prepare):
        return [model(X).float(), model(X).float()]


def equal(model, lay):
    return all(map(torch.equal, [model(X), model(X)], expected(lay)))


# --------------------------------------------------------------------------------- before and after


@wrapped
def test_a_wrapper_over_an_adopted_model_draws_its_masks(lay):
    model = net()
    adopt(model, seed=7)
    lay(model)
    assert equal(model, lay)
    assert torch.equal(model.eval()(X), model(X))


@pytest.mark.parametrize("lay", [prepare, rebind])
def test_what_is_bound_to_the_model_has_its_signature(lay):
    model = net()
    adopt(model)
    lay(model)
    assert list(inspect.signature(model.forward).parameters) == ["x", "scale"]
    thin(twin := nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 2)))
    lay(twin)
    assert list(inspect.signature(twin.forward).parameters) == ["input"]


@wrapped
def test_a_wrapper_that_was_there_before_lies_beneath(lay):
    model = net()
    lay(model)
    adopt(model, seed=7)
    assert equal(model, lay)
    release(model)
    assert not {"thinned_covers", "_replicate_for_data_parallel"} & set(vars(model))


@pytest.mark.parametrize("lay", [prepare, wrap, rebind])
def test_a_wrapper_between_two_covers(lay):
    """Each function that is bound to the model finds the cover that it was taken from."""
    model, plain = net(), net()
    weight_drop(model.fc, "weight", 0.5)
    lay(model.fc)
    drop_connect(model.fc, "bias", 0.5)
    lay(model.fc)
    weight_drop(plain.fc, "weight", 0.5)
    drop_connect(plain.fc, "bias", 0.5)
    for one in (model, plain):
        adopt(one, seed=7)
    lay(model.fc)
    with torch.autocast("cpu", torch.bfloat16, enabled=lay is prepare):
        assert torch.equal(model(X).float(), plain(X).float())


@wrapped
def test_a_thin_model_under_a_wrapper(lay):
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    thin(model, seed=3)
    twin = copy.deepcopy(model)
    for module in (*model, model):
        lay(module)
    with torch.autocast("cpu", torch.bfloat16, enabled=lay is prepare):
        assert torch.equal(model(X), twin(X).float())


def test_accelerate_unwraps_to_the_function_bound_to_the_model():
    model = net()
    before = set(vars(model))
    adopt(model, seed=7)
    prepare(model)
    with pytest.raises(ValueError, match=r"^release: the forward of 'the model', a Net, was"):
        release(model)
    unwrap(model)
    assert model.forward.__self__ is model
    assert equal(model, unwrap)
    release(model)
    assert set(vars(model)) == before


def test_a_forward_that_accelerate_left_bound_to_the_model_is_as_good_as_none():
    model = net()
    prepare(model)
    unwrap(model)
    adopt(model, seed=7)
    assert equal(model, unwrap)
    release(model)
    assert model.forward == MethodType(Net.forward, model)


# ------------------------------------------------------------------------------ copies and the like


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
    "the method first": lambda model: pickle.loads(pickle.dumps((model.forward, model)))[1],
    "the covers first": lambda model: pickle.loads(
        pickle.dumps((model.__dict__["thinned_covers"], model))
    )[1],
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("bound", ["to the cover", "to the model"])
def test_a_copy_has_its_cover(copied, bound):
    model = net()
    adopt(model, seed=7)
    if bound == "to the model":
        rebind(model)
    twin = copied(model)
    assert covers.covers_of(twin)[0].module is twin
    assert equal(twin, rebind)
    assert equal(model, rebind)
    prepare(twin)
    unwrap(twin)
    release(twin)
    assert "thinned_covers" not in vars(twin)


@wrapped
def test_compiled(lay):
    if lay is add_hook and VERSION < (2, 8):
        pytest.skip(
            "before 2.8 Dynamo forgets what a method is bound to that another hand has moved"
        )
    model = net()
    adopt(model, seed=7)
    lay(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert equal(compiled, lay)


@wrapped
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed(lay, reentrant):
    gradients = []
    for checkpointed in (True, False):
        model = net()
        adopt(model, seed=7)
        lay(model)
        x = X.clone().requires_grad_()
        y = checkpoint(model, x, use_reentrant=reentrant) if checkpointed else model(x)
        y.square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@needs_gloo
@pytest.mark.long
def test_in_distributed_data_parallel():
    run_in_processes(Path(__file__).with_name("wrapped_worker.py"), 2)


def test_data_parallels_replica_runs_itself():
    model = net()
    adopt(model, seed=7)
    rebind(model)
    replica = model._replicate_for_data_parallel()
    replica.fc = nn.Identity()
    assert set(replica(torch.ones(4, 8)).unique().tolist()) == {0.0, 4.0}


@wrapped
def test_a_question_is_put_to_what_lies_beneath(lay):
    model, plain = net(), net()
    for one in (model, plain):
        adopt(one, seed=7)
    lay(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=lay is prepare):
        wanted = predict(plain, X, members=3, seed=1, keep=True).outputs
    found = predict(model, X, members=3, seed=1, keep=True).outputs
    assert np.array_equal(found, wanted)


@wrapped
def test_the_audit_finds_the_site_beneath(lay):
    model = net()
    adopt(model, seed=7)
    lay(model)
    assert audit(model, X, measure=False).sites


# ----------------------------------------------------------------------------------- what is lifted


@pytest.mark.parametrize("lay", [prepare, add_hook, wrap])
def test_what_lies_beneath_a_wrapper_is_not_lifted(lay):
    model = nn.Linear(8, 8)
    weight_drop(model, "weight", 0.5)
    lay(model)
    drop_connect(model, "bias", 0.5)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=r"^remove_noise: .* was changed since"):
        remove_noise(model, "weight")
    assert vars(model) == before
    remove_noise(model, "bias")
    assert not hasattr(model, "bias_drop_connect")


@wrapped
def test_one_of_several_weights_loses_its_noise_under_a_wrapper(lay):
    model = nn.Linear(8, 8)
    weight_drop(model, "weight", 0.5)
    weight_drop(model, "bias", 0.5)
    lay(model)
    remove_noise(model, "weight")
    model.bias.data.zero_()
    with torch.autocast("cpu", torch.bfloat16, enabled=lay is prepare):
        wanted = functional.linear(X, model.weight).float()
    assert torch.equal(model(X), wanted)


def test_noise_is_not_laid_over_the_wrapper_of_an_adopted_forward():
    model = nn.LSTM(8, 8)
    adopt(nn.Sequential(model, nn.Dropout()))
    wrap(model)
    with pytest.raises(ValueError, match=r"^weight_drop: the module is adopted already"):
        weight_drop(model, "weight_hh_l0", 0.5)


def test_a_hook_that_is_removed_takes_what_was_laid_over_it_away():
    """The hook puts back what lay there before, and our covers are where nobody runs them: release
    does not wait for a wrapper that is gone."""
    model = net()
    weight_drop(model.fc, "weight", 0.5)
    before = set(vars(model)), set(vars(model.fc))
    for one in (model, model.fc):
        add_hook(one)
    adopt(model, seed=7)
    for one in (model, model.fc):
        remove_hook(one)
    release(model)
    assert (set(vars(model)) - {"forward"}, set(vars(model.fc))) == before
    assert model.forward == MethodType(Net.forward, model)
    remove_noise(model.fc, "weight")
    assert model(X).shape == (4, 8)


def test_a_forward_that_was_popped_is_released():
    model = net()
    before = set(vars(model))
    adopt(model, seed=7)
    prepare(model)
    del model.forward, model._original_forward
    release(model)
    assert set(vars(model)) == before


def test_a_function_that_outlives_its_cover_says_so():
    model = net()
    adopt(model)
    function = model.forward.__func__
    release(model)
    model.forward = MethodType(function, model)
    with pytest.raises(RuntimeError, match="of this Net was taken from it before release"):
        model(X)


class Static(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    @staticmethod
    def forward(x):
        return x + 1.0


def test_noise_on_a_module_whose_forward_is_static():
    model = weight_drop(Static(), "weight", 0.5)
    assert torch.equal(model(X), X + 1.0)


# ----------------------------------------------------------------------------------- planted faults


def test_a_function_that_runs_the_uppermost_cover_is_caught(monkeypatch):
    monkeypatch.setattr(covers, "_laid_at", lambda module, place: covers.covers_of(module)[-1])
    with pytest.raises(RecursionError):
        test_a_wrapper_between_two_covers(prepare)


def test_a_cover_that_knows_itself_alone_is_caught(monkeypatch):
    def bound_to_itself(place):
        def forward(self, /, *args, **kwargs):
            return self.covered(args, kwargs)

        return forward

    covers._of_class.cache_clear()
    monkeypatch.setattr(covers, "_made", bound_to_itself)
    try:
        with pytest.raises(AttributeError, match="'Net' object has no attribute 'covered'"):
            test_a_wrapper_over_an_adopted_model_draws_its_masks(prepare)
    finally:
        covers._of_class.cache_clear()


def test_a_method_that_is_pickled_by_its_name_is_caught(monkeypatch):
    monkeypatch.setattr(covers._Covers, "__getstate__", lambda self: {**vars(self), "named": False})
    with pytest.raises(AssertionError):
        test_a_copy_has_its_cover(COPIES["pickle"], "to the model")
