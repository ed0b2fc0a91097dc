"""Any CTC model of Hugging Face as an `Encoder`: wav2vec2, HuBERT, WavLM, Parakeet, ...

The model's own feature extractor prepares the audio, and its tokenizer names the columns.
Source: `AutoModelForCTC` of transformers; seen with 5.24. All its CTC architectures name the number
of output frames in one of two methods, `_LENGTHS`.
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

from rescore.acoustic.hub_symbols import hub_symbols
from rescore.errors import ModelError
from rescore.models.hub.loading import load_parts, weights_digest
from rescore.models.opening import opening

__all__ = ["HubEncoder", "load_hub_encoder"]

_LENGTHS = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")

#: Seconds of audio that are long enough to see the frame shift.
_SHORT, _LONG = 8, 16

#: How far padding may move a log-probability of the trial batch before audio is not batched.
_ROUNDING = 1e-3


def load_hub_encoder(
    model: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    remote_code: bool = False,
) -> HubEncoder:
    """Load a CTC model by Hub id or directory. Raises ModelError."""
    parts = load_parts(
        "AutoModelForCTC", model, remote_code, ("AutoTokenizer", "AutoFeatureExtractor")
    )
    with opening(model, "restore the files of the model", "its parts do not work together"):
        return HubEncoder(*parts, model=model, device=device, dtype=dtype)


class HubEncoder:
    """An `Encoder` on a loaded CTC model of transformers.

    Where padding changes what a network says of shorter audio (group normalisation over time in
    the feature encoder, as wav2vec2-base has it), audio is evaluated one by one, which is what
    transformers documents for these models; a trial batch decides for all others.
    Raises ModelError if the parts do not fit together.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        extractor: Any,
        *,
        model: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._extractor, self._model = extractor, model
        digest = _digest(network, tokenizer, extractor)  # before the weights change their dtype
        self._network = network.eval().to(device=device, dtype=dtype)
        self._device, self._dtype = device, dtype
        self._lengths = _lengths(network, model)
        self._accepted = set(inspect.signature(network.forward).parameters)
        self.sampling_rate: int = int(extractor.sampling_rate)
        self.symbols = hub_symbols(
            tokenizer, network.config.vocab_size, network.config.pad_token_id, model
        )
        self.frame_samples = self._measured_frame_samples()
        self.min_samples = self._measured_min_samples()
        self.is_batched = self._is_unmoved_by_padding()
        dtype_name = str(dtype).removeprefix("torch.")
        self.signature = f"hub-ctc {digest} dtype={dtype_name} v1"

    @property
    def device(self) -> str:
        """See Encoder."""
        return self._device

    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See Encoder."""
        if self.is_batched:
            return self._log_probs(audios)
        return [rows for audio in audios for rows in self._log_probs([audio])]

    @torch.inference_mode()
    def _log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        features = self._features(audios)
        frames = self._frames(features)
        inputs = {
            name: value.to(self._device, self._dtype if value.is_floating_point() else None)
            for name, value in features.items()
            if name in self._accepted
        }
        if len(audios) == 1 and "input_values" in inputs:
            inputs.pop(_mask_of(inputs), None)  # nothing is padded
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*key_padding_mask.*")  # inside WavLM
            logits = self._network(**inputs).logits
        rows = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
        return [rows[k, :count] for k, count in enumerate(frames)]

    def _features(self, audios: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
        features: Mapping[str, Tensor] = self._extractor(
            list(audios),
            sampling_rate=self.sampling_rate,
            padding=True,
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
        silence = [np.zeros(s * self.sampling_rate, np.float32) for s in (_SHORT, _LONG)]
        short, long = self._frames(self._features(silence))
        samples, rest = divmod((_LONG - _SHORT) * self.sampling_rate, max(1, long - short))
        if rest or long <= short:
            raise ModelError(
                f"{self._model}: makes {long - short} frames of {_LONG - _SHORT} s at "
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
        padded = self._log_probs([noise, short])[1]
        return bool(np.abs(padded - self._log_probs([short])[0]).max() < _ROUNDING)


def _digest(network: Any, tokenizer: Any, extractor: Any) -> str:
    """16 hex digits over weights, vocabulary and the settings of the features."""
    parts = weights_digest(network, tokenizer) + str(extractor.to_json_string())
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


def _lengths(network: Any, model: str) -> Any:
    """The function from input lengths to output frames."""
    for name in _LENGTHS:
        if hasattr(network, name):
            return getattr(network, name)
    raise ModelError(
        f"{model}: {type(network).__name__} does not say how many frames it makes of an input; "
        "give a wav2vec2, hubert, wavlm or parakeet_ctc model"
    )


def _mask_of(features: Mapping[str, Tensor]) -> str:
    """The name of the padding mask: `attention_mask`, or `padding_mask` in some architectures."""
    return next((name for name in features if name.endswith("mask")), "attention_mask")


def _noise(samples: int) -> np.ndarray:
    """Noise at the level of speech, the same every time."""
    noise: np.ndarray = 0.1 * np.random.default_rng(0).standard_normal(samples, np.float32)
    return noise
