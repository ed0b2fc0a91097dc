"""`rescore.scorer_of`: a network and a tokenizer of one's own as a scorer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from small import small_checkpoint, small_tokenizer

import rescore
from rescore.errors import ArgumentError, ModelError, ScoreError
from rescore.models.adapters import NetworkDenoiser


class Letters:
    """`<s>` 0, `</s>` 1, unknown 2, then a and b."""

    bos_id, eos_id, unk_id = 0, 1, 2

    def encode(self, texts):
        return [["ab".find(letter) + 3 if letter in "ab" else 2 for letter in t] for t in texts]

    def words(self, tokens):
        return np.arange(len(tokens))

    def pieces(self, tokens):
        return [str(token) for token in tokens]


class Chain:
    """The exact conditionals of a joint distribution over sequences of 5 tokens, by enumeration."""

    vocab_size, prediction = 6, "masked"

    def __init__(self, mask_id=5, scale=1.0):
        self.mask_id = mask_id
        chance = torch.Generator().manual_seed(1)
        self.weights = scale * torch.rand(5, 5, generator=chance, dtype=torch.float64)

    def joint(self, sequence):
        """Unnormalised log-probability."""
        pairs = itertools.pairwise(sequence)
        return float(sum(self.weights[a, b] for a, b in pairs))

    def log_probs(self, noisy, noise, padding):
        rows = torch.full((*noisy.shape, 6), -math.inf, dtype=torch.float64)
        for b, row in enumerate(noisy.tolist()):
            open_places = [i for i, token in enumerate(row) if token == 5]
            for filling in itertools.product(range(5), repeat=len(open_places)):
                whole = list(row)
                for place, token in zip(open_places, filling, strict=True):
                    whole[place] = token
                value = torch.tensor(self.joint(whole), dtype=torch.float64)
                for i, token in enumerate(whole):
                    rows[b, i, token] = torch.logaddexp(rows[b, i, token], value)
        return rows - rows.logsumexp(-1, keepdim=True)


def test_a_denoiser_of_ones_own_has_its_exact_score():
    """PLL by enumeration: sum_i log p(x_i | the others), BOS given."""
    chain = Chain()
    [value] = rescore.score_texts(["ab"], rescore.scorer_of(chain, Letters(), estimator="pll"))
    tokens = [0, 3, 4, 1]
    expected = 0.0
    for i in range(1, 4):
        alternatives = [chain.joint([*tokens[:i], token, *tokens[i + 1 :]]) for token in range(5)]
        expected += chain.joint(tokens) - math.log(sum(map(math.exp, alternatives)))
    assert value == pytest.approx(expected, abs=1e-12)


def test_it_scores_as_the_checkpoint_it_was_taken_from(tmp_path):
    checkpoint = small_checkpoint("mdlm")
    denoiser = NetworkDenoiser(checkpoint, "cpu", torch.float32, False)
    path = tmp_path / "pieces.model"
    path.write_bytes(small_tokenizer().serialized)
    texts = ["the old house", "a letter", ""]
    from rescore.models.checkpoint import save  # noqa: PLC0415

    save(checkpoint, tmp_path / "model")
    expected = rescore.score_texts(texts, "mdlm:chain", model=tmp_path / "model")
    scorer = rescore.scorer_of(denoiser, path, estimator="chain", normalizer="librispeech")
    assert rescore.score_texts(texts, scorer) == expected


def test_estimators_options_and_names():
    default = rescore.scorer_of(Chain(), Letters())
    assert (default.name, "folds=2" in default.signature) == ("chain_pll", True)
    nelbo = rescore.scorer_of(Chain(), Letters(), estimator="nelbo", draws=3, name="ours")
    assert (nelbo.name, nelbo.kind) == ("ours", "neg_nelbo")
    with pytest.raises(ScoreError, match=r"--scorer mdlm --estimator pll does not read --draws"):
        rescore.scorer_of(Chain(), Letters(), estimator="pll", draws=3)
    with pytest.raises(ScoreError, match=r"does not read --model; leave it out"):
        rescore.scorer_of(Chain(), Letters(), model="x")
    with pytest.raises(ScoreError, match=r"'estmator' is unknown; .*did you mean \"estimator"):
        rescore.scorer_of(Chain(), Letters(), estmator="pll")


@pytest.mark.parametrize(
    ("denoiser", "tokenizer", "message"),
    [
        (object(), Letters(), "the denoiser is an object without vocab_size, mask_id, prediction"),
        (Chain(), object(), "the tokenizer is an object without bos_id, eos_id, unk_id, encode"),
        ("mdlm", Letters(), r"the denoiser is a str \('mdlm'\) without vocab_size"),
    ],
)
def test_what_is_no_denoiser_or_tokenizer_is_one_line(denoiser, tokenizer, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        rescore.scorer_of(denoiser, tokenizer)
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)


def test_the_signature_is_that_of_the_contents():
    def signature(denoiser, **options):
        return rescore.scorer_of(denoiser, Letters(), **options).signature

    assert signature(Chain()) == signature(Chain())
    assert signature(Chain()) != signature(Chain(scale=2.0))
    assert signature(Chain(), digest="v1") != signature(Chain(), digest="v2")

    class Module(torch.nn.Module):
        vocab_size, mask_id, prediction = 6, 5, "masked"

        def __init__(self, weight, temperature=1.0):
            super().__init__()
            self.row = torch.nn.Linear(1, 1)
            torch.nn.init.constant_(self.row.weight, weight)
            torch.nn.init.zeros_(self.row.bias)
            self.temperature = temperature

        def log_probs(self, noisy, noise, padding):
            raise NotImplementedError

    different = [Module(1.0), Module(2.0), Module(1.0, temperature=0.5)]
    assert len({signature(module) for module in different}) == 3
    assert signature(Module(1.0)) == signature(Module(1.0))


def test_contents_that_cannot_be_known_ask_for_a_digest():
    chain = Chain()
    chain.handle = lambda: None
    with pytest.raises(ModelError, match=r"it holds a function; name it yourself: scorer_of\("):
        rescore.scorer_of(chain, Letters())
    assert "model=mine" in rescore.scorer_of(chain, Letters(), digest="mine").signature


def test_rows_that_are_not_normalised_are_refused_at_the_first_evaluation():
    class Logits(Chain):
        def log_probs(self, noisy, noise, padding):
            return super().log_probs(noisy, noise, padding) + 3.0

    scorer = rescore.scorer_of(Logits(), Letters(), estimator="pll")
    with pytest.raises(ScoreError, match=r"sums to e\^3\.0, expected e\^0: .*log_softmax"):
        rescore.score_texts(["ab"], scorer)
