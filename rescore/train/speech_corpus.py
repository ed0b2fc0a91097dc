"""Manifests to one memory-mapped array of features, and batches of it.

A corpus on disk: `features.bin` (float16 rows of bins, one version of an utterance after the
other), `offsets.npy` (int64, of utterance u in version v: row u * versions + v), `targets.npy`
(int32 symbols) and `target_offsets.npy`. Versions are the utterance at each speed: resampled before
features are made, so that pitch and tempo change together (Ko et al. 2015, Interspeech).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from rescore.acoustic.audio import read_audio, resample, seconds_of
from rescore.acoustic.ctc import frames_needed
from rescore.acoustic.features import fbank
from rescore.acoustic.frozen import open_frozen_encoder
from rescore.acoustic.manifests import Utterance, read_utterances
from rescore.acoustic.recogniser import (
    character_symbols,
    piece_symbols,
    write_symbols,
)
from rescore.acoustic.symbols import Symbols
from rescore.errors import AudioError, TrainError
from rescore.formats.bounded import check_regular
from rescore.formats.files import make_folder, replace_file
from rescore.models.opening import one_line
from rescore.models.speech_network import SUBSAMPLING, output_frames
from rescore.models.tokenizer import read_tokenizer, train_tokenizer
from rescore.text import normalizer
from rescore.train.corpus import are_offsets, bucketed
from rescore.train.feature_file import continue_from, forget_progress, offsets_of, write_features
from rescore.train.learner import Batch
from rescore.train.options import SpeechOptions
from rescore.train.overlap import Overlap
from rescore.train.prepare import read_settings
from rescore.train.state import writing_to

__all__ = [
    "SpeechBatches",
    "SpeechCorpus",
    "open_parts",
    "open_speech",
    "prepare_speech",
    "prepared_speech",
    "with_states",
]

#: Longer utterances are refused: attention over an hour needs more memory than there is.
_LONGEST_SECONDS = 120.0


@dataclass(frozen=True)
class SpeechCorpus:
    """Utterance u in version v has features `features[offsets[r] : offsets[r + 1]]`, r = u V + v.

    features (frames, bins) float16; its symbols are `targets[target_offsets[u] :
    target_offsets[u + 1]]`; V is `versions`. `subsampling` feature frames are one of the output.
    """

    features: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    target_offsets: np.ndarray
    versions: int
    subsampling: int = SUBSAMPLING

    def __len__(self) -> int:
        return len(self.target_offsets) - 1

    @property
    def frames(self) -> np.ndarray:
        """(utterances, versions) int64 numbers of frames."""
        return np.diff(self.offsets).reshape(len(self), self.versions)

    def outputs(self, frames: np.ndarray) -> np.ndarray:
        """The output frames of numbers of feature frames, int64."""
        outputs: np.ndarray = output_frames(torch.from_numpy(frames), self.subsampling).numpy()
        return outputs


class SpeechBatches:
    """The utterances of a corpus in batches of about `frames_per_batch` padded frames."""

    def __init__(self, corpus: SpeechCorpus, frames_per_batch: int) -> None:
        self.corpus, self._frames_per_batch = corpus, frames_per_batch
        self._fits = _needed(corpus)[:, None] <= corpus.outputs(corpus.frames)

    def epoch(self, seed: int) -> list[np.ndarray]:
        """All utterances once, each in a version drawn from those that have frames enough."""
        chance = np.random.default_rng(seed)
        drawn = chance.random(self._fits.shape)
        versions = np.where(self._fits, drawn, -1.0).argmax(1)
        lengths = self.corpus.frames[np.arange(len(versions)), versions]
        rows = np.arange(len(versions)) * self.corpus.versions + versions
        return [rows[batch] for batch in bucketed(lengths, self._frames_per_batch, chance)]

    def plain(self) -> list[np.ndarray]:
        """All utterances in their first version, in batches of similar lengths."""
        lengths = self.corpus.frames[:, 0]
        batches = bucketed(lengths, self._frames_per_batch, np.random.default_rng(0))
        return [batch * self.corpus.versions for batch in batches]

    def batch(self, rows: np.ndarray) -> Batch:
        """Features (B, T, F) float32, frames (B,), symbols (B, S) and their numbers (B,), int64."""
        corpus, utterances = self.corpus, rows // self.corpus.versions
        frames = np.diff(corpus.offsets)[rows]
        sizes = np.diff(corpus.target_offsets)[utterances]
        features = np.zeros((len(rows), frames.max(), corpus.features.shape[1]), np.float32)
        targets = np.zeros((len(rows), max(1, sizes.max())), np.int64)
        for number, (row, utterance) in enumerate(zip(rows, utterances, strict=True)):
            start, first = corpus.offsets[row], corpus.target_offsets[utterance]
            features[number, : frames[number]] = corpus.features[start : start + frames[number]]
            targets[number, : sizes[number]] = corpus.targets[first : first + sizes[number]]
        inputs = tuple(map(torch.from_numpy, (features, frames, targets, sizes)))
        shape = (len(rows), int(corpus.outputs(frames.max(keepdims=True))[0]))
        return Batch(inputs, max(1, int(sizes.sum())), shape)


def _needed(corpus: SpeechCorpus) -> np.ndarray:
    """(utterances,) the fewest output frames that can spell each text."""
    texts = np.split(corpus.targets, corpus.target_offsets[1:-1])
    return np.array([frames_needed(text.tolist()) for text in texts])


# --------------------------------------------------------------------------------- on the disk


def prepare_speech(options: SpeechOptions, device: str = "cpu") -> None:
    """Make the symbols and the features of all audio, unless the directory is ready.

    A call that was stopped goes on where it was. `device` is where a frozen encoder runs.

    Raises TrainError if a text is missing or cannot be spelled or aligned, or the directory was
    prepared with other settings; AudioError, FormatError and ModelError as their readers do.
    """
    directory, ready = options.directory, options.directory / "ready.json"
    settings = json.loads(json.dumps({**asdict(options), "directory": None}, default=str))
    if ready.exists():
        _check_settings(ready, settings)
        return
    make_folder(directory)
    train, valid = (list(_spoken(paths, options)) for paths in (options.audio, options.valid))
    overlap = Overlap((text for _, text in valid), "loss and the error rate")
    overlap.count(text for _, text in train)
    symbols = _symbols(options, [text for _, text in train])
    write_symbols(symbols, directory)
    parts = {"train": train, "valid": valid}
    with writing_to(directory):
        continue_from(
            directory,
            settings,
            {name: [utterance for utterance, _ in part] for name, part in parts.items()},
        )
        _encode(train, symbols, options, directory / "train", device)
        plain = replace(options, speeds=(1.0,))
        _encode(valid, symbols, plain, directory / "valid", device)
        replace_file(ready, (json.dumps(settings) + "\n").encode())
        forget_progress(directory, parts)


def with_states(options: SpeechOptions, model: str) -> SpeechOptions:
    """The same speech with the states of an encoder of Hugging Face as features.

    Raises ModelError if it cannot be loaded.
    """
    frozen = open_frozen_encoder(model)
    return replace(options, frozen=frozen, bins=frozen.width, sampling_rate=frozen.sampling_rate)


def prepared_speech(directory: Path) -> SpeechOptions:
    """The options that a directory was prepared with. Raises TrainError if it is not ready."""
    ready = directory / "ready.json"
    if not ready.exists():
        raise TrainError(
            f"{directory}: holds no prepared speech; give the corpus folder of a `train ctc` run"
        )
    settings = read_settings(ready, ("audio", "speeds"))
    try:
        return msgspec.convert(
            {**settings, "directory": str(directory)},
            SpeechOptions,
            dec_hook=lambda kind, value: kind(value),
        )
    except msgspec.ValidationError as error:
        raise TrainError(
            f"{ready}: not the settings of prepared speech ({one_line(error)}); delete the corpus "
            "folder to prepare it again"
        ) from error


def _check_settings(ready: Path, settings: dict[str, Any]) -> None:
    prepared = read_settings(ready, ("audio", "speeds"))
    names = prepared.keys() | settings.keys()
    changed = [name for name in sorted(names) if prepared.get(name) != settings.get(name)]
    if changed:
        raise TrainError(
            f"{ready}: the corpus was prepared from other speech or settings "
            f"({', '.join(changed)}); use the same ones or another --corpus folder"
        )


def _spoken(paths: tuple[Path, ...], options: SpeechOptions) -> Iterator[tuple[Utterance, str]]:
    """Every utterance with its normalised text."""
    normalize = normalizer(options.normalizer)
    for path in paths:
        for utterance in read_utterances(path):
            text = normalize(utterance.text or "")
            if not text:
                lack = "no text" if utterance.text is None else "an empty text"
                raise TrainError(
                    f"{utterance.place()}: has {lack}; give manifests with what was spoken "
                    "(lhotse: cuts with one supervision each), or leave the utterance out"
                )
            seconds = seconds_of(utterance)
            if seconds > _LONGEST_SECONDS:
                raise TrainError(
                    f"{utterance.place()}: lasts {seconds:.0f} s, expected at most "
                    f"{_LONGEST_SECONDS:.0f} s; cut it into utterances with their texts"
                )
            yield utterance, text


def _symbols(options: SpeechOptions, texts: list[str]) -> Symbols:
    if options.tokenizer is not None:
        return piece_symbols(read_tokenizer(options.tokenizer))
    if options.vocab_size is not None:
        return piece_symbols(train_tokenizer(texts, options.vocab_size))
    return character_symbols(texts)


def _encode(
    spoken: list[tuple[Utterance, str]],
    symbols: Symbols,
    options: SpeechOptions,
    directory: Path,
    device: str,
) -> None:
    targets = [symbols.encode(text, utterance.place()) for utterance, text in spoken]

    def features_of(utterance: Utterance) -> list[np.ndarray]:
        audio = read_audio(utterance, options.sampling_rate)
        return [
            _features(resample(audio, speed, 1.0), utterance, options, device)
            for speed in options.speeds
        ]

    lengths = write_features(
        directory,
        [utterance for utterance, _ in spoken],
        features_of,
        (len(options.speeds), options.bins),
    )
    np.save(directory / "offsets.npy", offsets_of(lengths))
    np.save(directory / "targets.npy", np.concatenate(targets).astype(np.int32))
    np.save(directory / "target_offsets.npy", offsets_of([len(target) for target in targets]))
    corpus = open_speech(
        directory, options.bins, len(options.speeds), len(symbols), options.subsampling
    )
    _refuse_too_short(corpus, spoken, 1000 * options.subsampling / options.frames_a_second)


def _features(
    audio: np.ndarray, utterance: Utterance, options: SpeechOptions, device: str
) -> np.ndarray:
    """(T, bins). Raises AudioError for audio that a frozen encoder cannot hear, TrainError for
    states that float16 cannot hold.
    """
    if options.frozen is None:
        return fbank(audio, options.sampling_rate, options.bins)
    options.frozen.check(len(audio), utterance.place())
    if len(audio) < options.frozen.min_samples:
        raise AudioError(
            f"{utterance.place()}: {len(audio)} samples are too few for one frame; leave it out"
        )
    [states] = options.frozen.states([audio], device)
    largest = np.finfo(np.float16).max
    if not (np.abs(states) <= largest).all():
        raise TrainError(
            f"{utterance.place()}: the states of {options.frozen.model} are beyond {largest:g} or "
            "not finite; take another encoder"
        )
    return states


def _refuse_too_short(
    corpus: SpeechCorpus, spoken: list[tuple[Utterance, str]], milliseconds: float
) -> None:
    """Raise TrainError for utterances with more symbols than frames at every speed."""
    needed, most = _needed(corpus), corpus.outputs(corpus.frames).max(1)
    short = np.flatnonzero(needed > most)
    if len(short):
        first = int(short[0])
        utterance, text = spoken[first]
        more = f", and {len(short) - 1} more like it" if len(short) > 1 else ""
        raise TrainError(
            f"{utterance.place()}: {text!r} needs {needed[first]} frames of {milliseconds:.0f} ms, "
            f"its audio has {most[first]}{more}; correct the text, leave it out, or use "
            "--vocab-size for longer symbols"
        )


def open_parts(
    speech: SpeechOptions, symbols: int, batch_seconds: float
) -> tuple[SpeechBatches, SpeechCorpus]:
    """The batches to train on, of about `batch_seconds` of audio, and the held-out speech.

    Raises TrainError as `open_speech`.
    """
    train, valid = (speech.directory / name for name in ("train", "valid"))
    training = open_speech(train, speech.bins, len(speech.speeds), symbols, speech.subsampling)
    batches = SpeechBatches(training, round(batch_seconds * speech.frames_a_second))
    return batches, open_speech(valid, speech.bins, 1, symbols, speech.subsampling)


def open_speech(
    directory: Path, bins: int, versions: int, symbols: int, subsampling: int = SUBSAMPLING
) -> SpeechCorpus:
    """The corpus that `prepare_speech` wrote, memory-mapped; its targets are below `symbols`.

    Raises TrainError if a file is missing or damaged.
    """
    advice = "delete the corpus folder to prepare it again"
    try:
        for name in ("features.bin", "offsets.npy", "targets.npy", "target_offsets.npy"):
            check_regular(directory / name)
        features = np.memmap(directory / "features.bin", dtype=np.float16, mode="r")
        corpus = SpeechCorpus(
            features.reshape(-1, bins),
            np.load(directory / "offsets.npy"),
            np.load(directory / "targets.npy"),
            np.load(directory / "target_offsets.npy"),
            versions,
            subsampling,
        )
        is_whole = (
            are_offsets(corpus.offsets, len(corpus.features))
            and are_offsets(corpus.target_offsets, len(corpus.targets))
            and len(corpus.offsets) == len(corpus) * versions + 1
            and corpus.targets.ndim == 1
            and corpus.targets.dtype == np.int32
            and 0 <= corpus.targets.min() <= corpus.targets.max() < symbols
        )
    except Exception as error:  # damaged arrays raise anything, also errors of tokens
        raise TrainError(
            f"{directory}: cannot read the features ({one_line(error)}); {advice}"
        ) from error
    if not is_whole:
        raise TrainError(f"{directory}: its files do not belong together; {advice}")
    return corpus
