"""What the tests of commands share: lists, and how a command is run and read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

COMMANDS = [
    "posteriors",
    "decode",
    "convert",
    "lattice",
    "check",
    "score",
    "merge",
    "pool",
    "tune",
    "sweep",
    "fuse",
    "eval",
    "run",
    "compare",
    "show",
    "report",
    "models",
    "formats",
    "train",
    "plugins",
    "completion",
]


#: (id, reference, [(text, am, ngram)]): the first pass makes 4 errors, the oracle 1.
TEXTS = [
    (
        "u1",
        "the old house",
        [
            ("the old horse", -10.0, -9.0),
            ("the old house", -10.5, -6.0),
            ("the cold house", -12.0, -8.0),
        ],
    ),
    (
        "u2",
        "she wrote a letter",
        [("she wrote a letter", -20.0, -8.0), ("she wrote letter", -19.0, -12.0)],
    ),
    (
        "u3",
        "no light",
        [("no light there", -5.0, -9.0), ("no light", -5.5, -4.0), ("", -30.0, -1.0)],
    ),
    ("u4", "we walked along", [("we walked a long", -7.0, -9.5), ("we walk along", -7.2, -6.5)]),
]


RECORDS = [
    {
        "id": name,
        "ref": ref,
        "speaker": f"s{number % 2}",
        "hyps": [{"text": text, "scores": {"am": am, "ngram": ngram}} for text, am, ngram in hyps],
    }
    for number, (name, ref, hyps) in enumerate(TEXTS)
]


BARE = [{"id": name, "hyps": [{"text": text} for text, _, _ in hyps]} for name, _, hyps in TEXTS]


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


def process(*argv, stdin=b""):
    """Run a command in a process of its own."""
    command = [sys.executable, "-c", "from rescore.cli import main; main()", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, input=stdin, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def write(name, records):
    """One line a record; text lines are written as they are."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return name


def read(name):
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def good(done):
    assert done.status == 0, done.err
    return done


def refused(done):
    """The one line of an error: status 1, nothing on standard output."""
    assert (done.status, done.out) == (1, ""), done
    [line] = done.err.splitlines()
    return line


def files():
    return sorted(os.listdir())


HYPORADISE = [{"input": ["a b", "a c", "a b"], "output": "a b"}, {"input": ["x"], "output": "y"}]


GOOD = '{"id": "good", "ref": "x", "hyps": [{"text": "x", "scores": {"am": -1}}]}'


BAD = {
    '{"id": "b", "hyps": [{"text": "x"}]': "broken JSON",
    "not json": "broken JSON",
    '{"id": "b", "hyps": [{"text": "x"}]} {}': "more than one JSON value",
    "[1, 2]": "a list, expected an object",
    "null": "null, expected an object",
    '{"hyps": [{"text": "x"}]}': '"id" is missing',
    '{"id": 7, "hyps": [{"text": "x"}]}': '"id" is a number (7)',
    '{"id": " ", "hyps": [{"text": "x"}]}': '"id" is empty',
    '{"id": "good", "hyps": [{"text": "x"}]}': "already at in.jsonl:1",
    '{"id": "b"}': '"hyps" is missing',
    '{"id": "b", "hyps": []}': '"hyps" is an empty list',
    '{"id": "b", "hyps": {"text": "x"}}': '"hyps" is an object',
    '{"id": "b", "hyps": ["x"]}': "hypothesis 1 is a string",
    '{"id": "b", "hyps": [{"text": "x"}, {"scores": {"am": 1}}]}': (
        'hypothesis 2: "text" is missing'
    ),
    '{"id": "b", "hyps": [{"text": null}]}': 'hypothesis 1: "text" is null',
    '{"id": "b", "hyps": [{"text": 5}]}': 'hypothesis 1: "text" is a number (5)',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": "-1"}}]}': 'score "am" is a string',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": true}}]}': 'score "am" is a boolean',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": null}}]}': 'score "am" is null',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": NaN}}]}': 'score "am" is NaN',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": -Infinity}}]}': 'score "am" is infinite',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": 1e999}}]}': 'score "am" is infinite',
    '{"id": "b", "hyps": [{"text": "x", "scores": [1]}]}': '"scores" is a list',
    '{"id": "b", "ref": 1, "hyps": [{"text": "x"}]}': '"ref" is a number',
}
