"""docs/audit-model.md: the output that it shows is what is printed, its table that of the kinds."""

import re
from pathlib import Path

import examples_of
import pytest
import torch
from pages import builder

import thinned.testing
import thinned.torch
from thinned.torch.auditing.rule import rule
from thinned.torch.auditing.rules import KINDS

build = builder("docs/build.py")
PAGE = (Path(__file__).parents[3] / "docs/audit-model.md").read_text(encoding="utf-8")


def network():
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    names = {}
    exec(compile(source, "net.py", "exec"), names)
    return names["Net"]()


def without_measures(text):
    """Rates and ratios depend on the machine's generator; so do the widths of their columns."""
    return re.sub(r"\d\.\d+", "#", " ".join(text.split()))


def test_the_output_shown_is_what_is_printed():
    (shown,) = re.findall(r"measure=False\)\)\n(.*?)\n\n[^ ]", PAGE, flags=re.S)
    torch.manual_seed(0)
    report = thinned.torch.audit(network(), torch.randn(64, 1, 28, 28), measure=False)
    assert without_measures(str(report)) == without_measures(shown)
    assert [finding.site for finding in report.findings] == ["/dropout", "drop2", "drop1"]


def test_the_variance_shown_is_what_is_measured():
    (shown,) = re.findall(r"(\d\.\d\d) times", PAGE)
    torch.manual_seed(0)
    report = thinned.torch.audit(network(), torch.randn(64, 1, 28, 28), measure=False)
    (found,) = re.findall(r"(\d\.\d\d) times", report.findings[-1].detail)
    assert abs(float(found) - float(shown)) < 0.3


def test_the_table_is_that_of_the_kinds():
    """Remade by `make docs`."""
    assert build.filled(PAGE, build.kinds) == PAGE
    assert re.findall(r"^\| ([a-z][\w ]+?) \|", PAGE, flags=re.M)[1:] == list(KINDS)


def test_a_kind_stands_once():
    with pytest.raises(ValueError, match="name must be new, got 'never drops'"):
        rule("never drops", observed="Nothing.", why="None.")(lambda seen: iter(()))


@pytest.mark.parametrize("module", [thinned.testing, thinned.torch.auditing.audit])
def test_the_examples_run(module):
    failed, tried = examples_of.run(module)
    assert tried > 0
    assert failed == 0
