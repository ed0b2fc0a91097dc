"""States of a frozen encoder: those that it has at a step, kept once, resumed to the same bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_runs import Killed
from small_speech import TEXTS, TINY_CTC, speech_options

from rescore.acoustic.recogniser import load_recogniser
from rescore.acoustic.transcriber import load_transcriber
from rescore.cli.train_mdm import mdm_command
from rescore.train.ctc import SpecAugment, network_input, train_ctc
from rescore.train.encoder_states import Augmentation, open_states
from rescore.train.mdm import train_mdm
from rescore.train.options import MdmOptions
from rescore.train.speech_corpus import open_parts

AUGMENTATION = Augmentation(SpecAugment(2, 27, 5, 0.05), 2, seed=3)
FROZEN = MdmOptions(
    steps=3,
    warmup=1,
    width=16,
    layers=1,
    heads=2,
    feed_forward=24,
    bf16=False,
    batch_seconds=6.0,
    encoder="frozen",
    dropout=0.0,
    margin=2,
)

#: Half the distance of neighbours in float16, relative to a number.
HALF = 2.0**-11


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return speech_options(tmp_path_factory.mktemp("speech"), speeds=(1.0, 1.1))


@pytest.fixture(scope="module")
def recogniser(speech, tmp_path_factory):
    directory = tmp_path_factory.mktemp("ctc")
    train_ctc(speech, directory, replace(TINY_CTC, steps=4, evaluate_every=4), {})
    return directory


@torch.no_grad()
def test_states_are_those_that_the_encoder_has_of_its_features(speech, recogniser):
    loaded = load_recogniser(recogniser)
    network, symbols = loaded.network, len(loaded.symbols)
    batches, held_out = open_states(speech, symbols, 6.0, network, AUGMENTATION)
    features, plain = open_parts(speech, symbols, 6.0)
    for states, source, draws in (
        (batches.corpus, features.corpus, AUGMENTATION.draws),
        (held_out, plain, 1),
    ):
        assert states.versions == source.versions * draws
        np.testing.assert_array_equal(states.targets, source.targets)
        for utterance in range(len(states)):
            rows = np.repeat(np.arange(source.versions) + utterance * source.versions, draws)
            seed = 1_000_003 * AUGMENTATION.seed + utterance
            for row, expected in zip(
                np.arange(states.versions) + utterance * states.versions,
                expected_states(network, source, rows, draws > 1, seed),
                strict=True,
            ):
                stored = states.features[states.offsets[row] : states.offsets[row + 1]]
                np.testing.assert_allclose(stored, expected, rtol=HALF, atol=1e-6)
    rows = batches.corpus.offsets
    first, second = (batches.corpus.features[rows[k] : rows[k + 1]] for k in (0, 1))
    assert not np.array_equal(first, second)  # two draws of one version


def expected_states(network, source, rows, is_masked, seed):
    parts = [source.features[source.offsets[row] : source.offsets[row + 1]] for row in rows]
    frames = torch.tensor([len(part) for part in parts])
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(part.astype(np.float32)) for part in parts], batch_first=True
    )
    masks = AUGMENTATION.masks if is_masked else None
    chance = torch.Generator().manual_seed(seed)
    x = network_input(padded, frames, masks, torch.device("cpu"), chance)
    hidden, lengths = network.hidden(x, frames)
    return [row[:length].numpy() for row, length in zip(hidden, lengths.tolist(), strict=True)]


def test_states_that_were_interrupted_are_finished_to_the_same_bytes(
    speech, recogniser, monkeypatch
):
    loaded = load_recogniser(recogniser)
    arguments = (speech, len(loaded.symbols), 6.0, loaded.network)
    whole, _ = open_states(*arguments, AUGMENTATION)
    expected = np.array(whole.corpus.features)
    other = replace(AUGMENTATION, masks=SpecAugment(0, 0, 0, 0.0))
    hidden, calls = type(loaded.network).hidden, []

    def killed(network, *inputs):
        calls.append(1)
        if len(calls) > len(TEXTS) // 2:
            raise Killed
        return hidden(network, *inputs)

    with monkeypatch.context() as patch:
        patch.setattr(type(loaded.network), "hidden", killed)
        with pytest.raises(Killed):
            open_states(*arguments, other)
    monkeypatch.setattr(type(loaded.network), "hidden", counted(hidden, resumed := []))
    unmasked, _ = open_states(*arguments, other)
    assert len(resumed) == len(TEXTS) - len(TEXTS) // 2 + 4  # 4: the held-out utterances
    again, _ = open_states(*arguments, AUGMENTATION)
    np.testing.assert_array_equal(again.corpus.features, expected)
    versions = np.split(unmasked.corpus.features, unmasked.corpus.offsets[1:-1])
    np.testing.assert_array_equal(versions[0], versions[1])  # without masks, draws are equal


def counted(method, calls):
    def wrapped(*arguments):
        calls.append(1)
        return method(*arguments)

    return wrapped


def test_a_decoder_learns_the_same_from_states_as_from_the_encoder(speech, recogniser, tmp_path):
    """Without SpecAugment, but for the rounding of states to float16."""
    options = replace(FROZEN, start_from=str(recogniser), frequency_masks=0, time_masks=0)
    one_speed = speech_options(tmp_path, speeds=(1.0,))
    every = train_mdm(one_speed, tmp_path / "every", options, {})
    once = train_mdm(one_speed, tmp_path / "once", replace(options, state_draws=1), {})
    first, second = (one.card["training"]["valid_nats_per_token"] for one in (every, once))
    assert first == pytest.approx(second, rel=HALF)


def test_the_command_keeps_states_that_the_twin_shares(speech, recogniser, tmp_path):
    sizes = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24", "--steps=1", "--float32"]
    start = [f"--corpus={speech.directory}", f"--start-from={recogniser}", "--state-draws=2"]
    runner = CliRunner()
    output = str(tmp_path / "mdm")
    ran = runner.invoke(mdm_command, [*start, *sizes, "--encoder=frozen", "-o", output])
    assert ran.exit_code == 0, ran.output
    folders = set((speech.directory / "states").iterdir())
    assert load_transcriber(tmp_path / "mdm").card["training"]["state_draws"] == 2
    ran = runner.invoke(
        mdm_command, [*start, *sizes, "--encoder=frozen", "--causal", "-o", str(tmp_path / "twin")]
    )
    assert ran.exit_code == 0, ran.output
    assert set((speech.directory / "states").iterdir()) == folders  # the twin's are the same
