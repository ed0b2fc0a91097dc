"""Prior-guided denoising: exactness by enumeration, ends, pruning, revocation, drafts, the twin."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_prompted import small_prompted
from small_speech import TEXTS, manifest
from small_transcriber import SYMBOLS, small_transcriber

from rescore.acoustic.ctc_paths import align, greedy_path
from rescore.acoustic.listening import Listened
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.prompted import save_prompted
from rescore.acoustic.transcriber import save_transcriber
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.commit import threshold, top_k
from rescore.decoding.drafts import Draft, draft_canvas, masked_canvas, token_draft
from rescore.decoding.guides import ListeningGuide, PromptGuide
from rescore.decoding.prior_guided import PriorGuided, denoise, end_rule
from rescore.decoding.prompted_search import search_texts
from rescore.errors import ScoreError
from rescore.formats import jsonl
from rescore.models.tokenizer import train_tokenizer
from rescore.pipeline.decoding import decode

NONE = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    manifest(folder, texts=TEXTS[:3])
    save_prompted(small_prompted(), folder / "dllm")
    save_prompted(small_prompted(causal=True), folder / "twin")
    save_transcriber(small_transcriber(), folder / "mdm")
    save_transcriber(small_transcriber(causal=True), folder / "mdm_ar")
    return folder


@pytest.fixture(scope="module")
def audio(folder):
    return [Listened(utterance, 16_000) for utterance in read_utterances(folder / "train.tsv")]


def guide_of(kind):
    """A model in float64, where rounding hides nothing."""
    if kind == "prompt":
        model = small_prompted(scale=4.0)
        model.network.double()
        return PromptGuide(model)
    model = small_transcriber(scale=4.0)
    model.network.double()
    return ListeningGuide(model)


def settings(guide, rule=None, **options):
    return PriorGuided(rule or top_k(1), guide.rows, **options)


# ------------------------------------------------------------------------------- what is exact


@pytest.mark.parametrize("kind", ["prompt", "listening"])
def test_all_positions_computed_is_the_full_computation(audio, kind):
    """Whatever was computed before; against the networks' own full forward pass."""
    guide = guide_of(kind)
    heard = guide.hear(audio[0])
    canvas, everything = guide.canvas(heard, 6), np.arange(6)
    rows, text = guide.rows, [5, 6] if kind == "prompt" else [2, 3]
    first = np.array([rows.bos, *[rows.mask] * 5])
    second = np.array([rows.bos, *text, rows.mask, rows.mask, rows.eos])
    canvas.log_probs(first, everything, everything[1:], NONE)
    canvas.log_probs(second, np.array([2, 4]), np.array([4]), NONE)
    kept = canvas.log_probs(second, everything, everything[1:], NONE)
    assert np.allclose(np.exp(kept), np.exp(_whole(guide, heard, second)[1:]), atol=1e-12)


def _whole(guide, heard, tokens):
    network = guide.model.network
    batch = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        if isinstance(guide, PromptGuide):
            logits = network.language_model.readout(network.encode(batch, heard))
            never = guide.never
        else:
            logits = network.decoder.readout(network.decoder.encode(batch, heard.memory))
            never = torch.zeros(logits.shape[-1], dtype=torch.bool)
            never[[guide.rows.padding, guide.rows.bos, guide.rows.mask]] = True
        return logits[0].double().masked_fill(never, -torch.inf).log_softmax(-1).numpy()


@pytest.mark.parametrize("kind", ["prompt", "listening"])
def test_one_a_round_is_the_exact_chain(audio, kind):
    """With `refresh` 1: the most confident allowed position first, by full computations alone."""
    guide = guide_of(kind)
    for condition in audio:
        heard = guide.hear(condition)
        draft = masked_canvas(3, 1, guide.rows)
        result = denoise(guide.canvas(heard, len(draft)), draft, settings(guide, refresh=1))
        assert result.tokens[1:].tolist() == _chain(guide, heard, draft)[1 : len(result.tokens)]


def _chain(guide, heard, tokens):
    tokens, eos = tokens.copy(), guide.rows.eos
    while (tokens == guide.rows.mask).any():
        log_probs = _whole(guide, heard, tokens)
        opened = np.flatnonzero(tokens == guide.rows.mask)
        text = np.flatnonzero((tokens != guide.rows.mask) & (tokens != eos))[-1]
        best = (-np.inf, 0, 0)
        for place in opened:
            row = log_probs[place].copy()
            if place < text:
                row[eos] = -np.inf
                row -= np.log(np.exp(row).sum())
            token = int(row.argmax())
            if token != eos or (tokens[place + 1 :] == eos).all():
                best = max(best, (row[token], -place, token))
        tokens[-best[1]] = best[2]
        ended = np.flatnonzero(tokens == eos)
        if len(ended):  # pruned: one EOS stays
            tokens = tokens[: ended[0] + 1]
    return tokens.tolist()


