"""The other side of masked_lm.py: minicons in its own environment, asked on standard input.

    path/to/minicons/bin/python recipes/bench/minicons_pll.py MODEL_DIRECTORY THREADS

Every line is `{"texts": [...], "batch": n}`; the answer is `{"values": [...], "cpu": seconds,
"wall": seconds}`. Imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from minicons import scorer


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    model = scorer.MaskedLMScorer(sys.argv[1], "cpu")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        texts, batch = asked["texts"], asked["batch"]
        cpu, wall = time.process_time(), time.perf_counter()
        values = [
            value
            for at in range(0, len(texts), batch)
            for value in model.sequence_score(
                texts[at : at + batch], reduction=lambda scores: scores.sum().item()
            )
        ]
        print(
            json.dumps(
                {
                    "values": values,
                    "cpu": time.process_time() - cpu,
                    "wall": time.perf_counter() - wall,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
