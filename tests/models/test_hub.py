"""Hugging Face models on disk: the values of a plain per-sentence computation."""

from __future__ import annotations

import math
import re

import pytest
import torch
from small import LINES, nbest

from rescore.errors import ModelError
from rescore.models.hub import loading
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.loading import load_vocabulary

transformers = pytest.importorskip("transformers")

TEXTS = [
    "the old house stood at the end",
    "she wrote a letter",
    "there was no light in the window when they came",
    "",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bert")
    words = sorted({word for line in LINES for word in line.split()})
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words[::2],
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    (directory / "vocab.txt").write_text("\n".join(pieces))
    tokenizer = transformers.BertTokenizerFast.from_pretrained(directory)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    transformers.BertForMaskedLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    directory = tmp_path_factory.mktemp("gpt2")
    base = tokenizers.ByteLevelBPETokenizer()
    base.train_from_iterator(LINES, vocab_size=300, special_tokens=["<|endoftext|>"])
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base._tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    wrapped.save_pretrained(directory)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(wrapped),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


def plain_pll(directory, text: str) -> float:
    """One sentence, one mask at a time, one row at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForMaskedLM.from_pretrained(directory).eval()
    ids = torch.tensor(tokenizer.encode(text))
    total = 0.0
    for i in range(1, len(ids)):
        hidden = ids.clone()
        hidden[i] = tokenizer.mask_token_id
        with torch.no_grad():
            total += float(model(input_ids=hidden[None]).logits[0, i].log_softmax(-1)[ids[i]])
    return total


def plain_log_prob(directory, text: str) -> float:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    ids = torch.tensor(
        [
            tokenizer.bos_token_id,
            *tokenizer.encode(text, add_special_tokens=False),
            tokenizer.eos_token_id,
        ]
    )
    with torch.no_grad():
        log_probs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return float(log_probs[:-1].gather(-1, ids[1:, None]).sum())


def test_a_masked_lm_scores_as_plain_transformers_does(bert):
    (result,) = load_scorer("mlm", ScorerOptions(model=str(bert))).score([nbest(*TEXTS)])
    for text, value in zip(TEXTS, result.values, strict=True):
        assert value == pytest.approx(plain_pll(bert, text), abs=1e-4)


def test_an_architecture_without_fused_attention_is_loaded_with_the_plain_one(bert, tmp_path):
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    sizes = {
        name: getattr(transformers.AutoConfig.from_pretrained(bert), name)
        for name in ("vocab_size", "hidden_size", "num_attention_heads")
    }
    torch.manual_seed(0)
    transformers.DebertaForMaskedLM(
        transformers.DebertaConfig(**sizes, num_hidden_layers=2, intermediate_size=48)
    ).save_pretrained(tmp_path)
    (result,) = load_scorer("mlm", ScorerOptions(model=str(tmp_path))).score([nbest(*TEXTS)])
    for text, value in zip(TEXTS, result.values, strict=True):
        assert value == pytest.approx(plain_pll(tmp_path, text), abs=1e-4)


def test_a_causal_lm_scores_as_plain_transformers_does(gpt2):
    (result,) = load_scorer("ar", ScorerOptions(model=str(gpt2))).score([nbest(*TEXTS)])
    for text, value in zip(TEXTS, result.values, strict=True):
        assert value == pytest.approx(plain_log_prob(gpt2, text), abs=1e-4)


def test_every_masked_estimator_runs_on_a_masked_lm(bert):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    for estimator in ("pll", "pll_within_word", "nelbo", "chain"):
        (result,) = load_scorer(
            "mlm", ScorerOptions(model=str(bert), estimator=estimator, per_token=True, window=8)
        ).score([nbest(*TEXTS)])
        assert all(math.isfinite(value) and value < 0 for value in result.values)
        for text, value, tokens in zip(TEXTS, result.values, result.token_scores, strict=True):
            assert [piece for piece, _ in tokens] == [*tokenizer.tokenize(text), "[SEP]"]
            assert math.fsum(x for _, x in tokens) == pytest.approx(value, rel=1e-14)


def test_the_tokens_of_a_causal_lm_sum_to_its_score(gpt2):
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
    (result,) = load_scorer("ar", ScorerOptions(model=str(gpt2), per_token=True, window=16)).score(
        [nbest(*TEXTS)]
    )
    for text, value, tokens in zip(TEXTS, result.values, result.token_scores, strict=True):
        assert [piece for piece, _ in tokens] == [*tokenizer.tokenize(text), "<|endoftext|>"]
        assert math.fsum(x for _, x in tokens) == pytest.approx(value, rel=1e-14)


def test_within_word_pll_differs_where_words_have_pieces(bert):
    scores = {
        e: next(
            iter(
                load_scorer("mlm", ScorerOptions(model=str(bert), estimator=e)).score(
                    [nbest("zebra", "the")]
                )
            )
        )
        for e in ("pll", "pll_within_word")
    }
    assert scores["pll"].values[0] != pytest.approx(scores["pll_within_word"].values[0])


def test_a_longer_text_than_the_positions_is_windowed(bert, gpt2):
    long = " ".join(LINES)
    for family, directory in (("mlm", bert), ("ar", gpt2)):
        (result,) = load_scorer(family, ScorerOptions(model=str(directory))).score([nbest(long)])
        assert math.isfinite(result.values[0])


def test_models_of_the_wrong_kind_are_refused_in_one_line(bert, gpt2, tmp_path):
    for family, directory, message in (
        ("mlm", gpt2, "."),
        ("mlm", tmp_path, "config.json: a file of the model cannot be read: no such file"),
        ("ar", tmp_path, "config.json: a file of the model cannot be read: no such file"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_scorer(family, ScorerOptions(model=str(directory)))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("scorer", "model"), [("mlm", "bert"), ("ar", "gpt2")])
def test_the_vocabulary_of_check_is_the_scorers_and_needs_no_weights(
    scorer, model, request, tmp_path
):
    directory = request.getfixturevalue(model)
    for path in directory.iterdir():
        if path.suffix not in (".safetensors", ".bin"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    for changes in ({}, {"window": 16, "normalizer": "librispeech"}, {"window": 1000}):
        options = ScorerOptions(model=str(directory), **changes)
        of_scorer = load_scorer(scorer, options).sequencer.vocabulary
        vocabulary = load_vocabulary(scorer, ScorerOptions(model=str(tmp_path), **changes))
        assert (vocabulary.normalize, vocabulary.window) == (of_scorer.normalize, of_scorer.window)
        assert vocabulary.tokenizer.encode(TEXTS) == of_scorer.tokenizer.encode(TEXTS)
        assert vocabulary.tokenizer.unk_id == of_scorer.tokenizer.unk_id
    with pytest.raises(ModelError, match=r"\./nowhere: there is no such directory"):
        load_vocabulary(scorer, ScorerOptions(model="./nowhere"))


@pytest.mark.parametrize("family", ["ar", "mlm"])
@pytest.mark.parametrize(
    "model",
    [
        "./typo",
        "runs/typo",
        "/nowhere/typo",
        "../typo",
        "typo/",
        "a/b/c",
        "~/typo",
        "C:\\typo",
        "my model",
    ],
)
def test_a_path_that_leads_nowhere_is_named_and_the_hub_is_not_asked(
    family, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("asked")
    )
    with pytest.raises(ModelError) as caught:
        load_scorer(family, ScorerOptions(model=model))
    advice = (
        "give a directory with config, weights and tokenizer,"
        " or a Hugging Face id such as gpt2 or organisation/name"
    )
    assert str(caught.value) == f"{model}: there is no such directory; {advice}"


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").touch()
    with pytest.raises(ModelError, match=r"model\.bin: is a file; give a directory with"):
        load_scorer("ar", ScorerOptions(model=str(tmp_path / "model.bin")))


@pytest.mark.parametrize("model", ["typo", "gpt2", "organisation/typo", "facebook/opt-1.3b"])
def test_a_name_that_may_be_an_id_is_asked_for_once_and_the_answer_is_one_line(model, monkeypatch):
    asked = []

    def nothing(name, **_options):
        asked.append(name)
        raise OSError(f"{name} is not a valid\nmodel identifier")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", nothing)
    monkeypatch.setattr(loading, "_unreachable_hub", lambda: None)
    with pytest.raises(ModelError) as caught:
        load_scorer("ar", ScorerOptions(model=model))
    problem = "there is no directory of this name, and the Hugging Face Hub gave none"
    assert str(caught.value).startswith(
        f"{model}: {problem} ({model} is not a valid model identifier); give a directory with"
    )
    assert asked == [model]


def test_without_a_network_an_id_fails_at_once_in_one_line(monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for scorer in ("mlm", "ar"):
        with pytest.raises(ModelError) as caught:
            load_scorer(scorer, ScorerOptions(model="organisation/typo"))
        assert re.fullmatch(
            "organisation/typo: there is no directory of this name and no such model in the cache, "
            r"and the Hugging Face Hub cannot be reached \(.*refused.*\); give a directory with .*",
            str(caught.value),
        )
    assert not caplog.records  # transformers would say "Retrying" for a minute


def test_an_embedded_model_names_its_scorer():
    with pytest.raises(ModelError, match=r"usdm: an embedded model .* use --scorer usdm"):
        load_scorer("mlm", ScorerOptions(model="usdm"))
    with pytest.raises(
        ModelError, match="holds objective 'usdm', expected 'ar'; pass --scorer usdm"
    ):
        load_scorer("ar", ScorerOptions(model="usdm"))
