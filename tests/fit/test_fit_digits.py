"""The main job as it comes, with every default: what `make demo` runs."""

import json

import pytest

from thinned.cli import main


@pytest.mark.long
def test_digits_with_the_defaults(tmp_path):
    folder = tmp_path / "digits"
    assert main.main(["fit", "digits", "--quiet", "--out", str(folder)]) == 0
    found = json.loads((folder / "metrics.json").read_text())
    assert found["test"]["accuracy"] >= 0.97
