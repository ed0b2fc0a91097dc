"""The page without a browser: well-formed, closed to the network, with the figures of `eval`."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from small_reports import HOSTILE, Page, hostile, lists

from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.fusion import Fusion, fuse
from rescore.report.changes import changes_csv
from rescore.report.page import rendering, source_of_lists, write_report
from rescore.report.sweep import sweep_csv
from rescore.types import Hypothesis, NBest
from rescore.wer import changes, evaluate

LISTS = lists(40)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A page about two systems."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    systems = {"am": lambda: fuse(LISTS, Fusion({"am": 1.0})), "both": lambda: LISTS}
    assert write_report(source_of_lists(systems), path) == [path]
    return path.read_text(encoding="utf-8")


def page_of(systems, tmp_path, **options):
    report = source_of_lists({name: lambda lists=lists: lists for name, lists in systems.items()})
    [path] = write_report(replace(report, **options), tmp_path / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_well_formed(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert page.problems == []
    assert page.tags.count("script") == 3
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_the_page_needs_no_network(text):
    page = Page(text)
    assert page.links
    assert all(re.fullmatch(r"#[a-z]+", link) for link in page.links)
    assert not re.search(r"https?:|url\(|@import|//\w+\.\w+/", text)
    assert "default-src &#39;none&#39;" in text
    assert "unsafe" not in text


def test_the_policy_has_the_digests_of_script_and_style(text):
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        assert f"{tag}-src &#39;{rendering._digest(content)}&#39;" in text


def test_figures_are_those_of_evaluate(text):
    page, expected = Page(text), evaluate(LISTS)
    low, high = (f"{100 * end:.2f}" for end in expected.ci95)
    first = expected.first_pass
    gain_low, gain_high = (f"{100 * end:.2f}" for end in first.reduction_ci95)
    assert page.row("both")[:6] == [
        "both",
        f"{100 * expected.wer:.2f}",
        f"{low} to {high}",
        f"{100 * first.absolute_reduction:.2f}",
        f"{gain_low} to {gain_high}",
        f"{first.probability_better:.3f}",
    ]
    assert page.row("first pass")[1] == f"{100 * first.baseline_wer:.2f}"
    assert page.row("oracle of the lists")[1] == f"{100 * expected.oracle_wer:.2f}"


def test_the_utterances_are_those_that_compare_writes(text):
    page, result = Page(text), changes(LISTS)
    assert page.settings["systems"] == ["am", "both"]
    assert page.settings["shown"] == 1
    for record, change in zip(page.records, result.utterances, strict=True):
        before, after, best = (record["hyps"][number] for number in record["systems"][1])
        assert (record["id"], record["ref"]) == (change.id, change.ref)
        assert (before["w"], after["w"]) == (change.baseline_text, change.text)
        assert len(after["e"].replace("=", "")) == change.errors.errors
        assert len(best["e"].replace("=", "")) == change.oracle_errors
        pieces, values = after["k"]["usdm_pll"]
        assert len(pieces.split("\n")) == len(values) == len(after["w"].split())
    assert len(changes_csv({"x": result}).splitlines()) == len(page.records) + 1


def test_texts_stay_texts(tmp_path):
    page = page_of({HOSTILE: [hostile()]}, tmp_path)
    assert page.problems == []
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert "b" not in page.tags
    [record] = page.records
    assert record["hyps"][0]["w"] == f"b {HOSTILE} &amp; <b>bold</b>"
    assert page.settings["scores"] == [HOSTILE]


def test_calibration_is_shown_where_there_are_probabilities(text, tmp_path):
    assert 'id="calibration"' in text
    plain = [replace(nbest, provenance={}) for nbest in LISTS[:3]]
    bare = [
        replace(nbest, hyps=tuple(Hypothesis(hyp.text) for hyp in nbest.hyps)) for nbest in plain
    ]
    page = page_of({"x": bare}, tmp_path)
    assert page.settings["scores"] == []
    assert "#calibration" not in page.links


def test_a_sweep_is_drawn(tmp_path):
    from rescore.fusion import sweep  # noqa: PLC0415

    for scales, figures in (
        ({"usdm_pll": [0, 0.5, 1]}, 2),
        ({"am": [0, 1], "usdm_pll": [0, 1]}, 4),
    ):
        swept = sweep(LISTS, scales, base={"am": 1.0} if len(scales) == 1 else {"rank": 1.0})
        page = page_of({"x": LISTS}, tmp_path, sweep=sweep_csv(swept))
        assert page.problems == []
        assert page.tags.count("figure") == figures + 1  # with the calibration
        assert "#sweep" in page.links


def test_other_units_and_empty_texts(tmp_path):
    nbest = NBest("a", (Hypothesis("東京"), Hypothesis("")), "東 京都")
    page = page_of({"x": [nbest]}, tmp_path, unit="char_nospace")
    assert page.settings["separator"] == ""
    assert [(hyp["w"], hyp["e"]) for hyp in page.records[0]["hyps"]] == [
        ("東京", "==D"),
        ("", "DDD"),
    ]


def test_a_thousand_utterances_are_below_5_mb_and_more_go_to_further_pages(tmp_path):
    """20 words, 10 hypotheses, one score with tokens."""
    many = lists(3, hypotheses=10)
    copies = [replace(many[number % 3], id=f"utt-{number:05}", raw={}) for number in range(1001)]
    first, second = write_report(source_of_lists({"x": lambda: copies}), tmp_path / "r.html")
    assert (first.name, second.name) == ("r.html", "r.2.html")
    assert 1e6 < first.stat().st_size < 5e6
    pages = [Page(path.read_text(encoding="utf-8")) for path in (first, second)]
    assert [len(page.records) for page in pages] == [1000, 1]
    assert [page.problems for page in pages] == [[], []]
    assert "r.2.html" in pages[0].links
    assert "r.html" in pages[1].links
    assert "#summary" not in pages[1].links


def test_long_utterances_make_pages_of_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "PAGE_BYTES", 20_000)
    paths = write_report(source_of_lists({"x": lambda: LISTS}), tmp_path / "r.html")
    sizes = [len(Page(path.read_text(encoding="utf-8")).texts["records"]) for path in paths]
    assert len(paths) > 2
    assert max(sizes) < 21_000


def test_equal_lists_give_equal_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(source_of_lists({"x": lambda: LISTS}), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_systems_of_other_utterances_are_refused(tmp_path):
    other = [replace(nbest, id=f"x{nbest.id}") for nbest in LISTS]
    with pytest.raises(FormatError, match=r"^y: utterance utt-00000 is not that of x; the systems"):
        page_of({"x": LISTS, "y": other}, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_templates_are_in_the_package():
    project = (Path(rendering.__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"report/page/templates/*"' in project


def test_the_lists_come_back_from_their_json(tmp_path):
    """The fixture is what `fuse --posterior` writes: it can be written and read."""
    jsonl.write(LISTS[:2], tmp_path / "x.jsonl")
    [first, _] = jsonl.read(tmp_path / "x.jsonl")
    assert json.loads(json.dumps(first.raw))["hyps"][0]["word_confidences"]
