"""The tensors of k2's as_dict(): loaded without running code, checked, and turned into arcs.

`rescore.lattice.formats.k2` describes what is in them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rescore.errors import FormatError
from rescore.formats.files import name_of, read_bytes
from rescore.formats.strict_json import short
from rescore.formats.zips import check_stored
from rescore.lattice.formats.base import ArcColumns, build
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import Symbols, number_words

__all__ = ["Arrays", "load"]

_FINAL = -1
_TAKEN = ("arcs", "aux_labels", "lm_scores")


class _Ragged:
    """Stands in for k2's RaggedTensor while a file is loaded: keeps its state, does nothing."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


# PyTorch before 2.6 knows an allowed class by these two names only.
_Ragged.__module__, _Ragged.__qualname__, _Ragged.__name__ = (
    "_k2.ragged",
    "RaggedTensor",
    "RaggedTensor",
)


class _Words(NamedTuple):
    """aux_labels, ragged: arc i has the values from splits[i] to splits[i + 1]."""

    splits: np.ndarray
    values: np.ndarray


class _Fsa(NamedTuple):
    """One lattice of a file: its rows in the arrays of the file, and its final state (-1: none)."""

    rows: slice
    final: int


def load(file: str) -> object:
    """Return what a file holds, without running any of it.

    Raises FormatError for a pickle with code, and for a damaged file.
    """
    where, data = name_of(file), io.BytesIO(read_bytes(file))
    check_stored(data, where)
    allow = getattr(torch.serialization, "safe_globals", None)
    allowed: AbstractContextManager[Any] = nullcontext() if allow is None else allow([_Ragged])
    try:
        with allowed:
            return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:
        text = " ".join(str(error).split())
        if "_k2.ragged" in text and allow is None:
            raise FormatError(
                f"{where}: its aux_labels are ragged, which needs PyTorch 2.5 or later "
                f"(this is {torch.__version__})"
            ) from error
        code = re.search(r"GLOBAL (\S+)|Unsupported (?:class|global:?) (\S+)", text)
        if code:
            raise FormatError(
                f'{where}: it is a pickle that would run code ("{short(code[1] or code[2])}"), '
                "refused; save as_dict() of the lattice, nothing else"
            ) from error
        raise FormatError(
            f"{where}: not a file of torch.save(lattice.as_dict()), or damaged ({short(text)}); "
            "write it again"
        ) from error


