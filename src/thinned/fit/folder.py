"""A result's folder and a file of predictions: there whole, or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thinned.errors import InputError, quoted
from thinned.fit.exchange import exchanged
from thinned.fit.facts import read_json
from thinned.fit.lock import beside, locked

__all__ = [
    "FILES",
    "SEVERAL",
    "TOOK",
    "check_file",
    "check_folder",
    "folders_of",
    "named",
    "recover",
    "whole_file",
    "whole_folder",
    "write_whole",
]

# The last of them says how long it took; all others are equal for equal runs.
TOOK = "took.json"
FILES = frozenset(
    ("report.html", "metrics.json", "predictions.csv", "model.json", "model.safetensors", TOOK)
)

# What metrics.json says its format is: of one target, and of several with a folder for each.
SINGLE, SEVERAL = "thinned.fit", "thinned.fit targets"
_FOLDER = re.compile(r"[0-9]+(-[a-z0-9-]+)?")


def folders_of(folder: Path) -> tuple[str, ...]:
    """The names of the folders that a result of several targets has in it; of one it has none.

    Raises
    ------
    InputError if it names others than `thinned fit` makes.
    """
    path = folder / "metrics.json"
    try:
        there = stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # what is wrong with it is said by who reads a result of one
        there = False
    if not there:
        return ()
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format") != SEVERAL:
        return ()
    targets = facts.get("targets")
    found = [one.get("folder") for one in targets or [] if isinstance(one, dict)]
    names = tuple(one for one in found if isinstance(one, str) and _FOLDER.fullmatch(one))
    if not found or len(names) < len(found):
        raise InputError(f"{path}: damaged or edited, the folders of the targets are not in it.")
    return names


def check_folder(out: Path, overwrite: bool, room: int = 0) -> None:
    """Refuse, before anything is computed, a folder that could not be written in the end.

    room : int. Bytes that it will take at the least.
    """
    there = _place(out, max(FILES, key=len))
    _check_room(out, room)
    if there is None:
        return
    if stat.S_ISLNK(there.st_mode):
        raise InputError(f"{out}: this is a link; name the folder itself.")
    if not stat.S_ISDIR(there.st_mode):
        raise InputError(f"{out}: there is a file of that name; choose another with --out.")
    if not overwrite:
        raise InputError(
            f"{out}: this folder is already there; choose another with --out, or --overwrite it."
        )
    if os.path.ismount(out):
        raise InputError(f"{out}: a file system begins here; name a folder in it.")
    if not os.access(out, os.R_OK | os.W_OK | os.X_OK) or _is_kept(out, there):
        raise InputError(f"{out}: this folder may not be replaced; choose another with --out.")
    inside = {path.name for path in out.iterdir()}
    if inside and not _is_result(out):
        raise InputError(f"{out}: not a result of thinned fit, so it is not overwritten.")
    parts = folders_of(out)
    within = {f"{part}/{path.name}" for part in parts for path in (out / part).glob("*")}
    strange = sorted(inside - FILES - {*parts})
    strange += sorted(path for path in within if path.partition("/")[2] not in FILES)
    if strange:
        raise InputError(
            f"{out}: holds {quoted(strange[0])}, which thinned fit did not write, so it is not "
            "overwritten."
        )


def check_file(out: Path, overwrite: bool) -> None:
    """Refuse a file that is there already, or could not be written."""
    there = _place(out)
    if there is None:
        return
    if stat.S_ISDIR(there.st_mode):
        raise InputError(f"{out}: this is a folder; name a file with --out.")
    if stat.S_ISLNK(there.st_mode):
        raise InputError(f"{out}: this is a link; name the file itself.")
    if not stat.S_ISREG(there.st_mode):
        raise InputError(f"{out}: this is a device or a pipe; name a file with --out.")
    if not overwrite:
        raise InputError(f"{out}: this file is already there; --overwrite replaces it.")
    if _is_kept(out, there):
        raise InputError(f"{out}: this file may not be replaced; choose another with --out.")


def _place(out: Path, inside: str = "") -> os.stat_result | None:
    """What is at a path that something can be written to; None where nothing is yet.

    inside : str. The longest name in the folder `out`, for paths have a longest length, too.
    """
    if out.name in ("", ".."):
        raise InputError(f"{out}: this names no new folder or file.")
    parent = out.absolute().parent
    if _found(out, f"{parent}{os.sep}") is None:
        raise InputError(f"{out}: there is no folder {parent} to put it in.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{out}: the folder {parent} cannot be written to.")
    there = _found(out, str(out.absolute()))
    if there is None or stat.S_ISDIR(there.st_mode):
        for path in (out.absolute(), beside(out, "12345678.part")):
            _found(out, os.path.join(path, inside))
    return there


def _found(out: Path, path: str) -> os.stat_result | None:
    """What is at a path on the way to `out`."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as reason:
        raise InputError(
            f"{out}: this cannot be written ({reason.strerror}); choose another with --out."
        ) from None
    except ValueError:  # a zero character, or one that no name has in this locale
        raise InputError(f"{out}: this cannot be the name of a file.") from None


