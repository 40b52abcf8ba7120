"""sequence_members: thinned networks that write text, each with one set of masks for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinned import checks, reference
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.outputs import answers_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SequenceMembers", "sequence_members"]

WHO = "sequence_members"
_LEAVE_OUT = "Leave that dropout out (p = 0), or ask predict(share='sequence', batch_size=1)."


@answering
def sequence_members(model: nn.Module, x: Any, *, seed: int = 0) -> SequenceMembers:
    """The thinned networks of a model of sequences, by number: each writes text, as the model does.

    Number k is a copy of the model around its own parameters, of the same class, in evaluation but
    for dropout, whose draws are those of (fold_in(seed, k), site, step 0, call). They are shared by
    all rows and all tokens: a unit that is dropped is dropped for the whole of every text. So
    `generate` gives the same with a cache and without, for every batch size and number of beams.
    What drops pairs of tokens, as attention's weights are, drops nothing, and is named.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one. It is not touched. Its parameters are shared: the
        networks change when they are trained.
    x : arguments of the model's forward, as `predict` takes them, with at least one array of whole
        numbers (N, T): rows and tokens. It is run on some of the rows, at two lengths, to see where
        in the arrays of dropout rows and tokens lie.
    seed : int in [0, 2^64). Which networks: `predict` with share="sequence" asks the same ones.

    Returns
    -------
    SequenceMembers.

    Raises
    ------
    ValueError if all networks would be equal: nothing in the model draws. TypeError if model is no
    torch.nn.Module, or x has no tokens. RuntimeError if the model does not run on parts of x, or if
    dropout makes what it says of a row depend on the rows beside it.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287: one mask for all steps of a sequence.

    Examples
    --------
    >>> import torch
    >>> from thinned.members import sequence_members
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 8), torch.nn.Dropout(0.5))
    >>> words = torch.tensor([[1, 2, 1]])
    >>> network = sequence_members(model, words)[3]
    >>> y = network(words)
    >>> bool((y[:, 0] == y[:, 2]).all()), bool((network(words[:, 1:]) == y[:, 1:]).all())
    (True, True)
    """
    import torch

    from thinned.members.apart import require_apart
    from thinned.members.arguments import batches_of
    from thinned.members.mc_mode import adopted_twin, missed, moved, woken
    from thinned.members.observing import Observed
    from thinned.torch.adoption.adopt import NothingToAdoptError
    from thinned.torch.adoption.names import unwrapped
    from thinned.torch.adoption.watching import generators
    from thinned.torch.clock.sequences import SequencesAwake
    from thinned.torch.compat.generators import OwnDraws

    if not isinstance(model, torch.nn.Module):
        raise TypeError(message(WHO, "model", "a torch.nn.Module", type(model).__name__))
    seed = checks.integer(WHO, "seed", seed, 0, 2**64)
    root = unwrapped(model)
    pool, awake = batches_of(root, x, None, again=False), SequencesAwake()
    try:
        twin = adopted_twin(root)
    except NothingToAdoptError as error:
        told = str(error).removeprefix("adopt: ")
        raise ValueError(f"{WHO}: all networks would be equal: {told}") from None
    with woken(twin, awake) as rows:
        observed = Observed(WHO, twin, awake, rows, pool, seed)
        require_apart(WHO, root, twin, awake, pool.few(2), seed, _answers, _LEAVE_OUT)
        awake.begin(reference.fold_in(seed, 0), False, 0, 0)
        before = generators()
        with OwnDraws() as own:
            pool.few(2).copied().call(twin)
        sources = moved(before, generators(), own)
        not_reached = missed(twin, rows, awake, sources, observed)
    sites = tuple(dict.fromkeys(site for site, _ in awake.seen))
    if not sites:
        told = "; ".join(not_reached)
        raise ValueError(
            f"{WHO}: all networks would be equal: nothing in the model drew while it was run in "
            f"evaluation{f' ({told})' if told else ''}."
        )
    return SequenceMembers(twin, awake, seed, sites, not_reached)


def _answers(result: Any, rows: int) -> Any:
    return answers_of(result, rows, None)


class SequenceMembers:
    """Networks by number: `members[k]` for k in [0, 2^32).

    Each is a network of its own, to be used from one thread at a time. `train()` and `eval()` leave
    it as it is. A copy of it is no member: take members[k] again.

    Attributes
    ----------
    seed : int. Which networks.
    sites : tuple of str. Where they draw.
    not_reached : tuple of str. What may be dropout and is not in them, with the reason.
    """

    def __init__(
        self,
        twin: nn.Module,
        awake: Any,
        seed: int,
        sites: tuple[str, ...],
        not_reached: tuple[str, ...],
    ) -> None:
        self._twin, self._awake = twin, awake
        self.seed, self.sites, self.not_reached = seed, sites, not_reached

    def __getitem__(self, k: int) -> nn.Module:
        """Network number k."""
        from thinned.members.mc_mode import member_of

        k = checks.integer(WHO, "k", k, 0, 2**32)
        awake = self._awake.another()
        awake.begin(reference.fold_in(self.seed, k), False, 0, 0)
        return member_of(self._twin, awake)

    def __repr__(self) -> str:
        lines = [f"SequenceMembers of a {type(self._twin).__name__}, seed={self.seed}"]
        lines += [f"  draws at: {', '.join(self.sites)}"]
        lines += [f"  not reached: {what}" for what in self.not_reached]
        return "\n".join(lines)
