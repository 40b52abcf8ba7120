"""Which optimizer's steps a clock counts: its own, a copy's own, and what wrappers wrap."""

import copy
import gc
import io
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import state_dict
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from thinned.torch import adopt, release
from thinned.torch.clock import optimizers

X = torch.ones(4, 6)


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 2))


def sgd(model, **more):
    return torch.optim.SGD(model.parameters(), lr=0.01, **more)


def followed(model=None):
    model = model or build()
    optimizer = sgd(model)
    return model, optimizer, adopt(model, optimizer=optimizer).clock


def clock_of(model):
    return model.thinned_adoption.clock


def train(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()


# ------------------------------------------------------------------------------------------ copies


def test_each_copy_counts_the_steps_of_its_own_optimizer_only():
    model, optimizer, clock = followed()
    train(model, optimizer, 2)
    a, b, c = copies = [copy.deepcopy(model) for _ in range(3)]
    first, second = sgd(a), torch.optim.Adam(b.parameters())
    train(a, first, 3)
    train(model, optimizer)
    train(b, second)
    assert [clock_of(one).step for one in copies] == [5, 3, 2]
    assert clock.step == 3
    train(c, sgd(c), 2)
    train(a, first)
    assert [clock_of(one).step for one in copies] == [6, 3, 4]


def test_an_unrelated_optimizer_steps_beside_waiting_copies():
    model, _, _ = followed()
    copies = [copy.deepcopy(model) for _ in range(50)]
    other = build()
    optimizer = sgd(other)
    train(other, optimizer, 3)
    assert all(clock_of(one).step == 0 for one in copies)


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "torch.save"])
def test_a_model_copied_with_its_optimizer(copied):
    pair = followed()[:2]
    if copied == "deepcopy":
        model, optimizer = copy.deepcopy(pair)
    elif copied == "pickle":
        model, optimizer = pickle.loads(pickle.dumps(pair))
    else:
        file = io.BytesIO()
        torch.save(pair, file)
        file.seek(0)
        model, optimizer = torch.load(file, weights_only=False)
    train(model, optimizer, 2)
    assert clock_of(model).step == 2
    assert clock_of(pair[0]).step == 0


def test_a_copy_of_a_waiting_copy_waits_too():
    model = followed()[0]
    twin = copy.deepcopy(copy.deepcopy(model))
    train(twin, sgd(twin), 2)
    third = copy.deepcopy(twin)
    train(third, sgd(third), 3)
    assert (clock_of(twin).step, clock_of(third).step) == (2, 5)


def test_a_copy_of_which_only_a_part_is_trained():
    model = followed()[0]
    twin = copy.deepcopy(model)
    twin[2] = nn.Linear(6, 3)  # a new head, which is no copy of anything
    train(twin, sgd(twin[2]), 2)
    assert clock_of(twin).step == 2


def test_parameters_that_an_optimizer_is_given_later():
    model = followed()[0]
    twin, other = copy.deepcopy(model), build()
    optimizer = sgd(other)
    train(other, optimizer)
    optimizer.add_param_group({"params": list(twin.parameters())})
    train(twin, optimizer)
    assert clock_of(twin).step == 1


def test_one_optimizer_of_two_models():
    first, second = build(), build()
    both = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.01)
    clocks = [adopt(model, optimizer=both).clock for model in (first, second)]
    train(first, both, 2)
    assert [clock.step for clock in clocks] == [2, 2]
    twin = copy.deepcopy(second)  # whose first parameter is not the optimizer's first
    train(twin, sgd(twin))
    assert clock_of(twin).step == 3
    release(first)
    train(second, both)
    assert clocks[1].step == 3


def test_the_second_optimizer_of_a_copy_is_not_followed():
    model = followed()[0]
    twin = copy.deepcopy(model)
    body, head = sgd(twin[0]), sgd(twin[2])
    for _ in range(3):
        train(twin, body)
        train(twin, head)
    assert clock_of(twin).step == 3


def test_the_clock_takes_another_optimizer():
    model, first, clock = followed()
    train(model, first, 2)
    second = sgd(model)
    clock.follow(second)
    train(model, second, 3)
    train(model, first)
    assert clock.step == 5


