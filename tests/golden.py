"""Golden outputs: what a version of the package writes for many small inputs, and what differs.

    python tests/golden.py make CHECKOUT FOLDER   run the package of CHECKOUT, write into FOLDER
    python tests/golden.py make CHECKOUT FOLDER --only 'lattice/*'   only some cases (a shell
                                                  pattern; what a case needs is not run for it)
    python tests/golden.py compare A B            one line for every file that is not the same;
                                                  exit status 1 if there is one

A tool for developers who change the code and not what it computes; no test. `make` wants a new or
an empty folder, takes minutes on one core, and uses the Python that runs it. A `make` that was
stopped goes on when the same command is given again. FOLDER then holds:

    in/            the inputs. Lists, lattices and texts come from git (BASE, whatever the work
                   tree holds), small Hugging Face models are made with a fixed seed
    <group>/...    the outputs of every command; <case>.txt is its exit status, stdout and stderr
    api/...        values of the Python interface, as float.hex()
    digests.json   file -> sha256
    commands.log   seconds and command lines (not compared)

Commands run with FOLDER as the working directory, so no path of this machine is in the outputs;
CHECKOUT's and FOLDER's are replaced where they are printed. Seconds, tokens a second and memory
are replaced too (`without_timings`). Each command is a process of its own, forked from one that
has imported torch, but not the package: importing torch is most of what a small command takes.
`start/` holds commands that were started as users do it.

Left out: the sqlite file of --cache, the optimiser state of `train`; --ray, --compile, GPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import gzip
import hashlib
import importlib
import inspect
import itertools
import json
import math
import os
import pkgutil
import random
import re
import shutil
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: The commit that inputs are taken from.
BASE = "3e0a351"
#: Files of FOLDER that are not outputs.
OURS = ("digests.json", "commands.log")
START = "from rescore.cli import main; main()"
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # `check` of BASE lists unknown characters in the order of a set
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "COLUMNS": "100",
    "LC_ALL": "C.UTF-8",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}


# ------------------------------------------------------------------------------------- inputs


def of_base(path: str) -> bytes:
    """A file of the baseline's commit."""
    here = Path(__file__).resolve().parent
    return subprocess.run(
        ["git", "-C", str(here), "show", f"{BASE}:{path}"], check=True, capture_output=True
    ).stdout


def write(path: str, content: str | bytes) -> None:
    """Write a file and the folders it is in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def json_lines(rows: list[Any]) -> str:
    """A JSON value a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def cut(lists: list[dict[str, Any]], count: int, depth: int) -> list[dict[str, Any]]:
    """The first hypotheses of the first lists."""
    return [{**one, "hyps": one["hyps"][:depth]} for one in lists[:count]]


def hyps(*texts: str) -> list[dict[str, Any]]:
    """Hypotheses with two scores."""
    return [
        {"text": text, "scores": {"am": -50.25 - 3.5 * i, "ngram": -9.125 - i * i}}
        for i, text in enumerate(texts)
    ]


def odd_lists() -> list[dict[str, Any]]:
    """Lists that are unlike the others: empty, equal, long, foreign, with fields of their own."""
    long = (
        "and when they had come to the end of the lane the old man said that he did not know the"
        " house nor the people who had lived there before the war and that nobody in the village"
        " would speak of it after dark because of what had been found under the floor in the"
        " spring of that year when the river came up to the door and the horses were drowned"
    )
    ends = " and no more was said"
    return [
        {"id": "odd-long", "ref": long, "hyps": hyps(long + ends, long, "the lane " + long)},
        {"id": "odd-empty", "ref": "yes", "hyps": hyps("", "yes", "", "yes yes")},
        {
            "id": "odd-case",
            "ref": "It's Mr. Smith!",
            "hyps": hyps("It's MR. Smith", "its mr smith"),
        },
        {
            "id": "odd-é",
            "ref": "le café 日本",
            "hyps": hyps("le café 日本", "le cafe 日 本", "a\tb"),
        },
        {"id": "odd-one", "ref": "one", "hyps": hyps("one"), "speaker": "x", "meta": {"mine": [1]}},
    ]


def make_lists() -> None:
    """Lists and texts."""
    halves = {}
    for half in ("dev", "test"):
        text = of_base(f"recipes/demo_data/{half}.jsonl").decode()
        halves[half] = [json.loads(line) for line in text.splitlines()]
        write(f"in/{half}.jsonl", json_lines(cut(halves[half], 25, 12)))
    small = cut(halves["dev"][30:], 5, 5) + odd_lists()
    write("in/small.jsonl", json_lines(small))
    same = [one for one in halves["test"] if len(one["hyps"]) > 3]
    four = cut(same, 6, 4)
    write("in/four.jsonl", json_lines(four))
    bare = [
        {**one, "hyps": [{"text": hyp["text"]} for hyp in one["hyps"]]}
        for one in cut(halves["dev"], 4, 4)
    ]
    write("in/bare.jsonl", json_lines(bare))
    write("in/refs_dev.txt", "".join(f"{one['id']} other {one['ref']}\n" for one in bare))
    unknown = [{key: value for key, value in one.items() if key != "ref"} for one in four]
    write("in/noref.jsonl", json_lines(unknown))
    broken = json_lines(four).splitlines()
    broken[2] = broken[2][:40]
    write("in/broken.jsonl", "\n".join(broken) + "\n")
    write("in/refs.txt", "".join(f"{one['id']} {one['ref']}\n" for one in four))
    write("in/refs.trn", "".join(f"{one['ref']} ({one['id']})\n" for one in four))
    write("in/refs.jsonl", json_lines([{"id": one["id"], "ref": one["ref"]} for one in four]))
    write("in/sups.jsonl", json_lines(supervisions([(one["id"], one["ref"]) for one in four])))
    beams = [{"audio_filepath": f"wav/{one['id']}.wav", "text": one["ref"]} for one in four]
    write("in/manifest.jsonl", json_lines(beams))
    text = of_base(f"{DEMO}/sentences.txt").decode()
    lines = [line.partition("\t")[2] for line in text.splitlines() if "\t" in line]
    write("in/train.txt", "\n".join(lines[:250]) + "\n")
    write("in/valid.txt", "\n".join(lines[250:300]) + "\n")
    write("in/lm.arpa", ARPA)
    make_read_only_formats(four)


DEMO = "recipes/demo_data"
ARPA = r"""
\data\
ngram 1=10
ngram 2=9
ngram 3=2

\1-grams:
-1.5	<unk>
-99	<s>	-0.3
-1.2	</s>
-0.8	the	-0.25
-1.9	old	-0.2
-2.0	house	-0.15
-1.6	of	-0.3
-1.7	a	-0.1
-1.8	and	-0.22
-2.2	lane	-0.05

\2-grams:
-0.4	<s> the	-0.1
-0.9	the old	-0.3
-0.6	old house
-0.7	of the	-0.11
-1.1	of a
-0.95	the lane
-0.85	a house
-1.3	and the
-0.5	lane </s>

\3-grams:
-0.2	<s> the old
-0.3	the old house

\end\
""".lstrip()


