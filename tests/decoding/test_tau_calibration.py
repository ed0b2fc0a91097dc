"""Calibration of tau: first tokens above it, the loss by hand, right tokens, the command."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from small_prompted import small_prompted
from small_speech import TEXTS, manifest

from rescore.acoustic.prompted import save_prompted
from rescore.cli import cli
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.calibration import (
    TAUS,
    Example,
    Trace,
    calibrate,
    early_tokens,
    right_tokens,
)
from rescore.decoding.commit import Choices
from rescore.models.audio_network import SpecialRows
from rescore.pipeline.decoding import decode

ROWS = SpecialRows(0, 3, 2, 9)
WORDS = {4: "a", 5: "b", 6: "c"}


def words(tokens):
    """Every token is a word; the text ends at EOS."""
    tokens = list(tokens)
    return " ".join(WORDS[t] for t in (tokens[: tokens.index(3)] if 3 in tokens else tokens))


GUIDE = SimpleNamespace(
    rows=ROWS, text=words, tokens=lambda text: [ord(word) - 93 for word in text.split()]
)


def choices(**chosen):
    """place=(token, probability)."""
    places = np.array([int(name[1:]) for name in chosen])
    tokens = np.array([token for token, _ in chosen.values()])
    probs = np.array([probability for _, probability in chosen.values()])
    return Choices(tokens, np.log(probs), np.zeros(len(places)), places)


def trace():
    """BOS, three open places and the end: decided in the order 2, 3, 1, 4 as a b c </s>.

    Place 1 says b with 0.8 first; place 3 says c with 0.6, then 0.95.
    """
    rounds = [
        choices(p1=(5, 0.8), p2=(5, 0.9), p3=(6, 0.6), p4=(3, 0.7)),
        choices(p1=(5, 0.6), p3=(6, 0.95), p4=(3, 0.75)),
        choices(p1=(4, 0.99), p4=(3, 0.98)),
        choices(p4=(3, 0.99)),
    ]
    return Trace(np.array([2, 9, 9, 9, 9]), np.array([2, 4, 5, 6, 3]), rounds)


@pytest.mark.parametrize(
    ("tau", "expected", "early"),
    [
        (0.999, [2, 4, 5, 6, 3], [4]),  # all wait for their turn
        (0.98, [2, 4, 5, 6, 3], [4]),
        (0.7, [2, 5, 5, 6, 3], [1, 4]),
        (0.5, [2, 5, 5, 6, 3], [1, 3, 4]),
    ],
)
def test_a_place_gets_the_first_token_that_reaches_tau(tau, expected, early):
    tokens, is_early = early_tokens(trace(), tau, ROWS.eos)
    assert tokens.tolist() == expected
    assert np.flatnonzero(is_early).tolist() == ([] if tau == 0.999 else early)


def test_an_end_waits_for_what_is_behind_it():
    rounds = [
        choices(p1=(3, 0.9), p2=(4, 0.95)),
        choices(p1=(5, 0.8)),
    ]
    run = Trace(np.array([2, 9, 9]), np.array([2, 5, 4]), rounds)
    assert early_tokens(run, 0.85, ROWS.eos)[0].tolist() == [2, 5, 4]
    run.rounds[0].tokens[1] = 3
    assert early_tokens(run, 0.85, ROWS.eos)[0].tolist() == [2, 3, 3]


def test_the_loss_is_that_of_a_count_by_hand():
    """Decided last: a b c. Early from 0.8 down: b b c, one error more of three words."""
    result = calibrate([Example(trace(), "a b c")], GUIDE, 0.1)
    assert (result.words, result.errors) == (3, 0)
    by_hand = {tau: 1 / 3 if tau <= 0.8 else 0.0 for tau in TAUS}
    assert {row.tau: row.loss for row in result.thresholds} == by_hand
    assert result.tau == 0.85
    assert calibrate([Example(trace(), "a b c")], GUIDE, 0.4).tau == 0.3
    # against the reference "b b c" deciding early is the better choice
    other = calibrate([Example(trace(), "b b c")], GUIDE, 0.0)
    assert [row.loss for row in other.thresholds if row.tau <= 0.8] == [-1 / 3] * 6
    changed = {row.tau: row.changed for row in other.thresholds}
    assert (changed[0.8], changed[0.85]) == (1, 0)


def test_reliability_counts_every_choice_once():
    """Ten choices; place 1's first two are wrong."""
    result = calibrate([Example(trace(), "a b c")], GUIDE, 0.1)
    assert sum(part.choices for part in result.bins) == 10
    assert sum(round(part.choices * part.right) for part in result.bins) == 8
    by_place = {part.low: (part.choices, part.confidence, part.right) for part in result.bins}
    assert by_place[0.6] == (2, pytest.approx(0.6), 0.5)
    wrong = sum(part.choices * abs(part.confidence - part.right) for part in result.bins)
    assert result.ece == pytest.approx(wrong / 10)


