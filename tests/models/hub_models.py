"""Small random Hugging Face models and tokenizers of every kind, made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import LINES

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
SPECIAL = {"wordpiece": BERT, "words": BERT, "byte-bpe": ROBERTA, "sentencepiece": ROBERTA}
TEXTS = [*LINES, "[ MASK ] ( SEP ) / <unk >"]


def tokenizer_of(kind: str) -> Any:
    """A tokenizer trained on a few lines: wordpiece, words, byte-bpe or sentencepiece."""
    special = list(SPECIAL[kind].values())
    if kind == "wordpiece":
        built = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        built.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
        built.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=160, special_tokens=special)
    elif kind == "words":
        built = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
        built.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=special)
    elif kind == "byte-bpe":
        built = tokenizers.Tokenizer(tokenizers.models.BPE())
        built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        built.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=340, initial_alphabet=alphabet, special_tokens=special
        )
    else:
        built = tokenizers.Tokenizer(tokenizers.models.Unigram())
        built.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        trainer = tokenizers.trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=special
        )
    built.train_from_iterator(TEXTS, trainer)
    names = {f"{role}_token": token for role, token in SPECIAL[kind].items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=built, **names)


def save_model(directory: Path, kind: str, architecture: str = "Bert", **sizes: Any) -> Path:
    """A masked LM (or, for GPT2, a causal one) with such a tokenizer, saved to a directory."""
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(directory)
    network_of(architecture, len(tokenizer), **sizes).save_pretrained(directory)
    return directory


def network_of(architecture: str, vocab_size: int = 97, length: int = 64, **sizes: Any) -> Any:
    """A random network with opinions, of `length` positions."""
    torch.manual_seed(0)
    common = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": length,
        "initializer_range": 0.3,
        "pad_token_id": 1,
    }
    if architecture == "Mpt":  # calls its sizes otherwise
        common = {"vocab_size": vocab_size, "initializer_range": 0.3}
    config = getattr(transformers, f"{architecture}Config")(**common | sizes)
    head = "ForCausalLM" if architecture in ("Mpt", "Llama") else "ForMaskedLM"
    head = "LMHeadModel" if architecture == "GPT2" else head
    return getattr(transformers, architecture + head)(config).eval()
