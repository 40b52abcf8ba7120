"""Misused dropout: each wrong model has its one finding, and its right twin has none."""

import pytest
import torch
from misused import PAIRS, RIGHT

import thinned.torch as tt

pytestmark = pytest.mark.filterwarnings("ignore:dropout[12]d:UserWarning")


def found(model, x):
    torch.manual_seed(5)
    report = tt.audit(model, x, measure=False)
    return [(finding.site, finding.kind) for finding in report.findings]


def built(make, *arguments):
    torch.manual_seed(3)
    return make(*arguments)


@pytest.mark.parametrize("name", PAIRS)
def test_the_wrong_model_has_its_finding_and_no_other(name):
    kind, site, make, inputs = PAIRS[name]
    assert found(built(make, False), inputs()) == [(site, kind)]


@pytest.mark.parametrize("name", PAIRS)
def test_the_right_twin_has_none(name):
    _, _, make, inputs = PAIRS[name]
    assert found(built(make, True), inputs()) == []


@pytest.mark.parametrize("name", RIGHT)
def test_right_models_that_look_wrong_have_none(name):
    make, inputs = RIGHT[name]
    assert found(built(make), inputs()) == []
