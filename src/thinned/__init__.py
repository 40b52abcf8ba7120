"""Thinned: dropout and everything that grew from it.

A mask is a pure function of its address: ``thinned.dropout(x, p=0.5, at=thinned.Address(seed=0,
site="fc1", step=7))`` gives the same array on every machine, and the same call on a gradient is its
backward pass. Importing this package loads NumPy and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thinned import methods
from thinned.address import Address, when_jax_is_there
from thinned.kernel import kernel_info, set_num_threads
from thinned.methods import *  # noqa: F403 - the catalogue says what is public
from thinned.version import __version__ as __version__
from thinned.window import Window

if TYPE_CHECKING:
    from thinned import classic, jax, members, numpy, schedules, testing, torch
    from thinned.estimators.multilayer import DropoutMLPClassifier, DropoutMLPRegressor


def _addresses_of_jax() -> Any:
    from thinned.backends.jax import address  # as a statement, which PyTorch's compiler follows

    return address


when_jax_is_there(_addresses_of_jax)

__all__ = [
    "Address",
    "DropoutMLPClassifier",
    "DropoutMLPRegressor",
    "Window",
    "classic",
    "jax",
    "kernel_info",
    "members",
    "methods",
    "numpy",
    "schedules",
    "set_num_threads",
    "testing",
    "torch",
    *methods.__all__,
]

# Loaded at first use: the file that holds the name, or the room that the name itself is.
_LATER = {
    "DropoutMLPClassifier": "thinned.estimators.multilayer",
    "DropoutMLPRegressor": "thinned.estimators.multilayer",
    "classic": "thinned.classic",
    "jax": "thinned.jax",
    "members": "thinned.members",
    "numpy": "thinned.numpy",
    "schedules": "thinned.schedules",
    "testing": "thinned.testing",
    "torch": "thinned.torch",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'thinned' has no attribute {name!r}")
    room = import_module(_LATER[name])
    return room if _LATER[name] == f"thinned.{name}" else getattr(room, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
