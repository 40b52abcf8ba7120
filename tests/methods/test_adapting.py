"""Fine-tuning: what adapters drop, spans of hidden states, columns of logits, backward passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import thinned

AT = thinned.Address(seed=5, site="lora")


def test_rank_dropout_is_that_of_the_trainers():
    """mask over (sample, rank), the scale of the update over 1 - p: behind linear layers and
    convolutions."""
    down, up = torch.randn(4, 6, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    y = thinned.rank_dropout(x @ down.T, 0.3, AT) @ up.T
    mask = torch.from_numpy(thinned.keep_mask((3, 4), 0.3, AT))
    expected = ((x @ down.T) * mask[:, None]) @ up.T * (1 / (1 - 0.3))
    torch.testing.assert_close(y, expected)
    maps = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    expected = maps * mask[:, :, None, None] / 0.7
    torch.testing.assert_close(thinned.rank_dropout(maps, 0.3, AT, rank_axis=1), expected)


def test_rows_and_columns_of_an_update():
    """(1 - p)^2 of the entries stay, those of kept rows and kept columns, at 1 / (1 - p)^2."""
    rng = np.random.default_rng(0)
    x, weight, down, up = (rng.standard_normal(s) for s in ((6, 20), (30, 20), (3, 20), (30, 3)))
    y = thinned.sparse_lora_dropout(x, weight, down, up, 0.3, AT, alpha=6.0, bias=np.ones(30))
    columns = thinned.keep_mask((20,), 0.3, AT)
    rows = thinned.keep_mask((30,), 0.3, AT.fold_in(1))
    assert not columns.all()
    assert not rows.all()
    update = (up @ down) * rows[:, None] * columns / 0.7**2
    np.testing.assert_allclose(y, x @ (weight + 2.0 * update).T + 1.0, rtol=1e-12)
    # Like lora_dropout, it drops nothing of W, and nothing in evaluation.
    whole = x @ (weight + 2.0 * up @ down).T
    quiet = thinned.sparse_lora_dropout(x, weight, down, up, 0.3, AT, training=False, alpha=6.0)
    np.testing.assert_allclose(quiet, whole, rtol=1e-12)


def test_a_span_of_each_sequence_is_cut():
    x = np.ones((500, 10, 2))
    y = thinned.hidden_cut(x, 0.3, AT)
    gone = y[:, :, 0] == 0
    np.testing.assert_array_equal(gone, y[:, :, 1] == 0)
    assert (gone.sum(axis=1) == 3).all()
    starts = gone.argmax(axis=1)
    assert all(gone[i, s : s + 3].all() for i, s in enumerate(starts))
    # All eight places are as likely.
    counts = np.bincount(starts, minlength=8)
    assert len(counts) == 8
    assert np.abs(counts - 500 / 8).max() < 4 * np.sqrt(500 / 8)
    assert (thinned.hidden_cut(x, 0.0, AT) == 1).all()
    assert (thinned.hidden_cut(x, 1.0, AT) == 0).all()
    mirrored = thinned.hidden_cut(x, 0.3, AT, mirror=True)[:, :, 0] == 0
    np.testing.assert_array_equal(mirrored[:, ::-1], gone)


def test_a_span_in_a_compiled_program_needs_a_number():
    with pytest.raises(TypeError, match=r"^hidden_cut: p must be a Python number"):
        jax.jit(lambda p: thinned.hidden_cut(jnp.ones((2, 4)), p, AT))(0.5)


def test_a_key_is_dropped_for_all_queries():
    x = torch.randn(2, 3, 4, 9)
    weights = torch.softmax(thinned.hidden_key(x, 0.4, AT), dim=-1)
    gone = weights == 0
    assert torch.equal(gone, gone[:, :, :1].expand_as(gone))
    assert 0.2 < gone.float().mean() < 0.6
    assert not torch.equal(gone[0, 0, 0], gone[0, 1, 0]) or not torch.equal(gone[0, 0], gone[1, 0])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    # A key that is masked stays so; where all are dropped the others are alike.
    masked = x.masked_fill(torch.arange(9) > 4, -torch.inf)
    even = torch.softmax(thinned.hidden_key(masked, 1.0, AT), dim=-1)
    torch.testing.assert_close(even[..., :5], torch.full((2, 3, 4, 5), 0.2))


# ------------------------------------------------------------------------------- backward passes


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.drop = nn.Linear(3, 3), thinned.torch.DropBP(0.5)

    def forward(self, x):
        return x + self.drop(self.branch(x))


def gates(p, count=40):
    return [bool(thinned.keep_mask((1,), p, AT.replace(step=i))[0]) for i in range(count)]


def test_a_dropped_branch_has_no_backward_pass():
    """Nothing is computed behind it, and the residual path goes on."""
    branch = nn.Linear(3, 3)
    ran = []
    branch.register_full_backward_hook(lambda *_: ran.append(1))
    x = torch.randn(2, 3, requires_grad=True)
    whole = torch.autograd.grad((x + branch(x)).sum(), x)[0]
    ran.clear()
    for i, kept in enumerate(gates(0.5)):
        branch.zero_grad(set_to_none=True)
        x.grad = None
        y = x + thinned.drop_bp(branch(x), 0.5, AT.replace(step=i))
        torch.testing.assert_close(y, x + branch(x))  # the forward pass is exact
        y.sum().backward()
        assert len(ran) == kept
        ran.clear()
        assert (branch.weight.grad is not None) == kept
        torch.testing.assert_close(x.grad, whole if kept else torch.ones_like(x))


def test_the_gate_in_compiled_programs_and_in_jax():
    x = torch.randn(2, 3, requires_grad=True)
    model = Residual()
    clock = thinned.torch.adopt(model, seed=3).clock
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    eager, found = [], []
    for run, kept in ((model, eager), (compiled, found)):
        for step in range(12):
            clock.step = step
            (g,) = torch.autograd.grad(run(x).sum(), x)
            kept.append(bool((g != 1).any()))
    assert eager == found
    assert 0 < sum(eager) < 12

    def total(x, step):
        return thinned.drop_bp(x, 0.5, AT.replace(step=step)).sum()

    for run in (jax.grad(total), jax.jit(jax.grad(total))):
        kept = [bool(run(jnp.ones(4), i)[0]) for i in range(40)]
        assert kept == gates(0.5)


def test_numpy_gives_what_is_left_of_a_gradient():
    grads = [bool(thinned.drop_bp(np.ones(3), 0.5, AT.replace(step=i)).any()) for i in range(40)]
    assert grads == gates(0.5)
    x = np.ones(3)
    assert thinned.drop_bp(x, 0.5, AT, training=False) is x
    with pytest.raises(ValueError, match=r"^drop_bp: p must be"):
        thinned.drop_bp(x, 1.5, AT)


def test_an_update_sees_the_masks_of_its_rollout():
    """Steps run one by one as pieces, and then as one batch."""
    policy = nn.Sequential(
        nn.Linear(6, 32), nn.Tanh(), thinned.torch.Dropout(0.5), nn.Linear(32, 2)
    )
    clock = thinned.torch.adopt(policy, seed=1).clock
    states = torch.randn(9, 6)
    rollout = []
    for t, state in enumerate(states):
        with torch.no_grad(), clock.piece(t):
            rollout.append(policy(state[None])[0])
    update = policy(states)
    torch.testing.assert_close(update, torch.stack(rollout))
    clock.tick()
    assert not torch.allclose(policy(states), update)
