"""Gal and Ghahramani's regression benchmark: RMSE and test log-likelihood of dropout's members.

    python examples/uci.py [FILE] [--splits 20] [--members 1000] [--test-share 0.2] [--quick]
    python examples/uci.py FOLDER [--splits 20] [--members 10000] [--times 100] [--keep FILE]

FOLDER is a table in the form of their repository: data/ with data.txt, the columns' numbers, the
rows of each split and the grids of p and tau, results/ with what they found. Their protocol is run
on their splits, and each split is printed beside theirs: see `published`. --keep FILE keeps what
each split found, a line a split; a run that was stopped goes on where it was.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning

from thinned import Address, DropoutMLPRegressor, dropout
from thinned.members import calibration
from thinned.numpy import Adam, Dropout, Layer, Linear, Parameter, ReLU, Sequential, batches

Array = NDArray[np.float64]

LENGTH = 0.01  # the prior's length scale, as published
RATE = 0.001  # Adam's, by its authors' default, as published
BATCH = 128  # as published


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


class Published(NamedTuple):
    """A table in the form of their repository. Results are None where the folder has none."""

    x: Array
    y: Array
    splits: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    p: tuple[float, ...]
    tau: tuple[float, ...]  # in the target's own units: 1 / y^2
    hidden: int
    epochs: int
    rmse: Array | None
    likelihood: Array | None


def published(folder: Path) -> Published:
    """Read data/ and results/. Of several epochs' results, those of 100 times as many."""
    data = folder / "data"

    def numbers(name: str) -> Array:
        return np.loadtxt(data / f"{name}.txt", ndmin=1)

    def rows(name: str) -> NDArray[np.intp]:
        return numbers(name).astype(np.intp)

    def found(name: str) -> Array | None:
        path = folder / "results" / f"test_{name}_100_xepochs_1_hidden_layers.txt"
        return np.loadtxt(path, ndmin=1) if path.exists() else None

    try:
        table = np.loadtxt(data / "data.txt", ndmin=2)
        return Published(
            x=table[:, rows("index_features")],
            y=table[:, rows("index_target")[0]],
            splits=[
                (rows(f"index_train_{i}"), rows(f"index_test_{i}"))
                for i in range(int(numbers("n_splits")[0]))
            ],
            p=tuple(numbers("dropout_rates").tolist()),
            tau=tuple(numbers("tau_values").tolist()),
            hidden=int(numbers("n_hidden")[0]),
            epochs=int(numbers("n_epochs")[0]),
            rmse=found("MC_rmse"),
            likelihood=found("ll"),
        )
    except (OSError, ValueError, IndexError) as reason:
        raise SystemExit(
            f"{folder}: not a table in the form of their repository: {reason}"
        ) from None


class StackedLinear(Layer):
    """Linear layers side by side: x, if it has no axis for them, is the same for all."""

    def __init__(self, n: int, n_in: int, n_out: int, init: str, at: Address) -> None:
        weight, bias = (one.value for one in Linear(n_in, n_out, init, at).parameters())
        self.weight = np.stack([weight] * n)
        self.bias = np.stack([bias] * n)[:, None]
        self.d_weight = self.d_bias = None

    def forward(self, x: Any, training: bool) -> Any:
        self._kept = x
        y = x @ self.weight
        y += self.bias
        return y

    def gradients(self, dy: Any) -> None:
        self.d_weight = np.swapaxes(self._recall(), -1, -2) @ dy
        self.d_bias = dy.sum(axis=-2, keepdims=True)

    def backward(self, dy: Any) -> Any:
        self.gradients(dy)
        # What a product with one output is; NumPy takes four times as long for it as a product.
        return dy * np.swapaxes(self.weight, 1, 2)

    def parameters(self) -> list[Parameter]:
        return [
            Parameter(self.weight, self.d_weight, is_weight=True),
            Parameter(self.bias, self.d_bias, is_weight=False),
        ]


class StackedDropout(Dropout):
    """Dropout of networks side by side, at one address, each with a p of its own."""

    def __init__(self, p: Sequence[float], at: Address) -> None:
        super().__init__(max(p), at)
        self.each = p

    def _thin(self, x: Any, at: Any, p: float, training: bool) -> Any:
        y = np.empty((len(self.each), *x.shape[-2:]), x.dtype)
        for i, p in enumerate(self.each):
            dropout(x if x.ndim == 2 else x[i], p, at, out=y[i])
        return y


