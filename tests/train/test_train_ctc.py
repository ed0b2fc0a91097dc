"""Training recognisers: the loss, SpecAugment, features on the disk, and runs that resume."""

from __future__ import annotations

import csv
import errno
import itertools
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from small import small_tokenizer
from small_runs import Killed, killed_after_saving
from small_speech import RATE, TEXTS, TINY_CTC, manifest, speech_options, spoken

from rescore.acoustic.audio import read_audio, resample
from rescore.acoustic.features import fbank
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.recogniser import load_recogniser, read_symbols
from rescore.cli.train_ctc import ctc_command
from rescore.errors import ModelError, ScoreError, TrainError
from rescore.train import speech_corpus
from rescore.train.ctc import (
    CtcLoss,
    SpecAugment,
    SpeechValidator,
    copy_recogniser,
    ctc_learner,
    train_ctc,
)
from rescore.train.learner import Learner
from rescore.train.options import SpeechOptions
from rescore.train.run import Run
from rescore.train.speech_corpus import SpeechBatches, open_speech, prepare_speech


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return speech_options(tmp_path_factory.mktemp("speech"))


def training_part(speech):
    return open_speech(speech.directory / "train", speech.bins, len(speech.speeds), 4)


def log_of(directory):
    """The log without its last two columns, the speeds."""
    with (directory / "log.csv").open(newline="") as file:
        return [row[:-2] for row in csv.reader(file)]


# ------------------------------------------------------------------------------------- the loss


def spelled(path, blank):
    merged = [symbol for symbol, _ in itertools.groupby(path)]
    return [symbol for symbol in merged if symbol != blank]


def test_the_loss_is_minus_the_log_of_the_sum_over_all_paths(speech):
    learner = ctc_learner(TINY_CTC, read_symbols(speech.directory), speech.bins)
    torch.manual_seed(0)
    features, frames = torch.randn(2, 27, 80), torch.tensor([27, 19])
    targets, sizes = torch.tensor([[2, 2], [3, 0]]), torch.tensor([2, 1])
    network = learner.network.eval()
    with torch.no_grad():
        log_probs, lengths = network(features, frames)
    assert lengths.tolist() == [6, 4]
    expected = 0.0
    for rows, length, target, size in zip(log_probs, lengths, targets, sizes, strict=True):
        paths = itertools.product(range(4), repeat=int(length))
        values = [
            sum(float(rows[t, symbol]) for t, symbol in enumerate(path))
            for path in paths
            if spelled(path, 0) == target[:size].tolist()
        ]
        expected -= math.log(sum(map(math.exp, values)))
    with torch.no_grad():
        nats, read_out = CtcLoss(0)(network, features, frames, targets, sizes, torch.Generator())
    assert float(nats) == pytest.approx(expected, rel=1e-5)
    assert read_out == 10


def test_specaugment_hides_no_more_than_it_may():
    masks = SpecAugment(bands=2, band_width=27, stretches=3, share=0.1)
    features, frames = torch.ones(200, 100, 80), torch.full((200,), 100)
    frames[::2] = 50
    hidden = masks.hide(features, frames, torch.Generator().manual_seed(0)) == 0
    bands, stretches = hidden.all(1).sum(1), hidden.all(2).sum(1)
    assert bands.max() <= 54
    assert stretches[::2].max() <= 15
    assert stretches[1::2].max() <= 30
    assert not hidden.all(2)[::2, 50:].any()
    assert hidden.any(1)[:, 79].any()  # the last bin can be hidden, too
    assert hidden.any(1)[:, 0].any()
    assert bands.double().mean() == pytest.approx(2 * 13.5, rel=0.3)  # they may overlap
    is_cross = hidden.all(1)[:, None, :] | hidden.all(2)[:, :, None]
    assert torch.equal(hidden, is_cross)


def test_specaugment_of_nothing_hides_nothing():
    features = torch.ones(3, 40, 80)
    masks = SpecAugment(bands=0, stretches=0)
    hidden = masks.hide(features, torch.full((3,), 40), torch.Generator())
    assert torch.equal(hidden, features)


