"""Dropout as a callback of transformers' Trainer."""

import json
import random

import numpy as np
import pytest
import torch
import transformers
from bert import ROWS, SEED, SITE, Seen, bert, rows, same, trainer, wanted, weights
from transformers import AutoModelForSequenceClassification, EarlyStoppingCallback, TrainerCallback

from thinned import members, schedules
from thinned.torch import adopt, checkpoint_context, release
from thinned.torch.clock.clock import BUFFER, Clock
from thinned.torch.frameworks.training import Training
from thinned.torch.transformers import Dropout

pytestmark = pytest.mark.filterwarnings(
    # transformers' and accelerate's own, whatever the callback does.
    "ignore::DeprecationWarning:(transformers|accelerate)",
    "ignore::FutureWarning:(transformers|accelerate)",
    "ignore:.*pin_memory:UserWarning",
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No colour of another test: accelerate keeps its precision for the process."""
    from accelerate.state import AcceleratorState

    transformers.utils.logging.disable_progress_bar()
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def trained(folder, *more, resume=None, callback=None, model=None, **settings):
    """The trainer at the end, and its callback. Every generator is elsewhere in each run."""
    callback = Dropout(seed=SEED) if callback is None else callback
    one = trainer(folder, [callback, *more], model, **settings)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(random.SystemRandom().randrange(2**32))
    one.train(resume_from_checkpoint=resume)
    return one, callback


class Recorder(TrainerCallback):
    """The masks of one site; it comes after Dropout, which adopts the model."""

    def on_train_begin(self, args, state, control, model=None, **_):
        self.seen = Seen(model.get_submodule(SITE))


def masks(folder, **how):
    recorder = Recorder()
    trained(folder, recorder, **how)
    return recorder.seen.masks


# ------------------------------------------------------------------------------------------- masks


def test_a_mask_is_that_of_seed_site_and_step(tmp_path):
    found = masks(tmp_path)
    assert len(found) == 6
    for step, mask in enumerate(found):
        assert torch.equal(mask, wanted(step)), step


def test_accumulated_micro_batches_are_calls_of_one_step(tmp_path):
    found = masks(tmp_path, gradient_accumulation_steps=2, max_steps=3)
    assert len(found) == 6
    for n, mask in enumerate(found):
        assert torch.equal(mask, wanted(n // 2, call=n % 2)), n
    assert not any(torch.equal(a, b) for n, a in enumerate(found) for b in found[:n])


def test_evaluation_in_between_counts_nothing(tmp_path):
    how = {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    for step, mask in enumerate(masks(tmp_path, **how)):
        assert torch.equal(mask, wanted(step)), step


def test_a_model_in_mixed_precision_draws_the_same(tmp_path):
    for step, mask in enumerate(masks(tmp_path, bf16=True, max_steps=2)):
        assert torch.equal(mask, wanted(step)), step


@pytest.mark.long
def test_a_compiled_model_draws_the_same(tmp_path):
    plain, _ = trained(tmp_path, max_steps=2)
    how = {"torch_compile": True, "torch_compile_backend": "eager"}
    compiled, _ = trained(tmp_path, **how, max_steps=2)
    assert same(weights(plain.model), weights(compiled.model))


# ------------------------------------------------------------------------------------------ resume

RESUMED = {
    "plain": {},
    "bf16": {"bf16": True},
    "fp16": {"fp16": True},
    "accumulated": {"gradient_accumulation_steps": 2},
    "checkpointed": {"gradient_checkpointing": True},
    "reentrant": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "checkpointed pieces": {
        "gradient_checkpointing": True,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing_kwargs": {
            "use_reentrant": False,
            "context_fn": checkpoint_context,
        },
    },
    "the model alone": {
        "save_only_model": True,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
    },
    "callbacks restored": {"restore_callback_states_from_checkpoint": True},
    "the best": {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
    },
    "epochs": {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch"},
}
# What checkpoints without a context learn to do by themselves: to be switched on with it.
WITHOUT_CONTEXT = {
    "checkpointed pieces, no context": {
        "gradient_checkpointing": True,
        "gradient_accumulation_steps": 2,
    },
}


@pytest.mark.one_in(6)
@pytest.mark.parametrize("how", RESUMED)
def test_a_resumed_training_ends_as_the_one_that_was_not_stopped(tmp_path, how):
    ends_the_same(tmp_path, **RESUMED[how])


def ends_the_same(folder, **how):
    whole, _ = trained(folder, **how)
    first = min(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    resumed, _ = trained(folder, resume=str(first), **how)
    assert same(weights(whole.model), weights(resumed.model))
    losses = [[log.get("loss") for log in one.state.log_history] for one in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("how", WITHOUT_CONTEXT)
def test_a_resumed_training_without_a_context(tmp_path, how):
    ends_the_same(tmp_path, **WITHOUT_CONTEXT[how])


def test_checkpointing_changes_no_gradient(tmp_path):
    plain, _ = trained(tmp_path)
    recomputed, _ = trained(tmp_path, gradient_checkpointing=True)
    assert same(weights(plain.model), weights(recomputed.model))


@pytest.mark.long
def test_early_stopping_and_going_on(tmp_path):
    stopping = EarlyStoppingCallback(early_stopping_patience=1, early_stopping_threshold=10.0)
    how = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "eval_loss"}
    how |= {"greater_is_better": False, "load_best_model_at_end": True}
    one, _ = trained(tmp_path, stopping, **how)
    assert one.state.global_step == 4
    how["load_best_model_at_end"] = False
    found = masks(tmp_path, resume=str(tmp_path / "checkpoint-4"), **how)
    assert [torch.equal(mask, wanted(step)) for mask, step in zip(found, (4, 5), strict=True)]


@pytest.mark.long
def test_a_checkpoint_of_a_training_without_the_callback_begins_at_its_step(tmp_path):
    one = trainer(tmp_path, [])
    one.train()
    found = masks(tmp_path, resume=str(tmp_path / "checkpoint-4"))
    assert torch.equal(found[0], wanted(4))
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["thinned_clock"] == {"seed": SEED, "step": 6}


@pytest.mark.long
def test_another_seed_is_refused_and_the_model_is_left_plain(tmp_path):
    trained(tmp_path)
    other = trainer(tmp_path, [Dropout(seed=SEED + 1)])
    with pytest.raises(ValueError, match=f"trained with seed={SEED}, got seed={SEED + 1}. Pass"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert BUFFER not in dict(other.model.named_buffers())


# --------------------------------------------------------------------------------- files and models


def test_files_are_those_of_a_plain_model(tmp_path):
    plain = bert().state_dict().keys()
    names = []

    class Look(TrainerCallback):
        def on_save(self, args, state, control, model=None, **_):
            names.append(set(model.state_dict()))

    one, _ = trained(tmp_path, Look())
    assert names == [set(plain)] * 3
    assert one.model.state_dict().keys() == plain
    for place in (tmp_path / "checkpoint-4", tmp_path / "saved"):
        one.save_model(str(tmp_path / "saved"))
        model, told = AutoModelForSequenceClassification.from_pretrained(
            place, output_loading_info=True
        )
        assert not any(told.values()), told
    assert same(weights(model), weights(one.model))


@pytest.mark.long
def test_nothing_is_said_of_the_model_that_is_loaded(tmp_path, capsys):
    trained(tmp_path)
    capsys.readouterr()
    trained(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    assert "keys" not in capsys.readouterr().err


def test_afterwards_the_model_is_plain_and_predicts(tmp_path):
    one, callback = trained(tmp_path)
    assert SITE in callback.report.sites
    assert "addressed" in str(callback.report)
    fresh = set(vars(bert().get_submodule(SITE)))
    assert set(vars(one.model.get_submodule(SITE))) == fresh
    words = torch.stack([row["input_ids"] for row in rows(8)])
    answer = members.predict(one.model, words, members=4, output=lambda out: out.logits)
    assert answer.std.max() > 0
    assert one.evaluate()["eval_loss"] == one.evaluate()["eval_loss"]


@pytest.mark.long
def test_the_next_training_begins_at_step_0(tmp_path):
    recorder = Recorder()
    one, callback = trained(tmp_path, recorder, max_steps=2)
    one.train()
    assert torch.equal(recorder.seen.masks[0], wanted(0))
    callback.report.clock  # noqa: B018 - the report outlives the training


@pytest.mark.long
def test_a_training_that_broke_off_leaves_the_next_one_free(tmp_path):
    class Break(TrainerCallback):
        broken = False

        def on_step_end(self, args, state, control, **_):
            if not self.broken:
                self.broken = True
                raise KeyboardInterrupt

    one = trainer(tmp_path, [Dropout(seed=SEED), Break()])
    with pytest.raises(KeyboardInterrupt):
        one.train()
    assert BUFFER not in one.model.state_dict()
    one.train()
    assert BUFFER not in dict(one.model.named_buffers())


@pytest.mark.long
def test_models_made_by_model_init(tmp_path):
    one = trainer(tmp_path, [Dropout(seed=SEED)])
    one.model_init = lambda: bert()
    one.train()
    first = weights(one.model)
    one.train()
    assert same(first, weights(one.model))


def test_an_adopted_model_is_refused(tmp_path):
    model = bert()
    adopt(model)
    with pytest.raises(ValueError, match=r"is adopted already\. Call release first"):
        trained(tmp_path, model=model)
    release(model)


def test_a_released_model_at_the_end_is_told(tmp_path):
    class Wrap(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            inner = model.forward
            model.forward = lambda *args, **kwargs: inner(*args, **kwargs)

    with pytest.warns(UserWarning, match="Dropout: the trained model stays adopted. release: the"):
        trained(tmp_path, Wrap(), max_steps=1)


# --------------------------------------------------------------------------------- steps that count


class NoTorch:
    """An optimizer that is none of PyTorch's."""

    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters), "lr": 1e-2}]
        self.state, self.defaults = {}, {}

    def step(self, closure=None):
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter -= 1e-2 * parameter.grad

    def zero_grad(self, set_to_none=True):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def state_dict(self):
        return {}


