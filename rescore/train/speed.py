"""How much of a device's matmul speed training uses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rescore.models.opening import check_device
from rescore.train.options import RunOptions

__all__ = ["SpeedMeter", "matmul_peak", "multiplies_bfloat16", "step_flops"]


class SpeedMeter:
    """Scored tokens and FLOPs of training steps over time, since the last `restart`."""

    def __init__(self, options: RunOptions) -> None:
        """Measure the device's matmul speed, which the shares are of."""
        dtype = torch.bfloat16 if options.bf16 else torch.float32
        self._peak = matmul_peak(options.device, dtype)
        self.restart()

    def restart(self) -> None:
        """Forget what was counted and start the clock."""
        self._started, self._tokens, self._flops = time.monotonic(), 0, 0.0

    def add(self, tokens: int, flops: float) -> None:
        """Count a step."""
        self._tokens += tokens
        self._flops += flops

    def read(self) -> tuple[float, float]:
        """Tokens per second, and the share of the matmul speed that is used."""
        seconds = time.monotonic() - self._started
        return self._tokens / seconds, self._flops / seconds / self._peak


def matmul_peak(device: str, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of the fastest of several large square matrix products, measured now on `device`."""
    size = 1024 if torch.device(device).type == "cpu" else 8192
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best, until = float("inf"), time.monotonic() + seconds
    while time.monotonic() < until or best == float("inf"):
        started = time.perf_counter()
        _ = matrix @ matrix
        if matrix.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def multiplies_bfloat16(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bfloat16 products are fast on a device.

    A CPU without instructions for them takes 10 to 100 times as long as for float32. Raises
    ModelError for a device that cannot be used.
    """
    check_device(device)
    if torch.device(device).type != "cpu":
        return not device.startswith("cuda") or torch.cuda.is_bf16_supported()
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.is_file() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def step_flops(network: nn.Module, batch: int, length: int, read_out: int) -> float:
    """FLOPs of the matrix products of one forward and backward pass: 3 x 2 x weights.

    Counts the blocks, attention, and `read_out` rows of the output layer. Attention counts all
    keys, causal or not. Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
    """
    config: Any = network.config
    weights = sum(
        weight.numel()
        for name, weight in network.named_parameters()
        if name.startswith("blocks.") and weight.ndim == 2 and ".modulation." not in name
    )
    attention = config.layers * 2 * length * config.width
    output = config.width * config.vocab_size
    products: float = batch * length * (weights + attention) + read_out * output
    return 6.0 * products
