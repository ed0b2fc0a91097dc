"""The folder of an experiment: whose it is, and that one process at a time works in it.

`run.json` holds the settings of the experiment. It is written first and never changed; a run locks
it while it works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from rescore.errors import FormatError
from rescore.experiment.inputs import Halves
from rescore.experiment.options import Options, ScorePlan
from rescore.formats import jsonl
from rescore.formats.bounded import open_regular, whole
from rescore.formats.files import atomic_writer, make_folder, names_in, read_bytes, replace_file
from rescore.formats.parts import try_lock
from rescore.formats.strict_json import decode
from rescore.types import NBest

__all__ = ["Clock", "claimed", "identity"]


def identity(
    halves: Halves, base: Sequence[str], plans: Sequence[ScorePlan], options: Options
) -> dict[str, Any]:
    """What tells one experiment from another: its settings, and digests of its lists."""
    settings = {
        **asdict(options),
        "base": base,
        "scorers": {plan.name: plan.scorer.signature for plan in plans},
        **{f"{half} lists": _digest(lists) for half, lists in halves},
    }
    as_read_back: dict[str, Any] = json.loads(json.dumps(settings))
    return as_read_back


def _digest(lists: Sequence[NBest]) -> str:
    lines = b"\n".join(jsonl.encode(nbest) for nbest in lists)
    return blake2b(lines, digest_size=16).hexdigest()


@contextmanager
def claimed(folder: Path, settings: Mapping[str, Any], *, grows: bool = False) -> Iterator[None]:
    """Hold the folder for the experiment of these settings; make it if it does not exist.

    With `grows`, a folder of the same experiment with fewer scorers becomes that of these settings.
    Raises FormatError if it holds other files, belongs to another experiment, or another process
    works in it.
    """
    card = folder / "run.json"
    if not card.exists():
        _make(folder, card, settings)
    with ExitStack() as held:
        content = _locked(folder, card, held)
        if grows and _is_part(content, card, settings):
            replace_file(card, _encoded(settings))
            content = _locked(folder, card, held)
        _check_same(folder, card, content, settings)
        make_folder(folder / "scores")
        yield


def _locked(folder: Path, card: Path, held: ExitStack) -> bytes:
    """The content of the card, which `held` keeps locked."""
    file = held.enter_context(open_regular(card))
    if not try_lock(file.fileno()):
        raise FormatError(
            f"{folder}: another run is at work in this folder; wait for it or use another folder"
        )
    return whole(file, str(card))


def _is_part(content: bytes, card: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a card is that of the same experiment with fewer scorers."""
    try:
        earlier = decode(content, str(card))
    except FormatError:
        return False  # `_check_same` says what is wrong
    scorers = earlier.get("scorers") if isinstance(earlier, dict) else None
    if not isinstance(scorers, dict):
        return False
    is_less = all(settings["scorers"].get(name) == value for name, value in scorers.items())
    return is_less and {**earlier, "scorers": settings["scorers"]} == settings


def _encoded(settings: Mapping[str, Any]) -> bytes:
    return json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n"


def _make(folder: Path, card: Path, settings: Mapping[str, Any]) -> None:
    make_folder(folder)
    if not all(_is_left(folder / name) for name in names_in(folder)):
        raise FormatError(
            f"{folder}: holds other files and no run.json; name a new or an empty folder"
        )
    replace_file(card, _encoded(settings))


def _is_left(path: Path) -> bool:
    """Whether it may be what a run leaves that was killed before it wrote `run.json`."""
    return path.name.endswith(".part") or (path.name == "scores" and not any(path.iterdir()))


def _check_same(folder: Path, card: Path, content: bytes, settings: Mapping[str, Any]) -> None:
    try:
        earlier = decode(content, str(card))
    except FormatError as error:
        raise FormatError(
            f"{card}: broken JSON; it tells experiments apart, so use a new folder"
        ) from error
    is_object = isinstance(earlier, dict)
    for name, value in settings.items():
        earlier_value = earlier.get(name) if is_object else None
        if not is_object or earlier_value != value:
            raise FormatError(
                f"{folder}: belongs to another experiment, with {name} {_short(earlier_value)}"
                f" and not {_short(value)}; use another folder"
            )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:77]}..."


class Clock:
    """The seconds that each stage took, over all processes of the experiment: `seconds.json`.

    No other file depends on it, so a damaged one counts as empty.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "seconds.json"
        self._seconds: dict[str, float] = {}
        with suppress(FormatError, msgspec.ValidationError):
            if self._path.exists():
                content = decode(read_bytes(self._path), str(self._path))
                self._seconds = msgspec.convert(content, dict[str, float])

    def seconds(self, stage: str) -> float | None:
        """The seconds of a stage; None for one that was not measured."""
        return self._seconds.get(stage)

    def record(self, stage: str, seconds: float) -> None:
        """Write how long a stage has taken so far."""
        self._seconds[stage] = round(seconds, 3)
        with atomic_writer(self._path) as output:
            output.write(json.dumps(self._seconds, indent=2).encode() + b"\n")