def test_snapshots_averages_and_folds_of_a_training():
    """What a search does: the best model of each epoch, an average beside it, and folds."""
    model, optimizer, clock = followed()
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    by_hand = copy.deepcopy(model)
    best = []
    for epoch in range(4):
        train(model, optimizer, 2)
        ema.update_parameters(model)
        with torch.no_grad():
            for mine, now in zip(by_hand.parameters(), model.parameters(), strict=True):
                mine.lerp_(now, 0.1)
        best = [*best[-1:], copy.deepcopy(model)]
        assert clock_of(best[-1]).step == clock.step == 2 * epoch + 2
    assert clock_of(by_hand).step == 0
    for k in range(5):
        fold = copy.deepcopy(model)
        train(fold, sgd(fold, momentum=0.9), k)
        assert clock_of(fold).step == 8 + k
    assert clock.step == 8


@pytest.mark.long
def test_a_search_of_twenty_trials_with_copies():
    base = followed()[0]
    kept = []
    for trial in range(20):
        model = copy.deepcopy(base)
        kinds = [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
        optimizer = kinds[trial % 4](model.parameters(), lr=0.01)
        train(model, optimizer)
        snapshot = copy.deepcopy(model)
        train(model, optimizer, 2)
        kept = [*kept[-3:], snapshot]
        assert (clock_of(model).step, clock_of(snapshot).step) == (3, 1)
        del model, optimizer, snapshot
        if trial % 3 == 0:
            gc.collect()
    assert clock_of(base).step == 0


@pytest.mark.long
def test_models_come_and_go_within_a_step():
    """Copies are made, trained, released and collected by hooks of the very step."""
    model, optimizer, clock = followed()
    held = [copy.deepcopy(model) for _ in range(4)]

    def within(*_):
        held.pop()
        gc.collect()
        twin = copy.deepcopy(held[0])
        train(twin, sgd(twin))
        assert clock_of(twin).step == 1
        held.append(copy.deepcopy(twin))
        release(held[0])
        held.pop(0)

    optimizer.register_step_post_hook(within)
    optimizer.register_step_pre_hook(within)
    train(model, optimizer)
    assert clock.step == 1


def test_release_within_a_step():
    model, optimizer, _ = followed()
    handle = optimizer.register_step_post_hook(lambda *_: release(model))
    train(model, optimizer)
    handle.remove()
    train(model, optimizer)
    assert not hasattr(model, "thinned_clock")


def test_a_closure_that_runs_the_model_several_times_is_one_step():
    model = build()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    clock = adopt(model, optimizer=optimizer).clock
    inner = followed()[0]
    seen = []

    def closure():
        seen.append(clock.step)
        twin = copy.deepcopy(inner)  # trained within, by an optimizer that is its own
        train(twin, sgd(twin))
        assert clock_of(twin).step == 1
        optimizer.zero_grad()
        loss = model(X).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(seen) > 1
    assert set(seen) == {0}
    assert clock.step == 1


def test_threads_train_copies_side_by_side():
    model = followed()[0]
    wrong = []

    def work():
        try:
            for _ in range(10):
                twin = copy.deepcopy(model)
                train(twin, sgd(twin), 3)
                assert clock_of(twin).step == 3
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert clock_of(model).step == 0


def test_nothing_is_left_of_models_and_optimizers():
    gc.collect()
    before = len(optimizers._leaders), len(optimizers._waiting)
    for _ in range(3):
        model, optimizer, _ = followed()
        twin = copy.deepcopy(model)
        train(model, optimizer)
        train(twin, sgd(twin))
        del model, optimizer, twin
    gc.collect()
    assert (len(optimizers._leaders), len(optimizers._waiting)) == before


def test_optimizers_with_an_equality_of_their_own():
    class Equal(torch.optim.SGD):
        def __eq__(self, other):
            return True

        __hash__ = None

    model = build()
    optimizer = Equal(model.parameters(), lr=0.01)
    clock = adopt(model, optimizer=optimizer).clock
    twin = copy.deepcopy(model)
    train(model, optimizer)
    train(twin, Equal(twin.parameters(), lr=0.01), 2)
    assert (clock.step, clock_of(twin).step) == (1, 2)


def test_a_compiled_step_counts():
    model, optimizer, clock = followed()
    model(X).sum().backward()
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(3):
        step()
    assert clock.step == 3


def test_a_step_compares_each_waiting_copy_once():
    model, optimizer, _ = followed()
    copies = [copy.deepcopy(model) for _ in range(5)]
    train(model, optimizer)
    asked = []
    for one in copies:
        clock_of(one).parameters = lambda: asked.append(1) or iter(())
    train(model, optimizer, 3)
    assert not asked


# ---------------------------------------------------------------------------------------- wrappers


class Inherits(torch.optim.Adam):
    """Its step and its base's are both given hooks."""

    def step(self, closure=None):
        super().step(closure)
        return super().step(closure)


class Nameless(torch.optim.Optimizer):
    """An Optimizer by name only, as accelerate's and Opacus's are. The name is its own."""

    def __init__(self, inner, name="optimizer"):
        setattr(self, name, inner)
        self.inner = lambda: getattr(self, name)

    state = property(lambda self: self.inner().state)
    param_groups = property(lambda self: self.inner().param_groups)

    def zero_grad(self, set_to_none=True):
        self.inner().zero_grad(set_to_none)

    def step(self, closure=None):
        return self.inner().step(closure)


class Plain:
    """No Optimizer at all."""

    def __init__(self, inner):
        self._inner = inner

    @property
    def optimizer(self):
        return self._inner

    def zero_grad(self, set_to_none=True):
        self._inner.zero_grad(set_to_none)

    def step(self, closure=None):
        self._inner.step(closure)


class Whole(torch.optim.Optimizer):
    """A wrapper that is an Optimizer: its own step is seen, and that of what it holds (SAM)."""

    def __init__(self, params, base=torch.optim.SGD):
        super().__init__(params, {"rho": 0.05})
        self.base_optimizer = base(self.param_groups, lr=0.01)
        self.param_groups = self.base_optimizer.param_groups

    def second_step(self):
        self.base_optimizer.step()

    def step(self, closure=None):
        self.second_step()


def wrapped(kind, model):
    inner = sgd(model)
    return {
        "inherits": lambda: Inherits(model.parameters()),
        "optimizer": lambda: Nameless(inner),
        "original_optimizer": lambda: Nameless(inner, "original_optimizer"),
        "_base": lambda: Nameless(inner, "_base"),
        "plain": lambda: Plain(inner),
        "plain in nameless": lambda: Nameless(Plain(inner), "optim"),
        "nameless in plain": lambda: Plain(Nameless(inner)),
        "whole": lambda: Whole(model.parameters()),
        "whole in plain": lambda: Plain(Whole(model.parameters())),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "inherits", "optimizer", "original_optimizer", "_base", "plain", "plain in nameless",
        "nameless in plain", "whole", "whole in plain",
    ],
)  # fmt: skip
def test_a_wrapper_and_what_it_wraps_count_one_step(kind):
    torch.optim.Adam(build().parameters())  # from here on Adam's own step has hooks
    model = build()
    optimizer = wrapped(kind, model)
    clock = adopt(model, optimizer=optimizer).clock
    train(model, optimizer, 3)
    assert clock.step == 3
    twin = copy.deepcopy(model)
    own = wrapped(kind, twin)
    train(twin, own, 2)
    assert (clock_of(twin).step, clock.step) == (5, 3)


