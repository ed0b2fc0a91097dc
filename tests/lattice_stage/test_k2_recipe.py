"""What the patches call: flags, data sets, methods, file names; the patches hold no more."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dlm_rescore import recipe
from dlm_rescore.dump import close_dumps
from k2_lattices import SENTENCES, hlg_lattice, words_to_text

import rescore

ROOT = Path(__file__).parents[2] / "recipes" / "icefall"


class AttributeDict(dict):
    """icefall's: a dict with attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Data:
    def __getattr__(self, name):
        return lambda: name

    def test_dataloaders(self, cuts):
        return f"loader of {cuts}"


def params(tmp_path, *flags, method="decoding_method", **others):
    parser = argparse.ArgumentParser()
    parser.add_argument("--method")
    recipe.add_arguments(
        parser, ngram=others.pop("ngram", True), posteriors=others.pop("posteriors", False)
    )
    parsed = vars(parser.parse_args([*flags]))
    chosen = parsed.pop("method")
    basics = {
        "num_paths": 20,
        "nbest_scale": 0.5,
        "use_double_scores": True,
        "exp_dir": tmp_path,
        "dlm_set": "dev-clean",
    }
    return AttributeDict({**parsed, method: chosen, **basics, **others})


BATCH = {"text": SENTENCES[:3], "cut": [SimpleNamespace(id=f"c{i}") for i in range(3)]}


def test_a_dump_is_of_dev_and_test_sets_a_grid_of_dev_sets_and_chosen_scales_of_test_sets(tmp_path):
    def names(*flags, **others):
        return recipe.choose_sets(params(tmp_path, *flags, **others), Data())[0]

    assert names("--method", "nbest-dump") == ["dev-clean", "dev-other", "test-clean", "test-other"]
    assert names("--method", "dlm-rescoring") == ["dev-clean", "dev-other"]
    assert names("--method", "dlm-rescoring", "--dlm-scale", "0") == ["dev-clean", "dev-other"]
    assert names("--method", "dlm-rescoring", "--dlm-scale", "0", "--dlm-ngram-lm-scale", "0") == [
        "test-clean",
        "test-other",
    ]
    assert names("--method", "dlm-rescoring", "--dlm-scale", "0", ngram=False) == [
        "test-clean",
        "test-other",
    ]
    assert (
        recipe.choose_sets(params(tmp_path, "--method", "nbest-dump"), Data())[1][0]
        == "loader of dev_clean_cuts"
    )


def test_nbest_dump_writes_beside_the_other_results_and_returns_the_best_words(tmp_path):
    lattice = hlg_lattice()
    options = params(
        tmp_path,
        "--method",
        "nbest-dump",
        res_dir=tmp_path / "new" / "nbest-dump",
        suffix="epoch-30_avg-15",
    )
    words_by_key = recipe.decode_lattice(options, lattice, BATCH, words_to_text)
    lists = list(
        rescore.read(tmp_path / "new" / "nbest-dump" / "nbest-dev-clean-epoch-30_avg-15.jsonl")
    )
    assert words_by_key == {"nbest-dump": [list(nbest.hyps[0].words) for nbest in lists]}
    options = params(
        tmp_path, "--method", "nbest-dump", method="method"
    )  # conformer_ctc: no res_dir, no suffix
    assert recipe.dump_file(options) == tmp_path / "nbest-dev-clean.jsonl"


def test_nbest_dump_writes_posteriors_on_request(tmp_path):
    ctc_output = torch.randn(3, 4, 5).log_softmax(-1), torch.tensor([4, 2, 3])
    recipe_name = "posteriors-dev-clean.ark"
    for flags, exists in (((), False), (("--dlm-posteriors",), True)):
        options = params(tmp_path, "--method", "nbest-dump", *flags, posteriors=True)
        recipe.decode_lattice(options, hlg_lattice(), BATCH, words_to_text, ctc_output)
        assert (tmp_path / recipe_name).exists() == exists
        close_dumps()
    data = (tmp_path / recipe_name).read_bytes()
    assert data.startswith(b"c0 \0BFM \x04\x04\0\0\0\x04\x05\0\0\0")
    assert len(data) == 3 * (3 + 15) + 4 * 9 * 5


def test_dlm_rescoring_returns_words_by_key(tmp_path):
    options = params(
        tmp_path,
        "--method",
        "dlm-rescoring",
        "--dlm-scorer",
        "usdm:pll",
        "--dlm-scale",
        "0",
        "--dlm-ngram-lm-scale",
        "1",
    )
    words_by_key = recipe.decode_lattice(options, hlg_lattice(), BATCH, words_to_text)
    assert list(words_by_key) == ["ngram_lm_scale_1.0_dlm_scale_0.0"]
    dumped = recipe.decode_lattice(
        params(tmp_path, "--method", "nbest-dump"), hlg_lattice(), BATCH, words_to_text
    )
    assert words_by_key["ngram_lm_scale_1.0_dlm_scale_0.0"] == dumped["nbest-dump"]


@pytest.mark.parametrize(
    "patch", sorted((ROOT / "patches").glob("*.patch")), ids=lambda path: path.stem
)
def test_a_patch_is_short_and_calls_what_is_there(patch):
    added = [
        line[1:]
        for line in patch.read_text().splitlines()
        if line.startswith("+") and not line.startswith("+++")
    ]
    assert len(added) <= 40
    called = {
        word.split("(")[0].strip("*,: ")
        for line in added
        for word in line.split()
        if "dlm_recipe." in word
    }
    assert called
    for name in called:
        assert hasattr(recipe, name.split("dlm_recipe.")[1].rstrip(":,)")), name
