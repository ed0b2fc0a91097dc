"""Is MBR better than MAP, and what are word confidences worth? Answers for two sets of lists; no network is needed.

    python recipes/confidence.py --dev DEV --test TEST --scores am,ngram

On dev, weights and temperature are tuned without the fold that is counted. On test, the words of the winners are compared with the references:
ECE is the mean distance of confidence and share of right words in ten equal bins (Guo et al. 2017, arXiv:1706.04599), NCE the normalised cross
entropy of NIST, 0 for a constant confidence that is right on average, 1 for certainty.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np
from rapidfuzz.distance import Levenshtein

import rescore
from rescore.types import NBest
from rescore.wer import reference

LIMIT = 0.01  # NCE is infinite if a word of confidence 1 is wrong: confidences are kept this far from 0 and 1


def held_out(
    dev: list[NBest], scores: list[str], folds: int
) -> Iterator[tuple[list[NBest], rescore.Fusion]]:
    """Each fold with what was tuned on the others."""
    dealt = np.random.default_rng(0).permutation(len(dev)) % folds
    for fold in range(folds):
        rest = [nbest for nbest, own in zip(dev, dealt, strict=True) if own != fold]
        yield (
            [nbest for nbest, own in zip(dev, dealt, strict=True) if own == fold],
            rescore.tune(rest, scores),
        )


def right(nbest: NBest) -> list[bool]:
    """Which words of the first hypothesis the reference has in their place."""
    words = nbest.hyps[0].words
    found = [False] * len(words)
    for block in Levenshtein.opcodes(reference(nbest).split(), words):
        if block.tag == "equal":
            found[block.dest_start : block.dest_end] = [True] * (block.dest_end - block.dest_start)
    return found


def calibration(confidences: np.ndarray, is_right: np.ndarray) -> str:
    """What the confidences (words,) say of which words are right."""
    bins = np.minimum((confidences * 10).astype(int), 9)
    ece = np.abs(np.bincount(bins, weights=confidences - is_right, minlength=10)).sum() / len(bins)
    p = np.clip(confidences, LIMIT, 1 - LIMIT)
    share = is_right.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    nce = 1 + np.log(np.where(is_right, p, 1 - p)).mean() / entropy
    agreed = confidences > 1 - 1e-6
    return (
        f"{len(bins)} words, {share:.3f} right, mean confidence {confidences.mean():.3f}, ECE {ece:.3f}, NCE {nce:.3f}; "
        f"{agreed.mean():.3f} of them are in every hypothesis, {is_right[agreed].mean():.3f} of these right and {is_right[~agreed].mean():.3f} of the others"
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
    tuned = list(held_out(dev_lists, names, folds))
    click.echo(
        "temperatures of the folds: "
        + ", ".join(f"{fusion.temperature or 1:.3g}" for _, fusion in tuned)
    )
    by_map, by_mbr = (
        [best for lists, fusion in tuned for best in rescore.fuse(lists, fusion, decision)]
        for decision in ("map", "mbr")
    )
    compared = rescore.evaluate(by_mbr, baseline=by_map)
    better = compared.comparison.probability_better if compared.comparison else float("nan")
    click.echo(
        f"dev, held out: MAP {100 * rescore.evaluate(by_map).wer:.2f}, MBR {100 * compared.wer:.2f}, probability that MBR is better {better:.3f}"
    )
    best = list(rescore.fuse(rescore.read(test), rescore.tune(dev_lists, names), posteriors=True))
    confidences = np.concatenate([nbest.hyps[0].raw["word_confidences"] for nbest in best])
    click.echo(
        f"test: {calibration(confidences, np.concatenate([right(nbest) for nbest in best]).astype(bool))}"
    )


if __name__ == "__main__":
    main()
