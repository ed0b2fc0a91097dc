"""What `generate` of transformers returns, as lists: `rescore.from_transformers`.

Beam search divides the summed log-probability of a sequence by its length to the power of
`length_penalty` (transformers, generation/utils.py, `_beam_search`). Scores here are sums, so that
is undone. The length counts generated tokens, the end of the sentence included.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from rescore.arguments import kind_of
from rescore.errors import ArgumentError, FormatError
from rescore.types import Hypothesis, NBest

__all__ = ["from_transformers"]

logger = logging.getLogger("rescore")

#: What beam search gives to a beam that it never filled is -1e9, divided by the length.
_NEVER_FILLED = -1e5


def from_transformers(
    sequences: Any,
    scores: Any,
    processor: Any,
    *,
    ids: Sequence[str],
    refs: Sequence[str | None] | None = None,
    beam_indices: Any = None,
    prompt_length: int | None = None,
    length_penalty: float = 1.0,
    score: str = "am",
) -> list[NBest]:
    """The lists of `generate(num_return_sequences=N, return_dict_in_generate=True, ...)`.

        output = model.generate(features, num_beams=8, num_return_sequences=8,
                                return_dict_in_generate=True, output_scores=True)
        lists = rescore.from_transformers(
            output.sequences, output.sequences_scores, processor, ids=["u1", "u2"],
            beam_indices=output.beam_indices)

    sequences (U * N, L) ints; scores (U * N,) floats, `sequences_scores`, or None: the lists then
    have `rank` alone. `processor` (or a tokenizer) decodes. `ids` and `refs` are those of the U
    utterances. `beam_indices` (U * N, steps), -1 where a sequence has ended, say how long each is;
    without them `prompt_length` says how many tokens stand before the generated ones, and each
    sequence ends with the first end-of-sentence token behind them. A prompt is not part of the
    text. `length_penalty` is that of the call. `score` names the sums, natural logs; tokens that
    generation suppresses do not count in their normalisation.

    Raises ArgumentError for shapes that do not fit and where the lengths cannot be known,
    FormatError for an utterance without a hypothesis.
    Exact check: tests/formats/test_transformers_output.py::
    test_the_sums_are_those_of_the_transition_scores.
    """
    rows = [[int(token) for token in row] for row in _listed(sequences, "sequences")]
    count = _hypotheses_each(len(rows), ids, refs)
    if scores is None:
        sums: list[float] | None = None
    else:
        values = [float(value) for value in _listed(scores, "scores")]
        _check_count("scores", len(values), len(rows))
        lengths = _lengths(rows, processor, beam_indices, prompt_length, length_penalty)
        sums = [v * length**length_penalty for v, length in zip(values, lengths, strict=True)]
    texts = processor.batch_decode(
        [row[prompt_length or 0 :] for row in rows], skip_special_tokens=True
    )
    lists = []
    for number, utterance in enumerate(ids):
        span = range(number * count, (number + 1) * count)
        rows_of_one = [(texts[i], None if sums is None else sums[i]) for i in span]
        hyps = _hypotheses(utterance, rows_of_one, score)
        lists.append(NBest(utterance, hyps, None if refs is None else refs[number]))
    return lists


def _listed(values: Any, what: str) -> list[Any]:
    """The rows of an array or a tensor."""
    if values is None or not hasattr(values, "__len__"):
        raise ArgumentError(f"from_transformers: {what} are {kind_of(values)}, expected an array")
    return list(values.tolist()) if hasattr(values, "tolist") else list(values)


def _check_count(what: str, count: int, expected: int) -> None:
    if count != expected:
        raise ArgumentError(
            f"from_transformers: there are {count} {what} for {expected} sequences, expected one"
            " for each"
        )


def _hypotheses_each(rows: int, ids: Sequence[str], refs: Sequence[str | None] | None) -> int:
    """N of U * N sequences."""
    if isinstance(ids, str) or not len(ids) or rows % len(ids) or not rows:
        raise ArgumentError(
            f"from_transformers: there are {rows} sequences for {len(ids)} ids, expected the same"
            " number of sequences for each utterance"
        )
    if refs is not None and len(refs) != len(ids):
        raise ArgumentError(
            f"from_transformers: there are {len(refs)} references for {len(ids)} ids, expected one"
            " for each (None where there is none)"
        )
    return rows // len(ids)


def _lengths(
    rows: Sequence[Sequence[int]],
    processor: Any,
    beam_indices: Any,
    prompt_length: int | None,
    length_penalty: float,
) -> list[int]:
    """The number of generated tokens of each sequence, its end included."""
    if not length_penalty:
        return [1] * len(rows)
    if beam_indices is not None:
        steps = _listed(beam_indices, "beam_indices")
        _check_count("rows of beam_indices", len(steps), len(rows))
        return [sum(int(beam) >= 0 for beam in row) for row in steps]
    if prompt_length is None:
        raise ArgumentError(
            "from_transformers: the scores are divided by lengths, which are not known; give"
            " beam_indices=output.beam_indices, or prompt_length and length_penalty"
        )
    eos = getattr(processor, "tokenizer", processor).eos_token_id
    generated = [list(row[prompt_length:]) for row in rows]
    return [row.index(eos) + 1 if eos in row else len(row) for row in generated]


def _hypotheses(
    utterance: str, rows: Sequence[tuple[str, float | None]], score: str
) -> tuple[Hypothesis, ...]:
    """The hypotheses of one utterance, without the beams that were never filled."""
    hyps = []
    for rank, (text, value) in enumerate(rows):
        scores = {"rank": -float(rank)}
        if value is not None:
            if not math.isfinite(value) or value < _NEVER_FILLED:
                logger.warning(
                    "utterance %s: hypothesis %d has the score %g: generate did not fill this "
                    "beam, and it is left out",
                    utterance,
                    rank + 1,
                    value,
                )
                continue
            scores = {score: value, **scores}
        hyps.append(Hypothesis(text.strip(), scores))
    if not hyps:
        raise FormatError(f"utterance {utterance}: generate filled no beam; there is no hypothesis")
    return tuple(hyps)
