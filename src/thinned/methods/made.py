"""What layers of other libraries share: which rows they are made of, and what adopt reports."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from thinned.foreign_arguments import no_argument
from thinned.methods.table import Method, every
from thinned.pages.fragment import rows_of

__all__ = [
    "Report",
    "Row",
    "ThinReport",
    "chosen_options",
    "default_p",
    "keras_rows",
    "layer_rows",
    "nothing_thin",
    "nothing_to_adopt",
    "samples_alone",
]

# Rows whose draws are shared within a sample: they need to know where one ends.
_SAMPLES = (
    "cutout",
    "drop_block",
    "drop_head",
    "drop_path",
    "feature_alpha_dropout",
    "locked_dropout",
    "nested_dropout",
    "random_erasing",
    "spatial_dropout",
)
# Rows whose draws are each element's own, so that a sample is an array like any other.
_ELEMENTS = (
    "alpha_dropout",
    "attention_dropout",
    "dropout",
    "gaussian_dropout",
    "k_of_n_dropout",
    "recurrent_dropout",
    "uniform_dropout",
)

# Rows of one array in and one of its shape out that are no layers of Keras's: noise on a table of
# weights, and draws for the axis behind the samples, which Keras has the channels elsewhere from.
_NO_KERAS_LAYERS = ("embedding_dropout", "feature_alpha_dropout")


def layer_rows() -> dict[str, Method]:
    """The rows that layers are made of, by the name of the layer: one array in, one of its shape
    out, the samples along the leading axis."""
    rows = {row.name: row for row in every()}
    return {str(rows[name].module): rows[name] for name in (*_SAMPLES, *_ELEMENTS)}


def keras_rows() -> dict[str, Method]:
    """The rows that layers of Keras's are made of, by the name of the layer."""
    return {
        str(row.module): row
        for row in every()
        if row.module is not None and row.sample is not None and row.name not in _NO_KERAS_LAYERS
        if row.arrays == ("x",) and row.sample.keeps_shape and row.sample.grad and row.has_p
    }


def samples_alone(row: Method) -> bool:
    """Whether a sample without a batch axis needs one for the row's function."""
    return row.name in _SAMPLES


def default_p(row: Method) -> float:
    default = row.parameters["p"].default
    return 0.5 if default is inspect.Parameter.empty else float(default)


def chosen_options(who: str, row: Method, given: dict[str, Any]) -> dict[str, Any]:
    """The row's options with those given; TypeError for others."""
    if not given.keys() <= row.options.keys():
        raise no_argument(who, given, ("p", *row.options))
    chosen = {**row.options, **given}
    if row.check is not None:
        row.check(who, **chosen)
    return chosen


class Row(NamedTuple):
    """A line of a report: the site, the class that stood there, its p, and what was done."""

    site: str
    kind: str
    p: float | None
    done: str
    reached: bool = True


def nothing_to_adopt(rows: Sequence[Row]) -> str:
    """What adopt says of a model in which it can give nothing an address."""
    if not rows:
        return "adopt: the model holds no dropout."
    named = "; ".join(f"{row.site or 'the model itself'}, a {row.kind}, {row.done}" for row in rows)
    return f"adopt: nothing in the model can be given an address: {named}."


class Report(NamedTuple):
    """What `adopt` did, as a table when printed.

    rows : tuple of Row. clock : the model's clock (NNX), or None where keys are threaded (Equinox).
    """

    rows: tuple[Row, ...]
    clock: Any = None

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites that were adopted."""
        return tuple(row.site for row in self.rows if row.reached)

    @property
    def not_reached(self) -> tuple[Row, ...]:
        """What may be dropout and was left alone."""
        return tuple(row for row in self.rows if not row.reached)

    def __str__(self) -> str:
        lines = [("site", "kind", "p", "what was done")]
        for row in self.rows:
            lines.append((row.site, row.kind, "" if row.p is None else f"{row.p:g}", row.done))
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        return "\n".join(
            "  ".join((*(text.ljust(n) for text, n in zip(line, widths, strict=False)), line[3]))
            for line in lines
        )

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        rows = (
            (row.site, row.kind, "" if row.p is None else f"{row.p:g}", row.done)
            for row in self.rows
        )
        return rows_of(("site", "kind", "p", "what was done"), rows)


class ThinReport(Report):
    """What `thin` did, as a table when printed."""

    thin: tuple[str, ...]

    def __new__(cls, rows: tuple[Row, ...], clock: Any, thin: tuple[str, ...]) -> Self:
        """thin : the sites whose draws the batch shares, by whichever execution."""
        made = super().__new__(cls, rows, clock)
        made.thin = thin
        return made

    @property
    def not_thin(self) -> tuple[Row, ...]:
        """The sites that were adopted as `adopt` does; their rows say why."""
        return tuple(row for row in self.rows if row.reached and row.site not in self.thin)


def nothing_thin(who: str, reasons: dict[str, str]) -> str:
    """What thin says of a model in which no dropout can run thin."""
    told = "; ".join(f"{name!r}: {why}" for name, why in reasons.items())
    return (
        f"{who}: no dropout of the model can run thin{f' ({told})' if told else ''}. Use adopt, or "
        "put dropout between two Linear layers with elementwise functions only."
    )
