"""The manifest: who says what, how, and the seed of everything random about it.

Tab-separated, with a header:

    id           voice      pace   warp   seed        text
    train-00001  flite/slt  1.123  0.957  2871634011  she had said nothing of it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rescore.errors import FormatError
from rescore.formats.files import at_line, atomic_writer, text_lines

__all__ = ["Utterance", "read", "write"]


@dataclass(frozen=True)
class Utterance:
    """One line: a sentence, how it is spoken, and the seed of its noise."""

    id: str
    voice: str  #: ENGINE/NAME, see speakers.py
    pace: float  #: duration over the voice's own; above 1 is slower
    warp: float  #: factor on pitch and formants
    seed: int
    text: str


COLUMNS = [field.name for field in fields(Utterance)]


def read(path: Path) -> list[Utterance]:
    """Read a manifest, gzipped or not.

    Raises FormatError with the line number for a wrong header, a line that does not parse, and a
    repeated id.
    """
    utterances: dict[str, Utterance] = {}
    where = at_line(path)
    for number, line in text_lines(path):
        columns = line.split("\t")
        if number == 1:
            if columns != COLUMNS:
                raise FormatError(f"{where(1)}: expected the header {' '.join(COLUMNS)}")
            continue
        try:
            name, voice, pace, warp, seed, text = columns
            utterance = Utterance(name, voice, float(pace), float(warp), int(seed), text)
        except ValueError:
            raise FormatError(
                f"{where(number)}: expected {' '.join(COLUMNS)}, got {line!r}"
            ) from None
        if name in utterances:
            raise FormatError(f"{where(number)}: the id {name} is there twice; remove one")
        utterances[name] = utterance
    return list(utterances.values())


def write(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest whole; a name in .gz is compressed."""
    with atomic_writer(path) as output:
        for row in [COLUMNS, *map(astuple, utterances)]:
            output.write(("\t".join(map(str, row)) + "\n").encode())
