"""Tiny random encoders of the families whose states a recogniser can be trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from hub_ctc_models import save_letters, save_parakeet
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

__all__ = ["ENCODERS", "save_whisper"]


def save_whisper(folder: Path, seconds: int = 4) -> Path:
    """A Whisper that hears `seconds` at a time, as transformers saves it, decoder and all."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=50 * seconds,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=seconds).save_pretrained(folder)
    return folder


#: Family -> how a model of it is saved in a folder.
ENCODERS = {
    "whisper": save_whisper,
    "wav2vec2": lambda folder: save_letters(folder, "wav2vec2"),
    "wav2vec2-base": lambda folder: save_letters(folder, "wav2vec2", "group"),
    "parakeet": save_parakeet,
}
