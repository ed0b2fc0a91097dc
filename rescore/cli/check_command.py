"""`dlmrescore check`."""

from __future__ import annotations

from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import (
    Reader,
    input_options,
    lists_argument,
    named,
    unit_of,
    unit_options,
    write_json,
)

__all__ = ["command"]


@click.command("check")
@lists_argument()
@input_options
@click.option(
    "--scorer",
    type=named("scorer"),
    default="mdlm",
    show_default=True,
    help="Whose vocabulary the texts are checked against.",
)
@click.option(
    "--model",
    help="Checkpoint directory or Hugging Face id; default: the embedded model. Its weights are not loaded.",
)
@click.option(
    "--normalizer",
    type=named("normaliser"),
    help="What texts would go through before the model; default: the model's own.",
)
@click.option("--window", type=click.IntRange(8), help="Longest token sequence, as for score.")
@click.option(
    "--remote-code",
    is_flag=True,
    help="Run code that comes with a Hub model. Only for repositories you trust.",
)
@unit_options
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is a warning.")
@click.option(
    "--json",
    "report_path",
    type=click.Path(dir_okay=False),
    help="Also write the report as JSON; - for JSON alone.",
)
def command(path: str, scorer: str, strict: bool, report_path: str | None, **options: Any) -> None:
    """Say what to know about LISTS before a network evaluation is paid for: texts, tokens, unknown words, repetitions, references, scores.

    \b
    Example: dlmrescore check nbest.jsonl --scorer ar --strict --json report.json
    """
    from rescore.checking import check, findings, summary  # noqa: PLC0415 - torch

    reader = Reader.take(path, report_path or "-", options)
    unit, model = (
        unit_of(options.pop("unit"), options.pop("cer")),
        f"{scorer}, {options['model'] or 'embedded'}",
    )
    with tqdm(reader, total=reader.total(), desc="check", unit="utt", disable=None) as lists:
        report = check(lists, scorer, unit=unit, **options)
    if report_path != "-":
        click.echo("\n".join(summary.summary(report, model)))
    if report_path is not None:
        write_json(summary.to_json(report, model), report_path)
    if strict and any(finding.level == "warning" for finding in findings.findings(report)):
        raise click.exceptions.Exit(1)
