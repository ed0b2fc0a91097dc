"""Lists without scores, and edit operations counted otherwise than the package does."""

from hypothesis import strategies as st

from rescore.types import Hypothesis, NBest

sentences = st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "语"]), max_size=7).map(" ".join)


def nbest(name, ref, *texts, **raw):
    return NBest(name, tuple(Hypothesis(text) for text in texts), ref, raw, f"dev.jsonl:{name}")


def split(counts):
    return counts.substitutions, counts.insertions, counts.deletions


def dynamic_programming(ref, hyp):
    """Levenshtein's recursion as the textbook has it."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        previous, row = row, [i]
        for j, h in enumerate(hyp, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (r != h)))
    return row[-1]
