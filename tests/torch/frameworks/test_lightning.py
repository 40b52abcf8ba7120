"""Dropout as a callback of Lightning's Trainer, under both of its names."""

import importlib
import random

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import schedules
from thinned.torch.clock.clock import BUFFER
from thinned.torch.frameworks.training import Training
from thinned.torch.lightning import Dropout

pytestmark = [
    pytest.mark.filterwarnings("ignore:::lightning"),
    pytest.mark.filterwarnings("ignore:::pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*(num_workers|log_every_n_steps|ModelCheckpoint|LeafSpec)"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
]

SEED, WIDTH, ROWS = 3, 16, 8
NAMES = ("lightning.pytorch", "pytorch_lightning")
named = pytest.mark.parametrize("lightning_of", [lightning.pytorch, pytorch_lightning], ids=NAMES)
OTHER = {lightning.pytorch: "lightning.pytorch", pytorch_lightning: "pytorch_lightning"}


def data():
    x = torch.randn(48, 8, generator=torch.Generator().manual_seed(0))
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, x[:, :1].sign()), batch_size=ROWS
    )


class Body:
    """A network whose dropout stands in a module and in training_step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(8, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(WIDTH, 1)
        self.masks, self.own = [], []
        self.net[3].register_forward_hook(self.see)

    def see(self, module, given, out):
        if module.training:
            self.masks.append(out.detach() != 0)

    def forward(self, x):
        return self.head(self.net(x))

    def loss(self, batch):
        x, y = batch
        h = functional.dropout(self.net(x), 0.2, self.training)
        self.own.append(h.detach() != 0)
        return functional.mse_loss(self.head(h), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("v", functional.mse_loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class ByHand(Body):
    """Manual optimization: two steps of one optimizer to a batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()


class Two(ByHand):
    """Manual optimization: two optimizers, of which the second steps on every other batch."""

    def training_step(self, batch, batch_idx):
        for n, optimizer in enumerate(self.optimizers()):
            if n == 0 or batch_idx % 2:
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()

    def configure_optimizers(self):
        return [
            torch.optim.SGD(self.net.parameters(), lr=1e-2),
            torch.optim.AdamW(self.head.parameters(), lr=1e-2),
        ]


class Late(Body):
    """Layers that are there only after the trainer asked for them."""

    def __init__(self):
        super().__init__()
        del self.net, self.head

    def configure_model(self):
        if not hasattr(self, "net"):
            Body.__init__(later := object.__new__(kind_of(Body)))
            self.net, self.head = later.net, later.head
            self.net[3]._forward_hooks.clear()
            self.net[3].register_forward_hook(self.see)


class Checkpointed(Body):
    def loss(self, batch):
        x, y = batch
        h = checkpoint(self.net, x, use_reentrant=False)
        return functional.mse_loss(self.head(h), y)


def kind_of(body, package=lightning.pytorch):
    return type(body.__name__, (body, package.LightningModule), {})


def fitted(
    folder, body=Body, package=lightning.pytorch, callback=None, more=(), resume=None, **settings
):
    """The model and its callback at the end. Every generator is elsewhere in each run."""
    callback = Dropout(seed=SEED) if callback is None else callback
    model = kind_of(body, package)()
    saving = importlib.import_module(f"{OTHER[package]}.callbacks").ModelCheckpoint(
        folder, save_top_k=-1, every_n_epochs=1, filename="{epoch}"
    )
    trainer = package.Trainer(
        max_epochs=settings.pop("max_epochs", 3),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, *more, saving],
        default_root_dir=str(folder),
        **settings,
    )
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(random.SystemRandom().randrange(2**32))
    trainer.fit(model, data(), data(), ckpt_path=resume)
    return model, callback


def wanted(step, call=0, p=0.5, site="net.3", rows=ROWS):
    at = thinned.Address(SEED, site, step, call)
    return thinned.keep_mask((rows, WIDTH), p, at, like=torch.ones(rows, WIDTH))


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def follow(masks, places):
    assert len(masks) == len(places)
    return all(torch.equal(mask, wanted(*place)) for mask, place in zip(masks, places, strict=True))


