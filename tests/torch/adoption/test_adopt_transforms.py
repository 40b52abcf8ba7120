"""Adopted models under what wraps tensors up: torch.func, fake and meta tensors, other modes."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from versions import through_the_compiler

import thinned
from thinned.torch import adopt, release
from thinned.torch.clock.clock import BUFFER

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
ONES = torch.ones(4, 8)


def made(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    return model, adopt(model, **options).clock


def keep(shape=(4, 8), **coordinates):
    at = thinned.Address(site="1", **coordinates)
    return thinned.keep_mask(shape, 0.5, at, like=ONES)


def gradient(model, x=X):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).square().sum(), x)[0]


# --------------------------------------------------------------------------------------- torch.func

TRANSFORMS = {  # what a transform of the model at X gives: the same by torch.autograd
    "grad": (
        lambda f: torch.func.grad(lambda x: f(x).square().sum())(X),
        gradient,
    ),
    "vjp": (lambda f: torch.func.vjp(f, X)[1](ONES)[0], lambda f: torch.func.vjp(f, X)[1](ONES)[0]),
    "jvp": (
        lambda f: torch.func.jvp(f, (X,), (ONES,))[1],
        lambda f: torch.autograd.functional.jvp(f, X, ONES)[1],
    ),
    "jacrev": (
        lambda f: torch.func.jacrev(f)(X),
        lambda f: torch.autograd.functional.jacobian(f, X),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_call_of_a_site_may_be_in_a_transform(name):
    ours, theirs = TRANSFORMS[name]
    model, clock = made(seed=3)
    twin, other = made(seed=3)
    for _ in range(2):
        torch.testing.assert_close(ours(model), theirs(twin))
        with clock.piece(8), other.piece(8):
            torch.testing.assert_close(ours(model), theirs(twin))
        clock.tick()
        other.tick()
    assert clock.step == 2


@pytest.mark.parametrize("buffers", [False, True])
def test_gradients_by_sample_over_steps(buffers):
    model, clock = made()
    parameters, state = dict(model.named_parameters()), dict(model.named_buffers())

    def loss(parameters, x):
        held = (parameters, state) if buffers else (parameters,)
        return torch.func.functional_call(model, held, (x[None],)).square().sum()

    for step in range(3):
        each = torch.func.vmap(torch.func.grad(loss), (None, 0), randomness="same")(parameters, X)
        mask = keep((1, 8), step=step)
        y = torch.where(mask, 2 * model[0](X), 0.0)
        wanted = torch.einsum("ni,nj->nij", 2 * y * 2 * mask, X)
        torch.testing.assert_close(each["0.weight"], wanted)
        clock.tick()


def test_a_transform_within_a_compiled_program_is_refused():
    torch._dynamo.reset()
    model, _ = made()

    def transformed(x):
        return torch.func.grad(lambda x: model(x).square().sum())(x)

    words = through_the_compiler(r"site '1' is called under a transform of torch\.func")
    with pytest.raises(Exception, match=words):
        torch.compile(transformed, backend="eager", fullgraph=True)(X)


def test_an_ensemble_is_told_to_leave_the_clock_out():
    models = [made(seed=3)[0] for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def run(parameters, buffers, x):
        return torch.func.functional_call(base, (parameters, buffers), (x,))

    members = torch.func.vmap(run, (0, 0, None), randomness="different")
    with pytest.raises(RuntimeError, match=r"batch of 'thinned_clock'.*buffers.pop"):
        members(parameters, buffers, X)
    buffers.pop(BUFFER)
    masks = members(parameters, buffers, X) != 0
    for i, mask in enumerate(masks):
        at = thinned.Address(3, "1").fold_in(i)
        assert torch.equal(mask, thinned.keep_mask((4, 8), 0.5, at, like=ONES))


# ------------------------------------------------------------------------ tensors without a memory


def test_a_model_on_meta_keeps_its_time():
    model, clock = made(seed=3)
    model.to("meta")
    for _ in range(2):
        assert model(X.to("meta")).is_meta
        clock.tick()
    assert (clock.seed, clock.step) == (3, 2)
    plain = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).state_dict()
    model.load_state_dict(plain, assign=True)
    assert torch.equal(model[1](ONES) != 0, keep(seed=3, step=2))


def test_adopted_where_the_default_device_is_meta():
    with torch.device("meta"):
        model, clock = made(seed=3)
        assert model(torch.ones(4, 8)).is_meta
        clock.tick()
    assert clock.step == 1
    assert torch.equal(model[1](ONES) != 0, keep(seed=3, step=1))


def test_fake_tensors():
    with FakeTensorMode():
        model, clock = made(seed=3)
        for _ in range(2):
            y = model(torch.ones(4, 8))
            y.sum().backward()
            clock.tick()
    assert isinstance(y, FakeTensor)
    assert clock.step == 2
    assert torch.equal(model[1](ONES) != 0, keep(seed=3, step=2))


@pytest.mark.parametrize("adopted_within", [True, False])
def test_a_model_made_in_inference_mode(adopted_within):
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
        clock = adopt(model).clock if adopted_within else None
    clock = clock or adopt(model).clock
    assert torch.equal(model[1](ONES) != 0, keep())
    clock.tick()
    with torch.inference_mode():
        model.double()
        assert torch.equal(model[1](ONES) != 0, keep(step=1))
        clock.tick()
    assert torch.equal(model[1](ONES) != 0, keep(step=2))


# --------------------------------------------------------------------------- steps that stand still


@pytest.mark.parametrize("strict", [True, False])
def test_export_in_training_is_refused(strict):
    model, _ = made()
    with pytest.raises(Exception, match=r"must be in evaluation mode.*Export model\.eval\(\)"):
        torch.export.export(model, (X,), strict=strict)
    exported = torch.export.export(model.eval(), (X,), strict=strict).module()
    assert torch.equal(exported(X), model(X))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair))}


def followed():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, adopt(model, optimizer=optimizer).clock


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_pair_follows_the_copied_optimizer(how):
    model, optimizer, clock = followed()
    other, second = COPIES[how]((model, optimizer))
    own = other.thinned_adoption.clock
    for step in range(3):
        assert torch.equal(other[1](ONES) != 0, keep(step=step))
        second.step()
    assert (own.step, clock.step) == (3, 0)
    optimizer.step()
    assert (own.step, clock.step) == (3, 1)
    release(other)
    second.step()
    assert not second._optimizer_step_post_hooks


def test_a_copied_model_follows_the_optimizer_that_it_is_given():
    other = copy.deepcopy(followed()[0])
    clock = other.thinned_adoption.clock
    for optimizer in (followed()[1], torch.optim.SGD(other.parameters(), lr=0.1)):
        optimizer.step()
    assert clock.step == 1


def test_a_released_clock_says_so():
    model, clock = made()
    release(model)
    with pytest.raises(RuntimeError, match="the clock's model was released"):
        clock.tick()


# --------------------------------------------------------------------------------------- recordings


def traced(model):
    return torch.jit.trace(model, ONES, check_trace=False)


def proxied(model):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(model)(ONES)


RECORDINGS = pytest.mark.parametrize("record", [traced, proxied])


@RECORDINGS
def test_a_recording_cannot_count(record):
    model, clock = made()
    with pytest.raises(RuntimeError, match="every run of it would draw the same masks"):
        record(model)
    # Nothing was counted, and the model goes on as if it had not been asked.
    assert torch.equal(model[1](ONES) != 0, keep())
    model.eval()
    assert torch.equal(record(model)(X), model(X))
    assert clock.drawn(0) == 1


def test_a_capture_cannot_count(monkeypatch):
    """What a GPU does is in test_adopt_cuda.py; here PyTorch only says that it captures."""
    model, clock = made()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    generator = torch.Generator().manual_seed(1)
    for draw in (
        lambda: model(X),
        lambda: thinned.torch.functional.dropout(X, 0.5, True, generator=generator),
    ):
        with pytest.raises(RuntimeError, match="every replay of it would draw the same mask"):
            draw()
    assert clock.drawn(0) == 0
    assert torch.equal(thinned.dropout(ONES, 0.5, thinned.Address(site="1")) != 0, keep())


def test_a_script_says_what_to_do():
    model, _ = made()
    with pytest.raises(RuntimeError, match=r"after thinned.torch.release on it"):
        torch.jit.script(model)
    other = copy.deepcopy(model)
    release(other)
    assert torch.equal(torch.jit.script(other.eval())(X), model.eval()(X))
    with pytest.raises(RuntimeError, match="cannot compile Dropout2d, whose code is Python"):
        torch.jit.script(nn.Sequential(thinned.torch.Dropout2d()))


# ----------------------------------------------------------------------------------- planted faults


def test_fault_a_copy_waits_for_no_optimizer(monkeypatch):
    monkeypatch.setattr("thinned.torch.clock.optimizers.wait", lambda clock: None)
    with pytest.raises(AssertionError):
        test_a_copied_pair_follows_the_copied_optimizer("deepcopy")


def test_fault_a_recording_goes_unseen(monkeypatch):
    monkeypatch.setattr("thinned.torch.compat.recording._recorded", lambda: False)
    recorded = proxied(made()[0])
    assert torch.equal(recorded(ONES), recorded(ONES))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_recording_cannot_count(proxied)


def test_fault_integers_made_under_the_transform(monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr("thinned.torch.clock.clock.aside", nullcontext)
    with pytest.raises(RuntimeError, match="storage"):
        test_the_first_call_of_a_site_may_be_in_a_transform("grad")


# Dynamo looks at .grad of what another layer made.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_within_a_compiled_function_draws_as_it_does_outside(backend, randomness):
    model, clock = made(seed=3)

    def run(x):
        return torch.func.vmap(lambda row: model(row), randomness=randomness)(x)

    torch._dynamo.reset()
    for _ in range(2):
        expected = run(ONES)
        clock.step = clock.step
        assert torch.equal(torch.compile(run, backend=backend)(ONES), expected)
        clock.tick()
    kept = expected != 0
    assert bool((kept == kept[0]).all()) == (randomness == "same")
