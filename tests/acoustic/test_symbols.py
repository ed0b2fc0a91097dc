"""Text to columns and back, by both word rules, and what a recogniser cannot spell."""

from __future__ import annotations

import io

import pytest
import sentencepiece

from rescore.acoustic.symbols import Segmenter, Symbols, WordSpan
from rescore.errors import FormatError, ModelError, ScoreError

LETTERS = Symbols(("<pad>", "<unk>", "|", "A", "B", "'"), 0, "boundary", "|", frozenset({1}))


def sentencepiece_model(words, size):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 20),
        model_writer=model,
        vocab_size=size,
        model_type="bpe",
        minloglevel=2,
    )
    return model.getvalue()


def pieces(words=("the cat sat on the mat", "that hat"), size=24):
    serialized = sentencepiece_model(list(words), size)
    processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
    # As NeMo has it: the pieces, then the blank.
    columns = (*(processor.id_to_piece(k) for k in range(size)), "<blank>")
    return Symbols(
        columns, size, "mark", None, frozenset({0, 1, 2}), Segmenter("sentencepiece", serialized)
    )


def test_characters_spell_words_with_a_boundary_between():
    assert LETTERS.encode("AB  B'A\n") == [3, 4, 2, 4, 5, 3]
    assert LETTERS.decode([3, 4, 2, 4, 5, 3]) == "AB B'A"


def test_symbols_of_one_case_take_texts_of_either():
    assert LETTERS.case == "upper"
    assert LETTERS.encode("ab") == LETTERS.encode("AB")
    both = Symbols(("_", "a", "B"), 0)
    assert both.case is None
    with pytest.raises(ScoreError, match="no symbol 'b'"):
        both.encode("b")


def test_boundaries_belong_to_no_word():
    assert LETTERS.words([2, 3, 4, 2, 2, 4]) == [WordSpan("AB", 1, 3), WordSpan("B", 5, 6)]
    assert LETTERS.words([2]) == []
    assert LETTERS.encode(" ") == []


def test_without_a_boundary_text_is_its_characters():
    symbols = Symbols(("<blk>", "你", "好"), 0)
    assert symbols.encode("你好") == [1, 2]
    assert symbols.decode([1, 2]) == "你好"
    with pytest.raises(ScoreError, match="no symbol ' '"):
        symbols.encode("你 好")


def test_pieces_are_those_of_the_sentencepiece_model_and_spell_the_text_back():
    symbols = pieces()
    processor = sentencepiece.SentencePieceProcessor(model_proto=symbols.segmenter.serialized)
    columns = symbols.encode(" the  hat sat ")
    assert columns == processor.encode("the hat sat")
    assert symbols.decode(columns) == "the hat sat"
    assert [span.word for span in symbols.words(columns)] == ["the", "hat", "sat"]


@pytest.mark.parametrize(
    ("text", "missing"), [("the dog", "do|d"), ("<unk>", "<"), ("<blank>", "<"), ("the ü", "ü")]
)
def test_what_no_piece_spells_is_an_error_that_names_it(text, missing):
    with pytest.raises(ScoreError, match=rf"dev:1: the recogniser has no symbol '.*({missing})"):
        pieces().encode(text, "dev:1")


def test_pieces_without_their_model_cannot_be_encoded():
    with pytest.raises(ModelError, match="SentencePiece model"):
        Symbols(("_", "\u2581a"), 0, "mark").encode("a", "dev:1")
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        Symbols(
            ("_", "\u2581a"), 0, "mark", None, frozenset(), Segmenter("sentencepiece", b"x")
        ).encode("a")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("sentencepiece", "not a SentencePiece model"), ("tokenizers", "not a tokenizer.json")],
)
def test_a_damaged_model_is_one_line_that_names_its_file(kind, reason):
    segmenter = Segmenter(kind, b"x", "dev.safetensors")
    with pytest.raises(ModelError, match=rf"^dev\.safetensors: {reason} \(.*\); give another") as e:
        segmenter.pieces("a")
    assert "\n" not in str(e.value)
    assert segmenter == Segmenter(kind, b"x", "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "b"), 2), "blank is column 2, expected 0 to 1"),
        ((("_", "a", "a"), 0), "'a' has two columns"),
        ((("_", "a"), 0, "boundary", "|"), "boundary '|' is no symbol"),
        ((("_", "a"), 0, "boundary", None, frozenset({-1})), "special is column -1"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(FormatError) as error:
        Symbols(*arguments)
    assert message in str(error.value)


def test_the_digest_tells_models_apart():
    same = Symbols(LETTERS.pieces, 0, "boundary", "|", frozenset({1}))
    other = Symbols(LETTERS.pieces, 5, "boundary", "|", frozenset({1}))
    assert same.digest == LETTERS.digest != other.digest
