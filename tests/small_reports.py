"""Lists for reports, and their pages as a parser sees them."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np

from rescore.formats.record import from_dict
from rescore.fusion import Fusion, fuse
from rescore.types import NBest

WORDS = ("the", "old", "house", "where", "nobody", "ever", "walked", "after", "dark", "lantern")
HOSTILE = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
VOID = {"meta", "input", "br", "img", "link", "hr"}


def lists(count: int, hypotheses: int = 6, words: int = 20, seed: int = 0) -> list[NBest]:
    """Fused lists with token scores and posteriors; hypotheses differ from the reference."""
    chance = np.random.default_rng(seed)
    records = []
    for number in range(count):
        ref = [WORDS[k] for k in chance.integers(len(WORDS), size=words)]
        hyps = []
        for _ in range(hypotheses):
            text = list(ref)
            for _ in range(int(chance.integers(0, 4))):
                place = int(chance.integers(len(text)))
                text[place : place + 1] = [["a"], ["a", "lamp"], []][chance.integers(3)] or []
                text = text or ["a"]
            tokens = [[f"\u2581{word}", -float(chance.exponential(3))] for word in text]
            scores = {"am": -float(chance.exponential(40)), "usdm_pll": sum(v for _, v in tokens)}
            hyp = {"text": " ".join(text), "scores": scores, "token_scores": {"usdm_pll": tokens}}
            hyps.append(hyp)
        records.append({"id": f"utt-{number:05}", "ref": " ".join(ref), "hyps": hyps})
    read = [from_dict(record, f"lists.jsonl:{n}") for n, record in enumerate(records, 1)]
    return list(fuse(read, Fusion({"am": 1.0, "usdm_pll": 1.0}), temperature=9.0, posteriors=True))


def hostile() -> NBest:
    """A list whose texts, names and id try to leave their place in the page."""
    return from_dict(
        {
            "id": f"u{HOSTILE}",
            "ref": f"a {HOSTILE}",
            "hyps": [
                {
                    "text": f"b {HOSTILE} &amp; <b>bold</b>",
                    "scores": {HOSTILE: -1.0},
                    "token_scores": {HOSTILE: [[HOSTILE, -1.0]]},
                }
            ],
        },
        "hostile.jsonl:1",
    )


class Page(HTMLParser):
    """The elements of a page; `problems` are tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, str] = {}  # of the scripts with an id
        self.cells: list[list[str]] = []  # the table rows
        self._open: list[str] = []
        self._script = ""
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = dict(attrs)
        if len(names) < len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self._open.append(tag)
        self._script = names.get("id", "") if tag == "script" else ""
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th") and self.cells:
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self._script:
            self.texts[self._script] = self.texts.get(self._script, "") + data
        if self._open and self.cells and {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data

    @property
    def records(self):
        return json.loads(self.texts["records"])

    @property
    def settings(self):
        return json.loads(self.texts["settings"])

    def row(self, name: str) -> list[str]:
        """The cells of the first row that begins with this one."""
        return next([cell.strip() for cell in row] for row in self.cells if row[:1] == [name])
