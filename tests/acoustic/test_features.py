import numpy as np
import pytest
import torch
from lhotse.features.kaldi.extractors import Fbank, FbankConfig

from rescore.acoustic.features import MEL_BINS, fbank
from rescore.errors import AudioError


def speech_like(samples, rate, seed=0):
    """Harmonics that fade in and out over noise: loud and quiet frames, strong and weak bins."""
    chance, time = np.random.default_rng(seed), np.arange(samples) / rate
    voiced = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 20))
    loudness = 0.5 - 0.5 * np.cos(2 * np.pi * 3 * time)
    return (0.1 * loudness * voiced + 1e-4 * chance.standard_normal(samples)).astype(np.float32)


def lhotse(rate, dtype=torch.float32):
    extractor = Fbank(FbankConfig(sampling_rate=rate, high_freq=-400, snip_edges=False, dither=0.0))
    module = extractor.extractor.to(dtype)
    return lambda samples: module(torch.from_numpy(samples).to(dtype)[None])[0].numpy()


@pytest.mark.parametrize(("samples", "rate"), [(16_000, 16_000), (23_457, 16_000), (9_999, 8_000)])
def test_features_are_those_of_lhotse(samples, rate):
    """To 1e-4 within 40 dB of each frame's strongest bin; float32 carries no more below.

    There both stay as near as each other to what lhotse computes in float64.
    """
    x = speech_like(samples, rate)
    ours, theirs = fbank(x, rate), lhotse(rate)(x)
    assert ours.shape == theirs.shape == (round(samples / rate * 100), MEL_BINS)
    assert ours.dtype == np.float32
    exact = lhotse(rate, torch.float64)(x)
    is_strong = exact > exact.max(1, keepdims=True) - 4 * np.log(10)
    assert is_strong.mean() > 0.8
    assert np.abs(ours - theirs)[is_strong].max() < 1e-4
    assert np.abs(ours - exact).max() < 2 * np.abs(theirs - exact).max()


def test_silence_has_the_floor_of_lhotse():
    x = np.zeros(4000, np.float32)
    np.testing.assert_allclose(fbank(x), lhotse(16_000)(x), rtol=1e-6)


def test_a_louder_signal_moves_all_bins_alike():
    x = speech_like(8000, 16_000)
    is_loud = fbank(x) > -10
    np.testing.assert_allclose((fbank(2 * x) - fbank(x))[is_loud], 2 * np.log(2), atol=1e-3)


def test_no_samples_are_an_error():
    with pytest.raises(AudioError, match="no audio, 0 samples"):
        fbank(np.zeros(0, np.float32))


def test_a_click_shorter_than_half_a_frame_has_no_frames():
    assert fbank(np.ones(50, np.float32)).shape == (0, MEL_BINS)
