"""HTK's Standard Lattice Format: one file an utterance, alone, in a directory or in a tar; gzipped or not. Written by HTK, HDecode, SRILM, pocketsphinx, Kaldi.

Source: The HTK Book 3.4, chapter 20 "Lattice and Network Formats"; HTKLib/HLat.c, `ReadLattice`.

    VERSION=1.0
    UTTERANCE=u1                  the id; without it, the file's name
    base=2.718281828              of the scores' logs; 0: they are probabilities
    start=0 end=2                 else the nodes that no arc enters and that none leaves
    N=3 L=2
    I=0 t=0.00                    a node: number, time (t), word (W)
    I=1 t=0.25 W=it\\'s
    J=0 S=0 E=1 a=-25.5 l=-1.5    an arc: from S to E, acoustic score (a), language model's (l)

Scores become nats and are raw: `am` is a, `lm` is l (0 if no arc has one), `ngram` is n, `pronunciation` is r. **lmscale, acscale and wdpenalty of the
header are not multiplied in**: they are the recogniser's own fusion; `header(path)` returns them. Posteriors (p) and variants (v) are not kept: they can
be computed from the rest. Times are in seconds.

Words stand on arcs or on nodes. On nodes, a word belongs to the arcs that enter its node, and its time is its end (HTK). Where the start node itself has
a word no arc could have its score: then words belong to the arcs that leave their node, and times are their beginnings (pocketsphinx, `!SENT_START`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, one_of, parse_number
from rescore.formats.files import PathLike, atomic_directory
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.lattice.formats.base import (
    Arcs,
    build,
    list_of_names,
    state_number,
)
from rescore.lattice.formats.slf_files import Source, sources
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import Vocabulary

__all__ = ["NONWORDS", "SLF", "header", "read", "write"]

#: Symbols that are no words.
NONWORDS = frozenset(
    {"!NULL", "!ENTER", "!EXIT", "!SENT_START", "!SENT_END", "<s>", "</s>", "<eps>", "<sil>"}
)

_FIELD = re.compile(
    r"""([A-Za-z]\w*)=("(?:[^"\\]|\\.)*"(?=\s|$)|'(?:[^'\\]|\\.)*'(?=\s|$)|(?:[^\s\\]|\\.)*\\?)\s*"""
)
_SPECIAL = re.compile(
    r"""[\\"']|[^\x00-\x7f]"""
)  # quotes, escapes, and white space of other scripts, which belongs to words
_SHORT = {
    **dict.fromkeys(("SUBLAT", "START"), "S"),
    **dict.fromkeys(("LINKS", "SUBS"), "L"),
    **{
        name: name[0]
        for name in (
            "VERSION",
            "UTTERANCE",
            "NODES",
            "END",
            "WORD",
            "time",
            "var",
            "acoustic",
            "language",
            "ngram",
        )
    },
}
_SCORES = {"a": "am", "l": "lm", "n": "ngram", "r": "pronunciation"}


def read(
    path: PathLike, *, nonwords: Iterable[str] = (), ids: str = "utterance"
) -> Iterator[Lattice]:
    """Yield the lattices of a file, or those of a directory or tar in the order of the names, one in memory at a time.

    NONWORDS and `nonwords` are no words. `ids="file"`: the file's name without .gz and suffix is the id, whatever the header says.
    Raises FormatError naming the file and the line.
    """
    dropped = NONWORDS | set(nonwords)
    return each_once((_lattice(source, dropped, ids == "file") for source in sources(path)), "read")


