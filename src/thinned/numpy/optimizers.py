"""Optimizers: how a gradient becomes a step. They change a network in place, and move its clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message
from thinned.numpy.layers import Parameter
from thinned.numpy.network import Sequential
from thinned.numpy.settings import number

__all__ = ["SGD", "Adam", "Optimizer"]

Array = NDArray[Any]

# Numbers that an update goes over at once: its dozen passes find them in the processor's cache.
BLOCK = 2**15


def _in_a_row(arrays: list[Any]) -> Array:
    """A copy of all their numbers, in the widest of their types."""
    return np.concatenate(arrays, axis=None) if arrays else np.empty(0)


def _goes_alone(parameter: Parameter) -> bool:
    """Whether the parameter has so many numbers that to copy them into a row would take longer than
    calls of its own. One whose numbers do not lie in a row is copied anyway.
    """
    return parameter.value.size >= BLOCK and parameter.value.flags.c_contiguous


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
        # Those of the parameters that go together, then those of each that goes alone.
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
        for parameter in parameters:
            if parameter.is_weight and self.weight_decay:
                value = parameter.value
                value *= 1 - self.learning_rate * self.weight_decay
        # A small network's time goes into calls, so its parameters go in one row; a large one's
        # goes into numbers, so that a parameter of many is changed where it lies.
        together = [parameter for parameter in parameters if not _goes_alone(parameter)]
        low = self._change_together(together)
        for parameter in parameters:
            if _goes_alone(parameter):
                self._change_alone(parameter, low)
                low += parameter.value.size
        if self.max_norm is not None:
            for parameter in parameters:
                if parameter.is_weight:
                    value = parameter.value
                    norms = np.sqrt((value * value).sum(axis=0))
                    value *= self.max_norm / np.maximum(norms, self.max_norm)
        self.network.tick()

    def carry_on(self, other: Optimizer) -> None:
        """Take over the steps and the memory of another optimizer of the same kind and parameters:
        training goes on, with other settings.
        """
        self.steps, self._memory = other.steps, other._memory

    def _change_together(self, parameters: list[Parameter]) -> int:
        """Change these parameters in one row; how many numbers they have."""
        gradients = _in_a_row([parameter.gradient for parameter in parameters])
        changes = np.empty_like(gradients)
        for start in range(0, changes.size, BLOCK):
            block = slice(start, min(start + BLOCK, changes.size))
            memories = (memory[block] for memory in self._memory)
            self._update(gradients[block], changes[block], *memories)
        start = 0
        for parameter in parameters:
            value = parameter.value
            value += changes[start : start + value.size].reshape(value.shape)
            start += value.size
        return changes.size

    def _change_alone(self, parameter: Parameter, low: int) -> None:
        """Change this parameter, whose part of each memory begins at `low`, block by block."""
        values, gradients = parameter.value.reshape(-1), np.asarray(parameter.gradient).reshape(-1)
        memories = [memory[low : low + values.size] for memory in self._memory]
        changes = np.empty(BLOCK, np.result_type(gradients, *memories))
        for start in range(0, values.size, BLOCK):
            block = slice(start, start + BLOCK)
            value = values[block]
            change = changes[: value.size]
            self._update(gradients[block], change, *(memory[block] for memory in memories))
            value += change

    def _update(self, gradient: Array, change: Array, *memory: Array) -> None:
        """Write into `change` what is to be added to the parameters.

        gradient : of some parameters in a row, shape (n,); not to be modified. change : of the same
        shape, empty. memory : their part of each array.
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

    def _update(self, gradient: Array, change: Array, *memory: Array) -> None:
        (velocity,) = memory
        np.multiply(gradient, self.learning_rate, out=change)
        velocity *= self.momentum
        velocity -= change
        change[...] = velocity


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

    def _update(self, gradient: Array, change: Array, *memory: Array) -> None:
        m, v = memory
        np.subtract(gradient, m, out=change)
        change *= 1 - self.beta_1
        m += change
        np.multiply(gradient, gradient, out=change)
        change -= v
        change *= 1 - self.beta_2
        v += change
        np.sqrt(v, out=change)
        change *= 1 / math.sqrt(1 - self.beta_2**self.steps)
        change += self.epsilon
        np.divide(m, change, out=change)
        change *= -self.learning_rate / (1 - self.beta_1**self.steps)
