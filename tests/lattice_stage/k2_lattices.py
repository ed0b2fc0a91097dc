"""Lattices as k2 makes them from CTC posteriors, and a scorer that counts its calls.

The graphs are `ctc_topo` and an HLG from a small lexicon and n-gram. The posteriors are synthetic:
a random alignment of a sentence, with noise. Tokens: 1 is the space before a word, 2 to 27 are
letters, 0 is blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import k2
import torch

from rescore.types import NBest, Score

LETTERS = " abcdefghijklmnopqrstuvwxyz"
SENTENCES = [
    "the cat sat on a mat",
    "the dog ran",
    "a cat ran on",
    "the dog sat",
    "on a mat the cat ran",
]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})
MAX_TOKEN = len(LETTERS)


def spell(text: str) -> list[int]:
    return [LETTERS.index(character) + 1 for character in f" {text}"]


def letters_to_text(ids: list[int]) -> str:
    return " ".join("".join(LETTERS[i - 1] for i in ids).split())


def words_to_text(ids: list[int]) -> str:
    return " ".join(WORDS[i - 1] for i in ids)


def posteriors(
    sentences: list[str], seed: int = 0, noise: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log P (N, T, C) and supervision segments.

    Each symbol has one or two frames, with blanks between and noise everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for sentence in sentences:
        frames: list[int] = []
        for symbol in spell(sentence):
            frames += [symbol] * int(torch.randint(1, 3, (), generator=generator)) + [0]
        logits = torch.randn(len(frames), MAX_TOKEN + 1, generator=generator) * noise
        logits[torch.arange(len(frames)), torch.tensor(frames)] += 4.0
        rows.append(logits.log_softmax(-1))
    segments = torch.tensor([[i, 0, len(row)] for i, row in enumerate(rows)], dtype=torch.int32)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), segments


def decode(
    graph: k2.Fsa, sentences: list[str], seed: int = 0, noise: float = 2.0, output_beam: float = 6.0
) -> k2.Fsa:
    """Decode as icefall's `get_lattice` does."""
    log_probs, segments = posteriors(sentences, seed, noise)
    dense = k2.DenseFsaVec(log_probs, segments)
    return k2.intersect_dense_pruned(
        graph,
        dense,
        search_beam=20,
        output_beam=output_beam,
        min_active_states=30,
        max_active_states=10000,
    )


def ctc_lattice(sentences: list[str] = SENTENCES[:3], seed: int = 0, **options: float) -> k2.Fsa:
    """aux_labels are a tensor of token ids; there is no n-gram."""
    return decode(k2.ctc_topo(MAX_TOKEN), sentences, seed, **{"noise": 1.5, **options})


def hlg_lattice(sentences: list[str] = SENTENCES[:3], seed: int = 0, **options: float) -> k2.Fsa:
    """aux_labels are ragged word ids; lm_scores are those of the bigram."""
    return decode(hlg(), sentences, seed, **options)


def hlg() -> k2.Fsa:
    """Make an HLG as icefall's compile_hlg.py does, in small.

    It needs no disambiguation: every spelling begins with a space, and no word comes twice.
    """
    graph = k2.connect(k2.compose(k2.arc_sort(lexicon()), k2.arc_sort(bigram())))
    graph = k2.connect(k2.remove_epsilon(k2.connect(k2.determinize(graph))))
    graph.aux_labels = graph.aux_labels.remove_values_eq(0)
    graph = k2.arc_sort(graph)
    composed = k2.arc_sort(
        k2.connect(k2.compose(k2.ctc_topo(MAX_TOKEN), graph, inner_labels="tokens"))
    )
    batch = k2.create_fsa_vec([composed])
    batch.lm_scores = batch.scores.clone()
    return batch


