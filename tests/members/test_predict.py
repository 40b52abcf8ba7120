"""predict: whose masks are drawn, what is woken, and that nothing else moves."""

import copy

import numpy as np
import pytest
import torch
from methods.garden import MODULES, beds, module
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import thinned
from thinned.members import Prediction, mc_mode, predict
from thinned.members.prefix import Prefix
from thinned.torch import adopt, release
from thinned.torch.clock import members

from .models import Everything, Masks, Merged, OnSecondAxis, OnWeight, everything, rows

SHARES = ("member", "row")


def outputs(model, x, **how):
    return predict(model, x, members=4, keep=True, execution="elementwise", **how).outputs


# ---------------------------------------------------------------------------------- whose masks


def test_member_k_has_the_masks_of_its_address():
    got = outputs(Masks(0.3), rows(6), seed=5)
    ours = outputs(Masks(0.3), rows(6), seed=5, share="row")
    for k in range(4):
        at = thinned.Address(seed=5, site="drop").fold_in(k)
        np.testing.assert_array_equal(got[k] > 0, thinned.keep_mask((6, 8), 0.3, at, (0,)))
        np.testing.assert_array_equal(ours[k] > 0, thinned.keep_mask((6, 8), 0.3, at))


def test_members_under_a_mode_are_those_without():
    expected = outputs(Masks(0.3), rows(6), seed=5)
    with FlopCounterMode(display=False):
        got = outputs(Masks(0.3), rows(6), seed=5)
    np.testing.assert_array_equal(got, expected)


def test_antithetic_members_are_each_others_mirror():
    for share, shared in (("member", (0,)), ("row", ())):
        got = outputs(Masks(0.3), rows(6), seed=5, share=share, antithetic=True)
        for k in range(4):
            at = thinned.Address(seed=5, site="drop").fold_in(k // 2)
            mask = thinned.keep_mask((6, 8), 0.3, at, shared, mirror=k % 2 == 1)
            np.testing.assert_array_equal(got[k] > 0, mask)
    half = outputs(Masks(0.5), rows(6), antithetic=True)
    assert ((half[0] > 0) == ~(half[1] > 0)).all()


def check_batching(model, x, share):
    """Masks to the bit; numbers to the rounding of a product of another size."""
    whole = outputs(model, x, share=share)
    for size in (1, 3, 4):
        np.testing.assert_allclose(
            outputs(model, x, share=share, batch_size=size), whole, atol=2e-6
        )


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("make", [Everything, OnSecondAxis, Merged, OnWeight])
def test_a_pool_does_not_depend_on_how_it_is_batched(make, share):
    torch.manual_seed(0)
    x = rows(10, 5, 8) if make is OnSecondAxis else rows(10)
    check_batching(make(), x, share)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_of_the_catalogue_can_be_asked(name, share):
    arrays = beds([name])[name]
    n = len(arrays[0])
    rowed = [a for a in arrays if a.dim() and len(a) == n]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = module(MODULES[name])

        def forward(self, *given):
            rest = iter(given)
            return self.drop(*(next(rest) if any(a is r for r in rowed) else a for a in arrays))

    whole = outputs(Net(), tuple(rowed), share=share)
    for size in (1, 2):
        got = outputs(Net(), tuple(rowed), share=share, batch_size=size)
        np.testing.assert_allclose(got, whole, atol=2e-6)
    if share == "member":
        alike = tuple(a[:1].expand_as(a).clone() for a in rowed)
        one = outputs(Net(), alike)
        np.testing.assert_allclose(one, np.broadcast_to(one[:, :1], one.shape), atol=2e-6)
    mirrored = outputs(Net(), tuple(rowed), share=share, antithetic=True)
    assert not np.array_equal(mirrored[0], mirrored[1])


def test_a_members_rows_do_not_depend_on_their_order():
    model, x = everything(), rows(10)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(
        outputs(model, x[order]), outputs(model, x)[:, order.numpy()], atol=1e-6
    )


def test_an_adopted_model_answers_as_one_that_is_not():
    plain, adopted = everything(), everything()
    adopt(adopted, seed=99)
    for share in SHARES:
        how = {"share": share, "seed": 3}
        np.testing.assert_array_equal(
            outputs(plain, rows(), **how), outputs(adopted, rows(), **how)
        )
    assert not np.array_equal(outputs(plain, rows(), seed=4), outputs(plain, rows(), seed=3))


def test_a_schedules_p_is_that_of_now():
    model = Masks()
    clock = adopt(model, schedule={"drop": lambda step, steps: 0.1 + 0.2 * step}, steps=4).clock
    for _ in range(2):
        clock.tick()
    at = thinned.Address(seed=0, site="drop").fold_in(1)
    mask = thinned.keep_mask((6, 8), 0.5, at, (0,))
    np.testing.assert_array_equal(outputs(model, rows(6))[1] > 0, mask)


# ----------------------------------------------------------------------------------- what is woken


class Attends(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden

    def forward(self, x):
        p = 0.5 if self.training or not self.hidden else 0.0
        y = functional.scaled_dot_product_attention(x, x, x, dropout_p=p)
        return functional.dropout(y, 0.1, self.training)


class AsksItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        if self.training:
            x = functional.dropout(x, 0.5)
        return self.drop(x)


class FromGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x + torch.rand(x.shape[1:]))


def test_attention_of_every_form_is_awake():
    x = rows(6, 5, 8)
    layers = [
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True),
        nn.TransformerDecoderLayer(8, 2, 16, dropout=0.3, batch_first=True),
    ]
    for layer in layers:
        layer.dropout.p = layer.dropout1.p = layer.dropout2.p = 0.0  # attention alone
        memory = (x,) if isinstance(layer, nn.TransformerDecoderLayer) else ()
        answer = predict(layer, (x, *memory), members=4)
        assert answer.std.min() > 0
        assert answer.not_reached == ()
    for model in (Attends(hidden=False), Attends(hidden=True), AsksItself()):
        assert predict(model, x, members=4).not_reached == ()


