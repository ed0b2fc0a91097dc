"""Rescoring a lattice against rescoring its N-best list:

Error rate, total reached, evaluations of the scorer.

python recipes/lattice/compare.py --dev DEV.tar --dev-lists DEV.jsonl.gz --test TEST.tar
--test-lists TEST.jsonl.gz

The lattices are HTK SLF as PocketSphinx writes them, without language scores: the engine's own
trigram (`pip install pocketsphinx`) is put on their arcs, so that both systems see the same am and
ngram scores. The lists give the references. Weights are tuned on the 100-best lists of dev with am,
ngram and the new score, and used for every system. Both systems are made from the same lattice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

import rescore
from rescore.decoding.lattice_search import LatticeWeights, SearchOptions, rescore_lattice
from rescore.lattice.expand import expand
from rescore.lattice.formats import slf
from rescore.lattice.lattice import Lattice
from rescore.lattice.paths import as_nbest, n_best
from rescore.lattice.posteriors import arc_totals, prune
from rescore.scorers import Scorer, load_scorer
from rescore.types import NBest, Score
from rescore.wer import count_errors, list_errors

ENGINE_SCALE = 12.0  # of the language model, in the engine that wrote the lattices


def trigram() -> Any:
    """log p(word | history) of PocketSphinx's model, in nats."""
    import pocketsphinx  # noqa: PLC0415 - an optional package

    path = str(Path(pocketsphinx.__file__).parent / "model" / "en-us" / "en-us.lm.bin")
    logs = pocketsphinx.LogMath()
    model = pocketsphinx.NGramModel(pocketsphinx.Config(lm=path, lw=1.0, wip=1.0), logs, path)
    return lambda history, word: logs.log_to_ln(model.prob([word, *reversed(history)]))


def scored_lattice(raw: Lattice, log_prob: Any) -> Lattice:
    """With the trigram's scores; coarse to fine:

    Arcs that are out of the question with a shorter history are gone before states are split
    further.
    """
    for order in (1, 2, 3):
        whole = expand(replace(raw, lm=np.zeros(raw.arcs)), order, log_prob, limit=3_000_000)
        raw = prune(whole, arc_totals(whole, 1 / ENGINE_SCALE, 1.0), posterior=1e-5)
    return raw


@dataclass
class Remembering:
    """A scorer that scores each text once, for a deterministic one.

    `spent` counts what the texts asked for would have cost.
    """

    inner: Scorer
    known: dict[str, float] = field(default_factory=dict)
    spent: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def kind(self) -> Any:
        return self.inner.kind

    @property
    def signature(self) -> str:
        return self.inner.signature

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        for nbest in lists:
            new = tuple(hyp for hyp in nbest.hyps if hyp.text not in self.known)
            if new:
                start = perf_counter()
                (score,) = self.inner.score([replace(nbest, hyps=new)])
                self.seconds += perf_counter() - start
                self.known.update(zip((hyp.text for hyp in new), score.values, strict=True))
            self.spent += len(nbest.hyps)
            yield Score(
                tuple(self.known[hyp.text] for hyp in nbest.hyps),
                self.signature,
                self.kind,
                len(nbest.hyps),
            )


def lists_of(part: list[Lattice], refs: dict[str, str], scorer: Scorer, depth: int) -> list[NBest]:
    """The N-best lists by the engine's own total, with the new score."""
    lists = [
        as_nbest(
            one,
            n_best(one, arc_totals(one, 1.0, ENGINE_SCALE), depth),
            ref=refs[one.id],
            lm="ngram",
        )
        for one in part
    ]
    return list(rescore.score(lists, scorer))


def row(
    name: str,
    lists: Sequence[NBest],
    fusion: rescore.Fusion,
    evaluations: int,
    against: Sequence[float] | None,
) -> list[float]:
    """Print one line of the table; return the totals of the winners."""
    best = list(rescore.fuse(lists, fusion))
    errors = sum(count_errors(one.ref, one.hyps[0].text).errors for one in best)
    words = sum(len(one.ref.split()) for one in best)
    oracle = sum(int(list_errors(one).min()) for one in best)
    totals = [one.hyps[0].scores["total"] for one in best]
    line = f"| {name} | {evaluations / len(best):.1f} "
    line += f"| {100 * errors / words:.2f} | {100 * oracle / words:.2f} |"
    if against is None:
        line += " | |"
    else:
        gains = np.array(totals) - np.array(against)
        better, worse = (gains > 1e-6).sum(), (gains < -1e-6).sum()
        line += f" {gains.mean() / ENGINE_SCALE:+.3f} | {better} / {worse} |"
    click.echo(line)
    return totals


