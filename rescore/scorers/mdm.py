"""`mdm`: the likelihood of a masked decoder that listens to the audio (MDM-ASR).

Estimators are those of `mdlm`: `pll` (in 2 folds by default), `nelbo`, `pll_within_word`, `chain`;
every query is conditioned on the utterance's audio. So a diffusion decoder scores the lists of any
recogniser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rescore.acoustic.listening import AudioDenoiser, Listened
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.transcriber import Transcriber, load_transcriber
from rescore.diffusion.readouts import NormalisedRows
from rescore.errors import ScoreError
from rescore.interfaces import Scope
from rescore.scorers import networks
from rescore.scorers.denoising import DenoisingScorer, Prepared
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.mdlm import MASKED_ESTIMATORS, masked_estimator, with_defaults
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.text import normalizer
from rescore.types import NBest, Score

__all__ = ["FAMILY", "MdmScorer"]

#: Longest sequence where the options name none: texts are not cut, their audio could not be.
_WINDOW = 4096


@dataclass
class MdmScorer(DenoisingScorer):
    """A `ListenerScorer`: scores lists by the audio of their utterances."""

    audio: dict[str, Listened] = field(default_factory=dict)
    manifest: str = ""

    @property
    def scope(self) -> Scope:
        """The list where draws or folds depend on its alignment, else the utterance."""
        return "list" if self.estimator.scope == "list" else "utterance"

    def condition(self, utterance: str, /) -> str:
        """A digest of the utterance's samples; the id alone where there is no audio."""
        return self.audio[utterance].key if utterance in self.audio else utterance

    def select(self, lists: Iterable[NBest], /) -> Iterator[NBest]:
        """All of them."""
        yield from lists

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """See DenoisingScorer; the encoder hears the chunk's utterances first."""
        if isinstance(self.denoiser, AudioDenoiser):
            self.denoiser.hear(self._heard(nbest) for nbest in prepared.lists)
        return super().evaluate(prepared)

    def _heard(self, nbest: NBest) -> Listened:
        if nbest.id not in self.audio:
            raise ScoreError(
                f"{nbest.place()}: has no audio in {self.manifest}; give the manifest of this set"
            )
        return self.audio[nbest.id]


def _vocabulary(transcriber: Transcriber, options: ScorerOptions) -> Vocabulary:
    normalize = normalizer(options.normalizer or transcriber.normalizer)
    return Vocabulary(transcriber.tokenizer, normalize, options.window or _WINDOW)


def _load(options: ScorerOptions) -> Transcriber:
    if options.model is None:
        raise ScoreError("--scorer mdm needs --model: a directory that `train mdm` made")
    return load_transcriber(Path(options.model))


def _build(options: ScorerOptions) -> MdmScorer:
    if options.audio is None:
        raise ScoreError("--scorer mdm needs --audio: the manifest of the lists' audio")
    manifest, options = options.audio, with_defaults(options)
    transcriber = _load(options)
    model_digest = transcriber.signature
    denoiser = AudioDenoiser(transcriber, options.device)
    estimator = masked_estimator(options.estimator or "pll", denoiser, options)
    sequencer = Sequencer(_vocabulary(transcriber, options), options.score_eos)
    signature = networks.network_signature(
        f"mdm.{estimator.name}",
        model_digest,
        estimator.settings,
        sequencer,
        replace(options, dtype="float32"),
        estimator.version,
    )
    utterances: Sequence[Listened] = [
        Listened(utterance, transcriber.sampling_rate) for utterance in read_utterances(manifest)
    ]
    return MdmScorer(
        name=f"mdm_{estimator.name}",
        signature=signature,
        denoiser=denoiser,
        sequencer=sequencer,
        estimator=replace(estimator, readout=NormalisedRows(estimator.readout)),
        device=options.device,
        per_token=options.per_token,
        audio={condition.utterance.id: condition for condition in utterances},
        manifest=manifest,
    )


FAMILY = ScorerFamily(
    "mdm",
    _build,
    frozenset({"model", "audio", "device", "normalizer", "window", "score_eos", "per_token"}),
    MASKED_ESTIMATORS,
    lambda options: _vocabulary(_load(options), options),
)
