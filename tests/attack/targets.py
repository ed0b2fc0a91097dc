"""Everything that the package opens: valid files, and a use of them that looks at what they give.

A target writes its files into an empty folder and returns its use: a function that opens them and
goes through all they hold. It raises RescoreError for files that it refuses, and `WrongError` if it
was given something that the files cannot mean, such as a score that nobody computed.

Formats come from the registry, so that a new one is attacked without a change here, as long as
tests/format_samples.py or tests/lattice/test_lattice_fuzzing.py has a valid file of it.
"""

from __future__ import annotations

import json
import math
import sys
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
for helpers in (TESTS, TESTS / "lattice", TESTS / "models"):
    sys.path.append(str(helpers))

from format_samples import build as build_lists  # noqa: E402
from small import LINES, save_small, small_tokenizer  # noqa: E402
from small_ngrams import ARPA, model_of, zipf_text  # noqa: E402
from speech_targets import SPEECH_TARGETS  # noqa: E402
from target import Target, Use, WrongError  # noqa: E402
from test_lattice_fuzzing import SAMPLES, incomplete  # noqa: E402
from training_targets import TRAINING_TARGETS  # noqa: E402

from rescore.errors import RescoreError  # noqa: E402
from rescore.formats import format_of  # noqa: E402
from rescore.formats.references import read_references  # noqa: E402
from rescore.fusion import weights  # noqa: E402
from rescore.lattice import lattice_format_of, read_lattices  # noqa: E402
from rescore.lattice.symbols import Pieces, SymbolTable  # noqa: E402
from rescore.models import ngram  # noqa: E402
from rescore.pipeline import Journal  # noqa: E402
from rescore.pipeline.cache import Cache, list_key, text_key  # noqa: E402
from rescore.pipeline.results import ScoreCodec  # noqa: E402
from rescore.registry import FORMATS, LATTICE_FORMATS, lookup  # noqa: E402
from rescore.scorers import ScorerOptions, load_scorer, load_vocabulary  # noqa: E402
from rescore.train.corpus import read_text  # noqa: E402
from rescore.types import Hypothesis, NBest, Score  # noqa: E402

__all__ = ["TARGETS"]

LISTS = [
    NBest(
        f"u{i}",
        tuple(
            Hypothesis(text, {"am": -1.5 * i - j, "lm": -2.0 - j})
            for j, text in enumerate((f"the old house {i}", "été 日本", "a letter"))
        ),
        "the old house",
    )
    for i in range(1, 4)
]


def lists(name: str) -> Target:
    def build(folder: Path) -> Use:
        sample = build_lists(name, LISTS, folder)

        def use() -> int:
            with suppress(RescoreError):
                format_of(sample.path)
            count = 0
            for nbest in lookup(FORMATS, name, "format").read(sample.path, **sample.options):
                scores = [score for hyp in nbest.hyps for score in hyp.scores.values()]
                if not nbest.hyps or not nbest.id.strip() or not all(map(math.isfinite, scores)):
                    raise WrongError(f"a list that is not whole: {nbest!r}"[:300])
                count += 1
            return count

        return use

    return build


def _lattices(read: Callable[[], Iterable[Any]]) -> int:
    count = 0
    for lattice in read():
        if reason := incomplete(lattice):
            raise WrongError(f"a lattice with {reason}")
        count += 1
    return count


def lattices(name: str, number: int) -> Target:
    data, options = SAMPLES[name][number]

    def build(folder: Path) -> Use:
        path = folder / "lattice"
        path.write_bytes(data)

        def use() -> int:
            with suppress(RescoreError):
                lattice_format_of(path)
            return _lattices(partial(read_lattices, path, name, **options))

        return use

    return build


def lattice_directory(name: str, suffix: str) -> Target:
    def build(folder: Path) -> Use:
        data, options = SAMPLES[name][0]
        inside = folder / "lattices"
        inside.mkdir()
        for i in range(2):
            (inside / f"u{i}{suffix}").write_bytes(
                data.replace(b"UTTERANCE=u", b"UTTERANCE=%du" % i)
            )
        (inside / f"u1{suffix}").unlink()
        return lambda: _lattices(partial(read_lattices, inside, name, **options))

    return build