def test_the_same_generator_hides_the_same():
    masks, features = SpecAugment(), torch.ones(3, 200, 80)
    frames = torch.full((3,), 200)
    first, again, other = (
        masks.hide(features, frames, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --------------------------------------------------------------------------------- the features


def test_features_are_kept_at_every_speed(speech):
    corpus = training_part(speech)
    assert len(corpus) == len(TEXTS)
    for number, utterance in enumerate(read_utterances(speech.audio[0])):
        audio = read_audio(utterance, RATE)
        for version, speed in enumerate(speech.speeds):
            row = number * 3 + version
            stored = corpus.features[corpus.offsets[row] : corpus.offsets[row + 1]]
            expected = fbank(resample(audio, speed, 1.0))
            assert len(stored) == pytest.approx(len(audio) / RATE / speed * 100, abs=1)
            np.testing.assert_array_equal(stored, expected.astype(np.float16))


@pytest.mark.parametrize("calls", [1, 5, 20, 27])  # 8 x 3 versions of train, 4 of valid
def test_features_resume_to_the_same_bytes(calls, speech, tmp_path, monkeypatch):
    read, made = [], []

    def killed(*arguments):
        made.append(1)
        if len(made) == calls:
            raise Killed
        return fbank(*arguments)

    def counted(utterance, rate):
        read.append(utterance.id)
        return read_audio(utterance, rate)

    options = replace(speech, directory=tmp_path / "corpus")
    monkeypatch.setattr(speech_corpus, "fbank", killed)
    with pytest.raises(Killed):
        prepare_speech(options)
    for path in options.directory.glob("*/f*.bin"):
        with path.open("ab") as file:
            file.write(b"half a row")  # what a write that was cut off leaves
    monkeypatch.setattr(speech_corpus, "fbank", fbank)
    monkeypatch.setattr(speech_corpus, "read_audio", counted)
    prepare_speech(options)
    assert len(read) == 12 - ((calls - 1) // 3 if calls <= 24 else 8 + calls - 25)
    assert bytes_of(options.directory) == {
        **bytes_of(speech.directory),
        Path("ready.json"): (options.directory / "ready.json").read_bytes(),
    }


def bytes_of(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_features_of_other_audio_are_made_anew(speech, tmp_path, monkeypatch):
    """What was started with one manifest is not part of the next."""
    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 10:
            raise Killed
        return fbank(*arguments)

    monkeypatch.setattr(speech_corpus, "fbank", killed)
    with pytest.raises(Killed):
        prepare_speech(replace(speech, directory=tmp_path / "corpus", speeds=(0.9, 1.0, 1.1)))
    monkeypatch.undo()
    prepare_speech(replace(speech, directory=tmp_path / "corpus"))
    parts = [
        folder / "train" / "features.bin" for folder in (speech.directory, tmp_path / "corpus")
    ]
    assert parts[0].read_bytes() == parts[1].read_bytes()


def test_an_epoch_has_every_utterance_once_at_a_random_speed(speech):
    examples = SpeechBatches(training_part(speech), 300)
    speeds = set()
    for seed in range(10):
        epoch = examples.epoch(seed)
        rows = np.concatenate(epoch)
        assert sorted(rows // 3) == list(range(len(TEXTS)))
        speeds |= set(rows % 3)
        for batch in map(examples.batch, epoch):
            features, frames, targets, sizes = batch.inputs
            assert features.shape[0] == 1 or features.shape[0] * features.shape[1] <= 300
            assert batch.scored == sizes.sum()
            for row, length in zip(features, frames, strict=True):
                assert row[:length].abs().sum(1).min() > 0
                assert not row[length:].any()
            assert targets.shape[1] == sizes.max()
    assert speeds == {0, 1, 2}
    first, again = examples.epoch(3), examples.epoch(3)
    assert all(map(np.array_equal, first, again))


def test_a_batch_has_the_symbols_of_its_texts(speech):
    examples, symbols = SpeechBatches(training_part(speech), 300), read_symbols(speech.directory)
    _, _, targets, sizes = examples.batch(np.array([4 * 3, 0])).inputs
    texts = [symbols.decode(row[:size]) for row, size in zip(targets, sizes, strict=True)]
    assert texts == [TEXTS[4], TEXTS[0]]


def test_a_speed_too_fast_for_the_text_is_not_drawn(tmp_path):
    text = "abababab"
    path = manifest(tmp_path, texts=[text])
    (tmp_path / "train" / "0.wav").unlink()
    frames = 4 * len(text) + 4  # 8 frames at speed 1, 7 at 1.1
    soundfile.write(tmp_path / "train" / "0.wav", spoken(text)[: frames * 160], RATE)
    speech = SpeechOptions((path,), (path,), tmp_path / "corpus", speeds=(1.0, 1.1))
    prepare_speech(speech)
    examples = SpeechBatches(training_part(speech), 300)
    assert {int(examples.epoch(seed)[0][0]) for seed in range(20)} == {0}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "ab" * 40,
            "train.tsv:2: utterance y: '(ab)+' needs 80 frames of 40 ms, its audio has 10; cor",
        ),
        ("", "train.tsv:2: utterance y: has an empty text"),
        ("...", "train.tsv:2: utterance y: has an empty text"),
        (None, "train.tsv:2: utterance y: has no text"),
    ],
)
def test_a_text_that_cannot_be_learned_is_one_line(tmp_path, text, complaint):
    path = manifest(tmp_path, texts=["a"])
    second = f"y\t{tmp_path}/train/0.wav" + ("" if text is None else f"\t{text}")
    path.write_text(path.read_text() + second + "\n")
    with pytest.raises(TrainError, match=complaint) as caught:
        prepare_speech(SpeechOptions((path,), (path,), tmp_path / "corpus"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus" / "ready.json").exists()


def test_validation_speech_with_the_texts_of_the_training_is_a_warning(tmp_path, caplog):
    train = manifest(tmp_path, texts=["a b a b a"])
    for valid, count in ((train, 1), (manifest(tmp_path, "valid", ["b a b a b"]), 0)):
        caplog.clear()
        prepare_speech(SpeechOptions((train,), (valid,), tmp_path / f"corpus{count}"))
        lines = [record.message for record in caplog.records]
        assert [line.split(" different")[0] for line in lines] == ["1 of 1"] * count
        assert all("the loss and the error rate will look better" in line for line in lines)


def test_an_hour_of_audio_is_refused_in_one_line(tmp_path):
    path = manifest(tmp_path, texts=["a"])
    with soundfile.SoundFile(tmp_path / "train" / "0.wav", "w", 8000, 1) as file:
        for _ in range(60):
            file.write(np.ones(480_000) / 2)
    complaint = "utterance train-0: lasts 3600 s, expected at most 120 s; cut it into utterances"
    with pytest.raises(TrainError, match=complaint):
        prepare_speech(SpeechOptions((path,), (path,), tmp_path / "corpus"))


def test_a_character_of_the_validation_texts_alone_is_one_line(tmp_path):
    train, valid = manifest(tmp_path, texts=["a"]), manifest(tmp_path, "valid", ["a b"])
    with pytest.raises(ScoreError, match=r"valid.tsv:1: utterance valid-0: .* no symbol ' ?b?'"):
        prepare_speech(SpeechOptions((train,), (valid,), tmp_path / "corpus"))


def test_a_folder_prepared_with_other_settings_is_refused(speech):
    before = (speech.directory / "ready.json").read_bytes()
    prepare_speech(speech)  # the same: nothing is done
    with pytest.raises(TrainError, match=r"other speech or settings \(speeds\)"):
        prepare_speech(replace(speech, speeds=(1.0,)))
    assert (speech.directory / "ready.json").read_bytes() == before


@pytest.mark.parametrize("name", ["features.bin", "offsets.npy", "targets.npy"])
def test_damaged_features_are_one_line(speech, tmp_path, name):
    for path in (speech.directory / "train").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) - 160])
    with pytest.raises(TrainError, match="delete the corpus folder to prepare it again"):
        open_speech(tmp_path, speech.bins, 3, 4)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("targets.npy", lambda whole: whole + 4),
        ("targets.npy", lambda whole: whole.astype(np.float64)),
        ("targets.npy", lambda whole: -1 - whole),
        ("target_offsets.npy", lambda whole: np.concatenate([[0], whole[:0:-1][1:], whole[-1:]])),
        ("offsets.npy", lambda whole: whole[None]),
    ],
)
def test_features_and_targets_that_cannot_be_are_one_line(speech, tmp_path, name, values):
    for path in (speech.directory / "train").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / name, values(np.load(tmp_path / name)))
    with pytest.raises(TrainError, match="delete the corpus folder to prepare it again"):
        open_speech(tmp_path, speech.bins, 3, 4)


