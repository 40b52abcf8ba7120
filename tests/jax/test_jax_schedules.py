"""Schedules in adopted NNX models: p of the clock's step, which is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
from thinned import Address, schedules
from thinned.jax.nnx import DropPath, GaussianDropout, adopt
from thinned.jax.schedules import p_at
from thinned.members import predict

X = jnp.ones((4, 64))
STEPS = 10
COURSES = [
    schedules.constant(0.3),
    schedules.early(0.4, until=0.5),
    schedules.early(0.4, until=4, shape="linear"),
    schedules.early(0.4, until=0),
    schedules.late(0.4, after=0.3),
    schedules.linear(0.1, 0.5),
    schedules.linear(0.6, 0.2, until=3),
    schedules.annealed(0.7),
    schedules.curriculum(0.5),
    schedules.curriculum(0.5, gamma=0.2),
    schedules.piecewise([0.1, 0.2, 0.3], [2, 7]),
    schedules.scheduled_drop_path(0.4),
    schedules.stochastic_depth_rule(0.4),
    schedules.linear(0.0, 1.0) * schedules.depth_linear(0.4) * 0.5,
    schedules.minimum(schedules.linear(0.0, 1.0), 0.4),
    schedules.maximum(schedules.annealed(0.5), schedules.late(0.3, after=5)),
    schedules.custom(lambda step, steps: 0.05 * step),
]


@pytest.mark.parametrize("course", COURSES, ids=repr)
def test_a_traced_step_has_the_p_of_a_known_one(course):
    traced = jax.jit(lambda step: p_at(course, step, STEPS, 2, 4))
    for step in range(STEPS + 2):
        p = course.p_at(step, STEPS, layer=2, layers=4)
        assert float(traced(step)) == pytest.approx(p, abs=1e-6)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([nnx.Dropout(0.1, rngs=rngs), DropPath(0.1, rngs=rngs)])
        self.last = nnx.Dropout(0.25, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, 64, dropout_rate=0.1, decode=False, deterministic=False, rngs=rngs
        )

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def test_sites_follow_the_clock_in_one_program():
    net, traced = Net(), []
    rule = schedules.linear(0.0, 1.0) * schedules.stochastic_depth_rule(0.5)
    report = adopt(net, seed=3, schedule={"blocks.*": rule}, steps=4)
    done = {row.site: row.done for row in report.rows}
    assert done["blocks.1"].startswith("addressed, p follows linear(start=0.0, end=1.0")
    assert done["last"] == "addressed"

    @nnx.jit
    def forward(net, x):
        traced.append(1)
        return net(x)

    for step in range(4):
        at, part = Address(3, step=step), np.float32(step / 4)
        x = thinned.dropout(X, float(part * np.float32(0.25)), at.replace(site="blocks.0"))
        x = thinned.drop_path(x, float(part * np.float32(0.5)), at.replace(site="blocks.1"))
        x = thinned.dropout(x, 0.25, at.replace(site="last"))
        np.testing.assert_allclose(forward(net, X), x, rtol=1e-6)
        report.clock.tick()
    assert len(traced) == 1


def test_attention_follows_and_members_have_the_step_of_the_clock():
    net = Net()
    course = schedules.piecewise([0.0, 1.0], [1])
    clock = adopt(net, schedule={"attention/*": course}).clock
    whole = net.attention(X)
    clock.tick()
    assert not bool((net.attention(X) == whole).all())
    bias = net.attention.out.bias.get_value()
    np.testing.assert_allclose(net.attention(X), jnp.broadcast_to(bias, X.shape), atol=1e-6)
    drop = nnx.Sequential(nnx.Dropout(0.5))
    clock = adopt(drop, schedule={"*": schedules.piecewise([0.5, 0.9], [1])}).clock
    early = predict(drop, X, members=8).mean
    assert 0.2 < (predict(drop, X, members=8, keep=True).outputs == 0).mean() < 0.7
    clock.tick()
    assert (predict(drop, X, members=8, keep=True).outputs == 0).mean() > 0.8
    assert early.shape == X.shape


def test_errors():
    with pytest.raises(ValueError, match="matches no site"):
        adopt(Net(), schedule={"block": 0.1})
    with pytest.raises(ValueError, match="relative to the number of all"):
        adopt(Net(), schedule={"*": schedules.linear(0.0, 0.5)})
    model = nnx.Sequential(GaussianDropout(0.1))
    with pytest.raises(ValueError, match="comes to p = 1 on step 2"):
        adopt(model, schedule={"*": schedules.piecewise([0.1, 1.0], [2])}, steps=4)
