"""Time the AR score by prefix tree against a Hugging Face causal LM on padded batches.

    python recipes/bench/ar_tree.py lists.jsonl.gz --lists 20 --repeats 5
    python recipes/bench/ar_tree.py lists.jsonl.gz --lists 1 --repeats 3 --shape gpt2

Two shapes. `embedded`: the embedded AR network against transformers' Llama, which is the same
architecture and gets the same weights. `gpt2`: GPT-2 small with random weights on both sides, ours
by the adapter of Hub models. Both sides score the same token ids; building the tree is timed,
tokenising is not.

The baseline is as good as plain transformers allows: scaled-dot-product attention, no cache, no
gradients, cross-entropy without a second copy of the logits; one padded batch a list, or batches of
`--rows` rows sorted by length, whichever is faster. Runs take turns in one process on one thread.
Times are medians of CPU seconds, which other work on the machine disturbs least, and of wall
seconds. Values must agree.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional

import rescore
from rescore.batching import Budget, pad
from rescore.interfaces import CausalLM
from rescore.models.hub import HubCausalLM
from rescore.models.network import Network
from rescore.scorers.ar import log_prob
from rescore.scorers.prefix_tree import PrefixTree
from rescore.scorers.sequences import TokenSequence

Lists = list[list[TokenSequence]]


def as_llama(network: Network) -> Any:
    """The network as transformers' LlamaForCausalLM: the same function, layer by layer."""
    shape = network.config
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        rms_norm_eps=1e-6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        use_cache=False,
    )
    weights = {
        "model.embed_tokens.weight": network.embedding.weight,
        "lm_head.weight": network.embedding.weight,
        "model.norm.weight": network.final_norm.weight,
    }
    for number, block in enumerate(network.blocks):
        at = f"model.layers.{number}."
        weights |= {
            at + f"self_attn.{name}_proj.weight": part
            for name, part in zip("qkv", block.qkv.weight.chunk(3), strict=True)
        }
        weights |= {
            at + f"mlp.{name}_proj.weight": part
            for name, part in zip(("gate", "up"), block.gate_up.weight.chunk(2), strict=True)
        }
        weights |= {
            at + "self_attn.o_proj.weight": block.attention_out.weight,
            at + "mlp.down_proj.weight": block.down.weight,
        }
        weights |= {
            at + "input_layernorm.weight": block.attention_norm.weight,
            at + "post_attention_layernorm.weight": block.feed_forward_norm.weight,
        }
    llama = transformers.LlamaForCausalLM(config)
    llama.load_state_dict(weights)
    return llama.eval()


@torch.no_grad()
def padded(model: Any, lists: Lists, rows: int | None) -> np.ndarray:
    """log p of every sequence, list after list.

    In padded batches of a whole list (rows None), or of `rows` rows sorted by length.
    """
    values = []
    for sequences in lists:
        of_list = np.empty(len(sequences))
        order = np.argsort([-len(s.tokens) for s in sequences], kind="stable")
        step = rows or len(order)
        for part in (order[at : at + step] for at in range(0, len(order), step)):
            ids, padding = (
                torch.from_numpy(array) for array in pad([sequences[i].tokens for i in part])
            )
            logits = model(input_ids=ids[:, :-1], attention_mask=(~padding[:, :-1]).long()).logits
            targets = ids[:, 1:].masked_fill(padding[:, 1:], -100)
            of_list[part] = (
                -functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
                .double()
                .sum(-1)
                .numpy()
            )
        values.append(of_list)
    return np.concatenate(values)


def by_tree(model: CausalLM, lists: Lists, batch_tokens: int) -> np.ndarray:
    """log p of every sequence, each list by its own tree."""
    return np.concatenate(
        [log_prob(model, sequences, budget=Budget(batch_tokens)) for sequences in lists]
    )


def turns(
    works: Sequence[Callable[[], np.ndarray]], repeats: int
) -> tuple[list[tuple[float, float]], list[np.ndarray]]:
    """Let works take turns: (median CPU seconds, median wall seconds) of each, and its result."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in works]
    results = [work() for work in works]  # a first run, not timed
    for _ in range(repeats):
        for times, work in zip(seconds, works, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
    medians = [
        (statistics.median(cpu for cpu, _ in times), statistics.median(wall for _, wall in times))
        for times in seconds
    ]
    return medians, results


def networks(shape: str, embedded: Any) -> tuple[CausalLM, Any]:
    """(ours, transformers')."""
    if shape == "embedded":
        return embedded, as_llama(embedded.network)
    torch.manual_seed(0)
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False)).eval()
    return HubCausalLM(gpt2, "cpu", torch.float32), gpt2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="N-best lists in any format that is recognised by its content")
    parser.add_argument("--lists", type=int, default=20, help="evenly spaced over the file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--batch-tokens", type=int, default=2048, help="nodes of one network call")
    parser.add_argument("--shape", choices=("embedded", "gpt2"), default="embedded")
    options = parser.parse_args()
    torch.set_num_threads(1)

    every = list(rescore.read(options.path))
    scorer: Any = rescore.load_scorer("ar")
    lists = [
        list(itertools.chain(*scorer.sequencer(every[i])))
        for i in np.unique(np.linspace(0, len(every) - 1, options.lists).astype(int))
    ]
    ours, theirs = networks(options.shape, scorer.model)
    trees = [PrefixTree.of([s.tokens for s in sequences]) for sequences in lists]
    nodes = sum(len(np.unique(tree.parents[tree.parents >= 0])) for tree in trees)
    tokens = sum(len(s.tokens) - 1 for sequences in lists for s in sequences)
    works = [
        lambda: by_tree(ours, lists, options.batch_tokens),
        lambda: padded(theirs, lists, None),
        lambda: padded(theirs, lists, options.rows),
    ]
    (tree, whole, sorted_rows), (values, *others) = turns(works, options.repeats)
    difference = max(float(np.abs(values - other).max()) for other in others)
    print(
        f"{len(lists)} of {len(every)} lists, {len(values)} hypotheses, {tokens} tokens,"
        f" {nodes} nodes: {tokens / nodes:.2f} tokens a node"
    )
    print(f"shape {options.shape}, medians of {options.repeats}; CPU seconds (wall seconds)")
    for title, (cpu, wall) in {
        "prefix tree": tree,
        "whole lists": whole,
        f"{options.rows} rows": sorted_rows,
    }.items():
        print(f"{title + ':':14s}{cpu:9.3f} ({wall:9.3f})")
    print(
        f"ratio to the faster baseline: {min(whole[0], sorted_rows[0]) / tree[0]:.2f}"
        f" ({min(whole[1], sorted_rows[1]) / tree[1]:.2f})"
    )
    print(
        f"largest difference of a score: {difference:.1e};"
        f" scores are as large as {np.abs(values).max():.0f}"
    )


if __name__ == "__main__":
    main()
