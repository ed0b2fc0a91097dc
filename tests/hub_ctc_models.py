"""Tiny random CTC models in the layout in which Hugging Face publishes them."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    HubertConfig,
    HubertForCTC,
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMForCTC,
)

#: As facebook/wav2vec2-base-960h has them.
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINHSRDLUMWCFGYPBVK'XJQZ"]

CONVOLUTIONS = {
    "conv_dim": (8,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}
BODY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vocab_size": len(LETTERS),
}
FAMILIES = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForCTC),
    "hubert": (HubertConfig, HubertForCTC),
    "wavlm": (WavLMConfig, WavLMForCTC),
}


def save_letters(folder, family, norm="layer", layers=2, do_normalize=True):
    """A model of a family of wav2vec2; `norm` as in feat_extract_norm."""
    folder.mkdir(parents=True, exist_ok=True)
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(0)
    settings = {**CONVOLUTIONS, **BODY, "num_hidden_layers": layers}
    config = config_class(**settings, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    network = model_class(config).eval()
    with torch.no_grad():
        network.lm_head.weight.mul_(20)  # else all columns are equally likely
    network.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(LETTERS)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        return_attention_mask=norm == "layer", do_normalize=do_normalize
    ).save_pretrained(folder)
    return folder


def save_parakeet(folder):
    """A Parakeet: mel features, 8x subsampling, word pieces, the blank as last column."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pieces = ["<unk>", *"\u2581abcdest", "\u2581t", "\u2581the", "th", "he"]
    merges = [("t", "h"), ("h", "e"), ("\u2581", "t"), ("\u2581t", "he")]
    pieces += [piece for piece in "h" if piece not in pieces] + ["<pad>"]
    vocabulary = {piece: k for k, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    ParakeetTokenizer(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    ParakeetFeatureExtractor().save_pretrained(folder)
    encoder = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "subsampling_conv_channels": 8,
    }
    config = ParakeetCTCConfig(
        vocab_size=len(pieces), pad_token_id=len(pieces) - 1, encoder_config=encoder
    )
    network = ParakeetForCTC(config).eval()
    with torch.no_grad():
        network.ctc_head.weight.mul_(20)
    network.save_pretrained(folder)
    return folder
