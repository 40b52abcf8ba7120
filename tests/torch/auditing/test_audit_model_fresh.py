"""Mistakes that somebody wrote who had not seen the audit's rules, each with its right version."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from thinned.torch.auditing import audit


def found(model, inputs):
    torch.manual_seed(3)
    report = audit.audit(model, inputs, measure=False)
    return [(finding.site, finding.kind) for finding in report.findings]


class Own(nn.Module):
    """A model whose forward is a function."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function, self.mask = forward, None
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def head(tail):
    return nn.Sequential(nn.Linear(49, 64), nn.ReLU(), *tail)


def row_for_all(shape):
    def forward(self, x):
        h = torch.relu(self.fc(x))
        if self.training:
            h = h * (torch.rand(shape(h)) > 0.4) / 0.6
        return self.out(h)

    return Own(forward, fc=nn.Linear(8, 32), out=nn.Linear(32, 3))


def recurrent(forget):
    def forward(self, x):
        if forget:
            self.mask = None
        h = x.new_zeros(len(x), 18)
        for t in range(x.shape[1]):
            if self.training and self.mask is None:
                self.mask = torch.empty_like(h).bernoulli_(0.75) / 0.75
            h = self.cell(x[:, t], h * self.mask if self.training else h)
        return self.out(h)

    return Own(forward, cell=nn.GRUCell(5, 18), out=nn.Linear(18, 1))


def sensors(swap):
    def forward(self, x):
        x = x.transpose(1, 2) if swap else x
        x = self.drop(x)
        return self.out(self.gru(x.transpose(1, 2) if swap else x)[0].mean(1))

    gru = nn.GRU(6, 20, batch_first=True)
    return Own(forward, drop=nn.Dropout1d(0.2), gru=gru, out=nn.Linear(20, 2))


def attention(early):
    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 5.0
        scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -1e9)
        weights = self.drop(scores).softmax(-1) if early else self.drop(scores.softmax(-1))
        return weights @ x

    return Own(forward, q=nn.Linear(24, 24), k=nn.Linear(24, 24), drop=nn.Dropout(0.2))


def alpha(**mode):
    def forward(self, x):
        given = {"training": self.training} if mode.get("told") else {}
        return self.out(F.alpha_dropout(F.selu(self.fc(x)), 0.2, **given))

    return Own(forward, fc=nn.Linear(8, 32), out=nn.Linear(32, 3))


X = torch.randn(12, 8)
PAIRS = {
    "alpha dropout that is not told the mode": (
        (lambda: alpha(), lambda: alpha(told=True), X),
        ("/dropout", "never drops"),
    ),
    "the last layer of a sequence": (
        (
            lambda: head([nn.Linear(64, 10), nn.Dropout(0.3)]),
            lambda: head([nn.Dropout(0.3), nn.Linear(64, 10)]),
            torch.randn(12, 49),
        ),
        ("3", "dropout on logits"),
    ),
    "scores of attention": (
        (lambda: attention(True), lambda: attention(False), torch.randn(5, 9, 24)),
        ("drop", "dropout on logits"),
    ),
    "a mask that is kept": (
        (lambda: recurrent(False), lambda: recurrent(True), torch.randn(6, 9, 5)),
        ("/dropout", "repeated mask"),
    ),
    "channels of a raw sequence": (
        (lambda: sensors(False), lambda: sensors(True), torch.randn(10, 25, 6)),
        ("drop", "channels on another axis"),
    ),
    "one row for all, in a model's own forward": (
        (
            lambda: row_for_all(lambda h: h.shape[-1:]),
            lambda: row_for_all(lambda h: h.shape),
            X,
        ),
        ("/rand", "one mask for the batch"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_mistake_is_found_and_the_right_version_is_clean(name):
    (wrong, right, x), (site, kind) = PAIRS[name]
    assert found(wrong(), x) == [(site, kind)]
    assert found(right(), x) == []


def test_features_of_an_encoder_may_be_dropped_last():
    """A layer that gives as many numbers as an encoder does is no output."""
    assert found(head([nn.Linear(64, 32), nn.Dropout(0.3)]), torch.randn(12, 49)) == []


def test_a_module_in_evaluation_that_is_told_so_is_no_finding():
    """A frozen part passes on its own mode."""

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.out = alpha(told=True), nn.Linear(3, 2)
            self.part.eval()

        def train(self, mode=True):
            super().train(mode)
            self.part.eval()
            return self

        def forward(self, x):
            return self.out(self.part(x))

    assert found(Frozen(), X) == []


def test_weights_and_time_in_front_may_share_a_mask():
    def weights(self, x):
        keep = (torch.rand(1, 8) > 0.4) / 0.6 if self.training else torch.ones(1, 8)
        return F.linear(x, self.fc.weight * keep)

    def locked(self, x):
        h = self.fc(x)
        return h * (torch.rand(1, *h.shape[1:]) > 0.4) / 0.6 if self.training else h

    assert found(Own(weights, fc=nn.Linear(8, 12)), X) == []
    assert found(Own(locked, fc=nn.Linear(8, 12)), torch.randn(7, 12, 8)) == []
