"""ARPA files: n-gram models as text with base-10 logs, as of SRILM, KenLM, k2 and Kaldi."""

from __future__ import annotations

import re
from array import array
from typing import NamedTuple

import numpy as np

from rescore.errors import FormatError, ModelError
from rescore.formats.base import parse_number
from rescore.formats.files import PathLike, atomic_writer, byte_lines, name_of, not_utf8
from rescore.models.ngram import BOS, EOS, UNK, NgramModel, find

__all__ = ["read_arpa", "write_arpa"]

_LN10 = float(np.log(10))
_CHUNK = 100_000  # lines formatted at once


def write_arpa(model: NgramModel, path: PathLike) -> None:
    """Write a model as an ARPA file (`.gz`: compressed).

    Nine digits give every float32 back. Raises FormatError if the file cannot be written.
    """
    words = np.array(model.words, dtype=object)
    with atomic_writer(path) as out:
        out.write(b"\\data\\\n")
        for n, values in enumerate(model.log_probs, 1):
            out.write(f"ngram {n}={len(values)}\n".encode())
        for n, values in enumerate(model.log_probs, 1):
            out.write(f"\n\\{n}-grams:\n".encode())
            for start in range(0, len(values), _CHUNK):
                entries = np.arange(start, min(start + _CHUNK, len(values)))
                out.write("".join(_lines_of(model, n, entries, words)).encode())
        out.write(b"\n\\end\\\n")


def _lines_of(model: NgramModel, n: int, entries: np.ndarray, words: np.ndarray) -> list[str]:
    """The lines of entries of order n: log10 of the probability, words, back-off below the top."""
    texts = [" ".join(gram) for gram in words[_word_numbers(model, n, entries)]]
    log10_probs = _log10(model.log_probs[n - 1][entries])
    if n == model.order:
        return [f"{prob:.9g}\t{text}\n" for prob, text in zip(log10_probs, texts, strict=True)]
    backoffs = _log10(model.backoffs[n - 1][entries])
    return [
        f"{prob:.9g}\t{text}\t{backoff:.9g}\n"
        for prob, text, backoff in zip(log10_probs, texts, backoffs, strict=True)
    ]


def _log10(nats: np.ndarray) -> list[float]:
    """Base-10 logs, in float64."""
    values: list[float] = (nats.astype(np.float64) / _LN10).tolist()
    return values


def _word_numbers(model: NgramModel, n: int, entries: np.ndarray) -> np.ndarray:
    """The word numbers of entries of order n, (entries, n)."""
    columns = []
    for keys in reversed(model.keys[: n - 1]):
        entries, last = np.divmod(keys[entries], len(model.words))
        columns.append(last)
    return np.stack([entries, *reversed(columns)], axis=1)


class _Lines:
    """The lines of a file that are not blank, one after the other, and their names in messages."""

    def __init__(self, path: PathLike) -> None:
        self.name, self.number, self._lines = name_of(path), 0, byte_lines(path)

    def next(self, expected: str) -> bytes:
        """The next line, without white space around it. Raises ModelError where the file ends."""
        for number, line in self._lines:
            self.number = number
            if stripped := line.strip():
                return stripped
        raise ModelError(
            f"{self.name}: ends after line {self.number}, expected {expected}; "
            "the file is cut off or no ARPA file"
        )

    def error(self, message: str, number: int | None = None) -> ModelError:
        """An error in a line, by default in the one read last."""
        return ModelError(f"{self.name}:{number or self.number}: {message}")


def read_arpa(path: PathLike) -> NgramModel:
    """Read an ARPA file, plain or gzipped, strictly.

    `<UNK>` is read as `<unk>`. Raises ModelError that names file and line for anything the format
    does not allow: wrong counts, missing fields, numbers that are not finite, probabilities above
    1, n-grams that occur twice, or whose words or context are missing.
    """
    try:
        return _read(_Lines(path))
    except FormatError as error:
        raise ModelError(str(error)) from error


def _read(lines: _Lines) -> NgramModel:
    while lines.next("\\data\\") != b"\\data\\":
        pass  # a comment before the header
    counts, line = _read_counts(lines)
    order = len(counts)
    log_probs: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    words: dict[bytes, int] = {}
    for n, count in enumerate(counts, 1):
        if line != b"\\%d-grams:" % n:
            raise lines.error(f"got {_shown(line)}, expected \\{n}-grams:")
        section = _read_section(lines, n, count, order, words)
        if n > 1:
            section, section_keys = _sorted(lines, section, keys, len(words))
            keys.append(section_keys)
        log_probs.append((section.log10_probs * _LN10).astype(np.float32))
        backoffs.append((section.backoffs * _LN10).astype(np.float32))
        line = lines.next("\\end\\" if n == order else f"\\{n + 1}-grams:")
    if line != b"\\end\\":
        raise lines.error(f"got {_shown(line)}, expected \\end\\")
    return NgramModel(
        _vocabulary(lines, words), tuple(log_probs), tuple(backoffs[:-1]), tuple(keys)
    )


