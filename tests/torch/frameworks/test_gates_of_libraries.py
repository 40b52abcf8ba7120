"""Stochastic depth, LayerDrop and other masks by hand in the models of public libraries."""

import copy

import pytest
import torch
from libraries import library, needs
from torch import nn

from thinned.schedules import late
from thinned.torch import adopt, no_dropout, release, set_p

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def replayed(model, run):
    """The report of a model whose steps are replayed, and which is the same again after release."""
    before = list(model.state_dict())
    buffers = copy.deepcopy(model.state_dict())
    model.eval()
    torch.manual_seed(0)  # a masked autoencoder masks in evaluation, too
    quiet = run()
    report = adopt(model.train(), seed=3)

    def step(number, seed):
        model.load_state_dict(buffers, strict=False)
        report.clock.step = number
        torch.manual_seed(seed)
        return run()

    first = step(0, 1)
    assert torch.equal(step(0, 2), first)
    assert not torch.equal(step(1, 1), first)
    model.load_state_dict(buffers, strict=False)
    torch.manual_seed(0)
    assert torch.equal(quiet, (model.eval(), run())[1])
    release(model.train())
    assert list(model.state_dict()) == before
    return report


def swin():
    transformers = library("transformers")
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4,
        drop_path_rate=0.4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.SwinModel(config)
    x = torch.randn(4, 3, 32, 32)
    return model, lambda m=model: m(x).last_hidden_state


