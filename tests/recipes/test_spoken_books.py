"""recipes/spoken_books: the manifest, the noise, and the audio where flite is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from add_noise import main as add_noise
from audio_folder import digest, ensure, load
from click.testing import CliRunner
from make_audio import main as make_audio
from make_manifest import Overlap, common_words, held_out, is_speakable, make, runs
from manifest import Utterance, read, write
from noise import COLOURS, NoiseOptions, at_snr, babble, coloured, corrupt, reverb
from speakers import HELD_OUT_VOICE, RATE, VOICES

from rescore.acoustic.audio import read_audio
from rescore.acoustic.manifests import read_utterances
from rescore.cli import cli
from rescore.errors import FormatError, RescoreError

MANIFEST = Path(__file__).parents[2] / "recipes" / "spoken_books" / "manifest"
PARTS = ("train.tsv.gz", "dev.tsv", "test.tsv")
WORDS = [f"w{i}o" for i in range(40)]


def speech_like(seed=0, seconds=1.5):
    rng = np.random.default_rng(seed)
    return 0.06 * rng.standard_normal(round(seconds * RATE))


def talker(number):
    return speech_like(number % 7, 0.3 + 0.1 * (number % 7))


def power(signal):
    return float(np.mean(signal**2))


# -------------------------------------------------------------------------------- the manifest


@pytest.fixture(scope="module")
def parts():
    return {name.partition(".")[0]: read(MANIFEST / name) for name in PARTS}


def test_the_manifest_has_the_parts_it_promises(parts):
    assert {part: len(utterances) for part, utterances in parts.items()} == {
        "train": 17_000,
        "dev": 300,
        "test": 300,
    }


def test_no_sentence_or_run_of_seven_words_of_dev_and_test_is_elsewhere(parts):
    for part, others in (("dev", ("train", "test")), ("test", ("train", "dev"))):
        index = Overlap()
        for utterance in parts[part]:
            index.add(utterance.text.split())
        for other in others:
            for utterance in parts[other]:
                assert index.meets(utterance.text.split()) == set(), utterance.id


def test_no_sentence_comes_twice_and_no_id(parts):
    utterances = [utterance for part in parts.values() for utterance in part]
    assert len({utterance.text for utterance in utterances}) == len(utterances)
    assert len({utterance.id for utterance in utterances}) == len(utterances)


def test_every_part_has_every_voice_but_the_one_held_out(parts):
    for utterances in parts.values():
        assert {utterance.voice for utterance in utterances} == set(VOICES)
    assert HELD_OUT_VOICE not in VOICES


def test_a_manifest_written_is_the_manifest_read(tmp_path, parts):
    write(tmp_path / "again.tsv.gz", parts["dev"])
    assert read(tmp_path / "again.tsv.gz") == parts["dev"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id\ttext"], "expected the header"),
        (["{header}", "a\tflite/rms\tfast\t1\t7\tgo on"], ":2: expected id voice pace"),
        (["{header}", *["a\tflite/rms\t1\t1\t7\tgo on"] * 2], ":3: the id a is there twice"),
    ],
)
def test_a_broken_manifest_is_one_line_with_its_number(tmp_path, lines, message):
    path = tmp_path / "broken.tsv"
    header = "id\tvoice\tpace\twarp\tseed\ttext"
    path.write_text("".join(line.format(header=header) + "\n" for line in lines))
    with pytest.raises(FormatError, match=message):
        read(path)


# ------------------------------------------------------------------------------ the sentences


def test_runs_are_all_windows_of_seven_words_or_the_whole_sentence():
    assert list(runs(WORDS[:6])) == [WORDS[:6]]
    assert list(runs(WORDS[:9])) == [WORDS[:7], WORDS[1:8], WORDS[2:9]]


@pytest.mark.parametrize("length", [5, 6, 7, 8, 12])
def test_an_overlap_is_noticed_at_any_place_and_six_of_seven_words_are_none(length):
    index = Overlap()
    index.add(WORDS[:length])
    run = WORDS[length - 7 : length] if length > 7 else WORDS[:length]
    assert index.meets(["x", "y", *run, "z"]) == {" ".join(run)}
    assert index.meets(run) == {" ".join(run)}
    assert index.meets(["x", *run[:-1]]) == set()
    assert index.meets(["x", *run[:-1], "other"]) == set()


def test_runs_with_the_same_five_words_are_kept_apart():
    index = Overlap()
    index.add([*WORDS[:5], "left"])
    index.add([*WORDS[:5], "right", "away"])
    assert index.meets([*WORDS[:5], "right", "away", "now"]) == {
        " ".join([*WORDS[:5], "right", "away"])
    }


def test_held_out_sentences_meet_neither_the_training_text_nor_each_other():
    shared = WORDS[:7]
    candidates = [
        [*shared, "one"],  # in the training text
        [*WORDS[10:17], "two"],
        ["three", *WORDS[10:17]],  # shares seven words with the one before
        WORDS[20:26],
    ]
    dev, test = held_out(candidates, [["and", *shared, "then"]], 1)
    assert dev == [candidates[1]]
    assert test == [candidates[3]]
    with pytest.raises(RescoreError, match="only 2 held-out sentences"):
        held_out(candidates, [shared], 2)


@pytest.mark.parametrize(
    ("sentence", "speakable"),
    [
        ("he went to the house", True),
        ("mr brown went to the house", True),
        ("he went to the b house", False),  # a letter
        ("in chapter xiv of the book", False),  # a Roman numeral
        ("he said hm to the house", False),  # spelled
        ("he went home", False),  # short
        ("arma virumque cano troiae qui", False),  # Latin
        (" ".join(["the"] * 26), False),  # long
    ],
)
def test_only_running_english_is_spoken(sentence, speakable):
    common = frozenset(["he", "went", "to", "the", "house", "said", "in", "of"])
    assert is_speakable(sentence.split(), common) is speakable


def test_common_words_are_the_most_frequent_ones_and_ties_go_to_the_alphabet(monkeypatch):
    monkeypatch.setattr("make_manifest.COMMON", 2)
    assert common_words([["b", "c", "a"], ["c", "d"]]) == {"a", "c"}


def test_equal_seeds_make_equal_manifests(tmp_path):
    books, held = tmp_path / "books.txt", tmp_path / "held.txt"
    nouns = ["house", "river", "garden", "window", "letter", "morning", "captain", "sister"]

    def lines(of):
        rng = np.random.default_rng(of)
        return [" ".join(rng.choice(nouns, 9).tolist()) for _ in range(300)]

    books.write_text("\n".join(lines(1)) + "\n")
    held.write_text("\n".join(lines(2)) + "\n")

    def made(seed):
        return make([books], held, [], train_count=40, held_out_count=20, seed=seed)

    first = made(3)
    assert first == made(3)
    assert first != made(4)
    assert [len(first[part]) for part in ("train", "dev", "test")] == [40, 20, 20]
    assert {utterance.text for utterance in first["train"]} <= set(lines(1))
    assert {utterance.text for utterance in first["dev"] + first["test"]} <= set(lines(2))


# ---------------------------------------------------------------------------------- the noise


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 40.0])
def test_the_signal_to_noise_ratio_is_exact(snr_db):
    noise = at_snr(np.random.default_rng(1).standard_normal(5000), 0.0036, snr_db)
    assert 10 * np.log10(0.0036 / power(noise)) == pytest.approx(snr_db, abs=1e-10)


@pytest.mark.parametrize("kind", ["white", "babble"])
def test_the_ratio_of_a_corrupted_utterance_is_the_one_drawn(kind):
    speech = speech_like()
    options = NoiseOptions((7.0, 7.0), (kind,), room=0.0)
    loud = corrupt(speech, 5, options, talker)
    silent = corrupt(speech, 5, replace(options, snr_db=(300.0, 300.0)), talker)
    edge = int(np.flatnonzero(np.abs(silent) > 1e-9)[0])
    gain = silent[edge : edge + len(speech)] @ speech / (speech @ speech)
    noise = loud - silent
    assert 10 * np.log10(power(gain * speech) / power(noise)) == pytest.approx(7.0, abs=1e-6)


def test_another_range_of_ratios_leaves_the_noise_and_changes_its_level():
    speech = speech_like()
    clean = corrupt(speech, 9, NoiseOptions((300.0, 300.0)), talker)
    noises = [
        corrupt(speech, 9, NoiseOptions((ratio, ratio)), talker) - clean for ratio in (6.0, 26.0)
    ]
    np.testing.assert_allclose(noises[0], 10 * noises[1], atol=1e-9)


def test_the_seed_decides_everything():
    speech, options = speech_like(), NoiseOptions()
    first = corrupt(speech, 1, options, talker)
    np.testing.assert_array_equal(first, corrupt(speech, 1, options, talker))
    assert len(first) != len(corrupt(speech, 2, options, talker))


@pytest.mark.parametrize(("colour", "exponent"), COLOURS.items())
def test_the_power_of_coloured_noise_falls_as_its_exponent_says(colour, exponent):
    noise = coloured(2**18, exponent, np.random.default_rng(3))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    low, high = ((frequency > at / 1.1) & (frequency < at * 1.1) for at in (200, 3200))
    slope = np.log(spectrum[low].mean() / spectrum[high].mean()) / np.log(3200 / 200)
    # The mean of n exponential variables has a relative standard deviation of 1 / sqrt(n).
    assert slope == pytest.approx(exponent, abs=5 * (1 / low.sum()) ** 0.5 / np.log(16))
    assert spectrum[frequency < 20].max() < 1e-12 * spectrum.max(), colour


def test_babble_has_as_many_samples_as_asked_for_and_no_silent_talker():
    for length in (100, 50_000):
        noise = babble(length, talker, np.random.default_rng(0))
        assert len(noise) == length
        assert power(noise) > 1


def test_a_room_keeps_length_and_direct_sound_and_adds_the_tail_it_says():
    click = np.zeros(RATE)
    click[100] = 1.0
    heard = reverb(click, np.random.default_rng(2))
    assert len(heard) == len(click)
    assert heard[100] == pytest.approx(1.0)
    assert np.abs(heard[:100]).max() < 1e-12
    ratio = 10 * np.log10(1 / np.sum(heard[101:] ** 2))
    assert 3.0 <= ratio <= 12.0


def test_nothing_clips():
    loud = 20 * speech_like()
    for seed in range(20):
        assert np.abs(corrupt(loud, seed, NoiseOptions(), talker)).max() <= 0.98 + 1e-12


# ---------------------------------------------------------------------------------- the audio


def utterance(name="train-00001", text="go on"):
    return Utterance(name, "flite/rms", 1.0, 1.0, 7, text)


def test_a_file_is_kept_iff_it_is_whole_and_was_made_in_the_same_way(tmp_path):
    made = []

    def samples():
        made.append(1)
        return speech_like(len(made))

    first = ensure(tmp_path, utterance(), "one way", samples)
    assert ensure(tmp_path, utterance(), "one way", samples) == first
    assert len(made) == 1
    second = ensure(tmp_path, utterance(), "another way", samples)
    assert second.sha256 != first.sha256
    data = second.path.read_bytes()
    second.path.write_bytes(data[: len(data) // 2])
    ensure(tmp_path, utterance(), "another way", samples)
    assert len(made) == 3


def test_a_file_holds_the_samples_to_half_a_step_of_sixteen_bits(tmp_path):
    speech = speech_like()
    piece = ensure(tmp_path, utterance(), "so", lambda: speech)
    assert np.abs(load(piece.path) - speech).max() <= 2**-16
    assert piece.seconds == len(speech) / RATE


def test_noise_without_clean_speech_says_which_command_is_missing(tmp_path):
    (tmp_path / "clean").mkdir()
    options = ["--clean", str(tmp_path / "clean"), "-o", str(tmp_path / "noisy"), "--jobs", "1"]
    result = CliRunner().invoke(add_noise, [str(MANIFEST / "dev.tsv"), *options])
    assert result.exit_code == 1
    assert result.output.strip().endswith("run make_audio.py on this manifest first")


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")
def test_from_manifest_to_audio_that_the_command_line_reads(tmp_path):
    words = ["she had said nothing of it", "the captain went to the house", "he told me the truth"]
    voices = ["flite/slt", "flite/kal16", "flite/rms"]
    utterances = [
        Utterance(f"train-{i + 1:05d}", voices[i], 1.1, 0.95, 11 + i, words[i]) for i in range(3)
    ]
    write(tmp_path / "train.tsv", utterances)

    def made(folder, jobs):
        run = CliRunner()
        clean = ["-o", str(folder / "clean" / "train"), "--jobs", jobs]
        noisy = ["--clean", str(folder / "clean" / "train"), "-o", str(folder / "noisy" / "train")]
        kinds = ["--noise", "white", "--noise", "pink", "--jobs", jobs]
        results = [
            run.invoke(make_audio, [str(tmp_path / "train.tsv"), *clean]),
            run.invoke(add_noise, [str(tmp_path / "train.tsv"), *noisy, *kinds]),
        ]
        assert [result.exit_code for result in results] == [0, 0], results
        return [result.output.split("digest ")[1] for result in results]

    assert made(tmp_path / "a", "1") == made(tmp_path / "b", "2")  # the same samples again
    read_back = list(read_utterances(tmp_path / "a" / "noisy" / "train.tsv"))
    assert [(one.id, one.text) for one in read_back] == [(one.id, one.text) for one in utterances]
    for one, text in zip(read_back, words, strict=True):
        samples = read_audio(one, RATE)
        assert 0.15 < len(samples) / RATE / len(text.split()) < 0.8  # seconds a word


def test_every_command_of_the_script_has_the_options_it_is_given(tmp_path, monkeypatch):
    recorder = tmp_path / "record"
    recorder.write_text(
        '#!/bin/sh\nprintf "%s\\t" "$(basename "$0")" "$@" >> "$EXP/commands"\n'
        'echo >> "$EXP/commands"\n'
    )
    recorder.chmod(0o755)
    for name in ("python", "dlmrescore"):
        (tmp_path / name).symlink_to(recorder)
    for folder in ("clean/train", "clean/dev", "clean/test", "clean/test_ked", "data", "greedy"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("data/dev.tsv", "data/test.tsv", "data/train.tsv", "books.txt"):
        (tmp_path / name).write_text("id\tpath\ttext\n")
    script = MANIFEST.parent / "run.sh"
    stages = "speech noise train ngram posteriors decode held_out_voice"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"EXP": tmp_path, "TEXT": tmp_path / "books.txt", "STAGES": stages}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("VALID", str(tmp_path / "books.txt"))
    monkeypatch.setenv("ENGINE", "espeak")
    subprocess.run([shutil.which("bash"), str(script)], check=True)
    lines = (tmp_path / "commands").read_text().splitlines()
    scripts = {"make_audio.py": make_audio, "add_noise.py": add_noise}
    for program, *arguments in (line.rstrip("\t").split("\t") for line in lines):
        if program == "python":
            command, rest = scripts[Path(arguments[0]).name], arguments[1:]
        else:
            command, rest = cli, arguments
            while isinstance(command, click.Group):
                command, rest = command.get_command(None, rest[0]), rest[1:]
        command.make_context("command", [*rest])  # raises for an unknown option
    assert len(lines) == 3 + 3 + 1 + 1 + 2 + 6 + 5


def test_the_digest_depends_on_samples_and_order(tmp_path):
    one = ensure(tmp_path, utterance("a"), "so", lambda: speech_like(1))
    two = ensure(tmp_path, utterance("b"), "so", lambda: speech_like(2))
    assert len({digest([one, two]), digest([two, one]), digest([one])}) == 3
