"""What every scorer shares: its signature, its dtype, its window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rescore.batching import Budget, length_batches
from rescore.scorers.options import Cost, ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.text import Normalizer

__all__ = ["WINDOW", "budget", "cost", "dtype_name", "signature", "torch_dtype"]

#: Longest sequence of our own networks, BOS and EOS included: they are trained on texts of at most 60 words.
WINDOW = 128

#: Sequences of a trial call on a GPU: enough to see what a token costs.
_TRIAL_ROWS, _TRIAL_LENGTH = 128, 64

#: Raised whenever a number that a scorer returns changes for equal settings.
_VERSION = 2


def signature(
    scorer: str,
    digest: str,
    estimator: str,
    settings: Mapping[str, object],
    sequencer: Sequencer,
    options: ScorerOptions,
) -> str:
    """One line that holds everything a score depends on: two numbers may be compared iff their signatures are equal."""
    common = {
        "model": digest,
        **settings,
        "normalizer": _title(sequencer.normalize),
        "window": sequencer.window,
        "eos": int(sequencer.score_eos),
        "dtype": dtype_name(options),
        "version": _VERSION,
    }
    return "|".join(
        [f"{scorer}.{estimator}", *(f"{name}={value}" for name, value in common.items())]
    )


def _title(normalize: Normalizer) -> str:
    """The name of a normaliser; with its module where it comes from another package, for two may choose the same name."""
    name = normalize.__qualname__
    return name if normalize.__module__ == "rescore.text" else f"{normalize.__module__}.{name}"


def torch_dtype(options: ScorerOptions) -> torch.dtype:
    """The torch dtype that the options name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[
        dtype_name(options)
    ]


def dtype_name(options: ScorerOptions) -> str:
    """The dtype of the network's body; what `auto` stands for on the device."""
    if options.dtype != "auto":
        return options.dtype
    return (
        "bfloat16"
        if options.device.startswith("cuda") and torch.cuda.is_bf16_supported()
        else "float32"
    )


def cost(lengths: Sequence[int], budget: Budget) -> Cost:
    """What sequences cost in batches of a budget."""
    padded = sum(len(batch) * lengths[batch[0]] for batch in length_batches(lengths, budget))
    return Cost(len(lengths), padded, padded - sum(lengths))


@torch.no_grad()
def budget(device: str, call: Callable[[Tensor, Tensor], object]) -> Budget:
    """The budget of a batch: on a CPU what fits its caches, on a GPU what its free memory holds, by the peak of one trial call.

    `call(tokens, padding)` evaluates the network on tokens (batch, length) int64 and padding (batch, length) bool of `device`.
    """
    if not device.startswith("cuda"):
        return Budget()
    tokens = torch.zeros(_TRIAL_ROWS, _TRIAL_LENGTH, dtype=torch.int64, device=device)
    padding = torch.zeros_like(tokens, dtype=torch.bool)
    padding[0, -1] = True  # the mask is part of what is measured
    free, _total = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call(tokens, padding)
    return Budget.of_gpu(torch.cuda.max_memory_allocated(device) - before, tokens.numel(), free)
