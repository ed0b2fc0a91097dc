"""The commands of docs/posteriors.md and recipes/whisper_am run as written, with tiny networks."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import sentencepiece
from click.testing import CliRunner
from command_line import write
from hub_ctc_models import save_letters
from small_encoder import write_audio

from rescore.acoustic.posterior_file import read_posteriors
from rescore.cli import cli
from rescore.formats import jsonl

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECIPE = ROOT / "docs" / "posteriors.md", ROOT / "recipes" / "whisper_am" / "README.md"
MODEL = "facebook/wav2vec2-base-960h"


def commands(page):
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("dlmrescore ")]


def run(*command):
    done = CliRunner().invoke(cli, [*command])
    assert done.exit_code == 0, done.output


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the model under its public name, and audio with lists of the same ids."""
    monkeypatch.chdir(tmp_path)
    save_letters(tmp_path / MODEL, "wav2vec2", "group")
    write_audio(tmp_path, count=4, rate=16000).rename("dev.tsv")
    return tmp_path


def kaldi_dump():
    """dev.scp, tokens.txt and bpe.model, as icefall has them."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat"] * 20),
        model_writer=model,
        vocab_size=16,
        model_type="bpe",
        minloglevel=2,
    )
    Path("bpe.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = ["<blk>", *(processor.id_to_piece(k) for k in range(1, 16))]
    table = "".join(f"{piece} {k}\n" for k, piece in enumerate(pieces))
    Path("tokens.txt").write_text(table, encoding="utf-8")
    rows = np.full((7, 16), np.log(1 / 16), np.float32)
    kaldiio.save_ark("dev.ark", {"u": rows}, scp="dev.scp")


def test_the_commands_of_the_page_run_as_written(workplace):
    lists = [{"id": f"u{k}", "hyps": [{"text": "a"}, {"text": "it"}]} for k in range(4)]
    write("nbest.jsonl", lists)
    kaldi_dump()
    Path("shards").mkdir()
    for shard in ("0/2", "1/2"):
        output = ("-o", "shards/{shard}.safetensors")
        run("posteriors", "dev.tsv", "--model", MODEL, "--shard", shard, *output)
    for command in commands(PAGE):
        run(*command)
    assert [len(nbest.hyps) for nbest in jsonl.read("scored.jsonl")] == [2, 2, 2, 2]
    assert all("am" in hyp.scores for nbest in jsonl.read("decoded.jsonl") for hyp in nbest.hyps)
    assert Path("all.safetensors").read_bytes() == Path("dev.safetensors").read_bytes()
    symbols = read_posteriors("zipformer.safetensors").symbols
    assert symbols.decode(symbols.encode("the cat")) == "the cat"


def test_the_commands_of_the_whisper_recipe_run_as_written(workplace):
    texts = ["It's a test.", "its a test", "It is 5!"]  # no symbol spells the 5
    long_enough = [3, 2]  # utterances of 0.35 and 0.3 s
    lists = [
        {"id": f"u{k}", "ref": "a", "hyps": [{"text": text} for text in (*texts, "A!")]}
        for k in long_enough
    ]
    write("whisper.dev.jsonl", lists)
    for command in commands(RECIPE):
        run(*command)
    [first, *_] = jsonl.read("dev.am.jsonl")
    assert [hyp.text for hyp in first.hyps] == ["It's a test.", "its a test", "A!"]
    [best, *_] = jsonl.read("dev.best.jsonl")
    assert {"am", "usdm_pll", "total"} <= set(best.hyps[0].scores)


@pytest.mark.parametrize(
    "option", sorted(set(re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8"))))
)
def test_every_option_that_the_page_names_exists(option):
    helps = [CliRunner().invoke(cli, [name, "--help"]).output for name in ("posteriors", "score")]
    assert option in "".join(helps)
