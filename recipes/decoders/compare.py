"""All decoders of one recogniser in one figure: WER against RTFx, with and without rescoring.

    python compare.py data --recogniser runs/ctc --model ngram=runs/ngram --model mdm=runs/mdm ... \
        --options "joint=--t-start 0.5 --lm-scale 1" -o runs/decoders

DATA has dev.tsv and test.tsv (id, path, text). A system whose models are not given is left out.
`--options` are further options of a system's `decode`, chosen on dev.

Rescored: the system's own list where it has one, else its transcript joined with CTC's beam, with
the scores CTC (exact), AR and USDM (one pass); weights are tuned on dev. Seconds are CPU seconds of
this process, one thread, the first `--limit` utterances of test one by one, from audio to text: the
encoder is counted once, loading is not. What is there already is kept, so the same command goes on
after an interruption; delete timing.json to measure again. Writes OUTPUT/decoders.{csv,md,png}.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rescore.acoustic.audio import read_audio
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.recogniser import load_recogniser
from rescore.cli import cli
from rescore.cli.decode_command import decoder_of
from rescore.decoding.base import load_decoder
from rescore.formats.reading import read_lists
from rescore.report.figures import new_figure, save_figure
from rescore.scorers.loading import load_scorer
from rescore.scorers.options import ScorerOptions
from rescore.wer.evaluation import evaluate

PARTS = ("dev", "test")

#: Okabe and Ito's colours and two more, and markers: one of each a system, in the order of SYSTEMS.
COLOURS = (
    *("#000000", "#5F5F5F", "#0072B2", "#D55E00", "#E69F00", "#009E73", "#56B4E9", "#CC79A7"),
    *("#7B3FA0", "#8C510A"),
)
MARKERS = "osD^vP*X<>"


@dataclass(frozen=True)
class System:
    """A way to decode: options of `decode`, and those that make a list (None: it has no list)."""

    name: str
    title: str
    source: str  #: "safetensors" or "tsv"
    options: str
    list_options: str | None = None
    scores: tuple[str, ...] = ()  #: of its lists, besides CTC and language models


BEAM = System("beam", "CTC beam", "safetensors", "--method ctc_beam -n 20", "")
SYSTEMS = [
    System("greedy", "CTC greedy", "safetensors", "--method ctc_greedy"),
    BEAM,
    replace(
        BEAM,
        name="beam_ngram",
        title="CTC beam + 3-gram",
        options=BEAM.options + " --ngram {ngram} --ngram-scale 0.5 --ngram-bonus 1",
        scores=("ngram",),
    ),
    System(
        "joint",
        "joint CTC-USDM",
        "safetensors",
        "--method joint --model {joint_usdm}",
        "--drafts 8",
    ),
    System(
        "joint_mdlm", "joint CTC-MDLM", "safetensors", "--method joint_mdlm --model {joint_mdlm}"
    ),
    System(
        "mdm",
        "MDM, threshold 0.9",
        "tsv",
        "--method mdm --model {mdm} --commit threshold --commit-value 0.9",
        "--candidates 5",
    ),
    System(
        "mask_ctc",
        "Mask-CTC",
        "tsv",
        "--method mdm --model {mdm} --commit top_k --steps 10 --hide-below 0.9",
    ),
    System("mdm_twin", "AR twin of MDM", "tsv", "--method mdm --model {mdm_twin}", "--beam 10"),
    System("dllm", "prior-guided, full", "tsv", "--method prior_guided --model {dllm}"),
    System(
        "dllm_twin",
        "its AR twin",
        "tsv",
        "--method prior_guided --model {dllm_twin}",
        "--beam 10",
    ),
]


class Comparison:
    """The systems whose models are given, and the folder of their lists."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.data, self.folder, self.limit = given.data, given.output, given.limit
        self.recogniser = given.recogniser
        self.models = {"ar": "ar", "usdm": "usdm", **dict(map(pair, given.model))}
        further = dict(map(pair, given.options))
        self.systems = []
        for system in SYSTEMS:
            try:
                options = system.options.format_map(self.models)
            except KeyError:
                continue
            options = f"{options} {further.get(system.name, '')}"
            self.systems.append(replace(system, options=options))

    def source(self, system: System, part: str) -> Path:
        """The file that a system decodes."""
        folder = self.folder if system.source == "safetensors" else self.data
        return folder / f"{part}.{system.source}"

    def lists(self, name: str, part: str) -> Path:
        """A file of lists."""
        return self.folder / f"{name}.{part}.jsonl"

    def make(self, output: Path, *arguments: object) -> None:
        """Run `dlmrescore ARGUMENTS -o OUTPUT` in this process, unless OUTPUT is there."""
        if not output.exists():
            print("dlmrescore", *arguments, "-o", output, flush=True)
            cli([*map(str, arguments), "-o", str(output)], standalone_mode=False)

    def decode(self) -> None:
        """Posteriors, transcripts and lists."""
        for part in PARTS:
            audio = self.data / f"{part}.tsv"
            posteriors = self.folder / f"{part}.safetensors"
            self.make(posteriors, "posteriors", audio, "--model", self.recogniser)
            texts = {one.id: one.text or "" for one in read_utterances(audio)}
            (self.folder / f"{part}.text").write_text(
                "".join(f"{id} {text}\n" for id, text in texts.items()), encoding="utf-8"
            )
            for system in self.systems:
                how = shlex.split(system.options)
                refs = ["--refs", self.folder / f"{part}.text"]
                source = self.source(system, part)
                self.make(self.lists(system.name, part), "decode", source, *how, *refs)
                if system.list_options:
                    more = shlex.split(system.list_options)
                    output = self.lists(f"{system.name}_list", part)
                    self.make(output, "decode", source, *how, *more, *refs)

    def candidates(self, system: System, part: str) -> Path:
        """The lists that are rescored: the system's own, or its transcripts with CTC's beam."""
        if system.list_options is not None:
            return self.lists(system.name + "_list" * bool(system.list_options), part)
        output = self.lists(f"{system.name}_pooled", part)
        systems = [f"{one}={self.lists(one, part)}" for one in (BEAM.name, system.name)]
        self.make(output, "pool", *systems)
        return output

    def rescore(self) -> None:
        """Score, tune on dev, fuse."""
        for system in self.rescored:
            names = ",".join(("ctc", "ar", "usdm_pll", *system.scores))
            for part in PARTS:
                source = self.candidates(system, part)
                for name, options in self.scorers(part):
                    output = self.lists(f"{system.name}_{name}", part)
                    cache = self.folder / "cache"  # pooled lists have the beam's texts again
                    self.make(output, "score", source, *options, "--cache", cache)
                    source = output
            tuned = self.folder / f"{system.name}.fusion.json"
            scored = [self.lists(f"{system.name}_usdm_pll", part) for part in PARTS]
            self.make(tuned, "tune", scored[0], "--scores", names)
            for part, path in zip(PARTS, scored, strict=True):
                self.make(
                    self.lists(f"{system.name}_rescored", part), "fuse", path, "--fusion", tuned
                )

    @property
    def rescored(self) -> list[System]:
        """The systems that are rescored: greedy's transcript is the beam's draft."""
        return [system for system in self.systems if system.name != "greedy"]

    def scorers(self, part: str) -> list[tuple[str, list[object]]]:
        """Name -> options of `score`, in the order in which they are added."""
        posteriors = self.folder / f"{part}.safetensors"
        ctc = ["--scorer", "ctc", "--name", "ctc", "--posteriors", posteriors]
        return [
            ("ctc", [*ctc, "--impossible", "drop"]),
            ("ar", ["--scorer", f"ar@{self.models['ar']}"]),
            ("usdm_pll", ["--scorer", f"usdm:pll@{self.models['usdm']}"]),
        ]

    # ---------------------------------------------------------------------------------- seconds

    def timing(self) -> dict[str, Any]:
        """CPU seconds of every part on the first utterances of test; kept in timing.json."""
        path = self.folder / "timing.json"
        if not path.exists():
            path.write_text(json.dumps(self.measure(), indent=1) + "\n", encoding="utf-8")
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def measure(self) -> dict[str, Any]:
        """Audio seconds, and CPU seconds of the encoder, of decoding and of scoring."""
        torch.set_num_threads(1)
        utterances = list(itertools.islice(read_utterances(self.data / "test.tsv"), self.limit))
        recogniser = load_recogniser(self.recogniser)
        rate = recogniser.sampling_rate
        seconds = {
            "encoder": seconds_of(
                lambda one: recogniser.log_probs([read_audio(one, rate)]), utterances
            )
        }
        names = {one.id for one in utterances}
        for system in self.systems:
            source = str(self.source(system, "test"))
            for name, options in ((system.name, ""), (f"{system.name}_list", system.list_options)):
                if name == system.name or options:
                    decoder = decoder_of(source, f"{system.options} {options or ''}")
                    items = [item for item in decoder.inputs() if item.id in names]
                    seconds[name] = seconds_of(one_by_one(decoder), items)
                    print(name, round(seconds[name], 2), flush=True)
        for system in self.rescored:
            seconds[f"{system.name}_scores"] = self.scoring(system, names)
            print(system.name, "scores", round(seconds[f"{system.name}_scores"], 2), flush=True)
        audio = sum(
            item.seconds
            for item in load_decoder("ctc_greedy", str(self.folder / "test.safetensors")).inputs()
            if item.id in names
        )
        return {"utterances": len(utterances), "audio_seconds": audio, "cpu_seconds": seconds}

    def scoring(self, system: System, names: set[str]) -> float:
        """CPU seconds of CTC, AR and USDM on a system's candidates."""
        source = self.lists(f"{system.name}_ctc", "test")  # without what CTC cannot emit
        lists = [nbest for nbest in read_lists(str(source)) if nbest.id in names]
        posteriors = str(self.folder / "test.safetensors")
        scorers = [
            load_scorer("ctc", ScorerOptions(posteriors=posteriors, impossible="drop")),
            load_scorer("ar", ScorerOptions(model=model_of(self.models["ar"]))),
            load_scorer(
                "usdm", ScorerOptions(model=model_of(self.models["usdm"]), estimator="pll")
            ),
        ]
        return sum(seconds_of(one_by_one(scorer), lists) for scorer in scorers)

    def seconds(self, system: System, measured: dict[str, float], is_rescored: bool) -> float:
        """CPU seconds of a system from audio to text."""
        encoder = measured["encoder"] if system.source == "safetensors" else 0.0
        if not is_rescored:
            return encoder + measured[system.name]
        listed = measured.get(f"{system.name}_list", measured[system.name])
        beam = measured[BEAM.name] if system.list_options is None else 0.0
        return encoder + listed + beam + measured[f"{system.name}_scores"]

    # ----------------------------------------------------------------------------------- results

    def rows(self) -> list[dict[str, Any]]:
        """One row for each system, and one for its rescored lists."""
        timing = self.timing()
        rows = []
        for system in self.systems:
            for is_rescored in (False, True):
                if is_rescored and system not in self.rescored:
                    continue
                name = system.name + "_rescored" * is_rescored
                dev, test = (evaluate(read_lists(str(self.lists(name, part)))) for part in PARTS)
                seconds = self.seconds(system, timing["cpu_seconds"], is_rescored)
                rows.append(
                    {
                        "system": system.title,
                        "rescored": "yes" if is_rescored else "no",
                        "dev_wer": round(100 * dev.wer, 2),
                        "wer": round(100 * test.wer, 2),
                        "low": round(100 * test.ci95[0], 2),
                        "high": round(100 * test.ci95[1], 2),
                        "rtfx": round(timing["audio_seconds"] / seconds, 1),
                    }
                )
        return rows


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, value


