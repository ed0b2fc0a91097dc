"""recipes/pooled_gain.py: one set gives what `compare` gives; sets are resampled by themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import rescore
from rescore.wer import changes

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "recipes" / "pooled_gain.py"))


def write_lists(path: Path, texts: list[str]) -> str:
    """Lists of one hypothesis each, of the reference `a b c d`."""
    lists = [
        rescore.NBest(f"u{number}", [rescore.Hypothesis(text)], ref="a b c d")
        for number, text in enumerate(texts)
    ]
    rescore.write(lists, path)
    return str(path)


@pytest.fixture
def files(tmp_path):
    """Two systems on one set: three utterances better, one worse, two equal."""
    before = write_lists(tmp_path / "a.jsonl", ["a b c", "a b", "a c d", "a b c d", "x", "a b c"])
    after = write_lists(tmp_path / "b.jsonl", ["a b c d"] * 3 + ["a b c", "x", "a b c"])
    return before, after


def table(*sets: tuple[str, str, str]) -> list[list[str]]:
    """The rows of the table that the command prints."""
    arguments = [word for one in sets for word in ("--set", *one)]
    result = CliRunner().invoke(SCRIPT["main"], arguments)
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in result.output.splitlines()]


def test_one_set_gives_the_gain_and_the_probability_of_compare(files):
    before, after = files
    row = table(("one", before, after))[2]
    expected = changes(rescore.read(after), rescore.read(before))
    assert row[:5] == ["one", "24", "37.50", "25.00", "12.50"]
    assert float(row[6]) == pytest.approx(expected.comparison.probability_better, abs=0.02)


def test_the_variance_of_all_sets_is_the_sum_of_theirs(files):
    gains = [SCRIPT["gain_of"]("set", *files, 20_000, seed) for seed in (0, 1)]
    whole = SCRIPT["pooled"](gains)
    assert (whole.words, whole.before, whole.after) == (48, 18, 12)
    expected = 2 * 6 * np.var([1, 2, 1, -1, 0, 0])  # two sets of six utterances each
    assert np.var(whole.resampled) == pytest.approx(expected, rel=0.05)


def test_lists_of_other_utterances_are_refused_in_one_line(files, tmp_path):
    other = write_lists(tmp_path / "c.jsonl", ["a b c d"])
    result = CliRunner().invoke(SCRIPT["main"], ["--set", "one", files[0], other])
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1
