"""`rescore_with_dlm`: icefall's N-best rescoring, with a scorer in place of its attention decoder.

    total = am + ngram_lm_scale * ngram + dlm_scale * dlm

All scores are in nats, higher is better. A scale of 0 is 0; None means a grid, which belongs on dev
data. Scales that `dlmrescore tune` found are given as these two. The call and its result look like
those of `rescore_with_attention_decoder`, icefall/decode.py at 36e0420c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import k2
import torch

from dlm_rescore.paths import IdsToText, Paths, check_lattice, sample_paths, word_ids
from rescore.errors import ScoreError
from rescore.scorers import Scorer
from rescore.types import NBest

__all__ = [
    "DEFAULT_SCALES",
    "Scale",
    "checked_paths",
    "dlm_scores",
    "nbest_decoding",
    "numbered",
    "rescore_with_dlm",
    "rescore_with_dlm_no_ngram",
    "scales",
    "score_lists",
    "self_test",
    "totals",
]  # fmt: skip

Scale = float | Sequence[float] | None

#: icefall's DEFAULT_LM_SCALE, tried where a scale is None.
DEFAULT_SCALES = (
    0.01, 0.05, 0.08, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.2,
    1.3, 1.5, 1.7, 1.9, 2.0, 2.1, 2.2, 2.3, 2.5, 3.0, 4.0, 5.0,
)  # fmt: skip

_tested: set[tuple[int, float, bool]] = set()


@torch.no_grad()
def rescore_with_dlm(
    lattice: k2.Fsa,
    num_paths: int,
    scorer: Scorer,
    ids_to_text: IdsToText,
    nbest_scale: float = 1.0,
    ngram_lm_scale: Scale = None,
    dlm_scale: Scale = None,
    use_double_scores: bool = True,
    *,
    cut_ids: Sequence[str] | None = None,
    run_self_test: bool = True,
) -> dict[str, k2.Fsa]:
    """Return the best paths [utt][state][arc] for every pair of scales.

    Their key is `ngram_lm_scale_{n}_dlm_scale_{d}`. `scorer` (see `rescore.load_scorer`) is called
    once, with one list an utterance. `cut_ids` are the keys of its random draws: with them, and
    only with them, a stochastic score is the one that `dlmrescore score` gives the dumped lists.
    The lattice needs `lm_scores` and stays as it is; an empty one has an empty best path. The first
    call with each (num_paths, nbest_scale) checks that scales 1 and 0 choose what `nbest_decoding`
    chooses. Raises ScoreError for a lattice that cannot be rescored, a score that is not finite, k2
    out of memory, and a failed check.
    """
    check_lattice(lattice, needs_ngram=True)
    grid = [
        (n, d)
        for n in scales(ngram_lm_scale, "ngram_lm_scale")
        for d in scales(dlm_scale, "dlm_scale")
    ]
    paths = checked_paths(lattice, num_paths, nbest_scale, use_double_scores, run_self_test)
    dlm = dlm_scores(paths, scorer, ids_to_text, cut_ids)
    best = _Best(paths)
    return {f"ngram_lm_scale_{n}_dlm_scale_{d}": best(totals(paths, n, d, dlm)) for n, d in grid}


@torch.no_grad()
def rescore_with_dlm_no_ngram(
    lattice: k2.Fsa,
    num_paths: int,
    scorer: Scorer,
    ids_to_text: IdsToText,
    nbest_scale: float = 1.0,
    dlm_scale: Scale = None,
    use_double_scores: bool = True,
    *,
    cut_ids: Sequence[str] | None = None,
    run_self_test: bool = True,
) -> dict[str, k2.Fsa]:
    """`rescore_with_dlm` for a lattice of a graph without an n-gram (`k2.ctc_topo`).

    total = score + dlm_scale * dlm; the key is `dlm_scale_{d}`.
    """
    grid = scales(dlm_scale, "dlm_scale")
    paths = checked_paths(lattice, num_paths, nbest_scale, use_double_scores, run_self_test)
    dlm = dlm_scores(paths, scorer, ids_to_text, cut_ids)
    best = _Best(paths)
    return {f"dlm_scale_{d}": best(paths.totals + d * dlm) for d in grid}


def checked_paths(
    lattice: k2.Fsa,
    num_paths: int,
    nbest_scale: float,
    use_double_scores: bool,
    run_self_test: bool = True,
) -> Paths:
    """Sample paths; with `run_self_test`, check the first batch of each setting."""
    paths = sample_paths(lattice, num_paths, nbest_scale, use_double_scores)
    if run_self_test:
        self_test(lattice, paths, num_paths, nbest_scale, use_double_scores)
    return paths


def totals(
    paths: Paths, ngram_lm_scale: float, dlm_scale: float, dlm: torch.Tensor
) -> torch.Tensor:
    """Return the total score of every path, (paths,) float64: am + n * ngram + d * dlm."""
    return (
        paths.am + (0.0 if paths.ngram is None else ngram_lm_scale * paths.ngram) + dlm_scale * dlm
    )


def scales(scale: Scale, name: str) -> tuple[float, ...]:
    """Return the scales to try: the grid for None, otherwise `scale`; 0 is a scale.

    Raises ScoreError for a scale that is not finite, and for an empty sequence.
    """
    if scale is None:
        return DEFAULT_SCALES
    chosen = (scale,) if isinstance(scale, int | float) else tuple(scale)
    if not chosen or not all(abs(value) < float("inf") for value in chosen):
        raise ScoreError(
            f"{name} is {scale!r}, expected a finite number, several, or None for the grid"
        )
    return chosen


def numbered(count: int, cut_ids: Sequence[str] | None) -> Sequence[str]:
    """Return the cut ids, or the places in the batch if there are none."""
    return [str(number) for number in range(count)] if cut_ids is None else cut_ids


def dlm_scores(
    paths: Paths, scorer: Scorer, ids_to_text: IdsToText, cut_ids: Sequence[str] | None
) -> torch.Tensor:
    """Return the scorer's score of every path, (paths,) float64.

    The scorer is called once, with one list for each utterance that has paths.
    """
    lists = paths.lists(ids_to_text, numbered(paths.shape.dim0, cut_ids))
    groups = [group for group in paths.groups() if group]
    scores = score_lists(scorer, [nbest for nbest in lists if nbest.hyps])
    dlm = torch.zeros_like(paths.totals)
    for group, values in zip(groups, scores, strict=True):
        rows = torch.tensor(group, device=dlm.device)
        dlm[rows] = torch.tensor(values, dtype=dlm.dtype, device=dlm.device)
    return dlm


def score_lists(scorer: Scorer, lists: Sequence[NBest]) -> list[tuple[float, ...]]:
    """Return the scores of every list, from one call of the scorer.

    Raises ScoreError for a score that is missing or not finite: it is never taken as 0.
    """
    scores = [score.values for score in scorer.score(lists)] if lists else []
    if [len(values) for values in scores] != [len(nbest.hyps) for nbest in lists]:
        raise ScoreError(
            f"scorer {scorer.name} gave {sum(map(len, scores))} scores for "
            f"{sum(len(nbest.hyps) for nbest in lists)} hypotheses; expected one for each"
        )
    for nbest, values in zip(lists, scores, strict=True):
        for index, value in enumerate(values):
            if not abs(value) < float("inf"):
                raise ScoreError(
                    f"{nbest.place(index)}: scorer {scorer.name} gave {value}, expected a finite "
                    "number"
                )
    return scores


class _Best:
    """Best paths as FSAs; settings that choose the same paths share one."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._by_choice: dict[tuple[int, ...], k2.Fsa] = {}

    def __call__(self, totals: torch.Tensor) -> k2.Fsa:
        indexes = self.paths.best(totals)
        chosen = tuple(indexes.tolist())
        if chosen not in self._by_choice:
            self._by_choice[chosen] = k2.index_fsa(self.paths.fsa, indexes)
        return self._by_choice[chosen]


