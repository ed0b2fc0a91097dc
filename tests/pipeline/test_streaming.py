"""`score(stream=True)` and `score --stream`: each list before the next is read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from small import nbest, save_small

import rescore
from rescore.pipeline import Journal

LISTS = [
    nbest("the old house", "the old horse", id="u1"),
    nbest("a letter", "no light in the window", "", id="u2"),
    nbest("she wrote a letter to her brother", id="u3"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: save_small(root / objective, objective) for objective in ("mdlm", "usdm", "ar")
    }


@pytest.mark.parametrize("spec", ["ar", "usdm:pll", "usdm:nelbo", "mdlm", "mdlm:chain"])
def test_a_list_comes_before_the_next_is_read_and_scores_as_if_alone(spec, models):
    scorer = rescore.load_scorer(spec, model=models[spec.partition(":")[0]])
    read = []

    def arriving():
        for one in LISTS:
            read.append(one.id)
            yield one

    alone = [next(rescore.score([one], scorer, name="x")) for one in LISTS]
    answers = []
    for answer in rescore.score(arriving(), scorer, name="x", stream=True):
        answers.append(answer)
        assert read == [one.id for one in answers]
    assert answers == alone


def test_a_stream_resumes_from_its_journal(models, tmp_path):
    scorer = rescore.load_scorer("ar", model=models["ar"])
    whole = list(rescore.score(LISTS, scorer, stream=True))
    with Journal(tmp_path / "journal") as journal:
        started = rescore.score(LISTS, scorer, stream=True, journal=journal)
        assert [next(started), next(started)] == whole[:2]
        started.close()
    with Journal(tmp_path / "journal") as journal:
        progress = rescore.pipeline.Progress()
        assert (
            list(rescore.score(LISTS, scorer, stream=True, journal=journal, progress=progress))
            == whole
        )
    assert progress.evaluations == len(LISTS[2].hyps)


def test_a_resident_process_answers_list_by_list(models):
    command = [sys.executable, "-c", "from rescore.cli import main; main()", "score", "-"]
    command += ["--from", "jsonl", "--stream", "--scorer", f"ar@{models['ar']}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        for one in LISTS:
            record = {"id": one.id, "hyps": [{"text": hyp.text} for hyp in one.hyps]}
            server.stdin.write(json.dumps(record).encode() + b"\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            assert answer["id"] == one.id
            assert all("ar" in hyp["scores"] for hyp in answer["hyps"])
        server.stdin.close()
        assert server.wait() == 0
