"""What adopt will do to each module of a model, and what it can't: read before anything changes."""

from __future__ import annotations

from torch import nn

from thinned.torch.adoption.by_hand import BY_HAND, Held, held_rate
from thinned.torch.adoption.bytecode import NOISY, Reading, hooked, read, read_hooks
from thinned.torch.adoption.changes import (
    OURS,
    Plan,
    at_a_site,
    by_calls,
    in_attention,
    in_encoder,
    of_our_own,
)
from thinned.torch.adoption.functional_calls import taken
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import has_own_code, is_script
from thinned.torch.adoption.report import Row
from thinned.torch.adoption.site import ADDRESSED
from thinned.torch.adoption.watching import Noticed
from thinned.torch.compat.covers import uncovered

__all__ = ["noticed_by", "plans_of"]

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
_ENCODERS = (nn.TransformerEncoderLayer, nn.TransformerEncoder)
_TIME_FIRST = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_ATTENTION = "scaled_dot_product_attention"


def plans_of(model: nn.Module, names: dict[nn.Module, list[str]]) -> tuple[list[Plan], list[Row]]:
    plans: list[Plan] = []
    rows: list[Row] = []
    lent: dict[str, str] = {}
    time_first = _children_with_rows_second(names)
    for module, (name, *others) in names.items():
        kind, axis = type(module), 1 if module in time_first else 0
        shared = f", shared with {', '.join(others)}" if others else ""
        functional = f"{name}/dropout"
        if is_script(module):
            why = "not reached: TorchScript, whose calls are not Python's; adopt before scripting"
            rows.append(Row(name, kind.__name__, None, why, reached=False))
        elif (kind in ADDRESSED or kind in OURS) and not _is_patched(module):
            p = taken("adopt", module.p, f"p of {name!r}")
            plans.append(Plan(module, at_a_site, name, p, axis))
            rows.append(Row(name, kind.__name__, p, f"addressed{shared}"))
        elif isinstance(module, Sited):
            own = module.own_p
            plans.append(Plan(module, of_our_own, name, own, module.batch_axis))
            learned, several = (own is None and module.several is v for v in (False, True))
            done = "addressed, its noise is learned" if learned else "addressed"
            done += shared
            rows.append(Row(name, kind.__name__, own, done, learned=learned, several=several))
        elif isinstance(module, nn.MultiheadAttention):
            p = taken("adopt", module.dropout, f"dropout of {name!r}")
            plans.append(Plan(module, in_attention, functional, p))
            if p:
                rows.append(Row(functional, kind.__name__, p, f"weights addressed{shared}"))
        elif isinstance(module, _RECURRENT):
            p = taken("adopt", module.dropout, f"dropout of {name!r}")
            plans.append(Plan(module, by_calls, functional))
            if p and module.num_layers > 1:
                done = f"addressed between layers, which run one by one{shared}"
                rows.append(Row(functional, kind.__name__, p, done))
        elif _is_dropout(module):
            # Its class stays, its call is seen: a subclass with the forward of torch.nn's, or a
            # module whose forward another hand replaced, as accelerate's hooks do.
            plans.append(Plan(module, by_calls, name, axis=axis))
            done = f"its call addressed{shared}"
            rows.append(Row(name, kind.__name__, None, done, by_call=True))
        elif isinstance(module, tuple(OURS)):
            what = "a forward put in the place of that" if kind in OURS else "a subclass"
            why = f"not reached: {what} of thinned.torch.{_ours(module)}"
            rows.append(Row(name, kind.__name__, None, why, reached=False))
        elif has_own_code(module) or hooked(module):
            found = read(module, names)
            held = held_rate(module, found)
            plan = Plan(module, by_calls, functional, code=True, gates=found.gates, held=held)
            plans.append(plan)
            rows.extend(_rows_of_code(module, found, held, functional, shared))
            if _ATTENTION in found.reached:
                lent |= {names[one][0]: functional for one in found.lent if one in names}
        elif isinstance(module, NOISY):
            rows.append(_not_reached(name, kind.__name__, [kind.__name__]))
        elif isinstance(module, _ENCODERS):
            plans.append(Plan(module, in_encoder))
        elif module is model or _begins_checkpoint(module):
            plans.append(Plan(module, by_calls))
    hooks = read_hooks(model)
    if drawing := hooks.reached | hooks.missed:
        where = [f"{name} in a forward hook of the model itself" for name in sorted(drawing)]
        rows.append(_not_reached("", type(model).__name__, where))
    return plans, [_lending(row, lent.get(row.site)) for row in rows]


def _lending(row: Row, site: str | None) -> Row:
    """A row of a module whose p the code hands to fused attention: which site draws, then."""
    if site is None or not row.reached:
        return row
    return row._replace(done=f"{row.done}; {site!r} draws with its p where attention is fused")


def _begins_checkpoint(module: nn.Module) -> bool:
    """Whether a module checkpoints its child: a graph must begin to count before that."""
    return "_checkpoint_wrapped_module" in module._modules


def _is_patched(module: nn.Module) -> bool:
    """Whether the module has a forward of its own, and not by us: that runs its class's one, or
    what it likes, whatever class the module is given."""
    return uncovered(module, module.__dict__.get("forward")) is not type(module).forward


def _ours(module: nn.Module) -> str:
    return next(str(kind.__name__) for kind in OURS if isinstance(module, kind))


def _is_dropout(m: nn.Module) -> bool:
    return any(isinstance(m, kind) and type(m).forward is kind.forward for kind in ADDRESSED)


def _rows_of_code(
    module: nn.Module, found: Reading, held: Held | None, site: str, shared: str
) -> list[Row]:
    kind, rows = type(module).__name__, []
    if found.reached:
        done = f"calls of {', '.join(sorted(found.reached))} addressed{shared}"
        alone, by_hand = found.reached <= BY_HAND, found.reached & BY_HAND
        p = held.p if held is not None and alone else None
        name = "" if held is None else held.name
        attention = found.reached == {_ATTENTION}
        by_call = not by_hand or (held is not None and held.is_own and not alone)
        rows.append(Row(site, kind, p, done, attention=attention, held=name, by_call=by_call))
    if found.missed:
        rows.append(_not_reached(site, kind, sorted(found.missed)))
    return rows


def _not_reached(site: str, kind: str, names: list[str]) -> Row:
    why = f"not reached: {', '.join(names)} draws from a generator, and may be dropout"
    return Row(site, kind, None, why, reached=False)


def noticed_by(plans: list[Plan], rows: list[Row]) -> Noticed:
    """What the first forwards are compared with."""
    kinds = {plan.site: type(plan.module).__name__ for plan in plans if plan.site is not None}
    known: dict[str, list[str]] = {}
    for row in rows:
        if not row.reached:
            names = row.done.removeprefix("not reached: ").partition(" draws")[0]
            known.setdefault(row.site, []).extend(names.split(", "))
    return Noticed(kinds, known)


def _children_with_rows_second(names: dict[nn.Module, list[str]]) -> set[nn.Module]:
    """The dropout modules of transformer layers with batch_first=False."""
    layers = (m for m in names if isinstance(m, _TIME_FIRST) and not m.self_attn.batch_first)
    return {child for layer in layers for child in layer.children()}