# ------------------------------------------------------------------------------------- the runs


@pytest.mark.parametrize("name", ["features.bin", "offsets.npy", "target_offsets.npy"])
def test_a_pipe_in_a_corpus_is_refused_and_not_waited_for(speech, tmp_path, name):
    for path in (speech.directory / "train").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(TrainError, match="is a named pipe"):
        open_speech(tmp_path, speech.bins, 3, 4)


def test_a_recogniser_learns_tones(tmp_path):
    """Word errors fall to none on other recordings of the same words."""
    speech = speech_options(tmp_path, repeat=2, speeds=(1.0,))
    options = replace(
        TINY_CTC,
        steps=120,
        width=32,
        feed_forward=64,
        optimizer="muon",
        learning_rate=1e-2,
        batch_seconds=8.0,
        evaluate_every=40,
        save_every=120,
        average=0.9,
        time_masks=0,
    )
    recogniser = train_ctc(speech, tmp_path / "run", options, {"speech": "tones"})
    training = recogniser.card["training"]
    assert training["valid_wer"] == 0
    assert training["valid_nats_per_token"] < 0.1
    loaded = load_recogniser(tmp_path / "run")
    assert loaded.card["speech"] == "tones"
    [rows] = loaded.log_probs([spoken("abba b", 99)])
    path = [symbol for symbol, _ in itertools.groupby(rows.argmax(1).tolist()) if symbol]
    assert loaded.symbols.decode(path) == "abba b"


