"""Training decoders that listen, MDM-ASR and its autoregressive twin (arXiv:2602.18952).

The main loop, its optimisers, averaging and resuming are those of the text trainer
(`rescore.train.run`), the features those of `train ctc`, whose recogniser is the encoder that a run
starts with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rescore.acoustic.recogniser import is_recogniser, load_recogniser, read_symbols
from rescore.acoustic.symbols import Symbols
from rescore.acoustic.transcriber import Transcriber, load_transcriber, save_transcriber
from rescore.acoustic.transcription import greedy, one_pass
from rescore.errors import ModelError
from rescore.models.audio_network import SPECIAL_ROWS, AudioNetwork, SpecialRows
from rescore.models.checkpoint import Checkpoint, load
from rescore.models.conditioned import ConditionedConfig, ConditionedNetwork
from rescore.models.speech_network import SpeechNetwork
from rescore.train.ctc import SpecAugment, greedy_texts, reference_texts
from rescore.train.encoder_states import Augmentation, open_states
from rescore.train.learner import Learner
from rescore.train.mdm_losses import (
    CausalText,
    Hearing,
    ListeningLoss,
    MaskedText,
    hear_features,
    hear_states,
)
from rescore.train.options import NETWORK_SIZES, MdmOptions, SpeechOptions
from rescore.train.run import Run
from rescore.train.speech_corpus import SpeechBatches, SpeechCorpus, open_parts
from rescore.train.speech_run import card_of_run, check_features, check_run_directory, check_symbols
from rescore.train.speed import step_flops
from rescore.train.start import find_start
from rescore.train.state import writing_to
from rescore.types import ErrorCounts
from rescore.wer.counts import count_errors

__all__ = [
    "MdmValidation",
    "MdmValidator",
    "mdm_learner",
    "sizes_of_decoder",
    "train_mdm",
]

#: Validation while training reads the first batches of this size; the last one reads all.
_FEW_BATCHES, _BATCH_OUTPUTS = 4, 6000


def train_mdm(
    speech: SpeechOptions, directory: Path, options: MdmOptions, card: dict[str, Any]
) -> Transcriber:
    """Train on prepared speech and write the transcriber into `directory`.

    A run that was stopped is resumed from `directory/state.pt`. Raises TrainError as `train` does.
    """
    check_run_directory(directory)
    symbols = read_symbols(speech.directory)
    check_features(options.start_from, speech)
    learner = mdm_learner(options, symbols)
    examples, held_out = _examples(speech, options, len(symbols), learner)
    validator = MdmValidator(held_out, symbols, _hearing(options))
    run = Run(options, learner, examples, directory)
    run.resume()
    run.main_loop(validator)
    run.learner.keep_average()
    validation = validator.whole(run.learner)
    network = run.learner.network.to("cpu").eval()
    transcriber = Transcriber(
        network,  # type: ignore[arg-type]
        symbols,
        speech.sampling_rate,
        speech.normalizer,
        card_of_run(card, run, options, speech, validation.summary()),
        speech.frozen,
    )
    with writing_to(directory):
        save_transcriber(transcriber, directory, torch.float16)
    return transcriber


def mdm_learner(options: MdmOptions, symbols: Symbols) -> Learner:
    """The learner that the options ask for. Raises ModelError for an unusable start."""
    torch.manual_seed(options.seed)
    network = _network(options, symbols)
    if options.decoder_from is not None:
        copy_blocks(network.decoder, symbols, find_start(options.decoder_from))
    is_frozen = options.encoder == "frozen"
    network.encoder.requires_grad_(not is_frozen)
    bound: CausalText | MaskedText = CausalText() if options.causal else MaskedText()
    text: CausalText | MaskedText = bound
    if not options.causal:
        text = MaskedText(
            options.margin, options.canvas, options.lowest_mask, options.self_correction
        )
    masks, hearing = SpecAugment.of(options), _hearing(options)
    ctc_weight = 0.0 if is_frozen else options.ctc_weight
    loss = ListeningLoss(text, ctc_weight, masks, options.audio_dropout, hearing)
    flops = _decoder_flops if options.state_draws else _flops
    return Learner(options, network, loss, ListeningLoss(bound, hearing=hearing), flops)


def _examples(
    speech: SpeechOptions, options: MdmOptions, symbols: int, learner: Learner
) -> tuple[SpeechBatches, SpeechCorpus]:
    """What is learnt from, and the held-out speech: features, or states of the frozen encoder."""
    if not options.state_draws:
        return open_parts(speech, symbols, options.batch_seconds)
    augmentation = Augmentation(SpecAugment.of(options), options.state_draws, options.seed)
    encoder: SpeechNetwork = learner.network.encoder  # type: ignore[assignment]
    return open_states(
        speech, symbols, options.batch_seconds, encoder, augmentation, options.device
    )


def _hearing(options: MdmOptions) -> Hearing:
    return hear_states if options.state_draws else hear_features


def sizes_of_decoder(directory: Path) -> dict[str, int]:
    """The sizes of a transcriber's decoder, by the names of NETWORK_SIZES. Raises ModelError."""
    config = load_transcriber(directory).network.decoder.config
    return {name: getattr(config, name) for name in NETWORK_SIZES}


