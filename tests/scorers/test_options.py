"""Every scorer declares the options that it reads; any other is refused by name."""

from __future__ import annotations

import sys
from dataclasses import fields, replace

import pytest
from small import nbest, save_small

import rescore
from rescore.cli import main
from rescore.errors import ScoreError
from rescore.registry import SCORERS, lookup
from rescore.scorers import ScorerFamily, ScorerOptions, adapt, load_scorer, load_vocabulary
from rescore.scorers.loading import read_options

#: A value of each option that is not its default.
VALUES = {
    "model": "x",
    "estimator": "pll",
    "draws": 3,
    "seed": 1,
    "folds": 4,
    "t": 0.3,
    "device": "meta",
    "dtype": "float64",
    "normalizer": "none",
    "window": 64,
    "score_eos": False,
    "per_token": True,
    "remote_code": True,
    "compile": True,
    "posteriors": "x",
    "bpe": "x",
    "impossible": "drop",
    "audio": "x",
}
FAMILIES = {name: lookup(SCORERS, name, "scorer") for name in SCORERS}
ESTIMATORS = [
    (name, estimator)
    for name, family in FAMILIES.items()
    for estimator in family.estimators or (None,)
]


@pytest.fixture
def model(tmp_path):
    return str(save_small(tmp_path / "mdlm", "mdlm"))


def test_every_option_has_a_value_to_try():
    assert set(VALUES) == {option.name for option in fields(ScorerOptions)}
    assert ScorerOptions(**VALUES).changed == set(VALUES)
    assert ScorerOptions().changed == set()


@pytest.mark.parametrize(("name", "estimator"), ESTIMATORS)
def test_an_option_that_an_estimator_does_not_read_is_refused_by_name(name, estimator):
    family = FAMILIES[name]
    chosen = {} if estimator is None else {"estimator": estimator}
    reads = family.reads(ScorerOptions(**chosen))
    which = f" --estimator {estimator}" if estimator else ""
    for option in sorted(set(VALUES) - reads - {"estimator"}):
        with pytest.raises(ScoreError) as caught:
            load_scorer(name, ScorerOptions(**chosen | {option: VALUES[option]}))
        flag = "--no-score-eos" if option == "score_eos" else f"--{option.replace('_', '-')}"
        assert str(caught.value).startswith(
            f"--scorer {name}{which} does not read {flag}; leave it out (it reads --"
        )
        assert "\n" not in str(caught.value)


def test_draws_belong_to_monte_carlo_t_to_the_one_pass_pll_and_folds_to_the_masked_pll():
    reads = {
        (name, estimator): FAMILIES[name].reads(ScorerOptions(estimator=estimator))
        & {"draws", "seed", "t", "folds"}
        for name, estimator in ESTIMATORS
    }
    assert {key: value for key, value in reads.items() if value} == {
        ("mdlm", "nelbo"): {"draws", "seed"},
        ("mlm", "nelbo"): {"draws", "seed"},
        ("mdm", "nelbo"): {"draws", "seed"},
        ("mdm", "pll"): {"folds"},
        ("usdm", "nelbo"): {"draws", "seed"},
        ("usdm", "pll"): {"t"},
        ("mdlm", "pll"): {"folds"},
        ("mlm", "pll"): {"folds"},
    }


def test_options_of_other_models_of_ar_are_refused(tmp_path):
    for option, reason in (("remote_code", "it is for Hugging Face models"),):
        message = f"--scorer ar with --model embedded does not read --remote-code: {reason}"
        for load in (load_scorer, load_vocabulary):
            with pytest.raises(ScoreError, match=message):
                load("ar", ScorerOptions(**{option: True}))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ScoreError, match="does not read --compile: it is for the networks of this"):
        load_scorer("ar", ScorerOptions(model=str(tmp_path), compile=True))


def test_python_refuses_unknown_options_and_options_of_a_scorer_that_is_built(model):
    lists = [nbest("the old house")]
    scorer = load_scorer("mdlm", ScorerOptions(model=model, estimator="pll"))
    cases = [
        ((lists, scorer), {"draws": 16, "typo": 1}, "was built before and cannot take draws, typo"),
        ((lists, "mdlm"), {"typo": 1}, "scorer option 'typo' is unknown; known: model, estimator"),
        ((lists, "usdm"), {"draws": 16}, "--scorer usdm --estimator pll does not read --draws"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ScoreError, match=message):
            list(rescore.score(*arguments, **options))
    with pytest.raises(ScoreError, match="scorer option 'typo' is unknown"):
        rescore.check(lists, "mdlm", typo=1)
    with pytest.raises(ScoreError, match="--scorer usdm --estimator pll does not read --seed"):
        rescore.check(lists, "usdm", seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "in.jsonl", "--scorer", "ar", "--draws", "4"], "ar does not read --draws"),
        (["score", "in.jsonl", "--t", "0.2"], "mdlm --estimator pll does not read --t"),
        (["check", "in.jsonl", "--remote-code"], "pll does not read --remote-code"),
        (
            [
                *("lattice", "l.txt", "--from", "kaldi-compact", "--device", "meta"),
                *("--rescore", "ngram", "--new-scale", "1"),
            ],
            "ngram does not read --device",
        ),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id": "u", "hyps": [{"text": "a"}]}\n')
    (tmp_path / "l.txt").write_text("u1\n0 1 hello 0,3.5,1\n1\n\n")
    monkeypatch.setattr(sys, "argv", ["dlmrescore", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_run_gives_each_scorer_only_what_it_reads():
    options = ScorerOptions(draws=3, seed=1, device="cuda", dtype="float64")
    assert read_options("ngram", options).changed == set()
    assert read_options("ar", options).changed == {"device", "dtype"}
    assert read_options("mdlm", options).changed == {"device", "dtype"}
    nelbo = replace(options, estimator="nelbo")
    assert read_options("mdlm", nelbo) == nelbo


def test_a_family_of_another_package_may_declare_its_options(monkeypatch):
    family = ScorerFamily("theirs", Plain, frozenset({"model", "draws"}))
    monkeypatch.setattr("rescore.scorers.loading.lookup", lambda *_: family)
    assert load_scorer("theirs", ScorerOptions(draws=3)).signature == "plain 3"
    with pytest.raises(ScoreError, match=r"--scorer theirs does not read --seed, --window; leave"):
        load_scorer("theirs", ScorerOptions(seed=1, window=8))


class Plain:
    name, kind = "plain", "log_prob"

    def __init__(self, options):
        self.signature = f"plain {options.draws}"

    def score(self, lists):
        yield from ()


def test_a_plain_scorer_is_adapted_once_and_its_scope_is_the_list():
    scorer = adapt(Plain(ScorerOptions()))
    assert adapt(scorer) is scorer
    assert (scorer.scope, scorer.per_token, scorer.budget, scorer.device) == (
        "list",
        False,
        None,
        "cpu",
    )
    assert scorer.cost(scorer.prepare([nbest("a b", "")])).tokens == 4
