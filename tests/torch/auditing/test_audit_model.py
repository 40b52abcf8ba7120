"""audit finds each mistake that is planted in a model, and nothing in models without one."""

import re
import threading
from html import escape

import pytest
import torch
from misused import PAIRS
from own_checkpoints import Hidden
from planted import (
    Attention,
    DropIdle,
    Frozen,
    Half,
    OurAttention,
    OwnDropout,
    Recomputing,
    Residual,
    Words,
    address_in_a_loop,
    adopted,
    awake_helper,
    batch,
    batchnorm,
    body,
    cnn,
    functional_recompute,
    left_awake,
    mlp,
    numpy_noise,
    own_address,
    parametrised,
    seeded,
    seeded_twice,
    shared_start,
    transformer,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812

import thinned.torch as tt
from thinned.torch.auditing import (
    audit,
    behind,
    draws,
    dropping_all,
    evaluated,
    expectation,
    masked,
    observer,
    rated,
    scale,
)
from thinned.torch.auditing.observer import Observer
from thinned.torch.auditing.rules import KINDS


def ran(model, x=None, **options):
    torch.manual_seed(11)
    x = batch() if x is None else x
    return tt.audit(model, x, measure=False, **options)


def kinds(model, x=None, **options):
    return [(finding.site, finding.kind) for finding in ran(model, x, **options).findings]


# ------------------------------------------------------------------------------------ clean models


class LentRate(nn.Module):
    """Attention that is told the p of a module which is never called, as transformers' is."""

    def __init__(self, own=False):
        super().__init__()
        self.linear, self.dropout, self.p = nn.Linear(8, 8), nn.Dropout(0.3), 0.3
        if own:
            self.forward = self.with_its_own

    def forward(self, x):
        q = self.linear(x).view(-1, 2, 4)
        p = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)

    def with_its_own(self, x):
        return F.dropout(self.linear(x), self.p, self.training)


CLEAN = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
    "written by hand": lambda: nn.Sequential(nn.Linear(8, 32), OwnDropout(0.3)),
    "guarded attention": lambda: Attention(guarded=True),
    "guarded call": lambda: body(lambda self, h: F.dropout(h, 0.5, self.training)),
    "thinned's modules": lambda: nn.Sequential(nn.Linear(8, 32), tt.Dropout(0.5), tt.DropPath(0.2)),
    "alpha": lambda: nn.Sequential(nn.Linear(8, 32), nn.SELU(), nn.AlphaDropout(0.1)),
    "lstm": lambda: nn.Sequential(nn.Unflatten(0, (-1, 4)), nn.LSTM(8, 8, 2, dropout=0.3)),
    "DropConnect": lambda: tt.DropConnectLinear(8, 4, 0.3),
    "masksembles": lambda: nn.Sequential(nn.Linear(8, 8), tt.Masksembles(8, 4, 2.0)),
    "LayerDrop": lambda: tt.LayerDrop([mlp_layer() for _ in range(3)], 0.5),
    "Gaussian": lambda: nn.Sequential(nn.Linear(8, 32), tt.GaussianDropout(0.3)),
    "checkpointed": Recomputing,
    "checkpointed twice": lambda: Recomputing(twice=True),
    "checkpointed call": functional_recompute,
    "BatchNorm before": lambda: nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4)
    ),
    "gates of paths": lambda: Residual(),
    "reparametrised": lambda: body(lambda self, h: h + torch.randn_like(h) if self.training else h),
    "words": lambda: nn.Sequential(Words(), nn.Embedding(50, 16), nn.Dropout(0.2)),
    "in place": lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5, inplace=True)),
    "half": lambda: nn.Sequential(Half(), nn.Dropout(0.5)),
    "parametrised": lambda: nn.Sequential(parametrised(nn.Linear(8, 8))),
    "of ours, attention": lambda: OurAttention(),
    "a module's p alone": LentRate,
    "p = 0": lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0)),
}


def mlp_layer():
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3))


@pytest.mark.parametrize("name", CLEAN)
def test_a_model_without_mistakes_has_no_findings(name):
    torch.manual_seed(1)
    report = ran(CLEAN[name]())
    assert report.findings == ()
    assert report.clean


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "lstm", "alpha", "guarded call"])
def test_nor_has_it_adopted(name):
    torch.manual_seed(1)
    plain, addressed = CLEAN[name](), adopted(CLEAN[name]())
    sites = [row.site for row in ran(plain).sites]
    report = ran(addressed)
    assert report.findings == ()
    assert [row.site for row in report.sites] == sites


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_nor_has_a_checkpointed_adopted_one(reentrant):
    model = adopted(Recomputing(reentrant=reentrant))
    assert kinds(model, batch().requires_grad_()) == []


