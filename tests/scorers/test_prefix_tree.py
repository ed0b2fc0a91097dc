"""The AR score by prefix tree: the values of rows, one row at a time, at the cost of the nodes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import nbest, small_checkpoint

import rescore
from rescore.batching import BATCH_TOKENS, Budget
from rescore.errors import ScoreError
from rescore.models import forest
from rescore.models import network as network_module
from rescore.models.adapters import NetworkCausalLM
from rescore.models.embedded import open_vocabulary
from rescore.scorers import Vocabulary
from rescore.scorers.ar import CausalScorer, log_prob, token_log_probs
from rescore.scorers.prefix_tree import PrefixTree
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.text import normalizer

DEMO = Path(__file__).parents[2] / "recipes" / "demo_data" / "dev.jsonl"

#: Rows with BOS 1, many of them prefixes or copies of others.
ROWS = st.lists(
    st.lists(st.integers(0, 3), max_size=12).map(lambda tail: np.array([1, *tail])),
    min_size=1,
    max_size=12,
)


def sequence(row, scored=None) -> TokenSequence:
    row = np.array(row, dtype=np.int64)
    scored = np.arange(len(row)) > 0 if scored is None else np.array(scored)
    return TokenSequence(row, scored, ~scored, row, row, row)


def by_row(network, s: TokenSequence) -> np.ndarray:
    """The reference: this row alone through the ordinary causal attention."""
    with torch.no_grad():
        log_probs = network(torch.from_numpy(s.tokens)[None]).double().log_softmax(-1)[0].numpy()
    return np.array([log_probs[i - 1, s.tokens[i]] for i in np.flatnonzero(s.scored) if i])


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def model(request):
    return NetworkCausalLM(small_checkpoint("ar"), dtype=request.param)


def tolerance(model) -> float:
    return 1e-4 if model.network.embedding.weight.dtype == torch.float32 else 1e-9


@given(ROWS)
def test_a_tree_holds_every_prefix_once_in_preorder(rows):
    tree = PrefixTree.of(rows)
    prefixes = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    prefixes_of_nodes = [
        tuple(tree.tokens[path])
        for path in (ancestors(tree.parents, node) for node in range(len(tree.tokens)))
    ]
    assert len(prefixes_of_nodes) == len(prefixes)
    assert set(prefixes_of_nodes) == prefixes
    assert prefixes_of_nodes == sorted(
        prefixes_of_nodes
    )  # a prefix before what continues it, and nothing else between them: preorder
    for row, path in zip(rows, tree.paths, strict=True):
        assert tree.tokens[path].tolist() == row.tolist()
        assert tree.parents[path].tolist() == [-1, *path[:-1]]


def ancestors(parents, node) -> list[int]:
    path = [node]
    while parents[path[-1]] >= 0:
        path.append(int(parents[path[-1]]))
    return path[::-1]


@given(ROWS, st.integers(1, 30))
def test_batches_hold_every_inner_node_with_its_ancestors(rows, size):
    tree, children = PrefixTree.of(rows), []
    for batch in tree.batches(size):
        deepest = int(forest.depths(batch.parents).max())
        assert len(batch.tokens) <= max(size, deepest + 1)
        for child, row in zip(batch.children, batch.rows, strict=True):
            assert (
                batch.tokens[ancestors(batch.parents, row)].tolist()
                == tree.tokens[ancestors(tree.parents, child)[:-1]].tolist()
            )
        assert sorted(batch.rows) == list(batch.rows)
        children += batch.children.tolist()
    assert sorted(children) == np.flatnonzero(tree.parents >= 0).tolist()


@given(ROWS, st.integers(1, 8))
def test_a_node_sees_itself_and_its_ancestors(rows, size):
    parents = PrefixTree.of(rows).parents
    expected = {(i, j) for i in range(len(parents)) for j in ancestors(parents, i)}
    assert forest.depths(parents).tolist() == [
        len(ancestors(parents, i)) - 1 for i in range(len(parents))
    ]
    whole = forest.packed(parents, 13 + size)
    assert whole.nodes.shape[1] <= 13 + size
    assert whole.nodes[whole.is_new].tolist() == list(range(len(parents)))
    for nodes, new, seen in zip(whole.nodes, whole.is_new, whole.seen, strict=True):
        assert {
            (nodes[i], nodes[j]) for i in np.flatnonzero(new) for j in np.flatnonzero(seen[i])
        } == {pair for pair in expected if pair[0] in nodes[new]}
        assert seen.any(axis=1).all()
    filled = np.append(parents, np.full(-len(parents) % size, -1))
    part = forest.chunks(filled, size)
    pairs = [
        (a * size + i, part.keys[a, j]) for a, i, j in zip(*np.nonzero(part.seen), strict=True)
    ]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected | {(i, i) for i in range(len(parents), len(filled))}
    assert sorted(tuple(path) for path in forest.leaf_paths(parents)) == sorted(
        tuple(ancestors(parents, i)) for i in range(len(parents)) if i not in parents
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(3, 6), max_size=20), st.integers(0, 19)),
        min_size=1,
        max_size=10,
    ),
    st.integers(1, 40),
)
def test_values_are_those_of_single_rows(model, drawn, batch_tokens):
    sequences = []
    for tail, first in drawn:  # as in a window, what lies before `first` is context
        row = [1, *tail, 2]
        scored = [i >= max(1, min(first, len(row) - 1)) for i in range(len(row))]
        sequences.append(sequence(row, scored))
    result = token_log_probs(model, sequences, budget=Budget(batch_tokens))
    for s, values in zip(sequences, result, strict=True):
        assert np.abs(values - by_row(model.network, s)).max() < tolerance(model)


def test_what_follows_the_last_scored_token_changes_nothing_and_costs_nothing(model, monkeypatch):
    seen = []
    encode = model.encode
    monkeypatch.setattr(
        model, "encode", lambda tokens, parents: seen.append(len(tokens)) or encode(tokens, parents)
    )
    scored = [False, True, True, False, False, False]
    (a,), (b,) = (
        token_log_probs(model, [sequence([1, 5, 6, *rest], scored)])
        for rest in ([3, 3, 3], [4, 5, 6])
    )
    assert (a == b).all()
    assert seen == [2, 2]


def test_order_and_company_change_nothing(model):
    generator = np.random.default_rng(0)
    lists = [
        [
            sequence([1, *generator.integers(3, 6, size), 2])
            for size in generator.integers(0, 30, 40)
        ]
        for _ in range(3)
    ]
    alone = np.concatenate([log_prob(model, rows) for rows in lists])
    together = log_prob(model, list(itertools.chain(*lists)))
    backwards = log_prob(model, list(itertools.chain(*lists))[::-1])[::-1]
    small = log_prob(model, list(itertools.chain(*lists)), budget=Budget(50))
    for other in (together, backwards, small):
        assert np.abs(alone - other).max() < tolerance(model)


def test_the_plain_formula_of_old_torch_gives_the_same(model, monkeypatch):
    sequences = [sequence([1, *tail, 2]) for tail in ([3, 4, 5], [3, 4], [], [3, 5, 5, 5])]
    expected = log_prob(model, sequences)
    monkeypatch.delattr(network_module.functional, "scaled_dot_product_attention", raising=False)
    assert np.abs(log_prob(model, sequences) - expected).max() < tolerance(model)


def scorer_of(model, window=128, **options) -> CausalScorer:
    vocabulary = Vocabulary(small_checkpoint("ar").tokenizer, normalizer("none"), window)
    sequencer = Sequencer(vocabulary)
    return CausalScorer("signature", model, sequencer, **options)


def test_a_list_of_ten_thousand_and_a_text_of_twenty_thousand_words(model, monkeypatch):
    sizes = []
    encode = model.encode
    monkeypatch.setattr(
        model,
        "encode",
        lambda tokens, parents: sizes.append(len(tokens)) or encode(tokens, parents),
    )
    words = ["the", "old", "house", "stood", "at", "the", "end", "of", "the", "lane"]
    many = nbest(
        *(" ".join(words[i % 7 :][: 1 + i % 5]) + " she" * (i % 11) for i in range(10_000)),
        id="many",
    )
    long = nbest("the old house " * 6667, "", id="long")
    first, second = scorer_of(model).score([many, long])
    assert max(sizes) <= BATCH_TOKENS
    assert sum(sizes) < 20_000 * 6
    assert len(set(first.values)) <= 5 * 7 * 11
    assert math.isfinite(second.values[0])


def test_the_demo_lists_save_tokens():
    tokenizer, tokens, nodes = open_vocabulary(None, "ar")[0], 0, 0
    for nbest_of_demo in rescore.read(DEMO):
        rows = [
            np.array([1, *row, 2])
            for row in tokenizer.encode([hyp.text for hyp in nbest_of_demo.hyps])
        ]
        prefixes = {tuple(row[:i]) for row in rows for i in range(1, len(row))}
        tree = PrefixTree.of(rows)
        sizes = [len(batch.tokens) for batch in tree.batches(10**9)]
        assert sizes == [len(prefixes)]
        tokens, nodes = tokens + sum(len(row) - 1 for row in rows), nodes + sizes[0]
    assert (tokens, nodes) == (142_106, 56_161)


def test_a_nan_is_named_where_it_comes_from_and_not_where_it_spreads_to():
    checkpoint = small_checkpoint("ar")
    lists = [nbest("the old house", "the old"), nbest("she wrote", "she wrote zzz", id="utt-2")]
    culprit = set(checkpoint.tokenizer.encode(["she wrote zzz"])[0]) - set(
        itertools.chain(*checkpoint.tokenizer.encode(["the old house", "the old", "she wrote"]))
    )
    model = NetworkCausalLM(checkpoint)
    poison = torch.tensor(sorted(culprit))
    encode = model.network.encode_forest

    def poisoned(tokens, parents):
        """NaN for every node of a batch with the token, as attention spreads it."""
        return encode(tokens, parents) * (math.nan if torch.isin(tokens, poison).any() else 1.0)

    model.network.encode_forest = poisoned
    with pytest.raises(ScoreError, match='utterance utt-2, hypothesis 2: score "ar" is nan'):
        list(scorer_of(model).score(lists))


def test_token_scores_of_windows_sum_to_the_score(model):
    texts = ["the old house stood at the end of the lane", "the old house", ""]
    (result,) = scorer_of(model, window=8, per_token=True).score([nbest(*texts)])
    for value, tokens in zip(result.values, result.token_scores, strict=True):
        assert math.fsum(x for _, x in tokens) == pytest.approx(value, rel=1e-12)


def test_a_batch_that_does_not_fit_in_memory_is_halved_and_nothing_is_lost(caplog):
    model = NetworkCausalLM(small_checkpoint("ar"), dtype=torch.float64)
    rows = [sequence([1, *(7 + (i * j) % 11 for j in range(1, 12))]) for i in range(20)]
    whole, encode = log_prob(model, rows), model.encode

    def full(tokens, parents):
        if len(tokens) > 60:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return encode(tokens, parents)

    model.encode, limit = full, Budget(200)
    assert np.allclose(log_prob(model, rows, budget=limit), whole, atol=1e-9)
    assert limit.tokens == 55
    assert caplog.messages == ["out of memory in a batch of 111 tokens; continuing with at most 55"]
    model.encode = lambda tokens, parents: full(torch.zeros(100), parents)
    with pytest.raises(ScoreError, match=r"out of memory in a sequence of \d+ tokens alone"):
        log_prob(model, rows[:1], budget=Budget(1))
