"""MDM-ASR: sampling against enumeration, ends, guidance, Mask-CTC, the beam, and the method."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_speech import TEXTS, manifest
from small_transcriber import small_transcriber

from rescore.acoustic.ctc_paths import greedy_path
from rescore.acoustic.listening import AudioDenoiser, Listened, hear_all
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.transcriber import save_transcriber
from rescore.decoding.autoregressive import ListeningPrefixes, beam_search
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.commit import threshold, top_k
from rescore.decoding.driver import counted, run_samplers
from rescore.decoding.mdm import MdmSampling, draft_canvas, guided, open_canvas, transcribe
from rescore.diffusion.draws import SamplingDraws
from rescore.errors import ModelError, ScoreError
from rescore.pipeline.decoding import decode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    manifest(folder, texts=TEXTS[:3])
    save_transcriber(small_transcriber(), folder / "mdm")
    save_transcriber(small_transcriber(causal=True, seed=1), folder / "ar")
    return folder


@pytest.fixture(scope="module")
def audio(folder):
    return [Listened(utterance, 16_000) for utterance in read_utterances(folder / "train.tsv")]


@pytest.fixture(scope="module")
def denoiser():
    return AudioDenoiser(small_transcriber(scale=4.0))


def sampling(rows, rule=None, **options):
    return MdmSampling(lambda _count: rule or top_k(1), rows, **options)


def chain(denoiser, condition, places):
    """The distribution of texts that are decided one by one, the most confident place first."""
    rows = denoiser.rows
    found: dict[tuple[int, ...], float] = {}

    def grow(tokens, probability):
        hidden = [k for k, token in enumerate(tokens) if token == rows.mask]
        if not hidden:
            found[tuple(tokens)] = found.get(tuple(tokens), 0.0) + probability
            return
        [log_probs] = denoiser.log_probs(
            torch.tensor([[rows.bos, *tokens]]),
            torch.ones(1),
            torch.zeros(1, 1 + len(tokens), dtype=torch.bool),
            [condition],
        ).exp()
        drawn = itertools.product(range(rows.predicted), repeat=len(hidden))
        for combination in drawn:
            values = [float(log_probs[1 + k, v]) for k, v in zip(hidden, combination, strict=True)]
            share = float(np.prod(values))
            if share == 0:
                continue
            place = int(np.argmax(values))
            after = list(tokens)
            after[hidden[place]] = combination[place]
            if rows.eos in after:
                end = after.index(rows.eos)
                after[end:] = [rows.eos] * (len(after) - end)
            grow(after, probability * share)

    grow([rows.mask] * places, 1.0)
    return found


def test_one_position_a_round_draws_from_the_chain(denoiser, audio):
    """2,000 candidates against the exact distribution, in total variation."""
    expected = chain(denoiser, audio[0], 2)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    count, rows = 2000, denoiser.rows
    canvas = open_canvas(2, rows)
    samplers = [
        transcribe(canvas, sampling(rows), audio[0], SamplingDraws(0, 1, number), sample=True)
        for number in range(count)
    ]
    denoiser.hear(audio[:1])
    drawn = [tuple(one.tokens[1:].tolist()) for one in run_samplers(denoiser, samplers)]
    assert set(drawn) <= expected.keys()
    distance = sum(abs(drawn.count(text) / count - p) for text, p in expected.items()) / 2
    assert distance < 0.06  # 16 texts: about 0.03 is expected


def test_evaluations_are_rounds_and_the_last_round_decides_the_rest(denoiser, audio):
    rows = denoiser.rows
    for rounds, rule, expected in ((1, None, 1), (3, None, 3), (32, threshold(0.0), 1)):
        plan = sampling(rows, rule, rounds=rounds)
        [one] = run_samplers(
            denoiser,
            [counted(transcribe(open_canvas(9, rows), plan, audio[0], SamplingDraws(0, 0)))],
        )
        assert not one.result.open.any()
        assert one.evaluations <= expected
    [one] = run_samplers(
        denoiser,
        [
            counted(
                transcribe(
                    open_canvas(9, rows),
                    sampling(rows, threshold(0.0), remask=(0.9, 0.8), guidance=1.0),
                    audio[0],
                    SamplingDraws(0, 0),
                )
            )
        ],
    )
    assert one.evaluations <= 6  # three fillings, each with and without audio


def test_nothing_follows_an_end(denoiser, audio):
    rows = denoiser.rows
    for number in range(20):
        draws = SamplingDraws(3, 0, number)
        [canvas] = run_samplers(
            denoiser,
            [transcribe(open_canvas(6, rows), sampling(rows), audio[1], draws, sample=True)],
        )
        tokens = canvas.tokens[1:].tolist()
        if rows.eos in tokens:
            assert set(tokens[tokens.index(rows.eos) :]) == {rows.eos}


def test_guidance_is_its_formula():
    heard, deaf = np.array([[0.5, 0.5, 0.0]]), np.array([[0.8, 0.2, 0.0]])
    with np.errstate(divide="ignore"):
        heard, deaf = np.log(heard), np.log(deaf)
    expected = np.array([0.5**2 / 0.8, 0.5**2 / 0.2, 0.0])
    assert np.allclose(guided([heard, deaf], 1.0).exp().numpy(), expected / expected.sum())
    assert np.allclose(guided([heard], 0.0).exp().numpy(), [[0.5, 0.5, 0.0]])


def test_mask_ctc_keeps_what_ctc_is_sure_of(denoiser, audio):
    rows = denoiser.rows
    [heard] = hear_all(denoiser.transcriber, audio[:1])
    path = greedy_path(heard.log_probs.double().numpy(), rows.padding)
    whole = draft_canvas(path, 0.0, rows)
    assert whole.tokens.tolist() == [rows.bos, *path.labels.tolist(), rows.eos]
    assert not whole.open.any()
    nothing = draft_canvas(path, 1.1, rows)
    assert nothing.open.sum() == len(path.labels)
    assert (nothing.tokens[1:-1] == rows.mask).all()


def test_a_wide_beam_finds_the_best_of_all_texts(audio):
    network = small_transcriber(causal=True, seed=1, scale=4.0).network
    heard = hear_all(replace(small_transcriber(causal=True, seed=1), network=network), audio)
    rows, longest = network.rows, 2
    results = beam_search(ListeningPrefixes(network, heard), 50, [longest] * len(audio))
    for one, result in zip(heard, results, strict=True):
        texts = {}
        for length in range(longest + 1):
            for text in itertools.product(range(1, rows.eos), repeat=length):
                tokens = torch.tensor([[rows.bos, *text]])
                with torch.no_grad():
                    hidden = network.decoder.encode(tokens, one.memory)
                    logits = network.decoder.readout(hidden)[0]
                logits[:, [rows.padding, rows.bos, rows.mask]] = -torch.inf
                log_probs = logits.double().log_softmax(-1)
                following = [*text, rows.eos]
                texts[text] = sum(float(log_probs[k, v]) for k, v in enumerate(following))
        best = sorted(texts.items(), key=lambda item: -item[1])
        found = {text.tokens: text.log_prob for text in result.texts}
        assert [text for text, _ in best[:5]] == [text.tokens for text in result.texts[:5]]
        for text, log_prob in best[:5]:
            assert found[text] == pytest.approx(log_prob, abs=1e-5)


def test_a_beam_of_one_is_the_greedy_path(audio):
    """A text ends where EOS is the likeliest, not where its prefix is likelier than the whole."""
    network = small_transcriber(causal=True, seed=1, scale=4.0).network
    heard = hear_all(replace(small_transcriber(causal=True, seed=1), network=network), audio)
    results = beam_search(ListeningPrefixes(network, heard), 1, [12] * len(audio))
    for one, result in zip(heard, results, strict=True):
        text: list[int] = []
        while len(text) < 12:
            with torch.no_grad():
                hidden = network.decoder.encode(
                    torch.tensor([[network.rows.bos, *text]]), one.memory
                )
                logits = network.decoder.readout(hidden)[0, -1]
            logits[[network.rows.padding, network.rows.bos, network.rows.mask]] = -torch.inf
            best = int(logits.argmax())
            if best == network.rows.eos:
                break
            text.append(best)
        assert list(result.texts[0].tokens) == text


OPTIONS = [
    {},
    {"commit": "top_k", "steps": 2},
    {"commit": "entropy_bound", "commit_value": 0.2, "guidance": 0.5},
    {"commit": "threshold", "commit_value": 0.0, "remask": (0.9, 0.8), "candidates": 3},
    {"commit": "top_k", "steps": 4, "hide_below": 0.9},
    {"canvas": 12, "position_decay": 0.1, "position_index": "absolute"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_method_decodes_audio(folder, options):
    decoder = load_decoder(
        "mdm",
        str(folder / "train.tsv"),
        DecoderOptions(model=str(folder / "mdm"), **options),
    )
    lists = list(decode(decoder))
    assert [nbest.ref for nbest in lists] == TEXTS[:3]
    for nbest in lists:
        assert 1 <= len(nbest.hyps) <= options.get("candidates", 1)
        assert {hyp.raw["origin"] for hyp in nbest.hyps} == {"mdm"}
        assert set("".join(hyp.text for hyp in nbest.hyps)) <= set("ab ")


def test_the_twin_searches_with_a_beam(folder):
    decoder = load_decoder(
        "mdm", str(folder / "train.tsv"), DecoderOptions(model=str(folder / "ar"), beam=4)
    )
    for nbest in decode(decoder):
        assert 1 <= len(nbest.hyps) <= 4
        assert nbest.raw["evaluations"] > 0


def test_options_of_the_other_decoder_and_missing_models_are_refused(folder):
    path = str(folder / "train.tsv")
    with pytest.raises(ScoreError, match="needs --model"):
        load_decoder("mdm", path)
    with pytest.raises(ScoreError, match="autoregressive does not read --steps"):
        load_decoder("mdm", path, DecoderOptions(model=str(folder / "ar"), steps=3))
    with pytest.raises(ScoreError, match="masked does not read --beam"):
        load_decoder("mdm", path, DecoderOptions(model=str(folder / "mdm"), beam=3))
    with pytest.raises(ModelError, match="autoregressive, not a denoiser"):
        AudioDenoiser(small_transcriber(causal=True))
