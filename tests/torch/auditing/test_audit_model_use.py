"""Misused dropout: each wrong model has its one finding, and its right twin has none."""

import pytest
import torch
from misused import PAIRS, RIGHT
from planted import body
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned.torch as tt
from thinned.torch.auditing import arguments, rated, uses
from thinned.torch.auditing.uses import Uses

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


def test_an_audit_leaves_misused_models_as_they_were():
    for name in ("p set in evaluation", "p of modules", "a switch", "a gradient"):
        _, _, make, inputs = PAIRS[name]
        model, x = built(make, False), inputs()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        held = {m: {k: v for k, v in m.__dict__.items() if type(v) in (bool, float)}
                for m in model.modules()}  # fmt: skip
        state = torch.get_rng_state()
        tt.audit(model, x, measure=False)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        for module, was in held.items():
            assert {k: module.__dict__[k] for k in was} == was


def test_a_model_without_source_is_audited_all_the_same():
    """What is typed at a prompt has no file to read."""
    table = {}
    exec(
        "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(8, 8)\n"
        "    def forward(self, x):\n"
        "        x = self.fc(x)\n"
        "        F.dropout(x, 0.5, self.training)\n"
        "        return x + F.dropout(x, 0.5, self.training, inplace=True)\n",
        table,
    )
    assert found(table["Net"](), torch.randn(32, 8)) == [("/dropout", "result thrown away")]


def test_a_loss_that_takes_dropped_scores():
    model = torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.Dropout(0.5))
    labels = torch.zeros(32, dtype=torch.long)

    def loss(scores):
        return torch.nn.functional.cross_entropy(scores, labels)

    report = tt.audit(model, torch.randn(32, 8), loss=loss, measure=False)
    assert [(f.site, f.kind) for f in report.findings] == [("1", "dropout on logits")]
    assert found(model, torch.randn(32, 8)) == []  # a part of a network may end so


@pytest.mark.parametrize("last", [torch.nn.Softmax(1), torch.nn.LogSoftmax(1)])
def test_chances_that_are_dropped_after_the_softmax(last):
    chances = torch.nn.Sequential(torch.nn.Linear(8, 5), last, torch.nn.Dropout(0.5))
    assert found(chances, torch.randn(32, 8)) == [("2", "dropout on logits")]
    gate = torch.nn.Sequential(torch.nn.Linear(8, 8), last, torch.nn.Dropout(0.5))
    assert found(gate, torch.randn(32, 8)) == []  # as wide as its input: weights of it, it may be


FAULTS = [
    (Uses, "touched", lambda *_: None, "keep_prob"),
    (Uses, "finish", lambda *_: None, "a statement"),
    (uses, "memory_of", lambda _: 0, "a name that is not read"),
    (uses, "reused", lambda _: None, "a sum"),
    (uses, "_wrong_axes", lambda *_: "", "words"),
    (uses, "names_of", lambda _: frozenset(), "keep_prob"),
    (arguments, "_OWN", ("",), "an argument"),
]


@pytest.mark.parametrize(
    ("where", "what", "instead", "name"), FAULTS, ids=[f"{f[1]}-{f[3]}" for f in FAULTS]
)
def test_fault(monkeypatch, where, what, instead, name):
    monkeypatch.setattr(where, what, instead)
    with pytest.raises(AssertionError):
        test_the_wrong_model_has_its_finding_and_no_other(name)


def test_fault_blocks_of_one_class_are_taken_one_by_one(monkeypatch):
    monkeypatch.setattr(rated, "_called_in_another", lambda *_: set())
    with pytest.raises(AssertionError):
        test_right_models_that_look_wrong_have_none("blocks of two kinds")


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("no gradient of this")


def test_a_backward_pass_that_fails_is_the_models_own_only_with_its_loss():
    class Net(torch.nn.Linear):
        def forward(self, x):
            return NoGradient.apply(super().forward(x))

    model, x = Net(8, 4), torch.randn(32, 8)
    with pytest.warns(UserWarning, match="raised NotImplementedError"):
        assert tt.audit(model, x, measure=False).clean
    with pytest.raises(NotImplementedError, match="no gradient of this"):
        tt.audit(model, x, loss=torch.sum, measure=False)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_layers_get_their_weights_and_nothing_else_changes():
    model = torch.nn.Sequential(
        torch.nn.LazyLinear(8), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(8)
    )
    x, before = torch.randn(16, 4), torch.get_rng_state()
    report = tt.audit(model, x, measure=False)
    assert [finding.kind for finding in report.findings] == ["feeds BatchNorm"]
    assert model[0].weight.shape == (8, 4)
    assert model.training
    assert model[1].training
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(model[2].running_mean, torch.zeros(8))


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_a_scripted_model_is_audited_by_what_it_draws():
    plain = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Dropout(0.5))
    report = tt.audit(torch.jit.script(plain), torch.randn(64, 8), measure=False)
    assert report.clean
    assert [(site.p, site.drawn) for site in report.sites] == [(0.5, 8192)]


def test_noise_that_a_model_samples_by_design_may_stay():
    model = body(lambda self, h: h + torch.randn_like(h))
    finding, *_ = tt.audit(model, torch.ones(16, 8), measure=False).findings
    assert "A model that samples by design" in finding.mend
    finding, *_ = tt.audit(
        body(lambda self, h: F.dropout(h)), torch.ones(16, 8), measure=False
    ).findings
    assert "training=self.training" in finding.mend


class Transformed(torch.nn.Module):
    """A model that calls its layers under a transform of torch.func."""

    def __init__(self, call):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(5, 10), torch.nn.Tanh(), torch.nn.Dropout(0.25), torch.nn.Linear(10, 1)
        )
        self.call = call

    def forward(self, x):
        return self.call(self.layers, x)


def _slopes(f, x):
    parameters = dict(f.named_parameters())
    called = torch.func.functional_call
    given = torch.func.grad(lambda p: called(f, p, (x,)).sum())(parameters)
    return sum(slope.abs().sum() for slope in given.values())


TRANSFORMS = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,))[1],
    "grad": _slopes,
    "jacrev": lambda f, x: torch.func.jacrev(f)(x).sum((1, 2)),
    "vmap": lambda f, x: torch.func.vmap(lambda row: F.dropout(f(row), 0.5), randomness="same")(x),
    "vmap, different": lambda f, x: torch.func.vmap(f, randomness="different")(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("measure", [False, True])
def test_what_transforms_wrap_up_is_left_alone(name, measure):
    torch.manual_seed(0)
    model = Transformed(TRANSFORMS[name])
    report = tt.audit(model, torch.randn(4, 5), measure=measure)
    expected = ["drops in evaluation", "one mask for the batch"] if name == "vmap" else []
    assert [finding.kind for finding in report.findings] == expected
    assert "layers.2" in {row.site for row in report.sites}