def test_what_cannot_be_woken_is_named():
    x = rows(6, 5, 8)
    state = torch.get_rng_state()
    told = predict(FromGenerator(), x, members=4).not_reached
    assert "rand" in told[0]
    assert "PyTorch's generator" in told[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert predict(everything(), rows(), members=4).not_reached == ()


@pytest.mark.parametrize(
    "model",
    [nn.Linear(8, 2), nn.Sequential(nn.Linear(8, 2), nn.Dropout(0.0))],
    ids=["without", "at 0"],
)
def test_equal_members_are_an_error_and_no_zero_variance(model):
    with pytest.raises(ValueError, match=r"^predict: all .*members"):
        predict(model, rows(), until=0.01)


# ------------------------------------------------------------------------------- nothing else moves


def state_of(model):
    """All that a question must leave alone."""
    modules = [
        (m.training, type(m), sorted(m.__dict__), m.__dict__.get("forward"))
        for m in model.modules()
    ]
    hooks = [len(m._load_state_dict_pre_hooks) for m in model.modules()]
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    versions = [t._version for t in (*model.parameters(), *model.buffers())]
    return (
        modules, hooks, tensors, versions, torch.get_rng_state(),
        torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled(),
    )  # fmt: skip


def require_same(before, after):
    for one, other in zip(before, after, strict=True):
        if isinstance(one, dict):
            assert list(one) == list(other)
            assert all(torch.equal(one[k], other[k]) for k in one)
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other


def check_untouched(adopted):
    model = everything()
    model.train()
    model.norm.eval()  # a flag of its own
    model.second.eval()
    if adopted:
        adopt(model, seed=4).clock.tick()
        model(rows())
    before = state_of(model)
    predict(model, rows(), members=3)
    predict(model, rows(), members=3, share="row", batch_size=4)
    require_same(before, state_of(model))

    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, rows(), members=3, progress=stop)
    require_same(before, state_of(model))
    with pytest.raises(RuntimeError):
        predict(model, rows(10, 7), members=3)
    require_same(before, state_of(model))
    if adopted:
        clock = model.drop.site.clock
        assert (clock.seed, clock.step, clock.awake) == (4, 1, None)
        assert clock.drawn(model.drop.site.index) == 1
        release(model)


@pytest.mark.parametrize("adopted", [False, True])
def test_all_is_as_before(adopted):
    check_untouched(adopted)


