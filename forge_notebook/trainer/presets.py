"""Which model a configuration asks for, and how the models of one session differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.model import BitNet, Cognate, OneHotNet, Shape, initialize

SEED_STEP = 1000
ONEHOT_HIDDEN = 256

# name, halting threshold, weights of surprise and novelty when writing, slots: as published
VARIANTS = (
    ("reasoning", 0.95, 0.7, 0.3, 4096),
    ("memory", 0.90, 0.5, 0.5, 8192),
    ("adaptive", 0.99, 0.3, 0.7, 2048),
)

# One block before the core learns more per second than two: in the same time 480 steps reach 2.02
# bits per byte, 390 steps of two blocks 2.13.
TINY = {"width": 128, "heads": 4, "hidden": 352, "blocks": 1, "core_steps": 2}
PUBLISHED = {
    "width": 216, "heads": 4, "hidden": 864, "blocks": 11, "core_steps": 2, "top": 4, "rope": True,
}  # fmt: skip


def model_seed(config: TrainingConfig, index: int) -> int:
    """Seed of the weights and of the data order of one model."""
    return config.seed + SEED_STEP * index


def model_name(config: TrainingConfig, index: int) -> str:
    """The three Cognate text models have names; the others differ by their seed only."""
    if config.variants == "published" and config.task == "text" and index < len(VARIANTS):
        return VARIANTS[index][0]
    return f"model-{index + 1}"


def build_model(config: TrainingConfig, data: Data, index: int) -> nn.Module:
    """A model with its first weights, the same for the same configuration and index."""
    with torch.device("meta"):  # default initialization would use up the user's global RNG
        model = _model(config, data, index)
    initialize(model, model_seed(config, index))
    return model


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _model(config: TrainingConfig, data: Data, index: int) -> nn.Module:
    if config.preset == "onehot":
        if config.task == "parity":
            return BitNet(data.seq_len, ONEHOT_HIDDEN)
        return OneHotNet(data.classes, ONEHOT_HIDDEN)
    shape = Shape(data.classes, data.seq_len, **_sizes(config), tied=config.tied)
    if not config.halting and shape.core_steps:  # a plain block in the core's place
        shape = replace(shape, core_steps=0, blocks=shape.blocks + 1)
    if config.task != "text" and config.preset == "tiny":
        return Cognate(shape)
    variant = VARIANTS[index % len(VARIANTS) if config.variants == "published" else 0]
    _, halting, surprise, novelty, slots = variant
    return Cognate(
        replace(
            shape,
            memory=config.memory,
            halting=halting,
            surprise=surprise,
            novelty=novelty,
            slots=slots if config.preset == "cognate-25m" else 0,
        )
    )


def _sizes(config: TrainingConfig) -> dict[str, Any]:
    if config.preset == "cognate-25m":
        return PUBLISHED
    if config.task != "text":  # one block: the fastest Cognate that groks
        return {"width": 64, "heads": 4, "hidden": 128, "blocks": 1}
    return TINY