class Stack:
    """Networks of one hidden layer that are trained side by side, each as DropoutMLPRegressor
    trains it alone: products of matrices so small cost less than the calls around them.

    p : of each network. seed, decay, epochs : of all. Weights begin as Glorot's: Keras' default, as
        published.
    """

    def __init__(
        self, hidden: int, p: Sequence[float], decay: float, epochs: int, seed: int
    ) -> None:
        self.hidden, self.p, self.decay = hidden, p, decay
        self.epochs, self.seed = epochs, seed

    def fit(self, x: Array, y: Array) -> Stack:
        n, width, seed = len(self.p), x.shape[1], self.seed
        self.layers = (
            StackedLinear(n, width, self.hidden, "glorot", Address(seed, "weights.0")),
            StackedLinear(n, self.hidden, 1, "glorot", Address(seed, "weights.1")),
        )
        masks = [StackedDropout(self.p, Address(seed, site)) for site in ("input", "hidden.1")]
        network = Sequential(masks[0], self.layers[0], ReLU(), masks[1], self.layers[1])
        optimizer = Adam(network, RATE, weight_decay=self.decay)
        single, target = x.astype(np.float32), y.astype(np.float32)[:, None]
        for epoch in range(self.epochs):
            for rows in batches(len(x), BATCH, Address(seed, "shuffle", epoch)):
                off = network.forward(single[rows], training=True) - target[rows]
                network.gradients(off / len(rows))
                optimizer.step()
        return self

    def members(self, which: int, x: Array, count: int, seed: int) -> NDArray[np.float32]:
        """(count, rows): what thinned networks say, every row with masks of its own.

        Copies of a row are rows like others: fifty copies give fifty members in one pass.
        """
        copies = 50 if count % 50 == 0 else 1
        rows, p = np.tile(x.astype(np.float32), (copies, 1)), self.p[which]
        first, second = (Address(seed, site) for site in ("input", "hidden.1"))
        said = np.empty((count // copies, len(rows)), np.float32)
        for k in range(len(said)):
            y = dropout(rows, p, first.fold_in(k)) @ self.layers[0].weight[which]
            y += self.layers[0].bias[which]
            y = dropout(np.maximum(y, 0, out=y), p, second.fold_in(k), out=y)
            said[k] = (y @ self.layers[1].weight[which] + self.layers[1].bias[which])[:, 0]
        return said.reshape(count, len(x))

    def scores(
        self, which: int, data: Scaled, rows: NDArray[np.intp], taus: Sequence[float], members: int
    ) -> tuple[float, list[float]]:
        """RMSE of the members' mean, and for each tau the mean log-likelihood in nats."""
        x, y = data.x[rows], data.y[rows]
        each = 1000 if members % 1000 == 0 else members  # all at once may not fit
        parts = members // each
        mean, likelihood = np.zeros(len(y)), np.full((len(taus), len(y)), -np.inf)
        for part in range(parts):
            said = self.members(which, x, each, part)
            mean += said.mean(0, dtype=np.float64) / parts
            found = [calibration.test_log_likelihood(said, y, t * data.spread**2) for t in taus]
            likelihood = np.logaddexp(likelihood, np.stack(found) - math.log(parts))
        rmse = float(np.sqrt(np.mean((mean - y) ** 2))) * data.spread
        # A density of y in its own units is smaller by the unit's size.
        return rmse, (likelihood.mean(1) - math.log(data.spread)).tolist()


def as_published(
    table: Published, number: int, times: int, members: int
) -> tuple[float, float, float, float]:
    """RMSE of the members' mean, log-likelihood, and the p and tau that validation chose.

    Their protocol: the first four fifths of the training rows train, the last fifth validates; then
    the network is fitted to all of them. Batches of 128, Adam, one hidden layer, `times` as many
    epochs as the table names. Their tau is in the target's own units where likelihood is measured,
    and in those of the scaled target where it gives the weight decay; so it is here. A tenth of the
    members validates.
    """
    train, test = table.splits[number]
    cut = int(0.8 * len(train))
    known, held = train[:cut], train[cut:]

    def decay(rows: NDArray[np.intp], p: float, tau: float) -> float:
        """Zero where float32 does not know a step's decay from none. So it is in all of their
        tables, and networks of one p are then the same to the bit for every tau."""
        found = (1.0 - p) * LENGTH**2 / (len(rows) * tau)
        return found if np.float32(1.0 - RATE * found) < 1.0 else 0.0

    def fitted_to(data: Scaled, rows: NDArray[np.intp], p: Sequence[float], of: float) -> Stack:
        stack = Stack(table.hidden, p, of, table.epochs * times, number)
        return stack.fit(data.x[rows], data.y[rows])

    data = scaled(table.x, table.y, known)
    alike: dict[float, dict[float, list[float]]] = {}  # the taus of each p of each decay
    for p, tau in itertools.product(table.p, table.tau):
        alike.setdefault(decay(known, p, tau), {}).setdefault(p, []).append(tau)
    validated = []
    for of, taus in alike.items():
        stack = fitted_to(data, known, list(taus), of)
        for i, (p, some) in enumerate(taus.items()):
            found = stack.scores(i, data, held, some, max(20, members // 10))[1]
            validated += [(likelihood, p, tau) for likelihood, tau in zip(found, some, strict=True)]
    _, p, tau = max(validated, key=lambda found: found[0])
    data = scaled(table.x, table.y, train)
    stack = fitted_to(data, train, [p], decay(train, p, tau))
    rmse, (likelihood,) = stack.scores(0, data, test, [tau], members)
    return rmse, likelihood, p, tau


def run_published(folder: Path, splits: int, times: int, members: int, keep: Path | None) -> None:
    """Run the first splits, and say what they found beside what was published."""
    table = published(folder)
    splits = min(splits, len(table.splits))
    of = f"{table.epochs * times} epochs, {members} members"
    print(f"{folder.name}: {len(table.x)} rows, {splits} of {len(table.splits)} splits, {of}")
    kept = Kept(keep, f"{folder.name}: {of}")
    ours = np.full((splits, 2), np.nan)
    theirs = np.full((splits, 2), np.nan)
    for i, column in enumerate((table.rmse, table.likelihood)):
        if column is not None:
            theirs[:, i] = column[:splits]
    for number in range(splits):
        if number not in kept.found:
            kept.add(number, as_published(table, number, times, members))
        *found, p, tau = kept.found[number]
        ours[number] = found
        print(
            f"split {number}: RMSE {found[0]:.4f} ({theirs[number, 0]:.4f}), log-likelihood "
            f"{found[1]:.4f} ({theirs[number, 1]:.4f}); p {p:g}, tau {tau:g}",
            flush=True,
        )
    for i, what in enumerate(("RMSE", "log-likelihood")):
        off = ours[:, i] - theirs[:, i]
        error = off.std(ddof=1) / math.sqrt(splits) if splits > 1 else math.nan
        print(
            f"{what}: {ours[:, i].mean():.4f} (published {theirs[:, i].mean():.4f}), paired "
            f"difference {off.mean():+.4f} ± {error:.4f}"
        )


class Kept:
    """What splits have found, in a file that a run which was stopped goes on from.

    path : None keeps nothing for later. head : what was asked, the file's first line.
    """

    def __init__(self, path: Path | None, head: str) -> None:
        self.path, self.found = path, dict[int, tuple[float, ...]]()
        if path is None:
            return
        if not path.exists():
            path.write_text(f"{head}\n", encoding="utf-8")
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        if first != head:
            raise SystemExit(f"{path} keeps another run: {first}")
        for line in lines:
            number, *values = line.split()
            self.found[int(number)] = tuple(map(float, values))

    def add(self, number: int, found: tuple[float, ...]) -> None:
        self.found[number] = found
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(" ".join(map(repr, (number, *map(float, found)))) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run all splits and say what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--members", type=int, help="default: 1000, of a folder 10000")
    parser.add_argument("--times", type=int, default=100, help="of the epochs that a folder names")
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="of a folder: what splits found")
    parser.add_argument("--quick", action="store_true", help="a small grid, and 3 splits")
    told = parser.parse_args(arguments)
    of_folder = told.file is not None and Path(told.file).is_dir()
    members = told.members or (10_000 if of_folder else Grid().members)
    grid, splits = Grid(members=members), told.splits
    if told.quick:
        grid, splits = Grid((0.05, 0.2), (1.0, 2.0), 15, min(members, 100)), min(splits, 3)
    if splits < 1 or grid.members < 2 or not 0.0 < told.test_share <= 0.5:
        parser.error("--splits from 1, --members from 2, --test-share up to 0.5")
    if of_folder:
        run_published(Path(told.file), splits, max(1, told.times), members, told.keep)
        return
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
