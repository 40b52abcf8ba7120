"""The command line on what came to harm: what it may answer, in one place.

It ends with 0 or 1 and its usual output; or with 2 (1 for the system's own faults) and one sentence
on stderr. Never with a traceback, and no terminal obeys a character of it.
"""

import contextlib
import io
import os

from thinned.cli import main

# How many times as much damage is tried as in the tests of every change.
MORE = int(os.environ.get("FUZZ_MORE", "1"))


def answer(*arguments):
    """Exit code, stdout and stderr; an exception that escapes is the answer's code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.main([str(argument) for argument in arguments])
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
    return code, out.getvalue(), err.getvalue()


def fault(code, out, err, usual=(0,)):
    """Why this is no answer of ours, or None where it is one."""
    if obeyed := [c for c in out + err if not (c.isprintable() or c in "\n\t")]:
        return f"a terminal obeys {obeyed[0]!r}"
    if code in usual and "Traceback" not in err:
        return None
    if code not in (1, 2):
        return f"ends with {code}"
    if not err.startswith("thinned: ") or err.count("\n") != 1:
        return f"no single sentence: {err[:200]!r}"
    return None if err.rstrip().endswith((".", "?", "!")) else f"no whole sentence: {err[-80:]!r}"
