"""Run the stage inside a real icefall checkout, on real speech.

get_lattice -> nbest_decoding -> rescore_with_dlm -> write_error_stats:

    python recipes/icefall/try_checkout.py /path/to/icefall --an4 /path/to/an4 --out out \\
        --minutes 15

It needs icefall's packages (docs/icefall.md) and AN4, unpacked. The acoustic model is a small
character CTC trained here (an4_ctc.py); the HLG is made icefall's way from AN4's words and a bigram
of the training transcripts: real posteriors and real lattices, a weak recogniser. Prints every
check and measurement; exits with status 1 if a check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NUM_PATHS, NBEST_SCALE, HLG_SCALE = 100, 0.5, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("icefall", type=Path)
    parser.add_argument(
        "--an4", type=Path, required=True, help="folder with train.tsv, test.tsv, train/, test/"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=15, help="of training, if there is no OUT/ctc.pt"
    )
    parser.add_argument(
        "--utterances", type=int, default=None, help="of dev and of test; default all"
    )
    options = parser.parse_args()
    sys.path[:0] = [
        str(HERE),
        str(options.icefall),
        str(options.icefall / "egs/librispeech/ASR/pruned_transducer_stateless2"),
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    check = Checks()
    name_the_checkout(options.icefall)
    try_patches(options.icefall, check)
    try_lattices(options, check)
    try_transducer(check)
    print(f"{check.passed} checks passed, {check.failed} failed")
    return 1 if check.failed else 0


class Checks:
    """Prints every check and counts those that passed and failed."""

    passed = failed = 0

    def __call__(self, what: str, is_right: bool) -> None:
        print(f"{'ok ' if is_right else 'NO '} {what}", flush=True)
        self.passed += is_right
        self.failed += not is_right


def name_the_checkout(folder: Path) -> None:
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h %cs"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("k2", "torch", "lhotse"))
    print(
        f"icefall {commit or 'of an unknown commit'}; Python {sys.version.split()[0]}, {versions}"
    )


def try_patches(folder: Path, check: Checks) -> None:
    """Each patch applies (or is applied already), and a patched recipe parses its flags."""
    for patch in sorted((HERE / "patches").glob("*.patch")):
        states = [
            subprocess.run(
                ["git", "apply", "--check", *flags, str(patch)],
                cwd=folder,
                capture_output=True,
                check=False,
            )
            for flags in ([], ["-R"])
        ]
        check(
            f"{patch.name} {'applies' if states[0].returncode == 0 else 'is applied'}",
            any(state.returncode == 0 for state in states),
        )


# --------------------------------------------------------------------------- lattices of speech


def try_lattices(options: argparse.Namespace, check: Checks) -> None:
    import an4_ctc  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from icefall.utils import write_error_stats  # noqa: PLC0415

    import rescore  # noqa: PLC0415

    torch.set_num_threads(1)
    train, dev = an4_ctc.split(an4_ctc.load(options.an4, "train"))
    test = an4_ctc.load(options.an4, "test")
    model = an4_ctc.Ctc()
    if not (options.out / "ctc.pt").exists():
        torch.save(an4_ctc.train(train, options.minutes).state_dict(), options.out / "ctc.pt")
    model.load_state_dict(torch.load(options.out / "ctc.pt", weights_only=True))
    model.eval()
    graph, words = make_hlg([u.text for u in train])
    print(f"HLG: {graph.arcs.num_elements()} arcs, {len(words)} words")
    scorer = rescore.load_scorer("usdm")
    for name, utterances in (
        ("dev", dev[: options.utterances]),
        ("test", test[: options.utterances]),
    ):
        results = decode_set(
            name, batches_of(model, graph, utterances), scorer, words, options.out, check
        )
        for setting, texts in results.items():
            with open(options.out / f"errs-{name}-{setting}.txt", "w", encoding="utf8") as file:
                wer = write_error_stats(file, f"{name}-{setting}", sorted(texts), enable_log=False)
            print(
                f"    {name}, {len(texts)} utterances, {setting}: {wer:.2f} % WER (icefall's "
                "write_error_stats)"
            )


def batches_of(model: Any, graph: Any, utterances: list[Any]) -> Iterator[tuple[list[Any], Any]]:
    """Yield (utterances, lattice), by icefall's get_lattice."""
    import an4_ctc  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from icefall.decode import get_lattice  # noqa: PLC0415

    for batch, features, lengths in an4_ctc.batches(utterances, 16):
        with torch.no_grad():
            log_probs, frames = model(features, lengths)
        segments = torch.stack(
            [torch.arange(len(batch)), torch.zeros(len(batch), dtype=torch.long), frames], 1
        ).to(torch.int32)
        lattice = get_lattice(
            nnet_output=log_probs, decoding_graph=graph, supervision_segments=segments,
            search_beam=20, output_beam=8, min_active_states=30, max_active_states=10000,
        )  # fmt: skip
        yield batch, lattice