class Arrays:
    """The tensors of one dict as checked arrays, one row an arc, and the lattices in them."""

    def __init__(self, saved: Mapping[str, object], at: str, is_without_lm: bool) -> None:
        self._at = at
        self.fsas, self._arcs = _fsas(_integers(saved["arcs"], "arcs", at), at)
        count = len(self._arcs)
        self._score = np.ascontiguousarray(self._arcs[:, 3]).view(np.float32).astype(np.float64)
        self._words = self._labels(saved, count)
        if not is_without_lm and "lm_scores" not in saved:
            raise FormatError(
                f"{at}: it has no lm_scores, so am and lm cannot be told apart; if it has no "
                "n-gram, give lm=none and the whole score is am"
            )
        self._lm = (
            np.zeros(count)
            if is_without_lm
            else _floats(saved["lm_scores"], "lm_scores", count, at)
        )
        others = {
            key: value
            for key, value in saved.items()
            if key not in _TAKEN and _is_floats(value, count)
        }
        if {"am", "lm"} & others.keys():
            raise FormatError(
                f'{at}: an attribute is called "am" or "lm", the names of what is computed from '
                "scores and lm_scores; rename it before saving"
            )
        self._others = {key: _floats(value, key, count, at) for key, value in others.items()}

    def lattice(
        self, fsa: _Fsa, id: str, symbols: Symbols | None, may_be_numbers: bool, where: str
    ) -> Lattice:
        """One of the lattices."""
        place = f"{where}: utterance {id}"
        arcs, score, lm = (
            self._arcs[fsa.rows].astype(np.int64),
            self._score[fsa.rows],
            self._lm[fsa.rows],
        )
        for name, values in (("score", score), ("lm_scores", lm)):
            if not np.isfinite(values).all():
                wrong = int(np.flatnonzero(~np.isfinite(values))[0])
                between = f"from state {arcs[wrong, 0]} to state {arcs[wrong, 1]}"
                raise FormatError(
                    f"{place}: {name} of the arc {between} is {values[wrong]}, "
                    "expected a finite number"
                )
        splits, labels = self._of_rows(fsa.rows)
        word, names = number_words(labels, symbols, may_be_numbers, place)
        source, target, row, is_first = _chained(arcs[:, 0], arcs[:, 1], splits)
        spread = np.zeros(len(row), np.int64)
        spread[np.diff(splits)[row] > 0] = word
        scores = {
            key: np.where(is_first, values[fsa.rows][row], 0.0)
            for key, values in self._others.items()
        }
        label = np.maximum(arcs[row, 2], 0) * is_first
        am, lm = np.where(is_first, (score - lm)[row], 0.0), np.where(is_first, lm[row], 0.0)
        columns = ArcColumns(source, target, spread, am, lm, label, scores)
        return build(id, columns, names, start=0, end=fsa.final, where=where)

    def _labels(self, saved: Mapping[str, object], count: int) -> _Words:
        aux_labels = saved.get("aux_labels")
        if aux_labels is None:
            raise FormatError(
                f"{self._at}: it has no aux_labels, the words of its arcs; save a lattice of a "
                "decoding graph with words"
            )
        if isinstance(aux_labels, _Ragged):
            state = aux_labels.state
            if not isinstance(state, tuple) or len(state) != 3:
                raise FormatError(
                    f"{self._at}: its ragged aux_labels have more than two axes, "
                    "expected the words of each arc"
                )
            splits = _integers(state[0], "aux_labels", self._at)
            values = _integers(state[2], "aux_labels", self._at)
            if not _are_row_splits(splits, count, values):
                raise FormatError(
                    f"{self._at}: its ragged aux_labels do not fit its {count} arcs; "
                    "write the file again"
                )
            splits = splits.astype(np.int64)
        else:
            values, splits = _integers(aux_labels, "aux_labels", self._at), np.arange(count + 1)
            if values.shape != (count,):
                raise FormatError(
                    f"{self._at}: aux_labels have the shape {values.shape}, "
                    f"expected one for each of its {count} arcs"
                )
        return _without_none(splits, values.astype(np.int64))

    def _of_rows(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        splits = self._words.splits[rows.start : rows.stop + 1]
        return splits - splits[0], self._words.values[splits[0] : splits[-1]]


def _are_row_splits(splits: np.ndarray, rows: int, values: np.ndarray) -> bool:
    """Whether these are the row splits of a ragged array of two axes."""
    if splits.ndim != 1 or values.ndim != 1 or len(splits) != rows + 1:
        return False
    return splits[0] == 0 and splits[-1] == len(values) and bool((np.diff(splits) >= 0).all())


def _without_none(splits: np.ndarray, values: np.ndarray) -> _Words:
    """Leave out 0 (epsilon) and -1 (the final arc)."""
    kept = (values != 0) & (values != _FINAL)
    return _Words(np.append(0, np.cumsum(kept))[splits], values[kept])


def _chained(
    source: np.ndarray, target: np.ndarray, splits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split arcs with several words into chains.

    Returns (source, target, row of the old arc, whether it is the first of that row), each (A',).
    """
    counts = np.maximum(np.diff(splits), 1)
    row = np.repeat(np.arange(len(counts)), counts)
    is_first = np.ones(len(row), bool)
    is_first[1:] = row[1:] != row[:-1]
    base = int(max(source.max(initial=-1), target.max(initial=-1))) + 1
    inner = base - 1 + np.cumsum(~is_first)  # the state before each arc that is not the first
    new_source = np.where(is_first, source[row], inner)
    new_target = target[row]
    new_target[:-1] = np.where(is_first[1:], new_target[:-1], inner[1:])
    return new_source, new_target, row, is_first


def _fsas(arcs: np.ndarray, at: str) -> tuple[list[_Fsa], np.ndarray]:
    """The lattices of the tensor `arcs`, and all arcs, (A, 4) int32."""
    if arcs.ndim == 2 and arcs.shape[1] == 4:
        return [_single_fsa(arcs, at)], _checked(arcs, at)
    return _fsa_vec(arcs, at)


def _single_fsa(arcs: np.ndarray, at: str) -> _Fsa:
    finals = np.unique(arcs[arcs[:, 2] == _FINAL, 1])
    if len(finals) > 1:
        raise FormatError(
            f"{at}: arcs with the label -1 enter {len(finals)} states, "
            "expected the final state alone; write the file again"
        )
    return _Fsa(slice(0, len(arcs)), int(finals[0]) if len(finals) else -1)


def _fsa_vec(numbers: np.ndarray, at: str) -> tuple[list[_Fsa], np.ndarray]:
    """The lattices of an FsaVec, and their arcs."""
    count = int(numbers[0]) if numbers.ndim == 1 and len(numbers) else -1
    first = 2 + 2 * (count + 1)
    if count < 0 or first > len(numbers) or (len(numbers) - first) % 4:
        raise FormatError(
            f"{at}: the tensor arcs has the shape {numbers.shape}, expected (arcs, 4), or the "
            "numbers of an FsaVec; write the file again"
        )
    states = numbers[2 : 3 + count].astype(np.int64)
    ends = numbers[3 + count : first].astype(np.int64)
    arcs = _checked(numbers[first:].reshape(-1, 4), at)
    are_splits = all(splits[0] == 0 and (np.diff(splits) >= 0).all() for splits in (states, ends))
    if not are_splits or ends[-1] != len(arcs):
        raise FormatError(
            f"{at}: the row splits of the FsaVec do not fit its {len(arcs)} arcs; "
            "write the file again"
        )
    fsas = []
    for begin, end, size in zip(ends[:-1], ends[1:], np.diff(states), strict=True):
        fsa = _Fsa(slice(int(begin), int(end)), int(size) - 1)
        _check_final(arcs[fsa.rows], fsa.final, at)
        fsas.append(fsa)
    return fsas, arcs


def _check_final(arcs: np.ndarray, final: int, at: str) -> None:
    """Raise FormatError unless `final` is the last state, and label -1 is on arcs into it alone."""
    enters_final = arcs[:, 1] == final
    has_later_state = arcs[:, :2].max(initial=-1) > final
    if len(arcs) and (has_later_state or ((arcs[:, 2] == _FINAL) != enters_final).any()):
        raise FormatError(
            f"{at}: a lattice has states after its final one, or a label other than -1 on an arc "
            "into that; write the file again"
        )


def _checked(arcs: np.ndarray, at: str) -> np.ndarray:
    if (arcs[:, :2] < 0).any():
        raise FormatError(f"{at}: an arc has a negative state; write the file again")
    return arcs


def _tensor(value: object, name: str, at: str) -> Tensor:
    if (
        not isinstance(value, torch.Tensor)
        or value.layout != torch.strided
        or value.is_quantized
        or value.device.type != "cpu"
    ):
        raise FormatError(f"{at}: {name} is a {type(value).__name__}, expected a dense tensor")
    return value.detach()


def _integers(value: object, name: str, at: str) -> np.ndarray:
    """A tensor of int32 or int64 as an array.

    A tensor that repeats its numbers (torch's expand) is refused: it may not fit in memory.
    """
    tensor = _tensor(value, name, at)
    if tensor.dtype not in (torch.int32, torch.int64) or (
        name == "arcs" and tensor.dtype != torch.int32
    ):
        raise FormatError(f"{at}: {name} is a tensor of {tensor.dtype}, expected torch.int32")
    if 0 in tensor.stride() and tensor.numel() > 1:
        raise FormatError(
            f"{at}: {name} is a tensor that repeats its numbers (expand), expected one that holds "
            "them all; save it with contiguous()"
        )
    return np.asarray(tensor.numpy())


def _is_floats(value: object, count: int) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dtype.is_floating_point
        and value.shape == (count,)
    )


def _floats(value: object, name: str, count: int, at: str) -> np.ndarray:
    tensor = _tensor(value, name, at)
    if not _is_floats(tensor, count):
        raise FormatError(
            f"{at}: {name} is a tensor of {tensor.dtype} and shape {tuple(tensor.shape)}, "
            f"expected a float for each of {count} arcs"
        )
    return np.asarray(tensor.double().numpy())
