"""A model to be tried, and arguments for it."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class Subject:
    """A model in training mode, arguments for it, and ways to switch checkpointing on."""

    name: str
    variant: str
    model: torch.nn.Module
    given: Any
    checkpoints: dict = field(default_factory=dict)

    def call(self, model):
        given = copy.deepcopy(self.given)
        return model(**given) if isinstance(given, dict) else model(*given)

    def fresh(self):
        return copy.deepcopy(self.model)


def awaken(model):
    """No weight is left at zero, where nothing that is dropped before it would show, and none at
    what memory held."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                usable = parameter.isfinite() & (parameter.abs() < 100)
                parameter.copy_(torch.where(usable, parameter, 0.0) + 0.03 * noise)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
