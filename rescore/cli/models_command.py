"""`dlmrescore models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rescore.cli.options import output_option, write_json
from rescore.models.embedded import embedded_models

__all__ = ["command"]


@click.command("models")
@output_option
def command(output: str) -> None:
    """List the embedded models: what each is, its size and its quality. Writes JSON.

    \b
    Example: dlmrescore models
    """
    write_json([_row(directory) for directory in embedded_models()], output)


def _row(directory: Path) -> dict[str, Any]:
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
