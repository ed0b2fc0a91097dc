"""Valid files of every registered format, made of random lists: new formats add their builder here.

A builder writes lists as the tool would, not as our reader expects, and says what reading has to
give. `BUILDERS` names them all.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rescore.formats import Format
from rescore.formats.base import ascii_words
from rescore.formats.files import byte_lines, text_lines
from rescore.registry import FORMATS, lookup
from rescore.types import Hypothesis, NBest


@dataclass(frozen=True)
class Sample:
    """A valid file (or directory) of one format, and what reading it has to yield.

    `expected` has one value a list, as `view` sees lists. `count` counts from the lines alone how
    many hypotheses the files hold, damaged or not, where lines say so. Files that options name (a
    manifest, a table) lie beside `path` and are damaged like it.
    """

    path: Path
    expected: list[Any]
    view: Callable[[NBest], Any]
    options: dict[str, Any] = field(default_factory=dict)
    count: Callable[[Path], int] | None = None


Builder = Callable[[list[NBest], Path], Sample]


def whole(nbest: NBest) -> Any:
    return nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps]


def best(nbest: NBest) -> Any:
    return nbest.id, nbest.hyps[0].text


def one_score(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"]) for hyp in nbest.hyps]


def with_ref(nbest: NBest) -> Any:
    return *one_score(nbest), nbest.ref


def two_scores(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps]


def written(
    name: str,
    view: Callable[[NBest], Any],
    count: Callable[[Path], int] | None = None,
    **options: Any,
) -> Builder:
    """Builds with the format's own writer; it and the reader get the same options."""

    def build(lists: list[NBest], folder: Path) -> Sample:
        chosen: Format = lookup(FORMATS, name, "format")
        assert chosen.write(lists, folder / "sample", **options) == len(lists)
        return Sample(folder / "sample", [view(nbest) for nbest in lists], view, options, count)

    return build


def words_of(text: str) -> list[str]:
    """The words that any line of words can hold."""
    return re.sub(r"[|()]", " ", text).split()


def in_words(build: Builder, split: Callable[[str], list[str]] = words_of) -> Builder:
    """For formats that keep words, joined by single spaces, and not texts."""

    def spaced(text: str | None) -> str:
        return " ".join(split(text or ""))

    def built(lists: list[NBest], folder: Path) -> Sample:
        return build(
            [
                replace(
                    nbest,
                    ref=spaced(nbest.ref),
                    hyps=tuple(replace(hyp, text=spaced(hyp.text)) for hyp in nbest.hyps),
                )
                for nbest in lists
            ],
            folder,
        )

    return built


def not_empty(build: Builder) -> Builder:
    """For formats that are a directory, which would be empty without a list.

    File names begin with a letter, and so do the ids.
    """
    stand_in = NBest("", (Hypothesis("a", {"am": -1.0, "lm": 0.0}),), "")
    return lambda lists, folder: build(
        [replace(nbest, id=f"u{nbest.id}") for nbest in lists or [stand_in]], folder
    )


def full_lines(path: Path) -> int:
    return sum(bool(line.strip()) for _, line in text_lines(path))


def all_lines(path: Path) -> int:
    return sum(1 for _ in byte_lines(path))


def saved(folder: Path, text: str) -> Path:
    (folder / "sample").write_bytes(text.encode())
    return folder / "sample"