def lattice_tar(folder: Path) -> Use:
    data, options = SAMPLES["slf"][0]
    (folder / "u.lat").write_bytes(data)
    with tarfile.open(folder / "lattices.tar", "w") as archive:
        archive.add(folder / "u.lat", "u.lat")
    (folder / "u.lat").unlink()
    return lambda: _lattices(partial(read_lattices, folder / "lattices.tar", "slf", **options))


def references(name: str, content: str, **options: str) -> Target:
    def build(folder: Path) -> Use:
        (folder / name).write_text(content)
        return lambda: read_references(folder / name, **options)

    return build


def word_table(folder: Path) -> Use:
    (folder / "words.txt").write_text("<eps> 0\na 1\nb 2\n")
    return lambda: SymbolTable(folder / "words.txt")


def pieces(folder: Path) -> Use:
    (folder / "bpe.model").write_bytes(small_tokenizer().serialized)
    return lambda: Pieces(folder / "bpe.model").text([4, 5, 6])


def fusion(folder: Path) -> Use:
    weights.save(
        weights.Fusion({"am": 1.0, "lm": 0.5}, 0.25, {"lm": "x|1"}, tuned_on="0011223344556677"),
        folder / "fusion.json",
    )

    def use() -> object:
        loaded = weights.load(folder / "fusion.json")
        if not all(map(math.isfinite, [*loaded.scales.values(), loaded.word_bonus])):
            raise WrongError(f"weights that are not finite: {loaded!r}")
        return loaded.signature

    return use


def _scored(scorer: str, **options: Any) -> list[Score]:
    """What a scorer makes of the lists; every value is a log-probability."""
    built = load_scorer(scorer, ScorerOptions(**options))
    scores = list(built.score(LISTS))
    for nbest, score in zip(LISTS, scores, strict=True):
        if len(score.values) != len(nbest.hyps):
            raise WrongError(f"{len(score.values)} scores of {len(nbest.hyps)} hypotheses")
    return scores


def checkpoint(objective: str) -> Target:
    def build(folder: Path) -> Use:
        save_small(folder / "model", objective)

        def use() -> object:
            load_vocabulary(objective, ScorerOptions(model=str(folder / "model")))
            return _scored(objective, model=str(folder / "model"))

        return use

    return build


def hub(scorer: str, kind: str, architecture: str, **sizes: int) -> Target:
    def build(folder: Path) -> Use:
        from hub_models import save_model  # noqa: PLC0415 - transformers

        save_model(folder / "model", kind, architecture, **sizes)

        def use() -> object:
            load_vocabulary(scorer, ScorerOptions(model=str(folder / "model")))
            return _scored(scorer, model=str(folder / "model"))

        return use

    return build


