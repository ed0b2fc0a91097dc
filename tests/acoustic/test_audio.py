import re
import shutil

import numpy as np
import pytest
import soundfile
import soxr

from rescore.acoustic.audio import audio_blocks, read_audio, resample, seconds_of
from rescore.acoustic.utterance import Utterance
from rescore.errors import AudioError

RATE = 16_000
SUBTYPES = {"wav": 2**-15, "flac": 2**-15}


def noise(count, channels=None, seed=0):
    shape = count if channels is None else (count, channels)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def at(path, **fields):
    return Utterance("u1", path, where="dev.tsv:3", **fields)


@pytest.mark.parametrize("suffix", SUBTYPES)
def test_samples_are_those_that_were_written(tmp_path, suffix):
    x = noise(20_000)
    soundfile.write(tmp_path / f"a.{suffix}", x, RATE)
    np.testing.assert_allclose(
        read_audio(at(tmp_path / f"a.{suffix}"), RATE), x, atol=SUBTYPES[suffix]
    )


def test_an_ogg_file_sounds_alike(tmp_path):
    time = np.arange(RATE) / RATE
    x = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    soundfile.write(tmp_path / "a.ogg", x, RATE)
    y = read_audio(at(tmp_path / "a.ogg"), RATE)
    assert np.corrcoef(x, y[: len(x)])[0, 1] > 0.999


def test_a_stretch_is_that_of_the_whole(tmp_path):
    x = noise(20_000)
    soundfile.write(tmp_path / "a.flac", x, RATE)
    whole = read_audio(at(tmp_path / "a.flac"), RATE)
    part = read_audio(at(tmp_path / "a.flac", start=0.25, duration=0.5), RATE)
    np.testing.assert_array_equal(part, whole[4000:12_000])
    assert seconds_of(at(tmp_path / "a.flac", start=0.25)) == 1.0
    assert seconds_of(at(tmp_path / "a.flac", start=0.25, duration=0.5)) == 0.5


def test_the_chosen_channel_is_read(tmp_path):
    x = noise(5000, channels=2)
    soundfile.write(tmp_path / "a.wav", x, RATE)
    for channel in (0, 1):
        y = read_audio(at(tmp_path / "a.wav", channel=channel), RATE)
        np.testing.assert_allclose(y, x[:, channel], atol=2**-15)


@pytest.mark.parametrize("source", [8000, 22_050, 44_100])
def test_resampling_block_by_block_is_resampling_at_once(tmp_path, source):
    soundfile.write(tmp_path / "a.wav", noise(3 * source), source, subtype="FLOAT")
    blocks = list(audio_blocks(at(tmp_path / "a.wav"), RATE, seconds=0.3))
    assert len(blocks) > 5
    whole = soxr.resample(noise(3 * source), source, RATE)
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    np.testing.assert_array_equal(resample(noise(3 * source), source, RATE), whole)


def test_a_tone_keeps_its_frequency_at_another_rate(tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", tone, 44_100)
    y = read_audio(at(tmp_path / "a.wav"), RATE)
    assert abs(len(y) - RATE) <= 1
    assert np.abs(np.fft.rfft(y[:RATE])).argmax() == 1000


def test_an_hour_is_read_in_blocks(tmp_path):
    """60 minutes at 8 kHz: no block is longer than asked, and nothing is lost."""
    with soundfile.SoundFile(tmp_path / "hour.flac", "w", 8000, 1) as file:
        for minute in range(60):
            file.write(noise(480_000, seed=minute) * (minute + 1) / 60)
    sizes = [len(block) for block in audio_blocks(at(tmp_path / "hour.flac"), 8000, seconds=60)]
    assert sizes == [480_000] * 60
    assert seconds_of(at(tmp_path / "hour.flac")) == 3600


def broken(folder, kind):
    path = folder / f"{kind}.wav"
    if kind == "missing":
        return path
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("a b c")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "silence":
        soundfile.write(path, np.zeros(100), RATE)
    elif kind == "constant":
        soundfile.write(path, np.full(100, 0.25), RATE)
    elif kind == "huge":
        soundfile.write(path, noise(100) * np.float32(1e30), RATE, subtype="FLOAT")
    elif kind == "stereo":
        soundfile.write(path, noise(100, channels=2), RATE)
    elif kind == "nan":
        soundfile.write(path, np.full(10, np.nan), RATE, subtype="FLOAT")
    elif kind == "cut wav":
        soundfile.write(path, noise(RATE), RATE)
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "cut flac":
        path = path.with_suffix(".flac")
        soundfile.write(path, noise(RATE), RATE)
        path.write_bytes(path.read_bytes()[:20_000])
    return path


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "no such file; check the path"),
        ("empty", r"cannot be read \(Format not recognised\)"),
        ("text", r"cannot be read \(Format not recognised\)"),
        ("no samples", "no audio, 0 samples"),
        ("silence", "silence, every sample is 0"),
        ("constant", r"silence, every sample is 0\.25"),
        ("huge", r"holds samples of [\d.]+e\+29, expected -1 to 1"),
        ("stereo", "2 channels, expected one"),
        ("nan", "samples that are not numbers"),
        ("cut wav", "cut off, 19956 bytes of 32000"),
        ("cut flac", "cut off"),
    ],
)
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_what_cannot_be_heard_is_one_line_that_names_it(tmp_path, kind, complaint, rate):
    path = broken(tmp_path, kind)
    with pytest.raises(AudioError, match=complaint) as caught:
        read_audio(at(path), rate)
    assert str(caught.value).startswith(f"dev.tsv:3: utterance u1: {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"start": 2.0}, "ends at 2.00 s, the file at 1.00 s"),
        ({"start": 0.5, "duration": 0.6}, "ends at 1.10 s, the file at 1.00 s"),
        ({"channel": 1}, "channel 1 of 1, counted from 0"),
    ],
)
def test_a_stretch_that_the_file_lacks_is_an_error(tmp_path, fields, complaint):
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    with pytest.raises(AudioError, match=complaint):
        read_audio(at(tmp_path / "a.wav", **fields), RATE)


def test_a_time_that_a_manifest_rounded_is_no_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(RATE - 50), RATE)
    assert len(read_audio(at(tmp_path / "a.wav", duration=1.0), RATE)) == RATE - 50


def test_a_wav_written_into_a_pipe_is_read_to_its_end(tmp_path):
    """Its header cannot know the size; that is not a file cut off."""
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    header = re.sub(rb"data....", b"data\xff\xff\xff\xff", data[:60], flags=re.DOTALL)
    (tmp_path / "b.wav").write_bytes(header + data[60:])
    assert len(read_audio(at(tmp_path / "b.wav"), RATE)) == RATE


def test_a_name_with_spaces_and_letters_of_all_kinds_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(100), RATE)
    shutil.move(tmp_path / "a.wav", tmp_path / "ein größeres 録音.wav")
    assert len(read_audio(at(tmp_path / "ein größeres 録音.wav"), RATE)) == 100
