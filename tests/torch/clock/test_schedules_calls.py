"""Calls that bring a p of their own follow a schedule, and "*" is whatever can."""

import pytest
import torch
from libraries import library
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

import thinned
import thinned.torch
from thinned.members import predict
from thinned.schedules import early, linear
from thinned.torch import adopt, no_dropout, release, set_p
from thinned.torch.adoption.functional_calls import Calls

X = torch.ones(64, 4, 8)


class Calling(nn.Module):
    """A module, calls of a dropout and of attention, and one that never drops."""

    def __init__(self, p=0.5):
        super().__init__()
        self.drop, self.p = nn.Dropout(0.2), p

    def forward(self, x):
        first = self.drop(x)
        second = functional.dropout(x, self.p, self.training)
        p = self.p if self.training else 0.0
        third = functional.scaled_dot_product_attention(x, x, x, dropout_p=p)
        return torch.stack([first, second, third, functional.dropout(x, 0.0, self.training)])


def shares(y):
    """The share of zeros of the first two; how far the third is from no dropout; of the last."""
    return [*((part == 0).float().mean().item() for part in y[:2]),
            (y[2] - 1).abs().mean().item(), (y[3] == 0).float().mean().item()]  # fmt: skip


def check_calls_follow(schedule="*"):
    model = Calling()
    report = adopt(model, seed=3, schedule={schedule: linear(0.1, 0.3, until=2)})
    row = report.rows[0]
    assert (row.site, row.p) == ("/dropout", 0.1)
    assert row.done.endswith("addressed, p by linear(start=0.1, end=0.3, until=2)")
    for step, p in enumerate((0.1, 0.2, 0.3, 0.3)):
        y = model(X)
        at = thinned.Address(seed=3, site="/dropout", step=step)
        assert torch.equal(y[1], thinned.dropout(X, p, at, training=True))
        assert shares(y)[2] > 0
        assert torch.equal(y[3], X)
        report.clock.tick()
    release(model)
    assert 0.4 < shares(model(X))[1] < 0.6


def test_calls_follow_a_schedule():
    check_calls_follow()
    check_calls_follow("/*")


def test_fault_calls_that_keep_their_p(monkeypatch):
    monkeypatch.setattr(Calls, "_p", lambda self, who, p: p)
    with pytest.raises(AssertionError):
        check_calls_follow()


def test_nothing_is_dropped_where_the_schedule_has_ended():
    model = Calling()
    clock = adopt(model, schedule={"*": early(0.4, 2)}).clock
    assert min(shares(model(X))[:3]) > 0
    clock.step = 2
    assert torch.equal(model(X), model.eval()(X))


def test_another_p_and_none_for_a_while():
    model = Calling()
    clock = adopt(model, schedule={"*": 0.1}).clock
    with set_p(model, "*", 0.6):
        assert all(0.5 < share < 0.7 for share in shares(model(X))[:2])
    with no_dropout(model):
        assert shares(model(X)) == [0.0] * 4
    clock.tick()
    with set_p(model, "/dropout", 0.6):
        clock.tick()
        assert 0.5 < shares(model(X))[1] < 0.7
    assert 0.05 < shares(model(X))[1] < 0.15
    assert 0.05 < shares(model(X))[0] < 0.15


def test_members_have_the_p_of_now():
    model = Calling()
    clock = adopt(model, schedule={"*": linear(0.1, 0.5, until=4)}).clock
    for step, p in ((0, 0.1), (4, 0.5)):
        clock.step = step
        outputs = predict(model, X, members=8, keep=True, output=lambda y: y[1]).outputs
        assert abs((outputs == 0).mean() - p) < 0.05


def test_a_new_step_is_no_new_program():
    torch._dynamo.reset()
    model = Calling()
    clock = adopt(model, seed=3, schedule={"*": linear(0.1, 0.3, until=4)}).clock
    eager = [model(X)]
    for _ in range(3):
        clock.tick()
        eager.append(model(X))
    compiler = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=compiler)
    for step, y in enumerate(eager):
        clock.step = step
        torch.testing.assert_close(compiled(X), y)
        if step == 0:
            programs = compiler.frame_count
    assert compiler.frame_count == programs
    torch._dynamo.reset()


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.learned = nn.Dropout(0.2), thinned.torch.ConcreteDropout(nn.Linear(8, 8))

    def forward(self, x):
        return self.learned(self.drop(x)) * (torch.rand(len(x), 1, 1) > 0.3)


def test_what_follows_none_is_named():
    report = adopt(Mixed(), schedule={"*": 0.1})
    assert {row.site: row.done.partition(", p ")[2] for row in report.rows} == {
        "drop": "by constant(p=0.1)", "learned": "follows no schedule",
        "/dropout": "follows no schedule",
    }  # fmt: skip
    assert "p follows no schedule" not in str(adopt(Mixed(), schedule={"drop": 0.1}))


transformers = library("transformers")


@pytest.mark.parametrize("interface", ["sdpa", "eager"])
def test_bert(interface):
    """Whose attention's dropout is a call; another p of it alone makes another result."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, attn_implementation=interface,
    )  # fmt: skip
    model = transformers.BertModel(config).train()
    with torch.no_grad():  # so that what attention does shows
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    words = torch.arange(24).view(4, 6)
    rules = {"*": linear(0.4, 0.0, until=4)}
    report = adopt(model, schedule=rules)
    assert not [row for row in report.rows if row.reached and row.p != 0.4]
    assert any("attention.self/dropout" in row.site for row in report.rows)
    first = model(words).last_hidden_state
    report.clock.step = 4
    last = model(words).last_hidden_state
    plain = model.eval()(words).last_hidden_state
    torch.testing.assert_close(last, plain)
    assert not torch.allclose(first, plain, atol=1e-2)
    release(model)
    attention = {"*.self/dropout": 0.4, "*.output.dropout": 0.0, "embeddings.dropout": 0.0}
    adopt(model.train(), schedule=attention)
    assert not torch.allclose(model(words).last_hidden_state, plain, atol=1e-2)
