"""A Hub id or a directory becomes a network with its tokenizer.

Weights come from safetensors, or from torch files read with weights_only. Code that a repository
brings with it runs only if the user asks for it (`remote_code`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from rescore.arguments import close_to
from rescore.errors import ModelError
from rescore.installation import install_hint
from rescore.models.embedded import embedded_directory, embedded_models
from rescore.models.hub.causal import HubCausalLM
from rescore.models.hub.files import (
    Weights,
    check_directory,
    check_loaded,
    check_network,
    check_tokens,
)
from rescore.models.hub.limits import max_length
from rescore.models.hub.masked import HubMaskedLM
from rescore.models.hub.tokenizer import HubTokenizer
from rescore.models.opening import one_line, opening

__all__ = [
    "HubModel",
    "load_causal",
    "load_masked",
    "load_parts",
    "load_tokenizer",
    "tensors_digest",
    "weights_digest",
]

Network = TypeVar("Network")

#: `name` or `organisation/name`.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: Seconds in which the Hub has to answer.
_HUB_SECONDS = 10.0
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
    with opening(model, _ADVICE):
        network, tokenizer = load_parts("AutoModelForMaskedLM", model, remote_code)
        digest = weights_digest(network, tokenizer)  # before the weights change their dtype
        pieces = HubTokenizer(tokenizer, model)
        masked = HubMaskedLM(network, tokenizer, model, device, dtype)
        check_tokens(tokenizer, masked.vocab_size, model)
        length = max_length(network.config)
        trial = torch.zeros(1, 3, dtype=torch.int64, device=device)
        logits = masked.log_probs(trial, torch.zeros(1), torch.zeros_like(trial, dtype=torch.bool))
        _check_trial(logits, masked.vocab_size, length, model)
    return HubModel(masked, pieces, length, digest)


def load_causal(
    model: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    remote_code: bool = False,
) -> HubModel[HubCausalLM]:
    """Load a causal LM. Raises ModelError."""
    with opening(model, _ADVICE):
        network, tokenizer = load_parts("AutoModelForCausalLM", model, remote_code)
        digest = weights_digest(network, tokenizer)  # before the weights change their dtype
        pieces = HubTokenizer(tokenizer, model)
        causal = HubCausalLM(network, device, dtype)
        check_tokens(tokenizer, causal.vocab_size, model)
        length = max_length(network.config)
        trial = torch.zeros(3, dtype=torch.int64, device=device)
        logits = causal.readout(causal.encode(trial, np.array([-1, 0, 1])))
        _check_trial(logits, causal.vocab_size, length, model)
    return HubModel(causal, pieces, length, digest)


def _check_trial(logits: Tensor, rows: int, length: int, model: str) -> None:
    """Raise ModelError for a network that does not do what its configuration says."""
    if logits.shape[-1] != rows or length < 3:
        raise ModelError(
            f"{model}: its configuration says {rows} pieces and {length} positions, the network "
            f"gives {logits.shape[-1]} logits; {_ADVICE}"
        )


def load_tokenizer(model: str, *, remote_code: bool = False) -> tuple[HubTokenizer, int]:
    """(tokenizer, longest sequence) of a masked or causal LM, without its weights.

    Raises ModelError.
    """
    with opening(model, _ADVICE):
        config, tokenizer = load_parts("AutoConfig", model, remote_code)
        check_tokens(tokenizer, int(config.vocab_size), model)
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
            f"a Hugging Face model needs transformers; {install_hint('hf')}"
        ) from error
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    is_local = Path(model).is_dir()
    weights = check_directory(Path(model)) if is_local and not remote_code else None
    problem, settings = "cannot load a Hugging Face model", {"trust_remote_code": remote_code}
    if not is_local:
        problem = "there is no directory of this name, and the Hugging Face Hub gave none"
        offline = _unreachable_hub()
        settings["local_files_only"] = offline is not None
    with opening(model, _advice(model), problem), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an error is one line, and a model that loads needs none
        try:
            loaded = [
                getattr(transformers, part).from_pretrained(model, **settings) for part in parts
            ]
            network = _network(getattr(transformers, kind), model, settings, weights)
        except OSError as error:
            if settings.get("local_files_only"):
                raise ModelError(
                    f"{model}: there is no directory of this name and no such model in the cache, "
                    f"and the Hugging Face Hub cannot be reached ({offline}); {_advice(model)}"
                ) from error
            raise
        except ValueError as error:
            if "trust_remote_code" in str(error):
                raise ModelError(
                    f"{model}: brings code of its own, which runs only if you ask for it; add "
                    "--remote-code if you trust it"
                ) from error
            raise
    return network, *loaded


def _advice(model: str) -> str:
    return _ADVICE + close_to(model, [path.name for path in embedded_models()])


def _unreachable_hub() -> str | None:
    """Why the Hub cannot be asked; None if it answers. transformers itself retries for a minute."""
    import huggingface_hub  # noqa: PLC0415 - comes with transformers

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_HUB_SECONDS)
    except Exception as error:  # noqa: BLE001 - of whichever client it uses
        return one_line(error)
    return None


def _network(kind: Any, model: str, settings: dict[str, bool], weights: Weights | None) -> Any:
    """The network, or its configuration where that is the `kind`."""
    import transformers  # noqa: PLC0415 - heavy and optional

    if kind is transformers.AutoConfig:
        return kind.from_pretrained(model, **settings)
    if weights is not None:
        config = transformers.AutoConfig.from_pretrained(model)
        check_network(kind, config, weights, model)
    network, report = _with_attention(kind, model, settings)
    check_loaded(report, model)
    return network


def _refuse_wrong_path(model: str) -> None:
    """Raise ModelError for what is neither a directory nor a Hub id, before the Hub is asked.

    A path in a folder that exists is no id.
    """
    path = Path(model)
    if embedded_directory(model) is not None:
        raise ModelError(
            f"{model}: an embedded model of dlmrescore, expected a Hugging Face model; "
            f"use --scorer {model}"
        )
    if path.is_dir():
        return
    if path.exists():
        raise ModelError(f"{model}: is a file; {_ADVICE}")
    if not _HUB_ID.fullmatch(model) or (len(path.parts) > 1 and Path(path.parts[0]).is_dir()):
        raise ModelError(f"{model}: there is no such directory; {_ADVICE}")


def _with_attention(kind: Any, model: str, settings: dict[str, bool]) -> Any:
    """The network with torch's fused attention where its architecture has that, else the plain.

    With it comes what transformers says of the weights that it found.
    """
    options = {**settings, "output_loading_info": True}
    try:
        return kind.from_pretrained(model, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return kind.from_pretrained(model, attn_implementation="eager", **options)


def weights_digest(network: torch.nn.Module, tokenizer: Any) -> str:
    """16 hex digits over the weights and the vocabulary."""
    digest = tensors_digest(network)
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()


def tensors_digest(network: torch.nn.Module) -> hashlib.blake2b:
    """A digest of 16 hex digits over the names and weights of a network."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest
