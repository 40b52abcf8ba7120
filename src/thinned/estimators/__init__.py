"""scikit-learn estimators: multilayer perceptrons that are trained with addressed dropout."""

from thinned.estimators.multilayer import DropoutMLPClassifier, DropoutMLPRegressor

__all__ = ["DropoutMLPClassifier", "DropoutMLPRegressor"]
