"""`dump_nbest`: the lists of a running recipe as native JSONL.

`dlmrescore score`, `tune`, `fuse` and `eval` read them outside k2. One line:

    {"id": "84-121123-0000-0", "ref": "GO DO YOU HEAR",
     "hyps": [{"text": "GO DO YOU HEAR", "scores": {"am": -31.2, "ngram": -20.1}}, ...],
     "meta": {"num_paths": 100, "nbest_scale": 0.5, ...}}

Batches are appended as whole lines and are on disk when the call returns. Start a recipe that was
killed again: cuts that the file holds are left out, a torn last line is cut off, and a file with
other settings is refused (rescore/formats/append.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import k2
import torch

from dlm_rescore.beam_search import beams, lists_of
from dlm_rescore.paths import IdsToText, check_lattice
from dlm_rescore.stage import checked_paths
from rescore.errors import ScoreError
from rescore.formats.append import Appender
from rescore.formats.files import PathLike
from rescore.types import Hypothesis, NBest

__all__ = ["close_dumps", "dump_beam_search", "dump_nbest"]

_open: dict[str, Appender] = {}


def dump_nbest(
    lattice: k2.Fsa,
    cuts: Sequence[Any],
    texts: Sequence[str],
    path: PathLike,
    *,
    num_paths: int,
    ids_to_text: IdsToText,
    nbest_scale: float = 1.0,
    use_double_scores: bool = True,
    ngram: bool = True,
) -> list[str]:
    """Append the unique paths of a batch to the file `path` and return each utterance's best text.

    The best text is that of `nbest_decoding`. `cuts` are lhotse cuts or their ids and `texts` the
    references, in the order of the lattice. Scores are `am` and `ngram`; `ngram=False`, for a graph
    without an n-gram (`k2.ctc_topo`), writes the whole score as `am`. An empty lattice gives one
    empty hypothesis with scores 0, the same for any weights, and `empty_lattice` in its `meta`. The
    self-test of `rescore_with_dlm` runs here, too. Raises ScoreError for a lattice that cannot be
    dumped, FormatError for a repeated cut id and for a file that cannot be appended to.
    """
    check_lattice(lattice, needs_ngram=ngram)
    paths = checked_paths(lattice, num_paths, nbest_scale, use_double_scores)
    paths = paths if ngram else replace(paths, ngram=None)
    lists = [
        _never_empty(nbest, ("am", "ngram") if ngram else ("am",))
        for nbest in paths.lists(ids_to_text, _ids(cuts), _refs(cuts, texts))
    ]
    _append(
        path,
        {
            "num_paths": num_paths,
            "nbest_scale": nbest_scale,
            "scores_of": "am + ngram" if ngram else "am",
        },
        lists,
    )
    return [nbest.hyps[0].text for nbest in lists]


def dump_beam_search(
    model: torch.nn.Module,
    encoder_out: torch.Tensor,
    encoder_out_lens: torch.Tensor,
    cuts: Sequence[Any],
    texts: Sequence[str],
    path: PathLike,
    *,
    ids_to_text: IdsToText,
    beam: int = 4,
    temperature: float = 1.0,
) -> list[str]:
    """`dump_nbest` for a transducer: the last beams of its search, with the score `am`.

    The search is that of `modified_beam_search_dlm_rescore`.
    """
    lists = lists_of(
        beams(model, encoder_out, encoder_out_lens, beam, temperature),
        ids_to_text,
        _ids(cuts),
        _refs(cuts, texts),
    )
    _append(path, {"beam": beam, "temperature": temperature, "scores_of": "am"}, lists)
    return [nbest.hyps[0].text for nbest in lists]


def close_dumps() -> None:
    """Close all files that this process appends to. A cut may then come again, as in a new run."""
    while _open:
        _open.popitem()[1].close()


def _append(path: PathLike, settings: dict[str, Any], lists: Sequence[NBest]) -> None:
    name = os.path.realpath(path)
    if name not in _open:
        _open[name] = Appender(path, settings)
    if _open[name].settings != settings:
        raise ScoreError(
            f"{os.fspath(path)}: this run began the file with {_open[name].settings}, expected the "
            f"same now, got {settings}; name another file"
        )
    _open[name].append(lists)


def _ids(cuts: Sequence[Any]) -> list[str]:
    return [cut if isinstance(cut, str) else cut.id for cut in cuts]


def _refs(cuts: Sequence[Any], texts: Sequence[str]) -> Sequence[str]:
    if len(texts) != len(cuts):
        raise ScoreError(
            f"there are {len(texts)} reference texts for {len(cuts)} cuts; give one for each, in "
            "the same order"
        )
    return texts


def _never_empty(nbest: NBest, names: Sequence[str]) -> NBest:
    """Give the list of an empty lattice an empty hypothesis.

    Alone in its list, it wins whatever its scores are.
    """
    if nbest.hyps:
        return nbest
    return replace(
        nbest,
        hyps=(Hypothesis("", dict.fromkeys(names, 0.0)),),
        raw={"meta": {"empty_lattice": True}},
    )
