"""A record with two scores, and lists with any scores."""

from copy import deepcopy

from rescore.formats.record import from_dict
from rescore.types import Hypothesis, NBest

RECORD = {
    "speaker": "s1",
    "hyps": [
        {"scores": {"am": -10, "lm": -2.0}, "text": "a b", "tokens": [1, 2]},
        {"scores": {"am": -11.0, "lm": -0.5}, "text": "a", "std_errors": {"lm": 0.1}},
        {"text": "a b c", "scores": {"am": -10.5, "lm": -1.5}},
    ],
    "meta": {
        "scores": {"lm": {"signature": "gpt:1", "kind": "log_prob", "evaluations": 3}},
        "by": "us",
    },
    "ref": "a b",
    "id": "u1",
}


def record(**changes):
    return from_dict({**deepcopy(RECORD), **changes}, "dev.jsonl:12")


def nbest(*scores, name="u", texts=None):
    texts = texts or [f"w{i}" for i in range(len(scores))]
    return NBest(
        name,
        tuple(Hypothesis(text, values) for text, values in zip(texts, scores, strict=True)),
        where="dev.jsonl:12",
    )
