"""What every scorer shares: its signature, its dtype, its window."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.text import Normalizer

__all__ = ["WINDOW", "signature", "torch_dtype"]

#: Longest sequence of our own networks, BOS and EOS included: they are trained on texts of at most 60 words.
WINDOW = 128

#: Raised whenever a number that a scorer returns changes for equal settings.
_VERSION = 2


def signature(scorer: str, digest: str, estimator: str, settings: Mapping[str, object], sequencer: Sequencer, options: ScorerOptions) -> str:
    """One line that holds everything a score depends on: two numbers may be compared iff their signatures are equal."""
    common = {
        "model": digest,
        **settings,
        "normalizer": _title(sequencer.normalize),
        "window": sequencer.window,
        "eos": int(sequencer.score_eos),
        "dtype": options.dtype,
        "version": _VERSION,
    }
    return "|".join([f"{scorer}.{estimator}", *(f"{name}={value}" for name, value in common.items())])


def _title(normalize: Normalizer) -> str:
    """The name of a normaliser; with its module where it comes from another package, for two may choose the same name."""
    name = normalize.__qualname__
    return name if normalize.__module__ == "rescore.text" else f"{normalize.__module__}.{name}"


def torch_dtype(options: ScorerOptions) -> torch.dtype:
    """The torch dtype that the options name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[options.dtype]
