"""docs/python.md: its program passes `mypy --strict`, and a misspelt option does not."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
PROGRAM = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]

WRONG = [
    ('rescore.load_scorer("mdlm", estmator="pll")', '"estmator"'),
    ('rescore.score_texts(["a"], "usdm", draws="8")', '"draws"'),
    ("rescore.tune([], ['am'], restart=2)", '"restart"'),
    ("rescore.run('dev', 'test', 'out', seeds=1)", '"seeds"'),
    ("rescore.score(3)", 'expected "Iterable['),
]


def typed(folder: Path, source: str) -> str:
    """What mypy says of a program of a user, with the settings of this repository (strict)."""
    (folder / "program.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(folder / "program.py")],
        cwd=ROOT,  # its configuration, and its cache
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_program_is_strictly_typed_and_misspelt_options_are_not(tmp_path):
    assert "Success" in typed(tmp_path, PROGRAM)
    wrong = "".join(f"{line}\n" for line, _ in WRONG)
    errors = typed(tmp_path, f"import rescore\n{wrong}")
    for number, (line, complaint) in enumerate(WRONG, 2):
        reported = [error for error in errors.splitlines() if f"program.py:{number}:" in error]
        assert any(complaint in error for error in reported), (line, errors)
