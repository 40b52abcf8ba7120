"""The libraries that Thinned works beside, and what becomes of a test where one is not installed.

A test file whose own import of a library fails is skipped as a whole (conftest.py). One that needs
the library for some of its tests asks for it by `library`, and those tests are skipped. Only what
the tests import counts: where Thinned itself wants a library that it should do without, they fail.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIBRARIES = (
    "torch", "torchmetrics", "onnx", "onnxruntime", "onnxscript",
    "transformers", "accelerate", "lightning", "pytorch_lightning", "peft", "torch_geometric",
    "jax", "flax", "equinox", "haiku", "optax", "ml_dtypes", "keras", "tensorflow",
    "scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "rich", "typer", "safetensors",
    "array_api_strict", "yaml", "timm", "triton", "sphinx", "myst_nb", "pygls", "lsprotocol",
    "distributed", "ray", "optuna", "flatbuffers", "pre_commit",
)  # fmt: skip


class PackagesOnly(PathFinder):
    """Finds no folder of tests in an absent library's place: tests/torch is not PyTorch."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target)
        a_folder = spec is not None and spec.origin is None
        return None if a_folder and fullname in LIBRARIES else spec


def see_packages_only():
    if PackagesOnly not in sys.meta_path:
        sys.meta_path[sys.meta_path.index(PathFinder)] = PackagesOnly


def absent():
    return [name for name in LIBRARIES if find_spec(name) is None]


def is_there(name):
    """Whether the library is installed that a module belongs to: jax for jax.numpy, and torch for
    thinned.torch."""
    return find_spec(_library_of(name)) is not None


def reason(name):
    return f"{_library_of(name)} is not installed"


def _library_of(name):
    return next((part for part in name.split(".") if part in LIBRARIES), name)


def needs(name):
    """Marks a test that reaches the library by another way than its own import."""
    return pytest.mark.skipif(not is_there(name), reason=reason(name))


class Absent:
    """Stands for what an absent library has: nothing is an instance of it, and a call skips."""

    def __init__(self, name):
        self._name = name

    def __repr__(self):
        return self._name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):  # asked by inspection, not by a test
            raise AttributeError(attribute)
        return Absent(f"{self._name}.{attribute}")

    def __call__(self, *_, **__):
        pytest.skip(reason(self._name), allow_module_level=True)

    def __instancecheck__(self, _):
        return False

    def __or__(self, other):
        return other  # of a union nothing more is an instance

    __ror__ = __or__

    def __mro_entries__(self, _):
        return ()


def library(name):
    """The module of this name, or what stands for it where its library is not installed."""
    return import_module(name) if is_there(name) else Absent(name)


def missed_by_tests(error):
    """The absent library that a line of the tests imports, if that is why `error` was raised."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    name = error.name.partition(".")[0]
    if name not in LIBRARIES or is_there(name):
        return None
    return name if _raised_in(error).is_relative_to(HERE) else None


def _raised_in(error):
    """The file of the import statement: the innermost frame that is not of the import system."""
    files = []
    trace = error.__traceback__
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return Path(next(file for file in reversed(files) if not file.startswith("<frozen ")))