def model_of(name: str) -> str | None:
    """The model of a scorer's options; None: the embedded one."""
    return None if name in ("ar", "usdm") else name


def one_by_one(task: Any) -> Callable[[Any], object]:
    """A chunk task on one item."""
    return lambda item: task.evaluate(task.prepare([item]))


def seconds_of(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """CPU seconds of work on items, after the first one has warmed it up."""
    items = list(items)
    work(items[0])
    started = time.process_time()
    for item in items:
        work(item)
    return time.process_time() - started


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| system | rescored | dev WER % | test WER % | 95 % interval | RTFx |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
        lines.append(
            f"| {row['system']} | {row['rescored']} | {row['dev_wer']:.2f} | {row['wer']:.2f} "
            f"| {interval} | {row['rtfx']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """WER against RTFx: hollow alone, filled rescored, a line between the two."""
    figure, axes = new_figure(8.5, 4.6)
    titles = list(dict.fromkeys(row["system"] for row in rows))
    for number, title in enumerate(titles):
        colour, marker = COLOURS[number], MARKERS[number]
        points = [row for row in rows if row["system"] == title]
        places = [row["rtfx"] for row in points], [row["wer"] for row in points]
        axes.plot(*places, color=colour, linewidth=0.8, alpha=0.6)
        for row in points:
            filled = colour if row["rescored"] == "yes" else "white"
            axes.plot(
                row["rtfx"],
                row["wer"],
                marker,
                color=colour,
                markerfacecolor=filled,
                markersize=8,
                label=title if row is points[0] else None,
            )
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "1235" else "")
    axes.set_xlabel("RTFx: audio over CPU seconds of one thread, from audio to text")
    axes.set_ylabel("WER % on test")
    axes.grid(alpha=0.3)
    axes.legend(
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title="hollow: alone\nfilled: rescored",
    )
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of dev.tsv and test.tsv")
    parser.add_argument("--recogniser", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--options", action="append", default=[], metavar="SYSTEM=OPTIONS")
    parser.add_argument("--limit", type=int, default=40, help="utterances that are timed")
    parser.add_argument("-o", "--output", type=Path, required=True)
    comparison = Comparison(parser.parse_args())
    comparison.folder.mkdir(parents=True, exist_ok=True)
    comparison.decode()
    comparison.rescore()
    rows = comparison.rows()
    with (comparison.folder / "decoders.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (comparison.folder / "decoders.md").write_text(table(rows), encoding="utf-8")
    plot(rows, comparison.folder / "decoders.png")
    print(table(rows))


if __name__ == "__main__":
    main()
