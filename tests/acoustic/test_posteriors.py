"""What posteriors promise, and the error for each broken promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rescore.acoustic.posteriors import Posteriors, tolerance
from rescore.acoustic.symbols import Symbols
from rescore.errors import FormatError

SYMBOLS = Symbols(("_", "a", "b"), 0)
ROWS = np.log(np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]], np.float32))
WHOLE = Posteriors("u", ROWS, SYMBOLS, 0.02, "dev.safetensors")


def with_value(value):
    rows = ROWS.copy()
    rows[1, 2] = value
    return rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_probs": ROWS.astype(np.float64)}, "utterance u: got float64 of shape (2, 3)"),
        ({"log_probs": ROWS[0]}, "got float32 of shape (3,)"),
        ({"log_probs": ROWS[:, :2]}, "has 2 columns, expected 3"),
        ({"log_probs": ROWS[:0]}, "has no frames"),
        ({"frame_shift": 0.0}, "the frame shift is 0.0"),
        ({"log_probs": with_value(np.nan)}, "frame 1: symbol 'b' has nan"),
        ({"log_probs": with_value(-np.inf)}, "frame 1: symbol 'b' has -inf"),
        ({"log_probs": with_value(-1.0)}, "frame 1: the log of the row's sum is 0.2"),
        (
            {"log_probs": np.exp(ROWS)},
            "frame 0: the log of the row's sum is 1.439, expected 0: these are probabilities",
        ),
        (
            {"log_probs": ROWS / np.float32(np.log(10))},
            "frame 0: the log of the row's sum is 0.6073",
        ),
        ({"log_probs": -ROWS}, "these are costs; change their sign"),
        ({"log_probs": ROWS + 3}, "apply log_softmax to logits"),
    ],
)
def test_a_broken_promise_is_named_with_file_utterance_and_frame(changes, message):
    with pytest.raises(FormatError) as error:
        replace(WHOLE, **changes).checked()
    assert message in str(error.value)
    assert str(error.value).startswith("dev.safetensors: utterance u")


def test_logs_to_base_ten_are_told():
    with pytest.raises(FormatError, match="logs to base 10; multiply them by ln 10"):
        replace(WHOLE, log_probs=ROWS / np.float32(np.log(10))).checked()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("symbols", [2, 32, 1025, 5000])
@pytest.mark.parametrize("sharpness", [0, 1, 10])
def test_rows_that_were_normalised_in_float32_are_within_the_tolerance(dtype, symbols, sharpness):
    logits = sharpness * np.random.default_rng(symbols).normal(size=(50, symbols))
    exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    stored = exact.astype(dtype)
    names = ("_", *(f"s{k}" for k in range(symbols - 1)))
    assert Posteriors("u", stored, Symbols(names, 0), 0.02).checked()
    off = np.abs(np.log(np.exp(stored.astype(np.float64)).sum(axis=1))).max()
    assert off < tolerance(np.dtype(dtype), symbols) / 2
