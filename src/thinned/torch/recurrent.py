"""torch.nn's recurrent networks with dropout between their layers drawn at a site.

PyTorch runs all layers in one call. Here each layer is a call of its own, and between two of them
stands a draw: without dropout the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.torch.addressed import Site

__all__ = ["KINDS", "layers"]

# The functions of PyTorch that run a recurrent network: the first has two states, others one.
KINDS: tuple[Callable[..., Any], ...] = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


def layers(site: Site, run: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What `run` returns for `args`, layer by layer. Packed sequences are drawn for as they lie."""
    packed = not isinstance(args[3], bool)
    if packed:
        data, sizes, states, weights, bias, count, p, _, both_ways = args
        batch_first = None
    else:
        data, states, weights, bias, count, p, _, both_ways, batch_first = args
    several = run is torch.lstm
    initial = tuple(states) if several else (states,)
    per_layer, ways = len(weights) // count, 2 if both_ways else 1
    # No rows that could be a piece of a batch: packed sequences mix them.
    axis = -1 if packed or data.dim() < 3 else 0 if batch_first else 1
    last: list[tuple[Tensor, ...]] = []
    for i in range(count):
        mine = tuple(s[i * ways : (i + 1) * ways].contiguous() for s in initial)
        state = mine if several else mine[0]
        own = weights[i * per_layer : (i + 1) * per_layer]
        rest = (state, own, bias, 1, 0.0, True, both_ways)
        out = run(data, sizes, *rest) if packed else run(data, *rest, batch_first)
        data, *states_now = out
        last.append(tuple(states_now))
        if i + 1 < count:
            data = site.draw(data, p=p if site.rule is None else None, axis=axis)
    return (data, *(torch.cat(parts) for parts in zip(*last, strict=True)))
