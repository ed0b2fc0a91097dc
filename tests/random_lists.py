"""Hypothesis strategies for N-best lists with texts and ids that break careless readers."""

from hypothesis import strategies as st

from rescore.types import Hypothesis, NBest

#: Words that other tools read as something else: missing values, numbers, syntax, several bytes a
#: letter, letters of several characters.
WORDS = [
    "a",
    "nan",
    "null",
    "NA",
    "None",
    "true",
    "-inf",
    "1e5",
    "007",
    "日本語",
    "عربي",
    "🎤",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "é",
    "'s",
    '"q"',
    "\\n",
    "[x]",
    "{y}",
    "@@",
    "#",
    "-",
]
FREE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="|()"),
    min_size=1,
    max_size=5,
)
WORD = st.sampled_from(WORDS) | FREE.filter(lambda word: len(word.split()) == 1)
#: White space of other scripts and systems, at the ends, too, and control characters: formats that
#: promise it keep every character.
WILD = st.sampled_from(
    ["a\u00a0b", "a\u3000b", "\u2028", "a\x85b", " a", "a  b ", "a\x0cb", "\u200b", "\x00"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t\ufeff"), max_size=8)
TEXT = st.lists(WORD, max_size=5).map(" ".join) | WILD
IDS = st.lists(
    st.sampled_from(["u", "7", "-", "_", ".", "nan", "é", "日本", "عرب", "🎤"]),
    min_size=1,
    max_size=5,
).map("".join)
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -1e-300, 1e300, -123456.789])
HYPS = st.builds(Hypothesis, TEXT, st.fixed_dictionaries({"am": NUMBERS, "lm": NUMBERS}))
LISTS = st.lists(
    st.builds(NBest, IDS, st.lists(HYPS, min_size=1, max_size=6).map(tuple), TEXT),
    max_size=4,
    unique_by=lambda nbest: nbest.id,
)