def lexicon() -> k2.Fsa:
    """Map letters to words.

    State 0 stands before every word, a state of its own between two letters; the last one is final.
    """
    spellings = [spell(word) for word in WORDS]
    last = sum(len(spelling) - 1 for spelling in spellings) + 1
    lines, state = [], 1
    for number, spelling in enumerate(spellings, 1):
        inner = list(range(state, state + len(spelling) - 1))
        state += len(inner)
        for place, (start, end, symbol) in enumerate(
            zip([0, *inner], [*inner, 0], spelling, strict=True)
        ):
            lines.append((start, f"{start} {end} {symbol} {number if place == 0 else 0} 0"))
    lines.append((0, f"0 {last} -1 -1 0"))
    return k2.Fsa.from_str(
        "\n".join([*(line for _, line in sorted(lines)), str(last)]), num_aux_labels=1
    )


def bigram() -> k2.Fsa:
    """Estimate P(word | last word) from the sentences, add-one.

    State w is "the last word was w", 0 the start; the last state is final.
    """
    size = len(WORDS)
    counts = torch.ones(size + 1, size + 1)  # column `size` is the end
    for sentence in SENTENCES:
        ids = [WORDS.index(word) for word in sentence.split()]
        for before, after in zip([-1, *ids], [*ids, size], strict=True):
            counts[before + 1, after] += 1
    log_probs = (counts / counts.sum(1, keepdim=True)).log()
    lines = [
        f"{a} {b + 1} {b + 1} {log_probs[a, b]:.6f}" for a in range(size + 1) for b in range(size)
    ]
    lines += [f"{a} {size + 1} -1 {log_probs[a, size]:.6f}" for a in range(size + 1)]
    return k2.Fsa.from_str(
        "\n".join([*sorted(lines, key=lambda line: int(line.split()[0])), str(size + 1)])
    )


def enumerate_paths(lattice: k2.Fsa, utterance: int) -> dict[tuple[int, ...], tuple[float, float]]:
    """Return ids -> (score, lm score) of the best path, from a walk over every path.

    float64; meant for small lattices.
    """
    fsa = lattice[utterance]
    arcs = fsa.arcs.values()[:, :2].tolist()
    labels = (
        fsa.aux_labels.tolist()
        if isinstance(fsa.aux_labels, k2.RaggedTensor)
        else [[label] for label in fsa.aux_labels.tolist()]
    )
    scores = fsa.scores.double().tolist()
    ngram = fsa.lm_scores.double().tolist() if hasattr(fsa, "lm_scores") else [0.0] * len(scores)
    leaving: dict[int, list[int]] = {}
    for index, (start, _) in enumerate(arcs):
        leaving.setdefault(start, []).append(index)
    last = max(end for _, end in arcs)
    best: dict[tuple[int, ...], tuple[float, float]] = {}
    stack: list[tuple[int, tuple[int, ...], float, float]] = [(0, (), 0.0, 0.0)]
    while stack:
        state, ids, score, lm = stack.pop()
        if state == last:
            best[ids] = max(best.get(ids, (-float("inf"), 0.0)), (score, lm))
        for index in leaving.get(state, []):
            words = tuple(label for label in labels[index] if label > 0)
            stack.append((arcs[index][1], ids + words, score + scores[index], lm + ngram[index]))
    return best


def snapshot(lattice: k2.Fsa) -> dict[str, object]:
    """Return all of a lattice, to compare it afterwards."""
    tensors = {
        name: (value.tolist(), str(value.dtype)) if isinstance(value, torch.Tensor) else str(value)
        for name, value in lattice.named_tensor_attr()
    }
    others = {
        name: value for name, value in lattice.named_non_tensor_attr() if name != "labels_version"
    }
    return {
        "arcs": lattice.arcs.values().tolist(),
        "tensors": tensors,
        "others": others,
        "properties": lattice.properties,
    }


class CountingScorer:
    """A scorer that remembers its calls; the score is what `value(text)` says."""

    name, kind, signature = "counting", "log_prob", "counting"

    def __init__(self, value=lambda text: -0.5 * len(text) + 3.0 * text.count("cat")) -> None:
        self.value = value
        self.calls: list[list[NBest]] = []

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        self.calls.append(list(lists))
        for nbest in self.calls[-1]:
            yield Score(
                tuple(self.value(hyp.text) for hyp in nbest.hyps),
                self.signature,
                "log_prob",
                len(nbest.hyps),
            )
