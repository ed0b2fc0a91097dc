"""The engine: chunks, shards, journal, cache, and the faults that must be survived."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import LINES, nbest, save_small

import rescore
from rescore.cli import main
from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.pipeline import Cache, Journal, Shard, Work, forecast, merge, score
from rescore.pipeline import chunks as chunks_module
from rescore.pipeline.chunks import BUCKETS, bucket, chunks, digest
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import Score

WORDS = " ".join(LINES).split()


def lists(count: int, hyps: int = 4, seed: int = 0):
    """Random lists; about every fourth hypothesis stands there twice, and short ones in several lists."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        texts = [" ".join(random.choice(WORDS, random.integers(0, 12))) for _ in range(hyps)]
        texts += [texts[index] for index in random.integers(0, hyps, hyps // 4)]
        made.append(nbest(*texts, id=f"utt-{number}", ref=texts[0], am=-1.0))
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: str(save_small(root / objective, objective))
        for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 12)


def build(models, family="usdm", estimator=None, **options):
    return load_scorer(family, ScorerOptions(model=models[family], estimator=estimator, **options))


def run(capsys, monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["dlmrescore", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err.strip()


# -------------------------------------------------------------------------------------------------------------------------------- chunks


def test_chunks_of_a_bucket_are_the_same_in_every_shard():
    ids = [f"u{number}" for number in range(3000)]
    whole = list(chunks(ids, str, len, 60))
    assert sorted(itertools.chain(*whole)) == sorted(ids)
    assert all(len({bucket(name) for name in chunk}) == 1 for chunk in whole)
    assert all(chunk == sorted(chunk, key=ids.index) for chunk in whole)
    assert max(sum(map(len, chunk)) for chunk in whole) < 60 + len("u2999")
    for count in (1, 3, BUCKETS):
        parts = [
            chunk
            for index in range(count)
            for chunk in chunks([name for name in ids if name in Shard(index, count)], str, len, 60)
        ]
        assert sorted(parts) == sorted(whole)


def test_buckets_are_filled_alike_and_never_change():
    sizes = np.bincount(
        [bucket(f"1089-134686-{number:04}") for number in range(64_000)], minlength=BUCKETS
    )
    assert 850 < sizes.min() < sizes.max() < 1150
    assert [bucket(name) for name in ("", "84-121123-0000", "\u00e9")] == [61, 63, 39]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, Shard(3, 8)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "2",
            },
            Shard(3, 4),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, Shard(0, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Shard(1, 2)),
    ],
)
def test_env_is_what_the_job_system_says(environment, expected):
    assert Shard.parse("env", environment) == expected


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "a/b", "1/65", "0/0", "env"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(RescoreError, match=r"shard .*(expected I/N|torchrun or SLURM)"):
        Shard.parse(text, {"RANK": "1"})


def test_a_process_takes_the_gpu_of_its_place_on_the_machine():
    shard = Shard.parse("env", {"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2"})
    assert [shard.device("cuda", count) for count in (4, 1, 0)] == ["cuda:2", "cuda:0", "cuda"]
    assert shard.device("cuda:1", 4) == "cuda:1"
    assert shard.device("cpu", 4) == "cpu"
    assert (
        Shard.parse("env", {"SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"}).local
        == 3
    )
    assert Shard(0, 2).device("cuda", 4) == "cuda"


def test_a_rank_that_is_no_number_is_refused():
    with pytest.raises(RescoreError, match=r"RANK=x, WORLD_SIZE=2 are not numbers"):
        Shard.parse("env", {"RANK": "x", "WORLD_SIZE": "2"})


def test_a_digest_knows_ids_texts_and_their_order():
    base = [nbest("a b", "c", id="u"), nbest("d", id="v")]
    others = [
        [base[1], base[0]], base[:1], [nbest("a", "b c", id="u"), base[1]], [nbest("c", "a b", id="u"), base[1]], [nbest("a b", "c", id="w"), base[1]],
        [nbest("a b", "c", "v", "d", id="u")],
    ]  # fmt: skip
    assert len({digest(one) for one in [base, *others]}) == len(others) + 1
    assert digest([nbest("a b", "c", id="u", am=-3.0), nbest("d", id="v", ref="x")]) == digest(base)


