"""timm: the smallest model of each family, with every rate that its builder takes."""

import re

import timm
import torch
from timm.layers import set_fused_attn

from .arguments import NotBuiltError
from .runs import step
from .subject import Subject, awaken

RATES = {
    "drop_rate": 0.1, "attn_drop_rate": 0.1, "proj_drop_rate": 0.1, "pos_drop_rate": 0.1,
    "patch_drop_rate": 0.2, "drop_path_rate": 0.2, "drop_block_rate": 0.2,
    "depth": 3, "embed_dim": 96,  # where they are numbers
}  # fmt: skip
SIZES = (64, 128, 224)
LARGEST = 40_000_000
# What the names of small models hold, the smallest first.
SMALL = (
    "test_", "atto", "femto", "pico", "nano", "xxt", "xxs", "xtiny", "_t0", "_s0", "b0", "xs", "n0",
    "micro", "mini", "tiny", "small", "_s", "14", "18", "_t", "50", "_b", "base",
)  # fmt: skip


def names():
    return sorted(timm.list_modules())


def _by_size(module):
    def place(name):
        return (
            next((i for i, word in enumerate(SMALL) if word in name), len(SMALL)),
            len(name),
            name,
        )

    return sorted(timm.list_models(module=module), key=place)


def subjects(module):
    first = None
    for name in _by_size(module)[:4]:
        for size in SIZES:
            try:
                return list(_subjects(module, name, size))
            except Exception as error:
                first = (
                    first or f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:140]}"
                )
    raise NotBuiltError(first or "it lists no model")


def _subjects(module, name, size):
    found = []
    for fused in (True, False):
        set_fused_attn(fused)
        torch.manual_seed(0)
        with torch.device("meta"):
            many = sum(p.numel() for p in _model(name, size).parameters()) > LARGEST
        if many:
            raise NotBuiltError("more parameters than this table has room for")
        model = _model(name, size)
        attends = any(hasattr(m, "fused_attn") for m in model.modules())
        awaken(model)
        variant = f"{name}, {'fused' if fused else 'plain'}" if attends else name
        given = (torch.randn(2, 3, size, size),)
        subject = Subject(module, variant, model.train(), given, _checkpoints(model))
        step(model, subject.call, 0)
        found.append(subject)
        if not attends:
            break
    return found


def _model(name, size):
    options = {**RATES, "num_classes": 10, "img_size": size}
    while True:
        try:
            return timm.create_model(name, **options)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            refused = re.search(r"(?:argument|parameter)s?:? '(\w+)'", str(error))
            if refused is None or refused[1] not in options:
                perhaps = [o for o in ("embed_dim", "depth", "img_size") if o in options]
                if not perhaps:
                    raise
                del options[perhaps[0]]
                continue
            del options[refused[1]]


def _checkpoints(model):
    try:
        model.set_grad_checkpointing(True)
        model.set_grad_checkpointing(False)
    except (AssertionError, AttributeError, NotImplementedError, TypeError):
        return {}
    return {"default": lambda m: m.set_grad_checkpointing(True)}
