"""Models, weights and paths that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from command_line import (
    RECORDS,
    TEXTS,
    files,
    refused,
    write,
)
from small import save_small

pytestmark = pytest.mark.usefixtures("folder")


def test_a_checkpoint_of_another_kind_or_with_a_missing_tensor_is_named(dlm, models, tmp_path):
    write("in.jsonl", RECORDS)
    before = files()
    for scorer, other in (("mdlm", "usdm"), ("usdm", "ar"), ("ar", "mdlm")):
        line = refused(
            dlm(
                "score", "in.jsonl", "--scorer", scorer, "--model", models[other], "-o", "out.jsonl"
            )
        )
        assert line.startswith(
            f"{models[other]}: checkpoint holds objective '{other}', expected '{scorer}'"
        )
    assert refused(dlm("score", "in.jsonl", "--model", "nowhere", "-o", "out.jsonl")).startswith(
        "nowhere: no such checkpoint directory"
    )
    assert refused(dlm("score", "in.jsonl", "--scorer", "mlm", "-o", "out.jsonl")).startswith(
        "--scorer mlm needs --model"
    )
    assert refused(
        dlm("score", "in.jsonl", "--model", models["mdlm"], "--estimator", "magic")
    ).startswith("estimator 'magic' of --scorer mdlm is unknown")
    assert files() == before

    broken = save_small(tmp_path / "broken", "mdlm")
    weights = safetensors.torch.load_file(broken / "model.safetensors")
    del weights["blocks.1.down.weight"]
    safetensors.torch.save_file(weights, broken / "model.safetensors")
    line = refused(dlm("score", "in.jsonl", "--model", "broken", "-o", "out.jsonl"))
    assert (
        line
        == "broken/model.safetensors: tensor 'blocks.1.down.weight' is missing; restore the file"
    )
    assert "out.jsonl" not in files()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "fusion.json: broken JSON"),
        ("[]", "fusion.json: not weights"),
        ('{"scales": {}}', "fusion.json: not weights"),
        ('{"scales": {"am": 1}, "wordbonus": 1}', 'fusion.json: the field "wordbonus" is unknown'),
        (None, "fusion.json: cannot be read"),
    ],
)
def test_broken_weights_are_named(dlm, content, message):
    write("in.jsonl", RECORDS)
    if content is not None:
        Path("fusion.json").write_text(content)
    before = files()
    assert refused(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl")
    ).startswith(message)
    assert files() == before


def test_an_output_that_is_also_an_input_is_refused(dlm, models):
    write("in.jsonl", RECORDS)
    write("base.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1}}])
    write("refs.txt", [f"{name} {ref}" for name, ref, _ in TEXTS])
    Path("link.jsonl").symlink_to("in.jsonl")
    fuse = ["fuse", "in.jsonl", "--fusion", "fusion.json", "--refs", "refs.txt"]
    before = {name: Path(name).read_bytes() for name in files()}
    for output, *command in [
        ("in.jsonl", "score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]),
        ("./in.jsonl", "convert", "in.jsonl"),
        ("link.jsonl", "convert", "in.jsonl"),
        ("in.jsonl", "tune", "in.jsonl", "--scores", "am"),
        ("in.jsonl", "eval", "in.jsonl"),
        ("base.jsonl", "eval", "in.jsonl", "--baseline", "base.jsonl"),
        ("refs.txt", "convert", "in.jsonl", "--refs", "refs.txt"),
        ("in.jsonl", *fuse),
        ("fusion.json", *fuse),
        ("refs.txt", *fuse),
    ]:
        assert refused(dlm(*command, "-o", output)).startswith(f"{output}: is also the input ("), (
            command
        )
    for trn in ("in.jsonl", "fusion.json", "refs.txt", "best.jsonl", "link.jsonl"):
        assert refused(dlm(*fuse, "-o", "best.jsonl", "--trn", trn)).startswith(
            f"{trn}: is also the input ("
        ), trn
    assert dlm(*fuse, "--trn", "-").status == 2
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_an_output_in_a_missing_directory_is_refused(dlm, models):
    write("in.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1}}])
    for command in (
        ["score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]],
        ["convert", "in.jsonl"],
        ["tune", "in.jsonl", "--scores", "am"],
        ["eval", "in.jsonl"],
        ["fuse", "in.jsonl", "--fusion", "fusion.json"],
        ["models"],
    ):
        assert refused(dlm(*command, "-o", "gone/out.json")).startswith(
            "gone/out.json: cannot be written: no such file or directory"
        )
    assert refused(dlm("convert", "gone.jsonl", "-o", "out.jsonl")).startswith(
        "gone.jsonl: cannot be read: no such file or directory"
    )
    assert files() == ["fusion.json", "in.jsonl"]


@pytest.mark.parametrize(("utterance", "trn"), [("with space", "hyp.trn"), ("u1", "gone/hyp.trn")])
def test_a_trn_that_cannot_be_written_leaves_no_lists_either(dlm, utterance, trn):
    write("in.jsonl", [{**RECORDS[0], "id": utterance}])
    write("fusion.json", [{"scales": {"am": 1}}])
    assert "trn" in refused(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl", "--trn", trn)
    )
    assert files() == ["fusion.json", "in.jsonl"]
