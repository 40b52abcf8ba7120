"""One model in PyTorch and in NNX, from the same weights and seed: the same masks, and losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

import thinned.jax.nnx
import thinned.torch

STEPS, WIDTH, HEADS = 20, 8, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(STEPS, 4, 6, WIDTH)).astype(np.float32)
TARGET = RNG.normal(size=(STEPS, 4, 6, WIDTH)).astype(np.float32)


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.2, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Dropout(0.4))
        self.out = nn.Linear(16, WIDTH)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.out(self.mlp(x))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([TorchBlock() for _ in range(2)])
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        for layer in self.layers:
            x = layer(self.drop(x))  # one site, called twice in a step
        return x


class Block(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, dropout_rate=0.2, broadcast_dropout=False, deterministic=False,
            decode=False, rngs=rngs,
        )  # fmt: skip
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.mlp = nnx.List(
            [nnx.Linear(WIDTH, 16, rngs=rngs), jnp.tanh, nnx.Dropout(0.4, rngs=rngs)]
        )
        self.out = nnx.Linear(16, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        h = x
        for part in self.mlp:
            h = part(h)
        return x + self.out(h)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([Block(rngs) for _ in range(2)])
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(self.drop(x))
        return x


def array(parameter):
    return jnp.asarray(parameter.detach().numpy())


def copied(theirs, ours):
    """The weights of the model of PyTorch in that of NNX."""
    for block, own in zip(theirs.layers, ours.layers, strict=True):
        parts = zip(
            (own.attention.query, own.attention.key, own.attention.value),
            array(block.attention.in_proj_weight).reshape(3, HEADS, WIDTH // HEADS, WIDTH),
            array(block.attention.in_proj_bias).reshape(3, HEADS, WIDTH // HEADS),
            strict=True,
        )
        for layer, weight, bias in parts:
            layer.kernel.set_value(jnp.moveaxis(weight, -1, 0))
            layer.bias.set_value(bias)
        out = block.attention.out_proj
        own.attention.out.kernel.set_value(array(out.weight).T.reshape(HEADS, -1, WIDTH))
        own.attention.out.bias.set_value(array(out.bias))
        own.norm.scale.set_value(array(block.norm.weight))
        own.norm.bias.set_value(array(block.norm.bias))
        for layer, linear in ((own.mlp[0], block.mlp[0]), (own.out, block.out)):
            layer.kernel.set_value(array(linear.weight).T)
            layer.bias.set_value(array(linear.bias))


def losses_of_torch(model, seed):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    report = thinned.torch.adopt(model, seed=seed, optimizer=optimizer)
    losses = []
    for x, target in zip(X, TARGET, strict=True):
        loss = ((model(torch.tensor(x)) - torch.tensor(target)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [row.site for row in report.rows]


def losses_of_nnx(model, seed):
    optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
    report = thinned.jax.nnx.adopt(model, seed=seed, optimizer=optimizer)

    @nnx.jit
    def step(model, optimizer, x, target):
        loss, grads = nnx.value_and_grad(lambda model: ((model(x) - target) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer, x, t)) for x, t in zip(X, TARGET, strict=True)]
    return losses, list(report.sites)


def test_twenty_steps_have_the_same_losses():
    torch.manual_seed(0)
    theirs, ours = TorchNet(), Net(nnx.Rngs(0))
    copied(theirs, ours)
    graph, state = nnx.split(ours)
    state = jax.tree.map(lambda leaf: leaf, state)  # the weights as they are before
    one, sites = losses_of_torch(theirs, seed=11)
    other, own_sites = losses_of_nnx(ours, seed=11)
    assert sorted(sites) == sorted(own_sites)
    np.testing.assert_allclose(other, one, rtol=2e-5)
    assert one[-1] != one[0]
    # What another seed makes of the same weights is far from rounding.
    wrong, _ = losses_of_nnx(nnx.merge(graph, state), seed=12)
    assert np.abs(np.subtract(wrong, one)).max() > 1e-2
