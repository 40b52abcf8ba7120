"""Timings on a CUDA device: by its own events, and of launches that a CUDA graph repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.measuring.timing import Figure, Timer, interleaved, machine, of_call

__all__ = ["medians", "name", "timer_of"]

Call = Callable[[], object]

# Calls in one graph: so many that starting it costs a call nothing to speak of.
IN_A_GRAPH = 20


def name(kind: str) -> str:
    """The device, and the versions that figures on it belong to."""
    if kind != "cuda":
        return str(machine("thinned", "torch")["processor"])
    import triton

    device = torch.cuda.get_device_name()
    return f"{device}, PyTorch {torch.__version__}, Triton {triton.__version__}"


def by_events(call: Call) -> Timer:
    """Seconds on the device between two events around so many calls."""

    def seconds(calls: int) -> float:
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        for _ in range(calls):
            call()
        ended.record()
        ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3

    return seconds


def replayed(call: Call) -> Timer:
    """The same of calls that stand in a CUDA graph, without what the host takes to make them."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(IN_A_GRAPH):
            call()
    whole = by_events(graph.replay)
    return lambda calls: whole(calls) / IN_A_GRAPH


def timer_of(kind: str, in_graphs: bool) -> Callable[[Call], Timer]:
    """Of calls on a device of this kind, by themselves or as a CUDA graph repeats them."""
    if kind != "cuda":
        return of_call
    return replayed if in_graphs else by_events


def medians(
    calls: Mapping[str, Call], timer: Callable[[Call], Timer], repeats: int, figure: Figure
) -> dict[str, float]:
    """Microseconds of a call, by name; all take turns."""
    timers: dict[str, Any] = {key: timer(call) for key, call in calls.items()}
    return {key: 1e6 * s for key, s in interleaved(timers, repeats, figure=figure).items()}
