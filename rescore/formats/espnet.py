"""ESPnet's decoding directories: `<n>best_recog/{text,score}` for n = 1, 2, ..., lines `utterance value`.

Source: espnet/espnet, espnet2/bin/asr_inference.py and espnet2/fileio/datadir_writer.py.
`score` is the total of the beam search, weights and length bonus included: natural log, higher is better, printed by Python, so `tensor(-3.21)` or
`tensor(-3.21, device='cuda:0')` as often as `-3.21`. An utterance has as many hypotheses as the search found: it is in the first directories only.
Recipes leave the lists of n > 1 in `logdir/output.1`, `logdir/output.2`, ..., one for each job: the folder above these is read as one.
An utterance that was too short to decode has the text " " and the score 0.0 in all n.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Option,
    Skipped,
    convert_each,
    line_id,
    parse_number,
    read_score_option,
    write_score_option,
)
from rescore.formats.files import PathLike, atomic_directory, name_of, names_in, text_lines
from rescore.formats.record import score_of
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["ESPNET", "read", "write"]

_RANK = re.compile(r"([1-9][0-9]{0,5})best_recog")
_JOB = re.compile(r"output\.([1-9][0-9]{0,5})")
_LINE = re.compile(r"([^ \t]+)(?:[ \t](.*))?", re.DOTALL)
_TENSOR = re.compile(r"tensor\(([^,()]*)(?:,.*)?\)")


class _Value(NamedTuple):
    at: str
    text: str


def read(
    path: PathLike, *, score: str = "first_pass", text: str = "text", skipped: Skipped | None = None
) -> Iterator[NBest]:
    """Yield the lists of a decoding directory, in the order of the best hypotheses; every part is read as a whole.

    `score` names the total score; `text` names the files with the words (`token` where the recogniser has no tokenizer). `rank` is minus the position.
    Raises FormatError for a missing file or directory, a line without an id, an id that comes twice, a score or a text without its partner; with
    `skipped`, counts utterances whose scores are missing or no numbers there and goes on.
    """
    found = enumerate(_utterances(path, text), 1)
    places: dict[int, str] = {}

    def placed() -> Iterator[tuple[int, tuple[str, list[tuple[_Value, _Value | None]]]]]:
        for number, (utterance, hyps) in found:
            places[number] = hyps[0][0].at
            yield number, (utterance, hyps)

    return convert_each(
        placed(), lambda item, where: _convert(*item, score, where), places.__getitem__, skipped
    )


def write(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write a new directory of `<n>best_recog/{text,score}` and return the number of lists. References and other scores are not written.

    Raises FormatError if the directory is there already or cannot be written, and for what these lines cannot hold: white space in an id, a line
    break in a text, an id that comes twice; ScoreError if a hypothesis does not have that score.
    """
    count = 0
    with atomic_directory(path) as output:
        for nbest in each_once(lists, "written"):
            utterance = line_id(nbest)
            for i, hyp in enumerate(nbest.hyps):
                if re.search(r"[\r\n]", hyp.text):
                    raise FormatError(
                        f"{nbest.place(i)}: the text holds a line break, "
                        "which a line of ESPnet's cannot; take it out"
                    )
                output.add(f"{i + 1}best_recog/text", f"{utterance} {hyp.text}\n".encode())
                output.add(
                    f"{i + 1}best_recog/score",
                    f"{utterance} {score_of(nbest, i, score)!r}\n".encode(),
                )
            count += 1
    return count