def decode_set(
    name: str,
    batches: Iterator[tuple[list[Any], Any]],
    scorer: Any,
    words: list[str],
    out: Path,
    check: Checks,
) -> dict[str, list[Any]]:
    """Run every method on the same lattices, and the checks on each batch.

    Return setting -> [(id, reference words, hypothesis words)].
    """
    import torch  # noqa: PLC0415
    from dlm_rescore import dump_nbest, rescore_with_dlm  # noqa: PLC0415
    from icefall.decode import Nbest, nbest_decoding, one_best_decoding  # noqa: PLC0415
    from icefall.utils import get_texts  # noqa: PLC0415

    def to_text(ids: list[int]) -> str:
        return " ".join(words[i] for i in ids)

    results: dict[str, list[Any]] = {}
    same_best = same_scores = unchanged = alike = True
    largest, paths, seconds, count = 0.0, 0, {"nbest_decoding": 0.0, "rescore_with_dlm": 0.0}, 0
    dump = out / f"nbest-{name}.jsonl"
    dump.unlink(missing_ok=True)
    for batch, lattice in batches:
        count += 1
        before = (lattice.arcs.values().clone(), lattice.scores.clone(), lattice.lm_scores.clone())
        best, seconds["nbest_decoding"] = timed(
            seconds["nbest_decoding"],
            lambda lattice=lattice: nbest_decoding(lattice, NUM_PATHS, nbest_scale=NBEST_SCALE),
        )
        rescored, seconds["rescore_with_dlm"] = timed(
            seconds["rescore_with_dlm"],
            lambda lattice=lattice, batch=batch: rescore_with_dlm(
                lattice,
                NUM_PATHS,
                scorer,
                to_text,
                NBEST_SCALE,
                [1, 0.5],
                [0, 0.3],
                cut_ids=[u.id for u in batch],
            ),
        )
        best_texts = dump_nbest(
            lattice,
            [u.id for u in batch],
            [u.text for u in batch],
            dump,
            num_paths=NUM_PATHS,
            nbest_scale=NBEST_SCALE,
            ids_to_text=to_text,
        )
        unchanged &= all(
            torch.equal(a, b)
            for a, b in zip(
                before, (lattice.arcs.values(), lattice.scores, lattice.lm_scores), strict=True
            )
        )
        theirs = [to_text(ids) for ids in get_texts(best)]
        ours = rescored["ngram_lm_scale_1_dlm_scale_0"]
        same_best &= [to_text(ids) for ids in get_texts(ours)] == theirs == best_texts
        same_scores &= torch.equal(ours.scores, best.scores)
        nbest = Nbest.from_lattice(lattice, NUM_PATHS, nbest_scale=NBEST_SCALE).intersect(lattice)
        difference, equal = compared(lattice, nbest)
        largest, alike, paths = (
            max(largest, difference),
            alike and equal,
            paths + nbest.fsa.shape[0],
        )
        settings = {
            "1best": get_texts(one_best_decoding(lattice)),
            "nbest": get_texts(best),
            **{key: get_texts(value) for key, value in rescored.items()},
        }
        for setting, hyps in settings.items():
            rows = [
                (u.id, u.text.split(), to_text(ids).split())
                for u, ids in zip(batch, hyps, strict=True)
            ]
            results.setdefault(setting, []).extend(rows)
    check(
        f"{name}: scales 1 and 0 give icefall's nbest_decoding, text for text, and so does "
        f"nbest-dump ({count} batches)",
        same_best,
    )
    check(f"{name}: with the same arc scores", same_scores)
    check(f"{name}: the {paths} paths are icefall's Nbest, in its order", alike)
    check(
        f"{name}: am and ngram are compute_am_scores and compute_lm_scores to {largest:.1e} of "
        "their size (float32)",
        largest < 1e-5,
    )
    check(f"{name}: the lattices are unchanged, bit for bit", unchanged)
    print(
        f"    {name}: "
        + ", ".join(f"{what} {spent:.1f} s" for what, spent in seconds.items())
        + f" for {count} batches"
    )
    return results


def compared(lattice: Any, nbest: Any) -> tuple[float, bool]:
    """Return the largest relative difference to icefall's scores, and whether paths are equal."""
    from dlm_rescore.paths import sample_paths  # noqa: PLC0415
    from icefall.utils import get_texts  # noqa: PLC0415

    paths = sample_paths(lattice, NUM_PATHS, NBEST_SCALE)
    pairs = ((paths.am, nbest.compute_am_scores()), (paths.ngram, nbest.compute_lm_scores()))
    differences = [
        float(((ours - theirs.values.double()).abs() / ours.abs().clamp(min=1)).max())
        for ours, theirs in pairs
    ]
    return max(differences), paths.ids == get_texts(nbest.fsa)


