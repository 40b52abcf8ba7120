"""Lightning Fabric: its wrapper is none of the model, wherever adopt stands."""

import pytest
import torch
from libraries import needs
from torch import nn

from thinned.torch import adopt, no_dropout, release, set_p

pytestmark = [needs("lightning"), pytest.mark.filterwarnings("ignore")]
X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
ORDERS = ("before", "after", "compiled")


def trained(order, folder, precision="32-true"):
    """Steps 0 to 3, and again from a checkpoint before step 2: the clock, and both states."""
    import lightning

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
    if order == "before":
        report = adopt(model, seed=3, optimizer=optimizer)
    wrapped, stepped = fabric.setup(model, optimizer)
    if order != "before":
        wrapped = torch.compile(wrapped, backend="eager") if order == "compiled" else wrapped
        report = adopt(wrapped, seed=3, optimizer=stepped)
    state = {"model": wrapped, "optimizer": stepped}

    def steps(batches):
        for x in batches:
            fabric.backward(wrapped(x).square().mean())
            stepped.step()
            stepped.zero_grad()
        return {name: value.clone() for name, value in model.state_dict().items()}

    first, last = X[:16].split(8), X[16:].split(8)
    steps(first)
    fabric.save(folder / "state.ckpt", state)
    whole = steps(last)
    fabric.load(folder / "state.ckpt", state)
    assert report.clock.step == 2
    return model, report, whole, steps(last)


@pytest.mark.parametrize("order", ORDERS)
def test_wherever_adopt_stands_masks_are_the_same_and_the_clock_is_saved(order, tmp_path):
    torch._dynamo.reset()
    model, report, whole, resumed = trained(order, tmp_path)
    assert report.sites == ("2",)
    assert report.clock.step == 4
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    _, _, before, _ = trained("before", tmp_path)
    assert all(torch.equal(before[name], value) for name, value in whole.items())
    release(model)
    assert "thinned_clock" not in model.state_dict()


def test_dropout_is_switched_in_a_wrapped_model(tmp_path):
    import lightning

    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5))
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    wrapped = fabric.setup_module(model)
    clock = adopt(wrapped, seed=0).clock
    with clock.piece(0):
        first = wrapped(X)
    with clock.piece(0):
        assert torch.equal(wrapped(X), first)
    with no_dropout(wrapped):
        quiet = wrapped(X)
    with set_p(wrapped, "1", 0.0):
        assert torch.equal(wrapped(X), quiet)
    assert not torch.equal(wrapped(X), quiet)
