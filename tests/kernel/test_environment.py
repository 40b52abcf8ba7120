"""Which kernel runs, with how many threads, and what an installation says that cannot run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thinned
from thinned import _native, kernel, reference

from .against import AT, draw

NAMES = ["reference", *_native.runnable()]
REPORT = """
import numpy, thinned
info = thinned.kernel_info()
at = thinned.Address(seed=5, site="a", step=6)
mask = thinned.packed_mask(200000, 0.3, at, window=thinned.Window(2**40))
y = thinned.dropout(numpy.ones(3000, numpy.float16), 0.1, at)
print(info.name, info.threads, mask.tobytes().hex()[:4000], y.tobytes().hex())
"""


def run(code, *options, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("THINNED_", "OMP_"))}
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def printed(code, **variables):
    done = run(code, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def refused(**variables):
    """What is said in the end, at the first question about the kernel and at the first draw."""
    draw = "thinned.keep_mask(3, 0.5, thinned.Address(seed=0))"
    ends = []
    for first in ("thinned.kernel_info()", draw):
        done = run(f"import thinned\nprint('imported')\n{first}", **variables)
        assert done.returncode != 0
        assert done.stdout.split() == ["imported"]
        ends.append(done.stderr.strip().splitlines()[-1])
    assert ends[0] == ends[1]
    return ends[0]


def test_the_environment_chooses_the_kernel():
    reports = {name: printed(REPORT, THINNED_KERNEL=name) for name in NAMES}
    assert [report[0] for report in reports.values()] == NAMES
    assert len({tuple(report[2:]) for report in reports.values()}) == 1


def test_the_fastest_kernel_runs_where_none_is_named():
    for value in ({}, {"THINNED_KERNEL": ""}):
        assert printed(REPORT, **value)[0] == _native.runnable()[-1]


def test_an_unknown_kernel_is_refused():
    message = refused(THINNED_KERNEL="sse9")
    assert message == (
        "ValueError: thinned: THINNED_KERNEL=sse9 is not a kernel of this build. It can be "
        f"{', '.join(NAMES)}; unset it for the fastest."
    )


def test_a_kernel_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(_native, "built", lambda: [*_native.runnable(), "avx1024"])
    in_use = thinned.kernel_info()
    with pytest.raises(ValueError, match="THINNED_KERNEL=avx1024 cannot run on this processor"):
        kernel.use_kernel("avx1024")
    assert thinned.kernel_info() == in_use


def test_a_refused_kernel_leaves_the_one_in_use(kernel_name):
    with pytest.raises(ValueError, match="not a kernel of this build"):
        kernel.use_kernel("none")
    assert thinned.kernel_info().name == kernel_name


def test_kernel_info_says_what_could_run():
    info = thinned.kernel_info()
    assert info.runnable == ("reference", *_native.runnable())
    assert set(_native.runnable()) <= set(_native.built())
    assert info.name in info.runnable
    for name in info.runnable:
        kernel.use_kernel(name)
        assert thinned.kernel_info().name == name
        assert kernel.uses_reference() == (name == "reference")


def test_the_reference_in_use_draws_the_same():
    d = draw((3000,), 0.3)
    kernel.use_kernel("reference")
    mask = thinned.keep_mask(3000, 0.3, AT)
    assert (mask == reference.keep(*d)).all()


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"THINNED_NUM_THREADS": "3"}, 3),
        ({"THINNED_NUM_THREADS": " 1 "}, 1),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"THINNED_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
        ({"OMP_NUM_THREADS": "4,2"}, None),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_environment_says_how_many_threads(variables, threads):
    if threads is None:  # the processors that this process may use
        own = hasattr(os, "sched_getaffinity")
        threads = len(os.sched_getaffinity(0)) if own else os.cpu_count()
    code = "import thinned; print(thinned.kernel_info().threads)"
    assert printed(code, **variables) == [str(threads)]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "2 3"])
def test_a_bad_number_of_threads_in_the_environment_is_refused(value):
    message = refused(THINNED_NUM_THREADS=value)
    assert message == (
        f"ValueError: thinned: THINNED_NUM_THREADS must be a positive integer, got {value!r}."
    )


@pytest.mark.parametrize("n", [0, -1, 2**15, 2**70])
def test_set_num_threads_refuses_numbers_that_are_none(n):
    before = thinned.kernel_info().threads
    with pytest.raises(ValueError, match=rf"set_num_threads: n must be an integer in .*, got {n}"):
        thinned.set_num_threads(n)
    assert thinned.kernel_info().threads == before


@pytest.mark.parametrize("n", [1.5, 2.0, "2", None, True, np.ones(2)])
def test_set_num_threads_refuses_what_is_no_integer(n):
    with pytest.raises(TypeError, match="set_num_threads: n must be an integer in"):
        thinned.set_num_threads(n)


@pytest.mark.parametrize("n", [1, 7, np.int32(3), 2**15 - 1])
def test_set_num_threads_takes_integers(n):
    thinned.set_num_threads(n)
    assert thinned.kernel_info().threads == n


def broken_installation(folder, module):
    """Draw with a copy of the package whose compiled module holds these bytes, or is not there."""
    package = Path(thinned.__file__).parent
    copy = folder / "thinned"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    if module is not None:
        (copy / Path(_native.__file__).name).write_bytes(module)
    # Without site, so that an editable installation does not come first; NumPy by its own place.
    places = [str(folder), str(Path(np.__file__).parents[1])]
    draw = "thinned.keep_mask(3, 0.5, thinned.Address(seed=0))"
    return run(f"import sys; sys.path[:0] = {places}\nimport thinned; {draw}", "-S")


@pytest.mark.parametrize("kind", ["cut", "absent", "no library"])
def test_a_module_that_does_not_load_says_why(tmp_path, kind):
    whole = Path(_native.__file__).read_bytes()
    module = {"cut": whole[:40], "absent": None, "no library": b"not a library at all" * 100}[kind]
    done = broken_installation(tmp_path, module)
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: thinned: the compiled module does not load (")
    assert message.endswith("nothing slower takes its place in silence.")
    reason = message.partition("(")[2].partition("). Install")[0]
    assert "_native" in reason
    # The loader's own words stand above, as the cause.
    assert "The above exception was the direct cause" in done.stderr


def test_a_copy_that_is_whole_loads(tmp_path):
    done = broken_installation(tmp_path, Path(_native.__file__).read_bytes())
    assert done.returncode == 0, done.stderr