def header(path: PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (name of the file, fields of its header) of every lattice: lmscale, wdpenalty, acscale, ... as text. Raises FormatError as `read` does."""
    for source in sources(path):
        yield source.name, _slf(source).header


def write(lattices: Iterable[Lattice], path: PathLike) -> int:
    """Write a new directory of files ID.slf, words on arcs, and return the number of lattices. Scores other than am and lm are not written.

    Raises FormatError if the directory is there, for an id that is no file name, or that comes twice.
    """
    count = 0
    with atomic_directory(path) as output:
        for lattice in each_once(lattices, "written"):
            if re.search(r"[/\0\s]|^\.", lattice.id):
                raise FormatError(
                    f'{lattice.place()}: the id must be a file name: without "/" and white space, no dot first; rename the utterance'
                )
            output.add(f"{lattice.id}.slf", _text(lattice).encode())
            count += 1
    return count


def _text(lattice: Lattice) -> str:
    states = max(lattice.states, 1)
    times = (
        [""] * states
        if lattice.times is None
        else [f"\tt={time!r}" for time in lattice.times.tolist()] or [""]
    )
    nodes = [f"I={i}{time}" for i, time in enumerate(times)]
    names = {
        i: _escaped(lattice.symbols[i]) if i else "!NULL" for i in np.unique(lattice.word).tolist()
    }
    columns = (lattice.source, lattice.target, lattice.word, lattice.am, lattice.lm)
    rows = enumerate(zip(*(column.tolist() for column in columns), strict=True))
    links = [
        f"J={i}\tS={source}\tE={target}\tW={names[word]}\ta={am!r}\tl={lm!r}"
        for i, (source, target, word, am, lm) in rows
    ]
    top = [
        "VERSION=1.0",
        f"UTTERANCE={_escaped(lattice.id)}",
        f"start=0\tend={states - 1}",
        f"N={states}\tL={lattice.arcs}",
    ]
    return "\n".join([*top, *nodes, *links, ""])


def _escaped(text: str) -> str:
    return re.sub(
        r"""[\s\\'"]""",
        lambda found: (
            "".join(f"\\{byte:03o}" for byte in found[0].encode())
            if found[0].isspace()
            else f"\\{found[0]}"
        ),
        text,
    )


@dataclass
class _Slf:
    """One file: its header, its nodes, and its arcs, whose word is -1 where they have none of their own."""

    where: str
    header: dict[str, str] = field(default_factory=dict)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    nodes: dict[int, int | None] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    arcs: Arcs = field(default_factory=Arcs)
    names: tuple[str, ...] | None = None


def _slf(source: Source, nonwords: Collection[str] = NONWORDS) -> _Slf:
    """Read one file. Raises FormatError naming the line, or the file if its header promises another number of nodes or arcs."""
    made = _Slf(source.name, vocabulary=Vocabulary(nonwords))
    for number, line in source.lines():
        at = f"{source.name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        fields = _fields(line, at)
        kind = next(iter(fields))
        if kind == "I":
            _node(made, fields, at)
        elif kind == "J":
            _link(made, fields, at)
        else:
            made.header.update(fields)
    for key, what, count in (("N", "nodes", len(made.nodes)), ("L", "arcs", len(made.arcs.source))):
        if made.header.get(key, "") != str(count):
            promised = (
                f"promises {short(made.header[key])} {what}"
                if key in made.header
                else f"does not say how many {what} there are ({key}=)"
            )
            raise FormatError(
                f"{source.name}: the header {promised}, the file has {count}; it is cut off or damaged, get it again"
            )
    if "S" in made.header:
        raise FormatError(
            f"{source.name}: it has sub-lattices (SUBLAT=); expand them first, as HBuild or HParse do"
        )
    return made


def _fields(line: str, at: str) -> dict[str, str]:
    if not _SPECIAL.search(line):  # nearly all lines: three times as fast
        pairs = [part.partition("=") for part in line.split()]
        fields = {
            _SHORT.get(name, name): value
            for name, equals, value in pairs
            if equals and name.isidentifier()
        }
        if len(fields) == len(pairs):
            return fields
    fields = {}
    position = len(line) - len(line.lstrip())
    while position < len(line):
        found = _FIELD.match(line, position)
        if found is None:
            raise FormatError(f'{at}: "{short(line[position:])}" is no field, expected NAME=value')
        key = _SHORT.get(found[1], found[1])
        if key in fields:
            raise FormatError(f"{at}: the field {found[1]} is there twice; keep one of them")
        fields[key] = _unescaped(found[2], at)
        position = found.end()
    return fields


def _unescaped(value: str, at: str) -> str:
    """Without quotes and backslashes; three octal digits after a backslash are a byte."""
    if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    if "\\" not in value:
        return value
    plain = re.sub(
        rb"\\([0-3][0-7]{2}|.|$)",
        lambda found: bytes([int(found[1], 8)]) if len(found[1]) == 3 else found[1],
        value.encode(),
    )
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f'{at}: the escapes in "{short(value)}" are not UTF-8; convert the file first'
        ) from error


