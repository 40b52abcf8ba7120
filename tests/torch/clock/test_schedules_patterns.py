"""Which sites a pattern of a schedule names, what counts as a layer, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from thinned.schedules import (
    curriculum,
    custom,
    depth_linear,
    early,
    late,
    minimum,
    scheduled_drop_path,
    stochastic_depth_rule,
)
from thinned.torch import adopt
from thinned.torch.clock.clock import BUFFER


def mlp():
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.25), nn.Linear(8, 8), nn.Dropout(0.25))


# -------------------------------------------------------------------------------------------- depth


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop1, self.drop2 = nn.Dropout(0.1), nn.Sequential(nn.ReLU(), nn.Dropout(0.1))

    def forward(self, x):
        return x + self.drop2(self.drop1(x))


class Deep(nn.Module):
    def __init__(self, stages=(2, 3)):
        super().__init__()
        self.stem = nn.Dropout(0.05)
        self.stages = nn.ModuleList(
            nn.ModuleDict({"blocks": nn.Sequential(*(Block() for _ in range(n)))}) for n in stages
        )

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage["blocks"](x)
        return x


def ps_by_site(schedule, **options):
    return {row.site: row.p for row in adopt(Deep(), schedule=schedule, **options).rows}


def check_depth():
    """Two dropouts of a block share their layer; blocks count through the stages."""
    found = ps_by_site({"stages.*.blocks.*": depth_linear(0.4)})
    expected = {"stem": 0.05}
    for i, block in enumerate(["0.blocks.0", "0.blocks.1", "1.blocks.0", "1.blocks.1"]):
        for site in ("drop1", "drop2.1"):
            expected[f"stages.{block}.{site}"] = pytest.approx(i * 0.1)
    for site in ("drop1", "drop2.1"):
        expected[f"stages.1.blocks.2.{site}"] = 0.4
    assert found == expected


def test_layers_are_the_blocks():
    check_depth()


def test_layers_are_what_the_stars_stand_for():
    found = ps_by_site({"stages.*": stochastic_depth_rule(0.4)})
    assert [found[f"stages.{i}.blocks.0.drop1"] for i in (0, 1)] == [0.2, 0.4]
    assert found["stages.1.blocks.2.drop2.1"] == 0.4
    found = ps_by_site({"*.drop1": depth_linear(0.4)})
    assert [found[f"stages.0.blocks.{i}.drop1"] for i in (0, 1)] == [0.0, pytest.approx(0.1)]
    assert [found[f"stages.1.blocks.{i}.drop1"] for i in range(3)] == pytest.approx([0.2, 0.3, 0.4])
    assert found["stages.1.blocks.2.drop2.1"] == 0.1
    found = ps_by_site({"*": depth_linear(0.2)})
    assert found["stem"] == 0.0
    assert found["stages.0.blocks.1.drop1"] == 0.1
    assert found["stages.1.blocks.1.drop1"] == 0.2
    # Without a * for a whole part, each site is a layer.
    found = ps_by_site({"stages.0.blocks.[01].drop?": depth_linear(0.3)})
    assert [found[f"stages.0.blocks.{i}.drop1"] for i in (0, 1)] == [0.0, 0.3]


def test_time_and_depth_together():
    model = Deep()
    report = adopt(model, schedule={"stages.*.blocks.*": scheduled_drop_path(0.5)}, steps=10)
    assert report.rows[-1].done == ("addressed, p by scheduled_drop_path(p=0.5), layer 4 of 0 to 4")
    for step in range(12):
        for layer, (stage, block) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]):
            p = scheduled_drop_path(0.5)(step, 10, layer, 5)
            drop = model.stages[stage]["blocks"][block].drop2[1]
            assert drop.p == p
        report.clock.tick()


# ----------------------------------------------------------------------------------------- refusals


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return F.dropout(self.drop(x), 0.3, self.training)


class Drawn(Calls):
    def forward(self, x):
        return self.drop(x) * (torch.rand(len(x), 1) > 0.3) / 0.7


@pytest.mark.parametrize(
    ("model", "options", "error", "says"),
    [
        (mlp, {"schedule": {"5": early(0.1, 3)}}, ValueError,
         r"adopt: schedule of '5' matches no site\. The sites are '1', '3'\."),
        (mlp, {"schedule": {"[13]": early(0.1, 3), "*": late(0.1, 3)}}, ValueError,
         r"site '1' is matched by two patterns of schedule, '\[13\]' and '\*'"),
        (mlp, {"schedule": {"*": early(0.1, 0.5)}}, ValueError,
         r"schedule of '\*': early\(p=0\.1, until=0\.5, .*\) is relative .* Pass steps= too"),
        (mlp, {"schedule": {"*": minimum(0.5, curriculum(0.1))}}, ValueError, "Pass steps= too"),
        (mlp, {"steps": 5}, ValueError, "steps=5 is of no use without schedule="),
        (mlp, {"schedule": {"*": 0.1}, "steps": 0}, ValueError, "adopt: steps must be an integer"),
        (mlp, {"schedule": early(0.1, 3)}, TypeError, r"For one schedule everywhere: \{\"\*\": s"),
        (mlp, {"schedule": {1: early(0.1, 3)}}, TypeError, "must be a dict from patterns"),
        (mlp, {"schedule": {"*": "early"}}, TypeError, r"adopt: schedule of '\*': a schedule must"),
        (mlp, {"schedule": {"*": early}}, TypeError, "called first"),
        (mlp, {"schedule": {"*": 50}}, ValueError, "got 50. Did you pass a percentage"),
        (mlp, {"schedule": {"*": lambda step, steps: 2.0}}, ValueError, "what it returns for"),
        (mlp, {"schedule": {"1": depth_linear(0.1)}}, ValueError, r"the sites that match, '1', a"),
        (lambda: nn.ModuleDict({"blocks": nn.ModuleList([Block()])}),
         {"schedule": {"*": depth_linear(0.1)}}, ValueError, r"are one\. Put a \* where the layer"),
        (Drawn, {"schedule": {"/*": 0.1}}, ValueError,
         r"matches site '/dropout', whose p no schedule can move: it draws a mask by hand"),
    ],
)  # fmt: skip
def test_refusals_leave_the_model_as_it_was(model, options, error, says):
    model = model()
    before = repr(model)
    with pytest.raises(error, match=says):
        adopt(model, **options)
    assert repr(model) == before
    assert BUFFER not in model.state_dict()
    adopt(model)


def test_a_site_beside_a_call_can_be_scheduled():
    model = Calls()
    adopt(model, schedule={"drop": custom(lambda step, steps: 0.5 if step else 0.25)}).clock.tick()
    assert model.drop.p == 0.5


# ----------------------------------------------------------------------------------- planted fault


def test_fault_each_dropout_a_layer(monkeypatch):
    monkeypatch.setattr("thinned.schedules.sites._layer_of", lambda pattern, site: site)
    with pytest.raises(AssertionError):
        check_depth()
