"""What a buffer says of seed and step: taken if a clock wrote it, refused in words if not."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import thinned
from thinned.torch import adopt, release
from thinned.torch.clock.stamp import BUFFER, read, stamp

X = torch.ones(16, 6)
FOREIGN = "'thinned_clock' holds .*, which no clock wrote"


def build(seed=3, step=0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.BatchNorm1d(6))
    clock = adopt(model, seed=seed).clock
    if step:
        clock.step = step
    return model, clock


def mask(model):
    return model[1](X) != 0


def expected(**coordinates):
    return thinned.keep_mask((16, 6), 0.5, thinned.Address(site="1", **coordinates), like=X)


def average(*states):
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}


# ---------------------------------------------------------------------------------------- averages


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", [0, 3, 42, 2**40 + 7, 2**64 - 1])
def test_an_average_of_buffers_evaluates_and_draws_nothing_else(seed, decay):
    model, clock = build(seed)
    average_of = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for step in range(1, 6):
        clock.step = step
        model(X)
        average_of.update_parameters(model)
    inner = average_of.module
    own = inner.thinned_adoption.clock
    assert average_of.eval()(X).isfinite().all()
    inner.train()
    for ask in (lambda: inner(X), lambda: own.step, lambda: own.seed, own.tick, lambda: repr(own)):
        with pytest.raises(ValueError, match=FOREIGN + rf".*clock.step = \d.*its seed is {seed}\)"):
            ask()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=FOREIGN + ".*Remove 'thinned_clock' from it, and the"):
        model.load_state_dict(inner.state_dict())
    assert all(map(torch.equal, before.values(), model.state_dict().values()))
    assert (clock.seed, clock.step) == (seed, 5)
    own.step = 5
    assert torch.equal(mask(inner), expected(seed=seed, step=5))
    state = inner.state_dict()
    model.load_state_dict(state)
    inner.thinned_clock.fill_(9)
    inner.thinned_clock.copy_(model.thinned_clock)  # or so
    assert (own.seed, own.step) == (seed, 5)


def test_a_moving_average_of_the_whole_state_by_hand():
    model, clock = build(42)
    average_of = copy.deepcopy(model)
    for step in range(1, 4):
        clock.step = step
        new = model.state_dict().values()
        for mine, now in zip(average_of.state_dict().values(), new, strict=True):
            mine.copy_(mine * 0.99 + now * 0.01)
    with pytest.raises(ValueError, match=FOREIGN):
        average_of(X)
    assert average_of.eval()(X).isfinite().all()
    release(average_of)
    assert BUFFER not in average_of.state_dict()


@pytest.mark.parametrize(
    ("one", "two"), [((3, 5), (3, 7)), ((3, 5), (3, 6)), ((3, 5), (4, 5)), ((0, 0), (2**63, 0))]
)
def test_a_mean_of_states_that_differ_is_refused(one, two):
    models = [build(*one)[0], build(*two)[0]]
    state = average(*(model.state_dict() for model in models))
    whole = {name: value.to(models[0].state_dict()[name].dtype) for name, value in state.items()}
    for strict in (True, False):
        for mean in (state, whole, {BUFFER: state[BUFFER]}):
            with pytest.raises(ValueError, match=FOREIGN):
                models[0].load_state_dict(mean, strict=strict or len(mean) > 1)
    del state[BUFFER]
    models[0].load_state_dict(state)
    assert models[0].thinned_adoption.clock.step == one[1]


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("assign", [False, True])
def test_a_mean_of_states_that_do_not_differ_is_the_state(count, assign):
    models = [build(7, 1001)[0] for _ in range(count)]
    for mean in (
        average(*(model.state_dict() for model in models)),
        {k: v.double() for k, v in models[0].state_dict().items()},
        {k: v * 0.999 + v * 0.001 for k, v in models[0].state_dict().items()},
    ):
        other, clock = build(1)
        mean["2.num_batches_tracked"] = torch.tensor(0)
        other.load_state_dict(mean, assign=assign)
        assert (clock.seed, clock.step) == (7, 1001)
        assert other.thinned_clock.dtype == torch.int64
        assert torch.equal(other[1](X.to(other[0].weight.dtype)) != 0, expected(seed=7, step=1001))


def test_no_average_of_two_stamps_is_a_stamp():
    draw = random.Random(0)
    for _ in range(3000):
        seed = draw.choice([0, 1, 42, draw.getrandbits(32), draw.getrandbits(64)])
        step, weight = draw.randrange(5000), draw.choice([0.5, 0.9, 0.99, 0.999])
        other = draw.choice([(seed, step + draw.randrange(1, 9)), (draw.getrandbits(31), step)])
        a, b = torch.tensor(stamp(seed, step)), torch.tensor(stamp(*other))
        for mean in ((a + b) // 2, (a + b) / 2, (a * weight + b * (1 - weight)).long()):
            if not torch.equal(mean, a) and not torch.equal(mean, b):
                assert read(mean) is None, (seed, step, other)


# ------------------------------------------------------------------------------------ what is taken


def test_a_stamp_says_seed_step_and_version():
    for seed in (0, 5, 2**32, 2**64 - 1):
        for step in (0, 1, 2**32 - 2):
            words = torch.tensor(stamp(seed, step))
            assert read(words) == (seed, step)
            for place in range(4):
                for bit in range(63):
                    other = words.clone()
                    other[place] ^= 1 << bit
                    if place == 3 and int(other[3]) in (0, 1):
                        continue
                    assert read(other) is None


def test_a_state_from_before_there_was_a_check_loads():
    model, clock = build(1)
    state = model.state_dict()
    state[BUFFER] = torch.tensor([9, 2, 6, 1])
    model.load_state_dict(state)
    assert (clock.seed, clock.step) == (9 + 2 * 2**32, 6)
    assert model.thinned_clock.tolist() == stamp(9 + 2 * 2**32, 6)
    model.thinned_clock.copy_(torch.tensor([9, 2, 7, 1]))
    assert torch.equal(mask(model), expected(seed=9 + 2 * 2**32, step=7))
    clock.tick()
    assert model.thinned_clock.tolist() == stamp(9 + 2 * 2**32, 8)
    state[BUFFER] = torch.tensor([9.0, 2.0, 6.0, 1.0])  # a mean of such, and no such
    with pytest.raises(ValueError, match=FOREIGN):
        model.load_state_dict(state)


def test_another_version_is_named():
    model, _ = build()
    state = model.state_dict()
    for words in ([3, 0, 0, 2], stamp(3, 0, 2)):
        state[BUFFER] = torch.tensor(words)
        with pytest.raises(ValueError, match="version 2 of the mask spec, and this is version 1"):
            model.load_state_dict(state)


@pytest.mark.parametrize(
    "words", [[0, 0, 0, 0], [-1, 0, 0, 1], [0, 0, 2**32, 1], [1, 1, 1, -1], [2**32, 0, 0, 1]]
)
def test_what_no_clock_wrote(words):
    model, clock = build()
    state = model.state_dict()
    state[BUFFER] = torch.tensor(words)
    with pytest.raises(ValueError, match=FOREIGN):
        model.load_state_dict(state)
    assert torch.equal(mask(model), expected(seed=3))
    model.thinned_clock.copy_(torch.tensor(words))
    with pytest.raises(ValueError, match=FOREIGN):
        mask(model)
    clock.step = 4
    assert torch.equal(mask(model), expected(seed=3, step=4))


def test_buffers_copied_from_model_to_model():
    model, clock = build(3)
    other, theirs = build(8, 5)
    mask(model)
    for mine, their in zip(model.buffers(), other.buffers(), strict=True):
        mine.copy_(their)
    assert (clock.seed, clock.step) == (theirs.seed, theirs.step) == (8, 5)
    assert torch.equal(mask(model), expected(seed=8, step=5))


def test_a_part_of_a_state_leaves_the_clock():
    model, clock = build(3, 4)
    weight = build()[0].state_dict()["0.weight"]
    model.load_state_dict({"0.weight": weight}, strict=False)
    assert (clock.seed, clock.step) == (3, 4)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "float", "double"])
def test_casting_a_model_leaves_the_clock(cast):
    model, clock = build(2**63 + 9, 2**31)
    getattr(model, cast)()
    assert (clock.seed, clock.step) == (2**63 + 9, 2**31)
    model.to(torch.float16)
    mask(model)
    assert model.thinned_clock.dtype == torch.int64


def test_a_cast_of_the_buffers_themselves_is_refused_and_mended():
    model, clock = build(2**40 + 1, 6)
    model.type(torch.float32)
    with pytest.raises(ValueError, match=r"float32\), which no clock wrote.*clock.step = 6"):
        mask(model)
    clock.step = 6
    assert torch.equal(mask(model), expected(seed=2**40 + 1, step=6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_a_state_cast_as_a_whole_is_refused(dtype):
    model, clock = build(3, 4)
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=FOREIGN):
        model.load_state_dict(state)
    del state[BUFFER]
    model.load_state_dict(state)
    assert clock.step == 4


def test_the_step_is_set():
    model, clock = build(3)
    mask(model)
    clock.step = 9
    assert clock.step == 9
    assert torch.equal(mask(model), expected(seed=3, step=9))
    for step in (-1, 2**32 - 1, 1.5, "2"):
        with pytest.raises((ValueError, TypeError), match="Clock: step must be an integer in"):
            clock.step = step
    assert clock.step == 9


# ------------------------------------------------------------------------------------ planted fault


def test_fault_no_check(monkeypatch):
    def plain(found):
        low, high, step, _ = found.long().tolist()
        return low | high << 32, step

    monkeypatch.setattr("thinned.torch.clock.clock.read", plain)
    with pytest.raises(pytest.fail.Exception):
        test_a_mean_of_states_that_differ_is_refused((3, 5), (3, 7))
    with pytest.raises(pytest.fail.Exception):
        test_a_moving_average_of_the_whole_state_by_hand()


def test_a_step_written_by_hand_is_taken_and_stamped():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    clock = adopt(model, seed=5).clock
    x = torch.ones(3, 4)
    first = model(x)
    clock.tick()
    clock.buffer[2] = 0
    assert torch.equal(model(x), first)
    again = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    adopt(again, seed=6)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), first)
    clock.buffer[0] = 7
    with pytest.raises(ValueError, match="which no clock wrote"):
        model(x)
