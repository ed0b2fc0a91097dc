"""A word n-gram model with back-off, as sorted arrays: mapped from disk, looked up in bulk.

An entry of order n is found by its key: (number of the entry of its first n - 1 words) * (number of
words) + (number of its last word). Keys ascend. An entry of order 1 is its word's number.
`log_probs` are nats; `backoffs` are the nats added where the model lacks an n-gram of that context.

A directory holds `config.json`, `words.txt` (one word a line, by number) and `model.safetensors`
with the tensors `keys.2`.. int64, `log_probs.1`.. and `backoffs.1`.. float32. config.json:

    {"format": "dlmrescore-model", "version": 1, "objective": "ngram", "order": 3,
     "normalizer": "librispeech", "digest": "...", "card": {...}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rescore.errors import FormatError, ModelError, RescoreError
from rescore.formats.files import atomic_writer, make_folder, text_lines
from rescore.formats.strict_json import short
from rescore.models.opening import (
    FORMAT,
    VERSION,
    checked_field,
    opening,
    read_config,
    tensor_shapes,
)
from rescore.text import normalizer

__all__ = ["BOS", "EOS", "UNK", "NgramModel", "find", "load", "make_directory", "save"]

UNK, BOS, EOS = "<unk>", "<s>", "</s>"


@dataclass(frozen=True)
class NgramModel:
    """p(word | the order - 1 words before it), with back-off to shorter contexts.

    `words` by number; `log_probs[n - 1]` (entries,) float32 of order n; `backoffs[n - 1]` the same
    for orders below the highest; `keys[n - 2]` (entries,) int64 for orders from 2.
    """

    words: Sequence[str]
    log_probs: tuple[np.ndarray, ...]
    backoffs: tuple[np.ndarray, ...]
    keys: tuple[np.ndarray, ...]
    normalizer: str = "none"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> int:
        """The length of the longest n-grams, in words."""
        return len(self.log_probs)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of every word that a text may have: all but `<unk>`, `<s>` and `</s>`."""
        return {
            word: number for number, word in enumerate(self.words) if word not in (UNK, BOS, EOS)
        }

    @cached_property
    def special(self) -> tuple[int, int, int]:
        """The numbers of `<unk>` (-1: the model has none), `<s>` and `</s>`."""
        return (
            self.words.index(UNK) if UNK in self.words else -1,
            self.words.index(BOS),
            self.words.index(EOS),
        )

    @cached_property
    def digest(self) -> str:
        """16 hex digits over all numbers and words: the model's part of a score's signature."""
        whole = hashlib.blake2b("\n".join(self.words).encode(), digest_size=8)
        for name, array in _tensors(self).items():
            whole.update(f"{name} {array.dtype} {array.shape}".encode())
            whole.update(np.ascontiguousarray(array).data)
        return whole.hexdigest()

    def token_log_probs(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Nats of every word and of `</s>`, sentence after sentence; and which words are unknown.

        Both (words + sentences,), float64 and bool. An unknown word is scored as `<unk>`; where
        the model has none its value is -inf.
        """
        unknown, bos, eos = self.special
        numbers: list[int] = []
        for words in sentences:
            numbers.append(bos)
            numbers.extend(self.numbers.get(word, unknown) for word in words)
            numbers.append(eos)
        tokens = np.array(numbers, dtype=np.int64)
        inside = tokens != bos
        return self._values(tokens, inside)[inside], tokens[inside] == unknown

    def _values(self, tokens: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """(length,) float64 nats of every token; `inside` is False where a sentence begins."""
        values = np.where(tokens < 0, -np.inf, self.log_probs[0][tokens]).astype(np.float64)
        entries = tokens  # which n-gram ends at each token, -1: the model has none
        for keys, log_probs, backoffs in zip(
            self.keys, self.log_probs[1:], self.backoffs, strict=True
        ):
            contexts = np.where(inside, np.roll(entries, 1), -1)
            has_context = contexts >= 0
            values[has_context] += backoffs[contexts[has_context]]
            extended = contexts * len(self.words) + tokens
            entries = find(keys, np.where(has_context & (tokens >= 0), extended, -1))
            has_entry = entries >= 0
            values[has_entry] = log_probs[entries[has_entry]]
        return values


def find(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The places of `queries` (length,) int64 in the ascending `keys`; -1 where there is none.

    The query -1 has no place.
    """
    if not len(keys):
        return np.full(len(queries), -1)
    # In order, and each once: the search stays in the cache.
    values, inverse = np.unique(queries, return_inverse=True)
    places = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    places[keys[places] != values] = -1
    return places[inverse]


def _tensors(model: NgramModel) -> dict[str, np.ndarray]:
    """The arrays by their names in the file, in a fixed order: the digest depends on it."""
    tensors = {f"keys.{order}": keys for order, keys in enumerate(model.keys, 2)}
    tensors |= {f"log_probs.{order}": values for order, values in enumerate(model.log_probs, 1)}
    tensors |= {f"backoffs.{order}": values for order, values in enumerate(model.backoffs, 1)}
    return tensors


def make_directory(directory: Path) -> None:
    """Make the directory of a model if it is missing. Raises ModelError if it cannot be made."""
    try:
        make_folder(directory)
    except FormatError as error:
        raise ModelError(f"{error}") from error


def save(model: NgramModel, directory: Path) -> None:
    """Write a model directory; each file appears whole or not at all, config.json last.

    Raises ModelError or FormatError if it cannot be written.
    """
    import safetensors.numpy  # noqa: PLC0415 - only writers need it

    make_directory(directory)
    config = {
        "format": FORMAT,
        "version": VERSION,
        "objective": "ngram",
        "order": model.order,
        "normalizer": model.normalizer,
        "digest": model.digest,
        "card": dict(model.card),
    }
    files = {
        "model.safetensors": safetensors.numpy.save(_tensors(model)),
        "words.txt": "".join(word + "\n" for word in model.words).encode(),
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }
    for name, content in files.items():
        with atomic_writer(directory / name) as out:
            out.write(content)


def load(directory: Path) -> NgramModel:
    """Load a model directory; the arrays stay on disk until they are used.

    Raises ModelError, one line that names the file, if a file is missing, broken or belongs to
    another model, or if the directory holds a network.
    """
    config = _read_config(directory / "config.json")
    try:
        words = [word for _, word in text_lines(directory / "words.txt")]
    except FormatError as error:
        raise ModelError(f"{error}") from error
    path, order = directory / "model.safetensors", config["order"]
    shapes = tensor_shapes(path)
    keys = [f"keys.{n}" for n in range(2, min(order, len(shapes)) + 1)]
    log_probs = [f"log_probs.{n}" for n in range(1, min(order, len(shapes)) + 1)]
    backoffs = [f"backoffs.{n}" for n in range(1, min(order, len(shapes)))]
    expected = {*keys, *log_probs, *backoffs}
    if set(shapes) != expected:
        raise ModelError(
            f"{path}: holds {', '.join(sorted(shapes))[:200]}, "
            f"expected {', '.join(sorted(expected))[:200]}; restore the file"
        )
    _check_shapes(shapes, words, path)
    arrays = _read_arrays(path)
    model = NgramModel(
        words,
        tuple(arrays[name] for name in log_probs),
        tuple(arrays[name] for name in backoffs),
        tuple(arrays[name] for name in keys),
        config["normalizer"],
        config["card"],
    )
    if model.digest != config["digest"]:
        raise ModelError(
            f"{directory}: its files do not belong together (digest {model.digest}, "
            f"expected {short(config['digest'])}); restore or train it again"
        )
    return model


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], words: Sequence[str], path: Path) -> None:
    """Raise ModelError unless words, keys, probabilities and back-offs fit each other."""
    missing = [word for word in (BOS, EOS) if word not in words]
    if missing:
        raise ModelError(f"{path.parent}: words.txt lacks {missing[0]}; restore the file")
    for name, shape in shapes.items():
        order = name.rpartition(".")[2]
        count = len(words) if order == "1" else shapes[f"log_probs.{order}"][0]
        if shape != (count,):
            raise ModelError(
                f"{path}: {name} has the shape {shape}, expected ({count},); "
                "files of two models are mixed"
            )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_config(path, "give what `dlmrescore train ngram` made, an ARPA or KenLM file")
    objective = checked_field(config, "objective", str, path)
    if objective != "ngram":
        raise ModelError(
            f"{path.parent}: holds objective {short(objective)!r}, expected 'ngram'; "
            f"pass --scorer {short(objective)}"
        )
    for name, kind in (("order", int), ("digest", str), ("normalizer", str)):
        checked_field(config, name, kind, path)
    if config["order"] < 1:
        raise ModelError(f'{path}: "order" is {config["order"]}, expected 1 or more')
    card = {} if config.get("card") is None else checked_field(config, "card", dict, path)
    try:
        normalizer(config["normalizer"])
    except RescoreError as error:
        raise ModelError(
            f"{path}: the configuration does not fit ({error}); restore the file"
        ) from error
    return {**config, "card": card}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, memory-mapped: torch's reader maps, NumPy's would copy."""
    import safetensors.torch  # noqa: PLC0415 - torch

    with opening(path, "restore the file"):
        arrays = {
            name: tensor.numpy() for name, tensor in safetensors.torch.load_file(path).items()
        }
    for name, array in arrays.items():
        dtype = np.int64 if name.startswith("keys") else np.float32
        if array.dtype != dtype:
            raise ModelError(
                f"{path}: {name} is of {array.dtype}, expected {np.dtype(dtype)}; restore the file"
            )
    return arrays