def test_a_training_run_goes_on_as_if_nobody_had_asked():
    def trained(ask):
        model = everything()
        report = adopt(model, seed=1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            loss = model(rows()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if ask:
                predict(model, rows(4), members=2)
            optimizer.step()
            report.clock.tick()
        return model.state_dict()

    one, other = trained(False), trained(True)
    assert all(torch.equal(one[k], other[k]) for k in one)


# ------------------------------------------------------------------------------------- the prefix


class Counting(nn.Linear):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def test_the_prefix_runs_once_a_batch_with_the_weights_of_now():
    torch.manual_seed(0)
    model = nn.Sequential(Counting(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    Counting.calls = 0
    answer = predict(model, rows(), members=8, batch_size=5, execution="elementwise")
    # Two looks at few rows, a row beside another and alone; the first forward of all, looked at;
    # then once for each batch.
    assert Counting.calls == 2 + 2 + 1 + 2
    assert answer.prefix == ("0", "1")
    check_fresh_prefix(model)


def check_fresh_prefix(model):
    before = outputs(model, rows())
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    after = outputs(model, rows())
    by_hand = outputs(copy.deepcopy(model), rows())
    np.testing.assert_array_equal(after, by_hand)
    assert not np.allclose(after, before)
    # Another batch is another prefix.
    np.testing.assert_allclose(outputs(model, rows(), batch_size=3), after, atol=1e-6)


class InPlace(nn.Module):
    """What stands before the first draw is written into behind it; the input too."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)
        self.drop, self.last = nn.Dropout(0.5, inplace=True), nn.Linear(8, 2)

    def forward(self, x):
        x += 1.0
        y = self.act(self.first(x))
        return self.last(self.drop(y))


def test_what_is_written_in_place_is_no_stale_prefix(monkeypatch):
    torch.manual_seed(0)
    model, x = InPlace(), rows()
    kept = x.clone()
    got = outputs(model, x)
    assert torch.equal(x, kept)
    monkeypatch.setattr(Prefix, "_keep", lambda *_: None)
    np.testing.assert_array_equal(outputs(model, x), got)


# --------------------------------------------------------------------------------- planted faults


def test_a_question_put_to_the_model_itself_is_caught(monkeypatch):
    def itself(model):
        if "thinned_adoption" not in model.__dict__:
            adopt(model)
        return model

    monkeypatch.setattr(mc_mode, "adopted_twin", itself)
    with pytest.raises(AssertionError):
        check_untouched(False)


def test_a_batchnorm_that_is_awake_is_caught(monkeypatch):
    monkeypatch.setattr(mc_mode, "_drops", lambda module: True)
    with pytest.raises((AssertionError, ValueError)):
        check_batching(everything(), rows(), "member")


@pytest.mark.parametrize("share", SHARES)
def test_masks_by_place_in_the_batch_are_caught(monkeypatch, share):
    monkeypatch.setattr(members.Awake, "_window", lambda *_: None)
    with pytest.raises((AssertionError, RuntimeError)):
        check_batching(everything(), rows(), share)


def test_a_prefix_kept_for_another_batch_is_caught(monkeypatch):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def kept(self):
        self._recording = True

    monkeypatch.setattr(Prefix, "batch", kept)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        check_fresh_prefix(model)


# ---------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"members": 1}, ValueError, r"^predict: members must be an integer in \[2"),
        ({"members": 2**31}, ValueError, r"^predict: members must be an integer in \[2"),
        ({"members": 5, "antithetic": True}, ValueError, "members must be even"),
        ({"share": "rows"}, ValueError, "share must be 'member', 'row' or 'sequence'"),
        ({"task": "classes"}, ValueError, "task must be one of"),
        ({"until": 0.0}, ValueError, "until must be positive"),
        ({"until": "0.1"}, TypeError, "until must be a number"),
        ({"quantiles": (0.5, 2.0)}, ValueError, "a quantile must be a float"),
        ({"quantiles": np.array("a")}, TypeError, "a quantile must be a float"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"execution": "fast"}, ValueError, "execution must be"),
        ({"task": "mean_variance"}, TypeError, r"the output must be \(mean, variance\)"),
        ({"task": "probabilities"}, ValueError, "the output must be probabilities"),
        ({"output": lambda y: None}, TypeError, "the model's result must be a tensor"),
        ({"output": lambda y: y[:2]}, ValueError, "the model's result must be of 10 rows"),
        ({"execution": "thin", "share": "row"}, ValueError, "share must be 'member'"),
    ],
)
def test_what_is_wrong_is_said(how, error, text):
    with pytest.raises(error, match=text):
        predict(everything(), rows(), **how)


def test_wrong_models_and_inputs_are_said():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        predict(object(), rows())
    with pytest.raises(TypeError, match="x must be a tensor"):
        predict(everything(), [1.0, 2.0])
    with pytest.raises(ValueError, match="as many rows each"):
        predict(everything(), (rows(3), rows(4)))
    with pytest.raises(ValueError, match="at least one row"):
        predict(everything(), torch.empty(0, 8))
    both = nn.Sequential(everything(), everything())
    adopt(both[0])
    adopt(both[1])
    with pytest.raises(ValueError, match="two parts of the model"):
        predict(both, rows())


def test_numpy_dicts_and_results_of_other_kinds():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, a, b):
            return {"sum": self.drop(a) + b}

    x = np.ones((4, 3))
    answer = predict(Named(), {"a": x, "b": x}, members=4, output=lambda y: y["sum"])
    assert isinstance(answer, Prediction)
    assert answer.mean.shape == (4, 3)
    assert len(answer) == 4
    done = []
    predict(everything(), rows(), members=3, batch_size=4, progress=lambda *a: done.append(a))
    assert done == [(i + 1, 9) for i in range(9)]


class Longer(nn.Module):
    """As long an answer as what was dropped says, as a model that speaks has it."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        kept = int((self.drop(torch.ones(1, 64)) > 0).sum())
        return self.drop(x).sum(1, keepdim=True).expand(-1, kept)


def test_members_whose_answers_have_several_shapes_are_an_error_that_says_what_to_do():
    told = r"results must be of one shape, got \(10, \d+\) and \(10, \d+\)\. Pass output="
    with pytest.raises(ValueError, match=told):
        predict(Longer(), rows(), members=8)
    assert predict(Longer(), rows(), members=8, output=lambda y: y[:, 0]).mean.shape == (10,)


class Overwriting(nn.Module):
    """Gives the same tensor each time."""

    def __init__(self):
        super().__init__()
        self.drop, self.given = nn.Dropout(0.5), torch.empty(0)

    def forward(self, x):
        y = self.drop(x)
        self.given = y.clone() if self.given.shape != y.shape else self.given.copy_(y)
        return self.given


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_member_answered_is_kept_where_the_next_one_writes_over_it(dtype):
    x = rows().to(dtype)
    kept = outputs(Overwriting(), x)
    masks = outputs(Masks(), x)
    np.testing.assert_allclose(kept, masks * x.numpy(), rtol=1e-6)


class Forces(nn.Module):
    """Minus the gradient of an energy, of which the layer in front of the dropout has a part."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(
            nn.Linear(8, 8), nn.Softplus(), nn.Dropout(0.5), nn.Linear(8, 1)
        )

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x)[0]


def test_members_of_a_model_that_differentiates_itself():
    torch.manual_seed(0)
    model = Forces()
    x = rows(6)
    got = outputs(model, x, seed=5)
    for k in range(4):
        at = thinned.Address(seed=5, site="energy.2").fold_in(k)
        mask = torch.as_tensor(thinned.keep_mask((6, 8), 0.5, at, (0,))) * 2.0
        z = x.clone().requires_grad_()
        first, _, _, last = model.energy
        energy = last(functional.softplus(first(z)) * mask).sum()
        forces = -torch.autograd.grad(energy, z)[0]
        np.testing.assert_allclose(got[k], forces.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", SHARES)
def test_members_of_an_encoder_whose_rows_are_no_rows_of_attention(share):
    """Positions first, as in PyTorch's own tutorial: what lies on attention's axis of rows is the
    other axis of the input, and does not grow with the rows at hand."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.5)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    x = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(1))
    p = predict(model, x, members=4, share=share)
    assert p.mean.shape == (6, 3, 8)
    assert p.std.min() > 0


class Experts(nn.Module):
    """A mixture: each expert takes the rows that the gate sends it."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(8, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(3)
        )

    def forward(self, x):
        sent, y = self.gate(x).argmax(-1), torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            y[sent == k] = expert(x[sent == k])
        return y


def test_members_of_a_mixture_of_experts_are_those_of_one_row_at_a_time():
    torch.manual_seed(0)
    model = Experts()
    with pytest.raises(RuntimeError, match=r"cannot be said. Pass batch_size=1"):
        predict(model, rows(7), members=4)
    got = outputs(model, rows(7), batch_size=1)
    assert (got == outputs(model, rows(7)[:3], batch_size=1)[0, 0]).all(-1)[0, 0]
    assert got.std(0).min() >= 0
    sent = model.gate(rows(7)).argmax(-1)
    for k in range(4):
        for row, expert in enumerate(sent.tolist()):
            at = thinned.Address(seed=0, site=f"experts.{expert}.1").fold_in(k)
            mask = torch.as_tensor(thinned.keep_mask((1, 8), 0.5, at, (0,))) * 2.0
            expected = model.experts[expert][0](rows(7)[row]) * mask
            np.testing.assert_allclose(got[k, row], expected[0].detach(), rtol=1e-6)