def test_a_shadow_sees_all_but_the_token_at_its_place(audio):
    """One layer deep and alone, it is the masked query itself, but for the token's own key."""
    guide = guide_of("prompt")
    heard = guide.hear(audio[0])
    canvas, everything = guide.canvas(heard, 4), np.arange(4)
    values = []
    for token in (4, 5, 6):  # the token at the shadow's place does not matter to a first layer
        tokens = np.array([guide.rows.bos, token, 5, guide.rows.eos])
        values.append(canvas.log_probs(tokens, everything, NONE, np.array([1]))[0])
    assert np.isfinite(values[0]).any()
    model = small_prompted(scale=4.0)
    model.network.double()
    del model.network.language_model.network.blocks[1:]
    guide = PromptGuide(model)
    canvas = guide.canvas(guide.hear(audio[0]), 4)
    one, other = (
        canvas.log_probs(
            np.array([guide.rows.bos, token, 5, guide.rows.eos]), everything, NONE, np.array([1])
        )[0]
        for token in (5, 6)
    )
    masked = np.array([guide.rows.bos, guide.rows.mask, 5, guide.rows.eos])
    asked = canvas.log_probs(masked, everything, np.array([1]), NONE)[0]
    assert np.allclose(np.exp(one), np.exp(other), atol=1e-12)
    assert np.allclose(np.exp(one), np.exp(asked), atol=1e-12)


# ------------------------------------------------------------------------------- ends and tails


class Scripted:
    """A network whose answers are drawn: any behaviour that a rule may meet."""

    def __init__(self, seed, vocabulary):
        self.chance, self.vocabulary = np.random.default_rng(seed), vocabulary
        self.asked = []

    def log_probs(self, tokens, computed, read, shadows):
        assert set(read) <= set(computed)
        assert (computed < len(tokens)).all()
        self.asked.append((len(tokens), computed.tolist(), read.tolist(), shadows.tolist()))
        logits = 3 * self.chance.standard_normal((len(read) + len(shadows), self.vocabulary))
        logits[:, [0, 2, 7]] = -np.inf
        return torch.from_numpy(logits).log_softmax(-1).numpy()


@pytest.mark.parametrize("seed", range(40))
def test_pruning_loses_no_text(seed):
    """Under any answers: decided text stays, no text follows an EOS, what is dropped is decided."""
    guide = guide_of("prompt")
    rows, chance = guide.rows, np.random.default_rng(seed)
    confidence = chance.random(5)
    draft = draft_canvas(Draft(np.array([5, 6, 4, 5, 6]), confidence), 0.5, 4, rows)
    kept = [int(token) for token in draft[1:6] if token != rows.mask]
    for options in ({}, {"prunes": False}, {"agrees": True}, {"rounds": 3}, {"refresh": 2}):
        network = Scripted(seed, 8)
        result = denoise(network, draft, settings(guide, threshold(0.7), **options))
        tokens = result.tokens.tolist()
        end = tokens.index(rows.eos) if rows.eos in tokens else len(tokens)
        assert rows.mask not in tokens
        assert set(tokens[end:]) <= {rows.eos}
        places = [place for place in range(1, 6) if draft[place] != rows.mask]
        assert [tokens[place] for place in places] == kept
        if options.get("prunes", True):
            assert len(tokens) <= end + 1
            sizes = [*(size for size, *_ in network.asked), len(tokens)]
            assert sizes == sorted(sizes, reverse=True)
            for (_, _, read, _), (size, _, after, _) in itertools.pairwise(network.asked):
                assert set(after) <= set(read)  # what is open was open before
                assert all(place < size for place in after)
        else:
            assert len(tokens) == len(draft)


def test_an_end_is_decided_from_the_right():
    eos, mask = 3, 7
    tokens = np.array([2, mask, 5, mask, mask, mask])
    is_open = tokens == mask
    chosen, sure = np.array([4, eos, eos, eos]), np.array([True, True, False, True])
    assert end_rule(tokens, is_open, chosen, sure, eos).tolist() == [True, False, False, True]
    sure[2] = True
    assert end_rule(tokens, is_open, chosen, sure, eos).all()


