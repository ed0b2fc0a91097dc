"""Is MBR better than MAP, and what are word confidences worth? No network is needed.

    python recipes/confidence.py --dev DEV --test TEST --scores am,ngram

On dev, MAP and MBR are compared fold by fold, with weights and temperature tuned on the other
folds. On test, the words of the winners are compared with the references: ECE is the mean distance
between confidence and share of right words in ten equal bins (Guo et al. 2017, arXiv:1706.04599);
NCE is the normalised cross entropy of NIST, 0 for a constant confidence that is right on average,
1 for certainty.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np
from rapidfuzz.distance import Levenshtein

import rescore
from rescore.types import NBest
from rescore.wer import reference

# NCE is infinite if a word of confidence 1 is wrong: keep confidences this far from 0 and 1.
LIMIT = 0.01


def held_out_folds(
    dev: list[NBest], scores: list[str], folds: int
) -> Iterator[tuple[list[NBest], rescore.Fusion]]:
    """Each fold with weights tuned on the others."""
    fold_of = np.random.default_rng(0).permutation(len(dev)) % folds
    for fold in range(folds):
        held_out = [dev[u] for u in np.flatnonzero(fold_of == fold)]
        rest = [dev[u] for u in np.flatnonzero(fold_of != fold)]
        yield held_out, rescore.tune(rest, scores)


def right_words(nbest: NBest) -> list[bool]:
    """Which words of the first hypothesis the reference has in the same place."""
    words = nbest.hyps[0].words
    is_right = [False] * len(words)
    for block in Levenshtein.opcodes(reference(nbest).split(), words):
        if block.tag == "equal":
            for place in range(block.dest_start, block.dest_end):
                is_right[place] = True
    return is_right


def calibration(confidences: np.ndarray, is_right: np.ndarray) -> str:
    """How well the confidences, (words,), predict which words are right, (words,)."""
    bins = np.minimum((confidences * 10).astype(int), 9)
    ece = np.abs(np.bincount(bins, weights=confidences - is_right, minlength=10)).sum() / len(bins)
    p = np.clip(confidences, LIMIT, 1 - LIMIT)
    share = is_right.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    nce = 1 + np.log(np.where(is_right, p, 1 - p)).mean() / entropy
    agreed = confidences > 1 - 1e-6
    return (
        f"{len(bins)} words, {share:.3f} right, mean confidence {confidences.mean():.3f},"
        f" ECE {ece:.3f}, NCE {nce:.3f}; {agreed.mean():.3f} of them are in every hypothesis,"
        f" {is_right[agreed].mean():.3f} of these right"
        f" and {is_right[~agreed].mean():.3f} of the others"
    )


@click.command()
@click.option("--dev", required=True, help="Lists to tune on.")
@click.option("--test", required=True, help="Lists to report on.")
@click.option(
    "--scores", default="am,ngram", show_default=True, help="Score names separated by commas."
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
def main(dev: str, test: str, scores: str, folds: int) -> None:
    """Compare MAP and MBR on held-out folds of DEV, and check the word confidences of TEST."""
    names, dev_lists = scores.split(","), list(rescore.read(dev))
    tuned = list(held_out_folds(dev_lists, names, folds))
    temperatures = ", ".join(f"{fusion.temperature or 1:.3g}" for _, fusion in tuned)
    click.echo(f"temperatures of the folds: {temperatures}")
    winners: dict[str, list[NBest]] = {"map": [], "mbr": []}
    for decision, fused in winners.items():
        for lists, fusion in tuned:
            fused.extend(rescore.fuse(lists, fusion, decision))
    by_map = rescore.evaluate(winners["map"])
    by_mbr = rescore.evaluate(winners["mbr"], baseline=winners["map"])
    better = by_mbr.comparison.probability_better if by_mbr.comparison else float("nan")
    click.echo(
        f"dev, held out: MAP {100 * by_map.wer:.2f}, MBR {100 * by_mbr.wer:.2f},"
        f" probability that MBR is better {better:.3f}"
    )
    fusion = rescore.tune(dev_lists, names)
    best = list(rescore.fuse(rescore.read(test), fusion, posteriors=True))
    confidences = np.concatenate([nbest.hyps[0].raw["word_confidences"] for nbest in best])
    is_right = np.concatenate([right_words(nbest) for nbest in best]).astype(bool)
    click.echo(f"test: {calibration(confidences, is_right)}")


if __name__ == "__main__":
    main()
