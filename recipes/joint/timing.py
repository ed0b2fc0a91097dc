"""CPU seconds of decoding and scoring, all in one process, without the loading of models.

    python timing.py test.safetensors --decode "greedy=--method ctc_greedy" --decode "joint=..." \
        --score "usdm=usdm:pll@DIR@lists.jsonl" --limit 50 -o timing.json

Each system decodes (or scores) the first utterances of the file once, in chunks of 16.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

from rescore.cli.decode_command import decoder_of
from rescore.decoding.base import load_decoder
from rescore.formats.reading import read_lists
from rescore.scorers.loading import load_scorer
from rescore.scorers.options import Spec

CHUNK = 16


def seconds_of(task: Any, items: list) -> float:
    """CPU seconds of a task on items, after the first one has warmed it up."""
    task.evaluate(task.prepare(items[:1]))
    started = time.process_time()
    for start in range(0, len(items), CHUNK):
        task.evaluate(task.prepare(items[start : start + CHUNK]))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("posteriors")
    parser.add_argument("--decode", action="append", default=[], metavar="NAME=OPTIONS")
    parser.add_argument("--score", action="append", default=[], metavar="NAME=SPEC@LISTS")
    parser.add_argument("--limit", type=int, default=50, help="utterances")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    greedy = load_decoder("ctc_greedy", given.posteriors)
    items = list(itertools.islice(greedy.inputs(), given.limit))
    audio, rows = sum(item.seconds for item in items), {}
    for text in given.decode:
        name, _, options = text.partition("=")
        rows[name] = seconds_of(decoder_of(given.posteriors, options), items)
    for text in given.score:
        name, _, rest = text.partition("=")
        spec, _, path = rest.rpartition("@")
        scorer = load_scorer(Spec.parse(spec).scorer, Spec.parse(spec).options())
        rows[name] = seconds_of(scorer, list(itertools.islice(read_lists(path), given.limit)))
    record = {"utterances": len(items), "audio_seconds": audio, "cpu_seconds": rows}
    given.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
