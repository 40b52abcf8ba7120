"""Sequential: layers one after the other, their addresses, and the clock they share."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.numpy.layers import Layer, Parameter

__all__ = ["Sequential"]

Array = NDArray[Any]


class Sequential:
    """Layers in a row: forward goes through them up, backward comes through them down.

    A layer that draws (Linear its first weights, Dropout its masks) and has no address of its own
    gets one: the network's seed, and its position as site: "layers.0", "layers.1", ... The same
    seed therefore gives the same network and the same masks; runs that shall differ need seeds that
    do.

    Parameters
    ----------
    *layers : Layer, at least one.
    seed : int in [0, 2^64).

    Attributes
    ----------
    layers : list of Layer.

    Raises
    ------
    TypeError if something else than a layer is given. ValueError if a layer comes twice, or two
    layers of one kind have equal addresses: they would draw the same numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from thinned.numpy import Dropout, Linear, ReLU, Sequential
    >>> network = Sequential(Linear(4, 8), ReLU(), Dropout(0.5), Linear(8, 3), seed=0)
    >>> network.forward(np.ones((2, 4), np.float32), training=False).shape
    (2, 3)
    >>> network.layers[2].at
    Address(seed=0, site='layers.2', step=0, call=0)
    """

    def __init__(self, *layers: Layer, seed: int = 0) -> None:
        if not layers:
            raise ValueError("Sequential: no layers were given. Sequential(Linear(4, 3)) has one.")
        owners: dict[tuple[type, Address], int] = {}
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                remedy = "Pass layers one by one, not as a list." if isinstance(layer, list) else ""
                got = f"{type(layer).__name__} at position {i}"
                raise TypeError(checks.message("Sequential", "layers", "Layers", got, remedy))
            if layer in layers[:i]:
                raise ValueError(
                    f"Sequential: layer {i} is layer {layers.index(layer)} again. "
                    "A layer remembers one forward pass; make another one."
                )
            if not layer.draws:
                continue
            if layer.at is None:
                layer.place(Address(seed=seed, site=f"layers.{i}"))
            first = owners.setdefault((type(layer), layer.at), i)  # type: ignore[arg-type]  # placed
            if first != i:
                raise ValueError(
                    f"Sequential: layers {first} and {i} share the {layer.at}, and would draw the "
                    "same. Give each a site of its own."
                )
        self.layers = list(layers)

    def forward(self, x: Array, training: bool) -> Array:
        """The output of the last layer for the batch x.

        Parameters
        ----------
        x : array, shape (N, features). Never modified.
        training : bool. True drops units; False evaluates, and draws nothing.
        """
        checks.flag("Sequential.forward", "training", training)
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: Array) -> Array:
        """Set every parameter's gradient, for the last forward pass, and return dx.

        Parameters
        ----------
        dy : array of the output's shape. The gradient of the loss with respect to the output, which
            a loss returns.
        """
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def gradients(self, dy: Array) -> None:
        """Set every parameter's gradient, and stop there: training has no use for dx."""
        lowest = next((i for i, layer in enumerate(self.layers) if layer.parameters()), 0)
        for layer in reversed(self.layers[lowest + 1 :]):
            dy = layer.backward(dy)
        self.layers[lowest].gradients(dy)

    def parameters(self) -> list[Parameter]:
        """What learns, from the lowest layer up."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def tick(self) -> None:
        """Go one step on: every dropout layer's next mask is another. Optimizer.step calls this."""
        for layer in self.layers:
            layer.tick()

    def forget(self) -> None:
        """Let go of the arrays kept for a backward pass, when training is over."""
        for layer in self.layers:
            layer.forget()
