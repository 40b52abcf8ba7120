"""thin: what runs thin gives what whole arrays give under the same masks; the rest is named."""

import copy
import doctest
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from thin_networks import NETWORKS, Residual, assert_equal, chain, pair, step
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
from thinned.torch import adopt, release, thin

# torch's own remark on a network that is given one signal instead of a batch of them.
pytestmark = pytest.mark.filterwarnings("ignore:dropout1d. Received a 2-D input:UserWarning")


@pytest.mark.parametrize("name", NETWORKS)
def test_output_and_gradients_are_those_of_whole_arrays(name):
    fast, whole, x = pair(name)
    for _ in range(2):  # two calls of one step have two masks
        assert_equal(step(fast, x), step(whole, x))
    assert_equal([fast.eval()(x)], [whole.eval()(x)])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_report_names_what_runs_thin(name):
    build, _, sites = NETWORKS[name]
    report = thin(build())
    assert list(report.thin) == sites
    rows = {row.site: row.done for row in report.rows}
    assert all(rows[site].startswith("thin: ") for site in sites)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["chain", "images", "transformer"])
def test_other_types(name, dtype):
    fast, whole, x = pair(name, dtype)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    found, expected = step(fast, x)[0], step(whole, x)[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, **close)


def test_the_mask_is_that_of_the_address():
    """Against plain operations on masks of thinned.keep_mask, for steps, calls and sites."""
    torch.manual_seed(1)
    model = chain(0.5, 0.25).double()
    clock = thin(model, seed=7).clock
    x = torch.randn(4, 32, dtype=torch.float64)
    for drawn in range(3):
        site_calls = [(0, 0), (0, 1), (1, 0)][drawn]
        if drawn == 2:
            clock.tick()
        h = x
        for first, drop, p in ((0, "2", 0.5), (3, "5", 0.25)):
            at = thinned.Address(7, drop, *site_calls)
            keep = torch.from_numpy(thinned.keep_mask((1, 32), p, at, shared_axes=(0,)))
            layer = model[first]
            h = (h @ layer.weight.T + layer.bias).relu() * keep / (1 - p)
        expected = h @ model[6].weight.T + model[6].bias
        torch.testing.assert_close(model(x), expected)


def test_only_kept_rows_get_gradient_and_the_layers_see_kept_units_only():
    fast, _, x = pair("chain")
    seen = []
    fast[1].register_forward_hook(lambda module, args, y: seen.append(y.shape))
    step(fast, x)
    keep = torch.from_numpy(thinned.keep_mask(32, 0.5, thinned.Address(3, "2")))
    assert seen == [(8, int(keep.sum()))]
    assert not fast[0].weight.grad[~keep].any()
    assert not fast[3].weight.grad[:, ~keep].any()
    assert fast[0].weight.grad.shape == fast[0].weight.shape


def test_nothing_of_the_whole_size_is_saved():
    model = chain(0.5, 0.5, width=256)
    thin(model)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    x, saved = torch.randn(64, 256), []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own | {x.untyped_storage().data_ptr()}:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    # The first layer's thin weight is the largest: some 128 of 256 rows.
    assert max(saved) < 0.6 * 256 * 256
    assert sum(saved) < 1.2 * 256 * 256


def test_optimizer_state_stays_whole_and_trains_alike():
    results = []
    for execution in ("thin", "elementwise"):
        torch.manual_seed(2)
        model = chain(0.5, 0.5).double()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        thin(model, seed=1, optimizer=optimizer, execution=execution)
        x = torch.randn(16, 32, dtype=torch.float64)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        state = optimizer.state[model[0].weight]
        assert state["exp_avg"].shape == model[0].weight.shape
        results.append([p.detach() for p in model.parameters()])
    assert_equal(*results)


def test_pieces_of_a_batch_share_its_mask():
    fast, whole, x = pair("chain")
    expected = step(whole, x)[0]
    clock = thin(copy_of(fast), seed=3).clock
    model = clock._model
    parts = []
    for start in (0, 4):
        with clock.piece(start):
            parts.append(model(x[start : start + 4]))
    torch.testing.assert_close(torch.cat(parts), expected)


