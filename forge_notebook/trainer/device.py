"""Where a model runs and how: device, bf16, torch.compile, and how much memory that takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.model import Output

Forward = Callable[[Tensor], Output]
COMPILERS = ("g++", "clang++", "c++")
STATM = Path("/proc/self/statm")  # Linux only; second number: resident pages


def device_of(config: TrainingConfig) -> torch.device:
    """The device of a configuration. Raises ConfigError where it or its options are not there."""
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' is not possible: torch finds no GPU here; use 'cpu'")
    bf16 = config.precision == "bf16"
    if bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        name = torch.cuda.get_device_name()
        raise ConfigError(f"precision='bf16' is not possible: {name} has none; use 'fp32'")
    if config.compile and (missing := _missing_compiler(device.type)):
        raise ConfigError(f"compile=True is not possible: torch.compile needs {missing} here")
    return device


def _missing_compiler(device: str) -> str:
    if device == "cuda":
        from torch.utils._triton import has_triton  # torch.compile asks the same function

        return "" if has_triton() else "Triton"
    if sys.platform == "win32":
        return "" if shutil.which("cl") else "Visual C++ (cl.exe)"
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    return "" if any(map(shutil.which, names)) else f"a C++ compiler ({' or '.join(names)})"


def forward_of(module: nn.Module, config: TrainingConfig) -> Forward:
    """What to call for a training forward: compiled and in bf16 where the configuration says so.

    Only matrix products and attention are in bf16 (torch.autocast); weights, gradients, the loss
    and all evaluations stay fp32, so no loss scaling is needed.
    """
    forward: Any = torch.compile(module) if config.compile else module
    if config.precision == "fp32":
        return forward  # type: ignore[no-any-return]

    def in_bf16(x: Tensor) -> Output:
        with torch.autocast(x.device.type, torch.bfloat16):
            output = forward(x)
        return Output(output.logits.float(), output.extra_loss, output.observed)

    return in_bf16


def memory_in_use(device: torch.device) -> dict[str, float]:
    """`memory_mb`: this process's resident memory; `gpu_memory_mb`: the most that torch held there.

    In units of 1e6 bytes; what the system does not tell is left out.
    """
    found = {}
    try:
        pages = int(STATM.read_text().split()[1])
        found["memory_mb"] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    if device.type == "cuda":
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return found
