"""Tiny random masked diffusion LMs in the layouts in which LLaDA and Dream are published.

Each brings its own code, as those do: file names, classes, names of tensors and of arguments are
theirs. LLaDA's code does not read its attention mask. The vocabulary has the letters a and b.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
safetensors_torch = pytest.importorskip("safetensors.torch")

PIECES = ["a", "b", "\u0120", "\u0120a", "\u0120b"]
SPECIAL = {
    "llada": ["<|startoftext|>", "<|endoftext|>", "[CLS]", "[gMASK]", "<|mdm_mask|>"],
    "Dream": ["<|beginoftext|>", "<|endoftext|>", "<|mask|>"],
}
ROLES = {
    "llada": {"bos": 0, "eos": 1, "cls": 2, "pad": 1},
    "Dream": {"bos": 0, "eos": 1, "pad": 1, "mask": 2},
}
#: Rows beyond the vocabulary, as both have some.
ROWS = 16

ATTENTION = """
import torch
from torch import nn


def rotated(x, base=100.0):
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * base ** (
        -torch.arange(half, device=x.device) / half
    )
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, two = x[..., :half], x[..., half:]
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


def attend(q, k, v, heads):
    parts = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    mixed = nn.functional.scaled_dot_product_attention(
        rotated(parts[0]), rotated(parts[1]), parts[2]
    )
    return mixed.transpose(1, 2).flatten(2)
"""

LLADA = (
    ATTENTION
    + """
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_llada import LLaDAConfig


class LLaDALlamaBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config.d_model, config.mlp_hidden_size
        self.heads = config.n_heads
        self.attn_norm, self.ff_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        for name in ("q_proj", "k_proj", "v_proj", "attn_out"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.ff_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.ff_out = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        y = self.attn_norm(x)
        x = x + self.attn_out(attend(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.heads))
        y = self.ff_norm(x)
        return x + self.ff_out(nn.functional.silu(self.ff_proj(y)) * self.up_proj(y))


class LLaDAModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.d_model
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.embedding_size, width),
                "blocks": nn.ModuleList(LLaDALlamaBlock(config) for _ in range(config.n_layers)),
                "ln_f": nn.LayerNorm(width),
                "ff_out": nn.Linear(width, config.embedding_size, bias=False),
            }
        )


class LLaDAModelLM(PreTrainedModel):
    config_class = LLaDAConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.post_init()

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None,
                attention_bias=None, past_key_values=None, labels=None, use_cache=None,
                output_attentions=None, output_hidden_states=None, return_dict=None,
                cache_position=None):
        parts = self.model.transformer
        x = parts.wte(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = [x]
        for block in parts.blocks:
            x = block(x)
            hidden.append(x)
        hidden[-1] = x = parts.ln_f(x)
        states = tuple(hidden) if output_hidden_states else None
        return CausalLMOutputWithPast(logits=parts.ff_out(x), hidden_states=states)

    def get_input_embeddings(self):
        return self.model.transformer.wte

    def get_output_embeddings(self):
        return self.model.transformer.ff_out
"""
)

DREAM = (
    ATTENTION
    + """
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from .configuration_dream import DreamConfig


class DreamAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(width, width))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.o_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads))


class DreamMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class DreamDecoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn, self.mlp = DreamAttention(config), DreamMLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class DreamBaseModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DreamDecoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)


class DreamModel(PreTrainedModel):
    config_class = DreamConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = DreamBaseModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None,
                past_key_values=None, inputs_embeds=None, labels=None, use_cache=None,
                output_attentions=None, output_hidden_states=None, return_dict=None,
                cache_position=None, num_logits_to_keep=0, **loss_kwargs):
        x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = [x]
        for layer in self.model.layers:
            x = layer(x)
            hidden.append(x)
        hidden[-1] = x = self.model.norm(x)
        states = tuple(hidden) if output_hidden_states else None
        return MaskedLMOutput(logits=self.lm_head(x), hidden_states=states)

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head
"""
)

CONFIGURATION = """
from transformers import PretrainedConfig


class {name}Config(PretrainedConfig):
    model_type = "{kind}"
"""

CONFIGS = {
    "llada": {
        "architectures": ["LLaDAModelLM"],
        "auto_map": {
            "AutoConfig": "configuration_llada.LLaDAConfig",
            "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
            "AutoModel": "modeling_llada.LLaDAModelLM",
        },
        "model_type": "llada",
        "d_model": 16,
        "n_heads": 2,
        "n_layers": 2,
        "mlp_hidden_size": 24,
        "vocab_size": ROWS,
        "embedding_size": ROWS,
        "max_sequence_length": 128,
        "mask_token_id": 4,
    },
    "Dream": {
        "architectures": ["DreamModel"],
        "auto_map": {
            "AutoConfig": "configuration_dream.DreamConfig",
            "AutoModel": "modeling_dream.DreamModel",
        },
        "model_type": "Dream",
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 24,
        "vocab_size": ROWS,
        "max_position_embeddings": 128,
        "mask_token_id": 2,
    },
}


def save_text_model(directory: Path, kind: str, seed: int = 0) -> Path:
    """A random model of a kind, "llada" or "Dream", with opinions."""
    directory.mkdir(parents=True)
    name = "LLaDA" if kind == "llada" else kind
    stem, code = kind.lower(), LLADA if kind == "llada" else DREAM
    configuration = CONFIGURATION.format(name=name, kind=kind)
    (directory / f"configuration_{stem}.py").write_text(configuration)
    (directory / f"modeling_{stem}.py").write_text(code)
    ids = {role: ROLES[kind][role] for role in ("eos", "pad")}
    config = CONFIGS[kind] | {f"{role}_token_id": number for role, number in ids.items()}
    (directory / "config.json").write_text(json.dumps(config))
    _tokenizer(kind).save_pretrained(directory)
    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=True)
    torch.manual_seed(seed)
    network = transformers.AutoModel.from_config(config, trust_remote_code=True)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    weights = {key: weight.contiguous() for key, weight in network.state_dict().items()}
    path = directory / "model.safetensors"
    safetensors_torch.save_file(weights, path, metadata={"format": "pt"})
    return directory


def _tokenizer(kind: str):
    """Byte-level BPE of the letters a and b."""
    special = SPECIAL[kind]
    vocabulary = {piece: number for number, piece in enumerate([*special, *PIECES])}
    merges = [("\u0120", "a"), ("\u0120", "b")]
    built = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    built.add_special_tokens(special)
    names = {f"{role}_token": special[number] for role, number in ROLES[kind].items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=built, **names)
