"""k2's lattices as PyTorch files: `torch.save(lattice.as_dict(), "lats.pt")`, read without k2.

Source: k2-fsa/k2, k2/python/k2/fsa.py `Fsa.as_dict`; k2/csrc/fsa.cu `FsaToTensor`,
`FsaVecToTensor`; k2/python/csrc/torch/v2/any.cu (how a RaggedTensor is pickled); k2-fsa/icefall,
icefall/decode.py `Nbest.compute_am_scores`. The dict has

    arcs         int32: (A, 4) of one Fsa; of an FsaVec of F lattices one axis: F, 0, F + 1 row
                 splits of states, F + 1 of arcs, then 4 numbers an arc: source, target, label, and
                 the bits of the float32 score. States count from 0 in each lattice; label -1 enters
                 the final state
    aux_labels   (A,) int32, or a RaggedTensor: the words of each arc; 0 and -1 are none. An arc
                 with several words becomes a chain, with its scores on the first arc
    lm_scores    (A,) float32: the n-gram's part of the score. As in icefall, lm = lm_scores and
                 am = score - lm_scores
    others       every further (A,) tensor of floats becomes a score of that name; anything else is
                 ignored

A file is one such dict, a list of them, or a dict of them by cut id; a directory is its files that
end in `.pt`. Ids are the keys of a dict; or else the `ids` option; or else the name of the file and
the number of the lattice in it, `lats-0`. Nothing in a file is executed: it is loaded with
`weights_only=True`, and a stand-in takes the place of RaggedTensor (PyTorch 2.5 or later).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, one_of
from rescore.formats.files import PathLike, name_of, names_in, stem_of, text_lines
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.lattice.formats.base import SYMBOL_OPTIONS
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import Symbols, chosen_symbols

__all__ = ["K2", "read"]


def read(
    path: PathLike,
    *,
    words: PathLike | None = None,
    bpe: PathLike | None = None,
    nonwords: Collection[str] = (),
    lm: str = "lm_scores",
    ids: PathLike | Sequence[str] | None = None,
    unnamed: Sequence[str] | None = None,
) -> Iterator[Lattice]:
    """Yield the lattices of a file, or of the `.pt` files of a directory, one file in memory.

    `words` or `bpe` name the labels; `words="none"`: the numbers are the words. `lm="none"` reads
    lattices without an n-gram score: lm = 0. `ids`: the ids in the order of the lattices, or a file
    with one a line. `unnamed`: the same for the lattices that no key in the file names.
    Raises FormatError naming the file and the lattice: for a pickle with code, missing aux_labels
    or lm_scores, labels outside the table, scores that are not finite, and another number of ids
    than of lattices.
    """
    symbols = chosen_symbols(words, bpe, nonwords)
    files = (
        [os.path.join(path, name) for name in names_in(path) if name.endswith(".pt")]
        if os.path.isdir(path)
        else [os.fspath(path)]
    )
    if not files:
        raise FormatError(
            f"{name_of(path)}: the directory holds no file that ends in .pt; "
            "name the one with the lattices"
        )
    keyed = (one for file in files for one in _keyed(file, symbols, words == "none", lm == "none"))
    lattices: Iterator[Lattice] = (lattice for _, lattice in keyed)
    if ids is not None:
        lattices = _named(lattices, ids, path)
    elif unnamed is not None:
        lattices = _named_where_unnamed(keyed, unnamed, path)
    return each_once(lattices, "read")


def _named_where_unnamed(
    keyed: Iterator[tuple[bool, Lattice]], unnamed: Sequence[str], path: PathLike
) -> Iterator[Lattice]:
    """Give the ids, in order, to lattices that no key names; all ids are used, or none."""
    used = 0
    for is_named, lattice in keyed:
        used += not is_named
        if used > len(unnamed):
            raise FormatError(
                f"{name_of(path)}: there are more lattices than the {len(unnamed)} ids of their "
                "manifest; give the manifest of this very set"
            )
        yield lattice if is_named else replace(lattice, id=unnamed[used - 1])
    if 0 < used < len(unnamed):
        raise FormatError(
            f"{name_of(path)}: there are {used} lattices and {len(unnamed)} ids in their manifest; "
            "give the manifest of this very set"
        )


def _named(
    lattices: Iterator[Lattice], ids: PathLike | Sequence[str], path: PathLike
) -> Iterator[Lattice]:
    names = _lines_of(ids) if isinstance(ids, str | os.PathLike) else list(ids)
    count = 0
    for count, lattice in enumerate(lattices, 1):
        if count <= len(names):
            yield replace(lattice, id=names[count - 1])
    if count != len(names):
        raise FormatError(
            f"{name_of(path)}: there are {count} lattices and {len(names)} ids, expected one each"
        )


def _lines_of(path: PathLike) -> list[str]:
    return [line.strip() for _, line in text_lines(path) if line.strip()]


def _keyed(
    file: str, symbols: Symbols | None, may_be_numbers: bool, is_without_lm: bool
) -> Iterator[tuple[bool, Lattice]]:
    """Whether the file has an id for the lattice, and the lattice."""
    from rescore.lattice.formats.k2_tensors import Arrays, load  # noqa: PLC0415 - torch

    where, number = name_of(file), 0
    for key, saved in _dicts(load(file), where):
        at = where if key is None else f"{where}: {key}"
        arcs = Arrays(saved, at, is_without_lm)
        for i, fsa in enumerate(arcs.fsas):
            if key is None:
                id = f"{stem_of(file)}-{number}"
            else:
                id = key if len(arcs.fsas) == 1 else f"{key}-{i}"
            number += 1
            yield key is not None, arcs.lattice(fsa, id, symbols, may_be_numbers, where)


def _dicts(loaded: object, where: str) -> Iterator[tuple[str | None, Mapping[str, object]]]:
    """(id or None, dict of a lattice or of a batch of them)."""
    if isinstance(loaded, dict) and "arcs" in loaded:
        yield None, loaded
        return
    entries: Iterable[tuple[object, object]]
    if isinstance(loaded, dict):
        entries = loaded.items()
    elif isinstance(loaded, list):
        entries = [(None, entry) for entry in loaded]
    else:
        raise FormatError(
            f"{where}: holds a {type(loaded).__name__}, expected the as_dict() of a lattice, a "
            "list of them, or a dict of them by cut id"
        )
    for key, entry in entries:
        is_lattice = isinstance(entry, dict) and "arcs" in entry
        if not (isinstance(entry, dict) and is_lattice) or not isinstance(key, str | None):
            raise FormatError(
                f'{where}: the entry "{short(str(key))}" is a {type(entry).__name__}, expected '
                'the as_dict() of a lattice (it has no "arcs")'
            )
        yield key, entry


def _is_k2(head: bytes) -> bool:
    return (
        head.startswith(b"PK\x03\x04")
        and b"/data.pkl" in head[:1024]
        and b"X\x04\x00\x00\x00arcs" in head
    )


K2 = Format(
    "k2",
    read,
    proven_by_bytes=_is_k2,
    help="k2's lattices saved by torch.save(lattice.as_dict(), path): one, a batch, a list, or a "
    "dict by cut id",
    proof="a PyTorch file whose pickle names `arcs`",
    takes_ids=True,
    read_options={
        **SYMBOL_OPTIONS,
        "lm": Option(
            "none: the lattices have no lm_scores, all of the score is am; default lm_scores",
            one_of("lm_scores", "none"),
            "lm_scores or none",
        ),
        "ids": Option("a file with the ids of the lattices, one a line", is_file=True),
    },
)
