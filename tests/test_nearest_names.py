"""Names that are nearly right: the one that was meant."""

from __future__ import annotations

import pytest

from rescore.arguments import close_to, nearest
from rescore.errors import RescoreError
from rescore.installation import install_hint
from rescore.registry import FORMATS, SCORERS, lookup
from rescore.wer.counts import units


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("usmd", ["ar", "mdlm", "usdm"], "usdm"),  # a transposition is one edit
        ("mdl", ["mdlm", "mlm"], "mdlm"),
        ("USDM", ["ar", "usdm"], "usdm"),
        ("whisper", ["none", "whisper-basic"], "whisper-basic"),  # a beginning
        ("estmator", ["estimator", "model"], "estimator"),
        ("am", ["ar", "lm"], None),  # two letters are too few to tell
        ("bert", ["ar", "mdlm", "usdm"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_within_an_edit_in_three_characters(name, known, meant):
    assert nearest(name, known) == meant
    assert close_to(name, known) == ("" if meant is None else f'; did you mean "{meant}"?')


def test_every_lookup_by_name_says_what_was_meant():
    for call, meant in (
        (lambda: lookup(SCORERS, "usmd", "scorer"), "usdm"),
        (lambda: lookup(FORMATS, "jsnl", "format"), "jsonl"),
        (lambda: units("a b", "wrod"), "word"),
    ):
        with pytest.raises(RescoreError, match=f'did you mean "{meant}"'):
            call()


def test_the_hint_installs_from_the_source():
    assert install_hint("plot").endswith("pip install '.[plot]'")
