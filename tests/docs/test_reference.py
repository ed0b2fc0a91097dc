"""The generated reference: every public name with its signature, and no link that leads nowhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import rescore

pytestmark = pytest.mark.skipif(find_spec("pdoc") is None, reason="pdoc is not installed")

sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_public_name_is_there_with_its_signature_and_links_lead_somewhere(tmp_path):
    from api_reference import build  # noqa: PLC0415 - pdoc

    assert build(tmp_path, ["rescore", "rescore.types", "rescore.errors"]) == []
    page = (tmp_path / "rescore.html").read_text(encoding="utf-8")
    for name in rescore.__all__:
        assert f'id="{name}"' in page, name
    for keyword in ("estimator", "keep_incomplete", "beam_indices", "cross_validate"):
        assert keyword in page


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    from api_reference import broken_links  # noqa: PLC0415 - pdoc

    (tmp_path / "a.html").write_text('<p id="x"><a href="#x"><a href="#y"><a href="b.html">')
    assert broken_links(tmp_path) == ["a.html: #y", "a.html: b.html"]
