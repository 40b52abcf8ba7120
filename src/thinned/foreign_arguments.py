"""Arguments by the names of other libraries: an error that says which one to use instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["answering", "no_argument", "remedy", "telling", "told", "unknown_to", "without_foreign"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

KEEPS = {
    "keep", "keep_p", "keep_prob", "keep_probability", "keep_rate", "keep_ratio", "p_keep",
    "prob_keep", "retain_prob", "survival_prob", "survival_probability",
}  # fmt: skip
DROPS = {
    "attn_drop", "attention_dropout", "drop", "drop_p", "drop_path", "drop_path_rate", "drop_prob",
    "drop_probability", "drop_rate", "dropout", "dropout_p", "dropout_prob", "dropout_rate",
    "hidden_dropout_prob", "noise_level", "p_drop", "pdrop", "prob", "probability", "rate", "ratio",
}  # fmt: skip
SEEDS = {
    "dropout_rng", "generator", "key", "op_seed", "prng_key", "random_seed", "random_state", "rng",
    "rng_key", "rngs", "seed",
}  # fmt: skip
MODES = {"is_training", "train", "training", "train_mode"}
MEMBERS = {
    "T", "estimators", "mc_samples", "n_estimators", "n_forward", "n_members", "n_passes",
    "n_samples", "num_estimators", "num_members", "num_samples", "passes", "samples",
}  # fmt: skip
QUIET = {"deterministic", "eval", "evaluate", "inference"}
SITES = {"layer", "layer_name", "module", "name", "scope"}
STEPS = {"epoch", "global_step", "iteration", "t"}
EPOCHS = {"epochs", "max_epochs", "n_epochs", "n_iter", "num_epochs"}
LEARNING_RATES = {"eta", "learning_rate", "lr"}
PENALTIES = {"alpha", "l2", "l2_reg", "wd"}
LAYERS = {"hidden", "hidden_layers", "hidden_sizes", "hidden_units", "layers", "units"}
SHARED = {"batch_dims", "broadcast_axes", "broadcast_dims", "noise_shape", "shared_dims"}


def remedy(name: str, known: Collection[str], of_pytorch: bool = False) -> str:
    """What to use in place of an argument `name` where the arguments are `known`; or "".

    Parameters
    ----------
    name : str. The argument that was given.
    known : collection of str. Those that there are.
    of_pytorch : bool. Whether a module of PyTorch is made, which has a mode and draws its seeds.

    Examples
    --------
    >>> remedy("keep_prob", ("x", "p", "at"))
    'Use p=1 - keep_prob: p is the probability to drop.'
    """
    if "dropout_param" in known and name in KEEPS | DROPS | SEEDS | MODES | {"p", "mode"}:
        return (
            "Pass dropout_param={'p': 0.5, 'mode': 'train', 'seed': 0}; its p is the probability "
            "to keep."
        )
    if "keep" in known and name in KEEPS:
        return "Use keep, the probability to keep."
    if "keep" in known and name in DROPS | {"p"}:
        return f"Use keep=1 - {name}: keep is the probability to keep."
    if name in SEEDS and "rng" in known:
        return "Use rng=numpy.random.default_rng(0)."
    if name in SEEDS and "seed" in known:
        return "Use seed."
    for names, own in (
        (SEEDS, "random_state"),
        (SITES, "site"),
        (STEPS, "step"),
        (EPOCHS, "max_iter"),
        (LEARNING_RATES, "learning_rate_init"),
        (PENALTIES, "weight_decay"),
        (LAYERS, "hidden_layer_sizes"),
    ):
        if name in names and own in known:
            return f"Use {own}."
    p = next((own for own in ("p", "rate") if own in known), None)
    if name in KEEPS and p is not None:
        return f"Use {p}=1 - {name}: {p} is the probability to drop."
    if (name in DROPS or name == "p") and p is not None:
        return f"Use {p}, the probability to drop."
    if name in SEEDS and "at" in known:
        return "A seed is part of the mask's address: use at=thinned.Address(seed=0, site='fc1')."
    if name in SEEDS and of_pytorch:
        return (
            "A module draws its seeds from PyTorch's generator, which torch.manual_seed sets. "
            "thinned.torch.adopt(model, seed=0) gives its masks addresses."
        )
    if name in MEMBERS and "members" in known:
        return "Use members, the number of thinned networks that predict."
    if name in MODES | QUIET and "training" in known:
        return f"Use training={'not ' if name in QUIET else ''}{name}."
    if name in MODES | QUIET and of_pytorch:
        return "model.train() and model.eval() say whether it drops."
    if name in SHARED and "shared_axes" in known:
        return "Use shared_axes, the axes along which one draw is shared: shared_axes=(0,)."
    if name in KEEPS | DROPS | {"p"} and "optimizer" in known:
        return "The model keeps its rates; thinned.torch.set_p changes them for a while."
    if name == "inplace":
        return "Use out=x to write into x." if "out" in known else "It writes into a new array."
    if name in ("name", "site") and "at" in known:
        return "A name is part of the mask's address: use at=thinned.Address(seed=0, site='fc1')."
    import difflib

    near = difflib.get_close_matches(name, list(known), 1, 0.7)
    near = near or [word for word in name.split("_") if word in known]
    return f"Did you mean {near[0]}?" if near else ""


def no_argument(
    who: str, given: Iterable[str], known: Collection[str], of_pytorch: bool = False
) -> TypeError:
    """The error of `who` for the first argument in `given` that is not in `known`."""
    name = next(name for name in given if name not in known)
    said = [f"{who}: {name!r} is no argument.", remedy(name, known, of_pytorch)]
    said.append(f"The arguments are {', '.join(known) or 'none'}.")
    return TypeError(" ".join(filter(None, said)))


def unknown_to(function: Callable[..., Any], given: Iterable[str]) -> TypeError:
    """The error of a function for the arguments that its `**foreign` met."""
    known = tuple(name for name in inspect.signature(function).parameters if name != "self")
    return no_argument(function.__qualname__.removesuffix(".__init__"), given, known)


def told(kind: C) -> C:
    """A class of modules of PyTorch: its constructor answers unknown arguments by `no_argument`."""
    return _constructed(kind, of_pytorch=True)


def telling(kind: C) -> C:
    """The same for any other class."""
    return _constructed(kind, of_pytorch=False)


def _constructed(kind: C, of_pytorch: bool) -> C:
    own = kind.__dict__["__init__"]
    known = tuple(inspect.signature(own).parameters)[1:]

    @wraps(own)
    def init(self: Any, *args: Any, **named: Any) -> None:
        if not named.keys() <= set(known):
            raise no_argument(type(self).__name__, named, known, of_pytorch)
        own(self, *args, **named)

    kind.__init__ = init  # type: ignore[misc]  # the same signature
    return kind


class nothing:  # noqa: N801 - a word of the error message
    """Stands for an argument that was left out."""

    def __repr__(self) -> str:
        return "nothing"


def without_foreign(function: F) -> F:
    """The function, whose signature does not show the `**foreign` by which it meets other names.

    A call with keep_prob has no p, which Python would report first. So Python requires nothing
    after the first argument, and the function's own check reports what is missing. The parameter
    `foreign` adds some twenty nanoseconds to a call; a function around this one would add a
    hundred.
    """
    found = inspect.signature(function)
    kept = [p for p in found.parameters.values() if p.kind is not p.VAR_KEYWORD]
    _may_lack(function, found.replace(parameters=kept))
    return function


def answering(function: F) -> F:
    """The function, which answers an argument that it has not by `no_argument`.

    A missing p or address is reported by the function's own check, which says what to give. A
    class, and a function that `without_foreign` has made, are returned as they are. For the
    `__init__` of a class the error names the class.
    """
    if isinstance(function, type) or hasattr(function, "__signature__"):
        return function
    found = inspect.signature(function)
    _may_lack(function, found)

    @wraps(function)
    def answer(*given: Any, **named: Any) -> Any:
        if not named.keys() <= found.parameters.keys():
            raise unknown_to(function, named)
        return function(*given, **named)

    made: Any = answer
    return made  # type: ignore[no-any-return]  # the signature of the function


def _may_lack(function: Any, shown: inspect.Signature) -> None:
    """Let Python call the function without its p and its address. The signature is as before."""
    function.__signature__ = shown
    given = [p for p in shown.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    first = next((i for i, p in enumerate(given) if p.name in ("p", "at")), len(given))
    missing = nothing()
    function.__defaults__ = tuple(
        missing if i >= first and p.default is p.empty else p.default
        for i, p in enumerate(given)
        if i >= first or p.default is not p.empty
    )
