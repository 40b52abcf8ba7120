"""The training and the prediction that both estimators share: a perceptron under dropout."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from thinned.address import Address
from thinned.estimators.layers import SparseLinear, network_of
from thinned.estimators.members import MembersMixin
from thinned.estimators.settings import Settings, seed_of, settings_of
from thinned.estimators.weights import row_weights
from thinned.foreign_arguments import telling
from thinned.numpy import SGD, Adam, Linear, Optimizer, Sequential, batches

__all__ = ["DropoutMLP"]

Array = NDArray[Any]

# Rows that go through the network together in prediction: enough for full speed of the products,
# few enough that the hidden units of a million rows never stand in memory at once.
PREDICT_ROWS = 4096


def _has_columns(y: Any) -> bool:
    """Whether y has a column for each of several labels."""
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # rows of different lengths, which are refused later
        return False
    return len(shape) == 2 and shape[1] != 1


@telling
class DropoutMLP(MembersMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What the classifier and the regressor share: everything but the meaning of y."""

    coefs_: list[Array]
    intercepts_: list[Array]
    n_outputs_: int
    loss_curve_: list[float]
    # float and list of float, or None: which of them, early_stopping decides.
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        p: Any = 0.2,
        activation: str = "relu",
        solver: str = "adam",
        learning_rate_init: float = 0.001,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = None,
        shuffle: bool = True,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: bool | int = False,
        execution: str = "elementwise",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.p = p
        self.activation = activation
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.max_norm = max_norm
        self.shuffle = shuffle
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.execution = execution

    # ------------------------------------------------------------------------------ what y means

    def _encode(self, y: Any, fresh: bool, classes: Any = None) -> Array:
        """y as the loss takes it; `fresh` means that nothing has been learnt yet."""
        raise NotImplementedError

    def _loss(self, scores: Array, y: Array, weights: Array | None) -> tuple[float, Array]:
        raise NotImplementedError

    def _validation_score(self, scores: Array, y: Array, weights: Array | None) -> float:
        raise NotImplementedError

    def _weighted(self, y: Array, weights: Array | None) -> Array | None:
        """The weights of rows, None for equal ones; a classifier has weights of classes besides."""
        return weights

    # --------------------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train until the loss (or the validation score) stops improving, or for max_iter epochs.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features). Used in float32.
        y : array, shape (n_samples,); for the regressor (n_samples, n_outputs) too.
        sample_weight : array of numbers in [0, inf), shape (n_samples,), or None for equal weights.
            The weight of a row's loss, relative to the mean weight. Rows of weight 0 are as
            if they were not there.

        Returns
        -------
        self. With warm_start=True training goes on where the last call stopped.

        Raises
        ------
        ValueError, TypeError if a parameter or the data cannot be used; ValueError too if the loss
        stops being finite. Warns with ConvergenceWarning if max_iter ends the training.
        """
        settings = settings_of(self)
        fresh = not (self.warm_start and hasattr(self, "coefs_"))
        X, y, weights = self._read(X, y, sample_weight, fresh)
        optimizer = self._prepare(settings, X.shape[1], fresh)
        if self.early_stopping:
            X, X_held, y, y_held, weights, weights_held = self._hold_out(settings, X, y, weights)
            best = self._copied()  # if training goes on, the best so far
        without_gain = 0
        self.n_iter_ = 0
        for _ in range(settings.max_iter):
            self._epoch(settings, optimizer, X, y, weights)
            if self.early_stopping:
                before = self.best_validation_score_
                score = self._score_held_out(X_held, y_held, weights_held)
                gain = score >= before + settings.tol
                if score > before:
                    best = self._copied()
            else:
                gain = self.loss_ <= self.best_loss_ - settings.tol
                self.best_loss_ = min(self.loss_, self.best_loss_)
            self._say_epoch()
            without_gain = 0 if gain else without_gain + 1
            if without_gain > settings.patience:
                if self.verbose:
                    print(f"stopped: no gain of {settings.tol:g} in {without_gain} epochs")
                break
        else:
            warnings.warn(
                f"{type(self).__name__}: max_iter ({settings.max_iter} epochs) was reached before "
                "the training stopped by itself. Raise max_iter, or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if self.early_stopping:
            for value, found in zip((*self.coefs_, *self.intercepts_), best, strict=True):
                value[...] = found
        optimizer.network.forget()
        return self

    def _score_held_out(self, X: Any, y: Array, weights: Array | None) -> float:
        score = self._validation_score(self._scores(X), y, weights)
        self.validation_scores_.append(score)
        self.best_validation_score_ = max(score, self.best_validation_score_)
        return score

    def _copied(self) -> list[Array]:
        return [value.copy() for value in (*self.coefs_, *self.intercepts_)]

    def _say_epoch(self) -> None:
        if self.verbose:
            said = f"epoch {len(self.loss_curve_)}: loss {self.loss_:.6f}"
            if self.validation_scores_:
                said += f", validation score {self.validation_scores_[-1]:.6f}"
            print(said)

    def _partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        settings = settings_of(self)
        if self.early_stopping:
            raise ValueError(
                f"{type(self).__name__}.partial_fit: early_stopping must be False: one epoch has "
                "nothing to stop. Hold out validation rows yourself, or use fit."
            )
        fresh = not hasattr(self, "coefs_")
        X, y, weights = self._read(X, y, sample_weight, fresh, classes)
        optimizer = self._prepare(settings, X.shape[1], fresh)
        self.n_iter_ = 0
        self._epoch(settings, optimizer, X, y, weights)
        self.best_loss_ = min(self.loss_, self.best_loss_)
        self._say_epoch()
        optimizer.network.forget()
        return self

    def _epoch(
        self,
        settings: Settings,
        optimizer: Optimizer,
        X: Any,
        y: Array,
        weights: Array | None,
    ) -> None:
        """Go once over the rows, one step of the address for each batch."""
        who, network, n = type(self).__name__, optimizer.network, X.shape[0]
        size = min(200 if settings.batch_size is None else settings.batch_size, n)
        order = Address(self.seed_, "shuffle", len(self.loss_curve_)) if self.shuffle else None
        total = 0.0
        # An overflow shows as a loss that is not finite, and is reported as that.
        with np.errstate(over="ignore", invalid="ignore"):
            for rows in batches(n, size, order):
                some = None if weights is None else weights[rows]
                loss, dy = self._loss(network.forward(X[rows], training=True), y[rows], some)
                network.gradients(dy)
                optimizer.step()
                total += loss * len(rows)
                self.step_ += 1
        self.loss_ = total / n
        finite = all(np.isfinite(value).all() for value in (*self.coefs_, *self.intercepts_))
        if not (np.isfinite(self.loss_) and finite):
            raise ValueError(
                f"{who}: training diverged: the loss in epoch {len(self.loss_curve_) + 1} is "
                f"{self.loss_:g}, or a weight is not finite. Scale the features (StandardScaler), "
                "or lower learning_rate_init."
            )
        self.loss_curve_.append(self.loss_)
        self.n_iter_ += 1
        self.t_ += n

    def _prepare(self, settings: Settings, n_features: int, fresh: bool) -> Optimizer:
        """The optimizer over a network: drawn anew, or built around what has been learnt."""
        units = (n_features, *settings.hidden, self.n_outputs_)
        shapes = list(pairwise(units))
        if fresh:
            self.seed_ = seed_of(self)
            self.step_, self.t_, self.loss_curve_ = 0, 0, []
            self.n_layers_ = len(units)
            self._reset_best()
        elif [coef.shape for coef in self.coefs_] != shapes:
            learnt = tuple(coef.shape[1] for coef in self.coefs_[:-1])
            raise ValueError(
                f"{type(self).__name__}: hidden_layer_sizes must stay {learnt} while training goes "
                f"on, got {settings.hidden}. Set warm_start=False, or clone the estimator."
            )
        elif (self.validation_scores_ is None) == self.early_stopping:
            self._reset_best()  # early_stopping was switched since
        self.p_ = settings.p
        self.sites_ = ["input", *(f"hidden.{i + 1}" for i in range(len(settings.hidden)))]
        masks = [Address(self.seed_, site, self.step_) for site in self.sites_]
        layers: list[Linear] = []
        for i, (n_in, n_out) in enumerate(shapes):
            at = Address(self.seed_, f"weights.{i}")
            layers.append(SparseLinear(n_in, n_out, "glorot", at if fresh else None))
            if not fresh:
                layers[i].at, layers[i].weight, layers[i].bias = (
                    at,
                    self.coefs_[i],
                    self.intercepts_[i],
                )
        network = network_of(layers, masks, settings)
        parameters = [parameter.value for parameter in network.parameters()]
        self.coefs_, self.intercepts_ = parameters[::2], parameters[1::2]
        optimizer = self._new_optimizer(network)
        before = getattr(self, "_optimizer", None)
        if not fresh and type(before) is type(optimizer):
            optimizer.carry_on(before)
        self._optimizer = optimizer
        return optimizer

    def _reset_best(self) -> None:
        early = self.early_stopping
        self.validation_scores_ = [] if early else None
        self.best_validation_score_ = -np.inf if early else None
        self.best_loss_ = None if early else np.inf

    def _new_optimizer(self, network: Sequential) -> Optimizer:
        shared: dict[str, Any] = {
            "learning_rate": self.learning_rate_init,
            "weight_decay": self.weight_decay,
            "max_norm": self.max_norm,
        }
        if self.solver == "sgd":
            return SGD(network, momentum=self.momentum, **shared)
        return Adam(network, **shared)

    def _hold_out(
        self, settings: Settings, X: Any, y: Array, weights: Array | None
    ) -> tuple[Any, Any, Array, Array, Array | None, Array | None]:
        """Training and validation rows: the same ones each time that training goes on."""
        rows, held = train_test_split(
            np.arange(len(y)),
            test_size=settings.validation_fraction,
            random_state=self.seed_ % 2**32,
            stratify=y if y.ndim == 1 else None,
        )
        y_held = y[held]
        if len(y_held) < 2:
            raise ValueError(
                f"{type(self).__name__}: early_stopping needs at least 2 validation rows, got "
                f"{len(y_held)} of {len(y)}. Raise validation_fraction."
            )
        parts = (None, None) if weights is None else (weights[rows], weights[held])
        return X[rows], X[held], y[rows], y_held, *parts

    # ------------------------------------------------------------------------------- prediction

    def _scores(self, X: Any) -> Array:
        """What the output layer says of each row, in X's type: nothing is dropped."""
        rows = range(0, X.shape[0], PREDICT_ROWS)
        weights = [
            (coef.astype(X.dtype, copy=False), intercept.astype(X.dtype, copy=False))
            for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        return np.concatenate([self._forward(X[i : i + PREDICT_ROWS], weights) for i in rows])

    def _forward(self, y: Any, weights: list[tuple[Array, Array]]) -> Array:
        for i, (coef, intercept) in enumerate(weights):
            y = y @ coef
            y += intercept
            if i < len(weights) - 1:
                y = np.maximum(y, 0, out=y) if self.activation == "relu" else np.tanh(y, out=y)
        return np.asarray(y)

    def _checked_scores(self, X: Any) -> Array:
        check_is_fitted(self)
        kinds = [np.float64, np.float32]
        return self._scores(validate_data(self, X, reset=False, accept_sparse="csr", dtype=kinds))

    # ----------------------------------------------------------------------------- what is read

    def _read(
        self, X: Any, y: Any, sample_weight: Any, fresh: bool, classes: Any = None
    ) -> tuple[Any, Array, Array | None]:
        """X in float32, y encoded, and weights of mean 1, or None for equal ones; all checked."""
        X, y = validate_data(
            self,
            X,
            y,
            reset=fresh,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            multi_output=isinstance(self, RegressorMixin) or _has_columns(y),
            y_numeric=isinstance(self, RegressorMixin),
        )
        who = type(self).__name__
        weights = None if sample_weight is None else row_weights(who, sample_weight, len(y))
        if weights is not None and not weights.all():
            rows = np.flatnonzero(weights)
            X, y, weights = X[rows], y[rows], weights[rows]
        X, y = self._single("X", X), self._encode(y, fresh, classes)
        weights = self._weighted(y, weights)
        if weights is not None:
            weights = (weights / weights.mean()).astype(np.float32)
        return X, y, weights

    def _single(self, name: str, array: Any) -> Any:
        """The array in float32, in which training runs."""
        with np.errstate(over="ignore"):
            single: Any = array.astype(np.float32, copy=False)
        stored: Array = single.data if hasattr(single, "indptr") else single
        if not np.isfinite(stored).all():
            raise ValueError(
                f"{type(self).__name__}: {name} must fit into float32, got a value beyond 3.4e38. "
                "Scale it."
            )
        return single

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
