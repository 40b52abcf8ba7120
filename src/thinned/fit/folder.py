"""A result's folder and a file of predictions: there whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thinned.fit.errors import InputError, quoted

__all__ = ["FILES", "check_file", "check_folder", "whole_file", "whole_folder"]

FILES = frozenset(
    ("report.html", "metrics.json", "predictions.csv", "model.json", "model.safetensors")
)


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse, before anything is computed, a folder that could not be written in the end."""
    _check_parent(out)
    if out.is_symlink():
        raise InputError(f"{out}: this is a link; name the folder itself.")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: there is a file of that name; choose another with --out.")
    if not overwrite:
        raise InputError(
            f"{out}: this folder is already there; choose another with --out, or --overwrite it."
        )
    inside = {path.name for path in out.iterdir()}
    if inside and not _is_result(out):
        raise InputError(f"{out}: not a result of thinned fit, so it is not overwritten.")
    strange = sorted(inside - FILES)
    if strange:
        raise InputError(
            f"{out}: holds {quoted(strange[0])}, which thinned fit did not write, so it is not "
            "overwritten."
        )


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not path.name:
        raise InputError(f"{path}: this names no new folder or file.")
    if not parent.is_dir():
        raise InputError(f"{path}: there is no folder {parent} to put it in.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {parent} cannot be written to.")


def _is_result(folder: Path) -> bool:
    try:
        facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.get("format") == "thinned.fit"


@contextmanager
def whole_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all is written, and vanishes otherwise."""
    out = out.absolute()
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        yield made
        made.chmod(0o777 & ~_umask())  # mkdtemp's folders are their owner's alone
        check_folder(out, overwrite)  # again: the computing took its time
        if out.exists():
            _exchange(made, out)
        else:
            made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _exchange(made: Path, out: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    try:
        out.rename(old / "result")
        try:
            made.rename(out)
        except BaseException:
            (old / "result").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_file(out: Path, overwrite: bool) -> None:
    """Refuse a file that is there already, or could not be written."""
    _check_parent(out)
    if out.is_dir():
        raise InputError(f"{out}: this is a folder; name a file with --out.")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: this file is already there; --overwrite replaces it.")


def whole_file(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside, and give it the name `out` when it is complete."""
    out = out.absolute()
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent)
    os.close(handle)
    made = Path(name)
    try:
        write(made)
        made.chmod(0o666 & ~_umask())
        made.replace(out)
    finally:
        made.unlink(missing_ok=True)
