"""What a fit leaves, in memory: the files of its folder, and the model in them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError
from thinned.fit.estimator import TableClassifier, TableRegressor, estimator_of
from thinned.fit.facts import parsed, read_bytes
from thinned.fit.folder import FILES, whole_folder, write_whole
from thinned.fit.model import Answers, Model, Said, write_predictions
from thinned.fit.own import Own
from thinned.fit.rate import as_rate, spelled
from thinned.fit.saved import load_model
from thinned.fit.spoken import naming_arguments
from thinned.fit.threads import one_blas_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "result_in"]

METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.csv", "report.html"


class Result:
    """What a fit found, and its model. `thinned.fit.fit` and `thinned.fit.load` make it.

    Attributes
    ----------
    model : TableClassifier or TableRegressor. A fitted estimator of scikit-learn's kind that takes
        tables: how columns are read and encoded is inside.
    metrics : dict. Every number that was found; docs/fit.md names them.
    headline : str. The verdict in a sentence. sentences : list of str. What was found, in words.
    report : str. The report, a whole HTML document.
    predictions : DataFrame. What the model says of the test part, and of rows without a target.

    Examples
    --------
    >>> import thinned.fit
    >>> result = thinned.fit.fit("wine", p=(0, 0.2), hidden=(16,), epochs=5, repeats=1, jobs=1)
    >>> result.model.predict_proba(result.frame("wine")).shape
    (178, 3)
    """

    def __init__(self, files: Mapping[str, bytes], model: Model) -> None:
        self._files = dict(files)
        self._model = model
        self.model: TableClassifier | TableRegressor = estimator_of(model)
        self.metrics: dict[str, Any] = json.loads(files[METRICS])
        self.headline: str = self.metrics["headline"]
        self.sentences: list[str] = list(self.metrics["sentences"])

    @property
    def report(self) -> str:
        return self._files[REPORT].decode("utf-8")

    @property
    def predictions(self) -> pd.DataFrame:
        return _predictions_frame(self._files[PREDICTIONS].decode("utf-8"))

    def frame(self, data: Any) -> pd.DataFrame:
        """The model's columns of a table, read as the model reads them: a DataFrame of numbers
        (NaN is missing) and texts (None is missing).

        Parameters
        ----------
        data : as in `predict`.
        """
        return self.model._frame("thinned.fit.Result", data)

    def predict(self, data: Any, members: int | None = None, *, seed: int = 0) -> NDArray[Any]:
        """The class or the value of each row, shape (rows,).

        Parameters
        ----------
        data : a data frame, a dict of columns, an array of the model's columns in their order, or
            the path of a file. The target, and columns that were left out, may be there or not.
        members : int >= 2, or None for the whole network. The mean over this many thinned networks.
        seed : int in [0, 2^64). Which networks.

        Raises
        ------
        InputError if columns are missing, unexpected, or of another kind.
        """
        frame = self.frame(data)
        return self.model._labels(self._of(frame, members, seed))

    def table(self, data: Any, members: int | None = None, *, seed: int = 0) -> pd.DataFrame:
        """What `thinned predict` writes: row, target where data has it, prediction, a probability
        for each class, and with members how far they agree."""
        who = "thinned.fit.Result"
        with naming_arguments():
            source = self.model._source(who, data)
            frame, target, _ = self._model.taken_from(source)
        answers = self._of(frame, members, seed)
        stream = io.StringIO(newline="")
        rows = np.arange(1, len(frame) + 1)
        write_predictions(stream, rows, [Said(self._model, answers, target)], str)
        return _predictions_frame(stream.getvalue(), unguard=False)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the folder that `thinned fit` writes: whole, or not at all.

        Parameters
        ----------
        folder : path of a folder that is not there yet.
        overwrite : bool. Replace a former result.

        Raises
        ------
        InputError if it cannot be written, or is there already.
        """
        room = sum(map(len, self._files.values()))
        with naming_arguments(), whole_folder(Path(folder), overwrite, room) as made:
            self.write(made)

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, content in self._files.items():
            write_whole(folder / name, content)

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model with its encoder as an ONNX file: see `thinned export`.

        Raises
        ------
        InputError if the file cannot be written, or is there already. ImportError without onnx.
        """
        from thinned.fit.export import export

        with naming_arguments():
            export(self._model, Path(path), overwrite)

    def onnx_inputs(self, data: Any) -> dict[str, NDArray[Any]]:
        """What the exported model is given for the rows of a table: an array of shape (rows, 1) for
        each of its inputs, by name; numbers are float64, texts objects.

        Parameters
        ----------
        data : as in `predict`.
        """
        from thinned.fit.export import feeds

        return feeds(self._model, self.frame(data))

    def _of(self, frame: pd.DataFrame, members: int | None, seed: int) -> Answers:
        with one_blas_thread(), naming_arguments():
            if members is None:
                return self._model.answers(frame)
            return Answers.of_members(self._model.members(frame, members, seed))

    def __repr__(self) -> str:
        data = self.metrics["data"]
        return f"Result({self.headline!r}, target={data['target']!r}, task={data['task']!r})"

    def __str__(self) -> str:
        lines = [f"- {sentence}" for sentence in self.sentences]
        return "\n".join([self.headline, "", *lines])

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, a row for each p, and the sentences."""
        levels = self.metrics["levels"]
        names = list(levels[0]["validation"])
        head = ["p", "epochs", *(f"validation {name}" for name in names), "gap"]
        rows = []
        for level in levels:
            means = [level["validation"][name] for name in names] + [level["gap"]]
            cells = [f"{m['value']:.4g} ± {m['error']:.2g}" for m in means]
            rows.append([spelled(as_rate(level["p"])), str(level["epochs"]), *cells])
        lines = "".join(_row(row, "td") for row in rows)
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return (
            f"<div><h3>{escape(self.headline)}</h3><table><thead>{_row(head, 'th')}</thead>"
            f"<tbody>{lines}</tbody></table><ul>{said}</ul></div>"
        )


def result_in(folder: Path, own: Own | None = None) -> Result:
    """The result in a folder of one target. Raises InputError as `load`."""
    with naming_arguments():
        model = load_model(folder, own)
    files = {path.name: read_bytes(path) for path in sorted(folder.iterdir()) if path.is_file()}
    for name in sorted(FILES & {METRICS, PREDICTIONS, REPORT}):
        if name not in files:
            raise InputError(f"{folder}: no {name} in it; thinned fit did not write this folder.")
    facts = parsed(folder / METRICS, files[METRICS])
    if not isinstance(facts, dict) or facts.get("format") != "thinned.fit":
        raise InputError(f"{folder / METRICS}: not written by thinned fit.")
    return Result(files, model)


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _predictions_frame(text: str, unguard: bool = True) -> pd.DataFrame:
    import pandas as pd

    from thinned.fit.cells import unguarded

    frame = pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False, na_values=[""])
    if unguard:
        frame = frame.rename(columns=lambda name: unguarded(name))
        for name in ("target", "prediction"):
            if name in frame and pd.api.types.is_string_dtype(frame[name].dtype):
                frame[name] = frame[name].map(unguarded, na_action="ignore")
    return frame