@pytest.mark.parametrize("how", [{}, {"context_fn": tt.checkpoint_context}], ids=["", "noted"])
def test_nor_has_one_that_runs_parts_twice(how):
    assert kinds(adopted(Recomputing(twice=True, **how))) == []


def test_the_sites_and_their_rates():
    report = ran(transformer())
    assert [row.site for row in report.sites][:2] == [
        "1.layers.0.self_attn/dropout",
        "1.layers.0.dropout1",
    ]
    for row in report.sites:
        assert row.p == pytest.approx(0.1)
        assert abs(row.rate - 0.1) < 6 * (0.09 / row.drawn) ** 0.5


def test_attention_of_ours_and_of_an_adopted_model_is_seen_by_its_mask():
    rows = [ran(model).sites for model in (Attention(True), adopted(Attention(True)))]
    for (row,) in rows:
        assert row.site == "/dropout"
        assert row.p == pytest.approx(0.3)
        assert row.drawn == 2 * 32 * 2 * 6 * 6


# ------------------------------------------------------------------------------------ each mistake

PLANTED = {
    "call without training": (
        lambda: body(lambda self, h: F.dropout(h, 0.5)),
        [("/dropout", "drops in evaluation")],
    ),
    "unguarded attention": (
        lambda: Attention(guarded=False),
        [("/dropout", "drops in evaluation")],
    ),
    "bernoulli_ in evaluation": (
        lambda: body(lambda self, h: h * torch.empty_like(h).bernoulli_(0.5)),
        [("/dropout", "drops in evaluation")],
    ),
    "a module of its own in evaluation": (
        lambda: nn.Sequential(nn.Linear(8, 32), OwnDropout(0.5, "always")),
        [("1", "drops in evaluation")],
    ),
    "noise in evaluation": (
        lambda: body(lambda self, h: h + torch.randn_like(h)),
        [("/randn_like", "drops in evaluation")],
    ),
    "modes not passed on": (
        lambda: Frozen(nn.Linear(8, 32), nn.Dropout(0.5)),
        [("1", "drops in evaluation")],
    ),
    "a layer built in forward": (
        lambda: body(lambda self, h: nn.Dropout(0.5)(h)),
        [("/dropout", "drops in evaluation")],
    ),
    "NumPy's noise": (lambda: body(numpy_noise), [("", "differs in evaluation")]),
    "modes after an exception": (
        lambda: body(awake_helper, drop=nn.Dropout(0.5)),
        [("drop", "drops in evaluation"), ("drop", "modes left changed")],
    ),
    "modes left changed": (
        lambda: body(left_awake, drop=nn.Dropout(0.5)),
        [("drop", "modes left changed"), ("drop", "never drops")],
    ),
    "never called": (
        lambda: body(lambda self, h: h, drop=nn.Dropout(0.5)),
        [("drop", "never drops")],
    ),
    "called, draws nothing": (
        lambda: nn.Sequential(nn.Linear(8, 8), DropIdle()),
        [("1", "never drops")],
    ),
    "a recurrent layer of one": (
        lambda: ignoring_one_layer(),
        [("1", "never drops")],
    ),
    "p to keep, by uniforms": (
        lambda: nn.Sequential(nn.Linear(8, 32), OwnDropout(0.1, "keeps p")),
        [("1", "wrong rate")],
    ),
    "p to keep, by bernoulli_": (
        lambda: nn.Sequential(nn.Linear(8, 32), OwnDropout(0.1, "bernoulli of p")),
        [("1", "wrong rate")],
    ),
    "a seed in forward": (lambda: body(seeded), [("/dropout", "repeated mask")]),
    "one mask at two calls": (
        lambda: body(seeded_twice),
        [("/dropout", "shared mask"), ("/dropout", "repeated mask")],
    ),
    "two sizes from one seed": (
        lambda: body(shared_start, step=0),
        [("/rand", "shared mask")],
    ),
    "an address without a step": (lambda: body(own_address), [("/dropout", "repeated mask")]),
    "one address in a loop": (
        lambda: body(address_in_a_loop),
        [("/dropout", "shared mask"), ("/dropout", "repeated mask")],
    ),
    "one row for all": (
        lambda: nn.Sequential(nn.Linear(8, 32), OwnDropout(0.3, "one row")),
        [("1", "one mask for the batch")],
    ),
    "a mask of features": (
        lambda: body(lambda self, h: h * F.dropout(torch.ones(1, 20), 0.5, self.training)[:, :1]),
        [("/dropout", "one mask for the batch")],
    ),
    "before BatchNorm": (batchnorm, [("1", "feeds BatchNorm")]),
    "before BatchNorm, a layer between": (
        lambda: batchnorm(nn.Linear(32, 32)),
        [("1", "feeds BatchNorm")],
    ),
    "the mode as p": (
        lambda: body(lambda self, h: F.dropout(h, self.training)),
        [("/dropout", "drops everything")],
    ),
    "a mask without its scale": (
        lambda: body(lambda self, h: h * (torch.rand_like(h) < 0.7) if self.training else h),
        [("/rand_like", "wrong scale")],
    ),
    "before BatchNorm, a ReLU between": (
        lambda: batchnorm(nn.ReLU()),
        [("1", "feeds BatchNorm")],
    ),
    "recompute without the state": (
        lambda: Recomputing(preserve_rng_state=False),
        [("parts.1.2", "recomputes another mask"), ("parts.0.2", "recomputes another mask")],
    ),
    "a call's recompute without the state": (
        lambda: functional_recompute(preserve_rng_state=False),
        [("", "recomputes another mask")],
    ),
    "a module that is not called, beside a call with its own p": (
        lambda: LentRate(own=True),
        [("dropout", "never drops")],
    ),
    "a recompute that cannot know its call": (
        lambda: adopted(nn.Sequential(nn.Linear(8, 8), Recomputing(twice=True, kind=Hidden))),
        [("", "recomputes another mask")],
    ),
}