@pytest.fixture(scope="module")
def uninterrupted(speech, tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    train_ctc(speech, directory, TINY_CTC, {})
    return directory


@pytest.mark.parametrize(
    ("owner", "method", "call"), [(Learner, "update", 2), (Learner, "update", 7), (Run, "_save", 2)]
)
def test_a_killed_and_resumed_run_ends_with_the_same_bits_and_log(
    owner, method, call, speech, uninterrupted, tmp_path, monkeypatch
):
    calls, whole = [], getattr(owner, method)

    def killed(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(owner, method, killed)
    with pytest.raises(Killed):
        train_ctc(speech, tmp_path, TINY_CTC, {})
    monkeypatch.undo()
    assert not (tmp_path / "config.json").exists()
    train_ctc(speech, tmp_path, TINY_CTC, {})
    for name in ("model.safetensors", "config.json", "symbols.json"):
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert [row[0] for row in log_of(tmp_path)] == ["step", "4", "8", "12"]


def test_other_options_for_the_same_directory_are_refused(speech, uninterrupted):
    with pytest.raises(TrainError, match=r"started with other options \(time_masks\)"):
        train_ctc(speech, uninterrupted, replace(TINY_CTC, time_masks=1), {})


def test_validation_sees_every_utterance_at_its_own_speed(speech):
    symbols = read_symbols(speech.directory)
    validator = SpeechValidator(open_speech(speech.directory / "valid", speech.bins, 1, 4), symbols)
    learner = ctc_learner(TINY_CTC, symbols, speech.bins)
    first, again = validator.whole(learner), validator.quick(learner)
    assert first == again
    assert first.tokens == sum(map(len, TEXTS[:4]))
    assert first.errors.reference_words == sum(len(text.split()) for text in TEXTS[:4])


def test_dropout_resumes_to_the_same_bits(speech, tmp_path):
    options = replace(TINY_CTC, dropout=0.3)
    train_ctc(speech, tmp_path / "whole", options, {})
    with killed_after_saving():
        train_ctc(speech, tmp_path / "parts", options, {})
    torch.manual_seed(99)  # a new process
    train_ctc(speech, tmp_path / "parts", options, {})
    names = [tmp_path / run / "model.safetensors" for run in ("whole", "parts")]
    assert names[0].read_bytes() == names[1].read_bytes()
    train_ctc(speech, tmp_path / "none", TINY_CTC, {})
    assert names[0].read_bytes() != (tmp_path / "none" / "model.safetensors").read_bytes()


def test_a_start_gives_body_and_the_rows_of_symbols_that_both_have(speech, uninterrupted, tmp_path):
    start = load_recogniser(uninterrupted)
    other = manifest(tmp_path, texts=["ab"])
    corpus = SpeechOptions((other,), (other,), tmp_path / "corpus")
    prepare_speech(corpus)
    symbols = read_symbols(corpus.directory)
    assert symbols.pieces == ("<blank>", " ", "a", "b")
    renamed = replace(symbols, pieces=("<blank>", " ", "b", "c"))
    network = ctc_learner(TINY_CTC, renamed, 80).network
    fresh = network.state_dict()["head.weight"].clone()
    copy_recogniser(network, renamed, uninterrupted)
    copied, old = network.state_dict(), start.network.state_dict()
    for name, weight in old.items():
        if not name.startswith("head."):
            assert torch.equal(copied[name], weight), name
    assert torch.equal(copied["head.weight"][:3], old["head.weight"][[0, 1, 3]])
    assert torch.equal(copied["head.weight"][3], fresh[3])
    with pytest.raises(ModelError, match="its width is 16, expected 32; start from a recogniser"):
        ctc_learner(replace(TINY_CTC, width=32, start_from=str(uninterrupted)), symbols, 80)


def test_pieces_are_learned_too(tmp_path):
    path = manifest(tmp_path, texts=["ab ab", "ba ba", "ab ba"])
    speech = SpeechOptions((path,), (path,), tmp_path / "corpus", vocab_size=9, speeds=(1.0,))
    prepare_speech(speech)
    recogniser = train_ctc(speech, tmp_path / "run", replace(TINY_CTC, steps=2), {})
    assert recogniser.symbols.word_rule == "mark"
    assert (
        load_recogniser(tmp_path / "run").symbols.decode(recogniser.symbols.encode("ab ba"))
        == "ab ba"
    )


def test_bfloat16_learns_too(speech, tmp_path):
    recogniser = train_ctc(speech, tmp_path, replace(TINY_CTC, bf16=True, steps=4), {})
    assert math.isfinite(recogniser.card["training"]["valid_nats_per_token"])


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = manifest(tmp_path, texts=["a"])
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(TrainError, match=r"corpus: cannot be written \(No space left on device\)"):
        prepare_speech(SpeechOptions((path,), (path,), tmp_path / "corpus"))


def test_a_language_models_vocabulary_gives_the_symbols(tmp_path):
    (tmp_path / "lm.model").write_bytes(small_tokenizer().serialized)
    path = manifest(tmp_path, texts=["a b"])
    prepare_speech(SpeechOptions((path,), (path,), tmp_path / "c", tokenizer=tmp_path / "lm.model"))
    assert len(read_symbols(tmp_path / "c")) == small_tokenizer().size


def test_a_folder_that_holds_a_model_is_not_written_over(speech, uninterrupted, tmp_path):
    (tmp_path / "config.json").write_bytes((uninterrupted / "config.json").read_bytes())
    with pytest.raises(TrainError, match="holds a model but no run to continue"):
        train_ctc(speech, tmp_path, TINY_CTC, {})


# ------------------------------------------------------------------------------ the command line

SIZES = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24", "--kernel=3"]


def run(*arguments):
    return CliRunner().invoke(ctc_command, [str(argument) for argument in arguments])


def test_the_command_trains_and_fine_tunes(tmp_path):
    train = manifest(tmp_path)
    shared = [
        "--audio",
        train,
        "--valid",
        train,
        "--steps",
        2,
        "--speeds",
        "1",
        "--batch-seconds=3",
    ]
    first = run(*shared, *SIZES, "-o", tmp_path / "run", "--card", '{"speech": "tones"}')
    assert first.exit_code == 0, first.output
    assert "nats a symbol, WER " in first.stderr
    use = (
        f"use it: dlmrescore posteriors AUDIO --model {tmp_path / 'run'} -o posteriors.safetensors"
    )
    assert first.stderr.splitlines()[-1].startswith(use)
    card = load_recogniser(tmp_path / "run").card
    assert card["speech"] == "tones"
    assert card["training"]["steps"] == 2
    tuned = run(*shared, "--start-from", tmp_path / "run", "-o", tmp_path / "tuned")
    assert tuned.exit_code == 0, tuned.output
    config = load_recogniser(tmp_path / "tuned").network.config
    assert asdict(config) == asdict(load_recogniser(tmp_path / "run").network.config)


def test_a_device_that_torch_lacks_is_refused_before_the_work(tmp_path):
    train = manifest(tmp_path, texts=["a"])
    done = run("--audio", train, "--valid", train, "-o", tmp_path / "run", "--device", "gpu")
    assert str(done.exception).startswith("device 'gpu' cannot be used (")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--speeds", "1,1"], "expected different factors"),
        (["--speeds", "0"], "expected different factors from 0.25 to 4"),
        (["--speeds", "fast"], "expected factors such as 1,0.9,1.1"),
        (["--vocab-size", "20", "--tokenizer", __file__], "exclude each other"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, arguments, complaint):
    train = manifest(tmp_path, texts=["a"])
    done = run("--audio", train, "--valid", train, "-o", tmp_path / "run", *arguments)
    assert done.exit_code == 2
    assert complaint in done.output
