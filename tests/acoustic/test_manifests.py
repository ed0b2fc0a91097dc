import gzip
import json

import lhotse
import numpy as np
import pytest
import soundfile

from rescore.acoustic.audio import read_audio
from rescore.acoustic.manifests import Utterance, read_utterances
from rescore.errors import FormatError

RATE = 16_000


def record(folder, name, seconds=2.0, channels=1, seed=0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * RATE), channels))
    soundfile.write(path, samples, RATE)
    return path


def spoken(path, **options):
    return [
        (u.id, str(u.path), u.start, u.duration, u.channel, u.text)
        for u in read_utterances(path, **options)
    ]


def refused(path, complaint, **options):
    with pytest.raises(FormatError, match=complaint) as caught:
        list(read_utterances(path, **options))
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ tables, folders


def test_a_table_has_paths_of_its_own_folder(tmp_path):
    (tmp_path / "dev.tsv").write_text("id\tpath\ttext\na\tx/a.wav\tGo now\n\nb\t/y/b.wav\t\n")
    assert spoken(tmp_path / "dev.tsv") == [
        ("a", str(tmp_path / "x/a.wav"), 0.0, None, None, "Go now"),
        ("b", "/y/b.wav", 0.0, None, None, ""),
    ]


def test_a_table_may_lack_texts_and_header(tmp_path):
    (tmp_path / "dev.tsv").write_text("a\ta.wav\nb\tb.wav\n")
    assert [(u.id, u.text, u.where) for u in read_utterances(tmp_path / "dev.tsv")] == [
        ("a", None, f"{tmp_path}/dev.tsv:1"),
        ("b", None, f"{tmp_path}/dev.tsv:2"),
    ]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("a a.wav\n", "dev.tsv:1: 1 tab-separated fields, expected id, path"),
        ("a\ta.wav\tx\ty\n", "dev.tsv:1: 4 tab-separated fields"),
        ("a\t\n", "dev.tsv:1: 2 tab-separated fields"),
        ("\ta.wav\n", "dev.tsv:1: the id is empty"),
        ("a\ta.wav\na\tb.wav\n", "dev.tsv:2: utterance a: this id was read before"),
        ("", "dev.tsv: no audio in it"),
        ("id\tpath\n", "dev.tsv: no audio in it"),
    ],
)
def test_a_broken_table_names_its_line(tmp_path, lines, complaint):
    (tmp_path / "dev.tsv").write_text(lines)
    refused(tmp_path / "dev.tsv", complaint)


def test_a_folder_is_read_at_any_depth(tmp_path):
    for name in ("b/2.flac", "a/1.wav", "3.OGG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [u.id for u in read_utterances(tmp_path)] == ["3", "1", "2"]


def test_files_of_one_name_in_a_folder_are_refused(tmp_path):
    for name in ("b/1.flac", "a/1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    refused(tmp_path, "b/1.flac: utterance 1: this id was read before")


def test_a_path_of_no_known_kind_is_refused(tmp_path):
    (tmp_path / "a.json").touch()
    refused(tmp_path / "a.json", "not a known kind of manifest; expected a lhotse manifest")
    refused(tmp_path / "missing.tsvx", "no such file or folder")
    refused(tmp_path / "missing.tsv", "cannot be read: no such file")
    refused(tmp_path, "no audio in it", recordings=None)
    refused(tmp_path, "recordings are for a lhotse", recordings=tmp_path / "r.jsonl")


# ---------------------------------------------------------------------------------------- Kaldi


def test_a_kaldi_folder_has_texts_and_segments(tmp_path):
    (tmp_path / "wav.scp").write_text("r1 /x/a b.wav\nr2 /x/c.flac\n")
    (tmp_path / "text").write_text("r1 go now\nu1 yes\nr2\n")
    assert spoken(tmp_path / "wav.scp") == [
        ("r1", "/x/a b.wav", 0.0, None, None, "go now"),
        ("r2", "/x/c.flac", 0.0, None, None, ""),
    ]
    (tmp_path / "segments").write_text("u1 r1 1.5 2.25\nu2 r2 0 3\n")
    assert spoken(tmp_path / "wav.scp") == [
        ("u1", "/x/a b.wav", 1.5, 0.75, None, "yes"),
        ("u2", "/x/c.flac", 0.0, 3.0, None, None),
    ]


@pytest.mark.parametrize(
    ("scp", "segments", "complaint"),
    [
        ("r1 sph2pipe -f wav x.sph |\n", None, "wav.scp:1: r1 has no path .* are not run"),
        ("r1\n", None, "wav.scp:1: r1 has no path but 'nothing'"),
        ("r1 a.wav\nr1 b.wav\n", None, "wav.scp:2: utterance r1: this id was read before"),
        ("r1 a.wav\n", "u1 r2 0 1\n", "segments:1: recording r2 is not in"),
        ("r1 a.wav\n", "u1 r1 0\n", "segments:1: u1 'r1 0', expected utterance"),
        ("r1 a.wav\n", "u1 r1 2 1\n", "segments:1: u1 starts at 2 s and ends at 1 s"),
        ("r1 a.wav\n", "u1 r1 0 nan\n", "segments:1: u1 starts at 0 s and ends at nan s"),
    ],
)
def test_a_broken_kaldi_file_names_its_line(tmp_path, scp, segments, complaint):
    (tmp_path / "wav.scp").write_text(scp)
    if segments is not None:
        (tmp_path / "segments").write_text(segments)
    refused(tmp_path / "wav.scp", complaint)


# --------------------------------------------------------------------------------------- lhotse


def manifests(folder):
    """A mono recording with two supervisions and a stereo one with one, as lhotse writes them."""
    recordings = lhotse.RecordingSet.from_recordings(
        lhotse.Recording.from_file(record(folder, name, channels=channels, seed=channels))
        for name, channels in (("mono.flac", 1), ("stereo.wav", 2))
    )
    supervisions = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(*fields)
        for fields in (
            ("s1", "mono", 0.25, 0.5, 0, "go"),
            ("s2", "mono", 1.0, 1.0, 0, "on now"),
            ("s3", "stereo", 0.0, 1.5, 1, "yes"),
        )
    )
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions).trim_to_supervisions(
        keep_overlapping=False
    )
    recordings.to_file(folder / "recordings.jsonl.gz")
    supervisions.to_file(folder / "supervisions.jsonl")
    cuts.to_file(folder / "cuts.jsonl.gz")
    return cuts


