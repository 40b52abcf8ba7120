"""`--fix`: what it mends, what it leaves alone, and what it does to the file."""

import os
import stat
import textwrap

import pytest

from thinned.audit import audit_source, mending
from thinned.audit.mending import mended
from thinned.cli.main import main

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
HEAD += "from flash_attn import flash_attn_func\n"


def module(*lines, base="nn.Module", name="forward", before=""):
    body = textwrap.indent("\n".join(lines), " " * 8)
    return f"{HEAD}\n{before}class Net({base}):\n    def {name}(self, x):\n{body}\n"


def fixed(text):
    data = text.encode()
    new, count = mended(data, "a.py", audit_source(data, "a.py"))
    return new.decode(), count


MENDED = {
    "F.dropout(x)": "F.dropout(x, training=self.training)",
    "F.dropout(x, 0.5)": "F.dropout(x, 0.5, training=self.training)",
    "F.dropout(x, 0.5,)": "F.dropout(x, 0.5, training=self.training,)",
    "F.dropout(x, p=(0.5))": "F.dropout(x, p=(0.5), training=self.training)",
    "F.dropout(x, ((0.5) ) )": "F.dropout(x, ((0.5) ), training=self.training )",
    "F.dropout2d( x , p = 0.5 ,inplace=True )":
        "F.dropout2d( x , p = 0.5 ,inplace=True, training=self.training )",
    "F.dropout(F.dropout(x, 0.1), 0.2)":
        "F.dropout(F.dropout(x, 0.1, training=self.training), 0.2, training=self.training)",
    "F.dropout(\n    x,  # (the input)\n    0.5,  # half, )\n)":
        "F.dropout(\n    x,  # (the input)\n    0.5, training=self.training,  # half, )\n)",
    "F.dropout(x, (\n    0.5  # )\n    )\n)":
        "F.dropout(x, (\n    0.5  # )\n    ), training=self.training\n)",
    "F.alpha_dropout(x, 0.1)": "F.alpha_dropout(x, 0.1, training=self.training)",
    "F.dropout(x['é😀'], 0.5)": "F.dropout(x['é😀'], 0.5, training=self.training)",
    "F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)":
        "F.scaled_dot_product_attention(x, x, x, dropout_p=0.1 if self.training else 0.0)",
    "flash_attn_func(x, x, x, 0.1)": "flash_attn_func(x, x, x, 0.1 if self.training else 0.0)",
    "F.dropout(x, 0.5, training=self.train)": "F.dropout(x, 0.5, training=self.training)",
    "F.dropout(x, 0.5, training=self.trainig)": "F.dropout(x, 0.5, training=self.training)",
    "[F.dropout(y, 0.5) for y in x]": "[F.dropout(y, 0.5, training=self.training) for y in x]",
}  # fmt: skip


@pytest.mark.parametrize("wrong", MENDED)
def test_what_is_mended(wrong):
    before = module(*f"y = {wrong}".splitlines(), "return y  # kept")
    after = module(*f"y = {MENDED[wrong]}".splitlines(), "return y  # kept")
    new, count = fixed(before)
    assert new == after
    assert count >= 1
    assert fixed(new) == (new, 0)


def test_a_method_that_forward_calls_is_mended():
    text = module("return self._block(x)") + (
        "\n    def _block(self, x):\n        return F.dropout(x, 0.5)\n"
        "\n    def sample(self, x):\n        return F.dropout(x, 0.5)\n"
        "\n    def other(self, x):\n        return F.dropout(x, 0.5)\n"
    )
    new, count = fixed(text)
    assert count == 1
    assert new == text.replace("0.5)", "0.5, training=self.training)", 1)


def test_a_class_of_a_class_of_the_file_is_mended():
    text = module("return F.dropout(x, 0.5)", base="Base", before="class Base(nn.Module): ...\n")
    assert fixed(text)[1] == 1


