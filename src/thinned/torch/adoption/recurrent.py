"""torch.nn's recurrent networks with dropout between their layers drawn at a site.

PyTorch runs all layers in one call. Here each layer is a call of its own, and between two of them
stands a draw: without dropout the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.torch.adoption.site import Site
from thinned.torch.compat import recurrence

__all__ = ["KINDS", "layers"]

# The functions of PyTorch that run a recurrent network: the first has two states, others one.
KINDS: tuple[Callable[..., Any], ...] = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


def layers(site: Site | None, run: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What `run` returns for `args`, layer by layer. Packed sequences are drawn for as they lie.

    site : Site or None. None where nothing is dropped.
    """
    packed = not isinstance(args[3], bool)
    if packed:
        data, sizes, states, weights, bias, count, p, _, both_ways = args
        batch_first = None
    else:
        data, states, weights, bias, count, p, _, both_ways, batch_first = args
    several = run is torch.lstm
    initial = tuple(states) if several else (states,)
    per_layer, ways = len(weights) // count, 2 if both_ways else 1
    # No rows to divide a batch by: packed sequences mix them.
    axis = -1 if packed or data.dim() < 3 else 0 if batch_first else 1
    last: list[tuple[Tensor, ...]] = []
    for i in range(count):
        mine = tuple(s[i * ways : (i + 1) * ways].contiguous() for s in initial)
        state = mine if several else mine[0]
        own = weights[i * per_layer : (i + 1) * per_layer]
        rest = (state, own, bias, 1, 0.0, True, both_ways)
        if packed:
            out = run(data, sizes, *rest)
        elif several and torch.compiler.is_compiling() and per_layer // ways == (4 if bias else 2):
            out = _steps(data, mine, own, ways, batch_first)
        else:
            out = run(data, *rest, batch_first)
        data, *states_now = out
        last.append(tuple(states_now))
        if site is not None and i + 1 < count:
            data = site.draw(data, p=p if site.rule is None else None, axis=axis)
    return (data, *(torch.cat(parts) for parts in zip(*last, strict=True)))


def _steps(
    x: Tensor, states: tuple[Tensor, ...], weights: Sequence[Tensor], ways: int, batch_first: Any
) -> tuple[Tensor, ...]:
    """One layer of an LSTM, step by step, for a compiler.

    So it takes PyTorch's own call apart too, but for a layer of weights that are trained on inputs
    that are not, of which it makes an operator that it then cannot run (mkldnn_rnn_layer, in 2.13).
    Projections are never made that operator, and stay PyTorch's call.
    """
    x = x.transpose(0, 1) if batch_first else x
    own, found, last = len(weights) // ways, [], []
    for j in range(ways):
        mine = weights[j * own : (j + 1) * own]
        state = [s[j] for s in states]
        y, end = recurrence.lstm(x, state, mine, recurrence.CellNoise(), j == 1)
        found.append(y)
        last.append(end)
    y = torch.cat(found, 2)
    y = y.transpose(0, 1) if batch_first else y
    return y, *(torch.stack(parts) for parts in zip(*last, strict=True))
