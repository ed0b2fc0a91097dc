"""Models that lie about sizes, types and vocabularies are refused by arithmetic, in one line."""

from __future__ import annotations

import json
import os
import struct
import time

import pytest
import safetensors.torch
import torch
from small import save_small
from small_ngrams import model_of, zipf_text

from rescore.errors import ModelError
from rescore.models import ngram
from rescore.models.checkpoint import load
from rescore.models.network import Network, NetworkConfig, tensor_shapes
from rescore.models.opening import opening
from rescore.models.opening import tensor_shapes as shapes_of_file
from rescore.models.speech_network import SpeechConfig, SpeechNetwork, speech_tensor_shapes


def refusal(action):
    started = time.process_time()
    with pytest.raises(ModelError) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 5
    return str(caught.value)


@pytest.mark.parametrize("time_input", [False, True])
def test_shapes_by_arithmetic_are_those_of_the_network(time_input):
    config = NetworkConfig(11, 16, 3, 2, 24, time_input=time_input)
    state = Network(config).state_dict()
    assert dict(tensor_shapes(config)) == {name: tuple(w.shape) for name, w in state.items()}


def test_shapes_by_arithmetic_are_those_of_a_recogniser():
    for bins in (7, 23, 80):
        config = SpeechConfig(11, 16, 3, 2, 24, kernel=5, bins=bins)
        state = SpeechNetwork(config).state_dict()
        assert dict(speech_tensor_shapes(config)) == {
            name: tuple(weight.shape) for name, weight in state.items()
        }


def test_shapes_of_a_file_are_those_of_its_tensors(tmp_path):
    tensors = {
        "a": torch.zeros(3, 5),
        "b": torch.zeros(2, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.0, dtype=torch.float64),
        "none": torch.zeros(0, 4),
        "flags": torch.zeros(7, dtype=torch.bool),
    }
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors", {"about": "us"})
    assert shapes_of_file(tmp_path / "x.safetensors") == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "overlapping": {"a": entry([2], 0, 8), "b": entry([2], 4, 12)},
    "a gap": {"a": entry([2], 0, 8), "b": entry([1], 12, 16)},
    "beyond the file": {"a": entry([100], 0, 400)},
    "short of the file": {"a": entry([2], 0, 8)},
    "a shape that is too large": {"a": entry([2**40, 2**40], 0, 16)},
    "a negative shape": {"a": entry([-2, -2], 0, 16)},
    "a negative place": {"a": entry([4], -16, 0)},
    "an unknown dtype": {"a": entry([4], 0, 16, "F31")},
    "no object": {"a": [1]},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "a list": [],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_lie_are_refused(header, tmp_path):
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    assert refusal(lambda: shapes_of_file(path)).startswith(f"{path}: ")


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_lengths_of_headers_that_lie_are_refused(length, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    assert refusal(lambda: shapes_of_file(path)).startswith(f"{path}: the header ")


CONFIGS = {
    "objective": [["mdlm"], None, 1, {}, "x" * 500],
    "prediction": [[], None],
    "normalizer": [[], None, "magic", 3],
    "network": [None, [], 1, {}, {"vocab_size": "9"}],
    "card": ["text", [], 5],
    "version": [None, "1", 1.5, 2],
    "format": [None, []],
    "layers": [2.5, 10**9, 10**30, 0, -1, None, "2", True],
    "width": [0, 10**9, 3, 33],
    "heads": [0, -2, 3, 10**9, 1.0e300],
    "vocab_size": [10**9, 0, None],
    "feed_forward": [10**12, 0, "a"],
    "causal": [None, 1, "no", True],
    "time_input": [None, 0, True],
    "depth": [3],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CONFIGS.items() for value in values]
)
def test_a_configuration_that_does_not_fit_is_refused_before_anything_is_allocated(
    name, value, tmp_path
):
    save_small(tmp_path, "mdlm")
    path = tmp_path / "config.json"
    config = json.loads(path.read_bytes())
    place = config if name in ("network", *config) else config["network"]
    place[name] = value
    path.write_text(json.dumps(config))
    assert refusal(lambda: load(tmp_path)).startswith(str(tmp_path))


@pytest.mark.parametrize("order", [0, 2, 10**9, 2.5, None, [3]])
def test_an_ngram_model_of_another_order_is_refused(order, tmp_path):
    ngram.save(model_of(zipf_text(), 3)[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "order": order}))
    assert refusal(lambda: ngram.load(tmp_path)).startswith(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model"])
def test_pipes_and_devices_in_a_checkpoint_are_refused(name, tmp_path):
    save_small(tmp_path, "mdlm")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert "is a named pipe, expected a regular file" in refusal(lambda: load(tmp_path))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert "is a device, expected a regular file" in refusal(lambda: load(tmp_path))


def test_panics_of_libraries_are_one_line():
    class PanicException(BaseException):
        pass

    def panic():
        with opening("model", "restore it"):
            raise PanicException("called `unwrap()`\non a `None` value")

    assert refusal(panic) == (
        "model: cannot be opened (called `unwrap()` on a `None` value); restore it"
    )
    with pytest.raises(KeyboardInterrupt), opening("model", "restore it"):
        raise KeyboardInterrupt
