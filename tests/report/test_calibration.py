"""Word confidences against right words."""

import numpy as np
import pytest

from rescore.formats.record import from_dict
from rescore.fusion import Fusion, fuse
from rescore.report.page.calibration import Calibration, confidences_of
from rescore.text import librispeech


def nbest(text, ref="the old house", **hypothesis):
    return from_dict({"id": "u", "ref": ref, "hyps": [{"text": text, **hypothesis}]}, "x:1")


def test_reliability_of_words_by_hand():
    calibration = Calibration()
    calibration.add(nbest("the cold house"), (0.95, 0.35, 0.95), str)
    calibration.add(nbest("the old mouse now"), (0.95, 0.95, 0.35, 0.3), str)
    result = calibration.reliability()
    assert (result.words, result.right) == (7, 4 / 7)
    assert [(part.words, part.right) for part in result.bins] == [(3, 0.0), (4, 1.0)]
    assert result.bins[0].confidence == pytest.approx(1 / 3)
    assert result.ece == pytest.approx((3 * (1 / 3) + 4 * 0.05) / 7)
    share = 4 / 7
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    likelihood = (4 * np.log(0.95) + 2 * np.log(0.65) + np.log(0.7)) / 7
    assert result.nce == pytest.approx(1 + likelihood / entropy)


def test_without_words_there_is_none_and_without_errors_no_nce():
    assert Calibration().reliability() is None
    calibration = Calibration()
    calibration.add(nbest("the old house"), (1.0, 1.0, 1.0), str)
    assert calibration.reliability().nce is None


def test_a_normaliser_splits_words_and_removes_them():
    calibration = Calibration()
    calibration.add(nbest("The old-house !"), (0.9, 0.5, 0.1), librispeech)
    assert calibration.confidences == [0.9, 0.5, 0.5]
    assert calibration.rights == [True, True, True]


def test_confidences_come_from_the_list_or_from_its_totals():
    [plain] = fuse([nbest("a b", scores={"am": -1.0})], Fusion({"am": 1.0}))
    assert confidences_of(None)(plain) is None
    assert confidences_of(2.0)(plain) == (1.0, 1.0)
    assert confidences_of(2.0)(nbest("a b")) is None
    assert confidences_of(2.0)(nbest("a b", word_confidences=[0.5, 1])) == (0.5, 1.0)
