"""Threads, forks, signals and fresh processes: the same answers as one thread at its leisure."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import thinned
from thinned.methods import every

ROWS = [row for row in every() if row.sample is not None]
LARGE = 2**20  # elements: the kernel's threads take part from some hundred thousand on


def called(row, turn=0):
    at = thinned.Address(seed=turn, site=row.name)
    arrays = tuple(
        array.astype(np.float32) if array.dtype.kind == "f" else array
        for array in row.sample.inputs(turn)
    )
    return np.asarray(row.call(arrays, row.sample.p, at, **row.sample.options)).tobytes()


def test_threads_that_call_every_row_at_once_give_the_answers_of_one():
    turns = 6
    alone = {(row.name, turn): called(row, turn) for row in ROWS for turn in range(turns)}
    wrong, start = [], threading.Barrier(8)

    def work(place):
        rng = np.random.default_rng(place)
        start.wait()
        for number in rng.permutation(len(ROWS) * turns):
            row, turn = ROWS[number % len(ROWS)], int(number // len(ROWS))
            try:
                if called(row, turn) != alone[row.name, turn]:
                    wrong.append((row.name, turn))
            except Exception as error:
                wrong.append((row.name, turn, repr(error)))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# In a process of its own: what is forked there has threads of no one else's. In half precision,
# whose arithmetic needs another type than came.
FIRST = """
import json, os, sys
import ml_dtypes, numpy as np
import thinned
from thinned.methods import every
every()
failed = {}
for row in every():
    if row.sample is None:
        continue
    for name in row.sample.dtypes[:1] or ("int64",):
        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            text = ""
            try:
                arrays = tuple(
                    a.astype(dtype) if a.dtype.kind == "f" else a for a in row.sample.inputs()
                )
                row.call(arrays, row.sample.p, thinned.Address(1), **row.sample.options)
            except BaseException as error:
                text = repr(error)
            os.write(write, text.encode()[:4000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        if text or status:
            failed[f"{row.name}, {name}"] = text or f"status {status}"
print(json.dumps(failed))
"""

FORKED = f"""
import os, sys, threading
import numpy as np
import thinned
x = np.ones({LARGE}, np.float32)
def draw(seed):
    return thinned.dropout(x, 0.3, thinned.Address(seed))
right = [draw(seed) for seed in range(4)]  # the threads have started
more = [threading.Thread(target=draw, args=(9,), daemon=True) for _ in range(2)]
for thread in more:
    thread.start()
children = []
for seed in range(4):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(draw(seed), right[seed]) else 1)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
print(all(end == 0 for end in ends) and np.array_equal(draw(0), right[0]))
"""


def output(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.long
def test_every_row_can_be_the_first_call_of_a_process():
    assert json.loads(output(FIRST)) == {}


@pytest.mark.parametrize("kernel", thinned.kernel_info().runnable)
def test_children_forked_after_the_kernels_threads_have_started_draw_the_same(kernel):
    small = FORKED.replace(str(LARGE), str(2**12))  # for the slow kernel, which has no threads
    program = small if kernel == "reference" else FORKED
    assert output(program, THINNED_KERNEL=kernel, THINNED_NUM_THREADS="2") == "True"


RUN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from thinned.cli.main import main; sys.exit(main())"
)
WHOLE = {
    *("metrics.json", "model.json", "model.safetensors", "predictions.csv"),
    *("report.html", "took.json"),
}


def ended(folder, number, ending):
    """Ends a fit when `number` seconds have passed since it spoke; its exit code and stderr."""
    options = ["--p", "0,0.2", "--hidden", "8", "--epochs", "3", "--repeats", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "fit", "wine", "--out", "made", *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        process.stderr.readline()
        time.sleep(number)
        os.killpg(process.pid, ending)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, err


@pytest.mark.one_in(3)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("turn", range(2))
def test_a_signal_leaves_a_folder_whole_or_absent(tmp_path, ending, turn):
    rng = np.random.default_rng([int(ending), turn])
    code, err = ended(tmp_path, float(rng.uniform(0, 4)), ending)
    made = tmp_path / "made"
    if made.exists():
        assert {path.name for path in made.iterdir()} == WHOLE
    if ending != signal.SIGKILL:
        assert code in (0, 130), err
        assert "Traceback" not in err
        assert set(os.listdir(tmp_path)) <= {"made"}
