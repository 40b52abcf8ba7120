"""Other libraries are loaded when their module is asked for, and one that is absent is named."""

import subprocess
import sys

import pytest
from libraries import needs

pytestmark = needs("torch")


def said(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout + done.stderr.rstrip().rpartition("\n")[2]


def test_pytorch_alone_loads_none_of_them():
    names = "transformers", "accelerate", "lightning", "pytorch_lightning"
    code = f"import sys, thinned.torch as t; dir(t); print(sorted({names!r} & sys.modules.keys()))"
    code = code.replace("('transformers'", "{'transformers'").replace("ng')", "ng'}")
    assert said(code) == "[]\n"


@pytest.mark.parametrize(
    ("absent", "module", "words"),
    [
        (
            ("transformers",),
            "transformers",
            (
                "thinned.torch.transformers needs transformers and accelerate: pip install "
                "transformers accelerate."
            ),
        ),
        (
            ("accelerate",),
            "transformers",
            (
                "thinned.torch.transformers needs transformers and accelerate: pip install "
                "transformers accelerate."
            ),
        ),
        (
            ("lightning", "pytorch_lightning"),
            "lightning",
            "thinned.torch.lightning needs Lightning: pip install lightning.",
        ),
    ],
)
@pytest.mark.one_in(3)
def test_an_absent_library_is_named(absent, module, words):
    hide = f"""
import sys
class Hiding:
    def find_spec(self, name, *_):
        if name in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hiding())
import thinned.torch
thinned.torch.{module}
"""
    assert said(hide) == f"ImportError: {words}"
