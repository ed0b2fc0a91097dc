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


def inside(audio, frame=10, context=2):
    """The same without the frames at the end that lack context, as convolutions leave them out."""
    return bounded(audio, frame, context)[: max(0, len(audio) // frame - context)]


@pytest.mark.parametrize("samples", [30, 100, 101, 160, 1234])
@pytest.mark.parametrize(("length", "overlap"), [(4.0, 2.0), (10.0, 2.0), (10.0, 4.0)])
def test_no_frame_is_lost_where_a_window_ends(samples, length, overlap):
    audio = np.random.default_rng(samples).integers(-99, 99, samples)
    windows = Windows(length, overlap)
    windows.check(rate=10, frame_samples=10, min_samples=30)
    first = windows.first_frames(samples, rate=10, frame_samples=10)
    joined = join(first, [inside(part) for part in windows.cut(audio, 10, 10)])
    assert len(joined) == len(inside(audio))
    newest = slice(2, None)  # those before look back across a cut
    assert np.array_equal(joined[:, newest], inside(audio)[:, newest])


@pytest.mark.parametrize(("length", "overlap"), [(10.0, 0.0), (10.0, 1.0), (3.0, 1.5), (0.1, 0.0)])
def test_windows_that_lose_frames_are_refused(length, overlap):
    windows = Windows(length, overlap)
    lose = r"lose frames: this recogniser needs windows of 4 s and an overlap of 2 s at least"
    with pytest.raises(RescoreError, match=lose):
        windows.check(rate=10, frame_samples=10, min_samples=30)
    with pytest.raises(RescoreError, match=r"no window has the 2 frames from frame 8 on"):
        join([0, 10], [np.zeros((8, 3)), np.zeros((8, 3))])


def test_audio_of_one_window_is_not_cut():
    audio = np.zeros(100)
    assert [len(part) for part in Windows(10.0, 4.0).cut(audio, 10, 10)] == [100]


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (10, 5.1), (10, -1), (float("nan"), 1)])
def test_impossible_windows_are_refused(length, overlap):
    with pytest.raises(RescoreError, match="at most half a window"):
        Windows(length, overlap)
