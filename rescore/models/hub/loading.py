"""A Hub id or a directory becomes a network with its tokenizer.

Weights come from safetensors, or from torch files read with weights_only. Code that a repository
brings with it runs only if the user asks for it (`remote_code`).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from rescore.errors import ModelError
from rescore.models.hub.causal import HubCausalLM
from rescore.models.hub.limits import max_length
from rescore.models.hub.masked import HubMaskedLM
from rescore.models.hub.tokenizer import HubTokenizer

__all__ = [
    "HubModel",
    "load_causal",
    "load_masked",
    "load_parts",
    "load_tokenizer",
    "weights_digest",
]

Network = TypeVar("Network")

#: `name` or `organisation/name`.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ADVICE = (
    "give a directory with config, weights and tokenizer,"
    " or a Hugging Face id such as gpt2 or organisation/name"
)


@dataclass(frozen=True)
class HubModel(Generic[Network]):
    """A loaded network with its tokenizer, the longest sequence it takes, and its digest."""

    network: Network
    tokenizer: HubTokenizer
    max_length: int
    digest: str


def load_masked(
    model: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    remote_code: bool = False,
) -> HubModel[HubMaskedLM]:
    """Load a masked LM. Raises ModelError."""
    network, tokenizer = load_parts("AutoModelForMaskedLM", model, remote_code)
    digest = weights_digest(network, tokenizer)  # before the weights change their dtype
    return HubModel(
        HubMaskedLM(network, tokenizer, model, device, dtype),
        HubTokenizer(tokenizer, model),
        max_length(network.config),
        digest,
    )


def load_causal(
    model: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    remote_code: bool = False,
) -> HubModel[HubCausalLM]:
    """Load a causal LM. Raises ModelError."""
    network, tokenizer = load_parts("AutoModelForCausalLM", model, remote_code)
    digest = weights_digest(network, tokenizer)  # before the weights change their dtype
    return HubModel(
        HubCausalLM(network, device, dtype),
        HubTokenizer(tokenizer, model),
        max_length(network.config),
        digest,
    )


def load_tokenizer(model: str, *, remote_code: bool = False) -> tuple[HubTokenizer, int]:
    """(tokenizer, longest sequence) of a masked or causal LM, without its weights.

    Raises ModelError.
    """
    config, tokenizer = load_parts("AutoConfig", model, remote_code)
    return HubTokenizer(tokenizer, model), max_length(config)


def load_parts(
    kind: str, model: str, remote_code: bool, parts: Sequence[str] = ("AutoTokenizer",)
) -> tuple[Any, ...]:
    """(network or configuration, tokenizer) of a Hub id or path; `kind` is a class of transformers.

    `parts`: the classes of what comes after the network. Raises ModelError in one line.
    """
    _refuse_wrong_path(model)
    try:
        import transformers  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise ModelError(
            "a Hugging Face model needs transformers; install it with `pip install dlmrescore[hf]`"
        ) from error
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded = [
            getattr(transformers, part).from_pretrained(model, trust_remote_code=remote_code)
            for part in parts
        ]
        network = _with_attention(getattr(transformers, kind), model, remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        problem = (
            "cannot load a Hugging Face model"
            if Path(model).is_dir()
            else "there is no directory of this name, and the Hugging Face Hub gave none"
        )
        raise ModelError(f"{model}: {problem} ({reason}); {_ADVICE}") from error
    return network, *loaded


def _refuse_wrong_path(model: str) -> None:
    """Raise ModelError for what is neither a directory nor a Hub id, before the Hub is asked.

    A path in a folder that exists is no id.
    """
    path = Path(model)
    if path.is_dir():
        return
    if path.exists():
        raise ModelError(f"{model}: is a file; {_ADVICE}")
    if not _HUB_ID.fullmatch(model) or (len(path.parts) > 1 and Path(path.parts[0]).is_dir()):
        raise ModelError(f"{model}: there is no such directory; {_ADVICE}")


def _with_attention(kind: Any, model: str, remote_code: bool) -> Any:
    """The network with torch's fused attention where its architecture has that, else the plain."""
    try:
        return kind.from_pretrained(
            model, trust_remote_code=remote_code, attn_implementation="sdpa"
        )
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return kind.from_pretrained(model, trust_remote_code=remote_code, attn_implementation="eager")


def weights_digest(network: torch.nn.Module, tokenizer: Any) -> str:
    """16 hex digits over the weights and the vocabulary."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()
