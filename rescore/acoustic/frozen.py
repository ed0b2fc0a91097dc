"""Encoders of Hugging Face whose states are features: Whisper, wav2vec2, Parakeet, ...

`train ctc --encoder-from MODEL` trains on them in place of log-Mel features, and what is trained
on that hears through them. The encoder is not saved with a model: `FrozenEncoder`, a part of
config.json, names it, with a digest of its weights. Code that a repository brings with it is not
run: all these families are part of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rescore.errors import AudioError, ModelError

if TYPE_CHECKING:
    from rescore.acoustic.hub_states import HubStates

__all__ = ["FrozenEncoder", "open_frozen_encoder"]


@dataclass(frozen=True)
class FrozenEncoder:
    """A network by its Hub id or directory, and what it is known by; loaded at the first audio.

    `digest` is 16 hex digits over its weights and settings. A state has `width` numbers, and
    stands for `frame_samples` at `sampling_rate`. Audio has from `min_samples` to `max_samples`
    (None: of any length).
    """

    model: str
    digest: str
    sampling_rate: int
    width: int
    frame_samples: int
    min_samples: int
    max_samples: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.sampling_rate, self.width, self.frame_samples, self.min_samples)
        if min(sizes) < 1 or (self.max_samples is not None and self.max_samples < 1):
            raise ModelError(
                f"the frozen encoder {self.model}: rate, width and samples are positive numbers, "
                f"got {sizes} and {self.max_samples}"
            )

    def states(self, audios: Sequence[np.ndarray], device: str = "cpu") -> list[np.ndarray]:
        """The last states (T_i, width) float32 of samples (n_i,) float32 in [-1, 1].

        Results do not depend on the other audios but for rounding. Raises AudioError for audio
        that is too long, ModelError if the network cannot be loaded or is another than it was.
        Exact check: tests/acoustic/test_frozen.py::test_states_are_those_of_transformers_itself.
        """
        for audio in audios:
            self.check(len(audio), "an utterance")
        self._network.to(device)
        return self._network.states(audios)

    def check(self, samples: int, place: str) -> None:
        """Raise AudioError, naming `place`, for audio that is longer than the network hears."""
        if self.max_samples is not None and samples > self.max_samples:
            raise AudioError(
                f"{place}: lasts {samples / self.sampling_rate:.1f} s, {self.model} hears at most "
                f"{self.max_samples / self.sampling_rate:g} s; cut it (posteriors: --window)"
            )

    @cached_property
    def _network(self) -> HubStates:
        from rescore.acoustic.hub_states import load_hub_states  # noqa: PLC0415 - torch

        network = load_hub_states(self.model)
        if network.digest != self.digest:
            raise ModelError(
                f"{self.model}: its weights or settings are not those that the model was trained "
                f"with ({network.digest}, expected {self.digest}); restore them"
            )
        return network


def open_frozen_encoder(model: str) -> FrozenEncoder:
    """Load a network by Hub id or directory, and measure it. Raises ModelError."""
    from rescore.acoustic.hub_states import load_hub_states  # noqa: PLC0415 - torch

    network = load_hub_states(model)
    directory = Path(model)
    encoder = FrozenEncoder(
        str(directory.resolve()) if directory.is_dir() else model,
        network.digest,
        network.sampling_rate,
        network.width,
        network.frame_samples,
        network.min_samples,
        network.max_samples,
    )
    encoder.__dict__["_network"] = network  # so that it is not loaded twice
    return encoder
