"""What a fit of several targets leaves: a result for each of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinned.fit.facts import read_bytes
from thinned.fit.folder import folders_of, recover, whole_folder, write_whole
from thinned.fit.outcome import METRICS, REPORT, Result, result_in
from thinned.fit.own import Own, own_of
from thinned.fit.spoken import naming_arguments
from thinned.foreign_arguments import answering

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "load", "results_from"]


class Results(Mapping[str, Result]):
    """What a fit of several targets found: a `Result` for each, by its target's name.

    Attributes
    ----------
    metrics : dict. Of each target the headline, the best p and the test scores.
    headline : str. The verdicts, in a line.
    report : str. The page on all targets, a whole HTML document.

    Examples
    --------
    >>> import thinned.fit
    >>> from sklearn.datasets import load_linnerud
    >>> frame = load_linnerud(as_frame=True).frame
    >>> results = thinned.fit.fit(frame, target=["Weight", "Waist"], p=(0, 0.2), hidden=(8,),
    ...                           epochs=3, repeats=1, jobs=1)
    >>> list(results)
    ['Weight', 'Waist']
    >>> results.predict(frame).shape
    (20, 2)
    """

    def __init__(self, files: Mapping[str, bytes], results: Mapping[str, Result]) -> None:
        self._files, self._results = dict(files), dict(results)
        self.metrics: dict[str, Any] = json.loads(files[METRICS])
        pairs = [f"{name}: {one.headline}" for name, one in self._results.items()]
        self.headline: str = " ".join(pairs)

    @property
    def report(self) -> str:
        return self._files[REPORT].decode("utf-8")

    def __getitem__(self, target: str) -> Result:
        return self._results[target]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def predict(self, data: Any, members: int | None = None, *, seed: int = 0) -> pd.DataFrame:
        """The class or the value of each row: a DataFrame with a column for each target.

        Parameters
        ----------
        data, members, seed : as in `Result.predict`. The members of all targets are the same
            networks where the targets' best p is the same.
        """
        import pandas as pd

        found = {name: one.predict(data, members, seed=seed) for name, one in self.items()}
        return pd.DataFrame(found)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the folder that `thinned fit` writes, with a folder in it for each target: whole,
        or not at all. Raises as `Result.save`."""
        names = [one["folder"] for one in self.metrics["targets"]]
        with naming_arguments(), whole_folder(Path(folder), overwrite) as made:
            for name, content in self._files.items():
                write_whole(made / name, content)
            for part, result in zip(names, self.values(), strict=True):
                (made / part).mkdir()
                result.write(made / part)

    def __repr__(self) -> str:
        return f"Results({', '.join(map(repr, self))})"

    def __str__(self) -> str:
        return "\n\n".join(f"{name}\n\n{one}" for name, one in self.items())

    def _repr_html_(self) -> str:
        parts = (f"<h2>{escape(name)}</h2>{one._repr_html_()}" for name, one in self.items())
        return f"<div>{''.join(parts)}</div>"


@answering
def load(folder: str | Path, network: str | None = None) -> Result | Results:
    """The result in a folder that `thinned fit` or `Result.save` wrote.

    Parameters
    ----------
    folder : path.
    network : "train.py:model", what builds the network, where that is your own. The file is run.

    Returns
    -------
    Result, equal to the one that was saved; of several targets `Results`.

    Raises
    ------
    InputError, with one sentence, if it is no such folder, or anything in it is damaged.
    """
    folder = Path(folder)
    recover(folder)
    with naming_arguments():
        own = None if network is None else own_of(network)
    return results_in(folder, own)


def results_in(folder: Path, own: Own | None = None) -> Result | Results:
    """The result in a folder, or those of several targets. Raises as `load`."""
    parts = folders_of(folder)
    if not parts:
        return result_in(folder, own)
    found = [result_in(folder / part, own) for part in parts]
    files = {name: read_bytes(folder / name) for name in (METRICS, REPORT)}
    return Results(files, {one.metrics["data"]["target"]: one for one in found})


def results_from(write: Callable[[Path], object], own: Own | None = None) -> Result | Results:
    """What is in the folder that `write` fills."""
    with tempfile.TemporaryDirectory(prefix="thinned-") as name:
        folder = Path(name)
        write(folder)
        return results_in(folder, own)
