"""Estimators of scikit-learn's kind that take tables: reading and encoding are inside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as missing:
    raise ImportError(
        'thinned.fit needs scikit-learn. Install it with: pip install "thinned[fit]"'
    ) from missing

from thinned.checks import integer
from thinned.fit.choices import Choices
from thinned.fit.encoding import fitted
from thinned.fit.frames import NAME, categories, table_of, with_column
from thinned.fit.model import Answers, Model
from thinned.fit.rate import as_rate
from thinned.fit.results import FitSettings
from thinned.fit.source import TableFile
from thinned.fit.spoken import naming_arguments
from thinned.fit.tables import Problem, open_data, problems_of
from thinned.fit.threads import one_blas_thread
from thinned.fit.training import Job, train

if TYPE_CHECKING:
    import pandas as pd

    from thinned.members.prediction import Prediction

__all__ = ["TableClassifier", "TableRegressor", "estimator_of"]


class _Table(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both share: a table in, a network trained with dropout, answers out."""

    _task: str
    model_: Model

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (256, 256),
        *,
        p: float | tuple[float, ...] = 0.2,
        epochs: int = 20,
        batch_size: int = 32,
        learning_rate_init: float = 0.001,
        weight_decay: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.p = p
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train one network on all rows, for `epochs` epochs.

        Parameters
        ----------
        X : a data frame, a dict of columns, or an array of shape (rows, columns).
        y : one class or value for each row, shape (rows,).

        Returns
        -------
        self.

        Raises
        ------
        InputError, a ValueError, if X cannot be learned from.
        """
        who = f"{type(self).__name__}.fit"
        frame, name = with_column(who, X, "target", y, named=False)
        types = tuple(f"{one}=text" for one in categories(X))
        choices = Choices(types=types)
        with naming_arguments():
            source = table_of(who, frame)
            problem = problems_of(source, NAME, (name,), self._task, choices)[0]
        self._take(self._trained(problem))
        return self

    def _trained(self, problem: Problem) -> Model:
        who = type(self).__name__
        epochs = integer(who, "epochs", self.epochs, 1, 2**31)
        settings = FitSettings(
            p=(as_rate(self.p),),
            hidden=tuple(np.atleast_1d(self.hidden_layer_sizes).tolist()),
            epochs=epochs,
            repeats=1,
            seed=self.random_state,
            batch_size=self.batch_size,
            learning_rate=float(self.learning_rate_init),
            weight_decay=float(self.weight_decay),
        )
        encoder = fitted(problem.features, problem.columns)
        inputs = encoder.encode(problem.features)
        job = Job(
            key=(0,),
            task=problem.task,
            n_classes=len(problem.classes),
            inputs=(inputs, inputs[:1]),
            target=(problem.target, problem.target[:1]),
            p=as_rate(self.p),
            random_state=self.random_state,
            looks=(epochs,),
            settings=settings,
        )
        return Model(
            task=problem.task,
            target=problem.target_name,
            classes=problem.classes,
            columns=problem.columns,
            left_out=problem.left_out,
            encoder=encoder,
            network=train(job).network,
            readings=problem.readings,
            missing=problem.choices.missing,
            training={
                "p": list(p) if isinstance(p := as_rate(self.p), tuple) else p,
                "epochs": epochs,
                "random_state": self.random_state,
                "hidden_layer_sizes": list(settings.hidden),
                "batch_size": self.batch_size,
                "learning_rate_init": settings.learning_rate,
                "weight_decay": settings.weight_decay,
            },
        )

    def _take(self, model: Model) -> None:
        self.model_ = model
        self.feature_names_in_ = np.array(_columns_read(model), dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class or the value of each row, shape (rows,).

        Parameters
        ----------
        X : a data frame, a dict of columns, an array of the model's columns in their order, or the
            path of a file. The target, and columns that were left out, may be there or not.

        Raises
        ------
        InputError, a ValueError, if columns are missing, unexpected, or of another kind.
        """
        return self._labels(self._answered("predict", X))

    def predict_members(self, X: Any, members: int = 64, *, seed: int = 0) -> Prediction:
        """What many thinned networks answer, and how far they agree: see
        `thinned.members.predict`.

        Raises
        ------
        InputError if neither the network nor one saved beside it has dropout, as in a folder of
        an earlier version, and as `predict`.
        """
        check_is_fitted(self)
        frame = self._frame(f"{type(self).__name__}.predict_members", X)
        with naming_arguments():
            return self.model_.members(frame, members, seed)

    def _answered(self, name: str, X: Any) -> Answers:
        check_is_fitted(self)
        frame = self._frame(f"{type(self).__name__}.{name}", X)
        with one_blas_thread():  # then the same rows get the same answers everywhere
            return self.model_.answers(frame)

    def _labels(self, answers: Answers) -> NDArray[Any]:
        raise NotImplementedError

    def _source(self, who: str, X: Any) -> TableFile:
        if isinstance(X, (str, os.PathLike)):
            return open_data(os.fspath(X), self.model_.verbatim, self.model_.missing)
        return table_of(who, X, self.model_.missing, tuple(self.feature_names_in_))

    def _frame(self, who: str, X: Any) -> pd.DataFrame:
        with naming_arguments():
            return self.model_.taken_from(self._source(who, X))[0]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags


