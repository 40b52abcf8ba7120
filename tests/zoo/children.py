"""Each model in a process of its own: one that hangs or crashes takes nothing along."""

import json
import os
import resource
import select
import signal
import sys
import time
import traceback

SECONDS = 240
PATIENCE = 20
MEMORY = 4 << 30


def in_child(work, seconds=SECONDS, memory=MEMORY, patience=PATIENCE):
    """What `work(said)` returns, or {"died": why}. It forks, so that what is imported stays.

    seconds : the processor's time that it may take, which does not depend on what else runs here.
        After `patience` times as long by the clock it hangs.
    """
    receive, send = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _work(work, send, memory, seconds)
    os.close(send)
    lines, late = _lines(receive, time.monotonic() + patience * seconds)
    if late:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    stages = [line["stage"] for line in lines if "stage" in line]
    answers = [line["answer"] for line in lines if "answer" in line]
    if answers:
        return answers[-1]
    at = f" at {stages[-1]}" if stages else ""
    rows = [line["row"] for line in lines if "row" in line]
    if late:
        return {"died": f"not ready after {patience * seconds} s{at}", "rows": rows}
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return {"died": f"not ready after {seconds} s of the processor's{at}", "rows": rows}
    return {"died": f"the process ended with {_ending(status)}{at}", "rows": rows}


def _ending(status):
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"code {os.WEXITSTATUS(status)}"


def _work(work, send, memory, seconds):
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if not os.environ.get("ZOO_LOUD"):
            os.dup2(quiet, 2)

        def said(**line):
            os.write(send, (json.dumps(line) + "\n").encode())

        said(answer=work(said))
        code = 0
    except BaseException as error:
        where = traceback.format_exc() if os.environ.get("ZOO_LOUD") else ""
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"
        os.write(send, (json.dumps({"answer": {"died": text}}) + "\n").encode())
    finally:
        os._exit(code)


def _lines(receive, deadline):
    """All lines until the other end is closed, and whether it was not by then."""
    kept = b""
    while True:
        left = deadline - time.monotonic()
        ready = select.select([receive], [], [], max(0, left))[0] if left > 0 else []
        if not ready:
            late = True
            break
        part = os.read(receive, 1 << 16)
        if not part:
            late = False
            break
        kept += part
    os.close(receive)
    whole = kept[: kept.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], late