def bart():
    transformers = library("transformers")
    config = transformers.BartConfig(
        vocab_size=40, d_model=8, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, dropout=0.0,
        encoder_layerdrop=0.5, decoder_layerdrop=0.5, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BartModel(config)
    words = torch.randint(3, 40, (2, 6))
    return model, lambda m=model: m(words).last_hidden_state


def autoencoder():
    transformers = library("transformers")
    config = transformers.ViTMAEConfig(
        image_size=16, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, hidden_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTMAEModel(config)
    x = torch.randn(4, 3, 16, 16)
    return model, lambda m=model: m(x).last_hidden_state


def loha():
    return _peft("LoHaConfig", rank_dropout=0.5, module_dropout=0.5, r=4)


def lokr():
    return _peft("LoKrConfig", rank_dropout=0.5, module_dropout=0.5, r=4)


def lora():
    return _peft("LoraConfig", lora_dropout=0.5, r=4)


def dora():
    return _peft("LoraConfig", lora_dropout=0.5, use_dora=True, r=4)


def _peft(config, **how):
    peft = library("peft")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    model = peft.get_peft_model(base, getattr(peft, config)(target_modules=["0", "2"], **how))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, 8)
    return model, lambda m=model: m(x)


class Graph(nn.Module):
    def __init__(self, drop):
        super().__init__()
        torch.manual_seed(0)
        self.drop, self.conv = drop, library("torch_geometric").nn.GATConv(8, 4, dropout=0.2)

    def forward(self, x, edges):
        return self.conv(*self.drop(x, edges, self.training))


def graph(name, **how):
    def built():
        function = getattr(library("torch_geometric").utils, name)

        def drop(x, edges, training):
            if name == "mask_feature":
                return function(x, p=0.4, training=training, **how)[0], edges
            return x, function(edges, p=0.4, training=training, **how)[0]

        model = Graph(drop)
        x, edges = torch.randn(12, 8), torch.randint(0, 12, (2, 60))
        return model, lambda: model(x, edges)

    built.__name__ = name
    return built


def timm_model(name, **how):
    def built():
        torch.manual_seed(0)
        model = library("timm").create_model(name, num_classes=4, **how)
        x = torch.randn(8, 3, 64, 64)
        return model, lambda m=model: m(x)

    built.__name__ = name
    return built


MODELS = {  # what is built, the library it needs, and the draws by hand that its rows name
    swin: ("transformers", {"rand"}),
    bart: ("transformers", {"rand"}),
    autoencoder: ("transformers", {"rand"}),
    lora: ("peft", set()),
    dora: ("peft", set()),
    loha: ("peft", {"rand"}),
    lokr: ("peft", {"rand"}),
    graph("dropout_edge"): ("torch_geometric", {"rand"}),
    graph("dropout_node", num_nodes=12): ("torch_geometric", {"rand"}),
    graph("mask_feature"): ("torch_geometric", {"rand", "rand_like"}),
    timm_model("test_vit", img_size=64, drop_path_rate=0.4, patch_drop_rate=0.5): (
        "timm",
        {"bernoulli_", "randn"},
    ),
    timm_model("test_resnet", drop_path_rate=0.3, drop_block_rate=0.3, zero_init_last=False): (
        "timm",
        {"bernoulli_", "normal_"},
    ),
}


@pytest.mark.parametrize(
    "built", [pytest.param(b, id=b.__name__, marks=needs(MODELS[b][0])) for b in MODELS]
)
def test_a_step_is_replayed(built):
    model, run = built()
    report = replayed(model, run)
    assert report.not_reached == ()
    done = " ".join(row.done for row in report.rows if row.done.startswith("calls of "))
    assert MODELS[built][1] <= set(done.replace(",", "").split())


@needs("transformers")
def test_stochastic_depth_has_its_rate_in_the_table():
    model, run = swin()
    report = adopt(model.train())
    rates = [row.p for row in report.rows if row.kind == "SwinDropPath"]
    assert rates == pytest.approx([0.4 / 3, 0.8 / 3, 0.4], abs=1e-6)
    with no_dropout(model):
        quiet = run()
    assert torch.equal(quiet, (model.eval(), run())[1])
    with set_p(model.train(), "*drop_path/dropout", 1e-9):
        torch.testing.assert_close(run(), quiet)


@needs("transformers")
def test_layer_drop_and_stochastic_depth_follow_a_schedule():
    model, run = bart()
    schedule = {"*coder/dropout": late(0.9, after=1)}
    clock = adopt(model.train(), schedule=schedule).clock
    assert torch.equal(run(), (model.eval(), run())[1])
    clock.tick()
    assert (model.encoder.layerdrop, model.decoder.layerdrop) == (0.9, 0.9)
    release(model)
    assert (model.encoder.layerdrop, model.decoder.layerdrop) == (0.5, 0.5)
    with set_p(model.train(), "*coder/dropout", 0.0):
        assert torch.equal(run(), (model.eval(), run())[1])
    model, run = swin()
    clock = adopt(model.train(), schedule={"*drop_path/dropout": late(0.9, after=1)}).clock
    assert torch.equal(run(), (model.eval(), run())[1])
    clock.tick()
    model.train()
    assert not torch.equal(run(), run())


@needs("transformers")
def test_a_stack_in_pieces_skips_the_same_layers():
    model, _ = bart()
    clock = adopt(model.train(), seed=1).clock
    words = torch.randint(3, 40, (4, 6))
    whole = model(words).last_hidden_state
    for start in (0, 2):
        with clock.piece(start, rows=2):
            y = model(words[start : start + 2]).last_hidden_state
            torch.testing.assert_close(y, whole[start : start + 2])


@needs("peft")
def test_adapters_are_saved_without_the_clock(tmp_path):
    peft = library("peft")
    model, run = lora()
    adopt(model.train(), seed=1)
    assert not any("clock" in name for name in peft.get_peft_model_state_dict(model))
    model.save_pretrained(tmp_path)
    saved = library("safetensors").torch.load_file(tmp_path / "adapter_model.safetensors")
    assert saved
    assert not any("clock" in name for name in saved)
    model.eval()
    y = run()
    release(model)
    torch.testing.assert_close(run(model.merge_and_unload()), y)


@needs("timm")
def test_fused_attention_says_which_site_draws():
    model, run = timm_model("test_vit", img_size=64, attn_drop_rate=0.3)()
    report = adopt(model.train(), seed=1)
    rows = {row.site: row for row in report.rows}
    said = rows["blocks.0.attn.attn_drop"].done
    assert said == "addressed; 'blocks.0.attn/dropout' draws with its p where attention is fused"
    run()
    assert "blocks.0.attn/dropout" in report.clock.drawing()
    assert "blocks.0.attn.attn_drop" not in report.clock.drawing()
    with set_p(model, "blocks.*.attn.attn_drop", 0.0):
        assert torch.equal(run(), run())
    assert not torch.equal(run(), run())


@needs("timm")
@pytest.mark.parametrize("kind", ["ModelEmaV2", "ModelEmaV3"])
def test_an_average_of_an_adopted_model(kind):
    model, run = timm_model("test_vit", img_size=64, drop_path_rate=0.4)()
    report = adopt(model.train(), seed=1)
    average = getattr(library("timm").utils, kind)(model, decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    for _ in range(2):
        report.clock.tick()
        average.update(model)
    average.module.eval()
    assert run(average.module).isfinite().all()


# ----------------------------------------------------------------------------------- planted faults


@needs("transformers")
def test_fault_numbers_that_are_left_to_the_generator(monkeypatch):
    monkeypatch.setattr("thinned.torch.adoption.functional_calls.GATES", {})
    with pytest.raises(AssertionError):
        replayed(*swin())
