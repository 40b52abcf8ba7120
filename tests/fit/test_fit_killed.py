"""A result's folder under real ends of processes, full disks and two runs at a time.

What is done between two calls of the system cannot be told apart from outside, so a process that is
killed at each of the calls that change the folder is killed everywhere.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from thinned.errors import InputError
from thinned.fit import folder as folder_module
from thinned.fit.folder import FILES, check_file, check_folder, recover, whole_file, whole_folder
from thinned.fit.lock import beside

from .material import RUN, SMALL

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="this system does not kill processes by a signal"
)

# Replaces the result `out` by one whose files hold "new", and kills itself at the n-th event with
# which Python or the C library changes a folder. Ends by 0 if there is no n-th.
WRITER = """
import os, signal, sys
from pathlib import Path
from thinned.fit import exchange, folder
from thinned.fit.folder import FILES, whole_folder

at, with_exchange = int(sys.argv[1]), sys.argv[2] == "exchange"
count = 0

def event():
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)

CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "open", "shutil.rmtree"}
sys.addaudithook(lambda name, _: event() if name in CHANGES else None)
if with_exchange:
    trade = exchange._exchange
    def traded(*names):
        event()
        code = trade(*names)
        event()
        return code
    exchange._exchange = traded
else:
    folder.exchanged = lambda one, other: False

count = 0
with whole_folder(Path("out"), overwrite=True) as made:
    for name in sorted(FILES):
        text = '{"format": "thinned.fit", "made": "new"}' if name == "metrics.json" else "new"
        (made / name).write_text(text)
print(count)
"""


def former(out):
    out.mkdir()
    for name in FILES:
        (out / name).write_text("old")
    (out / "metrics.json").write_text('{"format": "thinned.fit", "made": "old"}')
    return out


def state(out):
    """ "old" or "new" if the folder is whole, and never anything between."""
    assert {path.name for path in out.iterdir()} == FILES
    found = {path.read_text() for path in out.iterdir() if path.name != "metrics.json"}
    found.add(json.loads((out / "metrics.json").read_text())["made"])
    assert len(found) == 1, found
    return found.pop()


def killed_at(n, way, here):
    arguments = [sys.executable, "-c", WRITER, str(n), way]
    return subprocess.run(arguments, cwd=here, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_a_process_killed_anywhere_leaves_the_old_result_or_the_new_one(tmp_path, way):
    seen, n = [], 0
    while True:
        n += 1
        here = tmp_path / str(n)
        here.mkdir()
        out = former(here / "out")
        done = killed_at(n, way, here)
        if done.returncode == 0:
            assert os.listdir(here) == ["out"]
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if way == "exchange":  # at no moment is there no folder
            state(out)
        recover(out)  # what the next start does
        seen.append(state(out))
        with whole_folder(out, overwrite=True) as made:
            assert sorted(os.listdir(here)) == sorted(
                ["out", made.name, beside(out, "lock").name]
            )  # the next start clears what the killed one left
            (made / "metrics.json").write_text('{"format": "thinned.fit"}')
        assert os.listdir(here) == ["out"]
    assert seen[0] == "old"
    assert "new" in seen
    assert sorted(seen, reverse=True) == seen  # from the old to the new, once
    assert len(seen) >= len(FILES) + 4


def test_predict_puts_back_what_a_killed_run_moved_away(here, command, monkeypatch):
    from .test_fit_damage import small

    out = here / "model"
    out.mkdir()
    folder_module.write_whole(out / "metrics.json", b'{"format": "thinned.fit"}')
    from thinned.fit.saved import save_model

    save_model(small(), out)
    (here / "new.csv").write_text("height,sort\n1.5,red\n")
    _, expected, _ = command("predict", "model", "new.csv")
    out.rename(beside(out, "old"))
    assert command("predict", "model", "new.csv") == (0, expected, "")
    assert sorted(os.listdir(here)) == ["model", "new.csv"]


def test_two_renames_do_not_leave_the_folder_behind(tmp_path):
    """Planted: without recovery, a process killed between the two renames leaves no folder."""
    lost = 0
    for n in range(1, 40):
        here = tmp_path / str(n)
        here.mkdir()
        out = former(here / "out")
        if killed_at(n, "two renames", here).returncode == 0:
            break
        lost += not out.exists()
    assert lost == 1


# ------------------------------------------------------------------------------------ two at a time

HOLDER = """
import sys, time
from pathlib import Path
from thinned.fit.folder import whole_folder
with whole_folder(Path(sys.argv[1]), overwrite=True) as made:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(here):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_is_refused_before_it_computes(here, holder, refused):
    start = time.monotonic()
    said = refused("fit", "digits", "--overwrite", "--out", "out", "--hidden", "4096,4096,4096")
    assert said == (
        "out: another run of thinned is writing it; wait until it has ended, or choose another "
        "with --out."
    )
    assert time.monotonic() - start < 30
    with whole_folder(here / "other"):  # another folder is another matter
        pass
    holder.communicate("\n")
    assert holder.returncode == 0
    assert sorted(os.listdir(here)) == ["other", "out"]