def test_the_right_token_is_what_the_reference_has_at_the_place():
    canvas = np.array([2, 4, 5, 3, 3, 3])
    assert right_tokens(canvas, [4, 6], ROWS).tolist() == [2, 4, 6, 3, 3, 3]
    assert right_tokens(canvas, [4], ROWS).tolist() == [2, 4, -1, 3, 3, 3]
    assert right_tokens(canvas, [4, 5, 6], ROWS).tolist() == [2, 4, 5, 3, 3, 3]
    assert right_tokens(canvas[:3], [4, 5], ROWS).tolist() == [2, 4, 5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    manifest(folder, "dev", texts=TEXTS[:3])
    save_prompted(small_prompted(), folder / "dllm")
    save_prompted(small_prompted(causal=True), folder / "twin")
    return folder


def test_a_traced_run_decides_what_one_a_round_decides(folder):
    path = str(folder / "dev.tsv")
    options = DecoderOptions(model=str(folder / "dllm"), draft="mask", prune=False)
    decoder = load_decoder("prior_guided", path, options)
    slow = DecoderOptions(**{**vars(options), "commit": "top_k", "commit_value": 1.0})
    lists = list(decode(load_decoder("prior_guided", path, slow)))
    for nbest, condition in zip(lists, decoder.audio.values(), strict=True):
        run = decoder.transcribe.decided_last(condition)
        assert decoder.guide.text(run.tokens[1:].tolist()) == nbest.hyps[0].text
        assert len(run.rounds) == nbest.raw["rounds"] == int((run.draft == 7).sum())
        tokens, is_early = early_tokens(run, 2.0, decoder.guide.rows.eos)
        assert (tokens == run.tokens).all()
        assert not is_early.any()


def test_the_command_writes_numbers_and_a_diagram(folder, tmp_path):
    pytest.importorskip("matplotlib")
    start = ["decode", str(folder / "dev.tsv"), "--method", "prior_guided", "--calibrate"]
    output = tmp_path / "tau.json"
    ran = CliRunner().invoke(
        cli, [*start, "--model", str(folder / "dllm"), "--bound", "500", "-o", str(output)]
    )
    assert ran.exit_code == 0, ran.output
    result = json.loads(output.read_text())
    assert result["tau"] == TAUS[0]
    assert result["command"] in ran.output
    assert "--tau 0.3" in result["command"]
    assert len(result["thresholds"]) == len(TAUS)
    assert (tmp_path / "tau.png").read_bytes().startswith(b"\x89PNG")
    for more, message in (
        (["--model", str(folder / "twin"), "-o", str(output)], "with a masked model"),
        (["--model", str(folder / "dllm"), "--tau", "0.5", "-o", str(output)], "leave --tau"),
        (["--model", str(folder / "dllm")], "give -o"),
    ):
        ran = CliRunner().invoke(cli, [*start, *more])
        assert ran.exit_code != 0
        assert message in (ran.output + str(ran.exception))
    ran = CliRunner().invoke(cli, [*start[:-1], "--model", "x", "--bound", "1", "-o", str(output)])
    assert "--bound belongs to --calibrate" in ran.output
