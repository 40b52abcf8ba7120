"""What fits into a time, and p chosen on rows that are set aside for it."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import thinned.fit
from thinned.errors import InputError
from thinned.fit import plan
from thinned.fit.api import problems_from
from thinned.fit.choices import Choices
from thinned.fit.engines.local import Local
from thinned.fit.halving import apart, best_of, sampled
from thinned.fit.plan import prepared, read_duration, within
from thinned.fit.results import FitSettings

SETTINGS = FitSettings((0.0, 0.1, 0.2, 0.3, 0.5), (8,), epochs=20, repeats=3, seed=0)
LITTLE = {"hidden": 8, "epochs": 2, "repeats": 1, "jobs": 1}


def table(rows=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3))
    return pd.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "g": np.arange(rows) % 40, "t": np.arange(rows)[::-1] * 1.5}
    ).assign(y=np.where(x[:, 2] > 1, "rare", "common"), z=x[:, 0] + x[:, 2])


def problem(target="y", rows=400, **how):
    return problems_from(table(rows), target, "auto", Choices(keep=("t",)), **how)[0]


# ------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5 h", 5400), ("1d", 86400), ("2min", 120)],
)
def test_durations(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "0m", "10 weeks", "nan", "1e3", "9" * 30])
def test_what_is_no_duration(text, refused, here):
    with pytest.raises(InputError, match="is no time; write 90s, 10m or 2h"):
        read_duration(text)
    assert "is no time" in refused("fit", "wine", f"--time-limit={text}")


# ------------------------------------------------------------------------------------------- plans


@pytest.fixture
def rates(monkeypatch):
    """A millisecond for a row in an epoch."""
    monkeypatch.setattr(plan, "_rates", lambda problem, settings: plan._Rates(1e-3, 0.0))


def planned(seconds, rows=10_000, workers=2, **change):
    found = problem(rows=rows, **change)
    settings, said = within(seconds, found, SETTINGS, workers)
    estimate = plan._cost(plan._Rates(1e-3, 0.0), settings, settings.rows or rows, workers)
    return settings, said, estimate


def test_with_time_enough_nothing_is_left_out(rates):
    settings, said, _ = planned(1e6)
    assert settings == SETTINGS
    assert len(said) == 1
    assert said[0].startswith("Training is expected to take about ")


def test_less_is_done_the_shorter_the_time(rates):
    seen = [planned(10.0**k)[0] for k in np.linspace(5, 0.5, 40)]
    assert {one.repeats for one in seen} == {1, 2, 3}
    work = [plan._cost(plan._Rates(1e-3, 0.0), s, s.rows or 10_000, 2) for s in seen]
    assert all(a >= b * 0.999 for a, b in pairwise(work))
    asides = [one.aside > 0 for one in seen]
    assert asides.index(True) > [one.repeats for one in seen].index(1) - 1
    assert any(one.epochs < 20 for one in seen)
    assert any(one.rows for one in seen)
    for one in seen:  # first repeats, then ps, then epochs, then rows
        assert not one.aside or one.repeats == 1
        assert not one.rows or one.epochs == 3  # 500 steps of 200 an epoch


@pytest.mark.parametrize("seconds", [30.0, 100.0, 1000.0, 5000.0])
def test_a_plan_takes_half_of_the_time(rates, seconds):
    _, said, estimate = planned(seconds)
    assert estimate <= 0.55 * seconds
    assert said[0].startswith("To end within --time-limit: 1 repeat")


def test_more_workers_do_more(rates):
    few, many = (planned(500.0, workers=n)[0] for n in (1, 32))
    assert (many.repeats, many.epochs) > (few.repeats, few.epochs)


def test_a_small_table_keeps_its_ps(rates):
    settings, *_ = planned(5.0, rows=1000)
    assert not settings.aside
    assert settings.rows >= 40  # of the rarest class there are 7


def test_what_is_loaded_at_first_use_is_no_part_of_a_rate(monkeypatch):
    clock, calls = [0.0], []

    def encoded(problem, rows):
        calls.append(len(rows))
        clock[0] += 100.0 if len(calls) == 1 else 1.0 + 0.001 * len(rows)

    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(plan, "_encoded", encoded)
    assert plan._encoding(problem()) == pytest.approx(0.001)


def test_rates_are_measured():
    found = plan._rates(problem(), SETTINGS)
    assert 0 < found.epoch < 1
    assert 0 <= found.encoding < 1  # of so few rows the time of each is not to be told


# ----------------------------------------------------------------------------------------- halving


class Fixed:
    """An engine whose networks have the losses that they are given, by p."""

    workers = 1

    def __init__(self, losses):
        self.losses, self.seen = losses, []

    def run(self, do, jobs, count):
        from types import SimpleNamespace

        for job in jobs:
            self.seen.append((job.p, job.looks[-1]))
            measured = np.full((2, 1, 2), self.losses[job.p])
            yield SimpleNamespace(key=job.key, measured=measured)


def test_the_worse_half_goes_each_time_and_epochs_double():
    engine = Fixed({0.1: 3.0, 0.2: 1.0, 0.3: 2.0, 0.5: 4.0})
    assert best_of(problem(), SETTINGS, engine) == 0.2
    assert engine.seen[:4] == [(0.1, 10), (0.2, 10), (0.3, 10), (0.5, 10)]
    assert sorted(engine.seen[4:]) == [(0.2, 20), (0.3, 20)]


def test_real_networks_choose_too():
    settings = FitSettings((0.0, 0.1, 0.9), (8,), epochs=30, repeats=1, seed=0)
    assert best_of(problem("z"), settings, Local(1)) == 0.1


def test_no_row_is_on_both_sides():
    found = problem()
    one, other = apart(found, 100, 0)
    assert one.rows == 100
    assert not set(one.places) & set(other.places)
    assert set(one.places) | set(other.places) == set(found.places)
    assert one.target.mean() == pytest.approx(found.target.mean(), abs=0.01)
    assert (apart(found, 100, 0)[0].places == one.places).all()
    assert (apart(found, 100, 1)[0].places != one.places).any()


def test_groups_stay_together_and_the_past_is_set_aside():
    one, other = apart(problem(groups="g"), 100, 0)
    assert not set(one.groups) & set(other.groups)
    assert 100 <= one.rows <= 110
    one, other = apart(problem("z", time="t"), 100, 0)
    assert one.times.max() < other.times.min()


def test_what_is_set_aside_is_the_same_when_p_is_given():
    """The command in the report has the p that was chosen, and the same rows."""
    found = problem("z")
    settings = FitSettings((0.0, 0.1, 0.5), (8,), epochs=2, repeats=1, seed=3, rows=300, aside=60)
    left, chosen = prepared(found, settings, Local(1))
    assert left.rows == 240
    assert len(chosen.p) == 2
    again, same = prepared(problem("z"), chosen, Fixed({}))
    assert same == chosen
    assert (again.places == left.places).all()
    assert any("successive halving on 60 rows" in note for note in left.notes)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"rows": 3}, "rows=: with the 400 rows of frame it must be between"),
        ({"aside": 399}, "aside=: with the 400 rows"),
        ({"aside": 2}, "aside=: with the 400 rows"),
        ({"time_limit": "soon"}, "time_limit=: "),
        ({"time_limit": -1}, "time_limit must be"),
        ({"rows": -1}, "rows must be"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(how, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        thinned.fit.fit(table(), "y", **LITTLE, **how)


def test_samples_keep_the_shares():
    found = problem()
    some = sampled(found, 200, 0)
    assert some.rows == 200
    assert some.target.mean() == pytest.approx(found.target.mean(), abs=0.01)


def test_more_rows_than_there_are_is_all_of_them():
    found = problem()
    assert sampled(found, found.rows + 1, 0) is found
    (note,) = found.notes
    assert "asks for more rows than there are" in note


def test_the_whole_of_it(here, command):
    table(1000).to_csv("table.csv", index=False)
    line = ["fit", "table.csv", "--target", "z", "--hidden", "8", "--jobs", "1", "--keep", "t"]
    code, out, _ = command(*line, "--time-limit", "60m", "--epochs", "1", "--repeats", "1")
    assert code == 0
    assert "Training is expected to take about " in out
    code, _, err = command(*line, "--rows", "500", "--aside", "100", "--epochs", "2",
                           "--repeats", "1", "--quiet", "--out", "a")  # fmt: skip
    assert (code, err) == (0, "")
    import json
    import re

    facts = json.loads((here / "a" / "metrics.json").read_text(encoding="utf-8"))
    assert facts["data"]["rows"] == 400
    report = (here / "a" / "report.html").read_text(encoding="utf-8")
    assert "--rows 500" in report
    assert "--aside 100" in report
    ps = re.search(r"--p 0,([0-9.]+)<", report)[1]
    assert facts["settings"]["p"] == [0.0, float(ps)]
