"""Hugging Face masked LMs (the BERT family) as denoisers."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from rescore.errors import ModelError
from rescore.interfaces import Prediction
from rescore.models.hub.masked_head import UNFIT, masked_head

__all__ = ["HubMaskedLM"]

logger = logging.getLogger("rescore")

#: Tokens of the two rows on which a network is tried, and of the shorter row of a padded batch.
_PROBE_LENGTH, _SHORT_PROBE_LENGTH = 8, 5

#: Largest difference of logits that is rounding, as a share of their spread.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}


class HubMaskedLM:
    """A masked LM as a Denoiser without time input.

    The mask symbol is not excluded, as is usual for masked LMs. Two things are tried at loading on
    a small input: whether the head can be taken alone, so that it is computed only at the
    positions that are read (else hidden states are logits), and whether padding is masked (else
    only rows of equal length share a batch: FNet and ConvBERT mix padding into every token).
    """

    prediction: Prediction = "masked"

    def __init__(
        self, network: Any, tokenizer: Any, model: str, device: str, dtype: torch.dtype
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(
                f"{model}: the tokenizer has no mask token; use --scorer ar for a causal model"
            )
        self.network = network.to(device=torch.device(device), dtype=dtype).eval()
        self.mask_id: int | None = int(tokenizer.mask_token_id)
        self.vocab_size: int = int(network.config.vocab_size)
        count = 2 * _PROBE_LENGTH
        spread = torch.arange(count, device=device) * (self.vocab_size - 1) // count
        tokens = spread.view(2, _PROBE_LENGTH)
        self._head = masked_head(self.network, tokens)
        if self._head is None:
            logger.debug(
                "%s: the head cannot be taken alone; logits are computed at every position",
                type(network).__name__,
            )
        self.masks_padding = self._try_padding(tokens)
        if not self.masks_padding:
            logger.debug(
                "%s: padding changes the other tokens; only equal lengths share a batch",
                type(network).__name__,
            )

    @torch.no_grad()
    def encode(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Hidden states (B, L, W), or logits where the head cannot be taken alone."""
        del noise
        if self.masks_padding or not bool(padding.any()):
            return self._run(noisy, padding)
        return self._run_by_length(noisy, (~padding).sum(dim=1))

    @torch.no_grad()
    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V)."""
        logits: Tensor = hidden if self._head is None else self._head(hidden)
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """The dense form (B, L, V), for tests and small uses."""
        hidden = self.encode(noisy, noise, padding)
        return self.readout(hidden.flatten(0, 1)).view(*noisy.shape, -1)

    def _run(self, tokens: Tensor, padding: Tensor) -> Tensor:
        inputs = {"input_ids": tokens, "attention_mask": (~padding).long()}
        hidden: Tensor = (
            self.network(**inputs).logits
            if self._head is None
            else self.network.base_model(**inputs)[0]
        )
        return hidden

    def _run_by_length(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Rows of equal length together, without padding; 0 where there would be some."""
        hidden: Tensor | None = None
        for length in sorted(set(lengths.tolist())):
            rows = torch.nonzero(lengths == length).squeeze(1)
            part = tokens[rows, :length]
            states = self._run(part, torch.zeros_like(part, dtype=torch.bool))
            if hidden is None:
                hidden = states.new_zeros(*tokens.shape, states.shape[-1])
            hidden[rows, :length] = states
        if hidden is None:
            raise ValueError("a batch without rows")
        return hidden

    @torch.no_grad()
    def _try_padding(self, tokens: Tensor) -> bool:
        """Whether a row in a padded batch has the values it has alone, up to rounding."""
        padded, padding = tokens.clone(), torch.zeros_like(tokens, dtype=torch.bool)
        padded[1, _SHORT_PROBE_LENGTH:], padding[1, _SHORT_PROBE_LENGTH:] = 0, True
        short = tokens[1:, :_SHORT_PROBE_LENGTH]
        try:
            alone = self.readout(self._run(short, torch.zeros_like(short, dtype=torch.bool))[0])
            together = self.readout(self._run(padded, padding)[1, :_SHORT_PROBE_LENGTH])
        except UNFIT:
            return False
        rounding = _ROUNDING.get(self.network.dtype, 0.02) * (alone.max() - alone.min())
        return bool((together - alone).abs().max() <= rounding)
