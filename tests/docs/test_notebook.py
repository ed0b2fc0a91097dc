"""docs/tutorial.ipynb runs from top to bottom, by the public interface, and shows its outputs.

`python tests/docs/test_notebook.py` runs it and stores the new outputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rescore

PATH = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


def executed() -> nbformat.NotebookNode:
    """The notebook with fresh outputs; raises CellExecutionError where a cell does."""
    notebook = nbformat.read(PATH, as_version=4)
    where = {"metadata": {"path": str(PATH.parent)}}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources=where,
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}  # not the version of whoever ran it
    return notebook


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows: streams by name, results by type."""
    return [
        output.get("name") or "+".join(sorted(output.get("data", [output.output_type])))
        for output in cell.outputs
    ]


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_what_is_stored(stored):
    fresh = executed()
    assert [kinds(cell) for cell in code(fresh)] == [kinds(cell) for cell in code(stored)]
    assert not [kind for cell in code(fresh) for kind in kinds(cell) if kind in ("stderr", "error")]


def test_the_stored_outputs_are_complete_and_small(stored):
    assert [cell.execution_count for cell in code(stored)] == list(
        range(1, len(code(stored)) + 1)
    )  # run once, from top to bottom
    shown = [kind for cell in code(stored) for kind in kinds(cell)]
    assert shown.count("image/png+text/plain") == 2
    assert shown.count("stdout") >= 5
    assert PATH.stat().st_size < 100_000


def test_the_tutorial_uses_the_public_interface(stored):
    used = "\n".join(cell.source for cell in code(stored))
    assert "from rescore." not in used
    assert "import rescore." not in used
    for name in ("read", "check", "score", "sweep", "tune", "fuse", "evaluate"):
        assert name in rescore.__all__
        assert f"rescore.{name}(" in used


if __name__ == "__main__":
    sys.exit(nbformat.write(executed(), PATH))
