"""`dlmrescore models`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rescore.cli.options import output_option, write_json
from rescore.models.embedded import embedded_models
from rescore.models.objectives import objective_named

__all__ = ["command"]

_HEADER = ("name", "what it is", "size", "perplexity", "use it")


@click.command("models")
@output_option
@click.option("--json", "as_json", is_flag=True, help="Print the record of each model.")
def command(output: str, as_json: bool) -> None:
    """List the embedded models: what each is, its size, its perplexity a word on held-out books.

    Prints a table; -o FILE and --json give everything that is known of each as JSON.

    \b
    Example: dlmrescore models
    """
    records = [_record(directory) for directory in embedded_models()]
    if as_json or output != "-":
        write_json(records, output)
    else:
        click.echo(_table(records))


def _record(directory: Path) -> dict[str, Any]:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return {
        "name": directory.name,
        "objective": config["objective"],
        "prediction": config["prediction"],
        "normalizer": config["normalizer"],
        "bytes": sum(file.stat().st_size for file in directory.iterdir()),
        "path": str(directory),
        **config["card"],
    }


def _table(records: list[dict[str, Any]]) -> str:
    rows = [_HEADER, *map(_row, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            "Perplexity a word, on held-out books; of mdlm and usdm a bound. English, small, weak:",
            "docs/models.md. --json: everything that is known of them.",
        ]
    )


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    objective = record["objective"]
    perplexity = record.get("training", {}).get("valid_perplexity_per_word")
    return (
        record["name"],
        objective_named(objective).title,
        f"{record['bytes'] / 1e6:.0f} MB",
        "" if perplexity is None else f"{perplexity:.0f}",
        f"--scorer {objective}",
    )