def ignoring_one_layer():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        return nn.Sequential(nn.Unflatten(0, (-1, 4)), nn.LSTM(8, 8, 1, dropout=0.3))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found_and_nothing_else(name):
    torch.manual_seed(1)
    build, expected = PLANTED[name]
    assert kinds(build()) == expected


def test_every_kind_of_finding_is_planted():
    planted = {kind for _, found in PLANTED.values() for _, kind in found}
    assert planted | {kind for kind, *_ in PAIRS.values()} == set(KINDS)


BEFORE_ADOPTION = [
    "unguarded attention",
    "call without training",
    "before BatchNorm",
    "never called",
    "unguarded attention",
]


@pytest.mark.parametrize("name", BEFORE_ADOPTION)
def test_an_adopted_model_is_audited_alike(name):
    torch.manual_seed(1)
    build, expected = PLANTED[name]
    model = build()
    adopted(model)
    assert kinds(model) == expected


def test_the_variance_shift_is_that_of_the_theory():
    """E[y^2] of dropped values is E[x^2] / (1 - p): for mean 0 the variance doubles at p = 1/2."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 64, bias=False), nn.Dropout(0.5), nn.BatchNorm1d(64))
    (finding,) = ran(model, batch(512)).findings
    (ratio,) = re.findall(r"(\d\.\d\d) times that in evaluation", finding.detail)
    assert float(ratio) == pytest.approx(2.0, abs=0.06)
    assert "into '2'" in finding.detail


def test_a_table_is_printed():
    report = ran(body(lambda self, h: F.dropout(h, 0.5)))
    head, title, *_ = str(report).split("\n\n")
    assert head == "1 finding: 1 site, 2 training steps, 2 evaluations."
    assert title.split("\n")[0].split() == ["site", "finding", "detail", "mend"]
    assert all(len(line) <= 122 for line in str(report).splitlines())
    for cell in (
        "/dropout",
        "drops in evaluation",
        "test_audit_model.py:",
        "training=self.training",
    ):
        assert cell in title


def test_a_page_is_rendered():
    report = ran(body(lambda self, h: F.dropout(h, 0.5), **{"<b>": nn.Dropout(0.5)}))
    page = report.to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "<b>Thinned</b>" in page
    assert "&lt;b&gt;" in page
    assert "<code><b></code>" not in page
    for finding in report.findings:
        assert escape(finding.kind) in page
        for word in escape(finding.mend).split():
            assert word in page


def test_the_cost_is_measured_on_copies():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 4096), nn.Dropout(0.5), nn.Linear(4096, 4))
    report = tt.audit(model, batch())
    cost = report.cost
    assert cost.step > 0.0
    # The input of the last layer, in float32, and the mask of torch.nn's CPU dropout.
    assert cost.saved_dropout == 4 * 32 * 4096
    assert cost.saved_adopted < cost.saved_dropout / 100
    assert cost.saved >= 2 * cost.saved_dropout
    assert "Measured on this machine" in str(report)
    assert "is adopted already" in str(tt.audit(adopted(model), batch()))
    assert model[1].site.name == "1"


def test_the_cost_of_functional_dropout_is_measured():
    model = body(lambda self, h: F.dropout(h, 0.5, self.training), width=4096)
    cost = tt.audit(model, batch()).cost
    # Both keep what comes out of it, for the next layer; torch.nn's the mask besides.
    assert cost.saved_dropout == 2 * 4 * 32 * 4096
    assert cost.saved_adopted == 4 * 32 * 4096


def test_a_model_that_cannot_be_copied_has_no_cost():
    model = mlp()
    model.lock = threading.Lock()
    assert "cannot be copied" in str(tt.audit(model, batch()))


def test_a_loss_is_taken_and_checked():
    assert tt.audit(mlp(), batch(), loss=lambda y: y.square().mean(), measure=False).clean
    with pytest.raises(TypeError, match=r"^audit: loss\(output\) must be a scalar tensor, got"):
        tt.audit(mlp(), batch(), loss=lambda y: y, measure=False)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"steps": 1}, r"^audit: steps must be an integer in \[2, "),
        ({"batch_axis": -1}, r"^audit: batch_axis must be an integer in \[0, "),
    ],
)
def test_options_out_of_range_are_refused(options, error):
    with pytest.raises(ValueError, match=error):
        tt.audit(mlp(), batch(), **options)
    with pytest.raises(TypeError, match=r"^audit: model must be a torch.nn.Module, got func"):
        tt.audit(lambda x: x, batch())


def test_time_in_front_is_no_shared_mask():
    """Locked dropout: one draw for all times, another for each row."""

    def locked(self, x):
        return F.dropout(torch.ones(1, *x.shape[1:]), 0.5, self.training) * x

    model = type("Locked", (nn.Module,), {"forward": locked})()
    x = torch.randn(10, 32, 8)
    assert kinds(model, x) == []
    assert kinds(model, x, batch_axis=1) == []
    assert kinds(transformer(batch_first=False), batch(64), batch_axis=1) == []


def test_as_many_channels_as_rows():
    """A mask (1, C, H, W) of pictures is one for all, also where C is the number of rows."""

    class Shared(nn.Module):
        p = 0.5

        def forward(self, x):
            if not self.training:
                return x
            return x * (torch.rand(1, *x.shape[1:]) > self.p) / (1 - self.p)

    for channels in (6, 8):
        model = nn.Sequential(nn.Conv2d(3, channels, 3), Shared())
        assert kinds(model, torch.randn(8, 3, 9, 9)) == [("1", "one mask for the batch")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_parts_are_run_uncompiled():
    model = nn.Sequential(torch.compile(mlp(), backend="eager"), nn.Linear(4, 4))
    assert [row.site for row in ran(model).sites] == ["0.2"]
    assert [row.site for row in ran(torch.compile(mlp())).sites] == ["2"]


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "guarded attention"])
def test_clean_models_are_clean_on_a_gpu(name):
    model, x = CLEAN[name]().cuda(), batch().cuda()
    torch.manual_seed(11)  # as `kinds` does
    state = torch.cuda.get_rng_state()
    assert kinds(model, x) == []
    assert torch.equal(torch.cuda.get_rng_state(), state)


# ----------------------------------------------------------------------------------- planted faults


def test_fault_hooks_alone_miss_functional_calls(monkeypatch):
    monkeypatch.setattr(Observer, "_operation", lambda *_: None)
    for name in ("call without training", "unguarded attention", "before BatchNorm"):
        with pytest.raises(AssertionError):
            test_a_planted_mistake_is_found_and_nothing_else(name)


FAULTS = [
    # (where, what, instead, a test that must notice)
    (observer, "_in_backward", lambda: False, "recompute without the state"),
    (rated, "_unlikely", lambda *_: False, "p to keep, by uniforms"),
    (rated, "_unlikely", lambda *_: True, "call without training"),
    (observer, "same_rows", lambda *_: False, "a mask of features"),
    (observer, "same_rows", lambda *_: True, "call without training"),
    (masked, "LIKELY", -1e9, "a seed in forward"),
    (draws, "_chance", lambda *_: 0.0, "one mask at two calls"),
    (observer, "NORMALISING", frozenset(), "before BatchNorm"),
    (behind, "_SHIFT", 10.0, "before BatchNorm, a layer between"),
    (dropping_all, "_is_one", lambda _: False, "the mode as p"),
    (scale, "_UNIFORM", frozenset(), "a mask without its scale"),
    (expectation, "_on_purpose", lambda *_: True, "a mask without its scale"),
    (audit, "_interrupted", lambda *_: None, "modes after an exception"),
    (evaluated, "_differing", lambda _: {}, "NumPy's noise"),
]


@pytest.mark.parametrize(
    ("where", "what", "instead", "name"), FAULTS, ids=[f"{f[1]}-{f[3]}" for f in FAULTS]
)
def test_fault(monkeypatch, where, what, instead, name):
    monkeypatch.setattr(where, what, instead)
    with pytest.raises(AssertionError):
        test_a_planted_mistake_is_found_and_nothing_else(name)
