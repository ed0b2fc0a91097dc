"""`mdm`: the conditional likelihood against enumeration, and what it depends on."""

from __future__ import annotations

import itertools

import pytest
import torch
from small import nbest
from small_speech import TEXTS, manifest
from small_transcriber import small_transcriber

from rescore.acoustic.listening import AudioDenoiser
from rescore.acoustic.transcriber import save_transcriber
from rescore.errors import ScoreError
from rescore.pipeline import score
from rescore.scorers import ScorerOptions, load_scorer, load_vocabulary

LISTS = [
    nbest("ab", "ba", "a", id="train-0"),
    nbest("b a", "ba", "", id="train-1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    manifest(folder, texts=TEXTS[:2])
    save_transcriber(small_transcriber(scale=4.0), folder / "mdm")
    return folder


def scorer(folder, **options):
    paths = {"model": str(folder / "mdm"), "audio": str(folder / "train.tsv")}
    return load_scorer("mdm", ScorerOptions(**{**paths, **options}))


def enumerated(folder, nbest, text):
    """(mean over all masks of each size, summed over sizes; sum over single masks) of a text."""
    built = scorer(folder)
    denoiser: AudioDenoiser = built.denoiser
    rows = denoiser.rows
    tokens = [rows.bos, *denoiser.transcriber.symbols.encode(text), rows.eos]
    positions, total, singles = range(1, len(tokens)), 0.0, 0.0
    for count in range(1, len(tokens)):
        masks = list(itertools.combinations(positions, count))
        for mask in masks:
            noisy = torch.tensor([tokens])
            noisy[0, list(mask)] = rows.mask
            padding = torch.zeros_like(noisy, dtype=torch.bool)
            [log_probs] = denoiser.log_probs(
                noisy, torch.ones(1), padding, [built.audio[nbest.id]]
            ).double()
            value = sum(float(log_probs[k, tokens[k]]) for k in mask)
            total += value / count / len(masks)
            singles += value if count == 1 else 0.0
    return total, singles


def test_the_nelbo_and_the_pll_are_those_of_all_masks(folder):
    nelbo = scorer(folder, estimator="nelbo", draws=256)
    pll = scorer(folder, estimator="pll")
    for of_list, by_nelbo, by_pll in zip(LISTS, nelbo.score(LISTS), pll.score(LISTS), strict=True):
        for index, hyp in enumerate(of_list.hyps):
            total, singles = enumerated(folder, of_list, hyp.text)
            assert by_pll.values[index] == pytest.approx(singles, abs=1e-4)
            error = by_nelbo.std_errors[index]
            assert abs(by_nelbo.values[index] - total) < 4 * error + 1e-4
            assert error < 0.1 * abs(total)


def test_in_as_many_folds_as_tokens_the_folded_pll_is_the_pll(folder):
    [whole, folded] = (
        list(scorer(folder, estimator="pll", folds=folds).score([LISTS[0].only([0])]))
        for folds in (None, 9)
    )
    assert folded[0].values == pytest.approx(whole[0].values, abs=1e-5)


def test_other_audio_has_other_scores_and_other_conditions(folder):
    built = scorer(folder, estimator="pll")
    assert built.scope == "utterance"
    assert scorer(folder, estimator="nelbo").scope == "list"
    first, second = (nbest("ab", id=name) for name in ("train-0", "train-1"))
    a, b = built.score([first, second])
    assert a.values != pytest.approx(b.values, abs=1e-3)
    assert built.condition("train-0") != built.condition("train-1")


def test_a_cache_knows_what_was_heard(folder, tmp_path):
    """The same lists under other audio: the cache has nothing for them."""
    lines = (folder / "train.tsv").read_text().splitlines()
    swapped = [line.split("\t") for line in lines]
    swapped[0][1], swapped[1][1] = swapped[1][1], swapped[0][1]
    (folder / "swapped.tsv").write_text("".join("\t".join(row) + "\n" for row in swapped))
    values = []
    for name in ("train.tsv", "swapped.tsv"):
        built = scorer(folder, estimator="nelbo", audio=str(folder / name))
        scored = list(score(LISTS, built, name="mdm", cache=tmp_path / "cache"))
        values.append([hyp.scores["mdm"] for one in scored for hyp in one.hyps])
    assert values[0] != pytest.approx(values[1], abs=1e-3)


def test_missing_files_and_utterances_are_named(folder):
    with pytest.raises(ScoreError, match="needs --audio"):
        load_scorer("mdm", ScorerOptions(model=str(folder / "mdm")))
    with pytest.raises(ScoreError, match="needs --model"):
        load_scorer("mdm", ScorerOptions(audio=str(folder / "train.tsv")))
    with pytest.raises(ScoreError, match=r"utterance u9.*has no audio in"):
        list(scorer(folder).score([nbest("ab", id="u9")]))


def test_words_and_pieces_of_symbols(folder):
    vocabulary = load_vocabulary("mdm", ScorerOptions(model=str(folder / "mdm"), estimator="pll"))
    tokenizer = vocabulary.tokenizer
    [tokens] = tokenizer.encode(["ab a"])
    row = [tokenizer.bos_id, *tokens, tokenizer.eos_id]
    assert tokenizer.words(row).tolist() == [0, 1, 1, 1, 2, 3]
    assert tokenizer.pieces(row) == ["<s>", "a", "b", " ", "a", "</s>"]