class TableClassifier(ClassifierMixin, _Table):  # type: ignore[misc]
    """A classifier of tables: a perceptron trained with dropout, with its encoder inside.

    Columns are read, left out and encoded as `thinned fit` does it; `docs/fit.md` says how.

    Parameters
    ----------
    hidden_layer_sizes : tuple of ints >= 1. Units of each hidden layer.
    p : float in [0, 1), or one for the input and one for each hidden layer. Probability to drop.
    epochs : int >= 1. Passes over the rows.
    batch_size : int >= 1. learning_rate_init : float > 0, of Adam. weight_decay : float >= 0.
    random_state : int in [0, 2^32).

    Attributes
    ----------
    classes_ : array, shape (n_classes,). feature_names_in_, n_features_in_ : the columns needed.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from thinned.fit import TableClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> TableClassifier((32,), epochs=30).fit(X, y).predict(X[:3]).tolist()
    [0, 0, 0]
    """

    _task = "classification"

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, in the order of classes_: shape (rows, n_classes)."""
        found = self._answered("predict_proba", X).probabilities
        assert found is not None
        return found

    def _take(self, model: Model) -> None:
        super()._take(model)
        # What was true or false in the table is so again.
        both = model.classes == ("False", "True")
        kind = object if any(isinstance(one, str) for one in model.classes) else None
        self.classes_ = np.array([False, True]) if both else np.array(model.classes, dtype=kind)

    def _labels(self, answers: Answers) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[answers.prediction]
        return labels


class TableRegressor(RegressorMixin, _Table):  # type: ignore[misc]
    """A regressor of tables. Everything as in `TableClassifier`, without classes.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from thinned.fit import TableRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> bool(TableRegressor((32,), epochs=20).fit(X, y).score(X, y) > 0.4)
    True
    """

    _task = "regression"

    def _labels(self, answers: Answers) -> NDArray[Any]:
        return answers.prediction


def estimator_of(model: Model) -> TableClassifier | TableRegressor:
    """The fitted estimator that a model is."""
    given = model.training
    kind = TableClassifier if model.task == "classification" else TableRegressor
    made = kind(
        tuple(given["hidden_layer_sizes"]),
        p=as_rate(given["p"]),
        epochs=given["epochs"],
        batch_size=given["batch_size"],
        learning_rate_init=given["learning_rate_init"],
        weight_decay=given["weight_decay"],
        random_state=given["random_state"],
    )
    made._take(model)
    return made


def _columns_read(model: Model) -> list[str]:
    """The columns that a table must have, in the order of fitting: where dates became several
    columns, the one that they were."""
    origin = {made: one.column for one in model.readings for made in one.makes}
    return list(dict.fromkeys(origin.get(c.name, c.name) for c in model.columns))
