"""k2's .pt files.

Those in tests/data/k2 were made by k2 1.23.4 (make_samples.py there), and paths.json by walking
k2's own arcs.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from lattice_paths import paths
from small import LINES

from rescore.errors import FormatError
from rescore.lattice import Lattice, lattice_format_of, read_lattices
from rescore.lattice.formats.k2 import K2

DATA = Path(__file__).parents[1] / "data" / "k2"
PATHS = json.loads((DATA / "paths.json").read_text())
HAS_RAGGED = hasattr(torch.serialization, "safe_globals")
SAMPLES = [name for name in PATHS if HAS_RAGGED or "ragged" not in name]
WORDS = "<eps> 0\nthe 1\ncat 2\nhat 3\nsat 4\n"
NAMES = ["", "the", "cat", "hat", "sat"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(WORDS)
    return tmp_path / "words.txt"


def bits(score: float) -> int:
    return int(np.array(score, np.float32).view(np.int32))


def fsa(*arcs: tuple[int, int, int, float], **attributes: Any) -> dict[str, Any]:
    """Return one lattice as Fsa.as_dict() does; an attribute of None is left out."""
    table = torch.tensor([[*arc[:3], bits(arc[3])] for arc in arcs], dtype=torch.int32).reshape(
        -1, 4
    )
    saved = {
        "arcs": table,
        "aux_labels": torch.zeros(len(arcs), dtype=torch.int32),
        "lm_scores": torch.zeros(len(arcs)),
        **attributes,
    }
    return {key: value for key, value in saved.items() if value is not None}


GOOD = ((0, 1, 5, -1.0), (1, 2, -1, -2.0))


def read(folder: Path, content: object, **options: Any) -> list[Lattice]:
    torch.save(content, folder / "lats.pt")
    return list(read_lattices(folder / "lats.pt", "k2", **{"words": "none", **options}))


@pytest.mark.parametrize("name", SAMPLES)
def test_paths_and_scores_are_those_of_k2(name: str, table: Path) -> None:
    lattices = list(read_lattices(DATA / name, words=table))
    assert lattice_format_of(DATA / name) is K2
    assert [lattice.id for lattice in lattices] == [
        f"{Path(name).stem}-{i}" for i in range(len(lattices))
    ]
    for lattice, expected in zip(lattices, PATHS[name], strict=True):
        named = sorted(
            (" ".join(NAMES[word] for word in words), total - lm, lm)
            for words, total, lm in expected
        )
        assert paths(lattice) == named


def test_attributes_of_floats_become_scores_and_labels_are_kept(table: Path) -> None:
    lattice, _, _ = read_lattices(DATA / "batch.pt", words=table)
    assert lattice.label.tolist() == [7, 8, 0, 9, 0]
    assert {name: values.tolist() for name, values in lattice.scores.items()} == {
        "confidence": [0.0, -0.0625, -0.125, -0.1875, -0.25]
    }


def test_ids_come_from_keys_or_a_list_or_a_file(tmp_path: Path, table: Path) -> None:
    assert [lattice.id for lattice in read_lattices(DATA / "by_cut.pt", words=table)] == [
        "cut-1",
        "cut-2",
    ]
    assert [lattice.id for lattice in read_lattices(DATA / "list.pt", words=table)] == [
        "list-0",
        "list-1",
        "list-2",
        "list-3",
    ]
    (tmp_path / "ids").write_text("a\nb\nc\n")
    for ids in (["a", "b", "c"], tmp_path / "ids"):
        assert [
            lattice.id for lattice in read_lattices(DATA / "batch.pt", words=table, ids=ids)
        ] == ["a", "b", "c"]
    with pytest.raises(
        FormatError, match=r"batch.pt: there are 3 lattices and 2 ids, expected one each"
    ):
        list(read_lattices(DATA / "batch.pt", words=table, ids=["a", "b"]))
    with pytest.raises(FormatError, match=r"utterance a: this id was read before"):
        list(read_lattices(DATA / "batch.pt", words=table, ids=["a", "b", "a"]))


def test_a_directory_is_its_pt_files(tmp_path: Path, table: Path) -> None:
    for name in ("b", "a"):
        shutil.copy(DATA / "single.pt", tmp_path / f"{name}.pt")
    assert [lattice.id for lattice in read_lattices(tmp_path, "k2", words=table)] == ["a-0", "b-0"]


def test_pieces_spell_text(tmp_path: Path) -> None:
    model = tmp_path / "bpe.model"
    with model.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES),
            model_writer=out,
            vocab_size=64,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = pieces.encode("the old house")
    arcs = [(i, i + 1, piece, -1.0) for i, piece in enumerate(ids)] + [
        (len(ids), len(ids) + 1, -1, 0.0)
    ]
    [lattice] = read(
        tmp_path,
        fsa(*arcs, aux_labels=torch.tensor([*ids, -1], dtype=torch.int32)),
        words=None,
        bpe=model,
    )
    assert [text for text, _, _ in paths(lattice)] == ["the old house"]
    assert [lattice.symbols[word] for word in lattice.word.tolist()] == [
        *map(pieces.id_to_piece, ids),
        "",
    ]


def test_an_empty_lattice_is_an_utterance(tmp_path: Path) -> None:
    [lattice] = read(tmp_path, fsa())
    assert (lattice.id, lattice.arcs, lattice.states) == ("lats-0", 0, 0)


def test_without_an_n_gram_all_of_the_score_is_am_if_asked(table: Path) -> None:
    [lattice] = read_lattices(DATA / "no_lm_scores.pt", words=table, lm="none")
    assert paths(lattice) == [("cat sat", -4.5, 0.0)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_lm_scores.pt",
            r"no_lm_scores.pt: it has no lm_scores, so am and lm cannot be told apart; .*lm=none",
        ),
        ("no_aux_labels.pt", r"no_aux_labels.pt: it has no aux_labels, the words of its arcs"),
    ],
)
def test_what_lacks_something_is_told_so(name: str, message: str, table: Path) -> None:
    with pytest.raises(FormatError, match=message):
        list(read_lattices(DATA / name, words=table))


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("it ran",)


def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FormatError, match=r'lats.pt: it is a pickle that would run code \(".*mkdir"\), refused'
    ):
        read(tmp_path, {**fsa(*GOOD), "more": _Code()})
    assert not (tmp_path / "it ran").exists()


@pytest.mark.skipif(HAS_RAGGED, reason="this PyTorch reads ragged aux_labels")
def test_old_pytorch_says_that_it_cannot_read_ragged_labels(table: Path) -> None:
    with pytest.raises(
        FormatError, match=r"its aux_labels are ragged, which needs PyTorch 2.5 or later"
    ):
        list(read_lattices(DATA / "single_ragged.pt", "k2", words=table))


BATCH = [2, 0, 0, 2, 4, 0, 1, 2, 0, 1, -1, bits(-1.0), 0, 1, -1, bits(-2.0)]


def flat(numbers: list[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def batch(*numbers: int) -> dict[str, Any]:
    return {"arcs": flat(list(numbers)), "aux_labels": flat([0, 0]), "lm_scores": torch.zeros(2)}


def test_a_batch_by_hand(tmp_path: Path) -> None:
    assert [paths(lattice) for lattice in read(tmp_path, batch(*BATCH))] == [
        [("", -1.0, 0.0)],
        [("", -2.0, 0.0)],
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "holds a str, expected the as_dict"),
        ({"a": 1}, 'the entry "a" is a int'),
        ([{"x": 1}], "expected the as_dict"),
        ({1: fsa(*GOOD)}, 'the entry "1" is a dict'),
        ({"arcs": 3}, "arcs is a int, expected a dense tensor"),
        ({"arcs": torch.zeros(2, 4)}, "arcs is a tensor of torch.float32, expected torch.int32"),
        (fsa(*GOOD, aux_labels=None), "it has no aux_labels"),
        (
            fsa(*GOOD, aux_labels=torch.zeros(3, dtype=torch.int32)),
            r"aux_labels have the shape \(3,\), expected one for each of its 2 arcs",
        ),
        (
            fsa(*GOOD, lm_scores=torch.zeros(1)),
            r"is a tensor of torch.float32 and shape \(1,\), expected a float for each of 2 arcs",
        ),
        (
            fsa(*GOOD, lm_scores=torch.tensor([0.0, -np.inf])),
            "utterance lats-0: lm_scores of the arc from state 1 to state 2 is -inf",
        ),
        (
            fsa((0, 1, -1, -np.inf)),
            "lats-0: score of the arc from state 0 to state 1 is -inf, expected a finite number",
        ),
        (
            fsa(*GOOD, x=torch.tensor([0.0, np.nan])),
            'score "x" of the arc from state 1 to state 2 is nan',
        ),
        (fsa(*GOOD, am=torch.zeros(2)), 'an attribute is called "am" or "lm"'),
        (
            fsa((0, 1, 5, 0.0), (1, 0, 0, 0.0), (1, 2, -1, 0.0)),
            "utterance lats-0: has a cycle through state 0",
        ),
        (fsa((0, 1, -1, 0.0), (0, 2, -1, 0.0)), "arcs with the label -1 enter 2 states"),
        (fsa((0, -1, -1, 0.0)), "an arc has a negative state"),
        (fsa(*GOOD, aux_labels=torch.tensor([-5, -1], dtype=torch.int32)), "label -5 is negative"),
        (
            batch(10**9, *BATCH[1:]),
            r"arcs has the shape \(16,\), expected \(arcs, 4\), or the numbers of an FsaVec",
        ),
        (batch(*BATCH[:-1]), "the tensor arcs has the shape"),
        (batch(2, 0, 0, 4, 2, *BATCH[5:]), "the row splits of the FsaVec do not fit its 2 arcs"),
        (batch(2, 0, 0, 1, 4, *BATCH[5:]), "a lattice has states after its final one"),
        (
            {**fsa(*GOOD), "arcs": torch.zeros(1, dtype=torch.int32).expand(10**12)},
            "arcs is a tensor that repeats its numbers",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(tmp_path, content)


def test_a_label_that_the_table_lacks_is_named(tmp_path: Path, table: Path) -> None:
    with pytest.raises(
        FormatError,
        match=r"lats.pt: utterance lats-0: label 9 is not in the word table .*words.txt, "
        r"which has 5 symbols from 0 to 4",
    ):
        read(tmp_path, fsa(*GOOD, aux_labels=torch.tensor([9, -1], dtype=torch.int32)), words=table)
    with pytest.raises(
        FormatError,
        match=r"utterance lats-0: its labels are numbers; give the table that names them",
    ):
        read(tmp_path, fsa(*GOOD), words=None)


@pytest.mark.parametrize("data", [b"", b"not a torch file", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "lats.pt").write_bytes(data)
    with pytest.raises(
        FormatError, match=r"lats.pt: (not a file of torch.save|holds a|its zip is)"
    ):
        list(read_lattices(tmp_path / "lats.pt", "k2", words="none"))


def test_states_of_any_number_cost_no_memory(tmp_path: Path) -> None:
    [lattice] = read(tmp_path, fsa((0, 2**31 - 2, 5, -1.0), (2**31 - 2, 2**31 - 1, -1, 0.0)))
    assert (lattice.states, paths(lattice)) == (3, [("", -1.0, 0.0)])


def test_a_million_arcs_take_bounded_memory(tmp_path: Path) -> None:
    count = 10**6
    arcs = np.zeros((count, 4), np.int32)
    arcs[:, 0] = np.arange(count) // 4
    arcs[:, 1] = arcs[:, 0] + 1
    arcs[:, 2] = np.where(arcs[:, 1] == arcs[-1, 1], -1, np.arange(count) % 500)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [lattice] = read(
        tmp_path,
        {
            "arcs": torch.from_numpy(arcs),
            "aux_labels": torch.from_numpy(arcs[:, 2].copy()),
            "lm_scores": torch.zeros(count),
        },
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB, of the peak
    assert (lattice.arcs, lattice.states) == (count, count // 4 + 1)
    assert grown * 1024 < 500 * count
