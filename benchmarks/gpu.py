"""Dropout on a CUDA device, thinned's beside PyTorch's and a plain copy.

    python -m benchmarks.gpu [--json FILE] [--repeats 15] [--quickest]

Run from the root of the checkout. Where there is no device it says so and measures nothing. Figures
are medians by the device's events over timings in which all take turns:

- *kernels*: microseconds of a launch, as a CUDA graph repeats it: no time of the host is in it.
- *calls*: the same with the host's, one call after another, in eager code and compiled.
- *together*: bias, GELU, dropout and the residual's sum in one compiled program.
- *training*: a step of GPT-2 small in bfloat16, without dropout in the attention and with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned.torch
from benchmarks.measuring.timing import command_line, table, write_json

AT = thinned.Address(seed=1, site="here", step=2)
SIZES = {"1M": 2**20, "16M": 2**24, "256M": 2**28}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# A p of 1, 2 and 16 planes, and two whose planes end where no lane is open.
RATES = (0.5, 0.25, 1 / 2**16, 0.1, 0.3)
COPY, OURS, EAGER, COMPILED, A_WORD, WORDS = (
    "copy", "thinned", "F.dropout", "compiled", "a word", "mask_words",
)  # fmt: skip

Call = Callable[[], object]


def kernels(n: int, dtype: torch.dtype, p: float, device: str) -> dict[str, Call]:
    """One pass over n elements."""
    x = torch.randn(n, device=device).to(dtype)
    y = torch.empty_like(x)
    calls: dict[str, Call] = {
        COPY: lambda: y.copy_(x),
        OURS: lambda: thinned.dropout(x, p, AT),
        EAGER: lambda: F.dropout(x, p),
    }
    if device == "cuda":
        from benchmarks.measuring.word_an_element import drop
        from thinned import reference
        from thinned.backends.base import Draw
        from thinned.backends.torch.triton import launch, words
        from thinned.window import place

        where = place("benchmark", (n,))
        told = words.told(Draw(AT, reference.threshold(p), where))
        calls[A_WORD] = lambda: drop(x, p, 3)
        calls[WORDS] = lambda: launch.mask_words(where, told, x.device)
    return calls


def both_ways(function: Callable[[Tensor], Tensor], x: Tensor) -> Call:
    """Forward, and backward from a gradient that is there."""
    leaf, grad = x.clone().requires_grad_(), torch.ones_like(x)

    def both() -> None:
        leaf.grad = None
        function(leaf).backward(grad)

    return both


def calls(n: int, dtype: torch.dtype, p: float, device: str, compiled: bool) -> dict[str, Call]:
    """Forward and backward by a module, as models call it."""
    x = torch.randn(n, device=device).to(dtype)
    found: dict[str, Any] = {OURS: thinned.torch.Dropout(p), EAGER: nn.Dropout(p)}
    if compiled:
        found = {name: torch.compile(module, fullgraph=True) for name, module in found.items()}
        found[COMPILED] = found.pop(EAGER)
    return {name: both_ways(module, x) for name, module in found.items()}


def together(n: int, p: float, device: str) -> dict[str, Call]:
    """bias + GELU + dropout + add, of rows of 4,096."""
    x = torch.randn(n // 4096, 4096, device=device, dtype=torch.bfloat16)
    bias, residual = torch.randn_like(x[0]), torch.randn_like(x)
    made: dict[str, Call] = {}
    for name, drop in ((OURS, thinned.torch.Dropout(p)), (COMPILED, nn.Dropout(p))):

        def whole(x: Tensor, drop: Callable[[Tensor], Tensor] = drop) -> Tensor:
            y: Tensor = drop(F.gelu(x + bias)) + residual
            return y

        made[name] = both_ways(torch.compile(whole, fullgraph=True), x)
    return made


# --------------------------------------------------------------------------------------- training


class Block(nn.Module):
    """A block of GPT-2; `attention` is the p of its attention's weights."""

    def __init__(self, width: int, heads: int, p: float, attention: float) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop, self.drop_too = nn.Dropout(p), nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        rows, n, width = x.shape
        parts = self.mix(self.before(x)).view(rows, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind()
        p = self.attention if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(rows, n, width)))
        y: Tensor = x + self.drop_too(self.down(F.gelu(self.up(self.between(x)))))
        return y


