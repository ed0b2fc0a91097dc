"""JSON as openai-whisper's `WriteJSON` and as the segments of faster-whisper are dumped."""

from __future__ import annotations

import json

import pytest

from rescore.errors import FormatError
from rescore.formats import format_of, read_lists

SEGMENT = {
    "id": 0, "seek": 0, "start": 0.0, "end": 2.5, "text": " Go do you here", "tokens": [50364, 1],
    "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 0.9, "no_speech_prob": 0.01,
}  # fmt: skip
SECOND = {**SEGMENT, "id": 1, "text": " now.", "tokens": [2, 3, 4, 5], "avg_logprob": -0.5}


def written(folder, name, value):
    (folder / name).write_text(json.dumps(value))
    return folder / name


@pytest.mark.parametrize(
    "value",
    [
        {"text": " Go do you here now.", "segments": [SEGMENT, SECOND], "language": "en"},
        [SEGMENT, SECOND],
    ],
)
def test_a_file_is_a_recording_and_proves_itself(value, tmp_path):
    path = written(tmp_path, "u1.json", value)
    assert format_of(path).name == "whisper"
    [nbest] = read_lists(path)
    assert (nbest.id, nbest.hyps[0].text) == ("u1", "Go do you here now.")
    assert nbest.hyps[0].scores == {"rank": 0.0, "am_per_token": (2 * -0.25 + 4 * -0.5) / 6}
    assert nbest.raw["segments"][1]["id"] == 1


def test_a_directory_is_read_file_by_file(tmp_path):
    written(tmp_path, "b.json", [SEGMENT])
    written(tmp_path, "a.json", {"text": "", "segments": [], "language": "en"})
    written(tmp_path, "notes.txt", [])
    lists = list(read_lists(tmp_path, "whisper"))
    assert [(nbest.id, nbest.hyps[0].text) for nbest in lists] == [
        ("a", ""),
        ("b", "Go do you here"),
    ]
    assert lists[0].hyps[0].scores == {"rank": 0.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", 'the file is a string ("x"), expected an object'),
        ({"text": "a"}, 'utterance u: "segments" is missing, expected a list of segments'),
        ([3], 'segment 1 is a number (3), expected an object {"text": ...}'),
        ([{**SEGMENT, "avg_logprob": "x"}], 'segment 1: "avg_logprob" is a string'),
        ([{**SEGMENT, "tokens": 3}], 'segment 1: "tokens" is a number (3), expected a list of'),
    ],
)
def test_what_is_no_output_of_whisper_is_one_line(value, message, tmp_path):
    path = written(tmp_path, "u.json", value)
    with pytest.raises(FormatError) as caught:
        list(read_lists(path, "whisper"))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_lines_of_results_are_not_one_result(tmp_path):
    path = tmp_path / "all.json"
    path.write_text(2 * (json.dumps({"text": "a", "segments": [SEGMENT]}) + "\n"))
    with pytest.raises(FormatError, match="it looks like a record a line"):
        format_of(path)
