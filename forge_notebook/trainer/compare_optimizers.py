"""What helps grokking once the baseline is tuned, in steps: the same net, data and seeds for all.

``python -m forge_notebook.trainer.compare_optimizers`` prints, for each setting, the step at which
99 % of the held-out pairs are right (one-hot net, addition modulo 59, 40 % for training).
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import load_data
from forge_notebook.trainer.metrics import cross_entropy, evaluate
from forge_notebook.trainer.muon import Muon
from forge_notebook.trainer.optim import Optimizers, schedule
from forge_notebook.trainer.presets import build_model

STEPS, EVERY, SEEDS = 2000, 10, (11, 12)
FAST: dict[str, Any] = {"grokfast": True, "grokfast_lambda": 2.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "AdamW lr .03 wd 2": {"learning_rate": 0.03, "weight_decay": 2.0},
    "AdamW lr .01 wd 1": {"learning_rate": 0.01, "weight_decay": 1.0},
    "AdamW lr .01 wd 0": {"learning_rate": 0.01, "weight_decay": 0.0},
    "AdamW lr .01 wd 1, GrokFast .98": {"learning_rate": 0.01, "weight_decay": 1.0, **FAST},
    "AdamW lr .01 wd 1, GrokFast .9": {
        "learning_rate": 0.01, "weight_decay": 1.0, **FAST, "grokfast_alpha": 0.9,
    },
    "AdamW lr .01 wd 0, GrokFast .98": {"learning_rate": 0.01, "weight_decay": 0.0, **FAST},
    "Muon lr .3 wd .1": {"optimizer": "muon", "learning_rate": 0.3, "weight_decay": 0.1},
    "Muon lr .1 wd .3": {"optimizer": "muon", "learning_rate": 0.1, "weight_decay": 0.3},
    "Muon lr .1 wd 1": {"optimizer": "muon", "learning_rate": 0.1, "weight_decay": 1.0},
}  # fmt: skip


def steps_to_generalize(config: TrainingConfig) -> int | None:
    """Steps until 99 % of the held-out pairs are right; None where that takes too long."""
    data = load_data(config)
    model = build_model(config, data, 0)
    optimizers = Optimizers(model, config)
    if config.optimizer == "muon":  # of all matrices: this net has no hidden ones
        group = [{"params": list(model.parameters()), "ratio": 1.0}]
        optimizers.parts = [Muon(group, weight_decay=config.weight_decay or 0.0)]
    for step in range(STEPS + 1):
        if step % EVERY == 0 and evaluate(model, data)["val_accuracy"] >= 0.99:
            return step
        x, y = data.batch(config.seed, step, None)
        torch.autograd.backward(cross_entropy(model(x).logits, y))
        optimizers.step(config.learning_rate * schedule("modular", step, STEPS))
        optimizers.zero_grad()
    return None


def main() -> int:
    """Run from the command line; arguments are the beginnings of the settings to run."""
    wanted = tuple(sys.argv[1:]) or ("",)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    for name, changes in SETTINGS.items():
        if not name.startswith(wanted):
            continue
        found = [
            steps_to_generalize(TrainingConfig.demo("grok", seed=seed, **changes)) for seed in SEEDS
        ]
        steps = ", ".join(f"not in {STEPS}" if n is None else str(n) for n in found)
        print(f"{name:<34} {steps}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