class GPT(nn.Module):
    """GPT-2 small, with the sizes of 2019; others for a test."""

    def __init__(
        self, p: float, attention: float, width: int = 768, heads: int = 12, blocks: int = 12,
        words: int = 50304,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words, self.drop = nn.Embedding(words, width), nn.Dropout(p)
        self.blocks = nn.Sequential(*[Block(width, heads, p, attention) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.drop(self.words(text))))
        return F.linear(x, self.words.weight)


def training(attention: float, device: str, **sizes: int) -> dict[str, Call]:
    """Steps of AdamW, on 8 texts of 1,024 words."""
    words, n = sizes.get("words", 50304), 1024 if device == "cuda" else 16
    text = torch.randint(words, (8, n), device=device)
    made: dict[str, Call] = {}
    for name, p in (("none", 0.0), (EAGER, 0.1), (OURS, 0.1)):
        model = GPT(p, attention if p else 0.0, **sizes).to(device, torch.bfloat16)
        optimizer = torch.optim.AdamW(model.parameters(), fused=device == "cuda")
        if name == OURS:
            thinned.torch.adopt(model, optimizer=optimizer)

        def step(model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            out = model(text[:, :-1])
            F.cross_entropy(out.flatten(0, 1), text[:, 1:].flatten()).backward()
            optimizer.step()

        made[name] = step
    return made


# ---------------------------------------------------------------------------------------- measuring


def measure(repeats: int, figure: Any) -> dict[str, Any]:
    from benchmarks.measuring import on_device

    rows: list[dict[str, Any]] = []

    def add(part: str, made: dict[str, Call], timer: Any, **of: Any) -> None:
        us = on_device.medians(made, timer, repeats, figure)
        rows.append({"part": part, "us": us, **of})

    for size, n in SIZES.items():
        for kind, dtype in TYPES.items():
            for p in RATES:
                of = {"size": size, "dtype": kind, "p": p}
                add("kernels", kernels(n, dtype, p, "cuda"), on_device.replayed, **of)
                for compiled in (False, True):
                    torch.compiler.reset()
                    made = calls(n, dtype, p, "cuda", compiled)
                    part = "calls, compiled" if compiled else "calls"
                    add(part, made, on_device.by_events, **of)
    for p in (0.1, 0.5):
        torch.compiler.reset()
        of = {"size": "16M", "dtype": "bfloat16", "p": p}
        add("together", together(2**24, p, "cuda"), on_device.by_events, **of)
    for attention in (0.0, 0.1):
        of = {"size": "GPT-2 small", "dtype": "bfloat16", "p": 0.1, "attention": attention}
        add("training", training(attention, "cuda"), on_device.by_events, **of)
    return {"device": on_device.name(), "rows": rows}


def show(result: dict[str, Any]) -> None:
    print(result["device"])
    for part in dict.fromkeys(row["part"] for row in result["rows"]):
        chosen = [row for row in result["rows"] if row["part"] == part]
        names = list(chosen[0]["us"])
        base = next(name for name in (COPY, COMPILED, EAGER) if name in names)
        lines = []
        for row in chosen:
            us, of = row["us"], [row["size"], row["dtype"], f"{row['p']:.3g}"]
            of += [f"{row['attention']:.3g}"] if part == "training" else []
            times = f"{us[base] / us[OURS]:.2f}"
            lines.append([*of, *[f"{us[name]:.1f}" for name in names], times])
        more = ["attention"] if part == "training" else []
        columns = ["elements", "type", "p", *more, *names, f"{base} / thinned"]
        table(f"{part}: microseconds", columns, lines)


def main() -> None:
    arguments = command_line(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: no CUDA device here, and nothing was measured.")
        return
    result = measure(arguments.repeats, arguments.figure)
    show(result)
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
