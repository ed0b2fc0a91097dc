"""From a lattice to the unique word sequences of sampled paths and their scores, with k2 alone.

The paths, their order and their scores are those of icefall's
`Nbest.from_lattice(lattice, ...).intersect(lattice)`, icefall/decode.py at 36e0420c (June 2026).
Unlike icefall, this module scales the scores in a copy and never writes to the caller's lattice: an
exception cannot leave it scaled. Axes as in k2: a lattice is [utt][state][arc], `Paths.fsa` is
[path][state][arc], `Paths.shape` is [utt][path].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from rescore.errors import RescoreError, ScoreError
from rescore.types import Hypothesis, NBest

try:
    import k2
except ImportError as error:
    raise RescoreError(
        f"k2 cannot be imported ({error}); install it with: pip install k2==1.23.4 torch==1.13.1 "
        '"numpy<2" (Python 3.10), or as k2-fsa.github.io/k2 says'
    ) from error

__all__ = ["IdsToText", "Paths", "check_lattice", "sample_paths", "text_of", "word_ids"]

#: Word or token ids of one hypothesis -> its text.
IdsToText: TypeAlias = Callable[[list[int]], str]

_BATCH = 50  # paths intersected at a time, as in icefall: it bounds the memory


@dataclass(frozen=True)
class Paths:
    """Unique word sequences with their best paths through the lattice.

    `fsa` holds those paths, `ids` their word or token ids (what `aux_labels` holds). `totals`
    (paths,) float64 are the sums of their scores, `ngram` (paths,) float64 those of `lm_scores`,
    None for a lattice without. The sums are taken in float32, as k2 and icefall do, so that
    am = totals - ngram and am + ngram = totals hold exactly in float64.
    """

    fsa: k2.Fsa
    shape: k2.RaggedShape
    ids: list[list[int]]
    totals: torch.Tensor
    ngram: torch.Tensor | None

    @property
    def am(self) -> torch.Tensor:
        """The acoustic scores (paths,) float64: the totals without the n-gram's part."""
        return self.totals if self.ngram is None else self.totals - self.ngram

    def groups(self) -> list[list[int]]:
        """Return the paths of every utterance, best first.

        Ties go to the last path, as in `RaggedTensor.argmax`.
        """
        splits, totals = self.shape.row_splits(1).tolist(), self.totals.tolist()
        spans = itertools.pairwise(splits)
        return [
            sorted(range(start, end), key=lambda path: (totals[path], path), reverse=True)
            for start, end in spans
        ]

    def best(self, totals: torch.Tensor) -> torch.Tensor:
        """Return each utterance's path with the highest total, (utterances,) int32.

        `totals` are other totals (paths,). The path of an empty lattice is -1.
        """
        return k2.RaggedTensor(self.shape, totals).argmax()

    def lists(
        self, ids_to_text: IdsToText, cut_ids: Sequence[str], refs: Sequence[str] | None = None
    ) -> list[NBest]:
        """Return one list an utterance, best first, with the scores `am` and `ngram`.

        An empty lattice gives a list without hypotheses.
        """
        groups = self.groups()
        if len(cut_ids) != len(groups):
            raise ScoreError(
                f"there are {len(cut_ids)} cut ids for a lattice of {len(groups)} utterances; "
                "give one for each, in the same order"
            )
        scores = {"am": self.am.tolist()}
        if self.ngram is not None:
            scores["ngram"] = self.ngram.tolist()
        lists = []
        for number, (utterance, group) in enumerate(zip(cut_ids, groups, strict=True)):
            texts = [text_of(self.ids[path], ids_to_text, utterance) for path in group]
            hyps = tuple(
                Hypothesis(text, {name: values[path] for name, values in scores.items()})
                for text, path in zip(texts, group, strict=True)
            )
            lists.append(NBest(utterance, hyps, None if refs is None else refs[number]))
        return lists


@torch.no_grad()
def sample_paths(
    lattice: k2.Fsa, num_paths: int, nbest_scale: float, use_double_scores: bool = True
) -> Paths:
    """Return the unique word sequences of `num_paths` sampled paths of every utterance.

    Paths are sampled with scores times `nbest_scale`; each word sequence gets its best path. Raises
    ScoreError for a lattice that cannot be sampled from, for one that k2 has no memory for, and for
    a score that is not finite.
    """
    check_lattice(lattice)
    if num_paths < 1:
        raise ScoreError(f"num_paths is {num_paths}, expected at least 1")
    try:
        words = _word_sequences(lattice, num_paths, nbest_scale, use_double_scores)
        fsa = _intersected(lattice, words, use_double_scores)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        arcs = lattice.arcs.num_elements()
        raise ScoreError(
            f"k2 cannot take {num_paths} paths from a lattice of {arcs} arcs ({reason}); lower "
            "num_paths or max-duration"
        ) from error
    totals = _path_sums(fsa, fsa.scores)
    ngram = _path_sums(fsa, fsa.lm_scores) if hasattr(lattice, "lm_scores") else None
    for name, values in (("score", totals), ("lm_score", ngram)):
        if values is not None and not torch.isfinite(values).all():
            path = int((~torch.isfinite(values)).nonzero()[0])
            utterance = int(words.shape.row_ids(1)[path])
            raise ScoreError(
                f"utterance {utterance} of the batch (from 0): a path has the {name} "
                f"{float(values[path])}, expected a finite number"
            )
    return Paths(fsa, words.shape.get_layer(0), words.remove_axis(0).tolist(), totals, ngram)


