"""How much of a device's matmul speed a training step uses."""

from __future__ import annotations

import time

import torch

from rescore.models.network import Network

__all__ = ["matmul_peak", "step_flops"]


def matmul_peak(device: str, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of the best of several large square matrix products of this type, measured now on this device."""
    size = 1024 if torch.device(device).type == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    best, until = float("inf"), time.monotonic() + seconds
    while time.monotonic() < until or best == float("inf"):
        started = time.perf_counter()
        _ = a @ a
        if a.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def step_flops(network: Network, batch: int, length: int, read_out: int) -> float:
    """FLOPs of the matrix products of one forward and backward pass (3 x 2 x weights): body, attention, and `read_out` rows of the output layer.

    Attention counts all keys, causal or not. Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
    """
    config = network.config
    weights = config.layers * (4 * config.width**2 + 3 * config.width * config.feed_forward)
    attention = config.layers * 2 * length * config.width
    return 6.0 * (
        batch * length * (weights + attention) + read_out * config.width * config.vocab_size
    )
