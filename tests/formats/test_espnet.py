"""ESPnet's decoding directories.

The samples are written as ESPnet writes them (espnet2/bin/asr_inference.py,
espnet2/fileio/datadir_writer.py): `f"{key} {value}\\n"`, the text of the hypothesis, and
`str(hyp.score)` of a float or of a tensor.
"""

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.espnet import ESPNET
from rescore.types import Hypothesis, NBest

FILES = {
    "1best_recog/text": "u1 THE CAT\nu2 \nu3  \n",
    "1best_recog/token": "u1 ▁THE ▁CAT\nu2 \nu3 <space>\n",
    "1best_recog/score": "u1 tensor(-3.2156)\nu2 -0.5\nu3 0.0\n",
    "2best_recog/text": "u1 THE  HAT\nu3  \n",
    "2best_recog/score": "u1 tensor(-4.1234, device='cuda:0')\nu3 0.0\n",
    "3best_recog/text": "u1 nan\n",
    "3best_recog/score": "u1 tensor(-12.5000, grad_fn=<AddBackward0>)\n",
}


def save(root, files=None):
    for name, text in (files or FILES).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def views(nbest):
    return nbest.id, [(hyp.text, hyp.scores) for hyp in nbest.hyps]


def complaint(root, **options):
    with pytest.raises(FormatError) as caught:
        list(ESPNET.read(root, **options))
    return str(caught.value).removeprefix(f"{root}")


def test_the_lists_of_a_directory(tmp_path):
    first, second, third = read_lists(save(tmp_path))
    expected = [("THE CAT", -3.2156, 0.0), ("THE  HAT", -4.1234, -1.0), ("nan", -12.5, -2.0)]
    assert views(first) == (
        "u1",
        [(text, {"first_pass": score, "rank": rank}) for text, score, rank in expected],
    )
    assert (first.ref, first.where) == (None, f"{tmp_path}/1best_recog/text:1")
    assert views(second) == ("u2", [("", {"first_pass": -0.5, "rank": 0.0})])
    assert views(third) == (
        "u3",
        [(" ", {"first_pass": 0.0, "rank": 0.0}), (" ", {"first_pass": 0.0, "rank": -1.0})],
    )  # too short: as ESPnet wrote it


def test_the_options(tmp_path):
    first = next(ESPNET.read(save(tmp_path), score="total"))
    assert list(first.hyps[0].scores) == ["total", "rank"]
    for name in ("2best_recog", "3best_recog"):
        for file in (tmp_path / name).iterdir():
            file.unlink()
        (tmp_path / name).rmdir()
    assert [nbest.hyps[0].text for nbest in ESPNET.read(tmp_path, text="token")] == [
        "▁THE ▁CAT",
        "",
        "<space>",
    ]


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path):
    for job in range(1, 12):
        save(
            tmp_path / f"output.{job}",
            {"1best_recog/text": f"u{job} A\n", "1best_recog/score": f"u{job} -1\n"},
        )
    assert [nbest.id for nbest in ESPNET.read(tmp_path)] == [f"u{job}" for job in range(1, 12)]
    assert format_of(tmp_path / "output.1") is ESPNET
    save(tmp_path / "output.13", FILES)
    assert complaint(tmp_path) == ": output.13 is there, but not all before it; a job is missing"


