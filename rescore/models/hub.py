"""Hugging Face models, by id or path: any masked LM as a Denoiser, any causal LM for `ar`.

transformers is imported where it is used. Weights come from safetensors or from torch files read with weights_only; code that a repository brings
with it runs only if the user asks for it (`remote_code`).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, length_batches, pad
from rescore.errors import ModelError
from rescore.interfaces import Prediction
from rescore.models import forest
from rescore.models.masked_head import UNFIT, masked_head

__all__ = [
    "HubCausalLM",
    "HubMaskedLM",
    "HubTokenizer",
    "load_causal",
    "load_masked",
    "load_tokenizer",
]

logger = logging.getLogger("rescore")

Network = TypeVar("Network")

#: Nodes of a row of a packed forest: the network's work grows with the nodes, that of its attention with their square.
_PACKED_ROW = 512

#: Parents of the tree on which a causal network is tried: branches of several lengths, at several depths.
_PROBE = np.array([-1, 0, 1, 2, 3, 1, 5, 0, 7, 8, 9, 8, 11])

#: Tokens of a sequence on which the head of a masked network is tried.
_PROBE_LENGTH = 8

#: `name` or `organisation/name`.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ADVICE = "give a directory with config, weights and tokenizer, or a Hugging Face id such as gpt2 or organisation/name"


def _refuse_wrong_path(model: str) -> None:
    """Raise ModelError for what is neither a directory nor a Hub id, before the Hub is asked: a path in a folder that exists is no id."""
    path = Path(model)
    if path.is_dir():
        return
    if path.exists():
        raise ModelError(f"{model}: is a file; {_ADVICE}")
    if not _HUB_ID.fullmatch(model) or (len(path.parts) > 1 and Path(path.parts[0]).is_dir()):
        raise ModelError(f"{model}: there is no such directory; {_ADVICE}")


def _load(kind: str, model: str, remote_code: bool) -> tuple[Any, Any]:
    """(network or configuration, tokenizer) of a Hub id or path; `kind` is a class of transformers. Raises ModelError in one line."""
    _refuse_wrong_path(model)
    try:
        import transformers  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise ModelError(
            "this scorer needs transformers; install it with `pip install dlmrescore[hf]`"
        ) from error
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code)
        network = _with_attention(getattr(transformers, kind), model, remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = " ".join(str(error).split())[:300]
        looked = (
            "cannot load a Hugging Face model"
            if Path(model).is_dir()
            else "there is no directory of this name, and the Hugging Face Hub gave none"
        )
        raise ModelError(f"{model}: {looked} ({first}); {_ADVICE}") from error
    return network, tokenizer


def _with_attention(kind: Any, model: str, remote_code: bool) -> Any:
    """The network with the fused attention of torch where its architecture has that, else with transformers' plain one."""
    try:
        return kind.from_pretrained(
            model, trust_remote_code=remote_code, attn_implementation="sdpa"
        )
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return kind.from_pretrained(model, trust_remote_code=remote_code, attn_implementation="eager")


