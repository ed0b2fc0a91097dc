"""The CTC encoder: shapes, independence of the batch, and its sizes."""

from __future__ import annotations

import pytest
import torch

from rescore.errors import ModelError
from rescore.models.speech_network import (
    SHORTEST,
    SpeechConfig,
    SpeechNetwork,
    normalised,
    output_frames,
)

SMALL = SpeechConfig(5, width=16, layers=2, heads=2, feed_forward=24, kernel=5, bins=20)


def network(config=SMALL):
    torch.manual_seed(0)
    made = SpeechNetwork(config).double().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2)
    return made


def features(*frames, seed=0):
    torch.manual_seed(seed)
    padded = torch.full(
        (len(frames), max(frames), SMALL.bins), 7.0, dtype=torch.float64
    )  # padding that is not zero
    for row, length in zip(padded, frames, strict=True):
        row[:length] = torch.randn(length, SMALL.bins, dtype=torch.float64)
    return padded, torch.tensor(frames)


@pytest.mark.parametrize("frames", range(SHORTEST, 40))
def test_the_output_is_as_long_as_promised(frames):
    log_probs, lengths = network()(*features(frames))
    assert log_probs.shape == (1, lengths.item(), 5)
    assert lengths.item() == output_frames(torch.tensor(frames)).item() == (frames - 3) // 4


def test_audio_shorter_than_a_frame_has_none():
    assert output_frames(torch.arange(SHORTEST)).tolist() == [0] * SHORTEST


def test_every_row_is_a_distribution_in_float32():
    log_probs, _ = network().float()(features(30, 23)[0].float(), torch.tensor([30, 23]))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 6))


def test_no_utterance_depends_on_its_batch():
    x, frames = features(31, 7, 52, 20)
    together, lengths = network()(x, frames)
    for number, length in enumerate(frames.tolist()):
        alone, _ = network()(x[number : number + 1, :length], frames[number : number + 1])
        torch.testing.assert_close(
            together[number, : lengths[number]], alone[0], rtol=1e-10, atol=1e-10
        )


def test_features_are_normalised_over_the_utterance_alone():
    x, frames = features(31, 12)
    y = normalised(3 * x + 5, frames)
    for row, length in zip(y, frames.tolist(), strict=True):
        torch.testing.assert_close(
            row[:length].mean(0), torch.zeros(20, dtype=torch.float64), atol=1e-10, rtol=0
        )
        torch.testing.assert_close(
            row[:length].std(0, unbiased=False),
            torch.ones(20, dtype=torch.float64),
            atol=1e-3,
            rtol=0,
        )
        assert not row[length:].any()


def test_a_bin_that_never_changes_is_zero():
    silence = torch.full((1, 9, 20), -15.9)
    assert normalised(silence, torch.tensor([9])).abs().max() < 1e-2  # float32 rounds the mean


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kernel": 4}, "kernel is 4, expected an odd number"),
        ({"dropout": 1.0}, "dropout is 1.0, expected 0 or more, below 1"),
        ({"bins": 5}, "5 bins, expected at least 7"),
        ({"heads": 3}, "width 16 must be heads"),
        ({"layers": 0}, "every size must be positive"),
        ({"symbols": 0}, "every size must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, complaint):
    with pytest.raises(ModelError, match=complaint):
        SpeechConfig(**{**vars(SMALL), **change})