def supervisions(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Supervisions of lhotse."""
    return [
        {
            "id": name,
            "recording_id": name,
            "start": 0.5,
            "duration": 2.25,
            "channel": 0,
            "text": ref,
        }
        for name, ref in pairs
    ]


def make_read_only_formats(lists: list[dict[str, Any]]) -> None:
    """Files of formats that are read and not written."""
    words = [(one["id"], one["hyps"][0]["text"].split()) for one in lists]
    ctm = [
        f"{name} 1 {i * 0.25:.2f} 0.25 {word}\n"
        for name, text in words
        for i, word in enumerate(text)
    ]
    write("in/lists.ctm", "".join(ctm))
    texts = [([hyp["text"] for hyp in one["hyps"]], one["ref"]) for one in lists]
    rows = [{"input": [*found, found[0]], "output": ref} for found, ref in texts]
    write("in/hyporadise.json", json.dumps(rows))
    dump = [
        f"{one['id']} | {hyp['scores']['am'] + hyp['scores']['ngram']:.6f} |"
        f" {hyp['scores']['am']:.6f} | {hyp['scores']['ngram']:.6f} | {25:.6f} | {hyp['text']}\n"
        for one in lists
        for hyp in one["hyps"]
    ]
    write("in/wav2letter.txt", "".join(dump))
    mapped = [
        {
            "file": f"a/{one['id']}.wav",
            "want": one["ref"],
            "beams": [
                {"t": hyp["text"], "logp": hyp["scores"]["am"] / 8, "n": 8} for hyp in one["hyps"]
            ],
        }
        for one in lists
    ]
    write("in/mapped.jsonl", json_lines(mapped))


HTK = r"""VERSION=1.0
UTTERANCE=u1
lmname=/a/b.arpa
lmscale=14.00  wdpenalty=-2.50
acscale=1.00
# a comment
N=5 L=5
I=0    t=0.00  W=!NULL
I=1    t=0.25  W=<s>                 v=1
I=2    t=0.75  W=ISN\'T              v=1
I=3    t=0.75  W='CAUSE
I=4    t=1.00  W=</s>
J=0     S=0    E=1    a=-10.5   l=0.0   r=-0.5
J=1     S=1    E=2    a=-20   l=-3.0   r=0.0
J=2     S=1    E=3    a=-21   l=-2.0   r=0.0
J=3     S=2    E=4    a=-5   l=-1.0   r=0.0
J=4     S=3    E=4    a=-6   l=-1.5   r=0.0
"""
POCKETSPHINX = """VERSION=1.0
UTTERANCE=u2
base=2.718281828
lmscale=12.0
acscale=1
start=3
end=0
N=4\tL=4
I=0\tt=1.00\tW=!SENT_END
I=1\tt=0.25\tW=isn't
I=2\tt=0.50\tW=it
I=3\tt=0.00\tW=!SENT_START
J=0\tS=2\tE=0\ta=-6.0\tp=1
J=1\tS=1\tE=0\ta=-5.0\tp=0
J=2\tS=3\tE=1\ta=-1.0\tp=1
J=3\tS=3\tE=2\ta=-2.0\tp=1e-300
"""
KALDI = """u1 \n0 1 a 1,-10,2_1 \n0 2 <eps> 2,-5,2_1\n1 3 b 0.5,-20,3\n2 3 c 3,0,9
3 0.25,-1,4_4\n2\n\nempty\n\nu2\n0 1 a\n1\n\n"""
OPENFST = "0 1 10 a 1\n0 2 0 <eps> 2\n1 3 11 b\n2 3 12 c 0.5\n3 0.25\n2\n"
K2 = ("batch", "batch_ragged", "by_cut", "list", "single", "single_ragged")
K2_REFUSED = ("no_aux_labels", "no_lm_scores")


def make_lattices() -> None:
    """Lattices of every format."""
    for name in (*K2, *K2_REFUSED):
        write(f"in/k2/{name}.pt", of_base(f"tests/data/k2/{name}.pt"))
    write("in/k2/words.txt", "<eps> 0\nthe 1\ncat 2\nhat 3\nsat 4\n")
    rows = supervisions([("c1", "the hat"), ("c2", ""), ("c3", "cat sat")])
    write("in/k2/sups.jsonl", json_lines(rows))
    write("in/slf/u1.slf", HTK)
    write("in/slf/u2.slf", POCKETSPHINX)
    write("in/kaldi.txt", KALDI)
    write("in/openfst.txt", f"u1 \n{OPENFST}\nempty\n\nu2\n0\n\n")
    write("in/one.fst", binary_fst())
    write("in/abc.txt", "<eps> 0\na 7\nb 8\nc 9\n")
    write("in/bpe.model", of_base("rescore/models/embedded/ar/tokenizer.model"))
    pieces = [f"{i} {i + 1} {10 * i + 7} {10 * i + 7} {i / 4}" for i in range(6)]
    write("in/pieces.txt", "\n".join([*pieces, "1 2 40 40 0.125", "6 0.5"]) + "\n")
    write("in/sausage.txt", "".join(sausage(name, seed) for seed, name in enumerate(("s1", "s2"))))


def sausage(name: str, seed: int) -> str:
    """A lattice of Kaldi's with some hundred paths, of English words, with skips and epsilons."""
    rng = random.Random(seed)
    slots = (
        ["the old house", "<eps> a the"],
        ["stood at the end", "of by in"],
        ["lane river land", "where when were"],
        ["nobody no <eps>", "walked after worked"],
    )
    lines, state = [name + " "], 0
    for words in (choice.split() for pair in slots for choice in pair):
        for word in words:
            costs = f"{rng.uniform(0.5, 6):.3f},{rng.uniform(-40, -5):.3f},{rng.randint(1, 9)}_2"
            lines.append(f"{state} {state + 1} {word} {costs}")
        if state % 3 == 1:
            lines.append(f"{state} {state + 2} again 7.5,{rng.uniform(-60, -30):.3f},3_3_3_3")
        state += 1
    extra = f"{state} {state + 1} home 2.5,-3.25,1_1"
    return "\n".join([*lines, extra, f"{state} 1.5,-2,8_8_8_8", f"{state + 1} 0.25,-1,4_4", "", ""])


def binary_fst() -> bytes:
    """A vector FST as OpenFst writes it."""

    def text(value: bytes) -> bytes:
        return struct.pack("<i", len(value)) + value

    states: list[tuple[float, list[tuple[int, int, float, int]]]] = [
        (math.inf, [(10, 7, 1.0, 1), (0, 0, 2.0, 2)]),
        (math.inf, [(11, 8, 0.0, 3)]),
        (0.0, [(12, 9, 0.5, 3)]),
        (0.25, []),
    ]
    numbers = struct.pack("<iiQqqq", 2, 0, 3, 0, len(states), 4)
    body = b"".join(
        struct.pack("<fq", final, len(arcs)) + b"".join(struct.pack("<iifi", *arc) for arc in arcs)
        for final, arcs in states
    )
    return b"\xd6\xfd\xb2\x7e" + text(b"vector") + text(b"standard") + numbers + body


def make_hub_models() -> None:
    """A BERT and a GPT-2 with random weights; needs transformers."""
    import tokenizers  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    lines = Path("in/train.txt").read_text().splitlines()[:60]
    words = sorted({word for line in lines for word in line.split()})
    letters = "abcdefghijklmnopqrstuvwxyz'"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *words[::2], *letters, *(f"##{letter}" for letter in letters)]
    write("in/bert/vocab.txt", "\n".join(pieces))
    transformers.BertTokenizerFast.from_pretrained("in/bert").save_pretrained("in/bert")
    torch.manual_seed(0)
    bert = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    transformers.BertForMaskedLM(bert).save_pretrained("in/bert")

    end = "<|endoftext|>"
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(lines, vocab_size=300, special_tokens=[end])
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token=end, eos_token=end, unk_token=end
    )
    wrapped.save_pretrained("in/gpt2")
    torch.manual_seed(0)
    gpt2 = transformers.GPT2Config(
        vocab_size=len(wrapped),
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
    )
    transformers.GPT2LMHeadModel(gpt2).save_pretrained("in/gpt2")


