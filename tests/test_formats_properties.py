"""What every format that can be written keeps: any text in any script, "nan" and empty hypotheses, 1 and 1,000 hypotheses, CRLF and byte order marks.

And what none does: raise anything but a RescoreError of one line, or lose a hypothesis, whatever bytes of its files are changed.
"""

import itertools
import math
import re
import shutil
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError, RescoreError
from rescore.formats import read_lists
from rescore.formats.base import ascii_words
from rescore.formats.files import byte_lines
from rescore.registry import FORMATS, lookup
from rescore.types import Hypothesis, NBest

#: Changed files tried for each format in the everyday suite.
MUTATIONS = 100


class Case(NamedTuple):
    """One format as these tests use it: which scores and what of a text it keeps, and whether its lists have one length and no ids."""

    scores: tuple[str, ...] = ("first_pass",)
    options: dict = {}  # noqa: RUF012 - never changed
    words_only: bool = False
    fixed: bool = False


CASES = {
    "jsonl": Case(("am", "lm", "first_pass")),
    "mlm-scoring": Case(),
    "espnet": Case(),
    "nemo": Case(options={"beam_size": 3}, fixed=True),
    "nemo-beams": Case(),
    "kaldi": Case(("am", "lm"), words_only=True),
    "srilm": Case(("am", "lm"), words_only=True),
}
WRITABLE = sorted(CASES)

ODD = [
    "",
    "nan",
    "null",
    "NA",
    "None",
    "true",
    "-1.5",
    "0",
    "(a)",
    '"a b',
    "'",
    "a # b",
    "我们 去",
    "مرحبا بك",
    "👩‍🚀 ok",
    "é e\u0301",
    "a\u00a0b",
    "a\u3000b",
    "\u2028",
    "a\x85b",
    "\\n",
]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t"), max_size=12).filter(lambda text: text[:1] != "\ufeff")
NUMBERS = st.floats(-1e300, 1e300, allow_nan=False, allow_subnormal=False)
IDS = st.from_regex(r"[\w][\w+=-]{0,9}", fullmatch=True)
SCORES = st.fixed_dictionaries({"am": NUMBERS, "lm": NUMBERS, "first_pass": NUMBERS})


def lists_of(sizes):
    hyps = sizes.flatmap(lambda size: st.lists(st.builds(Hypothesis, TEXTS, SCORES), min_size=size, max_size=size)).map(tuple)
    return st.lists(st.builds(NBest, IDS, hyps), min_size=1, max_size=4, unique_by=lambda nbest: nbest.id)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """New paths, one after the other."""
    root = tmp_path_factory.mktemp("scratch")
    return (root / str(number) for number in itertools.count())


def fresh(scratch, name):
    return next(scratch).with_suffix(".jsonl" if name == "jsonl" else "")


def write(name, lists, path):
    assert lookup(FORMATS, name, "format").write(lists, path) == len(lists)
    return path


def read(name, path):
    return list(read_lists(path, name, **CASES[name].options))


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def expected(name, lists):
    """id -> [(text, scores)] as the format keeps them."""
    case = CASES[name]
    return {
        f"{number:06d}" if case.fixed else nbest.id: [
            (" ".join(ascii_words(hyp.text)) if case.words_only else hyp.text, {score: hyp.scores[score] for score in case.scores}) for hyp in nbest.hyps
        ]
        for number, nbest in enumerate(lists, 1)
    }


def found(name, lists):
    case = CASES[name]
    return {
        nbest.id[-6:] if case.fixed else nbest.id: [(hyp.text, {score: hyp.scores[score] for score in case.scores}) for hyp in nbest.hyps] for nbest in lists
    }


def assert_same(name, again, lists):
    mine, theirs = expected(name, lists), found(name, again)
    if name == "srilm":  # divided and multiplied by ln 10: two roundings of float64
        for utterance in mine:
            for (_, one), (_, two) in zip(mine[utterance], theirs[utterance], strict=True):
                assert two == pytest.approx(one, rel=2**-51)
                two.update(one)
    assert theirs == mine


def test_every_writer_is_tested_here():
    assert set(WRITABLE) <= {name for name in FORMATS if lookup(FORMATS, name, "format").is_writable}


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_is_read_back(scratch, name):
    @settings(max_examples=60, deadline=None)
    @given(lists_of(st.just(3) if CASES[name].fixed else st.integers(1, 4)))
    def check(lists):
        if name == "srilm":  # these three are no words to SRILM
            lists = [NBest(one.id, tuple(Hypothesis(hyp.text.replace("-pau-", ""), hyp.scores) for hyp in one.hyps)) for one in lists]
        path = write(name, lists, fresh(scratch, name))
        assert_same(name, read(name, path), lists)
        remove(path)

    check()