def _utterances(
    path: PathLike, text: str
) -> Iterator[tuple[str, list[tuple[_Value, _Value | None]]]]:
    """(utterance, [(text, its score)]) of every part of a directory."""
    for part in _parts(path):
        ranks = [
            (_values(os.path.join(part, name, text)), _values(os.path.join(part, name, "score")))
            for name in _rank_names(part)
        ]
        lists: dict[str, list[tuple[_Value, _Value | None]]] = {
            utterance: [] for utterance in ranks[0][0]
        }
        for n, (texts, scores) in enumerate(ranks, 1):
            for utterance in scores.keys() - texts.keys():
                raise FormatError(
                    f"{scores[utterance].at}: utterance {utterance}: there is a score but no "
                    f'line in "{text}"'
                )
            for utterance, value in texts.items():
                if len(lists.get(utterance, ())) != n - 1:
                    raise FormatError(
                        f"{value.at}: utterance {utterance}: there is a hypothesis {n} but no "
                        f"hypothesis {n - 1}; a file was cut off"
                    )
                lists[utterance].append((value, scores.get(utterance)))
        yield from lists.items()


def _parts(path: PathLike) -> list[str]:
    """The directories that hold `1best_recog`: this one, or its `output.1`, `output.2`, ... ."""
    names = names_in(path)
    if "1best_recog" in names:
        return [os.fspath(path)]
    jobs = sorted(int(found[1]) for found in map(_JOB.fullmatch, names) if found)
    if not jobs:
        raise FormatError(
            f'{name_of(path)}: there is no "1best_recog" in this directory, nor "output.1"; '
            "name the directory that holds it"
        )
    if jobs != list(range(1, len(jobs) + 1)):
        raise FormatError(
            f"{name_of(path)}: output.{jobs[-1]} is there, but not all before it; a job is missing"
        )
    return [os.path.join(path, f"output.{job}") for job in jobs]


def _rank_names(part: str) -> list[str]:
    ranks = sorted(int(found[1]) for found in map(_RANK.fullmatch, names_in(part)) if found)
    if ranks != list(range(1, len(ranks) + 1)) or not ranks:
        raise FormatError(
            f"{part}: expected 1best_recog, 2best_recog, ... without a gap, "
            f"got {', '.join(map(str, ranks)) or 'none of them'}"
        )
    return [f"{rank}best_recog" for rank in ranks]


def _values(path: str) -> dict[str, _Value]:
    """id -> what stands after it, exactly as it is; it may be empty, and the space before it missing. Blank lines hold nothing."""
    values: dict[str, _Value] = {}
    for number, line in text_lines(path):
        if not line.strip():
            continue
        at = f"{path}:{number}"
        found = _LINE.fullmatch(line)
        if found is None:
            raise FormatError(
                f"{at}: there is no id at the start of the line, expected an id, "
                "a space and a value"
            )
        if found[1] in values:
            raise FormatError(
                f"{at}: utterance {found[1]}: this id was already at {values[found[1]].at}; "
                "every utterance needs its own"
            )
        values[found[1]] = _Value(at, found[2] or "")
    return values


def _convert(
    utterance: str, hyps: list[tuple[_Value, _Value | None]], score: str, where: str
) -> NBest:
    return NBest(
        utterance,
        tuple(_hypothesis(utterance, i, *hyp, score) for i, hyp in enumerate(hyps)),
        where=where,
    )


def _hypothesis(
    utterance: str, index: int, text: _Value, value: _Value | None, score: str
) -> Hypothesis:
    if value is None:
        raise FormatError(
            f"{text.at}: utterance {utterance}: its score is missing, "
            'expected a line in "score" beside it'
        )
    tensor = _TENSOR.fullmatch(value.text.strip())
    total = parse_number(
        tensor[1] if tensor else value.text, f"{value.at}: utterance {utterance}", "the score"
    )
    return Hypothesis(text.text, {score: total, "rank": float(-index)})


def _is_espnet(names: Set[str]) -> bool:
    return "1best_recog" in names


ESPNET = Format(
    "espnet",
    read,
    write,
    proven_by_names=_is_espnet,
    help=(
        "a decoding directory of ESPnet: <n>best_recog/{text,score}, "
        "or the output.<job> directories that hold them"
    ),
    proof="a directory with `1best_recog`",
    read_options=read_score_option("the name that the total score gets")
    | {"text": Option("the files with the words: text (default), token, text_nospecial")},
    write_options=write_score_option('the score that is written as "score"'),
)
