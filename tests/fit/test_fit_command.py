"""The command line, as it is typed: what it writes, what it says, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import thinned
from thinned.cli import main
from thinned.fit.folder import FILES, TOOK
from thinned.fit.lock import beside

from .material import RUN, SMALL, Fitted, mixed


def test_help_and_version(command):
    code, out, _ = command("--version")
    assert (code, out) == (0, f"thinned {thinned.__version__}\n")
    code, out, _ = command("fit", "--help")
    assert code == 0
    for option in ("--target", "--task", "--p", "--hidden", "--epochs", "--repeats", "--seed"):
        assert option in out
    assert "--out" in out
    assert "--quiet" in out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from thinned.cli.main import main; main(['--help']); "
        "heavy = {'sklearn', 'pandas', 'matplotlib', 'scipy', 'torch', 'jax', 'pyarrow'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------- what is written


def test_digits_whole(digits):
    assert {path.name for path in digits.folder.iterdir()} == FILES
    found = digits.metrics
    assert found["data"]["rows"] == 1797
    assert found["data"]["test_rows"] == len(digits.predictions) == 360
    assert found["settings"]["p"] == [0.0, 0.1, 0.3]
    assert [level["p"] for level in found["levels"]] == [0.0, 0.1, 0.3]
    losses = [level["validation"]["loss"]["value"] for level in found["levels"]]
    assert found["best_p"] == [0.0, 0.1, 0.3][int(np.argmin(losses))]
    assert found["test"]["accuracy"] >= 0.94
    assert found["verdict"] in ("helped", "no clear difference", "hurt")
    right = digits.predictions["target"] == digits.predictions["prediction"]
    assert right.mean() == pytest.approx(found["test"]["accuracy"])
    counts = np.array(found["confusion"])
    assert np.trace(counts) == right.sum()
    assert counts.sum() == 360


def test_what_is_said_on_the_way_and_in_the_end(digits):
    assert digits.err.startswith("17 networks to train.\n")
    assert digits.err.splitlines()[-1].startswith("17 networks trained in ")
    assert "\x1b" not in digits.out + digits.err  # no terminal: no colours, no bar
    assert digits.metrics["headline"] in digits.out
    for sentence in digits.metrics["sentences"]:
        assert f"- {sentence}" in digits.out
    assert digits.out.endswith("open result/report.html in a browser.\n")


def test_patients_whole(patients):
    found = patients.metrics
    assert found["data"]["task"] == "regression"
    assert len(found["data"]["sha256"]) == 64
    assert len(found["splits"]) == 10
    off = patients.predictions["prediction"] - patients.predictions["target"]
    assert np.sqrt((off**2).mean()) == pytest.approx(found["test"]["rmse"], rel=1e-6)
    spread = patients.predictions["target"].var(ddof=0)
    assert 1 - (off**2).mean() / spread == pytest.approx(found["test"]["r2"], rel=1e-6)


def test_the_test_part_is_rows_of_the_data(patients):
    rows = patients.predictions["row"] - 1
    assert rows.is_monotonic_increasing
    assert patients.predictions["target"].tolist() == mixed()["target"].iloc[rows].tolist()


@pytest.mark.long
def test_the_same_seed_gives_the_same_files(digits, tmp_path):
    again = Fitted(tmp_path / "result", *digits.arguments)
    for name in FILES - {TOOK}:
        assert (again.folder / name).read_bytes() == (digits.folder / name).read_bytes(), name


# --------------------------------------------------------------------------------------- predict


@pytest.mark.parametrize("which", ["digits", "patients"])
def test_predict_says_of_the_test_rows_what_predictions_csv_says(which, request, here, command):
    fitted = request.getfixturevalue(which)
    data = "digits" if which == "digits" else fitted.arguments[0]
    code, out, _ = command("predict", fitted.folder, data, "--out", "all.csv")
    assert (code, out) == (0, "")
    everything = pd.read_csv("all.csv", dtype=str).set_index("row")
    part = pd.read_csv(fitted.folder / "predictions.csv", dtype=str).set_index("row")
    pd.testing.assert_frame_equal(everything.loc[part.index], part)
    assert len(everything) == fitted.metrics["data"]["rows"]


def test_predict_without_the_target_in_another_order_of_columns_and_rows(patients, here, command):
    frame = mixed().drop(columns=["target"]).iloc[::-1, ::-1]
    frame.to_csv("new.csv", index=False)
    code, out, err = command("predict", patients.folder, "new.csv")
    assert (code, err) == (0, "")
    assert out.startswith("row,prediction\n1,")
    _, with_target, _ = command("predict", patients.folder, patients.arguments[0])
    theirs = [line.split(",")[2] for line in with_target.splitlines()[1:]]
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == theirs[::-1]


def test_predict_says_which_texts_are_new(patients, here, command):
    frame = mixed().iloc[:3]
    frame.loc[0, "build"] = "gigantic"
    frame.to_csv("new.csv", index=False)
    code, out, err = command("predict", patients.folder, "new.csv")
    assert code == 0
    assert out.count("\n") == 4
    assert err == (
        'thinned: new.csv: column "build" has 1 text that fitting did not see, "gigantic" the '
        "first.\n"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda frame: frame.drop(columns=["bmi", "sex"]),
            'new.csv: the columns are not the model\'s: missing "sex", "bmi".',
        ),
        (
            lambda frame: frame.rename(columns={"bmi": "BMI"}),
            'new.csv: the columns are not the model\'s: missing "bmi"; unexpected "BMI".',
        ),
        (
            lambda frame: frame.assign(bmi=["high", "low"] * 5),
            (
                'new.csv: column "bmi" was numeric when the model was fitted; row 1 (line 2) holds '
                '"high".'
            ),
        ),
        (
            lambda frame: frame.assign(older=["perhaps"] * 10),
            (
                'new.csv: column "older" was true or false when the model was fitted; row 1 '
                '(line 2) holds "perhaps".'
            ),
        ),
        (
            lambda frame: frame.assign(bp=[1.0] * 4 + [np.inf] * 6),
            'new.csv: column "bp", row 5 (line 6) holds an infinite number.',
        ),
        (lambda frame: frame.iloc[:0], "new.csv: the table has a header but no rows."),
    ],
)
def test_predict_refuses_other_columns(patients, here, refused, change, said):
    change(mixed().iloc[:10]).to_csv("new.csv", index=False)
    assert refused("predict", patients.folder, "new.csv", "--out", "out.csv") == said
    assert os.listdir() == ["new.csv"]


def test_predict_refuses_what_is_no_model(here, refused, digits):
    assert refused("predict", "nowhere", "digits") == (
        "nowhere: no such folder; name one that thinned fit wrote."
    )
    (here / "other").mkdir()
    assert refused("predict", "other", "digits") == (
        "other: no model.json in it; thinned fit did not write this folder."
    )
    assert refused("predict", digits.folder, "none.csv").startswith("none.csv: no such file; ")


def test_a_file_that_is_there_is_kept(here, refused, command, digits):
    (here / "out.csv").write_text("mine")
    assert refused("predict", digits.folder, "digits", "--out", "out.csv") == (
        "out.csv: this file is already there; --overwrite replaces it."
    )
    assert (here / "out.csv").read_text() == "mine"
    assert command("predict", digits.folder, "digits", "--out", "out.csv", "--overwrite")[0] == 0
    assert (here / "out.csv").read_text().startswith("row,target,prediction,probability of 0,")


def test_predictions_can_be_cut_off(digits):
    line = f'{sys.executable} -c "{RUN}" predict {digits.folder} digits | head -n 1'
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("row,target,prediction")
    assert done.stderr == ""


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digit"], "digit: no such file; did you mean digits?"),
        (["wine", "--target", "alcool"], 'wine: no column "alcool"; did you mean "alcohol"?'),
        (
            ["wine", "--p", "0,2"],
            "--p: every p must be in [0, 1), got 2. Did you pass a percentage?",
        ),
        (
            ["wine", "--hidden", "two"],
            "--hidden: two is no number of units; write 256,256 for two layers.",
        ),
        (
            ["wine", "--task", "regression"],
            'wine: the target "target" holds "class_0" in row 1; regression needs numbers.',
        ),
        (["wine", "--out", "a/b"], "a/b: there is no folder {here}/a to put it in."),
    ],
)
def test_fit_refuses(here, refused, arguments, said):
    assert refused("fit", *arguments) == said.replace("{here}", str(here))
    assert os.listdir() == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["fot"],
        ["fit", "wine", "--frobnicate"],
        ["fit", "wine", "--epochs", "0"],
        ["fit", "wine", "--epochs", "many"],
        ["fit", "wine", "--repeats", "-1"],
        ["fit", "wine", "--seed", "-1"],
        ["fit", "wine", "--seed", "4294967296"],
        ["fit", "wine", "--task", "clustering"],
        ["predict", "here"],
    ],
)
def test_usage_is_one_sentence_too(here, command, arguments):
    code, out, err = command(*arguments)
    if arguments:
        assert code == 2
        assert out == ""
        assert err.startswith("thinned: ")
        assert err.count("\n") == 1
    else:
        assert "Usage: " in out + err  # nothing was asked: what can be
    assert os.listdir() == []


def test_a_folder_that_is_there_is_refused_before_anything_is_read(here, refused):
    (here / "thinned-none").mkdir()
    assert refused("fit", "none.csv") == (
        "thinned-none: this folder is already there; choose another with --out, or --overwrite it."
    )


def test_quiet_says_nothing_and_overwrite_replaces(here, command, refused):
    arguments = ["fit", "wine", "--quiet", *SMALL]
    assert command(*arguments) == (0, "", "")
    assert os.listdir() == ["thinned-wine"]
    before = (here / "thinned-wine" / "metrics.json").read_text()
    refused(*arguments)
    assert command(*arguments, "--seed", "1", "--overwrite") == (0, "", "")
    assert {path.name for path in (here / "thinned-wine").iterdir()} == FILES
    assert (here / "thinned-wine" / "metrics.json").read_text() != before


# ------------------------------------------------------------------------------ whole or not at all


@pytest.mark.parametrize("where", ["save_model", "metrics", "write_predictions"])
@pytest.mark.one_in(3)
def test_a_fault_while_writing_leaves_nothing(here, monkeypatch, where):
    def broken(*arguments, **options):
        raise RuntimeError("planted")

    monkeypatch.setattr(f"thinned.fit.job.{where}", broken)
    with pytest.raises(RuntimeError, match="planted"):
        main.main(["fit", "wine", "--quiet", *SMALL])
    assert os.listdir() == []


def test_a_full_disk_is_one_sentence(here, monkeypatch, command):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device", "model.json")

    monkeypatch.setattr("thinned.fit.job.save_model", full)
    code, _, err = command("fit", "wine", "--quiet", *SMALL)
    assert (code, err) == (1, "thinned: model.json: No space left on device.\n")
    assert os.listdir() == []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("after", [0.1, 2.0])  # while processes start, and while they train
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_what_was_trained_or_nothing(here, ending, after):
    # Tests in a shell's background are deaf to SIGINT, and what they start would inherit that.
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    options = ["--hidden", "512,512", "--epochs", "400"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{hears}; {RUN}", "fit", "digits", *options],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr.readline() == "77 networks to train.\n"
        time.sleep(after)
        os.killpg(process.pid, ending)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    left = os.listdir()
    if left:  # some trainings had ended
        assert left == [beside(Path("thinned-digits"), "jobs").name]
        said = "interrupted; the same command goes on where it was "
        said += f"({left[0]} holds what is done)."
    else:
        said = "interrupted; nothing was written."
    assert err.endswith(f"thinned: {said}\n")


@pytest.mark.parametrize("name", ["typer", "pandas"])
def test_a_missing_extra_is_one_sentence(here, name):
    (here / "data.csv").write_text("a,b\n1,2\n")
    line = f"import sys; sys.modules[{name!r}] = None; {RUN}"
    arguments = [sys.executable, "-c", line, "fit", "data.csv"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f'thinned: {name} is not installed; the command line needs: pip install "thinned[fit]"\n'
    )


def test_a_fault_of_ours_is_not_hidden(here, monkeypatch):
    def broken(*arguments, **options):
        raise ImportError("no module of an extra", name="thinned.nothing")

    monkeypatch.setattr("thinned.fit.tables.loaded", broken)
    with pytest.raises(ImportError, match="no module of an extra"):
        main.main(["fit", "wine", *SMALL])


# ---------------------------------------------------------------------------------------- progress


@pytest.mark.long
def test_a_bar_with_the_time_left_on_a_terminal(here, monkeypatch):
    import pty

    arguments = [sys.executable, "-c", RUN, "fit", "wine", *SMALL]
    reader, writer = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=writer, env=env)
    os.close(writer)
    shown = b""
    while True:
        try:
            more = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(reader)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "12/12" in text
    assert "left" in text
    assert "\x1b[" in text


def test_metrics_are_strict_json(digits):
    def refuse(constant):
        raise AssertionError(constant)

    text = (digits.folder / "metrics.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=refuse)
