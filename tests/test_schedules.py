"""Schedules: the papers' formulas, what is refused, how they print, compose and are drawn."""

import copy
import dataclasses
import inspect
import math
import pickle
import subprocess
import sys

import examples_of
import numpy as np
import pytest

from thinned import schedules
from thinned.schedules import (
    SCHEDULES,
    annealed,
    as_schedule,
    constant,
    curriculum,
    custom,
    depth_linear,
    early,
    late,
    linear,
    maximum,
    minimum,
    piecewise,
    product,
    scheduled_drop_path,
    stochastic_depth_rule,
)

T = 1000


def curve(schedule, steps=T):
    return np.array([schedule(step, steps) for step in range(steps)])


def depths(rule, layers):
    return np.array([rule(layer, layers) for layer in range(layers)])


t = np.arange(T)

# Each in the papers' own words, over 1000 steps: schedule, p as an array over t.
FORMULAS = [
    (constant(0.1), np.full(T, 0.1)),
    (early(0.1, until=0.2), np.where(t < 200, 0.1, 0.0)),
    (early(0.1, until=200), np.where(t < 200, 0.1, 0.0)),
    (early(0.4, until=0.5, shape="linear"), np.clip(0.4 - 0.4 * t / 500, 0.0, None)),
    (late(0.3, after=0.2), np.where(t < 200, 0.0, 0.3)),
    (late(0.3, after=1), np.where(t < 1, 0.0, 0.3)),
    (linear(0.1, 0.5), 0.1 + 0.4 * t / T),
    (linear(0.5, 0.1, until=100), np.where(t < 100, 0.5 - 0.4 * t / 100, 0.1)),
    (annealed(0.5), 0.5 * np.maximum(0.0, 1.0 - t / T)),
    (annealed(0.5, until=0.4), 0.5 * np.maximum(0.0, 1.0 - t / 400)),
    # 1 - p is the share that the paper keeps, k = 0.7 in the end.
    (curriculum(0.3, gamma=0.01), 1.0 - ((1.0 - 0.7) * np.exp(-0.01 * t) + 0.7)),
    (curriculum(0.3), 1.0 - ((1.0 - 0.7) * np.exp(-10.0 / T * t) + 0.7)),
    (piecewise((0.0, 0.3, 0.1), (0.1, 0.6)), np.select([t < 100, t < 600], [0.0, 0.3], 0.1)),
    (piecewise((0.2,), ()), np.full(T, 0.2)),
]


def check_formula(schedule, expected):
    np.testing.assert_allclose(curve(schedule), expected, rtol=1e-12, atol=1e-15)


def check_formulas():
    for schedule, expected in FORMULAS:
        check_formula(schedule, expected)


@pytest.mark.parametrize(("schedule", "expected"), FORMULAS, ids=[repr(f[0]) for f in FORMULAS])
def test_time(schedule, expected):
    check_formula(schedule, expected)
    assert all(type(schedule(step, T)) is float for step in (0, 1, T - 1))


@pytest.mark.parametrize(("schedule", "expected"), FORMULAS, ids=[repr(f[0]) for f in FORMULAS])
def test_beyond_the_last_step_it_stays_where_it_ends(schedule, expected):
    end = schedule(T, T)
    assert abs(end - schedule(T - 1, T)) <= 0.51 / T
    for step in (2 * T, 10**6, 2**32 - 1):
        # The curriculum alone goes on, to p.
        assert schedule(step, T) == pytest.approx(end, abs=2e-5)
        assert 0.0 <= schedule(step, T) <= 1.0


@pytest.mark.parametrize("layers", [1, 2, 5, 12])
def test_depth(layers):
    p = 0.3
    np.testing.assert_array_equal(depths(depth_linear(p), layers), np.linspace(0.0, p, layers))
    one_based = np.arange(1, layers + 1)
    np.testing.assert_allclose(depths(stochastic_depth_rule(p), layers), one_based / layers * p)
    assert stochastic_depth_rule(p)(layers - 1, layers) == p


def test_scheduled_drop_path():
    schedule = scheduled_drop_path(0.4)
    written = linear(0.0, 1.0) * stochastic_depth_rule(0.4)
    for step in (0, 1, 300, 999, 1000, 5000):
        for layer in (0, 3, 5):
            expected = 0.4 * min(1.0, step / T) * ((layer + 1) / 6)
            assert schedule(step, T, layer, 6) == pytest.approx(expected, rel=1e-12, abs=0)
            assert written(step, T, layer, 6) == pytest.approx(expected, rel=1e-12, abs=0)
    assert schedule(T, T, 5, 6) == 0.4


