"""Named text normalisers: what a hypothesis looks like to a language model, and what words look like to `eval`.

The output text is never changed: a model normalises a copy of what it scores.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from rescore.registry import NORMALIZERS, lookup

__all__ = ["Normalizer", "identity", "librispeech", "normalizer"]

Normalizer = Callable[[str], str]

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'"})
# Not a word character and not an apostrophe inside a word; the underscore is punctuation too.
_PUNCTUATION = re.compile(r"[^\w']|_|(?<!\w)'|'(?!\w)")


def identity(text: str) -> str:
    """Return the text with runs of white space as one space."""
    return " ".join(text.split())


def librispeech(text: str) -> str:
    """Lower-case; punctuation becomes a space, apostrophes inside and at the end of words stay only between letters.

    Digits and other scripts are kept: a model's tokenizer maps what it does not know to its unknown token, and the scorer counts it.
    """
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    return " ".join(_PUNCTUATION.sub(" ", text).split())


def normalizer(name: str) -> Normalizer:
    """Return the normaliser called `name`. Raises RescoreError naming the known ones."""
    found: Normalizer = lookup(NORMALIZERS, name, "normaliser")
    return found
