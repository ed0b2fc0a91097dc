"""Text files -> one memory-mapped array of tokens, and batches of it.

A corpus on disk is two files: `tokens.bin` (uint16 or uint32, sentence after sentence, without BOS and EOS) and `offsets.npy` (int64).
Utterances of recognisers are seldom single sentences, so a line may be joined to the ones before it (`join`), up to 60 words.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rescore.errors import TrainError
from rescore.models.tokenizer import Tokenizer
from rescore.text import Normalizer

__all__ = ["Corpus", "batches", "encode_corpus", "open_corpus", "read_text"]

MAX_WORDS = 60

#: Longest sentence in tokens: a line of odd "words" is cut here, so that no batch needs a network evaluation of unbounded length.
MAX_TOKENS = 256


@dataclass(frozen=True)
class Corpus:
    """Sentence i is `tokens[offsets[i]:offsets[i + 1]]`; `words` counts the words of all sentences."""

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
    """Yield normalised non-empty lines. Raises TrainError naming file and line where a file is missing or not UTF-8."""
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    text = normalize(_decode(line, path, number))
                    if text:
                        yield text
        except OSError as error:
            raise TrainError(
                f"{path}: cannot read the training text ({error.strerror}); check --text"
            ) from error


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TrainError(
            f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start}); convert the text to UTF-8"
        ) from error


def joined(lines: Iterable[str], probability: float, seed: int) -> Iterator[str]:
    """Join each line to the text before it with `probability`, and cut everything at 60 words."""
    chance = random.Random(seed)  # noqa: S311 - sampling, not security
    held: list[str] = []
    for line in lines:
        words = line.split()
        if held and (len(held) + len(words) > MAX_WORDS or chance.random() >= probability):
            yield " ".join(held)
            held = []
        held += words
        while len(held) > MAX_WORDS:
            yield " ".join(held[:MAX_WORDS])
            held = held[MAX_WORDS:]
    if held:
        yield " ".join(held)


def encode_corpus(
    lines: Iterable[str], tokenizer: Tokenizer, directory: Path, chunk: int = 50_000
) -> Corpus:
    """Tokenise lines into `directory` and return the corpus memory-mapped. Memory is bounded by `chunk` lines."""
    directory.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if tokenizer.size < 2**16 else np.uint32
    lengths: list[np.ndarray] = []
    words = 0
    with (directory / "tokens.bin").open("wb") as out:
        for block in _chunks(lines, chunk):
            encoded = [part for tokens in tokenizer.encode(block) for part in _cut(tokens)]
            words += sum(len(line.split()) for line in block)
            lengths.append(np.array([len(tokens) for tokens in encoded], dtype=np.int64))
            out.write(
                np.array([token for tokens in encoded for token in tokens], dtype=kind).tobytes()
            )
    if not sum(map(len, lengths)):
        raise TrainError("the text holds no words; check --text and --valid")
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    np.save(directory / "offsets.npy", offsets)
    return Corpus(np.memmap(directory / "tokens.bin", dtype=kind, mode="r"), offsets, words)


def _cut(tokens: list[int]) -> Iterator[list[int]]:
    """Pieces of at most 256 tokens; a text without tokens (it holds nothing the vocabulary could say) is none."""
    return (tokens[at : at + MAX_TOKENS] for at in range(0, len(tokens), MAX_TOKENS))


def open_corpus(directory: Path, tokenizer: Tokenizer) -> Corpus:
    """The corpus that `encode_corpus` wrote, memory-mapped; its words are not counted again."""
    kind = np.uint16 if tokenizer.size < 2**16 else np.uint32
    return Corpus(
        np.memmap(directory / "tokens.bin", dtype=kind, mode="r"),
        np.load(directory / "offsets.npy", mmap_mode="r"),
        0,
    )


def _chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def batches(
    corpus: Corpus, tokenizer: Tokenizer, tokens_per_batch: int, seed: int
) -> list[np.ndarray]:
    """One epoch of batches: arrays of sentence numbers of nearly equal length, at most `tokens_per_batch` padded tokens each, shuffled by `seed`.

    A sentence that is longer than that is alone. Raises TrainError if the corpus does not fill one batch.
    """
    if int(corpus.lengths.sum()) < tokens_per_batch:
        raise TrainError(
            f"the corpus has {int(corpus.lengths.sum())} tokens, fewer than one batch of {tokens_per_batch}; give more text or smaller batches"
        )
    chance = np.random.default_rng(seed)
    order = chance.permutation(len(corpus))
    order = order[np.argsort((corpus.lengths[order] + 3) // 4, kind="stable")]
    lengths = corpus.lengths[order]
    out, start = [], 0
    while start < len(order):
        fitting = max(1, tokens_per_batch // int(lengths[start]))
        size = max(1, tokens_per_batch // int(lengths[start : start + fitting].max()))
        out.append(order[start : start + size])
        start += size
    return [out[i] for i in chance.permutation(len(out))]


def collate(corpus: Corpus, rows: np.ndarray, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) int64 with BOS and EOS, and padding (B, L) bool, True = padding."""
    starts, lengths = corpus.offsets[rows], corpus.offsets[rows + 1] - corpus.offsets[rows]
    columns = np.arange(int(lengths.max()))
    inner = columns[None] < lengths[:, None]
    tokens = np.full((len(rows), len(columns) + 2), tokenizer.pad_id, dtype=np.int64)
    tokens[:, 0] = tokenizer.bos_id
    tokens[:, 1:-1][inner] = corpus.tokens[(starts[:, None] + columns)[inner]]
    tokens[np.arange(len(rows)), lengths + 1] = tokenizer.eos_id
    padding = np.arange(tokens.shape[1])[None] > lengths[:, None] + 1
    return torch.from_numpy(tokens), torch.from_numpy(padding)