def test_an_id_in_two_jobs_is_an_error(tmp_path):
    for job in (1, 2):
        save(
            tmp_path / f"output.{job}",
            {"1best_recog/text": "u1 A\n", "1best_recog/score": "u1 -1\n"},
        )
    line = f"{tmp_path}/output.1/1best_recog/text:1"
    assert complaint(tmp_path) == (
        f"/output.2/1best_recog/text:1: utterance u1: this id was already at {line}; "
        "every utterance needs its own"
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"1best_recog/score": "u1 -1\nu2 x\nu3 0\n"},
            '/1best_recog/score:2: utterance u2: the score is "x", expected a finite number',
        ),
        (
            {"1best_recog/score": "u1 -1\nu2\nu3 0\n"},
            '/1best_recog/score:2: utterance u2: the score is "", expected a finite number',
        ),
        (
            {"1best_recog/score": "u1 -1\nu2 tensor(-inf)\n"},
            '/1best_recog/score:2: utterance u2: the score is "-inf", expected a finite number',
        ),
        (
            {"1best_recog/score": "u1 -1\nu3 0\n"},
            (
                "/1best_recog/text:2: utterance u2: its score is missing, "
                'expected a line in "score" beside it'
            ),
        ),
        (
            {"2best_recog/score": "u1 -1\nu9 0\n"},
            '/2best_recog/score:2: utterance u9: there is a score but no line in "text"',
        ),
        (
            {"2best_recog/text": "u3 A\n", "2best_recog/score": "u3 -1\n"},
            (
                "/3best_recog/text:1: utterance u1: there is a hypothesis 3 but no hypothesis 2; "
                "a file was cut off"
            ),
        ),
        (
            {"2best_recog/text": "u9 A\n", "2best_recog/score": ""},
            (
                "/2best_recog/text:1: utterance u9: there is a hypothesis 2 but no hypothesis 1; "
                "a file was cut off"
            ),
        ),
        (
            {"1best_recog/text": "u1 A\n u2 B\n"},
            (
                "/1best_recog/text:2: there is no id at the start of the line, expected an id, "
                "a space and a value"
            ),
        ),
        (
            {"1best_recog/text": "u1 A\nu1 B\n"},
            (
                "/1best_recog/text:2: utterance u1: this id was already at "
                "ROOT/1best_recog/text:1; every utterance needs its own"
            ),
        ),
        (
            {"5best_recog/text": ""},
            ": expected 1best_recog, 2best_recog, ... without a gap, got 1, 2, 3, 5",
        ),
    ],
)
def test_bad_directories_are_named(tmp_path, changed, expected):
    assert complaint(save(tmp_path, {**FILES, **changed})) == expected.replace(
        "ROOT", str(tmp_path)
    )


def test_missing_files_and_directories_are_named(tmp_path):
    assert complaint(tmp_path) == (
        ': there is no "1best_recog" in this directory, nor "output.1"; '
        "name the directory that holds it"
    )
    assert (
        complaint(tmp_path / "none")
        == ": cannot be read: no such file or directory; check the path"
    )
    save(tmp_path, {"1best_recog/text": "u1 A\n"})
    assert (
        complaint(tmp_path)
        == "/1best_recog/score: cannot be read: no such file or directory; check the path"
    )
    assert (
        complaint(tmp_path / "1best_recog" / "text")
        == ": cannot be read: not a directory; check the path"
    )


def test_utterances_without_a_score_can_be_skipped(tmp_path):
    skipped = Skipped()
    root = save(tmp_path, {**FILES, "1best_recog/score": "u1 x\nu3 0\n"})
    assert [nbest.id for nbest in ESPNET.read(root, skipped=skipped)] == ["u3"]
    assert skipped.count == 2


def test_the_layout(tmp_path):
    lists = [
        NBest("u1", (Hypothesis("A B", {"am": -1.5}), Hypothesis("", {"am": -2.0}))),
        NBest("u2", (Hypothesis("C", {"am": 0.1}),)),
    ]
    assert ESPNET.write(lists, tmp_path / "out", score="am") == 2
    files = {
        str(file.relative_to(tmp_path / "out")): file.read_text()
        for file in (tmp_path / "out").glob("*/*")
    }
    assert files == {
        "1best_recog/text": "u1 A B\nu2 C\n",
        "1best_recog/score": "u1 -1.5\nu2 0.1\n",
        "2best_recog/text": "u1 \n",
        "2best_recog/score": "u1 -2.0\n",
    }


@pytest.mark.parametrize(
    ("utterance", "text", "error", "expected"),
    [
        (
            "u 1",
            "a",
            FormatError,
            (
                "utterance u 1: lines of this format begin with the id, "
                "which cannot hold white space; rename the utterance"
            ),
        ),
        (
            "u1",
            "a\nb",
            FormatError,
            (
                "utterance u1, hypothesis 1: the text holds a line break, "
                "which a line of ESPnet's cannot; take it out"
            ),
        ),
        (
            "u1",
            "a",
            ScoreError,
            (
                'utterance u1, hypothesis 1: score "first_pass" is missing; '
                "choose one of the scores in the list: am"
            ),
        ),
    ],
)
def test_what_a_line_cannot_hold_is_refused(tmp_path, utterance, text, error, expected):
    with pytest.raises(error) as caught:
        ESPNET.write([NBest(utterance, (Hypothesis(text, {"am": -1.0}),))], tmp_path / "out")
    assert str(caught.value) == expected
    assert list(tmp_path.iterdir()) == []
