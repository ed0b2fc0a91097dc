"""Language models with a speech prompt: shapes, company, and states that are kept."""

from __future__ import annotations

import pytest
import torch
from small_prompted import TOKENIZER, small_prompted
from small_transcriber import SYMBOLS

from rescore.acoustic.prompted import load_prompted, save_prompted, text_network
from rescore.errors import ModelError
from rescore.models.kept_states import KeptStates
from rescore.models.network import Network, NetworkConfig
from rescore.models.prompted import HeardPrompt, projector_shapes, text_network_shapes

FRAMES = torch.tensor([60, 41])
TEXT = torch.tensor([[2, 5, 7, 6, 3], [2, 7, 5, 3, 0]])
PADDING = TEXT == 0


@pytest.fixture(scope="module")
def features():
    return torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1))


def test_shapes_by_arithmetic_are_those_of_the_parts():
    network = small_prompted(stride=4).network
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    expected = dict(projector_shapes(network.config))
    expected |= dict(text_network_shapes(network.language_model.network.config))
    own = {name: shape for name, shape in shapes.items() if not name.startswith("encoder.")}
    assert own == expected


@pytest.mark.parametrize("positions", ["emitted", "sequence"])
@pytest.mark.parametrize("causal", [False, True])
def test_company_and_padding_change_nothing(features, causal, positions):
    network = small_prompted(causal, positions=positions).network
    together = network.encode(TEXT % 7, network.hear(features, FRAMES), PADDING)
    alone = network.encode(TEXT[1:, :4] % 7, network.hear(features[1:, :41], FRAMES[1:]))
    assert torch.allclose(together[1, :4], alone[0], atol=1e-5)


def test_the_audio_matters_and_a_causal_text_does_not_see_what_follows(features):
    network = small_prompted().network
    one, other = (network.hear(x, FRAMES[:1]) for x in (features[:1], features[:1].flip(1)))
    assert not torch.allclose(network.encode(TEXT[:1], one), network.encode(TEXT[:1], other))
    network = small_prompted(causal=True).network
    heard = network.hear(features[:1], FRAMES[:1])
    first, second = (network.encode(torch.tensor([[2, 5, v]]), heard) for v in (4, 6))
    assert torch.allclose(first[0, :2], second[0, :2], atol=1e-6)
    assert not torch.allclose(first[0, 2], second[0, 2], atol=1e-3)


@pytest.mark.parametrize(("clock", "counts"), [("words", [0, 0, 0, 0, 1, 1]), ("symbols", None)])
def test_places_count_what_the_clock_counts(clock, counts):
    """CTC is sure of "ab a", whose b takes two frames; a word counts from its first letter on."""
    network = small_prompted(clock=clock, tokens_per_count=2.0).network
    space, a, b = (SYMBOLS.columns[symbol] for symbol in " ab")
    path = torch.tensor([a, b, b, SYMBOLS.blank, space, a])
    probs = torch.full((1, 6, len(SYMBOLS)), 1e-30).scatter_(2, path[None, :, None], 1.0)
    begun = network._tokens_begun(probs.log())[0] / 2.0
    assert begun.tolist() == pytest.approx(counts or [1, 2, 2, 2, 3, 4])


@pytest.mark.parametrize("positions", ["emitted", "sequence"])
@torch.no_grad()
def test_a_prompt_that_is_kept_gives_the_numbers_of_one_that_is_computed_anew(features, positions):
    """Three texts in turn behind one prompt, in float64: equal to rounding."""
    network = small_prompted(positions=positions).network.double()
    heard = network.hear(features[:1].double(), FRAMES[:1])
    model, count = network.language_model, int(heard.frames[0])
    states = KeptStates(model.blocks, count + 5)
    states.live = count
    states.advance(heard.prompt, model.angles(heard.places[0], torch.float64), torch.arange(count))
    states.live = count + 5
    angles = model.angles(network.text_places(heard, 5)[0], torch.float64)
    for tokens in (TEXT[:1], TEXT[:1].flip(1), torch.full((1, 5), 7)):
        kept = states.advance(model.embed(tokens), angles, count + torch.arange(5))
        whole = network.encode(tokens, heard)
        assert torch.allclose(model.network.final_norm(kept), whole, rtol=0, atol=1e-12)


@torch.no_grad()
def test_tokens_of_a_causal_text_are_kept_one_by_one(features):
    network = small_prompted(causal=True).network.double()
    heard = network.hear(features[:1].double(), FRAMES[:1])
    model, count = network.language_model, int(heard.frames[0])
    states = KeptStates(model.blocks, count + 5)
    states.live = count
    states.advance(heard.prompt, model.angles(heard.places[0], torch.float64), torch.arange(count))
    angles = model.angles(network.text_places(heard, 5)[0], torch.float64)
    parts = []
    for place in range(5):
        states.live = count + place + 1
        here = tuple(part[place : place + 1] for part in angles)
        token = model.embed(TEXT[:1, place : place + 1] % 7)
        parts.append(states.advance(token, here, torch.tensor([count + place])))
    whole = network.encode(TEXT[:1] % 7, heard)
    kept = model.network.final_norm(torch.cat(parts, dim=1))
    assert torch.allclose(kept, whole, rtol=0, atol=1e-12)


def test_multiplications_are_those_of_a_count_by_hand(features):
    """Two layers of width 16 and feed-forward 24: 2 x (4 x 16^2 + 3 x 16 x 24) a position."""
    network = small_prompted().network
    heard = network.hear(features[:1], FRAMES[:1])
    model, count = network.language_model, int(heard.frames[0])
    states = KeptStates(model.blocks, count)
    states.live = count
    with torch.no_grad():
        places = model.angles(heard.places[0], torch.float32)
        states.advance(heard.prompt, places, torch.arange(count))
    matrices, attention = 2 * (4 * 16**2 + 3 * 16 * 24), 2 * 2 * count * 16
    assert states.products == count * (matrices + attention)


@pytest.mark.parametrize("causal", [False, True])
def test_a_model_is_read_back(tmp_path, causal, features):
    model = small_prompted(causal, stride=4)
    save_prompted(model, tmp_path)
    loaded = load_prompted(tmp_path)
    assert loaded.signature == model.signature
    assert loaded.is_causal == causal
    heard, again = (one.network.hear(features, FRAMES) for one in (model, loaded))
    assert isinstance(heard, HeardPrompt)
    assert torch.equal(heard.prompt, again.prompt)


def test_what_takes_no_prompt_and_mixed_files_are_refused(tmp_path):
    sizes = NetworkConfig(TOKENIZER.size + 1, 16, 1, 2, 24, time_input=True)
    with pytest.raises(ModelError, match="takes no speech prompt"):
        text_network(Network(sizes), TOKENIZER)
    save_prompted(small_prompted(), tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"memory_width": 16', '"memory_width": 8'))
    with pytest.raises(ModelError, match="files of two models are mixed"):
        load_prompted(tmp_path)
