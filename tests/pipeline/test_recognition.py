"""Audio to a file of posteriors: whole, killed and resumed, sharded, and with audio that is bad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_encoder import SmallEncoder, soundfile, write_audio

import rescore
from rescore.acoustic.audio import read_audio
from rescore.acoustic.formats.posteriors import read as read_shards
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.recognition import PosteriorTask
from rescore.acoustic.windows import Windows
from rescore.errors import AudioError, FormatError
from rescore.pipeline import Shard, recognition
from rescore.pipeline.recognition import Recognition, recognise


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(recognition, "_CHUNK", 2)


def run(table, output, encoder=None, shard=None, **settings):
    utterances = [u for u in read_utterances(table) if shard is None or u.id in shard]
    task = PosteriorTask(encoder or SmallEncoder(), Windows(0.5, 0.1))
    return recognise(utterances, task, output, **settings)


def test_rows_are_those_of_the_recogniser_and_nothing_else_is_left(tmp_path):
    table = write_audio(tmp_path)
    progress = run(table, tmp_path / "p.safetensors")
    file = read_posteriors(tmp_path / "p.safetensors")
    assert (file.frame_shift, file.signature) == (0.02, "small v1 window=0.5 overlap=0.1")
    assert list(file) == sorted(u.id for u in read_utterances(table))
    for utterance in read_utterances(table):
        expected = SmallEncoder().of(read_audio(utterance, 8000))  # joined windows equal the whole
        np.testing.assert_allclose(file[utterance.id].log_probs, expected, rtol=0, atol=1e-6)
    seconds = sum(len(read_audio(u, 8000)) for u in read_utterances(table)) / 8000
    assert progress.seconds == progress.computed_seconds == pytest.approx(seconds)
    assert progress.utterances == 12
    assert not [*tmp_path.glob("*.rows"), *tmp_path.glob("*.journal"), *tmp_path.glob(".*")]


def test_other_rates_are_resampled(tmp_path):
    pytest.importorskip("soxr")
    table = write_audio(tmp_path, count=3, rate=16000)
    run(table, tmp_path / "p.safetensors")
    frames = [read_posteriors(tmp_path / "p.safetensors").frames(f"u{k}") for k in range(3)]
    assert frames == [10, 12, 15]  # of 0.2, 0.25 and 0.3 s


KILLED = """
import sys
sys.path[:0] = {paths}
from small_encoder import SmallEncoder
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.recognition import PosteriorTask
from rescore.acoustic.windows import Windows
from rescore.pipeline import recognition
recognition._CHUNK = 2
task = PosteriorTask(SmallEncoder(calls_to_live={calls}), Windows(0.5, 0.1))
recognition.recognise(read_utterances({table!r}), task, {output!r})
"""


def test_a_run_that_is_killed_resumes_and_writes_the_same_bytes(tmp_path):
    table = write_audio(tmp_path)
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    run(table, whole)
    paths = [str(Path(__file__).parents[1]), str(Path(rescore.__file__).parents[1])]
    code = KILLED.format(paths=paths, calls=3, table=str(table), output=str(killed))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not killed.exists()
    assert (tmp_path / "killed.safetensors.rows").stat().st_size
    with (tmp_path / "killed.safetensors.rows").open("ab") as rows:
        rows.write(b"torn")  # rows of a chunk that the journal does not name
    encoder = SmallEncoder()
    progress = run(table, killed, encoder)
    assert killed.read_bytes() == whole.read_bytes()
    assert 0 < progress.computed_seconds < progress.seconds
    assert encoder.calls < 12


def test_audio_that_changed_since_a_run_stopped_is_heard_again(tmp_path):
    table, output = bad_table(tmp_path), tmp_path / "p.safetensors"
    with pytest.raises(ZeroDivisionError):
        run(table, output, on_error="skip", progress=stopped_after(6))
    for name in ("cut.flac", "silence.wav", "missing.wav", "short.wav"):
        soundfile.write(tmp_path / name, 0.1 * np.random.default_rng(3).standard_normal(4000), 8000)
    soundfile.write(tmp_path / "u0.wav", 0.1 * np.random.default_rng(4).standard_normal(4000), 8000)
    progress = run(table, output)
    assert (progress.utterances, progress.skipped) == (9, 0)
    run(table, tmp_path / "anew")
    assert output.read_bytes() == (tmp_path / "anew").read_bytes()


def stopped_after(count):
    """A progress that fails at an utterance."""
    seen = iter(range(count))
    return Recognition(advance=lambda _seconds: 1 / (count - 1 - next(seen)))


def test_a_journal_of_other_settings_and_one_without_its_rows_are_refused(tmp_path):
    table = write_audio(tmp_path)
    output = tmp_path / "p.safetensors"
    with pytest.raises(ZeroDivisionError):
        run(table, output, progress=Recognition(advance=lambda _seconds: 1 / 0))
    with pytest.raises(FormatError, match='another run, with dtype "float32", expected "float16"'):
        run(table, output, dtype="float16")
    (tmp_path / "p.safetensors.rows").unlink()
    with pytest.raises(FormatError, match=r"p.safetensors.rows: is missing"):
        run(table, output)


def test_joined_shards_equal_the_whole_run(tmp_path):
    table = write_audio(tmp_path)
    run(table, tmp_path / "whole")
    (tmp_path / "shards").mkdir()
    for number in range(3):
        run(table, tmp_path / f"shards/{number}.safetensors", shard=Shard(number, 3))
    write_posteriors(read_shards(tmp_path / "shards"), tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "whole").read_bytes()


def bad_table(folder):
    """Good utterances between a cut-off flac, silence, a missing file, and one too short."""
    table = write_audio(folder, count=4)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(folder / "whole.flac", noise, 8000)
    (folder / "cut.flac").write_bytes((folder / "whole.flac").read_bytes()[:4000])
    soundfile.write(folder / "silence.wav", np.zeros(8000), 8000)
    soundfile.write(folder / "short.wav", noise[:100], 8000)
    names = ["cut.flac", "silence.wav", "missing.wav", "short.wav"]
    lines = [f"{name.partition('.')[0]}\t{name}" for name in names]
    table.write_text(table.read_text() + "\n".join(lines) + "\nlast\tu3.wav\n")
    return table


def test_bad_audio_stops_the_run_with_its_name_and_nothing_is_lost(tmp_path):
    table = bad_table(tmp_path)
    output = tmp_path / "p.safetensors"
    with pytest.raises(AudioError, match=r"audio.tsv:\d+: utterance \w+: .*--on-error skip"):
        run(table, output)
    assert not output.exists()
    good = [line for line in table.read_text().splitlines() if not line.startswith(("cut", "sil"))]
    good = [line for line in good if not line.startswith(("missing", "short"))]
    table.write_text("\n".join(good) + "\n")
    run(table, output)
    assert len(read_posteriors(output)) == 5


def test_bad_audio_is_skipped_on_request_and_counted(tmp_path):
    progress = run(bad_table(tmp_path), tmp_path / "p", on_error="skip")
    assert set(read_posteriors(tmp_path / "p")) == {"u0", "u1", "u2", "u3", "last"}
    assert (progress.utterances, progress.skipped, len(progress.messages)) == (5, 4, 4)
    told = "\n".join(progress.messages)
    for words in ("utterance cut", "silence, every sample", "no such file", "0.0125 s of audio"):
        assert words in told


def test_a_run_of_nothing_but_bad_audio_is_an_error(tmp_path):
    (tmp_path / "a.tsv").write_text("u\tmissing.wav\n")
    with pytest.raises(FormatError, match=r"all 1 utterances were skipped; the first: .*a.tsv:1"):
        run(tmp_path / "a.tsv", tmp_path / "p", on_error="skip")


def test_an_hour_of_audio_goes_in_windows(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(3600 * 1000, np.float32)
    soundfile.write(tmp_path / "hour.wav", samples, 1000)
    task = PosteriorTask(SmallEncoder(rate=1000), Windows())
    progress = recognise(read_utterances(tmp_path), task, tmp_path.with_suffix(".p"))
    assert progress.seconds == 3600
    assert read_posteriors(tmp_path.with_suffix(".p")).frames("hour") == 180_000


def test_broken_posteriors_of_a_network_are_never_written(tmp_path):
    class Broken(SmallEncoder):
        def of(self, audio):
            return np.full_like(super().of(audio), np.nan)

    with pytest.raises(FormatError, match=r"utterance u\d+, frame 0: symbol '_' has nan"):
        run(write_audio(tmp_path), tmp_path / "p", Broken())