# -------------------------------------------------------------------------------------- cases

#: (name, command lines: the first that is not refused as a wrong command line counts).
Case = tuple[str, list[list[str]]]


def case(name: str, line: str) -> Case:
    """A case of one command line, in which % is the case's name."""
    return name, [[word.replace("%", name) for word in line.split()]]


def cases() -> Iterator[Case]:
    """All commands, in an order in which each finds its inputs."""
    yield from training()
    yield from scoring()
    yield from using()
    yield from converting()
    yield from lattices()
    yield from asking()
    yield from refused()


def train(name: str, kind: str, line: str) -> Case:
    """`train KIND`, or as it was called before."""
    forms = (
        ["train", kind],
        ["train", "network", "--objective", kind],
        ["train", "--objective", kind],
    )
    rest = ["--text", "in/train.txt", "--valid", "in/valid.txt", "-o", name, *line.split()]
    return name, [[*form, *rest] for form in forms]


def training() -> Iterator[Case]:
    yield train("train/ngram", "ngram", "--order 3 --arpa train/ngram.arpa")
    yield train("train/bigram", "ngram", "--order 2 --prune 0,1 --min-count 2 --join 0")
    tiny = "--steps 6 --batch-tokens 256 --width 32 --layers 2 --heads 2 --feed-forward 48"
    tiny += " --warmup 2 --save-every 3 --vocab-size 200 --seed 3"
    yield train("train/mdlm", "mdlm", f"{tiny} --float32")
    yield train("train/usdm", "usdm", f"{tiny} --prediction posterior")
    yield train("train/ar", "ar", f"{tiny} --optimizer muon --average 0.9")


def score(name: str, line: str, lists: str = "in/small.jsonl") -> Case:
    """`score`, into a file with the name of the case."""
    return case(f"score/{name}", f"score {lists} -o %.jsonl {line}")


def scoring() -> Iterator[Case]:
    mdlm, usdm, ar = (f"--scorer {name}" for name in ("mdlm", "usdm", "ar"))
    nelbo = "--estimator nelbo"
    yield score("mdlm_nelbo", f"{mdlm} --estimator nelbo --per-token")
    yield score("mdlm_nelbo_draws", f"{mdlm} {nelbo} --draws 3 --seed 7 --name other")
    yield score("mdlm_nelbo_one_draw", f"{mdlm} {nelbo} --draws 1")
    yield score("mdlm_nelbo_window", f"{mdlm} {nelbo} --draws 2 --window 16 --per-token")
    yield score("mdlm_nelbo_no_eos", f"{mdlm} {nelbo} --draws 2 --no-score-eos")
    yield score("mdlm_pll", f"{mdlm} --estimator pll --per-token")
    yield score("mdlm_pll_window", f"{mdlm} --estimator pll --window 16")
    yield score("mdlm_within_word", f"{mdlm} --estimator pll_within_word")
    yield score("mdlm_chain", f"{mdlm} --estimator chain --per-token")
    yield score("mdlm_chain_window", f"{mdlm} --estimator chain --window 16 --no-score-eos")
    yield score("mdlm_none", f"{mdlm} {nelbo} --draws 2 --normalizer none")
    yield score("usdm_pll", f"{usdm} --per-token")
    yield score("usdm_pll_t", f"{usdm} --estimator pll --t 0.4 --window 16 --no-score-eos")
    yield score("usdm_pll_bfloat16", f"{usdm} --dtype bfloat16")
    yield score("usdm_pll_float64", f"{usdm} --dtype float64 --normalizer whisper-english")
    yield score("usdm_nelbo", f"{usdm} --estimator nelbo --per-token")
    yield score("usdm_nelbo_draws", f"{usdm} --estimator nelbo --draws 5 --seed 11 --window 16")
    yield score("ar", f"{ar} --per-token")
    yield score("ar_window", f"{ar} --window 16 --no-score-eos")
    yield score("ar_bfloat16", f"{ar} --dtype bfloat16")
    yield score("ar_bare", f"{ar} --refs in/refs_dev.txt", "in/bare.jsonl")
    yield score("ngram", "--scorer ngram --model train/ngram --per-token --name words")
    yield score("ngram_no_eos", "--scorer ngram --model train/bigram --no-score-eos --overwrite")
    yield score("ngram_arpa", "--scorer ngram --model train/ngram.arpa --name words")
    yield score("ngram_own_arpa", "--scorer ngram --model in/lm.arpa --name words --per-token")
    bert, gpt2 = "--scorer mlm --model in/bert", "--scorer ar --model in/gpt2"
    yield score("mlm_pll", f"{bert} --per-token")
    yield score("mlm_within_word", f"{bert} --estimator pll_within_word --window 16")
    yield score("mlm_chain", f"{bert} --estimator chain")
    yield score("mlm_nelbo", f"{bert} --estimator nelbo --draws 4 --per-token --window 16")
    yield score("hub_ar", f"{gpt2} --per-token --name gpt2")
    yield score("hub_ar_window", f"{gpt2} --window 16 --no-score-eos --name gpt2")
    yield score("hub_ar_bfloat16", f"{gpt2} --dtype bfloat16 --name gpt2")
    yield score("trained_mdlm", f"{mdlm} --model train/mdlm --estimator pll")
    yield score("trained_usdm", f"{usdm} --model train/usdm")
    yield score("trained_ar", f"{ar} --model train/ar")
    yield score("gz", f"{ar} --name again", "score/usdm_pll.jsonl")
    yield case("score/stdout", "score in/bare.jsonl --scorer usdm")
    yield case("score/twice", "score score/usdm_pll.jsonl --scorer usdm -o %.jsonl --overwrite")
    yield case("score/dry_run", "score in/dev.jsonl --scorer usdm --dry-run")
    yield case("score/cache_1", "score in/small.jsonl --scorer ar --cache cache -o %.jsonl")
    yield case("score/cache_2", "score in/small.jsonl --scorer ar --cache cache -o %.jsonl")
    yield case("score/skip", "score in/broken.jsonl --scorer ar --on-error skip -o %.jsonl")
    part = "score in/dev.jsonl --scorer usdm -o score/part.{shard}.jsonl --shard"
    yield case("score/shard_0", f"{part} 0/2")
    yield case("score/shard_1", f"{part} 1/2")
    parts = "score/part.1.jsonl score/part.0.jsonl"
    yield case("score/merged", f"merge {parts} --lists in/dev.jsonl -o %.jsonl")
    yield case("score/merged_half", "merge score/part.0.jsonl --lists in/dev.jsonl -o %.jsonl")
    for half in ("dev", "test"):
        line = f"score in/{half}.jsonl -o %.jsonl --scorer"
        yield case(f"score/{half}_1", f"{line} usdm")
        for i, more in enumerate(
            ("ar", "ngram --model train/ngram --name words", "mdlm --estimator nelbo --draws 2")
        ):
            line = f"score score/{half}_{i + 1}.jsonl -o %.jsonl --scorer"
            yield case(f"score/{half}_{i + 2}", f"{line} {more}")


