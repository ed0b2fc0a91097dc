"""icefall's recogs-*.txt, 1-best without scores: two lines a cut, words as Python prints a list.

    id:<tab>ref=['A', 'B']
    id:<tab>hyp=['A']

Source: k2-fsa/icefall, `icefall/utils.py`, `store_transcripts` and
`store_transcripts_and_timestamps`, June 2026. Older files are read, too: with a space in place of
the tab, or (2021) without ids; these become the file's stem and the number of the pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of
from rescore.formats.files import PathLike, at_line, atomic_writer, name_of, stem_of, text_lines
from rescore.formats.literals import STRING, string_list
from rescore.formats.record import id_of
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["ICEFALL_RECOGS", "read", "write"]

_LINE = re.compile(
    r"(?:(?=(?:ref|hyp)=)|(?P<id>.*?):[ "
    r"\t]+)(?P<kind>ref|hyp|timestamp_ref|timestamp_hyp)=(?P<value>.*)",
    re.DOTALL,
)
_WORDS = rf"\[(?:{STRING}(?:, {STRING})*)?\]"
_PROOF = re.compile(rf"(?:([^\n]+):\t)?ref={_WORDS}\r?\n(?:\1:\t)?hyp=\[")
_SEPARATORS = {"words": " ", "chars": ""}


def read(
    path: PathLike, *, skipped: Skipped | None = None, units: str = "words"
) -> Iterator[NBest]:
    """Yield a list of one hypothesis for each cut, with its reference.

    `units` says what the lists hold: "words", or "chars", which are joined without spaces. A value
    that is not a list is a text. Lines of times are kept as `timestamp_ref` and `timestamp_hyp`.
    Raises FormatError naming the line of a broken cut; with `skipped`, counts such cuts there and
    goes on.
    """
    separator = _separator(units, name_of(path))
    return convert_each(
        _cuts(path), lambda cut, where: _convert(cut, separator, where), at_line(path), skipped
    )


def write(lists: Iterable[NBest], path: PathLike, *, units: str = "words") -> int:
    """Write reference and first hypothesis of every list, byte for byte as icefall prints them.

    `units="chars"` is its `char_level`. Returns the number of lists. Raises FormatError if the file
    cannot be written, for a list without reference, and for an id that is repeated or that these
    lines cannot hold.
    """
    count, separator = 0, _separator(units, name_of(path))
    with atomic_writer(path) as output:
        for nbest in each_once(lists, "written"):
            if nbest.ref is None:
                raise FormatError(
                    f"{nbest.place()}: there is no reference to write; give them with --refs"
                )
            line = _LINE.fullmatch(f"{nbest.id}:\tref=")
            if line is None or line["id"] != nbest.id or re.search("[\r\n]", nbest.id):
                raise FormatError(
                    f"{nbest.place()}: these files cannot hold ids with a line end, "
                    '": " or "ref=" at the start; rename the utterance'
                )
            for kind, text in (("ref", nbest.ref), ("hyp", nbest.hyps[0].text)):
                words = text.split() if separator else list("".join(text.split()))
                output.write(f"{nbest.id}:\t{kind}={words}\n".encode())
            count += 1
    return count


def _separator(units: str, name: str) -> str:
    if units not in _SEPARATORS:
        raise FormatError(f'{name}: units is "{units}", expected one of {", ".join(_SEPARATORS)}')
    return _SEPARATORS[units]


def _cuts(path: PathLike) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    """(number of the first line, (id for pairs without one, lines)) of every cut.

    A line of a reference begins a cut.
    """
    lines: list[tuple[int, str]] = []
    count = 0
    for number, line in text_lines(path):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if lines and match is not None and match["kind"] == "ref":
            count += 1
            yield lines[0][0], (f"{stem_of(path)}-{count:06d}", [text for _, text in lines])
            lines = []
        lines.append((number, line))
    if lines:
        yield lines[0][0], (f"{stem_of(path)}-{count + 1:06d}", [text for _, text in lines])


def _convert(cut: tuple[str, list[str]], separator: str, where: str) -> NBest:
    default_id, lines = cut
    ids, values = _values(lines, default_id, where)
    utterance = id_of({"id": ids[0]}, where)
    at = f"{where}: utterance {utterance}"
    for id in ids:
        if id != utterance:
            raise FormatError(
                f"{at}: the next line is of {id}, expected the lines of a cut to stand together"
            )
    for kind in ("ref", "hyp"):
        if kind not in values:
            raise FormatError(
                f'{at}: there is no line "{kind}=", expected one "ref=" and one "hyp=" a cut'
            )
    ref = _text(values.pop("ref"), separator, f'{at}: "ref"')
    hyp = _text(values.pop("hyp"), separator, f'{at}: "hyp"')
    return NBest(utterance, (Hypothesis(hyp),), ref, values, where)


def _values(lines: list[str], default_id: str, where: str) -> tuple[list[str], dict[str, str]]:
    """The id of every line of a cut, and its value by the kind of line."""
    ids: list[str] = []
    values: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise FormatError(
                f"{where}: the cut has a line that is {line[:40]!r}, "
                "expected id:<tab>ref=[...] and id:<tab>hyp=[...]"
            )
        if match["kind"] in values:
            raise FormatError(
                f'{where}: the cut has two lines "{match["kind"]}=", '
                'expected one "ref=" and one "hyp=" a cut'
            )
        values[match["kind"]] = match["value"]
        ids.append(default_id if match["id"] is None else match["id"])
    return ids, values


def _text(value: str, separator: str, at: str) -> str:
    return (
        separator.join(string_list(value, at))
        if value.startswith("[") and value.endswith("]")
        else value
    )


def _is_recogs(head: str) -> bool:
    return _PROOF.match(head) is not None


_UNITS = {
    "units": Option(
        "what the lists hold: words (default), or chars", one_of(*_SEPARATORS), "words or chars"
    )
}

ICEFALL_RECOGS = Format(
    "icefall-recogs",
    read,
    write,
    _is_recogs,
    help="icefall's recogs-*.txt: reference and best hypothesis of every cut",
    proof="first lines `id:<tab>ref=[...]`, `id:<tab>hyp=[...]` of the same id",
    read_options=_UNITS,
    write_options=_UNITS,
)
