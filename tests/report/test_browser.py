"""The page in headless Chromium: it opens, sorts, filters, searches, by mouse and by keyboard."""

from __future__ import annotations

import shutil

import pytest
from small_reports import HOSTILE, hostile, lists

from rescore.fusion import Fusion, fuse
from rescore.report.page import source_of_lists, write_report
from rescore.wer import changes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

LISTS = lists(120, words=10)
PATIENCE = 180_000  # ms: a busy machine is no fault of the page


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of two systems and a hostile utterance."""
    folder = tmp_path_factory.mktemp("page")
    every = [*LISTS, next(fuse([hostile()], Fusion({HOSTILE: 1.0})))]
    first = [*fuse(LISTS, Fusion({"am": 1.0})), every[-1]]
    systems = {"am": lambda: first, "both": lambda: every}
    write_report(source_of_lists(systems), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def opened(browser, path):
    """A page for reading; `problems` collects what the console says and what is requested."""
    problems: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    page.goto(path.as_uri())
    problems.remove(path.as_uri())
    yield page, problems
    assert problems == []
    page.close()


@pytest.fixture
def page(opened):
    """The page as it opens."""
    page, problems = opened
    page.click("[data-filter=all]")
    page.fill("#search", "")
    page.select_option("#system", "1")
    yield page
    assert problems == []


def column(page, number):
    """The texts of one column."""
    cells = page.locator(f"#table > tbody > tr:not(.details) > td:nth-child({number})")
    return cells.all_inner_texts()


def test_it_opens_without_a_message_and_shows_the_first_hundred(page):
    assert len(column(page, 1)) == 100
    assert page.inner_text("#count") == "121 of 121 utterances, the first 100 shown"
    page.click("#more")
    assert len(column(page, 1)) == 121
    assert page.is_hidden("#more")


def test_numbers_are_those_of_the_comparison(page):
    page.click("#more")
    result = changes(LISTS)
    counts = [(c.baseline_errors.errors, c.errors.errors) for c in result.utterances]
    shown = zip(map(int, column(page, 3)), map(int, column(page, 4)), strict=True)
    assert list(shown)[:-1] == counts
    buttons = page.locator("#filters button").all_inner_texts()
    assert f"helped {result.outcomes['helped']}" in buttons
    assert f"hurt {result.outcomes['hurt']}" in buttons
    improvable = sum(change.is_improvable for change in result.utterances)
    assert f"could have helped {improvable + 0}" in buttons


def test_a_header_sorts_and_sorts_back(page):
    header = page.locator("#table > thead button", has_text="after")
    header.click()
    up = [int(text) for text in column(page, 4)]
    assert up == sorted(up)
    header.click()
    down = [int(text) for text in column(page, 4)]
    assert down == sorted(down, reverse=True)
    assert down[0] > up[0]
    sorted_by = page.locator("th[aria-sort]")
    assert sorted_by.get_attribute("aria-sort") == "descending"
    page.locator("#table > thead button", has_text="utterance").click()
    assert column(page, 1)[0].endswith("utt-00000")


def test_the_keyboard_is_enough(page):
    page.focus("#search")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent"))
        if reached[-1] == "gain":
            break
    assert reached[-6:] == ["other words 97", "utterance", "words", "before", "after", "gain"] or (
        reached[-1] == "gain" and "utterance" in reached
    )
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("gain")
    assert page.evaluate("document.activeElement.textContent") == "gain"  # the focus stays
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("tr.details").count() == 1
    page.keyboard.press("Enter")
    assert page.locator("tr.details").count() == 0


@pytest.mark.parametrize("name", ["helped", "hurt", "improvable", "changed"])
def test_filters_keep_what_they_say(page, name):
    page.click(f"[data-filter={name}]")
    assert page.locator("#filters [aria-pressed=true]").get_attribute("data-filter") == name
    before, after, oracle = ([int(text) for text in column(page, k)] for k in (3, 4, 6))
    rows = list(zip(before, after, oracle, strict=True))
    assert rows
    tests = {
        "helped": lambda row: row[1] < row[0],
        "hurt": lambda row: row[1] > row[0],
        "improvable": lambda row: row[2] < row[1],
        "changed": lambda row: True,
    }
    assert all(map(tests[name], rows))
    count = page.locator("#filters [aria-pressed=true]").inner_text().split()[-1]
    assert int(count) == len(rows)


def test_search_finds_ids_and_words(page):
    page.fill("#search", "UTT-00017")
    assert [text[-9:] for text in column(page, 1)] == ["utt-00017"]
    page.fill("#search", "no such words anywhere")
    assert column(page, 1) == []
    assert page.inner_text("#count") == "0 of 121 utterances"
    page.fill("#search", "bold</b>")
    assert len(column(page, 1)) == 1


def test_a_hypothesis_stays_text(page):
    page.fill("#search", "bold")
    page.click("td.id button")
    assert "<b>bold</b>" in page.inner_text("tr.details td.text")
    assert page.locator("#table b, #table img, #table script").count() == 0
    assert page.evaluate("window.hacked") is None


def test_another_system_has_other_numbers(page):
    first = column(page, 4)
    page.select_option("#system", "0")
    assert column(page, 4) != first
    assert page.locator(".errors:visible h3").all_inner_texts() == ["am against the first pass"]


def test_two_hypotheses_are_shown_token_by_token(page):
    page.click("[data-filter=helped]")
    page.locator("td.id button").first.click()
    details = page.locator("tr.details")
    assert details.locator("table tr").count() > 2
    strip = details.locator(".strip .token")
    length = strip.count()
    assert length >= 8
    nats = details.locator("p.note").inner_text()
    assert nats.startswith("usdm_pll: ")
    details.get_by_label("first hypothesis").select_option(index=2)
    details.get_by_label("second hypothesis").select_option(index=2)
    assert details.locator("p.note").inner_text() != nats
    assert "0.00 nats better" in details.locator("p.note").inner_text()
    assert strip.locator(".gain").all_inner_texts() == [""] * strip.count()


def test_light_and_dark_are_readable(page):
    backgrounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        text, background = (
            page.evaluate(f"getComputedStyle(document.body).{name}").removeprefix("rgb(")
            for name in ("color", "backgroundColor")
        )
        assert contrast(text, background) > 7
        backgrounds.append(background)
    light, dark = map(luminance, backgrounds)
    assert light > 0.9
    assert dark < 0.1
    page.emulate_media(color_scheme="light")


def luminance(colour):
    """The relative luminance of WCAG."""
    parts = [int(part) / 255 for part in colour.rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [360, 800, 1920])
def test_the_page_fits_narrow_and_wide_windows(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("td.id button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 900})
