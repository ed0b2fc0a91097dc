"""The engine with a task that is no scorer: any frozen result, journaled, resumed and in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from small import nbest

from rescore.errors import ScoreError
from rescore.interfaces import Cost
from rescore.pipeline.cache import Cache, list_key, text_key, utterance_key
from rescore.pipeline.engine import Engine, InProcess, ItemTraits
from rescore.pipeline.journal import Journal
from rescore.pipeline.lookup import Lookup
from rescore.types import Score


@dataclass(frozen=True)
class Recording:
    id: str
    seconds: int


@dataclass(frozen=True)
class Decoded:
    """A result with more than numbers: a decoder's text and its confidence."""

    text: str
    confidence: float


class DecodedCodec:
    def encode(self, result):
        return msgspec.json.encode(result)

    def decode(self, data):
        return msgspec.json.decode(data, type=Decoded)


@dataclass
class Budget:
    tokens: int = 64
    call_tokens: int = 1


@dataclass
class Decoder:
    """A task from recordings to texts, which counts what it is asked for."""

    signature: str = "decoder|1"
    device: str = "cpu"
    budget: Budget = field(default_factory=Budget)
    seen: list[str] = field(default_factory=list)
    fails_at: str = ""

    def evaluations(self, item):
        return item.seconds

    def prepare(self, items):
        return list(items)

    def evaluate(self, prepared):
        for item in prepared:
            if item.id == self.fails_at:
                raise KeyboardInterrupt
            self.seen.append(item.id)
        return [Decoded(f"text of {item.id}", 1 / item.seconds) for item in prepared]

    def cost(self, prepared):
        return Cost(len(prepared), sum(item.seconds for item in prepared), 0)

    def warn(self):
        self.seen.append("warned")


class Everything:
    """Nothing is known: every item is missing."""

    def __init__(self, items):
        self.missing = list(items)

    def complete(self, evaluated):
        return list(evaluated)

    def keep(self, results):
        pass


def refuse_sure_results(item, result):
    if result.confidence >= 1:
        raise ScoreError(f"{item.id}: too sure")


def run(recordings, decoder, journal=None):
    traits = ItemTraits(
        id_of=lambda item: item.id,
        content=lambda item: [item.id, str(item.seconds)],
        look_up=Everything,
        check=refuse_sure_results,
    )
    if journal is not None:
        journal.begin(DecodedCodec(), {"signature": decoder.signature})
    evaluator = InProcess(decoder)
    try:
        engine = Engine(decoder, evaluator, traits, chunk_evaluations=8, journal=journal)
        return list(engine.run(recordings))
    finally:
        evaluator.close()


RECORDINGS = [Recording(f"u{number}", 2 + number % 5) for number in range(40)]
EXPECTED = [(item, Decoded(f"text of {item.id}", 1 / item.seconds)) for item in RECORDINGS]


def test_results_come_in_the_order_of_the_items_whatever_the_chunks():
    decoder = Decoder()
    assert run(RECORDINGS, decoder) == EXPECTED
    assert decoder.seen.pop() == "warned"
    assert sorted(decoder.seen) == sorted(item.id for item in RECORDINGS)
    assert decoder.seen != [item.id for item in RECORDINGS]  # chunks are of buckets


def test_a_run_that_was_stopped_evaluates_the_rest_only():
    with Journal("x.journal") as journal, pytest.raises(KeyboardInterrupt):
        run(RECORDINGS, Decoder(fails_at="u20"), journal)
    decoder = Decoder()
    with Journal("x.journal") as journal:
        known = len(journal._lines_by_digest)
        assert run(RECORDINGS, decoder, journal) == EXPECTED
        assert known == 0 < journal.added < len(journal)
    assert 0 < len(decoder.seen) - 1 < len(RECORDINGS)


def test_a_result_that_must_not_be_stored_is_not_in_the_journal():
    recordings = [Recording("sure", 1), *RECORDINGS[:3]]
    with Journal("x.journal") as journal:
        with pytest.raises(ScoreError, match="sure: too sure"):
            run(recordings, Decoder(), journal)
        assert len(journal) <= 2


def test_the_batch_budget_of_the_journal_is_that_of_the_run_that_resumes():
    first = Decoder()
    first.budget.tokens = 17
    with Journal("x.journal") as journal:
        run(RECORDINGS, first, journal)
    second = Decoder()
    with Journal("x.journal") as journal:
        run(RECORDINGS, second, journal)
    assert (second.budget.tokens, second.seen) == (17, ["warned"])


# ------------------------------------------------------------------------------------ lookup


def value(texts, evaluations=None):
    values = tuple(-float(len(text)) for text in texts)
    return Score(values, "s|1", "pll", len(texts) if evaluations is None else evaluations)


LISTS = [nbest("a", "bb", "a", id="u"), nbest("bb", "ccc", id="v")]


@pytest.mark.parametrize(
    ("scope", "missing"),
    [
        ("text", [["a", "bb"], ["ccc"]]),
        ("utterance", [["a", "bb"], ["bb", "ccc"]]),
        ("list", [["a", "bb"], ["bb", "ccc"]]),
    ],
)
def test_equal_texts_share_a_score_as_far_as_the_scope_allows(scope, missing):
    lookup = Lookup(LISTS, scope)
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lookup.missing]
    assert texts == missing
    scores = lookup.complete([value(own) for own in texts])
    assert [score.values for score in scores] == [(-1.0, -2.0, -1.0), (-2.0, -3.0)]
    assert [score.evaluations for score in scores] == [len(own) for own in missing]


@pytest.mark.parametrize("scope", ["text", "utterance", "list"])
def test_the_cache_finds_a_score_by_what_its_scope_says(scope):
    cache = Cache("cache", "s|1", "pll")
    lookup = Lookup(LISTS, scope, cache)
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lookup.missing]
    scores = lookup.complete([value(own) for own in texts])
    lookup.keep(scores)
    cache.restore(cache.snapshot())
    again = Lookup(LISTS, scope, cache)
    assert again.missing == []
    assert [score.values for score in again.complete([])] == [score.values for score in scores]
    assert again.complete([]) == scores  # what they cost too
    by_key = {
        "text": cache.get(text_key("bb")),
        "utterance": cache.get(utterance_key("v", "bb")),
        "list": cache.get(list_key(LISTS[1])),
    }
    assert [name for name, score in by_key.items() if score is not None] == [scope]
    other = [nbest("bb", id="w")]
    assert bool(Lookup(other, scope, cache).missing) == (scope != "text")
