"""A small BERT, its data, and what its masks are to be."""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import thinned

SITE = "bert.embeddings.dropout"
SEED, WIDTH, TOKENS, ROWS = 3, 16, 8, 4


def bert(p=0.3, layers=1):
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=50,
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=TOKENS,
            hidden_dropout_prob=p,
            attention_probs_dropout_prob=p,
        )
    )


def rows(number=48):
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 50, (number, TOKENS), generator=generator)
    return [{"input_ids": row, "labels": i % 2} for i, row in enumerate(words)]


def trainer(folder, callbacks, model=None, kind=Trainer, **settings):
    """A Trainer whose batches are the rows in their order."""
    settings = {
        "per_device_train_batch_size": ROWS,
        "max_steps": 6,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    arguments = TrainingArguments(output_dir=str(folder), **settings)
    model = model if model is not None else bert()
    return kind(
        model=model,
        args=arguments,
        train_dataset=rows(),
        eval_dataset=rows(8),
        callbacks=callbacks,
    )


class Seen:
    """The masks that a dropout drew in training, as they came."""

    def __init__(self, module):
        self.masks = []
        self.handle = module.register_forward_hook(self)

    def __call__(self, module, given, out):
        if module.training:
            self.masks.append(out.detach() != 0)


def wanted(step, call=0, p=0.3, seed=SEED, site=SITE, rows=ROWS):
    like = torch.ones(rows, TOKENS, WIDTH)
    at = thinned.Address(seed, site, step, call)
    return thinned.keep_mask(tuple(like.shape), p, at, like=like)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
