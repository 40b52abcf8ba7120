"""What dropout costs a whole training step, over the same network with Identity in its place.

    python -m benchmarks.torch_training [--json FILE] [--repeats 75] [--quickest]

Run from the root of the checkout. Two networks, on the CPU in float32, each with thinned.torch's
dropout, with torch.nn's, with torch.nn.Identity, and with PyTorch's product by a number in its
place, which is what a step pays for any operation with an output of its own: medians of the time
of a step in which all take turns, eager and then compiled (a third of the rounds). What a step
costs over another's is the median over rounds of their ratio: one percent is less than the machine
may drift by between one round and the next. And how far the memory in use rises
during one step of the transformer, and what its forward pass keeps, each in a process of its own
(Linux), beside the size of the masks that nobody needs to keep.

- mlp: Linear 784-512-256-10 with two dropouts of .5, batch 1024, SGD.
- transformer: 4 blocks of width 256, 4 heads, 128 tokens, batch 16, with four dropouts of .1 a
  block: on the attention's weights, behind the attention, in the feed-forward part and behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import thinned.torch
from benchmarks.measuring.in_processes import peaks
from benchmarks.measuring.timing import (
    Figure,
    command_line,
    figures,
    in_rounds,
    load_average,
    machine,
    of_call,
    ratio,
    table,
    write_json,
)

THINNED, TORCH, IDENTITY = "thinned", "torch.nn", "Identity"
NAMES = (THINNED, TORCH, IDENTITY)
PRODUCT = "product"
TIMED = (*NAMES, PRODUCT)
# At most so much more time than Identity: what thinned is meant to stay under.
BOUND = {"mlp": 0.05, "transformer": 0.03}

BATCH, SIZES = 1024, (784, 512, 256, 10)
SAMPLES, TOKENS, WIDTH, HEADS, BLOCKS, P = 16, 128, 256, 4, 4, 0.1


class Product(nn.Module):
    """Scales, as dropout does, and drops nothing."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def dropout(name: str, p: float) -> nn.Module:
    """A dropout module of one of the kinds."""
    if name == IDENTITY:
        return nn.Identity()
    if name == PRODUCT:
        return Product(1 / (1 - p))
    return thinned.torch.Dropout(p) if name == THINNED else nn.Dropout(p)


class Block(nn.Module):
    """A pre-norm transformer block. All kinds have the same operations but for dropout."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project, self.gather = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.on_weights, self.behind = dropout(name, P), dropout(name, P)
        self.feed = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(),
            dropout(name, P),
            nn.Linear(4 * WIDTH, WIDTH),
            dropout(name, P),
        )

    def attend(self, x: Tensor) -> Tensor:
        heads = self.project(x).view(*x.shape[:2], 3, HEADS, WIDTH // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        weights = functional.softmax(q @ k.mT * (WIDTH // HEADS) ** -0.5, -1)
        attended = self.on_weights(weights) @ v
        return self.gather(attended.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.behind(self.attend(self.before(x)))
        return x + self.feed(self.between(x))  # type: ignore[no-any-return]


def mlp(name: str) -> nn.Module:
    """784-512-256-10, each hidden layer with a ReLU and a dropout behind it."""
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(SIZES[:-1]):
        layers += [nn.Linear(n, m), nn.ReLU(), dropout(name, 0.5)]
    return nn.Sequential(*layers, nn.Linear(*SIZES[-2:]))


def step(network: str, name: str, compiled: bool = False) -> Callable[[], object]:
    """One training step of a fresh network, forward, backward and SGD, as a function."""
    torch.manual_seed(0)
    if network == "mlp":
        model, x = mlp(name), torch.randn(BATCH, SIZES[0])
        labels = torch.randint(0, SIZES[-1], (BATCH,))
    else:
        model = nn.Sequential(*(Block(name) for _ in range(BLOCKS)))
        x, labels = torch.randn(SAMPLES, TOKENS, WIDTH), None
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    run = torch.compile(model, fullgraph=True) if compiled else model

    def one() -> None:
        optimizer.zero_grad()
        y = run(x)
        loss = y.square().mean() if labels is None else functional.cross_entropy(y, labels)
        loss.backward()
        optimizer.step()

    return one


def measured(
    repeats: int, figure: Figure, compiled: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Of one step, by network and kind of dropout: milliseconds, and times as long as Identity."""
    told = {}
    for network in BOUND:
        timers = {name: of_call(step(network, name, compiled)) for name in TIMED}
        rounds = in_rounds(timers, repeats, budget=120.0, shortest=0.1)
        told[network] = {
            "milliseconds": {name: 1e3 * s for name, s in figures(rounds, figure).items()},
            "times Identity": {name: ratio(rounds, name, IDENTITY) for name in TIMED},
            "times torch.nn": {name: ratio(rounds, name, TORCH) for name in TIMED},
        }
    return told


