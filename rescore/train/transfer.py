"""Moving a batch to the device that trains on it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["to_device"]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values`, any shape, on `device`; the CPU does not wait for a GPU that is still at work.

    A plain copy to a GPU waits for everything asked of it before, and the GPU then for the CPU to
    prepare the next batch; a copy from page-locked memory only takes its place in the queue.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
