"""Damaged lattice files give a whole lattice or a RescoreError, within seconds; nothing else.

The error is one line that begins with the file.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from fuzzing import Hung, limited
from test_lattice_k2_pt import DATA, HAS_RAGGED
from test_lattice_kaldi_compact import ARCHIVE, NUMBERS
from test_lattice_openfst import STATES, TEXT, binary
from test_lattice_slf import HTK, POCKETSPHINX

from rescore.errors import RescoreError
from rescore.lattice import Lattice, lattice_format_of, read_lattices
from rescore.registry import LATTICE_FORMATS

CASES = 150
WORDS_ON_ARCS = (
    "VERSION=1.1\nbase=10\nN=2 L=2\nI=0\nI=1\n"
    'J=0 S=0 E=1 W="two words" a=-1 l=-2\n'
    "J=1 S=0 E=1 W=caf\\303\\251 a=-3 l=-4\n"
)
TIMED = "u\n0 1 a 1,-10,2_1\n0 2 b 1,-10,2\n2 1 c 0,0,5\n1 0,0,4_4\n\nv\n\n"
#: Format -> valid files of it with their options.
SAMPLES: dict[str, list[tuple[bytes, dict[str, object]]]] = {
    "k2": [
        ((DATA / name).read_bytes(), {"words": "none"})
        for name in ("batch.pt", "by_cut.pt", *(["batch_ragged.pt"] if HAS_RAGGED else []))
    ],
    "openfst": [
        (TEXT.encode(), {}),
        (f"u1\n{TEXT}\nu2\n{TEXT}\n".encode(), {"weights": "lm"}),
        (binary(STATES), {"words": "none"}),
    ],
    "kaldi-compact": [
        (ARCHIVE.encode(), {}),
        (NUMBERS.encode(), {"words": "none"}),
        (TIMED.encode(), {"frame_shift": 0.03}),
    ],
    "slf": [
        (HTK.encode(), {}),
        (POCKETSPHINX.encode(), {}),
        (WORDS_ON_ARCS.encode(), {"ids": "file"}),
    ],
}


def incomplete(lattice: Lattice) -> str | None:
    """Name a guarantee of Lattice that this one breaks, None if it keeps them all."""
    if not lattice.id.strip():
        return "no id"
    floats = [lattice.am, lattice.lm, *lattice.scores.values()]
    columns = [lattice.source, lattice.target, lattice.word, lattice.label, *floats]
    if {len(column) for column in columns} != {lattice.arcs} or not all(
        np.isfinite(column).all() for column in floats
    ):
        return "columns of other lengths, or numbers that are not finite"
    if lattice.arcs and not (
        (lattice.source < lattice.target).all()
        and 0 <= lattice.word.min() <= lattice.word.max() < len(lattice.symbols)
    ):
        return "arcs that go back, or words that have no symbol"
    if lattice.times is not None and (
        len(lattice.times) != lattice.states or not np.isfinite(lattice.times).all()
    ):
        return "times that do not fit the states"
    return None if lattice.symbols[0] == "" else "a word at index 0"


def fault(path: Path, name: str, options: dict[str, object]) -> str | None:
    """Say what is wrong with how a damaged file is read, None if nothing is."""
    try:
        with limited(5.0):
            for lattice in read_lattices(path, name, **options):
                wrong = incomplete(lattice)
                if wrong:
                    return wrong
            lattice_format_of(path)
    except RescoreError as error:
        message = str(error)
        return (
            None
            if message.startswith(str(path)) and "\n" not in message
            else f"a message that does not begin with the file: {message}"
        )
    except (Exception, Hung) as error:  # noqa: BLE001 - a fault is any other error
        return f"{type(error).__name__}: {error}"
    return None


def test_every_format_is_fuzzed() -> None:
    assert set(SAMPLES) == set(LATTICE_FORMATS)


@pytest.mark.filterwarnings("ignore")  # PyTorch warns about damaged files
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, i) for name, samples in SAMPLES.items() for i in range(len(samples))],
)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str, number: int) -> None:
    data, options = SAMPLES[name][number]
    path = tmp_path / "x"
    path.write_bytes(data)
    assert fault(path, name, options) is None
    assert len(list(read_lattices(path, name, **options))) >= 1
    for case in range(CASES):
        path.write_bytes(damaged(data, random.Random(case)))
        wrong = fault(path, name, options)
        if wrong:
            shutil.copy(path, tmp_path / "wrong")
        assert wrong is None, f"case {case}: {wrong}\n{path.read_bytes()[:600]!r}"
