"""Runs command lines in forks of one process that has imported everything: milliseconds each.

    with Forks(inputs) as forks:
        done = forks.run(["convert", ...], folder, stdout="full", stop=Stop.after(0.02, SIGTERM))

A fork begins like a new process: it gets its standard streams (files, closed, full, or a pipe
without a reader), its working folder, and default signals. `Stop` ends it: with a signal after some
seconds, or with SIGKILL at its n-th step on disk. Seconds count from the command's own start, and
no signal is sent before it or after the command's end. What a fork has imported, its parent imports
before the next one: some libraries take ten seconds. `strace` are options of strace, under which
the command runs from its start on.

This file is also the program of that process: it reads one request a line and answers each with the
exit status, minus the signal if one ended it.
"""

from __future__ import annotations

import builtins
import gc
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

__all__ = ["COUNTER", "Done", "Forks", "Stop", "Stream"]

#: What a standard stream may be: a file in the working folder (read or written), closed, a full
#: device, or a pipe whose other end is closed.
Stream = Literal["file", "closed", "full", "pipe"]

#: The descriptor to which a fork writes its steps: not where a file of the command may land.
COUNTER = 100

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
    """How a command ended: exit status (minus a signal), what it wrote, how many steps it took.

    `seconds` are those of the command itself, without the fork and the end of the process.
    """

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
        strace: tuple[str, ...] = (),
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
            "strace": list(strace),
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
    import pkgutil  # noqa: PLC0415

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


_RUNNING, _ENDED = 1, 2  # where a fork is: the first byte that it shares with its parent
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Child:
    """A fork that runs a command line: what its parent sees of it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self.stage = mmap.mmap(-1, 2)  # shared; the second byte: whether it may begin
        self.status: int | None = None
        self.imported = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `modules` closes it
        self._steps, self.counter = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._pid = os.fork()
        if not self._pid:
            os.close(self._steps)
            _be_command(request, self)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(self.counter)

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until a condition holds or the child has ended."""
        deadline = time.monotonic() + _TIME_LIMIT
        while self.status is None and not until():
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                raise TimeoutError(f"no end after {_TIME_LIMIT} s: {self._request}")
            else:
                time.sleep(0.001)

    def trace(self, options: list[str]) -> None:
        """Put it under strace, or not if there are no options, and let it begin."""
        if options:
            tracer = subprocess.Popen(["strace", "-f", "-qq", "-p", str(self._pid), *options])
            status = Path(f"/proc/{self._pid}/status")
            self.wait(until=lambda: "TracerPid:\t0" not in status.read_text())
            assert tracer.poll() is None
        self.stage[1] = 1

    def send(self, number: int) -> None:
        """Send a signal, if the command has begun and has not ended."""
        if self.status is None and self.stage[0] == _RUNNING:
            os.kill(self._pid, number)

    def steps(self) -> int:
        """How many steps on disk it took."""
        with os.fdopen(self._steps, "rb") as file:
            return len(file.read())

    def modules(self) -> list[str]:
        """What it imported, in that order."""
        with self.imported:
            self.imported.seek(0)
            return self.imported.read().split()


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, end the child as asked, and wait for it."""
    stop = request["stop"] and Stop(**request["stop"])
    child = _Child(request)
    child.trace(request["strace"])
    child.wait(until=lambda: child.stage[0] >= _RUNNING)
    started = time.monotonic()
    if stop and stop.seconds is not None:
        child.wait(until=lambda: time.monotonic() > started + stop.seconds)
        child.send(stop.signal)
    child.wait(until=lambda: child.stage[0] == _ENDED)
    seconds = time.monotonic() - started
    child.wait()
    _import(child.modules())
    return {"status": child.status, "steps": child.steps(), "seconds": seconds}


def _import(names: list[str]) -> None:
    """Import what a fork has imported, in its order."""
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):  # what some libraries make cannot be imported by name
                import_module(name)
    if names:
        gc.freeze()


# ------------------------------------------------------------------------- the fork


def _be_command(request: dict[str, Any], child: _Child) -> None:
    """Be a new process that runs the command line; does not return."""
    os.chdir(request["folder"])
    sys.argv = ["dlmrescore", *request["argv"]]
    before = set(sys.modules)
    for number in _SIGNALS:
        ignored = number in request["ignored"]
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    if signal.SIGINT not in request["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    counter = os.dup2(child.counter, COUNTER)
    for number, kind in enumerate(request["streams"]):
        _open_stream(number, kind)
    _count_steps(counter, request["stop"] and request["stop"]["step"])
    status = _flushed(_status(child.stage))
    child.imported.write("\n".join(name for name in list(sys.modules) if name not in before))
    child.imported.flush()
    os._exit(status)


def _status(stage: mmap.mmap) -> int:
    """Run the command line; return its exit status. No signal arrives before it or after it."""
    from rescore.cli import main  # noqa: PLC0415

    while not stage[1]:
        time.sleep(0.001)
    try:
        try:
            stage[0] = _RUNNING
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            main()
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            stage[0] = _ENDED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:  # before the command's own handler was in place
        return 130
    except BaseException:  # noqa: BLE001 - what Python does
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        return 1
    return 0


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