def using() -> Iterator[Case]:
    """Lists with scores: tune, fuse, eval, sweep, check, run."""
    every = "am,ngram,usdm_pll,ar,words,mdlm_nelbo"
    tune = "tune score/dev_4.jsonl -o %.json --scores"
    yield case("tune/all", f"{tune} {every}")
    yield case("tune/two", f"{tune} am,ar --no-word-bonus --cross-validate 5 --seed 3")
    yield case("tune/ranked", f"{tune} rank,usdm_pll --restarts 1")
    yield case("tune/cer", f"{tune} am,ngram,ar --cer --normalizer librispeech")
    yield case("tune/mixed", f"{tune} am,ngram,usdm_pll --unit mixed")
    yield case("tune/stdout", "tune in/dev.jsonl --scores am,ngram")

    fuse = "fuse score/test_4.jsonl -o %.jsonl --fusion"
    yield case("fuse/map", f"{fuse} tune/all.json --trn %.trn")
    yield case("fuse/mbr", f"{fuse} tune/all.json --decision mbr")
    yield case("fuse/mbr_cer", f"{fuse} tune/cer.json --decision mbr --posterior")
    yield case("fuse/posterior", f"{fuse} tune/two.json --posterior --temperature 3.5")
    yield case("fuse/ranked", f"{fuse} tune/ranked.json --posterior --decision mbr")
    yield case("fuse/base", "fuse in/test.jsonl --fusion tune/stdout.stdout.json -o %.jsonl")

    yield case("eval/first", "eval in/test.jsonl -o %.json")
    yield case("eval/map", "eval fuse/map.jsonl --baseline score/test_4.jsonl")
    yield case("eval/mbr", "eval fuse/mbr.jsonl --baseline fuse/map.jsonl --seed 5")
    yield case("eval/cluster", "eval fuse/map.jsonl --baseline in/test.jsonl --cluster voice")
    for unit in ("word", "char", "char_nospace", "mixed"):
        yield case(f"eval/{unit}", f"eval in/small.jsonl --unit {unit} --normalizer librispeech")
    yield case("eval/cer", "eval fuse/mbr_cer.jsonl --baseline in/test.jsonl --cer")
    yield case("eval/whisper", "eval in/small.jsonl --normalizer whisper-english")
    yield case("eval/basic", "eval in/small.jsonl --normalizer whisper-basic")
    for end in ("txt", "trn", "jsonl"):
        yield case(f"eval/refs_{end}", f"eval in/noref.jsonl --refs in/refs.{end}")
    yield case("eval/refs_lhotse", "eval in/noref.jsonl --refs in/sups.jsonl --refs-ids recording")

    sweep = "sweep score/dev_4.jsonl -o %.csv"
    yield case("sweep/one", f"{sweep} --scale ar=0:8:0.5 --plot %.png --resamples 100")
    two = "--scale ar=0:4:1 --scale usdm_pll=0:6:2 --base am=1,ngram=8"
    yield case("sweep/two", f"{sweep} {two} --plot %.png --cross-validate 5 --word-bonus -2:2:2")
    held = "--fusion tune/all.json --scale mdlm_nelbo=0:10:2.5 --resamples 0 --word-bonus 1"
    yield case("sweep/held", f"{sweep} {held}")
    tuned = "--scale words=0:20:5 --base am,ngram --cer --seed 4 --resamples 50"
    yield case("sweep/tuned", f"{sweep} {tuned}")

    yield case("check/dev", "check in/dev.jsonl --json %.json")
    yield case("check/small", "check in/small.jsonl --scorer ar --json %.json --strict")
    yield case("check/usdm", "check in/small.jsonl --scorer usdm --window 16 --normalizer none")
    yield case("check/cer", "check in/four.jsonl --cer --json -")
    yield case("check/scored", "check score/dev_4.jsonl")
    yield case("check/bare", "check in/bare.jsonl")
    yield case("check/noref", "check in/noref.jsonl --unit mixed")
    yield case("check/skip", "check in/broken.jsonl --on-error skip")
    yield case("check/mlm", "check in/small.jsonl --scorer mlm --model in/bert")
    yield case("check/hub_ar", "check in/small.jsonl --scorer ar --model in/gpt2")
    yield case("check/ngram", "check in/small.jsonl --scorer ngram --model train/ngram")

    specs = "ar,usdm:pll,bound=mdlm:nelbo,words=ngram@train/ngram"
    run = "run --dev in/dev.jsonl --test in/test.jsonl -o %"
    yield case("run/all", f"{run} --depth 6 --draws 2 --seed 1 --scorers {specs}")
    yield case("run/again", "run --dev in/dev.jsonl --test in/test.jsonl -o run/all --depth 5")
    yield case("run/cer", f"{run} --scorers ar@train/ar --base am --cer --depth 4")
    fast = "run --dev in/bare.jsonl --test in/noref.jsonl --refs-test in/refs.txt -o % --fast"
    yield case("run/fast", fast)


#: What each written format needs: options for writing, options for reading it again.
WRITTEN = {
    "espnet": ("-W score=am", "-O score=am"),
    "icefall-recogs": ("", ""),
    "jsonl": ("", ""),
    "kaldi": ("-W am=am -W lm=ngram", ""),
    "lattice-rescore": ("-W scores=am,ngram", "-O scores=am,ngram"),
    "lhotse": ("-W manifest=in/sups.jsonl -W what=nbest", "-O what=nbest"),
    "mlm-scoring": ("-W score=am", "-O score=am"),
    "nemo": ("-W score=am", "-O beam_size=4 -O manifest=in/manifest.jsonl"),
    "nemo-beams": ("-W score=am", "-O score=am"),
    "returnn": ("-W score=am", "-O score=am"),
    "srilm": ("-W am=am -W lm=ngram", ""),
    "trn": ("", ""),
}
READ = {
    "ctm": ("in/lists.ctm", ""),
    "hyporadise": ("in/hyporadise.json", ""),
    "wav2letter": ("in/wav2letter.txt", "-O lm_base=e"),
    "mapped-jsonl": (
        "in/mapped.jsonl",
        "-O id=stem:file -O ref=want -O hyps=beams -O text=t -O scores=am:logp*n -O order=am",
    ),
}


