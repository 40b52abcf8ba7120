"""Every row of the catalogue over the kernels, as over the C++ kernel, in a handful of launches."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from contract.kinds import TorchKind
from methods.trying import ROWS, as_numpy, call, inputs, name_of

from thinned.backends.torch.triton import launch

KERNELS = ("drop", "draws_of", "draws_at")
# Of a draw each; who draws block by block, or for each gate, needs several.
MOST = 8


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row(row, on_cpu, monkeypatch):
    kind, launched = TorchKind("float32"), []
    for name in KERNELS:
        run = getattr(launch, name)

        def counted(*arguments, run=run, **how):
            launched.append(run)
            return run(*arguments, **how)

        monkeypatch.setattr(launch, name, counted)
    found = as_numpy(call(row, inputs(row, kind)))
    assert 0 < len(launched) <= MOST
    expected = on_cpu(lambda: as_numpy(call(row, inputs(row, kind))))
    torch.testing.assert_close(found, expected, rtol=4e-6, atol=2e-5)