def test_the_papers_gamma_is_there_at_the_end():
    schedule = curriculum(0.5)
    assert schedule(0, T) == 0.0
    assert 0.5 - schedule(T, T) == pytest.approx(0.5 * math.exp(-10))
    assert schedule(700, 7000) == pytest.approx(0.5 * (1 - math.exp(-1)))


# ---------------------------------------------------------------------------- fractions and counts


def test_a_float_is_a_fraction_and_an_integer_a_count():
    assert early(0.1, until=1)(0) == 0.1
    assert early(0.1, until=1)(1) == 0.0
    assert early(0.1, until=1.0)(T - 1, T) == 0.1
    assert early(0.1, until=1.0)(T, T) == 0.0
    assert early(0.1, until=np.int64(3)) == early(0.1, until=3)
    assert type(early(0.1, until=np.float64(0.5)).until) is float
    assert [late(0.1, after=0)(0), early(0.1, until=0)(0), linear(0.1, 0.2, until=0)(0)] == [
        0.1,
        0.0,
        0.2,
    ]


def test_a_fraction_is_rounded_to_whole_steps():
    # 0.7 * 10 is 7.000000000000001: written with <, step 7 would still be early.
    assert [early(0.1, until=0.7)(step, 10) for step in (6, 7)] == [0.1, 0.0]
    assert [early(0.1, until=0.25)(step, 10) for step in (1, 2)] == [0.1, 0.0]


def test_steps_are_asked_for_where_they_are_needed():
    for schedule in (early(0.1, until=5), late(0.1, 5), linear(0, 1, 5), annealed(0.1, 5),
                     curriculum(0.1, 0.1), piecewise((0, 1), (5,)), constant(0.1)):  # fmt: skip
        assert not schedule.relative
        assert schedule(7) == schedule(7, None) == schedule(7, 100)
    for schedule in (early(0.1, 0.5), late(0.1, 0.5), linear(0, 1), annealed(0.1),
                     curriculum(0.1), piecewise((0, 1), (0.5,)), 1.0 * annealed(0.1)):  # fmt: skip
        assert schedule.relative
        with pytest.raises(ValueError, match=r"steps must be the number of all training steps, go"):
            schedule(7)
        with pytest.raises(ValueError, match="is relative to it"):
            schedule(7, None)


# ------------------------------------------------------------------------------------ composition


def test_products_minima_and_maxima():
    a, b = linear(0.0, 1.0), late(0.5, after=0.5)
    np.testing.assert_allclose(curve(a * b), curve(a) * curve(b))
    for composed, combine in ((minimum, np.minimum), (maximum, np.maximum)):
        expected = combine(combine(curve(a), curve(b)), 0.25)
        np.testing.assert_allclose(curve(composed(a, b, 0.25)), expected)
    np.testing.assert_allclose(curve(0.5 * a), curve(a * 0.5))
    np.testing.assert_allclose(curve(0.5 * a), 0.5 * curve(a))


def test_time_and_depth_compose():
    both = early(0.5, until=10) * depth_linear(1.0)
    assert both.over == ("steps", "layers")
    assert both(3, None, 2, 5) == 0.25
    assert both(10, None, 2, 5) == 0.0
    assert (depth_linear(0.5) * stochastic_depth_rule(1.0)).over == ("layers",)
    assert (depth_linear(1.0) * 0.5)(2, 3) == 0.5
    assert minimum(constant(0.1), constant(0.2)).over == ()
    assert product(a := early(0.1, 3), product(0.5, 0.5)).parts == (a, constant(0.5), constant(0.5))


def half(step, steps):
    return 0.5 if step < 3 else 0.25


def test_functions_and_numbers_are_schedules():
    assert as_schedule(half)(2) == 0.5
    assert as_schedule(half)(3, 10) == 0.25
    assert as_schedule(0.3) == constant(0.3)
    assert custom(lambda layer, layers: layer / layers, "layers")(1, 4) == 0.25
    with pytest.raises(ValueError, match=r"what it returns for \(1, None\) must be a float in \[0"):
        custom(lambda step, steps: 2.0 * step)(1)


# --------------------------------------------------------------------------------------- as values


