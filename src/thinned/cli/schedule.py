"""`thinned schedule`: how p runs over training and over depth, drawn in characters."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from thinned import schedules
from thinned.printable import printable
from thinned.schedules import SCHEDULES, Schedule

__all__ = ["schedule"]

# What is drawn where an option is left out.
_SHOWN: dict[str, Any] = {
    "constant": schedules.constant(0.1),
    "early": schedules.early(0.1, until=0.2),
    "late": schedules.late(0.1, after=0.5),
    "linear": schedules.linear(0.0, 0.3),
    "annealed": schedules.annealed(0.5, until=0.8),
    "curriculum": schedules.curriculum(0.5),
    "piecewise": schedules.piecewise((0.0, 0.3, 0.1), (0.1, 0.6)),
    "depth_linear": schedules.depth_linear(0.3),
    "stochastic_depth_rule": schedules.stochastic_depth_rule(0.5),
    "scheduled_drop_path": schedules.scheduled_drop_path(0.3),
}
# The parts of a schedule that is written out; custom takes a function, which cannot be typed.
_WRITTEN: dict[str, Any] = {
    **{kind.__name__: kind for kind in SCHEDULES},
    **{kind.__name__: kind for kind in (schedules.product, schedules.minimum, schedules.maximum)},
}
_COLUMNS, _ROWS, _SMALL = 60, 10, 16
# From empty to full, by eighths of a row; and what every terminal can show.
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " #"
_FORMATS = ("png", "svg", "pdf")
# Steps that a picture is drawn from at most, and layers that it has lines for.
_MOST_STEPS, _MOST_LINES = 2000, 12


def schedule(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="early, or 'early(0.1, until=0.2)'. Without it, all are listed.",
            show_default="",
        ),
    ] = None,
    p: Annotated[
        str | None, typer.Option(help="Probability to drop; for piecewise several, by commas.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="0.2: a fraction of the steps. 200: a count of them.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="As --until, for late.")] = None,
    starts: Annotated[
        str | None, typer.Option(help="As --until, for piecewise: several, by commas.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="constant or linear, for early.")] = None,
    start: Annotated[str | None, typer.Option(help="First p, for linear.")] = None,
    end: Annotated[str | None, typer.Option(help="Last p, for linear.")] = None,
    gamma: Annotated[
        str | None, typer.Option(help="Per step, for curriculum. Default: 10 / steps.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=10**9, help="Steps of the whole run.")] = 1000,
    layers: Annotated[int, typer.Option(min=1, max=1000, help="Layers of the model.")] = 12,
    layer: Annotated[
        int | None,
        typer.Option(min=0, help="Layer to draw, where p has both. Default: the last one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write too: a .png, .svg or .pdf file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
) -> None:
    """Draw how p runs over the training steps or over the layers, or list the schedules."""
    from thinned.errors import InputError

    given = {
        "p": p, "until": until, "after": after, "starts": starts, "shape": shape, "start": start,
        "end": end, "gamma": gamma,
    }  # fmt: skip
    said = {option: text for option, text in given.items() if text is not None}
    if name is None:
        if said or out is not None:
            option = next(iter(said), "out")
            raise InputError(f"--{option} is for one schedule: thinned schedule NAME --{option}.")
        _list()
        return
    made = _made(name, said)
    layer = layers - 1 if layer is None else layer
    if layer >= layers:
        raise InputError(f"--layer must be below --layers ({layers}), got {layer}.")
    if out is not None:
        _check_picture(out, overwrite)
    typer.echo(_drawing(made, steps, layer, layers))
    if out is not None:
        _write(made, steps, layers, out, overwrite)
        typer.echo(f"\nWritten to {printable(str(out))}.")


def _list() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if _blocks() is _BLOCKS else box.ASCII, pad_edge=False)
    for heading in ("schedule", "p over time, or depth", "formula"):
        table.add_column(heading, no_wrap=heading != "formula")
    for kind in SCHEDULES:
        ps = _sampled(_SHOWN[kind.__name__], _SMALL, _SMALL, _SMALL - 1, _SMALL)
        (line,) = _bars(ps, 1, max(*ps, 1e-9))
        table.add_row(kind.__name__, line, _formula(kind))
    Console(highlight=False, markup=False).print(table)
    typer.echo("t: step of T, l: layer of L, both from 0. thinned schedule NAME draws one.")


def _formula(kind: type[Schedule]) -> str:
    """The first sentence of the docstring's second paragraph, which says what p is."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return " ".join(paragraphs[1].split()).partition(". ")[0].removesuffix(".")


