"""The page and the example for learners say what happens."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page():
    page = ROOT / "docs" / "numpy.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0


def test_the_example():
    example = ROOT / "examples" / "by_hand.py"
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, check=True
    )
    accuracy = {
        name: float(value) for name, value in re.findall(r"(\w+) accuracy (.*)", done.stdout)
    }
    assert accuracy["train"] > 0.99
    assert accuracy["test"] > 0.96