SAMPLE = [
    NBest("u1", tuple(Hypothesis(text, {"am": -10.5 - i, "lm": -2.25 * i, "first_pass": -3.5 - i}) for i, text in enumerate(["a cat", "", "nan"]))),
    NBest("u2", tuple(Hypothesis(text, {"am": 4.0 + i, "lm": -1.0, "first_pass": 0.125}) for i, text in enumerate(["我们 去", "مرحبا", "null 👩‍🚀"]))),
]


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("change", [lambda data: data.replace(b"\n", b"\r\n"), lambda data: b"\xef\xbb\xbf" + data], ids=["crlf", "bom"])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path, name, change):
    path = write(name, SAMPLE, tmp_path / "x.jsonl")
    for file in files_of(path):
        file.write_bytes(change(file.read_bytes()))
    assert_same(name, read(name, path), SAMPLE)


@pytest.mark.parametrize("name", WRITABLE)
def test_latin_1_is_one_line_that_names_the_file(tmp_path, name):
    path = write(name, [NBest(one.id, tuple(Hypothesis("caf\u00e9", hyp.scores) for hyp in one.hyps)) for one in SAMPLE], tmp_path / "x.jsonl")
    for file in files_of(path):
        file.write_bytes(file.read_bytes().replace("caf\u00e9".encode(), "caf\u00e9".encode("latin-1")))
    with pytest.raises(FormatError, match=r"not UTF-8 \(byte 0xe9") as caught:
        read(name, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("size", [1, 1000])
def test_one_and_a_thousand_hypotheses(tmp_path, name, size):
    lists = [NBest(utterance, tuple(Hypothesis(f"w{i}", {"am": -i, "lm": -2.0 * i, "first_pass": 0.5 - i}) for i in range(size))) for utterance in "ab"]
    path = write(name, lists, tmp_path / "x.jsonl")
    assert_same(name, list(read_lists(path, name, **({"beam_size": size} if CASES[name].fixed else {}))), lists)


@pytest.mark.parametrize("name", WRITABLE)
def test_an_error_while_writing_leaves_nothing(tmp_path, name):
    def broken():
        yield SAMPLE[0]
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        lookup(FORMATS, name, "format").write(broken(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(WRITABLE) - {"jsonl"}))
def test_an_id_that_comes_twice_is_not_written(tmp_path, name):
    with pytest.raises(FormatError, match=r"^utterance u1: this id was written before; every utterance needs its own$"):
        lookup(FORMATS, name, "format").write([SAMPLE[0], SAMPLE[0]], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@st.composite
def mutations(draw):
    """A function of bytes that changes a few of them."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "set", "insert", "delete", "cut", "repeat"]),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=3)
                | st.sampled_from([b"\n", b"\r", b"\t", b" ", b"-", b"(", b"\0", b"nan", b"1e999", b"\xff", b"u1-1 ", b"</s> "]),
                st.integers(1, 40),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def mutate(data):
        for kind, where, new, length in steps:
            at = int(where * len(data))
            if kind == "set":
                data = data[:at] + new + data[at + len(new) :]
            elif kind == "insert":
                data = data[:at] + new + data[at:]
            elif kind == "delete":
                data = data[:at] + data[at + length :]
            elif kind == "cut":
                data = data[:at]
            else:
                data = data[: at + length] + data[at:]
        return data

    return mutate


def full_lines(data, ignore=b"(?!)"):
    """The lines that hold anything but white space, as C sees it."""
    return [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\r\f\v") and not re.match(ignore, line)]


def hypotheses_in(name, path):
    """How many hypotheses the files hold, counted by their lines; None where lines do not say."""
    if name == "espnet":
        return sum(len([line for line in file.read_text().split("\n") if line.strip()]) for file in path.glob("*/text"))
    if name == "kaldi":
        return len(full_lines((path / "words_text").read_bytes()))
    if name == "srilm":
        return sum(len(full_lines(file.read_bytes(), b"[ \t\r\f\v]*NBestList[12]")) for file in path.iterdir())
    return len(list(byte_lines(path))) if name == "nemo" else None


def outcome(name, path):
    """(message, None) or ("", lists); anything but a RescoreError is not caught."""
    try:
        return "", read(name, path)
    except RescoreError as error:
        return str(error), None


@pytest.mark.parametrize("name", WRITABLE)
def test_changed_bytes_give_a_list_or_one_line(scratch, name):
    path = write(name, SAMPLE, fresh(scratch, name))
    originals = {file: file.read_bytes() for file in files_of(path)}

    @settings(max_examples=MUTATIONS, deadline=None)
    @given(st.integers(0, len(originals) - 1), mutations())
    def check(which, mutate):
        for file, data in originals.items():
            file.write_bytes(data)
        file = list(originals)[which]
        file.write_bytes(mutate(originals[file]))
        complaint, lists = outcome(name, path)
        if lists is None:
            assert "\n" not in complaint
            assert complaint.startswith(str(path))
            return
        hyps = [hyp for nbest in lists for hyp in nbest.hyps]
        assert all(math.isfinite(value) for hyp in hyps for value in hyp.scores.values())
        assert hypotheses_in(name, path) in (None, len(hyps))
        assert len({nbest.id for nbest in lists}) == len(lists)

    check()