# ------------------------------------------------------------------------------------- the schedule


def _made(name: str, given: dict[str, str]) -> Schedule:
    """The schedule of this name, as it is shown, with what was given."""
    from thinned.errors import InputError, quoted

    if name not in _SHOWN and "(" in name:
        if given:
            remedy = "Its numbers stand between its parentheses."
            raise InputError(f"{quoted(name)} is written out: --{next(iter(given))}. {remedy}")
        return _written(name)
    if name not in _SHOWN:
        near = difflib.get_close_matches(name, list(_SHOWN), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        known = ", ".join(_SHOWN)
        raise InputError(f"{quoted(name)} is no schedule.{hint} There are: {known}.")
    shown = _SHOWN[name]
    fields = [field.name for field in dataclasses.fields(shown)]
    for option in given:
        if option not in fields:
            takes = ", ".join(f"--{field}" for field in fields)
            raise InputError(f"{name} has no --{option}. It takes: {takes}.")
    values = {option: _read(name, option, text) for option, text in given.items()}
    try:
        made: Schedule = dataclasses.replace(shown, **values)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    return made


def _written(text: str) -> Schedule:
    """A schedule in the form in which it prints itself: names, numbers and *, and nothing else."""
    from thinned.errors import InputError, quoted

    try:
        found = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, UnicodeError, MemoryError):
        found = None
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    if not isinstance(found, Schedule):
        raise InputError(
            f"{quoted(text)} is no schedule. Write numbers in its parentheses, 'early(0.1, "
            "until=0.2)', and * between two: 'depth_linear(0.4) * late(1.0, after=100)'."
        )
    return found


def _value(part: ast.expr) -> Any:
    """What a part of it is; SyntaxError for whatever is no number, word, tuple or schedule."""
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult):
        factors = _value(part.left), _value(part.right)
        if not all(isinstance(factor, Schedule | float | int) for factor in factors):
            raise SyntaxError
        return factors[0] * factors[1]
    if isinstance(part, ast.Call):
        name = part.func.id if isinstance(part.func, ast.Name) else ""
        named = {option.arg: _value(option.value) for option in part.keywords if option.arg}
        if name not in _WRITTEN or len(named) < len(part.keywords):
            raise SyntaxError
        kind, parts = _WRITTEN[name], [_value(argument) for argument in part.args]
        try:
            inspect.signature(kind).bind(*parts, **named)
        except TypeError as error:
            takes = ", ".join(inspect.signature(kind).parameters)
            raise TypeError(f"{name}: {error}. It takes {takes}.") from None
        return kind(*parts, **named)
    try:
        return ast.literal_eval(part)
    except ValueError:
        raise SyntaxError from None


def _read(name: str, option: str, text: str) -> Any:
    if option == "shape":
        return text
    if option == "starts" or (option == "p" and name == "piecewise"):
        return tuple(_number(option, part) for part in text.split(",") if part.strip())
    return _number(option, text)


def _number(option: str, text: str) -> float | int:
    """An integer where it is written as one: then it counts steps."""
    from thinned.errors import InputError, quoted

    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"--{option}: {quoted(text)} is no number.")


def _sampled(made: Schedule, columns: int, steps: int, layer: int, layers: int) -> list[float]:
    """p at the steps, or in the layers, that `columns` columns stand for, the ends among them."""
    if made.over == ("layers",):
        return [made(_place(i, columns, layers), layers) for i in range(columns)]
    return [
        made.p_at(_place(i, columns, steps), steps, layer=layer, layers=layers)
        for i in range(columns)
    ]


def _place(column: int, columns: int, length: int) -> int:
    """Which of `length` things a column shows: each as wide as any other, if there is room."""
    if length <= columns:
        return column * length // columns
    return round(column * (length - 1) / (columns - 1))


# ------------------------------------------------------------------------------------ in characters


def _blocks() -> str:
    """What bars are built of, as far as standard output can say it."""
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _PLAIN
    return _BLOCKS


def _bars(ps: Sequence[float], rows: int, top: float) -> list[str]:
    """Lines of characters, the highest first. What is above 0 always shows."""
    blocks = _blocks()
    parts = len(blocks) - 1
    heights = [max(round(p / top * rows * parts), 1 if p > 0.0 else 0) for p in ps]
    return [
        "".join(blocks[min(max(height - row * parts, 0), parts)] for height in heights)
        for row in reversed(range(rows))
    ]


