"""The installed packages: every finding in them is judged in judged.toml."""

import tomllib
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from libraries import needs

from thinned.audit import audit

PACKAGES = ("torch", "flax", "equinox", "sklearn")
JUDGED = tomllib.loads((Path(__file__).parent / "judged.toml").read_text(encoding="utf-8"))


def folder(package):
    spec = find_spec(package)
    assert spec is not None, f"{package} must be installed for this test"
    return Path(spec.origin).parent


def in_package(findings, package):
    """How often each code is found in each file, named from where packages are installed."""
    above = folder(package).parent
    return Counter((Path(f.path).relative_to(above).as_posix(), f.code) for f in findings)


def judged(package, entries):
    return Counter({(e["path"], e["code"]): e["times"] for e in entries if e["package"] == package})


def differences(found, known):
    """What is found and not judged, and what is judged and no longer found."""
    return {"not judged": dict(found - known), "vanished": dict(known - found)}


@pytest.mark.long
@pytest.mark.parametrize("package", [pytest.param(p, marks=needs(p)) for p in PACKAGES])
def test_every_finding_is_judged(package):
    report = audit([str(folder(package))])
    assert report.lines > 10_000
    found = in_package(report.findings, package)
    assert differences(found, judged(package, JUDGED["finding"])) == {
        "not judged": {},
        "vanished": {},
    }


def test_judgements_are_whole():
    for entry in JUDGED["finding"]:
        assert set(entry) == {"package", "path", "code", "times", "verdict", "because"}
        assert entry["verdict"] in ("true", "acceptable")
        assert entry["because"].endswith(".")


def test_a_new_finding_and_a_vanished_one_are_noticed():
    entry = {"package": "torch", "path": "torch/a.py", "code": "THN001", "times": 1}
    one = Counter({("torch/a.py", "THN001"): 1})
    assert differences(one, judged("torch", [entry])) == {"not judged": {}, "vanished": {}}
    assert differences(one + one, judged("torch", [entry]))["not judged"]
    assert differences(Counter(), judged("torch", [entry]))["vanished"]
    assert differences(one, judged("flax", [entry]))["not judged"]


@needs("torch")
def test_a_mistake_planted_in_a_package_is_found(tmp_path):
    """The same code as torch's own, relative imports and all, with the mode taken out."""
    text = (folder("torch") / "nn/modules/dropout.py").read_text(encoding="utf-8")
    assert "F.dropout(input, self.p, self.training, self.inplace)" in text
    spoilt = text.replace("(input, self.p, self.training, self.inplace)", "(input)", 1)
    home = tmp_path / "torch/nn/modules"
    home.mkdir(parents=True)
    for at in (tmp_path / "torch", tmp_path / "torch/nn", home):
        (at / "__init__.py").touch()
    (home / "dropout.py").write_text(spoilt, encoding="utf-8")
    assert [f.code for f in audit([str(tmp_path)]).findings] == ["THN001"]


def test_the_library_itself_is_clean():
    import thinned

    home = Path(thinned.__file__).parent
    assert audit([str(home)]).findings == ()
