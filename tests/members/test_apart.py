"""A row's answer that dropout makes depend on the rows beside it is an error, and is named."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from thinned.members import predict, sequence_members

from .models import Merged, OnSecondAxis, rows

FRAMES = 3


class Video(nn.Module):
    """(N, frames, 8): frames are folded into the batch, and dropped there. Without dropout all
    rows' first entries are equal, and the code takes them from the first frames of all."""

    def __init__(self, p=0.5):
        super().__init__()
        self.token, self.drop = nn.Parameter(torch.ones(1, 1, 8)), nn.Dropout(p)
        self.last = nn.Linear(8, 3)

    def first_of(self, h, n):
        return h[:n, 0]

    def forward(self, x):
        n = len(x)
        h = x.reshape(n * FRAMES, 1, 8)
        h = self.drop(torch.cat([self.token.expand(len(h), -1, -1), h], 1))
        return self.last(self.first_of(h, n) + h[:, 1].reshape(n, FRAMES, 8).mean(1))


class Right(Video):
    """The same with each row's own."""

    def first_of(self, h, n):
        return h[::FRAMES, 0]


class OneByOne(nn.Module):
    """Rows go through a site one after the other."""

    def __init__(self, p=0.5):
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return torch.stack([self.drop(row) for row in x]).flatten(1)


class Transposed(nn.Module):
    """Entries of a row do not lie one after the other: (frames, N, 8) as (frames * N, 8)."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        h = x.transpose(0, 1).reshape(-1, 8)
        h = functional.dropout(h, self.p, self.training)
        return h.reshape(FRAMES, len(x), 8).transpose(0, 1).flatten(1)


class Tiled(nn.Module):
    """Several copies of each row, those of all rows before the next ones."""

    def __init__(self, p=0.5):
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(self, x):
        copies = self.drop(x.flatten(1).repeat(2, 1))
        return copies.unflatten(0, (2, len(x))).transpose(0, 1).flatten(1)


class Beams(Tiled):
    """The same with the copies of each row together."""

    def forward(self, x):
        return self.drop(x.flatten(1).repeat_interleave(2, 0)).unflatten(0, (len(x), 2)).flatten(1)


class Twice(nn.Module):
    """Two sites that are wrong, each of which is enough."""

    def __init__(self):
        super().__init__()
        self.one, self.other = Tiled(), Tiled()

    def forward(self, x):
        return torch.cat([self.one(x), self.other(x)], 1)


class Scaled(nn.Module):
    """Scales by what is kept of all rows, as DropBlock is defined."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(1.0 - self.p)
        return x * kept * (kept.numel() / kept.sum())


class Mixed(nn.Module):
    """Rows see each other without dropout, too."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        h = self.drop(x.flatten(1))
        return h - h.mean(0)


class Together(nn.Module):
    """It does not take a row alone."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        if len(x) < 2:
            raise ValueError("more than one row, please")
        return self.drop(x.flatten(1))


WRONG = {Video: "drop", OneByOne: "drop", Transposed: "/dropout", Tiled: "drop"}


def made(kind, *how):
    torch.manual_seed(0)
    return kind(*how)


def frames(n=4):
    return rows(n, FRAMES, 8) + 2.0


@pytest.mark.parametrize("share", ["member", "row"])
@pytest.mark.parametrize("kind", WRONG)
def test_an_answer_that_depends_on_other_rows_is_an_error_that_names_the_site(kind, share):
    told = rf"depends on the rows beside it.* At '{WRONG[kind]}' the .*Pass batch_size=1"
    with pytest.raises(RuntimeError, match=told):
        predict(made(kind), frames(), members=4, share=share)


@pytest.mark.parametrize("kind", WRONG)
def test_rows_are_asked_alone_where_that_is_what_the_caller_says(kind):
    model, x = made(kind), frames()
    answer = predict(model, x, members=4, batch_size=1, keep=True)
    one = predict(model, x[2:3], members=4, keep=True)
    np.testing.assert_array_equal(answer.outputs[:, 2:3], one.outputs)
    loaded = predict(model, DataLoader(x), members=4, keep=True)
    np.testing.assert_array_equal(loaded.outputs, answer.outputs)