def copy_of(model):
    twin = copy.deepcopy(model)
    release(twin)
    return twin


def test_a_schedule_rules_p():
    model = chain(0.5).double()
    report = thin(model, schedule={"2": lambda step, steps: 0.0 if step == 0 else 1.0})
    x = torch.randn(4, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), copy.deepcopy(model).eval()(x))
    report.clock.tick()
    torch.testing.assert_close(model(x), model[3].bias.expand(4, 5))


def test_thinneds_own_modules_and_subclasses_of_torchs():
    class Mine(nn.Dropout):
        pass

    def build(kind):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 30), kind(0.5), nn.Linear(30, 8), chain(0.5, width=8))

    x = torch.ones(2, 8)
    models = [build(thinned.torch.Dropout), build(nn.Dropout)]
    assert [thin(model).thin for model in models] == [("1", "3.2")] * 2
    assert torch.equal(models[0](x), models[1](x))
    assert thin(build(Mine)).thin == ("3.2",)


def test_a_changed_p_counts():
    fast, whole, x = pair("chain")
    fast[2].p = whole[2].p = 0.9
    assert_equal(step(fast, x), step(whole, x))


def test_dropout_in_evaluation_mode_rests_by_itself():
    fast, whole, x = pair("chain")
    fast[5].eval(), whole[5].eval()
    assert_equal(step(fast, x), step(whole, x))


def test_layers_called_by_themselves_run_whole():
    model = chain(0.5)
    thin(model)
    x = torch.randn(4, 32)
    assert model[0](x).shape == (4, 32)
    dropped = model[2](torch.ones(4, 32))
    assert torch.equal(dropped, dropped[:1].expand(4, 32))
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert model[3](x).shape == (4, 5)


# ------------------------------------------------------------------------------------ state, copies


def test_release_gives_back_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(Residual(), chain(0.5, 0.2, width=12))
    before = copy.deepcopy(model)
    thin(model, groups=2)
    model(torch.randn(4, 12))
    release(model)
    assert repr(model) == repr(before)
    assert not any("forward" in module.__dict__ for module in model.modules())
    before.load_state_dict(model.state_dict(), strict=True)
    thin(model)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_go_on_by_themselves(how):
    fast, whole, x = pair("images")
    fast(x), whole(x)
    if how == "deepcopy":
        twin = copy.deepcopy(fast)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(fast))
    else:
        file = io.BytesIO()
        torch.save(fast, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    expected = step(whole, x)
    assert_equal(step(twin, x), expected)
    assert_equal(step(fast, x), expected)


# -------------------------------------------------------------------------------- what does not run


class TwoReaders(nn.Module):
    """Dropout whose input, or output, is used twice."""

    def __init__(self, where):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8)
        self.rest, self.where = chain(0.5, width=8), where

    def forward(self, x):
        h = self.first(x)
        y = self.drop(h)
        out = self.last(y) + (h if self.where == "input" else y)
        return self.rest(out)


def with_hook():
    model = chain(0.5, 0.5)
    model[0].register_forward_hook(lambda *_: None)
    return model


def parametrised():
    model = chain(0.5, 0.5)
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def shared_layer():
    layer = nn.Linear(32, 32)
    return nn.Sequential(layer, nn.Dropout(0.5), layer, chain(0.5))


