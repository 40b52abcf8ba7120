"""transformers' Trainer, stopped and resumed: bit for bit as if it had not been stopped.

A small BERT reads each digit as eight words, the rows of its image, with dropout in its embeddings,
attention and layers. The second run goes on from a checkpoint that the first one wrote half way.
The model in it is a plain one: from_pretrained loads it. All that the masks need are the two
numbers of a clock, which stand in trainer_state.json.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from thinned.torch.transformers import Dropout

X, y = load_digits(return_X_y=True)
WIDTH = 32
lines = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 8, 8)
words, labels = nn.functional.pad(lines, (0, WIDTH - 8)), torch.tensor(y)
rows = [{"inputs_embeds": word, "labels": int(label)} for word, label in zip(words, y, strict=True)]
STEPS = 120


def network() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1, max_position_embeddings=8, hidden_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    )  # fmt: skip
    config.num_labels = 10
    return BertForSequenceClassification(config)


def train(folder: str, resume: Path | None = None) -> nn.Module:
    settings = TrainingArguments(
        output_dir=folder, max_steps=STEPS, save_steps=STEPS // 2, per_device_train_batch_size=64,
        learning_rate=1e-2, use_cpu=True, report_to="none", disable_tqdm=True,
        logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    model = network()
    trainer = Trainer(model, settings, train_dataset=rows, callbacks=[Dropout(seed=0)])
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return model


with tempfile.TemporaryDirectory() as folder:
    whole = train(folder)
    half = Path(folder) / f"checkpoint-{STEPS // 2}"  # where a run was that was stopped there
    resumed = train(folder, resume=half)
    AutoModelForSequenceClassification.from_pretrained(half)

pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
print("bit for bit the same:", all(torch.equal(a, b) for a, b in pairs))
whole.eval()
with torch.no_grad():
    accuracy = (whole(inputs_embeds=words).logits.argmax(1) == labels).float().mean().item()
print(f"accuracy on the rows it was trained on: {accuracy:.3f}")
