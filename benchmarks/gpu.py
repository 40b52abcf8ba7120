"""Dropout on a CUDA device, thinned's beside PyTorch's and a plain copy.

    python -m benchmarks.gpu [--json FILE] [--repeats 15] [--quickest] [--part NAME ...]

Run from the root of the checkout. Where there is no device it says so, measures nothing, and ends
with exit code 2. Figures are medians by the device's events over timings in which all take turns.
The parts, of which --part chooses some:

- *kernels*: microseconds of a launch, as a CUDA graph repeats it: no time of the host is in it.
- *calls*: forward and backward with the host's, one call after another, in eager code.
- *compiled*: the same in compiled programs.
- *together*: bias, GELU, dropout and the residual's sum in one compiled program.
- *residual*: the same sum and a norm by `thinned.torch.fused`, beside the steps.
- *attention*: forward and backward of bfloat16 heads of 64 and 128, beside PyTorch's without
  dropout and with its own, and flash-attn's where that is installed.
- *training*: a step of GPT-2 small in bfloat16, eager and compiled, without dropout in the
  attention and with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned.torch
from benchmarks.measuring import on_device
from benchmarks.measuring.timing import command_line, table, write_json
from thinned.torch.fused import bias_dropout_add, dropout_add_norm

AT = thinned.Address(seed=1, site="here", step=2)
COPY, OURS, EAGER, COMPILED, A_WORD, WORDS, NONE, FLASH, STEPS = (
    "copy", "thinned", "F.dropout", "compiled", "a word", "mask_words", "p = 0", "flash-attn",
    "in steps",
)  # fmt: skip

Call = Callable[[], object]
Row = tuple[dict[str, Any], dict[str, Call], bool]


class Scale(NamedTuple):
    """Where and how large everything is. `tiny` is for a test, by the same code."""

    device: str = "cuda"
    sizes: tuple[tuple[str, int], ...] = (("1M", 2**20), ("16M", 2**24), ("256M", 2**28))
    types: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    # A p of 1, 2 and 16 planes, and two whose planes end where no lane is open.
    rates: tuple[float, ...] = (0.5, 0.25, 1 / 2**16, 0.1, 0.3)
    # Compiling takes longer than all else.
    compiled_rates: tuple[float, ...] = (0.5, 0.1)
    rows: tuple[int, int] = (4096, 4096)
    # (samples, heads, tokens, width) of attention.
    heads: tuple[tuple[int, int, int, int], ...] = ((8, 16, 2048, 64), (4, 16, 4096, 128))
    texts: tuple[int, int] = (8, 1024)
    # GPT-2 small, with the sizes of 2019.
    model: tuple[int, int, int, int] = (768, 12, 12, 50304)
    backend: str = "inductor"


def tiny(device: str = "cpu") -> Scale:
    return Scale(
        device, (("64", 64),), (torch.bfloat16,), (0.5,), (0.5,), (4, 128), ((1, 2, 8, 16),),
        (2, 9), (16, 2, 1, 20), "eager",
    )  # fmt: skip


def _compiled(function: Any, scale: Scale) -> Any:
    return torch.compile(function, fullgraph=True, backend=scale.backend)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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


def calls(n: int, dtype: torch.dtype, p: float, scale: Scale, compiled: bool) -> dict[str, Call]:
    """Forward and backward by a module, as models call it."""
    x = torch.randn(n, device=scale.device).to(dtype)
    found: dict[str, Any] = {OURS: thinned.torch.Dropout(p), EAGER: nn.Dropout(p)}
    if compiled:
        found = {name: _compiled(module, scale) for name, module in found.items()}
        found[COMPILED] = found.pop(EAGER)
    return {name: both_ways(module, x) for name, module in found.items()}


def _rows(scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(scale.rows, device=scale.device, dtype=torch.bfloat16)
    return x, torch.randn_like(x[0]), torch.randn_like(x)


def together(p: float, scale: Scale) -> dict[str, Call]:
    """bias + GELU + dropout + add, compiled."""
    x, bias, residual = _rows(scale)
    made: dict[str, Call] = {}
    for name, drop in ((OURS, thinned.torch.Dropout(p)), (COMPILED, nn.Dropout(p))):

        def whole(x: Tensor, drop: Callable[[Tensor], Tensor] = drop) -> Tensor:
            y: Tensor = drop(F.gelu(x + bias)) + residual
            return y

        made[name] = both_ways(_compiled(whole, scale), x)
    return made


def residual(p: float, scale: Scale) -> dict[str, dict[str, Call]]:
    """The fused functions, in eager code, beside PyTorch's steps."""
    x, bias, beside = _rows(scale)
    wide = bias.shape
    return {
        "bias_dropout_add": {
            OURS: both_ways(lambda x: bias_dropout_add(x, bias, beside, p, training=True), x),
            STEPS: both_ways(lambda x: beside + F.dropout(x + bias, p), x),
        },
        "dropout_add_norm": {
            OURS: both_ways(lambda x: dropout_add_norm(x, beside, bias, p, training=True), x),
            STEPS: both_ways(lambda x: F.layer_norm(beside + F.dropout(x, p), wide, bias), x),
        },
    }