# -------------------------------------------------------------------------------------------------------------------------------- scoring


@pytest.mark.parametrize(
    ("family", "estimator"), [("usdm", "pll"), ("mdlm", "nelbo"), ("mdlm", "pll"), ("ar", None)]
)
def test_the_engine_gives_what_the_scorer_gives_list_by_list(models, family, estimator):
    scorer = build(models, family, estimator, dtype="float64")
    found = list(score(lists(40), scorer))
    for before, after in zip(lists(40), found, strict=True):
        (alone,) = scorer.score([before])
        assert (after.id, after.ref, [hyp.text for hyp in after.hyps]) == (
            before.id,
            before.ref,
            [hyp.text for hyp in before.hyps],
        )
        assert [hyp.scores[scorer.name] for hyp in after.hyps] == pytest.approx(
            alone.values, abs=1e-9
        )
        if alone.std_errors is not None:
            assert [hyp.raw["std_errors"][scorer.name] for hyp in after.hyps] == pytest.approx(
                alone.std_errors, abs=1e-9
            )


@pytest.mark.parametrize(
    ("family", "estimator", "draws"), [("usdm", "pll", 1), ("mdlm", "nelbo", 8)]
)
def test_a_text_that_stands_twice_is_evaluated_once(models, family, estimator, draws):
    twice = [nbest("the old house", "the lane", "the old house", "", "", id="a")]
    work = Work()
    [found] = score(twice, build(models, family, estimator), work=work)
    assert (work.utterances, work.hypotheses, work.evaluations) == (1, 5, 3 * draws)
    values = [next(iter(hyp.scores.values())) for hyp in found.hyps]
    assert values[0] == values[2]
    assert values[3] == values[4]
    assert len(set(values)) == 3


def test_deterministic_scores_are_shared_by_lists_that_are_evaluated_together(models, monkeypatch):
    monkeypatch.setattr("rescore.pipeline.chunks.BUCKETS", 1)
    same = [nbest("the old house", "the lane", id=name) for name in "abc"]
    for family, estimator, evaluations in (("usdm", "pll", 2), ("usdm", "nelbo", 3 * 2 * 8)):
        monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 100)
        work = Work()
        found = list(score(same, build(models, family, estimator), work=work))
        assert work.evaluations == evaluations
        assert (found[0].hyps[0].scores == found[2].hyps[0].scores) == (estimator == "pll")


def test_an_error_names_the_hypothesis_by_its_number_in_the_list(models, monkeypatch):
    scorer = build(models)
    whole = scorer.denoiser.readout
    monkeypatch.setattr(
        scorer.budget, "tokens", 1
    )  # every hypothesis is a batch, and known by its size
    bad = "the lane"
    size = len(scorer.sequencer.vocabulary.tokenizer.encode([bad])[0]) + 1
    monkeypatch.setattr(
        scorer.denoiser,
        "readout",
        lambda hidden: whole(hidden) * (math.nan if len(hidden) == size else 1),
    )
    other = "there was no light in the window when they came"
    with pytest.raises(ScoreError, match=r"utterance u7, hypothesis 4: the network returned NaN"):
        list(score([nbest(other, other, other, bad, id="u7")], scorer))


@pytest.mark.parametrize("family", ["usdm", "mdlm", "ar"])
def test_scorers_are_picklable_and_work_in_a_dataloader(models, family):
    scorer = build(models, family)
    again = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - made a moment ago
    few = lists(3)
    expected = [one.values for one in scorer.score(few)]
    assert [one.values for one in again.score(few)] == expected
    loader = torch.utils.data.DataLoader(
        few,
        batch_size=None,
        num_workers=1,
        collate_fn=lambda one: next(iter(scorer.score([one]))).values,
    )
    if family == "ar":  # one worker process is enough to see it
        assert [np.allclose(a, b, atol=1e-4) for a, b in zip(loader, expected, strict=True)] == [
            True
        ] * 3


