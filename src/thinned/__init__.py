"""Thinned: dropout and the methods derived from it.

A mask is a pure function of its address: ``thinned.dropout(x, p=0.5, at=thinned.Address(seed=0,
site="fc1", step=7))`` gives the same array on every machine, and the same call on a gradient is its
backward pass. Importing this package loads nothing else: each name loads what it needs when it is
first used, a method NumPy, its own file and, with its first draw, the compiled kernel.
"""

from typing import TYPE_CHECKING, Any

from thinned import _later, methods, traced
from thinned.version import __version__ as __version__

if TYPE_CHECKING:
    from thinned import (
        audit,
        classic,
        estimators,
        fit,
        jax,
        keras as keras,
        members,
        numpy,
        schedules,
        testing,
        torch,
    )
    from thinned.address import Address
    from thinned.estimators.multilayer import DropoutMLPClassifier, DropoutMLPRegressor
    from thinned.kernel import kernel_info, set_num_threads
    from thinned.methods import *  # noqa: F403 - the catalogue says what is public
    from thinned.window import Window


def _addresses_of_jax() -> Any:
    from thinned.backends.jax import address  # as a statement, which PyTorch's compiler follows

    return address


traced.load_jax = _addresses_of_jax

__all__ = [
    "Address",
    "DropoutMLPClassifier",
    "DropoutMLPRegressor",
    "Window",
    "audit",
    "classic",
    "estimators",
    "fit",
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
    **dict.fromkeys(methods.__all__, "thinned.methods"),
    "Address": "thinned.address",
    "DropoutMLPClassifier": "thinned.estimators.multilayer",
    "DropoutMLPRegressor": "thinned.estimators.multilayer",
    "Window": "thinned.window",
    "address": "thinned.address",
    "audit": "thinned.audit",
    "backends": "thinned.backends",
    "checks": "thinned.checks",
    "classic": "thinned.classic",
    "estimators": "thinned.estimators",
    "fit": "thinned.fit",
    "jax": "thinned.jax",
    "keras": "thinned.keras",
    "kernel": "thinned.kernel",
    "kernel_info": "thinned.kernel",
    "laws": "thinned.laws",
    "members": "thinned.members",
    "numpy": "thinned.numpy",
    "reference": "thinned.reference",
    "schedules": "thinned.schedules",
    "set_num_threads": "thinned.kernel",
    "testing": "thinned.testing",
    "torch": "thinned.torch",
    "window": "thinned.window",
}


if not TYPE_CHECKING:  # it would make every name a name, and a checker would find no misspelt one

    def __getattr__(name: str) -> Any:
        if name in _LATER or name.startswith("_"):
            return _later.attribute(__name__, _LATER, name)
        from thinned.methods.foreign import instead  # what it takes to tell is loaded here alone

        raise AttributeError(f"module 'thinned' has no attribute {name!r}.{instead(name, __all__)}")


def __dir__() -> list[str]:
    return _later.public(globals(), __all__)