# ------------------------------------------------------------------------------------------- masks


@named
def test_a_mask_is_that_of_seed_site_and_step(tmp_path, lightning_of):
    model, callback = fitted(tmp_path, package=lightning_of)
    assert follow(model.masks, [(step,) for step in range(18)])
    kept = [wanted(n, site="training_step/dropout", p=0.2) for n in range(18)]
    both = [mask & own for mask, own in zip(model.masks, kept, strict=True)]
    assert all(map(torch.equal, model.own, both))
    assert callback.report.sites == ("net.3", "training_step/dropout")
    assert callback.state_dict() == {"seed": SEED, "step": 18}


def test_accumulated_batches_are_calls_of_one_step(tmp_path):
    model, _ = fitted(tmp_path, accumulate_grad_batches=2, max_epochs=1)
    assert follow(model.masks, [(n // 2, n % 2) for n in range(6)])


def test_manual_optimization_counts_each_step(tmp_path):
    model, _ = fitted(tmp_path, ByHand, max_epochs=1)
    assert follow(model.masks, [(n,) for n in range(12)])


def test_of_two_optimizers_a_batch_is_a_step(tmp_path):
    model, callback = fitted(tmp_path, Two, max_epochs=1)
    assert follow(model.masks, [(n, c) for n in range(6) for c in range(1 + n % 2)])
    assert callback.state_dict()["step"] == 6


def test_layers_that_come_late(tmp_path):
    model, _ = fitted(tmp_path, Late, max_epochs=1)
    assert follow(model.masks, [(n,) for n in range(6)])


def test_mixed_precision(tmp_path):
    model, _ = fitted(tmp_path, precision="bf16-mixed", max_epochs=1)
    assert follow(model.masks, [(n,) for n in range(6)])


@named
def test_averages_of_weights_and_buffers_go_on_as_without(tmp_path, lightning_of):
    """They pair the buffers of a copy, made before the training, with those of the model."""
    averaging = importlib.import_module(f"{OTHER[lightning_of]}.callbacks").EMAWeightAveraging
    model, _ = fitted(tmp_path, package=lightning_of, more=[averaging()])
    assert follow(model.masks, [(n,) for n in range(18)])
    assert model.net[1].running_var.std() > 0


# ------------------------------------------------------------------------------------------ resume

HOW = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "by hand": {"body": ByHand},
    "two": {"body": Two},
    "checkpointed": {"body": Checkpointed},
    "bf16": {"precision": "bf16-mixed"},
    "late": {"body": Late},
}


@pytest.mark.parametrize("how", HOW)
def test_a_resumed_training_ends_as_the_one_that_was_not_stopped(tmp_path, how):
    whole, _ = fitted(tmp_path, **HOW[how])
    resumed, _ = fitted(tmp_path, resume=str(tmp_path / "epoch=0.ckpt"), **HOW[how])
    assert same(whole, resumed)


def test_a_checkpoint_goes_from_one_name_to_the_other(tmp_path):
    whole, _ = fitted(tmp_path)
    resume = str(tmp_path / "epoch=1.ckpt")
    resumed, _ = fitted(tmp_path / "other", package=pytorch_lightning, resume=resume)
    assert same(whole, resumed)


def test_a_checkpoint_without_the_callback_begins_at_its_step(tmp_path):
    fitted(tmp_path, callback=lightning.pytorch.Callback())
    model, _ = fitted(tmp_path, resume=str(tmp_path / "epoch=1.ckpt"))
    assert follow(model.masks, [(n,) for n in range(12, 18)])


def test_another_seed_is_refused(tmp_path):
    fitted(tmp_path)
    with pytest.raises(ValueError, match=r"trained with seed=3, got seed=4\. Pass the check"):
        fitted(tmp_path, callback=Dropout(4), resume=str(tmp_path / "epoch=1.ckpt"))


# --------------------------------------------------------------------------------- files and models


def test_checkpoints_are_those_of_a_plain_model(tmp_path):
    model, _ = fitted(tmp_path)
    plain = kind_of(Body)().state_dict().keys()
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == plain
    assert saved["callbacks"][Dropout().state_key] == {"seed": SEED, "step": 12}
    kind = type(model)
    assert same(kind.load_from_checkpoint(tmp_path / "epoch=2.ckpt"), model)


def test_afterwards_the_model_is_plain(tmp_path):
    model, callback = fitted(tmp_path)
    fresh = kind_of(Body)()
    assert vars(model).keys() - vars(fresh).keys() <= {"_hparams", "_fabric"}  # Lightning's own
    assert type(model.net[3]) is nn.Dropout
    assert thinned.members.predict(model, torch.ones(2, 8), members=4).std.max() > 0
    assert "net.3" in str(callback.report)


def test_a_training_that_breaks_off_leaves_a_plain_model(tmp_path):
    class Break(lightning.pytorch.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert pl_module.net[3].site is not None
            self.model = pl_module
            raise RuntimeError("enough")

    more = Break()
    with pytest.raises(RuntimeError, match="enough"):
        fitted(tmp_path, more=[more])
    assert type(more.model.net[3]) is nn.Dropout
    assert "training_step" not in vars(more.model)


def test_a_second_fit_goes_on(tmp_path):
    callback = Dropout(SEED)
    model = kind_of(Body)()
    trainer = lightning.pytorch.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(model, data())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, data())
    assert follow(model.masks, [(n,) for n in range(12)])


def test_a_schedule_follows_the_steps_and_is_logged(tmp_path):
    told = []

    class Look(lightning.pytorch.Callback):
        def on_train_batch_end(self, trainer, *_):
            told.append(float(trainer.callback_metrics["dropout/net.*"]))

    schedule = {"net.*": schedules.early(0.4, until=0.5)}
    whole, _ = fitted(tmp_path, callback=Dropout(SEED, schedule), more=[Look()])
    assert told == pytest.approx([0.4] * 9 + [0.0] * 9)
    assert whole.net[3].p == 0.5
    again = {"callback": Dropout(SEED, schedule), "resume": str(tmp_path / "epoch=0.ckpt")}
    assert same(whole, fitted(tmp_path, **again)[0])


@pytest.mark.long
def test_a_compiled_step_is_left_to_the_compiler(tmp_path):
    callback = Dropout(SEED)
    model = kind_of(Body)()
    compiled = torch.compile(model, backend="eager")
    trainer = lightning.pytorch.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(compiled, data())
    assert callback.state_dict() == {"seed": SEED, "step": 2}
    assert "net.3" in callback.report.sites


# ----------------------------------------------------------------------------------- planted faults


def test_planted_a_clock_that_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "_step_of", lambda *_: 0)
    whole, _ = fitted(tmp_path)
    assert not same(whole, fitted(tmp_path, resume=str(tmp_path / "epoch=0.ckpt"))[0])


def test_planted_dropout_of_the_generator(tmp_path):
    plain = {"callback": lightning.pytorch.Callback()}
    whole, _ = fitted(tmp_path, **plain)
    resumed, _ = fitted(tmp_path, resume=str(tmp_path / "epoch=0.ckpt"), **plain)
    assert not same(whole, resumed)


def test_planted_a_step_that_is_not_covered(tmp_path, monkeypatch):
    monkeypatch.setattr(Dropout, "_cover", lambda *_: None)
    whole, callback = fitted(tmp_path)
    assert callback.report.sites == ("net.3",)
    assert not same(whole, fitted(tmp_path, resume=str(tmp_path / "epoch=0.ckpt"))[0])


def test_planted_a_clock_among_the_buffers(tmp_path, monkeypatch):
    """The averages then pair the clock with statistics of BatchNorm."""
    monkeypatch.setattr("thinned.torch.clock.clock.Clock.keep_apart", lambda self: None)
    averaging = lightning.pytorch.callbacks.EMAWeightAveraging()
    with pytest.raises((RuntimeError, ValueError)):
        fitted(tmp_path, more=[averaging])


def test_planted_a_clock_in_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr("thinned.torch.clock.clock.Clock.keep_apart", lambda self: None)
    fitted(tmp_path)
    assert BUFFER in torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["state_dict"]
