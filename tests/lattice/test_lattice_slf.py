"""HTK's Standard Lattice Format.

The conventions of HTK, of pocketsphinx and of writers with words on arcs; directories and tars;
what is refused.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
from pathlib import Path

import pytest
from lattice_paths import paths

from rescore.errors import FormatError
from rescore.lattice import Lattice, lattice_format_of, read_lattices
from rescore.lattice.formats.slf import SLF, header, write

#: As HTK writes it: words on nodes belong to the arcs that enter them, times are their ends.
HTK = """VERSION=1.0
UTTERANCE=u1
lmname=/a/b.arpa
lmscale=14.00  wdpenalty=-2.50
acscale=1.00
# a comment
N=5 L=5
I=0    t=0.00  W=!NULL
I=1    t=0.25  W=<s>                 v=1
I=2    t=0.75  W=ISN\\'T              v=1
I=3    t=0.75  W='CAUSE
I=4    t=1.00  W=</s>
J=0     S=0    E=1    a=-10.5   l=0.0   r=-0.5
J=1     S=1    E=2    a=-20   l=-3.0   r=0.0
J=2     S=1    E=3    a=-21   l=-2.0   r=0.0
J=3     S=2    E=4    a=-5   l=-1.0   r=0.0
J=4     S=3    E=4    a=-6   l=-1.5   r=0.0
"""
#: As pocketsphinx writes it: words belong to the arcs that leave their nodes, times are their
#: beginnings, nodes are numbered from the end.
POCKETSPHINX = """VERSION=1.0
UTTERANCE=u1
base=2.718281828
lmscale=12.0
acscale=1
start=3
end=0
N=4\tL=4
I=0\tt=1.00\tW=!SENT_END
I=1\tt=0.25\tW=isn't
I=2\tt=0.50\tW=it
I=3\tt=0.00\tW=!SENT_START
J=0\tS=2\tE=0\ta=-6.0\tp=1
J=1\tS=1\tE=0\ta=-5.0\tp=0
J=2\tS=3\tE=1\ta=-1.0\tp=1
J=3\tS=3\tE=2\ta=-2.0\tp=1e-300
"""


def saved(folder: Path, text: str, name: str = "x.slf") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read_one(path: Path, **options: object) -> Lattice:
    [lattice] = read_lattices(path, "slf", **options)
    return lattice


@pytest.mark.parametrize("name", ["x.slf", "x.slf.gz"])
def test_htk_words_belong_to_the_arcs_that_enter_their_node(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, HTK, name)
    lattice = read_one(path)
    assert lattice.id == "u1"
    assert paths(lattice) == [("'CAUSE", -37.5, -3.5), ("ISN'T", -35.5, -4.0)]
    assert lattice.times is not None
    assert lattice.times.tolist() == [0.0, 0.25, 0.75, 0.75, 1.0]
    assert lattice.scores["pronunciation"].tolist() == [-0.5, 0.0, 0.0, 0.0, 0.0]
    assert lattice_format_of(path) is SLF


def test_the_scales_of_the_header_are_returned_and_not_multiplied_in(tmp_path: Path) -> None:
    [(name, fields)] = header(saved(tmp_path, HTK))
    assert name.endswith("x.slf")
    assert (fields["lmscale"], fields["wdpenalty"], fields["acscale"]) == ("14.00", "-2.50", "1.00")


def test_pocketsphinx_words_belong_to_the_arcs_that_leave_their_node(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, POCKETSPHINX))
    assert paths(lattice) == [("isn't", -6.0, 0.0), ("it", -8.0, 0.0)]
    assert lattice.times is not None
    by_word = {
        lattice.symbols[w]: (s, a)
        for w, s, a in zip(
            lattice.word.tolist(), lattice.source.tolist(), lattice.am.tolist(), strict=True
        )
        if w
    }
    assert {word: (lattice.times[state], am) for word, (state, am) in by_word.items()} == {
        "isn't": (0.25, -5.0),
        "it": (0.5, -6.0),
    }


def test_a_last_word_without_an_arc_is_kept(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, POCKETSPHINX.replace("!SENT_END", "end")))
    assert [text for text, _, _ in paths(lattice)] == ["isn't end", "it end"]
    assert lattice.times is not None
    assert lattice.times[-2:].tolist() == [1.0, 1.0]


def test_words_on_arcs_and_long_names(tmp_path: Path) -> None:
    text = (
        "VERSION=1.1\nNODES=2 LINKS=2\nI=0\nI=1\n"
        'J=0 START=0 END=1 WORD="two words" acoustic=-1 language=-2\n'
        "J=1 S=0 E=1 W=caf\\303\\251 a=-3 l=-4\n"
    )
    lattice = read_one(saved(tmp_path, text), nonwords=["x"])
    assert (paths(lattice), lattice.id, lattice.times) == (
        [("café", -3.0, -4.0), ("two words", -1.0, -2.0)],
        "x",
        None,
    )


@pytest.mark.parametrize(
    ("base", "am"),
    [
        ("10", -35.5 * math.log(10)),
        ("2.71828", -35.5),
        ("2.718282", -35.5),
        ("2", -35.5 * math.log(2)),
    ],
)
def test_logs_become_natural(tmp_path: Path, base: str, am: float) -> None:
    lattice = read_one(saved(tmp_path, HTK.replace("VERSION=1.0", f"VERSION=1.0\nbase={base}")))
    assert paths(lattice)[1][1] == pytest.approx(am, rel=1e-15)


def test_probabilities_become_logs(tmp_path: Path) -> None:
    text = "VERSION=1.0\nbase=0\nN=2 L=1\nI=0\nI=1 W=a\nJ=0 S=0 E=1 a=0.25 l=0.5\n"
    assert paths(read_one(saved(tmp_path, text))) == [("a", math.log(0.25), math.log(0.5))]
    with pytest.raises(
        FormatError, match=r"base=0 says that scores are probabilities, but one is 0.0"
    ):
        read_one(saved(tmp_path, text.replace("0.25", "0")))


def test_probabilities_without_a_language_model_have_lm_0(tmp_path: Path) -> None:
    text = "VERSION=1.0\nbase=0\nN=2 L=1\nI=0\nI=1 W=a\nJ=0 S=0 E=1 a=0.25\n"
    assert paths(read_one(saved(tmp_path, text))) == [("a", math.log(0.25), 0.0)]


def test_a_directory_and_a_tar_are_read_by_name(tmp_path: Path) -> None:
    texts = {name: HTK.replace("UTTERANCE=u1\n", "") for name in ("b.slf.gz", "a.slf", "c.slf")}
    folder = tmp_path / "lats"
    for name, text in texts.items():
        saved(folder, text, name)
    with tarfile.open(tmp_path / "lats.tar", "w") as archive:
        for name in texts:
            data = (folder / name).read_bytes()
            info = tarfile.TarInfo(f"sub/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for path in (folder, tmp_path / "lats.tar"):
        assert [lattice.id for lattice in read_lattices(path)] == ["a", "b", "c"]
    saved(folder, HTK, "a.slf")
    saved(folder, HTK, "b.slf")
    with pytest.raises(FormatError, match=r"b.slf: utterance u1: this id was read before"):
        list(read_lattices(folder))
    (folder / "b.slf.gz").unlink()
    assert [lattice.id for lattice in read_lattices(folder, ids="file")] == ["a", "b", "c"]


def test_a_lattice_of_one_node_accepts_the_empty_text(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, "VERSION=1.0\nUTTERANCE=u\nN=1 L=0\nI=0 t=0\n"))
    assert (lattice.id, lattice.arcs, lattice.states, lattice.word.tolist()) == ("u", 1, 2, [0])


def test_a_lattice_without_nodes_has_no_path(tmp_path: Path) -> None:
    lattice = read_one(saved(tmp_path, "VERSION=1.0\nUTTERANCE=u\nN=0 L=0\n"))
    assert (lattice.id, lattice.arcs, lattice.states) == ("u", 0, 0)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    before = [
        read_one(saved(tmp_path, HTK)),
        read_one(saved(tmp_path, POCKETSPHINX.replace("=u1", "=u2").replace("=it", "=caf\u00e9"))),
        read_one(saved(tmp_path, "N=1 L=0\nI=0\n")),
    ]
    assert write(before, tmp_path / "out") == 3
    again = sorted(read_lattices(tmp_path / "out"), key=lambda lattice: lattice.id)
    assert [(lattice.id, paths(lattice)) for lattice in again] == [
        (lattice.id, paths(lattice)) for lattice in before
    ]
    for original, copy in zip(before[:2], again[:2], strict=True):
        assert original.times is not None
        assert copy.times is not None
        assert original.times.tolist() == copy.times.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HTK.replace("L=5", "L=6"),
            "x.slf: the header promises 6 arcs, the file has 5; it is cut off",
        ),
        (HTK.replace("N=5", "N=1000000000000"), "promises 1000000000000 nodes, the file has 5"),
        (HTK.replace("N=5 L=5\n", ""), r"does not say how many nodes there are \(N=\)"),
        (
            HTK.replace("E=4    a=-6 ", "E=4    "),
            r"x.slf:17: the arc has the fields l=, r=, those before have a=, l=, r=; a missing",
        ),
        (HTK.replace("a=", "x="), r"x.slf:13: the arc has no acoustic score \(a=\)"),
        (
            HTK.replace("a=-21", "a=-inf"),
            r'x.slf:15: the score a is "-inf", expected a finite number',
        ),
        (
            HTK.replace("S=3    E=4", "S=3    E=9"),
            "an arc leaves or enters the node 9, which is not there",
        ),
        (HTK.replace("S=3    E=4", "S=3    E=1"), "has a cycle through state 1"),
        (HTK.replace("I=3 ", "I=2 "), "x.slf:11: the node 2 is there twice"),
        (
            HTK.replace("S=2    E=4", "S=0    E=4"),
            "there are 2 nodes that no arc leaves, expected one; name it in the header, end=NODE",
        ),
        (HTK.replace("S=3    E=4", "S=3"), "the arc has no E=, the node it enters"),
        (HTK.replace("S=3    E=4", "S=3 E=4 W=x"), "those before have"),
        (
            HTK.replace("J=0 ", "J=0 W=x ").replace("J=1 ", "J=1 W=x").replace("r=0", "W=x r=0"),
            "twice|both nodes and arcs have words",
        ),
        (HTK.replace("acscale=1.00", "start=77"), "start=77 is no node"),
        (HTK.replace("acscale=1.00", "base=-3"), "base=-3 is no base of logs"),
        (
            HTK.replace("acscale=1.00", "what is this"),
            r'x.slf:5: "what is this" is no field, expected NAME=value',
        ),
        (HTK.replace("acscale=1.00", "SUBLAT=s"), r"it has sub-lattices"),
        (HTK.replace("ISN\\'T", "\\377x"), r"the escapes in .* are not UTF-8"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_one(saved(tmp_path, text))