def _node(made: _Slf, fields: dict[str, str], at: str) -> None:
    node = state_number(fields["I"], at)
    if node in made.nodes:
        raise FormatError(f"{at}: the node {node} is there twice; keep one of them")
    if "L" in fields:
        raise FormatError(
            f"{at}: the node is a sub-lattice (L=); expand it first, as HBuild or HParse do"
        )
    made.nodes[node] = (
        made.vocabulary.index(fields["W"]) if fields.get("W", "!NULL") != "!NULL" else None
    )
    if "t" in fields:
        made.times[node] = parse_number(fields["t"], at, "the time t")


def _link(made: _Slf, fields: dict[str, str], at: str) -> None:
    for key in ("S", "E"):
        if key not in fields:
            raise FormatError(
                f"{at}: the arc has no {key}=, the node it {'leaves' if key == 'S' else 'enters'}"
            )
    names = tuple(key for key in ("W", *_SCORES) if key in fields)
    if made.names is None:
        made.names = names
        made.arcs = Arcs(
            *(name for key, name in _SCORES.items() if key in names and name not in ("am", "lm"))
        )
    if names != made.names:
        raise FormatError(
            f"{at}: the arc has the fields {_listed(names)}, those before have {_listed(made.names)}; a missing score is not 0"
        )
    if "a" not in names:
        raise FormatError(
            f"{at}: the arc has no acoustic score (a=); without scores this is no lattice of a recogniser"
        )
    source, target = state_number(fields["S"], at), state_number(fields["E"], at)
    scores = {
        key: parse_number(fields[key], at, f"the score {key}") for key in _SCORES if key in names
    }
    word = made.vocabulary.index(fields["W"]) if "W" in fields else -1
    made.arcs.add(source, target, word, scores.pop("a"), scores.pop("l", 0.0), *scores.values())


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}=" for name in names) or "none"


def _lattice(source: Source, nonwords: Collection[str], is_named_by_file: bool) -> Lattice:
    made = _slf(source, nonwords)
    id = source.stem if is_named_by_file else made.header.get("U", source.stem)
    unknown = {*made.arcs.source, *made.arcs.target} - made.nodes.keys()
    if unknown:
        raise FormatError(
            f"{source.name}: utterance {id}: an arc leaves or enters the node {min(unknown)}, which is not there; write the file again"
        )
    start, end = (
        _node_of(made, "start", set(made.arcs.target), "no arc enters"),
        _node_of(made, "end", set(made.arcs.source), "no arc leaves"),
    )
    end = _place_words(made, start, end)
    scale = _number_in(made, "tscale", 1.0)
    times = {node: scale * time for node, time in made.times.items()}
    scores = {name: _nats(made, made.arcs.score(name)) for name in made.arcs.scores}
    am, lm = (
        scores.pop("am"),
        scores.pop("lm") if "l" in (made.names or ()) else np.zeros(len(made.arcs.source)),
    )
    scores.pop("lm", None)
    timer = times.__getitem__ if len(made.times) == len(made.nodes) else None
    return build(
        id,
        made.arcs.columns(),
        am,
        lm,
        made.vocabulary.symbols,
        start=start,
        end=end,
        scores=scores,
        times=timer,
        where=source.name,
    )


