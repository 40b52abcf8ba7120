"""What Thinned has for a name that it does not have: that of another library, or one misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["instead"]

# Names of other rooms that are looked for at the front door.
ROOMS = {
    "Clock": "thinned.torch.Clock",
    "Finding": "thinned.audit.Finding",
    "adopt": "thinned.torch.adopt, thinned.jax.nnx.adopt or thinned.jax.equinox.adopt",
    "conformal_interval": "thinned.members.calibration.conformal_interval",
    "conformal_sets": "thinned.members.calibration.conformal_sets",
    "crps": "thinned.members.calibration.crps",
    "expected_calibration_error": "thinned.members.calibration.expected_calibration_error",
    "find": "thinned.methods.find",
    "member": "thinned.torch.member",
    "predict": "thinned.members.predict",
    "release": "thinned.torch.release",
    "scaled_dot_product_attention": "thinned.torch.scaled_dot_product_attention",
    "stochastic_deactivation": "thinned.classic.stochastic_deactivation",
    "thin": "thinned.torch.thin",
}
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


def _of_the_catalogue(name: str) -> str:
    from thinned.methods.table import find

    try:
        row = find(name)
    except KeyError:
        return ""
    module = f", and thinned.torch.{row.module} a module of PyTorch" if row.module else ""
    return f" {row.where} is a function of arrays{module}."