def a_step(name: str) -> Callable[[], object]:
    """A step of the transformer, with threads and libraries there already."""
    one = step("transformer", name)
    one()
    return one


def a_forward_pass(name: str) -> Callable[[], object]:
    """Its forward pass, which leaves behind what it keeps for the backward pass."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(name) for _ in range(BLOCKS)))
    x = torch.randn(SAMPLES, TOKENS, WIDTH)
    model(x)
    kept: list[Tensor] = []
    return lambda: kept.append(model(x))


def size_of_masks() -> int:
    """Bytes of the masks of one step of the transformer as PyTorch keeps them: a float each."""
    rows = SAMPLES * TOKENS
    return 4 * BLOCKS * rows * (HEADS * TOKENS + WIDTH + 4 * WIDTH + WIDTH)


def show(result: dict[str, Any]) -> None:
    rows = []
    for network, told in result["eager"].items():
        over = {name: told["times Identity"][name] - 1 for name in (THINNED, PRODUCT, TORCH)}
        verdict = "reached" if over[THINNED] <= BOUND[network] else "NOT REACHED"
        goal = f"at most {BOUND[network]:.0%}: {verdict}"
        times = [f"{told['milliseconds'][name]:.2f}" for name in TIMED]
        rows.append([network, *times, *(f"{more:+.1%}" for more in over.values()), goal])
    more = ["thinned over Identity", "the product's", "torch.nn's"]
    columns = ["milliseconds a step", *TIMED, *more, "goal"]
    table("Training steps", columns, rows)
    rows = []
    for network, told in result["compiled"].items():
        faster = 1 / told["times torch.nn"][THINNED]
        verdict = "reached" if faster >= 1 else "NOT REACHED"
        times = [f"{told['milliseconds'][name]:.2f}" for name in TIMED]
        rows.append([network, *times, f"{faster:.2f}", f"at least 1: {verdict}"])
    columns = ["milliseconds a step, compiled", *TIMED, "times as fast as torch.nn", "goal"]
    table("Compiled training steps", columns, rows)
    step_s, forward_s = result["peak_bytes"], result["forward_bytes"]
    if step_s is not None and forward_s is not None:
        both = {name: [step_s[name], forward_s[name]] for name in NAMES}
        both["torch.nn less thinned"] = [m[TORCH] - m[THINNED] for m in (step_s, forward_s)]
        # A step is at its largest where the last dropout's mask is not there: not yet, or no more.
        whole, last = result["mask_bytes"], 4 * SAMPLES * TOKENS * WIDTH
        both["the masks there at that time"] = [whole - last, whole]
        shown = [[name, *(f"{size / 2**20:.1f}" for size in sizes)] for name, sizes in both.items()]
        columns = ["MiB", "a step at most", "kept by its forward pass"]
        table("Memory that the transformer's step adds", columns, shown)


def main() -> None:
    chosen = command_line(__doc__, repeats=75).parse_args()
    described = machine("thinned", "torch")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    result: dict[str, Any] = {
        "machine": described,
        "threads": torch.get_num_threads(),
        "eager": measured(chosen.repeats, chosen.figure, False),
        "compiled": measured(chosen.repeats // 3 + 1, chosen.figure, True),
        "peak_bytes": peaks(a_step, NAMES),
        "forward_bytes": peaks(a_forward_pass, NAMES, "left"),
        "mask_bytes": size_of_masks(),
    }
    described["load at the end"] = load_average()
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
