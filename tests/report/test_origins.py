"""Which command made which score."""

from __future__ import annotations

from rescore.report.origins import Origins
from rescore.scorers import command_of
from rescore.types import Hypothesis, NBest, Provenance


def nbest(scores, provenance):
    return NBest("u", (Hypothesis("a", dict.fromkeys(scores, -1.0)),), provenance=provenance)


def test_a_line_a_score_names_the_commands_that_made_it():
    origins = Origins()
    made = {
        "ar": Provenance({"signature": "ar|1", "command": "dlmrescore score --scorer ar"}),
        "total": Provenance({"command": "dlmrescore fuse --fusion fusion.json"}),
        "plain": Provenance({"signature": "plain|1"}),
        "old": Provenance(None),
    }
    lists = [
        nbest(["am", "total", "ngram", "ar", "plain", "old"], made),
        nbest(["am", "ar"], {"ar": Provenance({"command": "dlmrescore score --scorer ar@runs"})}),
    ]
    assert list(origins.watched(lists)) == lists
    assert origins.lines() == [
        "am, ngram: came with the lists",
        "ar: dlmrescore score --scorer ar; or dlmrescore score --scorer ar@runs",
        "plain: plain|1",
        "old: the record does not say",
        "total: dlmrescore fuse --fusion fusion.json",
    ]


def test_the_command_of_a_score_holds_what_makes_a_difference():
    options = {"model": "my runs/m", "draws": 4, "seed": 0, "device": "cuda", "score_eos": False}
    assert command_of("x=mdlm:nelbo", options) == (
        "dlmrescore score --scorer 'mdlm:nelbo@my runs/m' --draws 4 --no-score-eos"
    )
    assert command_of("usdm", {}) == "dlmrescore score --scorer usdm"
    assert command_of(object(), {}) is None
