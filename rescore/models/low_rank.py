"""Low-rank adapters in a network (LoRA, Hu et al. 2021, arXiv:2106.09685), by peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from rescore.errors import ModelError
from rescore.installation import install_hint

__all__ = ["add_adapters", "merge_adapters"]


def add_adapters(network: nn.Module, rank: int) -> None:
    """Put adapters of this rank beside all linear layers of the blocks, which alone learn.

    Blocks are what a list numbers. Raises ModelError where peft is not installed.
    """
    try:
        import peft  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise ModelError(f"low-rank adapters need peft; {install_hint('peft')}") from error
    targets = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(map(str.isdigit, name.split(".")))
    ]
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    peft.inject_adapter_in_model(config, network)


def merge_adapters(network: nn.Module) -> None:
    """Add the adapters to the weights and take them out: the network is a plain one again."""
    adapted: list[tuple[str, Any]] = [
        (name, module) for name, module in network.named_modules() if hasattr(module, "lora_A")
    ]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, module.get_base_layer())
