"""Named text normalisers: the text as a language model sees it, the words as `eval` compares them.

They never change a hypothesis: models and `eval` normalise a copy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib import import_module

from rescore.errors import RescoreError
from rescore.installation import install_hint
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
    """Replace every run of white space by one space."""
    return " ".join(text.split())


def librispeech(text: str) -> str:
    """Lower-case the text and replace punctuation by spaces; keep apostrophes between letters.

    Digits and other scripts stay: a model's tokenizer maps what it does not know to its unknown
    token, and the scorer counts these.
    """
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    return " ".join(_PUNCTUATION.sub(" ", text).split())


def whisper_english(text: str) -> str:
    """Normalise English as Whisper's evaluation does.

    Numbers become digits, contractions and titles are spelt out, spelling is American, and "uh"
    and "um" go. Raises RescoreError if the package whisper-normalizer is not installed.
    Source: Radford et al. 2022, arXiv:2212.04356, appendix C.
    Exact check: tests/test_text.py::test_whisper_english_gives_openais_examples.
    """
    return identity(_whisper("english", "EnglishTextNormalizer")(text))


def whisper_basic(text: str) -> str:
    """Normalise other languages as Whisper's evaluation does.

    NFKC, lower case, no words in brackets; marks, symbols and punctuation become spaces. The vowel
    signs of Indic scripts are marks, so words fall apart there, as in Whisper's own figures.
    Raises RescoreError if the package whisper-normalizer is not installed.
    Source: as for `whisper_english`.
    """
    return identity(_whisper("basic", "BasicTextNormalizer")(text))


#: Rules that whisper-normalizer adds to OpenAI's. They are removed, so that figures agree with
#: those that others report with Whisper's normaliser.
_NOT_WHISPERS = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")


@cache
def _whisper(module: str, name: str) -> Normalizer:
    try:
        normalize: Normalizer = getattr(import_module(f"whisper_normalizer.{module}"), name)()
    except ImportError as error:
        raise RescoreError(
            f"the normaliser whisper-{module} needs whisper-normalizer; {install_hint('whisper')}"
        ) from error
    for rule in _NOT_WHISPERS:
        getattr(normalize, "replacers", {}).pop(rule, None)
    return normalize


def normalizer(name: str) -> Normalizer:
    """Return the normaliser called `name`. Raises RescoreError listing the known names."""
    normalize: Normalizer = lookup(NORMALIZERS, name, "normaliser")
    return normalize