def _network(options: MdmOptions, symbols: Symbols) -> AudioNetwork:
    """The encoder that the run starts with, and a decoder, fresh or that of a transcriber."""
    directory = Path(options.start_from or "")
    if options.start_from is None:
        raise ModelError("--start-from is missing; give the recogniser whose encoder is taken")
    from_recogniser = is_recogniser(directory)
    start = load_recogniser(directory) if from_recogniser else load_transcriber(directory)
    check_symbols(directory, start.symbols, symbols)
    encoder = start.network if isinstance(start.network, SpeechNetwork) else start.network.encoder
    if options.encoder == "fresh":
        encoder = SpeechNetwork(encoder.config)
    sizes = {name: getattr(options, name) for name in NETWORK_SIZES}
    config = ConditionedConfig(
        len(symbols) + SPECIAL_ROWS,
        **sizes,
        causal=options.causal,
        memory_width=encoder.config.width,
        dropout=options.dropout,
    )
    decoder = ConditionedNetwork(config)
    if isinstance(start, Transcriber):
        _copy_decoder(decoder, start, directory)
    return AudioNetwork(encoder, decoder, symbols.blank).train()


def _flops(network: nn.Module, batch: int, frames: int, read_out: int) -> float:
    """FLOPs of a step: the encoder's blocks, and the decoder's as if half of a canvas is read out.

    That is the mean share of masked positions; a causal decoder reads out all.
    """
    heard = step_flops(network.encoder, batch, frames, 0)  # type: ignore[arg-type]
    return heard + _decoder_flops(network, batch, frames, read_out)