def test_one_pathological_utterance_among_normal_ones(models):
    few = lists(6)
    random = np.random.default_rng(1)
    long = nbest(" ".join(random.choice(WORDS, 20_000)), "the old house", id="long")
    many = nbest(*(" ".join(random.choice(WORDS, 3)) for _ in range(10_000)), id="many")
    scorer = build(models)
    found = list(score([*few[:3], long, many, *few[3:]], scorer))
    assert [one.id for one in found] == [
        *(one.id for one in few[:3]),
        "long",
        "many",
        *(one.id for one in few[3:]),
    ]
    assert len(found[4].hyps) == 10_000
    assert found[3].hyps[0].scores["usdm_pll"] < 1000 * found[3].hyps[1].scores["usdm_pll"]
    alone = list(score(few, scorer))
    for a, b in zip(alone, [*found[:3], *found[5:]], strict=True):
        assert [hyp.scores["usdm_pll"] for hyp in a.hyps] == pytest.approx(
            [hyp.scores["usdm_pll"] for hyp in b.hyps], abs=1e-4
        )


def test_a_forecast_is_what_the_run_takes(models, monkeypatch):
    scorer = build(models, "mdlm", "pll")
    work = Work()
    list(score(lists(30), scorer, work=work))
    found = forecast(lists(30), scorer)
    assert (found.utterances, found.hypotheses) == (30, 150)
    assert found.evaluations == work.evaluations
    assert 0 <= found.padding < 0.3
    monkeypatch.setattr("rescore.pipeline.dry_run.SAMPLE", 50)
    sampled = forecast(lists(30), scorer)
    assert (sampled.hypotheses, sampled.is_sampled) == (150, True)
    assert sampled.evaluations == pytest.approx(work.evaluations, rel=0.25)
    assert "about" in str(sampled)
    assert found.seconds > 0
    assert "150" in str(found)
    assert forecast(lists(30), scorer, shard=Shard(0, 2)).utterances == sum(
        one.id in Shard(0, 2) for one in lists(30)
    )