def test_a_killed_run_holds_nothing(here, holder):
    holder.kill()
    holder.wait()
    assert len(os.listdir(here)) == 2  # its lock file and what it had begun
    with whole_folder(here / "out") as made:
        (made / "report.html").write_text("new")
    assert os.listdir(here) == ["out"]


def test_one_process_is_refused_as_two_are(tmp_path):
    out = tmp_path / "out"
    with whole_folder(out):
        with pytest.raises(InputError, match="another run of thinned"):
            whole_file(out, lambda path: None)
        with pytest.raises(InputError, match="another run of thinned"), whole_folder(out):
            pass
    assert os.listdir(tmp_path) == ["out"]


def test_a_killed_training_frees_its_folder_although_its_workers_live_on(here, command):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "fit", "digits", "--hidden", "512,512", "--epochs", "400",
         "--out", "out"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr.readline() == "77 networks to train.\n"
        time.sleep(1.0)
        process.kill()
        process.wait()
        assert command("fit", "wine", "--quiet", "--out", "out", *SMALL) == (0, "", "")
    finally:
        process.stderr.close()
        with suppress(ProcessLookupError):  # they have noticed, and ended
            os.killpg(process.pid, signal.SIGKILL)
    assert os.listdir(here) == ["out"]


def test_many_runs_at_a_time_leave_one_whole_result(here):
    # All of them replace one result. Each is either refused at once, or its result is there.
    line = WRITER.replace("print(count)", 'print("written")')
    arguments = [sys.executable, "-c", line, "-1", "exchange"]
    former(here / "out")
    runs = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for run in runs:
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0 or "InputError: out: another run" in err, err
    assert any(run.returncode == 0 for run in runs)
    assert state(here / "out") == "new"
    assert os.listdir(here) == ["out"]


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def none(handle):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("thinned.fit.lock._lock", none)
    left = beside(tmp_path / "out", "12345678.part")
    left.mkdir()  # of a run that may be alive
    with whole_folder(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(["out", left.name])


# ------------------------------------------------------------------------- where it cannot be


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "重" * 86])
def test_a_name_that_is_too_long_is_found_first(tmp_path, name, overwrite):
    for check in (check_folder, check_file):
        with pytest.raises(InputError, match="File name too long"):
            check(tmp_path / name, overwrite)


@pytest.mark.parametrize("name", ["x" * 250, "x" * 255, "é" * 127, "重" * 85, "\x1b[31m" * 50])
def test_a_name_of_the_longest_kind_is_no_obstacle(tmp_path, name):
    with whole_folder(tmp_path / name) as made:
        (made / "report.html").write_text("new")
    with whole_folder(tmp_path / (name[:-1] + "y")) as made:
        pass
    whole_file(tmp_path / (name[:-1] + "z"), lambda path: path.write_text("new"))
    assert len(os.listdir(tmp_path)) == 3


def test_a_path_that_is_too_long_is_found_first(tmp_path):
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    parent = tmp_path
    while len(str(parent)) < longest - 300:
        parent = parent / ("d" * 200)
    parent = parent / ("d" * (longest - 30 - len(str(parent)) - 1))
    parent.mkdir(parents=True)
    out = parent / "y"  # it fits, and what has to be written beside it does not
    for check in (check_folder, check_file):
        with pytest.raises(InputError, match="File name too long"):
            check(out, False)
    with whole_folder(parent.parent / "out"):
        pass


@pytest.mark.parametrize("out", ["", ".", "..", "/", "a/.."])
def test_what_names_nothing_new(here, refused, out):
    (here / "a").mkdir()
    assert refused("fit", "wine", "--out", out).endswith("this names no new folder or file.")


