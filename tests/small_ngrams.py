"""Small n-gram models and texts for tests."""

from __future__ import annotations

import math
import random

from rescore.train.kneser_ney import encode, estimate

#: Every stored number is a float32 of at most 20 nats, so off by at most 20 * 2^-24; a value is the
#: sum of at most `order` of them.
ROUNDING = 20 * 2**-24

LN10 = math.log(10)

#: As SRILM writes pruned models: "b c" ends a 3-gram but is no 2-gram, a back-off may be positive,
#: <s> has -99.
ARPA = """written by hand

\\data\\
ngram 1=6
ngram 2=3
ngram 3=1

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-0.75 a -0.25
-0.5\tb\t0.125
-1.5\tc

\\2-grams:
-0.25\t<s> a\t-0.125
-0.375\ta b\t-0.0625
-0.3\tb </s>\t0

\\3-grams:
-0.0625\ta b c

\\end\\
"""


def zipf_text(seed=0, sentences=150, size=12):
    """Random sentences, an empty one included.

    Each order has enough counts of 1 to 4 for its discounts.
    """
    chance = random.Random(seed)
    words = [f"w{i}" for i in range(size)]
    weights = [1 / (i + 1) for i in range(size)]
    return [
        " ".join(chance.choices(words, weights, k=chance.randrange(8))) for _ in range(sentences)
    ]


def model_of(lines, order, prune=(), min_count=1):
    return estimate(*encode(lines, min_count), order, prune)


def values_of(model, *sentences):
    return model.token_log_probs([sentence.split() for sentence in sentences])[0]


def random_sentences(words, count=200, seed=5):
    chance = random.Random(seed)
    return [
        " ".join(chance.choices([*words, "never"], k=chance.randrange(10))) for _ in range(count)
    ]
