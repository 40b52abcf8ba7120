"""`thinned fit`, `thinned predict` and `thinned export`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from thinned.cli.streams import output_as_a_file, wrapped
from thinned.errors import StoppedError
from thinned.printable import printable

if TYPE_CHECKING:
    from thinned.fit.results import Result

__all__ = ["export", "fit", "predict"]


class _Task(StrEnum):
    auto = "auto"
    classification = "classification"
    regression = "regression"


def fit(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="[FILE.py:FUNCTION] DATA",
            help="digits, wine, breast_cancer or diabetes; a file (CSV, Parquet, Excel, and more); "
            "or - for standard input. Before it, if you like, a function of yours that builds the "
            "network.",
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column to predict; given again, one network learns all. Default: target, else "
            "the last column.",
        ),
    ] = None,
    task: Annotated[_Task, typer.Option(help="What the target is.")] = _Task.auto,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="COLUMN=KIND",
            help="What a column is: number, grouped, date, day/month/year, month/day/year, "
            "duration or text. May be given again.",
        ),
    ] = None,
    missing: Annotated[
        str | None, typer.Option(help='Texts that count as missing, as "?,-".')
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of a file of separated text, as cp1251. Default: found out."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Learn from it whatever it holds. May be given again."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Leave it out. May be given again."),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Rows with equal cells in it are never separated."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Look at rows that are later than those that are trained on."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="How much each row counts, in training and scores."),
    ] = None,
    p: Annotated[
        str,
        typer.Option(
            help="Probabilities to drop, compared with each other and with 0. One number is for "
            "the inputs and every hidden layer; 0.3x0.5 has one for each hidden layer."
        ),
    ] = "0,0.1,0.2,0.3,0.5",
    hidden: Annotated[str, typer.Option(help="Units of each hidden layer.")] = "256,256",
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Most epochs. Default: about 3000 gradient steps, 10 to 300 epochs.",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What decides: loss, accuracy, balanced_accuracy, auc or average_precision; of a "
            "quantity loss, rmse, r2 or mae.",
        ),
    ] = "loss",
    repeats: Annotated[
        int, typer.Option(min=1, max=1000, help="Times that the five folds are drawn.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Rules every draw.")] = 0,
    rows: Annotated[int, typer.Option(min=0, help="Learn from a sample of N rows; 0 is all.")] = 0,
    learning_rate: Annotated[float, typer.Option(min=1e-8, max=10.0, help="Of Adam.")] = 0.001,
    tune: Annotated[
        str | None,
        typer.Option(help="Choose with Optuna: p, width, depth and learning_rate, or some."),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, help="Settings that --tune tries.")
    ] = 20,
    aside: Annotated[
        int,
        typer.Option(min=0, help="Choose p, or what --tune says, on N rows set aside; 0 is not."),
    ] = 0,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End within 90s, 10m or 2h: less is done, and the report says so."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=65536, help="Processes that train. Default: one for each core."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where to train: dask, dask://HOST:PORT, ray or ray://HOST:PORT."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: thinned- and the name of DATA.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a former result.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Say what dropout does for DATA: cross-validate every p, refit at the best, write a report.

    Writes report.html, metrics.json, predictions.csv and the model (model.safetensors, model.json)
    into a folder that appears complete or not at all.
    """
    from thinned.cli.again import command
    from thinned.cli.progress import progress
    from thinned.errors import InputError
    from thinned.fit.choices import Choices, read_encoding, read_missing, read_types
    from thinned.fit.engines import check_engine, engine_for
    from thinned.fit.folder import whole_folder
    from thinned.fit.job import least_bytes, read_hidden
    from thinned.fit.kept import Kept
    from thinned.fit.lock import beside
    from thinned.fit.metrics import metric_for
    from thinned.fit.own import read_data
    from thinned.fit.plan import read_duration
    from thinned.fit.rate import read_p
    from thinned.fit.results import FitSettings
    from thinned.fit.running import Watch
    from thinned.fit.several import Pages, run_each
    from thinned.fit.tables import loaded
    from thinned.fit.tune import Tuning, read_tune
    from thinned.report import page, page_of_targets

    start = monotonic()
    network, table = read_data(data)
    sizes = read_hidden(hidden)
    if network is not None:
        if hidden != "256,256":
            raise InputError(f"--hidden: the layers are those that {network.called} builds.")
        sizes = ()
    ps = read_p(p, len(sizes) if network is None else None)
    settings = FitSettings(ps, sizes, epochs or 0, repeats, seed, rows, aside)
    settings = replace(settings, learning_rate=learning_rate, metric=metric, network=network)
    tuning = None if tune is None else Tuning(read_tune(tune), trials)
    if tuning is not None:
        tuning.check(settings)
    until = None if time_limit is None else start + read_duration(time_limit)
    if engine is not None:
        check_engine(engine)
    lists = tuple(keep or ()), tuple(drop or ())
    columns = groups, time, weights
    choices = Choices(
        read_types(types or ()), read_missing(missing), *lists, *columns, read_encoding(encoding)
    )
    name = "data" if table == "-" else Path(table).stem
    folder = out or Path(f"thinned-{name or 'data'}")

    pages = Pages(
        lambda result: page(result, command(fit, result)),
        lambda results: page_of_targets(results, command(fit, results[0])),
    )

    def say(note: str) -> None:
        if not quiet:
            typer.echo(wrapped(printable(note), "  "))

    watch = Watch(say, lambda total: progress(total, quiet))
    kept = Kept(beside(folder, "jobs"))
    try:
        with whole_folder(folder, overwrite, least_bytes(settings.hidden)) as made:
            problems = loaded(table, target or (), task.value, choices)
            for kind in [problem.task for problem in problems]:
                metric_for(kind, metric)
            with engine_for(engine, jobs) as where:
                results = run_each(
                    problems, settings, made, pages, watch, kept.over(where), until, tuning
                )
    except KeyboardInterrupt:
        if kept.holds:
            raise StoppedError(
                "interrupted; the same command goes on where it was "
                f"({kept.folder.name} holds what is done)."
            ) from None
        raise
    except Exception:
        kept.clear()
        raise
    kept.clear()
    if not quiet:
        from thinned.fit.words import duration

        for result in results:
            typer.echo(_summary(result))
        page_there = printable(str(folder / "report.html"))
        seconds = [result.took.seconds for result in results if result.took]
        took = f" in {duration(sum(seconds))}" if seconds else ""
        typer.echo(f"\nWritten{took} to {printable(str(folder))}: open {page_there} in a browser.")