def attention(shape: tuple[int, int, int, int], p: float, scale: Scale) -> dict[str, Call]:
    """Causal attention, forward and backward."""
    q, k, v = (torch.randn(shape, device=scale.device, dtype=torch.bfloat16) for _ in range(3))
    sdpa, ours = F.scaled_dot_product_attention, thinned.torch.scaled_dot_product_attention
    made = {
        NONE: both_ways(lambda q: sdpa(q, k, v, is_causal=True), q),
        EAGER: both_ways(lambda q: sdpa(q, k, v, dropout_p=p, is_causal=True), q),
        OURS: both_ways(lambda q: ours(q, k, v, None, p, training=True, is_causal=True), q),
    }
    for x in (k, v):
        x.requires_grad_()
    if scale.device == "cuda" and find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_func

        rows = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in (k, v)]
        their_q = q.transpose(1, 2).contiguous()
        made[FLASH] = both_ways(
            lambda q: flash_attn_func(q, *rows, dropout_p=p, causal=True), their_q
        )
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
    """GPT-2's form, of so many words, heads and blocks."""

    def __init__(
        self, p: float, attention: float, width: int, heads: int, blocks: int, words: int
    ) -> None:
        super().__init__()
        self.words, self.drop = nn.Embedding(words, width), nn.Dropout(p)
        self.blocks = nn.Sequential(*[Block(width, heads, p, attention) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.drop(self.words(text))))
        return F.linear(x, self.words.weight)


def training(attention: float, compiled: bool, scale: Scale) -> dict[str, Call]:
    """Steps of AdamW."""
    text = torch.randint(scale.model[-1], scale.texts, device=scale.device)
    made: dict[str, Call] = {}
    for name, p in ((NONE, 0.0), (EAGER, 0.1), (OURS, 0.1)):
        model = GPT(p, attention if p else 0.0, *scale.model).to(scale.device, torch.bfloat16)
        optimizer = torch.optim.AdamW(model.parameters(), fused=scale.device == "cuda")
        if name == OURS:
            thinned.torch.adopt(model, optimizer=optimizer)
        call = _compiled(model, scale) if compiled else model

        def step(call: Any = call, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            out = call(text[:, :-1])
            F.cross_entropy(out.flatten(0, 1), text[:, 1:].flatten()).backward()
            optimizer.step()

        made[name] = step
    return made


# ---------------------------------------------------------------------------------------- measuring


def _elements(scale: Scale, part: str) -> Iterator[Row]:
    for size, n in scale.sizes:
        for dtype in scale.types:
            for p in scale.compiled_rates if part == "compiled" else scale.rates:
                of = {"size": size, "dtype": _name(dtype), "p": p}
                if part == "kernels":
                    yield of, kernels(n, dtype, p, scale.device), True
                else:
                    yield of, calls(n, dtype, p, scale, part == "compiled"), False


def _together(scale: Scale, part: str) -> Iterator[Row]:
    size = " x ".join(map(str, scale.rows))
    for p in scale.compiled_rates:
        of = {"size": size, "dtype": "bfloat16", "p": p}
        if part == "together":
            yield of, together(p, scale), False
        else:
            for name, made in residual(p, scale).items():
                yield {**of, "of": name}, made, False


def _attention(scale: Scale, _: str) -> Iterator[Row]:
    for shape in scale.heads:
        for p in scale.compiled_rates:
            of = {"size": " x ".join(map(str, shape)), "dtype": "bfloat16", "p": p}
            yield of, attention(shape, p, scale), False


def _training(scale: Scale, _: str) -> Iterator[Row]:
    for compiled in (False, True):
        for share in (0.0, 0.1):
            of = {"size": "GPT-2 small", "dtype": "bfloat16", "p": 0.1, "attention": share}
            of["of"] = COMPILED if compiled else "eager"
            yield of, training(share, compiled, scale), False


PARTS: dict[str, Callable[[Scale, str], Iterator[Row]]] = {
    "kernels": _elements, "calls": _elements, "compiled": _elements, "together": _together,
    "residual": _together, "attention": _attention, "training": _training,
}  # fmt: skip


def measure(repeats: int, figure: Any, parts: list[str], scale: Scale) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for part in parts:
        made = PARTS[part](scale, part)
        while True:
            torch.compiler.reset()
            row = next(made, None)
            if row is None:
                break
            of, calls_of, in_graphs = row
            timer = on_device.timer_of(scale.device, in_graphs)
            us = on_device.medians(calls_of, timer, repeats, figure)
            rows.append({"part": part, "us": us, **of})
    return {"device": on_device.name(scale.device), "rows": rows}


def show(result: dict[str, Any]) -> None:
    print(result["device"])
    for part in dict.fromkeys(row["part"] for row in result["rows"]):
        chosen = [row for row in result["rows"] if row["part"] == part]
        names = list(chosen[0]["us"])
        base = next(name for name in (COPY, COMPILED, STEPS, EAGER) if name in names)
        more = [key for key in ("of", "attention") if key in chosen[0]]
        lines = []
        for row in chosen:
            us, of = row["us"], [row["size"], row["dtype"], f"{row['p']:.3g}"]
            of += [str(row[key]) for key in more]
            times = f"{us[base] / us[OURS]:.2f}"
            lines.append([*of, *[f"{us[name]:.1f}" for name in names], times])
        columns = ["elements", "type", "p", *more, *names, f"{base} / thinned"]
        table(f"{part}: microseconds", columns, lines)


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="one of the parts, or more")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: no CUDA device here, and nothing was measured.", file=sys.stderr)
        return 2
    parts = arguments.part or list(PARTS)
    result = measure(arguments.repeats, arguments.figure, parts, Scale())
    show(result)
    if arguments.json:
        write_json(arguments.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