def test_a_scale_that_all_rows_share_is_told_where_their_masks_differ():
    model, x = nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(24, 3)), frames()
    with pytest.raises(RuntimeError, match=r"At '0/dropout' the .* or scales by what"):
        predict(model, x, members=4, share="row")
    assert predict(model, x, members=4, share="row", batch_size=1).members == 4
    check_batches(model, x)


def test_a_loader_of_larger_batches_is_an_error():
    with pytest.raises(RuntimeError, match="DataLoader: batches of one row"):
        predict(made(Video), DataLoader(frames(), batch_size=2), members=4)


def test_all_sites_that_may_be_the_cause_are_named_where_none_alone_is():
    with pytest.raises(RuntimeError, match=r"At 'one\.drop', 'other\.drop' the"):
        predict(made(Twice), frames(), members=4)


def test_nothing_depends_on_other_rows_where_the_site_drops_nothing():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = Video(0.0), nn.Dropout(0.5)

        def forward(self, x):
            return self.right(self.wrong(x))

    check_batches(made(Half), frames())


@pytest.mark.parametrize("kind", [Right, Beams, Merged, OnSecondAxis])
def test_what_is_a_rows_own_is_answered_for_any_batch(kind):
    check_batches(made(kind), frames() if kind is not Merged else rows(4))


def check_batches(model, x):
    whole = predict(model, x, members=4, keep=True).outputs
    for size in (1, 3):
        part = predict(model, x, members=4, keep=True, batch_size=size).outputs
        np.testing.assert_allclose(part, whole, atol=1e-5)


@pytest.mark.parametrize("kind", [Mixed, Together])
def test_a_model_whose_rows_belong_together_is_asked_for_them(kind):
    assert len(predict(made(kind), frames(), members=4)) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_of_a_coarse_type_is_no_dependence(dtype):
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Linear(96, 96), nn.Dropout(0.5), nn.Tanh())]
    model = nn.Sequential(*layers).to(dtype)
    assert predict(model, rows(4, 96).to(dtype), members=4).members == 4


def test_a_coarse_type_hides_no_dependence():
    with pytest.raises(RuntimeError, match="At 'drop' the"):
        predict(made(Video).to(torch.bfloat16), frames().to(torch.bfloat16), members=4)


def test_the_model_and_the_generator_are_left_as_they_were():
    model = made(Video)
    model.drop.train(False)
    before, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    with pytest.raises(RuntimeError, match="batch_size=1"):
        predict(model, frames(), members=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in model.modules()] == modes
    assert model.drop.p == 0.5
    assert not hasattr(model, "thinned_clock")


class Written(nn.Module):
    """Tokens of which the code takes another row's."""

    def __init__(self):
        super().__init__()
        self.words, self.wrong = nn.Embedding(9, 8), Tiled()

    def forward(self, tokens):
        y = self.wrong(self.words(tokens).mean(1))
        return y[:, None].expand(-1, tokens.shape[1], -1)


def test_networks_that_write_are_refused_as_well():
    words = torch.arange(8).reshape(2, 4)
    for ask in (sequence_members, lambda m, x: predict(m, x, members=4, share="sequence")):
        with pytest.raises(RuntimeError, match=r"depends on the rows beside it.*'wrong\.drop'"):
            ask(made(Written), words)


def test_a_row_that_is_not_told_apart_is_no_silence(monkeypatch):
    """The planted fault: nothing is asked alone."""
    monkeypatch.setattr("thinned.members.apart.require_apart", lambda *_: None)
    whole = predict(made(Video), frames(), members=4, keep=True).outputs
    part = predict(made(Video), frames(), members=4, keep=True, batch_size=1).outputs
    assert not np.allclose(part, whole, atol=1e-3)
