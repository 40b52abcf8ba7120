"""Dropout switched on in a model that is in evaluation: the field's way to Monte Carlo.

Programs find dropout by the name of its class, or by its type, and call `train()` on it alone. What
they find in an adopted model, in a thin one and among the drop-ins is dropout, and it draws.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

import thinned.torch as tt
from thinned.torch import adopt, release, thin
from thinned.torch.adoption.site import ADDRESSED, Addressed

pytestmark = [
    # Its encoder makes nested tensors of padded batches in evaluation.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

FINDERS = {
    "__class__.__name__.startswith": lambda m: m.__class__.__name__.startswith("Dropout"),
    "type name ==": lambda m: type(m).__name__ == "Dropout",
    "name in list": lambda m: type(m).__name__ in ("Dropout", "Dropout2d", "AlphaDropout"),
    "lower": lambda m: "dropout" in type(m).__name__.lower(),
    "find": lambda m: m.__class__.__name__.find("Dropout") != -1,
    "str": lambda m: str(m).startswith("Dropout"),
    "repr": lambda m: repr(m).startswith("Dropout("),
    "_get_name": lambda m: m._get_name() == "Dropout",
    "isinstance": lambda m: isinstance(m, nn.Dropout),
    "str of the type": lambda m: str(type(m)).rstrip("'>").endswith(".Dropout"),
    "qualified": lambda m: type(m).__qualname__ == "Dropout",
}


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))


def adopted():
    model = plain()
    adopt(model)
    return model


def thin_one(**how):
    model = plain()
    thin(model, **how)
    return model


def drop_ins():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), tt.Dropout(0.5), nn.Linear(64, 2))


def adopted_drop_ins():
    model = drop_ins()
    adopt(model)
    return model


MADE = {
    "torch.nn": plain,
    "adopted": adopted,
    "thin": thin_one,
    "elementwise": lambda: thin_one(execution="elementwise"),
    "drop-ins": drop_ins,
    "adopted drop-ins": adopted_drop_ins,
}
X = torch.ones(6, 8)


def awake(model, finder):
    model.eval()
    found = [m for m in model.modules() if finder(m)]
    for module in found:
        module.train()
    return found


@torch.no_grad()
def std(model, x=X, times=24):
    return torch.stack([model(x) for _ in range(times)]).std(0).min().item()


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("finder", FINDERS)
def test_what_is_found_draws(made, finder):
    model = MADE[made]()
    (found,) = awake(model, FINDERS[finder])
    assert found is model[2]
    assert std(model) > 0
    model.eval()
    assert std(model) == 0


def test_the_draws_are_those_of_the_addresses():
    model = adopted()
    awake(model, FINDERS["isinstance"])
    again = adopted().train()
    for _ in range(3):
        assert torch.equal(model(X), again(X))


SHAPES = {nn.Dropout1d: (6, 8, 5), nn.Dropout2d: (6, 8, 5, 5), nn.Dropout3d: (6, 8, 3, 3, 3)}


@pytest.mark.parametrize("kind", ADDRESSED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("library", [nn, tt], ids=["nn", "thinned"])
def test_every_kind_has_the_name_of_torch_nn(kind, library):
    own = getattr(library, kind.__name__)
    model, x = nn.Sequential(nn.Identity(), own(0.4)), torch.ones(SHAPES.get(kind, (6, 8)))
    adopt(model)
    assert type(model[1]) is not own
    assert isinstance(model[1], (Addressed, kind))
    assert type(model[1]).__name__ == type(model[1]).__qualname__ == kind.__name__
    assert repr(model[1]) == f"{kind.__name__}(p=0.4, inplace=False, site='1')"
    awake(model, lambda m: type(m).__name__ == kind.__name__)
    assert std(model, x) > 0
    copied = pickle.loads(pickle.dumps(model))
    assert type(copied[1]) is type(model[1])
    assert type(copy.deepcopy(model)[1]) is type(model[1])
    assert std(copied, x) > 0
    release(copied)
    assert type(copied[1]) is own


def test_attention_and_recurrent_networks_are_found_too():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            self.lstm = nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0], self.lstm(x)[0]

    model = Both()
    adopt(model)
    x = torch.randn(4, 5, 8)
    for number, name in enumerate(("MultiheadAttention", "LSTM")):
        (found,) = awake(model, lambda m, name=name: type(m).__name__.startswith(name))
        assert repr(found).startswith(f"{name}(")
        with torch.no_grad():
            runs = [torch.stack(parts) for parts in zip(*(model(x) for _ in range(9)), strict=True)]
        assert [bool(run.std(0).min() > 0) for run in runs] == [number == 0, number == 1]


LAYERS = {
    "layer": lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(LAYERS["layer"](), 2),
    "in a container": lambda: nn.Sequential(LAYERS["encoder"](), nn.Linear(8, 3)),
    "decoder": lambda: nn.TransformerDecoderLayer(8, 2, 16, dropout=0.5, batch_first=True),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("give", [adopt, thin])
@pytest.mark.parametrize("padded", [False, True])
def test_the_fused_form_of_encoders_does_not_sleep_through_it(name, give, padded):
    torch.manual_seed(0)
    model = LAYERS[name]()
    give(model)
    awake(model, FINDERS["isinstance"])
    x = torch.randn(4, 5, 8)
    if name == "decoder":
        inputs, how = (x, x), {}
    else:
        padding = torch.zeros(4, 5, dtype=torch.bool)
        padding[1, 3:] = True
        inputs = (x,)
        how = {"src_key_padding_mask": padding} if padded and name != "in a container" else {}

    def run(_):
        return model(*inputs, **how)

    with torch.no_grad():
        kept = torch.ones(4, 5, dtype=torch.bool)
        kept[1, 3:] = not padded
        assert torch.stack([run(_) for _ in range(24)]).std(0)[kept].min() > 0
        model.eval()
        assert torch.equal(run(0), run(1))


@pytest.mark.parametrize("made", ["adopted", "thin", "drop-ins"])
def test_compiled_it_draws_too(made):
    torch._dynamo.reset()
    model = MADE[made]()
    awake(model, FINDERS["__class__.__name__.startswith"])
    run = torch.compile(model, backend="aot_eager")
    assert std(run) > 0
    model.eval()
    assert std(run) == 0


def test_under_autograd_and_after_training():
    model = adopted()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(X).sum().backward()
        optimizer.step()
    awake(model, FINDERS["_get_name"])
    outputs = torch.stack([model(X) for _ in range(24)])
    assert outputs.requires_grad
    assert outputs.std(0).min() > 0
