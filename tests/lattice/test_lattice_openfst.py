"""OpenFst text and binary: what a small FST means, archives, and what is refused.

The reading is kaldifst's, where that is installed.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from lattice_paths import paths

from rescore.errors import FormatError
from rescore.lattice import Lattice, lattice_format_of, read_lattices
from rescore.lattice.formats.openfst import OPENFST

#     10:a/1        11:b
#   0 ------- 1 ------------ 3/0.25        state 2 is final too, without a cost
#    \_0:<eps>/2 __ 2 __ 12:c/0.5__/
TEXT = "0 1 10 a 1\n0 2 0 <eps> 2\n1 3 11 b\n2 3 12 c 0.5\n3 0.25\n2\n"
NUMBERS = TEXT.replace("a 1", "7 1").replace("<eps>", "0").replace(" b", " 8").replace(" c ", " 9 ")
WORDS = "<eps> 0\na 7\nb 8\nc 9\n"
EXPECTED = [("", -2.0, 0.0), ("a b", -1.25, 0.0), ("c", -2.75, 0.0)]


def saved(folder: Path, content: str | bytes, name: str = "one.fst") -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def read_one(path: Path, **options: object) -> Lattice:
    [lattice] = read_lattices(path, "openfst", **options)
    return lattice


def binary(
    states: list[tuple[float, list[tuple[int, int, float, int]]]],
    kind: bytes = b"vector",
    arc: bytes = b"standard",
    symbols: bytes = b"",
) -> bytes:
    """Write as VectorFst::Write does: header, symbol tables, every state with its arcs."""

    def text(value: bytes) -> bytes:
        return struct.pack("<i", len(value)) + value

    count = sum(len(arcs) for _, arcs in states)
    head = (
        b"\xd6\xfd\xb2\x7e"
        + text(kind)
        + text(arc)
        + struct.pack("<iiQqqq", 2, 1 if symbols else 0, 3, 0 if states else -1, len(states), count)
    )
    body = b"".join(
        struct.pack("<fq", final, len(arcs))
        + b"".join(struct.pack("<iifi", *fields) for fields in arcs)
        for final, arcs in states
    )
    return head + symbols + body


INF = float("inf")
STATES = [
    (INF, [(10, 7, 1.0, 1), (0, 0, 2.0, 2)]),
    (INF, [(11, 8, 0.0, 3)]),
    (0.0, [(12, 9, 0.5, 3)]),
    (0.25, []),
]


def test_text_with_words_and_with_numbers(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, TEXT))
    assert (lattice.id, paths(lattice)) == ("one", EXPECTED)
    assert lattice.label.tolist() == [10, 0, 11, 12, 0, 0]
    table = saved(tmp_path, WORDS, "words.txt")
    assert paths(read_one(saved(tmp_path, NUMBERS), words=table)) == EXPECTED
    assert [text for text, _, _ in paths(read_one(tmp_path / "one.fst", words="none"))] == [
        "",
        "7 8",
        "9",
    ]
    assert [
        text
        for text, _, _ in paths(read_one(tmp_path / "one.fst", words="none", side="input", id="u"))
    ] == ["", "10 11", "12"]


def test_a_cost_is_am_or_lm(tmp_path: Path) -> None:
    assert paths(read_one(saved(tmp_path, TEXT), weights="lm")) == [
        (text, lm, am) for text, am, lm in EXPECTED
    ]


def test_an_acceptor_has_one_label(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, "0 1 a 1\n0 1 b\n1\n"), acceptor=True)
    assert paths(lattice) == [("a", -1.0, 0.0), ("b", 0.0, 0.0)]
    with pytest.raises(
        FormatError,
        match=r"one.fst:2: utterance one: the line has 3 fields, .*"
        r"if its arcs have one label, give acceptor=true",
    ):
        read_one(tmp_path / "one.fst")


def test_an_archive_has_an_id_before_each(tmp_path: Path) -> None:
    lattices = list(read_lattices(saved(tmp_path, f"u1 \n{TEXT}\nempty\n\nu2\n0\n\n"), "openfst"))
    assert [(lattice.id, paths(lattice)) for lattice in lattices] == [
        ("u1", EXPECTED),
        ("empty", []),
        ("u2", [("", 0.0, 0.0)]),
    ]


def test_binary_means_the_same(tmp_path: Path) -> None:
    table = saved(tmp_path, WORDS, "words.txt")
    path = saved(tmp_path, binary(STATES))
    assert paths(read_one(path, words=table)) == EXPECTED
    assert paths(read_one(path, words=table, weights="lm")) == [
        (text, lm, am) for text, am, lm in EXPECTED
    ]
    assert read_one(path, words=table).label.tolist() == [10, 0, 11, 12, 0, 0]
    assert [text for text, _, _ in paths(read_one(path, words="none", side="input"))] == [
        "",
        "10 11",
        "12",
    ]
    assert lattice_format_of(path) is OPENFST
    inside = (
        struct.pack("<ii", 2125658996, 1)
        + b"x"
        + struct.pack("<qqi", 2, 1, 3)
        + b"abc"
        + struct.pack("<q", 7)
    )
    assert paths(read_one(saved(tmp_path, binary(STATES, symbols=inside)), words=table)) == EXPECTED
    assert read_one(saved(tmp_path, binary([])), words=table).arcs == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TEXT.replace("b\n", "b x\n"),
            r'one.fst:3: utterance one: the cost is "x", expected a finite number',
        ),
        (TEXT.replace("b\n", "b Infinity\n"), r'the cost is "Infinity"'),
        (TEXT.replace("0.5", "0.5,1"), "this is a Kaldi lattice, write it with `lattice-copy"),
        (TEXT + "3 1\n", "one.fst:7: utterance one: the final state 3 is there twice"),
        (TEXT.replace("2 3 12 c", "2 0 0 <eps>"), "has a cycle through state 0"),
        ("0 1 1 a\n", "it has arcs and no final state"),
        (NUMBERS, "all words are numbers; give the table"),
        (f"u1\n{TEXT}\nu1\n{TEXT}\n", "one.fst:9: utterance u1: this id was read before"),
        (f"u1\n{TEXT}\nu2\n{TEXT}", "one.fst:9: utterance u2: the file ends before the empty line"),
        (f"u1\n{TEXT}\nu2 x\n", "one.fst:9: the line has 2 fields, expected the id"),
        (binary(STATES)[:-3], "this binary FST"),
        (binary(STATES)[:30], "is cut off"),
        (
            binary(STATES, kind=b"const"),
            'is of type "const" with "standard" arcs, expected vector .*`fstconvert` makes them',
        ),
        (binary(STATES, arc=b"lattice4"), 'with "lattice4" arcs'),
        (
            binary(STATES).replace(struct.pack("<qqq", 0, 4, 4), struct.pack("<qqq", 0, 10**12, 4)),
            "is cut off",
        ),
        (binary([(INF, [(1, 1, 0.0, 5)]), (0.0, [])]), "in, a state that it does not have"),
        (binary([(INF, [(1, 1, -INF, 1)]), (0.0, [])]), "is inf, expected a finite number"),
        (
            binary([(INF, [(1, 1, 0.0, 1)]), (float("nan"), [])]),
            "the final state 1 with the cost nan",
        ),
        (binary([(INF, [(1, -4, 0.0, 1)]), (0.0, [])]), "label -4 is negative"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    words = "none" if isinstance(content, bytes) else None
    with pytest.raises(FormatError, match=message):
        list(read_lattices(saved(tmp_path, content), "openfst", words=words))


def test_binary_without_a_table_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(
        FormatError,
        match=r"utterance one: its labels are numbers; give the table that names them, "
        r"words=words.txt, or bpe=bpe.model",
    ):
        read_one(saved(tmp_path, binary(STATES)))


def test_the_same_as_kaldifst(tmp_path: Path) -> None:
    """kaldifst (tried: 1.8.3) writes random acyclic FSTs as text and as binary; both are read."""
    kaldifst = pytest.importorskip("kaldifst")
    chance = random.Random(1)
    for number in range(200):
        states = chance.randrange(2, 9)
        arcs = [
            (
                s,
                chance.randrange(s + 1, states),
                chance.randrange(5),
                chance.randrange(5),
                chance.uniform(-5, 5),
            )
            for s in range(states - 1)
            for _ in range(3)
        ]
        text = (
            "".join(f"{s} {t} {i} {o} {np.float32(w)!s}\n" for s, t, i, o, w in arcs)
            + f"{states - 1} {chance.choice(('0', '1.5'))}\n"
        )
        fst = kaldifst.compile(text, acceptor=False)
        fst.write(str(tmp_path / "one.fst"))
        total = read_one(tmp_path / "one.fst", words="none")
        shown = read_one(saved(tmp_path, fst.to_str(show_weight_one=True), "text"), words="none")
        assert len(paths(total)) == len(paths(shown)), number
        for ours, theirs in zip(paths(total), paths(shown), strict=True):
            assert ours[0] == theirs[0]
            # to_str prints six digits
            assert ours[1] == pytest.approx(theirs[1], rel=1e-4, abs=1e-4)
        best = kaldifst.shortest_path(fst)
        cost = sum(
            arc.weight.value
            for state in range(best.num_states)
            for arc in kaldifst.ArcIterator(best, state)
        )
        cost += sum(
            best.final(state).value
            for state in range(best.num_states)
            if best.final(state).value != INF
        )
        best_am = max(am for _, am, _ in paths(total))
        assert best_am == pytest.approx(-cost, abs=1e-5), number  # kaldifst adds in float32
