"""`dlmrescore report`: the folder of a run, or files of lists."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from command_line import RECORDS, files, good, refused, write
from small_reports import Page

from rescore.report.page import rendering

pytestmark = pytest.mark.usefixtures("folder")


def page(name="report.html"):
    return Page(Path(name).read_text(encoding="utf-8"))


def test_files_of_lists_are_systems(dlm):
    write("in.jsonl", RECORDS)
    write("w.json", [{"scales": {"am": 1, "ngram": 1}}])
    good(dlm("fuse", "in.jsonl", "--fusion", "w.json", "-o", "best.jsonl"))
    done = good(dlm("report", "in.jsonl", "best.jsonl", "-o", "report.html"))
    assert done.err.startswith("report.html: 0.")
    assert page().settings["systems"] == ["in.jsonl", "best.jsonl"]
    assert page().row("best.jsonl")[1:4:2] == ["8.33", "25.00"]
    good(dlm("report", "best.jsonl", "--baseline", "in.jsonl", "-o", "two.html", "--cer"))
    assert page("two.html").settings["baseline"] == "in.jsonl"


def test_the_folder_of_a_run_is_reported_with_its_table_and_verdict(dlm, models):
    for half, prefix in (("dev", "d"), ("test", "t")):
        write(f"{half}.jsonl", [{**record, "id": prefix + record["id"]} for record in RECORDS])
    scorers = ["--scorers", f"ar@{models['ar']}", "-o", "results", "--keep", 0]
    good(dlm("run", "--dev", "dev.jsonl", "--test", "test.jsonl", *scorers))
    written = Path("results/report.html").read_bytes()
    good(dlm("report", "results", "-o", "report.html"))
    assert Path("report.html").read_bytes() == written
    with open("results/systems.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert page().problems == []
    for row in rows[1:-1]:
        cells = page().row(row["system"].removeprefix("+ "))
        assert cells[1] == f"{100 * float(row['wer']):.2f}"
        assert cells[2] == f"{100 * float(row['low']):.2f} to {100 * float(row['high']):.2f}"
        assert cells[5] == f"{float(row['better_than_first']):.3f}"
        assert cells[8:] == [f"{100 * float(row['held_out_wer']):.2f}", row["kept"]]
    verdict = Path("results/table.md").read_text().rpartition("\n\n")[2]
    assert " ".join(verdict.split()) in written.decode()
    assert {"#sweep", "#calibration"} <= set(page().links)
    assert refused_usage(dlm("report", "results", "dev.jsonl"), "is reported alone")
    assert refused_usage(dlm("report", "results", "--unit", "char"), "--unit is not read")
    Path("results/best.ar.jsonl").unlink()
    assert "best.ar.jsonl" in refused(dlm("report", "results"))
    Path("results/systems.csv").write_text("a,b\n1,2\n")
    assert "systems.csv: not a table of systems" in refused(dlm("report", "results"))
    Path("results/run.json").write_text("{}")
    assert "run.json: does not say how errors are counted" in refused(dlm("report", "results"))


def test_one_page_goes_to_standard_output_and_several_do_not(dlm, monkeypatch):
    write("in.jsonl", RECORDS)
    done = good(dlm("report", "in.jsonl"))
    assert Page(done.out).settings["systems"] == ["in.jsonl"]
    assert done.err == ""
    monkeypatch.setattr(rendering, "PAGE_UTTERANCES", 3)
    line = refused(dlm("report", "in.jsonl"))
    assert line == ("the report has 2 pages, and standard output takes one; give -o report.html")


def refused_usage(done, message):
    return done.status == 2 and message in done.err


def test_an_output_is_never_an_input(dlm):
    write("in.jsonl", RECORDS)
    write("sweep.csv", [])
    before = files()
    for argv in (["in.jsonl", "-o", "in.jsonl"], ["in.jsonl", "--baseline", "x", "-o", "x"]):
        assert refused(dlm("report", *argv))
    line = refused(dlm("report", "in.jsonl", "--sweep", "sweep.csv", "-o", "sweep.csv"))
    assert "is also the input" in line
    assert files() == before


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "point,am,errors,wer\ngrid,x,y,z\n"])
def test_a_file_that_is_no_sweep_is_one_line(dlm, content):
    write("in.jsonl", RECORDS)
    Path("sweep.csv").write_text(content)
    line = refused(dlm("report", "in.jsonl", "--sweep", "sweep.csv"))
    assert line.startswith("sweep.csv: not the CSV of `dlmrescore sweep`")
    assert not Path("report.html").exists()
