"""What GitHub and a release read: workflows, forms, the citation, and the check of a tag."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import thinned

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
on_github = pytest.mark.skipif(
    not GITHUB.is_dir(), reason="a source distribution has no files for GitHub"
)


def loaded(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def workflow(name):
    """A workflow; YAML 1.1 takes the key `on` for True."""
    found = loaded(f".github/workflows/{name}.yml")
    return {"on" if key is True else key: value for key, value in found.items()}


# ----------------------------------------------------------------------------------- the workflows


@on_github
def test_every_workflow_is_one():
    names = sorted(path.stem for path in (GITHUB / "workflows").glob("*.yml"))
    assert names == ["ci", "release", "wheels"]
    for name in names:
        found = workflow(name)
        assert {"name", "on", "permissions", "jobs"} <= set(found), name
        assert found["permissions"] == {"contents": "read"}
        for job in found["jobs"].values():
            assert ("uses" in job) != ("runs-on" in job and "steps" in job)
            for needed in [job.get("needs", [])] if isinstance(job.get("needs"), str) else []:
                assert needed in found["jobs"]


@on_github
def test_ci_runs_the_pythons_that_are_promised():
    prefix = "Programming Language :: Python :: "
    promised = [
        line.removeprefix(prefix)
        for line in PROJECT["project"]["classifiers"]
        if line.startswith(prefix)
    ]
    matrix = workflow("ci")["jobs"]["python"]["strategy"]["matrix"]
    assert matrix["python"] == promised
    assert f">={promised[0]}" == PROJECT["project"]["requires-python"]
    systems = {runner.partition("-")[0] for runner in matrix["runner"]}
    assert systems == {"ubuntu", "macos", "windows"}
    wheels = PROJECT["tool"]["cibuildwheel"]["build"]
    assert {name for name in wheels if "t-" not in name} == {
        f"cp{version.replace('.', '')}-*" for version in promised
    }


def pinned():
    """The release of PyTorch that is developed with."""
    (found,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    return found


def test_one_release_of_pytorch_is_developed_with():
    for name in ("Makefile", "pyproject.toml"):
        found = re.findall(
            r"(?i)install\)? .*?torch==(\d\S*)", (ROOT / name).read_text(encoding="utf-8")
        )
        assert found == [pinned()], name
    page = (ROOT / "docs/torch.md").read_text(encoding="utf-8")
    assert f"developed against PyTorch {pinned().rpartition('.')[0]} " in page


@on_github
def test_the_releases_of_pytorch_that_ci_runs_are_those_that_the_page_names():
    page = " ".join((ROOT / "docs/torch.md").read_text(encoding="utf-8").split())
    (listed,) = re.findall(r"release it names; ([^;]*?) pass\.", page)
    tested = workflow("ci")["jobs"]["torch"]["strategy"]["matrix"]["release"]
    assert sorted(re.findall(r"\d+\.\d+\.\d+", listed)) == sorted([*tested, pinned()])


@on_github
def test_targets_that_ci_makes_are_there():
    rules = re.findall(r"^([\w.%-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    patterns = [re.escape(rule).replace("%", ".+") for rule in rules]
    steps = [step for job in workflow("ci")["jobs"].values() for step in job["steps"]]
    made = [step["run"].removeprefix("make ") for step in steps if "run" in step]
    made = [target for target in made if "\n" not in target and not target.startswith("python ")]
    assert len(made) == 6
    for target in made:
        assert any(re.fullmatch(pattern, target) for pattern in patterns), target


@on_github
def test_only_a_checked_build_of_a_tag_is_published():
    release, wheels = workflow("release"), workflow("wheels")
    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert set(wheels["on"]) == {"workflow_call", "workflow_dispatch"}
    jobs = release["jobs"]
    order = [jobs["publish"]["needs"], jobs["check"]["needs"], jobs["build"]["needs"]]
    assert order == ["check", "build", "agrees"]
    with_tokens = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert with_tokens == ["publish"]
    uploaded = [
        step["with"]["name"]
        for job in wheels["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    assert len(uploaded) == len(wheels["jobs"])
    assert all(name.startswith("dist-") for name in uploaded)
    for name in ("check", "publish"):
        (download,) = [
            step for step in jobs[name]["steps"] if "with" in step and "pattern" in step["with"]
        ]
        assert download["with"] == {"pattern": "dist-*", "path": "dist", "merge-multiple": True}


@on_github
def test_forms_have_what_a_report_needs():
    bug, method = (loaded(f".github/ISSUE_TEMPLATE/{name}.yml") for name in ("bug", "method"))
    for form in (bug, method):
        assert {"name", "description", "body"} <= set(form)
        fields = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(set(fields)) == len(fields)
    required = {
        field["id"]
        for form in (bug, method)
        for field in form["body"]
        if field.get("validations", {}).get("required")
    }
    assert {"kernel", "versions", "code", "paper", "law"} <= required
    (kernel,) = [field for field in bug["body"] if field.get("id") == "kernel"]
    (command,) = re.findall(r'python -c "(.+)"', kernel["attributes"]["description"])
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("KernelInfo("), done.stderr


# ----------------------------------------------------------------------------------- the citation


def test_the_citation_is_that_of_this_version():
    citation = loaded("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == thinned.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == [{"name": "The Thinned authors"}]
    (paper,) = citation["references"]
    assert (paper["year"], paper["start"]) == (2014, 1929)


# ----------------------------------------------------------------------------------- a release


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The check, over a copy of the files that it reads, of a version that is ready."""
    spec = importlib.util.spec_from_file_location("check_release", ROOT / "wheels/check_release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {
        "src/thinned/version.py": '__version__ = "1.2.3"\n',
        "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.3\n",
        "CHANGELOG.md": "# Changes\n\n## 1.2.3 (2026-12-01)\n\n- **added**: x.\n",
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_a_tag_that_agrees_may_be_released(release):
    assert list(release.wrong_of_tag("v1.2.3")) == []


@pytest.mark.parametrize(
    ("tag", "file", "old", "new", "sentence"),
    [
        ("v1.2.4", "CITATION.cff", "", "", "the tag is v1.2.4, and thinned.__version__ is 1.2.3"),
        ("1.2.3", "CITATION.cff", "", "", "the tag is 1.2.3, and thinned.__version__ is 1.2.3"),
        ("v1.2.3", "CITATION.cff", "1.2.3", "1.2.2", "CITATION.cff has version 1.2.2"),
        ("v1.2.3", "CHANGELOG.md", "2026-12-01", "not released yet", "CHANGELOG.md has no section"),
        ("v1.2.3", "CHANGELOG.md", "1.2.3", "1.2.30", "CHANGELOG.md has no section"),
    ],
)
def test_a_tag_that_does_not_agree_is_refused(release, tag, file, old, new, sentence):
    path = release.ROOT / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new) if old else path.read_text())
    (said,) = release.wrong_of_tag(tag)
    assert said.startswith(sentence)


