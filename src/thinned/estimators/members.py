"""Predictions by the thinned networks of a trained perceptron, for both estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from thinned.members import Prediction

__all__ = ["MembersMixin"]

Array = NDArray[Any]


class MembersMixin:
    """What an estimator says by many of its thinned networks."""

    coefs_: list[Array]
    intercepts_: list[Array]
    sites_: list[str]
    p_: tuple[float, ...]
    n_outputs_: int
    out_activation_: str
    activation: str

    def predict_members(
        self,
        X: Any,
        members: int = 64,
        *,
        seed: int = 0,
        share: str = "member",
        antithetic: bool = False,
        until: float | None = None,
        keep: bool = False,
        quantiles: Any = None,
    ) -> Prediction:
        """Ask many thinned networks, and say what they answer and how far they agree.

        Network k drops what `thinned.keep_mask(units, p_[i], thinned.Address(seed,
        sites_[i]).fold_in(k))` says of layer i, and is run without it.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features).
        members, seed, share, antithetic, until, keep, quantiles : as in `thinned.members.predict`.

        Returns
        -------
        thinned.members.Prediction: of the classes' probabilities, in the order of classes_; of the
        targets for the regressor, shape (n_samples,) or (n_samples, n_outputs).

        Raises
        ------
        ValueError if all members say the same, as they do at p = 0, or a parameter is out of range.

        References
        ----------
        Gal and Ghahramani, 2016, arXiv:1506.02142.
        """
        from thinned.members.perceptron import Perceptron, predict_perceptron
        from thinned.members.request import checked

        check_is_fitted(self)
        who = f"{type(self).__name__}.predict_members"
        if self.out_activation_ == "logistic":
            raise ValueError(
                f"{who}: this classifier has several labels, for which members are not defined; "
                "fit one for each label to ask its members."
            )
        task = "regression" if isinstance(self, RegressorMixin) else "classification"
        asked = checked(who, members, seed, share, antithetic, until, keep, quantiles, task)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        layers = [
            (coef.astype(X.dtype, copy=False), intercept.astype(X.dtype, copy=False))
            for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        network = Perceptron(layers, self.sites_, self.p_, self.activation)
        single = task == "regression" and self.n_outputs_ == 1
        return predict_perceptron(who, network, X, asked, single)

    def predict_std(self, X: Any, members: int = 64, **how: Any) -> Array:
        """The standard deviation between thinned networks, of each target or probability.

        A sign of uncertainty, not an error bar: it depends on p, need not shrink with more data,
        and leaves out the noise in y. `thinned.members.calibration` makes intervals of it.

        Parameters
        ----------
        X, members, how : as in `predict_members`.

        Returns
        -------
        array, shape (n_samples,) or (n_samples, n_outputs); (n_samples, n_classes) for classes.

        Raises
        ------
        As `predict_members`.
        """
        return self.predict_members(X, members, **how).std
