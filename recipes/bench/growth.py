"""How time and memory of scoring grow with the length and the number of lists: a CSV and a plot.

    python recipes/bench/growth.py --output growth --hypotheses 10,100,1000 \\
        --utterances 1000,10000,30000,100000

Each point is a process of its own: `dlmrescore score` on random lists with a small random network,
so that the figures are those of the engine and not of the network. Memory is the peak of the
process minus the peak of the same command on one list of one hypothesis: the part that grows.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from rescore.models.checkpoint import Checkpoint, save
from rescore.models.embedded import open_vocabulary
from rescore.models.network import Network, NetworkConfig

RUN = """
import resource, sys, time
from rescore.cli import main
started = time.process_time(), time.time()
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu, wall = time.process_time() - started[0], time.time() - started[1]
    print(f"measured {cpu:.2f} {wall:.2f} {peak}", file=sys.stderr)
"""
WORDS = [
    f"{first}{second}"
    for first in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t")
    for second in ("a", "e", "o", "an", "el", "ing", "ish")
]


def write_lists(path: Path, utterances: int, hypotheses: int) -> None:
    """Write lists of texts of 15 words; neighbours differ in one word, as in a recogniser's."""
    rng = random.Random(utterances + hypotheses)
    with path.open("w", encoding="utf-8") as file:
        for number in range(utterances):
            base = rng.choices(WORDS, k=15)
            hyps = []
            for _ in range(hypotheses):
                base[rng.randrange(15)] = rng.choice(WORDS)
                hyps.append(
                    {
                        "text": " ".join(base),
                        "scores": {"am": -rng.random() * 1000, "ngram": -rng.random() * 100},
                    }
                )
            file.write(json.dumps({"id": f"utt-{number:07}", "hyps": hyps}) + "\n")


def write_model(path: Path) -> None:
    """Write a uniform-state network with the embedded vocabulary and very few weights."""
    torch.manual_seed(0)
    tokenizer, _ = open_vocabulary(None, "usdm")
    save(
        Checkpoint(
            Network(NetworkConfig(tokenizer.size, 16, 1, 1, 16)).eval(),
            tokenizer,
            "usdm",
            "leave_one_out",
        ),
        path,
    )


def measure(folder: Path, utterances: int, hypotheses: int) -> tuple[float, float, int]:
    """Return the CPU seconds, wall seconds and peak bytes of one run."""
    lists = folder / "lists.jsonl"
    write_lists(lists, utterances, hypotheses)
    command = [
        "score",
        str(lists),
        "--scorer",
        "usdm",
        "--model",
        str(folder / "model"),
        "-o",
        str(folder / "scored.jsonl"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command], capture_output=True, text=True, check=False
    )
    figures = re.search(r"measured (\S+) (\S+) (\d+)", done.stderr)
    if figures is None or done.returncode:
        sys.exit(done.stderr)
    return float(figures[1]), float(figures[2]), int(figures[3])


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Plot time and memory against the number of hypotheses, on logarithmic axes."""
    import matplotlib  # noqa: PLC0415 - only for the plot

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for kind, marker in (("N-best size", "o"), ("utterances", "s")):
        chosen = [row for row in rows if row["grows"] == kind]
        x = [row["utterances"] * row["hypotheses"] for row in chosen]
        left.loglog(
            x,
            [row["cpu_seconds"] for row in chosen],
            marker=marker,
            label=f"more {kind}" if kind == "utterances" else "longer lists",
        )
        right.semilogx(x, [row["memory_mb"] for row in chosen], marker=marker)
    left.set(xlabel="hypotheses", ylabel="CPU seconds, start included", title="Time")
    right.set(xlabel="hypotheses", ylabel="MB above one hypothesis", title="Memory", ylim=(0, None))
    left.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("growth"),
        help="Name of the CSV and the plot, without suffix.",
    )
    parser.add_argument(
        "--hypotheses", default="10,100,1000", help="List lengths, each with --fixed utterances."
    )
    parser.add_argument(
        "--utterances", default="1000,10000,30000,100000", help="Numbers of lists of 10 hypotheses."
    )
    parser.add_argument(
        "--fixed", type=int, default=300, help="Number of utterances where the lists get longer."
    )
    options = parser.parse_args()
    points = [("N-best size", options.fixed, int(size)) for size in options.hypotheses.split(",")]
    points += [("utterances", int(count), 10) for count in options.utterances.split(",")]
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        _, _, base = measure(folder, 1, 1)
        for grows, utterances, hypotheses in points:
            cpu, wall, peak = measure(folder, utterances, hypotheses)
            row = {
                "grows": grows,
                "utterances": utterances,
                "hypotheses": hypotheses,
                "cpu_seconds": cpu,
                "wall_seconds": wall,
            }
            rows.append({**row, "memory_mb": round((peak - base) / 1e6, 1)})  # type: ignore[dict-item]
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep=", ", flush=True)
    with options.output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
