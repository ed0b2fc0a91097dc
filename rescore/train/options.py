"""What decides a corpus and a run: plain records, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rescore.acoustic.frozen import FrozenEncoder
from rescore.models.objectives import ModelPrediction

__all__ = [
    "NETWORK_SIZES",
    "CorpusOptions",
    "CtcOptions",
    "DllmOptions",
    "EncoderStart",
    "Learned",
    "MdmOptions",
    "OptimizerName",
    "RunOptions",
    "SelfCorrection",
    "SpeechOptions",
    "TrainOptions",
]

OptimizerName = Literal["adamw", "muon"]

#: What becomes of the encoder of a decoder that listens.
EncoderStart = Literal["frozen", "warm", "fresh"]

#: How the prediction that is filled in and masked again is made; off: one pass alone.
SelfCorrection = Literal["off", "argmax", "sample", "gradient"]

#: What learns of a language model behind a speech prompt.
Learned = Literal["projector", "whole", "low_rank"]

#: The fields of TrainOptions, and of NetworkConfig, that are sizes of the network.
NETWORK_SIZES = ("width", "layers", "heads", "feed_forward")


@dataclass(frozen=True)
class CorpusOptions:
    """Which text is tokenised into `directory`, and how.

    `tokenizer` is a SentencePiece model; None: train one of `vocab_size` pieces on the text.
    `join` is the probability that a line continues the text before it, drawn from `seed`.
    """

    text: tuple[Path, ...]
    valid: tuple[Path, ...]
    directory: Path
    tokenizer: Path | None = None
    vocab_size: int = 4096
    join: float = 0.5
    seed: int = 0
    normalizer: str = "librispeech"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What decides any run. Runs with equal options on the same machine have the same curve.

    `learning_rate` is the highest of the schedule, `warmup` the steps in which it rises, `decay`
    the share of the steps in which it falls. `clip` is the largest norm of the gradient. `average`
    is the decay of the moving average of the weights, which is what is validated and saved (0:
    none). `start_from` is a checkpoint directory whose weights the run starts with.
    `evaluate_every` and `save_every` are in steps. `save_minutes`: a state is saved at least this
    often, too; None: by steps alone.
    """

    steps: int = 3000
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 2e-3
    warmup: int = 150
    decay: float = 0.5
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.995
    seed: int = 0
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    normalizer: str = "librispeech"
    bf16: bool = True
    device: str = "cpu"
    compile: bool = False
    start_from: str | None = None
    evaluate_every: int = 250
    save_every: int = 250
    save_minutes: float | None = None


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """What decides a run on text: a language model.

    `prediction` None: the objective's default. `time_input` None: only where the objective needs
    it. `start_from` may be of any objective with the same sizes.
    """

    objective: str
    prediction: ModelPrediction | None = None
    batch_tokens: int = 4096
    time_input: bool | None = None


@dataclass(frozen=True)
class CtcOptions(RunOptions):
    """What decides a run on speech: a CTC recogniser.

    `batch_seconds`: audio in a batch, padding included. `dropout`: share of the hidden states that
    are zeroed before each block. `kernel`: frames that the depthwise
    convolutions see. SpecAugment hides `frequency_masks` bands of up to `frequency_width` bins and
    `time_masks` stretches of up to `time_share` of an utterance each.
    """

    batch_seconds: float = 60.0
    kernel: int = 15
    dropout: float = 0.0
    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 5
    time_share: float = 0.05


@dataclass(frozen=True)
class MdmOptions(RunOptions):
    """What decides a run on speech: a decoder that listens, masked or `causal`.

    The sizes are the decoder's. `start_from` is a recogniser, whose encoder and symbols are taken,
    or a model of such a run, of which all is. `encoder`: "frozen" learns nothing, "warm" learns on,
    "fresh" is drawn anew. `state_draws`: a frozen encoder's states are made once, for that many
    draws of SpecAugment each; 0: at every step. `decoder_from` is a text model whose blocks the
    decoder starts with. `ctc_weight`: the share of CTC's loss, which a frozen encoder has not. The
    masked loss: see `rescore.train.mdm_losses`.
    """

    causal: bool = False
    encoder: EncoderStart = "warm"
    state_draws: int = 0
    decoder_from: str | None = None
    batch_seconds: float = 60.0
    ctc_weight: float = 0.3
    self_correction: SelfCorrection = "argmax"
    lowest_mask: float = 0.0
    margin: int = 16
    canvas: int | None = None
    audio_dropout: float = 0.1
    dropout: float = 0.1
    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 5
    time_share: float = 0.05


@dataclass(frozen=True)
class DllmOptions(RunOptions):
    """What decides a run on speech: a language model behind a speech prompt.

    `start_from` is a recogniser, whose encoder and symbols are taken, or a model of such a run, of
    which all is; the encoder never learns. `language_model` is a text model, with which a run that
    starts from a recogniser begins: ours, or one of Hugging Face (`remote_code`: its own code may
    run); `from_scratch` draws its weights anew. `learn`: the projector alone, the language model
    too, or low-rank adapters (`rank`) in it; None: all of ours, the projector of others. `stride`,
    `positions` as in PromptConfig; None: emitted, sequence for models of Hugging Face.
    `fully_masked`: share of texts that are hidden whole. `ctc_weight`: the share of the loss of CTC
    on the prompt. The sizes are those of the language model.
    """

    language_model: str | None = None
    from_scratch: bool = False
    remote_code: bool = False
    learn: Learned | None = None
    rank: int = 16
    stride: int = 2
    positions: Literal["emitted", "sequence"] | None = None
    batch_seconds: float = 60.0
    ctc_weight: float = 0.3
    fully_masked: float = 0.2
    margin: int = 8
    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 5
    time_share: float = 0.05


@dataclass(frozen=True)
class SpeechOptions:
    """Which speech becomes the features in `directory`, and how its texts are spelled.

    `audio` and `valid` are manifests with texts (rescore.acoustic.manifests). `tokenizer` is a
    SentencePiece model, `vocab_size` the size of one that is trained on the texts; neither: the
    characters of the training texts. `speeds` are the factors of speed perturbation. `frozen`
    makes the features, `bins` numbers a frame; None: log-Mel bins every 10 ms.
    """

    audio: tuple[Path, ...]
    valid: tuple[Path, ...]
    directory: Path
    tokenizer: Path | None = None
    vocab_size: int | None = None
    speeds: tuple[float, ...] = (1.0, 0.9, 1.1)
    sampling_rate: int = 16_000
    bins: int = 80
    normalizer: str = "librispeech"
    frozen: FrozenEncoder | None = None

    @property
    def subsampling(self) -> int:
        """Feature frames to one of the network's output."""
        return 4 if self.frozen is None else 1

    @property
    def frames_a_second(self) -> float:
        """Feature frames of a second of audio."""
        return 100 if self.frozen is None else self.sampling_rate / self.frozen.frame_samples
