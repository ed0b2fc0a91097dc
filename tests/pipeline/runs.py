"""Random lists, small scorers and the command line, for the tests of this folder."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from small import LINES, nbest

from rescore.cli import main
from rescore.scorers import ScorerOptions, load_scorer

WORDS = " ".join(LINES).split()


def lists(count: int, hyps: int = 4, seed: int = 0):
    """Random lists; every fourth hypothesis occurs twice, short ones in several lists."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        texts = [" ".join(random.choice(WORDS, random.integers(0, 12))) for _ in range(hyps)]
        texts += [texts[index] for index in random.integers(0, hyps, hyps // 4)]
        made.append(nbest(*texts, id=f"utt-{number}", ref=texts[0], am=-1.0))
    return made


def build(models, family="usdm", estimator=None, **options):
    return load_scorer(family, ScorerOptions(model=models[family], estimator=estimator, **options))


def run(capsys, monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["dlmrescore", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err.strip()


class StopError(Exception):
    """What ends a run in a test."""


def stopping(scorer, after):
    """The scorer, which fails at its evaluation number `after`."""
    whole, seen = type(scorer).evaluate, []

    def evaluate(prepared):
        seen.append(1)
        if len(seen) > after:
            raise StopError
        return whole(scorer, prepared)

    scorer.evaluate = evaluate
    return scorer