def test_a_wrapper_that_steps_what_it_wraps_by_another_method():
    model = build()
    optimizer = Whole(model.parameters())
    clock = adopt(model, optimizer=optimizer).clock
    twin = copy.deepcopy(model)
    own = Whole(twin.parameters())
    model(X).sum().backward(), twin(X).sum().backward()
    for step in range(1, 4):
        optimizer.second_step()
        own.second_step()
        assert (clock.step, clock_of(twin).step) == (step, step)
    own.step()
    assert clock_of(twin).step == 4


def test_a_step_that_a_wrapper_skips_does_not_count():
    model = build()
    optimizer = Nameless(sgd(model))
    optimizer.step = lambda: None
    clock = adopt(model, optimizer=optimizer).clock
    train(model, optimizer)
    assert clock.step == 0


class Empty(torch.optim.Optimizer):
    def __init__(self):
        pass

    def step(self, closure=None):
        pass


def refused():
    inner = sgd(build())
    two = Plain(inner)
    two.second = torch.optim.SGD(build().parameters(), lr=0.01)
    return {
        "scheduler": (torch.optim.lr_scheduler.StepLR(inner, 1), r"StepLR, a scheduler\. Pass the"),
        "list": ([inner], r"got list of several\. Pass the one that ends a training step"),
        "two": (two, r"got Plain of several\. Pass the one that ends a training step"),
        "empty": (Empty(), r"got Empty, which never called Optimizer.__init__ and wraps none\. Le"),
        "number": (0.1, r"got float\. Leave it out, and call report.clock.tick\(\)"),
        "class": (torch.optim.SGD, r"got type\. Leave it out"),
        "model": (build(), r"got Sequential\. Leave it out"),
        "scaler": (torch.amp.GradScaler("cpu"), r"got GradScaler\. Leave it out"),
    }


