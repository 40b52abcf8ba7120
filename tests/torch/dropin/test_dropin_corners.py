"""Where drop-ins meet the rest of PyTorch: torch.fx, forward mode in place, vmap, odd inputs."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import thinned
import thinned.torch as T  # noqa: N812 - as in the other tests of the package
from thinned.backends.torch.eager import filled, noise
from thinned.backends.torch.kernel import Noise
from thinned.methods.equation import draw_for
from thinned.torch import functional as F  # noqa: N812

AT = thinned.Address(seed=21, site="corner")
SHAPES = {
    "Dropout": (6, 5),
    "Dropout1d": (6, 5, 4),
    "Dropout2d": (6, 5, 4, 3),
    "Dropout3d": (6, 5, 2, 3, 2),
    "AlphaDropout": (6, 5),
    "FeatureAlphaDropout": (6, 5, 4),
}
every_module = pytest.mark.parametrize("name", SHAPES)


@every_module
def test_torch_fx_takes_it_for_a_leaf(name):
    """As it takes torch.nn's: the mode of the traced module rules, not that of the tracing."""
    x = torch.randn(SHAPES[name])
    for mode in (True, False):
        model = nn.Sequential(getattr(T, name)(0.5)).train(mode)
        traced = torch.fx.symbolic_trace(model)
        assert [n.op for n in traced.graph.nodes] == ["placeholder", "call_module", "output"]
        assert torch.equal(traced.eval()(x), x)
        traced.train()
        torch.manual_seed(1)
        y = traced(x)
        torch.manual_seed(1)
        assert torch.equal(y, model.train()(x))


@every_module
def test_forward_mode_in_place(name):
    """The tangent goes the way of the values, as it does out of place."""
    x, tangent = torch.randn(2, *SHAPES[name], dtype=torch.float64)
    found = {}
    for inplace in (False, True):
        module = getattr(T, name)(0.5, inplace=inplace)
        torch.manual_seed(4)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent) * 1.0
            found[inplace] = forward_ad.unpack_dual(module(dual))
    assert torch.equal(found[True].primal, found[False].primal)
    assert torch.equal(found[True].tangent, found[False].tangent)
    assert bool(found[True].tangent.any())


@pytest.mark.skipif(
    not hasattr(torch._C._dynamo.eval_frame, "set_code_exec_strategy"),
    reason="this release of PyTorch has no such mark for a function",
)
def test_dynamo_makes_no_program_of_what_runs_eagerly():
    """It comes to it where it gave up the frames around, and would warn of what it cannot trace."""
    programs = []

    def kept(program, inputs):
        programs.append(program)
        return program

    x, f = torch.randn(2, 5, 6)
    how = Noise(draw_for("test", (5, 6), 0.5, AT), 2.0)
    for function, arrays in ((noise, (x, None)), (filled, (x, f))):
        y = torch.compile(function, backend=kept)(*arrays, how)
        assert torch.equal(y, function(*arrays, how))
    assert not programs


def test_one_address_gives_each_entry_of_a_vmap_its_own_mask():
    """Under randomness="different", where x is the same for all entries too."""
    x, weights = torch.ones(400), torch.tensor([1.0, 2.0, 3.0])

    def dropped(w):
        return F.dropout(x, 0.5, True, at=AT) * w

    found = torch.func.vmap(dropped, randomness="different")(weights)
    each = [F.dropout(x, 0.5, True, at=AT.fold_in(i)) for i in range(3)]
    assert torch.equal(found, torch.stack(each) * weights[:, None])
    same = torch.func.vmap(dropped, randomness="same")(weights)
    assert torch.equal(same, F.dropout(x, 0.5, True, at=AT) * weights[:, None])


ODD = {
    "integers": torch.arange(6).view(2, 3),
    "bools": torch.ones(2, 3, dtype=torch.bool),
    "complex": torch.ones(2, 3, dtype=torch.complex64),
    "a byte": torch.ones(2, 3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("x", ODD.values(), ids=ODD)
def test_what_is_left_alone_may_be_of_any_type(x):
    """Evaluation and p = 0 give the input itself, as torch.nn's do: to a quantised model, say."""
    assert T.Dropout(0.5).eval()(x) is x
    assert T.Dropout(0.0)(x) is x
    assert T.AlphaDropout(0.5).eval()(x) is x
    if not x.is_complex():  # which it takes
        with pytest.raises(TypeError, match="must be of type"):
            T.Dropout(0.5)(x)
    with pytest.raises(TypeError, match="must be of type"):
        T.AlphaDropout(0.5)(x)


def test_only_dropout_takes_jagged_tensors():
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged)
    assert T.Dropout(0.5)(x).is_nested
    for name in ("AlphaDropout", "FeatureAlphaDropout", "Dropout1d"):
        with pytest.raises(TypeError, match="Only dropout takes those"):
            getattr(T, name)(0.5)(x)


REFUSED = {
    "at": ({"at": "fc1"}, "at must be a thinned.Address or None, got 'fc1'"),
    "generator": ({"generator": 5}, "generator must be a torch.Generator or None, got 5"),
    "mirror": ({"at": AT, "mirror": "a"}, "mirror must be True or False, got 'a'"),
}


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_what_says_which_mask_is_checked(words, text):
    with pytest.raises(TypeError, match=f"^dropout: {text}"):
        F.dropout(torch.ones(3), 0.5, True, **words)


def test_no_tensor_is_a_clear_error_in_every_module():
    for name in SHAPES:
        with pytest.raises(TypeError, match="input must be a torch tensor, got list"):
            getattr(T, name)(0.5)([1.0])


def test_parameters_compile_before_any_eager_call():
    """What a compiler cannot read for itself, the backend has said when it was loaded."""
    code = """
import torch, thinned.torch as T
for wrap in (lambda m: T.weight_drop(m, "weight", .1), lambda m: T.mixout(m, "weight", .1)):
    model = torch.nn.Sequential(wrap(torch.nn.Linear(3, 3)))
    torch.compile(model, backend="eager", fullgraph=True)(torch.ones(2, 3))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@every_module
def test_adopted_modules_write_in_place_where_torchs_do(name):
    x = torch.randn(SHAPES[name])
    module = getattr(nn, name)(0.5, inplace=True)
    given = x.clone()
    writes = module(given) is given
    T.adopt(module, seed=3)
    given = x.clone()
    assert (module(given) is given) == writes
    assert torch.equal(given, x) != writes
