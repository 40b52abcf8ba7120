"""Noise that is learned, on handwritten digits: how much of it, and where."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thinned.torch import (
    ConcreteDropout,
    L0Linear,
    SparseVariationalLinear,
    VariationalLinear,
    adopt,
    regularizer,
)

torch.set_num_threads(1)  # matrices as small as these are slower on two

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
images = torch.tensor(X[order] / 16, dtype=torch.float32)
labels = torch.tensor(y[order])
test_images, test_labels = images[1400:], labels[1400:]


def train(
    model: nn.Module, rows: int, price: Callable[[float], float], steps: int = 300
) -> nn.Module:
    """Fit to the first `rows` digits. price: the regulariser's weight, progress in [0, 1]."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    adopt(model, seed=0, optimizer=optimizer)
    batches = torch.Generator().manual_seed(0)
    for step in range(steps):
        chosen = torch.randint(rows, (min(rows, 128),), generator=batches)
        loss = cross_entropy(model(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        (loss + price(step / steps) * regularizer(model)).backward()
        optimizer.step()
    return model.eval()


def accuracy(model: nn.Module) -> float:
    right: Tensor = model(inputs[1400:]).argmax(1) == test_labels
    return float(right.double().mean())


inputs = images

# Concrete dropout: more data, less need of noise.
for rows in (100, 1400):
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.Linear(64, 10)]
    dropouts = [
        ConcreteDropout(layer, weight_regularizer=1e-4 / rows, dropout_regularizer=1 / rows)
        for layer in layers
    ]
    network = train(nn.Sequential(dropouts[0], nn.ReLU(), dropouts[1]), rows, lambda _: 1.0)
    ps = ", ".join(f"{dropout.p.item():.3f}" for dropout in dropouts)
    print(f"Concrete dropout, {rows} digits: p 0.100 -> {ps}; accuracy {accuracy(network):.3f}")

# Variational dropout: the same of alpha = p / (1 - p).
for rows in (100, 1400):
    torch.manual_seed(0)
    variational = VariationalLinear(64, 10, p=0.5)
    # Type checkers infer nothing for a lambda with a default, which binds this round's number.
    train(variational, rows, lambda _, n=rows: 1 / n)  # type: ignore[misc]
    p = variational.p.item()
    print(f"Variational, {rows} digits: p 0.500 -> {p:.3f}; accuracy {accuracy(variational):.3f}")

# Sparse variational dropout: most weights turn out to be noise.
torch.manual_seed(0)
sparse = [SparseVariationalLinear(64, 64), SparseVariationalLinear(64, 10)]
network = train(nn.Sequential(sparse[0], nn.ReLU(), sparse[1]), 1400, lambda t: t / 1400, 700)
shares = ", ".join(f"{layer.sparsity():.2f}" for layer in sparse)
print(f"Sparse variational: pruned 0 -> {shares}; accuracy {accuracy(network):.3f}")

# L0: 64 pixels and 32 columns of pure noise. Gates shut on what says nothing.
noise = torch.randn(len(images), 32, generator=torch.Generator().manual_seed(0))
inputs = torch.cat([images, noise], 1)
torch.manual_seed(0)
gated = L0Linear(96, 64)
network = train(nn.Sequential(gated, nn.ReLU(), nn.Linear(64, 10)), 1400, lambda t: 1e-4)
open_gates = (gated.gates > 0).double()
print(
    f"L0: open gates {float(open_gates[:64].mean()):.2f} of pixels, "
    f"{float(open_gates[64:].mean()):.2f} of noise; accuracy {accuracy(network):.3f}"
)