LEFT = {
    "no module": module("return F.dropout(x, 0.5)", base="object"),
    "a base of another file": module(
        "return F.dropout(x, 0.5)", base="nn.Module, Mixin", before="from mixins import Mixin\n"
    ),
    "a metaclass": module("return F.dropout(x, 0.5)", base="nn.Module, metaclass=Meta"),
    "no forward": module("return F.dropout(x, 0.5)", name="encode"),
    "another self": module("self = self.inner", "return F.dropout(x, 0.5)"),
    "a function in forward": module("def f(y):", "    return F.dropout(y, 0.5)", "return f(x)"),
    "a lambda": module("f = lambda y: F.dropout(y, 0.5)", "return f(x)"),
    "arguments that are not seen": module("return F.dropout(x, **more)"),
    "arguments in a list": module("return F.dropout(*x)"),
    "a constant True": module("return F.dropout(x, 0.5, True)"),
    "a constant training=True": module("return F.dropout(x, 0.5, training=True)"),
    "a constant training=False": module("return F.dropout(x, 0.5, training=False)"),
    "the mode as p": module("return F.dropout(x, self.training)"),
    "a flag of its own": module("return F.dropout(x, 0.5)").replace(
        "    def forward", "    training = None\n    def forward"
    ),
    "a flag that is set": module("self.training = x", "return F.dropout(x, 0.5)"),
    "a static method": module("return F.dropout(x, 0.5)").replace(
        "    def forward", "    @staticmethod\n    def forward"
    ),
    "a function": HEAD + "def f(self, x):\n    return F.dropout(x, 0.5)\n",
    "a sum of rates": module("return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1 + 0.1)"),
    "silenced": module("return F.dropout(x, 0.5)  # noqa: THN001"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_alone(case):
    assert fixed(LEFT[case]) == (LEFT[case], 0)


WRONG = module("return F.dropout(x, 0.5)")
RIGHT = module("return F.dropout(x, 0.5, training=self.training)")

FORMS = {
    "utf-8": WRONG.encode(),
    "a mark": b"\xef\xbb\xbf" + WRONG.encode(),
    "carriage returns": WRONG.replace("\n", "\r\n").encode(),
    "old Macs": WRONG.replace("\n", "\r").encode(),
    "no last line end": WRONG.rstrip().encode(),
    "latin-1": ("# -*- coding: latin-1 -*-\n# é\n" + WRONG).encode("latin-1"),
    "gbk": ("# coding: gbk\n# \u4e2d\n" + WRONG).encode("gbk"),
    "mixed line ends": WRONG.replace("\n", "\r\n", 3).encode(),
    "form feeds and tabs": ("\x0c\n" + WRONG.replace("    ", "\t")).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_encodings_and_line_ends_are_kept(form, tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(FORMS[form])
    assert main(["audit", str(file), "--fix"]) == 0
    assert file.read_bytes() == FORMS[form].replace(b", 0.5)", b", 0.5, training=self.training)")


def test_the_command(tmp_path, capsys):
    (tmp_path / "a.py").write_text(WRONG)
    (tmp_path / "b.py").write_text(LEFT["no module"])
    assert main(["audit", str(tmp_path)]) == 1
    assert "2 findings in 2 files" in (out := capsys.readouterr().out)
    assert "--fix mends 1 of them" in out
    assert main(["audit", str(tmp_path), "--fix"]) == 1
    out = capsys.readouterr().out
    assert "1 finding in 1 file" in out
    assert out.endswith("\nMended 1 finding in 1 file.\n")
    assert (tmp_path / "a.py").read_text() == RIGHT
    assert (tmp_path / "b.py").read_text() == LEFT["no module"]


def test_only_what_is_asked_for_is_mended(tmp_path):
    (tmp_path / "a.py").write_text(WRONG)
    assert main(["audit", str(tmp_path), "--fix", "--ignore", "THN001"]) == 0
    assert main(["audit", str(tmp_path), "--fix", "--per-file-ignores", "a.py:THN00"]) == 0
    assert (tmp_path / "a.py").read_text() == WRONG


@pytest.mark.skipif(os.name == "nt", reason="permissions and links are POSIX's")
def test_permissions_and_links_are_kept(tmp_path):
    file = tmp_path / "run.py"
    file.write_text(WRONG)
    file.chmod(0o751)
    (tmp_path / "link.py").symlink_to(file)
    assert main(["audit", str(tmp_path / "link.py"), "--fix"]) == 0
    assert (tmp_path / "link.py").is_symlink()
    assert file.read_text() == RIGHT
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.py", "run.py"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.py").write_text(WRONG)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["audit", str(tmp_path), "--fix"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a.py"]
    assert (tmp_path / "a.py").read_text() == WRONG


def test_a_file_that_changed_in_the_meantime_is_left_alone():
    findings = audit_source(WRONG.encode(), "a.py")
    changed = WRONG.replace("return F", "return 1 + F").encode()
    assert mended(changed, "a.py", findings) == (changed, 0)
    broken = b"def f(:\n" * 20
    assert mended(broken, "a.py", findings) == (broken, 0)


def test_a_mend_that_would_do_more_is_not_made(monkeypatch):
    """A planted fault: the edit goes to another place."""
    (finding,) = audit_source(WRONG.encode(), "a.py")
    for text in (", training=self.train)", ") or (1", " # ", ", 1"):
        (edit,) = finding.edits
        object.__setattr__(edit, "text", text)
        assert mended(WRONG.encode(), "a.py", [finding]) == (WRONG.encode(), 0)
    monkeypatch.setattr(mending, "only_mended", lambda *_: 1)
    assert mended(WRONG.encode(), "a.py", [finding])[1] == 1
