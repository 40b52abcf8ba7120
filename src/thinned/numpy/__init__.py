"""A network by hand, in NumPy: layers with a forward and a backward pass, small enough to read.

>>> import numpy as np
>>> from thinned.numpy import Adam, Dropout, Linear, ReLU, Sequential, softmax_cross_entropy
>>> x, labels = np.eye(3, dtype=np.float32), np.array([0, 1, 2])
>>> network = Sequential(Linear(3, 16), ReLU(), Dropout(0.2), Linear(16, 3), seed=0)
>>> optimizer = Adam(network, learning_rate=0.01)
>>> for step in range(100):
...     loss, dy = softmax_cross_entropy(network.forward(x, training=True), labels)
...     dx = network.backward(dy)
...     optimizer.step()
>>> network.forward(x, training=False).argmax(axis=1)
array([0, 1, 2])
"""

from thinned.numpy.batches import batches
from thinned.numpy.layers import Dropout, Layer, Linear, Parameter, ReLU, Tanh
from thinned.numpy.losses import (
    sigmoid_cross_entropy,
    softmax,
    softmax_cross_entropy,
    squared_error,
)
from thinned.numpy.network import Sequential
from thinned.numpy.optimizers import SGD, Adam, Optimizer

__all__ = [
    "SGD",
    "Adam",
    "Dropout",
    "Layer",
    "Linear",
    "Optimizer",
    "Parameter",
    "ReLU",
    "Sequential",
    "Tanh",
    "batches",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
]
