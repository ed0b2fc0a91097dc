"""The best setting of `dlmrescore decode --grid` as options of `dlmrescore decode`.

python setting.py grid.json                       every option that was searched
python setting.py grid.json lm_scale frame        these only
python setting.py grid.json --without t_start     all but these
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def options(record: dict, names: list[str], without: list[str]) -> str:
    setting = record["best"]["setting"]
    chosen = [name for name in names or setting if name not in without]
    return " ".join(f"--{name.replace('_', '-')} {setting[name]}" for name in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--without", nargs="+", default=[])
    given = parser.parse_args()
    print(options(json.loads(given.grid.read_text()), given.names, given.without))


if __name__ == "__main__":
    main()