# -------------------------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize(("family", "estimator"), [("usdm", "nelbo"), ("ar", None)])
def test_shards_merged_are_one_run_byte_for_byte(models, family, estimator, capsys, monkeypatch):
    jsonl.write(lists(60), "in.jsonl")
    options = [
        "--scorer",
        family,
        "--model",
        models[family],
        *(["--estimator", estimator] if estimator else []),
    ]
    assert run(capsys, monkeypatch, "score", "in.jsonl", *options, "-o", "whole.jsonl")[0] == 0
    for index in range(3):
        assert (
            run(
                capsys,
                monkeypatch,
                "score",
                "in.jsonl",
                *options,
                "--shard",
                f"{index}/3",
                "-o",
                "part.{shard}-{shards}.jsonl",
            )[0]
            == 0
        )
    parts = [f"part.{index}-3.jsonl" for index in (2, 0, 1)]
    assert run(
        capsys, monkeypatch, "merge", *parts, "--lists", "in.jsonl", "-o", "merged.jsonl"
    ) == (0, "60 utterances from 3 shards")
    assert Path("merged.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not list(Path().glob("*.journal"))


def test_what_does_not_belong_together_is_not_merged():
    few = lists(8)
    halves = [[one for one in few if one.id in Shard(index, 2)] for index in range(2)]
    for name, part in (("a", halves[0]), ("b", halves[1])):
        jsonl.write(part, f"{name}.jsonl")
    assert [one.id for one in merge(few, ["b.jsonl", "a.jsonl"])] == [one.id for one in few]
    signed = [
        replace(one, raw={"meta": {"scores": {"x": {"signature": f"s{one.id in Shard(0, 2)}"}}}})
        for one in few
    ]
    jsonl.write([one for one in signed if one.id in Shard(0, 2)], "signed.jsonl")
    jsonl.write([one for one in signed if one.id not in Shard(0, 2)], "other.jsonl")
    cases = [
        (few, ["a.jsonl"], "is not next in any of 1 shards; is a shard missing"),
        (few, ["a.jsonl", "b.jsonl", "b.jsonl"], "b.jsonl: is given twice"),
        (few[:-1], ["a.jsonl", "b.jsonl"], "is not among the lists to merge by"),
        (
            [replace(few[0], hyps=few[0].hyps[:2]), *few[1:]],
            ["a.jsonl", "b.jsonl"],
            "has other hypotheses than",
        ),
        (few[::-1], ["a.jsonl", "b.jsonl"], "is not next in any"),
        (few, ["signed.jsonl", "other.jsonl"], r'score "x" has signature s\w+, and s\w+ before'),
    ]
    for order, shards, message in cases:
        with pytest.raises(RescoreError, match=message):
            list(merge(order, shards))
    Path("c.jsonl").write_bytes(Path("b.jsonl").read_bytes())
    with pytest.raises(FormatError, match=r"this utterance is in b.jsonl too"):
        list(merge(few, ["a.jsonl", "b.jsonl", "c.jsonl"]))


# -------------------------------------------------------------------------------------------------------------------------------- journal


class StopError(Exception):
    """What ends a run in a test."""


def stopping(scorer, after):
    """The scorer, which fails at its evaluation number `after`."""
    whole, seen = type(scorer).evaluate, []

    def evaluate(prepared):
        seen.append(1)
        if len(seen) > after:
            raise StopError
        return whole(scorer, prepared)

    scorer.evaluate = evaluate
    return scorer


@pytest.mark.parametrize(
    ("family", "estimator"), [("usdm", "nelbo"), ("usdm", "pll"), ("ar", None)]
)
@pytest.mark.parametrize("per_token", [False, True])
def test_a_run_goes_on_where_it_stopped_and_ends_alike(models, family, estimator, per_token):
    few = lists(30)
    whole = [
        jsonl.encode(one)
        for one in score(few, build(models, family, estimator, per_token=per_token, draws=2))
    ]
    scorer = stopping(build(models, family, estimator, per_token=per_token, draws=2), 5)
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, scorer, journal=journal))
    with Journal("x.journal") as journal:
        assert [
            jsonl.encode(one)
            for one in score(
                few, build(models, family, estimator, per_token=per_token, draws=2), journal=journal
            )
        ] == whole
        assert (len(journal), journal.added) == (len(journal), len(journal) - 5)


def test_a_journal_of_other_settings_is_refused(models):
    few = lists(4)
    with Journal("x.journal") as journal:
        list(score(few, build(models, "usdm", "pll"), journal=journal))
    kept = Path("x.journal").read_bytes()
    for other, what in (
        (build(models, "usdm", "pll", t=0.2), "signature"),
        (build(models, "ar"), "signature"),
        (build(models, per_token=True), "per_token"),
    ):
        with (
            Journal("x.journal") as journal,
            pytest.raises(
                FormatError,
                match=rf"x.journal: is of another run, with {what} .* and not .*; finish that",
            ),
        ):
            list(score(few, other, journal=journal))
    assert Path("x.journal").read_bytes() == kept


def test_a_model_that_changed_meanwhile_is_refused(models, tmp_path):
    directory = save_small(tmp_path / "m", "usdm")
    scorer = stopping(load_scorer("usdm", ScorerOptions(model=str(directory))), 3)
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(lists(30), scorer, journal=journal))
    save_small(directory, "usdm", seed=1)
    with (
        Journal("x.journal") as journal,
        pytest.raises(FormatError, match=r"x.journal: is of another run, with signature"),
    ):
        list(
            score(
                lists(30), load_scorer("usdm", ScorerOptions(model=str(directory))), journal=journal
            )
        )


def test_changed_lists_are_scored_again_and_others_are_not(models):
    few = lists(30)
    with Journal("x.journal") as journal:
        list(score(few, build(models), journal=journal))
    changed = [*few[:7], nbest("another text", id=few[7].id), *few[8:]]
    with Journal("x.journal") as journal:
        found = list(score(changed, build(models), journal=journal))
        assert 1 <= journal.added <= 2
    assert [hyp.text for hyp in found[7].hyps] == ["another text"]
    assert [jsonl.encode(one) for one in found] == [
        jsonl.encode(one) for one in score(changed, build(models))
    ]


