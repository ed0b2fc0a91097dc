"""Every reader and opener against hostile files: an everyday share of `make attack`.

The targets come from the registry, so a new format is attacked as soon as it is registered. The
long run is tests/attack/campaign.py.
"""

from __future__ import annotations

import ast
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaign import Case, attack, hostile_cases, mutations
from mutations import HOSTILE, mutated
from targets import TARGETS
from worker import Arena, fault

import rescore
from rescore.registry import FORMATS, LATTICE_FORMATS, POSTERIOR_FORMATS

PACKAGE = Path(rescore.__file__).parent

#: Hostile files that cost more than a moment; the long run has them too.
SLOW = {"a gzip bomb of line ends", "a gzip bomb of its own lines", "a long line"}

#: Who opens files by itself, and why it may.
OPENERS = {
    "acoustic/formats/arrays.py": "np.load without pickles, of what check_regular let through",
    "acoustic/formats/nemo.py": "torch.load of what check_stored let through",
    "acoustic/posterior_file.py": "safe_open maps what check_regular let through",
    "cli/lists.py": "counts the lines of a regular file, block by block",
    "cli/models_command.py": "files of this package",
    "cli/streams.py": "standard streams and /dev/null",
    "formats/append.py": "its own output",
    "formats/bounded.py": "the one reader",
    "formats/directories.py": "its own output",
    "formats/files.py": "outputs",
    "formats/parts.py": "parts of an output, for their locks",
    "formats/zips.py": "a file that open_regular opened",
    "lattice/formats/k2_tensors.py": "torch.load of bytes that read_bytes read",
    "lattice/formats/slf_files.py": "tarfile on a file that open_regular opened",
    "models/checkpoint.py": "safetensors maps what tensor_shapes checked",
    "models/ngram.py": "safetensors maps what tensor_shapes checked",
    "pipeline/cache.py": "SQLite on what check_regular let through",
    "pipeline/journal.py": "what check_regular let through, with lines up to the limit",
    "pipeline/ray_cluster.py": "/dev/null",
    "pipeline/recognition.py": "its own output",
    "report/page/rendering.py": "files of this package",
    "train/corpus.py": "its own output, mapped, if check_regular let it through",
    "train/feature_file.py": "its own output, if check_regular let it through",
    "train/log.py": "its own output",
    "train/speech_corpus.py": "the same",
    "train/speed.py": "/proc/cpuinfo",
    "train/state.py": "torch.load of what check_stored let through; its own output",
}
_METHODS = {"read_bytes", "read_text", "open", "memmap", "fromfile", "load_file", "safe_open"}
_CALLS = {
    "open",
    "safe_open",
    "np.load",
    "torch.load",
    "json.load",
    "sqlite3.connect",
    "zipfile.ZipFile",
}


def opens(source: str) -> bool:
    """Whether a module opens a file."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(
        ast.unparse(call) in _CALLS or (isinstance(call, ast.Attribute) and call.attr in _METHODS)
        for call in calls
    )


def test_files_are_opened_in_one_place():
    modules = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if opens(path.read_text(encoding="utf-8"))
    }
    assert sorted(modules - OPENERS.keys()) == [], (
        "read files by rescore.formats.files, or check them with rescore.formats.bounded and say "
        "so in OPENERS"
    )
    assert sorted(OPENERS.keys() - modules) == []


def test_every_registered_format_is_a_target():
    for kind, names in (
        ("lists", FORMATS),
        ("lattices", LATTICE_FORMATS),
        ("posteriors", POSTERIOR_FORMATS),
    ):
        for name in names:
            assert any(target.startswith(f"{kind} of {name}") for target in TARGETS)


def failures(cases: list[Case]) -> dict[Case, str]:
    tried, faults = attack(cases, until=time.monotonic() + 600)
    assert tried.total() > 0
    return faults


@pytest.mark.slow
def test_hostile_files_in_place_of_the_first_file_of_every_target():
    cases = [case for case in hostile_cases() if case.number == 0 and case.hostile not in SLOW]
    assert len(cases) == len(TARGETS) * (len(HOSTILE) - len(SLOW))
    assert failures(random.Random(1).sample(cases, 50)) == {}


@pytest.mark.slow
def test_random_damage_of_every_target():
    cases = mutations(20261126)
    assert failures([next(cases) for _ in range(100)]) == {}


@pytest.mark.parametrize("name", ["cache of texts", "cache of lists", "journal"])
def test_one_flipped_bit_on_disk_never_gives_another_score(name, tmp_path):
    arena = Arena(name, tmp_path / "arena")
    [path] = arena.paths()
    whole = path.read_bytes()
    occupied = [place for place, byte in enumerate(whole) if byte]
    chance = random.Random(3)
    for place in chance.sample(occupied, 120):
        arena.reset()
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert fault(arena.use, arena.folder) is None, place


def test_a_fault_is_seen(tmp_path):
    for use, expected in (
        (lambda: None, None),
        (lambda: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
    ):
        assert fault(use, tmp_path) == expected


def test_mutations_are_repeatable_and_change_files(tmp_path):
    path = tmp_path / "x.json"
    changed = 0
    for number in range(100):
        results = []
        for _ in range(2):
            path.write_bytes(b'{"a": [1, 2.5, {"b": null}], "c": "text"}')
            mutated(path, random.Random(number))
            results.append(path.read_bytes())
        assert results[0] == results[1]
        changed += results[0] != b'{"a": [1, 2.5, {"b": null}], "c": "text"}'
    assert changed > 80


def test_the_long_run_prints_its_cases():
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("campaign.py")), "--cases", "3"),
            *("--random-only", "--target", "word table"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "| together | 3 | 0 |" in done.stdout
