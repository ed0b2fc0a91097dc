"""Keep the lists whose reference is no transcript of the training data.

26 of AN4's 130 test transcripts are spoken in its training data, too, by others: what a language
model of the training text is worth shows on the rest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", type=Path, help="lists with references (JSON lines)")
    parser.add_argument("texts", type=Path, nargs="+", help="training transcripts, one a line")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    seen = {
        line for path in options.texts for line in path.read_text(encoding="utf-8").splitlines()
    }
    lines = options.lists.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["ref"] not in seen]
    options.output.write_text("".join(kept), encoding="utf-8")
    print(f"{len(kept)} of {len(lines)} lists have a reference that is not in the training texts")


if __name__ == "__main__":
    main()
