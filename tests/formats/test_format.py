"""One `Format` for lists and lattices: what it declares is what its reader and writer do."""

import inspect

import pytest

from rescore.errors import FormatError
from rescore.formats import Format
from rescore.lattice import LatticeFormat
from rescore.registry import KINDS, lookup

FORMATS = [
    pytest.param(kind, lookup(KINDS[kind].builtin, name, kind), id=name)
    for kind in ("format", "lattice format")
    for name in sorted(KINDS[kind].builtin)
]


def keywords(function):
    return {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize(("kind", "format"), FORMATS)
def test_declared_options_are_the_keywords_of_reader_and_writer(kind, format):
    python_only = {"skipped"} if kind == "format" else {"unnamed"} if format.takes_ids else set()
    assert keywords(format.read) == set(format.read_options) | python_only
    if format.is_writable:
        assert keywords(format.write) == set(format.write_options)
    else:
        assert not format.write_options


@pytest.mark.parametrize(("kind", "format"), FORMATS)
def test_a_format_is_registered_under_its_name_and_says_what_it_is(kind, format):
    assert lookup(KINDS[kind].builtin, format.name, kind) is format
    assert format.help


@pytest.mark.parametrize(("kind", "format"), FORMATS)
def test_proof_in_words_and_in_code_go_together(kind, format):
    plain = Format("plain", format.read)
    in_code = (format.proven_by, format.proven_by_bytes, format.proven_by_names)
    none = (plain.proven_by, plain.proven_by_bytes, plain.proven_by_names)
    assert bool(format.proof) == (in_code != none)


def test_a_format_without_a_writer_says_so():
    plain = Format("plain", lambda path: iter(()))
    assert not plain.is_writable
    with pytest.raises(FormatError, match=r"^this format can be read but not written; "):
        plain.write([], "out")


def test_nothing_proves_a_format_that_declares_no_proof():
    plain = Format("plain", lambda path: iter(()))
    assert not plain.proven_by("a")
    assert not plain.proven_by_bytes(b"a")
    assert not plain.proven_by_names({"a"})


def test_lattices_have_the_same_class():
    assert isinstance(LatticeFormat("plain", lambda path: iter(())), Format)
