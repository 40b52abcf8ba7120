"""The kernel on PyTorch's own threads: the same values, and none in a forked child."""

import os
import subprocess
import sys

import pytest
import torch

import thinned
from thinned.backends.base import Draw
from thinned.backends.torch import kernel, threads as torch_threads
from thinned.backends.torch.kernel import Noise, make
from thinned.backends.torch.threads import lend, threads_for
from thinned.window import place

lendable = pytest.mark.skipif(
    not all(torch_threads._addresses()), reason="this PyTorch brings no libgomp to lend threads"
)
AT = thinned.Address(seed=8, site="threads")


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    lend()


@lendable
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(2**20 + 13,), (64, 9001), (3, 200_003), (300, 2000)])
def test_lent_threads_draw_what_our_own_do(threads, shape):
    torch.set_num_threads(threads)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rows = tuple(range(1, x.dim()))
    found = {}
    for lent in (False, True):
        assert lend(lent) is lent
        assert (threads_for(2**24) < 0) is lent
        found[lent] = [
            thinned.dropout(x, p, AT, shared_axes=axes)
            for p in (0.1, 0.5)
            for axes in ((), (0,), rows)
        ]
        found[lent].append(thinned.zoneout(x, -x, 0.3, AT))
        found[lent].append(thinned.gaussian_dropout(x, 0.3, AT))
    for a, b in zip(found[False], found[True], strict=True):
        assert torch.equal(a, b)


@lendable
def test_what_is_small_stays_on_the_calling_thread():
    lend()
    assert threads_for(2**14) == 1
    assert threads_for(2**18) == -torch.get_num_threads()


@lendable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_goes_without_them():
    """PyTorch's threads are not there in a child, and waiting for them would never end."""
    code = """
import os, torch, thinned
from thinned.backends.torch import threads as torch_threads
torch.set_num_threads(2)
x, at = torch.ones(2**22), thinned.Address(3)
whole = thinned.dropout(x, 0.3, at)
assert torch_threads.lend()
child = os.fork()
if child == 0:
    same = torch_threads.threads_for(2**22) > 0
    y = thinned.dropout(x, 0.3, at)
    same = same and bytes(y[::4099].numpy()) == bytes(whole[::4099].numpy())
    os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.equal(thinned.dropout(x, 0.3, at), whole)
"""
    settings = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = subprocess.run([sys.executable, "-c", code], timeout=120, env=settings, check=False)
    assert done.returncode == 0


def test_a_number_below_zero_without_a_team_means_our_own(monkeypatch):
    lend(False)
    x, at = torch.ones(2**18), thinned.Address(8)
    how = Noise(Draw(at, 2**31, place("test", tuple(x.shape), (), None)), 2.0)
    monkeypatch.setattr(kernel, "threads_for", lambda n: -2)
    assert torch.equal(make(x, how), thinned.dropout(x, 0.5, at))


@pytest.mark.parametrize("p", [0.3, 0.8])
@pytest.mark.parametrize("shape", [(2**17 + 1,), (3, 60_000), (1, 2**18)])
def test_one_draw_for_all_of_a_large_array(p, shape):
    """Kept or dropped whole, in both passes, as NumPy has it; a dropped NaN is zero."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    x.view(-1)[5] = torch.nan
    fates = set()
    for seed in range(8):
        at = thinned.Address(seed=seed, site="whole")
        for method in (thinned.stochastic_depth, thinned.drop_path):
            leaf = x.clone().requires_grad_()
            y = method(leaf, p, at)
            expected = torch.from_numpy(method(x.numpy(), p, at))
            assert torch.equal(y.nan_to_num(9.0), expected.nan_to_num(9.0))
            grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            before = grad.clone()
            y.backward(grad)
            assert torch.equal(grad, before)
            assert torch.equal(leaf.grad, torch.from_numpy(method(grad.numpy(), p, at)))
            fates.add(bool(leaf.grad.any()))
    assert fates == {False, True}