def _node_of(made: _Slf, key: str, others: Collection[int], which: str) -> int:
    """The node that the header names, else the only one that is not among `others` but has arcs."""
    if key in made.header:
        node = state_number(made.header[key], f"{made.where}: {key}=")
        if node not in made.nodes:
            raise FormatError(
                f"{made.where}: {key}={node} is no node of the lattice; write the file again"
            )
        return node
    found = ({*made.arcs.source, *made.arcs.target} or set(list(made.nodes)[:1]) or {0}) - set(
        others
    )
    if len(found) != 1:
        raise FormatError(
            f"{made.where}: there are {len(found)} nodes that {which}, expected one; name it in the header, {key}=NODE"
        )
    return found.pop()


def _place_words(made: _Slf, start: int, end: int) -> int:
    """Give every arc its word and return the end, a new one where the last word has no arc yet."""
    arcs, on_arcs = made.arcs, "W" in (made.names or ())
    if on_arcs and any(made.nodes.values()):
        raise FormatError(
            f"{made.where}: both nodes and arcs have words, expected one of them; write the file again"
        )
    if on_arcs or not arcs.source:
        return end
    leaves = made.nodes[start] is not None
    for row, node in enumerate(arcs.source if leaves else arcs.target):
        arcs.word[row] = made.nodes[node] or 0
    if leaves and made.nodes[end]:
        last = max(made.nodes) + 1
        arcs.add(end, last, made.nodes[end] or 0, *([0.0] * len(arcs.scores)))
        made.nodes[last] = None
        made.times.update({last: made.times[end]} if end in made.times else {})
        return last
    return end


def _number_in(made: _Slf, key: str, default: float) -> float:
    return (
        parse_number(made.header[key], made.where, f"{key} in the header")
        if key in made.header
        else default
    )


def _nats(made: _Slf, values: np.ndarray) -> np.ndarray:
    text = made.header.get("base", "")
    base = _number_in(made, "base", math.e)
    is_e = len(text) > 5 and text in (
        f"{math.e:.{len(text) - 2}f}",
        str(math.e)[: len(text)],
    )  # however many digits were written
    if not text or is_e:
        return values
    if base == 0:
        if (values <= 0).any():
            raise FormatError(
                f"{made.where}: base=0 says that scores are probabilities, but one is {values[values <= 0][0]}; expected more than 0"
            )
        logs: np.ndarray = np.log(values)
        return logs
    if base < 0 or base == 1:
        raise FormatError(
            f"{made.where}: base={short(text)} is no base of logs, expected a number above 1, or 0 for probabilities"
        )
    return values * math.log(base)


def _is_slf(start: bytes) -> bool:
    if start[257:262] == b"ustar":
        return re.search(rb"\.slf(?:\.gz)?\0", start[:2048]) is not None
    lines = b"\n".join(
        line for line in start[:65536].split(b"\n") if line.strip() and not line.startswith(b"#")
    )
    return (
        re.match(
            rb"(?:[A-Za-z]\w*=[^\n]*\n)*?N(?:ODES)?=[0-9]+\s+L(?:INKS)?=[0-9]+\s+[IJ]=[0-9]", lines
        )
        is not None
    )


def _are_slf(names: Collection[str]) -> bool:
    return bool(names) and all(name.endswith((".slf", ".slf.gz")) for name in names)


SLF = Format(
    "slf",
    read,
    write,
    proven_by_bytes=_is_slf,
    proven_by_names=_are_slf,
    help="HTK's Standard Lattice Format, one file an utterance: a file, a directory or a tar of them",
    proof="a header with `N=` and `L=`, then `I=`; a directory whose files all end in `.slf` or `.slf.gz`, a tar whose first does",
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
