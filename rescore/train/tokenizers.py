"""A vocabulary from what a user names: a SentencePiece model, or a recogniser's symbols."""

from __future__ import annotations

from pathlib import Path

from rescore.acoustic.posterior_file import read_posteriors
from rescore.acoustic.recogniser import is_recogniser, read_symbols
from rescore.acoustic.symbols import Symbols
from rescore.errors import ModelError
from rescore.formats.files import head
from rescore.models.tokenizer import Tokenizer, character_tokenizer, read_tokenizer

__all__ = ["tokenizer_of"]


def tokenizer_of(path: Path) -> Tokenizer:
    """The vocabulary of a SentencePiece model, a recogniser's folder, or a file of posteriors.

    A model of such a vocabulary can decode jointly with the recogniser. Raises ModelError for
    anything else, and for symbols that no vocabulary of ours can have.
    """
    if path.is_dir():
        if is_recogniser(path):
            return _of_symbols(read_symbols(path), path)
        raise ModelError(
            f"{path}: no recogniser of ours; name a SentencePiece model, a recogniser's folder or "
            "a file of posteriors"
        )
    if head(path, 9)[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return _of_symbols(read_posteriors(path).symbols, path)
    return read_tokenizer(path)


def _of_symbols(symbols: Symbols, path: Path) -> Tokenizer:
    if symbols.word_rule == "boundary":
        return character_tokenizer(map(symbols.text_piece, symbols.columns))
    if symbols.segmenter is None or symbols.segmenter.kind != "sentencepiece":
        raise ModelError(
            f"{path}: its symbols are pieces of words, and it has no SentencePiece model; give the "
            "recogniser's own (bpe.model)"
        )
    return Tokenizer(symbols.segmenter.serialized, str(path))