def test_they_print_themselves_as_they_are_typed():
    assert repr(early(0.1, until=0.2)) == "early(p=0.1, until=0.2, shape='constant')"
    assert repr(late(1, after=20)) == "late(p=1.0, after=20)"
    assert repr(curriculum(0.5)) == "curriculum(p=0.5, gamma=None)"
    assert repr(piecewise([0, 0.5], [np.int32(3)])) == "piecewise(p=(0.0, 0.5), starts=(3,))"
    both = 0.5 * annealed(0.2, 9) * depth_linear(1.0)
    assert repr(both) == "constant(p=0.5) * annealed(p=0.2, until=9) * depth_linear(p=1.0)"
    assert repr(minimum(both, 1)) == f"minimum({both!r}, constant(p=1.0))"
    assert repr(custom(half)) == "custom(half, depends_on='steps')"


@pytest.mark.parametrize("name", [kind.__name__ for kind in SCHEDULES])
def test_they_are_frozen_equal_hashable_and_can_be_copied(name):
    from thinned.cli.schedule import _SHOWN

    schedule = _SHOWN[name]
    assert type(schedule) is getattr(schedules, name)
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert repr(twin) == repr(schedule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.p = 0.9
    product_ = schedule * 0.5
    assert pickle.loads(pickle.dumps(product_)) == product_ != schedule * 0.25


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: early(10, 0.2), ValueError, r"early: p must be a float in \[0, 1\], got 10. Did"),
        (lambda: late(math.nan, 0.2), ValueError, "late: p must be"),
        (lambda: constant("0.1"), TypeError, "constant: p must be"),
        (lambda: linear(0.1, 1.5), ValueError, "linear: end must be"),
        (lambda: linear(-0.1, 0.5), ValueError, "linear: start must be"),
        (lambda: early(0.1, until=20.0), ValueError, r"got 20\.0\. For 20 steps write 20\."),
        (lambda: early(0.1, until=1.5), ValueError, r"early: until must be a float .*got 1\.5\.$"),
        (lambda: early(0.1, until=math.inf), ValueError, "got inf.$"),
        (lambda: early(0.1, until=math.nan), ValueError, "got nan.$"),
        (lambda: early(0.1, until=-1), ValueError, "an integer >= 0 .* got -1"),
        (lambda: early(0.1, until=2**32), ValueError, "got 4294967296"),
        (lambda: early(0.1, until=True), TypeError, r"got True \(bool\)"),
        (lambda: late(0.1, after="0.2"), TypeError, r"late: after must .*got '0\.2' \(str\)"),
        (lambda: early(0.1, 0.2, "cosine"), ValueError, "early: shape must be .* got 'cosine'"),
        (lambda: curriculum(0.1, 0.0), ValueError, "curriculum: gamma must be a float > 0 or None"),
        (lambda: curriculum(0.1, math.nan), ValueError, "curriculum: gamma"),
        (lambda: curriculum(0.1, "1"), TypeError, "curriculum: gamma"),
        (lambda: piecewise((0.1,), (0.5,)), ValueError, "p must be one p more than there are sta"),
        (lambda: piecewise((0, 0.1, 0.2), (0.5, 0.1)), ValueError, "starts must be in ascending"),
        (lambda: piecewise((0, 0.1, 0.2), (0.5, 9)), TypeError, "all fractions or all counts"),
        (lambda: piecewise(0.1, ()), TypeError, "piecewise: p must be a tuple"),
        (lambda: product(), TypeError, "product: at least one schedule"),
        (lambda: product(2.0, early(0.1, 3)), ValueError, r"product: p must be .* got 2"),
        (lambda: early(0.1, 3) * 2, ValueError, r"product: p must be .* got 2"),
        (lambda: minimum(early), TypeError, r"called first, early\(0.1\) say, got early itself"),
        (lambda: as_schedule("early"), TypeError, "a function of .step, steps., got 'early'"),
        (lambda: as_schedule(True), TypeError, "got True"),
        (lambda: custom(3), TypeError, "custom: function must be callable"),
        (lambda: custom(half, "depth"), ValueError, "custom: depends_on must be 'steps' or 'laye"),
        (lambda: early(0.1, 3)(-1), ValueError, r"early: step must be an integer in \[0, 4294967"),
        (lambda: early(0.1, 3)(0.5), TypeError, "early: step must be an integer"),
        (lambda: early(0.1, 3)(0, 0), ValueError, r"early: steps must be an integer in \[1, "),
        (lambda: early(0.1, 3)(), TypeError, r"early is p\(step, steps\). Numbers given: 0"),
        (lambda: early(0.1, 3)(1, 2, 3), TypeError, "Numbers given: 3"),
        (lambda: depth_linear(0.1)(3), TypeError, r"depth_linear is p\(layer, layers\). Numbers"),
        (lambda: depth_linear(0.1)(4, 4), ValueError, r"layer must be an integer in \[0, 4\), got"),
        (lambda: depth_linear(0.1)(0, 0), ValueError, r"depth_linear: layers must be an integer i"),
        (lambda: scheduled_drop_path(0.1)(0, 9), TypeError, r"p\(step, steps, layer, layers\)"),
        (lambda: scheduled_drop_path(0.1)(0, None, 0, 2), ValueError, "steps must be the number"),
    ],
)  # fmt: skip
def test_refusals(make, error, says):
    with pytest.raises(error, match=says):
        make()


