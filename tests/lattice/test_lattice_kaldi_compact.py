"""Kaldi's CompactLattice text: what a small archive means, written out; what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from lattice_paths import paths

from rescore.errors import FormatError
from rescore.lattice import Lattice, lattice_format_of, read_lattices
from rescore.lattice.formats.kaldi_compact import KALDI_COMPACT, write

#     a 1,-10,2_1        b 0.5,-20,3
#   0 ------------ 1 ---------------- 3 (final: 0.25,-1,4_4)
#    \__<eps> 2,-5,2_1 __ 2 __c 3,,_/         2 is final as well, without a weight
ARCHIVE = """u1 
0 1 a 1,-10,2_1 
0 2 <eps> 2,-5,2_1
1 3 b 0.5,-20,3
2 3 c 3,0,9
3 0.25,-1,4_4
2

empty

u2
0 1 a
1

"""  # noqa: W291 - as Kaldi writes it
NUMBERS = ARCHIVE.replace(" a", " 7").replace(" b", " 8").replace(" c", " 9").replace("<eps>", "0")
WORDS = "<eps> 0\na 7\nb 8\nc 9\n#0 12\n"
EXPECTED = [("", 5.0, -2.0), ("a b", 31.0, -1.75), ("c", 6.0, -5.25)]


def saved(folder: Path, text: str, name: str = "lat.txt") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def first_of(lattices: object) -> Lattice:
    return next(iter(lattices))  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["lat.txt", "lat.txt.gz"])
def test_costs_become_scores_and_final_weights_count(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, ARCHIVE, name)
    first, empty, second = read_lattices(path)
    assert paths(first) == EXPECTED
    assert (first.id, empty.id, second.id) == ("u1", "empty", "u2")
    assert (empty.arcs, empty.states, paths(second)) == (0, 0, [("a", 0.0, 0.0)])
    assert lattice_format_of(path) is KALDI_COMPACT


def test_numbers_are_looked_up(tmp_path: Path) -> None:
    path, table = saved(tmp_path, NUMBERS), saved(tmp_path, WORDS, "words.txt")
    assert paths(first_of(read_lattices(path, words=table))) == EXPECTED
    assert [text for text, _, _ in paths(first_of(read_lattices(path, words="none")))] == [
        "",
        "7 8",
        "9",
    ]
    assert [
        text for text, _, _ in paths(first_of(read_lattices(path, words=table, nonwords=["b"])))
    ] == ["", "a", "c"]


def test_frames_give_times(tmp_path: Path) -> None:
    text = "u\n0 1 a 1,-10,2_1\n0 2 b 1,-10,2\n2 1 c 0,0,5\n1 0,0,4_4\n\n"
    lattice = first_of(read_lattices(saved(tmp_path, text), frame_shift=0.5))
    assert lattice.times is not None
    assert lattice.times.tolist() == [0.0, 0.5, 1.0, 2.0]
    assert first_of(read_lattices(saved(tmp_path, text))).times is None
    with pytest.raises(
        FormatError,
        match=r"utterance u1: paths to one state have . and . frames; its times are unknown",
    ):
        list(read_lattices(saved(tmp_path, ARCHIVE), frame_shift=0.5))


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    before = list(read_lattices(saved(tmp_path, ARCHIVE)))
    assert write(before, tmp_path / "again") == 3
    for original, copy in zip(before, read_lattices(tmp_path / "again"), strict=True):
        assert (original.id, paths(original)) == (copy.id, paths(copy))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARCHIVE.rstrip(), r"lat.txt:11: utterance u2: the file ends before the empty line"),
        (
            ARCHIVE.replace("1,-10,2_1", "1,-10"),
            r"lat.txt:2: utterance u1: the weight is \"1,-10\", .*compact",
        ),
        (
            ARCHIVE.replace("1,-10,2_1", "1,x,2_1"),
            r"lat.txt:2: utterance u1: the acoustic cost is \"x\", expected a finite number",
        ),
        (
            ARCHIVE.replace("1,-10,2_1", "inf,0,2_1"),
            r"the graph cost is \"inf\", expected a finite number",
        ),
        (ARCHIVE.replace("2_1 \n", "2__1\n"), r'the transition ids are "2__1"'),
        (ARCHIVE.replace("0 1 a 1", "0 -1 a 1"), r'a state is "-1"'),
        (ARCHIVE.replace("u2", "u1"), r"lat.txt:11: utterance u1: this id was read before"),
        (
            ARCHIVE.replace("empty", "two words"),
            r"lat.txt:9: the line has 2 fields, expected the id",
        ),
        (
            ARCHIVE.replace("\n2\n", "\n3\n"),
            r"lat.txt:7: utterance u1: the final state 3 is there twice",
        ),
        (ARCHIVE.replace("2 3 c", "2 0 <eps>"), r"utterance u1: has a cycle through state 0"),
        ("u\n0 1 a 1,2,3\n\n", "it has arcs and no final state"),
        (
            NUMBERS,
            r"utterance u1: all words are numbers; give the table that names them, words=words.txt",
        ),
        (
            "u \0B\xd6\xfd\xb2~",
            r"lat.txt:1: this is a binary archive; .*with `lattice-copy ark:IN ark,t:-`",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        list(read_lattices(saved(tmp_path, text), "kaldi-compact"))


def test_a_number_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    path, table = saved(tmp_path, NUMBERS), saved(tmp_path, "<eps> 0\na 7\nb 8\n", "words.txt")
    with pytest.raises(
        FormatError,
        match=r"utterance u1: label 9 is not in the word table .*words.txt, "
        r"which has 3 symbols from 0 to 8",
    ):
        list(read_lattices(path, words=table))
    with pytest.raises(
        FormatError, match=r'utterance u1: the word "a" is no number; leave the word table out'
    ):
        list(read_lattices(saved(tmp_path, ARCHIVE), words=table))


def test_the_numbers_of_states_cost_no_memory(tmp_path: Path) -> None:
    far = 10**17
    lattice = first_of(read_lattices(saved(tmp_path, f"u\n0 {far} a 1,2,3\n{far}\n\n")))
    assert (lattice.states, lattice.target.tolist()) == (2, [1])
