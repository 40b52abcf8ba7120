"""Modules of the catalogue: one class for each row, made from the row."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor
from torch.compiler import is_compiling

from thinned.address import Address
from thinned.methods.table import Method, every
from thinned.torch.sited import Sited, fresh_address

__all__ = ["MethodModule", "made", "module_of"]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


class MethodModule(Sited):
    """A method of the catalogue as a module: (x) or (arrays...) in, the method's y out.

    Draws a fresh seed for each call, or, adopted, at its site. Formula, errors and source are told
    by the function of the method, which its row names.
    """

    row: ClassVar[Method]

    def __init__(self, p: float | None = None, **options: Any) -> None:
        row = self.row
        unknown = set(options) - set(row.options)
        if unknown:
            known = ", ".join(("p", *row.options))
            raise TypeError(
                f"{row.module}: {sorted(unknown)[0]!r} is no argument. The arguments are {known}."
            )
        missing = [
            name
            for name, default in row.options.items()
            if default is inspect.Parameter.empty and name not in options
        ]
        if missing:
            raise TypeError(f"{row.module}: {missing[0]} must be given.")
        super().__init__(_default_p(row) if p is None else p)
        self.options = {**row.options, **options}

    @property
    def batch_axis(self) -> int:
        return self.row.batch_axis(self.options)

    def forward(self, x: Tensor, *arrays: Tensor) -> Tensor:
        function = self.row.function
        if not self.training:
            quiet: Tensor = function(x, *arrays, self.p, _NOWHERE, training=False, **self.options)
            return quiet
        if self.site is None and type(x) is Tensor and not is_compiling():  # few steps for small x
            p, at = self.__dict__["p"], fresh_address(self.row.module or "")
            alone: Tensor = function(x, *arrays, p, at, **self.options)
            return alone
        fixed = self.row.sample is not None and self.row.sample.fixed_p

        def draw(x: Tensor, at: Any, window: Any, p: Any) -> Tensor:
            if fixed and isinstance(p, Tensor):
                p = self.p  # a number that the program holds: another one is another program
            y: Tensor = function(x, *arrays, p, at, window=window, **self.options)
            return y

        return self.on_shard(x, draw)

    def extra_repr(self) -> str:
        told = {n: v for n, v in self.options.items() if v != self.row.options[n]}
        return ", ".join([f"p={self.p}", *(f"{n}={v!r}" for n, v in told.items())])


def _default_p(row: Method) -> float:
    default = row.parameters["p"].default
    return 0.5 if default is inspect.Parameter.empty else float(default)


def _made(row: Method) -> type[MethodModule]:
    assert row.module is not None
    options = "".join(
        f"\n    {name} : default {default!r}." for name, default in row.options.items()
    )
    where = "thinned.methods.classic" if row.rank == "classic" else "thinned"
    doc = f"""{row.title}: {row.formula}

    Every call draws a fresh 64-bit seed from PyTorch's default generator; adopted, the mask of its
    site. See `{where}.{row.name}` for errors and source.

    Parameters
    ----------
    p : float in [0, 1]. Probability to drop.{options}
    """
    # __module__ is where the name can be imported from, so that pickle finds it.
    space = {"row": row, "__doc__": doc, "__module__": __name__, "__qualname__": row.module}
    return type(row.module, (MethodModule,), space)


_MADE: dict[str, type[MethodModule]] = {}


def made() -> dict[str, type[MethodModule]]:
    """Every class that is made from a row, by its name."""
    if not _MADE:
        for row in every():
            if row.module is not None and row.sample is not None:
                _MADE[row.module] = _made(row)
    return _MADE


def module_of(name: str) -> type[MethodModule]:
    """The class made from the row whose module has this name. KeyError where there is none."""
    return made()[name]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]
