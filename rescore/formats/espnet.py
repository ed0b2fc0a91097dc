"""ESPnet's decoding directories: `<n>best_recog/{text,score}`, lines `utterance value`.

Source: espnet/espnet, espnet2/bin/asr_inference.py and espnet2/fileio/datadir_writer.py.
`score` is the total of the beam search, with its weights and length bonus: natural log, higher is
better. Python printed it, as `tensor(-3.21)` or `tensor(-3.21, device='cuda:0')` or `-3.21`.
An utterance has as many hypotheses as the search found, so it is in the first directories only.
Recipes leave lists of n > 1 in `logdir/output.1`, `logdir/output.2`, ..., one for each job: given
`logdir`, all of them are read. An utterance that was too short to decode has the text " " and the
score 0.0 in all n.
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
from rescore.formats.directories import atomic_directory
from rescore.formats.files import PathLike, name_of, names_in, text_lines
from rescore.formats.record import score_of
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["ESPNET", "read", "write"]

_RANK = re.compile(r"([1-9][0-9]{0,5})best_recog")
_JOB = re.compile(r"output\.([1-9][0-9]{0,5})")
_LINE = re.compile(r"([^ \t]+)(?:[ \t](.*))?", re.DOTALL)
_TENSOR = re.compile(r"tensor\(([^,()]*)(?:,.*)?\)")


class _Value(NamedTuple):
    """What follows an id on a line, and where the line is."""

    at: str
    text: str


class _Utterance(NamedTuple):
    """The hypotheses of one utterance, best first: a text, and its score if there is one."""

    id: str
    hyps: list[tuple[_Value, _Value | None]]


def read(
    path: PathLike, *, score: str = "first_pass", text: str = "text", skipped: Skipped | None = None
) -> Iterator[NBest]:
    """Yield the lists of a decoding directory, in the order of the best hypotheses.

    Every `output.<job>` is read as a whole. `score` names the total; `text` names the files with
    the words (`token` where the recogniser has no tokenizer). `rank` is minus the position.
    Raises FormatError for a missing file or directory, a line without an id, a repeated id, a
    score or a text without its partner; with `skipped`, counts utterances whose scores are missing
    or not numbers there and goes on.
    """
    places: dict[int, str] = {}

    def numbered() -> Iterator[tuple[int, _Utterance]]:
        for number, utterance in enumerate(_utterances(path, text), 1):
            best, _ = utterance.hyps[0]
            places[number] = best.at
            yield number, utterance

    return convert_each(
        numbered(),
        lambda utterance, where: _convert(utterance, score, where),
        places.__getitem__,
        skipped,
    )


def write(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write a new directory of `<n>best_recog/{text,score}` and return the number of lists.

    References and other scores are not written. Raises FormatError if the directory exists or
    cannot be written, for white space in an id, a line break in a text, and a repeated id;
    ScoreError if a hypothesis lacks the score.
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


def _utterances(path: PathLike, text: str) -> Iterator[_Utterance]:
    """The utterances of every part of a directory, in the order of `1best_recog`."""
    for part in _parts(path):
        utterances: dict[str, _Utterance] = {}
        for rank, name in enumerate(_rank_names(part), 1):
            texts = _values(os.path.join(part, name, text))
            scores = _values(os.path.join(part, name, "score"))
            for id in scores.keys() - texts.keys():
                raise FormatError(
                    f'{scores[id].at}: utterance {id}: there is a score but no line in "{text}"'
                )
            if rank == 1:
                utterances = {id: _Utterance(id, []) for id in texts}
            for id, value in texts.items():
                if id not in utterances or len(utterances[id].hyps) != rank - 1:
                    raise FormatError(
                        f"{value.at}: utterance {id}: there is a hypothesis {rank} but no "
                        f"hypothesis {rank - 1}; a file was cut off"
                    )
                utterances[id].hyps.append((value, scores.get(id)))
        yield from utterances.values()


def _parts(path: PathLike) -> list[str]:
    """The directories that hold `1best_recog`: this one, or its `output.1`, `output.2`, ... ."""
    names = names_in(path)
    if "1best_recog" in names:
        return [os.fspath(path)]
    jobs = _numbers(_JOB, names)
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
    ranks = _numbers(_RANK, names_in(part))
    if ranks != list(range(1, len(ranks) + 1)) or not ranks:
        raise FormatError(
            f"{part}: expected 1best_recog, 2best_recog, ... without a gap, "
            f"got {', '.join(map(str, ranks)) or 'none of them'}"
        )
    return [f"{rank}best_recog" for rank in ranks]


def _numbers(pattern: re.Pattern[str], names: list[str]) -> list[int]:
    """The numbers in the names that match, sorted."""
    matches = [pattern.fullmatch(name) for name in names]
    return sorted(int(match[1]) for match in matches if match)


def _values(path: str) -> dict[str, _Value]:
    """id -> what follows it, exactly as it is; it may be empty. Blank lines are skipped."""
    values: dict[str, _Value] = {}
    for number, line in text_lines(path):
        if not line.strip():
            continue
        at = f"{path}:{number}"
        match = _LINE.fullmatch(line)
        if match is None:
            raise FormatError(
                f"{at}: there is no id at the start of the line, expected an id, "
                "a space and a value"
            )
        id, text = match[1], match[2] or ""
        if id in values:
            raise FormatError(
                f"{at}: utterance {id}: this id was already at {values[id].at}; "
                "every utterance needs its own"
            )
        values[id] = _Value(at, text)
    return values


def _convert(utterance: _Utterance, score: str, where: str) -> NBest:
    hyps = [
        _hypothesis(utterance.id, index, text, value, score)
        for index, (text, value) in enumerate(utterance.hyps)
    ]
    return NBest(utterance.id, tuple(hyps), where=where)


def _hypothesis(id: str, index: int, text: _Value, value: _Value | None, score: str) -> Hypothesis:
    if value is None:
        raise FormatError(
            f'{text.at}: utterance {id}: its score is missing, expected a line in "score" beside it'
        )
    tensor = _TENSOR.fullmatch(value.text.strip())
    number = tensor[1] if tensor else value.text
    total = parse_number(number, f"{value.at}: utterance {id}", "the score")
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
