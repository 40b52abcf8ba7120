"""Exported models answer in onnxruntime what they answer here."""

import numpy as np
import pandas as pd
import pytest

import thinned.fit
from thinned.fit import export as export_module

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

LITTLE = {"p": (0, 0.2), "hidden": (16, 8), "epochs": 4, "repeats": 1, "jobs": 1}


def table(rows=300):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "large": rng.normal(size=rows) * 1e8 + 1e9,
            "kind": rng.choice(["x", "y", "größe"], rows),
            "many": rng.choice([f"t{i}" for i in range(140)], rows),
            "flag": rng.random(rows) > 0.5,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, rows), "D"),
        }
    )
    frame.loc[::7, "a"] = np.nan
    frame.loc[::5, "kind"] = None
    frame["y"] = frame["a"].fillna(0) * 1e6 + rng.normal(size=rows)
    return frame


def with_news(frame):
    """The same rows, some of whose texts no fit has seen."""
    out = frame.copy()
    out.loc[1, "kind"] = "new"
    out.loc[2, "many"] = "newer"
    return out


def ran(result, frame, path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, result.onnx_inputs(frame))


@pytest.mark.parametrize("labels", ["texts", "numbers", "truths"])
@pytest.mark.one_in(3)
def test_classes(tmp_path, labels):
    frame = table()
    high = frame["y"] > 0
    frame["y"] = {
        "texts": np.where(high, "=high", "low"), "numbers": np.where(high, 7, 3), "truths": high,
    }[labels]  # fmt: skip
    result = thinned.fit.fit(frame, "y", keep=["many"], **LITTLE)
    result.export(tmp_path / "model.onnx")
    new = with_news(frame)
    found, shares = ran(result, new, tmp_path / "model.onnx")
    expected = result.model.predict(new)
    assert found.tolist() == [str(one) if labels == "truths" else one for one in expected]
    assert np.abs(shares - result.model.predict_proba(new)).max() < 1e-12


def test_values(tmp_path):
    frame = table()
    result = thinned.fit.fit(frame, "y", keep=["many"], **LITTLE)
    result.export(tmp_path / "model.onnx")
    (found,) = ran(result, with_news(frame), tmp_path / "model.onnx")
    expected = result.predict(with_news(frame))
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("columns", [["a"], ["kind"], ["flag"]])
def test_one_column_alone(tmp_path, columns):
    frame = table()[[*columns, "y"]]
    result = thinned.fit.fit(frame, "y", **LITTLE | {"hidden": (4,)})
    result.export(tmp_path / "model.onnx")
    (found,) = ran(result, frame[:1], tmp_path / "model.onnx")
    assert found == pytest.approx(result.predict(frame[:1]))


def test_the_command_writes_it_whole_or_not_at_all(patients, here, command, refused):
    code, out, err = command("export", patients.folder, "model.onnx")
    assert (code, out, err) == (0, "Written to model.onnx.\n", "")
    onnx.checker.check_model(onnx.load("model.onnx"), full_check=True)
    first = (here / "model.onnx").read_bytes()
    assert refused("export", patients.folder, "model.onnx").endswith("--overwrite replaces it.")
    assert command("export", patients.folder, "model.onnx", "--overwrite")[0] == 0
    assert (here / "model.onnx").read_bytes() == first
    assert "no such folder" in refused("export", "nothing", "other.onnx")
    assert sorted(path.name for path in here.iterdir()) == ["model.onnx"]


def test_without_onnx_it_is_said_what_to_install(patients, here, command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    code, _, err = command("export", patients.folder, "model.onnx")
    assert (code, err) == (
        1, 'thinned: onnx is not installed; thinned export needs: pip install "thinned[onnx]"\n'
    )  # fmt: skip
    assert list(here.iterdir()) == []


def test_a_column_with_an_outputs_name_is_refused(tmp_path):
    frame = table()[["a", "y"]].rename(columns={"a": "prediction"})
    result = thinned.fit.fit(frame, "y", **LITTLE)
    with pytest.raises(ValueError, match="as an output of the graph is"):
        result.export(tmp_path / "model.onnx")


def test_a_planted_fault_is_found(tmp_path, monkeypatch):
    """Without the clip, large numbers have other answers."""
    monkeypatch.setattr(export_module, "FURTHEST", 1e9)
    frame = table()
    result = thinned.fit.fit(frame, "y", **LITTLE)
    result.export(tmp_path / "model.onnx")
    frame["large"] *= 100
    (found,) = ran(result, frame, tmp_path / "model.onnx")
    assert np.abs(found - result.predict(frame)).max() > 1e-3