def _check_room(out: Path, room: int) -> None:
    disk = shutil.disk_usage(out.absolute().parent)
    if disk.total and disk.free < room:  # a file system that does not tell answers 0
        raise InputError(
            f"{out}: the disk has {disk.free:,} bytes left, and at least {room:,} are needed."
        )


def _is_kept(out: Path, there: os.stat_result) -> bool:
    """Whether its folder, as /tmp does, lets only an entry's owner rename it."""
    if sys.platform == "win32":
        return False
    parent = out.absolute().parent.stat()
    owners = (0, parent.st_uid, there.st_uid)
    return bool(parent.st_mode & stat.S_ISVTX) and os.geteuid() not in owners


def _is_result(folder: Path) -> bool:
    try:
        facts = read_json(folder / "metrics.json")
    except InputError:
        return False
    return isinstance(facts, dict) and facts.get("format") in (SINGLE, SEVERAL)


# ------------------------------------------------------------------------------------------ writing


@contextmanager
def whole_folder(out: Path, overwrite: bool = False, room: int = 0) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all is written, and vanishes otherwise.

    Whoever computes what is to be written does it in here: what can be known to go wrong is found
    on entering, and no other run of thinned writes `out` meanwhile.

    Raises
    ------
    InputError if `out` cannot be written, or another run is writing it.
    """
    with _reserved(out):
        check_folder(out, overwrite, room)
        made = Path(tempfile.mkdtemp(".part", beside(out, "").name, out.absolute().parent))
        try:
            yield made
            made.chmod(0o777 & ~_umask())  # mkdtemp's folders are their owner's alone
            check_folder(out, overwrite, 0)  # again: the computing took its time
            _replace(made, out)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def whole_file(out: Path, write: Callable[[Path], object], overwrite: bool = True) -> None:
    """Let `write` fill a file beside, and give it the name `out` when it is complete.

    Computing belongs into `write`, as into `whole_folder`. Raises as that does.
    """
    with _reserved(out):
        check_file(out, overwrite)
        handle, name = tempfile.mkstemp(".part", beside(out, "").name, out.absolute().parent)
        os.close(handle)
        made = Path(name)
        try:
            with named(made):
                write(made)
                _to_disk(made)
            made.chmod(0o666 & ~_umask())
            check_file(out, overwrite)
            made.replace(out)
        finally:
            made.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file down to the disk, or raise an OSError that names it."""
    with named(path):
        path.write_bytes(content)
        _to_disk(path)


def recover(out: Path) -> None:
    """Put back the former result whose replacement was ended between two steps."""
    if not os.path.lexists(out) and os.path.lexists(beside(out, "old")):
        with _reserved(out):
            pass


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError in here that names no file is about this one: a full disk does not say where."""
    try:
        yield
    except OSError as reason:
        if reason.filename is not None or reason.errno is None:
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from None


@contextmanager
def _reserved(out: Path) -> Iterator[None]:
    """No other run writes `out`. What an ended one left is settled; errors name what `out` holds
    and not what it is called while it is written.
    """
    _place(out)
    unfinished = str(beside(out, ""))
    try:
        with locked(out) as sure:
            if sure:
                _settle(out)
            yield
    except OSError as reason:
        name = str(reason.filename)
        if not name.startswith(unfinished):
            raise
        inside = name.removeprefix(unfinished).partition(os.sep)[2]
        raise OSError(reason.errno, reason.strerror, str(out / inside)) from None


def _settle(out: Path) -> None:
    """Bring `out` into the state it was in before, or after, a run that was killed."""
    old, target = beside(out, "old"), out.absolute()
    if old.exists():
        if not target.exists():
            old.rename(target)
        elif _is_result(target):
            shutil.rmtree(old)
    for left in target.parent.glob(beside(out, "*.part").name):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _replace(made: Path, out: Path) -> None:
    """Give `made` the name `out`, where a former result may stand, which then goes."""
    out = out.absolute()
    if not out.exists():
        made.rename(out)
    elif not exchanged(made, out):
        old = beside(out, "old")
        out.rename(old)
        try:
            made.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _to_disk(path: Path) -> None:
    # What a full or a distant disk has to say, some file systems say only now.
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
