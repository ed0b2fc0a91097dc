"""The one place where a model's files are opened: sizes are checked before anything is allocated.

Whatever goes wrong is a ModelError of one line that names the file; what a library said of it is
the error's cause. A model is data: nothing in it is executed. `tensor_shapes` reads the header of a
safetensors file, so that a network of 10^9 rows is refused by arithmetic.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from rescore.errors import FormatError, ModelError, RescoreError
from rescore.formats.bounded import PathLike, check_regular, open_regular
from rescore.formats.files import read_bytes
from rescore.formats.strict_json import decode, described

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "FORMAT",
    "PROMPTED_FORMAT",
    "RECOGNISER_FORMAT",
    "TRANSCRIBER_FORMAT",
    "VERSION",
    "check_device",
    "checked_field",
    "has_format",
    "network_config",
    "one_line",
    "opening",
    "read_config",
    "read_file",
    "tensor_shapes",
]

#: What `config.json` of the models of this package begins with, of its recognisers, of encoders
#: with a decoder, and of language models behind a speech prompt.
FORMAT, RECOGNISER_FORMAT, VERSION = "dlmrescore-model", "dlmrescore-recogniser", 1
TRANSCRIBER_FORMAT, PROMPTED_FORMAT = "dlmrescore-transcriber", "dlmrescore-prompted"

Sizes = TypeVar("Sizes", bound="DataclassInstance")

#: The longest header of a safetensors file, as the library has it.
_LONGEST_HEADER = 100_000_000

#: Bytes of an element, by safetensors' names of dtypes.
_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


class _Tensor(msgspec.Struct):
    """One entry of a header."""

    dtype: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], int]


@contextmanager
def opening(model: PathLike, advice: str, problem: str = "cannot be opened") -> Iterator[None]:
    """Raise whatever goes wrong while a model is opened as ModelError in one line.

    Rust's libraries raise PanicException, which is no Exception.
    """
    try:
        yield
    except ModelError:
        raise
    except RescoreError as error:
        place = "" if str(model) in str(error) else f"{model}: {problem}: "
        raise ModelError(f"{place}{error}") from error
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ModelError(f"{model}: {problem} ({one_line(error)}); {advice}") from error


def check_device(device: str) -> None:
    """Raise ModelError for a device that torch does not know or does not have."""
    import torch  # noqa: PLC0415 - options are plain data until a model is opened

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]});"
            " use cpu or a device that torch has"
        ) from error


def one_line(error: BaseException) -> str:
    """Return the first 160 characters of what a library says of an error, on one line."""
    text = " ".join(str(error).split()).rstrip(".:;") or type(error).__name__
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError | ZeroDivisionError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 160 else f"{text[:157]}..."


def read_file(path: Path, what: str, advice: str) -> bytes:
    """Return a whole file of a model. Raises ModelError, which calls it `what`."""
    try:
        return read_bytes(path)
    except FormatError as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix("; check the path")
        raise ModelError(f"{path}: {what} {reason}; {advice}") from error


def has_format(directory: Path, format: str) -> bool:
    """Whether the `config.json` of a directory begins with this format."""
    try:
        config = decode(read_bytes(directory / "config.json"), "")
    except FormatError:
        return False
    return isinstance(config, dict) and config.get("format") == format


def read_config(path: Path, advice: str, format: str = FORMAT) -> dict[str, Any]:
    """Return the `config.json` of a model of this package, of a version that this release reads.

    Raises ModelError.
    """
    data = read_file(path, "the model's configuration", advice)
    try:
        config = decode(data, str(path))
    except FormatError as error:
        raise ModelError(f"{error}; restore the file") from error
    actual = config.get("format") if isinstance(config, dict) else None
    if actual == RECOGNISER_FORMAT != format:
        raise ModelError(
            f"{path}: a CTC recogniser, expected a language model; `dlmrescore posteriors` runs it"
            if format == FORMAT
            else f"{path}: a CTC recogniser, expected a {format}; {advice}"
        )
    if actual != format:
        raise ModelError(f"{path}: not a {format} configuration; {advice}")
    if config.get("version") != VERSION:
        raise ModelError(
            f"{path}: version {described(config.get('version'))}, this release reads {VERSION}; "
            "update dlmrescore"
        )
    return dict(config)


def network_config(
    kind: type[Sizes], config: Mapping[str, Any], path: Path, name: str = "network"
) -> Sizes:
    """Return the field `name` of a configuration, the sizes of a network.

    Raises ModelError for an unknown or missing size, or one of another type.
    """
    sizes = checked_field(config, name, dict, path)
    unknown = sorted(set(sizes) - {one.name for one in dataclasses.fields(kind)})
    try:
        if unknown:
            raise ModelError(f"the network has no size {unknown[0][:60]!r}")
        return msgspec.convert(sizes, kind)
    except (msgspec.ValidationError, ModelError) as error:
        raise ModelError(
            f"{path}: the configuration does not fit ({error}); restore the file"
        ) from error


def checked_field(config: Mapping[str, Any], name: str, kind: type[Any], path: Path) -> Any:
    """Return a field of a configuration that is of exactly this type. Raises ModelError."""
    value = config.get(name)
    if type(value) is not kind:
        expected = {str: "a string", int: "a whole number", dict: "an object"}[kind]
        raise ModelError(
            f'{path}: the configuration does not fit: "{name}" is {described(value)}, expected '
            f"{expected}; restore the file"
        )
    return value


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a safetensors file, from its checked header.

    The tensors lie one after the other, without gap or overlap, to the end of the file. Raises
    ModelError for a file that is cut off or damaged, or whose header promises something else.
    """
    try:
        size = check_regular(path).st_size
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _LONGEST_HEADER):
                raise ModelError(
                    f"{path}: the header has {length} bytes and the file {size}; it is cut off or "
                    "no safetensors file, restore it"
                )
            header = file.read(length)
    except FormatError as error:
        raise ModelError(f"{error}; restore the file") from error
    tensors = _tensors(header, path)
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, next_begin = tensor.data_offsets
        count = math.prod(tensor.shape) * _ITEM_SIZES.get(tensor.dtype, 0)
        is_known = tensor.dtype in _ITEM_SIZES
        if begin != end or next_begin != end + count or not is_known:
            raise ModelError(
                f"{path}: the tensor {json.dumps(name[:60])} of shape {tuple(tensor.shape[:8])} "
                f"and dtype {tensor.dtype[:20]!r} does not fit its place in the file; restore it"
            )
        end = next_begin
    if 8 + length + end != size:
        raise ModelError(
            f"{path}: holds {size} bytes, its header describes {8 + length + end}; it is cut off "
            "or damaged, restore it"
        )
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _tensors(header: bytes, path: Path) -> dict[str, _Tensor]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, Any])
        entries.pop("__metadata__", None)
        return msgspec.convert(entries, dict[str, _Tensor])
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: the header is damaged ({one_line(error)}); restore the file"
        ) from error
