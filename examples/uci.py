"""Gal and Ghahramani's regression benchmark: RMSE and test log-likelihood of dropout's members.

    python examples/uci.py [FILE] [--splits 20] [--members 1000] [--test-share 0.2] [--quick]

FILE holds numbers alone, a row a line, split by blanks or commas, the target last: the form in
which the UCI data sets of that benchmark (Hernandez-Lobato and Adams, 2015) are handed around.
Without FILE: scikit-learn's diabetes.

Per split: a fifth of the rows is the test part (a tenth in the published splits: --test-share 0.1);
of the others four fifths train and one fifth validates, which chooses p and the noise's precision
tau; a network is then fitted to both.

Gal and Ghahramani, 2016, arXiv:1506.02142, section 5.3 and appendix.
"""

# Traps of the paper and of its many copies:
# - Its p is the probability to KEEP a unit. Here, as everywhere in this library except
#   thinned.classic, p is the probability to drop it.
# - tau has a unit, that of 1 / y^2. Searched on scaled targets and used on others, it is off by
#   their variance: 77 squared on diabetes. So is the likelihood, by the logarithm of 77.
# - tau is no free number: weight decay follows from it, 2 lambda = (1 - p) l^2 / (N tau) for half
#   the squared error. Chosen after training, it belongs to a model that was not trained.
# - The likelihood is that of a mixture, logsumexp over members, and not of a Gaussian around their
#   mean with their variance: where members differ the two do, too.
# - Inputs are dropped as well as hidden units.
# - p and tau must be chosen on a part of the training rows. On the test part the likelihood is
#   flattered, and splits share most of their rows, so that no average over them takes it out.
# - For the same reason the standard error over splits (standard deviation / sqrt(splits), as
#   published) is too small for new data of the kind. A standard deviation is another number.
# - Scaling comes from the training part alone; rows of the test part must not know it.
# - RMSE is that of the mean over members, a little other than that of the whole network.

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning

from thinned import DropoutMLPRegressor
from thinned.members import calibration

Array = NDArray[np.float64]

LENGTH = 0.01  # the prior's length scale, as published


class Grid(NamedTuple):
    """What validation chooses from, and the work."""

    p: tuple[float, ...] = (0.005, 0.01, 0.05, 0.1)  # as published
    tau: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)  # of targets with variance 1
    epochs: int = 40
    members: int = 1000


class Scaled(NamedTuple):
    """Rows in the units in which their training part has mean 0 and variance 1."""

    x: Array
    y: Array
    spread: float  # of y


def scaled(x: Array, y: Array, train: NDArray[np.intp]) -> Scaled:
    """By the rows `train`; a column that is constant there stays where it is."""
    width = x[train].std(0)
    spread = float(y[train].std())
    x = (x - x[train].mean(0)) / np.where(width > 0, width, 1.0)
    return Scaled(x, (y - y[train].mean()) / spread, spread)


def fitted(
    data: Scaled, rows: NDArray[np.intp], p: float, tau: float, grid: Grid, seed: int
) -> Any:
    """One hidden layer of 50 units, its weight decay the one that belongs to tau."""
    decay = (1.0 - p) * LENGTH**2 / (len(rows) * tau)
    network = DropoutMLPRegressor(
        (50,), p=p, batch_size=32, max_iter=grid.epochs, n_iter_no_change=grid.epochs,
        learning_rate_init=0.005, weight_decay=decay, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs, and no more
        return network.fit(data.x[rows], data.y[rows])


def scores(
    network: Any, data: Scaled, rows: NDArray[np.intp], tau: float, members: int
) -> tuple[float, float, float]:
    """RMSE of the members' mean and of the whole network, and mean log-likelihood in nats."""
    x, y = data.x[rows], data.y[rows]
    answer = network.predict_members(x, members, share="row", keep=True)
    likelihood = calibration.test_log_likelihood(answer.outputs, y, tau)
    # A density of y in its own units is smaller by the unit's size.
    nats = float(likelihood.mean()) - math.log(data.spread)
    rmse = [float(np.sqrt(np.mean((m - y) ** 2))) for m in (answer.mean, network.predict(x))]
    return rmse[0] * data.spread, rmse[1] * data.spread, nats


def one_split(x: Array, y: Array, number: int, grid: Grid, share: float) -> tuple[float, ...]:
    """RMSE by members, RMSE of the whole network, log-likelihood, and the p and tau chosen."""
    order = np.random.default_rng(number).permutation(len(x))
    cut = max(1, round(share * len(x)))
    test, known = order[:cut], order[cut:]
    train, held = known[: 4 * len(known) // 5], known[4 * len(known) // 5 :]
    data = scaled(x, y, train)

    def validated(choice: tuple[float, float]) -> float:
        network = fitted(data, train, *choice, grid, number)
        return scores(network, data, held, choice[1], max(20, grid.members // 10))[2]

    p, tau = max(itertools.product(grid.p, grid.tau), key=validated)
    data = scaled(x, y, known)
    network = fitted(data, known, p, tau, grid, number)
    return (*scores(network, data, test, tau, grid.members), p, tau)


def read(path: str | None) -> tuple[str, Array, Array]:
    """The name of the data, its columns and its target."""
    if path is None:
        x, y = load_diabetes(return_X_y=True)
        return "diabetes", x, y
    with open(path, encoding="utf-8") as lines:
        table = np.loadtxt((line.replace(",", " ") for line in lines), ndmin=2)
    if table.shape[1] < 2 or len(table) < 20 or not np.isfinite(table).all():
        raise SystemExit(
            f"{path}: at least 20 rows of 2 finite numbers are needed, the target last."
        )
    return path, table[:, :-1], table[:, -1]


def main(arguments: list[str] | None = None) -> None:
    """Run all splits and say what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--members", type=int, default=Grid().members)
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--quick", action="store_true", help="a small grid, and 3 splits")
    told = parser.parse_args(arguments)
    grid, splits = Grid(members=told.members), told.splits
    if told.quick:
        grid, splits = Grid((0.05, 0.2), (1.0, 2.0), 15, min(told.members, 100)), min(splits, 3)
    if splits < 1 or grid.members < 2 or not 0.0 < told.test_share <= 0.5:
        parser.error("--splits from 1, --members from 2, --test-share up to 0.5")
    name, x, y = read(told.file)
    found = np.array([one_split(x, y, number, grid, told.test_share) for number in range(splits)])
    error = found.std(0, ddof=1) / math.sqrt(splits) if splits > 1 else np.full(5, np.nan)
    print(f"{name}: {len(x)} rows, {splits} splits, {grid.members} members; mean ± standard error")
    said = ("RMSE, mean of members", "RMSE, whole network", "test log-likelihood, nats")
    for i, what in enumerate(said):
        print(f"{what}: {found[:, i].mean():.3f} ± {error[i]:.3f}")
    median = np.median(found, axis=0)
    print(f"chosen, median: p {median[3]:g}, tau {median[4]:g} (of a target of variance 1)")


if __name__ == "__main__":
    main()