def test_an_optimizer_that_is_none_of_pytorchs(tmp_path):
    recorder = Recorder()
    model = bert()
    one = trainer(tmp_path, [Dropout(seed=SEED), recorder], model, save_strategy="no", max_steps=3)
    one.optimizer = NoTorch(model.parameters())
    one.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD(model.parameters(), 1.0)
    )
    one.train()
    for step, mask in enumerate(recorder.seen.masks):
        assert torch.equal(mask, wanted(step)), step


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.one_in(2)
def test_a_step_that_the_scaler_skips_does_not_count(tmp_path, fused):
    """fp16 as accelerate has it on a GPU, with PyTorch's scaler for the CPU."""

    class Overflow(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            if state.global_step == 1:
                next(model.parameters()).grad.fill_(float("inf"))

    recorder = Recorder()
    optim = "adamw_torch_fused" if fused else "adamw_torch"
    settings = {"optim": optim, "max_steps": 4, "save_strategy": "no", "max_grad_norm": 0.0}
    one = trainer(tmp_path, [Dropout(seed=SEED), recorder, Overflow()], **settings)
    one.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    one.accelerator.native_amp = True
    one.train()
    steps = [0, 1, 1, 2]
    found = [torch.equal(m, wanted(s)) for m, s in zip(recorder.seen.masks, steps, strict=True)]
    assert found == [True, True, False, True]  # the third is the same step's next call
    assert torch.equal(recorder.seen.masks[2], wanted(1, call=1))
    assert one.state.stateful_callbacks["thinned_clock"]["step"] == 3


# --------------------------------------------------------------------------------------- schedules


def test_a_schedule_follows_the_steps_and_is_logged(tmp_path):
    schedule = {"bert.embeddings.*": schedules.early(0.4, until=0.5)}
    one, _ = trained(tmp_path, callback=Dropout(SEED, schedule))
    logs = [log for log in one.state.log_history if "loss" in log]
    assert [log["dropout/bert.embeddings.*"] for log in logs] == [0.4] * 3 + [0.0] * 3
    assert one.model.get_submodule(SITE).p == 0.3
    whole = weights(one.model)
    again = {"callback": Dropout(SEED, schedule), "resume": str(tmp_path / "checkpoint-2")}
    one, _ = trained(tmp_path, **again)
    assert same(whole, weights(one.model))
    assert [log for log in one.state.log_history if "loss" in log] == logs


def test_rates_over_depth_are_logged_as_lowest_and_highest(tmp_path):
    schedule = {"bert.encoder.layer.*.output.dropout": schedules.depth_linear(0.4)}
    told = []

    class Later(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            told.append(dict(logs))

    trained(tmp_path, Later(), model=bert(layers=2), callback=Dropout(0, schedule), max_steps=1)
    name = "dropout/bert.encoder.layer.*.output.dropout"
    assert told[0][f"{name}/lowest"] < told[0][f"{name}/highest"] == 0.4
    assert not any(name in key for key in told[1])


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"seed": -1}, ValueError, r"^Dropout: seed must be an integer in \[0, "),
        ({"seed": 0.5}, TypeError, r"^Dropout: seed must be an integer in \[0, "),
        ({"schedule": 0.1}, TypeError, r"^Dropout: schedule must be a dict .*For one schedule"),
        ({"schedule": {"*": "x"}}, TypeError, r"^Dropout: schedule of '\*': a schedule must be"),
        ({"ranks": "both"}, ValueError, r"^Dropout: ranks must be "),
    ],
)
def test_what_is_refused(given, kind, words):
    with pytest.raises(kind, match=words):
        Dropout(**given)