RISES = [
    (linear(0.5, 1.0, until=3), True),
    (linear(0.5, 1.0), False),  # the last step is one short of it
    (linear(0.5, 1.0, until=0.99), True),
    (late(1.0, after=0.5) * early(1.0, until=0.6), True),
    (late(1.0, after=0.6) * early(1.0, until=0.5), False),
    (minimum(late(1.0, after=30), linear(1.0, 0.2, until=31)), False),
    (maximum(0.3, annealed(1.0)), True),
    (piecewise((0.1, 1.0, 0.2), (0.3, 0.301)), True),
    (early(1.0, until=0.9, shape="linear") * late(1.0, after=1), False),
    (curriculum(1.0), False),
    (curriculum(1.0, gamma=1.0), True),
    (curriculum(1.0, gamma=1.0) * early(1.0, until=500), True),
    (depth_linear(1.0) * late(1.0, after=700), True),
    (scheduled_drop_path(1.0), False),
    (constant(1.0), True),
]


@pytest.mark.parametrize(("schedule", "rises"), RISES, ids=repr)
def test_turns_tell_whether_p_comes_to_one(schedule, rises):
    def highest(steps):
        return max(schedule.p_at(step, T, layer=4, layers=5) for step in steps)

    turns = schedule.turns(T)
    assert turns == tuple(sorted(set(turns)))
    assert (turns[0], turns[-1]) == (0, T - 1)
    assert (highest(turns) == 1.0) == (highest(range(T)) == 1.0) == rises


def test_turns_without_an_end():
    assert linear(0.5, 1.0, until=3).turns() == (0, 2, 3, 2**32 - 1)
    with pytest.raises(ValueError, match=r"^linear: steps must be "):
        linear(0.5, 1.0).turns()
    with pytest.raises(ValueError, match=r"^late: steps must be an integer in"):
        late(0.1, after=3).turns(0)


def test_every_name_has_its_whole_docstring():
    for name in schedules.__all__:
        if name in ("SCHEDULES", "Schedule"):
            continue
        doc = inspect.getdoc(getattr(schedules, name))
        for section in ("Parameters", "Raises"):
            assert f"{section}\n---" in doc, f"{name}: no {section}"


def test_the_examples():
    result = examples_of.run(schedules)
    assert result.attempted > 4
    assert result.failed == 0


def test_they_load_no_framework():
    code = (
        "import sys, thinned.schedules; heavy = {'torch', 'jax', 'matplotlib', 'typer', 'rich'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------- planted faults


FAULTS = {
    "until is one step late": (
        early,
        lambda self, step, steps, *_: self.p if step <= 200 else 0.0,
    ),
    "the kept share in place of the dropped": (
        curriculum,
        lambda self, step, steps, *_: (1 - self.p) + self.p * math.exp(-0.01 * step),
    ),
    "late and early exchanged": (
        late,
        lambda self, step, steps, *_: self.p if step < 200 else 0.0,
    ),
    "annealed below 0": (
        annealed,
        lambda self, step, steps, *_: self.p * (1 - step / (0.4 * steps)),
    ),
    "the line ends a step early": (
        linear,
        lambda self, step, steps, *_: self.start + (self.end - self.start) * step / 999,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught(name, monkeypatch):
    kind, wrong = FAULTS[name]
    monkeypatch.setattr(kind, "_p", wrong)
    with pytest.raises(AssertionError):
        check_formulas()


def test_fault_depth_counted_from_0_or_from_1(monkeypatch):
    monkeypatch.setattr(depth_linear, "_p", lambda self, _, __, i, n: self.p * (i + 1) / n)
    with pytest.raises(AssertionError):
        test_depth(5)
    monkeypatch.undo()
    monkeypatch.setattr(stochastic_depth_rule, "_p", lambda self, _, __, i, n: self.p * i / n)
    with pytest.raises(AssertionError):
        test_depth(5)


def test_fault_depth_left_out_of_the_product(monkeypatch):
    monkeypatch.setattr(product, "_p", lambda self, *place: self.parts[0]._p(*place))
    with pytest.raises(AssertionError):
        test_time_and_depth_compose()