@pytest.mark.parametrize("kind", ["cuts", "supervisions"])
def test_the_audio_is_that_which_lhotse_loads(tmp_path, kind):
    cuts = list(manifests(tmp_path))
    utterances = list(
        read_utterances(tmp_path / "cuts.jsonl.gz")
        if kind == "cuts"
        else read_utterances(tmp_path / "supervisions.jsonl", tmp_path / "recordings.jsonl.gz")
    )
    assert [u.text for u in utterances] == ["go", "on now", "yes"]
    for cut, utterance in zip(cuts, utterances, strict=True):
        assert utterance.id == (cut.id if kind == "cuts" else cut.supervisions[0].id)
        np.testing.assert_array_equal(read_audio(utterance, RATE), cut.load_audio()[0])


def test_recordings_are_whole_utterances(tmp_path):
    manifests(tmp_path)
    assert [u.id for u in read_utterances(tmp_path / "recordings.jsonl.gz")] == ["mono", "stereo"]


def test_a_cut_made_twice_as_fast_by_lhotse_is_refused(tmp_path):
    cuts = manifests(tmp_path)
    cuts.perturb_speed(1.1).to_file(tmp_path / "fast.jsonl")
    refused(tmp_path / "fast.jsonl", "transforms, which only lhotse applies; save its audio")


def test_mixed_cuts_are_refused(tmp_path):
    cuts = manifests(tmp_path)
    cuts.pad(duration=9.0).to_file(tmp_path / "mixed.jsonl")
    refused(tmp_path / "mixed.jsonl", "mixed.jsonl:1: .*a mixed cut, which only lhotse mixes")


RECORDING = {
    "id": "r",
    "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    "sampling_rate": 16000,
    "num_samples": 160,
    "duration": 0.01,
}
CUT = {
    "id": "c",
    "start": 0,
    "duration": 0.01,
    "channel": 0,
    "supervisions": [],
    "recording": RECORDING,
    "type": "MonoCut",
}


def test_a_cut_without_supervision_has_no_text(tmp_path):
    (tmp_path / "c.jsonl").write_text(json.dumps(CUT))
    assert spoken(tmp_path / "c.jsonl") == [("c", "a.wav", 0.0, 0.01, None, None)]


def test_a_cut_with_several_supervisions_has_no_text(tmp_path):
    supervisions = [
        {"id": text, "recording_id": "r", "start": 0, "duration": 0.005, "channel": 0, "text": text}
        for text in ("go", "on")
    ]
    for number, count in enumerate((1, 2)):
        cut = {**CUT, "supervisions": supervisions[:count]}
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(cut))
    assert [u.text for u in read_utterances(tmp_path / "0.jsonl")] == ["go"]
    assert [u.text for u in read_utterances(tmp_path / "1.jsonl")] == [None]


def test_a_file_for_each_channel_is_read(tmp_path):
    sources = [{"type": "file", "channels": [n], "source": f"{n}.wav"} for n in (0, 1)]
    cut = {**CUT, "channel": [1], "recording": {**RECORDING, "sources": sources}}
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(cut).encode()))
    assert spoken(tmp_path / "c.jsonl.gz") == [("c", "1.wav", 0.0, 0.01, None, None)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({**CUT, "recording": None}, "no recording, only features"),
        ({**CUT, "channel": [0, 1]}, "2 channels, expected one"),
        ({**CUT, "channel": "left"}, "\"channel\" is 'left'"),
        ({**CUT, "channel": 3}, "0 sources with channel 3"),
        ({**CUT, "start": None}, '"start"'),
        ({**RECORDING, "sources": [{"type": "url", "source": "http://x"}]}, "of type 'url'"),
        ({**RECORDING, "sources": []}, "0 sources, expected one"),
        ({"id": "s", "recording_id": "r", "start": 0, "duration": 1}, "recording r is not known"),
        ({"id": "f", "num_frames": 3}, "not a recording, a cut or a supervision"),
        ([], "the line is a list"),
    ],
)
def test_a_broken_line_of_lhotse_names_itself(tmp_path, line, complaint):
    (tmp_path / "m.jsonl").write_text(f"\n{json.dumps(line)}\n")
    refused(tmp_path / "m.jsonl", f"m.jsonl:2: .*{complaint}")


def test_an_utterance_names_its_place():
    assert Utterance("a", "a.wav", where="x.tsv:3").place() == "x.tsv:3: utterance a"
    assert Utterance("a", "a.wav").place() == "utterance a"