def test_it_prints_what_it_was_given():
    schedule = {"*": schedules.early(0.1, until=5)}
    assert repr(Dropout()) == "Dropout(seed=0)"
    assert repr(Dropout(7, schedule, ranks="split")) == (
        f"Dropout(seed=7, schedule={schedule!r}, ranks='split')"
    )


# ----------------------------------------------------------------------------------- planted faults


def differs(folder, **how):
    whole, _ = trained(folder, **how)
    resumed, _ = trained(folder, resume=str(folder / "checkpoint-2"), **how)
    return not same(weights(whole.model), weights(resumed.model))


@pytest.mark.long
def test_planted_a_clock_that_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "_step_of", lambda *_: 0)
    assert differs(tmp_path)


@pytest.mark.long
def test_planted_dropout_of_the_generator(tmp_path):
    """Without the callback a checkpoint of the model alone does not go on as it would have."""
    assert differs(tmp_path, callback=TrainerCallback(), **RESUMED["the model alone"])


def test_planted_a_clock_that_ticks_with_every_micro_batch(tmp_path, monkeypatch):
    class Ticking(Dropout):
        def on_substep_end(self, args, state, control, **_):
            self._training.clock.tick()

    found = masks(tmp_path, callback=Ticking(SEED), gradient_accumulation_steps=2, max_steps=2)
    assert not torch.equal(found[1], wanted(0, call=1))


def test_planted_a_clock_in_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Clock, "keep_apart", lambda self: None)
    trained(tmp_path)
    _, told = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "checkpoint-2", output_loading_info=True
    )
    assert told["unexpected_keys"] == {BUFFER}


def test_planted_pieces_that_share_a_mask(tmp_path, monkeypatch):
    class Sharing(Dropout):
        def on_substep_end(self, args, state, control, **_):
            self._training.clock.step = self._training.clock.step

    found = masks(tmp_path, callback=Sharing(SEED), gradient_accumulation_steps=2, max_steps=1)
    assert torch.equal(found[0], found[1])
    assert len(found[0]) == ROWS