def test_a_torn_or_damaged_line_costs_its_chunk_only(models, caplog):
    few = lists(30)
    with Journal("x.journal") as journal:
        whole = [jsonl.encode(one) for one in score(few, build(models), journal=journal)]
    lines = Path("x.journal").read_bytes().splitlines(keepends=True)
    for content, again in (
        (b"".join(lines)[:-20], 1),
        (b"".join([*lines[:3], lines[3].replace(b"-", b"", 1), *lines[4:]]), 1),
        (b"".join(lines[:2]) + b"\x00\xff\n" + b"".join(lines[2:]), 0),
        (b"nonsense\n" + b"".join(lines[1:]), len(lines) - 1),
    ):
        Path("x.journal").write_bytes(content)
        with Journal("x.journal") as journal:
            assert [
                jsonl.encode(one) for one in score(few, build(models), journal=journal)
            ] == whole
            assert journal.added == again
    assert "x.journal:4: is damaged; what it held is scored again" in caplog.text
    assert "x.journal: is damaged at its start and is made anew" in caplog.text


def test_the_budget_of_batches_is_kept(models):
    few = lists(30)
    scorer = stopping(build(models), 5)
    scorer.budget.tokens = 77
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, scorer, journal=journal))
    again = build(models)
    with Journal("x.journal") as journal:
        list(score(few, again, journal=journal))
    assert again.budget.tokens == 77


def test_two_runs_do_not_write_one_output(models, capsys, monkeypatch):
    jsonl.write(lists(3), "in.jsonl")
    with Journal("out.jsonl.journal"):
        status, message = run(
            capsys,
            monkeypatch,
            "score",
            "in.jsonl",
            "--scorer",
            "usdm",
            "--model",
            models["usdm"],
            "-o",
            "out.jsonl",
        )
    assert (status, message) == (
        1,
        "out.jsonl.journal: another run is writing this output; wait for it or choose another output",
    )
    assert (
        run(
            capsys,
            monkeypatch,
            "score",
            "in.jsonl",
            "--scorer",
            "usdm",
            "--model",
            models["usdm"],
            "-o",
            "out.jsonl",
        )[0]
        == 0
    )


def test_a_full_disk_is_one_line_and_the_earlier_output_stays(models, capsys, monkeypatch):
    jsonl.write(lists(40), "in.jsonl")
    Path("out.jsonl").write_text("as it was\n")
    command = ["score", "in.jsonl", "--scorer", "usdm", "--model", models["usdm"], "-o"]
    whole, written = os.write, []

    def full(descriptor, data):
        written.append(1)
        if len(written) > 6:  # half of a line gets through
            if len(written) > 7:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(descriptor, bytes(data)[:20])
        return whole(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        status, message = run(capsys, monkeypatch, *command, "out.jsonl")
    assert (status, message) == (
        1,
        "out.jsonl.journal: cannot be written: No space left on device; run the same command again when it can",
    )
    assert Path("out.jsonl").read_text() == "as it was\n"
    assert run(capsys, monkeypatch, *command, "out.jsonl")[0] == 0
    assert run(capsys, monkeypatch, *command, "whole.jsonl")[0] == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


LIMITED = """
import resource, signal, sys
from rescore.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
main()
"""


def test_a_write_that_really_fails_is_one_line(models):
    jsonl.write(lists(40), "in.jsonl")
    Path("out.jsonl").write_text("as it was\n")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "score", "in.jsonl", "--scorer", "usdm", "--model", models["usdm"], "-o", "out.jsonl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.strip().endswith("run the same command again when it can")
        or "cannot be written" in done.stderr
    )
    assert len(done.stderr.strip().splitlines()) == 1
    assert Path("out.jsonl").read_text() == "as it was\n"


