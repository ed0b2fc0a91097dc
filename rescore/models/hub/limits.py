"""How long a sequence may be, from a configuration alone."""

from __future__ import annotations

from typing import Any

__all__ = ["attention_span", "max_length"]

#: Where configurations say how many positions there are.
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")

#: The longest sequence of a network whose configuration does not say.
_DEFAULT_LENGTH = 512

#: Architectures whose positions begin behind `pad_token_id`, so that the first ones stay unused.
_POSITIONS_BEHIND_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "mluke",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)

#: MPNet's positions begin at 2, whatever its padding id is.
_UNUSED_POSITIONS = {"mpnet": 2}

#: Where configurations say how far local attention reaches.
_LOCAL_ATTENTION = ("sliding_window", "window_size", "attention_chunk_size")


def max_length(config: Any) -> int:
    """The longest sequence the network's positions allow; 512 if its configuration does not say.

    Exact check:
    tests/models/test_hub_limits.py::test_the_longest_sequence_is_the_longest_that_runs.
    """
    lengths = [getattr(config, name, None) for name in _LENGTHS]
    length = next((int(length) for length in lengths if length), _DEFAULT_LENGTH)
    return length - _unused_positions(config)


def _unused_positions(config: Any) -> int:
    padding = getattr(config, "pad_token_id", None)
    if config.model_type in _POSITIONS_BEHIND_PADDING and padding is not None:
        return int(padding) + 1
    return _UNUSED_POSITIONS.get(config.model_type, 0)


def attention_span(config: Any) -> int:
    """The longest row on which attention does not depend on where in the row tokens stand.

    That is the number of positions, or the reach of local attention where there is some.
    """
    sizes = [max_length(config)]
    if getattr(config, "use_sliding_window", True):
        reaches = [getattr(config, name, None) for name in _LOCAL_ATTENTION]
        sizes += [reach for reach in reaches if isinstance(reach, int) and reach > 0]
    return min(sizes)
