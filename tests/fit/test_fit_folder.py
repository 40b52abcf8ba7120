"""A folder and a file appear complete or not at all."""

import json
import os

import pytest

from thinned.errors import InputError
from thinned.fit import folder
from thinned.fit.folder import check_file, check_folder, whole_file, whole_folder


def former(out):
    out.mkdir()
    (out / "metrics.json").write_text(json.dumps({"format": "thinned.fit"}))
    (out / "report.html").write_text("old")
    return out


def sentence(check, *arguments):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    return str(caught.value)


def test_a_folder_is_there_when_all_is_written(tmp_path):
    out = tmp_path / "out"
    with whole_folder(out) as made:
        (made / "report.html").write_text("new")
        assert not out.exists()
        assert made.parent == tmp_path  # the same file system: the rename is one step
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "report.html").read_text() == "new"
    other = tmp_path / "other"
    other.mkdir()
    assert out.stat().st_mode == other.stat().st_mode  # as any folder, not mkdtemp's 0700


def half_written(out, fault):
    with whole_folder(out) as made:
        (made / "report.html").write_text("half")
        raise fault


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_folder_that_failed(tmp_path, fault):
    with pytest.raises(fault):
        half_written(tmp_path / "out", fault)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_former_result_outlives_a_failed_overwrite(tmp_path, fault):
    out = former(tmp_path / "out")
    with pytest.raises(fault), whole_folder(out, overwrite=True):
        raise fault
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "report.html").read_text() == "old"


def test_a_former_result_outlives_a_failed_rename(tmp_path, monkeypatch):
    out = former(tmp_path / "out")
    rename = type(out).rename

    def failing(self, target):
        if self.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(folder, "exchanged", lambda one, other: False)
    monkeypatch.setattr(type(out), "rename", failing)
    with pytest.raises(OSError, match="No space"), whole_folder(out, overwrite=True):
        pass
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "report.html").read_text() == "old"


def test_a_former_result_is_replaced_whole(tmp_path):
    out = former(tmp_path / "out")
    with whole_folder(out, overwrite=True) as made:
        (made / "metrics.json").write_text("{}")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["metrics.json"]


def test_a_former_result_is_replaced_whole_where_there_is_no_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "exchanged", lambda one, other: False)
    test_a_former_result_is_replaced_whole(tmp_path)


def test_a_folder_that_came_meanwhile_is_not_touched(tmp_path):
    out = tmp_path / "out"

    def meanwhile():
        with whole_folder(out):
            out.mkdir()
            (out / "mine").write_text("mine")

    assert "already there" in sentence(meanwhile)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["mine"]


def test_folders_that_are_refused(tmp_path):
    out = former(tmp_path / "out")
    assert sentence(check_folder, out, False) == (
        f"{out}: this folder is already there; choose another with --out, or --overwrite it."
    )
    check_folder(out, True)
    (out / "thesis.tex").write_text("years of work")
    assert sentence(check_folder, out, True) == (
        f'{out}: holds "thesis.tex", which thinned fit did not write, so it is not overwritten.'
    )
    other = tmp_path / "other"
    other.mkdir()
    check_folder(other, True)  # empty: there is nothing to lose
    (other / "metrics.json").write_text('{"format": "of another"}')
    assert sentence(check_folder, other, True) == (
        f"{other}: not a result of thinned fit, so it is not overwritten."
    )
    file = tmp_path / "file"
    file.write_text("")
    assert sentence(check_folder, file, True) == (
        f"{file}: there is a file of that name; choose another with --out."
    )
    link = tmp_path / "link"
    link.symlink_to(out)
    assert sentence(check_folder, link, True) == (
        f"{link}: this is a link; name the folder itself."
    )
    far = tmp_path / "no" / "out"
    assert sentence(check_folder, far, False) == (
        f"{far}: there is no folder {tmp_path / 'no'} to put it in."
    )


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    out = tmp_path / "out"
    assert sentence(check_folder, out, False) == (
        f"{out}: the folder {tmp_path} cannot be written to."
    )


def test_a_file_is_there_when_all_is_written(tmp_path):
    out = tmp_path / "out.csv"
    whole_file(out, lambda path: path.write_text("new"))
    assert os.listdir(tmp_path) == ["out.csv"]
    assert out.read_text() == "new"


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")

    def fails(path):
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        whole_file(out, fails)
    assert os.listdir(tmp_path) == ["out.csv"]
    assert out.read_text() == "old"


def test_files_that_are_refused(tmp_path):
    out = tmp_path / "out.csv"
    check_file(out, False)
    out.write_text("")
    assert sentence(check_file, out, False) == (
        f"{out}: this file is already there; --overwrite replaces it."
    )
    check_file(out, True)
    assert sentence(check_file, tmp_path, True) == (
        f"{tmp_path}: this is a folder; name a file with --out."
    )
