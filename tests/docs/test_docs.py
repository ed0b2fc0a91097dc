"""Every command and example of README and docs runs as written, on the first demo lists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = {
    "adding_a_format.md",
    "adding.md",
}  # have tests of their own, in tests/formats/test_docs_format.py and tests/cli/test_plugins.py

#: Pages whose commands go on with the files of the blocks before.
JOINED = {"decoding.md"}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language; where one goes on with another's files, all as one."""
    fenced: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return ["".join(fenced)] if page.name in JOINED and language == "bash" else fenced


CASES = [
    pytest.param(language, block, id=f"{page.name}-{language}-{number}")
    for page in PAGES
    if page.name not in RUN
    for language in ("bash", "python")
    for number, block in enumerate(blocks(page, language))
]


@pytest.fixture
def workplace(tmp_path):
    """A folder with the first lists of the demo data where the documentation expects them."""
    data = tmp_path / "recipes" / "demo_data"
    data.mkdir(parents=True)
    for half in ("dev", "test"):
        lines = (
            (ROOT / "recipes" / "demo_data" / f"{half}.jsonl")
            .read_bytes()
            .splitlines(keepends=True)
        )
        (data / f"{half}.jsonl").write_bytes(b"".join(lines[:4]))
    return tmp_path


def run(command: list[str], cwd: Path) -> str:
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("language", "block"), CASES)
def test_the_documentation_runs_as_written(language, block, workplace):
    shell = shutil.which("bash")
    assert shell is not None
    run(
        [shell, "-euo", "pipefail", "-c", block]
        if language == "bash"
        else [sys.executable, "-c", block],
        workplace,
    )


def test_readme_shows_its_first_use_early_and_names_only_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "dlmrescore score" in "\n".join(readme.splitlines()[:25])
    for name in re.findall(r"`((?:docs|rescore|recipes|tests)/[\w./]+)`", readme):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
