"""Threads and processes: any number of them, at any time, and nothing held beside the arrays."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

import thinned
from thinned.backends.numpy import backend

from .against import AT, TYPES, assert_dropped, bits_of, draw, numbers

# Above what one thread does alone, and of lengths that leave a rest.
LARGE = (613, 331)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")


def calls(dtype):
    """Calls that take different ways through the kernel, each with its own result."""
    x, f = numbers(LARGE, dtype), numbers(LARGE, dtype, seed=1)
    wide = numbers((LARGE[0], 2 * LARGE[1]), dtype)[:, ::2]
    for array in (x, np.asfortranarray(x), wide):
        for shared in ((), 0, 1):
            yield lambda a=array, s=shared: thinned.dropout(a, 0.3, AT, shared_axes=s)
    yield lambda: thinned.dropout(x, 0.5, AT, window=thinned.Window(2**33))
    yield lambda: backend.apply(x, draw(LARGE, 0.4), 1.5, f, None)
    yield lambda: backend.apply_gaussian(x, draw(LARGE, 0.4), 0.5, None)
    yield lambda: backend.words(draw(LARGE, 0.4))
    yield lambda: thinned.keep_mask(LARGE, 0.4, AT)
    yield lambda: thinned.packed_mask(LARGE, 0.4, AT)


@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)
def test_results_do_not_depend_on_the_number_of_threads(kernel_name, dtype):
    thinned.set_num_threads(1)
    alone = [bits_of(call()) for call in calls(dtype)]
    for threads in (2, 3, 4):
        thinned.set_num_threads(threads)
        for i, call in enumerate(calls(dtype)):
            assert (bits_of(call()) == alone[i]).all(), f"call {i} on {threads} threads"


def test_large_arrays_are_the_references(kernel_name):
    thinned.set_num_threads(4)
    for i, dtype in enumerate(TYPES.values()):
        x = numbers(LARGE, dtype)
        shared = ((), 0, 1, (0, 1))[i]
        assert_dropped(x, 0.3, shared, thinned.Window((2**30, 5), (2**31, 400)))
        assert_dropped(np.asfortranarray(x), 0.5, shared)
        assert_dropped(numbers(300001, dtype), 0.1, window=thinned.Window(2**39 - 150000))


def test_many_threads_call_at_once(kernel_name):
    dtype = TYPES["float32"]
    backend.require_floating("apply", np.ones(1, dtype))
    thinned.set_num_threads(1)
    works = list(calls(dtype))
    alone = [bits_of(work()) for work in works]
    done = Event()

    def change():
        n = 1
        while not done.wait(0.0005):
            thinned.set_num_threads(n := n % 5 + 1)

    def repeat(first):
        for i in range(first, first + 2 * len(works)):
            i %= len(works)
            if (bits_of(works[i]()) != alone[i]).any():
                return i
        return None

    with ThreadPoolExecutor(9) as threads:
        changing = threads.submit(change)
        wrong = list(threads.map(repeat, range(8)))
        done.set()
        changing.result()
    assert wrong == [None] * 8


def run(script, **variables):
    begin = """
        import os, signal, sys, threading
        import numpy as np
        import thinned

        at = thinned.Address(seed=1, site="fork", step=2)
        x = np.ones(400000, np.float32)
        thinned.set_num_threads(3)

        def draw():
            mask, y = thinned.packed_mask(x.size, 0.3, at), thinned.dropout(x, 0.3, at)
            return mask.tobytes() + y.tobytes()

        def in_a_child(want):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a child that waits for ever is killed, and that is seen
                os._exit(0 if draw() == want and draw() == want else 3)
            assert os.waitpid(child, 0)[1] == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(script)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_fork
def test_a_fork_before_the_first_use():
    run("""
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            first = draw()
            os._exit(0 if draw() == first else 3)
        assert os.waitpid(child, 0)[1] == 0
        in_a_child(draw())
    """)


@needs_fork
def test_a_fork_after_use_and_in_a_child():
    run("""
        want = draw()
        for _ in range(3):
            in_a_child(want)
            assert draw() == want
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            assert draw() == want
            in_a_child(want)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """)


@needs_fork
def test_a_fork_while_other_threads_draw():
    run("""
        want = draw()
        stop, wrong = threading.Event(), []

        def keep_drawing():
            while not stop.is_set():
                if draw() != want:
                    wrong.append(1)

        threads = [threading.Thread(target=keep_drawing) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            in_a_child(want)
        stop.set()
        for thread in threads:
            thread.join()
        assert not wrong
    """)


@needs_fork
def test_a_process_pool_that_forks():
    run("""
        from multiprocessing import get_context

        def work(step):
            return thinned.dropout(x, 0.3, at.replace(step=step)).tobytes()

        want = [work(step) for step in range(6)]
        with get_context("fork").Pool(2) as pool:
            assert pool.map(work, range(6)) == want
    """)


def test_a_process_ends_while_daemon_threads_draw():
    # Python before 3.14 unwinds a daemon thread that comes back to a closing interpreter; through
    # C++ that ended in an abort of the process.
    for _ in range(5):
        run("""
            def forever():
                while True:
                    draw()

            for _ in range(3):
                threading.Thread(target=forever, daemon=True).start()
            draw()
        """)


@needs_proc
def test_a_call_holds_no_memory_beside_its_arrays():
    # 64 million elements. The native tests count what a call holds to the byte (some 30 KB of stack
    # a thread); the system's own books, read here, are kept in steps of several pages.
    printed = run("""
        def peak():
            with open("/proc/self/status") as lines:
                return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

        n = 2**26
        x, out = np.ones(n, np.float16), np.ones(n, np.float16)
        rows, rows_out = x.reshape(2**13, 2**13), out.reshape(2**13, 2**13)
        thinned.dropout(x[: 2**18], 0.3, at, out=out[: 2**18])  # from now on the threads are there
        before = peak()
        for p in (0.5, 0.1, 0.0, 1.0):
            thinned.dropout(x, p, at, out=out)
        for shared in (0, 1):
            thinned.dropout(rows, 0.3, at, shared_axes=shared, out=rows_out)
        thinned.dropout(rows.T, 0.3, at, out=rows_out)
        thinned.dropout(rows[::2, ::2], 0.3, at, out=rows_out[::2, ::2])
        thinned.dropout(out, 0.3, at, out=out)
        print(peak() - before)
    """)
    assert int(printed) < 512  # kB
