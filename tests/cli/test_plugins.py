"""Names that other packages add by entry points, and docs/adding.md as written.

They are listed without importing, loaded when asked for, and refused in one line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from small import nbest, save_small

from rescore import registry
from rescore.errors import FormatError, FusionError, RescoreError, ScoreError
from rescore.formats import format_of, read_lists
from rescore.fusion import Fusion, ScoreTable, fuse, load, save
from rescore.fusion.totals import totals
from rescore.pipeline import score
from rescore.registry import KINDS, lookup, names
from rescore.scorers import ScorerOptions, load_scorer
from rescore.text import normalizer
from rescore.wer import evaluate

ROOT = Path(__file__).resolve().parents[2]


def install(
    folder: Path, package: str, points: Mapping[str, Mapping[str, str]], **modules: str
) -> Path:
    """What pip leaves behind: the modules, and a dist-info that names the entry points."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [
        line
        for group, entries in points.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package for this process."""

    def call(package, points, **modules):
        monkeypatch.syspath_prepend(install(tmp_path / package, package, points, **modules))

    return call


def command(folder: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run dlmrescore in a process that sees the packages of a folder."""
    code = "from rescore.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(folder),
    )


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def complaint(call) -> str:
    with pytest.raises(RescoreError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- docs/adding.md, as written


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$",
        (ROOT / "docs" / page).read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """The package of docs/adding.md and the format of docs/adding_a_format.md, installed."""
    tomllib = pytest.importorskip("tomllib")
    folder = tmp_path_factory.mktemp("site")
    [project] = blocks("adding.md", "toml")
    about = tomllib.loads(project)["project"]
    install(folder, about["name"], about["entry-points"])
    (folder / "asr_extras").mkdir()
    (folder / "asr_extras" / "__init__.py").touch()
    paths = re.findall(
        r"^\*\*A \w+\*\*, `asr_extras/(\w+\.py)`",
        (ROOT / "docs" / "adding.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert paths == ["unigram.py", "tsv_costs.py", "no_fillers.py", "standardised.py"]
    unigram, no_fillers, standardised = blocks("adding.md", "python")
    for name, source in zip(
        paths,
        (unigram, blocks("adding_a_format.md", "python")[0], no_fillers, standardised),
        strict=True,
    ):
        (folder / "asr_extras" / name).write_text(source, encoding="utf-8")
    return folder


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_documented_package_works_by_the_documented_commands(documented, tmp_path):
    data = tmp_path / "recipes" / "demo_data"
    data.mkdir(parents=True)
    lines = (
        (ROOT / "recipes" / "demo_data" / "dev.jsonl")
        .read_text(encoding="utf-8")
        .splitlines(keepends=True)
    )
    (data / "dev.jsonl").write_text("".join(lines[:6]), encoding="utf-8")
    [commands] = blocks("adding.md", "bash")
    script = (
        f"dlmrescore() "
        f'{{ {sys.executable} -c "from rescore.cli import main; main()" "$@"; }}\n{commands}'
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(documented),
    )
    assert done.returncode == 0, done.stderr

    scored = [
        json.loads(line)
        for line in (tmp_path / "dev.scored.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    provenance = scored[0]["meta"]["scores"]["unigram"]
    assert provenance["signature"].startswith("unigram|text=")
    assert (len(scored), provenance["kind"], provenance["evaluations"]) == (6, "log_prob", 0)
    assert all(hyp["scores"]["unigram"] < 0 for record in scored for hyp in record["hyps"])
    assert set(json.loads((tmp_path / "tuned.json").read_text())["signatures"]) == {"unigram"}
    best = [
        json.loads(line)
        for line in (tmp_path / "best.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for record in best:
        found = np.array([hyp["scores"]["total"] for hyp in record["hyps"]])
        assert abs(found.mean()) < 1e-9  # standardised within the list
        assert found[0] == found.max()
    assert '"normalizer": "no-fillers"' in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["hyps"][0] == {
        "text": "a cat",
        "scores": {"am": pytest.approx(-4.605170)},
    }
    listed = json.loads(done.stdout[: done.stdout.index("]") + 1])
    assert [(row["kind"], row["name"], row["problem"]) for row in listed] == [
        ("format", "tsv-costs", None),
        ("scorer", "unigram", None),
        ("normaliser", "no-fillers", None),
        ("fusion", "standardised", None),
    ]
    assert {row["package"] for row in listed} == {"asr-extras 1.2"}


def test_the_documented_objects_do_what_is_said(documented, monkeypatch):
    monkeypatch.syspath_prepend(documented)
    assert normalizer("no-fillers")("Uh, the OLD house, um!") == "the old house"
    assert evaluate([nbest("um the cat", ref="the cat")], normalizer="no-fillers").wer == 0
    assert (
        complaint(lambda: load_scorer("unigram"))
        == "--scorer unigram needs --model: a text file, a sentence a line"
    )
    assert (
        complaint(lambda: load_scorer("unigram", ScorerOptions(model="gone.txt")))
        == "gone.txt: cannot be read: no such file or directory; check the path"
    )
    text = documented / "text.txt"
    text.write_text("a a b\n")
    [scored] = score([nbest("a", "c", "")], "unigram", model=str(text))
    # counts a 2, b 1, </s> 1; total 4 + 3 types + 1 for the unknown
    assert [hyp.scores["unigram"] for hyp in scored.hyps] == pytest.approx(
        [np.log(3 / 8) + np.log(2 / 8), np.log(1 / 8) + np.log(2 / 8), np.log(2 / 8)]
    )


def test_the_documented_messages_are_the_real_ones(installed):
    documented = re.findall(
        r"^    (\w+ '.*)$", (ROOT / "docs" / "adding.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    points = {
        "dlmrescore.scorers": {"unigram": "asr_doc:build", "mdlm": "asr_doc:build"},
        "dlmrescore.normalizers": {"no-fillers": "asr_doc_no_fillers:WORDS"},
    }
    installed("asr-extras", points, asr_doc="import arpa_reader", asr_doc_no_fillers="WORDS = []")
    asked = [("scorer", "unigram"), ("scorer", "mdlm"), ("normaliser", "no-fillers")]
    found = [
        complaint(lambda what=what, name=name: lookup(KINDS[what].builtin, name, what))
        for what, name in asked
    ]
    plain = [
        line.replace("1.2", "0.1")
        .replace("asr_doc_", "asr_extras.")
        .replace("asr_doc", "asr_extras.unigram")
        for line in found
    ]
    assert plain == documented


# ---- finding and loading


@pytest.mark.parametrize("what", KINDS)
def test_without_plugins_there_are_the_built_in_names(what):
    assert names(what) == sorted(KINDS[what].builtin)


def test_names_are_found_without_importing_anything(installed):
    installed(
        "lazy-one",
        {"dlmrescore.scorers": {"lazy": "never_imported:build"}},
        never_imported="raise SystemExit('imported')",
    )
    assert names("scorer") == sorted([*KINDS["scorer"].builtin, "lazy"])
    assert "never_imported" not in sys.modules
    assert (
        complaint(lambda: lookup(registry.SCORERS, "magic", "scorer"))
        == f"scorer 'magic' is unknown; known: {', '.join(names('scorer'))}"
    )


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = 1", "AttributeError: module '{module}' has no attribute 'build'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def build(:", "SyntaxError: "),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line_naming_package_and_entry_point(
    installed, module, reason, request
):
    name = re.sub(r"\W", "_", request.node.name)
    installed("broken-one", {"dlmrescore.scorers": {"broken": f"{name}:build"}}, **{name: module})
    line = complaint(lambda: load_scorer("broken"))
    at = (
        f"scorer 'broken' of broken-one 1.2 (entry point \"broken = {name}:build\" in "
        f"dlmrescore.scorers) cannot be loaded"
    )
    assert line.startswith(f"{at} ({reason.format(module=name)}")
    assert line.endswith("; fix or uninstall that package")
    assert load_scorer("ar").name == "ar"  # the others progress


@pytest.mark.parametrize(
    ("what", "source"),
    [(what, "it = 'text'") for what in KINDS]
    + [("normaliser", "it = str.lower"), ("format", "def it(path): ...")],
)
def test_an_object_of_another_type_is_refused(installed, what, source, request):
    module = re.sub(r"\W", "_", request.node.name)
    installed("wrong-one", {KINDS[what].group: {"wrong": f"{module}:it"}}, **{module: source})
    line = complaint(lambda: lookup(KINDS[what].builtin, "wrong", what))
    assert line.startswith(
        f"{what} 'wrong' of wrong-one 1.2 (entry point \"wrong = {module}:it\" in "
        f"{KINDS[what].group}) is of type "
    )
    assert f", expected {KINDS[what].expected.partition(':')[2]}; " in line


def test_a_scorer_that_builds_something_else_is_refused(installed):
    installed(
        "odd-one",
        {"dlmrescore.scorers": {"odd": "odd_module:build"}},
        odd_module="def build(options):\n    return 3",
    )
    with pytest.raises(
        ScoreError,
        match=(
            "scorer 'odd' was built as a int, expected an object with name, kind, "
            "signature and score"
        ),
    ):
        load_scorer("odd")


@pytest.mark.parametrize("what", KINDS)
def test_neither_a_built_in_name_nor_a_plugin_wins_a_clash(installed, what):
    name = next(iter(KINDS[what].builtin))
    installed("thief", {KINDS[what].group: {name: "thief_module:it"}}, thief_module="it = print")
    assert complaint(lambda: lookup(KINDS[what].builtin, name, what)) == (
        f"{what} '{name}' is claimed by dlmrescore ({KINDS[what].builtin[name]}) and by thief 1.2 "
        f'(entry point "{name} = thief_module:it" in {KINDS[what].group}); '
        "uninstall one of them, or rename its entry point"
    )
    assert names(what) == sorted(KINDS[what].builtin)


def test_two_packages_with_one_name_are_both_named(installed):
    for package in ("one-package", "two-package"):
        installed(package, {"dlmrescore.decisions": {"best": "builtins:max"}})
    line = complaint(lambda: lookup(registry.DECISIONS, "best", "decision"))
    assert sorted(re.findall(r"by (\w+-package) 1\.2 \(", line)) == ["one-package", "two-package"]


# ---- command line


def test_a_broken_package_disturbs_no_command_that_does_not_ask_for_it(tmp_path):
    site = install(
        tmp_path / "site",
        "broken-everywhere",
        {
            **{kind.group: {"broken": "broken_module:it"} for kind in KINDS.values()},
            "dlmrescore.scorers": {"broken": "broken_module:it", "mdlm": "x:y"},
        },
        broken_module="raise RuntimeError('never import me')",
    )
    (tmp_path / "in.jsonl").write_text(
        '{"id": "u", "ref": "a", "hyps": [{"text": "a", "scores": {"am": -1}}]}\n'
    )
    (tmp_path / "fusion.json").write_text('{"scales": {"am": 1}}')
    for argv in (
        ["convert", "in.jsonl"],
        ["tune", "in.jsonl", "--scores", "am"],
        ["fuse", "in.jsonl", "--fusion", "fusion.json"],
        ["eval", "in.jsonl", "--normalizer", "librispeech"],
    ):
        done = command(site, *argv, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for name, argv in (
        ("score", ["--scorer", "broken"]),
        ("convert", ["--from", "broken"]),
        ("score", ["--scorer", "mdlm"]),
    ):
        done = command(site, name, "in.jsonl", *argv, cwd=tmp_path)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert (
            "of broken-everywhere 1.2" in done.stderr or "by broken-everywhere 1.2" in done.stderr
        )

    listed = json.loads(command(site, "plugins", cwd=tmp_path).stdout)
    reasons = []
    for row in listed:
        parts = row["problem"].split(" (")
        reason = parts[1] if "claimed" in row["problem"] else parts[2]
        reasons.append((row["kind"], row["name"], reason[:19]))
    never = "RuntimeError: never"
    expected = [(kind, "broken", never) for kind in KINDS]
    expected.insert(
        expected.index(("scorer", "broken", never)) + 1, ("scorer", "mdlm", "rescore.scorers.mdl")
    )
    assert reasons == expected


def test_help_and_completion_offer_plugins_without_importing_them_or_torch(tmp_path):
    points = {kind.group: {"offered": "offered_module:it"} for kind in KINDS.values()}
    site = install(
        tmp_path / "site",
        "offering",
        points,
        offered_module="raise RuntimeError('never import me')",
    )
    code = """
import sys
from click.shell_completion import BashComplete
from rescore.cli import cli
for command in ("score", "convert", "fuse", "eval", "tune"):
    cli.main([command, "--help"], standalone_mode=False)
complete = BashComplete(cli, {}, "dlmrescore", "_DLMRESCORE_COMPLETE").get_completions
for words in (
    ["score", "--scorer"],
    ["score", "--normalizer"],
    ["convert", "--from"],
    ["convert", "--to"],
    ["fuse", "--decision"],
    ["eval", "--normalizer"],
):
    assert [item.value for item in complete(words, "off")] == ["offered"], words
assert not {"torch", "offered_module"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment(site),
    )
    assert (done.returncode, done.stderr) == (0, "")
    begins = ("--scorer SPEC", "--from [", "--to [", "--decision [", "--normalizer [")
    for option, end in zip(begins, ("[default", "]", "]", "]", "]"), strict=True):
        offered = done.stdout[done.stdout.index(option) :]
        assert "offered" in offered[: offered.index(end)], option


# ---- what the kinds mean inside


def test_what_is_installed_never_changes_how_a_file_without_a_name_is_read(installed, tmp_path):
    source = """
from rescore.formats.base import Format
from rescore.types import Hypothesis, NBest
def read(path, *, skipped=None):
    yield NBest("greedy", (Hypothesis("x"),))
GREEDY = Format("greedy", read, proven_by=lambda head: True)
"""
    installed(
        "greedy-one",
        {"dlmrescore.formats": {"greedy": "greedy_module:GREEDY"}},
        greedy_module=source,
    )
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": "u", "hyps": [{"text": "a"}]}\n')
    assert format_of(path).name == "jsonl"
    assert [nbest.id for nbest in read_lists(path, "greedy")] == ["greedy"]
    with pytest.raises(FormatError, match="name it with --from"):
        read_lists(__file__)


FUSIONS = """
import numpy as np
def product(features, scales, words, word_bonus):
    return -np.prod(-features, axis=1) * scales[0]
def short(features, scales, words, word_bonus):
    return features[:1, 0]
def unusable(features, scales, words, word_bonus):
    return features[:, 0] * np.nan
"""


def test_the_kind_of_the_weights_names_the_fusion(installed, tmp_path):
    installed(
        "fusion-one",
        {
            "dlmrescore.fusions": {
                name: f"fusion_module:{name}" for name in ("product", "short", "unusable")
            }
        },
        fusion_module=FUSIONS,
    )
    lists = [nbest("a", "b", am=-2.0, lm=-3.0)]
    product, plain = Fusion({"am": 2.0, "lm": 1.0}, kind="product"), Fusion({"am": 2.0, "lm": 1.0})
    assert [hyp.scores["total"] for hyp in next(fuse(lists, product)).hyps] == [-12.0, -12.0]
    assert [hyp.scores["total"] for hyp in next(fuse(lists, plain)).hyps] == [-7.0, -7.0]
    assert product.signature != plain.signature
    save(product, tmp_path / "fusion.json")
    assert load(tmp_path / "fusion.json") == product
    two = [nbest("a", "b", am=-2.0), nbest("a", am=-1.0)]
    with pytest.raises(
        FusionError,
        match=(
            r"the fusion returned totals of shape \(1,\), expected \(2,\): one for "
            r"each hypothesis"
        ),
    ):
        list(fuse(two, Fusion({"am": 1.0}, kind="short")))
    with pytest.raises(FusionError, match="a total is not finite"):
        list(fuse(two, Fusion({"am": 1.0}, kind="unusable")))
    assert (
        complaint(lambda: list(fuse(two, Fusion({"am": 1.0}, kind="magic"))))
        == "fusion 'magic' is unknown; known: linear, product, short, unusable"
    )
    assert totals(ScoreTable.of(two, ["am"]), {"am": 2.0}).tolist() == [-4.0, -4.0, -2.0]


def test_the_signature_tells_normalisers_of_the_same_name_apart(installed, tmp_path):
    points = {"dlmrescore.normalizers": {"one": "clean_one:clean", "two": "clean_two:clean"}}
    installed(
        "cleaners",
        points,
        clean_one="def clean(text):\n    return text.lower()",
        clean_two="def clean(text):\n    return text.upper()",
    )
    (tmp_path / "x.arpa").write_text(ARPA)
    models = {"ar": save_small(tmp_path / "ar", "ar"), "ngram": tmp_path / "x.arpa"}
    for scorer, model in models.items():
        signatures = [
            load_scorer(scorer, ScorerOptions(model=str(model), normalizer=name)).signature
            for name in ("one", "two", "librispeech")
        ]
        assert [re.findall(r"normalizer=([^|]*)", signature) for signature in signatures] == [
            ["clean_one.clean"],
            ["clean_two.clean"],
            ["librispeech"],
        ]


ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-0.1\t</s>\n\n\\end\\\n"
