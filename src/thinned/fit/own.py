"""A network of the user's own in place of the perceptron: a function in a Python file builds it.

    thinned fit train.py:model table.csv

`model(inputs, outputs)` returns a torch.nn.Module from (rows, inputs) to (rows, outputs): scores of
the classes, or values. Every dropout layer in it gets the p that is tried; where the function has
an argument `p`, it is given p instead, and does what it likes with it.

The file is run, here and where networks are trained. A saved model has the file's hash and not its
code: whoever loads it names the file.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from thinned.errors import InputError, listed, quoted
from thinned.fit.rate import Rate, each_layer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Own", "built", "failures_of", "has_file", "own_of", "read_data"]


@dataclass(frozen=True)
class Own:
    """A function in a file.

    path : where it is, as it was typed. function : its name. sha256 : of the file.
    source : what it holds, which travels with a job; it is in no report and no saved model.
    """

    path: str
    function: str
    sha256: str
    source: str = field(default="", repr=False, compare=False)

    @property
    def called(self) -> str:
        """As a person names it: train.py:model."""
        return f"{Path(self.path).name}:{self.function}"


def has_file(typed: str) -> bool:
    """Whether this is of the form FILE.py:FUNCTION."""
    path, _, function = typed.rpartition(":")
    return path.endswith(".py") and function.isidentifier()


def own_of(typed: str) -> Own:
    """The network of "train.py:model".

    Raises
    ------
    InputError if it is of another form, or the file cannot be read, or holds no such function.
    ImportError, naming the extra, without PyTorch.
    """
    if not has_file(typed):
        raise InputError(f"{typed}: a network of your own is named as train.py:model.")
    path, _, function = typed.rpartition(":")
    try:
        raw = Path(path).read_bytes()
        source = raw.decode("utf-8")
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not readable as Python, it is no UTF-8 text.") from None
    own = Own(path, function, hashlib.sha256(raw).hexdigest(), source)
    _function(own)
    return own


def read_data(words: Sequence[str]) -> tuple[Own | None, str]:
    """The network, if one is named, and the table of "[FILE.py:FUNCTION] DATA".

    Raises
    ------
    InputError as `own_of`, or if there are other words.
    """
    if len(words) == 1 and has_file(words[0]):
        raise InputError(f"{words[0]}: this builds a network; name the table behind it.")
    if len(words) > 2 or (len(words) == 2 and not has_file(words[0])):
        raise InputError(
            f"one table is needed, with train.py:model before it if a network of your own is to be "
            f"trained; got {listed(list(words))}."
        )
    return (own_of(words[0]) if len(words) == 2 else None), words[-1]


def built(own: Own, inputs: int, outputs: int, p: Rate, seed: int) -> nn.Module:
    """The network, its first weights by the seed, dropping at p.

    Raises
    ------
    InputError if the function returns no module, or one in which nothing drops, or does not take
    as many rates as `p` has.
    """
    import torch
    from torch import nn

    function = _function(own)
    takes_p = "p" in inspect.signature(function).parameters
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with failures_of(own):
            module = function(inputs, outputs, p=p) if takes_p else function(inputs, outputs)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{own.called}: must return a torch.nn.Module, but returned {type(module).__name__}."
        )
    if not takes_p:
        _set(own, module, p)
    return module.float()


def places_of(module: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """What drops in a module: its name, itself, and the attribute that holds its p."""
    from torch import nn

    found = []
    for name, one in module.named_modules():
        if isinstance(one, nn.RNNBase | nn.MultiheadAttention):
            found.append((name, one, "dropout"))
        elif isinstance(getattr(one, "p", None), float) and "Drop" in type(one).__name__:
            found.append((name, one, "p"))
    return [
        one for one in found if not (one[2] == "dropout" and getattr(one[1], "num_layers", 2) < 2)
    ]


def _set(own: Own, module: nn.Module, p: Rate) -> None:
    places = places_of(module)
    if not places:
        raise InputError(
            f"{own.called}: there is no dropout layer in the network that it builds; put "
            "torch.nn.Dropout() where units are to be dropped, or give the function an argument p."
        )
    rates = each_layer(p, len(places))
    if len(rates) != len(places):
        raise InputError(
            f"--p: {len(rates)} rates for the {len(places)} dropout layers of {own.called}: "
            f"{listed([name for name, _, _ in places])}."
        )
    for (_, one, attribute), rate in zip(places, rates, strict=True):
        setattr(one, attribute, rate)


def _function(own: Own) -> Callable[..., Any]:
    """The function, from what the file holds."""
    try:
        import torch  # noqa: F401 - only whether it is there
    except ImportError as missing:
        raise ImportError(
            'torch is not installed; a network of your own needs: pip install "thinned[torch]"',
            name="torch",
        ) from missing
    name = f"thinned_own_{own.sha256[:16]}"
    module = sys.modules.get(name)
    if module is None:
        module = ModuleType(name)
        module.__file__ = own.path
        with _beside(own.path):
            try:
                code = compile(own.source, own.path, "exec")
            except SyntaxError as wrong:
                raise InputError(
                    f"{own.path}: line {wrong.lineno} is no Python ({wrong.msg})."
                ) from None
            sys.modules[name] = module  # dataclasses and the like look for their module
            try:
                with failures_of(own):
                    exec(code, module.__dict__)  # what the user has asked for, by naming the file
            except BaseException:
                del sys.modules[name]
                raise
    function: Callable[..., Any] | None = getattr(module, own.function, None)
    if function is None or not callable(function):
        there = [one for one, value in vars(module).items() if inspect.isfunction(value)]
        hint = f"its functions are {listed(there)}." if there else "it has no functions."
        raise InputError(f"{own.path}: no function {quoted(own.function)}; {hint}")
    return function


@contextmanager
def failures_of(own: Own) -> Iterator[None]:
    """What goes wrong in the user's code is a sentence with the line of their file."""
    try:
        yield
    except InputError:
        raise
    except Exception as reason:
        frames = traceback.extract_tb(reason.__traceback__)
        lines = [f.lineno for f in frames if f.filename == own.path]
        where = f"line {lines[-1]}" if lines else "the network"
        said = " ".join(str(reason).split())
        raise InputError(
            f"{own.path}: {where} raised {type(reason).__name__}{f': {said}' if said else ''}."
        ) from reason


@contextmanager
def _beside(path: str) -> Iterator[None]:
    """Modules beside the file can be imported, as where it is run as a program."""
    folder = str(Path(path).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
