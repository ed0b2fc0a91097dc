"""Every command with small inputs: what kill loops, closed streams and bad outputs are tried on.

A new command needs a case here (test_every_command_has_a_case).
"""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from small import LINES, save_small
from small_experiment import record, write
from small_lattices import random_lattice
from small_ngrams import ARPA

from rescore.cli import cli
from rescore.formats import jsonl
from rescore.fusion import save, tune
from rescore.lattice.formats import kaldi_compact

__all__ = [
    "AUDIO",
    "CASES",
    "SLOW",
    "Case",
    "command_names",
    "contents",
    "make_audio",
    "make_inputs",
    "timeless",
]


@dataclass(frozen=True)
class Case:
    """A command line whose inputs are in the folder `in`.

    `output` is the argument after the flag `-o` (or another): a name in the working folder; None
    where the command writes to standard output alone. `is_required`: without it, the command does
    not write to standard output instead; so it is with folders.
    """

    argv: tuple[str, ...]
    output: str | None = None
    is_folder: bool = False
    is_required: bool = False

    def on(self, output: str) -> tuple[str, ...]:
        """The command line with another output."""
        return tuple(output if word == self.output else word for word in self.argv)


def _case(
    line: str, output: str | None = None, *, is_folder: bool = False, is_required: bool = False
) -> Case:
    return Case(tuple(line.split()), output, is_folder, is_folder or is_required)


_TRAINED = "--text in/text.txt --valid in/text.txt -o run"
_NETWORK = (
    f"{_TRAINED} --vocab-size 64 --steps 6 --batch-tokens 128 --warmup 2 --width 16 --layers 1 "
    "--heads 2 --feed-forward 24 --save-every 2 --float32"
)
_DLLM = (
    "--corpus in/corpus --start-from in/ctc --language-model in/mdlm --stride 1 --batch-seconds 3"
    " --float32"
)
_TINY = (
    "--batch-seconds 2 --warmup 2 --width 16 --layers 1 --heads 2 --feed-forward 24 --save-every 2 "
    "--float32"
)
_RUN = "--dev in/dev.jsonl --test in/test.jsonl --depth 2 --draws 2 -o results"

CASES = {
    "convert": _case("convert in/dev.jsonl -o out.jsonl", "out.jsonl"),
    "convert to a directory": _case(
        "convert in/dev.jsonl --to kaldi -W am=am -W lm=ngram -o out", "out", is_folder=True
    ),
    "lattice": _case("lattice in/lattices.txt --from kaldi-compact -n 5 -o out.jsonl", "out.jsonl"),
    "posteriors": _case(
        "posteriors in/wav.scp --model in/wav2vec2 -o out.safetensors",
        "out.safetensors",
        is_required=True,
    ),
    "decode": _case("decode in/posteriors.safetensors -n 3 -o out.jsonl", "out.jsonl"),
    "decode greedily": _case(
        "decode in/posteriors.safetensors --method ctc_greedy --spans -o out.jsonl", "out.jsonl"
    ),
    "score with a recogniser": _case(
        "score in/decoded.jsonl --scorer ctc --posteriors in/posteriors.safetensors --name ctc "
        "-o out.jsonl",
        "out.jsonl",
    ),
    "check": _case("check in/dev.jsonl --scorer ar --model in/ar --json out.json", "out.json"),
    "score": _case("score in/dev.jsonl --model in/mdlm --folds 2 -o out.jsonl", "out.jsonl"),
    "score with a cache": _case(
        "score in/dev.jsonl --scorer ar --model in/ar --cache cache -o out.jsonl", "out.jsonl"
    ),
    "score without a cache": _case(
        "score in/dev.jsonl --scorer ar --model in/ar -o out.jsonl", "out.jsonl"
    ),
    "score an n-gram": _case(
        "score in/dev.jsonl --scorer ngram --model in/lm.arpa -o out.jsonl.gz", "out.jsonl.gz"
    ),
    "merge": _case(
        "merge in/shard.0.jsonl in/shard.1.jsonl --lists in/dev.jsonl -o out.jsonl", "out.jsonl"
    ),
    "pool": _case("pool a=in/dev.jsonl b=in/dev.jsonl -o out.jsonl", "out.jsonl"),
    "tune": _case("tune in/dev.jsonl --scores am,ngram --restarts 2 -o fusion.json", "fusion.json"),
    "sweep": _case(
        "sweep in/dev.jsonl --scale ngram=0:1:0.5 --resamples 10 -o out.csv --plot out.png",
        "out.csv",
    ),
    "fuse": _case(
        "fuse in/test.jsonl --fusion in/fusion.json -o best.jsonl --trn hyp.trn", "best.jsonl"
    ),
    "fuse to a consensus": _case(
        "fuse in/test.jsonl --fusion in/fusion.json -o best.jsonl --consensus out.jsonl",
        "out.jsonl",
        is_required=True,
    ),
    "eval": _case("eval in/test.jsonl --baseline in/test.jsonl -o out.json", "out.json"),
    "run": _case(f"run {_RUN} --scorers ar@in/ar,usdm:pll@in/usdm", "results", is_folder=True),
    "compare": _case(
        "compare in/dev.jsonl --baseline first-pass --csv out.csv -o out.json", "out.json"
    ),
    "show": _case("show in/test.jsonl test-3"),
    "report": _case("report in/dev.jsonl -o out.html", "out.html", is_required=True),
    "models": _case("models -o out.json", "out.json"),
    "formats": _case("formats"),
    "train mdlm": _case(f"train mdlm {_NETWORK}", "run", is_folder=True),
    "train usdm": _case(f"train usdm {_NETWORK}", "run", is_folder=True),
    "train ar": _case(f"train ar {_NETWORK}", "run", is_folder=True),
    "train ctc": _case(
        "train ctc --audio in/speech.tsv --valid in/speech.tsv -o run --speeds 1 --steps 4 "
        "--batch-seconds 2 --warmup 2 --width 16 --layers 1 --heads 2 --feed-forward 24 "
        "--save-every 2 --float32",
        "run",
        is_folder=True,
    ),
    "train mdm": _case(
        f"train mdm --corpus in/corpus --start-from in/ctc -o run --steps 4 {_TINY}",
        "run",
        is_folder=True,
    ),
    "train dllm": _case(f"train dllm {_DLLM} -o run --steps 4", "run", is_folder=True),
    "decode prior_guided": _case(
        "decode in/speech.tsv --method prior_guided --model in/dllm -o out.jsonl", "out.jsonl"
    ),
    "decode mdm": _case(
        "decode in/speech.tsv --method mdm --model in/mdm --candidates 2 -o out.jsonl", "out.jsonl"
    ),
    "score mdm": _case(
        "score in/heard.jsonl --scorer mdm --model in/mdm --audio in/speech.tsv -o out.jsonl",
        "out.jsonl",
    ),
    "train ngram": _case(f"train ngram {_TRAINED} --arpa lm.arpa", "run", is_folder=True),
    "plugins": _case("plugins -o out.json", "out.json"),
    "completion": _case("completion bash"),
}

