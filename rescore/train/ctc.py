"""Training CTC recognisers on speech: prepared features to a checkpoint.

The main loop, its optimisers, averaging and resuming are those of the text trainer
(`rescore.train.run`). A batch's loss is the negative log-probability of its texts, with SpecAugment
(Park et al. 2019, arXiv:1904.08779; stretches of time in proportion to the utterance as in Park et
al. 2020, arXiv:1912.05533) drawn anew at every step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rescore.acoustic.ctc import collapse
from rescore.acoustic.recogniser import (
    Recogniser,
    load_recogniser,
    read_symbols,
    save_recogniser,
)
from rescore.acoustic.symbols import Symbols
from rescore.errors import ModelError
from rescore.models.speech_network import (
    SUBSAMPLING,
    SpeechConfig,
    SpeechNetwork,
    normalised,
)
from rescore.train.learner import Learner
from rescore.train.options import (
    NETWORK_SIZES,
    CtcOptions,
    DllmOptions,
    MdmOptions,
    SpeechOptions,
)
from rescore.train.run import Run
from rescore.train.speech_corpus import SpeechBatches, SpeechCorpus, open_parts
from rescore.train.speech_run import card_of_run, check_features, check_run_directory
from rescore.train.state import writing_to
from rescore.train.transfer import to_device
from rescore.types import ErrorCounts
from rescore.wer.counts import count_errors

__all__ = [
    "CtcLoss",
    "SpecAugment",
    "SpeechValidation",
    "SpeechValidator",
    "copy_recogniser",
    "ctc_learner",
    "greedy_texts",
    "network_input",
    "reference_texts",
    "sizes_of_recogniser",
    "train_ctc",
]

#: Validation while training reads the first batches of this size; the last one reads all.
_FEW_BATCHES, _BATCH_FRAMES = 16, 6000


def train_ctc(
    speech: SpeechOptions, directory: Path, options: CtcOptions, card: dict[str, Any]
) -> Recogniser:
    """Train on prepared speech and write the recogniser into `directory`.

    A run that was stopped is resumed from `directory/state.pt`. Raises TrainError as `train` does.
    """
    check_run_directory(directory)
    symbols = read_symbols(speech.directory)
    examples, held_out = open_parts(speech, len(symbols), options.batch_seconds)
    validator = SpeechValidator(held_out, symbols)
    check_features(options.start_from, speech)
    learner = ctc_learner(options, symbols, speech.bins, speech.subsampling)
    run = Run(options, learner, examples, directory)
    run.resume()
    run.main_loop(validator)
    run.learner.keep_average()
    recogniser = _recogniser(run, options, speech, validator.whole(run.learner), card)
    with writing_to(directory):
        save_recogniser(recogniser, directory, torch.float16)
    return recogniser


def _recogniser(
    run: Run,
    options: CtcOptions,
    speech: SpeechOptions,
    validation: SpeechValidation,
    card: dict[str, Any],
) -> Recogniser:
    """The current weights, on the CPU, with a card that says how they were trained."""
    network = run.learner.network.to("cpu").eval()
    figures = {"valid_nats_per_token": validation.nats_per_token, "valid_wer": validation.wer}
    return Recogniser(
        network,  # type: ignore[arg-type]
        read_symbols(speech.directory),
        speech.sampling_rate,
        speech.normalizer,
        card_of_run(card, run, options, speech, figures),
        speech.frozen,
    )


def ctc_learner(
    options: CtcOptions, symbols: Symbols, bins: int, subsampling: int = SUBSAMPLING
) -> Learner:
    """The learner that the options ask for. Raises ModelError for an unusable start."""
    torch.manual_seed(options.seed)
    sizes = {name: getattr(options, name) for name in NETWORK_SIZES}
    network = SpeechNetwork(
        SpeechConfig(
            len(symbols),
            **sizes,
            kernel=options.kernel,
            bins=bins,
            dropout=options.dropout,
            subsampling=subsampling,
        )
    )
    if options.start_from is not None:
        copy_recogniser(network, symbols, Path(options.start_from))
    loss = CtcLoss(symbols.blank, SpecAugment.of(options))
    return Learner(options, network, loss, CtcLoss(symbols.blank))


def sizes_of_recogniser(directory: Path) -> dict[str, int]:
    """The sizes of a recogniser's network, as CtcOptions names them. Raises ModelError."""
    config = load_recogniser(directory).network.config
    return {name: getattr(config, name) for name in (*NETWORK_SIZES, "kernel")}