def converting() -> Iterator[Case]:
    for name, (out, back) in WRITTEN.items():
        to, again = f"convert/{name}", f"convert/{name}.back"
        yield case(to, f"convert in/four.jsonl --to {name} {out} -o %")
        yield case(again, f"convert {to} --from {name} {back} -o %.jsonl")
        yield case(f"{again}.found", f"convert {to} {back} -o %.jsonl")
    yield case("convert/text", "convert in/four.jsonl --to lhotse -W manifest=in/sups.jsonl -o %")
    yield case("convert/best", "convert score/test_4.jsonl --to mlm-scoring -W score=usdm_pll")
    yield case("convert/odd", "convert in/small.jsonl --to kaldi -W lm=ngram -o %")
    yield case("convert/odd_trn", "convert in/small.jsonl --to trn -o %")
    yield case("convert/odd_back", "convert in/small.jsonl --to returnn -W score=am -o %")
    yield case("convert/skip", "convert in/broken.jsonl --on-error skip -o %.jsonl.gz")
    for name, (path, options) in READ.items():
        yield case(f"convert/{name}", f"convert {path} --from {name} {options} -o %.jsonl")
        yield case(f"convert/{name}.found", f"convert {path} {options} -o %.jsonl")


def lattices() -> Iterator[Case]:
    words = "--words in/k2/words.txt"
    for name in (*K2, *K2_REFUSED):
        yield case(f"lattice/{name}", f"lattice in/k2/{name}.pt {words} -o %.jsonl")
    sups = f"{words} --supervisions in/k2/sups.jsonl --lm-name ngram"
    sources = {
        "batch_refs": f"in/k2/batch.pt {sups}",
        "kaldi": "in/kaldi.txt",
        "openfst": "in/openfst.txt --from openfst",
        "openfst_lm": "in/openfst.txt --from openfst -O weights=lm -O side=input -O words=none",
        "binary": "in/one.fst --words in/abc.txt -O id=u",
        "pieces": "in/pieces.txt --from openfst --bpe in/bpe.model",
        "slf": "in/slf",
        "sausage": "in/sausage.txt",
    }
    for name, source in sources.items():
        yield case(f"lattice/{name}", f"lattice {source} -o %.jsonl")
        for method in ("sample", "cover"):
            yield case(f"lattice/{name}.{method}", f"lattice {source} --method {method} -o %.jsonl")
    more = "lattice in/sausage.txt -o %.jsonl"
    yield case("lattice/pruned", f"{more} -n 20 --posterior 0.05 --posterior-scale 0.1")
    scales = "--am-scale 0.1 --lm-scale 1.5 --word-bonus 0.5"
    yield case("lattice/scaled", f"{more} -n 15 {scales} -O frame_shift=0.03")
    yield case("lattice/sampled", f"{more} --method sample -n 50 --sample-scale 0.2 --seed 9")
    yield case("lattice/covered", f"{more} --method cover -n 4 {scales} --lm-name none")
    search = f"{more} {scales} --rescore"
    yield case("lattice/rescore_ar", f"{search} ar --new-scale 0.7 -n 60")
    yield case("lattice/rescore_usdm", f"{search} one=usdm:pll --new-scale 1.5 -n 40")
    pruned = "--new-scale 2 --posterior 0.01 --posterior-scale 0.2"
    yield case("lattice/rescore_ngram", f"{search} w=ngram@train/ngram {pruned}")
    yield case("lattice/rescore_slf", "lattice in/slf --rescore ar --new-scale 1 -o %.jsonl")


COMMANDS = "check completion convert eval formats fuse lattice merge models plugins run score sweep"


def asking() -> Iterator[Case]:
    yield case("ask/formats", "formats")
    yield case("ask/models", "models", "--json")
    yield case("ask/models_file", "models -o %.json")
    yield case("ask/plugins", "plugins")
    yield case("ask/version", "--version")
    yield case("ask/help", "--help")
    for shell in ("bash", "zsh", "fish"):
        yield case(f"ask/{shell}", f"completion {shell}")
    for command in (*COMMANDS.split(), "train", "tune"):
        yield case(f"ask/help_{command}", f"{command} --help")


def refused() -> Iterator[Case]:
    """What does not work, and how that is said."""
    lines = {
        "no_file": "score in/gone.jsonl --scorer ar",
        "no_command": "scores in/dev.jsonl",
        "no_option": "score in/dev.jsonl --what",
        "no_scorer": "score in/dev.jsonl --scorer bert",
        "no_model": "score in/dev.jsonl --scorer mdlm --model in/gone",
        "no_estimator": "score in/dev.jsonl --scorer mdlm --estimator mean",
        "usdm_chain": "score in/dev.jsonl --scorer usdm --estimator chain",
        "wrong_model": "score in/dev.jsonl --scorer ar --model train/mdlm",
        "broken": "score in/broken.jsonl --scorer ar -o %.jsonl",
        "score_there": "score score/usdm_pll.jsonl --scorer usdm",
        "same_file": "score in/dev.jsonl --scorer ar -o in/dev.jsonl",
        "shard": "score in/dev.jsonl --scorer ar --shard 2/2",
        "device": "score in/dev.jsonl --scorer ar --device nowhere",
        "tune_no_score": "tune in/dev.jsonl --scores am,mine",
        "tune_no_ref": "tune in/noref.jsonl --scores am,ngram",
        "fuse_no_score": "fuse in/dev.jsonl --fusion tune/all.json",
        "fuse_other": "fuse refused/other.jsonl --fusion tune/ranked.json",
        "fuse_no_fusion": "fuse in/dev.jsonl --fusion in/refs.jsonl",
        "eval_no_ref": "eval in/noref.jsonl",
        "eval_others": "eval in/dev.jsonl --baseline in/test.jsonl",
        "sweep_twice": "sweep in/dev.jsonl --scale am=0:1:1 --scale am=0:1:1",
        "sweep_empty": "sweep in/dev.jsonl --scale am=1:0:1",
        "convert_to": "convert in/four.jsonl --to ctm -o refused/out",
        "convert_what": "convert in/lm.arpa",
        "convert_option": "convert in/four.jsonl --to kaldi -W mine=1 -o refused/out",
        "lattice_words": "lattice in/k2/batch.pt",
        "lattice_scale": "lattice in/sausage.txt --rescore ar",
        "lattice_what": "lattice in/lm.arpa",
        "run_same": "run --dev in/dev.jsonl --test in/dev.jsonl -o refused/run",
        "run_spec": "run --dev in/dev.jsonl --test in/test.jsonl --scorers =ar -o refused/run",
        "merge_others": "merge score/dev_1.jsonl --lists in/test.jsonl",
    }
    other = "--scorer usdm --t 0.3 --name usdm_pll -o %.jsonl"
    yield case("refused/other", f"score in/bare.jsonl {other}")
    for name, line in lines.items():
        yield case(f"refused/{name}", line)


# -------------------------------------------------------------------------------- Python values


