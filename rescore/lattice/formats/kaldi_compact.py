"""Kaldi's CompactLattice archives as text: what `lattice-copy ark:lat.1 ark,t:lat.1.txt` writes.

Source: kaldi-asr/kaldi, src/lat/kaldi-lattice.cc (`WriteCompactLattice`,
`ReadCompactLatticeText`), src/fstext/lattice-weight.h (the weights):

    utterance
    0 1 hello 8.25,-25.1,2_1_1   from, to, word (or its number), graph cost, acoustic cost,
                                 transition ids
    1 0.5,-3.0,2                 a final state and its weight; without one both costs are 0
                                 an empty line ends the lattice

Costs are natural logs, unscaled, lower is better: `am` is minus the acoustic cost, `lm` minus the
graph cost (language model, pronunciations and transitions). A transition id is one frame: with
`frame_shift` (seconds a frame, after subsampling) their counts give the times of states. The ids
are not kept. A lattice without lines has no path. The first state is the start. Binary archives are
refused: `lattice-copy` turns them into text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, parse_number
from rescore.formats.files import PathLike, atomic_writer, byte_lines, name_of, not_utf8
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.lattice.formats.base import (
    SYMBOL_OPTIONS,
    ArcColumns,
    Arcs,
    build,
    state_number,
)
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import Symbols, Vocabulary, chosen_symbols, name_words

__all__ = ["KALDI_COMPACT", "read", "write"]

_BINARY = re.compile(rb"\S+ \0B")
_EPSILON = "<eps>"
_SPACE = " \t\r\f\v"


def read(
    path: PathLike,
    *,
    words: PathLike | None = None,
    bpe: PathLike | None = None,
    nonwords: Iterable[str] = (),
    frame_shift: float | None = None,
) -> Iterator[Lattice]:
    """Yield the lattices of an archive, one in memory at a time.

    `words` or `bpe` name the numbers that stand for words; `words="none"`: the numbers are the
    words, 0 is none. `<eps>` and `nonwords` are no words. Raises FormatError naming the archive and
    the line.
    """
    dropped = (_EPSILON, *nonwords, *(["0"] if words == "none" else []))
    symbols = chosen_symbols(words, bpe, dropped)
    lattices = (
        _lattice(block, symbols, words == "none", frame_shift) for block in _blocks(path, dropped)
    )
    return each_once(lattices, "read")


def write(lattices: Iterable[Lattice], path: PathLike) -> int:
    """Write an archive with words as text; return the number of lattices.

    Times, and scores other than am and lm, are not written. Raises FormatError for an id or a word
    with white space, and for an id that comes twice.
    """
    count = 0
    with atomic_writer(path) as output:
        for lattice in each_once(lattices, "written"):
            output.write(_text(lattice).encode())
            count += 1
    return count


def _text(lattice: Lattice) -> str:
    for name in (lattice.id, *(lattice.symbols[i] for i in np.unique(lattice.word).tolist() if i)):
        if re.search(r"\s", name) or not name:
            raise FormatError(
                f'{lattice.place()}: "{short(name)}" is empty or holds white space, which a line '
                "of this format cannot hold; rename it"
            )
    columns = (lattice.source, lattice.target, lattice.word, lattice.lm, lattice.am)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = [
        f"{source} {target} {lattice.symbols[word] or _EPSILON} {-lm!r},{-am!r},"
        for source, target, word, lm, am in rows
    ]
    ends = [str(lattice.states - 1)] if lattice.arcs else []
    return "\n".join([lattice.id, *lines, *ends, "", ""])


class _Block(Arcs):
    """The lines of one lattice."""

    def __init__(self, id: str, where: str, nonwords: Iterable[str]) -> None:
        super().__init__("frames")
        self.id, self.where, self.vocabulary = id, where, Vocabulary(nonwords)
        self.start = -1


def _blocks(path: PathLike, nonwords: tuple[str, ...]) -> Iterator[_Block]:
    block: _Block | None = None
    for number, raw in byte_lines(path):
        if not raw.strip():  # ends a lattice; there may be many, so it comes first
            if block is not None:
                yield block
            block = None
            continue
        where = f"{name_of(path)}:{number}"
        if _BINARY.match(raw):
            raise FormatError(
                f"{where}: this is a binary archive; "
                "turn it into text with `lattice-copy ark:IN ark,t:-`"
            )
        try:
            fields = [field for field in re.split(f"[{_SPACE}]+", raw.decode()) if field]
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: {not_utf8(error)}") from error
        if block is None:
            if len(fields) > 1:
                raise FormatError(
                    f"{where}: the line has {len(fields)} fields, expected the id of an utterance "
                    "alone; an empty line ends a lattice"
                )
            block = _Block(fields[0], where, nonwords)
        else:
            _add_line(block, fields, f"{where}: utterance {block.id}")
    if block is not None:
        raise FormatError(
            f"{block.where}: utterance {block.id}: the file ends before the empty line that ends a "
            "lattice; it is cut off, get it again"
        )


def _add_line(block: _Block, fields: list[str], at: str) -> None:
    """Add an arc or a final state."""
    if len(fields) > 4:
        raise FormatError(
            f"{at}: the line has {len(fields)} fields, expected from, to, word and weight, or a "
            "final state and its weight"
        )
    if block.start < 0:
        block.start = state_number(fields[0], at)
    source = state_number(fields[0], at)
    if len(fields) > 2:
        weight = _weight(fields[3], at) if len(fields) == 4 else (0.0, 0.0, 0)
        block.add(source, state_number(fields[1], at), block.vocabulary.index(fields[2]), *weight)
        return
    if source in block.finals:
        raise FormatError(f"{at}: the final state {source} is there twice; keep one of them")
    block.finals[source] = _weight(fields[1], at) if len(fields) == 2 else (0.0, 0.0, 0)


def _weight(text: str, at: str) -> tuple[float, float, int]:
    """(am, lm, frames) of `graph,acoustic,2_1_1`."""
    parts = text.split(",")
    if len(parts) != 3:
        advice = ""
        if len(parts) == 2:
            advice = "; write the lattices with `lattice-copy ark:IN ark,t:-`, compact"
        raise FormatError(
            f'{at}: the weight is "{short(text)}", expected a graph cost, an acoustic cost and '
            f"transition ids, 8.25,-25.1,2_1_1{advice}"
        )
    lm = 0.0 - parse_number(parts[0], at, "the graph cost")
    am = 0.0 - parse_number(parts[1], at, "the acoustic cost")
    if parts[2] and not re.fullmatch("[0-9]+(?:_[0-9]+)*", parts[2]):
        raise FormatError(
            f'{at}: the transition ids are "{short(parts[2])}", expected numbers, 2_1_1'
        )
    return am, lm, parts[2].count("_") + 1 if parts[2] else 0


def _lattice(
    block: _Block, symbols: Symbols | None, may_be_numbers: bool, frame_shift: float | None
) -> Lattice:
    place = f"{block.where}: utterance {block.id}"
    if len(block.source) and not block.finals:
        raise FormatError(
            f"{place}: it has arcs and no final state; the archive is damaged, write it again"
        )
    end = block.join_finals(block.start)
    source, target, word = block.columns()
    word, names = name_words(block.vocabulary, word, symbols, may_be_numbers, place)
    frames = {"frames": block.score("frames")}
    am, lm = block.score("am"), block.score("lm")
    lattice = build(
        block.id,
        ArcColumns(source, target, word, am, lm, scores=frames),
        names,
        start=max(block.start, 0),
        end=end,
        where=block.where,
    )
    return replace(
        lattice, scores={}, times=None if frame_shift is None else frame_shift * _frames(lattice)
    )


def _frames(lattice: Lattice) -> np.ndarray:
    """The frame of each state, (S,).

    Raises FormatError if two paths to a state have different numbers of frames.
    """
    frames = np.full(lattice.states, -1.0)
    frames[:1] = 0.0
    columns = (lattice.source, lattice.target, lattice.scores["frames"])
    for source, target, count in zip(*(column.tolist() for column in columns), strict=True):
        frame = frames[source] + count
        if frames[target] not in (-1.0, frame):
            raise FormatError(
                f"{lattice.place()}: paths to one state have {frames[target]:.0f} and {frame:.0f} "
                "frames; its times are unknown, leave out frame_shift"
            )
        frames[target] = frame
    return frames


#: An id alone on its line and an arc with a compact weight; or the start of a binary archive.
_HEAD = re.compile(
    rb"""\S+[ \t]*\r?\n
    [0-9]+[ \t]+[0-9]+[ \t]+\S+[ \t]+[^\ \t,]+,[^\ \t,]+,[0-9_]*[ \t]*\r?\n
    |\S+\ \0B\xd6\xfd\xb2\x7e\x0d?""",
    re.VERBOSE,
)


def _is_compact(head: bytes) -> bool:
    return _HEAD.match(head) is not None


def seconds(text: str) -> float:
    """Return a positive number of seconds. Raises ValueError for anything else."""
    value = float(text)
    if not 0 < value < 1000:
        raise ValueError(text)
    return value


KALDI_COMPACT = Format(
    "kaldi-compact",
    read,
    write,
    proven_by_bytes=_is_compact,
    help="Kaldi's CompactLattice archives as text (lattice-copy ark:IN ark,t:OUT)",
    proof="an id alone on the first line, then an arc whose weight is `graph,acoustic,2_1_1`",
    read_options={
        **SYMBOL_OPTIONS,
        "frame_shift": Option(
            "seconds a frame, after subsampling: gives the states times",
            seconds,
            "seconds, such as 0.03",
        ),
    },
)
