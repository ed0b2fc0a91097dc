"""lattice-rescore: lines `utt-n am lm rnnlm ... |    TEXT`, n from 0.

Source: Li et al. 2021, arXiv:2107.00764; qiujiali/lattice-rescore, `nbest_rescore.py`
(`write_nbest`, `read_nbest`). That tool has one file an utterance; here one file may hold many, one
after another. The scores are natural logs, summed, higher is better, without scales, in columns
that the file does not name: am and lm of the lattice, then one for every RNNLM and one for every
attention-based model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, parse_number
from rescore.formats.files import PathLike, at_line, atomic_writer, name_of, text_lines
from rescore.formats.record import score_of
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["LATTICE_RESCORE", "read", "write"]

_ID = re.compile(r"[^\s|]+")
_KEY = re.compile(r"(.+)-([0-9]{1,9})")
#: Several numbers in one: a number that fills its ten columns touches the one before.
_FUSED = re.compile(r"-?[0-9]+\.[0-9]{3}(?:(?:-[0-9]{5,}|[0-9]{6,})\.[0-9]{3})+")
_PROOF = re.compile(r"\S+-0(?: +-?[0-9]+\.[0-9]+){2,} \|    ")


def read(
    path: PathLike, *, skipped: Skipped | None = None, scores: str = "am,lm"
) -> Iterator[NBest]:
    """Yield the lists of one file, or of many put together.

    `scores` names every column. `rank` is minus the number in `utt-n`. Raises FormatError naming
    the line for another number of columns, a missing `|`, or numbers that do not increase; with
    `skipped`, counts bad lists there and goes on.
    """
    names, place = _names(scores, name_of(path)), at_line(path)
    lines = ((number, line) for number, line in text_lines(path) if line.strip())
    utterances = (
        list(group)
        for _, group in groupby(lines, key=lambda numbered: _key(numbered[1]).rpartition("-")[0])
    )
    numbered = (
        (group[0][0], [(place(number), line) for number, line in group]) for group in utterances
    )
    return convert_each(
        numbered, lambda group, where: _convert(group, names, where), place, skipped
    )


def write(lists: Iterable[NBest], path: PathLike, *, scores: str = "am,lm") -> int:
    """Write these scores, with all digits, and the words of every hypothesis.

    Returns the number of lists. Raises FormatError if the file cannot be written, for ids and texts
    that these lines cannot hold, and for a repeated id; ScoreError for a missing score.
    """
    count, names = 0, _names(scores, name_of(path))
    with atomic_writer(path) as output:
        for nbest in each_once(lists, "written"):
            if not _ID.fullmatch(nbest.id):
                raise FormatError(
                    f'{nbest.place()}: the ids of this format cannot hold white space or "|"; '
                    "rename the utterance"
                )
            output.write("".join(_line(nbest, i, names) for i in range(len(nbest.hyps))).encode())
            count += 1
    return count


def _names(scores: str, name: str) -> list[str]:
    names = scores.split(",")
    if not all(names) or len(set(names)) < len(names) or "rank" in names:
        raise FormatError(
            f'{name}: scores is "{scores}", expected a name for every column, as in am,lm,rnnlm'
        )
    return names


def _line(nbest: NBest, i: int, names: list[str]) -> str:
    hyp = nbest.hyps[i]
    if "|" in hyp.text:
        raise FormatError(f'{nbest.place(i)}: the texts of this format cannot hold "|"')
    scores = [score_of(nbest, i, name) for name in names]
    return (
        f"{nbest.id}-{i:<6}"
        + "".join(f" {score!r:>9}" for score in scores)
        + f" |    {' '.join(hyp.words)}\n"
    )


def _key(line: str) -> str:
    return (line.partition("|")[0].split() or [""])[0]


def _convert(group: list[tuple[str, str]], names: list[str], where: str) -> NBest:
    first_key = _KEY.fullmatch(_key(group[0][1]))
    if first_key is None:
        raise FormatError(
            f"{where}: the line begins with {_key(group[0][1])[:40]!r}, "
            "expected utt-n and then the scores"
        )
    utterance = first_key[1]
    hyps: list[Hypothesis] = []
    last = -1
    for at, line in group:
        key = _KEY.fullmatch(_key(line))
        number = -1 if key is None else int(key[2])
        if number <= last:
            raise FormatError(
                f"{at}: utterance {utterance}: the line is {_key(line)[:40]!r}, "
                "expected a number above that of the line before"
            )
        hyps.append(
            _hypothesis(
                line, names, number, f"{at}: utterance {utterance}, hypothesis {len(hyps) + 1}"
            )
        )
        last = number
    return NBest(utterance, tuple(hyps), where=where)


def _hypothesis(line: str, names: list[str], number: int, at: str) -> Hypothesis:
    before, bar, text = line.partition("|")
    if not bar:
        raise FormatError(f'{at}: there is no "|", expected utt-n, the scores, "|" and the words')
    values = [value for column in before.split()[1:] for value in _split(column)]
    if len(values) != len(names):
        raise FormatError(
            f"{at} has {len(values)} scores, expected {len(names)} ({', '.join(names)}); "
            "name them all, as in -O scores=am,lm,rnnlm"
        )
    scores = {
        name: parse_number(value, at, f'score "{name}"')
        for name, value in zip(names, values, strict=True)
    }
    return Hypothesis(text.strip(), {**scores, "rank": float(-number)})


def _split(column: str) -> list[str]:
    return re.findall(r"-?[0-9]+\.[0-9]{3}", column) if _FUSED.fullmatch(column) else [column]


def _is_lattice_rescore(head: str) -> bool:
    return _PROOF.match(head) is not None


LATTICE_RESCORE = Format(
    "lattice-rescore",
    read,
    write,
    _is_lattice_rescore,
    help="lattice-rescore's lines of several scores: utt-n am lm rnnlm ... | text",
    proof="a first line `utt-0`, two scores or more, a bar and four spaces",
    read_options={
        "scores": Option(
            "a name for every column, in order; default am,lm", expected="names separated by commas"
        )
    },
    write_options={
        "scores": Option(
            "the scores that are written; default am,lm", expected="names separated by commas"
        )
    },
)
