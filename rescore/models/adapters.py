"""The network of a checkpoint as a Denoiser (MDLM, USDM) or as a CausalLM (AR)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rescore.errors import ModelError
from rescore.interfaces import Prediction
from rescore.models.checkpoint import Checkpoint
from rescore.models.network import Network

__all__ = ["NetworkCausalLM", "NetworkDenoiser"]


class NetworkDenoiser:
    """`rescore.interfaces.SparseDenoiser` on a checkpoint.

    Log-probabilities are float32 whatever the dtype of the body, and float64 for float64. Raises
    ModelError for a causal checkpoint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        if checkpoint.prediction == "causal":
            raise ModelError(
                f"objective {checkpoint.objective!r} is not a denoiser; use --scorer ar"
            )
        self.network: Network = checkpoint.network.to(
            device=torch.device(device), dtype=dtype
        ).eval()
        if compiled:
            self.network.compile_body()
        self.vocab_size = self.network.config.vocab_size
        self.mask_id = checkpoint.mask_id
        self.prediction: Prediction = checkpoint.prediction
        self._time = self.network.config.time_input

    def encode(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Hidden states (B, L, W)."""
        return self.network.encode(noisy, noise if self._time else None, padding)

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V); the mask symbol is impossible."""
        logits = self.network.readout(hidden.to(self.network.embedding.weight.dtype))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.mask_id is not None:
            logits[..., self.mask_id] = -torch.inf
        return logits.log_softmax(-1)

    @torch.no_grad()
    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """The dense form (B, L, V), for tests and small uses."""
        return self.readout(self.encode(noisy, noise, padding))


class NetworkCausalLM:
    """`rescore.interfaces.CausalLM` on a checkpoint. Raises ModelError if it is not causal."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        if checkpoint.prediction != "causal":
            raise ModelError(
                f"objective {checkpoint.objective!r} is not causal;"
                f" use --scorer {checkpoint.objective}"
            )
        self.network: Network = checkpoint.network.to(
            device=torch.device(device), dtype=dtype
        ).eval()
        if compiled:
            self.network.compile_body()
        self.vocab_size = self.network.config.vocab_size

    def encode(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (n, W) of the nodes of a forest; a node sees its ancestors and itself."""
        return self.network.encode_forest(tokens, parents)

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V) of the next token."""
        logits = self.network.readout(hidden.to(self.network.embedding.weight.dtype))
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
