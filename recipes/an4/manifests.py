"""AN4's tables to what the toolkit reads: manifests with audio, texts for the n-gram, references.

AN4 is a folder with `{train,test}.tsv` (id, speaker, seconds, transcript) and
`{train,test}/{id}.flac`. As in ESPnet's recipe, the first 100 training utterances are dev.
Writes {train,dev,test}.tsv (id, path, text), {train,dev}.txt (texts) and {dev,test}.text (id text).
"""

from __future__ import annotations

import argparse
from pathlib import Path

DEV = 100

Row = tuple[str, Path, str]


def rows(folder: Path, half: str) -> list[Row]:
    """(id, audio, text) of the utterances of one half."""
    table = (folder / f"{half}.tsv").read_text(encoding="utf-8").splitlines()
    columns = [line.split("\t") for line in table]
    audio = folder.resolve() / half
    return [(name, audio / f"{name}.flac", text) for name, _, _, text in columns]


def write(part: str, utterances: list[Row], output: Path) -> None:
    files = {
        f"{part}.tsv": [f"{name}\t{path}\t{text}" for name, path, text in utterances],
        f"{part}.txt": [text for _, _, text in utterances],
        f"{part}.text": [f"{name} {text}" for name, _, text in utterances],
    }
    for file, lines in files.items():
        (output / file).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("an4", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--dev", type=int, default=DEV, help="training utterances held out")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    training = rows(options.an4, "train")
    write("dev", training[: options.dev], options.output)
    write("train", training[options.dev :], options.output)
    write("test", rows(options.an4, "test"), options.output)


if __name__ == "__main__":
    main()
