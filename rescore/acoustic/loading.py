"""A recogniser by name: a directory of ours, or a Hugging Face CTC model by id or directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rescore.acoustic.encoder import Encoder
from rescore.acoustic.windows import Windows
from rescore.errors import ModelError
from rescore.models.opening import check_device

if TYPE_CHECKING:
    import torch

    from rescore.acoustic.recognition import PosteriorTask

__all__ = ["DTYPES", "EncoderOptions", "load_encoder", "load_task"]

#: dtype of a network's body; auto: bfloat16 on a GPU that computes in it, float32 elsewhere.
DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class EncoderOptions:
    """A recogniser and where it runs; `dtype` is one of `DTYPES`."""

    model: str
    device: str = "cpu"
    dtype: str = "auto"
    remote_code: bool = False


def load_encoder(options: EncoderOptions) -> Encoder:
    """Load a recogniser. Raises ModelError, also for a device that cannot be used."""
    from rescore.acoustic.recogniser import (  # noqa: PLC0415 - torch takes seconds
        is_recogniser,
        load_recogniser,
    )
    from rescore.acoustic.transcriber import is_transcriber, load_transcriber  # noqa: PLC0415

    check_device(options.device)
    directory = Path(options.model)
    if is_recogniser(directory) or is_transcriber(directory):
        if options.dtype == "bfloat16":
            raise ModelError(f"{directory}: our recognisers compute in float32; leave --dtype out")
        recogniser = (
            load_recogniser(directory)
            if is_recogniser(directory)
            else load_transcriber(directory).recogniser
        )
        recogniser.network.to(options.device)
        return recogniser
    from rescore.acoustic.hub import load_hub_encoder  # noqa: PLC0415 - torch takes seconds

    return load_hub_encoder(
        options.model,
        device=options.device,
        dtype=_torch_dtype(options),
        remote_code=options.remote_code,
    )


def load_task(options: EncoderOptions, windows: Windows) -> PosteriorTask:
    """The work of `dlmrescore posteriors`, as each process loads it. Raises ModelError."""
    from rescore.acoustic.recognition import PosteriorTask  # noqa: PLC0415

    return PosteriorTask(load_encoder(options), windows)


def _torch_dtype(options: EncoderOptions) -> torch.dtype:
    import torch  # noqa: PLC0415

    is_auto = options.dtype == "auto"
    has_bfloat16 = options.device.startswith("cuda") and torch.cuda.is_bf16_supported()
    is_narrow = options.dtype == "bfloat16" or (is_auto and has_bfloat16)
    return torch.bfloat16 if is_narrow else torch.float32
