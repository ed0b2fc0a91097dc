"""`dlmrescore posteriors`: audio through a model, and posteriors of other tools."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from command_line import files, good, refused
from hub_ctc_models import LETTERS, save_letters
from small_encoder import write_audio

from rescore.acoustic.posterior_file import read_posteriors

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_letters(tmp_path_factory.mktemp("hub") / "wav2vec2", "wav2vec2")


@pytest.fixture
def table(folder):
    return write_audio(folder, count=5, rate=16000).name


def test_audio_becomes_posteriors(dlm, model, table):
    done = good(dlm("posteriors", table, "--model", model, "-o", "p.safetensors"))
    assert done.out == ""
    assert re.fullmatch(r"5 utterances, 0.00 h of audio, \d+\.\d s, RTFx \d+\.\d\n", done.err)
    file = read_posteriors("p.safetensors")
    assert file.symbols.pieces == tuple(LETTERS)
    assert file.frame_shift == 0.02
    assert sorted(file) == ["u0", "u1", "u2", "u3", "u4"]
    assert re.fullmatch(r"hub-ctc \w{16} dtype=float32 v1 window=60 overlap=10", file.signature)


def test_a_terminal_is_told_how_many_hours_a_table_has(model, folder):
    table = write_audio(folder, count=5, rate=100).name  # seconds that add up to 0.02 h
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    reader, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program = "from rescore.cli import main; main()"
    command = [sys.executable, "-c", program, "posteriors", table, "--model", model]
    subprocess.run([*command, "-o", "p.safetensors"], stderr=terminal, check=True)
    os.close(terminal)
    assert b" of 0.02 h [" in os.read(reader, 1 << 16)
    os.close(reader)


def test_shards_in_float16_join_to_the_whole(dlm, model, table, folder):
    (folder / "shards").mkdir()
    run = ("posteriors", table, "--model", model, "--window", 0.3, "--store", "float16")
    good(dlm(*run, "-o", "whole.safetensors"))
    for shard in ("0/2", "1/2"):
        good(dlm(*run, "--shard", shard, "-o", "shards/{shard}.safetensors"))
    good(dlm("posteriors", "shards", "--from", "posteriors", "-o", "joined"))
    assert (folder / "joined").read_bytes() == (folder / "whole.safetensors").read_bytes()


def test_wrong_uses_are_told(dlm, model, table):
    out = ("-o", "p.safetensors")
    for argv, message in [
        ((table, *out), "audio needs a recogniser (--model)"),
        ((table, "--model", model, "-O", "a=b", *out), "give --from too"),
        ((table, "--model", model, "-o", "-"), "name one such as dev.safetensors"),
        ((table, "--model", model, "-o", "p.safetensors.gz"), "not compressed"),
        ((table, "--model", model, "--ray-address", "auto", *out), "give --ray too"),
        ((table, "--from", "kaldi", "--window", 3, *out), "--window is about audio"),
        ((table, "--from", "kaldi", *out), 'needs the option "symbols"'),
    ]:
        done = dlm("posteriors", *argv)
        assert done.status == 2, argv
        assert message in done.err
    for argv, message in [
        ((table, "--model", "nowhere/at/all", *out), "nowhere/at/all: there is no such directory"),
        (("nowhere.tsv", "--model", model, *out), "nowhere.tsv: cannot be read"),
        ((table, "--model", model, "--overlap", 50, *out), "at most half a window"),
        ((table, "--model", model, "--overlap", 0, *out), "an overlap of 0.02 s at least"),
        ((table, "--model", model, "--window", 0.01, *out), "needs windows of 0.06 s"),
        ((table, "--model", model, "--device", "gpu", *out), "device 'gpu' cannot be used"),
        ((table, "--model", model, "-o", table), "is also the input"),
        ((table, "--model", model, "-o", "no/p.safetensors"), "cannot be opened"),
    ]:
        assert message in refused(dlm("posteriors", *argv))
    assert "p.safetensors" not in files()


def test_bad_audio_is_one_line_or_skipped(dlm, model, table, folder):
    (folder / "u2.wav").write_bytes(b"RIFF")
    run = ("posteriors", table, "--model", model, "-o", "p.safetensors")
    line = refused(dlm(*run))
    assert line.startswith("audio.tsv:4: utterance u2: ")
    assert line.endswith("(--on-error skip goes on without it)")
    done = good(dlm(*run, "--on-error", "skip"))
    assert "skipped: audio.tsv:4: utterance u2: " in done.err
    assert "4 utterances, 1 skipped, " in done.err
    assert sorted(read_posteriors("p.safetensors")) == ["u0", "u1", "u3", "u4"]


def test_windows_of_a_real_layout_lose_no_frame(dlm, model, table):
    run = ("posteriors", table, "--model", model)
    good(dlm(*run, "-o", "whole.safetensors"))
    good(dlm(*run, "--window", 0.1, "--overlap", 0.03, "-o", "cut.safetensors"))
    whole, cut = map(read_posteriors, ("whole.safetensors", "cut.safetensors"))
    assert [cut.frames(name) for name in whole] == [whole.frames(name) for name in whole]


def test_posteriors_of_kaldi_become_a_file_of_ours(dlm, folder):
    kaldiio = pytest.importorskip("kaldiio")
    logits = np.random.default_rng(0).normal([3, 0, 0], size=(9, 3))
    rows = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    kaldiio.save_ark("p.ark", {"u": rows}, scp="p.scp")
    (folder / "tokens.txt").write_text("<blk> 0\n| 1\na 2\n")
    layout = ("-O", "symbols=tokens.txt", "-O", "frame_shift=0.04", "-O", "model=tdnn")
    done = good(dlm("posteriors", "p.scp", "--from", "kaldi", *layout, "-o", "p.safetensors"))
    assert done.err == "1 utterances\n"
    file = read_posteriors("p.safetensors")
    np.testing.assert_array_equal(file["u"].log_probs, rows)
    assert (file.frame_shift, file.signature) == (0.04, "given tdnn v1")
