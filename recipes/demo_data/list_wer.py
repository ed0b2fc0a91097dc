"""Print the table of README.md: sizes, first-pass and oracle word error rate of N-best files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rapidfuzz.distance import Levenshtein


def word_errors(ref: str, hyp: str) -> int:
    """Count substitutions, insertions and deletions of words, each costing 1."""
    return int(Levenshtein.distance(ref.split(), hyp.split()))


def table_row(name: str, records: list[dict[str, Any]]) -> str:
    """One Markdown row; error rates are percentages of reference words.

    Oracle: the hypothesis of each list with the fewest errors.
    """
    words = sum(len(record["ref"].split()) for record in records)
    errors = [
        [word_errors(record["ref"], hyp["text"]) for hyp in record["hyps"]] for record in records
    ]
    first, oracle = (
        100 * sum(pick) / words for pick in ([e[0] for e in errors], [min(e) for e in errors])
    )
    minutes = sum(record["duration"] for record in records) / 60
    mean_depth = sum(map(len, errors)) / len(errors)
    sizes = f"{len(records)} | {words} | {minutes:.1f} | {mean_depth:.1f}"
    return f"| {name} | {sizes} | {first:.2f} | {oracle:.2f} |"


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(files: tuple[Path, ...]) -> None:
    """Print one table row per N-best file (JSON lines)."""
    click.echo(
        "| list | utterances | words | minutes | mean depth | first pass WER % | oracle WER % |\n"
        "|---|---|---|---|---|---|---|"
    )
    for path in files:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        click.echo(table_row(path.name, records))


if __name__ == "__main__":
    main()
