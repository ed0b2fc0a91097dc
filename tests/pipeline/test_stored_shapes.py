"""What stands on disk with a right checksum and a wrong shape is computed again, never believed."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from zlib import crc32

import pytest
from runs import build, lists

from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.pipeline import Journal, Progress, score
from rescore.pipeline.cache import Cache, text_key
from rescore.pipeline.results import ScoreCodec
from rescore.types import Score


def line(payload: bytes) -> bytes:
    return b"%08x %s\n" % (crc32(payload), payload)


def scored(models, journal=None, cache=None, progress=None):
    scores = score(
        lists(6), build(models), journal=journal, cache=cache, progress=progress or Progress()
    )
    return [jsonl.encode(one) for one in scores]


HEADERS = {
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "deep state": b'{"settings": {}, "state": {"cache": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "a list": b"[]",
    "no state": b'{"settings": {}}',
    "another state": b'{"settings": {}, "state": {"other": null}}',
    "not UTF-8": b'{"\xff": 1}',
}


@pytest.mark.parametrize("payload", HEADERS.values(), ids=HEADERS)
def test_a_journal_whose_header_has_another_form_starts_over(models, payload, caplog):
    whole = scored(models)
    Path("x.journal").write_bytes(line(payload))
    with Journal("x.journal") as journal:
        assert scored(models, journal) == whole
    assert "x.journal: the header is damaged; the journal starts over" in caplog.text


@pytest.mark.parametrize("state", ["5", '"ab"', "[1, 2]", '["a"]', '["a", -1]', '["a", 1.5]', "{}"])
def test_a_state_that_is_no_snapshot_of_a_cache_is_named(models, state):
    with Journal("x.journal") as journal:
        scored(models, journal, "cache")
    first, *rest = Path("x.journal").read_bytes().splitlines(keepends=True)
    header = json.loads(first[9:])
    header["state"]["cache"] = json.loads(state)
    Path("x.journal").write_bytes(line(json.dumps(header).encode()) + b"".join(rest))
    with (
        Journal("x.journal") as journal,
        pytest.raises(FormatError, match=r"the journal has .* for the state of this cache"),
    ):
        scored(models, journal, "cache")


RESULTS = {
    "more scores": lambda results: [{**one, "values": [*one["values"], -1.0]} for one in results],
    "fewer scores": lambda results: [{**one, "values": one["values"][:-1]} for one in results],
    "texts": lambda results: [{**one, "values": ["-1"] * len(one["values"])} for one in results],
    "numbers": lambda results: [1.5 for _ in results],
    "more lists": lambda results: [*results, results[0]],
    "no list": lambda results: [],
    "errors of another length": lambda results: [{**one, "std_errors": [0.5]} for one in results],
    "an infinite score": lambda results: [
        {**one, "values": [1e308 * 10] * len(one["values"])} for one in results
    ],
    "a budget": lambda results: results,
}


@pytest.mark.parametrize("change", RESULTS.values(), ids=RESULTS)
def test_results_that_cannot_be_those_of_a_chunk_are_computed_again(models, change, caplog):
    with Journal("x.journal") as journal:
        whole = scored(models, journal)
    first, second, *rest = Path("x.journal").read_bytes().splitlines(keepends=True)
    entry = json.loads(second[9:])
    if change is RESULTS["a budget"]:
        entry["tokens"] = -(2**62)
    entry["results"] = change(entry["results"])
    changed = json.dumps(entry).encode()
    Path("x.journal").write_bytes(first + line(changed) + b"".join(rest))
    with Journal("x.journal") as journal:
        assert scored(models, journal) == whole
        assert journal.added == 1
    assert "damaged; its chunk is computed again" in caplog.text


def resealed(cache: Cache, value: object) -> None:
    """Put a value of any type into every row, with the checksum that its bytes would have."""
    data = value if isinstance(value, bytes) else str(value).encode()
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        for (key,) in list(connection.execute("select key from scores")):
            connection.execute(
                "update scores set value = ?, checksum = ? where key = ?",
                (value, cache._checksum(key, data), key),
            )
    connection.close()


@pytest.mark.parametrize(
    "value",
    [
        "null",
        7,
        2.5,
        b"",
        b"null",
        b'{"values":["-1"],"evaluations":1}',
        b'{"values":[-1.0,-2.0],"evaluations":1}',
        b'{"values":[],"evaluations":1}',
        b'{"values":[-1.0],"evaluations":1,"std_errors":[]}',
        b'{"values":[1e999],"evaluations":1}',
        b"[" * 100_000,
    ],
)
def test_a_row_of_another_form_is_computed_again(models, value):
    whole, codec = scored(models, cache="cache"), build(models)
    resealed(Cache("cache", codec.signature, codec.kind), value)
    progress = Progress()
    scored(models, cache="cache", progress=progress)
    assert progress.evaluations > 0
    progress = Progress()
    again = scored(models, cache="other", progress=progress)
    assert again == whole


def test_a_row_is_refused_under_another_key_and_another_signature():
    cache = Cache("cache", "s|1", "pll")
    cache.add(text_key("a"), Score((-1.0,), "s|1", "pll", 1))
    cache.add(text_key("b"), Score((-2.0,), "s|1", "pll", 1))
    cache.commit()
    cache.close()
    with sqlite3.connect(cache.path) as connection:  # the two rows change keys
        rows = list(connection.execute("select key, checksum, value from scores"))
        for (key, _, _), (_, checksum, value) in zip(rows, reversed(rows), strict=True):
            connection.execute(
                "update scores set checksum = ?, value = ? where key = ?", (checksum, value, key)
            )
    connection.close()
    again = Cache("cache", "s|1", "pll")
    again.restore(again.snapshot())
    assert [again.get(text_key(text)) for text in "ab"] == [None, None]
    again.close()
    other = Cache("cache", "s|2", "pll")
    assert other.path != again.path
    assert other._checksum(b"k", b"v") != again._checksum(b"k", b"v")
    other.close()


def test_views_and_triggers_in_a_cache_are_not_run(caplog):
    cache = Cache("cache", "s|1", "pll")
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        connection.execute("alter table scores rename to old")
        connection.execute(
            "create view scores as with recursive r(n) as (select 1 union all select n + 1 from r) "
            "select n as number, x'00' as key, 0 as checksum, x'00' as value from r"
        )
    connection.close()
    again = Cache("cache", "s|1", "pll")
    assert again.snapshot()[1] == 0
    again.close()
    assert "it holds more than tables" in caplog.text


def test_journals_and_caches_that_are_pipes_are_refused():
    cache = Cache("cache", "s|1", "pll")
    cache.close()
    cache.path.unlink()
    for path, opened in (
        (cache.path, lambda: Cache("cache", "s|1", "pll")),
        (Path("x.journal"), lambda: Journal("x.journal")),
    ):
        os.mkfifo(path)
        with pytest.raises(FormatError, match=f"{path}: is a named pipe, expected a regular file"):
            opened()


def test_the_codec_refuses_columns_of_different_lengths():
    codec = ScoreCodec("s|1", "pll")
    with pytest.raises(ValueError, match="different lengths"):
        codec.decode(b'{"values":[-1.0],"evaluations":1,"token_scores":[]}')
