"""The symbols of a Hugging Face CTC model, from its tokenizer and its number of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rescore.acoustic.symbols import WORD_START, Segmenter, Symbols
from rescore.errors import FormatError, ModelError
from rescore.formats.files import read_bytes

__all__ = ["hub_symbols"]


def hub_symbols(tokenizer: Any, columns: int, blank: int | None, model: str) -> Symbols:
    """Map every column to its symbol: blank, special, word boundary, text.

    `blank` is the padding id of the model's configuration: Hugging Face trains CTC with the padding
    symbol as blank. Raises ModelError if network and tokenizer contradict each other.
    """
    pieces = _pieces(tokenizer, columns, model)
    if blank is None or blank != tokenizer.pad_token_id:
        raise ModelError(
            f"{model}: the blank is padding, id {blank} in config.json but "
            f"{tokenizer.pad_token_id} in the tokenizer; correct pad_token_id in one of them"
        )
    marks = any(piece.startswith(WORD_START) for piece in pieces)
    boundary = _boundary(tokenizer, pieces)
    if boundary is None and not marks:
        raise ModelError(
            f"{model}: its tokenizer has neither a symbol between words nor pieces that begin with "
            f"{WORD_START!r}; words cannot be read from it"
        )
    hidden = {*tokenizer.all_special_ids, *_unnamed(tokenizer, columns)} - {blank}
    special = {k for k in hidden if k < columns and pieces[k] != boundary}
    try:
        return Symbols(
            pieces,
            blank,
            "mark" if marks else "boundary",
            None if marks else boundary,
            frozenset(special),
            _segmenter(tokenizer) if marks else None,
        )
    except FormatError as error:
        raise ModelError(f"{model}: {error}") from error


def _boundary(tokenizer: Any, pieces: tuple[str, ...]) -> str | None:
    """The symbol between words: the tokenizer's delimiter as it says or its file says, or a space.

    transformers 5.24 reads another delimiter than `|` from tokenizer_config.json as a symbol of its
    own, and goes on with `|`.
    """
    candidates = (
        getattr(tokenizer, "word_delimiter_token", None),
        tokenizer.special_tokens_map.get("word_delimiter_token"),
        " ",
    )
    return next((candidate for candidate in candidates if candidate in pieces), None)


def _pieces(tokenizer: Any, columns: int, model: str) -> tuple[str, ...]:
    """The symbol of every column; a column without a symbol gets a name that is no text."""
    pieces = {column: piece for piece, column in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    spare = sorted(column for column in pieces if column >= columns and column not in special)
    if spare:
        raise ModelError(
            f"{model}: the tokenizer has symbol {pieces[spare[0]]!r} at {spare[0]}, but the "
            f"network has {columns} columns; files of two models are mixed"
        )
    return tuple(pieces.get(column, f"<{column}>") for column in range(columns))


def _unnamed(tokenizer: Any, columns: int) -> set[int]:
    return set(range(columns)) - set(tokenizer.get_vocab().values())


def _segmenter(tokenizer: Any) -> Segmenter | None:
    """What cuts text into the tokenizer's pieces; None if it is neither of the two known kinds."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return Segmenter("tokenizers", backend.to_str().encode())
    file = getattr(tokenizer, "vocab_file", None)
    if file is not None and Path(file).suffix == ".model":
        return Segmenter("sentencepiece", read_bytes(file))
    return None
