"""Named text normalisers: what a hypothesis looks like to a language model, and what words look like to `eval`.

The output text is never changed: a model normalises a copy of what it scores.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib import import_module

from rescore.errors import RescoreError
from rescore.registry import NORMALIZERS, lookup

__all__ = [
    "Normalizer",
    "identity",
    "librispeech",
    "normalizer",
    "whisper_basic",
    "whisper_english",
]

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


def whisper_english(text: str) -> str:
    """Normalise English as Whisper's evaluation does: numbers to digits, contractions and titles spelt out, American spelling, no "uh" and "um".

    Raises RescoreError if the package whisper-normalizer is not installed.
    Source: Radford et al. 2022, arXiv:2212.04356, appendix C. Exact check: the examples of OpenAI's own tests, tests/test_text.py.
    """
    return identity(_whisper("english", "EnglishTextNormalizer")(text))


def whisper_basic(text: str) -> str:
    """Normalise other languages as Whisper's evaluation does: NFKC, lower case, no words in brackets; marks, symbols and punctuation become spaces.

    Marks are the vowel signs of Indic scripts too, so words there fall apart: that is how Whisper's own figures were made.
    Raises RescoreError if the package whisper-normalizer is not installed. Source: as `whisper_english`.
    """
    return identity(_whisper("basic", "BasicTextNormalizer")(text))


#: Rules that whisper-normalizer adds to OpenAI's: without them its figures are those of other users of Whisper's normaliser.
_NOT_WHISPERS = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")


@cache
def _whisper(module: str, name: str) -> Normalizer:
    try:
        found = getattr(import_module(f"whisper_normalizer.{module}"), name)()
    except ImportError as error:
        raise RescoreError(
            f"the normaliser whisper-{module} needs whisper-normalizer; "
            "install it with `pip install dlmrescore[whisper]`"
        ) from error
    for rule in _NOT_WHISPERS:
        getattr(found, "replacers", {}).pop(rule, None)
    normalize: Normalizer = found
    return normalize


def normalizer(name: str) -> Normalizer:
    """Return the normaliser called `name`. Raises RescoreError naming the known ones."""
    found: Normalizer = lookup(NORMALIZERS, name, "normaliser")
    return found
