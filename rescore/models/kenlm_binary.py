"""KenLM's binary files, queried through the kenlm package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rescore.errors import FormatError, ModelError
from rescore.formats.bounded import open_regular
from rescore.formats.files import head
from rescore.installation import install_hint
from rescore.models.ngram import BOS, EOS, UNK

__all__ = ["KenlmModel", "is_kenlm"]

_MAGIC = b"mmap lm http://kheafield.com/code"


def is_kenlm(path: Path) -> bool:
    """Whether a file is a KenLM binary. Raises ModelError for one that cannot be read."""
    try:
        return head(path, len(_MAGIC)) == _MAGIC
    except FormatError as error:
        raise ModelError(str(error)) from error


class KenlmModel:
    """What `NgramModel` offers, by KenLM, which maps the file into memory."""

    normalizer = "none"

    def __init__(self, path: Path) -> None:
        """Open a KenLM binary.

        Raises ModelError if the kenlm package is missing or refuses the file.
        """
        try:
            import kenlm  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ModelError(
                f"{path}: a KenLM binary needs the kenlm package; "
                f"{install_hint('kenlm')}, or give the ARPA file"
            ) from error
        try:
            self._model: Any = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"{path}: KenLM cannot read it ({error}); "
                "build it again with this machine's build_binary"
            ) from error
        self.order = int(self._model.order)
        self.digest = _digest(path)

    def token_log_probs(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Nats of every word and of `</s>`, sentence after sentence; and which words are unknown.

        Both (words + sentences,), float64 and bool.
        """
        log10_probs: list[float] = []
        is_unknown: list[bool] = []
        for words in sentences:
            text = " ".join(UNK if word in (BOS, EOS) else word for word in words)
            for log10_prob, _, unknown in self._model.full_scores(text):
                log10_probs.append(log10_prob)
                is_unknown.append(unknown)
        return np.array(log10_probs) * np.log(10), np.array(is_unknown, dtype=bool)


def _digest(path: Path) -> str:
    whole = hashlib.blake2b(digest_size=8)
    with open_regular(path) as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            whole.update(block)
    return whole.hexdigest()
