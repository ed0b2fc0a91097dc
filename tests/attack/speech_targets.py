"""Targets of speech: posteriors in every format of the registry, and recognisers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from target import Target, Use, WrongError

from rescore.acoustic.loading import EncoderOptions, load_encoder
from rescore.acoustic.posterior_file import write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.recogniser import (
    Recogniser,
    character_symbols,
    piece_symbols,
    save_recogniser,
)
from rescore.acoustic.symbols import Symbols
from rescore.acoustic.transcriber import save_transcriber
from rescore.models.speech_network import SpeechConfig, SpeechNetwork
from rescore.registry import POSTERIOR_FORMATS, lookup
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import Hypothesis, NBest

__all__ = ["SPEECH_TARGETS"]

_SYMBOLS = ("<blank>", "|", "a", "b")


def _rows(frames: int, symbols: int = len(_SYMBOLS)) -> np.ndarray:
    """Log-probabilities (frames, symbols) of a network that prefers the blank."""
    logits = 3 * np.random.default_rng(frames).normal(size=(frames, symbols))
    logits[:, 0] += 4
    rows: np.ndarray = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return rows.astype(np.float32)


_UTTERANCES = {"u1": _rows(5), "u2": _rows(9)}


# -------------------------------------------------------------------------------- posteriors


def _ours(folder: Path) -> Path:
    symbols = Symbols(_SYMBOLS, blank=0, boundary="|")
    items = [Posteriors(name, rows, symbols, 0.04) for name, rows in _UTTERANCES.items()]
    write_posteriors(items, folder / "p.safetensors")
    return folder / "p.safetensors"


def _ours_of_pieces(folder: Path) -> Path:
    from small import small_tokenizer  # noqa: PLC0415 - sentencepiece

    symbols = piece_symbols(small_tokenizer())
    rows = {"u1": _rows(5, len(symbols)), "u2": _rows(9, len(symbols))}
    items = [Posteriors(name, each, symbols, 0.04) for name, each in rows.items()]
    write_posteriors(items, folder / "p.safetensors")
    return folder / "p.safetensors"


def _arrays(folder: Path) -> Path:
    np.save(folder / "u1.npy", _UTTERANCES["u1"])
    np.savez_compressed(folder / "u2.npz", log_probs=_UTTERANCES["u2"])
    return folder


def _archive(folder: Path) -> Path:
    import kaldiio  # noqa: PLC0415 - optional

    kaldiio.save_ark(str(folder / "p.ark"), _UTTERANCES)
    return folder / "p.ark"


def _compressed_archive(folder: Path) -> Path:
    import kaldiio  # noqa: PLC0415 - optional

    kaldiio.save_ark(str(folder / "p.ark"), _UTTERANCES, compression_method=2)
    return folder / "p.ark"


def _text_archive(folder: Path) -> Path:
    import kaldiio  # noqa: PLC0415 - optional

    kaldiio.save_ark(str(folder / "p.ark"), _UTTERANCES, text=True)
    return folder / "p.ark"


def _table(folder: Path) -> Path:
    import kaldiio  # noqa: PLC0415 - optional

    kaldiio.save_ark(str(folder / "p.ark"), _UTTERANCES, scp=str(folder / "p.scp"))
    return folder / "p.scp"


def _nemo(folder: Path) -> Path:
    import torch  # noqa: PLC0415 - takes seconds

    tensors: dict[str, Any] = {
        f"/audio/{name}.wav": torch.tensor(rows) for name, rows in _UTTERANCES.items()
    }
    tensors["/audio/u2.wav"] = (tensors["/audio/u2.wav"], torch.zeros(9))  # preserve_alignments
    torch.save(tensors, folder / "logits.pt")
    return folder / "logits.pt"


def _lhotse(folder: Path) -> Path:
    from lhotse import CutSet, MonoCut, NumpyFilesWriter  # noqa: PLC0415 - optional

    cuts = []
    with NumpyFilesWriter(str(folder / "arrays")) as writer:
        for name, rows in _UTTERANCES.items():
            cut = MonoCut(name, 0, len(rows) * 0.04, 0)
            cut.log_probs = writer.store_array(
                key=name, value=rows, frame_shift=0.04, temporal_dim=0, start=0
            )
            cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return folder / "cuts.jsonl"


#: Format -> what its tool writes, each by the name of what is special about it.
_SAMPLES: dict[str, dict[str, Callable[[Path], Path]]] = {
    "posteriors": {"": _ours, " of pieces": _ours_of_pieces},
    "arrays": {"": _arrays},
    "kaldi": {
        "": _archive,
        ", compressed": _compressed_archive,
        ", text": _text_archive,
        ", a table": _table,
    },
    "nemo": {"": _nemo},
    "lhotse": {"": _lhotse},
}


def _options(name: str, path: Path, folder: Path) -> dict[str, Any]:
    """The options of a format, with the file that they name beside the posteriors."""
    if name == "posteriors":
        return {}
    table = folder / ("units.json" if name == "arrays" else "tokens.txt")
    if name == "arrays":
        table.write_text('{"<blank>": 0, "|": 1, "a": 2, "b": 3}')
    else:
        table.write_text("".join(f"{symbol} {k}\n" for k, symbol in enumerate(_SYMBOLS)))
    options: dict[str, Any] = {"symbols": table, "frame_shift": 0.04, "logits": "yes"}
    if name == "lhotse":
        del options["frame_shift"]
    if name == "nemo":
        options["blank"] = _SYMBOLS[0]
    return options


def posteriors(name: str, build_files: Callable[[Path], Path]) -> Target:
    """Posteriors of a format, and everything that is made of them."""

    def build(folder: Path) -> Use:
        path = build_files(folder)
        options = _options(name, path, folder)

        def use() -> int:
            count = 0
            for item in lookup(POSTERIOR_FORMATS, name, "format").read(path, **options):
                _check(item)
                count += 1
            if name == "posteriors":
                _score(path)
            return count

        return use

    return build


def _check(item: Posteriors) -> None:
    """Raise WrongError for posteriors that are none, or symbols that cannot be written."""
    sums = np.exp(item.log_probs.astype(np.float64)).sum(axis=1)
    if not item.id.strip() or not len(sums) or not np.allclose(sums, 1, atol=1e-2):
        raise WrongError(f"posteriors that are not whole: {item!r}"[:300])
    if not (math.isfinite(item.seconds) and item.seconds > 0 and type(item.signature) is str):
        raise WrongError(f"{item.seconds} s of {item.signature!r}")
    text = item.symbols.decode(item.log_probs.argmax(axis=1).tolist())
    text.encode()  # it will be written
    item.symbols.digest  # noqa: B018 - made of all that the symbols are


def _score(path: Path) -> None:
    """Score texts with a file of ours."""
    lists = [NBest(name, (Hypothesis("a b"), Hypothesis("ab"))) for name in _UTTERANCES]
    scorer = load_scorer("ctc", ScorerOptions(posteriors=str(path), impossible="drop"))
    for score in scorer.score(lists):
        if any(math.isnan(value) or value > 1e-3 for value in score.values):
            raise WrongError(f"log-probabilities of {score.values}")


# ------------------------------------------------------------------------------- recognisers


def _heard(model: Path) -> None:
    encoder = load_encoder(EncoderOptions(str(model)))
    audio = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    [rows] = encoder.log_probs([audio])
    shift = encoder.frame_samples / encoder.sampling_rate
    _check(Posteriors("u", rows, encoder.symbols, shift, str(model), encoder.signature).checked())


def recogniser(symbols: Callable[[], Symbols]) -> Target:
    """A recogniser of ours."""

    def build(folder: Path) -> Use:
        import torch  # noqa: PLC0415 - takes seconds

        torch.manual_seed(0)
        columns = symbols()
        sizes = SpeechConfig(len(columns), width=16, layers=1, heads=2, feed_forward=24, kernel=3)
        made = Recogniser(SpeechNetwork(sizes).eval(), columns, card={"speech": "tones"})
        save_recogniser(made, folder / "model")
        return lambda: _heard(folder / "model")

    return build


def transcriber(folder: Path) -> Use:
    """An encoder with a decoder; its CTC is what is run."""
    from small_transcriber import small_transcriber  # noqa: PLC0415 - torch

    save_transcriber(small_transcriber(), folder / "model")
    return lambda: _heard(folder / "model")


def _piece_symbols() -> Symbols:
    from small import small_tokenizer  # noqa: PLC0415 - sentencepiece

    return piece_symbols(small_tokenizer())


def hub_recogniser(folder: Path) -> Use:
    """A wav2vec2 as Hugging Face publishes it."""
    from hub_ctc_models import save_letters  # noqa: PLC0415 - transformers

    save_letters(folder / "model", "wav2vec2")
    return lambda: _heard(folder / "model")


#: Name -> target.
SPEECH_TARGETS: dict[str, Target] = {
    **{
        f"posteriors of {name}{kind}": posteriors(name, build)
        for name in POSTERIOR_FORMATS
        for kind, build in _SAMPLES[name].items()
    },
    "recogniser": recogniser(lambda: character_symbols(["ab", "b a"])),
    "recogniser of pieces": recogniser(_piece_symbols),
    "transcriber": transcriber,
    "Hugging Face recogniser": hub_recogniser,
}