def hub_pickle(folder: Path) -> Use:
    """As older models have it: weights in a pickle."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    use = hub("mlm", "wordpiece", "Bert")(folder)
    tensors = folder / "model" / "model.safetensors"
    torch.save(load_file(tensors), folder / "model" / "pytorch_model.bin")
    tensors.unlink()
    return use


def arpa(folder: Path) -> Use:
    (folder / "model.arpa").write_text(ARPA)
    return partial(_scored, "ngram", model=str(folder / "model.arpa"))


def ngram_directory(folder: Path) -> Use:
    ngram.save(model_of(zipf_text(), 2)[0], folder / "model")
    return partial(_scored, "ngram", model=str(folder / "model"))


TEXTS = [hyp.text for nbest in LISTS for hyp in nbest.hyps]
STORED = {text: Score((-float(i) - 0.125,), "s|1", "pll", 1) for i, text in enumerate(TEXTS)}
WHOLE = [
    Score((-1.0 - i, -2.0, -3.0), "s|1", "neg_nelbo", 24, (0.5, 0.25, math.nan)) for i in range(3)
]


def _same(stored: Score, expected: Score, what: str) -> None:
    if repr(stored) != repr(expected):
        raise WrongError(f"{what}: {stored!r}, and {expected!r} was stored")


def cache(folder: Path) -> Use:
    """Scores of texts, as a run left them."""
    opened = Cache(folder / "cache", "s|1", "pll")
    for text, score in STORED.items():
        opened.add(text_key(text), score)
    opened.commit()
    opened.close()

    def use() -> int:
        again, count = Cache(folder / "cache", "s|1", "pll"), 0
        try:
            again.restore(again.snapshot())
            for text, score in STORED.items():
                stored = again.get(text_key(text))
                if stored is not None:
                    _same(stored, score, text)
                    count += 1
        finally:
            again.close()
        return count

    return use


def cache_of_lists(folder: Path) -> Use:
    """Scores of whole lists, with their standard errors."""
    opened = Cache(folder / "cache", "s|1", "neg_nelbo")
    for nbest, score in zip(LISTS, WHOLE, strict=True):
        opened.add(list_key(nbest), score)
    opened.commit()
    opened.close()

    def use() -> int:
        again, count = Cache(folder / "cache", "s|1", "neg_nelbo"), 0
        try:
            again.restore(again.snapshot())
            for nbest, score in zip(LISTS, WHOLE, strict=True):
                stored = again.get(list_key(nbest))
                if stored is not None:
                    _same(stored, score, nbest.id)
                    count += 1
        finally:
            again.close()
        return count

    return use


def journal(folder: Path) -> Use:
    path, codec = folder / "out.journal", ScoreCodec("s|1", "neg_nelbo")
    digests = [f"{i:032x}" for i in range(3)]
    with Journal[Score](path) as opened:
        opened.begin(codec, {"signature": "s|1"}, cache=("token", 3))
        for digest, score in zip(digests, WHOLE, strict=True):
            opened.add(digest, 77, [score])

    def use() -> int:
        count = 0
        with Journal[Score](path) as again:
            state = again.begin(codec, {"signature": "s|1"}, cache=("token", 3))
            if json.loads(json.dumps(state)) != {"cache": ["token", 3]}:
                raise WrongError(f"the state is {state!r}")
            for digest, score in zip(digests, WHOLE, strict=True):
                stored = again.get(digest)
                if stored is not None:
                    [one] = stored
                    _same(one, score, digest)
                    count += 1
        return count

    return use


def training_text(folder: Path) -> Use:
    (folder / "text.txt").write_text("\n".join(LINES))
    return lambda: sum(1 for _ in read_text([folder / "text.txt"], str))


#: Name -> target.
TARGETS: dict[str, Target] = {
    **{f"lists of {name}": lists(name) for name in FORMATS},
    **{
        f"lattices of {name}, {i + 1}": lattices(name, i)
        for name in LATTICE_FORMATS
        for i in range(len(SAMPLES[name]))
    },
    "a directory of slf": lattice_directory("slf", ".lat"),
    "a directory of k2": lattice_directory("k2", ".pt"),
    "a tar of slf": lattice_tar,
    "references in Kaldi's text": references("text", "u1 the old house\nu2 a letter\n"),
    "references as trn": references("refs.trn", "the old house (u1)\na letter (u2)\n"),
    "references as jsonl": references(
        "refs.jsonl", '{"id": "u1", "text": "the old house"}\n{"id": "u2", "text": "a"}\n'
    ),
    "word table": word_table,
    "pieces": pieces,
    "weights": fusion,
    "checkpoint of mdlm": checkpoint("mdlm"),
    "checkpoint of usdm": checkpoint("usdm"),
    "checkpoint of ar": checkpoint("ar"),
    "Hugging Face masked LM": hub("mlm", "wordpiece", "Bert"),
    "Hugging Face masked LM, a pickle": hub_pickle,
    "Hugging Face causal LM": hub("ar", "byte-bpe", "GPT2", num_hidden_layers=1),
    "ARPA": arpa,
    "n-gram directory": ngram_directory,
    "cache of texts": cache,
    "cache of lists": cache_of_lists,
    "journal": journal,
    "training text": training_text,
    **SPEECH_TARGETS,
    **TRAINING_TARGETS,
}
