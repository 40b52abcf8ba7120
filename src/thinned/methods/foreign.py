"""What Thinned has for a name that it does not have: that of another library, or one misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["instead", "no_name"]

# Names of other rooms that are looked for at the front door.
ROOMS = {
    "Clock": "thinned.torch.Clock",
    "Finding": "thinned.audit.Finding",
    "adopt": "thinned.torch.adopt, thinned.jax.nnx.adopt or thinned.jax.equinox.adopt",
    "conformal_interval": "thinned.members.calibration.conformal_interval",
    "conformal_sets": "thinned.members.calibration.conformal_sets",
    "crps": "thinned.members.calibration.crps",
    "dropout_backward": "thinned.classic.dropout_backward",
    "dropout_forward": "thinned.classic.dropout_forward",
    "expected_calibration_error": "thinned.members.calibration.expected_calibration_error",
    "find": "thinned.methods.find",
    "member": "thinned.torch.member",
    "predict": "thinned.members.predict",
    "release": "thinned.torch.release",
    "scaled_dot_product_attention": "thinned.torch.scaled_dot_product_attention",
    "stochastic_deactivation": "thinned.classic.stochastic_deactivation",
    "thin": "thinned.torch.thin",
}
_PREDICT = "thinned.members.predict(model, x, members=64)"
_TEMPERATURE = "fit_temperature and scale_by_temperature"
# The field's names of what a room has under another: room -> plain name -> what to use.
IN_ROOMS: dict[str, dict[str, str]] = {
    "thinned.torch": {
        "dropout": "thinned.torch.functional.dropout, or thinned.dropout with an address",
        "mcdropout": _PREDICT,
        "mcdropoutmodule": _PREDICT,
        "predict": _PREDICT,
    },
    "thinned.jax": {
        "dropout": "thinned.dropout, which takes arrays of JAX; layers are in thinned.jax.nnx",
        "adopt": "thinned.jax.nnx.adopt, or adopt of equinox, linen or haiku",
        "predict": _PREDICT,
    },
    "thinned.members": {
        "mcdropout": _PREDICT,
        "mcdropoutmodule": _PREDICT,
        "member": "thinned.torch.member",
    },
    "thinned.members.calibration": {
        "ace": "adaptive_calibration_error",
        "aps": "adaptive_conformal_sets",
        "aurc": "area_under_risk_coverage",
        "brier": "brier_score",
        "calibrationerror": "expected_calibration_error",
        "calibrationcurve": "reliability",
        "cqr": "conformal_quantile_interval",
        "ece": "expected_calibration_error",
        "logloss": "negative_log_likelihood",
        "mpiw": "interval_width",
        "nll": "negative_log_likelihood",
        "picp": "interval_coverage",
        "raps": "adaptive_conformal_sets with penalty=",
        "reliabilitydiagram": "reliability",
        "splitconformal": "conformal_interval",
        "temperaturescaler": _TEMPERATURE,
        "temperaturescaling": _TEMPERATURE,
    },
    "thinned.classic": {
        **dict.fromkeys(
            ("dropout", "dropoutlayer", "inverteddropout", "inverteddropoutforward"),
            "dropout_forward, or thinned.dropout, which takes an address",
        ),
        "inverteddropoutbackward": "dropout_backward",
        "forwardpropagationwithdropout": "dropout_forward on each hidden layer",
        "backwardpropagationwithdropout": "dropout_backward on the gradient of each hidden layer",
        "standarddropout": "vanilla_dropout",
    },
}  # fmt: skip
# Those that name a seed or a generator, for which other libraries have functions.
SEEDS = {"PRNGKey", "key", "manual_seed", "rng", "seed", "set_seed"}


def instead(name: str, public: Sequence[str]) -> str:
    """A sentence with a blank before it: what to use in place of `thinned.NAME`.

    Parameters
    ----------
    name : str. What was asked for.
    public : sequence of str. The public names of `thinned`.

    Returns
    -------
    str. Empty where nothing is near.
    """
    if name in ROOMS:
        return f" Use {ROOMS[name]}."
    if name in SEEDS:
        return " A seed is part of a mask's address: thinned.Address(seed=0, site='fc1', step=7)."
    found = _of_the_catalogue(name)
    if found:
        return found
    near = difflib.get_close_matches(name, public, 2, 0.7)
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return " dir(thinned) lists the public names, and thinned.methods.find knows other libraries'."


def no_name(room: str, name: str, public: Sequence[str]) -> str:
    """The text of the error for a name that a room of Thinned does not have.

    Parameters
    ----------
    room : str. The module's full name.
    name : str. What was asked for.
    public : sequence of str. The room's public names.

    Examples
    --------
    >>> no_name("thinned.members.calibration", "ECE", ())
    "module 'thinned.members.calibration' has no attribute 'ECE'. Use expected_calibration_error."
    """
    said = f"module {room!r} has no attribute {name!r}"
    if name.startswith("_"):
        return said
    use = IN_ROOMS.get(room, {}).get(name.lower().replace("_", ""))
    if use is not None:
        return f"{said}. Use {use}."
    known = {own.lower(): own for own in public}
    near = difflib.get_close_matches(name.lower(), known, 2, 0.7)
    return f"{said}. Did you mean {' or '.join(known[n] for n in near)}?" if near else said


def _of_the_catalogue(name: str) -> str:
    from thinned.methods.table import find

    try:
        row = find(name)
    except KeyError:
        return ""
    module = f", and thinned.torch.{row.module} a module of PyTorch" if row.module else ""
    return f" {row.where} is a function of arrays{module}."