_HEARD = ("scp", "tsv", "corpus", "decoded.jsonl", "s.safetensors")

#: Cases that need what `make_audio` writes, by transformers.
AUDIO = {
    name
    for name, case in CASES.items()
    if any(
        word.endswith(("scp", "tsv", "corpus", "decoded.jsonl", "s.safetensors"))
        for word in case.argv
    )
}

#: How the names of commands begin that take seconds: the everyday suite leaves most of them out.
SLOW = ("posteriors", "decode", "train", "run", "sweep", "score")


def command_names() -> Iterator[str]:
    """Every command, those of groups as "group command"."""

    def below(group: click.Group, before: str) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from below(command, f"{before}{name} ")
            else:
                yield before + name

    assert isinstance(cli, click.Group)
    return below(cli, "")


def make_inputs(folder: Path) -> None:
    """Write the inputs of all cases into `folder`."""
    folder.mkdir()
    for half in ("dev", "test"):
        write(folder / f"{half}.jsonl", [record(half, number) for number in range(7)])
    lists = list(jsonl.read(folder / "dev.jsonl"))
    jsonl.write(lists[::2], folder / "shard.0.jsonl")
    jsonl.write(lists[1::2], folder / "shard.1.jsonl")
    save(tune(lists, ["am", "ngram"], restarts=1), folder / "fusion.json")
    for objective in ("mdlm", "usdm", "ar"):
        save_small(folder / objective, objective)
    (folder / "text.txt").write_text("".join(f"{line}\n" for line in LINES))
    (folder / "lm.arpa").write_text(ARPA)
    chance = np.random.default_rng(0)
    lattices = [
        replace(random_lattice(chance, states=6, arcs=12), id=f"u{number}") for number in range(3)
    ]
    kaldi_compact.write(lattices, folder / "lattices.txt")


def make_audio(folder: Path) -> None:
    """Write the inputs of what listens to audio, which needs transformers."""
    from hub_ctc_models import save_letters  # noqa: PLC0415

    save_letters(folder / "wav2vec2", "wav2vec2")
    chance = np.random.default_rng(0)
    lines, rows = [], ["id\tpath\ttext\n"]
    for number in range(3):
        path = folder / f"u{number}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(chance.integers(-3000, 3000, 16000, dtype=np.int16).tobytes())
        lines.append(f"u{number} {path}\n")
        rows.append(f"u{number}\t{path}\tthe old house\n")
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "speech.tsv").write_text("".join(rows))
    posteriors, speech = folder / "posteriors.safetensors", folder / "speech.tsv"
    corpus, ctc, once = folder / "corpus", folder / "ctc", f"{_TINY} --steps 1"
    prompted = _DLLM.replace("in/", f"{folder}/")
    for line in (
        f"posteriors {folder}/wav.scp --model {folder}/wav2vec2 -o {posteriors}",
        f"decode {posteriors} -n 4 -o {folder}/decoded.jsonl",
        f"train ctc --audio {speech} --valid {speech} --speeds 1 --corpus {corpus} {once} -o {ctc}",
        f"train mdm --corpus {corpus} --start-from {ctc} {once} -o {folder}/mdm",
        f"train dllm {prompted} --steps 1 -o {folder}/dllm",
        f"decode {folder}/speech.tsv --method mdm --model {folder}/mdm -o {folder}/heard.jsonl",
    ):
        cli.main(line.split(), standalone_mode=False)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a working folder by name, without the inputs and without measured seconds.

    Caches are left out, too: each has a random token.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_left_out = name.startswith(("in/", "std")) or path.name == "seconds.json"
        if path.is_file() and not is_left_out and path.suffix != ".sqlite":
            files[name] = timeless(path.name, path.read_bytes())
    return files


def timeless(name: str, data: bytes) -> bytes:
    """The bytes of a file without the columns that hold seconds or speeds.

    `run` prints its table to standard output, too.
    """
    if name in ("table.md", "stdout"):
        return re.sub(rb"\| *[\d.]* \|$", b"|", data, flags=re.MULTILINE)
    if name == "log.csv":
        return b"\n".join(b",".join(line.split(b",")[:-2]) for line in data.splitlines())
    return data
