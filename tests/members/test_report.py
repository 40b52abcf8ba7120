"""The report's part on members: its numbers, from the saved model itself."""

import re

import numpy as np
import pytest

pytest.importorskip("pandas")

from thinned.cli import main
from thinned.fit.saved import load_model
from thinned.fit.uncertainty import MEMBERS, uncertainty_of


@pytest.fixture(scope="module", params=["digits", "diabetes"])
def fitted(request, tmp_path_factory):
    """The data's name, the model, whichever p was better, rows, their target and the report."""
    out = tmp_path_factory.mktemp("fitted") / "result"
    how = ["--p", "0,0.2", "--hidden", "24", "--epochs", "8", "--repeats", "1", "--quiet"]
    assert main.main(["fit", request.param, "--out", str(out), *how]) == 0
    model = load_model(out)
    frame, target, _ = model.read(request.param)
    frame = frame.iloc[:200]
    known = target[:200]
    if model.classes:
        known = np.array([model.classes.index(value) for value in known])
    report = (out / "report.html").read_text(encoding="utf-8")
    return request.param, model, frame, np.asarray(known, np.float64), report


@pytest.mark.one_in(2)
def test_members_of_the_saved_model(fitted):
    data, model, frame, target, report = fitted
    at_zero = model.training["p"] == 0
    assert 'id="members"' in report
    assert "it need not shrink with more data" in report
    assert ("refitted at p = 0.2 is saved beside it" in report) == at_zero
    known = target.astype(int) if data == "digits" else target
    both = uncertainty_of(model, frame, known)
    found = both.members
    assert (found.p, found.own) == (0.2, not at_zero)
    asked = model.members(frame, MEMBERS)
    if data == "digits":
        np.testing.assert_array_equal(found.uncertainty, asked.predictive_entropy)
        assert both.reliability.rows.sum() == 200
        assert found.images.shape == (12, 8, 8)
        # The picture of a row is the row.
        row = frame.iloc[found.least[0]]
        names = [re.fullmatch(r"pixel_(\d)_(\d)", name).groups() for name in frame.columns]
        for (i, j), value in zip(names, row, strict=True):
            assert found.images[0, int(i), int(j)] == value
    else:
        np.testing.assert_array_equal(found.uncertainty, asked.std)
        np.testing.assert_allclose(found.wrong, (asked.mean - target) ** 2, rtol=1e-6)
        assert both.reliability is None
        assert found.images is None
    assert found.kept.risk[-1] == pytest.approx(found.wrong.mean())
    assert (np.diff(found.uncertainty[found.least]) <= 0).all()
    assert found.uncertainty[found.least[-1]] >= np.sort(found.uncertainty)[-12]
