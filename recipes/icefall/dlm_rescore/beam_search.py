"""`modified_beam_search_dlm_rescore`: a transducer's beam search with a whole-sentence scorer.

The scorer rescores the last beams:

    total = am + dlm_scale * dlm

A transducer has no n-gram beside it, so there is one scale, and the keys name it alone. The search
is that of `modified_beam_search_lm_rescore`, pruned_transducer_stateless2/beam_search.py in icefall
at 36e0420c: at most one symbol a frame; the probabilities of equal prefixes are added. Only torch
is used. Shapes: N utterances, T frames, H prefixes of all utterances, V symbols.
Exact check: tests/lattice_stage/test_k2_beam_search.py::test_a_wide_beam_sums_all_alignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from dlm_rescore.paths import IdsToText, text_of
from dlm_rescore.stage import Scale, numbered, scales, score_lists
from rescore.errors import ScoreError
from rescore.scorers import Scorer
from rescore.types import Hypothesis, NBest

__all__ = ["beams", "lists_of", "modified_beam_search_dlm_rescore"]

#: Tokens without the context before the first -> log probability, a float32 tensor () as in icefall
Beam: TypeAlias = dict[tuple[int, ...], torch.Tensor]


@torch.no_grad()
def modified_beam_search_dlm_rescore(
    model: torch.nn.Module,
    encoder_out: torch.Tensor,
    encoder_out_lens: torch.Tensor,
    scorer: Scorer,
    ids_to_text: IdsToText,
    dlm_scale: Scale = None,
    beam: int = 4,
    temperature: float = 1.0,
    *,
    cut_ids: Sequence[str] | None = None,
) -> dict[str, list[list[int]]]:
    """Return the best token ids of each utterance for every scale, under the key `dlm_scale_{d}`.

    Utterances are in the order of `encoder_out` (N, T, C). `model` is icefall's transducer
    (`decoder`, `joiner`). The scorer is called once. Scale 0 gives the most probable prefix,
    without the length normalisation of `modified_beam_search`, as
    `modified_beam_search_lm_rescore` does at LM scale 0. Raises ScoreError for a scorer that leaves
    a hypothesis without a finite score.
    """
    grid = scales(dlm_scale, "dlm_scale")
    last_beams = beams(model, encoder_out, encoder_out_lens, beam, temperature)
    lists = lists_of(last_beams, ids_to_text, numbered(len(last_beams), cut_ids))
    dlm = score_lists(scorer, lists)
    ordered = [_ordered(prefixes) for prefixes in last_beams]
    answers = {}
    for scale in grid:
        chosen = [
            max(
                range(len(tokens)),
                key=lambda i, hyps=nbest.hyps, values=values: (
                    hyps[i].scores["am"] + scale * values[i]
                ),
            )
            for tokens, nbest, values in zip(ordered, lists, dlm, strict=True)
        ]
        answers[f"dlm_scale_{scale}"] = [
            list(tokens[best]) for tokens, best in zip(ordered, chosen, strict=True)
        ]
    return answers


def lists_of(
    last_beams: Sequence[Beam],
    ids_to_text: IdsToText,
    cut_ids: Sequence[str],
    refs: Sequence[str] | None = None,
) -> list[NBest]:
    """Return one list an utterance, best first, with the score `am`."""
    if len(cut_ids) != len(last_beams):
        raise ScoreError(
            f"there are {len(cut_ids)} cut ids for {len(last_beams)} utterances; give one for "
            "each, in the same order"
        )
    lists = []
    for number, (utterance, prefixes) in enumerate(zip(cut_ids, last_beams, strict=True)):
        hyps = tuple(
            Hypothesis(
                text_of(list(tokens), ids_to_text, utterance), {"am": float(prefixes[tokens])}
            )
            for tokens in _ordered(prefixes)
        )
        lists.append(NBest(utterance, hyps, None if refs is None else refs[number]))
    return lists


def _ordered(prefixes: Beam) -> list[tuple[int, ...]]:
    """Return the prefixes, most probable first; ties keep the order in which they were added."""
    return sorted(prefixes, key=lambda tokens: -float(prefixes[tokens]))


@torch.no_grad()
def beams(
    model: torch.nn.Module,
    encoder_out: torch.Tensor,
    encoder_out_lens: torch.Tensor,
    beam: int = 4,
    temperature: float = 1.0,
) -> list[Beam]:
    """Return the last beam of every utterance: at most `beam` prefixes.

    The value of a prefix is the sum over its alignments that the search visits. `encoder_out` is
    (N, T, C). Raises ScoreError for other shapes.
    """
    if (
        encoder_out.ndim != 3
        or len(encoder_out_lens) != len(encoder_out)
        or int(encoder_out_lens.min()) < 1
    ):
        raise ScoreError(
            f"encoder_out is {tuple(encoder_out.shape)} with lengths {encoder_out_lens.tolist()}, "
            "expected (N, T, C) and N positive lengths"
        )
    frames = model.joiner.encoder_proj(encoder_out)
    lengths = encoder_out_lens.tolist()
    current: list[Beam] = [{(): torch.zeros((), device=frames.device)} for _ in lengths]
    for t in range(max(lengths)):
        active = [i for i, length in enumerate(lengths) if t < length]
        log_probs = _step(model, frames[:, t], active, current, temperature)
        by_utterance = log_probs.split([len(current[i]) for i in active])
        for i, continuations in zip(active, by_utterance, strict=True):
            current[i] = _extended(current[i], continuations, beam, model)
    return current


def _step(
    model: torch.nn.Module,
    frame: torch.Tensor,
    active: Sequence[int],
    current: Sequence[Beam],
    temperature: float,
) -> torch.Tensor:
    """Return log P(prefix) + log P(symbol | frame, prefix), (H, V).

    Rows are all prefixes of the active utterances.
    """
    context = model.decoder.context_size
    before = (-1,) * (context - 1) + (model.decoder.blank_id,)
    rows = [(i, tokens, log_prob) for i in active for tokens, log_prob in current[i].items()]
    last = torch.tensor(
        [(before + tokens)[-context:] for _, tokens, _ in rows],
        dtype=torch.int64,
        device=frame.device,
    )  # (H, context)
    decoder_out = model.joiner.decoder_proj(
        model.decoder(last, need_pad=False).unsqueeze(1)
    )  # (H, 1, 1, joiner)
    encoder_out = frame[[i for i, _, _ in rows]][:, None, None]  # (H, 1, 1, joiner)
    logits = model.joiner(encoder_out, decoder_out, project_input=False).squeeze(1).squeeze(1)
    return (logits / temperature).log_softmax(dim=-1) + torch.stack(
        [log_prob for _, _, log_prob in rows]
    )[:, None]


def _extended(prefixes: Beam, log_probs: torch.Tensor, beam: int, model: torch.nn.Module) -> Beam:
    """Return the best continuations of an utterance's prefixes, log_probs (prefixes, V).

    Blank and unknown add nothing to the tokens.
    """
    blank = model.decoder.blank_id
    silent = (blank, getattr(model, "unk_id", blank))
    before = list(prefixes)
    best, indexes = log_probs.reshape(-1).topk(min(beam, log_probs.numel()))
    after: Beam = {}
    for value, index in zip(best, indexes.tolist(), strict=True):
        row, symbol = divmod(index, log_probs.size(1))
        tokens = before[row] if symbol in silent else (*before[row], symbol)
        after[tokens] = torch.logaddexp(after[tokens], value) if tokens in after else value
    return after