KILLS = """
import os, random, signal, sys, time
import torch
from rescore.cli import main
from rescore.scorers import options
torch.set_num_threads(1)
options.CHUNK = 12
random.seed(5)
kills = finished = 0
while kills < 24 or not finished:
    if os.path.exists("out.jsonl"):
        os.rename("out.jsonl", f"done.{finished}.jsonl")
        finished += 1
    child = os.fork()
    if not child:
        sys.argv[1:] = ["score", "in.jsonl", *sys.argv[1:], "-o", "out.jsonl"]
        sys.stderr = open(os.devnull, "w")
        main()
    patience = random.uniform(0, 0.25) if kills < 24 else 60
    until = time.monotonic() + patience
    while time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    try:
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except (ProcessLookupError, ChildProcessError):
        pass
    if kills >= 24 and os.path.exists("out.jsonl"):
        os.rename("out.jsonl", f"done.{finished}.jsonl")
        finished += 1
print(kills, finished)
"""


@pytest.mark.parametrize(("family", "estimator"), [("mdlm", "nelbo"), ("ar", None)])
def test_killed_at_random_moments_two_dozen_times_the_bytes_are_the_same(models, family, estimator):
    jsonl.write(lists(60, hyps=8), "in.jsonl")
    options = [
        "--scorer",
        family,
        "--model",
        models[family],
        *(["--estimator", estimator] if estimator else []),
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    kills, finished = map(int, done.stdout.split())
    assert kills >= 20
    torch.set_num_threads(1)
    whole = "".join(
        jsonl.encode(one).decode() + "\n"
        for one in score(rescore.read("in.jsonl"), build(models, family, estimator))
    )
    outputs = [path.read_text() for path in Path().glob("done.*.jsonl")]
    assert len(outputs) == finished >= 1
    assert set(outputs) == {whole}
    assert not list(Path().glob("*.journal"))


def test_sigterm_ends_a_run_as_ctrl_c_does(models):
    code = "from rescore.cli import main; from rescore.scorers import options; options.CHUNK = 12; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "score",
        "-",
        "--from",
        "jsonl",
        "--scorer",
        "usdm",
        "--model",
        models["usdm"],
        "-o",
        "out.jsonl",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        for one in lists(200):  # more than the buckets hold back
            running.stdin.write(jsonl.encode(one) + b"\n")
        running.stdin.flush()
        patience = time.monotonic() + 60
        while (
            not Path("out.jsonl.journal").exists()
            or Path("out.jsonl.journal").read_bytes().count(b"\n") < 3
        ):
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < patience
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        try:
            assert running.wait(timeout=60) == 130
        finally:
            running.kill()
        message = running.stderr.read().decode()
        running.stdin.close()
    assert message.strip().startswith("interrupted after ")
    assert message.strip().endswith(
        "what was scored is in out.jsonl.journal; run the same command again to go on"
    )
    assert not Path("out.jsonl").exists()


# -------------------------------------------------------------------------------------------------------------------------------- cache


@pytest.mark.parametrize(
    ("family", "estimator"), [("usdm", "pll"), ("usdm", "nelbo"), ("ar", None)]
)
@pytest.mark.parametrize("per_token", [False, True])
def test_what_the_cache_knows_is_not_evaluated_again(models, family, estimator, per_token):
    few = lists(20)
    first, again = Work(), Work()
    expected = [
        jsonl.encode(one)
        for one in score(
            few, build(models, family, estimator, per_token=per_token), work=first, cache="cache"
        )
    ]
    found = list(
        score(few, build(models, family, estimator, per_token=per_token), work=again, cache="cache")
    )
    assert first.evaluations > 0
    assert again.evaluations == 0
    for line, one in zip(expected, found, strict=True):
        for before, after in zip(
            json.loads(line)["hyps"], json.loads(jsonl.encode(one))["hyps"], strict=True
        ):
            assert after.pop("scores") == pytest.approx(
                before.pop("scores"), abs=1e-4
            )  # a text that is in two chunks has two last bits, and one in the cache
            tokens = [part.pop("token_scores", {}).get(family) for part in (before, after)]
            assert (tokens[0] is None) == (tokens[1] is None)
            assert after == before


def test_deterministic_scores_are_found_by_text_and_stochastic_ones_by_list(models):
    [one] = lists(1)
    other = nbest(*(hyp.text for hyp in reversed(one.hyps)), "a new text", id="another")
    for estimator, evaluations in (
        ("pll", 1),
        ("nelbo", 8 * len({hyp.text for hyp in other.hyps})),
    ):
        list(score([one], build(models, "usdm", estimator), cache="cache"))
        work = Work()
        list(score([other], build(models, "usdm", estimator), cache="cache", work=work))
        assert work.evaluations == evaluations


def test_a_cache_of_another_model_or_setting_is_never_used(models, tmp_path):
    few = lists(5)
    list(score(few, build(models), cache="cache"))
    other = str(save_small(tmp_path / "other", "usdm", seed=3))
    for options in (
        {"t": 0.3},
        {"model": other},
        {"per_token": True},
        {"score_eos": False},
        {"dtype": "float64"},
    ):
        work = Work()
        scorer = load_scorer("usdm", ScorerOptions(**{"model": models["usdm"], **options}))
        found = list(score(few, scorer, cache="cache", work=work))
        assert work.evaluations > 0
        assert [jsonl.encode(one) for one in found] == [
            jsonl.encode(one) for one in score(few, scorer)
        ]


def test_a_run_sees_the_cache_as_it_was_when_it_began(models):
    few = lists(30)
    whole = [jsonl.encode(one) for one in score(few, build(models), cache="one")]
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, stopping(build(models), 5), journal=journal, cache="two"))
    list(score(few, build(models), cache="two"))  # another run fills it meanwhile
    with Journal("x.journal") as journal:
        assert [
            jsonl.encode(one) for one in score(few, build(models), journal=journal, cache="two")
        ] == whole


