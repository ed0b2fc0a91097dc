"""`rescore_with_dlm`: icefall's N-best rescoring with a whole-sentence scorer in the place of its attention decoder.

    total = am + ngram_lm_scale * ngram + dlm_scale * dlm

all in nats, higher is better; a scale of 0 is 0, None means a grid. Where a lattice was tuned elsewhere, its weights are these two scales; a grid belongs
on dev data. The shape of the call and of its result is that of `rescore_with_attention_decoder`, icefall/decode.py at 36e0420c.
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
    0.01, 0.05, 0.08, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.9, 2.0, 2.1, 2.2, 2.3, 2.5, 3.0, 4.0, 5.0,
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
    """Return the best paths [utt][state][arc] for every pair of scales, under the key `ngram_lm_scale_{n}_dlm_scale_{d}`.

    `scorer` (see `rescore.load_scorer`) is called once, with one list an utterance. `cut_ids` are the keys of its random draws: with them, and only
    with them, a stochastic score is the one `dlmrescore score` gives the dumped lists. The lattice needs `lm_scores` and stays as it is; an empty one
    has an empty best path. The first call with each (num_paths, nbest_scale) checks that scales 1 and 0 are `nbest_decoding`.
    Raises ScoreError for a lattice that cannot be rescored, a score that is not finite, k2 out of memory, and a failed check.
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
    """`rescore_with_dlm` for a lattice of a graph without an n-gram (`k2.ctc_topo`): total = score + dlm_scale * dlm, key `dlm_scale_{d}`."""
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
    """Sample paths; with `run_self_test`, check the first ones of each setting."""
    paths = sample_paths(lattice, num_paths, nbest_scale, use_double_scores)
    if run_self_test:
        self_test(lattice, paths, num_paths, nbest_scale, use_double_scores)
    return paths


def totals(
    paths: Paths, ngram_lm_scale: float, dlm_scale: float, dlm: torch.Tensor
) -> torch.Tensor:
    """The total score of every path (paths,), float64: am + n * ngram + d * dlm."""
    return (
        paths.am + (0.0 if paths.ngram is None else ngram_lm_scale * paths.ngram) + dlm_scale * dlm
    )


def scales(given: Scale, name: str) -> tuple[float, ...]:
    """The scales to try: the grid for None, otherwise what is given; 0 is a scale. Raises ScoreError for one that is not finite, or none."""
    if given is None:
        return DEFAULT_SCALES
    chosen = (given,) if isinstance(given, int | float) else tuple(given)
    if not chosen or not all(abs(scale) < float("inf") for scale in chosen):
        raise ScoreError(
            f"{name} is {given!r}, expected a finite number, several, or None for the grid"
        )
    return chosen


def numbered(count: int, cut_ids: Sequence[str] | None) -> Sequence[str]:
    """The cut ids, or the places in the batch where there are none."""
    return [str(number) for number in range(count)] if cut_ids is None else cut_ids


def dlm_scores(
    paths: Paths, scorer: Scorer, ids_to_text: IdsToText, cut_ids: Sequence[str] | None
) -> torch.Tensor:
    """The scorer's score of every path (paths,), float64, from one call with one list for each utterance that has paths."""
    lists = paths.lists(ids_to_text, numbered(paths.shape.dim0, cut_ids))
    found = torch.zeros_like(paths.totals)
    asked = [(group, nbest) for group, nbest in zip(paths.groups(), lists, strict=True) if group]
    for (group, _), values in zip(
        asked, score_lists(scorer, [nbest for _, nbest in asked]), strict=True
    ):
        found[torch.tensor(group, device=found.device)] = torch.tensor(
            values, dtype=found.dtype, device=found.device
        )
    return found


def score_lists(scorer: Scorer, lists: Sequence[NBest]) -> list[tuple[float, ...]]:
    """The scores of every list, from one call. Raises ScoreError if the scorer leaves one out or gives one that is not finite: it is never taken as 0."""
    scores = [score.values for score in scorer.score(lists)] if lists else []
    if [len(values) for values in scores] != [len(nbest.hyps) for nbest in lists]:
        raise ScoreError(
            f"scorer {scorer.name} gave {sum(map(len, scores))} scores for {sum(len(n.hyps) for n in lists)} hypotheses; expected one for each"
        )
    for nbest, values in zip(lists, scores, strict=True):
        for index, value in enumerate(values):
            if not abs(value) < float("inf"):
                raise ScoreError(
                    f"{nbest.place(index)}: scorer {scorer.name} gave {value}, expected a finite number"
                )
    return scores


class _Best:
    """Best paths as FSAs; settings that choose the same paths share one."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._made: dict[tuple[int, ...], k2.Fsa] = {}

    def __call__(self, totals: torch.Tensor) -> k2.Fsa:
        indexes = self.paths.best(totals)
        chosen = tuple(indexes.tolist())
        if chosen not in self._made:
            self._made[chosen] = k2.index_fsa(self.paths.fsa, indexes)
        return self._made[chosen]


# ----------------------------------------------------------------------------------------------------------------------------- self-test


def self_test(
    lattice: k2.Fsa, paths: Paths, num_paths: int, nbest_scale: float, use_double_scores: bool
) -> None:
    """Check, once for each setting, that scales 1 and 0 choose what `nbest_decoding` chooses: the recipe's own, or the one below without icefall.

    Raises ScoreError naming the first utterance where they differ. Exact: the sums are the same float32 sums, and ties are broken alike.
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
                f"utterance {utterance} of the batch (from 0): with scales 1 and 0 the ids are {ours}, but nbest_decoding gives {theirs};"
                " this k2 or icefall is not the one that docs/icefall.md names: do not trust its scores"
            )
    _tested.add(setting)


def _reference() -> Callable[..., k2.Fsa]:
    try:
        from icefall.decode import nbest_decoding as found  # noqa: PLC0415 - where there is no icefall there is k2 alone
    except ImportError:
        return nbest_decoding
    return found


def nbest_decoding(
    lattice: k2.Fsa, num_paths: int, use_double_scores: bool = True, nbest_scale: float = 1.0
) -> k2.Fsa:
    """icefall's `nbest_decoding`, restated on k2's own `Nbest`: sampled paths, each intersected as words with the lattice, the highest total."""
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
