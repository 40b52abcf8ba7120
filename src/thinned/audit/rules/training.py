"""Training that repeats or loses a mask: checkpoints without RNG state, a seed set at each step."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.binding import default_of
from thinned.audit.context import is_test_code, mentions
from thinned.audit.layers import ADDRESSED, FUNCTIONAL
from thinned.audit.names import UNKNOWN
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source
from thinned.audit.values import Function

__all__ = ["recompute", "reseeded"]

_CHECKPOINT = frozenset(
    {"torch.utils.checkpoint.checkpoint", "torch.utils.checkpoint.checkpoint_sequential"}
)
_SEEDS = frozenset(
    {"torch.manual_seed", "torch.random.manual_seed", "torch.cuda.manual_seed"}
    | {"torch.cuda.manual_seed_all", "lightning.seed_everything", "transformers.set_seed"}
    | {"accelerate.utils.set_seed", "tensorflow.random.set_seed", "keras.utils.set_random_seed"}
)
_DROP = re.compile(r"(?i)drop(?!_last|na|_dup|_col)")
_STEPS = frozenset({"backward", "manual_backward", "apply_gradients", "train_on_batch"})
_BUILDS = frozenset({"parameters", "from_pretrained", "load_state_dict", "init"})


@rule(
    "THN043",
    "checkpoint-without-rng-state",
    severity="warning",
    sentence="checkpoint is called with preserve_rng_state=False in code that has dropout.",
    why="The recomputation draws another mask than the forward pass did: the gradient belongs to "
    "no network that was run, and nothing says so.",
    mend="Leave preserve_rng_state at True, or give dropout addresses (thinned.torch.adopt), which "
    "draw the same mask again without it.",
    wrong="y = checkpoint(self.block, x, preserve_rng_state=False)",
    right="y = checkpoint(self.block, x)",
)
def recompute(source: Source) -> Iterator[Hit]:
    found = [
        called
        for called in source.calls_of(_CHECKPOINT)
        if source.value(called.keywords.get("preserve_rng_state")) is False
    ]
    if not found or not _has_dropout(source):
        return
    for called in found:
        if not is_test_code(source, called.node):
            yield (
                called.node,
                "checkpoint with preserve_rng_state=False draws another mask in the backward pass.",
            )


def _has_dropout(source: Source) -> bool:
    """Whether the code, comments and strings apart, speaks of dropout, thinned's addressed one
    apart."""
    if "adopt" in source.loads or "adopt" in source.attributes:
        return False
    words = [*source.attributes, *source.loads]
    words += [argument for call in source.calls for argument in _keywords(call)]
    return any(_DROP.search(word) for word in words)


def _keywords(call: ast.Call) -> list[str]:
    return [k.arg for k in call.keywords if k.arg]


@rule(
    "THN044",
    "seed-reset-in-loop",
    severity="warning",
    sentence="One seed is set again, or one address drawn at, in each step, epoch or forward.",
    why="Every pass then draws the same masks: one thinned network is trained, and no "
    "other ever is.",
    mend="Set the seed once, before the loop; or let it depend on the step. An address takes the "
    "step: at.replace(step=step).",
    wrong="for x in data: torch.manual_seed(0); loss(model(x)).backward()",
    right="torch.manual_seed(0)\nfor x in data: loss(model(x)).backward()",
)
def reseeded(source: Source) -> Iterator[Hit]:
    seeds = [(called, called.argument(0, "seed")) for called in source.calls_of(_SEEDS)]
    for called, seed in [*seeds, *_seeding(source)]:
        node = called.node
        if seed is None or is_test_code(source, node) or not _is_fixed(source, seed, node):
            continue
        function = source.function_of(node)
        info = source.class_of(node)
        if function is not None and info is not None and function.name == "forward":
            if _calls_dropout(source, function):
                yield node, "The same seed is set in each forward pass: every mask is the same."
            continue
        for loop in source.loops_of(node):
            if _trains(loop) and not _builds(loop) and not _compares(loop, node):
                yield node, "The same seed is set again in the loop that trains: the masks repeat."
                break
    for called in source.calls_of(ADDRESSED):
        at = called.argument(ADDRESSED[called.name or ""].training - 1, "at")
        if at is None or is_test_code(source, called.node) or not _is_one_address(source, at):
            continue
        if any(_trains(loop) and not _builds(loop) for loop in source.loops_of(called.node)):
            yield called.node, "Each turn of the loop that trains draws at one address: one mask."


def _is_one_address(source: Source, at: ast.expr) -> bool:
    """Whether an address is the same in each turn: of constants, or a name that no loop gives."""
    if isinstance(at, ast.Name):
        return _is_fixed(source, at, at)
    if not isinstance(at, ast.Call) or source.called(at).name != "thinned.Address":
        return False
    parts = [*at.args, *(keyword.value for keyword in at.keywords)]
    return all(source.value(part) is not UNKNOWN for part in parts)


def _seeding(source: Source) -> Iterator[tuple[Called, ast.expr | None]]:
    """Calls of the tree's own functions that hand their first argument, or its default, to a seed
    of torch."""
    for call in source.calls:
        if len(call.args) + len(call.keywords) > 2 or not source.loops_of(call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if "seed" not in name.lower():
            continue
        called = source.called(call)
        target = called.target
        if (
            isinstance(target, Function)
            and not isinstance(target.node, ast.Lambda)
            and any(
                isinstance(n, ast.Call) and target.source.called(n).name in _SEEDS
                for n in walk(target.node)
            )
        ):
            first = next((a.arg for a in target.node.args.args[target.skip :]), "")
            given = called.argument(0, "seed", first)
            yield called, given if given is not None else default_of(target.node, first)


def _is_fixed(source: Source, seed: ast.expr, node: ast.AST) -> bool:
    """Whether the seed is the same each time: a constant, or a name that the loops do not give."""
    value = source.value(seed)
    if value is not UNKNOWN:
        return isinstance(value, int)
    if isinstance(seed, ast.Attribute):  # args.seed, self.seed
        return isinstance(seed.value, ast.Name) and re.search(r"(?i)seed", seed.attr) is not None
    if not isinstance(seed, ast.Name):
        return False
    return not any(
        isinstance(n, ast.Name) and n.id == seed.id and not isinstance(n.ctx, ast.Load)
        for loop in source.loops_of(node)
        for n in walk(loop)
    )


def _calls_dropout(source: Source, function: ast.AST) -> bool:
    for node in walk(function):
        if isinstance(node, ast.Call) and (
            source.called(node).name in FUNCTIONAL or mentions(node.func, _DROP)
        ):
            return True
    return False


def _trains(loop: ast.AST) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr in _STEPS for n in walk(loop))


def _compares(loop: ast.AST, seeded: ast.Call) -> bool:
    """Whether a turn sets the seed twice: what runs after each is held against the other."""
    written = ast.dump(seeded)
    return sum(isinstance(n, ast.Call) and ast.dump(n) == written for n in walk(loop)) > 1


def _builds(loop: ast.AST) -> bool:
    """Whether the loop makes a model or an optimizer: each turn is then a run of its own."""
    for node in walk(loop):
        if isinstance(node, ast.Attribute) and node.attr in _BUILDS:
            return True
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            func = node.value.func
            name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
            targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
            builds = name[:1].isupper() or name.startswith(("make_", "build_", "create_", "get_"))
            if builds and any(re.search(r"(?i)model|net|optim", target) for target in targets):
                return True
    return False
