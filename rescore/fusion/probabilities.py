"""The probabilities that `fuse --posterior` wrote into lists, as they are read back."""

from __future__ import annotations

from rescore.errors import FormatError
from rescore.formats.strict_json import described, number
from rescore.types import NBest

__all__ = ["POSTERIOR", "WORD_CONFIDENCES", "stored_confidences", "stored_posterior"]

#: Fields of a hypothesis: its probability; the confidence of each of its words.
POSTERIOR, WORD_CONFIDENCES = "posterior", "word_confidences"


def stored_posterior(nbest: NBest, index: int) -> float | None:
    """The probability of one hypothesis; None where the list does not say.

    Raises FormatError for a value that is no probability.
    """
    value = nbest.hyps[index].raw.get(POSTERIOR)
    return None if value is None else _probability(value, nbest.place(index), POSTERIOR)


def stored_confidences(nbest: NBest, index: int) -> tuple[float, ...] | None:
    """The confidence of each word of one hypothesis; None where the list does not say.

    Raises FormatError unless there is one probability for each word.
    """
    values, place = nbest.hyps[index].raw.get(WORD_CONFIDENCES), nbest.place(index)
    if values is None:
        return None
    words = len(nbest.hyps[index].words)
    if not isinstance(values, list) or len(values) != words:
        size = len(values) if isinstance(values, list) else described(values)
        raise FormatError(f'{place}: "{WORD_CONFIDENCES}" are {size}, expected {words}: one a word')
    return tuple(_probability(value, place, WORD_CONFIDENCES) for value in values)


def _probability(value: object, place: str, name: str) -> float:
    probability = number(value, place, f'"{name}"')
    if not 0 <= probability <= 1:
        raise FormatError(f'{place}: "{name}" is {probability}, expected a probability')
    return probability
