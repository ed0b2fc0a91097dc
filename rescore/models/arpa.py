"""ARPA files: n-gram models as text, base-10 logs, as SRILM, KenLM, k2 and Kaldi read and write them."""

from __future__ import annotations

import re
from array import array

import numpy as np

from rescore.errors import FormatError, ModelError
from rescore.formats.base import parse_number
from rescore.formats.files import PathLike, atomic_writer, byte_lines, name_of, not_utf8
from rescore.models.ngram import BOS, EOS, UNK, NgramModel, find

__all__ = ["read_arpa", "write_arpa"]

_LN10 = float(np.log(10))
_CHUNK = 100_000  # lines formatted at once


def write_arpa(model: NgramModel, path: PathLike) -> None:
    """Write a model as an ARPA file (`.gz`: compressed), with the nine digits that give every float32 back. Raises FormatError if it cannot be written."""
    words = np.array(model.words, dtype=object)
    with atomic_writer(path) as out:
        counts = "".join(
            f"ngram {n}={len(values)}\n" for n, values in enumerate(model.log_probs, 1)
        )
        out.write(f"\\data\\\n{counts}".encode())
        for n, values in enumerate(model.log_probs, 1):
            out.write(f"\n\\{n}-grams:\n".encode())
            for start in range(0, len(values), _CHUNK):
                entries = np.arange(start, min(start + _CHUNK, len(values)))
                texts = [" ".join(gram) for gram in words[_spelled(model, n, entries)]]
                logs = _log10(values[entries])
                if n < model.order:
                    backoffs = _log10(model.backoffs[n - 1][entries])
                    lines = [
                        f"{a:.9g}\t{text}\t{b:.9g}\n"
                        for a, text, b in zip(logs, texts, backoffs, strict=True)
                    ]
                else:
                    lines = [f"{a:.9g}\t{text}\n" for a, text in zip(logs, texts, strict=True)]
                out.write("".join(lines).encode())
        out.write(b"\n\\end\\\n")


def _log10(nats: np.ndarray) -> list[float]:
    """Base-10 logs, in float64."""
    values: list[float] = (nats.astype(np.float64) / _LN10).tolist()
    return values


def _spelled(model: NgramModel, n: int, entries: np.ndarray) -> np.ndarray:
    """The word numbers of entries of order n, (entries, n)."""
    columns = []
    for keys in reversed(model.keys[: n - 1]):
        entries, last = np.divmod(keys[entries], len(model.words))
        columns.append(last)
    return np.stack([entries, *reversed(columns)], axis=1)


class _Lines:
    """The lines of a file that are not blank, one after the other, and what to call them in messages."""

    def __init__(self, path: PathLike) -> None:
        self._name, self.number, self._lines = name_of(path), 0, byte_lines(path)

    def next(self, expected: str) -> bytes:
        """The next line, without white space around it. Raises ModelError where the file ends."""
        for number, line in self._lines:
            self.number = number
            if stripped := line.strip():
                return stripped
        raise ModelError(
            f"{self._name}: ends after line {self.number}, expected {expected}; the file is cut off or no ARPA file"
        )

    def error(self, message: str, number: int | None = None) -> ModelError:
        """An error in a line, by default in the one read last."""
        return ModelError(f"{self._name}:{number or self.number}: {message}")


def read_arpa(path: PathLike) -> NgramModel:
    """Read an ARPA file, plain or gzipped, strictly.

    Raises ModelError naming file and line for anything the format does not allow: counts that do not fit, fields that are missing, numbers that are
    not finite, probabilities above 1, n-grams that come twice or whose words or context are not there. `<UNK>` is taken for `<unk>`.
    """
    try:
        return _read(_Lines(path))
    except FormatError as error:
        raise ModelError(str(error)) from error