class Table:
    """p(x) over all sequences, as a denoiser of masked or uniform noise."""

    def __init__(self, size: int, length: int, prediction: str) -> None:
        import torch  # noqa: PLC0415

        self.torch = torch
        rng = random.Random(5)
        weights = [rng.gammavariate(0.5, 1.0) for _ in range(size**length)]
        self.log_joint = (torch.tensor(weights, dtype=torch.float64) / sum(weights)).log()
        self.sequences = torch.tensor(list(itertools.product(range(size), repeat=length)))
        self.one_hot = torch.nn.functional.one_hot(self.sequences, size).double()
        masked = prediction == "masked"
        self.length, self.size, self.prediction = length, size, prediction
        self.vocab_size, self.mask_id = size + masked, size if masked else None

    def log_probs(self, noisy: Any, noise: Any, padding: Any) -> Any:
        """As the protocol of denoisers wants it."""
        torch = self.torch
        same = noisy[:, None] == self.sequences[None]  # (B, X, L)
        if self.prediction == "masked":
            agrees = (same | (noisy[:, None] == self.mask_id)).all(-1)
            rows = self._marginals(torch.where(agrees, self.log_joint, -torch.inf)[:, None])
            never = torch.full((*rows.shape[:2], 1), -torch.inf, dtype=rows.dtype)
            return torch.cat((rows, never), -1)
        level = noise.double()[:, None, None]
        log_q = torch.log(level / self.size + (1 - level) * same)
        whole = (self.log_joint + log_q.sum(-1))[:, None]
        if self.prediction == "posterior":
            return self._marginals(whole)
        return self._marginals(whole - log_q.transpose(1, 2))

    def _marginals(self, log_weights: Any) -> Any:
        torch = self.torch
        weights = torch.exp(log_weights - log_weights.amax(-1, keepdim=True))
        weights = weights.expand(-1, self.length, -1)
        sums = torch.einsum("blx,xlv->blv", weights, self.one_hot)
        return (sums / sums.sum(-1, keepdim=True)).log()


SAMPLERS = (
    "exact_count", "bernoulli", "realised_ratio", "realised_ratio_unbiased",
    "pair", "pair_empty", "pair_full",
)  # fmt: skip
PAPER = ("sequence_length", "sample_level", "global", "coupled")


def called(
    function: Callable[..., Any], *given: Any, sampler: str | None = None, **more: Any
) -> Any:
    """An estimate with its floats as hex; the set sampler goes to the parameter that has one."""
    if sampler is not None:
        name, default = next(
            (name, one.default)
            for name, one in inspect.signature(function).parameters.items()
            if getattr(one.default, "__name__", one.default) in ("exact_count", "realised_ratio")
        )
        more[name] = set_sampler(sampler) if callable(default) else sampler
    found = function(*given, **more)
    draws = [float(value).hex() for value in found.draws]
    return [float(found.value).hex(), float(found.std_error).hex(), found.evaluations, draws]


@functools.cache
def set_sampler(name: str) -> Any:
    """A set sampler that is a function."""
    return module_with("published", "SET_SAMPLERS").SET_SAMPLERS[name]


def estimators() -> None:
    """Every estimator on small tables."""
    import numpy as np  # noqa: PLC0415

    masked, uniform = module_with("masked", "nelbo_exact"), module_with("uniform", "nelbo")
    table, tokens = Table(3, 5, "masked"), np.array([2, 0, 1, 1, 0])
    some = np.array([True, False, True, True, False])
    calls: dict[str, Callable[[], Any]] = {}

    def add(name: str, module: Any, function: str, *given: Any, **more: Any) -> None:
        calls[name] = lambda: called(getattr(module, function), *given, **more)

    for sampler, seed, draws in itertools.product(SAMPLERS, (0, 3), (1, 8)):
        name, more = f"{sampler} {seed} {draws}", {"seed": seed, "draws": draws}
        add(f"masked.nelbo {name}", masked, "nelbo", table, tokens, sampler=sampler, **more)
        more = {**more, "scored": some, "strata": False}
        add(f"masked.nelbo {name} some", masked, "nelbo", table, tokens, sampler=sampler, **more)
    for sampler in SAMPLERS:
        one = np.array([False, False, True, False, False])
        more = {"sampler": sampler, "scored": one}
        add(f"masked.nelbo {sampler} one token", masked, "nelbo", table, tokens, **more)
    for scored, name in ((None, "all"), (some, "some")):
        more = {"scored": scored}
        add(f"masked.nelbo {name}", masked, "nelbo", table, tokens, **more)
        add(f"masked.nelbo_exact {name}", masked, "nelbo_exact", table, tokens, **more)
        add(f"masked.pll {name}", masked, "pll", table, tokens, **more)
        words = np.array([0, 0, 1, 1, 1])
        add(f"masked.pll words {name}", masked, "pll", table, tokens, words=words, **more)
        for order, block in itertools.product(("left_to_right", "random"), (1, 2)):
            label = f"masked.chain {order} {block} {name}"
            more = {"scored": scored, "order": order, "block": block, "seed": 4}
            add(label, masked, "chain", table, tokens, **more)
    add("masked.chain own", masked, "chain", table, tokens, order=[3, 1, 0, 4, 2])
    paper = (masked, "paper_score")
    if not hasattr(*paper):
        paper = (module_with("published", "mdlm_as_coded"), "mdlm_as_coded")
    for kind, sampler in itertools.product(PAPER, ("realised_ratio", "exact_count")):
        more = {"normalization": kind, "sampler": sampler, "draws": 4, "seed": 2}
        add(f"masked.paper_score {kind} {sampler}", *paper, table, tokens, **more)
    for prediction in ("leave_one_out", "posterior"):
        table = Table(3, 5, prediction)
        for scored, name in ((None, "all"), (some, "some")):
            label = f"{prediction} {name}"
            for t in (0.1, 0.6):
                more = {"t": t, "scored": scored}
                add(f"uniform.pll {label} {t}", uniform, "pll", table, tokens, **more)
            for power, strata in itertools.product((1, 2, 3), (True, False)):
                more = {"power": power, "strata": strata, "scored": scored, "seed": 6}
                title = f"uniform.nelbo {label} {power} {strata}"
                add(title, uniform, "nelbo", table, tokens, **more)
    found = {}
    for name, call in calls.items():
        try:
            found[name] = call()
        except Exception as error:  # noqa: BLE001 - what fails is an output too
            found[name] = f"{type(error).__name__}: {error}"
    write("api/estimators.json", json.dumps(found, indent=1) + "\n")


def interface() -> None:
    """The names of `rescore` itself, on arrays and lists in memory."""
    import numpy as np  # noqa: PLC0415

    import rescore  # noqa: PLC0415

    rng = random.Random(8)
    features = [
        np.array([[rng.gauss(-20, 4) for _ in range(3)] for _ in range(rng.randint(2, 6))])
        for _ in range(12)
    ]
    errors = [np.array([rng.randint(0, 5) for _ in rows]) for rows in features]
    tuned = rescore.tune_arrays(features, errors)
    lists = list(rescore.read("score/dev_4.jsonl"))
    fusion = rescore.tune(lists, ["am", "ngram", "ar"])
    best = list(rescore.fuse(rescore.read("score/test_4.jsonl"), fusion))
    found = rescore.evaluate(best, baseline=list(rescore.read("score/test_4.jsonl")))
    scored = list(rescore.score(rescore.read("in/bare.jsonl"), "usdm"))
    values = [[hyp.scores["usdm_pll"] for hyp in one.hyps] for one in scored]
    parts = {
        "tune_arrays": tuned,
        "tune": fusion,
        "evaluate": found,
        "score": values,
        "names": sorted(rescore.__all__),
    }
    write("api/interface.json", json.dumps(plain_value(parts), indent=1) + "\n")


