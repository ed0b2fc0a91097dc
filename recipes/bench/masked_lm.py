"""Time the pseudo-log-likelihood of a Hugging Face masked LM against minicons and a plain loop.

    python recipes/bench/masked_lm.py lists.jsonl.gz --minicons-python path/to/minicons/bin/python
    python recipes/bench/masked_lm.py lists.jsonl.gz --lists 1 --depth 100 --json bench.json

The model has the shape of BERT-base (12 layers of 768, 30,522 rows) with random weights, and a
WordPiece vocabulary trained on the lists' texts. All sides read the same directory and score the
same texts: the best `--depth` hypotheses of `--lists` lists, evenly spaced over the file. [SEP] is
not scored, because minicons does not score it. Tokenising is timed on all sides.

minicons 0.3.39 needs transformers 4.57.6, so it runs as a process of its own (minicons_pll.py),
times itself, and has the batch size (sentences) that was fastest in a trial. The plain loop is one
batch a sentence, one masked copy a token, log-softmax of all logits. The sides take turns. Times
are medians of CPU seconds, which other work on the machine disturbs least, and of wall seconds.

The share of the matmul peak: the seconds that the matrix products of the tokens alone (no padding;
attention's at the rate of the others; logits only where a token is scored) would take at the rate
at which torch multiplies matrices of those shapes, measured in every turn, over our seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn import functional
from transformers.utils import logging as transformers_logging

import rescore
from rescore import NBest
from rescore.scorers import Scorer, ScorerOptions, load_scorer

Times = tuple[float, float]  # CPU seconds, wall seconds

VOCABULARY, PIECES = 30_522, 8_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: Tokens of a network call, as rescore.batching has it on a CPU.
ROWS = 1024


def make_model(directory: Path, texts: list[str], layers: int) -> None:
    """BERT-base with random weights and a trained WordPiece vocabulary, with [unused] rows."""
    trained = tokenizers.BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(
        texts, vocab_size=PIECES, min_frequency=1, special_tokens=SPECIAL, show_progress=False
    )
    pieces = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    pieces += [f"[unused{i}]" for i in range(VOCABULARY - len(pieces))]
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(
        transformers.BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers)
    ).save_pretrained(directory)


class Minicons:
    """minicons in a process of its own."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        script = Path(__file__).with_name("minicons_pll.py")
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        } | {"OMP_NUM_THREADS": str(threads)}
        command = [python, str(script), str(model), str(threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._answer()
        self.batch = 1

    def __call__(self, texts: list[str]) -> tuple[Times, np.ndarray]:
        """Its times and values (texts,)."""
        self._process.stdin.write(json.dumps({"texts": texts, "batch": self.batch}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return (answer["cpu"], answer["wall"]), np.array(answer["values"])

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"minicons ended with status {self._process.wait()};"
                " run minicons_pll.py by hand to see why"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def ours(scorer: Scorer, lists: list[NBest]) -> np.ndarray:
    """Our values, list after list."""
    return np.concatenate([score.values for score in scorer.score(lists)])


@torch.no_grad()
def plain(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """One sentence after the other, as anybody would write it."""
    values = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids[0]
        scored = torch.arange(1, len(ids) - 1)
        copies = ids.repeat(len(scored), 1)
        copies[torch.arange(len(scored)), scored] = tokenizer.mask_token_id
        log_probs = model(
            input_ids=copies, attention_mask=torch.ones_like(copies)
        ).logits.log_softmax(-1)
        values.append(
            log_probs[torch.arange(len(scored)), scored, ids[scored]].double().sum().item()
        )
    return np.array(values)


def timed(work: Callable[[], np.ndarray]) -> tuple[Times, np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    values = work()
    return (time.process_time() - cpu, time.perf_counter() - wall), values


def rate(rows: int, inner: int, outer: int) -> float:
    """FLOP a CPU second of (rows, inner) x (inner, outer)."""
    x, weight = torch.randn(rows, inner), torch.randn(outer, inner)
    functional.linear(x, weight)
    start, calls = time.process_time(), 3
    for _ in range(calls):
        functional.linear(x, weight)
    return calls * 2 * rows * inner * outer / (time.process_time() - start)


def matmul_seconds(config: Any, lengths: np.ndarray) -> float:
    """CPU seconds of the matrix products of one masked copy a scored token.

    `lengths` are the tokens of each text, [CLS] and [SEP] included.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    copies = lengths - 2
    tokens, pairs = float((copies * lengths).sum()), float((copies * lengths**2).sum())
    square = rate(ROWS, width, width)
    body = 8 * tokens * width**2 / square + 4 * tokens * width * inner * (
        0.5 / rate(ROWS, width, inner) + 0.5 / rate(ROWS, inner, width)
    )
    attention = 4 * pairs * width / square
    rows = max(1, round(ROWS * copies.sum() / tokens))
    head = 2 * copies.sum() * width * (width / square + VOCABULARY / rate(rows, width, VOCABULARY))
    return float(layers * (body + attention) + head)


def read_lists(path: str, count: int, depth: int) -> tuple[list[NBest], list[str]]:
    """The best `depth` different hypotheses of `count` lists, and every text of the file."""
    every = list(rescore.read(path))
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, count).astype(int))]
    cut = [
        NBest(
            id=one.id, hyps=tuple({hyp.text: hyp for hyp in one.hyps if hyp.text}.values())[:depth]
        )
        for one in chosen
    ]
    return cut, [hyp.text for one in every for hyp in one.hyps]


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Everything that is reported."""
    lists, every = read_lists(options.path, options.lists, options.depth)
    texts = [hyp.text for one in lists for hyp in one.hyps]
    make_model(directory, every, options.layers)
    scorer = load_scorer("mlm", ScorerOptions(model=str(directory), score_eos=False))
    model, tokenizer = (
        transformers.AutoModelForMaskedLM.from_pretrained(directory).eval(),
        transformers.AutoTokenizer.from_pretrained(directory),
    )
    works = {
        "ours": lambda: timed(lambda: ours(scorer, lists)),
        "plain loop": lambda: timed(lambda: plain(model, tokenizer, texts)),
    }
    list(scorer.score([NBest(id=lists[0].id, hyps=lists[0].hyps[:1])]))  # first calls are not timed
    report: dict[str, Any] = {
        "lists": len(lists),
        "hypotheses": len(texts),
        "threads": options.threads,
        "repeats": options.repeats,
    }
    if options.minicons_python:
        minicons = Minicons(options.minicons_python, directory, options.threads)
        minicons.batch = report["minicons_batch"] = fastest_batch(
            minicons, texts[: max(options.batches)], options.batches
        )
        works["minicons"] = lambda: minicons(texts)
    lengths = np.array([len(ids) for ids in tokenizer(texts).input_ids])
    report |= {
        "passes": int((lengths - 2).sum()),
        "tokens": int(((lengths - 2) * lengths).sum()),
    } | turns(works, options.repeats, model.config, lengths)
    if options.minicons_python:
        minicons.close()
    return report


def fastest_batch(minicons: Minicons, texts: list[str], batches: list[int]) -> int:
    """The number of sentences at which minicons is fastest."""
    minicons(texts[:1])
    seconds = {}
    for minicons.batch in batches:
        seconds[minicons.batch] = minicons(texts)[0][0]
    return min(seconds, key=seconds.__getitem__)


def turns(
    works: dict[str, Callable[[], tuple[Times, np.ndarray]]],
    repeats: int,
    config: Any,
    lengths: np.ndarray,
) -> dict[str, Any]:
    """Let works take turns.

    Returns median times, largest differences from ours, and our share of the matmul peak.
    """
    seconds: dict[str, list[Times]] = {name: [] for name in works}
    values, peaks = {}, []
    for _ in range(repeats):
        for name, work in works.items():
            times, values[name] = work()
            seconds[name].append(times)
        peaks.append(matmul_seconds(config, lengths))
    cpu, wall = (
        {name: statistics.median(times[clock] for times in runs) for name, runs in seconds.items()}
        for clock in (0, 1)
    )
    return {
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "ratio_cpu": {name: cpu[name] / cpu["ours"] for name in works},
        "ratio_wall": {name: wall[name] / wall["ours"] for name in works},
        "largest_difference": {
            name: float(np.abs(theirs - values["ours"]).max()) for name, theirs in values.items()
        },
        "largest_value": float(np.abs(values["ours"]).max()),
        "matmul_cpu_seconds": statistics.median(peaks),
        "share_of_matmul_peak": statistics.median(peaks) / cpu["ours"],
    }


def show(report: dict[str, Any]) -> None:
    print(
        f"{report['lists']} lists, {report['hypotheses']} hypotheses, {report['passes']} passes,"
        f" {report['tokens']} tokens; {report['threads']} thread(s)"
    )
    print(
        f"medians of {report['repeats']}; ratios to ours;"
        f" minicons with batches of {report.get('minicons_batch', '-')} sentence(s)"
    )
    print(f"{'':12s}{'CPU s':>9s}{'wall s':>9s}{'ratio':>8s}{'(wall)':>8s}{'difference':>12s}")
    for name, cpu in report["cpu_seconds"].items():
        numbers = (
            report[key][name]
            for key in ("wall_seconds", "ratio_cpu", "ratio_wall", "largest_difference")
        )
        print("{:12s}{:9.2f}{:9.2f}{:8.2f}{:8.2f}{:12.1e}".format(name, cpu, *numbers))
    print(f"values as large as {report['largest_value']:.0f}")
    print(
        f"matrix products alone: {report['matmul_cpu_seconds']:.2f} CPU s,"
        f" {report['share_of_matmul_peak']:.1%} of ours"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="N-best lists in any format that is recognised by its content")
    parser.add_argument(
        "--minicons-python",
        metavar="PATH",
        help="Python of an environment with minicons 0.3.39 and transformers 4.57.6",
    )
    parser.add_argument("--lists", type=int, default=3, help="evenly spaced over the file")
    parser.add_argument("--depth", type=int, default=2, help="hypotheses of each list")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[1, 2],
        help="sentences a call that are tried for minicons",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as directory:
        report = run(options, Path(directory))
    show(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
