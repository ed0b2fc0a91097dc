"""From a lattice to the unique word sequences of sampled paths and their scores, with k2 alone; the caller's lattice is never written to.

Same paths, in the same order and with the same scores, as icefall's `Nbest.from_lattice(lattice, ...).intersect(lattice)`, icefall/decode.py at
36e0420c (June 2026). Unlike there, the scores are scaled in a copy: an exception in between cannot leave them scaled.
Axes as in k2: a lattice is [utt][state][arc], `Paths.fsa` is [path][state][arc], `Paths.shape` is [utt][path].
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
        f'k2 cannot be imported ({error}); install it with: pip install k2==1.23.4 torch==1.13.1 "numpy<2" (Python 3.10), or as k2-fsa.github.io/k2 says'
    ) from error

__all__ = ["IdsToText", "Paths", "check_lattice", "sample_paths", "text_of", "word_ids"]

#: Word or token ids of one hypothesis -> its text.
IdsToText: TypeAlias = Callable[[list[int]], str]

_BATCH = 50  # paths intersected at a time, as in icefall: memory is bounded by it


@dataclass(frozen=True)
class Paths:
    """Unique word sequences with their best paths through the lattice.

    `fsa` holds those paths, `ids` their word or token ids (what `aux_labels` holds), `totals` (paths,) float64 the sums of their scores, `ngram`
    (paths,) float64 those of `lm_scores`, None for a lattice without. The sums are taken in float32, as k2 and icefall do, so that
    am = totals - ngram and am + ngram = totals hold exactly in float64.
    """

    fsa: k2.Fsa
    shape: k2.RaggedShape
    ids: list[list[int]]
    totals: torch.Tensor
    ngram: torch.Tensor | None

    @property
    def am(self) -> torch.Tensor:
        """The acoustic scores (paths,), float64: what the n-gram is not; the whole score where there is none."""
        return self.totals if self.ngram is None else self.totals - self.ngram

    def groups(self) -> list[list[int]]:
        """The paths of every utterance, the best first. Among equals the last, which is what `RaggedTensor.argmax` takes."""
        splits, totals = self.shape.row_splits(1).tolist(), self.totals.tolist()
        spans = itertools.pairwise(splits)
        return [
            sorted(range(start, end), key=lambda path: (totals[path], path), reverse=True)
            for start, end in spans
        ]

    def best(self, totals: torch.Tensor) -> torch.Tensor:
        """The index (utterances,) int32 of each utterance's path with the highest of other totals (paths,); -1 for an empty lattice."""
        return k2.RaggedTensor(self.shape, totals).argmax()

    def lists(
        self, ids_to_text: IdsToText, cut_ids: Sequence[str], refs: Sequence[str] | None = None
    ) -> list[NBest]:
        """One list an utterance, best first, with the scores `am` and `ngram`; an empty lattice gives a list without hypotheses."""
        groups = self.groups()
        if len(cut_ids) != len(groups):
            raise ScoreError(
                f"there are {len(cut_ids)} cut ids for a lattice of {len(groups)} utterances; give one for each, in the same order"
            )
        scores = {
            "am": self.am.tolist(),
            **({} if self.ngram is None else {"ngram": self.ngram.tolist()}),
        }
        found = []
        for number, (utterance, group) in enumerate(zip(cut_ids, groups, strict=True)):
            texts = [text_of(self.ids[path], ids_to_text, utterance) for path in group]
            hyps = tuple(
                Hypothesis(text, {name: values[path] for name, values in scores.items()})
                for text, path in zip(texts, group, strict=True)
            )
            found.append(NBest(utterance, hyps, None if refs is None else refs[number]))
        return found


