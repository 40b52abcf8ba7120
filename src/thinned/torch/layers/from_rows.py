"""Modules of the catalogue: one class for each row, made from the row."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.compiler import is_compiling

from thinned import checks
from thinned.address import Address
from thinned.foreign_arguments import no_argument
from thinned.methods.draws import NO_P
from thinned.methods.table import Method, every
from thinned.torch.adoption.module import Sited, fresh_address, put
from thinned.torch.adoption.site import p_of, set_p

__all__ = ["MethodModule", "made"]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


class MethodModule(Sited):
    """A method of the catalogue as a module: (x) or (arrays...) in, the method's y out.

    Draws a fresh seed for each call, or, adopted, at its site. Formula, errors and source are told
    by the function of the method, which its row names.
    """

    row: ClassVar[Method]
    has_p: ClassVar[bool]

    def __init__(self, p: Any = NO_P, *more: Any, **options: Any) -> None:
        row = self.row
        names = (*(("p",) if self.has_p else ()), *row.options)
        known = ", ".join(names) or "none"
        if more or not (self.has_p or p is NO_P):
            got = f"{more[0]!r} behind p" if self.has_p else f"{p!r}, and there is no p"
            raise TypeError(
                f"{row.module}: options are keyword-only, got {got}. The arguments are {known}."
            )
        if not options.keys() <= row.options.keys():
            raise no_argument(str(row.module), options, names, of_pytorch=True)
        missing = [
            name
            for name, default in row.options.items()
            if default is inspect.Parameter.empty and name not in options
        ]
        if missing:
            raise TypeError(f"{row.module}: {missing[0]} must be given.")
        nn.Module.__init__(self)
        if self.has_p:
            put(self, "p", _default_p(row) if p is NO_P else p)
        self.options = {**row.options, **options}
        if row.check is not None:
            row.check(type(self).__name__, **self.options)

    @property
    def p(self) -> Any:
        """The probability to drop; None for a method without one."""
        return p_of(self, "_p") if self.has_p else None

    @p.setter
    def p(self, p: Any) -> None:
        self.require_p(p)
        set_p(self, "_p", checks.probability(type(self).__name__, p))

    def require_p(self, p: Any) -> None:
        """An error unless the method can run at this p, which a schedule may reach later on."""
        who = type(self).__name__
        if not self.has_p:
            raise AttributeError(f"{who}: there is no p to set.")
        self.row.require_law(who, checks.probability(who, p))

    @property
    def batch_axis(self) -> int:
        return self.row.batch_axis(self.options)

    def forward(self, x: Tensor, *arrays: Tensor) -> Tensor:
        function = self.row.function
        if self.training and self.site is None and type(x) is Tensor and not is_compiling():
            # Few steps for a small x.
            own, at = self._rates(self.__dict__.get("_p")), fresh_address(self.row.module or "", x)
            alone: Tensor = function(x, *arrays, *own, at, **self.options)
            return alone
        fixed = self.row.sample is not None and self.row.sample.fixed_p
        if not self.training:
            own = self._rates(self.p if fixed else self.quiet_p)
            quiet: Tensor = function(x, *arrays, *own, _NOWHERE, training=False, **self.options)
            return quiet

        def draw(x: Tensor, at: Any, window: Any, p: Any) -> Tensor:
            if fixed and isinstance(p, Tensor):
                p = self.p  # a constant of the program: another value needs another program
            own = self._rates(p)
            y: Tensor = function(x, *arrays, *own, at, window=window, **self.options)
            return y

        return self.on_shard(x, draw)

    def _rates(self, p: Any) -> tuple[Any, ...]:
        """What stands between the arrays and the address: p, where there is one."""
        return (p,) if self.has_p else ()

    def extra_repr(self) -> str:
        told = {n: v for n, v in self.options.items() if v != self.row.options[n]}
        named = [f"p={self.p}"] if self.has_p else []
        return ", ".join([*named, *(f"{n}={v!r}" for n, v in told.items())])


def _default_p(row: Method) -> float:
    default = row.parameters["p"].default
    return 0.5 if default is inspect.Parameter.empty else float(default)


def _made(row: Method) -> type[MethodModule]:
    assert row.module is not None
    options = "".join(
        f"\n    {name} : default {default!r}." for name, default in row.options.items()
    )
    end = ")" if row.law is not None and not row.law.has_one else "]"
    p = f"\n    p : float in [0, 1{end}. Probability to drop." if row.has_p else ""
    doc = f"""{row.title}: {row.formula}

    Every call draws a fresh 64-bit seed from PyTorch's default generator; adopted, the mask of its
    site. See `{row.where}` for errors and source.

    Parameters
    ----------{p}{options}
    """
    # __module__ is where the name can be imported from, so that pickle finds it. A module without
    # a p is treated by `adopt` as one with several: a schedule could change none.
    space = {
        "row": row, "has_p": row.has_p, "several": not row.has_p,
        "__doc__": doc, "__module__": __name__, "__qualname__": row.module,
    }  # fmt: skip
    return type(row.module, (MethodModule,), space)


_MADE: dict[str, type[MethodModule]] = {}


def made() -> dict[str, type[MethodModule]]:
    """Every class that is made from a row, by its name."""
    if not _MADE:
        for row in every():
            if row.module is not None and row.sample is not None:
                _MADE[row.module] = _made(row)
    return _MADE


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]
