"""Does the grokking measure hold on runs that did not choose its thresholds?

``python -m forge_notebook.trainer.validate_grokking`` trains fresh seeds on other moduli and other
operations (division, a sum of squares), on another task (parity), and three controls that never
grok: random labels, no weight decay, and a task that is learned without delay. It prints a table
and exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from forge_notebook.core.grokking import DONE, GrokTracker
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import Data, ModularData, load_data
from forge_notebook.trainer.metrics import cross_entropy, evaluate
from forge_notebook.trainer.optim import Optimizers, schedule
from forge_notebook.trainer.presets import build_model

STEPS = 1500
EVERY = 10
FIRST_SEED = 20_000  # the thresholds were chosen on seeds 0 to 2; 7000 on was looked at since
MODULI = (41, 47, 53)
BITS = {41: 18, 47: 20, 53: 22}  # of parity, instead of a modulus
GROK_TASKS = ("add", "divide", "squares", "parity")
CONTROLS = ("random labels", "no weight decay", "normal learning")
KINDS = (*GROK_TASKS, *CONTROLS)
SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class Curve:
    """One run: what the tracker said at each evaluation."""

    onset: int | None = None
    done: int | None = None  # first step with held-out G >= 0.98
    memorized: bool = False
    etas: list[tuple[int, int]] = field(default_factory=list)  # (step, predicted step of the end)


def run(kind: str, modulus: int, seed: int) -> Curve:
    """Train one net of a kind; stops soon after it is done."""
    config, data = _setting(kind, modulus, seed)
    model = build_model(config, data, 0)
    optimizers = Optimizers(model, config)
    tracker, curve = GrokTracker(), Curve()
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            found = evaluate(model, data)
            tracker.update(step, found["rank_train"], found["rank_val"])
            curve.memorized |= found["rank_train"] >= DONE
            if (eta := tracker.eta_steps()) is not None:
                curve.etas.append((step, step + eta))
            if found["rank_val"] >= DONE:
                curve.done = step
                break
        x, y = data.batch(seed, step, config.batch_size)
        torch.autograd.backward(cross_entropy(model(x).logits, y))
        optimizers.step(config.learning_rate * schedule("modular", step, STEPS))
        optimizers.zero_grad()
    curve.onset = tracker.onset_step
    return curve


def _setting(kind: str, modulus: int, seed: int) -> tuple[TrainingConfig, Data]:
    if kind == "parity":
        config = TrainingConfig(
            task="parity", preset="onehot", bits=BITS[modulus], seed=seed,
            batch_size=100, learning_rate=0.01, weight_decay=1.0,
        )  # fmt: skip
        return config, load_data(config)
    changes: dict[str, Any] = {"learning_rate": 0.03, "weight_decay": 2.0}
    if kind in GROK_TASKS:
        changes["operation"] = kind
    elif kind == "no weight decay":
        changes["weight_decay"] = 0.0
    elif kind == "normal learning":  # the larger operand: no memory of pairs helps or is needed
        changes |= {"batch_size": 64, "learning_rate": 0.003}
    changes = {"train_fraction": 0.5, **changes}  # fewer pairs of a smaller modulus: more of them
    config = TrainingConfig.demo("grok", modulus=modulus, seed=seed, **changes)
    data = load_data(config)
    assert isinstance(data, ModularData)
    if kind == "random labels":
        generator = torch.Generator().manual_seed(seed)
        for _, y in (data.train, data.val):
            y.copy_(torch.randint(modulus, y.shape, generator=generator))
    elif kind == "normal learning":
        for x, y in (data.train, data.val):
            y.copy_(x.amax(1, keepdim=True))
    return config, data


def verdict(kinds: dict[str, list[Curve]]) -> tuple[list[str], bool]:
    """Table lines, and whether all goals are met."""
    lines, hits, groks, false, never = [], 0, 0, 0, 0
    within: Counter[float] = Counter()
    checked: Counter[float] = Counter()
    for kind, curves in kinds.items():
        alarms = sum(curve.onset is not None for curve in curves)
        done = sum(curve.done is not None for curve in curves)
        lines.append(
            f"{kind:<18} {len(curves):4d} runs {sum(c.memorized for c in curves):4d} memorized "
            f"{done:4d} generalized {alarms:4d} onsets"
        )
        if kind in GROK_TASKS:
            groks += done
            hits += sum(c.onset is not None and c.done is not None for c in curves)
            for share, ok in _eta_checks(curves):
                checked[share] += 1
                within[share] += ok
        else:
            false, never = false + alarms, never + len(curves)
    lines.append(f"hits {hits} of {groks} that grok (goal 95 %)")
    lines.append(f"false onsets {false} of {never} (goal 1 %)")
    for share in SHARES:
        lines.append(
            f"ETA within x2 at {share:.0%} of the way: {within[share]} of {checked[share]}"
        )
    good_eta = all(within[share] >= 0.95 * checked[share] for share in SHARES)
    return lines, hits >= 0.95 * groks > 0 and false <= 0.01 * never and good_eta


def _eta_checks(curves: list[Curve]) -> Iterator[tuple[float, bool]]:
    """For each share of the way with an ETA: whether the predicted end is within a factor of 2."""
    for curve, share in itertools.product(curves, SHARES):
        if curve.done is None:
            continue
        known = [end for step, end in curve.etas if step <= share * curve.done]
        if known:
            yield share, 0.5 <= known[-1] / curve.done <= 2


def main() -> int:
    """Run from the command line; 0 where all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=36, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    kinds: dict[str, list[Curve]] = {}
    for kind in args.kinds:
        for index in range(args.runs):
            curve = run(kind, MODULI[index % len(MODULI)], args.first_seed + index)
            kinds.setdefault(kind, []).append(curve)
            ends = f"onset {curve.onset}, done {curve.done}"
            print(f"{kind} {index + 1}/{args.runs}: {ends}", file=sys.stderr, flush=True)
    lines, ok = verdict(kinds)
    print("\n" + "\n".join(lines))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