def built(release):
    """The names of a whole release, as auditwheel, delocate and the build give them."""
    ends = (
        "manylinux_2_27_x86_64.manylinux_2_28_x86_64", "manylinux_2_28_aarch64",
        "macosx_10_14_x86_64", "macosx_11_0_arm64", "win_amd64",
    )  # fmt: skip
    wheels = {
        f"thinned-1.2.3-{python.removesuffix('t')}-{python}-{end}.whl"
        for python in release.pythons()
        for end in ends
    }
    return wheels | {"thinned-1.2.3.tar.gz"}


def test_a_whole_release_is_whole(release):
    assert len(built(release)) == 26
    assert list(release.wrong_of_files(built(release), "1.2.3")) == []


@pytest.mark.parametrize("place", range(26))
def test_a_missing_file_is_noticed(release, place):
    files = sorted(built(release))
    assert len(list(release.wrong_of_files({*files} - {files[place]}, "1.2.3"))) == 1


@pytest.mark.parametrize("file", [
    "thinned-1.2.2.tar.gz",
    "thinned-1.2.3-cp311-cp311-musllinux_1_2_x86_64.whl",
    "thinned-1.2.3-cp310-cp310-win_amd64.whl",
    "notes.txt",
])  # fmt: skip
def test_a_file_too_many_is_noticed(release, file):
    (said,) = release.wrong_of_files(built(release) | {file}, "1.2.3")
    assert said == f"{file} is no part of this release"


@pytest.mark.parametrize("place", range(3))
def test_two_wheels_for_one_system_are_noticed(release, place):
    wheel = sorted(name for name in built(release) if "win" in name)[place]
    twice = wheel.replace("win_amd64", "win_32_amd64")
    (said,) = release.wrong_of_files(built(release) | {twice}, "1.2.3")
    assert said.startswith("there are 2 wheels, not one, for ")
