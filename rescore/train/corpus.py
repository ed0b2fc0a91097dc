"""Text files to one memory-mapped array of tokens, and batches of it.

A corpus on disk is two files: `tokens.bin` (uint16 or uint32, sentence after sentence, without BOS
and EOS) and `offsets.npy` (int64). Utterances of recognisers are seldom single sentences, so a line
may be joined to the lines before it, up to 60 words.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rescore.errors import FormatError, TrainError
from rescore.formats.bounded import check_regular, explained
from rescore.formats.files import make_folder, text_lines
from rescore.models.opening import one_line
from rescore.models.tokenizer import Tokenizer
from rescore.text import Normalizer

__all__ = [
    "Corpus",
    "are_offsets",
    "batches",
    "bucketed",
    "chunks",
    "collate",
    "encode_corpus",
    "joined",
    "open_corpus",
    "read_text",
]

#: The longest joined text, in words.
MAX_WORDS = 60

#: The longest sentence, in tokens: it bounds the length of every batch, whatever the text holds.
MAX_TOKENS = 256


@dataclass(frozen=True)
class Corpus:
    """Sentence i is `tokens[offsets[i] : offsets[i + 1]]`; `words` counts the words of all."""

    tokens: np.ndarray
    offsets: np.ndarray
    words: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(sentences,) int64 lengths with BOS and EOS."""
        return np.diff(self.offsets) + 2


def read_text(paths: Sequence[Path], normalize: Normalizer) -> Iterator[str]:
    """Yield normalised non-empty lines.

    Raises TrainError that names file and line where a file is missing or not UTF-8.
    """
    for path in paths:
        try:
            for _, line in text_lines(path):
                text = normalize(line)
                if text:
                    yield text
        except FormatError as error:
            raise TrainError(f"{error}; it is training text, check --text") from error


def joined(lines: Iterable[str], probability: float, seed: int) -> Iterator[str]:
    """Join each line to the text before it with `probability`; cut everything at 60 words."""
    chance = random.Random(seed)  # noqa: S311 - sampling, not security
    pending: list[str] = []  # the words of the text so far
    for line in lines:
        words = line.split()
        if pending and (len(pending) + len(words) > MAX_WORDS or chance.random() >= probability):
            yield " ".join(pending)
            pending = []
        pending += words
        while len(pending) > MAX_WORDS:
            yield " ".join(pending[:MAX_WORDS])
            pending = pending[MAX_WORDS:]
    if pending:
        yield " ".join(pending)


def encode_corpus(
    lines: Iterable[str], tokenizer: Tokenizer, directory: Path, chunk: int = 50_000
) -> Corpus:
    """Tokenise lines into `directory`, `chunk` lines at a time; return the corpus memory-mapped.

    Raises TrainError if there is no line.
    """
    make_folder(directory)
    dtype = _token_type(tokenizer)
    lengths: list[int] = []
    words = 0
    with explained(directory, "written"), (directory / "tokens.bin").open("wb") as out:
        for block in chunks(lines, chunk):
            words += sum(len(line.split()) for line in block)
            sentences = [piece for tokens in tokenizer.encode(block) for piece in _cut(tokens)]
            lengths.extend(map(len, sentences))
            out.write(np.fromiter(chain.from_iterable(sentences), dtype).tobytes())
    if not lengths:
        raise TrainError("the text holds no words; check --text and --valid")
    offsets = np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))])
    with explained(directory, "written"):
        np.save(directory / "offsets.npy", offsets)
    return Corpus(np.memmap(directory / "tokens.bin", dtype=dtype, mode="r"), offsets, words)


def _token_type(tokenizer: Tokenizer) -> Any:
    return np.uint16 if tokenizer.size < 2**16 else np.uint32


def _cut(tokens: list[int]) -> list[list[int]]:
    """Pieces of at most 256 tokens; none for a text without tokens."""
    return [tokens[start : start + MAX_TOKENS] for start in range(0, len(tokens), MAX_TOKENS)]


def open_corpus(directory: Path, tokenizer: Tokenizer) -> Corpus:
    """The corpus that `encode_corpus` wrote, memory-mapped; `words` is 0, for it is not stored.

    Raises TrainError if a file is missing or damaged.
    """
    try:
        for name in ("tokens.bin", "offsets.npy"):
            check_regular(directory / name)
        tokens = np.memmap(directory / "tokens.bin", dtype=_token_type(tokenizer), mode="r")
        offsets = np.load(directory / "offsets.npy", mmap_mode="r")
        is_whole = are_offsets(offsets, len(tokens)) and int(tokens.max()) < tokenizer.size
    except Exception as error:  # damaged arrays raise anything, also errors of tokens
        raise TrainError(
            f"{directory}: cannot read the tokenised text ({one_line(error)}); "
            "delete the corpus folder to prepare it again"
        ) from error
    if not is_whole:
        raise TrainError(
            f"{directory}: tokens.bin and offsets.npy do not belong together; "
            "delete the corpus folder to prepare it again"
        )
    return Corpus(tokens, offsets, 0)


def are_offsets(offsets: np.ndarray, end: int) -> bool:
    """Whether an array (rows + 1,) cuts `end` items into rows, one or more."""
    is_array = offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype == np.int64
    if not is_array or offsets[0] or offsets[-1] != end:
        return False
    return bool((offsets[1:] >= offsets[:-1]).all())


def chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of `size` lines; the last may be shorter."""
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def batches(corpus: Corpus, tokens_per_batch: int, seed: int) -> list[np.ndarray]:
    """One epoch: arrays of sentence numbers, each with at most `tokens_per_batch` padded tokens.

    Nearly all batches have sentences of one length, so no padding; `seed` shuffles sentences and
    batches. A sentence longer than `tokens_per_batch` is a batch of its own. Raises TrainError if
    the corpus does not fill one batch.
    """
    total = int(corpus.lengths.sum())
    if total < tokens_per_batch:
        raise TrainError(
            f"the corpus has {total} tokens, fewer than one batch of {tokens_per_batch}; "
            "give more text or smaller batches"
        )
    return bucketed(corpus.lengths, tokens_per_batch, np.random.default_rng(seed))


def bucketed(lengths: np.ndarray, size: int, chance: np.random.Generator) -> list[np.ndarray]:
    """All rows once, in batches of similar lengths (rows,) with at most `size` in all, padded.

    Rows of one length, and the batches, come in random order. A row longer than `size` is a batch
    of its own.
    """
    order = chance.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    lengths = lengths[order]
    epoch, start = [], 0
    while start < len(order):
        # The rows that would fit may be longer than the first of them.
        most = max(1, size // int(lengths[start]))
        count = max(1, size // int(lengths[start : start + most].max()))
        epoch.append(order[start : start + count])
        start += count
    return [epoch[i] for i in chance.permutation(len(epoch))]


def collate(corpus: Corpus, rows: np.ndarray, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) int64 with BOS and EOS, and padding (B, L) bool, True = padding."""
    starts = corpus.offsets[rows]
    lengths = corpus.offsets[rows + 1] - starts
    columns = np.arange(int(lengths.max()))
    is_token = columns[None] < lengths[:, None]
    tokens = np.full((len(rows), len(columns) + 2), tokenizer.pad_id, dtype=np.int64)
    tokens[:, 0] = tokenizer.bos_id
    tokens[:, 1:-1][is_token] = corpus.tokens[(starts[:, None] + columns)[is_token]]
    tokens[np.arange(len(rows)), lengths + 1] = tokenizer.eos_id
    padding = np.arange(tokens.shape[1])[None] > lengths[:, None] + 1
    return torch.from_numpy(tokens), torch.from_numpy(padding)
