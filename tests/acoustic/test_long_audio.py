"""Windows cover all frames once, and each frame has its context."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.acoustic.windows import Windows, join
from rescore.errors import RescoreError


def bounded(audio, frame=10, context=2):
    """A recogniser that sees `context` frames on both sides: frame k is the sum around it."""
    frames = len(audio) // frame
    sums = audio[: frames * frame].reshape(frames, frame).sum(axis=1)
    padded = np.pad(sums, context)
    return np.stack([padded[k : k + frames] for k in range(2 * context + 1)], axis=1)


@pytest.mark.parametrize("samples", [5, 99, 100, 101, 160, 161, 1000, 1234, 5000])
def test_joined_windows_equal_the_whole_where_context_is_bounded(samples):
    audio = np.random.default_rng(samples).integers(-99, 99, samples)
    windows = Windows(length=10.0, overlap=4.0)  # 10 frames of 10 samples at 10 Hz; 4 shared
    first = windows.first_frames(samples, rate=10, frame_samples=10)
    parts = windows.cut(audio, 10, 10)
    assert len(first) == len(parts)
    assert max(map(len, parts)) <= 100
    assert np.array_equal(join(first, [bounded(part) for part in parts]), bounded(audio))


def test_audio_of_one_window_is_not_cut():
    audio = np.zeros(100)
    assert [len(part) for part in Windows(10.0, 4.0).cut(audio, 10, 10)] == [100]


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (10, 5.1), (10, -1), (float("nan"), 1)])
def test_impossible_windows_are_refused(length, overlap):
    with pytest.raises(RescoreError, match="at most half a window"):
        Windows(length, overlap)
