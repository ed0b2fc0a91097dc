"""The last states of an encoder of audio from Hugging Face: Whisper's, wav2vec2, Parakeet, ...

Of a model with a decoder or a head, the encoder alone is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rescore.acoustic.hub_network import HubNetwork, settings_digest
from rescore.errors import ModelError
from rescore.models.hub.loading import load_parts, tensors_digest
from rescore.models.opening import opening

__all__ = ["HubStates", "load_hub_states"]


def load_hub_states(model: str) -> HubStates:
    """Load the encoder of a model of audio by Hub id or directory, onto the CPU.

    Raises ModelError.
    """
    [config] = load_parts("AutoConfig", model, False, ())
    import transformers  # noqa: PLC0415 - heavy and optional

    is_plain = type(config) in transformers.MODEL_MAPPING
    kind = "AutoModel" if is_plain else "AutoModelForCTC"
    network, extractor = load_parts(kind, model, False, ("AutoFeatureExtractor",))
    with opening(model, "restore the files of the model", "its parts do not work together"):
        return HubStates(_encoder(network, model), extractor, model)


class HubStates(HubNetwork):
    """A `HubNetwork` of states, with their `width` and a `digest` of weights and settings."""

    def __init__(self, network: Any, extractor: Any, model: str) -> None:
        self.digest = settings_digest(tensors_digest(network).hexdigest(), extractor)
        super().__init__(network, extractor, "last_hidden_state", model=model)
        [states] = self.rows([np.zeros(self.min_samples, np.float32)])
        self.width = int(states.shape[-1])

    def states(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States (T_i, width) float32 of samples (n_i,)."""
        return [rows.numpy() for rows in self.rows(audios)]


def _encoder(network: torch.nn.Module, model: str) -> Any:
    """The part that makes states of audio."""
    if getattr(network.config, "is_encoder_decoder", False):
        return network.get_encoder()  # type: ignore[operator]
    encoder = getattr(network, "encoder", None)
    has_head = hasattr(network, "ctc_head") or hasattr(network, "lm_head")
    if not has_head:
        return network
    if encoder is None or not hasattr(encoder, "config"):
        raise ModelError(f"{model}: {type(network).__name__} has no encoder that can be taken")
    return encoder
