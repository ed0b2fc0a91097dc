"""Text -> manifest: choose sentences that can be spoken, speakers, and seeds.

Training sentences come from `--train-text`, dev and test sentences from `--held-out-text`. No run
of seven words of a dev or test sentence (nor a whole shorter one) occurs in any file of
`--train-text` or `--lm-text`; the files are read, not trusted. Dev and test share no such run
either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
from manifest import Utterance, write
from speakers import VOICES
from tqdm import tqdm

from rescore.errors import RescoreError
from rescore.formats.files import text_lines

RUN = 7  # words
SHORTEST, LONGEST = 5, 25  # words of a sentence
COMMON = 1_000  # at least half of the words of a sentence are among so many most frequent ones
SPOKEN_WITHOUT_VOWEL = frozenset({"mr", "mrs", "ms", "dr"})
ROMAN = re.compile(r"x{0,3}(ix|iv|v?i{0,3})")
PACES, WARPS = (0.95, 1.3), (0.9, 1.1)

TEXT = click.Path(exists=True, dir_okay=False, path_type=Path)


class Overlap:
    """The runs of seven words (a whole sentence, if it is shorter) of some sentences.

    `meets(words)` says whether a line has one of them. A run is found by its first five words.
    """

    def __init__(self) -> None:
        self._runs: dict[str, set[str]] = {}

    def add(self, words: list[str]) -> None:
        """Add the runs of a sentence of at least SHORTEST words."""
        for run in runs(words):
            self._runs.setdefault(" ".join(run[:SHORTEST]), set()).add(" ".join(run))

    def meets(self, words: list[str]) -> set[str]:
        """Return the added runs that occur in these words."""
        shared = set()
        for start in range(len(words) - SHORTEST + 1):
            for run in self._runs.get(" ".join(words[start : start + SHORTEST]), ()):
                if words[start : start + run.count(" ") + 1] == run.split():
                    shared.add(run)
        return shared


def runs(words: list[str]) -> Iterator[list[str]]:
    """Yield every run of seven words, or the sentence itself if it is shorter."""
    for start in range(max(1, len(words) - RUN + 1)):
        yield words[start : start + RUN]


def is_speakable(words: list[str], common: frozenset[str]) -> bool:
    """Whether synthesisers read every word as a word, and the sentence is running English.

    Out go single letters, Roman numerals and words without a vowel (they would be spelled), and
    what has few common words: headings, catalogues, foreign languages.
    """
    return (
        SHORTEST <= len(words) <= LONGEST
        and all(_is_word(word) for word in words)
        and 2 * sum(word in common for word in words) >= len(words)
    )


def _is_word(word: str) -> bool:
    if len(word) == 1:
        return word in "aio"
    return word in SPOKEN_WITHOUT_VOWEL or (
        not ROMAN.fullmatch(word) and re.search("[aeiouy]", word) is not None
    )


def read_lines(paths: Iterable[Path], name: str) -> Iterator[list[str]]:
    """Yield the words of every line of some files, with a progress bar."""
    with tqdm(desc=name, unit=" lines", unit_scale=True) as progress:
        for path in paths:
            for _, line in text_lines(path):
                progress.update()
                yield line.split()


def sampled(paths: list[Path], count: int, rng: np.random.Generator) -> list[list[str]]:
    """Return `count` lines of the files, drawn without replacement, in random order."""
    total = sum(1 for _ in read_lines(paths, "counting"))
    order = rng.permutation(total)[:count]
    wanted = set(order.tolist())
    lines = {
        number: words
        for number, words in enumerate(read_lines(paths, "drawing"))
        if number in wanted
    }
    return [lines[number] for number in order.tolist()]


def common_words(lines: Iterable[list[str]]) -> frozenset[str]:
    """Return the most frequent words of some lines; ties go to the alphabet."""
    counts = Counter(word for words in lines for word in words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return frozenset(ranked[:COMMON])


def distinct(lines: Iterable[list[str]]) -> list[list[str]]:
    """Drop repeated lines; the first one stays."""
    return [line.split() for line in dict.fromkeys(" ".join(words) for words in lines)]


def held_out(
    candidates: list[list[str]], others: Iterable[list[str]], count: int
) -> tuple[list[list[str]], list[list[str]]]:
    """Choose `count` dev and `count` test sentences that meet neither `others` nor each other.

    Raises RescoreError if too few candidates are left.
    """
    index = Overlap()
    for words in candidates:
        index.add(words)
    seen = {run for words in others for run in index.meets(words)}
    chosen, taken = [], Overlap()
    for words in candidates:
        if not taken.meets(words) and not any(" ".join(run) in seen for run in runs(words)):
            chosen.append(words)
            taken.add(words)
    if len(chosen) < 2 * count:
        raise RescoreError(
            f"only {len(chosen)} held-out sentences share no run of {RUN} words with the training "
            f"text, expected {2 * count}; give more --held-out-text"
        )
    return chosen[:count], chosen[count : 2 * count]


def spoken(part: str, sentences: list[list[str]], rng: np.random.Generator) -> list[Utterance]:
    """Draw speaker, pace, warp and seed of every sentence."""
    names = list(VOICES)
    weights = np.array(list(VOICES.values()), dtype=float)
    voices = rng.choice(len(names), len(sentences), p=weights / weights.sum())
    paces = rng.uniform(*PACES, len(sentences)).round(3)
    warps = rng.uniform(*WARPS, len(sentences)).round(3)
    seeds = rng.integers(2**32, size=len(sentences))
    return [
        Utterance(
            f"{part}-{i + 1:05d}",
            names[voices[i]],
            float(paces[i]),
            float(warps[i]),
            int(seeds[i]),
            " ".join(words),
        )
        for i, words in enumerate(sentences)
    ]


def make(
    train_text: list[Path],
    held_out_text: Path,
    lm_text: list[Path],
    train_count: int,
    held_out_count: int,
    seed: int,
) -> dict[str, list[Utterance]]:
    """Return the utterances of train, dev and test."""
    rng = np.random.default_rng(seed)
    lines = sampled(train_text, 3 * train_count, rng)
    common = common_words(lines)
    train = [words for words in distinct(lines) if is_speakable(words, common)][:train_count]
    held = [list(words) for words in distinct(read_lines([held_out_text], "held out"))]
    order = rng.permutation(len(held)).tolist()
    candidates = [held[i] for i in order if is_speakable(held[i], common)]
    files = dict.fromkeys([*train_text, *lm_text])
    dev, test = held_out(candidates, read_lines(files, "overlap"), held_out_count)
    return {
        "train": spoken("train", train, rng),
        "dev": spoken("dev", dev, rng),
        "test": spoken("test", test, rng),
    }


@click.command(context_settings={"show_default": True})
@click.option("--train-text", type=TEXT, multiple=True, required=True, help="One sentence a line.")
@click.option("--held-out-text", type=TEXT, required=True, help="Text of other books.")
@click.option("--lm-text", type=TEXT, multiple=True, help="More text that language models saw.")
@click.option("--train", "train_count", type=click.IntRange(1), default=17_000, help="Utterances.")
@click.option(
    "--held-out", "held_out_count", type=click.IntRange(1), default=300, help="Of dev, and of test."
)
@click.option("--seed", type=click.IntRange(0), default=14)
@click.option("-o", "out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(out: Path, **options) -> None:
    """Write train.tsv.gz, dev.tsv and test.tsv to a folder."""
    try:
        parts = make(**{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})
        out.mkdir(parents=True, exist_ok=True)
        for part, utterances in parts.items():
            name = f"{part}.tsv.gz" if part == "train" else f"{part}.tsv"
            write(out / name, utterances)
            words = sum(len(utterance.text.split()) for utterance in utterances)
            click.echo(f"{out / name}: {len(utterances)} utterances, {words} words", err=True)
    except (RescoreError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