def test_positions_that_left_the_loop_are_computed_once_more_and_then_kept():
    guide = guide_of("prompt")
    network = Scripted(3, 8)
    draft = masked_canvas(5, 2, guide.rows)
    denoise(network, draft, settings(guide, top_k(1), prunes=False))
    first, *later = network.asked
    assert first[1] == list(range(len(draft)))
    for before, (_, computed, read, _) in zip([first, *later], later, strict=False):
        left = set(before[2]) - set(read)
        assert set(computed) == set(read) | left
    network = Scripted(3, 8)
    denoise(network, draft, settings(guide, top_k(1), prunes=False, refresh=1))
    assert all(len(computed) == len(draft) for _, computed, _, _ in network.asked)


@pytest.mark.parametrize("seed", range(10))
def test_revocation_opens_each_token_once_at_most_and_ends(seed):
    guide = guide_of("prompt")
    draft = draft_canvas(Draft(np.array([5, 6, 4]), np.ones(3)), 0.5, 2, guide.rows)
    for of_draft in (False, True):
        plan = settings(guide, threshold(0.5), revoke=1.0, revokes_draft=of_draft)
        result = denoise(Scripted(seed, 8), draft, plan)
        assert result.revoked <= len(draft) - 1
        assert guide.rows.mask not in result.tokens
        if not of_draft:
            assert result.tokens[1:4].tolist() == [5, 6, 4]
        else:
            assert result.revoked >= 3
    assert denoise(Scripted(seed, 8), draft, settings(guide, threshold(0.5))).revoked == 0


# -------------------------------------------------------------------------------------- drafts


@pytest.fixture
def path():
    """CTC's alignment of "ab a", each label less sure than the one before."""
    log_probs = np.log(np.full((9, len(SYMBOLS)), 0.05))
    labels = SYMBOLS.encode("ab a")
    for frame, label in zip((0, 2, 4, 6), labels, strict=True):
        log_probs[frame, label] = np.log(0.9 - 0.1 * frame)
    return align(log_probs, labels, SYMBOLS.blank)


def test_all_tokens_of_a_word_have_its_lowest_confidence(path):
    pieces = train_tokenizer(TEXTS * 50, 13)
    draft = token_draft(path, SYMBOLS, pieces, "ab a")
    words = pieces.words(draft.tokens)
    assert draft.confidence[words == 0] == pytest.approx(path.confidence[:2].min())
    assert draft.confidence[words == 1] == pytest.approx(path.confidence[2:].min())
    assert not token_draft(path, SYMBOLS, pieces, "ab a a").confidence.any()


def test_tokens_that_are_the_symbols_have_their_own_confidence(path):
    letters = small_prompted().tokenizer
    draft = token_draft(path, SYMBOLS, letters, "ab a")
    assert letters.pieces(draft.tokens) == ["a", "b", "\u2581", "a"]
    assert draft.confidence.tolist() == path.confidence.tolist()
    other = token_draft(path, SYMBOLS, letters, "ab b")  # normalising changed a letter
    assert other.confidence[:2] == pytest.approx(path.confidence[:2].min())


def test_boundaries_at_the_ends_and_repeated_ones_are_no_tokens():
    log_probs = np.log(np.full((11, len(SYMBOLS)), 0.05))
    labels = [SYMBOLS.columns[symbol] for symbol in " a  b "]
    for frame, label in enumerate(labels):
        log_probs[2 * frame - (frame > 3), label] = np.log(0.9 - 0.1 * frame)
    path = align(log_probs, labels, SYMBOLS.blank)
    draft = token_draft(path, SYMBOLS, small_prompted().tokenizer, "a b")
    assert draft.confidence == pytest.approx([0.8, 0.6, 0.5])


def test_a_draft_keeps_what_the_gate_lets_through():
    rows = guide_of("prompt").rows
    draft = Draft(np.array([5, 6]), np.array([0.95, 0.5]))
    assert draft_canvas(draft, 0.9, 1, rows).tolist() == [2, 5, rows.mask, rows.mask, rows.mask]
    assert draft_canvas(draft, 0.9, 1, rows, hides_end=False).tolist() == [2, 5, rows.mask, 3]
    assert masked_canvas(2, 0, rows).tolist() == [2, rows.mask, rows.mask, rows.mask]


# ----------------------------------------------------------------------------------- the twin