def copy_recogniser(network: SpeechNetwork, symbols: Symbols, directory: Path) -> None:
    """Copy the weights of a recogniser of the same sizes into `network`.

    The output rows of symbols that both have are copied, by name; others stay fresh.
    """
    start = load_recogniser(directory)
    sizes, expected = asdict(start.network.config), asdict(network.config)
    for name, size in expected.items():
        if name not in ("symbols", "dropout") and sizes[name] != size:
            raise ModelError(
                f"{directory}: its {name} is {sizes[name]}, expected {size}; "
                "start from a recogniser of the same size"
            )
    rows = {symbols.blank: start.symbols.blank}
    rows |= {
        column: start.symbols.columns[piece]
        for piece, column in symbols.columns.items()
        if piece in start.symbols.columns
    }
    weights, loaded = network.state_dict(), start.network.state_dict()
    for name in ("head.weight", "head.bias"):
        head = weights[name].clone()
        head[list(rows)] = loaded[name][list(rows.values())]
        loaded[name] = head
    network.load_state_dict(loaded)


# ------------------------------------------------------------------------------------- the loss


@dataclass(frozen=True)
class SpecAugment:
    """Bands of bins and stretches of frames that are hidden (0, the mean) while training.

    `bands` bands of 0 to `band_width` bins; `stretches` of 0 to `share` of the utterance each.
    """

    bands: int = 2
    band_width: int = 27
    stretches: int = 5
    share: float = 0.05

    @classmethod
    def of(cls, options: CtcOptions | DllmOptions | MdmOptions) -> SpecAugment:
        """What the options of a run hide."""
        return cls(
            options.frequency_masks, options.frequency_width, options.time_masks, options.time_share
        )

    def hide(self, features: Tensor, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parts of normalised features (B, T, F), frames (B,) int64; drawn on the CPU."""
        batch, length, bins = features.shape
        is_hidden = _spans(
            torch.full((batch,), bins), torch.full((batch,), self.band_width), self.bands, generator
        )[:, None, :]  # (B, 1, F)
        widest = (self.share * frames).floor().long()
        times = _spans(frames, widest, self.stretches, generator, length)
        is_hidden = is_hidden | times[:, :, None]
        return features.masked_fill(to_device(is_hidden, features.device), 0.0)


def network_input(
    features: Tensor,
    frames: Tensor,
    masks: SpecAugment | None,
    device: torch.device,
    generator: torch.Generator,
) -> Tensor:
    """Normalised features (B, T, F) on a device; `masks` hides parts of them."""
    x = normalised(to_device(features, device), frames)
    return x if masks is None else masks.hide(x, frames, generator)


def _spans(
    sizes: Tensor,
    widest: Tensor,
    count: int,
    generator: torch.Generator,
    length: int | None = None,
) -> Tensor:
    """Where `count` random spans of each row lie: (B, length) bool.

    A span is 0 to `widest` (B,) long and lies within the first `sizes` (B,) positions.
    """
    batch, positions = len(sizes), torch.arange(int(sizes.max()) if length is None else length)
    u, v = torch.rand(2, batch, count, generator=generator)
    width = (u * (widest[:, None] + 1)).floor()
    start = (v * (sizes[:, None] - width + 1)).floor()
    inside = (positions >= start[..., None]) & (positions < (start + width)[..., None])
    spans: Tensor = inside.any(1)
    return spans


@dataclass(frozen=True)
class CtcLoss:
    """-log P(text | audio), summed over a batch.

    Source: Graves et al. 2006, eq. 14. Exact check:
    tests/train/test_train_ctc.py::test_the_loss_is_minus_the_log_of_the_sum_over_all_paths.
    """

    blank: int
    masks: SpecAugment | None = None

    def __call__(
        self,
        network: SpeechNetwork,
        features: Tensor,
        frames: Tensor,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """Nats, and output frames; features (B, T, F), frames (B,), targets (B, S), sizes (B,)."""
        device = network.head.weight.device
        torch.manual_seed(generator.initial_seed())  # of dropout: a resumed run draws the same
        x = network_input(features, frames, self.masks, device, generator)
        log_probs, lengths = network.encode(x, frames)
        nats = functional.ctc_loss(
            log_probs.transpose(0, 1),
            to_device(targets, device),
            lengths,
            sizes,
            blank=self.blank,
            reduction="sum",
        )
        return nats, int(lengths.sum())


# ----------------------------------------------------------------------------------- validation


@dataclass(frozen=True)
class SpeechValidation:
    """Sums over validation speech: `nats` of the texts, their `tokens`, errors of greedy paths."""

    nats: float
    tokens: int
    errors: ErrorCounts

    @property
    def nats_per_token(self) -> float:
        """-log P(text | audio) over the number of symbols."""
        return self.nats / self.tokens

    @property
    def wer(self) -> float:
        """The word error rate of the greedy path, a fraction."""
        return self.errors.wer

    def figures(self) -> dict[str, str]:
        """Its columns of the log."""
        return {
            "valid_nats_per_token": f"{self.nats_per_token:.4f}",
            "valid_wer": f"{self.wer:.4f}",
        }


class SpeechValidator:
    """Evaluates a learner on the same utterances every time, without SpecAugment."""

    def __init__(self, corpus: SpeechCorpus, symbols: Symbols) -> None:
        self._speech, self._symbols = SpeechBatches(corpus, _BATCH_FRAMES), symbols
        self._batches = self._speech.plain()

    def quick(self, learner: Learner) -> SpeechValidation:
        """Loss and word errors on the first few batches."""
        return self._evaluate(learner, _FEW_BATCHES)

    def whole(self, learner: Learner) -> SpeechValidation:
        """Loss and word errors on all utterances."""
        return self._evaluate(learner, len(self._batches))

    @torch.no_grad()
    def _evaluate(self, learner: Learner, count: int) -> SpeechValidation:
        network = learner.network.eval()
        nats, tokens, counts = 0.0, 0, ErrorCounts()
        for rows in self._batches[:count]:
            features, frames, targets, sizes = self._speech.batch(rows).inputs
            device = next(network.parameters()).device
            log_probs, lengths = network(features.to(device), frames)
            nats += float(
                functional.ctc_loss(
                    log_probs.transpose(0, 1),
                    targets.to(device),
                    lengths,
                    sizes,
                    blank=self._symbols.blank,
                    reduction="sum",
                )
            )
            tokens += int(sizes.sum())
            for pair in zip(
                reference_texts(self._symbols, targets, sizes),
                greedy_texts(self._symbols, log_probs, lengths),
                strict=True,
            ):
                counts += count_errors(*pair)
        network.train()
        return SpeechValidation(nats, tokens, counts)


def reference_texts(symbols: Symbols, targets: Tensor, sizes: Tensor) -> list[str]:
    """The texts of padded symbols (B, S), sizes (B,)."""
    return [
        symbols.decode(row[:size])
        for row, size in zip(targets.tolist(), sizes.tolist(), strict=True)
    ]


def greedy_texts(symbols: Symbols, log_probs: Tensor, lengths: Tensor) -> list[str]:
    """The texts of the best paths of log-probabilities (B, L, V), lengths (B,)."""
    paths = log_probs.argmax(-1).tolist()
    return [
        symbols.decode(collapse(path[:length], symbols.blank))
        for path, length in zip(paths, lengths.tolist(), strict=True)
    ]