@pytest.mark.parametrize(
    "kind", ["scheduler", "list", "two", "empty", "number", "class", "model", "scaler"]
)
def test_what_is_no_optimizer_is_refused_in_words(kind):
    given, words = refused()[kind]
    model = build()
    start = r"adopt: optimizer must be a torch.optim.Optimizer, or a wrapper of one, "
    with pytest.raises(TypeError, match=start + ".*" + words.removeprefix("got ")):
        adopt(model, optimizer=given)
    assert type(model[1]) is nn.Dropout
    assert not hasattr(model, "thinned_clock")


# ----------------------------------------------------------------------------------- planted faults


def test_fault_every_hooked_step_counts(monkeypatch):
    monkeypatch.setattr(optimizers, "_steps_running", list)
    with pytest.raises(AssertionError):
        test_a_wrapper_and_what_it_wraps_count_one_step("inherits")


def test_fault_a_copy_follows_whatever_steps(monkeypatch):
    monkeypatch.setattr(optimizers, "_parameters", lambda _: {0, *range(0)})
    monkeypatch.setattr(type(followed()[2]), "parameters", lambda _: iter(()))
    with pytest.raises(AssertionError):
        test_each_copy_counts_the_steps_of_its_own_optimizer_only()


# ------------------------------------------------------------------------- PyTorch's checkpoints


def check_a_checkpoint_is_no_step():
    """Of an optimizer that has no state yet, and that is stepped to have one."""
    model, optimizer, clock = followed()
    train(model, optimizer)
    optimizer.zero_grad()
    state_dict.get_optimizer_state_dict(model, optimizer)
    assert clock.step == 1
    adam = torch.optim.Adam(model.parameters())
    clock.follow(adam)
    saved = state_dict.get_optimizer_state_dict(model, adam)
    assert saved["state"]
    assert clock.step == 1
    other = build()
    empty = torch.optim.Adam(other.parameters())
    clock = adopt(other, optimizer=empty).clock
    state_dict.set_optimizer_state_dict(other, empty, saved)
    assert clock.step == 0
    train(other, empty)
    assert clock.step == 1
    waiting = copy.deepcopy(other)
    mine = torch.optim.Adam(waiting.parameters())
    state_dict.set_optimizer_state_dict(waiting, mine, saved)
    assert clock_of(waiting).step == 1
    train(waiting, mine)
    assert clock_of(waiting).step == 2


def test_a_checkpoint_is_no_step():
    check_a_checkpoint_is_no_step()


def test_fault_steps_of_a_checkpoint_that_count(monkeypatch):
    monkeypatch.setattr(optimizers, "_is_for_a_checkpoint", lambda: False)
    with pytest.raises(AssertionError):
        check_a_checkpoint_is_no_step()