def damage_header(path):
    path.write_bytes(b"this is no database" * 200)


def damage_pages(path):
    content = bytearray(path.read_bytes())
    content[5000:9000] = os.urandom(4000)
    path.write_bytes(bytes(content))


def damage_value(path):
    with sqlite3.connect(path) as connection:
        connection.execute(
            "update scores set value = ? where number = 1", (b'{"values":[-1.0],"evaluations":1}',)
        )
    connection.close()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_value])
def test_a_damaged_cache_is_named_and_rebuilt(models, damage, caplog):
    few = lists(30)
    expected = [
        [hyp.scores["usdm_pll"] for hyp in one.hyps]
        for one in score(few, build(models), cache="cache")
    ]
    [path] = Path("cache").iterdir()
    damage(path)
    work = Work()
    found = [
        [hyp.scores["usdm_pll"] for hyp in one.hyps]
        for one in score(few, build(models), cache="cache", work=work)
    ]
    assert work.evaluations > 0
    assert np.allclose(np.concatenate(found), np.concatenate(expected), atol=1e-4)
    assert str(path) in caplog.text
    assert "damaged" in caplog.text
    caplog.clear()
    list(score(few, build(models), cache="cache", work=(after := Work())))
    assert after.evaluations == 0
    assert "damaged" not in caplog.text


def test_a_cache_that_cannot_be_written_is_refused(models):
    Path("file").write_text("x")
    with pytest.raises(
        FormatError, match=r"file: cannot be a cache: .*; name a directory that can be written"
    ):
        Cache("file", "s", "pll")


def test_a_score_that_no_list_may_hold_does_not_reach_the_journal(models):
    class Odd:
        name, kind, signature = "odd", "pll", "odd|1"

        def score(self, some):
            for one in some:
                yield Score((math.inf,) * len(one.hyps), self.signature, self.kind, 1)

    with (
        Journal("x.journal") as journal,
        pytest.raises(ScoreError, match=r'score "odd" is infinite'),
    ):
        list(score(lists(3), Odd(), journal=journal))
    assert not Path("x.journal").exists()
    assert chunks_module.BUCKETS == 64
