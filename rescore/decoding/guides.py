"""What prior-guided decoding needs of a model that hears: canvases, drafts, texts.

PromptGuide      a language model behind a speech prompt (`train dllm`)
ListeningGuide   a decoder with cross-attention (`train mdm`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.acoustic.ctc_paths import LabelledPath
from rescore.acoustic.listening import HeardUtterance, Listened, features_of, hear_all
from rescore.acoustic.prompted import PromptedModel, is_prompted, load_prompted
from rescore.acoustic.symbols import Symbols
from rescore.acoustic.transcriber import Transcriber, load_transcriber
from rescore.acoustic.transcription import until_end
from rescore.decoding.canvas_states import CanvasNetwork, listening_canvas, prompt_canvas
from rescore.decoding.drafts import Draft, symbol_draft, token_draft
from rescore.models.audio_network import SpecialRows
from rescore.models.prompted import HeardPrompt
from rescore.text import normalizer

__all__ = ["Guide", "ListeningGuide", "PromptGuide", "load_guide"]


class Guide(Protocol):
    """A model of audio whose text is denoised on a canvas; `Heard` is what it makes of audio."""

    symbols: Symbols
    sampling_rate: int
    rows: SpecialRows
    hides_end: bool
    is_causal: bool
    signature: str

    def hear(self, condition: Listened) -> Any:
        """What it makes of an utterance. Raises AudioError."""

    def log_probs(self, heard: Any) -> np.ndarray:
        """Log-probabilities (M, symbols) of its encoder's CTC."""

    def expected(self, heard: Any) -> float:
        """The tokens that CTC expects in the text."""

    def draft(self, path: LabelledPath) -> Draft:
        """A CTC path as tokens with confidences."""

    def canvas(self, heard: Any, places: int) -> CanvasNetwork:
        """The network on a canvas of so many places, BOS included."""

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens before the first EOS."""

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without EOS. Raises ScoreError for what no symbol spells."""


@dataclass
class PromptGuide:
    """A `PromptedModel` as a `Guide`."""

    model: PromptedModel
    device: str = "cpu"

    def __post_init__(self) -> None:
        model = self.model
        model.network.to(self.device).eval()
        self.symbols, self.sampling_rate = model.symbols, model.sampling_rate
        self.rows, self.is_causal = model.network.rows, model.is_causal
        self.hides_end = model.network.language_model.hides_end
        self.signature = model.signature
        self._normalize = normalizer(model.text_normalizer)

    @cached_property
    def never(self) -> Tensor:
        """(V,) bool: rows of the output that are never proposed."""
        never = self.model.impossible.clone()
        never[self.rows.eos] = not self.hides_end
        return never

    @torch.no_grad()
    def hear(self, condition: Listened) -> HeardPrompt:
        """See Guide."""
        features = features_of(condition, self.model.recogniser)[None]
        kind = self.model.network.encoder.head.weight.dtype
        frames = torch.tensor([features.shape[1]])
        return self.model.network.hear(features.to(self.device, kind), frames)

    def log_probs(self, heard: HeardPrompt) -> np.ndarray:
        """See Guide."""
        values: np.ndarray = heard.log_probs[0].double().cpu().numpy()
        return values

    def expected(self, heard: HeardPrompt) -> float:
        """See Guide."""
        return float(heard.tokens[0])

    def draft(self, path: LabelledPath) -> Draft:
        """See Guide."""
        text = self._normalize(self.symbols.decode(path.labels.tolist()))
        return token_draft(path, self.symbols, self.model.tokenizer, text)

    def canvas(self, heard: HeardPrompt, places: int) -> CanvasNetwork:
        """See Guide."""
        return prompt_canvas(self.model.network, heard, places, self.never)

    def text(self, tokens: Sequence[int]) -> str:
        """See Guide."""
        return self.model.decode(tokens)

    def tokens(self, text: str) -> list[int]:
        """See Guide."""
        [tokens] = self.model.tokenizer.encode([self._normalize(text)])
        return tokens


@dataclass
class ListeningGuide:
    """A `Transcriber` with a masked decoder as a `Guide`."""

    model: Transcriber
    device: str = "cpu"
    hides_end: bool = True

    def __post_init__(self) -> None:
        self.model.network.to(self.device).eval()
        self.symbols, self.sampling_rate = self.model.symbols, self.model.sampling_rate
        self.rows, self.is_causal = self.model.rows, self.model.is_causal
        self.signature = self.model.signature

    def hear(self, condition: Listened) -> HeardUtterance:
        """See Guide."""
        return hear_all(self.model, [condition], self.device)[0]

    def log_probs(self, heard: HeardUtterance) -> np.ndarray:
        """See Guide."""
        values: np.ndarray = heard.log_probs.double().cpu().numpy()
        return values

    def expected(self, heard: HeardUtterance) -> float:
        """See Guide."""
        return heard.expected

    def draft(self, path: LabelledPath) -> Draft:
        """See Guide."""
        return symbol_draft(path)

    def canvas(self, heard: HeardUtterance, places: int) -> CanvasNetwork:
        """See Guide."""
        return listening_canvas(self.model.network, heard, places)

    def text(self, tokens: Sequence[int]) -> str:
        """See Guide."""
        return self.symbols.decode(until_end(list(tokens), self.rows))

    def tokens(self, text: str) -> list[int]:
        """See Guide."""
        return list(self.symbols.encode(text))


def load_guide(
    directory: Path, device: str, remote_code: bool = False
) -> PromptGuide | ListeningGuide:
    """The model in a directory that `train dllm` or `train mdm` made. Raises ModelError.

    `remote_code`: code that comes with its language model may run.
    """
    if is_prompted(directory):
        return PromptGuide(load_prompted(directory, remote_code), device)
    return ListeningGuide(load_transcriber(directory), device)
