"""A trained network of the user's own, in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError
from thinned.fit.own import Own, built
from thinned.fit.rate import Rate

if TYPE_CHECKING:
    from torch import nn

    from thinned.members.prediction import Prediction
    from thinned.members.request import Asked

__all__ = ["OwnNetwork", "asked_of", "in_units"]

Array = NDArray[Any]

# Rows that go through together in prediction. Always this many: a row's answer does not depend
# on how many others are predicted.
ROWS = 1024


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A trained network of the user's own, in evaluation.

    own : what builds it, for n_inputs and n_outputs, dropping at p. state : its parameters
    and buffers by name. mean, scale : bring a regression's output to the target's units.
    """

    own: Own
    inputs: int
    n_outputs: int
    p: Rate
    state: dict[str, Array]
    mean: float = 0.0
    scale: float = 1.0

    def module(self) -> nn.Module:
        """The module, with its weights, on the CPU.

        Raises
        ------
        InputError if the function builds another network than was saved.
        """
        import torch

        made = built(self.own, self.inputs, self.n_outputs, self.p, 0)
        state = {name: torch.from_numpy(value.copy()) for name, value in self.state.items()}
        try:
            made.load_state_dict(state)
        except RuntimeError as reason:
            said = " ".join(str(reason).split())
            raise InputError(f"{self.own.called}: it builds another network: {said}") from None
        return made.eval()

    def outputs(self, inputs: Array) -> Array:
        """Logits, shape (rows, classes), or values in the target's units, shape (rows, 1)."""
        return in_units(asked_of(self.module(), inputs), self.mean, self.scale)

    def members(self, inputs: Array, asked: Asked, single: bool) -> Prediction:
        """What thinned networks say: see `Model.members`."""
        from thinned.members.torch_models import predict

        def value(out: Any) -> Any:
            return out[:, 0].double() * self.scale + self.mean

        return predict(
            self.module(),
            inputs.astype(np.float32),
            members=asked.members,
            seed=asked.seed,
            batch_size=ROWS,
            task=asked.task,
            output=value if single else None,
        )


def asked_of(module: nn.Module, inputs: Array) -> Array:
    """What a module in evaluation says of rows, shape (rows, outputs)."""
    import torch

    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    parts = []
    with torch.no_grad():
        for first in range(0, len(inputs), ROWS):
            part = inputs[first : first + ROWS].astype(np.float32)
            # Filled up: a product over fewer rows rounds in another way.
            whole = np.concatenate((part, np.zeros((ROWS - len(part), part.shape[1]), np.float32)))
            out = module(torch.from_numpy(whole).to(device))
            parts.append(out.reshape(ROWS, -1)[: len(part)].float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def in_units(outputs: Array, mean: float, scale: float) -> Array:
    if scale == 1.0 and mean == 0.0:
        return outputs
    return outputs.astype(np.float64) * scale + mean