def timed(before: float, call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.monotonic()
    result = call()
    return result, before + time.monotonic() - begin


def make_hlg(texts: list[str]) -> tuple[Any, list[str]]:
    """Return (HLG, word table) as compile_hlg.py makes them.

    L spells words, G is an add-0.1 bigram. Spellings begin with a space, so nothing is ambiguous.
    """
    import k2  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from an4_ctc import SYMBOLS  # noqa: PLC0415

    words = sorted({word for text in texts for word in text.split()})
    ids = {word: i for i, word in enumerate(words, 1)}
    arcs, state = [], 1
    last = sum(len(word) for word in words) + 1
    for word, number in ids.items():
        spelling = [SYMBOLS.index(c) for c in f"|{word}"]
        inner = list(range(state, state + len(word)))
        state += len(inner)
        for place, (a, b, symbol) in enumerate(
            zip([0, *inner], [*inner, 0], spelling, strict=True)
        ):
            arcs.append((a, f"{a} {b} {symbol} {number if place == 0 else 0} 0"))
    arcs.append((0, f"0 {last} -1 -1 0"))
    lexicon = k2.Fsa.from_str(
        "\n".join([*(line for _, line in sorted(arcs)), str(last)]), num_aux_labels=1
    )
    size = len(words)
    counts = torch.full((size + 1, size + 1), 0.1)
    for text in texts:
        numbers = [ids[word] for word in text.split()]
        for a, b in zip([0, *numbers], [*numbers, size + 1], strict=True):
            counts[a, b - 1] += 1
    log_probs = (counts / counts.sum(1, keepdim=True)).log()
    lines = [
        f"{a} {b} {b if b <= size else -1} {log_probs[a, b - 1]:.6f}"
        for a in range(size + 1)
        for b in range(1, size + 2)
    ]
    grammar = k2.Fsa.from_str("\n".join([*lines, str(size + 1)]))
    graph = k2.connect(k2.compose(k2.arc_sort(lexicon), k2.arc_sort(grammar)))
    graph = k2.connect(k2.remove_epsilon(k2.connect(k2.determinize(graph))))
    graph.aux_labels = graph.aux_labels.remove_values_eq(0)
    hlg = k2.arc_sort(
        k2.connect(
            k2.compose(k2.ctc_topo(len(SYMBOLS) - 1), k2.arc_sort(graph), inner_labels="tokens")
        )
    )
    hlg = k2.create_fsa_vec([hlg])
    hlg.scores *= HLG_SCALE
    hlg.lm_scores = hlg.scores.clone()
    return hlg, ["<eps>", *words]


# ----------------------------------------------------------------------------------- transducer


def try_transducer(check: Checks) -> None:
    """Compare our transducer search with icefall's, by their choices at LM scale 0.

    Decoder and Joiner are icefall's own, with random weights.
    """
    import torch  # noqa: PLC0415
    from beam_search import modified_beam_search_lm_rescore  # noqa: PLC0415
    from decoder import Decoder  # noqa: PLC0415
    from dlm_rescore import modified_beam_search_dlm_rescore  # noqa: PLC0415
    from joiner import Joiner  # noqa: PLC0415

    class Silent:
        """An LM whose every score is 0."""

        name, kind, signature = "silent", "log_prob", "silent"

        def lm(self, x: Any, y: Any, lengths: Any) -> Any:
            return torch.zeros(y.shape)

        def score(self, lists: Any) -> Any:
            from rescore.types import Score  # noqa: PLC0415

            return (Score((0.0,) * len(nbest.hyps), "silent", "log_prob", 0) for nbest in lists)

    same, utterances = True, 0
    for seed in range(20):
        torch.manual_seed(seed)
        model = torch.nn.Module()
        model.decoder, model.joiner = Decoder(30, 16, 0, 2), Joiner(12, 16, 16, 30)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.6)
        model.eval()
        encoder_out, lengths = torch.randn(6, 25, 12), torch.tensor([25, 25, 3, 14, 1, 20])
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = modified_beam_search_lm_rescore(
                model, encoder_out, lengths, Silent(), [0.0], beam=4
            )["nnlm_scale_0.00"]
        ours = modified_beam_search_dlm_rescore(
            model, encoder_out, lengths, Silent(), str, dlm_scale=0, beam=4
        )["dlm_scale_0"]
        same &= ours == theirs
        utterances += len(ours)
    check(
        "transducer: scale 0 gives icefall's modified_beam_search_lm_rescore at scale 0 "
        f"({utterances} utterances, random weights)",
        same,
    )


if __name__ == "__main__":
    sys.exit(main())