def written_lattices() -> None:
    """Lattices read and written again."""
    found = module_with("lattice", "read_lattices")
    for name, path in (("kaldi_compact", "api/sausage.txt"), ("slf", "api/slf")):
        module_with(name, "write").write(found.read_lattices("in/sausage.txt"), path)


def module_with(name: str, attribute: str) -> Any:
    """The module of the package that is called `name` and has an attribute, wherever it is."""
    import rescore  # noqa: PLC0415

    for found in pkgutil.walk_packages(rescore.__path__, "rescore."):
        if found.name.endswith(f".{name}"):
            module = importlib.import_module(found.name)
            if hasattr(module, attribute):
                return module
    raise ImportError(f"no module {name} has {attribute}")


def plain_value(value: Any) -> Any:
    """Records as dictionaries, floats as hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {one.name: plain_value(getattr(value, one.name)) for one in fields}
    if isinstance(value, float):
        return float(value).hex()
    if isinstance(value, dict):
        return {str(key): plain_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(one) for one in value]
    return value if isinstance(value, str | int | None) else repr(value)


# ------------------------------------------------------------------------------------- running


def forked(work: Callable[[], object], output: Path) -> int:
    """Do it in a process of its own; its exit status. stdout and stderr go to OUTPUT.{out,err}."""
    output.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for descriptor, end in ((1, ".out"), (2, ".err")):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(f"{output}{end}", flags), descriptor)
        work()
        status = 0
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 0 if not stopped.code else 1
    except BaseException:  # noqa: BLE001 - it is the end of this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def command(words: list[str]) -> Callable[[], object]:
    """What the installed command does."""

    def work() -> None:
        sys.argv = ["dlmrescore", *words]
        importlib.import_module("rescore.cli").main()

    return work


class Log:
    """Runs cases and notes how long they took."""

    def __init__(self, checkout: Path, only: str | None) -> None:
        self.checkout, self.only = checkout, only
        self.places = {str(checkout): "CHECKOUT", str(Path.cwd()): "FOLDER"}
        self.file = Path("commands.log").open("a")  # noqa: SIM115 - as long as the process

    def wants(self, name: str) -> bool:
        """Whether the case is to be run, and was not before `make` was stopped."""
        chosen = self.only is None or fnmatch.fnmatch(name, self.only)
        return chosen and not Path(f"{name}.txt").exists()

    def note(self, name: str, began: float, words: list[str]) -> None:
        """A line of the log."""
        print(
            f"{time.monotonic() - began:7.2f}  {name}  {' '.join(words)}",
            file=self.file,
            flush=True,
        )

    def case(self, name: str, lines: list[list[str]]) -> None:
        """Try command lines until one is not a usage error."""
        for words in lines:
            began = time.monotonic()
            status = forked(command(words), Path(name))
            self.note(name, began, words)
            if status != 2:
                break
        self.keep(name, status)

    def function(self, name: str, work: Callable[[], object]) -> None:
        """Run a function of this file, which imports the package."""
        began = time.monotonic()
        status = forked(work, Path(name))
        self.note(name, began, [])
        self.keep(name, status)

    def started(self, name: str, words: list[str]) -> None:
        """A command in a new Python."""
        began = time.monotonic()
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{name}.out").open("wb") as out, Path(f"{name}.err").open("wb") as err:
            line = [sys.executable, "-c", START, *words]
            status = subprocess.run(line, stdout=out, stderr=err, check=False).returncode
        self.note(name, began, words)
        self.keep(name, status)

    def keep(self, name: str, status: int) -> None:
        """Join what was said into one text, without paths and seconds."""
        parts = [f"exit status {status}\n"]
        for end in ("out", "err"):
            path = Path(f"{name}.{end}")
            text = path.read_bytes().decode(errors="backslashreplace")
            path.unlink()
            parts.append(f"---- std{end}\n{text}")
            if end == "out" and text.startswith(("{", "[")):
                write(f"{name}.stdout.json", self.plain(text))
        write(f"{name}.txt", without_timings(self.plain("".join(parts))))

    def plain(self, text: str) -> str:
        """A text without paths of this machine."""
        for place, name in self.places.items():
            text = text.replace(place, name)
        return text


def run(checkout: Path, only: str | None) -> None:
    """In the folder, with the checkout on the path: everything."""
    log = Log(checkout, only)
    make_lists()
    make_lattices()
    for module in ("torch", "matplotlib.figure", "transformers.models.bert.modeling_bert"):
        importlib.import_module(module)
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    if any(name.partition(".")[0] == "rescore" for name in sys.modules):
        raise SystemExit("the package was imported before its commands were forked")
    log.function("in/where", lambda: print(importlib.import_module("rescore").__file__))
    if "CHECKOUT/rescore/__init__.py" not in Path("in/where.txt").read_text():
        raise SystemExit(f"not the package of {checkout}: {Path('in/where.txt').read_text()}")
    log.function("in/hub", make_hub_models)
    for name, lines in cases():
        if log.wants(name):
            log.case(name, lines)
    for name, work in (
        ("api/estimators", estimators),
        ("api/interface", interface),
        ("api/lattices", written_lattices),
    ):
        if log.wants(name):
            log.function(name, work)
    for name, words in (
        ("start/score", "score in/bare.jsonl --scorer usdm -o start/score.jsonl"),
        ("start/help", "--help"),
        ("start/refused", "score in/gone.jsonl"),
    ):
        if log.wants(name):
            log.started(name, words.split())
    clean(log)
    digests = {name: digest(path) for name, path in outputs(Path()).items()}
    write("digests.json", json.dumps(digests, indent=1) + "\n")


def clean(log: Log) -> None:
    """Take out what differs from run to run, and paths."""
    shutil.rmtree("cache", ignore_errors=True)
    for path in outputs(Path()).values():
        if path.parts[0] == "train" and path.suffix in (".pt", ".tmp"):
            path.unlink()
            continue
        text = text_of(path)
        if text is None or path.parts[0] == "in":
            continue
        plain = log.plain(text)
        if path.name in ("seconds.json", "table.md", "log.csv"):
            plain = without_timings(plain)
        if plain != text:
            write(str(path), plain)


def make(checkout: Path, folder: Path, only: str | None) -> None:
    """Start a Python that has the package of the checkout, in the folder."""
    if not (checkout / "rescore" / "__init__.py").is_file():
        raise SystemExit(f"{checkout}: not a checkout of the package")
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in folder.iterdir()}
    if names and ("commands.log" not in names or "digests.json" in names):
        raise SystemExit(f"{folder}: holds other files; name a new folder")
    began = time.monotonic()
    line = [sys.executable, str(Path(__file__).resolve()), "_run", str(checkout)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout)}
    line += ["--only", only] if only else []
    status = subprocess.run(line, cwd=folder, env=environment, check=False).returncode
    if status:
        raise SystemExit(status)
    seconds = time.monotonic() - began
    print(f"{folder}: {len(outputs(folder))} files in {seconds:.0f} s")


# ----------------------------------------------------------------------------------- comparing


def outputs(folder: Path) -> dict[str, Path]:
    """Relative name -> path of all files that count."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    names = [name for name in sorted(found) if found[name].is_file() and name not in OURS]
    return {name: found[name] for name in names}


def digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_of(path: Path) -> str | None:
    """The text of a file, or None."""
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (UnicodeDecodeError, OSError):
        return None
    return None if "\0" in text else text


_TIMINGS = (
    (re.compile(r"[^\n]*\r(?!\n)"), ""),  # progress bars
    (re.compile(r"^[^\n]*\[\d\d:\d\d[^\n]*/s[^\n]*\n?", re.MULTILINE), ""),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "T s"),
    (re.compile(r"about [\d.]+ (seconds|minutes|hours|days)"), "about T"),
    (re.compile(r"[\d,]+(\.\d+)? (tokens|hypotheses)/s"), r"N \2/s"),
    (re.compile(r"about [\d.]+ (GiB|MiB)"), r"about N \1"),
    (re.compile(r"^( *\"(?:dev|test) [^\"]+\": )\d+(\.\d+)?", re.MULTILINE), r"\1T"),
    (re.compile(r"\| +\d+ \|$", re.MULTILINE), "| T |"),  # the last column of table.md
)


def without_timings(text: str) -> str:
    """A text in which what the clock and the machine say is replaced."""
    for pattern, instead in _TIMINGS:
        text = pattern.sub(instead, text)
    lines = text.splitlines(keepends=True)
    names = lines[0].rstrip().split(",") if lines else []
    timed = {i for i, name in enumerate(names) if re.search("second|matmul_share", name)}
    if not timed or len(names) < 3:
        return text
    rows = [line.rstrip().split(",") for line in lines[1:]]
    cells = [["T" if i in timed else cell for i, cell in enumerate(row)] for row in rows]
    return lines[0] + "".join(",".join(row) + "\n" for row in cells)


_SIGNATURE = re.compile(r"[\w.-]+\|(?:[\w.-]+=[^|\"\s]*\|)*[\w.-]+=[^|\"\s]*")
_KEYED = re.compile(r"(\"signature\": ?)(\"[^\"]*\"|null)")


def without_signatures(text: str) -> str:
    """A text in which the signatures of scores are replaced."""
    return _SIGNATURE.sub("SIGNATURE", _KEYED.sub(r'\1"SIGNATURE"', text))


def difference(one: Path, two: Path) -> str:
    """What differs in two files."""
    texts = [text_of(one), text_of(two)]
    if None in texts:
        return f"{one.stat().st_size} and {two.stat().st_size} bytes that are no text"
    a, b = (str(text) for text in texts)
    if a == b:
        return "only the compression differs"
    for what, plain in (
        ("signatures", without_signatures),
        ("timings", without_timings),
        ("signatures and timings", lambda text: without_signatures(without_timings(text))),
    ):
        if plain(a) == plain(b):
            return f"only {what} differ"
    bare = [without_signatures(without_timings(text)).splitlines() for text in (a, b)]
    lines = sum(one != two for one, two in itertools.zip_longest(*bare))
    try:
        values = [json.loads("\n".join(text)) for text in bare]
        place, was, now = within(*values) or ("", "other white space", "")
        found = f"at{place}: {short(was)} | {short(now)}"
    except ValueError:
        found = first_line(*bare)
    return f"{found}{largest(*bare)}{f'; {lines} lines differ' if lines > 1 else ''}"


def first_line(a: list[str], b: list[str]) -> str:
    """The first line that differs, and where in it."""
    for number, (one, two) in enumerate(itertools.zip_longest(a, b), 1):
        if one == two:
            continue
        if one is None or two is None:
            return f"line {number}: {short(one or 'no line')} | {short(two or 'no line')}"
        try:
            left, right = json.loads(one), json.loads(two)
        except ValueError:
            at = next((i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), 0)
            begin = max(0, at - 30)
            return f"line {number}: {short(one[begin:])} | {short(two[begin:])}"
        place, was, is_ = within(left, right) or ("", "other white space or order of keys", "")
        return f"line {number}{place}: {short(str(was))} | {short(str(is_))}"
    return "other line ends"


def within(a: Any, b: Any, place: str = " ") -> tuple[str, Any, Any] | None:
    """(path, one, other) of the first difference of two JSON values."""
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b) and set(a) != set(b):
            return place, f"keys {list(a)}", f"keys {list(b)}"
        return next((x for key in a if (x := within(a[key], b[key], f"{place}.{key}"))), None)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((x for i, (p, q) in pairs if (x := within(p, q, f"{place}[{i}]"))), None)
    return None if a == b and type(a) is type(b) else (place, json.dumps(a), json.dumps(b))


_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def largest(a: list[str], b: list[str]) -> str:
    """If only numbers differ: how many, and the largest difference."""
    one, two = "\n".join(a), "\n".join(b)
    if _NUMBER.sub("N", one) != _NUMBER.sub("N", two) or re.search(r"\b0x1\.", one):
        return ""
    pairs = zip(map(float, _NUMBER.findall(one)), map(float, _NUMBER.findall(two)), strict=True)
    apart = [(abs(x - y), abs(x - y) / max(abs(x), abs(y))) for x, y in pairs if x != y]
    if not apart:
        return " (the same numbers, written otherwise)"
    most, relative = (max(values) for values in zip(*apart, strict=True))
    return f" ({len(apart)} numbers differ, by {most:.3g} or {relative:.3g} relative at most)"


def short(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) < 100 else f"{text[:97]}..."


def compare(one: Path, two: Path) -> int:
    """Print what is missing, spare or different; 1 if anything is."""
    left, right = outputs(one), outputs(two)
    if not left or not right:
        raise SystemExit(f"{two if left else one}: holds no outputs; make them first")
    bad = 0
    for name in sorted({*left, *right}):
        if name not in right:
            said = f"missing  {name}"
        elif name not in left:
            said = f"spare    {name}"
        elif left[name].read_bytes() != right[name].read_bytes():
            said = f"differs  {name}: {difference(left[name], right[name])}"
        else:
            continue
        bad += 1
        print(said)
    print(f"{len({*left, *right})} files, {f'{bad} not the same' if bad else 'all equal'}")
    return int(bad > 0)


def main() -> None:
    """The command line."""
    plain = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("action", choices=["make", "compare", "_run"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--only")
    chosen = parser.parse_args()
    paths = [path.resolve() for path in chosen.paths]
    if len(paths) != (1 if chosen.action == "_run" else 2):
        parser.error(f"{chosen.action} needs two folders")
    if chosen.action == "compare":
        sys.exit(compare(*paths))
    elif chosen.action == "make":
        make(*paths, chosen.only)
    else:
        sys.path.pop(0)  # the folder of this file, which has modules of its own
        run(paths[0], chosen.only)


if __name__ == "__main__":
    main()
