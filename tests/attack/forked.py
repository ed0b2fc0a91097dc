"""Runs command lines in forks of one process that has imported everything: milliseconds each.

    with Forks(inputs) as forks:
        done = forks.run(["convert", ...], folder, stdout="full", stop=Stop.after(0.02, SIGTERM))

A fork begins like a new process: it gets its standard streams (files, closed, full, or a pipe
without a reader), its working folder, and default signals. `Stop` ends it: with a signal after some
seconds, or with SIGKILL at its n-th step on disk.

This file is also the program of that process: it reads one request a line and answers each with the
exit status, minus the signal if one ended it.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

__all__ = ["Done", "Forks", "Stop", "Stream"]

#: What a standard stream may be: a file in the working folder (read or written), closed, a full
#: device, or a pipe whose other end is closed.
Stream = Literal["file", "closed", "full", "pipe"]

_TIME_LIMIT = 120.0  # seconds of one command


@dataclass(frozen=True)
class Stop:
    """When a fork ends: `seconds` after it began by `signal`, or at `step` by SIGKILL.

    A step is a call that touches the disk, counted from 1; whether it is before or after the call
    alternates: step 2n - 1 is before call n, step 2n after it.
    """

    signal: int = signal.SIGKILL
    seconds: float | None = None
    step: int | None = None


class Done(NamedTuple):
    """How a command ended: exit status (minus a signal), what it wrote, how many steps it took."""

    status: int
    out: str
    err: str
    steps: int
    seconds: float


class Forks:
    """The process that forks; `inputs` is what `in` in every working folder links to."""

    def __init__(self, inputs: Path) -> None:
        self._inputs = inputs
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        argv: tuple[str, ...] | list[str],
        folder: Path,
        *,
        stdin: Stream = "file",
        stdout: Stream = "file",
        stderr: Stream = "file",
        stop: Stop | None = None,
        ignored: tuple[int, ...] = (),
    ) -> Done:
        """Run one command line in `folder`, which is made if need be."""
        folder.mkdir(exist_ok=True)
        if not (folder / "in").is_symlink():
            (folder / "in").symlink_to(self._inputs)
        for name in ("stdin", "stdout", "stderr"):
            (folder / name).touch()
        request = {
            "argv": list(argv),
            "folder": str(folder),
            "streams": [stdin, stdout, stderr],
            "stop": None if stop is None else asdict(stop),
            "ignored": list(ignored),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        texts = []
        for name, kind in (("stdout", stdout), ("stderr", stderr)):
            texts.append((folder / name).read_text() if kind == "file" else "")
            (folder / name).unlink(missing_ok=True)
        (folder / "stdin").unlink()
        return Done(answer["status"], *texts, answer["steps"], answer["seconds"])

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()


# ------------------------------------------------------------------------- the forking process


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _import_everything()
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _import_everything() -> None:
    import gc  # noqa: PLC0415
    import pkgutil  # noqa: PLC0415
    from importlib import import_module  # noqa: PLC0415

    import rescore  # noqa: PLC0415
    from rescore.registry import plugins  # noqa: PLC0415

    for module in pkgutil.walk_packages(rescore.__path__, "rescore."):
        if ".ray" not in module.name:
            import_module(module.name)
    with suppress(ImportError):
        import matplotlib.backends.backend_agg  # noqa: PLC0415
        import matplotlib.figure  # noqa: F401, PLC0415
    plugins("format")  # importlib keeps what it has seen of the installed packages
    gc.freeze()  # a fork that collects garbage copies no page of what is there


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, end the child as asked, and wait for it."""
    stop = request["stop"] and Stop(**request["stop"])
    steps, counter = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.close(steps)
        _child(request, stop, counter)
    os.close(counter)
    if stop and stop.seconds is not None:
        _wait(child, stop.seconds)
        with suppress(ProcessLookupError):
            os.kill(child, stop.signal)
    status = _wait(child, _TIME_LIMIT)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise TimeoutError(f"no end after {_TIME_LIMIT} s: {request}")
    with os.fdopen(steps, "rb") as file:
        taken = len(file.read())
    return {"status": status, "steps": taken, "seconds": time.monotonic() - started}


_ended: dict[int, int] = {}


def _wait(child: int, seconds: float) -> int | None:
    """The exit status once the child has ended; None if it has not within so many seconds."""
    deadline = time.monotonic() + seconds
    while child not in _ended:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _ended[child] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return None
        else:
            time.sleep(0.001)
    return _ended[child]


def _child(request: dict[str, Any], stop: Stop | None, counter: int) -> None:
    """Be a new process that runs the command line; does not return."""
    os.chdir(request["folder"])
    sys.argv = ["dlmrescore", *request["argv"]]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ignored = number in request["ignored"]
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    if signal.SIGINT not in request["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    counter = os.dup2(counter, 100)  # not where a file of the command may land
    for number, kind in enumerate(request["streams"]):
        _open_stream(number, kind)
    _count_steps(counter, stop.step if stop else None)
    status = 0
    try:
        from rescore.cli import main  # noqa: PLC0415

        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BaseException:  # noqa: BLE001 - what Python does
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        status = 1
    os._exit(_flushed(status))


def _open_stream(number: int, kind: Stream) -> None:
    """Make a standard stream what it would be for a new process."""
    name, mode = [("stdin", "r"), ("stdout", "w"), ("stderr", "w")][number]
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
    os.close(number)
    if kind == "closed":
        return
    if kind == "pipe":
        reader, writer = os.pipe()
        kept, other = (reader, writer) if mode == "r" else (writer, reader)
        os.close(other)
        if kept != number:
            os.dup2(kept, number)
            os.close(kept)
    else:
        path = "/dev/full" if kind == "full" else name
        flags = os.O_RDONLY if mode == "r" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    errors = "backslashreplace" if name == "stderr" else "strict"
    stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    if name == "stderr":
        stream.reconfigure(line_buffering=True)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _flushed(status: int) -> int:
    """Flush the standard streams as Python does at its end: a failure is status 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                status = 120
    return status


def _count_steps(counter: int, last: int | None) -> None:
    """Count the calls that touch the disk; die at step `last`."""
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        os.write_uncounted(counter, b".")  # type: ignore[attr-defined]
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Any) -> Any:
        def counting(*arguments: Any, **options: Any) -> Any:
            step()
            result = call(*arguments, **options)
            step()
            return result

        return counting

    os.write_uncounted = os.write  # type: ignore[attr-defined]
    names = ("open", "write", "fsync", "mkdir", "replace", "rename", "unlink", "rmdir", "ftruncate")
    for name in names:
        setattr(os, name, counted(getattr(os, name)))
    builtins_open = builtins.open

    def opening(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wxa+"):
            return counted(builtins_open)(file, mode, *arguments, **options)
        return builtins_open(file, mode, *arguments, **options)

    builtins.open = opening
    _count_cache_steps(counted)


def _count_cache_steps(counted: Any) -> None:
    from rescore.formats import files  # noqa: PLC0415
    from rescore.pipeline.cache import Cache  # noqa: PLC0415

    for name in ("add", "commit", "close"):
        setattr(Cache, name, counted(getattr(Cache, name)))
    writer = files._Output
    writer.write = counted(writer.write)


if __name__ == "__main__":
    _serve()
