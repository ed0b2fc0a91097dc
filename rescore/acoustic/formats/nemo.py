"""NeMo's CTC hypotheses with their log-probabilities, saved as a dictionary of tensors.

`transcribe(files, return_hypotheses=True)` of a CTC model gives hypotheses whose `y_sequence` is
(T, V + 1), natural log, the blank after the vocabulary; `alignments` is the same, or with
`preserve_alignments` the pair of it and the labels. Hypotheses are Python objects; save the tensors

    hypotheses = model.transcribe(files, return_hypotheses=True)
    torch.save({file: h.y_sequence.cpu() for file, h in zip(files, hypotheses)}, "logits.pt")
    print(*model.decoder.vocabulary, sep="\\n", file=open("symbols.txt", "w"))

An id is the file's name without folder and suffix. Source: NVIDIA/NeMo,
nemo/collections/asr/models/ctc_models.py, `_transcribe_output_processing`; pull request 4511.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from rescore.acoustic.formats.layout import LAYOUT_OPTIONS, Layout
from rescore.acoustic.posteriors import Posteriors
from rescore.errors import FormatError
from rescore.formats.base import Format
from rescore.formats.bounded import open_regular
from rescore.formats.files import PathLike, name_of
from rescore.formats.zips import check_stored
from rescore.ids import UniqueIds
from rescore.models.opening import one_line

__all__ = ["NEMO", "read"]


def read(path: PathLike, **layout: Any) -> Iterator[Posteriors]:
    """Yield the posteriors of a saved dictionary, in its order. Raises FormatError."""
    described = Layout.of(**{"blank": "last", **layout})
    ids = UniqueIds("read")
    for file, value in _saved(path).items():
        utterance = PurePath(file).stem
        tensor = value[0] if isinstance(value, tuple | list) and value else value
        if not hasattr(tensor, "numpy"):
            raise FormatError(
                f"{name_of(path)}: utterance {utterance}: got {type(tensor).__name__}, expected "
                "the tensor of log-probabilities (y_sequence)"
            )
        rows = _rows(tensor, f"{name_of(path)}: utterance {utterance}")
        posteriors = described.posteriors(utterance, rows, name_of(path))
        ids.add(posteriors)
        yield posteriors


def _rows(tensor: Any, at: str) -> np.ndarray:
    """The numbers of a tensor, which may be a view that repeats a few of them without end."""
    try:
        stored = (
            tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
        )
        if tensor.is_floating_point() and tensor.numel() <= len(stored):
            rows: np.ndarray = tensor.detach().float().numpy()
            return rows
    except Exception as error:  # sparse, quantised, nested: what tensors may be
        raise FormatError(f"{at}: its tensor has no plain numbers ({one_line(error)})") from error
    raise FormatError(
        f"{at}: got {tensor.dtype} of shape {tuple(tensor.shape)}, expected floating-point numbers "
        "of shape (frames, symbols), each stored"
    )


def _saved(path: PathLike) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - takes seconds

    expected = (
        "expected a dictionary from file names to tensors (docs/posteriors.md); whole hypotheses "
        "are Python objects, which could run code"
    )
    with open_regular(path) as file:
        check_stored(file, name_of(path))
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise anything
        raise FormatError(
            f"{name_of(path)}: cannot be loaded as plain tensors; {expected}"
        ) from error
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise FormatError(f"{name_of(path)}: holds {type(saved).__name__}; {expected}")
    return saved


NEMO = Format[Posteriors](
    name="nemo",
    read=read,
    help="NeMo's log-probabilities of CTC hypotheses, a saved dictionary of tensors",
    read_options=LAYOUT_OPTIONS,
)
