"""The main job: what dropout does for a table of data, and a model that can be applied to more.

`fit` does it for a table that a program holds, `load` reads what was saved. Inside, `tables` reads,
`search` trains and compares, `saved` keeps the model, `running` puts them in order. The command
line and the report stand on top of this.
"""

from typing import TYPE_CHECKING, Any

from thinned import _later

if TYPE_CHECKING:
    from thinned.fit.api import fit
    from thinned.fit.estimator import TableClassifier, TableRegressor
    from thinned.fit.outcome import Result
    from thinned.fit.outcomes import Results, load

__all__ = ["Result", "Results", "TableClassifier", "TableRegressor", "fit", "load"]

# Loaded at first use: a name, and the file that holds it.
_LATER = {
    "Result": "thinned.fit.outcome",
    "Results": "thinned.fit.outcomes",
    "TableClassifier": "thinned.fit.estimator",
    "TableRegressor": "thinned.fit.estimator",
    "fit": "thinned.fit.api",
    "load": "thinned.fit.outcomes",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return _later.attribute(__name__, _LATER, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
