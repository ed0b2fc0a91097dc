"""`mlm`: any Hugging Face masked LM (BERT family) by its pseudo-log-likelihood. Estimators: `pll` (the default), `pll_within_word`, `nelbo`, `chain`."""

from __future__ import annotations

from rescore.errors import ModelError
from rescore.models.hub import load_masked
from rescore.scorers.denoising import DiffusionScorer
from rescore.scorers.mdlm import masked_scorer
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.scorers.signature import torch_dtype
from rescore.text import normalizer

__all__ = ["build"]


def build(options: ScorerOptions) -> DiffusionScorer:
    """The scorer of a masked LM given by Hub id or path. Raises ModelError without one."""
    if options.model is None:
        raise ModelError("--scorer mlm needs --model: a Hugging Face id or a directory")
    options.refuse_compiled()
    denoiser, tokenizer, longest, digest = load_masked(
        options.model,
        device=options.device,
        dtype=torch_dtype(options),
        remote_code=options.remote_code,
    )
    window = min(options.window or longest, longest)
    sequencer = Sequencer(
        tokenizer, normalizer(options.normalizer or "none"), window, options.score_eos
    )
    return masked_scorer("mlm", digest, denoiser, sequencer, options.estimator or "pll", options)
