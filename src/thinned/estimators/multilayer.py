"""scikit-learn estimators: multilayer perceptrons that are trained with addressed dropout."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message
from thinned.foreign_arguments import telling
from thinned.numpy import (
    sigmoid_cross_entropy,
    softmax,
    softmax_cross_entropy,
    squared_error,
)

try:
    from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import DataConversionWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.utils.multiclass import check_classification_targets

    from thinned.estimators.perceptron import DropoutMLP
    from thinned.estimators.weights import class_weights
except ModuleNotFoundError as missing:
    raise ImportError(
        "thinned.DropoutMLPClassifier and thinned.DropoutMLPRegressor need scikit-learn. "
        'Install it with: pip install "thinned[fit]"'
    ) from missing

__all__ = ["DropoutMLPClassifier", "DropoutMLPRegressor"]

Array = NDArray[Any]


@telling
class DropoutMLPClassifier(ClassifierMixin, DropoutMLP):  # type: ignore[misc]
    """A multilayer perceptron classifier, trained with dropout.

    Minimises the cross-entropy of a softmax over the classes; for several labels, which each are
    there or not (y of 0 and 1 with a column for each), that of a sigmoid for each. Each row of a
    minibatch trains its own thinned network (with execution="thin" the rows share one); prediction
    uses the whole one. Training runs in float32, prediction in the type of its X. Parameters and
    attributes that scikit-learn's MLPClassifier also has mean the same here.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of ints >= 1. Units of each hidden layer; () gives a linear
        model.
    p : float in [0, 1], or a sequence of them. Probability of dropping a unit: one number for every
        layer, the input included, or one for the input and one for each hidden layer.
    activation : "relu" or "tanh". Initial weights are Glorot's.
    solver : "adam" or "sgd".
    learning_rate_init : float in (0, inf). Constant over training.
    batch_size : int >= 1, or "auto", which is min(200, n_samples). Larger than the number of rows
        means all rows.
    max_iter : int >= 1. Maximum number of epochs (passes over the data).
    tol : float in [0, inf). Smallest improvement that counts, in the loss (nats) or the validation
        score.
    n_iter_no_change : int >= 1. Training stops after more than this number of epochs without
        improvement.
    early_stopping : bool. Hold out validation rows, stop by their score (accuracy; R2 for the
        regressor), and end with the weights that scored best.
    validation_fraction : float in (0, 1). The part held out, stratified by class.
    weight_decay : float in [0, inf). Decoupled, on weights and not on biases: each step takes
        learning_rate_init * weight_decay of every weight.
    momentum : float in [0, 1). For "sgd" only.
    max_norm : float in (0, inf), or None. The greatest norm of the weights coming into a unit.
    shuffle : bool. Take the rows in a new order each epoch.
    random_state : int in [0, 2^64), RandomState or None. An int is itself the seed of every draw;
        the others give a seed when training begins anew. Either way it is `seed_`.
    warm_start : bool. fit goes on where it stopped, optimizer and masks included.
    verbose : bool or int. Print a line after each epoch.
    execution : "elementwise", where each row has its own mask, or "thin", where the rows of a
        minibatch share one and dropped units are not computed: faster for wide hidden layers and
        large minibatches. The masks are then ``keep_mask(..., shared_axes=(0,))`` of the same
        addresses.
    class_weight : None, "balanced", or a dict from class to number in [0, inf), 1 for classes that
        it lacks. Every row's weight is multiplied by its class's. "balanced" gives all classes the
        same sum of weights.

    Attributes
    ----------
    classes_ : array, shape (n_classes,). n_features_in_, feature_names_in_ : as in scikit-learn.
    coefs_, intercepts_ : lists of float32 arrays, shapes (n_in, n_out) and (n_out,), one a layer.
    loss_, best_loss_ : float. The last and the least mean loss of an epoch, dropout at work.
        best_loss_ is None under early_stopping.
    loss_curve_ : list of float. loss_ after each epoch, over all calls.
    validation_scores_, best_validation_score_ : list of float, float; None without early_stopping.
    n_iter_ : int. Epochs of the last call. t_ : int. Rows seen so far, over all calls.
    n_layers_ : int. n_outputs_ : int. The number of classes, also for two. out_activation_ :
        "softmax", or "logistic" for several labels, whose classes_ are the numbers of y's columns.
    seed_, sites_, step_, p_ : what it takes to draw a mask again. For a minibatch of n rows in step
        s (steps count minibatches from 0, over all calls; `step_` is the next one), the mask on
        layer i is ``thinned.keep_mask((n, units), p_[i], thinned.Address(seed_, sites_[i], s))``.
        sites_ is ["input", "hidden.1", ...]. The rows of epoch e (from 0) go by
        ``thinned.numpy.batches(n_samples, batch_size, thinned.Address(seed_, "shuffle", e))``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from thinned import DropoutMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = DropoutMLPClassifier((50,), p=(0, 0.2), learning_rate_init=0.01, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.9)
    True

    References
    ----------
    Srivastava et al., 2014, JMLR 15, 1929-1958.
    """

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
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            p=p,
            activation=activation,
            solver=solver,
            learning_rate_init=learning_rate_init,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            weight_decay=weight_decay,
            momentum=momentum,
            max_norm=max_norm,
            shuffle=shuffle,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            execution=execution,
        )
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch over these rows; what `fit` learnt is where it goes on.

        Parameters
        ----------
        X, y : as in `fit`.
        classes : array of all labels that will ever come. Needed in the first call, where it may
            name labels that y lacks.
        sample_weight : as in `fit`; relative to the mean weight of these rows.

        Returns
        -------
        self.

        Raises
        ------
        ValueError as `fit`, and if a label is new, early_stopping is True, or class_weight is
        "balanced": no one knows yet how often each class comes.
        """
        several = hasattr(y, "shape") and len(y.shape) == 2 and y.shape[1] > 1
        if classes is None and not hasattr(self, "classes_") and not several:
            raise ValueError(
                f"{type(self).__name__}.partial_fit: classes must be given in the first call, "
                "for later ones may bring labels that this y lacks."
            )
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"{type(self).__name__}.partial_fit: class_weight must be None or a dict, got "
                f"{self.class_weight!r}: it is not known how often each class will come."
            )
        return self._partial_fit(X, y, classes, sample_weight)

    def predict(self, X: Any) -> Array:
        """The most probable class of each row: array of labels, shape (n_samples,). For several
        labels 1 for each that is more probable than not, else 0: shape (n_samples, n_labels)."""
        scores = self._checked_scores(X)
        if self.out_activation_ == "logistic":
            return (scores > 0).astype(np.int64)
        labels: Array = self.classes_[scores.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any, members: int | None = None, *, seed: int = 0) -> Array:
        """The probability of each class, in the order of classes_: shape (n_samples, n_classes);
        of several labels the probability of each.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features).
        members : int >= 2, or None for the whole network. The mean over this many thinned networks.
        seed : int in [0, 2^64). Which networks: see `predict_members`.
        """
        if members is not None:
            return self.predict_members(X, members, seed=seed).mean
        scores = self._checked_scores(X)
        return (
            np.exp(_log_sigmoid(scores)) if self.out_activation_ == "logistic" else softmax(scores)
        )

    def predict_log_proba(self, X: Any) -> Array:
        """The natural logarithm of `predict_proba`, finite where that has rounded to 0."""
        scores = self._checked_scores(X)
        if self.out_activation_ == "logistic":
            return _log_sigmoid(scores)
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores

    def _encode(self, y: Any, fresh: bool, classes: Any = None) -> Array:
        who = type(self).__name__
        check_classification_targets(y)
        several = y.ndim == 2
        if not fresh and several != (self.out_activation_ == "logistic"):
            raise ValueError(f"{who}: y must have as many columns as when training began.")
        if several:
            return self._encode_labels(y, fresh)
        if fresh:
            found = np.unique(y if classes is None else classes)
            if len(found) < 2:
                got = f"one class only: {found.tolist()}"
                raise ValueError(message(who, "y", "of at least 2 classes", got))
            self.classes_ = found
            self.n_outputs_, self.out_activation_ = len(found), "softmax"
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            requirement = f"what it was in the first call, {self.classes_.tolist()}"
            raise ValueError(message(who, "classes", requirement, np.unique(classes).tolist()))
        known = np.isin(y, self.classes_)
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            got = f"{y.tolist()[row]!r} in row {row}"
            requirement = f"of the known classes {self.classes_.tolist()}"
            raise ValueError(message(who, "y", requirement, got))
        numbers: Array = np.searchsorted(self.classes_, y)
        return numbers

    def _encode_labels(self, y: Any, fresh: bool) -> Array:
        who = type(self).__name__
        if self.class_weight is not None:
            got = "a weight, and several labels"
            raise ValueError(message(who, "class_weight", "None for several labels", got))
        labels = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if labels.dtype.kind not in "biuf" or not ((labels == 0) | (labels == 1)).all():
            requirement = "of shape (n_samples,), or 0 and 1 with a column for each label"
            raise ValueError(message(who, "y", requirement, f"others, of shape {labels.shape}"))
        if fresh:
            self.classes_ = np.arange(labels.shape[1])
            self.n_outputs_, self.out_activation_ = labels.shape[1], "logistic"
        elif labels.shape[1] != self.n_outputs_:
            raise ValueError(message(who, "y", f"of {self.n_outputs_} labels", labels.shape[1]))
        return labels.astype(np.float32)

    def _loss(self, scores: Array, y: Array, weights: Array | None) -> tuple[float, Array]:
        loss = sigmoid_cross_entropy if y.ndim == 2 else softmax_cross_entropy
        return loss(scores, y, weights)

    def _validation_score(self, scores: Array, y: Array, weights: Array | None) -> float:
        found = scores > 0 if y.ndim == 2 else scores.argmax(axis=1)
        return float(accuracy_score(y, found, sample_weight=weights))

    def _weighted(self, y: Array, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        who, labels = type(self).__name__, self.classes_.tolist()
        counts = np.bincount(y, weights, len(labels))
        of_row = class_weights(who, self.class_weight, labels, counts)[y]
        if not of_row.any():
            raise ValueError(message(who, "class_weight", "above 0 for a class of y", "0 for all"))
        return of_row if weights is None else weights * of_row

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _log_sigmoid(scores: Array) -> Array:
    return -np.logaddexp(0, -scores)


class DropoutMLPRegressor(MultiOutputMixin, RegressorMixin, DropoutMLP):  # type: ignore[misc]
    """A multilayer perceptron regressor, trained with dropout.

    Minimises half the squared error, summed over the outputs. Scale y to about unit variance if its
    unit makes it large: steps of the optimizer do not know of units.

    Parameters
    ----------
    All as in `DropoutMLPClassifier`, without class_weight. tol is in the unit of the loss (y's
    squared) or of R2; the validation part is not stratified.

    Attributes
    ----------
    As in `DropoutMLPClassifier`, without classes_; n_outputs_ is the number of targets, and
    out_activation_ is "identity".

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from thinned import DropoutMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = DropoutMLPRegressor(p=(0, 0.2), learning_rate_init=0.01, random_state=0)
    >>> bool(model.fit(scale(X), scale(y)).score(scale(X), scale(y)) > 0.5)
    True

    References
    ----------
    Srivastava et al., 2014, JMLR 15, 1929-1958.
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch over these rows; what `fit` learnt is where it goes on.

        Parameters
        ----------
        X, y : as in `fit`.
        sample_weight : as in `fit`; relative to the mean weight of these rows.

        Returns
        -------
        self.

        Raises
        ------
        ValueError as `fit`, and if early_stopping is True.
        """
        return self._partial_fit(X, y, sample_weight=sample_weight)

    def predict(self, X: Any) -> Array:
        """The targets of each row: shape (n_samples,), or (n_samples, n_outputs) for several."""
        scores = self._checked_scores(X)
        return scores[:, 0] if self.n_outputs_ == 1 else scores

    def _encode(self, y: Any, fresh: bool, classes: Any = None) -> Array:
        who = type(self).__name__
        y = self._single("y", np.asarray(y))
        if y.ndim == 2 and y.shape[1] == 1:
            warnings.warn(
                f"{who}: y has shape {y.shape}, and predictions will have shape (n_samples,). "
                "Pass y.ravel() to say so.",
                DataConversionWarning,
                stacklevel=4,
            )
        columns: Array = y.reshape(len(y), -1)
        if fresh:
            self.n_outputs_, self.out_activation_ = columns.shape[1], "identity"
        elif columns.shape[1] != self.n_outputs_:
            raise ValueError(message(who, "y", f"of {self.n_outputs_} targets", columns.shape[1]))
        return columns

    def _loss(self, scores: Array, y: Array, weights: Array | None) -> tuple[float, Array]:
        return squared_error(scores, y, weights)

    def _validation_score(self, scores: Array, y: Array, weights: Array | None) -> float:
        return float(r2_score(y, scores, sample_weight=weights))