# ----------------------------------------------------------------------------------- self-test


def self_test(
    lattice: k2.Fsa, paths: Paths, num_paths: int, nbest_scale: float, use_double_scores: bool
) -> None:
    """Check, once for each setting, that scales 1 and 0 choose what `nbest_decoding` chooses.

    It is the recipe's own; without icefall, the one below. The check is exact: the sums are the
    same float32 sums, and ties are broken alike. Raises ScoreError naming the first utterance where
    they differ.
    """
    setting = (num_paths, nbest_scale, use_double_scores)
    if setting in _tested:
        return
    chosen = word_ids(
        k2.index_fsa(paths.fsa, paths.best(totals(paths, 1.0, 0.0, torch.zeros_like(paths.totals))))
    )
    expected = word_ids(
        _reference()(
            lattice=lattice.clone(),
            num_paths=num_paths,
            use_double_scores=use_double_scores,
            nbest_scale=nbest_scale,
        )
    )
    for utterance, (ours, theirs) in enumerate(zip(chosen, expected, strict=True)):
        if ours != theirs:
            raise ScoreError(
                f"utterance {utterance} of the batch (from 0): with scales 1 and 0 the ids are "
                f"{ours}, but nbest_decoding gives {theirs}; this k2 or icefall is not the one "
                "that docs/icefall.md names: do not trust its scores"
            )
    _tested.add(setting)


def _reference() -> Callable[..., k2.Fsa]:
    try:
        from icefall.decode import nbest_decoding as from_icefall  # noqa: PLC0415 - optional
    except ImportError:
        return nbest_decoding
    return from_icefall


def nbest_decoding(
    lattice: k2.Fsa, num_paths: int, use_double_scores: bool = True, nbest_scale: float = 1.0
) -> k2.Fsa:
    """icefall's `nbest_decoding`, restated on k2's own `Nbest`.

    Sampled paths, each intersected as words with the lattice; the path with the highest total wins.
    """
    nbest = k2.Nbest.from_lattice(
        lattice, num_paths=num_paths, use_double_scores=use_double_scores, nbest_scale=nbest_scale
    )
    words = k2.invert(nbest.fsa)
    words.scores.zero_()
    del words.aux_labels
    inverse = k2.arc_sort(k2.invert(lattice))
    both = k2.intersect_device(
        inverse,
        k2.linear_fsa_with_self_loops(words),
        b_to_a_map=nbest.shape.row_ids(1),
        sorted_match_a=True,
    )
    best = k2.invert(
        k2.shortest_path(k2.top_sort(k2.connect(both)), use_double_scores=use_double_scores)
    )
    sums = k2.RaggedTensor(best.arcs.shape().remove_axis(1), best.scores.contiguous()).sum()
    return k2.index_fsa(best, k2.RaggedTensor(nbest.shape, sums).argmax())
