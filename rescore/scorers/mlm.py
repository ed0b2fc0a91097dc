"""`mlm`: any Hugging Face masked LM (BERT family) by its pseudo-log-likelihood.

Estimators: `pll` (the default), `pll_within_word`, `nelbo`, `chain`.
"""

from __future__ import annotations

from rescore.errors import ModelError
from rescore.models.hub import load_masked, load_tokenizer
from rescore.scorers.denoising import DenoisingModel, DenoisingScorer, denoising_scorer
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.mdlm import MASKED_ESTIMATORS, masked_estimator
from rescore.scorers.networks import NETWORK_OPTIONS, hub_vocabulary, torch_dtype
from rescore.scorers.options import ScorerOptions

__all__ = ["FAMILY"]


def _build(options: ScorerOptions) -> DenoisingScorer:
    model = load_masked(
        _model(options),
        device=options.device,
        dtype=torch_dtype(options),
        remote_code=options.remote_code,
    )
    denoising_model = DenoisingModel(
        model.network, hub_vocabulary(model.tokenizer, model.max_length, options), model.digest
    )
    estimator = masked_estimator(options.estimator or "pll", model.network, options)
    return denoising_scorer("mlm", denoising_model, estimator, options)


def _vocabulary(options: ScorerOptions) -> Vocabulary:
    tokenizer, max_length = load_tokenizer(_model(options), remote_code=options.remote_code)
    return hub_vocabulary(tokenizer, max_length, options)


def _model(options: ScorerOptions) -> str:
    if options.model is None:
        raise ModelError("--scorer mlm needs --model: a Hugging Face id or a directory")
    return options.model


FAMILY = ScorerFamily(
    "mlm",
    _build,
    NETWORK_OPTIONS | {"remote_code"},
    MASKED_ESTIMATORS,
    _vocabulary,
)