def _decoder_flops(network: nn.Module, batch: int, frames: int, read_out: int) -> float:
    """The same without the encoder."""
    del frames
    decoder = network.decoder
    positions = read_out if decoder.config.causal else 2 * read_out  # type: ignore[union-attr]
    return step_flops(decoder, batch, positions // batch, read_out)  # type: ignore[arg-type]


def _copy_decoder(decoder: ConditionedNetwork, start: Transcriber, directory: Path) -> None:
    """Copy all weights of a transcriber's decoder. Raises ModelError for other sizes."""
    _check_sizes(decoder.config, start.network.decoder.config, directory)
    decoder.load_state_dict(start.network.decoder.state_dict())


def copy_blocks(decoder: ConditionedNetwork, symbols: Symbols, directory: Path) -> None:
    """Copy the blocks of a text model into a decoder of the same sizes.

    So are the embeddings of the pieces that both have, of BOS, EOS and the mask symbol. What
    listens stays fresh. Raises ModelError if the sizes differ.
    """
    checkpoint = load(directory)
    _check_sizes(decoder.config, checkpoint.network.config, directory)
    weights, text = decoder.state_dict(), checkpoint.network.state_dict()
    for name, weight in text.items():
        _, _, rest = name.partition("blocks.")
        layer, _, part = rest.partition(".")
        copied = f"blocks.{layer}.block.{part}" if rest else name
        if copied in weights and copied != "embedding.weight":
            weights[copied] = weight
    embedding, rows = text["embedding.weight"], weights["embedding.weight"]
    for row, token in _rows_of_tokens(symbols, checkpoint):
        rows[row] = embedding[token]
    decoder.load_state_dict(weights)


def _rows_of_tokens(symbols: Symbols, checkpoint: Checkpoint) -> Iterator[tuple[int, int]]:
    """(row of a decoder, row of a text model) of everything that means the same in both."""
    tokenizer = checkpoint.tokenizer
    tokens = [token for token in range(tokenizer.size) if token not in tokenizer.special]
    token_of = dict(zip(tokenizer.pieces(tokens), tokens, strict=True))
    for symbol, column in symbols.columns.items():
        piece = symbols.text_piece(symbol)
        if piece in token_of:
            yield column, token_of[piece]
    rows = SpecialRows.of(len(symbols), symbols.blank)
    yield rows.eos, tokenizer.eos_id
    yield rows.bos, tokenizer.bos_id
    if checkpoint.mask_id is not None:
        yield rows.mask, checkpoint.mask_id


def _check_sizes(config: Any, start: Any, directory: Path) -> None:
    for name in NETWORK_SIZES:
        size, expected = getattr(start, name), getattr(config, name)
        if size != expected:
            raise ModelError(
                f"{directory}: its {name} is {size}, expected {expected}; "
                "start from a model of the same size"
            )


# ----------------------------------------------------------------------------------- validation


@dataclass(frozen=True)
class MdmValidation:
    """Sums over validation speech: `nats` of the texts, their `tokens` with EOS, word errors.

    `nats` are a bound for a masked decoder. `ctc` counts the errors of CTC's greedy path, `decoder`
    those of one evaluation of masks, or of the greedy path of an autoregressive twin.
    """

    nats: float
    tokens: int
    ctc: ErrorCounts
    decoder: ErrorCounts

    def summary(self) -> dict[str, float]:
        """What the card keeps."""
        return {
            "valid_nats_per_token": self.nats / self.tokens,
            "valid_ctc_wer": self.ctc.wer,
            "valid_wer": self.decoder.wer,
        }

    def figures(self) -> dict[str, str]:
        """Its columns of the log."""
        return {name: f"{value:.4f}" for name, value in self.summary().items()}


class MdmValidator:
    """Evaluates a learner on the same utterances every time, with the same masks."""

    def __init__(
        self, corpus: SpeechCorpus, symbols: Symbols, hearing: Hearing = hear_features
    ) -> None:
        frames = corpus.subsampling * _BATCH_OUTPUTS
        self._speech, self._symbols, self._hearing = SpeechBatches(corpus, frames), symbols, hearing
        self._batches = self._speech.plain()

    def quick(self, learner: Learner) -> MdmValidation:
        """Loss and word errors on the first few batches."""
        return self._evaluate(learner, _FEW_BATCHES)

    def whole(self, learner: Learner) -> MdmValidation:
        """Loss and word errors on all utterances."""
        return self._evaluate(learner, len(self._batches))

    @torch.no_grad()
    def _evaluate(self, learner: Learner, count: int) -> MdmValidation:
        network: AudioNetwork = learner.network.eval()  # type: ignore[assignment]
        nats, tokens, ctc, decoder = 0.0, 0, ErrorCounts(), ErrorCounts()
        for number, rows in enumerate(self._batches[:count]):
            batch = self._speech.batch(rows)
            generator = torch.Generator().manual_seed(number)
            nats += float(learner.evaluate(learner.bound, batch, generator)[0])
            tokens += batch.scored + len(rows)
            by_ctc, by_decoder = self._errors(network, batch.inputs)
            ctc, decoder = ctc + by_ctc, decoder + by_decoder
        network.train()
        return MdmValidation(nats, tokens, ctc, decoder)

    def _errors(
        self, network: AudioNetwork, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[ErrorCounts, ErrorCounts]:
        """Word errors of CTC's greedy path and of the decoder."""
        features, frames, targets, sizes = inputs
        heard = self._hearing(network, features, frames, None, torch.Generator())
        spell = greedy if network.decoder.config.causal else one_pass
        references = reference_texts(self._symbols, targets, sizes)
        paths = greedy_texts(self._symbols, heard.log_probs, heard.lengths)
        spelled = [self._symbols.decode(row) for row in spell(network, heard)]
        return _sum_of_errors(references, paths), _sum_of_errors(references, spelled)


def _sum_of_errors(references: list[str], texts: list[str]) -> ErrorCounts:
    counts = ErrorCounts()
    for pair in zip(references, texts, strict=True):
        counts += count_errors(*pair)
    return counts
