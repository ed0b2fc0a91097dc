"""Edits that change the length of a transcript: labels deleted or inserted where CTC is unsure.

Joint decoding keeps the length of its draft. This search changes it: in every round it tries all
texts that are one edit away,

    delete    a label whose probability at its peak is below the gate
    insert    one of the likeliest labels of a frame whose symbol is below the gate: in the gap that
              a blank frame lies in, on either side of the label that another one belongs to

and goes to the text with the highest total, if that is higher than the present one:

    total = ctc_scale log P_ctc(text | audio) + lm_scale PLL(text)

log P_ctc sums over all paths, PLL is the language model's pseudo-log-likelihood by the estimator
that `score` uses. Only the texts that CTC finds likeliest are asked of the language model.

Source: the gate of CTC-seeded edits is that of arXiv:2606.28732; search and total are ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.ctc import frames_needed, text_log_probs
from rescore.acoustic.ctc_paths import align
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Symbols
from rescore.decoding.driver import Sampler
from rescore.decoding.joint import JointScales
from rescore.diffusion.draws import utterance_key
from rescore.diffusion.plans import sums
from rescore.errors import ScoreError
from rescore.scorers.denoising import Estimator
from rescore.scorers.sequences import Sequencer
from rescore.types import Hypothesis, NBest

__all__ = ["GATE", "EditSearch", "PseudoLikelihood", "neighbours"]

#: Labels and frames below this probability may be edited.
GATE = 0.7

#: Labels tried at a doubtful frame; texts of a round that the language model scores.
_ALTERNATIVES, _WIDTH = 3, 20


@dataclass(frozen=True)
class PseudoLikelihood:
    """A language model's pseudo-log-likelihood of texts, as `score` computes it."""

    sequencer: Sequencer
    estimator: Estimator

    def __call__(self, utterance: str, texts: Sequence[str]) -> Sampler[np.ndarray]:
        """PLL of every text, (texts,) nats; folds go by the alignment to the first one."""
        hypotheses = self.sequencer(NBest(utterance, tuple(map(Hypothesis, texts))))
        key = utterance_key(utterance)
        plans = [
            [self.estimator.planner(window, key) for window in windows] for windows in hypotheses
        ]
        answers = iter(
            (yield [query for of_text in plans for plan in of_text for query in plan.queries])
        )
        values = []
        for of_text in plans:
            parts = [
                plan.combine(sums(list(itertools.islice(answers, len(plan.queries)))))
                for plan in of_text
            ]
            values.append(sum(part.value for part in parts))
        return np.array(values)


@dataclass(frozen=True)
class EditSearch:
    """At most `edits` edits of a text, the best of each round.

    `gate`: what counts as unsure, a probability; above 1 everything is. `alternatives`: labels
    tried at a doubtful frame. `width`: texts of a round that the language model scores. Raises
    ScoreError for a number that is not in its range.
    """

    symbols: Symbols
    likelihood: PseudoLikelihood
    scales: JointScales
    edits: int
    gate: float = GATE
    alternatives: int = _ALTERNATIVES
    width: int = _WIDTH

    def __post_init__(self) -> None:
        if min(self.edits, self.alternatives, self.width) < 1 or self.gate < 0:
            raise ScoreError(
                f"edits is {self.edits} and gate {self.gate}, expected numbers from 1 and 0 on"
            )

    def __call__(self, posteriors: Posteriors, text: str) -> Sampler[list[tuple[int, ...]]]:
        """The labels of the texts that it goes to from a text, one after the other.

        Exact check: tests/decoding/test_edits.py::test_each_edit_is_the_best_of_all_by_enumeration.
        """
        visited: list[tuple[int, ...]] = []
        current = self._spelled(posteriors, text)
        for _ in range(self.edits):
            if current is None:
                break
            rivals = self._rivals(posteriors, current)
            if not rivals:
                break
            labels = [current, *rivals]
            texts = [self.symbols.decode(of_text) for of_text in labels]
            lm = yield from self.likelihood(posteriors.id, texts)
            totals = self.scales.ctc * self._ctc(posteriors, labels) + self.scales.lm * lm
            best = int(totals.argmax())
            if best == 0:
                break
            current = labels[best]
            visited.append(current)
        return visited

    def _rivals(self, posteriors: Posteriors, labels: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The texts one edit away that CTC finds likeliest, as the symbols spell them."""
        never = sorted(posteriors.symbols.special)
        near = neighbours(
            posteriors.log_probs,
            labels,
            posteriors.symbols.blank,
            never,
            self.gate,
            self.alternatives,
        )
        texts = {self.symbols.decode(of_text) for of_text in near} - {self.symbols.decode(labels)}
        spelled = [self._spelled(posteriors, text) for text in sorted(texts)]
        rivals = [of_text for of_text in spelled if of_text is not None]
        order = np.argsort(-self._ctc(posteriors, rivals), kind="stable")
        return [rivals[k] for k in order[: self.width]]

    def _spelled(self, posteriors: Posteriors, text: str) -> tuple[int, ...] | None:
        """The labels of a text; None for one that CTC cannot emit."""
        try:
            labels = tuple(self.symbols.encode(text, posteriors.place()))
        except ScoreError:  # a piece of no character, or one that the model cuts differently
            return None
        return labels if frames_needed(labels) <= len(posteriors.log_probs) else None

    def _ctc(self, posteriors: Posteriors, labels: Sequence[tuple[int, ...]]) -> np.ndarray:
        return text_log_probs(posteriors.log_probs, labels, posteriors.symbols.blank)


def neighbours(
    log_probs: np.ndarray,
    labels: Sequence[int],
    blank: int,
    never: Sequence[int],
    gate: float,
    alternatives: int,
) -> list[tuple[int, ...]]:
    """All label sequences one deletion or insertion away, where CTC is less sure than `gate`.

    log_probs (T, V), labels columns of it; `never` columns that are not inserted. Each once.
    Exact check: tests/decoding/test_edits.py::test_an_open_gate_allows_every_edit.
    """
    path = align(log_probs, labels, blank)
    sequence = tuple(labels)
    doubtful = np.flatnonzero(path.confidence < gate).tolist()
    edited = [(*sequence[:place], *sequence[place + 1 :]) for place in doubtful]
    chosen = log_probs[np.arange(len(log_probs)), path.symbols]
    for frame in np.flatnonzero(np.exp(chosen.astype(np.float64)) < gate).tolist():
        begun = int(np.searchsorted(path.first, frame, side="right"))  # labels up to this frame
        is_blank = path.symbols[frame] == blank
        for place in (begun,) if is_blank else (begun - 1, begun):
            edited += [
                (*sequence[:place], label, *sequence[place:])
                for label in _likeliest(log_probs[frame], [blank, *never], alternatives)
            ]
    return list(dict.fromkeys(edited))


def _likeliest(row: np.ndarray, never: Sequence[int], count: int) -> list[int]:
    """The `count` likeliest columns of a row (V,) that are possible, most likely first."""
    allowed = row.astype(np.float64)
    allowed[list(never)] = -np.inf
    order = np.argsort(-allowed, kind="stable")[:count]
    return [int(column) for column in order if np.isfinite(allowed[column])]
