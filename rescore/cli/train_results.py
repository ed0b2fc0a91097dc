"""What every `dlmrescore train` says at its end: the figures, and how to use what was trained."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["evaluation_interval", "few_tokens", "say_result", "score_command"]

#: Validations of a short run, so that its learning curve has points.
_POINTS = 8

#: Training tokens from which a network begins to be worth something (docs/models.md).
_FEW_TOKENS = 2_000_000


def evaluation_interval(steps: int, save_every: int) -> int:
    """The steps between two validations: those of the saved states, in a short run fewer."""
    return min(save_every, max(1, steps // _POINTS))


def few_tokens(objective: str, tokens: int, start_from: str | None) -> str | None:
    """What to do instead of training a network from scratch on this few tokens; None: enough."""
    if start_from is not None or tokens >= _FEW_TOKENS:
        return None
    return (
        f"{tokens:,} tokens from scratch make a weak model: fine-tune one "
        f"(--start-from {objective}), or try `dlmrescore train ngram` first (docs/models.md)"
    )


def say_result(figures: str, use: str, *advice: str | None) -> None:
    """Print the figures, advice if there is any, and last the command that uses the model."""
    for line in (figures, *advice, f"use it: {use}"):
        if line is not None:
            click.echo(line, err=True)


def score_command(scorer: str, directory: Path) -> str:
    """The command that scores lists with a model that was trained."""
    return f"dlmrescore score LISTS --scorer {scorer} --model {directory} -o scored.jsonl"
