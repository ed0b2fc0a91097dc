"""Language models with a speech prompt, small enough for tests: the letters a and b."""

from __future__ import annotations

import torch
from small_transcriber import SYMBOLS

from rescore.acoustic.prompted import PromptedModel, counted_symbols, text_network
from rescore.models.network import Network, NetworkConfig
from rescore.models.prompted import PromptConfig, PromptedNetwork
from rescore.models.speech_network import SpeechConfig, SpeechNetwork
from rescore.models.tokenizer import character_tokenizer

TOKENIZER = character_tokenizer(["\u2581", "a", "b"])


def small_prompted(
    causal: bool = False, seed: int = 0, scale: float = 6.0, **prompt
) -> PromptedModel:
    """Random weights, large enough that the audio matters."""
    torch.manual_seed(seed)
    encoder = SpeechNetwork(SpeechConfig(len(SYMBOLS), 16, 1, 2, 24, kernel=3))
    config = NetworkConfig(TOKENIZER.size + (not causal), 16, 2, 2, 24, causal=causal)
    network = PromptedNetwork(
        encoder,
        PromptConfig(16, 16, hidden=12, **prompt),
        text_network(Network(config), TOKENIZER),
        *counted_symbols(SYMBOLS, prompt.get("clock", "words")),
    ).eval()
    with torch.no_grad():
        for weight in (*network.language_model.parameters(), *network.projector.parameters()):
            if weight.ndim > 1:
                weight.mul_(scale)
    return PromptedModel(network, SYMBOLS, TOKENIZER)
