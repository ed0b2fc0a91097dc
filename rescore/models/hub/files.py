"""The files of a Hugging Face model on disk, checked before transformers opens them.

Every file is regular, every JSON file is JSON, weights are as long as their headers say, and the
configuration asks for no network that the weights could not fill: its counts are compared with the
number of tensors and elements on disk, and then its parameters, which are counted on torch's meta
device, where nothing is allocated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rescore.errors import FormatError, ModelError
from rescore.formats.bounded import check_regular, open_regular, readable_size
from rescore.formats.files import names_in
from rescore.formats.zips import check_stored
from rescore.models.opening import read_file, tensor_shapes

__all__ = ["Weights", "check_directory", "check_loaded", "check_network", "check_tokens"]

_ADVICE = "restore the file"

#: Integers of a configuration that count no part of a network.
_NO_COUNT = re.compile(r"(_ids?|token\w*|theta|version|seed|sampling_rate|\d+)$")

#: Those that count modules: a network of a million layers takes an hour to build, even empty.
_MODULES = re.compile(r"layer|group|expert|block|stage|depth|branch|repeat")

#: What a configuration may ask for whatever the weights hold: modules, and other counts.
_FEW_MODULES, _FEW = 1024, 1 << 17

#: Parameters that are used in training only, so that checkpoints may lack them.
_TRAINING_ONLY = ("masked_spec_embed",)


class Weights(NamedTuple):
    """What the files of weights hold: tensors, elements (at most), bytes; None: no such file."""

    tensors: int
    elements: int
    size: int


def check_directory(directory: Path) -> Weights | None:
    """Check every file, and the counts of `config.json`; return what the weights hold.

    Raises ModelError, one line that names the file.
    """
    try:
        names = names_in(directory)
        for name in names:
            if not (directory / name).is_dir():
                check_regular(directory / name)
    except FormatError as error:
        raise ModelError(f"{error}; remove it from the model's directory") from error
    config = _read_json(directory / "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{directory / 'config.json'}: holds no object; {_ADVICE}")
    for name in names:
        if name.endswith(".json") and name != "config.json":
            _read_json(directory / name)
    files = _weight_files(directory, names)
    weights = _held(files) if files else None
    if weights is not None:
        _check_counts(config, weights, directory / "config.json")
    return weights


def _read_json(path: Path) -> Any:
    """As transformers reads JSON: NaN is let through, depth and size are not."""
    data = read_file(path, "a file of the model", _ADVICE)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: broken JSON ({str(error)[:100]}); {_ADVICE}") from error


def _weight_files(directory: Path, names: list[str]) -> list[Path]:
    """The files that transformers would load, the first kind that there is."""
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if stem + suffix in names:
            return [directory / (stem + suffix)]
        index = directory / f"{stem}{suffix}.index.json"
        if index.name in names:
            return _indexed(index)
    return []


def _indexed(index: Path) -> list[Path]:
    content = _read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    files = set(shards.values()) if isinstance(shards, dict) and _are_texts(shards) else {None}
    if not files or not all(name and Path(name).name == name for name in files):
        raise ModelError(f"{index}: names no files of weights in this directory; {_ADVICE}")
    return [index.parent / str(name) for name in sorted(map(str, files))]


def _are_texts(shards: Mapping[str, Any]) -> bool:
    return all(isinstance(name, str) for name in shards.values())


def _held(files: list[Path]) -> Weights:
    tensors = elements = size = 0
    for path in files:
        try:
            status = check_regular(path)
            if path.suffix == ".bin":
                with open_regular(path) as file:
                    check_stored(file, str(path))
        except FormatError as error:
            raise ModelError(f"{error}; {_ADVICE}") from error
        size += status.st_size
        if path.suffix == ".bin":  # what is in it is known to torch alone
            elements += status.st_size
            tensors = _FEW_MODULES
        else:
            shapes = tensor_shapes(path)
            tensors += len(shapes)
            elements += sum(map(math.prod, shapes.values()))
    return Weights(tensors, elements, size)


def _check_counts(config: Mapping[str, Any], weights: Weights, path: Path) -> None:
    """Raise ModelError for an integer that no network with these weights can have."""
    for name, value in _integers(config):
        if _NO_COUNT.search(name):
            continue
        is_modules = _MODULES.search(name) is not None
        most = max(weights.tensors, _FEW_MODULES) if is_modules else max(weights.elements, _FEW)
        if value > most:
            held = f"{weights.tensors} tensors" if is_modules else f"{weights.elements} numbers"
            raise ModelError(
                f"{path}: {name[:60]} is {value if value < 10**18 else 'a huge number'}, and the "
                f"weights hold {held}; files of two models are mixed, or the file is damaged"
            )


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    stack = [(name, value)]
    while stack:
        name, item = stack.pop()
        if isinstance(item, Mapping):
            stack += [(str(key), inner) for key, inner in item.items()]
        elif isinstance(item, list):
            stack += [(name, inner) for inner in item]
        elif type(item) is int:
            yield name, item


def check_network(kind: Any, config: Any, weights: Weights, model: str) -> None:
    """Raise ModelError if the network of a configuration has more parameters than its weights.

    `kind` is a class of transformers. Quantised weights hold up to eight parameters a byte.
    """
    if not hasattr(torch, "device") or not hasattr(torch.device, "__enter__"):
        return  # torch 1 cannot build a network without its memory
    try:
        with torch.device("meta"):
            network = kind.from_config(config)
    except NotImplementedError:  # an operation that the meta device lacks
        return
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    count = sum(tensor.numel() for tensor in tensors.values())
    is_quantised = getattr(config, "quantization_config", None) is not None
    most = 8 * weights.size if is_quantised else 2 * weights.elements + _FEW
    if count > most:
        raise ModelError(
            f"{model}: its configuration asks for {count} parameters, its weights hold "
            f"{weights.elements} ({readable_size(weights.size)}); files of two models are mixed"
        )


def check_loaded(report: Mapping[str, Any], model: str) -> None:
    """Raise ModelError if the weights left a part of the network at random values.

    `report` is what `from_pretrained` says with `output_loading_info`.
    """
    missing = [name for name in report.get("missing_keys", ()) if _is_used(str(name))]
    if missing:
        raise ModelError(
            f"{model}: its weights lack {len(missing)} tensors of the network, such as "
            f"{min(missing)[:80]!r}; a score of them would be random, give a model with this head"
        )


def _is_used(name: str) -> bool:
    return not name.endswith(_TRAINING_ONLY)


def check_tokens(tokenizer: Any, rows: int, model: str) -> None:
    """Raise ModelError if the tokenizer has ids for which the network has no row."""
    vocabulary = tokenizer.get_vocab()
    special = [
        getattr(tokenizer, f"{name}_token_id", None)
        for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    ]
    ids = [*vocabulary.values(), *(number for number in special if number is not None)]
    if not vocabulary or not all(type(number) is int and number >= 0 for number in ids):
        raise ModelError(f"{model}: its tokenizer has no vocabulary of numbered pieces; {_ADVICE}")
    if max(ids) >= rows:
        raise ModelError(
            f"{model}: its tokenizer has the id {max(ids)}, and the network {rows} rows; "
            "files of two models are mixed"
        )
