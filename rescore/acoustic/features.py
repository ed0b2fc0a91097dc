"""Samples to log-Mel filterbank features, by kaldi-native-fbank.

The settings are those of lhotse's `Fbank` and so of icefall: 25 ms windows every 10 ms, 80 bins
from 20 Hz to 400 Hz below half the rate, no dither, and frames over the edges (snip_edges False),
so that n samples make about n / rate * 100 frames.
"""

from __future__ import annotations

import numpy as np

from rescore.errors import AudioError
from rescore.installation import install_hint

__all__ = ["FRAME_SECONDS", "MEL_BINS", "fbank"]

FRAME_SECONDS = 0.01
MEL_BINS = 80

_LOW_FREQUENCY, _HIGH_FREQUENCY = 20.0, -400.0


def fbank(samples: np.ndarray, rate: int = 16_000, bins: int = MEL_BINS) -> np.ndarray:
    """Return log-energies (T, bins) float32 of samples (n,) float32 in [-1, 1].

    Raises AudioError without samples, or where kaldi-native-fbank is not installed.
    Exact check: tests/acoustic/test_features.py::test_features_are_those_of_lhotse.
    """
    try:
        import kaldi_native_fbank as knf  # noqa: PLC0415 - optional
    except ImportError as error:
        raise AudioError(
            f"features need kaldi-native-fbank ({error}); {install_hint('asr')}"
        ) from error
    if not len(samples):
        raise AudioError("features: no audio, 0 samples")
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = bins
    options.mel_opts.low_freq = _LOW_FREQUENCY
    options.mel_opts.high_freq = _HIGH_FREQUENCY
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(rate, samples)
    computer.input_finished()
    frames = [computer.get_frame(number) for number in range(computer.num_frames_ready)]
    return np.stack(frames) if frames else np.empty((0, bins), np.float32)
