"""Wrong versions of this family's methods, each caught by a named check of the battery."""

import numpy as np
import pytest
from contract.kinds import TorchKind

import thinned
from thinned.methods.attention import DROPPED
from thinned.methods.draws import Draws

from . import checks_law as law, checks_values as values
from .planted import another_function_is_caught
from .trying import DOUBLE, FASTEST

TORCH = TorchKind("float64", FASTEST)


def heads_by_expectation(x, p, at, training=True, *, head_axis=1, **how):
    """Scaled by 1 / (1 - p), which is not DropHead's."""
    shared = tuple(i for i in range(x.ndim) if i not in (0, head_axis))
    return thinned.dropout(x, p, at, training, shared_axes=shared, **how)


def heads_of_the_batch(x, p, at, training=True, *, head_axis=1, **how):
    """One draw per head for all samples."""
    if not training:
        return x
    draws = Draws("drop_head", x, p, at, training, **how)
    keep = draws.keep(shared_axes=(0, 2, 3))
    return draws.select(x, keep, x.shape[1] / max(int(keep.sum()), 1))


def heads_counted_in_a_window(x, p, at, training=True, *, head_axis=1, **how):
    """Element by element within a head, the count that of the elements at hand."""
    if not training:
        return x
    draws = Draws("drop_head", x, p, at, training, **how)
    keep = draws.keep()
    return draws.select(x, keep, np.float64(keep.size / max(keep.sum(), 1)))


def weights_renormalised(x, p, at, training=True, **how):
    """Rows that sum to what they did: another method's rule."""
    y = thinned.dropout(x, p, at, training, **how)
    total = y.sum(-1, keepdims=True)
    return y * np.where(total == 0, 1.0, x.sum(-1, keepdims=True) / np.where(total == 0, 1, total))


def keys_at_infinity(x, p, at, training=True, **how):
    if not training:
        return x
    y = thinned.drop_key(x, p, at, **how)
    return y.masked_fill(y == DROPPED, -float("inf"))


def unknown_is_one(x, p, at, training=True, *, unk, **how):
    return thinned.word_dropout(x, p, at, training, unk=unk + 1, **how)


def tokens_of_a_kind(x, p, at, training=True, *, unk, **how):
    """A fate for each word and not for each token."""
    if not training:
        return x
    keep = thinned.keep_mask(64, p, at)
    return np.where(keep[x], x, unk)


def words_element_by_element(x, p, at, training=True, **how):
    return thinned.dropout(x, p, at, training, **how)


def columns_of_the_vocabulary(x, p, at, training=True, **how):
    return thinned.dropout(x, p, at, training, shared_axes=(0,), **how)


def update_unscaled(x, weight, down, up, p, at, training=True, *, alpha=None, **how):
    return thinned.lora_dropout(x, weight, down, up, p, at, training, **how)


def noise_on_the_base(x, weight, down, up, p, at, training=True, *, alpha=None, **how):
    y = thinned.dropout(x, p, at, training, **how)
    return thinned.lora_dropout(y, weight, down, up, 0.0, at, alpha=alpha)


def noise_in_evaluation(x, weight, down, up, p, at, training=True, **how):
    return thinned.lora_dropout(x, weight, down, up, p, at, True, **how)


def strata_of_one(x, p, at, training=True, *, member, members, **how):
    """Each member p / K, and so too little dropped."""
    return thinned.dropout(x, p / members, at, training, **how)


def window_lost(x, p, at, training=True, *, member, members, window=None, **how):
    how = {**how, "member": member, "members": members}
    return thinned.stratified_dropout(x, p, at, training, **how)


def features_apart(x, p, at, training=True, **how):
    return thinned.dropout(x, p, at, training, **how)


def messages_by_edge(x, p, at, training=True, **how):
    return thinned.dropout(x, p, at, training, shared_axes=(1,), **how)


SHARED, SHARE, MOMENTS = (
    law.draws_are_shared_as_the_row_says,
    law.the_dropped_share_is_p,
    law.moments_are_the_rows,
)
CAUGHT = [
    (heads_by_expectation, "drop_head", MOMENTS, DOUBLE),
    (heads_of_the_batch, "drop_head", SHARED, DOUBLE),
    (heads_counted_in_a_window, "drop_head", SHARED, DOUBLE),
    (heads_counted_in_a_window, "drop_head", values.windows_give_their_part_of_the_whole, DOUBLE),
    (weights_renormalised, "attention_dropout", MOMENTS, DOUBLE),
    (keys_at_infinity, "drop_key", law.p_one_is_as_the_row_says, TORCH),
    (unknown_is_one, "word_dropout", MOMENTS, DOUBLE),
    (tokens_of_a_kind, "word_dropout", SHARED, DOUBLE),
    (words_element_by_element, "embedding_dropout", SHARED, DOUBLE),
    (columns_of_the_vocabulary, "embedding_dropout", SHARED, DOUBLE),
    (update_unscaled, "lora_dropout", MOMENTS, DOUBLE),
    (noise_on_the_base, "lora_dropout", MOMENTS, DOUBLE),
    (noise_in_evaluation, "lora_dropout", law.evaluation_draws_nothing, DOUBLE),
    (strata_of_one, "stratified_dropout", SHARE, DOUBLE),
    (window_lost, "stratified_dropout", values.windows_give_their_part_of_the_whole, DOUBLE),
    (features_apart, "drop_node", SHARED, DOUBLE),
    (messages_by_edge, "drop_message", SHARED, DOUBLE),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("fault", "name", "check", "kind"), CAUGHT)
def test_a_wrong_version_is_caught(fault, name, check, kind, monkeypatch):
    another_function_is_caught(fault, name, check, kind, monkeypatch)
