"""The decoder that listens: its memory, and where frames stand in the text."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_transcriber import small_transcriber

from rescore.errors import ModelError
from rescore.models.audio_network import audio_network_shapes
from rescore.models.conditioned import (
    ConditionedConfig,
    ConditionedNetwork,
    conditioned_shapes,
    emitted,
    stacked,
)

FRAMES = torch.tensor([60, 41])


@pytest.fixture(scope="module")
def network():
    return small_transcriber().network


@pytest.fixture(scope="module")
def features():
    return torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1))


def test_shapes_by_arithmetic_are_those_of_a_decoder(network):
    config = ConditionedConfig(9, 16, 3, 2, 24, causal=True, memory_width=20)
    shapes = {name: tuple(w.shape) for name, w in ConditionedNetwork(config).state_dict().items()}
    assert dict(conditioned_shapes(config)) == shapes
    both = dict(audio_network_shapes(network.encoder.config, network.decoder.config))
    assert both == {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def test_emitted_symbols_are_the_mean_over_all_paths():
    log_probs = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    log_probs = (2 * log_probs).log_softmax(-1)
    expected = torch.zeros(4, dtype=torch.float64)
    for path in itertools.product(range(3), repeat=4):
        probability = sum(log_probs[0, k, v] for k, v in enumerate(path)).exp()
        begins = [v != 0 and (k == 0 or path[k - 1] != v) for k, v in enumerate(path)]
        expected += probability * torch.tensor(begins, dtype=torch.float64).cumsum(0)
    assert torch.allclose(emitted(log_probs, 0)[0], expected, atol=1e-12)


def test_company_and_padding_change_nothing(network, features):
    tokens = torch.tensor([[5, 6, 1, 6, 6], [5, 6, 6, 4, 0]])
    padding = torch.tensor([[False] * 5, [False] * 4 + [True]])
    heard = network.hear(features, FRAMES)
    together = network.decoder.encode(tokens, heard.memory, padding)
    alone = network.hear(features[1:, :41], FRAMES[1:])
    single = network.decoder.encode(tokens[1:, :4], alone.memory)
    assert torch.allclose(together[1, :4], single[0], atol=1e-5)
    both = stacked([heard.memory.rows(torch.tensor([0])), alone.memory])
    assert torch.allclose(network.decoder.encode(tokens, both, padding), together, atol=1e-5)


def test_a_deaf_row_hears_nothing_and_a_canvas_of_masks_has_different_positions(network, features):
    tokens = torch.tensor([[5, 6, 6, 6]] * 2)
    memory = network.hear(features, FRAMES).memory
    hidden = network.decoder.encode(tokens, memory)
    assert not torch.allclose(hidden[0], hidden[1], atol=1e-3)
    assert not torch.allclose(hidden[0, 1], hidden[0, 3], atol=1e-3)
    deaf = network.decoder.encode(tokens, memory.without_audio(torch.tensor([True, True])))
    assert torch.allclose(deaf[0], deaf[1], atol=1e-6)


def test_a_causal_decoder_does_not_see_what_follows(features):
    network = small_transcriber(causal=True).network
    memory = network.hear(features[:1], FRAMES[:1]).memory
    first, second = (network.decoder.encode(torch.tensor([[5, 1, v]]), memory) for v in (1, 2))
    assert torch.allclose(first[0, :2], second[0, :2], atol=1e-6)
    assert not torch.allclose(first[0, 2], second[0, 2], atol=1e-3)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="dropout"):
        ConditionedConfig(9, 16, 1, 2, 24, dropout=1.0)
    with pytest.raises(ModelError, match="time input"):
        ConditionedConfig(9, 16, 1, 2, 24, time_input=True)


@torch.no_grad()
def test_a_decoder_with_cached_keys_has_the_states_of_one_without():
    network = small_transcriber(causal=True).network.double()
    features = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)).double()
    memory = network.hear(features, torch.tensor([60, 41])).memory
    tokens = torch.tensor([[network.rows.bos, 1, 3, 2, 2], [network.rows.bos, 3, 3, 1, 2]])
    whole = network.decoder.encode(tokens, memory)
    past = network.decoder.no_past(2)
    for place in range(tokens.shape[1]):
        state, past = network.decoder.extend(tokens[:, place], memory, past)
        assert past.shape[4] == place + 1
        torch.testing.assert_close(state, whole[:, place], rtol=1e-12, atol=1e-12)
