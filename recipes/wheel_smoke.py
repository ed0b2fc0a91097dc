"""Build the wheel, install it into a fresh environment, and use it there.

The embedded models have to be inside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = {
    "id": "utt-1",
    "ref": "go do you hear",
    "hyps": [
        {"text": "go do you hear", "scores": {"am": -2.0}},
        {"text": "go do you here", "scores": {"am": -1.0}},
    ],
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return its output; on failure print it and end this script."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        line = " ".join(map(str, command))
        sys.exit(f"{line}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", work, ROOT, cwd=ROOT)
        (wheel,) = work.glob("*.whl")
        venv.create(work / "env", with_pip=True)
        binaries = work / "env" / "bin"
        run(
            binaries / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            ROOT / "constraints.txt",
            wheel,
            cwd=work,
        )
        (work / "nbest.jsonl").write_text(json.dumps(LIST) + "\n")
        models = json.loads(run(binaries / "dlmrescore", "models", "--json", cwd=work))
        for model in models:
            name = model["objective"]
            scored = json.loads(
                run(
                    binaries / "dlmrescore",
                    "score",
                    "nbest.jsonl",
                    "--scorer",
                    name,
                    "--name",
                    name,
                    cwd=work,
                )
            )
            scores = [hyp["scores"][name] for hyp in scored["hyps"]]
            print(f"wheel: {name} scores {scores}")
            if not all(score < 0 for score in scores):
                sys.exit(f"wheel: {name} gave {scores}, expected log-probabilities")
        if {model["objective"] for model in models} != {"ar", "mdlm", "usdm"}:
            sys.exit("wheel: an embedded model is missing")
        size = wheel.stat().st_size / 1e6
        print(f"wheel: {wheel.name}, {size:.1f} MB, works in a fresh environment")


if __name__ == "__main__":
    main()
