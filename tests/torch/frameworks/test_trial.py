"""The zoo's trial finds what is wrong: in a model that is right until it is adopted."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo.page import faults_of
from zoo.subject import Subject
from zoo.trial import tried


class Net(nn.Module):
    """Two layers with dropout between; `fault` says what goes wrong once it is adopted."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault, self.checkpointed, self.calls = fault, False, 0
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 3)

    def has(self, fault):
        return self.fault == fault and "thinned_clock" in dict(self.named_buffers())

    def middle(self, x):
        h = torch.tanh(self.first(x))
        if self.training and self.has("one mask"):
            return h * (torch.arange(16) > 3)
        if self.training and self.has("a count"):
            self.calls += 1
            return h * self.calls
        if self.training and self.fault == "noise of its own":
            h = h + 0.1 * torch.randn(16)
        if self.training and self.has("rows turned round"):
            return self.drop(h.flip(0)).flip(0)
        return self.drop(h)

    def forward(self, x):
        h = checkpoint(self.middle, x, use_reentrant=False) if self.checkpointed else self.middle(x)
        y = self.last(h)
        if self.checkpointed and self.has("gradient"):
            return y * 1.01 - 0.01 * y.detach()
        if torch.compiler.is_compiling() and self.has("compiled"):
            return y * 1.5
        if not self.training and self.has("evaluation"):
            return y + 1e-6
        if self.has("release"):
            self.left_behind = True
        return y


def switched(model):
    model.checkpointed = True


def row_of(fault, compiled=False):
    torch.manual_seed(0)
    inputs = torch.randn(2, 4)
    return tried(Subject("", "", Net(fault), (inputs,), {"default": switched}), compiled)


FAULTS = {
    "one mask": "next step differs",
    "a count": "replayed",
    "gradient": "checkpoint default",
    "compiled": "compiled",
    "evaluation": "evaluation",
    "release": "released",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    found = dict(faults_of(row_of(fault, compiled=fault == "compiled")))
    assert FAULTS[fault] in found


def test_pieces_that_are_not_those_of_the_whole_are_found():
    assert row_of("rows turned round")["pieces"] == "differs"


def test_a_model_without_one_passes_all():
    row = row_of("", compiled=True)
    assert faults_of(row) == []
    assert (row["drops"], row["adopted"], row["sites"]) == ("yes", "yes", 1)
    checks = ("replayed", "next step differs", "pieces", "evaluation", "released", "predict")
    assert {row[check] for check in (*checks, "checkpoint default", "compiled")} == {"yes"}


def test_noise_that_is_not_reached_is_replayed_with_its_generator_and_named():
    row = row_of("noise of its own")
    assert row["replayed"] == "with generators reseeded"
    assert any("rand" in told for told in row["not reached"])
    assert faults_of(row) == []
