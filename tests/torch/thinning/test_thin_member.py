"""member: the thinned network number k, small and plain, equals the masked whole one."""

import copy
import io

import numpy as np
import pytest
import torch
from thin_networks import NETWORKS, Residual, chain
from torch import nn

import thinned
from thinned.members import predict
from thinned.torch import member, thin
from thinned.torch.thinning import member as cutting

# torch's own remark on a network that is given one signal instead of a batch of them.
pytestmark = pytest.mark.filterwarnings("ignore:dropout1d. Received a 2-D input:UserWarning")


def built(name):
    build, shape, _ = NETWORKS[name]
    torch.manual_seed(5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    return build(), x


def masked(model, seed, k):
    """The whole network with the masks of member k, applied to whole arrays."""
    twin = copy.deepcopy(model)
    thin(twin, seed=thinned.Address(seed).fold_in(k).seed, execution="elementwise")
    return twin


@pytest.mark.parametrize("k", [0, 1, 2**63])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_is_the_masked_whole(name, k):
    model, x = built(name)
    whole = masked(model, 11, k)
    thin(model, seed=11)
    before = [p.clone() for p in model.parameters()]
    cut = member(model, k)
    assert not cut.training
    torch.testing.assert_close(cut(x), whole(x), rtol=1e-4, atol=1e-5)
    assert model.training
    assert all(map(torch.equal, before, model.parameters()))


def test_a_member_is_smaller_and_plain():
    model, x = built("chain")
    report = thin(model, seed=4)
    report.clock.tick()  # neither step nor calls have a part in it
    model(x)
    cut = member(model, 6)
    seed = thinned.Address(4).fold_in(6).seed
    kept = {
        site: np.flatnonzero(thinned.keep_mask(32, p, thinned.Address(seed, site)))
        for site, p in (("2", 0.5), ("5", 0.2), ("8", 0.7))
    }
    assert [type(part) for part in cut] == [*(nn.Linear, nn.ReLU, nn.Identity) * 3, nn.Linear]
    assert (cut[0].in_features, cut[0].out_features) == (32, len(kept["2"]))
    assert cut[3].weight.shape == (len(kept["5"]), len(kept["2"]))
    assert cut[9].in_features == len(kept["8"])
    assert not list(cut.buffers())
    found = cutting.kept_units(model, 6)
    assert {site: units.tolist() for site, units in found.items()} == {
        site: units.tolist() for site, units in kept.items()
    }
    # Its weights are its own.
    with torch.no_grad():
        cut[0].weight.zero_()
    assert model[0].weight.any()


def test_a_scale_that_no_weight_can_take_stays():
    model, _ = built("images")
    thin(model)
    assert isinstance(member(model, 0).d2, cutting.Scaled)
    assert repr(member(model, 0).d2) == "Scaled(scale=1.42857)"


def test_members_differ_and_come_back():
    model, x = built("chain")
    thin(model, seed=1)
    assert not torch.equal(member(model, 0)(x), member(model, 1)(x))
    assert torch.equal(member(model, 1)(x), member(model, 1)(x))


def test_evaluation_of_batch_norm_and_of_sites_at_rest():
    torch.manual_seed(0)
    model = nn.Sequential(chain(0.5, width=6), nn.BatchNorm1d(5), nn.Dropout(0.0), Residual().fc1)
    model[3] = nn.Linear(5, 2)
    model(torch.randn(20, 6))  # moves the statistics
    whole = masked(model, 0, 3)
    whole[1].eval()
    thin(model)
    x = torch.randn(4, 6)
    torch.testing.assert_close(member(model, 3)(x), whole(x))


def test_a_member_trains_by_itself():
    model, x = built("chain")
    thin(model)
    cut = member(model, 0).train()
    optimizer = torch.optim.SGD(cut.parameters(), lr=0.1)
    before = cut(x).square().mean()
    before.backward()
    optimizer.step()
    assert cut(x).square().mean() < before


# ------------------------------------------------------------------------------------------- asked


@pytest.mark.parametrize("name", ["chain", "images", "transformer"])
def test_a_thin_model_that_is_asked_runs_its_members(name):
    model, x = built(name)
    thin(model, seed=4)
    asked = predict(model, x, members=3, seed=4, keep=True, task="regression")
    found = torch.as_tensor(asked.outputs).to(x.dtype)
    torch.testing.assert_close(
        found, torch.stack([member(model, k)(x) for k in range(3)]), rtol=1e-4, atol=1e-5
    )


def test_asked_for_each_row_it_has_a_mask_for_each_row():
    model, x = built("chain")
    thin(model, seed=4)
    same = x[:1].expand(8, 32)
    rows = predict(model, same, members=2, seed=4, keep=True, share="row", task="regression")
    first = torch.as_tensor(rows.outputs)[0]
    assert len(first.unique(dim=0)) == 8
    shared = predict(model, same, members=2, seed=4, keep=True, task="regression")
    assert len(torch.as_tensor(shared.outputs)[0].round(decimals=5).unique(dim=0)) == 1


# ------------------------------------------------------------------------------- saved, exported


def test_saved_and_loaded():
    model, x = built("images")
    thin(model, seed=2)
    cut, other = member(model, 5), member(model, 5)
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    file.seek(0)
    for p in other.parameters():
        torch.nn.init.constant_(p, 3.0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other(x), cut(x))


@pytest.mark.one_in(3)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["chain", "images", "residual"])
def test_exported_to_onnx(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, x = built(name)
    whole = masked(model, 2, 5)
    thin(model, seed=2)
    file = tmp_path / "member.onnx"
    torch.onnx.export(member(model, 5), (x,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), whole(x).detach(), rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------- named by the kept units


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_named_by_its_units_is_that_of_the_number(name):
    model, x = built(name)
    thin(model, seed=11)
    kept = cutting.kept_units(model, 3)
    numbered = member(model, 3)
    sizes = {placed.region.site.name: placed.region.units for placed in cutting.regions_of(model)}
    bits = {
        site: [i in indices.tolist() for i in range(sizes[site])] for site, indices in kept.items()
    }
    for named in (kept, bits, {site: np.array(mask) for site, mask in bits.items()}):
        cut = member(model, keep=named)
        assert repr(cut) == repr(numbered)
        assert torch.equal(cut(x), numbered(x))


def test_all_networks_of_a_few_units_can_be_named():
    """2^4 networks by their bits, each the whole with that mask, and their mean is the whole."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    thin(model, seed=0)
    x = torch.randn(5, 3)
    hidden = model[1](nn.functional.linear(x, model[0].weight, model[0].bias))
    outputs = []
    for bits in np.ndindex(2, 2, 2, 2):
        cut = member(model, keep={"2": np.array(bits, bool)})
        assert cut[0].out_features == max(sum(bits), 1)
        masked = hidden * torch.tensor(bits) * 2.0
        torch.testing.assert_close(cut(x), masked @ model[3].weight.T + model[3].bias)
        outputs.append(cut(x))
    torch.testing.assert_close(torch.stack(outputs).mean(0), model.eval()(x))
    assert torch.equal(member(model, keep={"2": []})(x), outputs[0])


@pytest.mark.parametrize(("given", "error", "text"), [
    ({}, TypeError, "member: k or keep must be given, one of the two, got neither"),
    ({"k": 1, "keep": {"2": [0]}}, TypeError, "one of the two, got both"),
    ({"keep": [0]}, TypeError, "keep must be a mapping from site names to kept units, got list"),
    ({"keep": {}}, ValueError, "keep must be of the thin sites '2', got no site"),
    ({"keep": {"2": [0], "3": [0]}}, ValueError, "of the thin sites '2', got '2', '3'"),
    ({"keep": {"2": [4]}}, ValueError, r"must be 4 booleans, or integers in \[0, 4\), got"),
    ({"keep": {"2": [-1]}}, ValueError, "must be 4 booleans"),
    ({"keep": {"2": [True] * 3}}, ValueError, r"got booleans of shape \(3,\)"),
    ({"keep": {"2": [0.0, 1.0]}}, TypeError, "must be 4 booleans"),
    ({"keep": {"2": "0110"}}, TypeError, "must be 4 booleans, .* got str"),
])  # fmt: skip
def test_units_that_name_no_network(given, error, text):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    thin(model)
    with pytest.raises(error, match=text):
        member(model, **given)


def test_at_p_of_1_only_the_empty_network_can_be_named():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(1.0), nn.Linear(4, 2))
    thin(model)
    with pytest.raises(ValueError, match="must be empty where p is 1, got 1 units at"):
        member(model, keep={"2": [0]})


# ----------------------------------------------------------------------------------------- refused


def test_only_of_thin_models():
    for model in (chain(0.5), thinned_by_adopt()):
        with pytest.raises(ValueError, match=r"member: model must be a thin model, .* Call thin"):
            member(model, 0)
    with pytest.raises(TypeError, match=r"member: model must be a torch\.nn\.Module, got str"):
        member("model", 0)


def thinned_by_adopt():
    model = chain(0.5)
    thinned.torch.adopt(model)
    return model


@pytest.mark.parametrize(("k", "error"), [(-1, ValueError), (2**64, ValueError), (1.0, TypeError)])
def test_bad_numbers(k, error):
    model = chain(0.5)
    thin(model)
    with pytest.raises(error, match="member: k must be an integer in"):
        member(model, k)


class Calling(nn.Module):
    def __init__(self):
        super().__init__()
        self.rest = chain(0.5)

    def forward(self, x):
        return self.rest(nn.functional.dropout(x, 0.5, self.training))


@pytest.mark.parametrize(
    ("build", "site"),
    [
        (lambda: nn.Sequential(chain(0.5), nn.Dropout(0.1)), "1"),
        (lambda: nn.Sequential(Residual(0.1)), "0.last"),
        (Calling, "/dropout"),
        (lambda: nn.TransformerEncoderLayer(12, 2, 48, 0.1, batch_first=True), "self_attn/dropout"),
    ],
)
def test_sites_with_masks_for_each_element_have_no_members(build, site):
    model = build()
    thin(model)
    with pytest.raises(ValueError, match=f"'{site}'.* have masks for each element"):
        member(model, 0)


def test_a_site_that_rests_is_no_hindrance():
    model = nn.Sequential(Residual(0.1))
    thin(model)
    model[0].last.p = 0.0
    assert member(model, 0)(torch.ones(2, 12)).shape == (2, 12)


# ----------------------------------------------------------------------------------- planted faults


def wrong_columns(smaller):
    def faulty(layer, rows, columns, scale):
        return smaller(layer, rows, None if columns is None else columns.flip(0), scale)

    return faulty


def no_scale(smaller):
    return lambda layer, rows, columns, scale: smaller(layer, rows, columns, 1.0)


@pytest.mark.parametrize("fault", [wrong_columns, no_scale])
def test_fault_in_the_cut(monkeypatch, fault):
    monkeypatch.setattr(cutting, "_smaller", fault(cutting._smaller))
    with pytest.raises(AssertionError):
        test_a_member_is_the_masked_whole("chain", 1)


def test_fault_in_the_named_units(monkeypatch):
    """The complement of what was named."""
    right = cutting.drawn_of
    monkeypatch.setattr(cutting, "drawn_of", lambda kept, p: right(~kept, p))
    with pytest.raises(AssertionError):
        test_all_networks_of_a_few_units_can_be_named()
