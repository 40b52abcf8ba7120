"""A run that was ended goes on where it was, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import thinned.fit
from thinned.fit.engines.local import Local
from thinned.fit.folder import TOOK
from thinned.fit.kept import Kept, job_hash
from thinned.fit.lock import beside
from thinned.fit.training import train

from .material import RUN
from .test_fit_engines import digest, jobs


class Counting:
    """An engine that counts what it is given."""

    workers = 1

    def __init__(self):
        self.trained = []

    def run(self, do, some, count):
        for job in some:
            self.trained.append(job.key)
            yield do(job)


def run_over(folder, some=None, stop=None):
    """What came of the jobs, sorted, and which of them were trained."""
    engine, answers = Counting(), []
    kept = Kept(folder).over(engine)
    running = kept.run(train, jobs() if some is None else some, 6)
    for one in running:
        answers.append(digest(one))
        if len(answers) == stop:
            running.close()
            break
    return sorted(answers), engine.trained, kept


@pytest.fixture(scope="module")
def expected():
    return sorted(digest(train(job)) for job in jobs())


def test_what_has_ended_is_not_trained_again(tmp_path, expected):
    folder = tmp_path / "jobs"
    _, first, kept = run_over(folder, stop=4)
    assert kept.holds
    answers, second, kept = run_over(folder)
    assert answers == expected
    assert len(first) + len(second) == 6
    assert kept.found == 4
    assert run_over(folder)[:2] == (expected, [])
    kept.clear()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, p=0.25),
        lambda job: replace(job, random_state=9),
        lambda job: replace(job, looks=(1, 3)),
        lambda job: replace(job, n_classes=3),
        lambda job: replace(job, settings=replace(job.settings, hidden=(9,))),
        lambda job: replace(job, settings=replace(job.settings, learning_rate=0.01)),
        lambda job: replace(job, inputs=(job.inputs[0] + 1, job.inputs[1])),
        lambda job: replace(job, target=(1 - job.target[0], job.target[1])),
    ],
)
def test_another_job_has_another_hash(change):
    job = next(jobs())
    assert job_hash(change(job)) != job_hash(job)


def test_the_same_job_has_the_same_hash_in_a_run_of_more():
    job = next(jobs())
    other = replace(job, key=(5, 5), settings=replace(job.settings, p=(0.0, 0.2, 0.9), repeats=4))
    assert job_hash(other) == job_hash(job)
    copied = replace(job, inputs=tuple(map(np.copy, job.inputs)))
    known = {}
    assert job_hash(copied, known) == job_hash(job, known)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other"])
def test_what_is_damaged_is_trained_again(tmp_path, expected, damage):
    folder = tmp_path / "jobs"
    run_over(folder)
    one, other = sorted(folder.iterdir())[:2]
    raw = bytearray(one.read_bytes())
    if damage == "bit":
        raw[len(raw) // 2] ^= 1
    one.write_bytes({"cut": raw[:-3], "bit": raw, "empty": b"", "other": b"x" * 99}[damage])
    (folder / f"{other.name}.part").write_bytes(b"half")  # of a run that was killed
    answers, trained, _ = run_over(folder)
    assert answers == expected
    assert len(trained) == 1


def test_a_disk_that_is_full_stops_the_keeping_alone(tmp_path, expected):
    (tmp_path / "jobs").write_text("a file in its place")
    answers, _, kept = run_over(tmp_path / "jobs")
    assert answers == expected
    assert kept.lost
    assert not kept.holds


def test_the_api_goes_on_in_the_folder_it_is_given(tmp_path, monkeypatch):
    frame = {"a": np.linspace(0, 1, 60), "y": np.arange(60) % 2}
    options = {"p": [0.2], "hidden": 8, "epochs": 2, "repeats": 1, "jobs": 1}
    whole = thinned.fit.fit(frame, "y", **options)
    done = []

    def told(n, of):
        done.append(n)
        if n == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        thinned.fit.fit(frame, "y", **options, resume=tmp_path / "kept", progress=told)
    assert len(list((tmp_path / "kept").iterdir())) >= 3
    trained = []
    run = Local.run

    def noting(self, do, some, n):  # simple models are fitted again, networks are not
        return run(self, do, _noting(some, trained) if do is train else some, n)

    monkeypatch.setattr(Local, "run", noting)
    again = thinned.fit.fit(frame, "y", **options, resume=tmp_path / "kept")
    assert len(trained) <= 12 - 3
    assert again.metrics == whole.metrics
    assert again._files["model.safetensors"] == whole._files["model.safetensors"]
    assert os.listdir(tmp_path) == []


def _noting(jobs_given, seen):
    for job in jobs_given:
        seen.append(job.key)
        yield job


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_killed_command_ends_with_the_same_bytes(here, command):
    options = ["--p", "0.2", "--hidden", "16", "--epochs", "4", "--repeats", "1", "--jobs", "1"]
    line = [sys.executable, "-c", RUN, "fit", "digits", *options, "--out", "out"]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    store = beside(here / "out", "jobs")
    start = time.monotonic()
    while not (store.is_dir() and any(store.iterdir())) and process.poll() is None:
        assert time.monotonic() - start < 200
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert store.is_dir()
    assert not (here / "out").exists()
    assert command("fit", "digits", *options, "--quiet", "--out", "out") == (0, "", "")
    assert os.listdir(here) == ["out"]  # nothing is kept of a run that has ended
    assert command("fit", "digits", *options, "--quiet", "--out", "whole") == (0, "", "")
    for path in (here / "whole").iterdir():
        if path.name != TOOK:
            assert path.read_bytes() == (here / "out" / path.name).read_bytes(), path.name
