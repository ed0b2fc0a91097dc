"""A network of audio from Hugging Face, and what is measured of it: its frames, and batches.

The model's own feature extractor prepares the audio. All architectures that are known here name the
number of output frames in one of two methods, `_LENGTHS`; seen with transformers 5.24.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rescore.errors import ModelError

__all__ = ["HubNetwork", "settings_digest"]

_LENGTHS = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")

#: Seconds of audio that are long enough to see the frame shift.
_SHORT, _LONG = 8, 16

#: How far padding may move an output of the trial batch before audio is not batched.
_ROUNDING = 1e-3


class HubNetwork:
    """Audio to a row of numbers a frame: `output` is "logits" or "last_hidden_state".

    Where padding changes what a network says of shorter audio (group normalisation over time in
    the feature encoder, as wav2vec2-base has it), audio is evaluated one by one, which is what
    transformers documents for these models; a trial batch decides for all others. A network that
    hears stretches of one length alone, as Whisper's encoder, has `max_samples`.
    Raises ModelError if the parts do not fit together.
    """

    def __init__(
        self,
        network: Any,
        extractor: Any,
        output: str,
        *,
        model: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._extractor, self._output, self._model = extractor, output, model
        self._network = network.eval().to(device=device, dtype=dtype)
        self.device, self._dtype = device, dtype
        self._lengths = _lengths(network, model)
        self._accepted = set(inspect.signature(network.forward).parameters)
        self.sampling_rate = int(extractor.sampling_rate)
        self.max_samples: int | None = getattr(extractor, "n_samples", None)
        self.frame_samples = self._measured_frame_samples()
        self.min_samples = self._measured_min_samples()
        self.is_batched = self._is_unmoved_by_padding()

    def to(self, device: str) -> None:
        """Move the network."""
        self._network.to(device)
        self.device = device

    def rows(self, audios: Sequence[np.ndarray]) -> list[Tensor]:
        """The output (T_i, C) float32, on the CPU, of samples (n_i,) float32 in [-1, 1].

        Results do not depend on the other audios of the batch but for rounding.
        """
        if self.is_batched:
            return self._batch(audios)
        return [rows for audio in audios for rows in self._batch([audio])]

    @torch.inference_mode()
    def _batch(self, audios: Sequence[np.ndarray]) -> list[Tensor]:
        features = self._features(audios)
        frames = self._frames(features)
        inputs = {
            name: value.to(self.device, self._dtype if value.is_floating_point() else None)
            for name, value in features.items()
            if name in self._accepted
        }
        if len(audios) == 1 and "input_values" in inputs:
            inputs.pop(_mask_of(inputs), None)  # nothing is padded
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*key_padding_mask.*")  # inside WavLM
            rows = getattr(self._network(**inputs), self._output).float().cpu()
        return [rows[k, :count] for k, count in enumerate(frames)]

    def _features(self, audios: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
        features: Mapping[str, Tensor] = self._extractor(
            list(audios),
            sampling_rate=self.sampling_rate,
            padding=True if self.max_samples is None else "max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        return features

    def _frames(self, features: Mapping[str, Tensor]) -> list[int]:
        """The output frames of each audio."""
        lengths = features[_mask_of(features)].sum(-1)
        return [int(count) for count in self._lengths(lengths)]

    def _measured_frame_samples(self) -> int:
        """Samples a frame, from the frames of a short and of a long audio."""
        long = _LONG * self.sampling_rate
        if self.max_samples is not None:
            long = min(long, self.max_samples)
        short = long * _SHORT // _LONG
        silence = [np.zeros(samples, np.float32) for samples in (short, long)]
        fewer, more = self._frames(self._features(silence))
        samples, rest = divmod(long - short, max(1, more - fewer))
        if rest or more <= fewer:
            raise ModelError(
                f"{self._model}: makes {more - fewer} frames of {long - short} samples at "
                f"{self.sampling_rate} Hz, expected a whole number of samples a frame"
            )
        return samples

    def _measured_min_samples(self) -> int:
        """The fewest samples of which features are finite and make a frame, by bisection."""
        noise = _noise(self.sampling_rate)
        enough, too_few = len(noise), 0
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._has_frame(noise[:middle]):
                enough = middle
            else:
                too_few = middle
        return enough

    def _has_frame(self, audio: np.ndarray) -> bool:
        features = self._features([audio])
        is_finite = all(bool(torch.isfinite(value).all()) for value in features.values())
        return is_finite and self._frames(features)[0] >= 1

    def _is_unmoved_by_padding(self) -> bool:
        if getattr(self._network.config, "feat_extract_norm", None) == "group":
            return False
        noise = _noise(max(self.sampling_rate, 2 * self.min_samples))
        short = noise[: max(self.min_samples, len(noise) // 2)]
        padded = self._batch([noise, short])[1].log_softmax(-1)
        alone = self._batch([short])[0].log_softmax(-1)
        return bool((padded - alone).abs().max() < _ROUNDING)


def settings_digest(weights: str, extractor: Any) -> str:
    """16 hex digits over a digest of weights and the settings of the features."""
    parts = weights + str(extractor.to_json_string())
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


def _lengths(network: Any, model: str) -> Any:
    """The function from input lengths to output frames."""
    for name in _LENGTHS:
        if hasattr(network, name):
            return getattr(network, name)
    raise ModelError(
        f"{model}: {type(network).__name__} does not say how many frames it makes of an input; "
        "give a wav2vec2, hubert, wavlm, parakeet or whisper model"
    )


def _mask_of(features: Mapping[str, Tensor]) -> str:
    """The name of the padding mask: `attention_mask`, or `padding_mask` in some architectures."""
    return next((name for name in features if name.endswith("mask")), "attention_mask")


def _noise(samples: int) -> np.ndarray:
    """Noise at the level of speech, the same every time."""
    noise: np.ndarray = 0.1 * np.random.default_rng(0).standard_normal(samples, np.float32)
    return noise