@torch.no_grad()
def sample_paths(
    lattice: k2.Fsa, num_paths: int, nbest_scale: float, use_double_scores: bool = True
) -> Paths:
    """Sample `num_paths` paths of every utterance with scores times `nbest_scale`, keep the unique word sequences, and give each its best path.

    Raises ScoreError for a lattice that cannot be sampled from, for one that k2 has no memory for, and for a score that is not finite.
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
            f"k2 cannot take {num_paths} paths from a lattice of {arcs} arcs ({reason}); lower num_paths or max-duration"
        ) from error
    totals = _path_sums(fsa, fsa.scores)
    ngram = _path_sums(fsa, fsa.lm_scores) if hasattr(lattice, "lm_scores") else None
    for name, values in (("score", totals), ("lm_score", ngram)):
        if values is not None and not torch.isfinite(values).all():
            path = int((~torch.isfinite(values)).nonzero()[0])
            utterance = int(words.shape.row_ids(1)[path])
            raise ScoreError(
                f"utterance {utterance} of the batch (from 0): a path has the {name} {float(values[path])}, expected a finite number"
            )
    return Paths(fsa, words.shape.get_layer(0), words.remove_axis(0).tolist(), totals, ngram)


def check_lattice(lattice: k2.Fsa, needs_ngram: bool = False) -> None:
    """Raise ScoreError for what is no lattice of paths with words, and, if that is needed, for one without `lm_scores`."""
    if len(lattice.shape) != 3:
        raise ScoreError(
            f"the lattice has {len(lattice.shape)} axes, expected [utt][state][arc]; make an FsaVec of a single one: k2.create_fsa_vec([fsa])"
        )
    if not hasattr(lattice, "aux_labels"):
        raise ScoreError(
            "the lattice has no aux_labels (word or token ids); make it with an HLG or a k2.ctc_topo as get_lattice does"
        )
    if needs_ngram and not hasattr(lattice, "lm_scores"):
        raise ScoreError(
            "the lattice has no lm_scores, which part am from ngram; set HLG.lm_scores = HLG.scores.clone() before decoding,"
            " or, where the graph has no n-gram (ctc_topo), use the variant without one"
        )


def text_of(ids: list[int], ids_to_text: IdsToText, utterance: str) -> str:
    """The text of some ids. Raises ScoreError for one that the table does not hold: the graph was made with another."""
    try:
        return ids_to_text(ids)
    except (KeyError, IndexError) as error:
        raise ScoreError(
            f"utterance {utterance}: ids_to_text does not know all of {ids} ({error!r}); give the table that the graph was made with"
        ) from error


def word_ids(fsa: k2.Fsa) -> list[list[int]]:
    """The positive `aux_labels` of every linear FSA, as icefall's `get_texts` gives them; none of an empty one."""
    labels = fsa.aux_labels
    if isinstance(labels, torch.Tensor):
        found = k2.RaggedTensor(fsa.arcs.shape().remove_axis(1), labels)
    else:
        shape = fsa.arcs.shape().compose(labels.shape)
        found = k2.RaggedTensor(shape.remove_axis(1).remove_axis(1), labels.values)
    ids: list[list[int]] = found.remove_values_leq(0).tolist()
    return ids


def _word_sequences(
    lattice: k2.Fsa, num_paths: int, nbest_scale: float, use_double_scores: bool
) -> k2.RaggedTensor:
    """[utt][path][word]: what the sampled paths say, each once. k2 samples deterministically."""
    scaled = k2.Fsa(lattice.arcs.clone())
    scaled.scores = lattice.scores.detach() * nbest_scale
    path = k2.random_paths(
        scaled, num_paths=num_paths, use_double_scores=use_double_scores
    )  # [utt][path][arc]
    if isinstance(lattice.aux_labels, torch.Tensor):
        words = k2.ragged.index(lattice.aux_labels.contiguous(), path)
    else:
        words = lattice.aux_labels.index(path)
        words = words.remove_axis(words.num_axes - 2)
    unique, _, _ = words.remove_values_leq(0).unique()
    return unique


def _intersected(lattice: k2.Fsa, words: k2.RaggedTensor, use_double_scores: bool) -> k2.Fsa:
    """The best path of every word sequence [path][state][arc], token ids as labels, word ids as aux_labels, with the lattice's other attributes."""
    utterances = words.shape.row_ids(1)
    if utterances.numel() == 0:
        return k2.index_fsa(lattice, utterances)
    sequences = k2.linear_fsa_with_self_loops(k2.linear_fsa(words.remove_axis(0)))
    inverse = k2.arc_sort(k2.invert(lattice))  # words as labels
    found = []
    for start in range(0, utterances.numel(), _BATCH):
        indexes = torch.arange(
            start,
            min(start + _BATCH, utterances.numel()),
            dtype=torch.int32,
            device=utterances.device,
        )
        some = k2.intersect_device(
            inverse,
            k2.index_fsa(sequences, indexes),
            b_to_a_map=utterances[start : start + _BATCH],
            sorted_match_a=True,
        )
        found.append(
            k2.shortest_path(k2.top_sort(k2.connect(some)), use_double_scores=use_double_scores)
        )
    return k2.invert(found[0] if len(found) == 1 else k2.cat(found))


def _path_sums(fsa: k2.Fsa, values: torch.Tensor) -> torch.Tensor:
    """Per path (paths,) the sum of a value per arc, in the arcs' own dtype; float64."""
    return (
        k2.RaggedTensor(fsa.arcs.shape().remove_axis(1), values.detach().contiguous())
        .sum()
        .double()
    )
