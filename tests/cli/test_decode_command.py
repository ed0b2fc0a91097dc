"""`dlmrescore decode` from the command line: what it writes, resumes and refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import files, good, read, refused, write
from small_posteriors import TEXTS, save_posteriors


@pytest.fixture(autouse=True)
def posteriors(folder):
    save_posteriors(Path("p.safetensors"))
    Path("text").write_text("".join(f"{name} {text}\n" for name, text in TEXTS.items()))


def test_lists_go_on_to_eval_and_score(dlm):
    good(dlm("decode", "p.safetensors", "-n", 5, "--refs", "text", "-o", "n.jsonl"))
    assert [record["ref"] for record in read("n.jsonl")] == list(TEXTS.values())
    assert [len(record["hyps"]) for record in read("n.jsonl")] == [5] * 4
    arguments = ["--scorer", "ctc", "--posteriors", "p.safetensors", "--name", "again"]
    good(dlm("score", "n.jsonl", *arguments, "-o", "s.jsonl"))
    for record in read("s.jsonl"):
        assert all(hyp["scores"]["am"] == hyp["scores"]["again"] for hyp in record["hyps"])
        command = record["meta"]["scores"]["again"].pop("command")
        assert command == "dlmrescore score --scorer ctc --posteriors p.safetensors"
        assert record["meta"]["scores"]["am"] == record["meta"]["scores"]["again"]
    assert "WER" in good(dlm("eval", "n.jsonl")).out
    assert files() == ["n.jsonl", "p.safetensors", "s.jsonl", "text"]


def test_references_without_posteriors_and_posteriors_without_lists_are_counted(dlm, caplog):
    with Path("text").open("a") as text:
        text.write("u8 a\nu9 b\n")
    good(dlm("decode", "p.safetensors", "-n", 5, "--refs", "text", "-o", "n.jsonl"))
    assert caplog.messages == [
        "2 references have no utterance to decode, u8 for one; error rates leave them out"
    ]
    write("some.jsonl", read("n.jsonl")[:1])
    again = ("--scorer", "ctc", "--posteriors", "p.safetensors", "--name", "again")
    good(dlm("score", "some.jsonl", *again, "-o", "s.jsonl"))
    count = len(TEXTS)
    message = f"{count - 1} of the {count} utterances of p.safetensors have no list, u2 for one"
    assert caplog.messages[1:] == [message]
    good(dlm("score", "some.jsonl", *again, "--shard", "0/1", "-o", "s.jsonl"))
    assert caplog.messages[2:] == []


def test_shards_name_their_outputs_and_hold_all_lists(dlm):
    good(dlm("decode", "p.safetensors", "-n", 5, "-o", "whole.jsonl"))
    for index in range(2):
        good(
            dlm("decode", "p.safetensors", "-n", 5, "--shard", f"{index}/2", "-o", "{shard}.jsonl")
        )
    lines = [*read("0.jsonl"), *read("1.jsonl")]
    assert sorted(lines, key=lambda record: record["id"]) == read("whole.jsonl")


REFUSED = {
    ("--method", "ctc_greedy", "-n", "3"): "--method ctc_greedy does not read --count",
    ("--ngram-scale", "0.5"): "--ngram-scale belongs to --ngram",
    ("--beam", "3"): "--beam 3 cannot give 100 hypotheses",
    ("--ngram", "missing"): "missing: no such file or directory",
    ("--bpe", "text"): "text: the recogniser's symbols are characters",
    ("--method", "joint", "--device", "gpu"): "device 'gpu' cannot be used",
    ("--refs", "part"): "p.safetensors: utterance u2: there is no reference with this id",
    ("-o", "text", "--refs", "text"): "text",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_is_refused_is_one_line_and_leaves_no_file(dlm, arguments):
    write("part", ["u1 the old house"])
    before = files()
    assert REFUSED[arguments] in refused(dlm("decode", "p.safetensors", *arguments))
    assert files() == before


def test_a_file_that_holds_no_posteriors_is_one_line(dlm):
    assert "text: is no whole safetensors file" in refused(dlm("decode", "text"))
    write("lists.jsonl", ['{"id": "u1", "hyps": [{"text": "the"}]}'])
    arguments = ["score", "lists.jsonl", "--scorer", "ctc", "--posteriors"]
    assert "text: is no whole safetensors file" in refused(dlm(*arguments, "text"))
    assert "needs --posteriors" in refused(dlm(*arguments[:-1]))
    write("lists.jsonl", ['{"id": "u9", "hyps": [{"text": "the"}]}'])
    line = refused(dlm(*arguments, "p.safetensors"))
    assert "lists.jsonl:1: utterance u9: p.safetensors has no posteriors of it" in line


def test_a_process_killed_by_the_system_resumes_to_the_same_bytes(dlm):
    texts = {f"u{number:02}": list(TEXTS.values())[number % 4] for number in range(64)}
    save_posteriors(Path("many"), texts)
    arguments = ["decode", "many", "-n", "5"]
    good(dlm(*arguments, "-o", "whole.jsonl"))
    code = (
        "from rescore.pipeline import decoding; decoding._CHUNK = 200;"
        "from rescore.cli import main; main()"
    )
    command = [sys.executable, "-c", code, *arguments, "-o", "n.jsonl"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while killed.poll() is None:
        if Path("n.jsonl.journal").exists() and Path("n.jsonl.journal").stat().st_size > 8_000:
            killed.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    assert killed.returncode == -signal.SIGKILL
    assert "n.jsonl" not in files()
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert Path("n.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert "n.jsonl.journal" not in files()