def _digest(network: torch.nn.Module, tokenizer: Any) -> str:
    """16 hex digits over the weights and the vocabulary."""
    whole = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(network.state_dict().items()):
        whole.update(name.encode())
        whole.update(
            weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    whole.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return whole.hexdigest()


class HubTokenizer:
    """A Hugging Face tokenizer with the interface of the scorers. BOS and EOS are CLS and SEP where a model has those."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        bos = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        eos = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        if eos is None:
            raise ModelError(
                f"{model}: the tokenizer has neither an end-of-sentence nor a separator token; set eos_token in its configuration"
            )
        self.eos_id: int = eos
        self.bos_id: int = eos if bos is None else bos  # GPT-2's custom: one symbol for both ends
        self.unk_id: int | None = (
            tokenizer.unk_token_id
            if tokenizer.unk_token_id not in (self.bos_id, self.eos_id)
            else None
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return [
            list(map(int, self._tokenizer.encode(text, add_special_tokens=False))) for text in texts
        ]

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token: a word goes on through `##` pieces, or until the next piece with a word-start mark."""
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens([int(t) for t in tokens])
        special = {self.bos_id, self.eos_id}
        marked = any(piece.startswith(("\u2581", "\u0120")) for piece in pieces)
        starts = [
            token in special
            or (piece.startswith(("\u2581", "\u0120")) if marked else not piece.startswith("##"))
            for token, piece in zip(tokens, pieces, strict=True)
        ]
        if marked and len(starts) > 1:
            starts[1] = True  # byte-level vocabularies leave the first word of a text unmarked
        index: np.ndarray = np.maximum(np.cumsum(starts), 1) - 1
        return index

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it."""
        return [
            str(piece)
            for piece in self._tokenizer.convert_ids_to_tokens([int(token) for token in tokens])
        ]


class HubMaskedLM:
    """A masked LM of the BERT family as a Denoiser without time input; the mask symbol is not excluded, as is usual for masked LMs.

    `readout` needs the head alone, at the positions that are read, where logits are the head of the body's hidden states one by one; this is tried
    once on a small input. Else the hidden states are logits already.
    """

    prediction: Prediction = "masked"

    def __init__(
        self, network: Any, tokenizer: Any, model: str, device: str, dtype: torch.dtype
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(
                f"{model}: the tokenizer has no mask token; use --scorer ar for a causal model"
            )
        self.network = network.to(device=torch.device(device), dtype=dtype).eval()
        self.mask_id: int | None = int(tokenizer.mask_token_id)
        self.vocab_size: int = int(network.config.vocab_size)
        tokens = (
            torch.arange(2 * _PROBE_LENGTH, device=device).view(2, _PROBE_LENGTH)
            * (self.vocab_size - 1)
            // (2 * _PROBE_LENGTH)
        )
        self._head = masked_head(self.network, tokens)
        if self._head is None:
            logger.debug(
                "%s: the head cannot be taken alone; logits are computed at every position",
                type(network).__name__,
            )

    @torch.no_grad()
    def encode(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Hidden states (batch, length, width), or logits where the head cannot be taken alone."""
        del noise
        inputs = {"input_ids": noisy, "attention_mask": (~padding).long()}
        hidden: Tensor = (
            self.network(**inputs).logits
            if self._head is None
            else self.network.base_model(**inputs)[0]
        )
        return hidden

    @torch.no_grad()
    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, vocab_size)."""
        logits: Tensor = hidden if self._head is None else self._head(hidden)
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """The dense form (batch, length, vocab_size), for tests and small uses."""
        hidden = self.encode(noisy, noise, padding)
        return self.readout(hidden.flatten(0, 1)).view(*noisy.shape, -1)


class HubCausalLM:
    """A causal LM as `rescore.scorers.ar.CausalLM`.

    Forests go through a mask of ancestors and positions by depth where the architecture follows both, which is tried once on a small tree; else
    (ALiBi, recurrence) every path from a root to a leaf is a row of its own. `readout` needs the output layer alone where logits are exactly the
    output layer of the body's hidden states; else (soft-capped or scaled logits) the hidden states are logits already.
    """

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        self.network = network.to(device=torch.device(device), dtype=dtype).eval()
        self.network.config.use_cache = False
        self.vocab_size: int = int(network.config.vocab_size)
        self._longest = _span(network.config)
        tokens = torch.arange(len(_PROBE), device=device) * (self.vocab_size - 1) // len(_PROBE)
        self._head = _output_layer(self.network, tokens[None])
        self.sees_trees = self._try_trees(tokens)
        if not self.sees_trees:
            logger.debug(
                "%s does not follow a mask of ancestors: hypotheses are scored row by row",
                type(network).__name__,
            )

    @torch.no_grad()
    def encode(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (n, width) of the nodes of a forest; a node has seen its ancestors and itself."""
        depth = forest.depths(parents)
        size = min(max(_PACKED_ROW, 4 * int(depth.max())), self._longest)
        if self.sees_trees and size > 2 * int(depth.max()):
            return self._encode_packed(tokens, depth, forest.packed(parents, size))
        return self._encode_rows(tokens, forest.leaf_paths(parents))

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, vocab_size) of the next token."""
        logits: Tensor = hidden if self._head is None else self._head(hidden)
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)

    def _encode_packed(self, tokens: Tensor, depth: np.ndarray, layout: forest.Packed) -> Tensor:
        nodes, own, seen = (
            torch.from_numpy(array).to(tokens.device)
            for array in (layout.nodes, layout.own, layout.seen)
        )
        dtype = self.network.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=tokens.device).masked_fill_(
            ~seen, torch.finfo(dtype).min
        )
        positions = torch.from_numpy(depth).to(tokens.device)[nodes]
        return self._run(
            input_ids=tokens[nodes], attention_mask=mask[:, None], position_ids=positions
        )[own]

    def _encode_rows(self, tokens: Tensor, paths: list[np.ndarray]) -> Tensor:
        """Batches of at most as many padded tokens as the forest has nodes (or of one row); padding is on the right and is never seen."""
        found: Tensor | None = None
        for batch in length_batches([len(path) for path in paths], Budget(len(tokens))):
            nodes, padding = (
                torch.from_numpy(array).to(tokens.device)
                for array in pad([paths[i] for i in batch])
            )
            hidden = self._run(input_ids=tokens[nodes], attention_mask=(~padding).long())
            found = hidden.new_empty(len(tokens), hidden.shape[-1]) if found is None else found
            found[nodes[~padding]] = hidden[~padding]
        return cast(Tensor, found)

    def _run(self, **inputs: Tensor) -> Tensor:
        """Hidden states (rows, length, width), or logits where the output layer cannot be taken alone."""
        hidden: Tensor = (
            self.network(**inputs).logits
            if self._head is None
            else self.network.base_model(**inputs)[0]
        )
        return hidden

    @torch.no_grad()
    def _try_trees(self, tokens: Tensor) -> bool:
        """Whether a small tree in one pass gives what its rows give, up to rounding, measured in what another context would change."""
        if self._longest < len(_PROBE):
            return False
        try:
            rows = self.readout(self._encode_rows(tokens, forest.leaf_paths(_PROBE)))
            other = self.readout(self._encode_rows(tokens, [np.arange(len(_PROBE))]))
            tree = self.readout(
                self._encode_packed(
                    tokens, forest.depths(_PROBE), forest.packed(_PROBE, len(_PROBE))
                )
            )
        except UNFIT:
            return False
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(self.network.dtype, 0.05)
        return bool((tree - rows).abs().max() <= tolerance * (other - rows).abs().max())


def _span(config: Any) -> int:
    """The longest row on which tokens see each other without regard to their order in the row: positions, and local attention where there is some."""
    local = [
        getattr(config, name, None)
        for name in ("sliding_window", "window_size", "attention_chunk_size")
    ]
    windows = (
        [size for size in local if isinstance(size, int) and size > 0]
        if getattr(config, "use_sliding_window", True)
        else []
    )
    return min([max_length(config), *windows])


@torch.no_grad()
def _output_layer(network: Any, tokens: Tensor) -> Any:
    """The layer that makes the logits of the hidden states of `network.base_model`, bit by bit; None where no such layer is found."""
    try:
        head = network.get_output_embeddings()
        same = torch.equal(
            head(network.base_model(input_ids=tokens)[0]), network(input_ids=tokens).logits
        )
    except UNFIT:
        return None
    return head if same else None


def max_length(config: Any) -> int:
    """The longest sequence the network's positions allow; 512 where its configuration does not say."""
    length = (
        getattr(config, "max_position_embeddings", None)
        or getattr(config, "n_positions", None)
        or 512
    )
    pad = getattr(config, "pad_token_id", None)
    # RoBERTa's positions start behind the padding id
    return int(length) - (
        int(pad) + 1
        if config.model_type in ("roberta", "camembert", "xlm-roberta") and pad is not None
        else 0
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
    network, tokenizer = _load("AutoModelForMaskedLM", model, remote_code)
    digest = _digest(network, tokenizer)
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
    network, tokenizer = _load("AutoModelForCausalLM", model, remote_code)
    digest = _digest(network, tokenizer)
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
    config, tokenizer = _load("AutoConfig", model, remote_code)
    return HubTokenizer(tokenizer, model), max_length(config)