class Branching(nn.Module):
    """Code that depends on its data, around a dropout and around a part that has none of it."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.rest = nn.Linear(32, 32), nn.Dropout(0.1), chain(0.5)

    def forward(self, x):
        h = self.drop(self.first(x))
        return self.rest(h if h.sum() > 0 else -h)


REFUSED = {
    "two readers of its input": (lambda: TwoReaders("input"), "drop", "used more than once"),
    "two readers of its output": (lambda: TwoReaders("output"), "drop", "used more than once"),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), chain(0.5)),
        "2",
        "BatchNorm1d '1' lies between",
    ),
    "not zero at zero": (
        lambda: nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5), nn.Sigmoid(), chain(0.5)),
        "1",
        "Sigmoid '2' lies between",
    ),
    "random activation": (
        lambda: nn.Sequential(nn.Linear(32, 32), nn.RReLU(), nn.Dropout(0.5), chain(0.5)),
        "2",
        "RReLU '1' lies between",
    ),
    "positions of channels": (
        lambda: nn.Sequential(
            nn.Conv1d(32, 4, 1), nn.Dropout(0.5), nn.Conv1d(4, 32, 1), nn.Flatten(), chain(0.5)
        ),
        "1",
        "drops no whole units; Dropout1d does",
    ),
    "groups of channels": (
        lambda: nn.Sequential(
            nn.Conv1d(32, 4, 1, groups=2), nn.Dropout1d(0.5), nn.Conv1d(4, 32, 1), chain(0.5)
        ),
        "1",
        "has groups",
    ),
    "alpha dropout": (
        lambda: nn.Sequential(nn.Linear(32, 32), nn.AlphaDropout(0.5), chain(0.5)),
        "1",
        "a AlphaDropout behind a Linear drops no whole units",
    ),
    "the end": (
        lambda: nn.Sequential(chain(0.5), nn.Linear(5, 5), nn.Dropout(0.5)),
        "2",
        "no layer lies between it and the output",
    ),
    "the beginning": (
        lambda: nn.Sequential(nn.Dropout(0.5), chain(0.5)),
        "0",
        "no layer lies between it and the input",
    ),
    "hooks": (with_hook, "2", "has hooks"),
    "parametrised": (parametrised, "2", "parametrised"),
    "a layer twice": (shared_layer, "1", "more than once"),
    "code that cannot be traced": (Branching, "drop", "cannot be traced"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_thin_keeps_its_own_masks_and_says_why(case):
    build, site, why = REFUSED[case]
    torch.manual_seed(3)
    model = build()
    twin = copy.deepcopy(model)
    report = thin(model, seed=2)
    assert report.thin
    row = next(row for row in report.not_thin if row.site == site)
    assert why in row.done, row.done
    # As adopt leaves it: the input that its dropout gets decides nothing, so ask the site itself.
    adopt(twin, seed=2)
    x = torch.ones(3, 6, 4)
    mask, own = (some.get_submodule(site) for some in (model, twin))
    assert torch.equal(mask(x), own(x))


def test_not_reached_stays_not_reached():
    class Fancy(nn.Module):
        def __init__(self):
            super().__init__()
            self.rest = chain(0.5)

        def forward(self, x):
            return self.rest(x * torch.rand_like(x))

    report = thin(Fancy())
    assert report.thin == ("rest.2",)
    assert [row.site for row in report.not_reached] == ["/dropout"]
    assert "not thin" not in report.not_reached[0].done


def test_functional_dropout_is_named():
    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.rest = nn.Linear(32, 32), chain(0.5)

        def forward(self, x):
            return self.rest(F.dropout(self.fc(x), 0.5, self.training))

    report = thin(Calls())
    assert report.thin == ("rest.2",)
    assert report.not_thin[0].done.endswith("not thin: it is no dropout of units")


# ----------------------------------------------------------------------------------------- errors


def test_no_place_to_run_thin_is_an_error_and_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with pytest.raises(
        ValueError, match=r"thin: no dropout of the model can run thin \('1': no layer"
    ):
        thin(model)
    assert type(model[1]) is nn.Dropout
    assert not list(model.buffers())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"execution": "fast"},
            ValueError,
            "execution must be 'thin' or 'elementwise', got 'fast'",
        ),
        ({"groups": 0}, ValueError, r"groups must be an integer in \[1"),
        ({"groups": 2, "ranks": "split"}, ValueError, "groups must be 1 with ranks='split'"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"schedule": {"nowhere": 0.1}}, ValueError, "nowhere"),
    ],
)
def test_bad_arguments(options, error, words):
    model = chain(0.5)
    with pytest.raises(error, match=words):
        thin(model, **options)
    assert type(model[2]) is nn.Dropout
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_no_module_and_twice():
    with pytest.raises(TypeError, match=r"thin: model must be a torch\.nn\.Module, got list"):
        thin([chain(0.5)])
    model = chain(0.5)
    thin(model)
    with pytest.raises(ValueError, match="adopted already"):
        thin(model)


class Changeable(nn.Module):
    """Code that goes another way once it was looked at."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 30), nn.Dropout(0.5), nn.Linear(30, 8)
        self.way = "usual"

    def forward(self, x):
        h = self.drop(self.first(x))
        if self.way == "leaves":
            return h
        if self.way == "whole":
            return self.last(torch.ones(len(x), 30))
        return self.last(h)


