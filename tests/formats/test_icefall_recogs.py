"""icefall's recogs files, as store_transcripts prints them today and printed them before."""

import pytest

from rescore.errors import FormatError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.icefall_recogs import ICEFALL_RECOGS
from rescore.types import Hypothesis, NBest


def save(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def views(lists):
    return [(nbest.id, nbest.ref, [hyp.text for hyp in nbest.hyps]) for nbest in lists]


def printed(cuts, char_level=False):
    """What icefall's store_transcripts prints for (cut id, reference words, hypothesis words)."""
    lines = []
    for cut, *texts in cuts:
        ref, hyp = (list("".join(text)) if char_level else text for text in texts)
        lines += [f"{cut}:\tref={ref}\n", f"{cut}:\thyp={hyp}\n"]
    return "".join(lines)


CUTS = [
    ("1089-134686-0000-0", ["HE", "HOPED", "IT'S"], ["HE", "HOPES", "nan"]),
    ("a:b: c", [], ['"', "\\", "日本", "é"]),
    ("1089-134686-0001-1", ["null", "'\""], []),
]


def test_current_files_are_read_and_written_byte_for_byte(tmp_path):
    path = save(tmp_path / "recogs-test.txt", printed(CUTS))
    lists = list(ICEFALL_RECOGS.read(path))
    assert views(lists) == [(cut, " ".join(ref), [" ".join(hyp)]) for cut, ref, hyp in CUTS]
    assert [nbest.where for nbest in lists] == [f"{path}:1", f"{path}:3", f"{path}:5"]
    assert ICEFALL_RECOGS.write(lists, tmp_path / "again.txt") == 3
    assert (tmp_path / "again.txt").read_bytes() == path.read_bytes()


def test_characters_are_joined_and_split_on_request(tmp_path):
    path = save(tmp_path / "x", printed([("u", ["日本", "a"], ["日"])], char_level=True))
    assert views(ICEFALL_RECOGS.read(path)) == [("u", "日 本 a", ["日"])]
    assert views(read_lists(path, "icefall-recogs", units="chars")) == [("u", "日本a", ["日"])]
    ICEFALL_RECOGS.write(
        [NBest("u", (Hypothesis("日"),), "日本 a")], tmp_path / "again", units="chars"
    )
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    with pytest.raises(FormatError, match=r'units is "x", expected one of words, chars$'):
        ICEFALL_RECOGS.read(path, units="x")


def test_older_files_have_a_space_or_no_ids(tmp_path):
    assert views(
        ICEFALL_RECOGS.read(save(tmp_path / "x", "u: ref=['A']\nu: hyp=['B', 'C']\n"))
    ) == [("u", "A", ["B C"])]
    lists = ICEFALL_RECOGS.read(
        save(tmp_path / "recogs.txt", "ref=['A']\nhyp=['B']\n\nref=[]\nhyp=['x: ref=y']\n")
    )
    assert views(lists) == [("recogs-000001", "A", ["B"]), ("recogs-000002", "", ["x: ref=y"])]


def test_texts_that_are_no_lists_and_times_are_kept(tmp_path):
    text = (
        "u:\tref=A B: ref=C\nu:\thyp=[x] b\nu:\ttimestamp_ref=[0.100, "
        "0.200]\nu:\ttimestamp_hyp=[(0.100, 0.200)]\n"
    )
    [nbest] = ICEFALL_RECOGS.read(save(tmp_path / "x", text))
    assert views([nbest]) == [("u", "A B: ref=C", ["[x] b"])]
    assert nbest.raw == {"timestamp_ref": "[0.100, 0.200]", "timestamp_hyp": "[(0.100, 0.200)]"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "u:\thyp=['a']\n",
            '1: utterance u: there is no line "ref=", expected one "ref=" and one "hyp=" a cut',
        ),
        (
            "u:\tref=['a']\nv:\tref=['a']\nv:\thyp=[]\n",
            '1: utterance u: there is no line "hyp=", expected one "ref=" and one "hyp=" a cut',
        ),
        (
            "u:\tref=['a']\nv:\thyp=['a']\n",
            "1: utterance u: the next line is of v, expected the lines of a cut to stand together",
        ),
        (
            "u:\tref=[]\nu:\thyp=[]\nu:\thyp=[]\n",
            '1: the cut has two lines "hyp=", expected one "ref=" and one "hyp=" a cut',
        ),
        (
            "u:\tref=[]\nx\n",
            "1: the cut has a line that is 'x', expected id:<tab>ref=[...] and id:<tab>hyp=[...]",
        ),
        (
            " :\tref=[]\n :\thyp=[]\n",
            '1: "id" is empty, expected a string that names the utterance',
        ),
        (
            "u:\tref=[a]\nu:\thyp=[]\n",
            (
                '1: utterance u: "ref" is not a list of strings as Python prints it: expected a '
                "string at a"
            ),
        ),
        (
            "u:\tref=[]\nu:\thyp=['a' 'b']\n",
            (
                '1: utterance u: "hyp" is not a list of strings as Python prints it: expected a '
                "string at 'a' 'b'"
            ),
        ),
        (
            "u:\tref=[]\nu:\thyp=['\\ud800']\n",
            (
                "1: utterance u: \"hyp\": the string '\\ud800' holds an escape that is not a "
                "character; "
                "write the file again in UTF-8"
            ),
        ),
        (
            "u:\tref=[]\nu:\thyp=[]\nu:\tref=[]\nu:\thyp=[]\n",
            "3: utterance u: this id was already at FILE:1; every utterance needs its own",
        ),
    ],
)
def test_bad_cuts_are_named(tmp_path, text, expected):
    path = save(tmp_path / "x", text)
    with pytest.raises(FormatError) as caught:
        list(ICEFALL_RECOGS.read(path))
    assert str(caught.value) == f"{path}:{expected.replace('FILE', str(path))}"


def test_broken_cuts_can_be_skipped(tmp_path):
    skipped = Skipped()
    path = save(tmp_path / "x", "u:\tref=[x]\nu:\thyp=[]\nv:\tref=[]\nv:\thyp=[]\n")
    assert [nbest.id for nbest in ICEFALL_RECOGS.read(path, skipped=skipped)] == ["v"]
    assert skipped.count == 1


@pytest.mark.parametrize("utterance", ["a\nb", "a\rb", "ref=x", "hyp=", "a: ref=b"])
def test_ids_that_the_lines_cannot_hold_are_refused(tmp_path, utterance):
    with pytest.raises(FormatError, match="these files cannot hold ids with a line end"):
        ICEFALL_RECOGS.write([NBest(utterance, (Hypothesis("a"),), "a")], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_writing_needs_references(tmp_path):
    with pytest.raises(
        FormatError, match=r"^utterance u: there is no reference to write; give them with --refs$"
    ):
        ICEFALL_RECOGS.write([NBest("u", (Hypothesis("a"),))], tmp_path / "x")


def test_the_content_proves_the_format(tmp_path):
    for text in (printed(CUTS), "ref=['A']\r\nhyp=['A']\r\n"):
        assert format_of(save(tmp_path / "x", text)) is ICEFALL_RECOGS
    for text in ("u:\tref=['a']\nv:\thyp=['a']\n", "u ref=['a']\n"):
        with pytest.raises(FormatError, match="does not prove its format"):
            format_of(save(tmp_path / "y", text))