def test_what_stands_in_the_place(here, refused, mixed_csv):
    (here / "file").write_text("")
    (here / "loop").symlink_to("loop")
    (here / "dangling").symlink_to("nowhere")
    for out, said in {
        "file": "there is a file of that name",
        "file/out": "there is no folder",
        "none/out": "there is no folder",
        "loop/out": "Too many levels of symbolic links",
        "dangling": "this is a link",
        "loop": "this is a link",
    }.items():
        assert said in refused("fit", "wine", "--overwrite", "--out", out)
    os.mkfifo("pipe")
    for out, said in {
        "/dev/null": "this is a device or a pipe",
        "pipe": "this is a device or a pipe",
        "dangling": "this is a link",
        "loop": "this is a link",
        ".": "names no new",
    }.items():
        assert said in refused("predict", "none", mixed_csv, "--overwrite", "--out", out)
    assert sorted(os.listdir()) == ["dangling", "file", "loop", "pipe"]


def as_nobody(line, here):
    """Run a line of Python as a user who owns nothing."""
    drop = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
    imports = "from pathlib import Path; from thinned.fit.folder import *; "
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}{drop}{line}"], cwd=here, capture_output=True, text=True
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else "fine"


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


@needs_root
def test_what_belongs_to_others(tmp_path):
    for parent in (tmp_path, *tmp_path.parents):  # pytest's own folders are its user's alone
        own = parent.name.startswith(("pytest", "popen-", "test_"))
        if own and parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    here = tmp_path / "shared"
    here.mkdir()
    former(here / "out")
    (here / "file").write_text("")
    folder, file = "check_folder(Path('out'), True)", "check_file(Path('file'), True)"
    assert "cannot be written to" in as_nobody(folder, here)
    assert "cannot be written to" in as_nobody(file, here)
    here.chmod(0o1777)  # as /tmp: who does not own an entry cannot rename it
    (here / "out").chmod(0o777)
    assert "may not be replaced" in as_nobody(folder, here)
    assert "may not be replaced" in as_nobody(file, here)
    here.chmod(0o777)
    assert as_nobody(folder, here) == "fine"
    assert as_nobody(file, here) == "fine"
    (here / "out").chmod(0o755)  # its files could not be taken away
    assert "may not be replaced" in as_nobody(folder, here)


@pytest.fixture
def mounted(tmp_path):
    """A file system of 256 KiB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_small_disk_is_found_first(mounted, command):
    code, _, err = command("fit", "wine", "--out", mounted / "out", "--hidden", "512,512")
    assert code == 2
    assert "bytes left, and at least" in err
    assert os.listdir(mounted) == []


def test_a_disk_that_fills_up_names_the_file(mounted, command):
    out = mounted / "out"

    def fill(size):
        with whole_folder(out) as made:
            folder_module.write_whole(made / "model.json", b"x" * size)

    with pytest.raises(OSError, match="No space left") as caught:
        fill(2**20)
    assert caught.value.filename == str(out / "model.json")
    with pytest.raises(OSError, match="No space left") as caught:
        whole_file(mounted / "out.csv", lambda path: path.write_bytes(b"x" * 2**20))
    assert caught.value.filename == str(mounted / "out.csv")
    assert os.listdir(mounted) == []


def test_a_place_where_a_file_system_begins(mounted, command):
    code, _, err = command("fit", "wine", "--out", mounted, "--overwrite")
    assert code == 2
    assert "a file system begins here" in err


def test_a_file_system_that_is_only_read(mounted, command):
    done = subprocess.run(["mount", "-o", "remount,ro", str(mounted)], capture_output=True)
    if done.returncode:
        pytest.skip("it cannot be made so here")
    for arguments in (["fit", "wine"], ["predict", "none", "wine"]):
        code, _, err = command(*arguments, "--out", mounted / "out")
        assert code == 2
        assert "cannot be written" in err


@pytest.mark.long
def test_a_limit_on_files_is_one_sentence_that_names_the_file(here):
    # The weights of 64 x 64 units are past it.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))"
    arguments = ["fit", "wine", "--quiet", *SMALL, "--hidden", "64,64", "--out", "out"]
    line = [sys.executable, "-c", f"{limit}; {RUN}", *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    said = "thinned: out/model.safetensors: File too large.\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert os.listdir() == []


def test_standard_output_that_is_full_or_closed(here):
    cases = [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
    for shell, reason in cases:
        for arguments in ("schedule early", "--help"):
            line = f'{sys.executable} -c "{RUN}" {arguments} {shell}'
            done = subprocess.run(line, shell=True, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (1, f"thinned: standard output: {reason}.\n")


def test_the_limit_is_this_systems_own(tmp_path):
    """Planted: a name beside it that grows with the name is what is too long."""
    with pytest.raises(OSError, match="File name too long"):
        (tmp_path / f".{'x' * 250}.12345678.part").mkdir()
