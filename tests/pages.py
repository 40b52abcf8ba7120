"""Programs under docs that make pages, loaded from their files."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def builder(path):
    """The module of a program of the checkout, by its path from the root."""
    spec = importlib.util.spec_from_file_location(
        path.replace("/", "_").removesuffix(".py"), ROOT / path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