def hyporadise(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return (
            nbest.id,
            nbest.ref,
            [(hyp.text, hyp.scores["first_pass_per_token"]) for hyp in nbest.hyps],
        )

    def kept(nbest: NBest) -> Any:
        first: dict[str, float] = {}
        for hyp in nbest.hyps:
            first.setdefault(hyp.text, hyp.scores["am"])
        return nbest.id, nbest.ref, list(first.items())

    items = [
        {
            "id": nbest.id,
            "input": [hyp.text for hyp in nbest.hyps],
            "output": nbest.ref,
            "score": [hyp.scores["am"] for hyp in nbest.hyps],
        }
        for nbest in lists
    ]
    return Sample(
        saved(folder, json.dumps(items, ensure_ascii=False, indent=1)),
        [kept(nbest) for nbest in lists],
        view,
    )


def wav2letter(lists: list[NBest], folder: Path) -> Sample:
    """Numbers as std::to_string prints them, with six decimals; an infinite WER.

    Lines of two utterances are mixed, as by two threads.
    """

    def expected(nbest: NBest) -> Any:
        return nbest.id, [
            (
                hyp.text,
                float(f"{hyp.scores['am']:.6f}"),
                float(f"{hyp.scores['lm']:.6f}") * math.log(10),
            )
            for hyp in nbest.hyps
        ]

    lines = [
        (
            i,
            (
                f"{nbest.id} | {-1.5:.6f} | {hyp.scores['am']:.6f} | {hyp.scores['lm']:.6f} | "
                f"{'inf' if i else '12.500000'} | {hyp.text}\n"
            ),
        )
        for nbest in lists
        for i, hyp in enumerate(nbest.hyps)
    ]
    mixed = [line for _, line in sorted(lines, key=lambda line: line[0])]
    return Sample(
        saved(folder, "".join(mixed)),
        [expected(nbest) for nbest in lists],
        two_scores,
        count=full_lines,
    )


def mapped_jsonl(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return (
            nbest.id,
            nbest.ref,
            [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps],
            nbest.raw,
        )

    def expected(nbest: NBest) -> Any:
        hyps = [
            (hyp.text, -hyp.scores["am"], hyp.scores["lm"] * math.log(10) * 3) for hyp in nbest.hyps
        ]
        return nbest.id, nbest.ref, hyps, {"model": {"name": "x"}}

    records = [
        {
            "model": {
                "name": "x",
                "nbest": [
                    {
                        "words": hyp.text,
                        "cost": hyp.scores["am"],
                        "mean": hyp.scores["lm"],
                        "tokens": [5, 6],
                    }
                    for hyp in nbest.hyps
                ],
            },
            "utt": nbest.id,
            "target": nbest.ref,
        }
        for nbest in lists
    ]
    options = {
        "id": "utt",
        "ref": "target",
        "hyps": "model.nbest",
        "text": "words",
        "scores": "am:-cost,lm:log10:mean*tokens+1",
    }
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return Sample(saved(folder, text), [expected(nbest) for nbest in lists], view, options)


def mapped(lists: list[NBest], folder: Path) -> Sample:
    """Every shape in turn: lines; else a map, an array or a table."""
    shape = ("lines", "map", "array", "csv", "tsv")[len(lists) % 5]
    return mapped_jsonl(lists, folder) if shape == "lines" else shaped(lists, folder, shape)


def shaped(lists: list[NBest], folder: Path, shape: str) -> Sample:
    """Lists of texts with one score; a table keeps to its lines, and needs a list to be one."""

    def in_line(text: str) -> str:
        return re.sub(r'[\r\n\t",\ufeff]', " ", text)

    if shape in ("csv", "tsv"):
        lists = [
            replace(
                nbest,
                id=f"u{number}",
                hyps=tuple(replace(hyp, text=in_line(hyp.text)) for hyp in nbest.hyps),
            )
            for number, nbest in enumerate(lists)
        ]
        delimiter = "," if shape == "csv" else "\t"
        rows = [
            (nbest.id, hyp.text, repr(hyp.scores["am"])) for nbest in lists for hyp in nbest.hyps
        ]
        text = "".join(delimiter.join(row) + "\n" for row in [("id", "text", "am"), *rows])
    else:
        records = {
            nbest.id: [{"text": hyp.text, "am": hyp.scores["am"]} for hyp in nbest.hyps]
            for nbest in lists
        }
        items = [{"id": id, "nbest": hyps} for id, hyps in records.items()]
        text = json.dumps(records if shape == "map" else items, ensure_ascii=False)
    options = {"scores": "am:am", "shape": shape}
    return Sample(saved(folder, text), [one_score(nbest) for nbest in lists], one_score, options)


def whisper(lists: list[NBest], folder: Path) -> Sample:
    """A directory of files; the first is what openai-whisper writes, the second faster-whisper."""
    (folder / "sample").mkdir()
    expected = []
    for number, nbest in enumerate(lists):
        segments = [
            {"id": i, "text": f" {hyp.text}", "tokens": [1] * (i + 1), "avg_logprob": -0.5 - i,
             "no_speech_prob": 0.1}
            for i, hyp in enumerate(nbest.hyps)
        ]  # fmt: skip
        text = "".join(segment["text"] for segment in segments)
        value = segments if number % 2 else {"text": text, "segments": segments, "language": "en"}
        name = f"u{number:06d}"
        (folder / "sample" / f"{name}.json").write_bytes(
            json.dumps(value, ensure_ascii=False).encode()
        )
        expected.append((name, text.strip()))
    return Sample(folder / "sample", expected, best)


def lhotse(lists: list[NBest], folder: Path) -> Sample:
    """Supervisions or, for an odd number of lists, cuts of several kinds.

    The writer fills them in another order than that of the lists.
    """
    supervisions = [
        {
            "id": nbest.id,
            "recording_id": "r",
            "start": 0.5,
            "duration": 1.0,
            "channel": 0,
            "text": nbest.ref,
        }
        for nbest in lists
    ]
    cuts = [
        {"id": "none", "start": 0.0, "duration": 1.0, "supervisions": [], "type": "MonoCut"},
        *map(_cut_of, range(len(lists)), supervisions),
    ]
    manifest = folder / "manifest"
    manifest.write_bytes(
        "".join(
            json.dumps(line, ensure_ascii=False) + "\n"
            for line in (cuts if len(lists) % 2 else supervisions)
        ).encode()
    )
    chosen: Format = lookup(FORMATS, "lhotse", "format")
    assert chosen.write(
        lists[::-1], folder / "sample", manifest=manifest, what="nbest", ids="supervision"
    ) == len(lists)
    manifest.unlink()
    return Sample(
        folder / "sample", [whole(nbest) for nbest in lists], whole, {"ids": "supervision"}
    )


def _cut_of(number: int, supervision: dict[str, Any]) -> dict[str, Any]:
    cut = {
        "id": f"cut{number}",
        "start": 9.0,
        "duration": 2.0,
        "supervisions": [supervision],
        "type": "MonoCut",
    }
    padding = {
        "cut": {"id": "pad", "duration": 1.0, "type": "PaddingCut"},
        "type": "PaddingCut",
        "offset": 2.0,
    }
    return (
        {
            "id": f"mixed{number}",
            "tracks": [{"cut": cut, "type": "MonoCut"}, padding],
            "type": "MixedCut",
        }
        if number % 2
        else cut
    )


def ctm(lists: list[NBest], folder: Path) -> Sample:
    """Lines from the last word to the first: only their times say the order.

    Utterances without words have no line.
    """
    lines = [";; comment\n"]
    for nbest in lists:
        lines += [
            f"{nbest.id} 1 {0.25 * i:.2f} 0.20 {word} 0.9\n"
            for i, word in reversed(list(enumerate(nbest.hyps[0].text.split())))
        ]
    return Sample(
        saved(folder, "".join(lines)), [best(nbest) for nbest in lists if nbest.hyps[0].text], best
    )


def espnet_lines(path: Path) -> int:
    return sum(full_lines(file) for file in path.glob("*best_recog/text"))


def nemo(lists: list[NBest], folder: Path) -> Sample:
    """Lists cut to one length, beside a manifest with ids of both kinds."""
    size = min((len(nbest.hyps) for nbest in lists), default=1)
    lists = [replace(nbest, id=f"u{nbest.id}", hyps=nbest.hyps[:size]) for nbest in lists]
    names = [
        {"id": nbest.id} if i % 2 else {"audio_filepath": f"wav/{nbest.id}.flac"}
        for i, nbest in enumerate(lists)
    ]
    manifest = [
        {**name, "text": nbest.ref, "duration": 1.5}
        for name, nbest in zip(names, lists, strict=True)
    ]
    (folder / "manifest").write_bytes(
        "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in manifest).encode()
    )
    sample = written("nemo", with_ref, all_lines, score="am")(lists, folder)
    return replace(
        sample, options={"beam_size": size, "manifest": folder / "manifest", "score": "am"}
    )


def kaldi(lists: list[NBest], folder: Path) -> Sample:
    """For an even number of lists with numbers and a table of words."""

    def count(path: Path) -> int:
        [archive] = [file for file in path.iterdir() if file.name.startswith("words")]
        return sum(bool(line.strip(b" \t\r\f\v")) for _, line in byte_lines(archive))

    sample = written("kaldi", two_scores, count)(lists, folder)
    if len(lists) % 2:
        return sample
    numbers = {
        word: i
        for i, word in enumerate(
            sorted(
                {word for nbest in lists for hyp in nbest.hyps for word in ascii_words(hyp.text)}
            )
        )
    }
    (folder / "words.txt").write_bytes(
        "".join(f"{word} {number}\n" for word, number in numbers.items()).encode()
    )
    lines = [
        (f"{nbest.id}-{i}", *(str(numbers[word]) for word in ascii_words(hyp.text)))
        for nbest in lists
        for i, hyp in enumerate(nbest.hyps, 1)
    ]
    (sample.path / "words").write_bytes("".join(" ".join(line) + "\n" for line in lines).encode())
    (sample.path / "words_text").unlink()
    return replace(sample, options={"symbols": str(folder / "words.txt")})


def srilm_words(text: str) -> list[str]:
    return [word for word in ascii_words(text) if word not in ("<s>", "</s>", "-pau-")]


def srilm(lists: list[NBest], folder: Path) -> Sample:
    """The three kinds of lists, one after the other; the first is what the writer writes."""

    def view(nbest: NBest) -> Any:
        return nbest.id, [
            (hyp.text, {name: score for name, score in hyp.scores.items() if name != "rank"})
            for hyp in nbest.hyps
        ]

    def count(path: Path) -> int:
        lines = [line for file in path.iterdir() for _, line in byte_lines(file)]
        return sum(
            bool(line.strip(b" \t\r\f\v")) and not re.match(rb"[ \t\r\f\v]*NBestList[12]", line)
            for line in lines
        )

    sample, bytelog, expected = written("srilm", view, count)(lists, folder), 1024 / 10000.5, []
    for i, nbest in enumerate(lists):
        kept, lines = [], [f"NBestList{i % 3}.0 of something"]
        for hyp in nbest.hyps:
            am, lm, words = hyp.scores["am"], hyp.scores["lm"], ascii_words(hyp.text)
            if i % 3 == 0:
                kept.append(
                    (
                        hyp.text,
                        {
                            name: hyp.scores[name] / math.log(10) * math.log(10)
                            for name in ("am", "lm")
                        },
                    )
                )
            elif i % 3 == 1:
                lines.append(f"({am!r}) {hyp.text}")
                kept.append((hyp.text, {"first_pass": bytelog * am}))
            else:
                words = [
                    word for word in words if not re.fullmatch(r"(?s).*-[0-9]", word)
                ]  # names of states
                details = [
                    (word, 0.5 * n, lm if n == 0 else 0.0, am if n == 0 else 0.0)
                    for n, word in enumerate(words)
                ]
                lines.append(
                    f"({am!r})"
                    + "".join(
                        f" {word} ( st: {at} et: {at + 0.25} g: {g!r} a: {a!r} )"
                        for word, at, g, a in details
                    )
                )
                sums = {"am": bytelog * am, "lm": bytelog * lm} if words else {"am": 0.0, "lm": 0.0}
                kept.append((" ".join(words), {"first_pass": bytelog * am, **sums}))
        if i % 3:
            (sample.path / nbest.id).write_bytes("".join(f"{line}\n" for line in lines).encode())
        expected.append((nbest.id, kept))
    return replace(sample, expected=sorted(expected, key=lambda one: one[0]))


def plain_text(lists: list[NBest], folder: Path) -> Sample:
    """Ids are made of the line; a text keeps to its line."""

    def in_line(text: str) -> str:
        return re.sub(r"[\r\n\ufeff]", " ", text)

    lines = [in_line(nbest.hyps[0].text) for nbest in lists]
    expected = [(f"sample-{number:06d}", text) for number, text in enumerate(lines, 1)]
    return Sample(
        saved(folder, "".join(f"{line}\n" for line in lines)), expected, best, count=all_lines
    )


#: Format -> builder of a valid file or directory, `sample` in an empty folder, from random lists.
BUILDERS: dict[str, Builder] = {
    "jsonl": written("jsonl", whole),
    "hyporadise": hyporadise,
    "mlm-scoring": written("mlm-scoring", one_score, score="am"),
    "espnet": not_empty(written("espnet", one_score, espnet_lines, score="am")),
    "nemo": nemo,
    "nemo-beams": written("nemo-beams", with_ref, score="am"),
    "kaldi": in_words(not_empty(kaldi), ascii_words),
    "srilm": in_words(not_empty(srilm), srilm_words),
    "wav2letter": in_words(wav2letter),
    "lattice-rescore": in_words(written("lattice-rescore", two_scores, full_lines, scores="am,lm")),
    "returnn": written("returnn", one_score, score="am"),
    "mapped-jsonl": mapped,
    "whisper": not_empty(whisper),
    "lhotse": lhotse,
    "icefall-recogs": in_words(written("icefall-recogs", lambda nbest: (*best(nbest), nbest.ref))),
    "ctm": in_words(ctm),
    "trn": in_words(written("trn", best, full_lines)),
    "text": plain_text,
}


def build(name: str, lists: list[NBest], folder: Path) -> Sample:
    """A sample of a registered format in a folder that is emptied first."""
    if name not in BUILDERS:
        raise LookupError(
            f"the format {name!r} is not fuzzed: add a builder of valid files for it to "
            "BUILDERS in tests/format_samples.py"
        )
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    return BUILDERS[name](lists, folder)