@pytest.mark.parametrize("way", ["leaves", "whole"])
def test_code_that_goes_another_way_is_an_error(way):
    model = Changeable()
    thin(model)
    model.way = way
    x = torch.ones(3, 8)
    with pytest.raises(RuntimeError, match="went another way than when it was looked at"):
        model(x)
    model.way = "usual"
    assert model(x).shape == (3, 8)


def test_two_threads_in_one_region_are_an_error():
    model = chain(0.5)
    thin(model)
    region = model[2].forward.__self__.region
    region.scope.depth += 1
    x = torch.ones(2, 32)
    with ThreadPoolExecutor(1) as other:
        other.submit(model[0], x).result()
    with pytest.raises(RuntimeError, match="two threads train the same thin model"):
        model[2](x)


# ------------------------------------------------------------------------------- groups of a batch


@pytest.mark.parametrize("rows", [8, 7])
def test_groups_have_masks_of_their_own(rows):
    fast, whole, x = pair("chain", groups=3)
    x = x[:rows]
    assert_equal(step(fast, x), step(whole, x))
    # Part j is call j of every site.
    single = copy_of(fast)
    clock = thin(single, seed=3).clock
    clock.step = fast.thinned_adoption.clock.step = 1
    parts = [single(part) for part in x.tensor_split(3)]
    torch.testing.assert_close(fast(x), torch.cat(parts))
    assert_equal([fast.eval()(x)], [single.eval()(x)])


class Several(nn.Module):
    """Takes and gives several things."""

    def __init__(self):
        super().__init__()
        self.net, self.scalar = chain(0.5), False

    def forward(self, x, other=None, *, gain=1.0):
        y = self.net(x) * gain
        return {"y": y.mean() if self.scalar else y, "rest": (other, None)}


def test_groups_split_and_join_whatever_has_rows():
    model = Several()
    thin(model, groups=2)
    x, other = torch.randn(5, 32), torch.arange(5)
    found = model(x, other, gain=2.0)
    assert found["y"].shape == (5, 5)
    assert torch.equal(found["rest"][0], other)
    assert found["rest"][1] is None


def test_groups_refuse_what_they_cannot_split():
    model = Several()
    report = thin(model, groups=2)
    x = torch.randn(5, 32)
    with pytest.raises(ValueError, match="a model's arguments must be tensors that all have"):
        model(x, torch.arange(4))
    with pytest.raises(ValueError, match="a batch of 1 rows cannot run in 2 groups"):
        model(x[:1])
    with report.clock.piece(0), pytest.raises(RuntimeError, match=r"Leave clock\.piece"):
        model(x)
    model.scalar = True
    with pytest.raises(ValueError, match="a model's results must be tensors"):
        model(x)


@pytest.mark.parametrize(
    "part", [nn.BatchNorm1d(32), nn.LSTM(32, 32), nn.MultiheadAttention(32, 2)]
)
def test_groups_refuse_models_that_mix_rows(part):
    model = chain(0.5)
    model.part = part
    with pytest.raises(ValueError, match=r"groups must be 1 for this model: .*'part'"):
        thin(model, groups=2)
    assert type(model[2]) is nn.Dropout


# ------------------------------------------------------------------------------------ what is told


def test_the_page():
    page = Path(__file__).parents[3] / "docs" / "thin.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0
