"""Where networks are trained changes no number, and workers that are killed lose no job."""

import sys
from dataclasses import replace
from itertools import count

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from libraries import needs

from thinned.errors import InputError
from thinned.fit.engines import check_engine, engine_for, remote
from thinned.fit.engines.base import MOST_ATTEMPTS, together
from thinned.fit.engines.local import Local
from thinned.fit.engines.remote import LostError, Remote
from thinned.fit.folder import TOOK
from thinned.fit.results import FitSettings
from thinned.fit.training import Job, train

from .material import SMALL

needs_dask, needs_ray = needs("distributed"), needs("ray")
# Both libraries leave sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(distributed|dask|ray|tornado).*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:(distributed|dask|ray).*"),
]
SETTINGS = FitSettings(p=(0.0, 0.2), hidden=(8,), epochs=2, repeats=1, seed=0)

# Ends its own process at one job, or at every one: in a module that workers can import.
DEADLY = """
import os, signal
from pathlib import Path
from thinned.fit.training import train

def once(job):
    mark = Path(os.environ["TEST_MARK"])
    if job.key == (1, 1) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train(job)

def always(job):
    if job.key == (1, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return train(job)
"""


def jobs(splits=3):
    rng = np.random.default_rng(0)
    for s in range(splits):
        inputs = tuple(rng.normal(size=(n, 4)).astype(np.float32) for n in (40, 10))
        target = tuple(rng.integers(0, 2, len(x)) for x in inputs)
        for i, p in enumerate(SETTINGS.p):
            yield Job((i, s), "classification", 2, inputs, target, p, s, (1, 2), SETTINGS)


def digest(trained):
    arrays = (trained.measured, *trained.network.weights, *trained.network.biases)
    return trained.key, [array.tobytes() for array in arrays], trained.masks


@pytest.fixture(scope="module")
def expected():
    return sorted(digest(train(job)) for job in jobs())


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.setenv("TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    monkeypatch.syspath_prepend(tmp_path)
    import deadly

    # Processes that joblib keeps for later know nothing of this module.
    get_reusable_executor().shutdown(kill_workers=True)
    yield deadly
    get_reusable_executor().shutdown(kill_workers=True)
    del sys.modules["deadly"]


def answers(engine, do=train):
    return sorted(digest(one) for one in engine.run(do, jobs(), 6))


# ------------------------------------------------------------------------------------ this machine


@pytest.mark.parametrize("backend", ["threading", "sequential", "multiprocessing"])
def test_joblibs_current_backend(expected, backend):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert answers(Local(2)) == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_processes(expected, processes):
    assert answers(Local(processes)) == expected


def test_a_killed_process_loses_no_job(expected, deadly, tmp_path):
    assert answers(Local(2), deadly.once) == expected
    assert (tmp_path / "mark").exists()


@pytest.mark.long
def test_a_job_that_always_kills_is_given_up(deadly):
    with pytest.raises(TerminatedWorkerError):
        answers(Local(2), deadly.always)


def test_an_error_of_a_job_is_raised(expected):
    with pytest.raises(ValueError, match=r"class|label"):
        list(Local(1).run(train, [replace(next(jobs()), n_classes=1)], 1))


# -------------------------------------------------------------------------------- what is shared


class Here(Remote):
    """A cluster in this process, which loses what `loses` says."""

    def __init__(self, loses=()):
        super().__init__(at_a_time=4, workers=1)
        self.loses, self.sent, self.begun, self.forgotten = set(loses), 0, count(), []
        self.answers = {}

    def _send(self, arrays):
        self.sent += 1
        return arrays

    def _begin(self, do, light, sent):
        n = next(self.begun)
        self.answers[n] = lambda: together(do, light, *sent)
        return n

    def _ended(self, begun):
        return begun[-1:]

    def _answer(self, ended):
        if ended in self.loses:
            raise LostError from RuntimeError("the worker is gone")
        return self.answers.pop(ended)()

    def _forget(self, begun):
        self.forgotten += begun


def test_the_arrays_of_a_split_are_sent_once(expected):
    engine = Here()
    assert answers(engine) == expected
    assert engine.sent == 3
    assert engine.forgotten == []


def test_lost_jobs_are_begun_again_with_their_arrays(expected):
    engine = Here(loses={1, 2, 3})
    assert answers(engine) == expected
    assert next(engine.begun) == 6 + 3
    assert engine.sent > 3


def test_a_job_that_is_always_lost_is_given_up():
    with pytest.raises(RuntimeError, match="the worker is gone"):
        answers(Here(loses=range(100)))
    engine = Here()
    running = engine.run(train, jobs(), 6)
    next(running)
    running.close()  # as an interruption does
    assert len(engine.forgotten) == 3


def test_only_so_many_splits_are_kept(monkeypatch):
    monkeypatch.setattr(remote, "KEPT", 1)
    engine = Here()
    seen = [len(engine._sent) for _ in engine.run(train, jobs(5), 10)]
    assert max(seen) == 1


# ------------------------------------------------------------------------------------ the clusters


@pytest.fixture(scope="module")
def scheduler():
    """A cluster of Dask's, of two processes on the loopback."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp", "dask")


@needs_dask
def test_a_cluster_of_dasks(expected, scheduler):
    with engine_for(scheduler) as engine:
        assert answers(engine) == expected


@needs_dask
def test_the_command_writes_the_same_bytes_on_dask(here, command, scheduler):
    for name, more in (("here", ["--jobs", "1"]), ("there", ["--engine", scheduler])):
        assert command("fit", "wine", *SMALL, "--quiet", "--out", name, *more) == (0, "", "")
    names = sorted(path.name for path in (here / "here").iterdir())
    for name in names:
        if name != TOOK:
            assert (here / "here" / name).read_bytes() == (here / "there" / name).read_bytes()


@needs_dask
@pytest.mark.long
def test_a_killed_worker_of_dasks_loses_no_job(expected, deadly, tmp_path):
    with engine_for("dask", 2) as engine:
        assert answers(engine, deadly.once) == expected
    assert (tmp_path / "mark").exists()


@needs_dask
def test_no_scheduler_is_a_sentence(refused, monkeypatch, here):
    monkeypatch.setattr("thinned.fit.engines.dask.PATIENCE", 1)
    said = refused("fit", "wine", "--engine", "dask://127.0.0.1:1", "--quiet")
    assert said.startswith("--engine: no scheduler of Dask's at 127.0.0.1:1: ")


@needs_ray
@pytest.mark.long
def test_a_cluster_of_rays_which_loses_a_worker(expected, deadly, tmp_path):
    with engine_for("ray", 2) as engine:
        assert answers(engine) == expected
        assert answers(engine, deadly.once) == expected
    assert (tmp_path / "mark").exists()


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["spark", "dask:", "dask://", "http://here:1", "", "ray:/x"])
def test_what_is_no_engine(name, refused, here):
    with pytest.raises(InputError, match="is no engine; write dask, dask://HOST:PORT, ray or"):
        check_engine(name)
    assert "is no engine" in refused("fit", "wine", f"--engine={name}")


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_absent_library_is_named_with_its_extra(name, module, command, monkeypatch, here):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = command("fit", "wine", *SMALL, "--engine", name, "--quiet")
    said = f'{name} is not installed; --engine {name} needs: pip install "thinned[{name}]"'
    assert (code, err) == (1, f"thinned: {said}\n")
    assert MOST_ATTEMPTS > 1