def _drawing(made: Schedule, steps: int, layer: int, layers: int) -> str:
    """The schedule, its curve with both axes, and p at five places."""
    deep = made.over == ("layers",)
    length, unit = (layers, "layer") if deep else (steps, "step")
    # Whole columns for each step or layer, where there are few.
    columns = _COLUMNS if length >= _COLUMNS else _COLUMNS // length * length
    ps = _sampled(made, columns, steps, layer, layers)
    top = max(ps) or 1.0
    middle = _ROWS // 2
    marks = {0: f"{top:.4g}", middle: f"{top / 2:.4g}", _ROWS: "0"}
    width = max(map(len, marks.values()))
    plain = _blocks() is _PLAIN
    side, corner, floor = ("|", "+", "-") if plain else ("│", "└", "─")
    title = repr(made) if deep else f"{made!r}, {steps} steps"
    if made.over == ("steps", "layers"):
        title += f", layer {layer} of 0 to {layers - 1}"
    lines = [title, ""]
    for row, bars in enumerate(_bars(ps, _ROWS, top)):
        lines.append(f"{marks.get(row, ''):>{width}} {side}{bars}".rstrip())
    lines.append(f"{marks[_ROWS]:>{width}} {corner}{floor * columns}")
    last = str(length - 1)
    lines.append(f"{'':{width}}  0{last:>{columns - 1}}" if length > 1 else f"{'':{width}}  0")
    lines += ["", *_numbers(made, unit, length, steps, layer, layers)]
    return "\n".join(lines)


def _numbers(
    made: Schedule, unit: str, length: int, steps: int, layer: int, layers: int
) -> list[str]:
    places = sorted({round(i * (length - 1) / 4) for i in range(5)})
    ps = [
        made(i, layers) if unit == "layer" else made.p_at(i, steps, layer=layer, layers=layers)
        for i in places
    ]
    cells = [(str(place), f"{p:.4g}") for place, p in zip(places, ps, strict=True)]
    wide = max(len(text) for cell in cells for text in cell)
    return [
        f"{unit:<5}" + "".join(f"  {place:>{wide}}" for place, _ in cells),
        f"{'p':<5}" + "".join(f"  {p:>{wide}}" for _, p in cells),
    ]


# ---------------------------------------------------------------------------------------- as a file


def _check_picture(out: Path, overwrite: bool) -> None:
    from thinned.errors import InputError
    from thinned.fit.folder import check_file

    if out.suffix.removeprefix(".").lower() not in _FORMATS:
        raise InputError(f"{out}: name a file that ends in .png, .svg or .pdf.")
    check_file(out, overwrite)


def _write(made: Schedule, steps: int, layers: int, out: Path, overwrite: bool) -> None:
    """The same curve by matplotlib; a line for each of some layers where p has both."""
    import matplotlib
    from matplotlib.figure import Figure

    from thinned.fit.folder import whole_file

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
        matplotlib.rcParams["svg.hashsalt"] = "thinned"  # the same picture has the same bytes
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        if made.over == ("layers",):
            axes.bar(range(layers), [made(i, layers) for i in range(layers)])
            axes.set_xlabel(f"layer (of {layers}, from 0)")
        else:
            count = min(steps, _MOST_STEPS)
            at = [_place(i, count, steps) for i in range(count)]
            lines = min(layers, _MOST_LINES) if "layers" in made.over else 1
            for i in range(lines):
                layer = layers - 1 if lines == 1 else round(i * (layers - 1) / (lines - 1))
                ps = [made.p_at(step, steps, layer=layer, layers=layers) for step in at]
                axes.plot(at, ps, label=f"layer {layer}", drawstyle="steps-post")
            if lines > 1:
                axes.legend(fontsize="small", ncols=2)
            axes.set_xlabel(f"step (of {steps}, from 0)")
        axes.set_ylabel("p (probability to drop)")
        axes.set_ylim(bottom=0.0)
        axes.set_title(repr(made), fontsize="medium", loc="left", parse_math=False)
        kind = out.suffix.removeprefix(".").lower()
        dated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]

        def save(path: Path) -> None:
            figure.savefig(path, format=kind, dpi=150, metadata=dated)

        whole_file(out, save, overwrite)
