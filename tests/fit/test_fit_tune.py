"""Settings chosen by Optuna, on rows that are set aside."""

import html
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from libraries import library, needs

import thinned.fit
from thinned.errors import InputError
from thinned.fit.api import problems_from
from thinned.fit.choices import Choices
from thinned.fit.engines.local import Local
from thinned.fit.kept import Kept
from thinned.fit.plan import prepared
from thinned.fit.results import FitSettings
from thinned.fit.training import train
from thinned.fit.tune import TUNED, Tuning, read_tune, tuned

optuna = library("optuna")
SETTINGS = FitSettings((0.0, 0.1, 0.2, 0.3), (8, 8), epochs=2, repeats=1, seed=0)


def table(rows=160):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    return frame.assign(y=frame["a"] + frame["b"] ** 2)


def problem(rows=160):
    return problems_from(table(rows), "y", "auto", Choices())[0]


class Counting(Local):
    def __init__(self):
        super().__init__(1)
        self.seen = []

    def run(self, do, jobs, count):
        for job in jobs:
            self.seen.append(job)
            yield do(job)


def run_trials(names, trials, engine=None, settings=SETTINGS):
    engine = engine or Counting()
    return *tuned(problem(), settings, Tuning(names, trials), engine), engine


@needs("optuna")
def test_the_first_trial_is_what_was_given():
    chosen, said, engine = run_trials(tuple(TUNED), 1)
    assert chosen.hidden == (16, 16)  # the least that is tried
    assert chosen.p == (0.0, 0.2)
    assert chosen.learning_rate == SETTINGS.learning_rate
    assert len(engine.seen) == 5
    assert "(trial 1)" in said


@needs("optuna")
def test_trials_differ_and_the_best_one_is_chosen():
    chosen, said, engine = run_trials(tuple(TUNED), 8)
    tried = {(job.p, job.settings.hidden, job.settings.learning_rate) for job in engine.seen}
    assert len(tried) == 8
    assert (chosen.p[1], chosen.hidden, chosen.learning_rate) in tried
    for job in engine.seen:
        assert 0.05 <= job.p <= 0.8
        assert 1 <= len(job.settings.hidden) <= 4
        assert 16 <= job.settings.hidden[0] <= 1024
        assert job.settings.learning_rate == float(f"{job.settings.learning_rate:.3g}")
    losses = {}
    for job in engine.seen:
        lowest = np.nanmin(train(job).measured[1, :, 0])
        key = job.p, job.settings.hidden, job.settings.learning_rate
        losses.setdefault(key, []).append(lowest)
    means = {key: np.mean(folds) for key, folds in losses.items()}
    assert min(means, key=means.get) == (chosen.p[1], chosen.hidden, chosen.learning_rate)
    assert re.search(r"Chosen in 8 trials on 160 rows", said)


@needs("optuna")
def test_all_trials_have_the_same_folds():
    _, _, engine = run_trials(("p",), 3)
    by_fold = {}
    for job in engine.seen:
        by_fold.setdefault(job.key[1], set()).add(id(job.inputs))
    assert len(by_fold) == 5
    assert all(len(one) == 1 for one in by_fold.values())


@needs("optuna")
def test_what_is_not_tuned_stays():
    chosen, _, engine = run_trials(("learning_rate",), 3)
    assert (chosen.p, chosen.hidden) == (SETTINGS.p, SETTINGS.hidden)
    assert {job.p for job in engine.seen} == {0.2}


@needs("optuna")
def test_a_run_that_goes_on_trains_nothing_twice(tmp_path):
    first, _, engine = run_trials(("p", "width"), 5, Kept(tmp_path / "kept").over(Counting()))
    again = Counting()
    second, *_ = run_trials(("p", "width"), 7, Kept(tmp_path / "kept").over(again))
    assert len(again.seen) == 2 * 5
    assert run_trials(("p", "width"), 5)[0] == first
    assert engine.found == 0
    assert second.p[1] > 0