def _read(lines: _Lines) -> NgramModel:
    while lines.next("\\data\\") != b"\\data\\":
        pass
    counts: list[int] = []
    while (line := lines.next("\\1-grams:")).startswith(b"ngram"):
        match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if match is None or int(match[1]) != len(counts) + 1:
            raise lines.error(f"got {_shown(line)}, expected ngram {len(counts) + 1}=<count>")
        counts.append(int(match[2]))
    if not counts:
        raise lines.error(f"got {_shown(line)}, expected ngram 1=<count>")
    log_probs: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    words: dict[bytes, int] = {}
    for n, count in enumerate(counts, 1):
        if line != b"\\%d-grams:" % n:
            raise lines.error(f"got {_shown(line)}, expected \\{n}-grams:")
        values, grams, numbers = _section(lines, n, count, len(counts), words)
        if n > 1:
            own = _keys(lines, grams, keys, len(words), numbers)
            order = np.argsort(own)
            keys.append(own[order])
            values = values[:, order]
            if (twice := np.flatnonzero(np.diff(keys[-1]) == 0)).size:
                raise lines.error(
                    f"this {n}-gram was there already, at line {numbers[order[twice[0]]]}",
                    int(numbers[order[twice[0] + 1]]),
                )
        log_probs.append((values[0] * _LN10).astype(np.float32))
        backoffs.append((values[1] * _LN10).astype(np.float32))
        line = lines.next("\\end\\" if n == len(counts) else f"\\{n + 1}-grams:")
    if line != b"\\end\\":
        raise lines.error(f"got {_shown(line)}, expected \\end\\")
    return NgramModel(
        _vocabulary(lines, words), tuple(log_probs), tuple(backoffs[:-1]), tuple(keys)
    )


def _section(
    lines: _Lines, n: int, count: int, order: int, words: dict[bytes, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base-10 logs and back-offs (2, count), word numbers (count, n) and line numbers (count,); the unigrams fill `words`."""
    values, grams, numbers = array("d"), array("i"), array("q")
    allowed = (n + 1, n + 2) if n < order else (n + 1,)
    for _ in range(count):
        fields = lines.next(f"{count} {n}-grams").split()
        if len(fields) not in allowed:
            raise lines.error(
                f"{len(fields)} fields, expected {' or '.join(map(str, allowed))}: log10 of a probability, {n} words, a back-off below order {order}"
            )
        at = f"{lines._name}:{lines.number}"
        values.append(_number(fields[0], at, "the log10 of the probability"))
        if values[-1] > 0:
            raise lines.error(f"the log10 of the probability is {values[-1]:g}, expected at most 0")
        values.append(_number(fields[n + 1], at, "the back-off") if len(fields) == n + 2 else 0.0)
        if n == 1 and words.setdefault(fields[1], len(words)) != len(numbers):
            raise lines.error(f"the word {_shown(fields[1])} was there already")
        try:
            grams.extend([words[word] for word in fields[1 : n + 1]])
        except KeyError as error:
            raise lines.error(
                f"the word {_shown(error.args[0])} is not among the 1-grams"
            ) from error
        numbers.append(lines.number)
    table = np.frombuffer(values, dtype=np.float64) if count else np.empty(0)
    return (
        table.reshape(count, 2).T,
        np.array(grams, dtype=np.int64).reshape(count, n),
        np.array(numbers, dtype=np.int64),
    )


def _number(field: bytes, at: str, what: str) -> float:
    return parse_number(field.decode(errors="replace"), at, what)


def _keys(
    lines: _Lines, grams: np.ndarray, keys: list[np.ndarray], size: int, numbers: np.ndarray
) -> np.ndarray:
    """The key of every n-gram. Raises ModelError for one whose context is not there: its probability could never be reached."""
    entries = grams[:, 0]
    for column, lower in enumerate(keys, 1):
        entries = find(lower, entries * size + grams[:, column])
        if (missing := np.flatnonzero(entries < 0)).size:
            raise lines.error(
                f"the first {column + 1} words of this {grams.shape[1]}-gram are not among the {column + 1}-grams",
                int(numbers[missing[0]]),
            )
    found: np.ndarray = entries * size + grams[:, -1]
    return found


def _vocabulary(lines: _Lines, words: dict[bytes, int]) -> list[str]:
    try:
        decoded = [word.decode() for word in words]
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{lines._name}: the word {_shown(error.object)} is {not_utf8(error)}"
        ) from error
    if UNK not in decoded:
        decoded = [UNK if word == "<UNK>" else word for word in decoded]
    for special in (BOS, EOS):
        if special not in decoded:
            raise ModelError(
                f"{lines._name}: the 1-grams lack {special}; sentences could not be scored"
            )
    return decoded


def _shown(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return repr(shown if len(shown) < 60 else shown[:57] + "...")