def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What thinned fit wrote.", show_default=False)
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="As in fit; it need not have the target.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: standard output.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
    members: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000_000,
            help="Thinned networks whose mean is the answer, and whose spread is given.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Which members.")] = 0,
    level: Annotated[
        float | None,
        typer.Option(
            help="Give intervals, or sets of classes, that hold the truth with this probability on "
            "average, as 0.9.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="What builds the model's network, where that is your own: the file of the fit.",
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of a file of separated text. Default: found out.")
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Write texts as they are. A spreadsheet would run those that are formulas.",
        ),
    ] = False,
) -> None:
    """Apply a fitted model to DATA: a CSV of predictions, with a probability for each class.

    With --members each row has the standard deviation between members too, and, for classes, the
    predictive entropy and the mutual information, in nats; those of a model at p = 0 are of the
    network that was fitted with dropout beside it. With --level 0.9 each value has an interval, low
    to high, and each class a set of classes. A text that a spreadsheet would take for
    a formula begins with an apostrophe.
    """
    import numpy as np

    from thinned.errors import InputError
    from thinned.fit.cells import guarded
    from thinned.fit.choices import read_encoding
    from thinned.fit.conformal import bounded
    from thinned.fit.folder import check_file, recover, whole_file
    from thinned.fit.model import Answers, Said, read_for, write_predictions
    from thinned.fit.own import own_of
    from thinned.fit.saved import load_models

    if level is not None:
        if not 0.0 < level < 1.0:
            hint = " Did you pass a percentage?" if 1 < level < 100 else ""
            raise InputError(f"--level: must be above 0 and below 1, got {level:g}.{hint}")
        if members is not None:
            raise InputError(
                "--level and --members: intervals are about the answers of the whole network; ask "
                "for them in a run without --members."
            )
    if out is not None:
        check_file(out, overwrite)
    recover(folder)
    models = load_models(folder, None if network is None else own_of(network))

    def write(stream: TextIO, spelled: Callable[[str], str]) -> None:
        read = read_for(models, data, read_encoding(encoding))
        for note in dict.fromkeys(note for *_, notes in read for note in notes):
            typer.echo(f"thinned: {printable(note)}", err=True)
        said = []
        for model, (frame, target, _) in zip(models, read, strict=True):
            if members is None:
                answers = model.answers(frame)
                answers = answers if level is None else bounded(model, answers, level)
            else:
                answers = Answers.of_members(model.members(frame, members, seed))
            said.append(Said(model, answers, target))
        rows = np.arange(1, len(read[0][0]) + 1)
        write_predictions(stream, rows, said, spelled)

    def write_file(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            write(stream, str if raw else guarded)

    if out is not None:
        whole_file(out, write_file, overwrite)
    elif sys.stdout.isatty():
        write(sys.stdout, printable)
    else:
        with output_as_a_file():
            write(sys.stdout, str if raw else guarded)


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What thinned fit wrote.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="To write, as model.onnx.", show_default=False)
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
) -> None:
    """Write a fitted model with its encoder as ONNX, for programs without Python.

    It has an input for each column that the model reads: numbers as float64, NaN where one is
    missing, and texts, empty where one is missing.
    """
    from thinned.fit.export import export as write
    from thinned.fit.folder import check_file, recover
    from thinned.fit.saved import load_model

    check_file(out, overwrite)
    recover(folder)
    write(load_model(folder), out, overwrite)
    typer.echo(f"Written to {printable(str(out))}.")


def _summary(result: Result) -> str:
    """The result for a terminal: the verdict, the tables, the sentences."""
    from thinned.fit.words import baseline_table, table

    target = f"{printable(result.data.target)}: " if len(result.data.targets) > 1 else ""
    head = wrapped(f"{target}{result.headline}")
    lines = ["", head, "", table(result), "", baseline_table(result), ""]
    return "\n".join(lines + [wrapped(f"- {sentence}", "  ") for sentence in result.sentences])
