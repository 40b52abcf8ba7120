"""The command line: `thinned`.

Everything that a command needs is loaded when it runs, so that `thinned --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from thinned.cli.streams import STDOUT, standard_streams
from thinned.printable import printable

__all__ = ["main"]

# Distributions of the extra [fit], by the name they are imported under.
_EXTRA = {
    "joblib",
    "matplotlib",
    "pandas",
    "pyarrow",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "threadpoolctl",
    "typer",
}
# Those of further extras.
_FURTHER = {"distributed", "onnx", "optuna", "ray"}
# Where a shell asks for completions, it says so here.
_COMPLETE = "_THINNED_COMPLETE"
# A shell's code for a program that Ctrl-C ended.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, or None for the process's own.

    Returns
    -------
    int. 0; 2 where the input cannot be used, one sentence on stderr saying why; 1 for every other
    failure; 130 after Ctrl-C.
    """
    try:
        with _asked_to_end(), standard_streams():
            code = _run(arguments)
            sys.stdout.flush()
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        return int(code or 0)
    except ImportError as missing:
        return _missing(missing)
    except BrokenPipeError:
        # The reader (head, say) has gone. What is left in the buffer has nowhere to go. The code is
        # what Typer makes of it where it is the first to notice.
        _let_go()
        return 1
    except OSError as error:
        where = "the system" if error.filename is None else error.filename
        if where == STDOUT:
            _let_go()
        return _fail(f"{where}: {error.strerror or error}.", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written.", _INTERRUPTED)
    except Exception as error:
        if type(error).__name__ == "Abort":  # what older versions of typer turn Ctrl-C into
            return _fail("interrupted; nothing was written.", _INTERRUPTED)
        # Errors of usage, whatever package their classes live in.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            told = _sentence(error.format_message())
            if told.startswith("No such command"):
                told += (
                    " `thinned --help` lists the commands, `thinned methods NAME` finds a method."
                )
            return _fail(told, 2)
        if type(error).__name__ == "StoppedError":
            return _fail(str(error), _INTERRUPTED)
        if type(error).__name__ == "InputError":
            return _fail(str(error), 2)
        if type(error).__name__ == "TerminatedWorkerError":
            return _fail("a process that trained was ended from outside; is memory short?", 1)
        raise


def _run(arguments: Sequence[str] | None) -> int | None:
    """Run the command that was typed and return its exit code; None is 0."""
    from thinned.cli import bare
    from thinned.cli.audit import audit
    from thinned.cli.plain import read

    typed = list(sys.argv[1:] if arguments is None else arguments)
    if typed[:1] == ["audit"] and _COMPLETE not in os.environ:
        given = read(audit, typed[1:])
        if given is not None:
            return audit(**given)

    if _COMPLETE not in os.environ and bare.answers(typed):
        return 0

    from thinned.cli.app import app

    # Not standalone: then errors of usage come to the caller, as all others do. The process's own
    # arguments are left for Typer to fetch, which expands them on Windows. Without any it would
    # raise its help as an error.
    asked = None if arguments is None and typed else typed or ["--help"]
    code: int | None = app(args=asked, prog_name="thinned", standalone_mode=False)
    return code


@contextmanager
def _asked_to_end() -> Iterator[None]:
    """A request to end (SIGTERM) is an interruption: what was begun is cleared away."""

    def stop(signum: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _let_go() -> None:
    """What is still to be written to standard output has nowhere to go."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _missing(error: ImportError) -> int:
    top = (error.name or "").partition(".")[0]
    if top not in _EXTRA | _FURTHER and "thinned[fit]" not in str(error):
        raise error
    if top in ("distributed", "optuna", "ray"):
        return _fail(str(error), 1)
    if top == "onnx":
        return _fail('onnx is not installed; thinned export needs: pip install "thinned[onnx]"', 1)
    name = f"{top} is" if top in _EXTRA else "scikit-learn is"
    return _fail(f'{name} not installed; the command line needs: pip install "thinned[fit]"', 1)


def _sentence(message: str) -> str:
    words = " ".join(message.split())
    return words if words.endswith((".", "?", "!")) else words + "."


def _fail(sentence: str, code: int) -> int:
    with standard_streams():
        print(f"thinned: {printable(sentence)}", file=sys.stderr)
    return code