def _read_counts(lines: _Lines) -> tuple[list[int], bytes]:
    """The number of n-grams of each order, and the line after them."""
    counts: list[int] = []
    while (line := lines.next("\\1-grams:")).startswith(b"ngram"):
        match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if match is None or int(match[1]) != len(counts) + 1:
            raise lines.error(f"got {_shown(line)}, expected ngram {len(counts) + 1}=<count>")
        counts.append(int(match[2]))
    if not counts:
        raise lines.error(f"got {_shown(line)}, expected ngram 1=<count>")
    return counts, line


class _Section(NamedTuple):
    """The n-grams of one order, as they stand in the file.

    log10_probs and backoffs (count,) base-10 logs; grams (count, n) word numbers; numbers (count,)
    line numbers.
    """

    log10_probs: np.ndarray
    backoffs: np.ndarray
    grams: np.ndarray
    numbers: np.ndarray


def _read_section(
    lines: _Lines, n: int, count: int, order: int, words: dict[bytes, int]
) -> _Section:
    """Read the n-grams of order n; the unigrams fill `words`."""
    log10_probs, backoffs, grams, numbers = array("d"), array("d"), array("i"), array("q")
    for index in range(count):
        fields = lines.next(f"{count} {n}-grams").split()
        has_backoff = len(fields) == n + 2 and n < order
        if len(fields) != n + 1 and not has_backoff:
            expected = f"{n + 1} or {n + 2}" if n < order else f"{n + 1}"
            raise lines.error(
                f"{len(fields)} fields, expected {expected}: "
                f"log10 of a probability, {n} words, a back-off below order {order}"
            )
        at = f"{lines.name}:{lines.number}"
        log10_prob = _number(fields[0], at, "the log10 of the probability")
        if log10_prob > 0:
            raise lines.error(f"the log10 of the probability is {log10_prob:g}, expected at most 0")
        log10_probs.append(log10_prob)
        backoffs.append(_number(fields[n + 1], at, "the back-off") if has_backoff else 0.0)
        if n == 1 and words.setdefault(fields[1], len(words)) != index:
            raise lines.error(f"the word {_shown(fields[1])} was there already")
        try:
            grams.extend([words[word] for word in fields[1 : n + 1]])
        except KeyError as error:
            word = _shown(error.args[0])
            raise lines.error(f"the word {word} is not among the 1-grams") from error
        numbers.append(lines.number)
    return _Section(
        np.array(log10_probs, dtype=np.float64),
        np.array(backoffs, dtype=np.float64),
        np.array(grams, dtype=np.int64).reshape(count, n),
        np.array(numbers, dtype=np.int64),
    )


def _sorted(
    lines: _Lines, section: _Section, keys: list[np.ndarray], size: int
) -> tuple[_Section, np.ndarray]:
    """The section in the order of its keys, and these keys. Raises ModelError for n-grams twice."""
    section_keys = _keys(lines, section.grams, keys, size, section.numbers)
    order = np.argsort(section_keys)
    section = _Section(*(values[order] for values in section))
    section_keys = section_keys[order]
    repeats = np.flatnonzero(np.diff(section_keys) == 0)
    if repeats.size:
        first, second = section.numbers[repeats[0]], section.numbers[repeats[0] + 1]
        n = section.grams.shape[1]
        raise lines.error(f"this {n}-gram was there already, at line {first}", int(second))
    return section, section_keys


def _number(field: bytes, at: str, what: str) -> float:
    return parse_number(field.decode(errors="replace"), at, what)


def _keys(
    lines: _Lines, grams: np.ndarray, keys: list[np.ndarray], size: int, numbers: np.ndarray
) -> np.ndarray:
    """The key of every n-gram.

    Raises ModelError for one whose context is missing: its probability could never be reached.
    """
    entries = grams[:, 0]
    for column, lower in enumerate(keys, 1):
        entries = find(lower, entries * size + grams[:, column])
        missing = np.flatnonzero(entries < 0)
        if missing.size:
            raise lines.error(
                f"the first {column + 1} words of this {grams.shape[1]}-gram "
                f"are not among the {column + 1}-grams",
                int(numbers[missing[0]]),
            )
    section_keys: np.ndarray = entries * size + grams[:, -1]
    return section_keys


def _vocabulary(lines: _Lines, words: dict[bytes, int]) -> list[str]:
    try:
        decoded = [word.decode() for word in words]
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{lines.name}: the word {_shown(error.object)} is {not_utf8(error)}"
        ) from error
    if UNK not in decoded:
        decoded = [UNK if word == "<UNK>" else word for word in decoded]
    for special in (BOS, EOS):
        if special not in decoded:
            raise ModelError(
                f"{lines.name}: the 1-grams lack {special}; sentences could not be scored"
            )
    return decoded


def _shown(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return repr(shown if len(shown) < 60 else shown[:57] + "...")
