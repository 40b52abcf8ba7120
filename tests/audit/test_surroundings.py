"""What the audit takes for a test, and what importing it loads."""

import subprocess
import sys

import pytest

from thinned.audit import audit_source

TEXT = b"""
import unittest
import torch.nn.functional as F

def f(x):
    return F.dropout(x, 0.5)
"""
TEST = TEXT + b"\ndef test_f():\n    assert f(1)\n"
CASE = b"""
import unittest
import torch.nn.functional as F

class TestDropout(unittest.TestCase):
    def check(self):
        F.dropout(self.x, 0.5)
"""


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("net.py", TEXT, True),
        ("tests/test_net.py", TEST, False),
        ("net_test.py", TEST, False),
        ("test_net.py", TEXT, True),  # a script that tests a network
        ("latest.py", TEST, True),
        ("net.py", CASE, False),
    ],
)
def test_tests_may_call_dropout_as_they_like(path, text, found):
    assert [f.code for f in audit_source(text, path)] == (["THN001"] if found else [])


def test_importing_the_audit_loads_no_framework_and_no_command_line():
    code = (
        "import sys, thinned.audit\n"
        "print(*({'torch', 'jax', 'flax', 'sklearn', 'typer', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == ([], "")