class Ended(Counting):
    """A process that ends in the middle of a trial."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def run(self, do, jobs, count):
        for answer in super().run(do, jobs, count):
            if len(self.seen) > self.after:
                raise KeyboardInterrupt
            yield answer


def journal(folder):
    (path,) = folder.glob("*.trials")
    return path


@needs("optuna")
@pytest.mark.parametrize("after", [0, 7, 62])
def test_optunas_storage_is_gone_on_from(tmp_path, after):
    """Ended in the first trial, in the second, and when the sampler knows enough to choose."""
    names, trials = ("p", "learning_rate"), 14
    whole, said, _ = run_trials(names, trials)
    folder = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        run_trials(names, trials, Kept(folder).over(Ended(after)))
    states = [one.state.name for one in study(folder).trials]
    assert states == ["COMPLETE"] * (after // 5) + ["RUNNING"]
    again = Counting()
    kept = Kept(folder).over(again)
    assert run_trials(names, trials, kept)[:2] == (whole, said)
    assert kept.found == after % 5  # trials that were told are not looked at again
    assert len(again.seen) == 5 * trials - after
    assert [one.state.name for one in study(folder).trials].count("COMPLETE") == trials


def study(folder):
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    storage = JournalStorage(JournalFileBackend(str(journal(folder))))
    return optuna.load_study(study_name="trials", storage=storage)


@needs("optuna")
@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-7],
        lambda raw: raw[: len(raw) // 2] + b"?" + raw[len(raw) // 2 + 1 :],
        lambda raw: re.sub(rb'("values":\[[0-9]*\.)[0-9]', rb"\g<1>0", raw),
        lambda raw: b"\0\xff\n" + raw,
        lambda raw: b"",
    ],
)
def test_a_damaged_journal_counts_as_none(tmp_path, damage):
    folder = tmp_path / "kept"
    whole = run_trials(("p",), 3, Kept(folder).over(Counting()))[:2]
    raw = journal(folder).read_bytes()
    journal(folder).write_bytes(damage(raw))
    assert journal(folder).read_bytes() != raw
    again = Counting()
    assert run_trials(("p",), 3, Kept(folder).over(again))[:2] == whole
    assert not again.seen  # its trainings are kept by themselves


@needs("optuna")
def test_a_journal_is_of_one_table_and_what_is_tuned(tmp_path):
    folder = tmp_path / "kept"
    for names, settings in ((("p",), SETTINGS), (("p", "width"), SETTINGS)):
        run_trials(names, 2, Kept(folder).over(Counting()), settings)
    run_trials(("p",), 2, Kept(folder).over(Counting()), replace(SETTINGS, seed=1))
    run_trials(("p",), 3, Kept(folder).over(Counting()))
    assert len([*folder.glob("*.trials")]) == 3


@needs("optuna")
def test_a_disk_without_room_for_a_journal(tmp_path, monkeypatch):
    from optuna.storages.journal import JournalFileBackend

    whole, said, _ = run_trials(("p",), 4)
    calls, append = [], JournalFileBackend.append_logs

    def full(self, logs):
        calls.append(logs)
        if len(calls) > 12:
            raise OSError(28, "No space left on device")
        append(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    assert run_trials(("p",), 4, Kept(tmp_path / "kept").over(Counting()))[:2] == (whole, said)


@needs("optuna")
def test_the_rows_of_trials_take_no_further_part():
    left, settings = prepared(problem(), SETTINGS, Counting(), Tuning(("p",), 2))
    assert (left.rows, settings.aside) == (120, 40)
    again, same = prepared(problem(), settings, Counting())
    assert same == settings
    assert (again.places == left.places).all()


@needs("optuna")
def test_the_command(here, command, refused):
    table().to_csv("table.csv", index=False)
    line = ["fit", "table.csv", "--hidden", "8", "--epochs", "2", "--repeats", "1", "--jobs", "1"]
    code, out, err = command(*line, "--tune", "p,learning_rate", "--trials", "2", "--out", "a")
    assert code == 0, err
    assert "Chosen in 2 trials on 40 rows, which were set aside for this: p " in out
    facts = json.loads((here / "a" / "metrics.json").read_text(encoding="utf-8"))
    assert len(facts["settings"]["p"]) == 2
    assert facts["data"]["rows"] == 120
    report = (here / "a" / "report.html").read_text(encoding="utf-8")
    again = re.search(r'class="command"><code>(.*?)</code>', report)[1]
    words = html.unescape(re.sub(r"</?span>", "", again)).split()
    assert words[:2] == ["thinned", "fit"]
    assert "--aside 40" in " ".join(words)
    assert command(*words[1:], "--jobs", "1", "--quiet", "--out", "b") == (0, "", "")
    for name in ("model.safetensors", "predictions.csv"):
        assert (here / "a" / name).read_bytes() == (here / "b" / name).read_bytes()


def test_refusals(refused, here):
    for text in ("q", "", "p,", "p,p", "P"):
        with pytest.raises(InputError, match=r"cannot be tuned|may be given once"):
            read_tune(text)
        assert refused("fit", "wine", f"--tune={text}").startswith("--tune: ")
    frame = table()
    for how, said in (
        ({"tune": ["q"]}, 'tune=: "q" cannot be tuned'),
        ({"tune": 3}, "tune must be"),
        ({"tune": "p", "trials": 0}, "trials must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            thinned.fit.fit(frame, "y", **how)


def test_without_optuna_it_is_said_what_to_install(command, monkeypatch, here):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = command("fit", "wine", "--tune", "p", "--quiet")
    said = 'optuna is not installed; --tune needs: pip install "thinned[tune]"'
    assert (code, err) == (1, f"thinned: {said}\n")
