"""Any CTC model of Hugging Face as an `Encoder`: wav2vec2, HuBERT, WavLM, Parakeet, ...

The model's own feature extractor prepares the audio, and its tokenizer names the columns.
Source: `AutoModelForCTC` of transformers; seen with 5.24.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rescore.acoustic.hub_network import HubNetwork, settings_digest
from rescore.acoustic.hub_symbols import hub_symbols
from rescore.models.hub.loading import load_parts, weights_digest
from rescore.models.opening import opening

__all__ = ["HubEncoder", "load_hub_encoder"]


def load_hub_encoder(
    model: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    remote_code: bool = False,
) -> HubEncoder:
    """Load a CTC model by Hub id or directory. Raises ModelError."""
    parts = load_parts(
        "AutoModelForCTC", model, remote_code, ("AutoTokenizer", "AutoFeatureExtractor")
    )
    with opening(model, "restore the files of the model", "its parts do not work together"):
        return HubEncoder(*parts, model=model, device=device, dtype=dtype)


class HubEncoder(HubNetwork):
    """An `Encoder` on a loaded CTC model of transformers.

    Raises ModelError if the parts do not fit together.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        extractor: Any,
        *,
        model: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        weights = weights_digest(network, tokenizer)  # before the weights change their dtype
        digest = settings_digest(weights, extractor)
        self.symbols = hub_symbols(
            tokenizer, network.config.vocab_size, network.config.pad_token_id, model
        )
        super().__init__(network, extractor, "logits", model=model, device=device, dtype=dtype)
        dtype_name = str(dtype).removeprefix("torch.")
        self.signature = f"hub-ctc {digest} dtype={dtype_name} v1"

    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See Encoder."""
        return [rows.log_softmax(-1).numpy() for rows in self.rows(audios)]
