"""The text of one SLF file: its lines, its fields, and the header, nodes and arcs they give.

`rescore.lattice.formats.slf` describes the format and makes lattices of what is read here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from rescore.errors import FormatError
from rescore.formats.base import parse_number
from rescore.formats.strict_json import short
from rescore.lattice.formats.base import Arcs, state_number
from rescore.lattice.formats.slf_files import Source
from rescore.lattice.symbols import Vocabulary

__all__ = ["NONWORDS", "SlfText", "escaped", "parse"]

#: Symbols that are no words.
NONWORDS = frozenset(
    {"!NULL", "!ENTER", "!EXIT", "!SENT_START", "!SENT_END", "<s>", "</s>", "<eps>", "<sil>"}
)

#: A field: its name; its value in quotes, or up to the next white space.
_FIELD = re.compile(
    r"""([A-Za-z]\w*)="""
    r"""("(?:[^"\\]|\\.)*"(?=\s|$)|'(?:[^'\\]|\\.)*'(?=\s|$)|(?:[^\s\\]|\\.)*\\?)\s*"""
)
#: Quotes, escapes, and the white space of other scripts, which belongs to words.
_SPECIAL = re.compile(r"""[\\"']|[^\x00-\x7f]""")
#: Long name of a field -> its short name.
_SHORT_NAMES = {
    "SUBLAT": "S",
    "START": "S",
    "LINKS": "L",
    "SUBS": "L",
    "VERSION": "V",
    "UTTERANCE": "U",
    "NODES": "N",
    "END": "E",
    "WORD": "W",
    "time": "t",
    "var": "v",
    "acoustic": "a",
    "language": "l",
    "ngram": "n",
}
#: Field of an arc -> name of its score.
_SCORES = {"a": "am", "l": "lm", "n": "ngram", "r": "pronunciation"}


@dataclass
class SlfText:
    """One file as it is written, in the base of its own scores.

    `nodes` maps a node to its word, None where it has none. The word of an arc is -1 where the arc
    names none. `arc_fields` are the fields that the arcs have, None before the first arc.
    """

    where: str
    vocabulary: Vocabulary
    header: dict[str, str] = field(default_factory=dict)
    nodes: dict[int, int | None] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    arcs: Arcs = field(default_factory=Arcs)
    arc_fields: tuple[str, ...] | None = None

    def has_arc_field(self, name: str) -> bool:
        """Whether the arcs have the field, such as W or l."""
        return self.arc_fields is not None and name in self.arc_fields

    def header_number(self, key: str, default: float) -> float:
        """Return a number of the header. Raises FormatError for one that is not finite."""
        if key not in self.header:
            return default
        return parse_number(self.header[key], self.where, f"{key} in the header")


def parse(source: Source, nonwords: Collection[str] = NONWORDS) -> SlfText:
    """Read one file.

    Raises FormatError naming the line, or the file if its header promises another number of nodes
    or arcs.
    """
    text = SlfText(source.name, Vocabulary(nonwords))
    for number, line in source.lines():
        at = f"{source.name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        fields = _fields(line, at)
        first_field = next(iter(fields))
        if first_field == "I":
            _add_node(text, fields, at)
        elif first_field == "J":
            _add_arc(text, fields, at)
        else:
            text.header.update(fields)
    _check_count(text, "N", "nodes", len(text.nodes))
    _check_count(text, "L", "arcs", len(text.arcs.source))
    if "S" in text.header:
        raise FormatError(
            f"{source.name}: it has sub-lattices (SUBLAT=); expand them first, as HBuild or HParse "
            "do"
        )
    return text


def _check_count(text: SlfText, key: str, what: str, count: int) -> None:
    if text.header.get(key, "") == str(count):
        return
    if key in text.header:
        promised = f"promises {short(text.header[key])} {what}"
    else:
        promised = f"does not say how many {what} there are ({key}=)"
    raise FormatError(
        f"{text.where}: the header {promised}, the file has {count}; it is cut off or damaged, get "
        "it again"
    )


def _fields(line: str, at: str) -> dict[str, str]:
    """Return short name -> value, in the order of the line."""
    if not _SPECIAL.search(line):  # nearly all lines: three times as fast
        parts = line.split()
        fields = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if equals and name.isidentifier():
                fields[_SHORT_NAMES.get(name, name)] = value
        if len(fields) == len(parts):
            return fields
    fields = {}
    position = len(line) - len(line.lstrip())
    while position < len(line):
        match = _FIELD.match(line, position)
        if match is None:
            raise FormatError(f'{at}: "{short(line[position:])}" is no field, expected NAME=value')
        key = _SHORT_NAMES.get(match[1], match[1])
        if key in fields:
            raise FormatError(f"{at}: the field {match[1]} is there twice; keep one of them")
        fields[key] = _unescaped(match[2], at)
        position = match.end()
    return fields


def _unescaped(value: str, at: str) -> str:
    """Remove quotes and backslashes; three octal digits after a backslash are a byte."""
    if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    if "\\" not in value:
        return value
    plain = re.sub(
        rb"\\([0-3][0-7]{2}|.|$)",
        lambda escape: bytes([int(escape[1], 8)]) if len(escape[1]) == 3 else escape[1],
        value.encode(),
    )
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f'{at}: the escapes in "{short(value)}" are not UTF-8; convert the file first'
        ) from error


def escaped(text: str) -> str:
    """Return a value for which the reader gives `text`: no white space, no bare quotes."""
    return re.sub(r"""[\s\\'"]""", _escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isspace():
        return "".join(f"\\{byte:03o}" for byte in character.encode())
    return f"\\{character}"


def _add_node(text: SlfText, fields: dict[str, str], at: str) -> None:
    node = state_number(fields["I"], at)
    if node in text.nodes:
        raise FormatError(f"{at}: the node {node} is there twice; keep one of them")
    if "L" in fields:
        raise FormatError(
            f"{at}: the node is a sub-lattice (L=); expand it first, as HBuild or HParse do"
        )
    word = fields.get("W", "!NULL")
    text.nodes[node] = None if word == "!NULL" else text.vocabulary.index(word)
    if "t" in fields:
        text.times[node] = parse_number(fields["t"], at, "the time t")


def _add_arc(text: SlfText, fields: dict[str, str], at: str) -> None:
    for key, verb in (("S", "leaves"), ("E", "enters")):
        if key not in fields:
            raise FormatError(f"{at}: the arc has no {key}=, the node it {verb}")
    names = tuple(key for key in ("W", *_SCORES) if key in fields)
    if text.arc_fields is None:
        text.arc_fields = names
        text.arcs = Arcs(*(_SCORES[key] for key in ("n", "r") if key in names))
    if names != text.arc_fields:
        raise FormatError(
            f"{at}: the arc has the fields {_listed(names)}, those before have "
            f"{_listed(text.arc_fields)}; a missing score is not 0"
        )
    if "a" not in names:
        raise FormatError(
            f"{at}: the arc has no acoustic score (a=); without scores this is no lattice of a "
            "recogniser"
        )
    source, target = state_number(fields["S"], at), state_number(fields["E"], at)
    scores = {
        key: parse_number(fields[key], at, f"the score {key}") for key in _SCORES if key in names
    }
    word = text.vocabulary.index(fields["W"]) if "W" in fields else -1
    text.arcs.add(source, target, word, scores.pop("a"), scores.pop("l", 0.0), *scores.values())


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}=" for name in names) or "none"
