"""adopt: what it reaches, what it names as not reached, what it refuses; release undoes it."""

import copy
import inspect
import pickle
import types
import zlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
import thinned.torch
from thinned.torch import adopt, release
from thinned.torch.clock.clock import BUFFER


def kept(shape, p, site, call=0, seed=0, shared_axes=()):
    at = thinned.Address(seed, site, call=call)
    return thinned.keep_mask(tuple(shape), p, at, shared_axes=shared_axes, like=torch.ones(1))


class Calling(nn.Module):
    """A module whose forward is the function given."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args):
        return self.function(self, *args)


class Gate(nn.Module):
    def __init__(self, function=F.dropout, p=0.3):
        super().__init__()
        self.function, self.p = function, p

    def forward(self, x):
        return self.function(x, self.p, self.training)


class Functional(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.3, self.training)


def rewind(clock):
    """To the beginning of step 0."""
    clock.tick()
    clock.buffer[2] = 0


KINDS = [
    ("Dropout", (6, 5), ()),
    ("Dropout1d", (6, 5, 4), (2,)),
    ("Dropout1d", (5, 4), (1,)),
    ("Dropout2d", (6, 5, 4, 3), (2, 3)),
    ("Dropout3d", (6, 5, 4, 3, 2), (2, 3, 4)),
    ("Dropout3d", (5, 4, 3, 2), (1, 2, 3)),
]


@pytest.mark.parametrize("library", [nn, thinned.torch], ids=["nn", "thinned"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "shape", "shared"), KINDS, ids=str)
def test_every_dropout_module(library, name, shape, shared, inplace):
    model = nn.Sequential(nn.Identity(), getattr(library, name)(0.4, inplace))
    print(adopt(model, seed=5))
    x = torch.ones(shape, requires_grad=True)
    for call in range(2):
        given = x.clone()
        y = model(given)
        keep = kept(shape, 0.4, "1", call, 5, shared)
        assert torch.equal(y, torch.where(keep, torch.tensor(1 / 0.6), 0.0))
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(grad, y)
        assert torch.equal(given, y) == inplace


@pytest.mark.parametrize(
    ("name", "shape"), [("AlphaDropout", (6, 5)), ("FeatureAlphaDropout", (6, 5, 3))]
)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_alpha_dropout_is_the_function_at_the_address(name, shape, p, dtype):
    model = nn.Sequential(getattr(nn, name)(p))
    adopt(model)
    x = torch.randn(shape, dtype=dtype)
    function = {"AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout"}[
        name
    ]
    at = thinned.Address(site="0")
    wanted = getattr(thinned.torch.functional, function)(x, p, True, at=at)
    assert torch.equal(model(x), wanted)


def test_rank_checks_and_warnings_stay():
    model = nn.Sequential(nn.Dropout2d(0.5))
    adopt(model)
    with pytest.warns(UserWarning, match="dropout2d: a 3-D input"):
        model(torch.ones(2, 3, 4))
    with pytest.raises(TypeError, match=r"x|input"):
        model(torch.ones(2, 3, 4, 5, dtype=torch.int32))


def test_p_is_checked_and_can_change():
    model = nn.Sequential(nn.Dropout(0.5))
    adopt(model)
    model[0].p = 0.25
    assert torch.equal(model(torch.ones(8, 8)) != 0, kept((8, 8), 0.25, "0"))
    with pytest.raises(ValueError, match=r"p must be a float in \[0, 1\], got 50. Did you pass"):
        model[0].p = 50
    assert repr(model[0]) == "Dropout(p=0.25, inplace=False, site='0')"
    release(model)
    assert repr(model[0]) == "Dropout(p=0.25, inplace=False)"


# -------------------------------------------------------------------------------- names and sharing


def test_one_module_called_several_times():
    """As Hugging Face models do: one self.dropout for all places."""
    model = Calling(
        lambda m, x: (m.dropout(x), m.dropout(x), m.dropout(x)), dropout=nn.Dropout(0.5)
    )
    adopt(model)
    x = torch.ones(16, 16)
    for call, y in enumerate((*model(x), *model(x))):
        assert torch.equal(y != 0, kept(x.shape, 0.5, "dropout", call))


def test_a_module_under_two_names_is_one_site():
    shared = nn.Dropout(0.5)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
    report = adopt(model)
    assert report.sites == ("a.0",)
    assert report.rows[0].done == "addressed, shared with b.0"
    x = torch.ones(8, 8)
    assert torch.equal(model["a"](x) != 0, kept(x.shape, 0.5, "a.0"))
    assert torch.equal(model["b"](x) != 0, kept(x.shape, 0.5, "a.0", call=1))


def wrappers():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.optim.swa_utils import AveragedModel

    return {
        "compile": lambda m: torch.compile(m, backend="eager"),
        "DataParallel": nn.DataParallel,
        "AveragedModel": AveragedModel,
        "checkpoint": checkpoint_wrapper,
        "two": lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
    }


@pytest.mark.parametrize("name", wrappers())
def test_wrappers_leave_no_trace_in_names(name):
    inner = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), Functional())
    inner[0] = wrappers()["checkpoint"](inner[0])
    model = wrappers()[name](inner)
    report = adopt(model)
    assert report.sites == ("0.1", "1/dropout")
    assert [key for key in model.state_dict() if key.endswith(BUFFER)]
    release(model)


def test_a_child_called_module_keeps_its_name():
    model = nn.Sequential()
    model.add_module("module", nn.Sequential(nn.Dropout(0.5)))
    assert adopt(model).sites == ("module.0",)


def colliding():
    """Two names with one CRC-32, found by search."""
    return "plumless", "buckeroo"


def test_names_that_collide_are_an_error_and_change_nothing():
    one, two = colliding()
    assert zlib.crc32(one.encode()) == zlib.crc32(two.encode())
    model = nn.ModuleDict({one: nn.Dropout(0.5), two: nn.Dropout(0.5)})
    before = copy.deepcopy(model.__dict__)
    with pytest.raises(ValueError, match="'plumless' and 'buckeroo' have the same 32-bit number"):
        adopt(model)
    assert type(model[one]) is nn.Dropout
    assert model.__dict__.keys() == before.keys()
    assert not model.state_dict()


# --------------------------------------------------------------------------------- functional calls


@pytest.mark.parametrize(
    "call",
    [
        lambda x, m: F.dropout(x, 0.3, m.training),
        lambda x, m: F.dropout(x, p=0.3, training=m.training, inplace=False),
        lambda x, m: torch.dropout(x, 0.3, m.training),
        lambda x, m: torch.dropout(x, p=0.3, train=m.training),
        lambda x, m: F.dropout(x.clone(), 0.3, True, True),
        lambda x, m: nn.functional.dropout(x, 0.3),
    ],
)
def test_functional_dropout(call):
    inner = Calling(lambda m, x: call(x, m))
    model = nn.Sequential(inner, nn.Dropout(0.0))
    adopt(model)
    x = torch.ones(16, 16)
    for number in range(2):
        assert torch.equal(model(x) != 0, kept(x.shape, 0.3, "0/dropout", number))


def test_functional_kinds_and_training_false():
    model = nn.Sequential(Calling(lambda m, x: (
        F.dropout2d(x, 0.3), F.dropout(x, 0.3, False), F.alpha_dropout(x, 0.3), F.dropout(x, 0.0)
    )), nn.Identity(), nn.Dropout(0.5))  # fmt: skip
    adopt(model)
    x = torch.ones(4, 5, 6, 6)
    two, *same = model[0](x)
    assert torch.equal(two != 0, kept(x.shape, 0.3, "0/dropout", shared_axes=(2, 3)))
    assert all(torch.equal(y, x) for y in same)


def drop_path(x, p, training):
    """As timm writes it."""
    if p == 0.0 or not training:
        return x
    keep = 1 - p
    gate = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
    return x * gate.div_(keep)


class DropPath(nn.Module):
    def forward(self, x):
        return drop_path(x, 0.4, self.training)


def test_functional_drop_path():
    model = nn.Sequential(DropPath())
    report = adopt(model)
    assert report.rows[0][:4] == ("0/dropout", "DropPath", None, "calls of bernoulli_ addressed")
    x = torch.ones(64, 3, 4)
    keep = kept((64, 1, 1), 1 - (1 - 0.4), "0/dropout").expand(x.shape)
    torch.testing.assert_close(model(x), keep / 0.6)
    assert 0 < keep.float().mean() < 1


def test_the_innermost_module_names_the_site():
    outer = Calling(lambda m, x: (F.dropout(x, 0.3), m.inner(x)), inner=Functional())
    adopt(outer)
    x = torch.ones(16, 16)
    a, b = outer(x)
    assert torch.equal(a != 0, kept(x.shape, 0.3, "/dropout"))
    assert torch.equal(b != 0, kept(x.shape, 0.3, "inner/dropout"))


class Attends(nn.Module):
    def forward(self, q, k, v, **how):
        p = 0.3 if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=p, **how)


@pytest.mark.parametrize(
    "how", [{}, {"is_causal": True}, {"scale": 0.2}, {"enable_gqa": True}], ids=str
)
def test_functional_attention(how):
    model = Attends()
    assert adopt(model).sites == ("/dropout",)
    q = torch.randn(2, 4, 5, 8)
    k, v = torch.randn(2, 2, 2 if "enable_gqa" in how else 4, 5, 8)
    eye = torch.eye(5).expand(*v.shape[:-1], 5)
    weights = F.scaled_dot_product_attention(q, k, eye, **how)
    keep = kept((2, 4, 5, 5), 0.3, "/dropout")
    heads = v.repeat_interleave(4 // v.shape[1], 1)
    torch.testing.assert_close(model(q, k, v, **how), (weights * keep / 0.7) @ heads)


def test_what_is_not_reached_is_named():
    class Old(nn.Module):
        def forward(self, x):
            return x * torch.rand(x.shape[0], 1)

    class Ours(nn.Module):
        def forward(self, x):
            return thinned.torch.functional.dropout(x, 0.5, self.training)

    report = adopt(nn.Sequential(Old(), Ours(), nn.Dropout(0.5)))
    assert [row.site for row in report.not_reached] == ["0/dropout", "1/dropout"]
    assert "not reached: rand draws from a generator" in str(report)
    assert "thinned.torch.functional" in str(report)
    assert report.sites == ("2",)


# ------------------------------------------------------------------------------- recurrent modules


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"batch_first": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_networks(kind, options, packed):
    torch.manual_seed(0)
    net = kind(4, 6, num_layers=3, dropout=0.5, **options)
    model = nn.Sequential(net)
    x = torch.randn(5, 3, 4)
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor([3, 3, 2, 1, 1] if "batch_first" in options else [5, 3, 2]),
            batch_first="batch_first" in options,
        )  # fmt: skip
    net.dropout = 0.0
    flat = lambda out: list(nn.utils.rnn.unpack_sequence(out[0])) if packed else [out[0]]  # noqa: E731
    plain, state = net(x)[0], net(x)[1]
    net.dropout = 0.5
    assert adopt(model).sites == ("0/dropout",)
    net.dropout = 1e-9
    out, last = net(x)
    for a, b in zip(flat((out,)), flat((plain,)), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(last, state)
    net.dropout = 0.5
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        from thinned.torch.adoption.site import Site

        draw = Site.draw
        patch.setattr(Site, "draw", lambda *a, **k: seen.append(draw(*a, **k)) or seen[-1])
        net(x)
    assert len(seen) == 2
    for call, y in enumerate(seen):
        assert torch.equal(y != 0, kept(y.shape, 0.5, "0/dropout", call + 2))
    net.eval()
    torch.testing.assert_close(flat(net(x))[0], flat((plain,))[0])


def test_rows_that_lie_second_need_the_length_of_the_batch():
    net = nn.LSTM(4, 6, num_layers=2, dropout=0.5)
    clock = adopt(net).clock
    x = torch.randn(5, 6, 4)
    whole, _ = net(x)
    for start in (0, 2, 4):
        with clock.piece(start, of=6):
            part, _ = net(x[:, start : start + 2])
            torch.testing.assert_close(part, whole[:, start : start + 2])
    with (
        clock.piece(2),
        pytest.raises(RuntimeError, match=r"batch_first=False.*clock.piece\(start, of="),
    ):
        net(x[:, :2])


# PyTorch says so of its own constructor, whoever calls it.
@pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor is True, but self.use_nested_tensor is False"
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_transformers_over_pieces(batch_first):
    torch.manual_seed(0)
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.3, batch_first=batch_first)
    report = adopt(model)
    assert len(report.sites) == 3 + 1 + 4 + 2
    clock, axis = report.clock, 0 if batch_first else 1
    x = torch.randn((6, 5, 8) if batch_first else (5, 6, 8))
    whole = model(x, x)
    for start in (0, 2, 4):
        with clock.piece(start, of=6):
            part = x.narrow(axis, start, 2)
            torch.testing.assert_close(model(part, part), whole.narrow(axis, start, 2))


# -------------------------------------------------------------------------------- release, refusals


def everything():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(0.5), thinned.torch.Dropout(0.1), nn.AlphaDropout(0.2),
        nn.TransformerEncoderLayer(8, 2, 16, 0.1), Functional(),
    )  # fmt: skip


def kinds(model):
    return [(name, type(m), sorted(m.__dict__)) for name, m in model.named_modules()]


def test_release_gives_back_what_was():
    model, twin = everything(), everything()
    before = kinds(model)
    report = adopt(model)
    assert BUFFER in model.state_dict()
    model[1].p = 0.3
    assert kinds(model) != before
    release(model)
    assert kinds(model) == before
    assert model[1].p == 0.3
    twin.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="release: model must be an adopted model"):
        release(model)
    assert adopt(model).sites == report.sites


def test_forward_keeps_its_signature():
    """Trainers read from it which columns of a data set a model takes."""
    model = Attends()
    before = inspect.signature(model.forward)
    adopt(model)
    assert inspect.signature(model.forward) == before
    assert inspect.signature(pickle.loads(pickle.dumps(model)).forward)
    release(model)
    bound = Attends()
    bound.forward = types.MethodType(Functional.forward, bound)
    adopt(bound)
    assert list(inspect.signature(bound.forward).parameters) == ["x"]
    assert torch.equal(bound(torch.ones(9, 9)) != 0, kept((9, 9), 0.3, "/dropout"))
    release(bound)
    assert bound.__dict__["forward"].__func__ is Functional.forward


def test_evaluation_is_untouched():
    model, twin = everything().eval(), everything().eval()
    adopt(model)
    x = torch.randn(3, 2, 4)
    assert torch.equal(model(x), twin(x))
    assert model.thinned_adoption.clock.counts.sum() == 0


@pytest.mark.parametrize("fails_at", [0, 3])
def test_a_failure_in_the_middle_leaves_the_model_as_it_was(monkeypatch, fails_at):
    import thinned.torch.adoption.changes as file

    model, site = everything(), file.Site
    before = kinds(model)

    def failing(clock, name, *args, **more):
        if len(clock.names) == fails_at:
            raise MemoryError
        return site(clock, name, *args, **more)

    monkeypatch.setattr(file, "Site", failing)
    with pytest.raises(MemoryError):
        adopt(model)
    assert kinds(model) == before
    assert BUFFER not in model.state_dict()
    assert not model._load_state_dict_pre_hooks


def test_refusals():
    model = everything()
    with pytest.raises(TypeError, match=r"adopt: model must be a torch.nn.Module, got int"):
        adopt(3)
    with pytest.raises(TypeError, match=r"adopt: optimizer must be .* got SGDish. Leave it out"):
        adopt(model, optimizer=type("SGDish", (), {})())
    with pytest.raises(ValueError, match="adopt: seed must be an integer in"):
        adopt(model, seed=-1)
    with pytest.raises(ValueError, match="adopt: ranks must be 'split', 'independent' or 'replic"):
        adopt(model, ranks="spilt")
    with pytest.raises(ValueError, match="adopt: the model has no dropout to adopt"):
        adopt(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)))
    adopt(model[4])
    with pytest.raises(
        ValueError, match=r"its part '4', a TransformerEncoderLayer, is adopted already\. Call"
    ):
        adopt(model)
    release(model[4])
    adopt(model)
    with pytest.raises(ValueError, match="adopt: the model, a Sequential, is adopted already"):
        adopt(model)


# ----------------------------------------------------------------------------------- planted faults


def test_fault_hash_of_the_wrapped_name(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.names._inner", lambda module: None)
    monkeypatch.setattr("thinned.torch.adoption.adopt.unwrapped", lambda model: model)
    with pytest.raises(AssertionError):
        test_wrappers_leave_no_trace_in_names("compile")


def test_fault_call_number_stands_still(monkeypatch):
    monkeypatch.setattr(
        "thinned.torch.clock.clock.Clock.take", lambda self, index, name, *how: (self.moment(), 0)
    )
    with pytest.raises(AssertionError):
        test_one_module_called_several_times()


def test_fault_functional_call_not_seen(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.functional_calls._KINDS", {})
    with pytest.raises(AssertionError):
        test_functional_dropout(lambda x, m: F.dropout(x, 0.3, m.training))
