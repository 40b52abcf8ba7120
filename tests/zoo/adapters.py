"""peft: every kind of adapter over a small BERT and a small Llama."""

import copy
import dataclasses
import logging

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import BertConfig, LlamaConfig

from .architectures import checkpoints_of
from .arguments import NotBuiltError
from .runs import step
from .shrinking import RATE, is_rate, shrunk
from .subject import Subject, awaken

BASES = {"bert": BertConfig, "llama": LlamaConfig}
TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}
FIRST = ("LORA", "DORA", "LOHA", "LOKR", "OFT", "IA3")
# Sizes that fit 32 features, and what a kind asks for besides.
OPTIONS = {
    "r": 4, "rank": 4, "oft_block_size": 0, "num_virtual_tokens": 4, "boft_block_size": 4,
    "n_frequency": 20, "block_size": 4, "num_vectors": 16, "vector_length": 4, "total_step": 10,
    "num_layers": 2, "token_dim": 32, "num_attention_heads": 4, "num_transformer_submodules": 1,
    "encoder_hidden_size": 32, "adapter_len": 4, "adapter_layers": 1, "num_tasks": 2,
}  # fmt: skip


def names():
    kinds = sorted({str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING} | {"DORA"})
    return [f"{kind} over {base}" for kind in kinds for base in BASES]


def subjects(name):
    kind, base = name.split(" over ")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    config = _config(kind, base)
    try:
        task = "FEATURE_EXTRACTION" if base == "bert" else "CAUSAL_LM"
        config.task_type = getattr(peft.TaskType, task)
        model = peft.get_peft_model(_base(base), config)
    except Exception as error:
        raise NotBuiltError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        ) from None
    awaken(model)
    given = {"input_ids": torch.randint(5, 90, (2, 12), generator=torch.Generator().manual_seed(0))}
    subject = Subject(name, "sdpa", model.train(), given, checkpoints_of(model.get_base_model()))
    subject.checkpoints = {
        way: lambda m, switch=switch: _switched(m, switch)
        for way, switch in subject.checkpoints.items()
    }
    try:
        step(model, subject.call, 0)
    except Exception as error:
        raise NotBuiltError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        ) from None
    return [subject]


def _switched(model, switch):
    base = model.get_base_model()
    base.enable_input_require_grads()  # as peft does for quantised models, whose base is frozen too
    switch(base)


def _base(base):
    from transformers import BertModel, LlamaForCausalLM

    kind = {"bert": BertModel, "llama": LlamaForCausalLM}[base]
    return kind(shrunk(BASES[base]))


def _config(kind, base):
    by_name = {str(known.value): made for known, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    config_class = by_name["LORA" if kind == "DORA" else kind]
    options = {"use_dora": True} if kind == "DORA" else {}
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    if "target_modules" in fields:
        options["target_modules"] = list(TARGETS[base])
    for name, field in fields.items():
        if is_rate(name, field.default):
            options[name] = RATE
        elif name in OPTIONS and name not in ("num_layers", "token_dim") and not options.get(name):
            options[name] = OPTIONS[name]
    if kind == "IA3":
        options |= {"feedforward_modules": []}
    try:
        return config_class(**copy.deepcopy(options))
    except Exception as error:
        raise NotBuiltError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        ) from None
