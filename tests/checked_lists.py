"""Lists with nothing to say about, and ways to change them; vocabularies to check them with."""

from __future__ import annotations

from pathlib import Path

from small import LINES, small_tokenizer

from rescore.scorers import Vocabulary
from rescore.text import identity, librispeech
from rescore.types import Hypothesis, NBest

ROOT = Path(__file__).resolve().parents[1]


LETTERS = Vocabulary(small_tokenizer(), librispeech, 128)


BARE = Vocabulary(small_tokenizer(), identity, 128)


def nbest(number, *texts, ref: str | None = "the old house", **scores):
    """One list; a score has a value for each text, None where it is missing."""
    hyps = [
        Hypothesis(
            text, {name: values[i] for name, values in scores.items() if values[i] is not None}
        )
        for i, text in enumerate(texts)
    ]
    return NBest(f"u{number}", tuple(hyps), ref, {}, f"dev.jsonl:{number}")


def clean(count=40):
    """Lists without a finding: sums of log-probabilities, a best hypothesis behind the first."""
    lines = [" ".join(LINES[k % 6].split()[: 3 + k % 5]) for k in range(count)]
    return [
        nbest(
            k,
            f"{line} there",
            line,
            f"{line} and when",
            ref=line,
            am=[-9.0 * n, -8.5 * n, -10.0 * n],
        )
        for k, line in enumerate(lines, 1)
        for n in [len(line.split())]
    ]


def changed(*, texts=None, ref=False, **scores):
    """The clean lists with a change in the second."""
    lists = clean()
    old = lists[1]
    hyps = tuple(
        Hypothesis(
            texts[i] if texts else hyp.text, {**hyp.scores, **{k: v[i] for k, v in scores.items()}}
        )
        for i, hyp in enumerate(old.hyps)
    )
    return [
        lists[0],
        NBest(old.id, hyps, old.ref if ref is False else ref, {}, old.where),
        *lists[2:],
    ]


def mapped(change, vocabulary=LETTERS):
    """The clean lists with all hypotheses changed."""
    return [
        NBest(
            one.id, tuple(change(hyp, i) for i, hyp in enumerate(one.hyps)), one.ref, {}, one.where
        )
        for one in clean()
    ], vocabulary


def scored(name, value):
    """The clean lists with another score, value(words, index)."""
    return mapped(
        lambda hyp, i: Hypothesis(hyp.text, {**hyp.scores, name: value(len(hyp.words), i)})
    )
