"""Transcribers small enough for tests: the letters a and b, or tones that spell them."""

from __future__ import annotations

import torch

from rescore.acoustic.recogniser import character_symbols
from rescore.acoustic.transcriber import Transcriber
from rescore.models.audio_network import SPECIAL_ROWS, AudioNetwork
from rescore.models.conditioned import ConditionedConfig, ConditionedNetwork
from rescore.models.speech_network import SpeechConfig, SpeechNetwork

SYMBOLS = character_symbols(["ab a"])


def small_transcriber(causal: bool = False, seed: int = 0, scale: float = 8.0) -> Transcriber:
    """Random weights, large enough that the audio matters."""
    torch.manual_seed(seed)
    encoder = SpeechNetwork(SpeechConfig(len(SYMBOLS), 16, 1, 2, 24, kernel=3))
    config = ConditionedConfig(
        len(SYMBOLS) + SPECIAL_ROWS, 16, 1, 2, 24, causal=causal, memory_width=16
    )
    network = AudioNetwork(encoder, ConditionedNetwork(config), SYMBOLS.blank).eval()
    with torch.no_grad():
        for weight in network.decoder.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    return Transcriber(network, SYMBOLS)
