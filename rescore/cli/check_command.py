"""`dlmrescore check`."""

from __future__ import annotations

from dataclasses import dataclass

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    collected,
    input_options,
    named,
    remote_code_option,
    scorer_option,
    unit_options,
    write_json,
)
from rescore.progress import progress_bar
from rescore.scorers.options import Spec
from rescore.wer import Unit

__all__ = ["command"]


@dataclass(frozen=True)
class _ModelOptions:
    """The options of a scorer that decide what its network sees of a text."""

    model: str | None
    normalizer: str | None
    window: int | None
    remote_code: bool


_MODEL = [
    click.option(
        "--model",
        help="Checkpoint directory or Hugging Face id, of which only the vocabulary is loaded; "
        "default: the embedded model.",
    ),
    click.option(
        "--normalizer",
        type=named("normaliser"),
        help="Applied to each text before the model reads it; default: the model's own.",
    ),
    click.option("--window", type=click.IntRange(8), help="Longest token sequence, as for score."),
    remote_code_option,
]


@click.command("check")
@input_options()
@scorer_option("The scorer whose vocabulary the texts are checked against:")
@collected(_ModelOptions, "model_options", _MODEL)
@unit_options
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is a warning.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False),
    help="Also write the results as JSON; - prints the JSON alone.",
)
def command(
    source: InputOptions,
    scorer: Spec,
    model_options: _ModelOptions,
    unit: Unit,
    strict: bool,
    json_path: str | None,
) -> None:
    """Inspect LISTS before you spend compute: texts, tokens, references, scores.

    No network is evaluated: of a model, only the vocabulary is loaded.

    \b
    Example: dlmrescore check nbest.jsonl --scorer ar --strict --json report.json
    """
    from rescore.checking import check  # noqa: PLC0415 - torch
    from rescore.checking.findings import findings  # noqa: PLC0415
    from rescore.checking.summary import summary_json, summary_lines  # noqa: PLC0415
    from rescore.scorers import ScorerOptions, load_vocabulary  # noqa: PLC0415

    lists = source.reader(json_path or "-")
    settings = scorer.options(ScorerOptions(**vars(model_options)))
    model = f"{scorer.scorer}, {settings.model or 'embedded'}"
    vocabulary = load_vocabulary(scorer.scorer, settings)
    with progress_bar(lists, total=lists.total(), description="check", unit="utterances") as bar:
        inspection = check(bar, vocabulary, unit=unit)
    if json_path != "-":
        click.echo("\n".join(summary_lines(inspection, model)))
    if json_path is not None:
        write_json(summary_json(inspection, model), json_path)
    if strict and any(finding.level == "warning" for finding in findings(inspection)):
        raise click.exceptions.Exit(1)
