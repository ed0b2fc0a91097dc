"""Hugging Face tokenizers: words by the vocabulary's own mark, special tokens in texts as text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hub_models import save_model, tokenizer_of
from small import nbest

from rescore.errors import ScoreError
from rescore.models.hub import HubTokenizer
from rescore.scorers import ScorerOptions, load_scorer

transformers = pytest.importorskip("transformers")
KINDS = ["wordpiece", "words", "byte-bpe", "sentencepiece"]


class Pieces:
    """A tokenizer that is nothing but its vocabulary."""

    cls_token_id, sep_token_id, bos_token_id, eos_token_id, unk_token_id = 0, 1, None, None, None
    all_special_ids = (0, 1)

    def __init__(self, *pieces: str) -> None:
        self.pieces = ["[CLS]", "[SEP]", *pieces]

    def get_vocab(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces)}

    def convert_ids_to_tokens(self, tokens):
        return [self.pieces[token] for token in tokens]


def words_of(vocabulary: str, text: str) -> list[int]:
    """The word of each piece of a text, the vocabulary being pieces separated by spaces."""
    pieces = Pieces(*vocabulary.split())
    ids = [pieces.pieces.index(piece) for piece in text.split()]
    return HubTokenizer(pieces, "x").words([0, *ids, 1]).tolist()[1:-1]


@pytest.mark.parametrize(
    ("vocabulary", "text", "words"),
    [
        ("a ##b ##c d", "a ##b ##c d", [1, 1, 1, 2]),  # BERT
        ("\u0120a b c \u0120d \u0120e ## ####", "c b \u0120d c", [1, 1, 2, 2]),  # RoBERTa
        ("\u0120a b c \u0120d \u0120e ## ####", "b c", [1, 1]),  # one word
        ("\u0120a \u00e4\u00bd \u0142 \u00e5", "\u00e4\u00bd \u0142 \u00e5", [1, 1, 1]),  # unspaced
        ("\u2581a b \u2581d", "\u2581a b \u2581d", [1, 1, 2]),  # ALBERT
        ("\u2581a b \u2581d", "b b", [1, 1]),
        ("a</w> b c</w>", "b c</w> a</w>", [1, 1, 2]),  # XLM
        ("a@@ b c", "a@@ b c", [1, 1, 2]),  # BERTweet
        ("a b c", "a b c", [1, 2, 3]),  # characters, amino acids
    ],
)
def test_the_vocabulary_decides_where_words_begin(vocabulary, text, words):
    assert words_of(vocabulary, text) == words


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_a_real_tokenizer_are_those_between_spaces(kind):
    tokenizer = HubTokenizer(tokenizer_of(kind), "x")
    text = "the old house stood weatherwise at she"
    (tokens,) = tokenizer.encode([text])
    words = tokenizer.words([tokenizer.bos_id, *tokens, tokenizer.eos_id])
    assert len(set(words[1:-1].tolist())) == len(text.split())
    assert (np.diff(words) >= 0).all()


def plain_pll_within_word(directory, text: str) -> float:
    """One sentence, one row a token: it and the later pieces of its word hidden."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForMaskedLM.from_pretrained(directory).eval()
    groups = [word if i == 0 else f" {word}" for i, word in enumerate(text.split())]
    words = [tokenizer.encode(group, add_special_tokens=False) for group in groups]
    words.append([tokenizer.eos_token_id])
    ids = [tokenizer.bos_token_id, *(token for word in words for token in word)]
    total, start = 0.0, 1
    for word in words:
        for first in range(start, start + len(word)):
            hidden = torch.tensor([ids])
            hidden[0, first : start + len(word)] = tokenizer.mask_token_id
            with torch.no_grad():
                total += float(model(input_ids=hidden).logits[0, first].log_softmax(-1)[ids[first]])
        start += len(word)
    return total


@pytest.mark.parametrize("text", ["weatherwise", "\u4f60\u597d\u5417", "the weather would change"])
def test_within_word_pll_of_a_byte_level_vocabulary_hides_the_rest_of_the_word(text, tmp_path):
    save_model(tmp_path, "byte-bpe", "Roberta")
    options = ScorerOptions(model=str(tmp_path), estimator="pll_within_word")
    scorer = load_scorer("mlm", options)
    (score,) = scorer.score([nbest(text)])
    assert score.values[0] == pytest.approx(plain_pll_within_word(tmp_path, text), abs=1e-4)
    (plain,) = load_scorer("mlm", ScorerOptions(model=str(tmp_path))).score([nbest(text)])
    assert score.values[0] != pytest.approx(plain.values[0], abs=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_plain_text_and_said_once(kind, caplog):
    backend = tokenizer_of(kind)
    tokenizer = HubTokenizer(backend, "some/model")
    special = set(backend.all_special_ids) - {backend.unk_token_id}
    mask, end = backend.mask_token, backend.sep_token or backend.eos_token
    texts = [f"the {mask} house", f"the house {end}", f"{mask}{end} at"]
    encoded = tokenizer.encode(texts)
    for text, tokens in zip(texts, encoded, strict=True):
        assert special.isdisjoint(tokens), backend.convert_ids_to_tokens(tokens)
        assert len(tokens) >= len(text.split())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"some/model: a text contains {mask}, special in")
    plain = ["the old house", "she wrote a letter < s"]
    expected = [backend.encode(text, add_special_tokens=False) for text in plain]
    assert tokenizer.encode(plain) == expected


def test_special_tokens_of_a_tokenizer_in_python_are_plain_text():
    tokenizer = HubTokenizer(transformers.ByT5Tokenizer(), "byt5")
    (tokens,) = tokenizer.encode(["a</s>b"])
    assert tokenizer.pieces(tokens) == list("a</s>b")


def test_a_special_token_that_cannot_be_written_is_refused():
    class Letters(Pieces):
        def encode(self, text, **options):
            return [self.pieces.index(piece) for piece in text.split()]

        def convert_ids_to_tokens(self, tokens):
            one = isinstance(tokens, int)
            return self.pieces[tokens] if one else super().convert_ids_to_tokens(tokens)

        def convert_tokens_to_ids(self, piece):
            return self.pieces.index(piece) if piece in self.pieces else None

    with pytest.raises(ScoreError, match=r"x: a text contains '\[SEP\]', a special token"):
        HubTokenizer(Letters("a"), "x").encode(["a [SEP]"])


def test_a_mask_in_a_hypothesis_scores_as_its_letters_do(tmp_path):
    save_model(tmp_path, "wordpiece")
    scorer = load_scorer("mlm", ScorerOptions(model=str(tmp_path), per_token=True))
    (score,) = scorer.score([nbest("the [MASK] house")])
    pieces = [piece for piece, _ in score.token_scores[0]]
    assert "[MASK]" not in pieces
    assert pieces[0] == "the"
    assert pieces[-1] == "[SEP]"