@torch.no_grad()
def test_a_wide_beam_finds_the_best_of_all_texts(audio):
    model = small_prompted(causal=True, scale=3.0)
    model.network.double()
    guide = PromptGuide(model)
    heard = guide.hear(audio[0])
    rows, every = guide.rows, []
    for length in range(3):
        for text in itertools.product((4, 5, 6), repeat=length):
            tokens = [rows.bos, *text, rows.eos]
            hidden = model.network.encode(torch.tensor([tokens[:-1]]), heard)
            logits = model.network.language_model.readout(hidden)[0]
            log_probs = logits.masked_fill(guide.never, -torch.inf).log_softmax(-1)
            total = sum(float(log_probs[k, v]) for k, v in enumerate(tokens[1:]))
            every.append((total, text))
    result = search_texts(model.network, heard, 20, 2, guide.never)
    expected = sorted(every, reverse=True)
    assert [text for _, text in result.texts] == [text for _, text in expected]
    assert np.allclose([total for total, _ in result.texts], [total for total, _ in expected])
    greedy = search_texts(model.network, heard, 1, 8, guide.never)
    assert greedy.evaluations == greedy.steps


# ---------------------------------------------------------------------------------- the method


@pytest.mark.parametrize("model", ["dllm", "mdm"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draft": "mask", "tau": 0.5, "prune": False},
        {"draft": "mask", "canvas": 6, "commit": "top_k", "commit_value": 2.0, "refresh": 1},
        {"gate": 0.1, "margin": 2, "revoke": 0.3, "revoke_draft": True, "agree": True},
    ],
)
def test_lists_say_what_they_cost(folder, model, options):
    settings = DecoderOptions(model=str(folder / model), **options)
    decoder = load_decoder("prior_guided", str(folder / "train.tsv"), settings)
    lists = list(decode(decoder))
    assert [nbest.id for nbest in lists] == ["train-0", "train-1", "train-2"]
    for nbest in lists:
        assert nbest.hyps[0].raw["origin"] == "prior_guided"
        assert nbest.raw["evaluations"] >= nbest.raw["rounds"] > 0
        assert nbest.raw["multiplications"] > 0
    again = [nbest.hyps for nbest in decode(decoder)]
    assert again == [nbest.hyps for nbest in lists]


def test_a_list_is_a_draft(folder, audio, tmp_path):
    guide = PromptGuide(small_prompted())
    plain = DecoderOptions(model=str(folder / "dllm"))
    path = str(folder / "train.tsv")
    expected = list(decode(load_decoder("prior_guided", path, plain)))
    texts = []
    for condition in audio:
        log_probs = guide.log_probs(guide.hear(condition))
        labels = greedy_path(log_probs, guide.symbols.blank).labels.tolist()
        texts.append(guide.symbols.decode(labels))
    lines = [
        f'{{"id":"train-{k}","hyps":[{{"text":"{text}","scores":{{}}}}]}}\n'
        for k, text in enumerate(texts)
    ]
    (tmp_path / "lists.jsonl").write_text("".join(lines))
    options = replace(plain, draft="nbest", lists=str(tmp_path / "lists.jsonl"))
    lists = list(decode(load_decoder("prior_guided", path, options)))
    assert [nbest.raw["canvas"] for nbest in lists] == [nbest.raw["canvas"] for nbest in expected]
    (tmp_path / "lists.jsonl").write_text(lines[0])
    options = replace(options, lists=str(tmp_path / "lists.jsonl"))
    with pytest.raises(ScoreError, match="has no list"):
        list(decode(load_decoder("prior_guided", path, options)))
    assert next(iter(jsonl.read(tmp_path / "lists.jsonl"))).id == "train-0"


def test_the_twin_searches(folder):
    path = str(folder / "train.tsv")
    options = DecoderOptions(model=str(folder / "twin"), beam=3)
    for nbest in decode(load_decoder("prior_guided", path, options)):
        assert 1 <= len(nbest.hyps) <= 3


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (None, {}, "needs --model"),
        ("twin", {"tau": 0.5}, "autoregressive does not read --tau"),
        ("dllm", {"beam": 2}, "masked does not read --beam"),
        ("mdm_ar", {}, "search with it by --method mdm"),
        ("dllm", {"draft": "nbest"}, "reads --lists"),
        ("dllm", {"lists": "x"}, "reads --lists"),
        ("dllm", {"draft": "mask", "gate": 0.5}, "leave --gate out"),
        ("dllm", {"canvas": 5}, "belongs to --draft mask"),
        ("dllm", {"tau": 0.5, "commit": "top_k", "commit_value": 1.0}, "--tau is the number"),
        ("dllm", {"commit": "top_k"}, "belong together"),
        ("dllm", {"revoke_draft": True}, "belongs to --revoke"),
        ("dllm", {"count": 3}, "does not read --count"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, model, options, message):
    settings = DecoderOptions(model=model and str(folder / model), **options)
    with pytest.raises(ScoreError, match=message):
        load_decoder("prior_guided", str(folder / "train.tsv"), settings)
