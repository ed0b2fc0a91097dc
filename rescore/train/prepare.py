"""Text files to a corpus directory: a vocabulary and the tokenised text, made once.

The directory holds `tokenizer.model`, `train/`, `valid/` (see rescore.train.corpus) and, written
last, `ready.json` with the settings, so that a directory is never used for other text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rescore.errors import FormatError, ModelError, TrainError
from rescore.formats.files import make_folder, read_bytes, replace_file
from rescore.models.tokenizer import Tokenizer, read_tokenizer, train_tokenizer
from rescore.progress import progress_bar
from rescore.text import Normalizer, normalizer
from rescore.train.corpus import encode_corpus, joined, read_text
from rescore.train.options import CorpusOptions
from rescore.train.overlap import Overlap
from rescore.train.tokenizers import tokenizer_of

__all__ = ["prepare", "read_settings"]


def prepare(options: CorpusOptions) -> None:
    """Train or copy the vocabulary and tokenise the text, unless the directory is ready.

    Raises TrainError if the text cannot be used or the directory was prepared with other settings,
    ModelError if the vocabulary cannot be read or trained.
    """
    directory = options.directory
    settings, ready = _settings(options), directory / "ready.json"
    if ready.exists():
        _check_settings(ready, settings, options)
        return
    make_folder(directory)
    normalize = normalizer(options.normalizer)
    tokenizer = _tokenizer(options, normalize)
    replace_file(directory / "tokenizer.model", tokenizer.serialized)
    overlap = Overlap(read_text(options.valid, normalize))
    for name, lines in (
        ("train", overlap.watched(read_text(options.text, normalize))),
        ("valid", read_text(options.valid, normalize)),
    ):
        counted = progress_bar(lines, description=f"tokens of {name}", unit="lines", mininterval=5)
        encode_corpus(joined(counted, options.join, options.seed), tokenizer, directory / name)
    replace_file(ready, (json.dumps(settings) + "\n").encode())


def _settings(options: CorpusOptions) -> dict[str, Any]:
    """What `ready.json` holds."""
    settings: dict[str, Any] = {
        "text": list(map(str, options.text)),
        "valid": list(map(str, options.valid)),
        "join": options.join,
        "seed": options.seed,
        "normalizer": options.normalizer,
    }
    if options.tokenizer is None:
        settings["vocab_size"] = options.vocab_size
    else:
        settings["tokenizer"] = str(options.tokenizer)
    return settings


def _check_settings(ready: Path, settings: dict[str, Any], options: CorpusOptions) -> None:
    """Raise TrainError if `ready.json` is not ours, cannot be read or has other settings.

    A given tokenizer with the same pieces as the corpus's is the same, wherever it lies.
    """
    prepared = read_settings(ready, ("text", "valid"))
    names = prepared.keys() | settings.keys()
    if options.tokenizer is not None:
        corpus_tokenizer = read_tokenizer(ready.with_name("tokenizer.model"))
        if tokenizer_of(options.tokenizer).serialized == corpus_tokenizer.serialized:
            names -= {"tokenizer", "vocab_size"}
    changed = [name for name in sorted(names) if prepared.get(name) != settings.get(name)]
    if changed:
        raise TrainError(
            f"{ready}: the corpus was prepared from other text or settings "
            f"({', '.join(changed)}); use the same ones or another --corpus folder"
        )


def read_settings(ready: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a folder that was prepared; `names` are among them.

    Raises TrainError if `ready` cannot be read, or holds no such settings.
    """
    try:
        prepared = json.loads(read_bytes(ready))
    except FormatError as error:
        raise TrainError(f"{error}; give another --corpus folder") from error
    except (ValueError, RecursionError) as error:
        raise TrainError(
            f"{ready}: not JSON ({error}); delete it to prepare the corpus again, "
            "or give another --corpus folder"
        ) from error
    if not isinstance(prepared, dict) or any(name not in prepared for name in names):
        raise TrainError(
            f"{ready}: not the settings of a corpus that dlmrescore prepared; "
            "give another --corpus folder"
        )
    return prepared


def _tokenizer(options: CorpusOptions, normalize: Normalizer) -> Tokenizer:
    if options.tokenizer is not None:
        return tokenizer_of(options.tokenizer)
    lines = progress_bar(
        read_text(options.text, normalize),
        description="vocabulary of the text",
        unit="lines",
        mininterval=5,
    )
    return _trained_tokenizer(iter(lines), options.vocab_size)


def _trained_tokenizer(lines: Iterator[str], vocab_size: int) -> Tokenizer:
    """Train a vocabulary, and raise what goes wrong while the text is read.

    SentencePiece replaces an exception of its input by one of its own.
    """
    causes: list[BaseException] = []

    def watched() -> Iterator[str]:
        try:
            yield from lines
        except (TrainError, KeyboardInterrupt) as error:
            causes.append(error)
            raise

    try:
        return train_tokenizer(watched(), vocab_size)
    except ModelError as error:
        if causes:
            raise causes[0] from error
        raise
