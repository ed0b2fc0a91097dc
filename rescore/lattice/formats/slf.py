"""HTK's Standard Lattice Format (SLF): one file an utterance.

The files stand alone, in a directory or in a tar, gzipped or not. HTK, HDecode, SRILM, pocketsphinx
and Kaldi write them.
Source: The HTK Book 3.4, chapter 20 "Lattice and Network Formats"; HTKLib/HLat.c, `ReadLattice`.

    VERSION=1.0
    UTTERANCE=u1                  the id; without it, the file's name
    base=2.718281828              of the scores' logs; 0: they are probabilities
    start=0 end=2                 else the nodes that no arc enters and that none leaves
    N=3 L=2
    I=0 t=0.00                    a node: number, time (t), word (W)
    I=1 t=0.25 W=it\\'s
    J=0 S=0 E=1 a=-25.5 l=-1.5    an arc: from S to E, acoustic score (a), language model's (l)

Scores become nats and are raw: `am` is a, `lm` is l (0 if no arc has one), `ngram` is n,
`pronunciation` is r. **lmscale, acscale and wdpenalty of the header are not multiplied in**: they
are the recogniser's own fusion; `header(path)` returns them. Posteriors (p) and variants (v) are
not kept: they can be computed from the rest. Times are in seconds.

Words stand on arcs or on nodes. On nodes, a word belongs to the arcs that enter its node, and its
time is its end (HTK). Where the start node itself has a word, no arc could have its score. Then
words belong to the arcs that leave their node, and times are their beginnings (pocketsphinx,
`!SENT_START`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, one_of
from rescore.formats.directories import atomic_directory
from rescore.formats.files import PathLike
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.lattice.formats.base import ArcColumns, build, list_of_names, state_number
from rescore.lattice.formats.slf_files import Source, sources
from rescore.lattice.formats.slf_text import NONWORDS, SlfText, escaped, parse
from rescore.lattice.lattice import Lattice

__all__ = ["NONWORDS", "SLF", "header", "read", "write"]


def read(
    path: PathLike, *, nonwords: Iterable[str] = (), ids: str = "utterance"
) -> Iterator[Lattice]:
    """Yield the lattices of a file, a directory or a tar, sorted by name, one in memory.

    NONWORDS and `nonwords` are no words. `ids="file"`: the file's name without .gz and suffix is
    the id, whatever the header says. Raises FormatError naming the file and the line.
    """
    dropped = NONWORDS | set(nonwords)
    return each_once((_lattice(source, dropped, ids == "file") for source in sources(path)), "read")


def header(path: PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (name of the file, fields of its header) of every lattice.

    The fields are text: lmscale, wdpenalty, acscale, ... Raises FormatError as `read` does.
    """
    for source in sources(path):
        yield source.name, parse(source).header


def write(lattices: Iterable[Lattice], path: PathLike) -> int:
    """Write a new directory of files ID.slf, words on arcs, and return the number of lattices.

    Scores other than am and lm are not written. Raises FormatError if the directory exists, for an
    id that is no file name, or that comes twice.
    """
    count = 0
    with atomic_directory(path) as output:
        for lattice in each_once(lattices, "written"):
            if re.search(r"[/\0\s]|^\.", lattice.id):
                raise FormatError(
                    f'{lattice.place()}: the id must be a file name: without "/" and white space, '
                    "no dot first; rename the utterance"
                )
            output.add(f"{lattice.id}.slf", _written(lattice).encode())
            count += 1
    return count


def _written(lattice: Lattice) -> str:
    """Return the text of the file."""
    states = max(lattice.states, 1)
    lines = [
        "VERSION=1.0",
        f"UTTERANCE={escaped(lattice.id)}",
        f"start=0\tend={states - 1}",
        f"N={states}\tL={lattice.arcs}",
    ]
    times = [] if lattice.times is None else lattice.times.tolist()
    for node in range(states):
        time = f"\tt={times[node]!r}" if times else ""
        lines.append(f"I={node}{time}")
    words = {
        word: escaped(lattice.symbols[word]) if word else "!NULL"
        for word in np.unique(lattice.word).tolist()
    }
    columns = (lattice.source, lattice.target, lattice.word, lattice.am, lattice.lm)
    arcs = zip(*(column.tolist() for column in columns), strict=True)
    for i, (source, target, word, am, lm) in enumerate(arcs):
        lines.append(f"J={i}\tS={source}\tE={target}\tW={words[word]}\ta={am!r}\tl={lm!r}")
    return "\n".join([*lines, ""])


def _lattice(source: Source, nonwords: Collection[str], is_named_by_file: bool) -> Lattice:
    text = parse(source, nonwords)
    id = source.stem if is_named_by_file else text.header.get("U", source.stem)
    unknown = {*text.arcs.source, *text.arcs.target} - text.nodes.keys()
    if unknown:
        raise FormatError(
            f"{source.name}: utterance {id}: an arc leaves or enters the node {min(unknown)}, "
            "which is not there; write the file again"
        )
    start = _node_of(text, "start", set(text.arcs.target), "no arc enters")
    end = _node_of(text, "end", set(text.arcs.source), "no arc leaves")
    end = _place_words(text, start, end) if text.nodes else -1
    in_file = {name: text.arcs.score(name) for name in text.arcs.scores}
    no_lm = None if text.has_arc_field("l") else in_file.pop("lm")  # zeros, whatever the base is
    scores = {name: _in_nats(text, values) for name, values in in_file.items()}
    am = scores.pop("am")
    lm = scores.pop("lm") if no_lm is None else no_lm
    return build(
        id,
        ArcColumns(*text.arcs.columns(), am, lm, scores=scores),
        text.vocabulary.symbols,
        start=start,
        end=end,
        times=_seconds(text),
        where=source.name,
    )