@click.command()
@click.option("--dev", required=True, help="Lattices to tune on, a tar of SLF files.")
@click.option("--dev-lists", required=True, help="Lists with the references of dev.")
@click.option("--test", help="Lattices to report on.")
@click.option("--test-lists", help="Lists with the references of test.")
@click.option("--scorer", default="usdm", show_default=True)
@click.option("--estimator", default="pll", show_default=True)
@click.option(
    "--depths", default="10,20,50,100", show_default=True, help="Of the N-best lists compared."
)
@click.option(
    "--per-round",
    default="1,2,5,10,20",
    show_default=True,
    help="Paths scored in each round of the lattice rescorings compared.",
)
@click.option(
    "--posterior",
    default=1e-3,
    show_default=True,
    help="What lattices are pruned to before rescoring.",
)
@click.option("--limit", type=int, help="Lattices used of each part, from the first on.")
def main(
    dev: str,
    dev_lists: str,
    test: str | None,
    test_lists: str | None,
    scorer: str,
    estimator: str,
    depths: str,
    per_round: str,
    posterior: float,
    limit: int | None,
) -> None:
    log_prob, built = (
        trigram(),
        Remembering(load_scorer(scorer, rescore.ScorerOptions(estimator=estimator))),
    )
    fusion = None
    for part, tar, source in ("dev", dev, dev_lists), ("test", test, test_lists):
        if tar is None or source is None:
            continue
        refs = {one.id: one.ref or "" for one in rescore.read(source)}
        start = perf_counter()
        loaded = [scored_lattice(raw, log_prob) for raw in islice(slf.read(tar), limit)]
        click.echo(
            f"\n{part}: {len(loaded)} lattices of {np.mean([one.arcs for one in loaded]):.0f} arcs "
            f"on average, {perf_counter() - start:.0f} s\n"
        )
        fusion = compare(
            loaded,
            refs,
            built,
            fusion,
            [int(d) for d in depths.split(",")],
            [int(n) for n in per_round.split(",")],
            posterior,
        )
    click.echo(f"\nscoring {len(built.known)} texts took {built.seconds:.0f} s")


def compare(
    part: list[Lattice],
    refs: dict[str, str],
    scorer: Remembering,
    fusion: rescore.Fusion | None,
    depths: Sequence[int],
    per_rounds: Sequence[int],
    posterior: float,
) -> rescore.Fusion:
    """Print the table of one part; tune first where there are no weights yet."""
    lists = lists_of(part, refs, scorer, max(depths))
    hundred = [replace(one, hyps=one.hyps[:100]) for one in lists]
    if fusion is None:
        fusion = rescore.tune(hundred, ["am", "ngram", scorer.name])
        click.echo(f"weights: {dict(fusion.scales)}, word bonus {fusion.word_bonus:.3g}\n")
    click.echo(
        "| system | evaluations | WER | oracle | total against 100-best "
        "| utterances better / worse |\n|---|---|---|---|---|---|"
    )
    row(
        "recogniser (am + 12 ngram)",
        [replace(one, hyps=one.hyps[:1]) for one in lists],
        fusion,
        0,
        None,
    )
    against = None
    for depth in sorted(depths, key=lambda depth: depth != 100):
        cut = [replace(one, hyps=one.hyps[:depth]) for one in lists]
        totals = row(f"{depth}-best", cut, fusion, sum(len(one.hyps) for one in cut), against)
        against = totals if against is None else against
    scales = fusion.scales
    weights = LatticeWeights(
        scales["am"],
        scales["ngram"],
        scales[scorer.name],
        fusion.word_bonus,
        posterior_scale=1 / ENGINE_SCALE,
    )
    for per_round in per_rounds:
        start = perf_counter()
        done = [
            rescore_lattice(
                one,
                scorer,
                weights,
                SearchOptions(
                    posterior=posterior, lm_name="ngram", per_round=per_round, max_rounds=100
                ),
                ref=refs[one.id],
            )
            for one in part
        ]
        cover, rounds = np.mean([one.cover for one in done]), np.mean([one.rounds for one in done])
        name = f"lattice, {per_round} a round ({cover:.1f} in the cover, {rounds:.1f} rounds)"
        row(
            name, [one.nbest for one in done], fusion, sum(one.evaluations for one in done), against
        )
        unstable = sum(not one.is_stable for one in done)
        click.echo(
            f"<!-- {perf_counter() - start:.0f} s, with the scoring of new texts; {unstable} not "
            "stable -->"
        )
    return fusion


if __name__ == "__main__":
    main()
