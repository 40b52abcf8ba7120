"""Mistakes that attention could make, planted one at a time: the comparison sees each."""

import pytest
import torch
from attended import check, inputs, rows_without_anything

from thinned.torch.attention import blockwise


def elsewhere(plan):
    """The plan with the next step's mask."""
    at = plan.how.draw.at.replace(step=6)
    return plan._replace(how=plan.how._replace(draw=plan.how.draw._replace(at=at)))


def another_mask_in_backward(monkeypatch):
    real = blockwise.backward
    monkeypatch.setattr(
        blockwise,
        "backward",
        lambda g, q, k, v, mask, plan, wanted: real(g, q, k, v, mask, elsewhere(plan), wanted),
    )


def strides(change):
    def plant(monkeypatch):
        real = blockwise._Block.noise

        def noise(self, how):
            place = how.draw.place
            steps = tuple(change(*place.strides))
            place = type(place)(place.shape, place.offset, steps, False, steps)
            return real(self, how._replace(draw=how.draw._replace(place=place)))

        monkeypatch.setattr(blockwise._Block, "noise", noise)

    return plant


def without(field, value):
    def plant(monkeypatch):
        for name in ("forward", "backward"):
            real = getattr(blockwise, name)

            def spoiled(*args, real=real):
                return real(*(spoil(x) if isinstance(x, blockwise.Plan) else x for x in args))

            monkeypatch.setattr(blockwise, name, spoiled)

    def spoil(plan):
        if field == "dropout":
            return plan._replace(how=plan.how._replace(scale=value))
        return plan._replace(scale=value)

    return plant


def overwritten_instead_of_added(monkeypatch):
    real = blockwise._put
    monkeypatch.setattr(blockwise, "_put", lambda part, a, b, s, add=False: real(part, a, b, s))


def no_derivative_of_the_norm(monkeypatch):
    def without_the_sum(grad, weights, *_, grad_input):
        return torch.mul(grad, weights, out=grad_input)

    monkeypatch.setattr(blockwise, "softmax_backward", without_the_sum)


FAULTS = {
    "another mask in backward": another_mask_in_backward,
    "rows and columns swapped": strides(lambda o, h, r, c: (o, h, c, r * 0 + 7)),
    "one mask for all heads": strides(lambda o, h, r, c: (o, 0, r, c)),
    "one mask for all samples": strides(lambda o, h, r, c: (0, h, r, c)),
    "no dropout scale": without("dropout", 1.0),
    "no scale of scores": without("scores", 1.0),
    "later rows overwrite": overwritten_instead_of_added,
    "softmax half derived": no_derivative_of_the_norm,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault, monkeypatch):
    monkeypatch.setattr(blockwise, "_most", lambda _: 20)
    check(inputs(V=5))
    FAULTS[fault](monkeypatch)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check(inputs(V=5))


def test_the_fault_of_rows_without_anything(monkeypatch):
    monkeypatch.setattr(blockwise._Weights, "_settle", lambda *_: None)
    with pytest.raises(AssertionError):
        rows_without_anything()