def _node_of(text: SlfText, key: str, excluded: Collection[int], which: str) -> int:
    """Return the node that the header names, else the only one with arcs outside `excluded`.

    A file without arcs has its first node as start and end.
    """
    if key in text.header:
        node = state_number(text.header[key], f"{text.where}: {key}=")
        if node not in text.nodes:
            raise FormatError(
                f"{text.where}: {key}={node} is no node of the lattice; write the file again"
            )
        return node
    candidates = {*text.arcs.source, *text.arcs.target}
    if not candidates:
        candidates = {next(iter(text.nodes), 0)}
    candidates -= set(excluded)
    if len(candidates) != 1:
        raise FormatError(
            f"{text.where}: there are {len(candidates)} nodes that {which}, expected one; name it "
            f"in the header, {key}=NODE"
        )
    return candidates.pop()


def _place_words(text: SlfText, start: int, end: int) -> int:
    """Give every arc its word and return the end, a new one if the last word has no arc yet."""
    arcs = text.arcs
    if text.has_arc_field("W"):
        if any(text.nodes.values()):
            raise FormatError(
                f"{text.where}: both nodes and arcs have words, expected one of them; write the "
                "file again"
            )
        return end
    if not arcs.source:
        return end
    belongs_to_leaving = text.nodes[start] is not None
    for row, node in enumerate(arcs.source if belongs_to_leaving else arcs.target):
        arcs.word[row] = text.nodes[node] or 0
    last_word = text.nodes[end]
    if not belongs_to_leaving or not last_word:
        return end
    new_end = max(text.nodes) + 1
    arcs.add(end, new_end, last_word, *([0.0] * len(arcs.scores)))
    text.nodes[new_end] = None
    if end in text.times:
        text.times[new_end] = text.times[end]
    return new_end


def _seconds(text: SlfText) -> Callable[[int], float] | None:
    """Return node -> time in seconds, or None if a node has no time."""
    scale = text.header_number("tscale", 1.0)
    if not text.nodes or len(text.times) != len(text.nodes):
        return None
    return lambda node: scale * text.times[node]


def _in_nats(text: SlfText, values: np.ndarray) -> np.ndarray:
    """Return scores (A,) as natural logs, from the base that the header names."""
    written = text.header.get("base", "")
    base = text.header_number("base", math.e)
    if not written or _is_e(written):
        return values
    if base == 0:
        if (values <= 0).any():
            raise FormatError(
                f"{text.where}: base=0 says that scores are probabilities, but one is "
                f"{values[values <= 0][0]}; expected more than 0"
            )
        logs: np.ndarray = np.log(values)
        return logs
    if base < 0 or base == 1:
        raise FormatError(
            f"{text.where}: base={short(written)} is no base of logs, expected a number above 1, "
            "or 0 for probabilities"
        )
    return values * math.log(base)


def _is_e(written: str) -> bool:
    """Whether a number is e, rounded or cut to four decimals or more."""
    if len(written) < 6:
        return False
    return written in (f"{math.e:.{len(written) - 2}f}", str(math.e)[: len(written)])


def _is_slf(start: bytes) -> bool:
    if start[257:262] == b"ustar":
        return re.search(rb"\.slf(?:\.gz)?\0", start[:2048]) is not None
    lines = start[:65536].split(b"\n")
    text = b"\n".join(line for line in lines if line.strip() and not line.startswith(b"#"))
    header_and_first = (
        rb"(?:[A-Za-z]\w*=[^\n]*\n)*?N(?:ODES)?=[0-9]+\s+L(?:INKS)?=[0-9]+\s+[IJ]=[0-9]"
    )
    return re.match(header_and_first, text) is not None


def _are_slf(names: Collection[str]) -> bool:
    return bool(names) and all(name.endswith((".slf", ".slf.gz")) for name in names)


SLF = Format(
    "slf",
    read,
    write,
    proven_by_bytes=_is_slf,
    proven_by_names=_are_slf,
    help="HTK's Standard Lattice Format, one file an utterance: a file, a directory or a tar of "
    "them",
    proof="a header with `N=` and `L=`, then `I=`; a directory whose files all end in `.slf` or "
    "`.slf.gz`, a tar whose first does",
    read_options={
        "nonwords": Option(
            "symbols that are no words beside !NULL, <s>, </s>, !SENT_START, ...",
            list_of_names,
            "names between commas",
        ),
        "ids": Option(
            "where ids come from: utterance (default: UTTERANCE=, else the file's name) or file",
            one_of("utterance", "file"),
            "utterance or file",
        ),
    },
)