def check_lattice(lattice: k2.Fsa, needs_ngram: bool = False) -> None:
    """Raise ScoreError for a lattice without words, and without `lm_scores` if they are needed."""
    if len(lattice.shape) != 3:
        raise ScoreError(
            f"the lattice has {len(lattice.shape)} axes, expected [utt][state][arc]; make an "
            "FsaVec of a single one: k2.create_fsa_vec([fsa])"
        )
    if not hasattr(lattice, "aux_labels"):
        raise ScoreError(
            "the lattice has no aux_labels (word or token ids); make it with an HLG or a "
            "k2.ctc_topo as get_lattice does"
        )
    if needs_ngram and not hasattr(lattice, "lm_scores"):
        raise ScoreError(
            "the lattice has no lm_scores, which part am from ngram; set HLG.lm_scores = "
            "HLG.scores.clone() before decoding, or, where the graph has no n-gram (ctc_topo), use "
            "the variant without one"
        )


def text_of(ids: list[int], ids_to_text: IdsToText, utterance: str) -> str:
    """Return the text of some ids. Raises ScoreError for an id that the table lacks."""
    try:
        return ids_to_text(ids)
    except (KeyError, IndexError) as error:
        raise ScoreError(
            f"utterance {utterance}: ids_to_text does not know all of {ids} ({error!r}); give the "
            "table that the graph was made with"
        ) from error


def word_ids(fsa: k2.Fsa) -> list[list[int]]:
    """Return the positive `aux_labels` of every linear FSA, as icefall's `get_texts` does.

    An empty FSA has none.
    """
    labels = fsa.aux_labels
    if isinstance(labels, torch.Tensor):
        by_path = k2.RaggedTensor(fsa.arcs.shape().remove_axis(1), labels)
    else:
        shape = fsa.arcs.shape().compose(labels.shape)
        by_path = k2.RaggedTensor(shape.remove_axis(1).remove_axis(1), labels.values)
    ids: list[list[int]] = by_path.remove_values_leq(0).tolist()
    return ids


def _word_sequences(
    lattice: k2.Fsa, num_paths: int, nbest_scale: float, use_double_scores: bool
) -> k2.RaggedTensor:
    """Return the different word sequences of the sampled paths, [utt][path][word].

    k2 samples deterministically.
    """
    scaled = k2.Fsa(lattice.arcs.clone())
    scaled.scores = lattice.scores.detach() * nbest_scale
    # [utt][path][arc]
    path = k2.random_paths(scaled, num_paths=num_paths, use_double_scores=use_double_scores)
    if isinstance(lattice.aux_labels, torch.Tensor):
        words = k2.ragged.index(lattice.aux_labels.contiguous(), path)
    else:
        words = lattice.aux_labels.index(path)
        words = words.remove_axis(words.num_axes - 2)
    unique, _, _ = words.remove_values_leq(0).unique()
    return unique


def _intersected(lattice: k2.Fsa, words: k2.RaggedTensor, use_double_scores: bool) -> k2.Fsa:
    """Return the best path of every word sequence, [path][state][arc].

    Token ids are labels, word ids aux_labels; the lattice's other attributes are kept.
    """
    utterances = words.shape.row_ids(1)
    if utterances.numel() == 0:
        return k2.index_fsa(lattice, utterances)
    sequences = k2.linear_fsa_with_self_loops(k2.linear_fsa(words.remove_axis(0)))
    inverse = k2.arc_sort(k2.invert(lattice))  # words as labels
    best_paths = []
    for start in range(0, utterances.numel(), _BATCH):
        indexes = torch.arange(
            start,
            min(start + _BATCH, utterances.numel()),
            dtype=torch.int32,
            device=utterances.device,
        )
        both = k2.intersect_device(
            inverse,
            k2.index_fsa(sequences, indexes),
            b_to_a_map=utterances[start : start + _BATCH],
            sorted_match_a=True,
        )
        best_paths.append(
            k2.shortest_path(k2.top_sort(k2.connect(both)), use_double_scores=use_double_scores)
        )
    return k2.invert(best_paths[0] if len(best_paths) == 1 else k2.cat(best_paths))


def _path_sums(fsa: k2.Fsa, values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a value over the arcs of each path, (paths,) float64.

    The sum is taken in the dtype of the values.
    """
    return (
        k2.RaggedTensor(fsa.arcs.shape().remove_axis(1), values.detach().contiguous())
        .sum()
        .double()
    )
