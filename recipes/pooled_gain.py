"""How sure is a gain over several test sets together?

    python recipes/pooled_gain.py --set AN4 an4/ar.jsonl an4/all.jsonl \\
        --set books books/ar.jsonl books/all.jsonl

Each set is NAME, the lists of the baseline and those of the system, winners first. Utterances are
resampled within their set, so every resample has all sets in their sizes, and errors are added up:
the gain is that of one test set made of all of them. The weights of each set come from its own dev
part.
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

import rescore
from rescore.errors import RescoreError
from rescore.wer import changes
from rescore.wer.significance import bootstrap_sums


@dataclass(frozen=True)
class Gain:
    """Errors that the system saves, and how sure that is; rates are fractions."""

    name: str
    words: int
    before: int  #: errors of the baseline
    after: int  #: errors of the system
    resampled: NDArray[np.int64]  #: (resamples,) errors saved in each resample

    @property
    def row(self) -> str:
        """A row of the table."""
        low, high = 100 * np.quantile(self.resampled, [0.025, 0.975]) / self.words
        better = np.mean(self.resampled > 0) + np.mean(self.resampled == 0) / 2
        before, after = (100 * errors / self.words for errors in (self.before, self.after))
        return (
            f"| {self.name} | {self.words:,} | {before:.2f} | {after:.2f} | {before - after:.2f} | "
            f"[{low:.2f}, {high:.2f}] | {better:.3f} |"
        )


def gain_of(name: str, baseline: str, system: str, resamples: int, seed: int) -> Gain:
    """Compare two files of lists. Raises RescoreError if they are not of the same utterances."""
    utterances = changes(rescore.read(system), rescore.read(baseline)).utterances
    before = np.array([utterance.baseline_errors.errors for utterance in utterances])
    after = np.array([utterance.errors.errors for utterance in utterances])
    words = sum(utterance.errors.reference_words for utterance in utterances)
    saved = bootstrap_sums((before - after)[:, None], resamples=resamples, seed=seed)[:, 0]
    return Gain(name, words, int(before.sum()), int(after.sum()), saved)


def pooled(gains: list[Gain]) -> Gain:
    """All sets as one: resample i of every set, added up."""
    return Gain(
        "all",
        sum(gain.words for gain in gains),
        sum(gain.before for gain in gains),
        sum(gain.after for gain in gains),
        np.sum([gain.resampled for gain in gains], axis=0),
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--set", "sets", type=(str, str, str), multiple=True, required=True, metavar="NAME FILE FILE"
)
@click.option("--resamples", type=click.IntRange(min=1), default=10_000)
@click.option("--seed", type=int, default=0)
def main(sets: tuple[tuple[str, str, str], ...], resamples: int, seed: int) -> None:
    """Print the gain on each set and on all of them, as a table."""
    try:
        gains = [
            gain_of(name, baseline, system, resamples, seed + number)
            for number, (name, baseline, system) in enumerate(sets)
        ]
    except RescoreError as error:
        raise click.ClickException(str(error)) from error
    click.echo("| set | words | before | after | gain | 95 % interval | better |")
    click.echo("|---|---:|---:|---:|---:|---:|---:|")
    for gain in [*gains, pooled(gains)]:
        click.echo(gain.row)


if __name__ == "__main__":
    main()
