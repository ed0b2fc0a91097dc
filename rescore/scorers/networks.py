"""What scorers with a network share: vocabulary and window, signature, dtype, batch budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rescore.batching import Budget, length_batches
from rescore.interfaces import Cost, TextTokenizer
from rescore.models.checkpoint import Checkpoint
from rescore.models.embedded import open_vocabulary
from rescore.scorers.family import Vocabulary
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.scorers.signature import normalizer_title, signature
from rescore.text import normalizer

__all__ = [
    "NETWORK_OPTIONS",
    "WINDOW",
    "budget",
    "checkpoint_vocabulary",
    "cost",
    "dtype_name",
    "hub_vocabulary",
    "network_signature",
    "open_checkpoint_vocabulary",
    "torch_dtype",
]

#: Longest sequence of our own networks, BOS and EOS included: they learn from texts of at most 60
#: words.
WINDOW = 128

#: The options that every scorer with a network reads.
NETWORK_OPTIONS = frozenset(
    {"model", "device", "dtype", "normalizer", "window", "score_eos", "per_token"}
)

#: Sequences of a trial call on a GPU: enough to see what a token costs.
_TRIAL_ROWS, _TRIAL_LENGTH = 128, 64


def checkpoint_vocabulary(checkpoint: Checkpoint, options: ScorerOptions) -> Vocabulary:
    """The vocabulary of a checkpoint of ours that is loaded."""
    return Vocabulary(
        checkpoint.tokenizer,
        normalizer(options.normalizer or checkpoint.normalizer),
        options.window or WINDOW,
    )


def open_checkpoint_vocabulary(objective: str, options: ScorerOptions) -> Vocabulary:
    """The same, from the checkpoint's files without its weights. Raises ModelError."""
    tokenizer, default = open_vocabulary(options.model, objective)
    return Vocabulary(
        tokenizer, normalizer(options.normalizer or default), options.window or WINDOW
    )


def hub_vocabulary(tokenizer: TextTokenizer, max_length: int, options: ScorerOptions) -> Vocabulary:
    """The vocabulary of a Hugging Face model, by default without a normaliser."""
    window = min(options.window or max_length, max_length)
    return Vocabulary(tokenizer, normalizer(options.normalizer or "none"), window)


def network_signature(
    score: str,
    model: str,
    settings: Mapping[str, object],
    sequencer: Sequencer,
    options: ScorerOptions,
    version: int,
) -> str:
    """The signature of a score that a network makes; see `rescore.scorers.signature.signature`."""
    common = {
        "normalizer": normalizer_title(sequencer.vocabulary.normalize),
        "window": sequencer.vocabulary.window,
        "eos": int(sequencer.score_eos),
        "dtype": dtype_name(options),
    }
    return signature(score, model, {**settings, **common}, version)


def torch_dtype(options: ScorerOptions) -> torch.dtype:
    """The torch dtype that the options name."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
    return dtypes[dtype_name(options)]


def dtype_name(options: ScorerOptions) -> str:
    """The dtype of the network's body; what `auto` stands for on the device."""
    if options.dtype != "auto":
        return options.dtype
    has_bfloat16 = options.device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return "bfloat16" if has_bfloat16 else "float32"


def cost(lengths: Sequence[int], budget: Budget) -> Cost:
    """What sequences of these lengths cost, one evaluation each, in batches of a budget."""
    padded = sum(len(batch) * lengths[batch[0]] for batch in length_batches(lengths, budget))
    return Cost(len(lengths), padded, padded - sum(lengths))


@torch.no_grad()
def budget(device: str, call: Callable[[Tensor, Tensor], object]) -> Budget:
    """The budget of a batch: what fits the caches of a CPU, or the free memory of a GPU.

    On a GPU it follows from the peak memory of one trial call. `call(tokens, padding)` evaluates
    the network on tokens (B, L) int64 and padding (B, L) bool on `device`.
    """
    if not device.startswith("cuda"):
        return Budget()
    tokens = torch.zeros(_TRIAL_ROWS, _TRIAL_LENGTH, dtype=torch.int64, device=device)
    padding = torch.zeros_like(tokens, dtype=torch.bool)
    padding[0, -1] = True  # so that the mask is part of what is measured
    free, _total = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call(tokens, padding)
    return Budget.of_gpu(torch.cuda.max_memory_allocated(device) - before, tokens.numel(), free)
