"""The beam search of a transducer, against all alignments of a small one."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from dlm_rescore import dump_beam_search, modified_beam_search_dlm_rescore
from dlm_rescore.beam_search import beams
from k2_lattices import CountingScorer
from torch import nn

import rescore
from rescore.errors import ScoreError

SYMBOLS, FRAMES = 3, 4


class Decoder(nn.Module):
    """icefall's stateless decoder, as much of it as the search uses."""

    blank_id, context_size = 0, 2

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(SYMBOLS, 8)

    def forward(self, tokens: torch.Tensor, need_pad: bool) -> torch.Tensor:
        assert not need_pad
        return (
            (self.table(tokens.clamp(min=0)) * (tokens >= 0)[..., None])
            .flatten(1)[:, None]
            .narrow(1, 0, 1)
        )


class Joiner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder_proj, self.decoder_proj, self.out = (
            nn.Linear(5, 8),
            nn.Linear(16, 8),
            nn.Linear(8, SYMBOLS),
        )

    def forward(
        self, encoder_out: torch.Tensor, decoder_out: torch.Tensor, project_input: bool
    ) -> torch.Tensor:
        assert encoder_out.ndim == decoder_out.ndim == 4
        assert not project_input
        return self.out(torch.tanh(encoder_out + decoder_out)) * 3


class Transducer(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.decoder, self.joiner = Decoder(), Joiner()


def example(seed: int = 0):
    torch.manual_seed(seed)
    return Transducer(seed).eval(), torch.randn(3, FRAMES, 5), torch.tensor([FRAMES, 2, 3])


def letters(ids: list[int]) -> str:
    return "".join("abc"[i] for i in ids)


@torch.no_grad()
def alignments(model, encoder_out) -> dict[tuple[int, ...], float]:
    """Return tokens -> probability, summed over every sequence of one symbol a frame."""
    probabilities: dict[tuple[int, ...], float] = {}
    frames = model.joiner.encoder_proj(encoder_out)
    for symbols in product(range(SYMBOLS), repeat=len(frames)):
        tokens, log_prob = (), 0.0
        for frame, symbol in zip(frames, symbols, strict=True):
            last = torch.tensor([((-1, 0, *tokens))[-2:]])
            decoder_out = model.joiner.decoder_proj(
                model.decoder(last, need_pad=False).unsqueeze(1)
            )
            log_probs = (
                model.joiner(frame.reshape(1, 1, 1, -1), decoder_out, project_input=False)
                .flatten()
                .log_softmax(0)
            )
            log_prob += float(log_probs[symbol])
            tokens = tokens if symbol == 0 else (*tokens, symbol)
        probabilities[tokens] = probabilities.get(tokens, 0.0) + float(
            torch.tensor(log_prob, dtype=torch.float64).exp()
        )
    return probabilities


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_sums_all_alignments(seed):
    model, encoder_out, lengths = example(seed)
    for number, prefixes in enumerate(beams(model, encoder_out, lengths, beam=10_000)):
        truth = alignments(model, encoder_out[number, : lengths[number]])
        assert prefixes.keys() == truth.keys()
        for tokens, log_prob in prefixes.items():
            assert float(log_prob.exp()) == pytest.approx(truth[tokens], rel=1e-5)


def test_a_beam_has_at_most_its_width_and_padding_changes_nothing():
    model, encoder_out, lengths = example()
    batched = beams(model, encoder_out, lengths, beam=4)
    assert all(len(prefixes) <= 4 for prefixes in batched)
    [alone] = beams(model, encoder_out[1:2, :2], torch.tensor([2]), beam=4)
    assert alone.keys() == batched[1].keys()
    for tokens, log_prob in alone.items():
        assert float(log_prob) == pytest.approx(float(batched[1][tokens]), rel=1e-5)


def test_the_best_has_the_highest_total_and_zero_is_a_scale():
    model, encoder_out, lengths = example(1)
    scorer = CountingScorer(lambda text: 2.0 * text.count("b") - text.count("c"))
    ids_by_scale = modified_beam_search_dlm_rescore(
        model, encoder_out, lengths, scorer, letters, dlm_scale=[0, 1, 30], beam=20
    )
    assert list(ids_by_scale) == ["dlm_scale_0", "dlm_scale_1", "dlm_scale_30"]
    assert len(scorer.calls) == 1
    for number, prefixes in enumerate(beams(model, encoder_out, lengths, beam=20)):
        for scale in (0, 1, 30):
            best = max(
                prefixes,
                key=lambda tokens, scale=scale, prefixes=prefixes: (
                    float(prefixes[tokens]) + scale * scorer.value(letters(list(tokens)))
                ),
            )
            assert ids_by_scale[f"dlm_scale_{scale}"][number] == list(best)
    assert ids_by_scale["dlm_scale_0"] != ids_by_scale["dlm_scale_30"]
    assert (
        len(
            modified_beam_search_dlm_rescore(model, encoder_out, lengths, CountingScorer(), letters)
        )
        == 24
    )


def test_empty_hypotheses_are_scored_and_may_win():
    model, encoder_out, lengths = example()
    scorer = CountingScorer(lambda text: 0.0 if text == "" else -100.0)
    ids_by_scale = modified_beam_search_dlm_rescore(
        model, encoder_out, lengths, scorer, letters, dlm_scale=10, beam=100
    )
    assert ids_by_scale["dlm_scale_10"] == [[], [], []]


def test_the_dump_gives_what_the_twin_gives(tmp_path):
    model, encoder_out, lengths = example(2)
    built = rescore.load_scorer("mdlm", rescore.ScorerOptions(estimator="nelbo", draws=2))
    best = dump_beam_search(
        model,
        encoder_out,
        lengths,
        ["x", "y", "z"],
        ["a", "b", "c"],
        tmp_path / "x.jsonl",
        ids_to_text=letters,
        beam=6,
    )
    lists = list(rescore.score(rescore.read(tmp_path / "x.jsonl"), built, name="dlm"))
    assert [nbest.hyps[0].text for nbest in lists] == best
    twin = modified_beam_search_dlm_rescore(
        model, encoder_out, lengths, built, letters, dlm_scale=0.8, beam=6, cut_ids=["x", "y", "z"]
    )
    fused = rescore.fuse(lists, rescore.Fusion({"am": 1.0, "dlm": 0.8}))
    assert [letters(ids) for ids in twin["dlm_scale_0.8"]] == [
        nbest.hyps[0].text for nbest in fused
    ]


def test_bad_input_is_refused():
    model, encoder_out, lengths = example()
    with pytest.raises(ScoreError, match=r"encoder_out is \(3, 4, 5\) with lengths \[4, 0, 3\]"):
        beams(model, encoder_out, torch.tensor([4, 0, 3]))
    with pytest.raises(ScoreError, match="there are 1 cut ids for 3 utterances"):
        modified_beam_search_dlm_rescore(
            model, encoder_out, lengths, CountingScorer(), letters, cut_ids=["x"]
        )
