"""Addresses made in a compiled function, by name, replace and fold_in: one program for all."""

import subprocess
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import thinned
from thinned import Address, address
from thinned.torch import functional as F, scaled_dot_product_attention  # noqa: N812 - as PyTorch's

BASE, PLAIN = Address(3, "fc1", 2), Address(3, 7, 2)
X = torch.randn(16, 6)

MADE = {  # by the step
    "a name": lambda s: Address(site="name"),
    "a name and a step": lambda s: Address(1, "name", s),
    "no ASCII": lambda s: Address(1, "größe/层", s),
    "a number": lambda s: Address(0, 17, s),
    "another step": lambda s: BASE.replace(step=s),
    "another call": lambda s: BASE.replace(call=s),
    "another site": lambda s: PLAIN.replace(site="a", step=s),
    "all others": lambda s: PLAIN.replace(site="a", seed=5, call=2, step=s),
    "another seed": lambda s: Address(s, "a"),
    "folded": lambda s: BASE.fold_in(3),
    "made and folded": lambda s: Address(1, "q", s).fold_in(3),
    "folded and replaced": lambda s: Address(1, "q").fold_in(3).replace(step=s),
    "the mirror": lambda s: address.Mirrored(0, "m", s),
    "built": lambda s: Address(0, f"layer.{len('abc')}", s),
}


def run_steps(function):
    """`function(x, step)` compiled and eager, at several steps; how many programs it took."""
    torch._dynamo.reset()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, backend=counted, fullgraph=True)
    for step in range(6):
        assert torch.equal(compiled(X, step), function(X, step))
    return counted.frame_count


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", MADE)
def test_an_address_made_in_a_compiled_function(name):
    # The first number is a constant; from the second on it is a symbol.
    assert run_steps(lambda x, s: thinned.dropout(x, 0.5, MADE[name](s))) <= 2


TAKES = {
    "dropout": lambda x, at: F.dropout(x, 0.5, True, at=at),
    "dropout1d": lambda x, at: F.dropout1d(x, 0.5, True, at=at),
    "alpha_dropout": lambda x, at: F.alpha_dropout(x, 0.5, True, at=at),
    "feature_alpha_dropout": lambda x, at: F.feature_alpha_dropout(x, 0.5, True, at=at),
    "attention": lambda x, at: scaled_dot_product_attention(x, x, x, p=0.5, at=at, training=True),
    "drop_path": lambda x, at: thinned.drop_path(x, 0.5, at),
    "gaussian_dropout": lambda x, at: thinned.gaussian_dropout(x, 0.5, at),
    "uniform_dropout": lambda x, at: thinned.uniform_dropout(x, 0.5, at),
    "keep_mask": lambda x, at: thinned.keep_mask((16, 6), 0.5, at, like=x),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("moved", ["step", "call", "seed"])
def test_a_new_step_call_or_seed_is_no_new_program(name, moved):
    place = {"seed": 0, "site": 17, "step": 0, "call": 0}
    assert run_steps(lambda x, s: TAKES[name](x, Address(**{**place, moved: s}))) <= 2


def test_a_name_is_hashed_once(monkeypatch):
    at, asked = Address(0, "fc1"), []
    monkeypatch.setattr(address, "_crc32", asked.append)
    others = at.replace(step=3), at.fold_in(2), at.replace(seed=1, call=2), at.fold_in(1).fold_in(2)
    assert not asked
    for other in others:
        assert other.site == at.site
        assert "site='fc1'" in repr(other)
    with pytest.raises(ValueError, match="Address: call must be"):
        at.replace(call=-1)


def test_a_mark_of_pytorchs_own():
    """Marked without loading PyTorch, as PyTorch marks."""

    @torch.compiler.assume_constant_result
    def marked(name):
        return 0

    assert vars(address._crc32) == vars(marked)


FIRST = """
import torch, thinned
at = thinned.Address(1)
f = torch.compile(lambda x: thinned.{row}(x, 0.5, at), backend="eager", fullgraph={whole})
y = f(torch.ones(64))
assert torch.equal(y, thinned.{row}(torch.ones(64), 0.5, at))
"""


@pytest.mark.one_in(4)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("row", ["dropout", "gaussian_dropout"])
def test_a_compiled_function_may_be_the_first_call_of_a_process(row, whole):
    code = FIRST.format(row=row, whole=whole)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
