"""What the members' spread measures, and what it does not.

    python examples/spread.py

One network is trained on 50, 500 and 5,000 rows of y = sin(3 x) + noise, at two values of p. For
each:

- spread: the members' standard deviation, averaged over test points,
- error: the root mean square error of their mean, against sin(3 x) without noise,
- spread alone: the share of new rows within mean +- 1.645 spreads, 90 % of a normal distribution,
- conformal: the share within the intervals of `conformal_interval` at alpha = .1.

More rows make the error smaller and leave the spread as it is; another p changes the spread. So
the spread is no error bar, and it has none of the noise in y. The conformal intervals are measured
on rows that were not trained on, and hold 90 % either way.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from thinned.members import predict
from thinned.members.calibration import conformal_interval, interval_coverage

NOISE, STEPS, BATCH = 0.3, 500, 50


def rows(n: int) -> tuple[Tensor, Tensor]:
    x = 2.0 * torch.rand(n, 1) - 1.0
    return x, torch.sin(3.0 * x) + NOISE * torch.randn(n, 1)


def trained(x: Tensor, y: Tensor, p: float) -> nn.Module:
    model = nn.Sequential(
        nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    return model


def measured(p: float, n: int) -> tuple[float, ...]:
    """spread, error, and the two shares of new rows inside."""
    torch.manual_seed(n)
    model = trained(*rows(n), p)
    (known_x, known_y), (x, y) = rows(500), rows(1000)
    known, new = predict(model, known_x, members=64), predict(model, x, members=64)
    error = np.sqrt(((new.mean - torch.sin(3.0 * x).numpy()) ** 2).mean())
    mean, std, truth = new.mean[:, 0], new.std[:, 0], y[:, 0].numpy()
    alone = interval_coverage(mean - 1.645 * std, mean + 1.645 * std, truth)
    low, high = conformal_interval(
        mean, known.mean[:, 0], known_y[:, 0].numpy(), 0.1, std, known.std[:, 0]
    )
    return float(std.mean()), float(error), alone, interval_coverage(low, high, truth)


def main() -> None:
    print("  p  rows  spread  error  spread alone  conformal")
    for p in (0.1, 0.5):
        for n in (50, 500, 5000):
            spread, error, alone, conformal = measured(p, n)
            print(f"{p:3} {n:5} {spread:7.2f} {error:6.2f} {alone:13.0%} {conformal:10.0%}")


if __name__ == "__main__":
    main()
