"""Every id once, whatever is done with the items that have one."""

import pytest

from rescore.errors import FormatError
from rescore.ids import UniqueIds, each_once
from rescore.types import Hypothesis, NBest


def lists(*ids):
    return [
        NBest(id, (Hypothesis("a"),), where=f"dev.jsonl:{number}")
        for number, id in enumerate(ids, 1)
    ]


def test_different_ids_pass_in_their_order():
    assert [nbest.id for nbest in each_once(lists("b", "a", " c"), "read")] == ["b", "a", " c"]


@pytest.mark.parametrize("done", ["read", "written", "counted"])
def test_an_id_that_comes_again_is_named_with_what_was_done(done):
    items = each_once(lists("a", "b", "a"), done)
    assert [next(items).id, next(items).id] == ["a", "b"]
    with pytest.raises(FormatError) as caught:
        next(items)
    assert str(caught.value) == (
        f"dev.jsonl:3: utterance a: this id was {done} before; every utterance needs its own"
    )


def test_the_record_that_had_the_id_first_is_named_where_it_is_known():
    ids = UniqueIds("read", lambda number: f"dev.jsonl:{number}")
    first, second = lists("a", "a")
    ids.add(first, 1)
    with pytest.raises(FormatError) as caught:
        ids.add(second, 2)
    assert str(caught.value) == (
        "dev.jsonl:2: utterance a: this id was already at dev.jsonl:1; "
        "every utterance needs its own"
    )


@pytest.mark.parametrize(
    ("nbest", "place"),
    [(lists(" \u3000")[0], "dev.jsonl:1"), (NBest("", (Hypothesis("a"),)), "an utterance")],
)
def test_a_blank_id_is_refused(nbest, place):
    with pytest.raises(FormatError) as caught:
        list(each_once([nbest], "written"))
    assert str(caught.value) == f"{place}: the id is empty; every utterance needs its own"
