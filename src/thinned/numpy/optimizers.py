"""Optimizers: how a gradient becomes a step. They change a network in place, and move its clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message
from thinned.numpy.network import Sequential
from thinned.numpy.settings import number

__all__ = ["SGD", "Adam", "Optimizer"]

Array = NDArray[Any]

# Numbers that an update goes over at once: its dozen passes find them in the processor's cache.
BLOCK = 2**14


def _in_a_row(arrays: list[Any]) -> Array:
    """A copy of all their numbers, in the widest of their types."""
    return np.concatenate(arrays, axis=None) if arrays else np.empty(0)


class Optimizer:
    """What SGD and Adam have in common: weight decay, max-norm, and the clock.

    A `step` takes the gradients that the last backward pass left, and does, for every parameter:
    decay (weights only), the update of the subclass, max-norm (weights only). Then it ticks the
    network, so that the next forward pass draws new masks: the address steps as the optimizer does.

    Parameters
    ----------
    network : Sequential. Its parameters are changed in place.
    learning_rate : float in (0, inf). An attribute that may be changed between steps.
    weight_decay : float in [0, inf). Each step takes learning_rate * weight_decay of every weight,
        apart from the gradient (decoupled). Biases do not decay.
    max_norm : float in (0, inf), or None. The greatest Euclidean norm that the weights coming into
        one unit may have (a column of `Linear.weight`); a longer column is shortened to it.

    Raises
    ------
    TypeError, ValueError for a setting outside of its interval. RuntimeError if `step` is called
    before `backward`.

    References
    ----------
    Loshchilov and Hutter, 2019, arXiv:1711.05101 (decoupled decay). Srivastava et al., 2014, JMLR
    15, 1929-1958, section 5.1 (max-norm, which they use with dropout).
    """

    # Arrays of a parameter's shape that the update carries from step to step, all zero at first.
    memories = 0

    def __init__(
        self,
        network: Sequential,
        learning_rate: float,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        who = type(self).__name__
        if not isinstance(network, Sequential):
            remedy = "Put the layers into one: Sequential(Linear(4, 3))."
            raise TypeError(message(who, "network", "a Sequential", type(network).__name__, remedy))
        self.network = network
        self.learning_rate = number(who, "learning_rate", learning_rate, 0, open_low=True)
        self.weight_decay = number(who, "weight_decay", weight_decay, 0)
        self.max_norm = None
        if max_norm is not None:
            self.max_norm = number(who, "max_norm", max_norm, 0, open_low=True)
        self.steps = 0
        values = [parameter.value for parameter in network.parameters()]
        # All parameters in one row: a small network's time goes into calls, not into numbers.
        self._memory = [np.zeros_like(_in_a_row(values)) for _ in range(self.memories)]

    def step(self) -> None:
        """Change the parameters by the last gradients, and tick the network."""
        parameters = self.network.parameters()
        if any(parameter.gradient is None for parameter in parameters):
            raise RuntimeError(
                f"{type(self).__name__}.step: a parameter has no gradient. "
                "Call the network's backward first."
            )
        self.steps += 1
        changes = _in_a_row([parameter.gradient for parameter in parameters])
        for low in range(0, changes.size, BLOCK):
            block = slice(low, low + BLOCK)
            self._update(changes[block], *(memory[block] for memory in self._memory))
        low = 0
        for parameter in parameters:
            value = parameter.value
            if parameter.is_weight and self.weight_decay:
                value *= 1 - self.learning_rate * self.weight_decay
            value += changes[low : low + value.size].reshape(value.shape)
            low += value.size
            if parameter.is_weight and self.max_norm is not None:
                norms = np.sqrt((value * value).sum(axis=0))
                value *= self.max_norm / np.maximum(norms, self.max_norm)
        self.network.tick()

    def carry_on(self, other: Optimizer) -> None:
        """Take over the steps and the memory of another optimizer of the same kind and parameters:
        training goes on, with other settings.
        """
        self.steps, self._memory = other.steps, other._memory

    def _update(self, gradient: Array, *memory: Array) -> None:
        """Put in the gradient's place what is to be added to the parameters.

        gradient : of some parameters in a row, shape (n,). memory : their part of each array.
        """
        raise NotImplementedError(f"{type(self).__name__}._update is not written.")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    v <- momentum v - learning_rate g,    w <- w + v.

    Parameters
    ----------
    network, learning_rate, weight_decay, max_norm : as in `Optimizer`.
    momentum : float in [0, 1). 0 is plain gradient descent.

    References
    ----------
    Polyak, 1964, doi:10.1016/0041-5553(64)90137-5; in this form Sutskever et al., 2013, PMLR 28,
    1139-1147.
    """

    memories = 1

    def __init__(
        self,
        network: Sequential,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(network, learning_rate, weight_decay, max_norm)
        self.momentum = number("SGD", "momentum", momentum, 0, 1)

    def _update(self, gradient: Array, *memory: Array) -> None:
        (velocity,) = memory
        gradient *= self.learning_rate
        velocity *= self.momentum
        velocity -= gradient
        gradient[...] = velocity


class Adam(Optimizer):
    """Adam: each number's step is its mean gradient over the root of its mean squared gradient.

    m <- beta_1 m + (1 - beta_1) g,     m' = m / (1 - beta_1^t),
    v <- beta_2 v + (1 - beta_2) g^2,   v' = v / (1 - beta_2^t),
    w <- w - learning_rate m' / (sqrt(v') + epsilon),

    where t counts steps from 1, and the divisions undo that m and v start at zero.

    Parameters
    ----------
    network, learning_rate, weight_decay, max_norm : as in `Optimizer`.
    beta_1, beta_2 : float in [0, 1). How much of m and of v lives on to the next step.
    epsilon : float in (0, inf). Keeps the quotient finite where gradients vanish.

    References
    ----------
    Kingma and Ba, 2015, arXiv:1412.6980.
    """

    memories = 2

    def __init__(
        self,
        network: Sequential,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(network, learning_rate, weight_decay, max_norm)
        self.beta_1 = number("Adam", "beta_1", beta_1, 0, 1)
        self.beta_2 = number("Adam", "beta_2", beta_2, 0, 1)
        self.epsilon = number("Adam", "epsilon", epsilon, 0, open_low=True)

    def _update(self, gradient: Array, *memory: Array) -> None:
        m, v = memory
        change = gradient - m
        change *= 1 - self.beta_1
        m += change
        gradient *= gradient
        gradient -= v
        gradient *= 1 - self.beta_2
        v += gradient
        denominator = np.sqrt(v, out=change)
        denominator *= 1 / math.sqrt(1 - self.beta_2**self.steps)
        denominator += self.epsilon
        np.divide(m, denominator, out=gradient)
        gradient *= -self.learning_rate / (1 - self.beta_1**self.steps)
